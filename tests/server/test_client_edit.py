"""Editing a registered client: what may change, and that every process sees it at once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from bearerguard import ConfigurationError
from bearerguard.cli import app
from bearerguard.server import ClientError, Registration
from bearerguard.server.store import keys as key_rows
from tests.server.harness import CALLBACK, SECRET, Harness, Make, claims
from tests.server.serving import served
from tests.server.stores import Store

ENGINES = pytest.mark.both_engines
PAGE = "https://page.example.com"


def edit(harness: Harness, **changes: Any) -> Any:
    return harness.server.clients.edit(harness.app.client_id, **changes)


def asked(harness: Harness, **fields: Any) -> int:
    return harness.token(grant_type="client_credentials", **fields).status


# What changes


@ENGINES
def test_options_change_and_the_others_stay(harness: Harness) -> None:
    before = harness.server.clients.get(harness.app.client_id)
    edited = edit(harness, name="Notes", scopes=["read"], access_token_lifetime=60)
    assert edited.before == before
    assert edited.changed == ("name", "scopes", "access_token_lifetime")
    found = harness.server.clients.get(harness.app.client_id)
    assert found == edited.client
    assert (found.name, found.scopes, found.access_token_lifetime) == ("Notes", ("read",), 60)
    assert (found.redirect_uris, found.created_at) == (before.redirect_uris, before.created_at)
    (event,) = harness.named("client_changed")
    assert dict(event.details) == {
        "client_id": harness.app.client_id,
        "options": "name scopes access_token_lifetime",
        "by": "app",
    }


def test_what_is_the_same_as_before_changes_nothing_and_reports_nothing(harness: Harness) -> None:
    assert edit(harness, scopes=["read", "write"], name="App").changed == ()
    assert edit(harness).changed == ()
    assert harness.named("client_changed") == []


def test_none_is_the_default_of_an_option(harness: Harness) -> None:
    edit(harness, access_token_lifetime=60, origins=[PAGE], grant_types=["authorization_code"])
    edited = edit(harness, access_token_lifetime=None, origins=None, grant_types=None)
    assert edited.client.access_token_lifetime is None
    assert edited.client.origins == ()
    assert edited.client.grant_types == harness.app.client.grant_types


# What new requests meet


@ENGINES
def test_a_scope_that_is_gone_is_not_granted_and_not_renewed(harness: Harness) -> None:
    tokens = harness.tokens()
    assert tokens["scope"] == "read write"
    edit(harness, scopes=["read"])
    assert [asked(harness, scope=each) for each in ("read", "write")] == [200, 400]
    refreshed = harness.refresh(tokens["refresh_token"]).json
    assert refreshed["scope"] == "read"
    assert claims(refreshed["access_token"])["scope"] == "read"
    assert harness.refresh(refreshed["refresh_token"], scope="write").status == 400
    assert harness.introspect(tokens["access_token"])["active"], "it was issued before"


@ENGINES
def test_a_redirect_uri_that_is_gone_is_refused_and_a_new_one_is_accepted(
    harness: Harness,
) -> None:
    new = "https://app.example.com/v2"
    edit(harness, redirect_uris=[new])
    assert harness.authorize().status == 400
    assert harness.authorize(redirect_uri=new).location.startswith(f"{new}?code=")


@ENGINES
def test_an_origin_that_is_gone_is_no_longer_allowed(harness: Harness) -> None:
    def allowed() -> str | None:
        return harness.post("/oauth/token", {}, origin=PAGE).header("access-control-allow-origin")

    edit(harness, origins=[PAGE, "https://other.example.com"])
    assert allowed() == PAGE
    edit(harness, origins=["https://other.example.com"])
    assert allowed() is None
    assert harness.store.count("client_origins") == 1


def test_a_grant_type_that_is_gone_is_refused(harness: Harness) -> None:
    refresh_token = harness.tokens()["refresh_token"]
    edit(harness, grant_types=["authorization_code"])
    assert asked(harness) == 400
    assert harness.refresh(refresh_token).error == (400, "unauthorized_client")


@ENGINES
def test_a_revocation_is_kept_for_tokens_of_the_longer_lifetime_before(harness: Harness) -> None:
    edit(harness, access_token_lifetime=7 * 86_400)
    edit(harness, access_token_lifetime=60)
    with harness.server.database.read() as connection:
        assert key_rows.longest_access_lifetime(connection) == 7 * 86_400
    token = harness.token(grant_type="client_credentials").json
    assert token["expires_in"] == 60


# How it authenticates


def test_a_client_that_gets_keys_loses_its_secret_for_good(harness: Harness) -> None:
    from tests.server.earlier.record import JWK

    edited = edit(harness, auth_method="private_key_jwt", jwks={"keys": [JWK]})
    assert not edited.needs_secret
    assert harness.store.count("client_secrets") == 0
    assert asked(harness) == 401
    back = edit(harness, auth_method="client_secret", jwks=None)
    assert back.needs_secret
    assert asked(harness) == 401
    secret = harness.server.clients.rotate_secret(harness.app.client_id)
    assert asked(harness, client_secret=secret) == 200


def test_a_public_client_becomes_a_confidential_one(harness: Harness) -> None:
    edited = harness.server.clients.edit(harness.phone.client_id, auth_method="client_secret")
    assert edited.needs_secret
    assert edited.changed == ("auth_method",)


# What is refused


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": ""}, "name=: choose a readable name"),
        ({"scopes": ["admin"]}, "scopes=: the server has no scope 'admin'"),
        ({"scopes": "read"}, "scopes=: pass a list of text"),
        ({"redirect_uris": ["http://a.example"]}, "use https"),
        ({"redirect_uris": []}, "authorization_code needs at least one"),
        ({"origins": ["https://a.example/x"]}, "is no origin"),
        ({"auth_method": "none"}, "public client has no credentials"),
        ({"auth_method": "magic"}, "is no method of this server"),
        ({"jwks": {"keys": []}}, "choose 'private_key_jwt'"),
        ({"access_token_lifetime": 0}, "access_token_lifetime=: pass a positive number"),
        ({"require_pkce": "no"}, "require_pkce=: pass True or False"),
    ],
)
def test_a_change_is_checked_as_a_new_client_is_and_changes_nothing(
    harness: Harness, changes: dict[str, Any], message: str
) -> None:
    before = harness.server.clients.get(harness.app.client_id)
    with pytest.raises(ConfigurationError) as caught:
        edit(harness, **changes)
    assert message in str(caught.value)
    assert harness.server.clients.get(harness.app.client_id) == before


def test_a_client_that_registered_itself_or_that_there_is_none_is_not_edited(make: Make) -> None:
    harness = make(registration=Registration())
    stranger = harness.server.clients.register(
        "Stranger", redirect_uris=[CALLBACK], expires_at=harness.clock() + 60
    )
    with pytest.raises(ClientError, match=r"registered itself \(by a request, RFC 7591\)"):
        harness.server.clients.edit(stranger.client_id, name="x")
    with pytest.raises(ClientError, match="There is no client 'nobody'"):
        harness.server.clients.edit("nobody", name="x")
    with pytest.raises(TypeError, match="unexpected keyword argument 'created_at'"):
        edit(harness, created_at=1)


# Other processes


def test_a_server_in_another_process_sees_the_change_with_its_next_request(tmp_path: Path) -> None:
    _edited_elsewhere(tmp_path, None)


@ENGINES
def test_a_server_in_another_process_sees_it_on_either_engine(
    tmp_path: Path, empty_store: Store
) -> None:
    _edited_elsewhere(tmp_path, empty_store)


def _edited_elsewhere(folder: Path, store: Store | None) -> None:
    with served(folder, store=store) as running:
        client = running.add()

        def status(scope: str) -> int:
            own = {"grant_type": "client_credentials", "scope": scope}
            return running.token(client, **own).status_code

        assert [status("read"), status("write")] == [200, 200]
        running.server.clients.edit(client.client_id, scopes=["read"])
        assert [status("read"), status("write")] == [200, 400]
        code = (
            "import sys; from bearerguard.cli import main;"
            f"sys.argv = ['', 'client', 'edit', {client.client_id!r}, '--scope', 'write'];"
            "main()"
        )
        environ = {
            **os.environ,
            "BEARERGUARD_SERVER_STORE": running.store.url,
            "BEARERGUARD_SERVER_SECRET": SECRET,
        }
        command = [sys.executable, "-c", code]
        subprocess.run(command, env=environ, check=True, timeout=60, capture_output=True)
        assert [status("read"), status("write")] == [400, 200]


# By command


Run = Callable[..., Result]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setenv("BEARERGUARD_SERVER_STORE", f"sqlite:///{tmp_path}/auth.db")
    monkeypatch.setenv("BEARERGUARD_SERVER_SECRET", SECRET)

    def running(*arguments: str, given: str = "", code: int = 0) -> Result:
        result = CliRunner().invoke(app, arguments, input=given)
        assert result.exit_code == code, result.output
        return result

    redirect = ("--redirect-uri", CALLBACK)
    running("client", "add", "Notes", "--id", "notes", "--scope", "read", *redirect)
    return running


def test_a_command_shows_what_it_has_changed(run: Run) -> None:
    shown = run("client", "edit", "notes", "--scope", "write", "--name", "Field Notes").stdout
    lines = [line.split() for line in shown.splitlines() if line.strip()]
    assert ["name", "Notes", "Field", "Notes"] in lines
    assert ["scopes", "read", "write"] in lines
    again = run("client", "edit", "notes", "--scope", "write")
    assert "Nothing has changed" in again.stdout
    found = json.loads(run("client", "edit", "notes", "--scope", "read", "--json").stdout)
    assert found["scopes"] == ["read"]
    assert found["changed"] == {"scopes": {"before": ["write"], "after": ["read"]}}


def test_a_command_leaves_the_flags_that_are_not_given(run: Run) -> None:
    run("client", "edit", "notes", "--without-consent", "--unsafe-without-pkce")
    found = json.loads(run("client", "edit", "notes", "--dpop-bound", "--json").stdout)
    assert found["changed"] == {"dpop_bound_access_tokens": {"before": False, "after": True}}
    assert (found["require_consent"], found["require_pkce"]) == (False, False)


def test_an_option_gets_its_default_again(run: Run) -> None:
    run("client", "edit", "notes", "--access-token-lifetime", "60", "--origin", PAGE)
    options = ("--unset", "access-token-lifetime", "--unset", "--origin")
    found = json.loads(run("client", "edit", "notes", *options, "--json").stdout)
    assert (found["access_token_lifetime"], found["origins"]) == (None, [])


def test_a_command_says_that_a_secret_is_missing(run: Run) -> None:
    run("client", "add", "Phone", "--id", "phone", "--public", "--redirect-uri", CALLBACK)
    shown = run("client", "edit", "phone", "--auth-method", "client_secret").stdout
    assert "`bearerguard client rotate-secret phone`" in shown


@pytest.mark.parametrize(
    ("arguments", "code", "complaint"),
    [
        (["notes"], 2, "name what changes"),
        (["notes", "--unset", "colour"], 2, "--unset colour: there is no such option"),
        (["notes", "--unset", "scope", "--scope", "read"], 2, "--scope is given, too"),
        (["notes", "--redirect-uri", "http://a.example"], 2, "--redirect-uri: "),
        (["notes", "--name", ""], 2, "--name: choose a readable name"),
        (["notes", "--jwks", "/missing"], 2, "--jwks: /missing cannot be read"),
        (["nobody", "--scope", "read"], 1, "There is no client 'nobody'"),
    ],
)
def test_a_command_that_cannot_be_carried_out_says_why_in_one_line(
    run: Run, arguments: list[str], code: int, complaint: str
) -> None:
    result = run("client", "edit", *arguments, code=code)
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert complaint in line


def test_GRANT_01_an_operator_lists_and_ends_the_personal_tokens_of_a_user(
    run: Run, tmp_path: Path
) -> None:
    from bearerguard.server import AuthorizationServer, PersonalTokens, SigningKeys

    run("user", "add", "ada", given="correct horse battery\n")
    assert "no personal tokens" in run("user", "tokens", "ada").stdout
    with AuthorizationServer(
        "https://api.example.com",
        store=f"sqlite:///{tmp_path}/auth.db",
        secret=SECRET,
        scopes={"read": "Read"},
        signing=SigningKeys(algorithm="ES256"),
        personal_tokens=PersonalTokens(),
    ) as server:
        ada = server.users.get("ada").user_id
        new, other, third = (
            server.personal_tokens.add(ada, each, scopes=["read"]) for each in ("CI", "Old", "3")
        )
        assert "CI" in run("user", "tokens", "ada").stdout
        listed = json.loads(run("user", "tokens", "ada", "--json").stdout)
        assert {each["id"] for each in listed} == {each.token.id for each in (new, other, third)}
        run("user", "tokens", "ada", "--end", new.token.id)
        assert not server.introspect(new.value)["active"]
        assert server.introspect(other.value)["active"]
        missing = run("user", "tokens", "ada", "--end", new.token.id, code=1)
        assert "has no personal token" in missing.stderr
        run("revoke", "--token", given=other.value)
        assert not server.introspect(other.value)["active"]
        assert "Revoked: 1." in run("revoke", "--user", "ada").stdout
        assert not server.introspect(third.value)["active"]
