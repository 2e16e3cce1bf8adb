"""Listening sockets, bound before anything slow happens."""

from __future__ import annotations

import errno
import ipaddress
import socket


def bound_socket(host: str, port: int, *, tries: int = 1) -> socket.socket:
    """A socket bound to this port, or to the first free one of those after it.

    Raises:
        OSError: all are taken, or the address is none of ours.
    """
    family, kind, protocol, _, _ = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    last = port + tries - 1 if port else port
    for candidate in range(port, last + 1):
        bound = socket.socket(family, kind, protocol)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            bound.bind((host, candidate))
        except OSError as error:
            bound.close()
            if candidate == last or error.errno != errno.EADDRINUSE:
                raise OSError(error.errno, f"{host}:{candidate}: {error.strerror}") from error
        else:
            return bound
    raise AssertionError("`tries` is at least 1")


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches what listens on a host."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
