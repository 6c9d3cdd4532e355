"""Mistakes in configuration: each names its option and the remedy when the server is made."""

from __future__ import annotations

import logging
import os
import re
import stat
from pathlib import Path
from typing import Any

import pytest

import bearerguard.cli
from bearerguard import ConfigurationError
from bearerguard.server import AuthorizationServer, ClientError, Lifetimes, Resource, SigningKeys
from bearerguard.server.administration import Administration
from bearerguard.server.settings import VARIABLES
from tests.server.harness import CALLBACK, ISSUER, SECRET, Harness, Make


@pytest.mark.parametrize(
    ("issuer", "options", "named"),
    [
        ("http://api.example.com", {}, "insecure_allow_http=True"),
        ("https://api.example.com?x=1", {}, "issuer"),
        ("https://api.example.com#x", {}, "issuer"),
        ("api.example.com", {}, "issuer"),
        (7, {"resources": [ISSUER]}, "issuer"),
        (ISSUER, {"resources": []}, "resources="),
        (ISSUER, {"resources": ISSUER}, "resources="),
        (ISSUER, {"resources": 7}, "resources="),
        (ISSUER, {"resources": [7]}, "resources="),
        (ISSUER, {"resources": [ISSUER, ISSUER]}, "resources="),
        (ISSUER, {"resources": ["relative"]}, "resources="),
        (ISSUER, {"scopes": ["read"]}, "scopes="),
        (ISSUER, {"scopes": {"re ad": "x"}}, "scopes="),
        (ISSUER, {"scopes": {"read": 7}}, "scopes="),
        (ISSUER, {"lifetimes": 3600}, "lifetimes=: pass Lifetimes"),
        (ISSUER, {"signing": "ES256"}, "signing=: pass SigningKeys"),
        (ISSUER, {"unknown_scopes": "drop"}, "unknown_scopes="),
        (ISSUER, {"unknown_scopes": None}, "unknown_scopes="),
        (ISSUER, {"threads": 0}, "threads="),
        (ISSUER, {"secret": "short"}, "secret="),
    ],
)
def test_an_option_that_is_wrong_is_named(
    tmp_path: Path, issuer: Any, options: dict[str, Any], named: str
) -> None:
    given = {"store": f"sqlite:///{tmp_path}/auth.db", "secret": SECRET, **options}
    with pytest.raises(ConfigurationError) as refusal:
        AuthorizationServer(issuer, **given)
    assert named in str(refusal.value)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"access_token": 0}, "Lifetimes(access_token=)"),
        ({"access_token": "1h"}, "Lifetimes(access_token=)"),
        ({"access_token": float("nan")}, "Lifetimes(access_token=)"),
        ({"refresh_token": True}, "Lifetimes(refresh_token=)"),
        ({"refresh_token_max": 60}, "Lifetimes(refresh_token_max=)"),
        ({"refresh_grace": -1}, "Lifetimes(refresh_grace=)"),
        ({"refresh_grace": float("nan")}, "Lifetimes(refresh_grace=)"),
        ({"client_secret_overlap": float("inf")}, "Lifetimes(client_secret_overlap=)"),
        ({"client_secret_overlap": None}, "Lifetimes(client_secret_overlap=)"),
        ({"code": 601}, "Lifetimes(code=)"),
    ],
)
def test_a_lifetime_that_is_wrong_is_named(options: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigurationError) as refusal:
        Lifetimes(**options)
    assert str(refusal.value).startswith(named + ": ")


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"lifetime": 0}, "SigningKeys(lifetime=)"),
        ({"algorithm": "HS256"}, "SigningKeys(algorithm=)"),
        ({"algorithm": None}, "SigningKeys(algorithm=)"),
    ],
)
def test_signing_keys_that_are_wrong_are_named(options: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigurationError) as refusal:
        SigningKeys(**options)
    assert str(refusal.value).startswith(named + ": ")


