from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interlock.server.clock_settings import CronSettings
from interlock.server.errors import Invalid
from interlock.server.runs.schedule import Plan, Schedule, plan

BERLIN = ZoneInfo("Europe/Berlin")
SPRING = datetime(2026, 3, 28, tzinfo=UTC)
"""A day before Berlin goes from 02:00 to 03:00."""
AUTUMN = datetime(2026, 10, 24, tzinfo=UTC)
"""A day before Berlin goes from 03:00 back to 02:00."""


def times(expression: str, timezone: str | None, start: datetime, count: int) -> list[str]:
    """The next times in UTC, as day, hour and minute."""
    found, moment = [], start
    for _ in range(count):
        following = Schedule(expression, timezone).after(moment)
        assert following is not None
        assert following.tzinfo is UTC
        assert following > moment
        moment = following
        found.append(f"{moment:%d %H:%M}")
    return found


def test_a_schedule_without_a_zone_is_in_utc() -> None:
    """O35."""
    assert times("0 9 * * *", None, SPRING, 3) == ["28 09:00", "29 09:00", "30 09:00"]


@pytest.mark.parametrize("expression", ["0 9 * * *", "0 0 9 * * *"])
@pytest.mark.parametrize(
    ("start", "expected"),
    [
        (SPRING, ["28 08:00", "29 07:00", "30 07:00"]),
        (AUTUMN, ["24 07:00", "25 08:00", "26 08:00"]),
    ],
)
def test_nine_in_the_morning_stays_nine_across_a_change_of_the_clock(
    expression: str, start: datetime, expected: list[str]
) -> None:
    """O35."""
    assert times(expression, "Europe/Berlin", start, 3) == expected


@pytest.mark.parametrize("expression", ["30 2 * * *", "0 30 2 * * *"])
def test_a_time_that_the_clock_skips_comes_at_the_end_of_the_gap(expression: str) -> None:
    assert times(expression, "Europe/Berlin", SPRING, 3) == ["28 01:30", "29 01:00", "30 00:30"]


@pytest.mark.parametrize("expression", ["30 2 * * *", "0 30 2 * * *"])
def test_a_time_that_the_clock_shows_twice_counts_the_first_time(expression: str) -> None:
    assert times(expression, "Europe/Berlin", AUTUMN, 3) == ["24 00:30", "25 00:30", "26 01:30"]


def test_several_skipped_times_come_once() -> None:
    assert times("0,15,30 2 * * *", "Europe/Berlin", SPRING + timedelta(hours=12), 2) == [
        "29 01:00",
        "30 00:00",
    ]


def test_a_rhythm_goes_on_while_the_clock_is_changed() -> None:
    assert times("*/30 * * * *", "Europe/Berlin", SPRING.replace(day=29, hour=0, minute=15), 4) == [
        "29 00:30",
        "29 01:00",
        "29 01:30",
        "29 02:00",
    ]
    assert times("*/30 * * * *", "Europe/Berlin", AUTUMN.replace(day=25, minute=15), 4) == [
        "25 00:30",
        "25 01:00",
        "25 01:30",
        "25 02:00",
    ]


def test_no_time_is_missed_when_it_is_asked_for_within_the_doubled_hour() -> None:
    second_pass = datetime(2026, 10, 25, 2, 10, fold=1, tzinfo=BERLIN).astimezone(UTC)
    assert times("30 2 * * *", "Europe/Berlin", second_pass, 1) == ["26 01:30"]
    first = datetime(2026, 10, 24, 0, 30, tzinfo=UTC)
    due = Schedule("30 2 * * *", "Europe/Berlin").due(first, second_pass, limit=10)
    assert [f"{slot:%d %H:%M}" for slot in due] == ["24 00:30", "25 00:30"]


def test_six_fields_begin_with_the_second() -> None:
    schedule = Schedule("15,45 * * * * *")
    first = schedule.after(SPRING)
    assert first == SPRING + timedelta(seconds=15)
    assert schedule.after(first) == SPRING + timedelta(seconds=45)


