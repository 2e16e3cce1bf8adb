"""The report: what got worse, what is flaky, and what was never accepted. Pure."""

from __future__ import annotations

import json
from pathlib import Path

from interlock.evals.outcome import Outcome
from interlock.evals.report import (
    CaseResult,
    Report,
    Trial,
    Verdict,
    below_accepted,
    compare,
    read_baseline,
    write_baseline,
)
from interlock.evals.scorers import Score


def case(case_id: str, *values: float) -> CaseResult:
    trials = [Trial(Outcome(tokens=5), (Score("says", value, f"got {value}"),)) for value in values]
    return CaseResult(case_id, tuple(trials))


def report(*results: CaseResult, accepted: dict[str, float] | None, partial: bool = False) -> Report:
    return compare(results, accepted, dataset="d", model="m", seconds=1.0, partial=partial)


def verdicts(of: Report) -> dict[str, Verdict]:
    return {line.case_id: line.verdict for line in of.lines}


def test_each_case_is_compared_with_its_accepted_score() -> None:
    made = report(
        case("same", 1),
        case("better", 1),
        case("worse", 0.5),
        case("new", 1),
        case("failing", 0.5),
        accepted={"same": 1, "better": 0.5, "worse": 1, "gone": 1},
    )
    assert verdicts(made) == {
        "same": "ok",
        "better": "better",
        "worse": "worse",
        "new": "new",
        "failing": "failing",
        "gone": "missing",
    }
    assert not made.passed


def test_a_low_score_that_was_accepted_is_no_regression() -> None:
    assert report(case("hard", 0.5), accepted={"hard": 0.5}).passed


def test_without_accepted_scores_every_case_has_to_pass() -> None:
    assert report(case("a", 1), accepted=None).passed
    assert not report(case("a", 0.9), accepted=None).passed


def test_a_flaky_case_is_named_and_is_no_regression() -> None:
    made = report(case("unsteady", 0, 1), accepted={"unsteady": 1})
    assert verdicts(made) == {"unsteady": "ok"}
    assert made.flaky == ["unsteady"]
    assert made.passed
    assert "flaky" in made.to_text()
    assert "says: got 0" in made.to_text()


def test_a_case_below_its_score_is_tried_again_and_no_other() -> None:
    assert below_accepted(case("a", 0.5), {"a": 1})
    assert below_accepted(case("a", 0.5), None)
    assert not below_accepted(case("a", 0.5), {"a": 0.5})
    assert not below_accepted(case("a", 0, 1), {"a": 1})


def test_to_run_some_cases_does_not_miss_the_others() -> None:
    assert report(case("a", 1), accepted={"a": 1, "b": 1}, partial=True).passed


def test_the_report_says_first_what_needs_attention() -> None:
    text = report(case("fine", 1), case("broken", 0), accepted={"fine": 1, "broken": 1}).to_text()
    assert text.splitlines()[0] == "worse    0.000  broken (accepted 1.000)"
    assert "d on m: 1 of 2 cases pass, score 0.500" in text
    assert text.endswith("REGRESSION")


def test_the_report_is_json_too() -> None:
    made = json.loads(json.dumps(report(case("a", 0.5), accepted={"a": 1}).to_json()))
    assert made["passed"] is False
    assert made["cases"] == [
        {
            "id": "a",
            "verdict": "worse",
            "score": 0.5,
            "accepted": 1,
            "flaky": False,
            "reasons": ["says: got 0.5"],
        }
    ]


def test_accepted_scores_are_read_as_they_were_written(tmp_path: Path) -> None:
    path = tmp_path / "baselines" / "d.json"
    assert read_baseline(path) is None
    write_baseline(path, [case("b", 1), case("a", 0, 1)], dataset="d", model="m")
    assert read_baseline(path) == {"a": 0.5, "b": 1}
