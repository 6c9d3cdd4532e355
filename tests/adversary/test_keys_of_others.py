"""Two issuers, and one key: whose key a token needs is decided by its issuer (JWT-06, JWKS-06)."""

from __future__ import annotations

import pytest

from bearerguard import Guard, Revocations
from bearerguard.runtime.flow import Fetch
from bearerguard.runtime.messages import Response
from bearerguard.testing import LocalIssuer, SigningKey
from tests.adversary.attack import PARSERS, parsing
from tests.conformance.drivers import DRIVERS, Protected, Received, Sent
from tests.conformance.harness import Clock, bearer, twisted

CLOCK = Clock()


class Both:
    """A transport to several issuers in this process."""

    def __init__(self, *issuers: LocalIssuer) -> None:
        self._issuers = issuers

    def fetch(self, request: Fetch) -> Response:
        (issuer,) = (each for each in self._issuers if each.serves(request.url))
        return issuer.transport().fetch(request)

    async def afetch(self, request: Fetch) -> Response:
        return self.fetch(request)


def issuers() -> tuple[LocalIssuer, LocalIssuer]:
    return (
        LocalIssuer("https://good.test", algorithm="ES256", clock=CLOCK),
        LocalIssuer("https://other.test", algorithm="ES256", clock=CLOCK),
    )


def sent(driver: str, guard: Guard, token: str) -> Received:
    return DRIVERS[driver](Protected(guard, {}, ()), Sent(bearer(token)))


@pytest.mark.parametrize("parsers", PARSERS)
@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize("warm", [False, True])
def test_JWT_06_the_key_of_one_trusted_issuer_signs_nothing_for_another(
    driver: str, warm: bool, parsers: str
) -> None:
    good, other = issuers()
    assert good.key.kid == other.key.kid, "the attacker chooses the same kid"
    with (
        parsing(parsers),
        Guard(good.issuer(), other.issuer(), transport=Both(good, other), clock=CLOCK) as guard,
    ):
        if warm:  # so that both headers, which are the same octets, are known
            assert sent(driver, guard, good.token()).status == 200
            assert sent(driver, guard, other.token()).status == 200
        forged = other.token(claims={"iss": good.url, "sub": "admin"})
        refused = sent(driver, guard, forged)
        assert refused.status == 401
        assert b"invalid_token" in refused.body
        for issuer in (good, other):
            assert sent(driver, guard, issuer.token()).status == 200
        assert sent(driver, guard, forged).status == 401


@pytest.mark.parametrize("driver", DRIVERS)
def test_JWT_06_a_key_that_both_publish_is_used_for_the_issuer_that_the_token_names(
    driver: str,
) -> None:
    # An issuer may publish whatever it likes: a copy of another's public key gains it nothing.
    good, other = issuers()
    other.extra_keys = [{**good.key.jwk(), "kid": "copied"}]
    with Guard(good.issuer(), other.issuer(), transport=Both(good, other), clock=CLOCK) as guard:
        forged = other.token(claims={"iss": good.url}, header={"kid": "copied"})
        assert sent(driver, guard, forged).status == 401
        assert sent(driver, guard, good.token()).status == 200


@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize("names", ["token", "token_id", "subject", "client_id"])
def test_JWT_15_a_malleable_signature_escapes_no_revocation(driver: str, names: str) -> None:
    # s and n - s are both valid: two texts of one token, which are revoked together.
    good, _ = issuers()
    with good.guard(revocations=Revocations()) as guard:
        token = good.token(claims={"jti": "one"})
        other = twisted(token)
        assert other != token
        for text in (token, other):
            assert sent(driver, guard, text).status == 200
        values = {"token": token, "token_id": "one", "subject": "user", "client_id": "app"}
        CLOCK.now += 1
        guard.revoke(**{names: values[names]})  # type: ignore[arg-type]
        for text in (other, token, other):
            assert sent(driver, guard, text).status == 401
        signed_again = good.token(claims={"jti": "one", "iat": int(CLOCK.now) - 60})
        assert sent(driver, guard, twisted(signed_again)).status == 401
        assert sent(driver, guard, good.token(subject="x", client_id="x")).status == 200


@pytest.mark.parametrize("driver", DRIVERS)
def test_JWKS_04_a_key_that_was_replaced_under_its_kid_signs_nothing_any_more(
    driver: str,
) -> None:
    good, _ = issuers()
    stolen = SigningKey(good.key.algorithm, good.key.kid, good.key.private)
    with good.guard() as guard:
        assert sent(driver, guard, good.token()).status == 200
        good.rotate(keep=False)
        good.rename(stolen.kid)
        CLOCK.now += 400
        guard.warm()
        assert sent(driver, guard, good.token(key=stolen)).status == 401
        assert sent(driver, guard, good.token()).status == 200
