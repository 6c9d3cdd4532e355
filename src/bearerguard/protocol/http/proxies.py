"""Trusted proxies: what the forwarded fields of an operator's own proxies say of a client.

These are its address, and the URL that it has requested. The fields of any other peer are ignored:
a client can send any value.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeAlias

from bearerguard.errors import ConfigurationError, quoted
from bearerguard.protocol.http import uri

_Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address
_Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network

_MAPPED = ipaddress.IPv6Network("::ffff:0:0/96")  # RFC 4291 §2.5.5.2

# Names a peer without an address: a Unix socket.
UNIX = "unix"
_MAX_HOPS = 32
# The scheme of the URL by that of the connection: a websocket's handshake is a GET of https.
_SCHEMES = {"https": "https", "http": "http", "wss": "https", "ws": "http"}
_AUTHORITY = re.compile(r"(?:[A-Za-z0-9._-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?")
# A parameter of `Forwarded`, whose value may be quoted (RFC 7239 §4).
_PAIR = re.compile(r'([a-z]+)=("[^"]*"|[^;,\s]*)')
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
        if not forwarded_for or not self.trusts(peer):
            return peer
        hops = b",".join(forwarded_for).decode("latin-1").rsplit(",", _MAX_HOPS)[-_MAX_HOPS:]
        found = peer
        for hop in reversed(hops):  # each proxy appends the address that it saw
            address = _parsed(hop)
            if address is None:
                break
            found = str(address)
            if not self.trusts(found):
                break
        return found

    def __bool__(self) -> bool:
        return self._unix or bool(self._networks)

    def trusts(self, peer: str | None) -> bool:
        """Whether a connection from `peer` is one of the operator's proxies'; None is nobody's."""
        if peer is None:
            return False
        address = _parsed(peer)
        if address is None:
            return self._unix  # a Unix socket, whatever the web server puts here
        return any(address in network for network in self._networks)


def forwarded_origin(scheme: str, header: Callable[[str], Sequence[bytes]]) -> str | None:
    """Return scheme and authority of the URL that a client has requested of a trusted proxy.

    They are those of `Forwarded` (RFC 7239 §5.3 and §5.4) or of `X-Forwarded-Proto`, `-Host` and
    `-Port`, and what those lack is of the request that the proxy has sent. Of a list, the last
    member counts: the nearest proxy has added it. A proxy that writes one of the two passes on
    what a client has sent of the other: where they disagree, neither counts.

    Args:
        scheme: that of the request as the server received it.
        header: returns the values of all fields of a lower-case name.

    Returns:
        Such as `https://api.example.com`, None where the fields are malformed or disagree.
    """
    names = ("proto", "host", "port")
    proto, host, port = (_last(header(f"x-forwarded-{name}")) for name in names)
    rest = (scheme, _last(header("host")))
    forwarded = _last(header("forwarded"))
    if forwarded is None:
        return _origin(proto, host, port, *rest)
    pairs = dict(_PAIR.findall(forwarded.lower()))
    of_pairs = [pairs.get(name, "").strip('"') or None for name in ("proto", "host")]
    found = _origin(of_pairs[0], of_pairs[1], None, *rest)
    if found is None or not (proto or host or port):
        return found
    other = _origin(proto, host, port, *rest)
    return found if other is not None and uri.normalized(other) == uri.normalized(found) else None


def _origin(
    proto: str | None, host: str | None, port: str | None, scheme: str, own_host: str | None
) -> str | None:
    """Return an origin of what a proxy says, and else of the request that it has sent."""
    host, proto = host or own_host or "", (proto or scheme).lower()
    if _AUTHORITY.fullmatch(host) is None or proto not in _SCHEMES:
        return None
    if port and port.isdecimal() and re.search(r":[0-9]+$", host) is None:
        host = f"{host}:{port}"
    return f"{_SCHEMES[proto]}://{host.lower()}"


def _last(values: Sequence[bytes]) -> str | None:
    """Return the last member of a field that is a list, None without one."""
    if not values:
        return None
    return values[-1].decode("latin-1").rpartition(",")[2].strip(" \t") or None


def scope_peer(scope: Mapping[str, Any]) -> str | None:
    """Return the peer of an ASGI connection, "" for a Unix socket.

    None if a middleware, as uvicorn's, may have put an address of `X-Forwarded-For` in its place:
    some believe what any client sends.
    """
    host, port = scope.get("client") or ("", None)
    fields: list[bytes] = []
    ports: list[bytes] = []
    for name, value in scope["headers"]:
        lower = name.lower()
        if lower == b"x-forwarded-for":
            fields.append(value)
        elif lower == b"x-forwarded-port":
            ports.append(value)
    return None if _is_rewritten(host, port, fields, ports) else host


def environ_peer(environ: Mapping[str, Any]) -> str | None:
    """Return the peer of a WSGI request as `scope_peer` does."""
    replaced = environ.get("werkzeug.proxy_fix.orig")
    if replaced is not None:
        return replaced.get("REMOTE_ADDR") or ""
    host: str = environ.get("REMOTE_ADDR") or ""
    fields, ports = (
        [] if value is None else [value.encode("latin-1", "replace")]
        for value in map(environ.get, ("HTTP_X_FORWARDED_FOR", "HTTP_X_FORWARDED_PORT"))
    )
    return None if _is_rewritten(host, environ.get("REMOTE_PORT"), fields, ports) else host


def _is_rewritten(
    host: str, port: object, forwarded_for: Sequence[bytes], forwarded_port: Sequence[bytes]
) -> bool:
    # A middleware puts 0 for the port that the field does not have; a peer's port is never 0.
    if port in {0, "0"}:
        return True
    if not forwarded_for and not forwarded_port:
        return False
    members = [each.strip() for each in b",".join(forwarded_for).decode("latin-1").split(",")]
    # uvicorn reads the port as `int` does: " +080" is 80.
    names = (f"{host}:", f"[{host}]:")
    with_port = [each for each in members if each.startswith(names)]
    if any(_is_port(each.rpartition(":")[2], port) for each in with_port):
        return True
    # daphne takes the port of another field.
    ports = b",".join(forwarded_port).decode("latin-1").split(",")
    return host in members and any(_is_port(each, port) for each in ports)


def _is_port(text: str, port: object) -> bool:
    try:
        return str(int(text)) == str(port)
    except ValueError:
        return False


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
