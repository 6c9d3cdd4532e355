"""What an address or a host is, by its text alone: no name is resolved here.

Plain http is allowed to this machine only, and requests to it use no proxy. What a stranger names
is fetched from public addresses only.
"""

from __future__ import annotations

import ipaddress
import re

# The hosts of a redirect URI on loopback (RFC 8252 §7.3, and `localhost`).
LOOPBACK_HOSTS = ("127.0.0.1", "localhost", "::1")
# C libraries also take these as IPv4 addresses: 127.1, 0x7f.1, 2130706433.
_LEGACY_IPV4 = r"(?:0x[0-9a-f]*|[0-9]+)(?:\.(?:0x[0-9a-f]*|[0-9]+)){0,3}\Z"

# IANA's registry of special-purpose IPv4 addresses, multicast (RFC 5771), and one address of a
# cloud. Blocks that the registry has as globally reachable are services too, and no web host's.
_SPECIAL_IPV4 = tuple(
    ipaddress.IPv4Network(each)
    for each in (
        *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16"),
        *("172.16.0.0/12", "192.0.0.0/24", "192.0.2.0/24", "192.31.196.0/24", "192.52.193.0/24"),
        *("192.88.99.0/24", "192.168.0.0/16", "192.175.48.0/24", "198.18.0.0/15"),
        *("198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4"),
        "168.63.129.16/32",  # Azure's agent, reachable from its virtual machines alone
    )
)
# The only IPv6 addresses that are assigned to hosts of the internet (IANA, RFC 4291 §2.4), and the
# blocks of the registry of special-purpose IPv6 addresses that lie within them.
_GLOBAL_IPV6 = ipaddress.IPv6Network("2000::/3")
_SPECIAL_IPV6 = tuple(
    ipaddress.IPv6Network(each)
    for each in (
        "2001::/23",  # protocol assignments: Teredo, benchmarking, AMT, ORCHID, DRIP
        "2001:db8::/32",
        "2002::/16",  # 6to4, which embeds any IPv4 address
        "2620:4f:8000::/48",
        "3fff::/20",
    )
)
# Networks with IPv6 alone reach all of IPv4 by these addresses (RFC 6052 §2.1).
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
# Interface identifiers that embed an IPv4 address (RFC 5214 §6.1).
_ISATAP = (0x0000_5EFE, 0x0200_5EFE)


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


def is_public(address: str) -> bool:
    """Whether an IP address is a host's on the public internet, not of any special-purpose block.

    An address with an IPv4 address within is not public: an IPv4-mapped, 6to4, Teredo or ISATAP
    one; but NAT64's is as public as its IPv4 address.
    """
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return False
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed.scope_id is not None:
            return False
        if parsed not in _NAT64:
            return (
                parsed in _GLOBAL_IPV6
                and not any(parsed in block for block in _SPECIAL_IPV6)
                and (int(parsed) >> 32) & 0xFFFF_FFFF not in _ISATAP
            )
        parsed = ipaddress.IPv4Address(int(parsed) & 0xFFFF_FFFF)
    return not any(parsed in block for block in _SPECIAL_IPV4)


def _embedded(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address,
) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """Return the IPv4 address within an IPv4-mapped one (RFC 4291 §2.5.5.2)."""
    return getattr(address, "ipv4_mapped", None) or address
