"""Request bodies of the cron routes."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import AfterValidator, model_validator

from ..domain import OnRunCompleted
from ..records.crons import CronOrder
from ..records.paging import SortOrder
from ..runs.crons import RUN_FIELDS, CronRequest
from .run_schemas import RunCreate
from .schemas import Body, Identifier, Limit, MetadataFilter, Offset

CronField = Literal[
    "cron_id",
    "assistant_id",
    "thread_id",
    "user_id",
    "schedule",
    "timezone",
    "end_time",
    "enabled",
    "next_run_date",
    "on_run_completed",
    "payload",
    "metadata",
    "failure_count",
    "last_failure",
    "created_at",
    "updated_at",
    "now",
]

_CHANGES = ("schedule", "timezone", "end_time", "enabled", "on_run_completed")


_LATEST = datetime(9000, 1, 1, tzinfo=UTC)
"""Beyond it a time may be in no year that there is, once it is told in another zone."""


def _aware(moment: datetime) -> datetime:
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    if moment > _LATEST:
        raise ValueError(f"must not be after {_LATEST:%Y-%m-%d}; leave it out for no end")
    return moment


Moment = Annotated[datetime, AfterValidator(_aware)]
"""A time; UTC if it does not say which zone."""


class _CronBody(RunCreate):
    """The run that a cron creates, with what a change of a cron may say as well."""

    on_run_completed: OnRunCompleted | None = None
    """Without a thread: whether that of a run is deleted after it, which is the default, or kept."""
    timezone: Identifier | None = None
    """Where the clock hangs that the schedule goes by: a name of the IANA database. UTC by default."""
    end_time: Moment | None = None
    """After this it is never due."""
    enabled: bool = True
    """Whether it runs."""

    def unheeded(self) -> Iterator[str]:
        """As of a run; nobody follows what a cron starts, and `on_run_completed` says what becomes of it."""
        yield from super().unheeded()
        yield from sorted(self.model_fields_set & {"on_completion", "on_disconnect"})

    def cron_request(self) -> CronRequest:
        """As the rules of crons take it: only what is given."""
        given = self.model_fields_set
        run = self.request(thread_id=None, idempotency_key=None)
        return CronRequest(
            changes={name: getattr(self, name) for name in _CHANGES if name in given},
            run={name: getattr(run, name) for name in sorted(given & {*RUN_FIELDS, "assistant_id"})},
            make_thread=self.if_not_exists == "create",
        )


class CronCreate(_CronBody):
    """A run to create whenever its time comes."""

    schedule: Identifier
    """Cron expression: minute, hour, day of month, month, day of week. Six fields begin with the second."""


class CronPatch(_CronBody):
    """Changes of a cron; what is left out stays, and null counts as left out but for `end_time`."""

    assistant_id: Identifier = ""
    """What to run."""
    schedule: Identifier | None = None
    """Cron expression."""

    @model_validator(mode="before")
    @classmethod
    def _without_nulls(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        return {name: value for name, value in given.items() if value is not None or name == "end_time"}


class CronCount(Body):
    """Which crons."""

    assistant_id: Identifier | None = None
    """UUID, or the name of a graph for its default assistant."""
    thread_id: UUID | None = None
    enabled: bool | None = None
    metadata: MetadataFilter = None


class CronSearch(CronCount):
    """Which crons, in which order, and which page of them."""

    limit: Limit = 10
    offset: Offset = 0
    sort_by: CronOrder | None = None
    sort_order: SortOrder | None = None
    select: list[CronField] | None = None
