"""Reading request bodies: what is JSON, how deep, and what text may be stored."""

from __future__ import annotations

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from interlock.server.api.bodies import MAX_CONTAINERS, MAX_DEPTH, parse
from interlock.server.api.run_schemas import CancelMany, RunCreate
from interlock.server.api.schemas import HistorySearch, StateWrite, ThreadCreate, ThreadSearch
from interlock.server.errors import Invalid


@pytest.mark.parametrize(
    "text", [b"", b"{", b"nul", b"NaN", b'{"a":NaN}', b'{"a":"\\u12"}', b"\xff", b"[1,]"]
)
def test_what_is_not_json_is_refused_in_one_sentence(text: bytes) -> None:
    with pytest.raises(Invalid, match=r"^Invalid JSON in request body$"):
        parse(text)


def test_half_of_a_surrogate_pair_is_read_as_javascript_wrote_it() -> None:
    assert parse(b'{"input": "cut \\ud83d"}') == {"input": "cut \ud83d"}
    with pytest.raises(Invalid):
        parse(b'{"input": "cut \\ud83d", "n": Infinity}')


@pytest.mark.parametrize(("opening", "closing"), [(b"[", b"]"), (b'{"a":', b"}")])
def test_nesting_has_a_limit_whatever_the_depth(opening: bytes, closing: bytes) -> None:
    def nested(depth: int) -> bytes:
        return opening * depth + b"1" + closing * depth

    parse(nested(MAX_DEPTH))
    for depth in (MAX_DEPTH + 1, 500, 100_000):
        with pytest.raises(Invalid):
            parse(nested(depth))


def test_many_shallow_brackets_are_no_depth() -> None:
    assert len(parse(b"[" + b",".join([b"[{}]"] * 10_000) + b"]")) == 10_000


@pytest.mark.parametrize("one", [b"[]", b'{"a":"\\\\"}', b'["\\"",1]'])
def test_objects_and_lists_are_limited_and_those_inside_a_text_are_none(one: bytes) -> None:
    def listed(number: int) -> bytes:
        return b"[" + b",".join([one] * number) + b"]"

    assert len(parse(listed(MAX_CONTAINERS - 1))) == MAX_CONTAINERS - 1
    with pytest.raises(Invalid, match="more than 100000 objects and lists"):
        parse(listed(MAX_CONTAINERS))
    text = '\\"[{' * MAX_CONTAINERS
    assert parse(orjson.dumps({"a": text})) == {"a": text}


@pytest.mark.parametrize(
    "digits", ["-1", str(2**64 - 1), str(2**64), str(-(2**63)), str(-(2**63) - 1), "9" * 30]
)
def test_an_integer_is_read_alike_beside_half_of_a_surrogate_pair(digits: str) -> None:
    strict, lenient = parse(b"[%b]" % digits.encode()), parse(b'[%b,"\\ud800"]' % digits.encode())
    assert strict == lenient[:1]
    assert type(strict[0]) is type(lenient[0])


@given(st.recursive(st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.text(), st.lists))
def test_every_json_value_is_read_as_it_is(value: object) -> None:
    import json

    assert parse(json.dumps(value).encode()) == value


@pytest.mark.parametrize("text", ["a\x00b", "\ud800", "x\udfff"])
def test_text_that_the_database_cannot_hold_is_refused_in_metadata_keys_and_filters(text: str) -> None:
    for model, fields in [
        (ThreadCreate, {"metadata": {"a": [{"b": text}]}}),
        (ThreadCreate, {"metadata": {text: 1}}),
        (ThreadSearch, {"metadata": {"a": text}}),
        (RunCreate, {"assistant_id": "a", "metadata": {"a": text}}),
        (RunCreate, {"assistant_id": text}),
        (RunCreate, {"assistant_id": "a", "config": {"metadata": {"a": text}}}),
    ]:
        with pytest.raises(ValidationError, match="text must not hold"):
            model.model_validate(fields)


def test_input_may_hold_any_text() -> None:
    assert RunCreate.model_validate({"assistant_id": "a", "input": {"t": "a\x00"}}).input == {"t": "a\x00"}


def test_null_fields_count_as_left_out() -> None:
    wanted = RunCreate.model_validate(
        {"assistant_id": "a", "config": None, "metadata": None, "stream_mode": None, "input": None}
    )
    assert wanted.config.given() == {}
    assert wanted.metadata == {}
    assert wanted.stream_mode == []


def test_one_stream_mode_may_stand_without_a_list() -> None:
    assert RunCreate.model_validate({"assistant_id": "a", "stream_mode": "events"}).stream_mode == ["events"]
    with pytest.raises(ValidationError):
        RunCreate.model_validate({"assistant_id": "a", "stream_mode": ["nope"]})


def test_every_documented_field_of_a_run_reaches_admission() -> None:
    given_fields = {
        "assistant_id": "a",
        "if_not_exists": "create",
        "input": {"x": 1},
        "command": {"resume": 1, "update": {"a": 1}, "goto": "n"},
        "config": {"tags": ["t"], "recursion_limit": 5, "configurable": {"k": 1}, "max_concurrency": 2},
        "metadata": {"m": 1},
        "checkpoint": {"checkpoint_id": "c", "checkpoint_ns": ""},
        "checkpoint_id": "c2",
        "interrupt_before": ["n"],
        "interrupt_after": "*",
        "stream_mode": ["updates"],
        "stream_subgraphs": True,
        "stream_resumable": True,
        "durability": "exit",
        "checkpoint_during": False,
        "multitask_strategy": "rollback",
        "after_seconds": 1.5,
        "on_completion": "keep",
        "feedback_keys": ["f"],
        "webhook": "https://example.org/hook",
    }
    request = RunCreate.model_validate(given_fields).request(thread_id=None, idempotency_key="k")
    for name, value in given_fields.items():
        assert getattr(request, name) == value, name
    assert request.idempotency_key == "k"


@pytest.mark.parametrize(
    "before", ["c1", {"checkpoint_id": "c1"}, {"configurable": {"checkpoint_id": "c1", "thread_id": "t"}}]
)
def test_history_may_start_before_a_checkpoint_named_in_any_of_three_ways(before: object) -> None:
    wanted = HistorySearch.model_validate({"before": before})
    assert wanted.before is not None
    assert wanted.before.checkpoint_id == "c1"


def test_a_state_is_written_at_the_checkpoint_that_the_id_names() -> None:
    wanted = StateWrite.model_validate(
        {"values": {}, "checkpoint": {"checkpoint_ns": "n"}, "checkpoint_id": "c"}
    )
    assert (wanted.place().checkpoint_id, wanted.place().checkpoint_ns) == ("c", "n")


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"thread_id": "018f0000-0000-7000-8000-000000000000"},
        {"run_ids": ["018f0000-0000-7000-8000-000000000000"]},
        {
            "status": "all",
            "thread_id": "018f0000-0000-7000-8000-000000000000",
            "run_ids": ["018f0000-0000-7000-8000-000000000000"],
        },
    ],
)
def test_a_bulk_cancel_names_runs_or_a_status_and_never_both(fields: dict) -> None:
    with pytest.raises(ValidationError, match="status"):
        CancelMany.model_validate(fields)


def test_unknown_fields_are_kept_aside_to_be_reported() -> None:
    assert RunCreate.model_validate({"assistant_id": "a", "typo": 1}).model_extra == {"typo": 1}
