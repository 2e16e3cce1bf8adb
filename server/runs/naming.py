"""Finds the assistant that a request names: by its id, or by the name of its graph."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import UUID

from ...checkpoints.database import Connection
from ...tools.policy.permissions import Principal
from ..domain import Assistant, default_assistant_id
from ..errors import Invalid, NotFound
from ..records import assistants
from .catalog import GraphFailed

if TYPE_CHECKING:
    from ..resources import Resources

NO_THREAD = "Thread or assistant not found."


async def assistant_of(
    resources: Resources, principal: Principal, connection: Connection, name: str
) -> Assistant:
    """The assistant that a request names; the default one of a graph is made if nobody has made it.

    Raises:
        ServerError: there is none.
    """
    catalog = resources.catalog
    if name in catalog.graph_ids or name in catalog.failures:
        assistant_id = default_assistant_id(name)
    else:
        try:
            assistant_id = UUID(name)
        except ValueError:
            known = ", ".join(sorted(catalog.graph_ids))
            raise Invalid(
                f"Invalid assistant: {name!r}. Must be either:\n- A valid assistant UUID, or\n"
                f"- One of the registered graphs: {known}\nNo assistant found for {name!r}."
            ) from None
    tenant = principal.tenant
    found = await assistants.get(connection, tenant_id=tenant, assistant_id=assistant_id)
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
