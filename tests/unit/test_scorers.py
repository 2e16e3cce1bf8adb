"""Datasets and scorers: what is expected, and how an outcome is judged. Pure."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from interlock.evals.dataset import DatasetInvalid, load
from interlock.evals.outcome import Call, Outcome, answer_in, calls_in, tokens_in
from interlock.evals.scorers import SCORERS, Expected, score_all

DATASETS = Path(__file__).parents[2] / "evals" / "datasets"
REFUND = Call("order_refund", {"order_id": "A-1", "amount_cents": 100}, "success")
OUTCOME = Outcome(
    answers=("Which one?", "Refunded 1.00 EUR."),
    calls=(Call("order_lookup", {"order_id": "A-1"}, "success"), REFUND),
    reviews=("order_refund",),
    waiting=(),
    values={"category": "refund", "urgent": False},
    tokens=50,
    seconds=0.5,
)


@pytest.mark.parametrize(
    ("scorer", "argument", "value"),
    [
        ("says", "refunded", 1),
        ("says", ["1.00 EUR", "2.00 EUR"], 0.5),
        ("says_not", "sorry", 1),
        ("says_not", "which one", 0),
        ("matches", r"\d\.\d\d EUR", 1),
        ("matches", "^EUR", 0),
        ("calls", ["order_lookup", "order_refund"], 1),
        ("calls", ["order_refund", "order_lookup"], 0),
        ("calls", [], 0),
        ("calls_with", {"tool": "order_refund"}, 1),
        ("calls_with", {"tool": "order_refund", "arguments": {"amount_cents": 100}}, 1),
        ("calls_with", {"tool": "order_refund", "arguments": {"amount_cents": 200}}, 0),
        ("calls_with", {"tool": "order_refund", "status": "error"}, 0),
        ("calls_with", {"tool": "calculator"}, 0),
        ("reviews", ["order_refund"], 1),
        ("reviews", [], 0),
        ("waits", [], 1),
        ("waits", ["order_refund"], 0),
        ("state", {"category": "refund"}, 1),
        ("state", {"category": "refund", "urgent": True}, 0.5),
        ("fails", "anything", 0),
        ("at_most", {"calls": 2, "tokens": 50, "seconds": 1.0}, 1),
        ("at_most", {"tokens": 49}, 0),
    ],
)
def test_a_scorer_judges_one_thing(scorer: str, argument: Any, value: float) -> None:
    score = Expected.of(scorer, argument).score(OUTCOME)
    assert score.value == value
    assert score.reason


def test_every_scorer_is_tried_above() -> None:
    [tried] = [m.args[1] for m in test_a_scorer_judges_one_thing.pytestmark]  # pyright: ignore[reportFunctionMemberAccess] - pytest adds it
    assert {scorer for scorer, *_ in tried} == set(SCORERS)


def test_a_failure_that_nobody_expected_is_a_score_of_its_own() -> None:
    failed = Outcome(error="ModelUnavailable: no key")
    assert [s.value for s in score_all((Expected.of("calls", []),), failed)] == [1, 0]
    assert [s.value for s in score_all((Expected.of("fails", "no key"),), failed)] == [1]


MESSAGES: list[dict[str, Any]] = [
    {"type": "human", "content": "hi"},
    {
        "type": "ai",
        "content": [{"type": "text", "text": "Look"}, {"type": "text", "text": "ing"}],
        "tool_calls": [{"name": "a", "args": {"x": 1}, "id": "1"}, {"name": "b", "args": {}, "id": "2"}],
        "usage_metadata": {"total_tokens": 7},
    },
    {"type": "tool", "content": "no", "tool_call_id": "1", "status": "error"},
]


def test_calls_answers_and_tokens_are_read_from_the_messages() -> None:
    assert calls_in(MESSAGES) == (Call("a", {"x": 1}, "error"), Call("b", {}, "open"))
    assert answer_in(MESSAGES) == "Looking"
    assert answer_in([*MESSAGES, {"type": "human", "content": "and?"}]) == ""
    assert tokens_in(MESSAGES) == 7


@pytest.mark.parametrize("path", sorted(DATASETS.glob("*.yaml")), ids=lambda path: path.stem)
def test_our_own_datasets_are_valid_and_have_a_baseline_for_each_case(path: Path) -> None:
    from interlock.evals.report import read_baseline
    from interlock.evals.runner import baseline_path

    dataset = load(path)
    accepted = read_baseline(baseline_path(path, dataset, model=None))
    assert accepted is not None
    assert set(accepted) == {case.id for case in dataset.cases}
    assert len(dataset.cases) >= 15


CASE = "{id: a, ask: hello, expect: [{says: hi}]}"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("- 1", "`dataset`: Input should be a valid dictionary"),
        ("name: x\nassistant: y\ncases: []", "`cases`: Tuple should have at least 1 item"),
        (f"name: x\nassistant: y\ncases: [{CASE}, {CASE}]", "there are two cases with the id a"),
        (
            "name: x\nassistant: y\ncases: [{id: a, ask: hi, expect: [{sais: hi}]}]",
            "`cases.a.expect`: Value error, 'sais' is no scorer; known are says",
        ),
        (
            "name: x\nassistant: y\ncases: [{id: a, ask: hi, expect: [{matches: '('}]}]",
            "is no regular expression",
        ),
        (
            "name: x\nassistant: y\ncases: [{id: a, ask: hi, expect: [{calls: calculator}]}]",
            "`calls`: Input should be a valid list",
        ),
        ("name: x\nassistant: y\ncases: [{id: a, ask: hi, expect: [says]}]", "an expectation is one of"),
        (
            "name: x\nassistant: y\ncases: [{id: a, ask: hi, colour: red, expect: [{says: hi}]}]",
            "`cases.a.colour`: Extra inputs are not permitted",
        ),
        ("name: [", "while parsing a flow node"),
    ],
)
def test_a_mistake_in_a_dataset_is_named_with_its_place(tmp_path: Path, text: str, problem: str) -> None:
    path = tmp_path / "cases.yaml"
    path.write_text(text)
    with pytest.raises(DatasetInvalid) as raised:
        load(path)
    assert problem in str(raised.value)
    assert "cases.yaml" in str(raised.value)
