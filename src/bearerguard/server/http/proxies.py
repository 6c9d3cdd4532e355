"""Trusted proxies: from which address a request came that an operator's own proxy handed on.

Believes `X-Forwarded-For` of nobody else: whoever sends it directly writes what they like.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Sequence
from typing import TypeAlias

from bearerguard.errors import ConfigurationError, quoted

_Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address
_Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network

_MAPPED = ipaddress.IPv6Network("::ffff:0:0/96")  # RFC 4291 §2.5.5.2

# The name of a peer without an address.
UNIX = "unix"
_MAX_HOPS = 32
_WITH_PORT = re.compile(r"\[([0-9A-Fa-f:.]+)\](?::[0-9]+)?|([0-9.]+):[0-9]+")


class Proxies:
    """The proxies that an operator trusts.

    Args:
        trusted: their addresses or networks, "unix" for one that comes by a Unix socket.

    Raises:
        ConfigurationError: one is neither, or is everybody's.
    """

    def __init__(self, trusted: Iterable[str]) -> None:
        if isinstance(trusted, str):
            raise ConfigurationError("trusted_proxies=: pass a list of addresses or networks")
        given = list(trusted)
        if not all(isinstance(each, str) for each in given):
            raise ConfigurationError("trusted_proxies=: pass addresses and networks as text")
        self._unix = UNIX in given
        try:
            self._networks = [_network(each) for each in given if each != UNIX]
        except ValueError as error:
            raise ConfigurationError(
                f"trusted_proxies=: {quoted(str(error))}: give addresses or networks of your own"
                ' proxies, such as 10.0.0.0/24, or "unix"'
            ) from None
        if not all(each.prefixlen for each in self._networks):
            raise ConfigurationError(
                "trusted_proxies=: a network of all addresses is nobody's own: name your proxies'"
            )

    def client(self, peer: str, forwarded_for: Sequence[bytes]) -> str:
        """Return the address of whom the outermost trusted proxy saw; without any, `peer`.

        Args:
            peer: whose connection it is, "" for a Unix socket's.
            forwarded_for: the lines of `X-Forwarded-For`.
        """
        if not forwarded_for or not self._trusts(peer):
            return peer
        hops = b",".join(forwarded_for).decode("latin-1").rsplit(",", _MAX_HOPS)[-_MAX_HOPS:]
        found = peer
        for hop in reversed(hops):  # each proxy adds at the end whom it saw
            address = _parsed(hop)
            if address is None:
                break
            found = str(address)
            if not self._trusts(found):
                break
        return found

    def _trusts(self, peer: str) -> bool:
        address = _parsed(peer)
        if address is None:
            return self._unix  # a Unix socket's, however the server calls it
        return any(address in network for network in self._networks)


def _network(text: str) -> _Network:
    """Return a network; that of IPv4 addresses mapped into IPv6 as peers are compared."""
    network = ipaddress.ip_network(text)
    if isinstance(network, ipaddress.IPv6Network) and network.subnet_of(_MAPPED):
        mapped = network.network_address.ipv4_mapped
        return ipaddress.ip_network(f"{mapped}/{network.prefixlen - _MAPPED.prefixlen}")
    return network


def _parsed(text: str) -> _Address | None:
    text = text.strip(" \t")
    with_port = _WITH_PORT.fullmatch(text)
    if with_port:
        text = with_port[1] or with_port[2]
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address