def open_files(folder: Path) -> set[str]:
    """Return the names of a folder's files that this process has open."""
    opened = Path("/proc/self/fd").iterdir()
    paths = [each.readlink() for each in opened if each.is_symlink()]
    return {path.name for path in paths if path.parent == folder}


def test_a_server_is_closed_by_its_context_manager(tmp_path: Path) -> None:
    store = f"sqlite:///{tmp_path}/auth.db"
    with AuthorizationServer(ISSUER, store=store, secret=SECRET) as server:
        server.clients.add("Robot")
        assert {"auth.db-wal", "auth.db-turn"} <= open_files(tmp_path)
    assert open_files(tmp_path) == set()


def test_http_is_for_loopback_and_for_networks_one_trusts(make: Make) -> None:
    assert make(issuer="http://127.0.0.1:8000").server
    assert make(issuer="http://auth:8000", insecure_allow_http=True).server


@pytest.mark.parametrize(
    "uri",
    [
        "cursor://anysphere.cursor-mcp/oauth/callback",
        "vscode://example.extension/cb",
        "vscode-insiders://example.extension/cb",
        "claude:/cb",
        "com.example.app:/cb",
        "com.example.app:cb",
        "http://localhost:8765/callback",
        "http://[::1]/callback",
    ],
)
def test_AZ_10_an_app_is_registered_with_its_private_scheme_and_then_always_asked_about(
    harness: Harness, uri: str
) -> None:
    app = harness.add("An app", public=True, redirect_uris=[uri])
    page = harness.authorize(app)
    assert page.status == 200
    response = harness.consent(page, remember="yes")
    assert response.location.startswith(f"{uri}?code=")
    assert harness.authorize(app).status == 200


@pytest.mark.parametrize(
    "scheme",
    [
        *("javascript", "data", "file", "vbscript", "blob", "about", "view-source", "filesystem"),
        *("intent", "JavaScript", "DATA", "mailto", "ms-msdt", "chrome-extension", "httpx", "urn"),
    ],
)
@pytest.mark.parametrize("rest", [":", ":/", "://app/cb", ":alert(1)//app/cb", ":https://app/cb"])
def test_AZ_10_a_scheme_that_is_no_apps_own_is_never_registered(
    harness: Harness, scheme: str, rest: str
) -> None:
    with pytest.raises(ConfigurationError, match="redirect_uris="):
        harness.add("An app", public=True, redirect_uris=[scheme + rest])


