"""Trusted proxies: the address of the client behind an operator's own proxies.

`X-Forwarded-For` from any other peer is ignored: a client can send any value.
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

# Names a peer without an address: a Unix socket.
UNIX = "unix"
_MAX_HOPS = 32
_WITH_PORT = re.compile(r"\[([0-9A-Fa-f:.]+)\](?::[0-9]+)?|([0-9.]+):[0-9]+")


class Proxies:
    """The proxies that an operator trusts.

    Args:
        trusted: their addresses or networks, or "unix" for a proxy that connects by a Unix socket.

    Raises:
        ConfigurationError: one is neither, or is a network of all addresses.
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
                "trusted_proxies=: a network of all addresses would trust every client: give those"
                " of your own proxies"
            )

    def client(self, peer: str, forwarded_for: Sequence[bytes]) -> str:
        """Return the address that the outermost trusted proxy saw; without a proxy, `peer`.

        Args:
            peer: the address of the connection, "" for a Unix socket.
            forwarded_for: the values of `X-Forwarded-For`.
        """
        if not forwarded_for or not self._trusts(peer):
            return peer
        hops = b",".join(forwarded_for).decode("latin-1").rsplit(",", _MAX_HOPS)[-_MAX_HOPS:]
        found = peer
        for hop in reversed(hops):  # each proxy appends the address that it saw
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
            return self._unix  # a Unix socket, whatever the web server puts here
        return any(address in network for network in self._networks)


def _network(text: str) -> _Network:
    """Return a network; an IPv4-mapped one as IPv4, as peers are compared."""
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
