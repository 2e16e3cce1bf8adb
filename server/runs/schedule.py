"""When a cron is due: its expression in its time zone, and what is made up for after a standstill. Pure.

The clock of a zone is set forward and back. A schedule that names its hours and minutes keeps to the clock on
the wall: a time that is skipped comes at the end of the gap, one that comes twice counts the first time. A
schedule with `*` in its hours or minutes keeps its rhythm instead: it passes over what the clock skips, and
goes through an hour twice that comes twice.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, tzinfo
from functools import cache
from typing import NamedTuple, assert_never
from zoneinfo import ZoneInfo, available_timezones

from cronsim import CronSim, CronSimError

from ..clock_settings import CronSettings
from ..errors import Invalid

_FORMS = "give five fields (minute, hour, day of month, month, day of week), or six with the second first"
_AN_INSTANT = timedelta(microseconds=1)
_LONGEST_FOLD = timedelta(hours=3)


class Plan(NamedTuple):
    """What to do with a cron whose time has come."""

    fire: datetime | None
    """The time for which it fires; None when it came too late."""
    next: datetime | None
    """When it is due again; None: never."""


class Schedule:
    """A cron expression in a time zone, UTC without one."""

    def __init__(self, expression: str, timezone: str | None = None) -> None:
        """Read an expression.

        Raises:
            Invalid: it is none, no date fits it, or there is no such time zone.
        """
        self.expression = expression
        self.zone: tzinfo = UTC if timezone is None else _zone(timezone)
        try:
            CronSim(expression, datetime(2000, 1, 1))  # noqa: DTZ001 - only read, not evaluated
        except CronSimError as error:
            raise Invalid(f"schedule: {expression!r} is no cron expression: {error}; {_FORMS}") from error
        minutes, hours = expression.split()[-5:-3]
        self._by_the_wall = not (minutes.startswith("*") or hours.startswith("*"))

    def after(self, moment: datetime) -> datetime | None:
        """The first time after a moment, in UTC; None when there is none in the next fifty years."""
        return next((slot for slot in self._slots(moment) if slot > moment), None)

    def due(self, first: datetime, until: datetime, *, limit: int) -> list[datetime]:
        """The latest times of those that have come: `first`, and what followed it up to `until`."""
        latest: list[datetime] = []
        for slot in self._slots(until + _AN_INSTANT, backwards=True):
            if slot <= first or len(latest) == limit:
                break
            if slot <= until and slot not in latest:
                latest.append(slot)
        return [first, *reversed(latest)][-limit:]

    def _slots(self, start: datetime, *, backwards: bool = False) -> Iterator[datetime]:
        local = start.astimezone(self.zone)
        if self._by_the_wall:
            # What the clock shows for the second time may lie before what it showed the first time.
            ahead = _LONGEST_FOLD if backwards and local.fold else timedelta()
            local = local.replace(tzinfo=None) + ahead
        for slot in CronSim(self.expression, local, reverse=backwards):
            yield self._real(slot).astimezone(UTC)

    def _real(self, slot: datetime) -> datetime:
        """A time on the wall as an instant; the end of the gap when the clock skips it."""
        if slot.tzinfo is not None:
            return slot
        while True:
            instant = slot.replace(tzinfo=self.zone, fold=0).astimezone(UTC)
            if instant.astimezone(self.zone).replace(tzinfo=None) == slot:
                return instant
            slot = slot.replace(second=0) + timedelta(minutes=1)


def plan(
    schedule: Schedule, slot: datetime, *, now: datetime, end_time: datetime | None, settings: CronSettings
) -> Plan:
    """What to do with a cron that was due at `slot`, when it is `now` and more of its times may have come."""
    until = now if end_time is None else min(now, end_time)
    if settings.catch_up == "all":
        due = schedule.due(slot, until, limit=settings.catch_up_limit)
        following = due[1] if len(due) > 1 else next_time(schedule, now, end_time)
        return Plan(due[0], following)
    latest = schedule.due(slot, until, limit=1)[-1]
    following = next_time(schedule, now, end_time)
    match settings.catch_up:
        case "once":
            return Plan(latest, following)
        case "skip":
            in_time = (now - latest).total_seconds() <= settings.skip_after_s
            return Plan(latest if in_time else None, following)
        case _:
            assert_never(settings.catch_up)


def next_time(schedule: Schedule, now: datetime, end_time: datetime | None) -> datetime | None:
    """The first time after now; None when the end comes first."""
    following = schedule.after(now)
    return None if following is None or (end_time is not None and following > end_time) else following


@cache
def _zones() -> frozenset[str]:
    return frozenset(available_timezones())


def _zone(name: str) -> ZoneInfo:
    if name not in _zones():
        raise Invalid(f"timezone: {name!r} is no name of the IANA database, such as 'Europe/Berlin'")
    return ZoneInfo(name)
