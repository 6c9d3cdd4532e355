"""Tokens for assertions and for other tokens: RFC 7523, RFC 8693, ID-JAGs, workload identity."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import anyio
import pytest

from bearerguard import ConfigurationError
from bearerguard.client import (
    ClientCredentials,
    GitHubActions,
    IdentityAssertion,
    IssuerEndpoints,
    JwtBearer,
    TokenExchange,
    TokenManager,
)
from bearerguard.errors import LoginRequired, TokenRefused, TokenUnavailable
from bearerguard.protocol import names
from bearerguard.protocol.client_authentication import ASSERTION_TYPE
from tests.client.scripted_server import ScriptedServer

SECRET: dict[str, Any] = {"client_id": "c", "client_secret": "s"}
ID_JAG = "urn:ietf:params:oauth:token-type:id-jag"


def test_an_assertion_is_presented_with_scopes_resources_and_parameters(
    server: ScriptedServer,
) -> None:
    source = JwtBearer(
        server.url,
        **SECRET,
        assertion="a.b.c",
        scopes="read",
        resources="https://api.test",
        parameters={"tenant": "acme"},
    )
    assert TokenManager(source).token().access_token == "t1"
    (asked,) = server.at("/token")
    assert asked.form == {
        "grant_type": names.JWT_BEARER,
        "assertion": "a.b.c",
        "scope": "read",
        "resource": "https://api.test",
        "tenant": "acme",
    }
    assert asked.headers["authorization"].startswith("Basic ")


def test_each_renewal_presents_a_new_assertion_and_no_refresh_token(
    server: ScriptedServer,
) -> None:
    server.answers["/token"] = lambda _: (200, [], server.granted(refresh_token="r"))
    assertions = iter(["one", "two"])
    manager = TokenManager(JwtBearer(server.url, **SECRET, assertion=lambda: next(assertions)))
    assert manager.token().refresh_token is None
    manager.renew(manager.lease())
    assert [each.form["assertion"] for each in server.at("/token")] == ["one", "two"]


def test_a_workload_needs_no_client_id(server: ScriptedServer) -> None:
    TokenManager(JwtBearer(server.url, assertion="a.b.c")).token()
    assert "client_id" not in server.at("/token")[0].form


def test_an_assertion_may_identify_the_client_by_itself(server: ScriptedServer) -> None:
    source: Any = ClientCredentials
    TokenManager(source(server.url, client_id=None, client_assertion="a.b.c")).token()
    assert server.at("/token")[0].form == {
        "grant_type": "client_credentials",
        "client_assertion_type": ASSERTION_TYPE,
        "client_assertion": "a.b.c",
    }


def test_a_file_is_read_anew_for_each_request(server: ScriptedServer, tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("first\n")
    source = ClientCredentials(server.url, client_id="c", client_assertion=file)
    manager = TokenManager(source)
    manager.token()
    file.write_text("second\n")
    manager.renew(manager.lease())
    forms = [each.form for each in server.at("/token")]
    assert [each["client_assertion"] for each in forms] == ["first", "second"]
    assert forms[0] == {
        "grant_type": "client_credentials",
        "client_id": "c",
        "client_assertion_type": ASSERTION_TYPE,
        "client_assertion": "first",
    }


@pytest.mark.parametrize("content", [None, b"", b"two words", b"\xff"])
def test_a_file_without_a_token_is_named(
    server: ScriptedServer, tmp_path: Path, content: bytes | None
) -> None:
    file = tmp_path / "token"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(TokenUnavailable, match=r"assertion=: .*token") as raised:
        TokenManager(JwtBearer(server.url, **SECRET, assertion=file)).token()
    assert not raised.value.temporary
    assert server.at("/token") == []


@pytest.mark.parametrize("returned", [None, "", "two words", b"token"])
def test_a_function_that_returns_no_token_is_named(server: ScriptedServer, returned: Any) -> None:
    source = JwtBearer(server.url, **SECRET, assertion=lambda: returned)
    with pytest.raises(TokenUnavailable, match="assertion="):
        TokenManager(source).token()


def test_a_token_is_exchanged_in_an_event_loop_too(server: ScriptedServer) -> None:
    source = TokenExchange(
        server.url,
        **SECRET,
        subject_token=lambda: "theirs",
        subject_token_type="jwt",
        actor_token="mine",
        resources="https://api.test",
        scopes="read",
        parameters={"audience": "billing"},
    )

    async def main() -> None:
        assert (await TokenManager(source).atoken()).access_token == "t1"

    anyio.run(main)
    assert server.at("/token")[0].form == {
        "grant_type": names.TOKEN_EXCHANGE,
        "requested_token_type": names.TYPE_ACCESS_TOKEN,
        "subject_token": "theirs",
        "subject_token_type": names.TYPE_JWT,
        "actor_token": "mine",
        "actor_token_type": names.TYPE_ACCESS_TOKEN,
        "scope": "read",
        "resource": "https://api.test",
        "audience": "billing",
    }


def test_another_type_of_token_can_be_requested(server: ScriptedServer) -> None:
    kind = {"requested_token_type": "urn:example:token"}
    source = TokenExchange(server.url, **SECRET, subject_token="theirs", parameters=kind)
    TokenManager(source).token()
    assert server.at("/token")[0].form["requested_token_type"] == "urn:example:token"


def test_tokens_of_different_subjects_have_different_keys() -> None:
    def key(subject: Any, **options: Any) -> str:
        given = {"subject_token": subject} | options
        return TokenExchange("https://id.test", **SECRET, **given).key

    one, two, acted = key("a"), key("b"), key("a", actor_token="agent")
    assert len({one, two, acted, key(Path("/a"))}) == 4
    assert key("a") == one
    assert "a.b.c" not in key("a.b.c")


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        ((400, [], {"error": "invalid_grant"}), TokenRefused),
        ((400, [], {"error": "invalid_target"}), TokenRefused),
        ((400, [], {"error": "interaction_required"}), LoginRequired),
        ((503, [], b""), TokenUnavailable),
    ],
)
def test_errors_are_those_of_the_other_sources(
    server: ScriptedServer, answer: Any, error: type[Exception]
) -> None:
    server.answers["/token"] = lambda _: answer
    for source in (
        JwtBearer(server.url, **SECRET, assertion="a.b.c"),
        TokenExchange(server.url, **SECRET, subject_token="theirs"),
    ):
        with pytest.raises(error):
            TokenManager(source).token()


def test_an_api_may_demand_more_scopes(server: ScriptedServer) -> None:
    from bearerguard.client import Demand, Widening

    for source in (
        JwtBearer(server.url, **SECRET, assertion="a.b.c", scopes="read"),
        TokenExchange(server.url, **SECRET, subject_token="theirs", scopes="read"),
    ):
        assert isinstance(source, Widening)
        TokenManager(source.widened(Demand(scopes=("write",)))).token()
        assert server.at("/token")[-1].form["scope"] == "read write"


# ID-JAGs


def provider(other: ScriptedServer, **members: Any) -> None:
    """Have an identity provider that issues ID-JAGs."""
    answer = {"access_token": "an.id.jag", "token_type": "N_A", "issued_token_type": ID_JAG}
    other.answers["/token"] = lambda _: (200, [], answer | members)


def enterprise(server: ScriptedServer, other: ScriptedServer) -> JwtBearer:
    identity = IdentityAssertion(
        other.url,
        client_id="at-the-provider",
        subject_token="an.id.token",
        parameters={"tenant": "acme"},
    )
    return JwtBearer(
        server.url, **SECRET, assertion=identity, scopes="read", resources="https://mcp.test"
    )


def test_JB_02_an_id_jag_is_obtained_by_token_exchange_and_presented(
    server: ScriptedServer, other: ScriptedServer
) -> None:
    provider(other)
    source = enterprise(server, other)
    assert TokenManager(source).token().access_token == "t1"
    assert other.at("/token")[0].form == {
        "client_id": "at-the-provider",
        "grant_type": names.TOKEN_EXCHANGE,
        "requested_token_type": ID_JAG,
        "audience": server.url,
        "resource": "https://mcp.test",
        "scope": "read",
        "subject_token": "an.id.token",
        "subject_token_type": names.TYPE_ID_TOKEN,
        "tenant": "acme",
    }
    form = server.at("/token")[0].form
    assert form == {
        "grant_type": names.JWT_BEARER,
        "assertion": "an.id.jag",
        "scope": "read",
        "resource": "https://mcp.test",
    }
    assert other.url in source.key


@pytest.mark.parametrize(
    "members",
    [
        {"issued_token_type": names.TYPE_ACCESS_TOKEN},
        {"issued_token_type": None},
        {"access_token": None},
        {"access_token": "two words"},
    ],
)
def test_JB_02_what_is_no_id_jag_is_not_presented(
    server: ScriptedServer, other: ScriptedServer, members: dict[str, Any]
) -> None:
    provider(other, **members)
    with pytest.raises(TokenRefused, match="invalid_response"):
        TokenManager(enterprise(server, other)).token()
    assert server.at("/token") == []


def test_JB_02_a_refusal_of_the_identity_provider_is_told(
    server: ScriptedServer, other: ScriptedServer
) -> None:
    other.answers["/token"] = lambda _: (400, [], {"error": "access_denied"})
    with pytest.raises(TokenRefused, match="access_denied"):
        TokenManager(enterprise(server, other)).token()


# GitHub Actions


def actions(other: ScriptedServer, **environ: str) -> dict[str, str]:
    usual = {
        "ACTIONS_ID_TOKEN_REQUEST_URL": f"{other.url}/oidc?api-version=2",
        "ACTIONS_ID_TOKEN_REQUEST_TOKEN": "of-the-job",
    }
    return usual | environ


@pytest.mark.parametrize("audience", [None, "https://given.test"])
def test_JB_03_a_job_in_github_actions_gets_its_token(
    server: ScriptedServer, other: ScriptedServer, audience: str | None
) -> None:
    other.answers["/oidc"] = lambda _: (200, [], {"value": "of.the.platform"})
    source = ClientCredentials(
        server.url,
        client_id="deploy",
        client_assertion=GitHubActions(audience=audience, environ=actions(other)),
    )
    TokenManager(source).token()
    (asked,) = other.at("/oidc")
    assert asked.token == "of-the-job"
    expected = {"api-version": ["2"], "audience": [audience or server.url]}
    assert parse_qs(asked.url.partition("?")[2]) == expected
    assert server.at("/token")[0].form["client_assertion"] == "of.the.platform"


def test_JB_03_the_permission_that_is_missing_is_named(server: ScriptedServer) -> None:
    source = JwtBearer(server.url, assertion=GitHubActions(environ={}))
    with pytest.raises(TokenUnavailable, match="id-token: write"):
        TokenManager(source).token()


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        ((200, [], {}), TokenUnavailable),
        ((200, [], b"no JSON"), TokenRefused),
        ((401, [], {"message": "expired"}), TokenRefused),
        ((503, [], b""), TokenUnavailable),
    ],
)
def test_JB_03_what_is_no_token_of_github_is_not_sent(
    server: ScriptedServer, other: ScriptedServer, answer: Any, error: type[Exception]
) -> None:
    other.answers["/oidc"] = lambda _: answer
    source = JwtBearer(server.url, assertion=GitHubActions(environ=actions(other)))
    with pytest.raises(error):
        TokenManager(source).token()
    assert server.at("/token") == []


def test_JB_03_github_cannot_be_asked_without_tls(server: ScriptedServer) -> None:
    environ = {
        "ACTIONS_ID_TOKEN_REQUEST_URL": "http://token.example.com/",
        "ACTIONS_ID_TOKEN_REQUEST_TOKEN": "x",
    }
    source = JwtBearer(server.url, assertion=GitHubActions(environ=environ))
    with pytest.raises(ConfigurationError, match="https"):
        TokenManager(source).token()


def test_JB_03_github_that_cannot_be_reached_is_unavailable(server: ScriptedServer) -> None:
    environ = {
        "ACTIONS_ID_TOKEN_REQUEST_URL": "http://127.0.0.1:1/",
        "ACTIONS_ID_TOKEN_REQUEST_TOKEN": "x",
    }
    source = JwtBearer(server.url, assertion=GitHubActions(environ=environ))
    with pytest.raises(TokenUnavailable):
        TokenManager(source).token()


# Configuration


@pytest.mark.parametrize(
    ("kind", "options", "named"),
    [
        (JwtBearer, {"assertion": 7}, "assertion="),
        (JwtBearer, {"assertion": ""}, "assertion="),
        (JwtBearer, {"assertion": "/var/run/a token"}, "assertion=.*Path"),
        (JwtBearer, {"assertion": "a", "scope": "read"}, "scopes= is meant"),
        (JwtBearer, {"assertion": "a", "parameters": {"assertion": "b"}}, "assertion"),
        (TokenExchange, {"subject_token": None}, "subject_token="),
        (TokenExchange, {"subject_token": "a", "subject_token_type": ""}, "subject_token_type="),
        (TokenExchange, {"subject_token": "a", "actor_token": 7}, "actor_token="),
        (TokenExchange, {"subject_token": "a", "client_id": None}, "client_id="),
        (IdentityAssertion, {"subject_token": 7}, "subject_token="),
        (IdentityAssertion, {"subject_token": "a", "resource": "x"}, "resource="),
        (ClientCredentials, {"client_assertion": "a"}, "client_assertion="),
        (ClientCredentials, {"client_assertion": 7, "client_secret": None}, "client_assertion="),
    ],
)
def test_an_option_that_makes_no_sense_is_refused(
    kind: Any, options: dict[str, Any], named: str
) -> None:
    with pytest.raises(ConfigurationError, match=named):
        kind("https://id.test", **(SECRET | options))


def test_no_source_shows_its_tokens() -> None:
    identity = IdentityAssertion("https://idp.test", client_id="c", subject_token="secret.id")
    source = JwtBearer("https://id.test", client_id="c", assertion=identity)
    endpoints = IssuerEndpoints("https://id.test", client_id="c", client_assertion="secret.a")
    shown = json.dumps([repr(each) for each in (identity, source, endpoints, GitHubActions())])
    assert "secret" not in shown
