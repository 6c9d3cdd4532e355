"""Public test vectors: Project Wycheproof's (see vectors/NOTICE), and those of RFC 7515."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bearerguard.protocol.jose import base64url, jwk

VECTORS = json.loads((Path(__file__).parent / "vectors" / "wycheproof.json").read_text())
# RFC 7515 appendix A.1
HS256_KEY = "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow"
HS256_TOKEN = (
    b"eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9."
    b"eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ."
    b"dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
)


def cases() -> Iterator[Any]:
    for group in VECTORS:
        for test in group["tests"]:
            name = f"{group['alg']}-{test['tcId']}-{test['comment'][:40]}"
            yield pytest.param(group, test, id=name)


def octets(text: str) -> bytes:
    return base64url.decode(text.encode())


def is_accepted(group: dict[str, Any], test: dict[str, Any]) -> bool:
    try:
        key = jwk.parse_jwk({**group["jwk"], "alg": group["alg"]})
    except ValueError:
        return False  # a key that verifies nothing
    return key.verifies(group["alg"], octets(test["msg"]), octets(test["sig"]))


@pytest.mark.parametrize(("group", "test"), [*cases()])
def test_JWT_12_a_signature_is_judged_as_wycheproof_says(
    group: dict[str, Any], test: dict[str, Any]
) -> None:
    found = is_accepted(group, test)
    if test["result"] == "acceptable":
        # Legal by some readings: a key of small order, or a digest without its NULL. Both refused.
        strict = {"SmallOrderPublicKey", "MissingNull"} & set(test["flags"])
        assert found is not bool(strict)
    else:
        assert found is (test["result"] == "valid")


def test_every_algorithm_has_vectors_of_both_kinds() -> None:
    results = Counter(
        (group["alg"], test["result"]) for group in VECTORS for test in group["tests"]
    )
    print(dict(results))
    for algorithm in ("ES256", "ES384", "ES512", "EdDSA", "RS256", "PS256", "ML-DSA-44"):
        assert results[algorithm, "valid"] >= 2
        assert results[algorithm, "invalid"] >= 5


def test_JWT_12_the_hmac_of_rfc_7515_is_verified() -> None:
    signing_input, _, signature = HS256_TOKEN.rpartition(b".")
    key = jwk.from_secret(octets(HS256_KEY))
    assert key.verifies("HS256", signing_input, base64url.decode(signature))
    assert not key.verifies("HS256", signing_input + b"x", base64url.decode(signature))
