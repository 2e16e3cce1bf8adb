"""What one event loop works with: pool, wake-ups, event log, settings, graphs and tools."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..checkpoints.database import Database
from ..checkpoints.notify import Wakeups
from ..checkpoints.sealer import Sealer
from ..checkpoints.store import PostgresStore
from ..tools.gateway import Gateway
from ..tools.toolbox import Toolbox
from .endings import end_all
from .records import reviews, sealing
from .records.event_log import EventLog, Hub

if TYPE_CHECKING:
    from .runs.catalog import Catalog
    from .settings import Settings


@dataclass(frozen=True, slots=True)
class Resources:
    """What one event loop has; `settings`, `hub`, `catalog` and `toolbox` are those of the process."""

    settings: Settings
    database: Database
    wakeups: Wakeups
    event_log: EventLog
    hub: Hub
    catalog: Catalog
    toolbox: Toolbox
    gateway: Gateway

    def store(self, tenant_id: str) -> PostgresStore:
        """The long-term store of a tenant, for whoever runs on this loop."""
        ttl = self.settings.store.ttl
        return PostgresStore(
            self.database,
            tenant_id=tenant_id,
            index=self.catalog.index,
            ttl_config={"default_ttl": ttl.default_ttl, "refresh_on_read": ttl.refresh_on_read},
        )


@asynccontextmanager
async def open_resources(
    settings: Settings,
    *,
    hub: Hub,
    catalog: Catalog,
    toolbox: Toolbox,
    pool_max: int | None = None,
    name: str = "interlock",
    sealer: Sealer | None = None,
) -> AsyncIterator[Resources]:
    """Open what a loop needs and close it at the end. Run loops pass a smaller `pool_max`, and the `sealer`
    of the loop that the project's encryption handlers belong to.

    Raises:
        DatabaseUnavailable: the database does not answer.
        SchemaMismatch: it holds values that another project, or this one before, has encrypted.
    """
    wakeups = Wakeups(settings.database.direct_url, application_name=f"{name}-listen")
    size = pool_max or settings.database.pool_max
    handlers = catalog.hooks.encryption
    if sealer is None and handlers is not None:
        sealer = Sealer(handlers, home=asyncio.get_running_loop())
    async with Database(
        settings.database.url, max_size=size, application_name=name, sealer=sealer
    ) as database:
        if sealer is None:
            await sealing.refuse_sealed(database)
        event_log = EventLog(database, wakeups=wakeups, hub=hub, settings=settings.events)
        gateway = toolbox.gateway(database, reviews=reviews)
        async with asyncio.TaskGroup() as owned:
            housekeeping = [
                owned.create_task(wakeups.run(), name="wakeups"),
                owned.create_task(event_log.run(), name="event-log"),
            ]
            failure: BaseException | None = None
            try:
                yield Resources(settings, database, wakeups, event_log, hub, catalog, toolbox, gateway)
            except BaseException as error:  # noqa: BLE001 - raised again below, not wrapped by the group
                failure = error
            await end_all(housekeeping)
        if failure is not None:
            raise failure