@pytest.mark.parametrize("options", [{"tokens": "saml"}, {"access_token_lifetime": 0}])
def test_a_resource_that_is_wrong_is_named(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match="Resource"):
        Resource(ISSUER, **options)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"redirect_uris": CALLBACK}, "redirect_uris="),
        ({"redirect_uris": [7]}, "redirect_uris="),
        ({"redirect_uris": [""]}, "redirect_uris="),
        ({"redirect_uris": ["https://x/" + "y" * 3000]}, "redirect_uris="),
        ({"redirect_uris": ["https://app.example.com/cb#f"]}, "fragment"),
        ({"redirect_uris": ["http://app.example.com/cb"]}, "is http and not loopback"),
        ({"redirect_uris": ["http://localhost:80@evil.example/cb"]}, "user part"),
        ({"redirect_uris": ["https://app.example.com:x/cb"]}, "absolute"),
        ({"redirect_uris": ["/cb"]}, "absolute"),
        ({"redirect_uris": ["https:///cb"]}, "no host"),
        ({"redirect_uris": ["myapp:cb"]}, "no slash"),
        ({"redirect_uris": ["localhost:8080/cb"]}, "is not an app's"),
        ({"redirect_uris": ["devhost:8080/cb"]}, "no slash"),
        ({"redirect_uris": ["Cursor://anysphere.cursor-mcp/cb"]}, "capital"),
        ({"redirect_uris": ["HTTPS://app.example.com/cb"]}, "capital"),
        ({"redirect_uris": ["cursor://*/cb"]}, "wildcard"),
        ({"redirect_uris": ["https://*.example.com/cb"]}, "wildcard"),
        ({"redirect_uris": ["*://app/cb"]}, "wildcard"),
        ({"redirect_uris": [" vscode://x/cb"]}, "percent-encode"),
        ({"redirect_uris": ["vs\tcode://x/cb"]}, "percent-encode"),
        ({"redirect_uris": ["vscode://x/cb\n"]}, "percent-encode"),
        ({"redirect_uris": ["vscode://x/cb"], "public": True, "require_consent": False}, "consent"),
        ({"redirect_uris": ["https://app.example.com/a b"]}, "percent-encode"),
        ({"redirect_uris": ["https://äpp.example.com/"]}, "percent-encode"),
        ({"redirect_uris": [], "grant_types": ["authorization_code"]}, "redirect_uris="),
        ({"scopes": "read"}, "scopes="),
        ({"scopes": ["admin"]}, "scopes="),
        ({"scopes": ['"']}, "scopes="),
        ({"grant_types": ["password"]}, "grant_types="),
        ({"grant_types": "authorization_code"}, "grant_types="),
        ({"public": True, "grant_types": ["client_credentials"]}, "grant_types="),
        ({"public": True, "require_pkce": False}, "require_pkce="),
        (
            {"public": True, "require_consent": False, "redirect_uris": ["http://127.0.0.1/"]},
            "require_consent=",
        ),
        ({"public": True, "client_secret": "x" * 40}, "client_secret="),
        ({"client_secret": "short"}, "client_secret="),
        ({"client_secret": "ü" * 40}, "client_secret="),
        ({"auth_method": "tls_client_auth"}, "auth_method="),
        ({"auth_method": "private_key_jwt"}, "jwks="),
        ({"jwks": {"keys": []}}, "jwks="),
        ({"jwks": {"keys": []}, "auth_method": "client_secret_post"}, "jwks="),
        ({"origins": ["https://app.example.com/"]}, "origins="),
        ({"origins": ["*"]}, "origins="),
        ({"origins": ["https://*.example.com"]}, "origins="),
        ({"origins": ["https://App.example.com"]}, "small letters"),
        ({"origins": ["https://app.example.com:443"]}, "without a default port"),
        ({"origins": ["http://app.example.com:80"]}, "origins="),
        ({"origins": ["https://app.example.com:99999"]}, "origins="),
        ({"origins": ["https://b\u00fccher.example"]}, "origins="),
        ({"origins": ["null"]}, "origins="),
        ({"origins": ["file://localhost"]}, "origins="),
        ({"origins": ["ftp://app.example.com"]}, "origins="),
        ({"origins": ["httpx://app.example.com"]}, "origins="),
        ({"origins": ["capacitor://localhost/"]}, "origins="),
        ({"origins": ["capacitor://*"]}, "origins="),
        ({"origins": ["capacitor://"]}, "origins="),
        ({"origins": [7]}, "origins="),
        ({"introspects": ["https://other.example.com"]}, "introspects="),
        ({"client_id": "with space"}, "client_id="),
        ({"client_id": "x" * 300}, "client_id="),
        ({"client_id": "user-1"}, "client_id="),
        ({"name": ""}, "name="),
        ({"name": "two\nlines"}, "name="),
        ({"name": "x" * 101}, "name="),
        ({"name": " padded"}, "name="),
        ({"name": "two  spaces"}, "name="),
        ({"name": "evil\u202egpj.exe"}, "name="),
        ({"name": "zero\u200bwidth"}, "name="),
        ({"name": "x" + "\u0301" * 9}, "name="),
        ({"name": 7}, "name="),
        ({"access_token_lifetime": -1}, "access_token_lifetime="),
    ],
)
def test_a_client_that_would_be_unsafe_is_not_registered(
    harness: Harness, options: dict[str, Any], named: str
) -> None:
    given = {"redirect_uris": [CALLBACK], **options}
    name = given.pop("name", "Client")
    with pytest.raises(ConfigurationError) as refusal:
        harness.server.clients.add(name, **given)
    assert named in str(refusal.value)
    assert len(harness.server.clients.all()) == 2


