"""Signatures: zeros, other lengths, other encodings, and values that are out of range."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from bearerguard.protocol.jose import base64url
from tests.adversary.attack import Attack, resigned
from tests.conformance.harness import Harness

# The orders of the curves (SEC 2) and of Ed25519 (RFC 8032 §5.1).
ORDERS = {
    "ES256": 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551,
    "ES384": int(
        "FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFC7634D81F4372DDF"
        "581A0DB248B0A77AECEC196ACCC52973",
        16,
    ),
    "ES512": int(
        "01FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF"
        "FA51868783BF2F966B7FCC0148F709A5D03BB5C9B8899C47AEBB6FB71E91386409",
        16,
    ),
}
ED25519_ORDER = 2**252 + 27742317777372353535851937790883648493
OCTETS = {"ES256": 32, "ES384": 48, "ES512": 66}

Rewrite = Callable[[bytes, Harness], bytes]


def of_integers(algorithm: str, rewrite: Callable[[int, int, int], tuple[int, int]]) -> Rewrite:
    """Rewrite r and s, given the order, at their usual lengths."""
    size, order = OCTETS[algorithm], ORDERS[algorithm]

    def octets(signature: bytes, _: Harness) -> bytes:
        r, s = (int.from_bytes(half, "big") for half in (signature[:size], signature[size:]))
        r, s = rewrite(r, s, order)
        halves = [(each & (1 << 8 * size) - 1).to_bytes(size, "big") for each in (r, s)]
        return b"".join(halves)

    return octets


# The signature of which nothing but r = s = 0 is known was once accepted by Java (CVE-2022-21449).
INTEGERS: dict[str, Callable[[int, int, int], tuple[int, int]]] = {
    "r = s = 0": lambda _r, _s, _n: (0, 0),
    "r = 0": lambda _r, s, _n: (0, s),
    "s = 0": lambda r, _s, _n: (r, 0),
    "r = s = n": lambda _r, _s, n: (n, n),
    "r = n": lambda _r, s, n: (n, s),
    "s = n": lambda r, _s, n: (r, n),
    "r = s = 1": lambda _r, _s, _n: (1, 1),
    "r = s = n - 1": lambda _r, _s, n: (n - 1, n - 1),
    "r = n + 1": lambda _r, s, n: (n + 1, s),
    "r + n": lambda r, s, n: (r + n, s),
    "s + n": lambda r, s, n: (r, s + n),
    "n - r": lambda r, s, n: (n - r, s),
    "r and s swapped": lambda r, s, _n: (s, r),
    "all bits set": lambda _r, _s, _n: (-1, -1),
    "r + 1": lambda r, s, _n: (r + 1, s),
    "s + 1": lambda r, s, _n: (r, s + 1),
    "-s": lambda r, s, _n: (r, -s),
}
# What any algorithm gets.
LENGTHS: dict[str, Rewrite] = {
    "empty": lambda _octets, _: b"",
    "one octet": lambda octets, _: octets[:1],
    "half": lambda octets, _: octets[: len(octets) // 2],
    "an octet less": lambda octets, _: octets[:-1],
    "an octet more": lambda octets, _: octets + b"\0",
    "a zero in front": lambda octets, _: b"\0" + octets,
    "a zero in front and an octet less": lambda octets, _: b"\0" + octets[:-1],
    "twice as long": lambda octets, _: octets + bytes(len(octets)),
    "8 KB": lambda octets, _: octets + bytes(8000),
    "all zeros": lambda octets, _: bytes(len(octets)),
    "all ones": lambda octets, _: b"\xff" * len(octets),
    "one bit changed at the start": lambda octets, _: bytes([octets[0] ^ 1]) + octets[1:],
    "one bit changed at the end": lambda octets, _: octets[:-1] + bytes([octets[-1] ^ 1]),
    "of another token": lambda _octets, harness: _other_signature(harness),
}
# Of RSA: the number that is the signature, given the modulus.
NUMBERS: dict[str, Callable[[int, int], int]] = {
    "0": lambda _s, _n: 0,
    "1": lambda _s, _n: 1,
    "n": lambda _s, n: n,
    "n - 1": lambda _s, n: n - 1,
    "n + 1": lambda _s, n: n + 1,
    "n - s": lambda s, n: n - s,
    "s + n": lambda s, n: s + n,
    "2 s": lambda s, n: 2 * s % n,
    "s squared": lambda s, n: s * s % n,
}


def _other_signature(harness: Harness) -> bytes:
    return base64url.decode(harness.token(sub="other").rpartition(".")[2].encode())


def _der(algorithm: str) -> dict[str, Rewrite]:
    size = OCTETS[algorithm]

    def der(octets: bytes, _: Harness) -> bytes:
        r, s = (int.from_bytes(half, "big") for half in (octets[:size], octets[size:]))
        return encode_dss_signature(r, s)

    return {
        "in DER": der,
        "in DER, cut to the usual length": lambda octets, h: der(octets, h)[: 2 * size],
        "in DER, filled to the usual length": lambda octets, h: der(octets, h).ljust(
            2 * size, b"\0"
        ),
        "with the integers' zeros": lambda octets, _: b"\0" + octets[:size] + b"\0" + octets[size:],
        "without zeros in front": lambda octets, _: octets.lstrip(b"\0")[:-1],
        "r alone": lambda octets, _: octets[:size],
        "little-endian": lambda octets, _: octets[:size][::-1] + octets[size:][::-1],
    }


def rsa_number(change: Callable[[int, int], int]) -> Rewrite:
    def octets(signature: bytes, harness: Harness) -> bytes:
        modulus = harness.issuer.key.private.public_key().public_numbers().n
        number = change(int.from_bytes(signature, "big"), modulus)
        return number.to_bytes(max(len(signature), (number.bit_length() + 7) // 8), "big")

    return octets


# The encodings of points of Ed25519 whose order divides 8, with either sign.
SMALL_ORDER_POINTS = tuple(
    bytes.fromhex(text)
    for text in (
        "0000000000000000000000000000000000000000000000000000000000000000",
        "0100000000000000000000000000000000000000000000000000000000000000",
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "0000000000000000000000000000000000000000000000000000000000000080",
        "0100000000000000000000000000000000000000000000000000000000000080",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
        "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
        "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
    )
)


def _s_of_ed25519(change: Callable[[int], int]) -> Rewrite:
    def octets(signature: bytes, _: Harness) -> bytes:
        s = change(int.from_bytes(signature[32:], "little"))
        return signature[:32] + s.to_bytes(32, "little")

    return octets


def _fixed(signature: bytes) -> Rewrite:
    return lambda _octets, _harness: signature


ED25519: dict[str, Rewrite] = {
    "S + L": _s_of_ed25519(lambda s: s + ED25519_ORDER),
    "S + 8 L": _s_of_ed25519(lambda s: (s + 8 * ED25519_ORDER) % 2**256),
    "S = L": _s_of_ed25519(lambda _: ED25519_ORDER),
    "S = 0": _s_of_ed25519(lambda _: 0),
    "L - S": _s_of_ed25519(lambda s: ED25519_ORDER - s),
    "the highest bit of S": _s_of_ed25519(lambda s: s | 2**255),
    "the sign of R changed": lambda octets, _: (
        octets[:31] + bytes([octets[31] ^ 0x80]) + octets[32:]
    ),
    **{
        f"R of small order {point.hex()[:4]}{point.hex()[-2:]}, S = {s}": _fixed(
            point + s.to_bytes(32, "little")
        )
        for point in SMALL_ORDER_POINTS
        for s in (0, 1)
    },
}


def _rows() -> Iterator[Attack]:
    for algorithm in ("RS256", "PS256", "ES256", "ES384", "ES512", "EdDSA", "ML-DSA-44"):
        changes = dict(LENGTHS)
        if algorithm in ORDERS:
            changes |= {name: of_integers(algorithm, each) for name, each in INTEGERS.items()}
            changes |= _der(algorithm)
        if algorithm[:2] in {"RS", "PS"}:
            changes |= {f"the number {name}": rsa_number(each) for name, each in NUMBERS.items()}
        if algorithm == "EdDSA":
            changes |= ED25519
        for name, rewrite in changes.items():
            yield Attack(
                id=f"JWT-12 {algorithm}, signature {name}",
                hostile=resigned(rewrite),
                options={"algorithm": algorithm},
            )


TABLE = list(_rows())
