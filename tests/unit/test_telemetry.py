from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from interlock.server.settings import LogSettings
from interlock.server.telemetry import configure_logging, hide_secrets


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    """Logging is one for the process; others' tests must find theirs."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:], root.level = handlers, level
    structlog.reset_defaults()


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().err.splitlines()]


def test_our_lines_and_those_of_libraries_have_one_form(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging(LogSettings(json_lines=True))
    structlog.get_logger("ours").info("claimed", run_id="r1")
    logging.getLogger("theirs").warning("slow %s", "query")
    ours, theirs = lines(capsys)
    assert (ours["event"], ours["run_id"], ours["logger"], ours["level"]) == ("claimed", "r1", "ours", "info")
    assert (theirs["event"], theirs["logger"], theirs["level"]) == ("slow query", "theirs", "warning")
    assert ours.keys() - {"run_id"} == theirs.keys()


def test_what_is_bound_to_the_context_is_in_every_line(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging(LogSettings(json_lines=True))
    with structlog.contextvars.bound_contextvars(request_id="q1"):
        structlog.get_logger("ours").info("a")
        logging.getLogger("theirs").info("b")
    assert [line["request_id"] for line in lines(capsys)] == ["q1", "q1"]


def test_less_severe_lines_are_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging(LogSettings(level="warning", json_lines=True))
    structlog.get_logger("ours").info("no")
    logging.getLogger("theirs").info("no")
    structlog.get_logger("ours").error("yes")
    assert [line["event"] for line in lines(capsys)] == ["yes"]


@pytest.mark.parametrize("json_lines", [True, False])
def test_a_traceback_shows_no_local_variables(capsys: pytest.CaptureFixture[str], json_lines: bool) -> None:
    configure_logging(LogSettings(json_lines=json_lines, color=False))
    hunter2 = "value-of-a-local"
    try:
        raise ValueError("wrong")
    except ValueError:
        structlog.get_logger("ours").exception("failed")
    written = capsys.readouterr().err
    assert "ValueError: wrong" in written
    assert hunter2 not in written


@pytest.mark.parametrize(
    ("name", "value", "shown"),
    [
        ("api_key", "k", "***"),
        ("x-api-key", "k", "***"),
        ("Authorization", "Bearer k", "***"),
        ("db_password", "k", "***"),
        ("access_token", "k", "***"),
        ("tokens", 12, 12),
        ("url", "postgresql://u:hunter2@h/d", "postgresql://u:***@h/d"),
        ("error", "no answer from postgresql://u:hunter2@h/d", "no answer from postgresql://u:***@h/d"),
        ("error", "connection to host=h password=hunter2 failed", "connection to host=h password=*** failed"),
        ("event", "plain words", "plain words"),
    ],
)
def test_secrets_are_blanked(name: str, value: object, shown: object) -> None:
    assert hide_secrets(None, "info", {name: value}) == {name: shown}