def test_a_client_is_listed_as_it_was_registered_and_never_with_its_secret(
    harness: Harness,
) -> None:
    origin = "https://spa.example.com"
    added = harness.add("SPA", public=True, origins=[origin], refresh_token_lifetime=60)
    assert harness.server.clients.get(added.client_id) == added.client
    assert added.client in harness.server.clients.all()
    assert added.client.origins == (origin,)
    assert harness.app.client_secret is not None
    assert harness.app.client_secret not in repr(harness.app)


@pytest.mark.parametrize(
    "origin",
    [
        "http://localhost:3000",
        "http://[::1]:8080",
        "https://xn--bcher-kva.example",
        "capacitor://localhost",
        "tauri://localhost",
        "app://-",
        "chrome-extension://abcdefghijklmnopabcdefghijklmnop",
        "moz-extension://5a8b9c3e-0000-4000-8000-000000000000",
    ],
)
def test_an_origin_may_be_any_that_a_browser_sends(harness: Harness, origin: str) -> None:
    assert harness.add("SPA", public=True, origins=[origin]).client.origins == (origin,)


def test_what_is_not_there_cannot_be_changed_and_what_is_there_not_added(harness: Harness) -> None:
    clients = harness.server.clients
    for change in (clients.get, clients.remove, clients.rotate_secret):
        with pytest.raises(ClientError, match="no client"):
            change("nobody")
    with pytest.raises(ClientError, match="already"):
        harness.add("Again", client_id=harness.app.client_id)
    with pytest.raises(ClientError, match="no secret"):
        clients.rotate_secret(harness.phone.client_id)


@pytest.mark.parametrize(
    "name", ["x" * 100, "Notizbuch für Aufnahmen", "録音メモ", "Café", "टिप्पणी"]
)
def test_a_client_may_have_a_name_in_any_language(harness: Harness, name: str) -> None:
    assert harness.add(name).client.name == name


@pytest.mark.parametrize("overlap", [-1, float("nan"), float("inf"), True, "60", 10**12])
def test_an_overlap_that_is_no_time_leaves_the_secrets_as_they_are(
    harness: Harness, overlap: Any
) -> None:
    with pytest.raises(ConfigurationError, match="overlap="):
        harness.server.clients.rotate_secret(harness.app.client_id, overlap=overlap)
    assert harness.token(grant_type="client_credentials").status == 200
    assert not harness.named("client_secret_rotated")


def test_ISS_01_a_client_cannot_take_a_users_id(harness: Harness) -> None:
    harness.tokens()
    with pytest.raises(ClientError, match="a user's id"):
        harness.add("Mallory", client_id="ada")


