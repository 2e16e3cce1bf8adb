"""From credentials to a principal, and from a principal to what it may do."""

from __future__ import annotations

import hashlib

import pytest

from interlock.server.auth.authenticate import ANONYMOUS, Authenticator
from interlock.server.errors import Forbidden, Unauthenticated
from interlock.server.runs.scope import Rule, allow
from interlock.server.settings import ApiKey
from interlock.tools.policy.permissions import Principal


def key(secret: str, tenant: str, roles: tuple[str, ...] = ("user",)) -> ApiKey:
    digest = hashlib.sha256(secret.encode()).hexdigest()
    return ApiKey(name=f"{tenant}-key", sha256=digest, tenant=tenant, subject=f"{tenant}-user", roles=roles)


AUTHENTICATOR = Authenticator([key("one", "acme"), key("two", "globex", ("viewer",))])


def test_without_keys_everybody_is_the_one_administrator() -> None:
    open_house = Authenticator([])
    assert open_house.authenticate({"x-api-key": "whatever"}) == ANONYMOUS
    assert open_house.tenants == {"default"}


@pytest.mark.parametrize(
    "headers",
    [
        {"x-api-key": "one"},
        {"authorization": "Bearer one"},
        {"authorization": "bearer  one "},
        {"x-api-key": "", "authorization": "Bearer one"},
        {"x-api-key": "of-another-service", "authorization": "Bearer one"},
        {"x-api-key": "one", "authorization": "Bearer of-another-service"},
        {"x-api-key": "one", "authorization": "Bearer two"},
    ],
)
def test_a_key_is_taken_from_either_header(headers: dict[str, str]) -> None:
    principal = AUTHENTICATOR.authenticate(headers)
    assert (principal.tenant, principal.subject, principal.roles) == ("acme", "acme-user", {"user"})


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"x-api-key": ""},
        {"x-api-key": "three"},
        {"authorization": "Basic one"},
        {"authorization": "one"},
        {"x-api-key": hashlib.sha256(b"one").hexdigest()},
    ],
)
def test_no_key_or_a_wrong_one_is_refused(headers: dict[str, str]) -> None:
    with pytest.raises(Unauthenticated):
        AUTHENTICATOR.authenticate(headers)


def test_the_tenants_of_the_keys_are_known_before_any_request() -> None:
    assert AUTHENTICATOR.tenants == {"acme", "globex"}


@pytest.mark.parametrize(
    ("roles", "permissions", "rule", "granted"),
    [
        ({"admin"}, (), Rule("store", "delete"), True),
        ({"user"}, (), Rule("threads", "create_run"), True),
        ({"user"}, (), Rule("reviews", "update"), False),
        ({"viewer"}, (), Rule("threads", "read"), True),
        ({"viewer"}, (), Rule("threads", "create_run"), False),
        ({"viewer"}, ("threads.create_run",), Rule("threads", "create_run"), True),
        ({"viewer"}, ("store.*",), Rule("store", "delete"), True),
        ({"reviewer"}, (), Rule("threads", "create_run"), True),
        ({"reviewer"}, (), Rule("threads", "delete"), False),
        ({"unheard-of"}, (), Rule("threads", "read"), False),
        (set(), (), Rule("threads", "read"), False),
    ],
)
def test_what_no_role_and_no_permission_grants_is_refused(
    roles: set[str], permissions: tuple[str, ...], rule: Rule, granted: bool
) -> None:
    principal = Principal(tenant="t", subject="s", roles=frozenset(roles), permissions=frozenset(permissions))
    if granted:
        allow(principal, rule)
    else:
        with pytest.raises(Forbidden):
            allow(principal, rule)
