"""`interlock eval` from outside: our datasets on a real server, and what it returns."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from interlock.evals.runner import NOT_RUN, PASSED, WORSE
from interlock.server.cli import app

from ..servers import InterlockServer, free_port

ROOT = Path(__file__).parents[2]
DATASETS = ROOT / "evals" / "datasets"


@pytest.fixture
def url(interlock_server: Callable[..., InterlockServer]) -> str:
    """A server with the graphs of this repository."""
    return interlock_server(project=ROOT).url


def evaluate(*arguments: str) -> int:
    """The exit code of `interlock eval`."""
    return app(["eval", *arguments], standalone_mode=False)


def test_our_graphs_keep_their_accepted_scores(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    for path in sorted(DATASETS.glob("*.yaml")):
        code = evaluate(str(path), "--url", url)
        printed = capsys.readouterr()
        assert code == PASSED, printed.out + printed.err
        assert "no regression" in printed.out


def dataset(tmp_path: Path, *, says: str) -> str:
    path = tmp_path / "small.yaml"
    path.write_text(
        "name: small\nassistant: assistant\ncontext: {model: 'offline:at-once'}\n"
        f"cases: [{{id: sum, ask: 'What is 2+2?', expect: [{{says: '{says}'}}]}}]\n"
    )
    return str(path)


def test_a_regression_is_tried_again_shown_and_fails_the_command(
    url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert evaluate(dataset(tmp_path, says="2+2 = 4"), "--url", url, "--accept") == PASSED
    assert json.loads((tmp_path / "small.baseline.json").read_text())["cases"] == {"sum": 1.0}
    capsys.readouterr()
    output = tmp_path / "report.json"
    wrong = dataset(tmp_path, says="five")
    assert evaluate(wrong, "--url", url, "--retries", "1", "--output", str(output)) == WORSE
    assert "says: the answer '2+2 = 4' lacks 'five'" in capsys.readouterr().out
    report = json.loads(output.read_text())
    assert (report["passed"], report["cases"][0]["verdict"]) == (False, "worse")

    Path(wrong).write_text(Path(wrong).read_text().replace("assistant: assistant", "assistant: nobody"))
    assert evaluate(wrong, "--url", url) == NOT_RUN
    assert "nobody" in capsys.readouterr().err


def test_what_cannot_be_run_is_no_regression(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    assert evaluate(dataset(tmp_path, says="4"), "--url", url) == NOT_RUN
    assert "onnect" in capsys.readouterr().err
    assert evaluate(dataset(tmp_path, says="4"), "--url", url, "--case", "product") == NOT_RUN
    assert "small has no case product; it has sum" in capsys.readouterr().err


def test_without_an_address_a_server_is_started_on_a_fresh_database(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://nowhere.invalid/never")
    path = dataset(tmp_path, says="2+2 = 4")
    code = evaluate(path, "--config", str(ROOT / "langgraph.json"))
    printed = capsys.readouterr()
    assert code == PASSED, printed.err


def test_a_server_that_cannot_start_tells_why(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    missing = str(tmp_path / "langgraph.json")
    assert evaluate(dataset(tmp_path, says="4"), "--config", missing) == NOT_RUN
    assert "langgraph.json" in capsys.readouterr().err
