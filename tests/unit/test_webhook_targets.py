"""Which URLs a webhook may go to, and which headers it carries."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import httpx
import pytest

from interlock.server.runs.webhook_headers import HeadersInvalid, headers_of
from interlock.server.runs.webhooks import Targets
from interlock.server.settings import Settings
from interlock.server.sources import SettingsError, read_settings
from interlock.server.webhook_settings import WebhookSettings
from interlock.server.worker.deliveries import _answer_of, pause_after
from interlock.tools.egress import EgressRefused

PUBLIC = "93.184.215.14"
KEY = "whsec_" + "QUFB" * 12


def targets(*, addresses: Sequence[str] = (PUBLIC,), **settings: Any) -> Targets:
    async def resolver(host: str, port: int) -> Sequence[str]:
        return addresses

    return Targets(WebhookSettings(**settings), resolver=resolver)


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("http://example.com/hook", "https"),
        ("ftp://example.com/hook", "http"),
        ("https://user:secret@example.com/", "credentials"),
        ("https://127.0.0.1/hook", "private"),
        ("https://127.1/hook", "private"),
        ("https://2130706433/hook", "private"),
        ("https://0x7f.0.0.1/hook", "private"),
        ("https://[::1]/hook", "private"),
        ("https://[::ffff:10.0.0.1]/hook", "private"),
        ("https://10.0.0.1/hook", "private"),
        ("https://169.254.169.254/latest", "private"),
        ("https://localhost/hook", "private"),
        ("https://LOCALHOST./hook", "private"),
        ("https://a.localhost/hook", "private"),
        ("https://", "host"),
        ("https:///hook", "host"),
        ("//example.com/hook", "https://"),
        ("example.com/hook", "https://"),
        ("/my-route", "disable_loopback"),
        ("https://example.com/a b", "spaces"),
        ("https://example.com\\@127.0.0.1/", "backslashes"),
        ("https://example.com:99999/", "no port"),
        ("https://[::1/", "not a URL"),
        ("https://xn--a.example/hook", "no name"),
        ("https://xn--ls8h.la/hook", "no name"),
        ("https://example.com/" + "a" * 2048, "longer than 2048"),
        ("javascript:alert(1)", "http"),
    ],
)
def test_a_url_that_a_webhook_may_not_go_to_is_refused_with_the_reason(url: str, why: str) -> None:
    with pytest.raises(EgressRefused, match=why):
        targets().check(url)


@pytest.mark.parametrize(
    "url", ["https://example.com", "https://example.com:8443/a?b=c#d", "https://bücher.example/hook"]
)
def test_a_public_https_url_is_allowed_unasked(url: str) -> None:
    assert targets().check(url)


@pytest.mark.parametrize(
    ("url", "allowed"),
    [
        ("https://hooks.example.com/", True),
        ("https://HOOKS.example.com./", True),
        ("https://a.corp.example/", True),
        ("https://a.b.corp.example/", True),
        ("https://corp.example/", False),
        ("https://evilcorp.example/", False),
        ("https://hooks.example.com.evil.example/", False),
        ("https://other.example/", False),
        ("https://hooks.example.com:444/", False),
        ("https://hooks.example.com:8443/", True),
    ],
)
def test_only_named_hosts_and_ports_are_reached_once_some_are_named(url: str, allowed: bool) -> None:
    checked = targets(
        url={"allowed_domains": ["hooks.example.com", "*.corp.example"], "allowed_ports": [443, 8443]}
    )
    if allowed:
        assert checked.check(url)
    else:
        with pytest.raises(EgressRefused, match="allowed_"):
            checked.check(url)


def test_a_private_network_http_and_own_paths_are_reached_where_the_settings_say_so() -> None:
    opened = targets(
        url={"require_https": False, "disable_loopback": False}, private_networks=["127.0.0.0/8"]
    )
    for url in ("http://127.0.0.1:9/hook", "http://localhost/hook", "/my-route?x=1"):
        assert opened.check(url)
    with pytest.raises(EgressRefused):
        opened.check("http://10.0.0.1/hook")


async def test_what_a_name_leads_to_is_checked_when_it_is_sent() -> None:
    url = httpx.URL("https://example.com/hook")
    assert await targets().checked_address(url) == PUBLIC
    with pytest.raises(EgressRefused, match="private"):
        await targets(addresses=[PUBLIC, "127.0.0.1"]).checked_address(url)
    with pytest.raises(EgressRefused, match="https"):
        await targets().checked_address(httpx.URL("http://example.com/hook"))


@pytest.mark.parametrize(
    ("headers", "why"),
    [
        ({"x-a": "${{ env.LG_WEBHOOK_MISSING }}"}, "LG_WEBHOOK_MISSING"),
        ({"x-a": "${{ env.DATABASE_URL }}"}, "LG_WEBHOOK_"),
        ({"x-a": "${{ secrets.X }}"}, "no other"),
        ({"x-a": "${{ env.LG_WEBHOOK_LINES }}"}, "printable"),
        ({"x a": "b"}, "not the name"),
        ({"Webhook-Signature": "v1,x"}, "set by the server"),
        ({"host": "x"}, "set by the server"),
    ],
)
def test_headers_that_cannot_be_sent_are_refused_without_their_values(
    headers: dict[str, str], why: str
) -> None:
    environ = {"DATABASE_URL": "s3cret", "LG_WEBHOOK_LINES": "s3cret\r\nx: y"}
    with pytest.raises(HeadersInvalid, match=why) as refused:
        headers_of(WebhookSettings.model_validate({"headers": headers}), environ)
    assert "s3cret" not in str(refused.value)


def test_several_variables_may_stand_in_one_header_under_another_prefix() -> None:
    settings = WebhookSettings.model_validate(
        {"headers": {"x-a": "${{env.HOOK_A}}-${{ env.HOOK_B }}"}, "env_prefix": "HOOK_"}
    )
    assert headers_of(settings, {"HOOK_A": "1", "HOOK_B": "2"}) == {"x-a": "1-2"}


@pytest.mark.parametrize("key", ["", "whsec_c2hvcnQ=", "no base64 at all, but long enough to be"])
def test_a_key_that_cannot_sign_is_refused_and_not_repeated(key: str) -> None:
    with pytest.raises(SettingsError, match=r"webhooks\.signing_secrets.*24 bytes") as refused:
        read_settings({}, project={"webhooks": {"signing_secrets": [KEY, key]}})
    assert not key or key not in str(refused.value)


def test_keys_come_from_the_environment_and_are_never_shown() -> None:
    settings = read_settings({"INTERLOCK_WEBHOOKS_SIGNING_SECRETS": f"{KEY}, {KEY[:-4]}"})
    assert settings.webhooks.secrets_of("anybody") == (KEY, KEY[:-4])
    assert KEY not in f"{settings} {settings!r} {settings.model_dump()} {settings.model_dump_json()}"


def test_a_domain_with_a_scheme_or_a_path_is_refused() -> None:
    for domain in ("https://example.com", "example.com/x", "*", "example.com:80"):
        with pytest.raises(ValueError, match="allowed_domains"):
            Settings.model_validate({"webhooks": {"url": {"allowed_domains": [domain]}}})


def test_pauses_grow_to_an_hour_and_differ() -> None:
    for failures, longest in ((0, 5), (1, 10), (5, 160), (50, 3600)):
        pauses = {pause_after(failures) for _ in range(50)}
        assert longest / 2 <= min(pauses) < max(pauses) <= longest


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("30", 30),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 0),
        ("soon", 0),
        ("-5", 0),
        ("", 0),
        ("9" * 400, 999_999_999),
    ],
)
def test_a_wanted_pause_is_read_in_seconds_and_what_is_none_is_passed_over(
    header: str, seconds: float
) -> None:
    answer = _answer_of(httpx.Response(503, headers={"retry-after": header}))
    assert answer.retry_after_s == seconds


def test_a_wanted_pause_may_be_a_date() -> None:
    header = format_datetime(datetime.now(UTC) + timedelta(hours=2), usegmt=True)
    answer = _answer_of(httpx.Response(503, headers={"retry-after": header}))
    assert 3600 < answer.retry_after_s <= 7200