@pytest.mark.parametrize(
    "expression",
    ["", "x", "* * * *", "* * * * * * *", "60 * * * *", "0 0 30 2 *", "0 0 31 4,6 *", "1-0 * * * *"],
)
def test_what_is_no_schedule_is_refused_by_name(expression: str) -> None:
    """O34."""
    with pytest.raises(Invalid, match="is no cron expression"):
        Schedule(expression)


@pytest.mark.parametrize(
    "timezone", ["Mars/Base", "../../etc/passwd", "America", "europe/berlin", "x" * 255, ""]
)
def test_what_is_no_time_zone_is_refused_by_name(timezone: str) -> None:
    with pytest.raises(Invalid, match="is no name of the IANA database"):
        Schedule("0 9 * * *", timezone)


DAILY = Schedule("0 9 * * *")
FIRST = datetime(2026, 5, 1, 9, tzinfo=UTC)


def planned(late: timedelta, **settings: object) -> Plan:
    return plan(DAILY, FIRST, now=FIRST + late, end_time=None, settings=CronSettings.model_validate(settings))


def test_of_missed_times_the_latest_is_made_up_for_once() -> None:
    assert planned(timedelta(days=3, hours=1)) == Plan(FIRST + timedelta(days=3), FIRST + timedelta(days=4))


def test_missed_times_can_be_skipped() -> None:
    late = timedelta(days=3, hours=1)
    assert planned(late, catch_up="skip") == Plan(None, FIRST + timedelta(days=4))
    assert planned(timedelta(seconds=5), catch_up="skip") == Plan(FIRST, FIRST + timedelta(days=1))


def test_all_missed_times_can_be_made_up_for_up_to_a_limit() -> None:
    late = timedelta(days=3, hours=1)
    assert planned(late, catch_up="all") == Plan(FIRST, FIRST + timedelta(days=1))
    assert planned(late, catch_up="all", catch_up_limit=2) == Plan(
        FIRST + timedelta(days=2), FIRST + timedelta(days=3)
    )
    assert planned(timedelta(0), catch_up="all") == Plan(FIRST, FIRST + timedelta(days=1))


@pytest.mark.parametrize("catch_up", ["skip", "once", "all"])
def test_nothing_is_due_after_the_end(catch_up: str) -> None:
    end = FIRST + timedelta(days=1)
    settings = CronSettings.model_validate({"catch_up": catch_up, "skip_after_s": 10**9})
    done = plan(DAILY, end, now=end + timedelta(days=5), end_time=end, settings=settings)
    assert done == Plan(end, None)


def test_a_year_of_missed_seconds_is_planned_at_once() -> None:
    schedule, now = Schedule("* * * * * *"), FIRST + timedelta(days=365)
    assert schedule.due(FIRST, now, limit=3) == [now - timedelta(seconds=s) for s in (2, 1, 0)]


MOMENTS = st.integers(0, 730 * 24 * 3600).map(lambda seconds: SPRING + timedelta(seconds=seconds))
EXPRESSIONS = st.sampled_from(
    ["30 2 * * *", "0 30 2 * * *", "*/20 * * * *", "5 1-3 * * 0", "0 0 1 * *", "7 */2 * * *", "0,59 2 29 3 *"]
)


@given(EXPRESSIONS, st.sampled_from(["Europe/Berlin", "Australia/Lord_Howe", "America/St_Johns"]), MOMENTS)
def test_looking_back_finds_the_times_that_looking_ahead_has_announced(
    expression: str, timezone: str, moment: datetime
) -> None:
    schedule = Schedule(expression, timezone)
    ahead = [first := schedule.after(moment)]
    assert first is not None
    for _ in range(5):
        ahead.append(schedule.after(ahead[-1]))
    assert schedule.due(first, ahead[-1], limit=100) == ahead
