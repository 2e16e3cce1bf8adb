"""Finds the assistant that a request names: by its id, or by the name of its graph."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import UUID

from ...checkpoints.database import Connection
from ...tools.policy.permissions import Principal
from ..domain import Assistant, default_assistant_id
from ..errors import Invalid, NotFound
from ..records import assistants
from ..records.held import Held
from .catalog import Catalog, GraphFailed

if TYPE_CHECKING:
    from ..resources import Resources

NO_THREAD = "Thread or assistant not found."


def assistant_named(catalog: Catalog, name: str) -> UUID:
    """The id of an assistant that is named by it, or by the graph whose default assistant it is.

    Raises:
        Invalid: it is neither.
    """
    if name in catalog.graph_ids or name in catalog.failures:
        return default_assistant_id(name)
    try:
        return UUID(name)
    except ValueError:
        known = ", ".join(sorted(catalog.graph_ids))
        raise Invalid(
            f"Invalid assistant: {name!r}. Must be either:\n- A valid assistant UUID, or\n"
            f"- One of the registered graphs: {known}\nNo assistant found for {name!r}."
        ) from None


async def assistant_of(
    resources: Resources, principal: Principal, connection: Connection, name: str, *, held: Held = None
) -> Assistant:
    """The assistant that a request names; the default one of a graph is made if nobody has made it.

    Raises:
        ServerError: there is none.
    """
    catalog = resources.catalog
    assistant_id = assistant_named(catalog, name)
    tenant = principal.tenant
    found = await assistants.get(connection, tenant_id=tenant, assistant_id=assistant_id, held=held)
    if failure := catalog.failures.get(found.graph_id if found else name):
        raise GraphFailed(str(failure))
    if found is not None:
        return found
    for graph_id in catalog.graph_ids:
        if default_assistant_id(graph_id) == assistant_id:
            # A tenant that nobody has prepared yet has the default assistants all the same.
            await assistants.ensure_defaults(
                connection, tenant_id=tenant, contents=[catalog.default_content(graph_id)]
            )
            made = await assistants.get(connection, tenant_id=tenant, assistant_id=assistant_id)
            assert made is not None
            return made
    raise NotFound(NO_THREAD)
