"""Where a tool, or whoever else sends requests, may connect to: only to an address that was checked,
whatever DNS says next.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from ssl import SSLContext
from typing import Protocol

import httpx

from .errors import ToolFailed

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Resolver = Callable[[str, int], Awaitable[Sequence[str]]]

_DEFAULT_PORTS = {"http": 80, "https": 443}
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_NOT_PUBLIC = tuple(
    ipaddress.ip_network(text)
    for text in (
        "64:ff9b:1::/48",  # local translation to IPv4
        "fec0::/10",  # site-local
        "::/96",  # an IPv4 address inside of an IPv6 one, in two forms of long ago
        "::ffff:0:0:0/96",
    )
)
"""What some releases of Python take for public addresses, or all of them."""


class EgressRefused(ToolFailed):
    """The address is not one that this server may reach."""


@dataclass(frozen=True, slots=True)
class _Rule:
    host: str
    port: int | None

    @classmethod
    def parse(cls, text: str) -> _Rule:
        url = httpx.URL(f"https://{text}") if "://" not in text else httpx.URL(text)
        named = text.rpartition(":")[2].isdigit()
        host = text.removesuffix(f":{url.port}") if named else text
        if not host or "/" in host or "://" in host:
            raise ValueError(f"egress rule {text!r} must be a host, `*.domain` or `host:port`")
        return cls(host.lower().strip("[]"), int(text.rpartition(":")[2]) if named else None)

    def allows(self, host: str, port: int, scheme: str) -> bool:
        if self.port is None:
            if port != _DEFAULT_PORTS[scheme]:
                return False
        elif port != self.port:
            return False
        if self.host == "*":
            return True
        if self.host.startswith("*."):
            return host.endswith(self.host[1:])
        return host == self.host


async def resolve(host: str, port: int) -> Sequence[str]:
    """Ask the system's resolver."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(address[0]) for *_, address in found]


class Addresses:
    """The addresses that may be connected to: public ones, and those of named private networks."""

    def __init__(self, *, private_networks: Iterable[str] = (), resolver: Resolver = resolve) -> None:
        self._private: list[Network] = [ipaddress.ip_network(text) for text in private_networks]
        self._resolver = resolver

    async def checked(self, host: str, port: int) -> str:
        """The address to connect to for this host.

        Raises:
            EgressRefused: the name does not resolve, or one of its addresses is not allowed.
        """
        try:
            found = await self._resolver(host, port)
        except (OSError, UnicodeError) as error:
            raise EgressRefused(f"the name {host!r} does not resolve") from error
        addresses = [ipaddress.ip_address(text.partition("%")[0]) for text in found]
        if not addresses:
            raise EgressRefused(f"the name {host!r} does not resolve")
        # One bad address refuses the name: which of them is used must not depend on luck.
        for address in addresses:
            self.check(host, address)
        return str(addresses[0])

    def check(self, host: str, address: Address) -> None:
        """Refuse an address of a host that may not be reached.

        Raises:
            EgressRefused: it is private or reserved.
        """
        if any(address in network for network in self._private if network.version == address.version):
            return
        if not all(_is_public(part) for part in _parts(address)):
            raise EgressRefused(f"{host!r} leads to a private or reserved address")


class Egress:
    """The hosts that tools may reach.

    Args:
        allow: `example.com`, `*.example.com`, `example.com:8443` or `*`; without a port the scheme's
            own port is meant. Empty: nothing.
        private_networks: networks that are reachable although they are private, for services of the
            operator. A host still has to be allowed.
    """

    def __init__(
        self,
        allow: Iterable[str] = (),
        *,
        private_networks: Iterable[str] = (),
        resolver: Resolver = resolve,
    ) -> None:
        self._rules = [_Rule.parse(text) for text in allow]
        self._addresses = Addresses(private_networks=private_networks, resolver=resolver)

    async def checked_address(self, url: httpx.URL) -> str:
        """The address to connect to for this URL.

        Raises:
            EgressRefused: scheme, host, port or one of its addresses is not allowed.
        """
        host, port = place_of(url)
        if not any(rule.allows(host, port, url.scheme) for rule in self._rules):
            raise EgressRefused(
                f"{host}:{port} is not on the list of hosts that tools may reach (`tools.egress_allow`)"
            )
        return await self._addresses.checked(host, port)


def place_of(url: httpx.URL) -> tuple[str, int]:
    """Host and port of a URL.

    Raises:
        EgressRefused: it is not plain http or https, has credentials in it, or its host is no name.
    """
    if url.scheme not in _DEFAULT_PORTS:
        raise EgressRefused(f"only http and https are allowed, not {url.scheme!r}")
    if url.userinfo:
        raise EgressRefused("a URL with credentials in it is not allowed")
    try:
        host = url.host
    except UnicodeError as error:
        raise EgressRefused(f"the host {url.raw_host.decode()!r} is no name that can be resolved") from error
    return host.lower().rstrip("."), url.port or _DEFAULT_PORTS[url.scheme]


def _is_public(address: Address) -> bool:
    hidden = any(address in network for network in _NOT_PUBLIC if network.version == address.version)
    return address.is_global and not address.is_multicast and not hidden


def _parts(address: Address) -> list[Address]:
    """The address and every IPv4 address that it wraps."""
    parts: list[Address] = [address]
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return [address.ipv4_mapped]
        if address.sixtofour is not None:
            parts.append(address.sixtofour)
        if address.teredo is not None:
            parts.extend(address.teredo)
        if address in _NAT64:
            parts.append(ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF))
    return parts


class Checked(Protocol):
    """Says where a request may go."""

    async def checked_address(self, url: httpx.URL) -> str:
        """The address to connect to, or `EgressRefused`."""
        ...


class CheckedTransport(httpx.AsyncBaseTransport):
    """Connects to the checked address; the name stays in the Host header and in the TLS handshake.

    Redirects come through here as well, so no hop escapes the check.
    """

    def __init__(self, egress: Checked, *, tls: SSLContext | None = None) -> None:
        self._egress = egress
        verify = True if tls is None else tls
        self._inner = httpx.AsyncHTTPTransport(verify=verify, retries=0, trust_env=False)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Check, then send."""
        address = await self._egress.checked_address(request.url)
        # A request of its own: the client's keeps its name, which a relative redirect starts from. The
        # Host header was written from that name already.
        sent = httpx.Request(
            request.method,
            request.url.copy_with(host=address),
            headers=request.headers,
            stream=request.stream,
            extensions={**request.extensions, "sni_hostname": request.url.host},
        )
        return await self._inner.handle_async_request(sent)

    async def aclose(self) -> None:
        """Close its connections."""
        await self._inner.aclose()
