"""Guard and server in one process: keys and introspection without HTTP."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

import pytest
import trio

from bearerguard import (
    ConfigurationError,
    FetchFailed,
    Guard,
    Issuer,
    Request,
    Response,
    TokenError,
)
from bearerguard.runtime.flow import Fetch
from bearerguard.server import Resource
from bearerguard.server.hosting import embedding
from bearerguard.testing import LocalIssuer
from tests.server.harness import FORM, ISSUER, Harness, Make
from tests.warm import recalled


class NoNetwork:
    """A transport that a test must not need."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def fetch(self, request: Fetch) -> Response:
        self.asked.append(request.url)
        raise FetchFailed(request.url)

    async def afetch(self, request: Fetch) -> Response:
        return self.fetch(request)


def own_token(harness: Harness, **fields: Any) -> str:
    token: str = harness.token(grant_type="client_credentials", **fields).json["access_token"]
    return token


@pytest.mark.parametrize(
    "issuer",
    [ISSUER, ISSUER + "/tenant/one", "http://127.0.0.1:8000", "http://auth.internal"],
)
def test_a_guard_in_the_same_process_needs_no_network(make: Make, issuer: str) -> None:
    harness = make(issuer=issuer, insecure_allow_http=issuer.endswith("internal"))
    network = NoNetwork()
    with Guard(harness.server.issuer(), clock=harness.clock, transport=network) as guard:
        assert guard.verify(own_token(harness)).client_id == harness.app.client_id
        assert guard.health()["fresh"]
    assert network.asked == []


@pytest.mark.parametrize("run", [asyncio.run, trio.run], ids=["asyncio", "trio"])
def test_a_guard_in_an_event_loop_needs_no_network(harness: Harness, run: Any) -> None:
    token = own_token(harness)

    async def verify() -> str | None:
        async with Guard(
            harness.server.issuer(), clock=harness.clock, transport=NoNetwork()
        ) as guard:
            return (await guard.averify(token)).client_id

    assert run(verify if run is trio.run else verify()) == harness.app.client_id


def test_a_key_that_takes_over_is_known_at_once(harness: Harness) -> None:
    with Guard(harness.server.issuer(), clock=harness.clock, transport=NoNetwork()) as guard:
        guard.verify(own_token(harness))
        harness.server.keys.rotate(immediately=True)
        assert guard.verify(own_token(harness)).subject_kind == "client"


def test_another_issuer_of_the_guard_is_fetched_over_its_transport(harness: Harness) -> None:
    other = LocalIssuer("https://other.example.com", audience=ISSUER, clock=harness.clock)
    with Guard(
        harness.server.issuer(), other.issuer(), clock=harness.clock, transport=other.transport()
    ) as guard:
        assert guard.verify(other.token()).issuer == other.url
        assert guard.verify(own_token(harness)).issuer == ISSUER
    assert sum(other.hits.values()) == 2


def test_the_audience_is_the_first_resource_or_the_one_given(make: Make) -> None:
    first, second = "https://a.example.com", "https://b.example.com"
    harness = make(resources=[first, second])
    given = harness.server.issuer(audience=second, strict=True)
    assert isinstance(given, Issuer)
    assert given.strict
    for issuer, audience, other in (
        (harness.server.issuer(), first, second),
        (given, second, first),
    ):
        accepted, refused = (
            harness.token(grant_type="client_credentials", resource=each).json["access_token"]
            for each in (audience, other)
        )
        with Guard(issuer, clock=harness.clock) as guard:
            assert guard.verify(accepted).client_id == harness.app.client_id
            with pytest.raises(TokenError, match="wrong_audience"):
                guard.verify(refused)
    with pytest.raises(ConfigurationError, match="leeway="):
        harness.server.issuer(leeway=-1)


