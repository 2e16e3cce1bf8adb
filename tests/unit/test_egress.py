"""Where tools may connect to, and what becomes of strange addresses."""

from __future__ import annotations

from collections.abc import Sequence

import httpx
import pytest

from interlock.tools.egress import Egress, EgressRefused

PUBLIC = "93.184.215.14"


def egress(*allow: str, addresses: Sequence[str] = (PUBLIC,), private: Sequence[str] = ()) -> Egress:
    async def resolver(host: str, port: int) -> Sequence[str]:
        if host == "nowhere.example":
            raise OSError("no such name")
        return addresses

    return Egress(allow, private_networks=private, resolver=resolver)


@pytest.mark.parametrize(
    ("rule", "url", "allowed"),
    [
        ("example.com", "https://example.com/a", True),
        ("example.com", "http://example.com/a", True),
        ("example.com", "https://EXAMPLE.com./a", True),
        ("example.com", "https://example.com:8443/", False),
        ("example.com:8443", "https://example.com:8443/", True),
        ("example.com:8443", "https://example.com/", False),
        ("example.com", "https://www.example.com/", False),
        ("*.example.com", "https://www.example.com/", True),
        ("*.example.com", "https://example.com/", False),
        ("*.example.com", "https://badexample.com/", False),
        ("example.com", "https://example.com.evil.org/", False),
        ("*", "https://anything.example/", True),
        ("*", "ftp://example.com/", False),
        ("*", "file:///etc/passwd", False),
        ("*", "gopher://example.com/", False),
        ("*", "https://user:secret@example.com/", False),
        ("*", "https://example.com@evil.org/", False),
        ("*", "https://nowhere.example/", False),
        ("*", "https://xn--a.example/", False),
        ("*", "https://xn--ls8h.la/", False),
    ],
)
async def test_a_url_is_reachable_only_by_a_rule(rule: str, url: str, allowed: bool) -> None:
    if allowed:
        assert await egress(rule).checked_address(httpx.URL(url)) == PUBLIC
    else:
        with pytest.raises(EgressRefused):
            await egress(rule).checked_address(httpx.URL(url))


async def test_without_rules_nothing_is_reachable() -> None:
    with pytest.raises(EgressRefused, match="egress_allow"):
        await egress().checked_address(httpx.URL("https://example.com"))


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "10.1.2.3",
        "172.16.0.1",
        "192.168.1.1",
        "169.254.169.254",
        "100.64.0.1",
        "0.0.0.0",
        "224.0.0.1",
        "255.255.255.255",
        "::1",
        "::",
        "fe80::1%eth0",
        "fc00::1",
        "::ffff:127.0.0.1",
        "::ffff:10.0.0.1",
        "64:ff9b::7f00:1",
        "2002:7f00:1::",
        "ff02::1",
        "64:ff9b:1::7f00:1",
        "64:ff9b:1:ffff::5db8:d70e",
        "fec0::1",
        "feff::1",
        "::127.0.0.1",
        "::93.184.215.14",
        "::ffff:0:10.0.0.1",
    ],
)
async def test_private_and_reserved_addresses_are_refused_in_every_disguise(address: str) -> None:
    with pytest.raises(EgressRefused, match="private or reserved"):
        await egress("*", addresses=[address]).checked_address(httpx.URL("https://example.com"))


async def test_one_private_address_among_public_ones_refuses_the_name() -> None:
    with pytest.raises(EgressRefused):
        await egress("*", addresses=[PUBLIC, "10.0.0.1"]).checked_address(httpx.URL("https://example.com"))


async def test_a_private_network_can_be_opened_by_name() -> None:
    inside = egress("desk.internal:8080", addresses=["10.0.0.7"], private=["10.0.0.0/24"])
    assert await inside.checked_address(httpx.URL("http://desk.internal:8080/x")) == "10.0.0.7"
    with pytest.raises(EgressRefused):
        await inside.checked_address(httpx.URL("http://other.internal:8080/x"))


@pytest.mark.parametrize("rule", ["", "https://example.com", "example.com/path"])
def test_a_rule_that_is_not_a_host_is_refused(rule: str) -> None:
    with pytest.raises(ValueError, match="egress rule"):
        Egress([rule])
