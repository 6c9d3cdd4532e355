"""Grants of an operator's own: registered by one call, and like the server's own in all else."""

from __future__ import annotations

from typing import Any

import pytest

from bearerguard import ConfigurationError, Guard, TokenError
from bearerguard.server import Client, OAuthError, Parameters, Resource, TokenIssuer, TokenResponse
from bearerguard.server.administration import Administration
from tests.server.harness import ISSUER, SECRET, Harness, Make, claims

BADGE = "https://example.com/grants/badge"


class BadgeGrant:
    """Whoever shows a badge gets tokens for the user whose badge it is."""

    grant_type = BADGE

    def __init__(self, tokens: TokenIssuer, **options: Any) -> None:
        self._tokens = tokens
        self._options = options

    def handle(self, client: Client, parameters: Parameters) -> TokenResponse:
        badge = parameters.required("badge")
        if not badge.startswith("badge of "):
            raise OAuthError("invalid_grant", "The badge is not known", reason="unknown_badge")
        subject = badge.removeprefix("badge of ")
        return self._tokens.issue(client, parameters, subject=subject, **self._options)


def badged(harness: Harness, **options: Any) -> Harness:
    """Return the harness with a client of the badge grant as its app."""
    harness.server.grants.register(BadgeGrant(harness.server.tokens, **options))
    harness.app = harness.add("Badge reader", grant_types=[BADGE, "refresh_token"])
    return harness


def ask(harness: Harness, badge: str | None = "badge of eve", **fields: Any) -> Any:
    return harness.token(grant_type=BADGE, badge=badge, **fields)


def test_a_guard_accepts_its_tokens(harness: Harness) -> None:
    response = ask(badged(harness), scope="read")
    assert response.status == 200
    assert response.json["scope"] == "read"
    assert "refresh_token" not in response.json
    with Guard(harness.server.issuer(), clock=harness.clock) as guard:
        principal = guard.verify(response.json["access_token"])
    assert (principal.subject, principal.client_id) == ("eve", harness.app.client_id)
    assert principal.scopes == {"read"}


@pytest.mark.parametrize("tokens", ["jwt", "opaque"])
def test_its_tokens_end_when_the_user_is_revoked(make: Make, tokens: Any) -> None:
    harness = badged(make(resources=[Resource(ISSUER, tokens=tokens)]))
    token = ask(harness).json["access_token"]
    assert harness.is_active(token)
    assert harness.server.revoke_user(user_id="eve") == 1
    assert not harness.is_active(token)


def test_it_may_issue_refresh_tokens(harness: Harness) -> None:
    first = ask(badged(harness, refreshable=True)).json
    second = harness.refresh(first["refresh_token"]).json
    assert claims(second["access_token"])["sub"] == "eve"
    assert harness.server.revoke(second["refresh_token"])
    assert not harness.is_active(first["access_token"])


def test_a_client_gets_a_refresh_token_only_if_it_is_registered_for_that(harness: Harness) -> None:
    badged(harness, refreshable=True)
    harness.app = harness.add("Gate", grant_types=[BADGE])
    assert "refresh_token" not in ask(harness).json


def test_it_may_give_less_than_the_client_may_have(harness: Harness) -> None:
    badged(harness, scopes=["read"])
    assert ask(harness).json["scope"] == "read"
    assert ask(harness, scope="read write").json["scope"] == "read"
    assert ask(harness, scope="write").error == (400, "invalid_scope")


def test_what_it_refuses_is_reported_with_its_reason(harness: Harness) -> None:
    badged(harness)
    assert ask(harness, "something else").error == (400, "invalid_grant")
    assert ask(harness, None).error == (400, "invalid_request")
    reasons = [event.details["reason"] for event in harness.named("request_refused")]
    assert reasons == ["unknown_badge", "missing_parameter"]


def test_a_token_of_the_clients_own_has_no_grant(harness: Harness) -> None:
    badged(harness)
    token = ask(harness, f"badge of {harness.app.client_id}").json["access_token"]
    assert "sid" not in claims(token)


def test_the_subject_cannot_be_another_client(harness: Harness) -> None:
    badged(harness)
    response = ask(harness, f"badge of {harness.phone.client_id}")
    assert response.error == (400, "invalid_grant")


