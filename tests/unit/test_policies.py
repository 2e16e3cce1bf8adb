"""Cedar decides, and only a clean Allow lets a call through."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from interlock.tools.errors import PolicyInvalid
from interlock.tools.policy.cedar import Policies
from interlock.tools.policy.permissions import Principal
from interlock.tools.spec import Effect, Risk, ToolSpec

CONTEXT: dict[str, Any] = {"graph": "g", "assistant": "a", "unknownTools": "allow", "toolCalls": 0}
DEFAULTS = Policies.load()
NAMES = st.sampled_from(["orders:read", "orders:refund", "net:fetch"])


def spec(**fields: Any) -> ToolSpec:
    known = {"name": "act", "description": "Act.", "arguments_schema": None, "effect": "write", "risk": "low"}
    return ToolSpec(**{**known, **fields})


def ann(**fields: Any) -> Principal:
    return Principal(tenant="acme", subject="ann", **fields)


@settings(deadline=None)
@given(st.frozensets(NAMES), st.frozensets(NAMES))
def test_without_a_role_exactly_the_holders_of_all_permissions_may_call(
    held: frozenset[str], required: frozenset[str]
) -> None:
    verdict = DEFAULTS.decide("call", ann(permissions=held), spec(permissions=required), context=CONTEXT)
    assert verdict.allowed == (required <= held)


@settings(deadline=None)
@given(
    st.sampled_from(get_args(Effect)),
    st.sampled_from(get_args(Risk)),
    st.booleans(),
    st.sampled_from(["allow", "review", "refuse"]),
)
def test_who_needs_a_review_follows_from_risk_and_setting(
    effect: Effect, risk: Risk, review: bool, unknown: str
) -> None:
    admin = ann(roles=frozenset({"admin"}))
    chosen = spec(effect=effect, risk=risk, review=review)
    context = {**CONTEXT, "unknownTools": unknown}
    alone = DEFAULTS.decide("callUnreviewed", admin, chosen, context=context).allowed
    high = risk == "high" and effect != "read"
    assert alone == (not review and not high and (risk != "unknown" or unknown == "allow"))
    may = DEFAULTS.decide("call", admin, chosen, context=context).allowed
    assert may == (risk != "unknown" or unknown != "refuse")


def test_an_admin_may_call_anything_and_the_verdict_names_its_policies() -> None:
    verdict = DEFAULTS.decide(
        "call", ann(roles=frozenset({"admin"})), spec(permissions=frozenset({"x:y"})), context=CONTEXT
    )
    assert verdict.policy_ids == ("admin-may-call",)


def test_no_policy_means_no() -> None:
    only_reads = Policies(
        '@id("reads") permit (principal, action, resource) when { resource.effect == "read" };'
    )
    verdict = only_reads.decide("call", ann(), spec(), context=CONTEXT)
    assert (verdict.allowed, verdict.reason) == (False, "no policy permits it")


def test_a_forbid_that_fails_to_evaluate_refuses_although_cedar_would_allow() -> None:
    policies = Policies(
        '@id("all") permit (principal, action, resource);'
        '@id("broken") forbid (principal, action, resource)'
        " when { context.toolCalls + 9223372036854775807 > 0 };"
    )
    assert policies.decide("call", ann(), spec(), context=CONTEXT).allowed is False
    verdict = policies.decide("call", ann(), spec(), context={**CONTEXT, "toolCalls": 1})
    assert verdict.allowed is False
    assert "could not be evaluated" in verdict.reason


@pytest.mark.parametrize("context", [{}, {"graph": 1}, {**CONTEXT, "more": True}])
def test_a_malformed_request_is_refused(context: dict[str, Any]) -> None:
    assert DEFAULTS.decide("call", ann(roles=frozenset({"admin"})), spec(), context=context).allowed is False


@settings(deadline=None)
@given(st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1, max_size=30), st.text(max_size=30))
def test_any_subject_and_role_can_be_put_to_the_policies(subject: str, role: str) -> None:
    principal = Principal(tenant="acme", subject=subject, roles=frozenset({role} - {"admin"}))
    assert not DEFAULTS.decide("call", principal, spec(permissions=frozenset({"x"})), context=CONTEXT).allowed
    assert DEFAULTS.decide("call", principal, spec(), context=CONTEXT).allowed


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "empty"),
        ("permit (principal, action, resource);", "@id"),
        ('@id("") permit (principal, action, resource);', "@id"),
        (
            '@id("a") permit (principal, action, resource); @id("a") forbid (principal, action, resource);',
            "@id",
        ),
        ('@id("a") permit (principal, action, resource) when { resource.rsik == "low" };', "rsik"),
        ('@id("a") permit (principal, action, resource) when { context.toolCalls == "1" };', "a"),
        ("nonsense", "parse"),
    ],
)
def test_a_policy_set_that_does_not_fit_is_never_used(text: str, said: str) -> None:
    with pytest.raises(PolicyInvalid, match=said):
        Policies(text)


def test_a_folder_without_policies_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PolicyInvalid, match=r"no \.cedar file"):
        Policies.load([tmp_path])


def test_the_version_follows_the_text() -> None:
    one, other = (
        '@id("a") permit (principal, action, resource);',
        '@id("b") permit (principal, action, resource);',
    )
    assert Policies(one).version == Policies(one).version != Policies(other).version
