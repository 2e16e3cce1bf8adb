"""Where webhooks may go."""

from __future__ import annotations

import ipaddress
import re
import socket
from typing import TYPE_CHECKING

import httpx

from ...tools.egress import Address, Addresses, EgressRefused, Resolver, place_of, resolve
from ..errors import Invalid

if TYPE_CHECKING:
    from ..resources import Resources
    from ..webhook_settings import WebhookSettings

_UNPRINTABLE = re.compile(r"[\x00-\x20\x7f\\]")


class Targets:
    """The URLs that webhooks may go to, by the settings."""

    def __init__(self, settings: WebhookSettings, *, resolver: Resolver = resolve) -> None:
        self._url = settings.url
        self._addresses = Addresses(private_networks=settings.private_networks, resolver=resolver)

    def check(self, text: str) -> httpx.URL:
        """Hold a URL against everything that can be told without asking anybody.

        Raises:
            EgressRefused: it is no URL that a webhook may go to.
        """
        if len(text) > self._url.max_url_length:
            raise EgressRefused(f"the URL is longer than {self._url.max_url_length} characters")
        if _UNPRINTABLE.search(text):
            raise EgressRefused("a URL has no spaces, control characters or backslashes")
        try:
            url = httpx.URL(text)
        except httpx.InvalidURL as error:
            raise EgressRefused(f"it is not a URL: {error}") from error
        if url.scheme:
            self._check_place(url)
        elif text.startswith("//") or not text.startswith("/"):
            raise EgressRefused("it must begin with `https://`, or be a path of your own app such as `/done`")
        elif self._url.disable_loopback:
            raise EgressRefused(
                "a path goes to your own app within the server, which needs `disable_loopback: false` in "
                "`webhooks.url`; give a whole URL"
            )
        return url

    async def checked_address(self, url: httpx.URL) -> str:
        """The address to connect to for a URL.

        Raises:
            EgressRefused: the URL is not allowed, or one of the addresses of its host.
        """
        return await self._addresses.checked(*self._check_place(url))

    def _check_place(self, url: httpx.URL) -> tuple[str, int]:
        host, port = place_of(url)
        if not host:
            raise EgressRefused("the URL names no host")
        if not 0 < port < 65536:
            raise EgressRefused(f"there is no port {port}")
        if self._url.require_https and url.scheme != "https":
            raise EgressRefused("it must be https, unless `require_https` in `webhooks.url` is false")
        domains = self._url.allowed_domains
        names = {host, url.raw_host.decode().lower().rstrip(".")}
        if domains and not any(_under(name, domain) for name in names for domain in domains):
            raise EgressRefused(f"the host {host!r} is none of the `allowed_domains` in `webhooks.url`")
        if self._url.allowed_ports and port not in self._url.allowed_ports:
            raise EgressRefused(f"the port {port} is none of the `allowed_ports` in `webhooks.url`")
        if (address := _address_in(host)) is not None:
            self._addresses.check(host, address)
        return host, port


def _under(host: str, domain: str) -> bool:
    return host.endswith(domain[1:]) if domain.startswith("*.") else host == domain


def _address_in(host: str) -> Address | None:
    """The address that a host is by itself, in any notation that a resolver takes; None for a name."""
    if host == "localhost" or host.endswith(".localhost"):
        return ipaddress.IPv4Address("127.0.0.1")
    try:
        return ipaddress.ip_address(host.strip("[]").partition("%")[0])
    except ValueError:
        pass
    try:
        # `127.1`, `2130706433` and `0x7f.1` are the same address.
        return ipaddress.IPv4Address(socket.inet_aton(host))
    except (OSError, UnicodeError):
        return None


def require_target(resources: Resources, url: str | None) -> None:
    """Let a run in only with a webhook that can be sent; without one, or where none are sent, let it in.

    Raises:
        Invalid: the URL is not one that a webhook may go to.
    """
    if not url or resources.settings.http.disable_webhooks:
        return
    try:
        target = Targets(resources.settings.webhooks).check(url)
    except EgressRefused as refused:
        raise Invalid(f"`webhook` is refused: {refused}") from refused
    if not target.scheme and resources.catalog.hooks.app is None:
        raise Invalid("`webhook` is refused: a path goes to `http.app` in langgraph.json, and there is none")