def test_a_disabled_user_gets_none(harness: Harness) -> None:
    badged(harness)
    account = harness.server.users.add("mallory", password="correct horse battery")
    badge = f"badge of {account.user_id}"
    assert ask(harness, badge).status == 200
    harness.server.disable_user("mallory")
    assert ask(harness, badge).error == (400, "invalid_grant")


def test_a_client_must_be_registered_for_it(harness: Harness) -> None:
    app = harness.app
    badged(harness)
    harness.app = app
    assert ask(harness).error == (400, "unauthorized_client")


def test_a_client_cannot_be_registered_for_a_grant_that_is_not_there(harness: Harness) -> None:
    with pytest.raises(ConfigurationError, match=r"grant_types=.*is none of authorization_code"):
        harness.add("Badge reader", grant_types=[BADGE])


def test_the_metadata_name_it(harness: Harness) -> None:
    path = "/.well-known/oauth-authorization-server"
    before = harness.send("GET", path).json["grant_types_supported"]
    badged(harness)
    assert harness.send("GET", path).json["grant_types_supported"] == [*before, BADGE]


def test_its_clients_can_be_added_where_the_store_is_administered(harness: Harness) -> None:
    badged(harness)
    with Administration(harness.store.url, secret=SECRET) as administration:
        harness.app = administration.clients.add(
            "Badge reader", grant_types=[BADGE], scopes=["read"]
        )
        with pytest.raises(ConfigurationError, match="grant_types="):
            administration.clients.add("Badge reader", grant_types=["badge"])
    assert ask(harness).status == 200


def test_without_the_grant_its_clients_are_refused_as_by_any_server(harness: Harness) -> None:
    badged(harness)
    server = harness.another()
    harness.server.close()
    harness.server = server
    assert ask(harness).error == (400, "unsupported_grant_type")
    server.close()


class Nameless(BadgeGrant):
    grant_type = "badge"


class Known(BadgeGrant):
    grant_type = "refresh_token"


@pytest.mark.parametrize(
    ("grant", "wrong"),
    [
        (Nameless, "no absolute URI"),
        (Known, "already"),
        (lambda _: BadgeGrant, "pass an object"),
        (lambda _: object(), "pass an object"),
    ],
)
def test_what_is_no_grant_is_refused_at_once(harness: Harness, grant: Any, wrong: str) -> None:
    with pytest.raises(ConfigurationError, match=wrong):
        harness.server.grants.register(grant(harness.server.tokens))
    assert list(harness.server.grants) == list(harness.another().grants)
    assert len(harness.server.grants) == 5


def test_a_refused_token_says_what_a_guard_says(harness: Harness) -> None:
    token = ask(badged(harness)).json["access_token"]
    harness.server.revoke(token)
    with (
        Guard(harness.server.issuer(), clock=harness.clock) as guard,
        pytest.raises(TokenError, match="revoked"),
    ):
        guard.verify(token)


@pytest.mark.parametrize(
    "options",
    [
        *({"subject": each} for each in ("", None, "e" * 256, "e\0", "e\ud800")),
        {"scopes": "read"},
    ],
)
def test_a_token_without_a_usable_user_or_with_letters_as_scopes_is_not_issued(
    harness: Harness, options: Any
) -> None:
    badged(harness)
    given: dict[str, Any] = {"subject": "eve", **options}
    parameters = Parameters({"grant_type": BADGE})
    with pytest.raises(ConfigurationError, match=f"{next(iter(options))}="):
        harness.server.tokens.issue(harness.app.client, parameters, **given)


class BrokenGrant(BadgeGrant):
    def handle(self, client: Client, parameters: Parameters) -> Any:
        if parameters.get("badge") == "none":
            return "a token"
        raise ValueError("badge of eve")


@pytest.mark.parametrize("badge", ["none", "other"])
def test_a_grant_that_fails_is_the_servers_fault(
    harness: Harness, badge: str, caplog: pytest.LogCaptureFixture
) -> None:
    harness.server.grants.register(BrokenGrant(harness.server.tokens))
    harness.app = harness.add("Door", grant_types=[BADGE])
    assert ask(harness, badge).status == 503
    assert f"the grant '{BADGE}'" in caplog.text
