"""Opaque tokens of a certified issuer: introspected, revoked, and in herds."""

from __future__ import annotations

import json
import secrets
import threading
from typing import Any

import anyio
import httpx2
import pytest

from bearerguard import Guard, Introspection, Issuer, IssuerUnavailable, TokenError
from bearerguard.testing import SigningKey
from tests.conformance.introspection_table import pem
from tests.examples.servers import serving
from tests.peers.conftest import OidcProvider, bearer, oidc_provider

OPAQUE = "urn:api:opaque"
PATH = "/api/v1/recordings"
SECRET = "api: secret+with %signs"
HERD = 1000


def guard_of(issuer: OidcProvider, audience: Any = OPAQUE, **options: Any) -> Guard:
    tokens = options.pop("tokens", "auto")
    how = Introspection(**{"client_id": "api", "client_secret": SECRET, **options})
    return Guard(Issuer(issuer.url, audience=audience, introspection=how, tokens=tokens))


@pytest.mark.parametrize("auth_method", [None, "client_secret_basic"])
def test_an_opaque_token_says_what_the_issuer_says_of_it(
    auth_method: str | None, issuer: OidcProvider
) -> None:
    token = issuer.token("opaque", scope="read write")
    assert "." not in token
    with guard_of(issuer, auth_method=auth_method) as guard:
        principal = guard.verify(token)
        assert principal.issuer == issuer.url
        assert (principal.subject, principal.client_id) == (None, "caller")
        assert principal.subject_kind == "client"
        assert principal.scopes == {"read", "write"}
        assert 3500 < (principal.expires_in() or 0) <= 3600
        assert guard.verify(token) is principal
    assert issuer.introspections == 1


def test_signed_answers_are_verified_with_its_keys(issuer: OidcProvider) -> None:
    token = issuer.token("opaque")
    with guard_of(
        issuer, client_id="signed-api", client_secret="api-secret", signed_responses=True
    ) as guard:
        assert guard.verify(token).client_id == "caller"
        with pytest.raises(TokenError, match="inactive"):
            guard.verify("made-up")


def test_it_believes_our_assertions_each_once() -> None:
    key = SigningKey.generate("ES256", "api-key")
    with oidc_provider(API_JWK=json.dumps(key.jwk())) as issuer:
        how: dict[str, Any] = {
            "client_id": "keyed-api",
            "client_secret": None,
            "private_key": pem(key.private),
            "private_key_id": "api-key",
        }
        with guard_of(issuer, **how) as guard:
            for _ in range(3):  # each assertion is a new one
                assert guard.verify(issuer.token("opaque")).client_id == "caller"
            token = issuer.token("opaque")
            issuer.delay(300)
            found: list[str] = []

            async def ask() -> None:
                found.append((await guard.averify(token)).identity)

            async def main() -> None:
                async with guard, anyio.create_task_group() as group:
                    for _ in range(HERD):
                        group.start_soon(ask)

            before = issuer.introspections
            anyio.run(main)
            assert found == ["caller"] * HERD
            assert issuer.introspections - before == 1

            token = issuer.token("opaque")
            threads = [threading.Thread(target=guard.verify, args=(token,)) for _ in range(200)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert issuer.introspections - before == 2


def test_a_token_that_it_revoked_is_refused_when_the_answer_is_old(issuer: OidcProvider) -> None:
    token = issuer.token("opaque")
    with guard_of(issuer, cache_ttl=0) as always, guard_of(issuer, cache_ttl=60) as remembering:
        always.verify(token)
        remembering.verify(token)
        issuer.revoke(token)
        with pytest.raises(TokenError, match="inactive"):
            always.verify(token)
        assert remembering.verify(token).client_id == "caller"  # until the minute is over


def test_a_token_for_another_api_is_refused(issuer: OidcProvider) -> None:
    with (
        guard_of(issuer, audience="urn:api:another") as guard,
        pytest.raises(TokenError, match="wrong_audience"),
    ):
        guard.verify(issuer.token("opaque"))


def test_jwts_and_opaque_tokens_side_by_side(issuer: OidcProvider) -> None:
    with guard_of(issuer, audience=[OPAQUE, "urn:api:ES256"]) as guard:
        assert guard.verify(issuer.token("ES256")).client_id == "caller"
        assert issuer.introspections == 0
        assert guard.verify(issuer.token("opaque")).client_id == "caller"
        with pytest.raises(TokenError, match="bad_signature"):
            guard.verify(issuer.token("ES256")[:-8] + "AAAAAAAA")
        assert issuer.introspections == 1


def test_INT_05_it_does_not_introspect_jwts_and_that_is_nobodys_outage(
    issuer: OidcProvider,
) -> None:
    with guard_of(issuer, audience=[OPAQUE, "urn:api:ES256"], tokens="opaque") as guard:
        for _ in range(5):
            with pytest.raises(TokenError, match="unsupported_token_type"):
                guard.verify(issuer.token("ES256"))
        assert guard.verify(issuer.token("opaque")).client_id == "caller"


def test_wrong_credentials_of_ours_are_503_and_not_the_tokens_fault(issuer: OidcProvider) -> None:
    with (
        guard_of(issuer, client_secret="wrong") as guard,
        pytest.raises(IssuerUnavailable, match="invalid_client"),
    ):
        guard.verify(issuer.token("opaque"))


@pytest.mark.parametrize("server", ["uvicorn", "waitress"])
def test_the_examples_take_opaque_tokens_by_settings_alone(
    server: str, issuer: OidcProvider
) -> None:
    settings = {
        "INTROSPECTION_CLIENT_ID": "api",
        "INTROSPECTION_CLIENT_SECRET": SECRET,
        "INTROSPECTION_CACHE_TTL": "600",
    }
    with (
        serving(server, issuer.url, OPAQUE, **settings) as url,
        httpx2.Client(base_url=url) as client,
    ):
        token = issuer.token("opaque")
        for _ in range(3):
            assert client.get(PATH, headers=bearer(token)).status_code == 200
        assert issuer.introspections == 1
        assert client.post(PATH, headers=bearer(token)).status_code == 403
        refused = client.get(PATH, headers=bearer("made-up"))
        assert refused.status_code == 401
        assert 'error="invalid_token"' in refused.headers["www-authenticate"]
        issuer.outage(on=True)
        assert client.get(PATH, headers=bearer(token)).status_code == 200
        for _ in range(10):
            answer = client.get(PATH, headers=bearer(secrets.token_urlsafe(32)))
            assert answer.status_code == 503
            assert int(answer.headers["retry-after"]) >= 1
        assert issuer.introspections <= 1 + 1 + 3
        issuer.outage(on=False)