def test_a_guard_introspects_opaque_tokens_without_credentials(
    make: Make,
) -> None:
    harness = make(resources=[Resource(ISSUER, tokens="opaque")])
    local = embedding.InProcess(harness.server._engine, 2)
    url = f"{ISSUER}/oauth/introspect"

    def ask(token: str) -> dict[str, Any]:
        body = urlencode({"token": token}).encode()
        request = Fetch("POST", url, (("Content-Type", FORM),), body)
        assert local.serves(request)
        content: dict[str, Any] = json.loads(local.fetch(request).body)
        return content

    token = own_token(harness)
    known = ask(token)
    assert (known["active"], known["aud"], known["client_id"]) == (
        True,
        ISSUER,
        harness.app.client_id,
    )
    harness.server.revoke(token)
    assert ask(token) == ask("unknown") == {"active": False}
    harness.store.rename("access_tokens", "elsewhere")
    broken = local.fetch(Fetch("POST", url, (), b"token=" + token.encode()))
    assert broken.status == 503
    # Over HTTP the same request is nobody's.
    outside = harness.server.handle(
        Request("POST", "/oauth/introspect", {"Content-Type": FORM}, b"token=x")
    )
    assert outside.status == 401


@pytest.mark.parametrize(
    "url",
    [
        "https://other.example.com/oauth/jwks",
        "http://api.example.com/oauth/jwks",
        "https://api.example.com:444/oauth/jwks",
        "https://api.example.com/api/v1",
    ],
)
def test_only_the_servers_own_urls_are_handled(harness: Harness, url: str) -> None:
    assert not embedding.InProcess(harness.server._engine, 2).serves(Fetch("GET", url))


def test_a_listener_that_fails_or_is_gone_harms_no_revocation(harness: Harness) -> None:
    class Listener:
        def revoke(self, revoked: Any) -> None:
            raise ConnectionError(str(revoked))

    listener = Listener()
    embedding.InProcess(harness.server._engine, 2).on_revocation(listener.revoke)
    tokens = harness.tokens()
    assert harness.server.revoke(tokens["access_token"])
    assert not harness.is_active(tokens["access_token"])
    (event,) = harness.named("revocation_not_notified")
    assert event.details == {"kind": "jti", "cause": "ConnectionError", "by": "app"}
    del listener
    assert harness.server.revoke(tokens["refresh_token"])
    assert len(harness.named("revocation_not_notified")) == 1


def test_a_revocation_has_the_names_of_the_guards_arguments(harness: Harness) -> None:
    notified: list[Mapping[str, Any]] = []
    embedding.InProcess(harness.server._engine, 2).on_revocation(notified.extend)
    tokens = harness.tokens()
    known = harness.introspect(tokens["access_token"])
    harness.server.revoke(tokens["access_token"])
    harness.server.revoke(tokens["refresh_token"])
    harness.server.revoke_user(user_id="ada")
    harness.server.clients.remove(harness.phone.client_id)
    logged = [row[0] for row in harness.store.run("SELECT expires_at FROM revocations")]
    assert notified == [
        {"token_id": known["jti"], "issuer": ISSUER, "expires_at": logged[0]},
        {"session_id": known["sid"], "issuer": ISSUER, "expires_at": logged[1]},
        {"subject": "ada", "issuer": ISSUER, "expires_at": logged[2]},
        {"client_id": harness.phone.client_id, "issuer": ISSUER, "expires_at": logged[3]},
    ]


def test_a_revocation_ends_a_jwt_at_once_in_the_guard_beside_the_server(harness: Harness) -> None:
    with Guard(harness.server.issuer(), clock=harness.clock, transport=NoNetwork()) as guard:
        single, others = own_token(harness), harness.tokens()["access_token"]
        assert guard.verify(single).client_id == harness.app.client_id
        assert guard.verify(others).subject == "ada"
        harness.server.revoke(single)
        with pytest.raises(TokenError, match="revoked"):
            guard.verify(single)
        assert recalled(guard, f"Bearer {single}") is None
        assert guard.verify(others).subject == "ada"
        harness.server.revoke_user(user_id="ada")
        with pytest.raises(TokenError, match="revoked"):
            guard.verify(others)


def test_an_opaque_token_is_introspected_in_process_until_it_is_revoked(make: Make) -> None:
    harness = make(resources=[Resource(ISSUER, tokens="opaque")])
    with Guard(harness.server.issuer(), clock=harness.clock, transport=NoNetwork()) as guard:
        token = own_token(harness)
        assert token.count(".") != 2
        assert guard.verify(token).client_id == harness.app.client_id
        harness.server.revoke(token)
        with pytest.raises(TokenError, match="revoked"):
            guard.verify(token)
        with pytest.raises(TokenError, match="inactive"):
            guard.verify("made-up")
