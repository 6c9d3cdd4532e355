"""The Authorization field: tokens smuggled past its grammar, or put where they are not read."""

from __future__ import annotations

from collections.abc import Callable

from tests.adversary.attack import Attack, malformed
from tests.conformance.drivers import Headers
from tests.conformance.harness import Harness
from tests.conformance.hdr_table import field


def elsewhere(name: str, before: bytes = b"Bearer ") -> Callable[[Harness], Headers]:
    return lambda harness: [(name, before + harness.token().encode())]


def lines(*values: bytes) -> Callable[[Harness], Headers]:
    """Send several Authorization fields; `@` stands for a good token."""

    def send(harness: Harness) -> Headers:
        token = harness.token().encode()
        return [("Authorization", value.replace(b"@", token)) for value in values]

    return send


# What a server or a proxy may leave around or within credentials.
BROKEN: dict[str, tuple[bytes, bytes]] = {
    "a tab as separator": (b"Bearer\t", b""),
    "a form feed as separator": (b"Bearer\x0c", b""),
    "a vertical tab as separator": (b"Bearer\x0b", b""),
    "an NBSP as separator": (b"Bearer\xa0", b""),
    "a zero-width space as separator": (b"Bearer\xe2\x80\x8b", b""),
    "a newline as separator": (b"Bearer\n", b""),
    "a folded line": (b"Bearer\r\n ", b""),
    "a NUL as separator": (b"Bearer\0", b""),
    "an equals sign": (b"Bearer=", b""),
    "a colon": (b"Bearer:", b""),
    "a comma": (b"Bearer,", b""),
    "a tab after the space": (b"Bearer \t", b""),
    "quotation marks": (b'Bearer "', b'"'),
    "an apostrophe": (b"Bearer '", b"'"),
    "angle brackets": (b"Bearer <", b">"),
    "the scheme twice": (b"Bearer Bearer ", b""),
    "a parameter": (b"Bearer token=", b";x"),
    "b64token=": (b'Bearer b64token="', b'"'),
    "a second token": (b"Bearer ", b" AAAA"),
    "a second credential": (b"Bearer ", b", Bearer AAAA"),
    "Basic as a second credential": (b"Bearer ", b", Basic dTpw"),
    "a parameter at the end": (b"Bearer ", b";charset=utf-8"),
    "a NUL at the end": (b"Bearer ", b"\0"),
    "a newline at the end": (b"Bearer ", b"\n"),
    "CRLF and a header": (b"Bearer ", b"\r\nX-Admin: 1"),
    "a form feed at the end": (b"Bearer ", b"\x0c"),
    "an NBSP at the end": (b"Bearer ", b"\xa0"),
    "a delete at the end": (b"Bearer ", b"\x7f"),
    "a BOM in front of the token": (b"Bearer \xef\xbb\xbf", b""),
}
# Another scheme, as far as the grammar of RFC 9110 §11.1 goes: no credentials, so no error code.
OTHER_SCHEMES = (
    *(b"Basic ", b"Token ", b"JWT ", b"Digest ", b"Negotiate ", b"OAuth ", b"Bearerx "),
    *(b"xBearer ", b"Bearer.", b"Bearer-", b"Bearer_", b"Bearer+", b"B\xc3\xa9arer ", b"Bearer1 "),
    *(b"Be arer ", b"", b"\xef\xbb\xbfBearer ", b"Basic, Bearer ", b", Bearer ", b"access_token="),
    *(b"\0Bearer ", b'"Bearer" ', b"ApiKey ", b"MAC id=", b"Bear\xd0\xb5r "),
)
ELSEWHERE: dict[str, Callable[[Harness], Headers]] = {
    "Proxy-Authorization": elsewhere("Proxy-Authorization"),
    "X-Authorization": elsewhere("X-Authorization"),
    "X-Forwarded-Authorization": elsewhere("X-Forwarded-Authorization"),
    "X-Original-Authorization": elsewhere("X-Original-Authorization"),
    "X-Access-Token": elsewhere("X-Access-Token", b""),
    "Access-Token": elsewhere("Access-Token", b""),
    "X-Api-Key": elsewhere("X-Api-Key", b""),
    "Cookie": elsewhere("Cookie", b"access_token="),
    "Cookie named Authorization": elsewhere("Cookie", b"Authorization=Bearer "),
    "Sec-WebSocket-Protocol": elsewhere("Sec-WebSocket-Protocol", b"bearer, "),
    "Authentication": elsewhere("Authentication"),
    "Authorization2": elsewhere("Authorization2"),
    "X-HTTP-Authorization": elsewhere("X-HTTP-Authorization"),
    "Forwarded": elsewhere("Forwarded", b"authorization=Bearer "),
}

TABLE = [
    *(
        malformed(f"HDR-03 {name}", field(before, after))
        for name, (before, after) in BROKEN.items()
    ),
    *(
        Attack(id=f"HDR-04 {before!r}", hostile=field(before), error=None)
        for before in OTHER_SCHEMES
    ),
    *(
        Attack(id=f"HDR-04 a token in {name}", hostile=send, error=None)
        for name, send in ELSEWHERE.items()
    ),
    *(
        malformed(f"HDR-05 {b' | '.join(values)!r}", lines(*values))
        for values in (
            (b"Bearer @", b"Bearer @"),
            (b"Bearer @", b"Bearer AAAA"),
            (b"Bearer AAAA", b"Bearer @"),
            (b"Bearer @", b"Bearer @", b"Bearer @"),
            (b"Bearer @", b""),
            (b"Bearer @", b"Basic dTpw"),
            (b"bearer @", b"BEARER @"),
        )
    ),
]
