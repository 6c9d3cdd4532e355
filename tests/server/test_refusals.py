"""Every refused OAuth request leaves one line: which endpoint, why, and the value that was wrong.

The table has a row for each way to be refused. What is secret is planted in each request, and
stands in no line and no event.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

import pytest

from bearerguard import Request
from bearerguard.server import Registered, Resource
from bearerguard.testing import SigningKey, sign
from tests.server.harness import CALLBACK, FORM, VERIFIER, Harness, Make, Reply, basic

TOKEN, REVOKE, INTROSPECT = "/oauth/token", "/oauth/revoke", "/oauth/introspect"
AUTHORIZE, CONSENT = "/oauth/authorize", "/oauth/consent"
KEY = SigningKey.generate("ES256", "client-key")
EVIL = "evil\r\nERROR root forged " + "x" * 500
# Whatever has this in it was sent as a secret, and must stand nowhere.
PLANTED = "planted-7f3a"


@dataclass(frozen=True)
class Row:
    """A refused request. `found` is some of what its event must have."""

    send: Callable[[Harness], Reply]
    endpoint: str
    error: str
    reason: str
    found: dict[str, Any] = field(default_factory=dict)
    event: str = "request_refused"


def own(**fields: Any) -> Callable[[Harness], Reply]:
    return lambda harness: harness.token(**({"grant_type": "client_credentials"} | fields))


def link(**fields: Any) -> Callable[[Harness], Reply]:
    return lambda harness: harness.authorize(**fields)


def raw(path: str, body: bytes, kind: str = FORM) -> Callable[[Harness], Reply]:
    return lambda harness: harness.send("POST", path, body, content_type=kind)


def header(value: str) -> Callable[[Harness], Reply]:
    grant = {"grant_type": "client_credentials"}
    return lambda harness: harness.post(TOKEN, grant, authorization=value)


def method(verb: str, path: str) -> Callable[[Harness], Reply]:
    return lambda harness: harness.send(verb, path)


def expired_code(harness: Harness) -> Reply:
    code = harness.code()
    harness.clock.now += 61
    return harness.redeem(code)


def replayed_code(harness: Harness) -> Reply:
    code = harness.code()
    harness.redeem(code)
    harness.redeem(code)
    harness.events.clear()
    return harness.redeem(code)


def code_of_a_disabled_user(harness: Harness) -> Reply:
    account = harness.server.users.add("eve", "a long enough password")
    harness.user = type(harness.user)(account.user_id, "Eve", harness.clock())  # type: ignore[misc]
    code = harness.code()
    # It is on its way while the account is closed.
    digest = harness.server.database
    with digest.write() as connection:
        from sqlalchemy import text

        connection.execute(text("UPDATE users SET disabled_at = 1"))
    return harness.redeem(code)


def code_with_a_verifier_too_many(harness: Harness) -> Reply:
    client = harness.add("Old", require_pkce=False)
    code = harness.code(client, code_challenge=None, code_challenge_method=None)
    return harness.redeem(code, client)


def code_without_its_redirect_uri(harness: Harness) -> Reply:
    client = harness.add("Old", require_pkce=False)
    return harness.redeem(harness.code(client), client, redirect_uri=None)


def reused(harness: Harness) -> Reply:
    first = harness.tokens()["refresh_token"]
    second = harness.refresh(first).json["refresh_token"]
    harness.refresh(second)
    return harness.refresh(first)


def refresh_of_a_disabled_user(harness: Harness) -> Reply:
    account = harness.server.users.add("eve", "a long enough password")
    harness.user = type(harness.user)(account.user_id, "Eve", harness.clock())  # type: ignore[misc]
    token = harness.tokens()["refresh_token"]
    # The process that disabled the user has ended before it revoked the grants.
    harness.store.run("UPDATE users SET disabled_at = 1")
    return harness.refresh(token)


def revoked_refresh_token(harness: Harness) -> Reply:
    token = harness.tokens()["refresh_token"]
    harness.server.revoke(token)
    return harness.refresh(token)


def expired_refresh_token(harness: Harness) -> Reply:
    token = harness.tokens()["refresh_token"]
    harness.clock.now += 31 * 86_400
    return harness.refresh(token)


def another(harness: Harness) -> Registered:
    return harness.add("Another")


def robot(harness: Harness) -> Registered:
    return harness.add("Robot", jwks={"keys": [KEY.jwk()]}, redirect_uris=[])


def assertion(**claims: Any) -> Callable[[Harness], Reply]:
    def send(harness: Harness) -> Reply:
        client = robot(harness)
        usual = {
            "iss": client.client_id,
            "sub": client.client_id,
            "aud": harness.server.settings.issuer,
            "exp": harness.clock() + 60,
            "jti": "1",
        }
        text = sign({"alg": "ES256", "kid": KEY.kid}, usual | claims, KEY)
        kind = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
        fields = {"grant_type": "client_credentials", "client_assertion_type": kind}
        for _ in range(2 if not claims else 1):
            response = harness.post(TOKEN, {**fields, "client_assertion": text})
        return response

    return send


def not_for_the_caller(harness: Harness) -> Reply:
    token = own()(harness).json["access_token"]
    api = harness.add("API", introspects=["https://api.example.com"], redirect_uris=[])
    harness.server = harness.another(
        resources=["https://other.example.com", "https://api.example.com"],
        on_event=harness.events.append,
    )
    token = own(resource="https://other.example.com")(harness).json["access_token"]
    return harness.post(INTROSPECT, harness.credentials(api) | {"token": token})


def two_kinds_of_tokens(harness: Harness) -> Reply:
    jwt, opaque = Resource("https://a.example.com"), Resource("https://b.example.com", "opaque")
    harness.server = harness.another(resources=[jwt, opaque], on_event=harness.events.append)
    fields = [*harness.credentials().items(), ("grant_type", "client_credentials")]
    fields += [("resource", jwt.identifier), ("resource", opaque.identifier)]
    return raw(TOKEN, urlencode(fields).encode())(harness)


def consent(
    change: Callable[[Harness, Reply], Reply],
) -> Callable[[Harness], Reply]:
    return lambda harness: change(harness, harness.authorize(harness.phone))


def signed_out(harness: Harness, page: Reply) -> Reply:
    harness.user = None
    return harness.consent(page)


def gone(harness: Harness, page: Reply) -> Reply:
    harness.server.clients.remove(harness.phone.client_id)
    return harness.consent(page)


def users_id(harness: Harness) -> Reply:
    harness.add("Taken", client_id="ada", redirect_uris=[])
    return harness.authorize()


FAILED = "client_authentication_failed"
ROWS = {
    # Who asks
    "no client": Row(
        lambda s: s.post(TOKEN, {"grant_type": "client_credentials"}),
        TOKEN,
        "invalid_client",
        "no_client_named",
        {},
        FAILED,
    ),
    "unknown client": Row(
        own(client_id=EVIL), TOKEN, "invalid_client", "unknown_client", {"known": False}, FAILED
    ),
    "wrong secret": Row(
        own(client_secret=PLANTED),
        TOKEN,
        "invalid_client",
        "wrong_client_secret",
        {"method": "client_secret_post", "known": True},
        FAILED,
    ),
    "wrong method": Row(
        own(client_secret=None),
        TOKEN,
        "invalid_client",
        "wrong_authentication_method",
        {"method": "none", "registered": "client_secret"},
        FAILED,
    ),
    "two methods": Row(
        lambda s: s.post(
            TOKEN, s.credentials(), authorization=basic(s.app.client_id, s.app.client_secret)
        ),
        TOKEN,
        "invalid_request",
        "two_authentication_methods",
    ),
    "two clients": Row(
        lambda s: s.post(
            TOKEN,
            {"client_id": s.phone.client_id},
            authorization=basic(s.app.client_id, s.app.client_secret),
        ),
        TOKEN,
        "invalid_request",
        "two_clients",
    ),
    "repeated Authorization": Row(
        lambda s: Reply(
            s.server.handle(
                Request(
                    "POST",
                    TOKEN,
                    [("content-type", FORM), ("authorization", "a"), ("authorization", "b")],
                    b"grant_type=x",
                )
            )
        ),
        TOKEN,
        "invalid_request",
        "repeated_authorization",
    ),
    "another scheme": Row(
        header("Bearer " + PLANTED),
        TOKEN,
        "invalid_client",
        "unsupported_authentication_scheme",
        {"scheme": "bearer"},
        FAILED,
    ),
    "no scheme": Row(
        header(PLANTED), TOKEN, "invalid_client", "unsupported_authentication_scheme", {}, FAILED
    ),
    "broken Basic": Row(
        header("Basic " + PLANTED),
        TOKEN,
        "invalid_client",
        "malformed_basic_credentials",
        {},
        FAILED,
    ),
    "unknown assertion type": Row(
        own(client_secret=None, client_assertion=PLANTED, client_assertion_type="saml"),
        TOKEN,
        "invalid_request",
        "unknown_assertion_type",
        {"client_assertion_type": "saml"},
    ),
    "replayed assertion": Row(
        assertion(),
        TOKEN,
        "invalid_client",
        "assertion_replayed",
        {"jti": "1"},
        "assertion_replayed",
    ),
    "assertion for another server": Row(
        assertion(aud="https://x.example"),
        TOKEN,
        "invalid_client",
        "wrong_assertion_audience",
        {"aud": "https://x.example"},
        FAILED,
    ),
    "expired assertion": Row(
        assertion(exp=1), TOKEN, "invalid_client", "assertion_expired", {}, FAILED
    ),
    "public introspection": Row(
        lambda s: s.post(INTROSPECT, {"client_id": s.phone.client_id, "token": PLANTED}),
        INTROSPECT,
        "invalid_client",
        "public_client",
        {},
        FAILED,
    ),
    "introspection without secret": Row(
        lambda s: s.post(INTROSPECT, s.credentials() | {"client_secret": PLANTED, "token": "x"}),
        INTROSPECT,
        "invalid_client",
        "wrong_client_secret",
        {},
        FAILED,
    ),
    "revocation by nobody": Row(
        lambda s: s.post(REVOKE, {"client_id": "nobody", "token": PLANTED}),
        REVOKE,
        "invalid_client",
        "unknown_client",
        {"client_id": "nobody"},
        FAILED,
    ),
    # What is sent
    "GET": Row(method("GET", TOKEN), TOKEN, "invalid_request", "wrong_method", {"method": "GET"}),
    "PUT": Row(method("PUT", REVOKE), REVOKE, "invalid_request", "wrong_method"),
    "OPTIONS": Row(method("OPTIONS", INTROSPECT), INTROSPECT, "invalid_request", "wrong_method"),
    "POST to the JWKS": Row(
        method("POST", "/oauth/jwks"), "/oauth/jwks", "invalid_request", "wrong_method"
    ),
    "JSON": Row(
        raw(TOKEN, b'{"client_secret": "%s"}' % PLANTED.encode(), "application/json"),
        TOKEN,
        "invalid_request",
        "no_form",
        {"content_type": "application/json"},
    ),
    "too large": Row(raw(TOKEN, b"a" * 70_000), TOKEN, "invalid_request", "too_large"),
    "too many": Row(raw(REVOKE, b"a&" * 200), REVOKE, "invalid_request", "too_many_parameters"),
    "percent": Row(
        raw(INTROSPECT, b"token=%zz" + PLANTED.encode()),
        INTROSPECT,
        "invalid_request",
        "malformed_encoding",
    ),
    "UTF-8": Row(raw(TOKEN, b"code=%ff"), TOKEN, "invalid_request", "malformed_utf_8"),
    "NUL": Row(raw(TOKEN, b"code=%00"), TOKEN, "invalid_request", "nul_character"),
    "repeated": Row(
        raw(TOKEN, b"code=1&code=2&scope=&scope="),
        TOKEN,
        "invalid_request",
        "repeated_parameter",
        {"parameter": "code scope"},
    ),
    "repeated secret in the wrong place": Row(
        raw(TOKEN, f"{PLANTED}&{PLANTED}".encode()),
        TOKEN,
        "invalid_request",
        "repeated_parameter",
        {"parameter": "another"},
    ),
    "no grant type": Row(
        own(grant_type=None),
        TOKEN,
        "invalid_request",
        "missing_parameter",
        {"parameter": "grant_type"},
    ),
    "unknown grant type": Row(
        own(grant_type="Client_Credentials" + EVIL),
        TOKEN,
        "unsupported_grant_type",
        "unsupported_grant_type",
    ),
    "a grant of others": Row(
        lambda s: s.token(
            s.add("Code only", grant_types=["authorization_code"]), grant_type="refresh_token"
        ),
        TOKEN,
        "unauthorized_client",
        "grant_type_not_registered",
        {"grant_type": "refresh_token"},
    ),
    "no token to revoke": Row(
        lambda s: s.post(REVOKE, s.credentials()),
        REVOKE,
        "invalid_request",
        "missing_parameter",
        {"parameter": "token"},
    ),
    "no token to introspect": Row(
        lambda s: s.post(INTROSPECT, s.credentials()),
        INTROSPECT,
        "invalid_request",
        "missing_parameter",
        {"parameter": "token"},
    ),
    # Scopes and resources
    "scope": Row(own(scope="admin"), TOKEN, "invalid_scope", "unknown_scope", {"scope": "admin"}),
    "malformed scope": Row(own(scope=EVIL), TOKEN, "invalid_scope", "malformed_scope"),
    "resource": Row(
        own(resource="https://x.example"),
        TOKEN,
        "invalid_target",
        "unknown_resource",
        {"resource": "https://x.example"},
    ),
    "malformed resource": Row(own(resource=EVIL), TOKEN, "invalid_target", "malformed_resource"),
    "two kinds of tokens": Row(
        two_kinds_of_tokens,
        TOKEN,
        "invalid_target",
        "different_tokens",
        {"resource": "https://a.example.com https://b.example.com"},
    ),
    "scope beyond the grant": Row(
        lambda s: s.refresh(s.tokens(scope="read")["refresh_token"], scope="write"),
        TOKEN,
        "invalid_scope",
        "scope_beyond_grant",
        {"scope": "write"},
    ),
    # Codes
    "unknown code": Row(lambda s: s.redeem(PLANTED), TOKEN, "invalid_grant", "unknown_code"),
    "foreign code": Row(
        lambda s: s.redeem(s.code(), another(s)), TOKEN, "invalid_grant", "code_of_another_client"
    ),
    "expired code": Row(expired_code, TOKEN, "invalid_grant", "expired_code", {"seconds": 1}),
    "used code": Row(replayed_code, TOKEN, "invalid_grant", "code_replayed", {"user_id": "ada"}),
    "disabled user": Row(code_of_a_disabled_user, TOKEN, "invalid_grant", "user_disabled"),
    "disabled user's refresh": Row(
        refresh_of_a_disabled_user, TOKEN, "invalid_grant", "user_disabled"
    ),
    "no verifier": Row(
        lambda s: s.redeem(s.code(), code_verifier=None),
        TOKEN,
        "invalid_grant",
        "missing_code_verifier",
    ),
    "wrong verifier": Row(
        lambda s: s.redeem(s.code(), code_verifier=PLANTED * 4),
        TOKEN,
        "invalid_grant",
        "wrong_code_verifier",
    ),
    "a verifier too many": Row(
        code_with_a_verifier_too_many, TOKEN, "invalid_request", "code_without_challenge"
    ),
    "no redirect URI": Row(
        code_without_its_redirect_uri,
        TOKEN,
        "invalid_request",
        "missing_parameter",
        {"parameter": "redirect_uri"},
    ),
    "wrong redirect URI": Row(
        lambda s: s.redeem(s.code(), redirect_uri=CALLBACK + "/"),
        TOKEN,
        "invalid_grant",
        "wrong_redirect_uri",
        {"redirect_uri": CALLBACK + "/", "expected": CALLBACK},
    ),
    # Refresh tokens
    "unknown refresh token": Row(
        lambda s: s.refresh(PLANTED), TOKEN, "invalid_grant", "unknown_refresh_token"
    ),
    "foreign refresh token": Row(
        lambda s: s.refresh(s.tokens()["refresh_token"], another(s)),
        TOKEN,
        "invalid_grant",
        "refresh_token_of_another_client",
        {"user_id": "ada"},
    ),
    "expired refresh token": Row(
        expired_refresh_token, TOKEN, "invalid_grant", "expired_refresh_token", {"seconds": 86_400}
    ),
    "revoked grant": Row(revoked_refresh_token, TOKEN, "invalid_grant", "revoked_grant"),
    "reused refresh token": Row(reused, TOKEN, "invalid_grant", "refresh_token_reused"),
    # Other clients' tokens
    "foreign token to revoke": Row(
        lambda s: s.post(
            REVOKE, s.credentials(another(s)) | {"token": own()(s).json["access_token"]}
        ),
        REVOKE,
        "unauthorized_client",
        "token_of_another_client",
    ),
    # Authorization requests
    "POST to authorize": Row(
        method("POST", AUTHORIZE), AUTHORIZE, "invalid_request", "wrong_method", {"method": "POST"}
    ),
    "GET to consent": Row(method("GET", CONSENT), CONSENT, "invalid_request", "wrong_method"),
    "long link": Row(link(state="x" * 6000), AUTHORIZE, "invalid_request", "too_large"),
    "broken link": Row(
        method("GET", AUTHORIZE + "?%zz"), AUTHORIZE, "invalid_request", "malformed_encoding"
    ),
    "octets in a link": Row(
        method("GET", AUTHORIZE + "?\xe9"), AUTHORIZE, "invalid_request", "malformed_encoding"
    ),
    "link without client": Row(
        link(client_id=None),
        AUTHORIZE,
        "invalid_request",
        "missing_parameter",
        {"parameter": "client_id"},
    ),
    "link of two clients": Row(
        link(client_id=["a", "b"]),
        AUTHORIZE,
        "invalid_request",
        "repeated_parameter",
        {"parameter": "client_id"},
    ),
    "link of an unknown client": Row(
        link(client_id=EVIL), AUTHORIZE, "invalid_request", "unknown_client"
    ),
    "two redirect URIs": Row(
        link(redirect_uri=[CALLBACK, CALLBACK]),
        AUTHORIZE,
        "invalid_request",
        "repeated_parameter",
        {"parameter": "redirect_uri"},
    ),
    "link without redirect URI": Row(
        lambda s: s.authorize(s.phone, redirect_uri=None),
        AUTHORIZE,
        "invalid_request",
        "missing_parameter",
        {"parameter": "redirect_uri"},
    ),
    "unregistered redirect URI": Row(
        link(redirect_uri="https://evil.example/cb"),
        AUTHORIZE,
        "invalid_request",
        "unregistered_redirect_uri",
        {"redirect_uri": "https://evil.example/cb"},
    ),
    "response type": Row(
        link(response_type="token"),
        AUTHORIZE,
        "unsupported_response_type",
        "unsupported_response_type",
        {"response_type": "token"},
    ),
    "response mode": Row(
        link(response_mode="fragment"),
        AUTHORIZE,
        "invalid_request",
        "unsupported_response_mode",
        {"response_mode": "fragment"},
    ),
    "prompt": Row(
        link(prompt="none login"),
        AUTHORIZE,
        "invalid_request",
        "unusable_prompt",
        {"prompt": "none login"},
    ),
    "max_age": Row(
        link(max_age="soon"),
        AUTHORIZE,
        "invalid_request",
        "malformed_max_age",
        {"max_age": "soon"},
    ),
    "request object": Row(
        link(request=PLANTED), AUTHORIZE, "request_not_supported", "request_not_supported"
    ),
    "not for codes": Row(
        lambda s: s.authorize(
            s.add("Robot", redirect_uris=[CALLBACK], grant_types=["client_credentials"])
        ),
        AUTHORIZE,
        "unauthorized_client",
        "grant_type_not_registered",
    ),
    "no challenge": Row(
        link(code_challenge=None, code_challenge_method=None),
        AUTHORIZE,
        "invalid_request",
        "missing_code_challenge",
    ),
    "plain challenge": Row(
        link(code_challenge_method="plain"),
        AUTHORIZE,
        "invalid_request",
        "unsupported_code_challenge_method",
        {"code_challenge_method": "plain"},
    ),
    "malformed challenge": Row(
        link(code_challenge="short"), AUTHORIZE, "invalid_request", "malformed_code_challenge"
    ),
    "scope of a link": Row(
        link(scope="admin"), AUTHORIZE, "invalid_scope", "unknown_scope", {"scope": "admin"}
    ),
    "resource of a link": Row(
        link(resource="https://x.example"),
        AUTHORIZE,
        "invalid_target",
        "unknown_resource",
        {"resource": "https://x.example"},
    ),
    "a user with a client's id": Row(
        users_id, AUTHORIZE, "server_error", "user_has_a_clients_id", {"user_id": "ada"}
    ),
    # Decisions
    "signed out": Row(consent(signed_out), CONSENT, "invalid_request", "signed_out"),
    "forged form": Row(
        consent(lambda s, page: s.consent(page, csrf=PLANTED)),
        CONSENT,
        "invalid_request",
        "unusable_form",
        {"user_id": "ada", "status": 400},
    ),
    "client gone": Row(consent(gone), CONSENT, "invalid_request", "unknown_client"),
    "refused by the user": Row(
        consent(lambda s, page: s.consent(page, decision="deny")),
        AUTHORIZE,
        "access_denied",
        "access_denied",
        {"user_id": "ada"},
        "consent_refused",
    ),
}


def refused(response: Reply) -> bool:
    return response.status >= 400 or "error" in (response.header("location") or "")


@pytest.mark.parametrize("name", ROWS)
def test_a_refused_request_leaves_one_line_with_reason_and_value(
    harness: Harness, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    row = ROWS[name]
    with caplog.at_level(logging.INFO):
        response = row.send(harness)
    assert refused(response)
    events = [
        each for each in harness.events if "reason" in each.details and "error" in each.details
    ]
    event = events[-1]
    details = dict(event.details)
    assert (event.code, details["endpoint"]) == (row.event, row.endpoint)
    assert (details["error"], details["reason"]) == (row.error, row.reason)
    assert row.found.items() <= details.items()
    lines = [each for each in caplog.records if vars(each).get("event") is event]
    (line,) = lines
    assert line.name == "bearerguard.server"
    ordinary = row.error == "access_denied"
    assert line.levelno == (logging.INFO if ordinary else logging.WARNING)
    shown, _, written = line.getMessage().partition(" ")
    assert shown == row.event
    assert json.loads(written)["reason"] == row.reason
    assert line.getMessage().isascii()
    assert line.getMessage().isprintable()
    assert len(line.getMessage()) < 1200
    assert all(len(value) <= 200 for value in details.values() if isinstance(value, str))
    text = caplog.text + repr([(each, dict(each.details)) for each in harness.events])
    body = response.response.body.decode() + (response.header("location") or "")
    for secret in (PLANTED, VERIFIER, harness.app.client_secret, harness.phone.client_secret):
        assert secret is None or secret not in text
        assert secret is None or secret not in body


def test_a_request_that_is_not_refused_leaves_no_such_line(harness: Harness) -> None:
    tokens = harness.tokens()
    harness.refresh(tokens["refresh_token"])
    harness.introspect(tokens["access_token"])
    harness.introspect("unknown")
    harness.post(REVOKE, harness.credentials() | {"token": "unknown"})
    harness.code(harness.phone)
    assert not [each for each in harness.events if "reason" in each.details]


def test_introspecting_another_apis_token_is_reported_to_the_operator_only(
    harness: Harness,
) -> None:
    assert not_for_the_caller(harness).json == {"active": False}
    (event,) = harness.named("request_refused")
    assert event.details["reason"] == "token_for_another_api"
    assert event.details["aud"] == "https://other.example.com"
    assert event.details["introspects"] == "https://api.example.com"
    assert event.details["issued_to"] == harness.app.client_id


def test_the_endpoint_is_named_as_it_is_served(make: Make) -> None:
    harness = make(issuer="https://api.example.com/tenant")
    harness.token(grant_type="x")
    harness.authorize(scope="admin")
    endpoints = [each.details["endpoint"] for each in harness.named("request_refused")]
    assert endpoints == ["/tenant/oauth/token", "/tenant/oauth/authorize"]


def test_a_body_that_no_server_reads_to_its_end_is_a_line_too(harness: Harness) -> None:
    assert harness.server._engine.too_large(TOKEN, "POST").status == 413
    (event,) = harness.named("request_refused")
    assert (event.details["endpoint"], event.details["reason"]) == (TOKEN, "too_large")


def test_too_many_guesses_say_so_and_why(harness: Harness) -> None:
    for _ in range(25):
        own(client_secret=PLANTED)(harness)
    event = harness.named(FAILED)[-1]
    assert event.details["throttled"] is True
    assert event.details["reason"] == "wrong_client_secret"
