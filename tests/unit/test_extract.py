"""Single values out of threads, by path."""

from __future__ import annotations

import pytest

from interlock.server.api.extract import extracted, paths
from interlock.server.errors import Invalid

SHAPE = {
    "values": {"messages": [{"content": "first"}, {"content": "last"}], "a.b": 1},
    "metadata": {"title": "T", "tags": []},
    "interrupts": {"task": [{"value": {"q": 1}}]},
    "config": {},
    "status": "idle",
}


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("values.messages[0].content", "first"),
        ("values.messages[-1].content", "last"),
        ("values.messages[2].content", None),
        ("values.messages[-3]", None),
        ("values.messages.content", None),
        ("metadata.title", "T"),
        ("metadata.title[0]", None),
        ("metadata.tags[0]", None),
        ("interrupts.task[0].value.q", 1),
        ("config", {}),
    ],
)
def test_a_path_leads_to_a_value_or_to_nothing(path: str, value: object) -> None:
    assert extracted(SHAPE, paths({"it": path})) == {"extracted": {"it": value}}


def test_without_paths_there_is_no_extract() -> None:
    assert extracted(SHAPE, {}) == {}


@pytest.mark.parametrize(
    "path", ["status", "thread_id.x", "", ".", "values.", "values[", "values[a]", "[0]", "values..x"]
)
def test_a_path_that_is_malformed_or_starts_elsewhere_is_refused(path: str) -> None:
    with pytest.raises(Invalid, match="extract"):
        paths({"it": path})
