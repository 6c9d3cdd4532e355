"""Encodings: base64url that is not canonical, JSON that is not strict, depth and size."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from bearerguard.protocol.jose import base64url
from tests.adversary.attack import Attack, Send, malformed, resigned, respelled, signed
from tests.conformance.drivers import Headers
from tests.conformance.harness import NOON, Harness, bearer
from tests.conformance.hdr_table import fixed
from tests.conformance.jwt_table import payload, raw_header, usual_claims

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
PARTS = ("header", "payload", "signature")


def _next_letter(text: str) -> str:
    return text[:-1] + LETTERS[LETTERS.index(text[-1]) + 1]


def trailing_bits(part: int) -> Send:
    """Set a bit that the last letter of a part does not use; the signature is genuine."""

    def send(harness: Harness) -> Headers:
        # One octet more or less, so that the part's last letter has unused bits.
        for filler in range(3):
            parts = harness.token(filler="x" * filler, header={"x": "x" * filler}).split(".")
            if len(parts[part]) % 4 and LETTERS.index(parts[part][-1]) % 4 == 0:
                break
        parts[part] = _next_letter(parts[part])
        if part == 2:
            return bearer(".".join(parts))
        return bearer(signed(".".join(parts[:2]).encode(), harness.issuer.key))

    return send


# Each leaves letters that token68 has, so the credentials are well-formed and the token is not.
RESPELLED: dict[str, Callable[[str], str]] = {
    "a letter more": lambda text: text + "A",
    "four letters more": lambda text: text + "AAAA",
    "+ for -": lambda text: "+" + text[1:],
    "/ for _": lambda text: "/" + text[1:],
    "~": lambda text: "~" + text[1:],
    "a dot more": lambda text: text[:4] + "." + text[4:],
    "nothing": lambda _: "",
}
PADDED: dict[str, Callable[[str], str]] = {
    "padding =": lambda text: text + "=",
    "padding ==": lambda text: text + "==",
    "padding ====": lambda text: text + "====",
    "the standard alphabet": lambda text: text.replace("-", "+").replace("_", "/") + "=",
}
# Each has an octet that no token68 has.
NO_TOKEN68 = {
    "space": " ",
    "tab": "\t",
    "percent-encoded padding": "%3D",
    "newline": "\n",
    "CRLF": "\r\n",
    "NUL": "\0",
    "a letter of latin-1": "\xe9",
    "quotation mark": '"',
    "comma": ",",
    "semicolon": ";",
}
# JSON is made of `@`, the usual members, as in the tables of tests.conformance.
NOT_STRICT: dict[str, bytes] = {
    "a comma at the end": b"{@,}",
    "a comment": b"{@/**/}",
    "a line comment": b"{@}//",
    "single quotes": b"{@,'x':1}",
    "a name without quotes": b"{@,x:1}",
    "a hexadecimal number": b'{@,"x":0x10}',
    "an octal number": b'{@,"x":010}',
    "a number with plus": b'{@,"x":+1}',
    "a number with a lonely dot": b'{@,"x":1.}',
    "a number that begins with a dot": b'{@,"x":.5}',
    "True": b'{@,"x":True}',
    "None": b'{@,"x":None}',
    "undefined": b'{@,"x":undefined}',
    "NaN": b'{@,"x":NaN}',
    "-Infinity": b'{@,"x":-Infinity}',
    "1e400": b'{@,"x":1e400}',
    "1e400 deep inside": b'{@,"x":[{"y":[1e400]}]}',
    "a control character in a string": b'{@,"x":"\x01"}',
    "a newline in a string": b'{@,"x":"\n"}',
    "an unknown escape": b'{@,"x":"\\x41"}',
    "a short escape": b'{@,"x":"\\u12"}',
    "a second document": b"{@}{@}",
    "a brace more": b"{@}}",
    "a brace less": b"{@",
    "NUL after it": b"{@}\0",
    "NUL before it": b"\0{@}",
    "a BOM": b"\xef\xbb\xbf{@}",
    "NBSP around it": b"\xc2\xa0{@}",
    "a vertical tab around it": b"\x0b{@}",
    "a form feed around it": b"\x0c{@}",
    "a lone high surrogate": b'{@,"x":"\\ud800"}',
    "a lone low surrogate": b'{@,"x":"\\udc00"}',
    "surrogates in the wrong order": b'{@,"x":"\\udc00\\ud800"}',
    "a lone surrogate in a name": b'{@,"\\ud800":1}',
    "a lone surrogate deep inside": b'{@,"x":[{"y":"\\ud83d"}]}',
    "an encoded surrogate": b'{@,"x":"\xed\xa0\x80"}',
    "CESU-8": b'{@,"x":"\xed\xa0\xbd\xed\xb8\x80"}',
    "an overlong slash": b'{@,"x":"\xc0\xaf"}',
    "an overlong NUL": b'{@,"x":"\xc0\x80"}',
    "an overlong quotation mark": b'{@,"x":"\xc0\xa2"}',
    "beyond Unicode": b'{@,"x":"\xf4\x90\x80\x80"}',
    "half a character": b'{@,"x":"\xc3"}',
    "latin-1": b'{@,"x":"\xe9"}',
    "an array of it": b"[{@}]",
    "a string of it": b'"{@}"',
    "JSON Lines": b"{@}\n{@}",
}
DUPLICATES: dict[str, bytes] = {
    "exp, the good one last": b'{"exp":1,@}',
    "exp, the good one first": b'{@,"exp":99999999999}',
    "iss twice alike": b'{@,"iss":"https://issuer.test"}',
    "sub, by an escape": b'{@,"\\u0073ub":"root"}',
    "sub, by escapes alone": b'{@,"\\u0073\\u0075\\u0062":"root"}',
    "scope": b'{"scope":"read",@,"scope":"admin"}',
    "aud": b'{"aud":"https://evil.test",@}',
    "an empty name": b'{@,"":1,"":2}',
    "in an object": b'{@,"x":{"a":1,"a":1}}',
    "in an object in an array": b'{@,"x":[1,[{"a":1,"b":2,"a":3}]]}',
    "of null": b'{@,"x":null,"x":1}',
    "a hundred times": b"{@" + b',"x":1' * 100 + b"}",
    "cnf, the null last": b'{@,"cnf":{"jkt":"x"},"cnf":null}',
}
DUPLICATE_HEADERS: dict[str, bytes] = {
    "alg, none first": b'{"alg":"none",@}',
    "alg, none last": b'{@,"alg":"none"}',
    "alg, by an escape": b'{@,"\\u0061lg":"none"}',
    "kid": b'{@,"kid":"key-1"}',
    "typ": b'{"typ":"logout+jwt",@}',
    "crit, the null last": b'{@,"crit":["x"],"crit":null}',
}
UNICODES = ("utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-8-sig")


def in_unicode(codec: str) -> bytes:
    return json.dumps({**usual_claims(), "x": "\u00e9"}, ensure_ascii=False).encode(codec)


def header_in_unicode(codec: str) -> Send:
    def send(harness: Harness) -> Headers:
        head = {"alg": "ES256", "kid": harness.issuer.key.kid, "typ": "at+jwt", "x": "\u00e9+"}
        octets = json.dumps(head, ensure_ascii=False).encode(codec)
        return bearer(harness.forge(octets, usual_claims()))

    return send


def nested(opening: str, closing: str, levels: int) -> bytes:
    return b'{@,"x":' + f"{opening * levels}1{closing * levels}".encode() + b"}"


DEEP = {
    "arrays": ("[", "]"),
    "objects": ('{"a":', "}"),
    "objects in arrays": ('[{"a":', "}]"),
    "arrays of two": ("[1,[", "]]"),
}


def inserted(mark: str) -> Callable[[str], str]:
    return lambda text: text[:8] + mark + text[8:]


def _huge_number(digits: int) -> bytes:
    return b'{@,"x":' + b"9" * digits + b"}"


def _accepted(octets: bytes) -> dict[str, Any]:
    return {"control": payload(octets)}


TABLE = [
    *(
        Attack(id=f"JWT-01 {name} in the {PARTS[part]}", hostile=respelled(part, rewrite))
        for part in range(3)
        for name, rewrite in {**RESPELLED, **(PADDED if part == 2 else {})}.items()
    ),
    # In the midst of a token, padding makes it no token68.
    *(
        malformed(f"HDR-03 {name} in the {PARTS[part]}", respelled(part, rewrite))
        for part in range(2)
        for name, rewrite in PADDED.items()
    ),
    *(
        malformed(
            f"HDR-03 {name} in the {PARTS[part]}",
            respelled(part, inserted(mark)),
        )
        for part in range(3)
        for name, mark in NO_TOKEN68.items()
    ),
    *(
        Attack(id=f"JWT-01 unused bits are set in the {PARTS[part]}", hostile=trailing_bits(part))
        for part in range(3)
    ),
    *(
        Attack(id=f"JWT-04 {name} in the payload", hostile=payload(octets))
        for name, octets in {**NOT_STRICT, **DUPLICATES}.items()
    ),
    *(
        Attack(id=f"JWT-04 {name} in the header", hostile=raw_header(octets))
        for name, octets in {**NOT_STRICT, **DUPLICATE_HEADERS}.items()
    ),
    *(
        Attack(
            id=f"JWT-04 payload in {codec}",
            hostile=payload(in_unicode(codec)),
            **_accepted(in_unicode("utf-8")),
        )
        for codec in UNICODES
    ),
    *(
        Attack(
            id=f"JWT-04 header in {codec}",
            hostile=header_in_unicode(codec),
            control=header_in_unicode("utf-8"),
        )
        for codec in UNICODES
    ),
    *(
        Attack(
            id=f"JWT-15 {levels} levels of {name}",
            hostile=payload(nested(*marks, levels)),
            **_accepted(nested(*marks, 20)),
        )
        for name, marks in DEEP.items()
        for levels in (65, 300, 1000)
    ),
    *(
        Attack(
            id=f"JWT-15 {levels} levels of {name} in the header",
            hostile=raw_header(nested(*marks, levels)),
            control=raw_header(nested(*marks, 20)),
        )
        for name, marks in DEEP.items()
        for levels in (65, 1000)
    ),
    *(
        Attack(
            id=f"JWT-15 arrays that never close, {count} of them",
            hostile=payload(b'{@,"x":' + b"[" * count),
        )
        for count in (100, 10_000)
    ),
    Attack(id="JWT-15 nothing but opening braces", hostile=payload(b'{"a":' * 2000)),
    Attack(
        id="JWT-09 a number of 5000 digits in another claim",
        hostile=payload(_huge_number(5000)),
        **_accepted(_huge_number(4000)),
    ),
    Attack(
        id="JWT-18 a header of 20 KB",
        hostile=raw_header(b'{@,"x":"' + b"x" * 20_000 + b'"}'),
        control=raw_header(b'{@,"x":"' + b"x" * 2000 + b'"}'),
    ),
    Attack(
        id="JWT-18 2000 members",
        hostile=payload(b"{@" + b"".join(b',"m%d":1' % n for n in range(2000)) + b"}"),
        **_accepted(b"{@" + b"".join(b',"m%d":1' % n for n in range(500)) + b"}"),
    ),
    *(
        Attack(id=f"JWT-01 {count} dots", hostile=fixed(b"Bearer " + b"." * count))
        for count in (1, 2, 3, 4, 5, 1000, 100_000)
    ),
    Attack(id="JWT-01 dots and letters", hostile=fixed(b"Bearer " + b"a." * 8000)),
    Attack(
        id="JWT-01 the JSON serialization, encoded",
        hostile=lambda harness: bearer(base64url.encode(_as_json(harness.token())).decode()),
    ),
    malformed(
        "HDR-03 the JSON serialization", lambda harness: bearer(_as_json(harness.token()).decode())
    ),
    Attack(
        id="JWT-01 a token within a token",
        hostile=lambda s: bearer(
            s.forge(b'{"alg":"ES256","cty":"JWT","typ":"at+jwt"}', s.token().encode())
        ),
    ),
    *(
        Attack(id=f"JWT-01 signature {name}", hostile=resigned(rewrite))
        for name, rewrite in {
            "twice": lambda octets, _: octets * 2,
            "in hexadecimal": lambda octets, _: octets.hex().encode(),
            "in base64url twice": lambda octets, _: base64url.encode(octets),
            "reversed": lambda octets, _: octets[::-1],
        }.items()
    ),
    Attack(
        id="JWT-08 the expiry by another case of its name",
        hostile=payload(
            b'{"iss":"https://issuer.test","aud":"https://api.test","Exp":%d}' % (NOON + 60)
        ),
    ),
]


def _as_json(token: str) -> bytes:
    protected, content, signature = token.split(".")
    return json.dumps({"payload": content, "protected": protected, "signature": signature}).encode()
