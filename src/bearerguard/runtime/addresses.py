"""Whether a host is this machine, by its text alone: no name is resolved here.

Plain http is allowed to this machine only, and requests to it use no proxy.
"""

from __future__ import annotations

import ipaddress
import re

# The hosts of a redirect URI on loopback (RFC 8252 §7.3, and `localhost`).
LOOPBACK_HOSTS = ("127.0.0.1", "localhost", "::1")
# C libraries also take these as IPv4 addresses: 127.1, 0x7f.1, 2130706433.
_LEGACY_IPV4 = r"(?:0x[0-9a-f]*|[0-9]+)(?:\.(?:0x[0-9a-f]*|[0-9]+)){0,3}\Z"


def is_loopback(host: str) -> bool:
    """Whether `host`, without brackets, is `localhost` or a loopback address (RFC 6890 §2.2).

    Only spellings that mean the same to every resolver; `127.1` and `localhost.` are not.
    """
    host = host.lower()
    if host == "localhost":
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    return _embedded(address).is_loopback


def may_be_this_machine(host: str) -> bool:
    """Whether some resolver takes `host` for this machine, in whatever spelling.

    For refusing hosts that a remote server names. Besides `is_loopback`: the unspecified address,
    names below `localhost` (RFC 6761 §6.3), a final dot, and IPv4 addresses in another notation.
    """
    name = host.lower().removesuffix(".")
    if is_loopback(name) or name.endswith(".localhost"):
        return True
    try:
        return _embedded(ipaddress.ip_address(name)).is_unspecified
    except ValueError:
        return re.match(_LEGACY_IPV4, name) is not None


def _embedded(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address,
) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """Return the IPv4 address within an IPv4-mapped one (RFC 4291 §2.5.5.2)."""
    return getattr(address, "ipv4_mapped", None) or address
