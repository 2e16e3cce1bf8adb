"""How many events an entry of the log shows: counted when it is written, and the same when it is read."""

from __future__ import annotations

from uuid import uuid4

import orjson
import pytest
from langchain_core.messages import AIMessage, HumanMessage

from interlock.server.domain import Event, EventKind
from interlock.server.encoding import encode
from interlock.server.protocol.run_events import RunEvents, created_data
from interlock.server.records.references import reference_to

RUN = uuid4()


def entry(seq: int, kind: EventKind, data: bytes) -> Event:
    return Event(seq, RUN, kind, (), data, 0)


@pytest.mark.parametrize(
    "state",
    [
        {"messages": [HumanMessage(content="hi", additional_kwargs={"__interrupt__": 1})]},
        {"messages": [AIMessage(content="yo")], "notes": {"__interrupt__": [1]}},
    ],
)
def test_what_stands_for_a_state_shows_as_many_events_as_the_state(state: dict[str, object]) -> None:
    """With the key of an interrupt somewhere inside, as whoever writes a message likes."""
    reference = reference_to(state, lambda channel, _: "1" if channel == "messages" else None)
    assert reference is not None
    checkpoint = encode({"config": {"configurable": {"checkpoint_id": "c"}}, "metadata": {"step": 1}})
    counts: list[list[int]] = []
    for data in (encode(state), reference):
        run = RunEvents(created_data(run_id=RUN, graph_id="g", modes=["values", "checkpoints"]))
        entries = [
            entry(1, "run.started", orjson.dumps({"run_id": str(RUN), "attempt": 1})),
            entry(2, "values", data),
            entry(3, "checkpoints", checkpoint),
            entry(4, "values", data),
            entry(5, "run.ended", orjson.dumps({"run_id": str(RUN), "status": "success"})),
        ]
        counts.append([len(run.feed(one)) for one in entries])
    assert counts == [[1, 0, 2, 0, 2]] * 2
