"""Who a principal may be."""

from __future__ import annotations

from typing import Any

import pytest

from interlock.tools.policy.permissions import Principal

PLAIN: dict[str, Any] = {"tenant": "acme", "subject": "ann"}


@pytest.mark.parametrize("field", ["tenant", "subject"])
@pytest.mark.parametrize("name", ["a\nb", "a\0b", "a\x7f", "a\x85b", "a\ud800", "a" * 201])
def test_a_name_that_cannot_be_written_everywhere_is_refused(field: str, name: str) -> None:
    with pytest.raises(ValueError, match=f"the {field} "):
        Principal(**PLAIN | {field: name})
    with pytest.raises(ValueError, match=f"the {field} "):
        Principal.from_row(Principal(**PLAIN).to_row() | {field: name})


@pytest.mark.parametrize("name", ["ann", "Zoë Ångström / 東京", "ann@example.org", "a" * 200])
def test_any_other_name_is_kept_as_it_is(name: str) -> None:
    principal = Principal(tenant=name, subject=name)
    assert Principal.from_row(principal.to_row()) == principal