def test_without_a_secret_a_private_development_file_is_made_and_announced(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = f"sqlite:///{tmp_path}/auth.db"
    with caplog.at_level(logging.WARNING, "bearerguard.server"):
        AuthorizationServer(ISSUER, store=store, environ={})
    path = tmp_path / "auth.db.secret"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert "BEARERGUARD_SERVER_SECRET" in caplog.text
    assert str(path) in caplog.text
    assert path.read_text().strip() not in caplog.text
    AuthorizationServer(ISSUER, store=store, environ={})
    path.chmod(0o644)
    with pytest.raises(ConfigurationError, match="chmod 600"):
        AuthorizationServer(ISSUER, store=store, environ={})


def test_the_environments_secret_is_taken_and_checked(tmp_path: Path) -> None:
    store = f"sqlite:///{tmp_path}/auth.db"
    variable = "BEARERGUARD_SERVER_SECRET"
    with pytest.raises(ConfigurationError, match=variable):
        AuthorizationServer(ISSUER, store=store, environ={variable: "short"})
    AuthorizationServer(ISSUER, store=store, environ={variable: SECRET})
    assert not (tmp_path / "auth.db.secret").exists()


def test_a_variable_that_is_spelled_wrong_is_refused_with_the_one_that_is_meant(
    tmp_path: Path,
) -> None:
    store = f"sqlite:///{tmp_path}/auth.db"
    environ = {"BEARERGUARD_SERVER_SECRETS": SECRET, "BEARERGUARD_SERVER_STORE": store}
    with pytest.raises(ConfigurationError, match="BEARERGUARD_SERVER_SECRET is meant"):
        AuthorizationServer(ISSUER, store=store, environ=environ)
    assert not (tmp_path / "auth.db.secret").exists()
    AuthorizationServer(ISSUER, store=store, secret=SECRET, environ=environ).close()


def test_every_variable_that_a_command_reads_is_known() -> None:
    folder = Path(bearerguard.cli.__file__).parent
    text = "".join(path.read_text() for path in folder.rglob("*.py"))
    read = set(re.findall(r"BEARERGUARD_SERVER_[A-Z_]*[A-Z]", text))
    named = re.findall(r'_(?:option|seconds)\(\s*"([A-Z_]+)"', text)
    read |= {f"BEARERGUARD_SERVER_{name}" for name in named}
    of_the_secret = {"BEARERGUARD_SERVER_SECRET", "BEARERGUARD_SERVER_SECRET_FILE"}
    assert read | of_the_secret == VARIABLES


def test_a_development_file_beside_a_secret_that_is_set_is_reported_as_unused(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = f"sqlite:///{tmp_path}/auth.db"
    with Administration(store, environ={}) as before_the_secret_was_set:
        before_the_secret_was_set.clients.add("Robot")
    caplog.clear()
    AuthorizationServer(ISSUER, store=store, environ={"BEARERGUARD_SERVER_SECRET": SECRET}).close()
    assert f"{tmp_path}/auth.db.secret is not used" in caplog.text
    assert SECRET not in caplog.text


def test_a_development_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "auth.db.secret").mkdir(mode=0o700)
    with pytest.raises(ConfigurationError, match=r"auth\.db\.secret"):
        AuthorizationServer(ISSUER, store=f"sqlite:///{tmp_path}/auth.db", environ={})


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_development_file_of_another_user_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "auth.db.secret"
    path.write_text("known to the other user" + "x" * 40)
    path.chmod(0o600)
    os.chown(path, 65534, 65534)
    with pytest.raises(ConfigurationError, match="another user"):
        AuthorizationServer(ISSUER, store=f"sqlite:///{tmp_path}/auth.db", environ={})


@pytest.mark.parametrize("planted", ["link", "pipe"])
def test_a_development_file_that_is_no_plain_file_is_refused(tmp_path: Path, planted: str) -> None:
    path = tmp_path / "auth.db.secret"
    if planted == "link":
        (tmp_path / "elsewhere").write_text("x" * 64)
        (tmp_path / "elsewhere").chmod(0o600)
        path.symlink_to(tmp_path / "elsewhere")
    else:
        os.mkfifo(path, 0o600)
    with pytest.raises(ConfigurationError, match=r"auth\.db\.secret"):
        AuthorizationServer(ISSUER, store=f"sqlite:///{tmp_path}/auth.db", environ={})


def test_another_secret_than_the_keys_were_sealed_with_is_refused(tmp_path: Path) -> None:
    store = f"sqlite:///{tmp_path}/auth.db"
    AuthorizationServer(ISSUER, store=store, secret=SECRET)
    with pytest.raises(ConfigurationError, match="another secret"):
        AuthorizationServer(ISSUER, store=store, secret="x" * 32)


def test_another_algorithm_lets_a_new_key_take_over_when_everybody_knows_it(make: Make) -> None:
    harness = make(signing=SigningKeys(algorithm="ES256"))
    again = AuthorizationServer(
        ISSUER,
        store=harness.store.url,
        secret=SECRET,
        signing=SigningKeys(algorithm="EdDSA"),
        clock=harness.clock,
    )
    assert [key.algorithm for key in again.keys.all()] == ["ES256", "EdDSA"]
    again.close()


def test_the_repr_of_a_server_says_which_one_it_is(harness: Harness) -> None:
    assert repr(harness.server) == f"AuthorizationServer({ISSUER!r})"
