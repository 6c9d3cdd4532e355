"""Administering a server from the command line: what is printed, where, and how it ends."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
from collections.abc import Callable, Generator
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import jwt as pyjwt
import pytest
from typer.testing import CliRunner, Result

from bearerguard import ConfigurationError, Request
from bearerguard.cli import app
from bearerguard.cli.server.server_options import described
from bearerguard.server import AuthorizationServer, Parameters, SigningKeys

PASSWORD = "correct horse battery"
Run = Callable[..., Result]


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    store = f"sqlite:///{tmp_path}/auth.db"
    monkeypatch.setenv("BEARERGUARD_SERVER_STORE", store)
    monkeypatch.setenv(
        "BEARERGUARD_SERVER_SECRET", "a secret of this test's own that is long enough"
    )
    return store


@pytest.fixture
def run(store: str) -> Run:
    def run(*arguments: str, given: str = "", code: int = 0) -> Result:
        result = CliRunner().invoke(app, arguments, input=given)
        assert result.exit_code == code, result.output
        return result

    return run


def parsed(result: Result) -> Any:
    return json.loads(result.stdout)


def test_a_user_is_added_listed_disabled_and_enabled(run: Run) -> None:
    added = parsed(run("user", "add", "Ada", "--name", "Ada L.", "--json", given=f"{PASSWORD}\n"))
    assert (added["login"], added["name"], added["disabled_at"]) == ("ada", "Ada L.", None)
    listed = run("user", "list").stdout
    assert added["user_id"] in listed
    assert "Ada L." in listed
    assert parsed(run("user", "disable", "ada", "--json"))["disabled_at"].endswith("Z")
    assert parsed(run("user", "enable", "ADA", "--json"))["disabled_at"] is None
    assert parsed(run("user", "list", "--json")) == [added]


def test_a_password_is_never_an_argument_and_never_printed(run: Run) -> None:
    result = run("user", "add", "ada", given=f"{PASSWORD}\n")
    assert PASSWORD not in result.output
    refused = run("user", "add", "eve", PASSWORD, given=f"{PASSWORD}\n", code=2)
    assert "Got unexpected extra argument" in refused.stderr
    assert run("user", "set-password", "ada", given="another good one\n").exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "given", "code", "complaint"),
    [
        (["user", "add", "ada"], "short\n", 1, "at least 12 characters"),
        (["user", "add", "ada"], "", 2, "a password is expected on its first line"),
        (["user", "add", "a b"], f"{PASSWORD}\n", 1, "A login name has"),
        (["user", "set-password", "eve"], f"{PASSWORD}\n", 1, "There is no user 'eve'"),
        (["user", "disable", "eve"], "", 1, "There is no user 'eve'"),
        (["client", "remove", "eve"], "", 1, "There is no client 'eve'"),
        (["client", "rotate-secret", "eve"], "", 1, "There is no client 'eve'"),
        (["client", "add", "x", "--redirect-uri", "http://a.example"], "", 2, "use https"),
        (["client", "add", "x", "--jwks", "/missing"], "", 2, "--jwks: /missing cannot be read"),
        (["revoke"], "", 2, "choose one of"),
        (["revoke", "--user", "eve"], "", 1, "There is no user 'eve'"),
        (["revoke", "--token"], "", 2, "a token is expected"),
        (["grants", "list", "--user", "eve"], "", 1, "There is no user 'eve'"),
        (["grants", "list", "--user", "a", "--user-id", "b"], "", 2, "by --user or by --user-id"),
        (["grants", "list", "--after", "x"], "", 2, "--after: pass what the part before has"),
        (["grants", "list", "--limit", "0"], "", 2, "--limit: pass a positive number"),
        (["grants", "revoke"], "", 2, "name the grants"),
        (["grants", "revoke", "x", "--user", "eve"], "", 2, "name the grants"),
        (["grants", "revoke", "--client", "eve"], "", 1, "There is no client 'eve'"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line_with_an_exit_code(
    run: Run, arguments: list[str], given: str, code: int, complaint: str
) -> None:
    run("client", "add", "Any", "--id", "any")
    result = run(*arguments, given=given, code=code)
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert line.startswith("bearerguard: ")
    assert complaint in line


def test_a_client_is_added_and_its_secret_is_shown_once(run: Run) -> None:
    added = run("client", "add", "Field Notes", "--scope", "read", "--id", "notes").stdout
    secret = re.search(r"^client_secret +(\S+)$", added, re.MULTILINE)
    assert secret
    assert "shown only once" in added
    everything = run("client", "list").stdout + run("client", "list", "--json").stdout
    assert "Field Notes" in everything
    assert secret[1] not in everything


@pytest.mark.parametrize("introspects", ["https://api.example.com", "https://API.example.com/"])
def test_a_resource_server_introspects_for_the_api_that_it_was_registered_for(
    run: Run, store: str, introspects: str
) -> None:
    added = parsed(run("client", "add", "RS", "--introspects", introspects, "--json"))
    robot = parsed(run("client", "add", "Robot", "--scope", "read", "--json"))
    assert added["introspects"] == [introspects]
    resources = ["https://api.example.com", "https://other.example.com"]
    with closing(
        AuthorizationServer(
            "https://id.example.com",
            store=store,
            signing=SigningKeys(algorithm="ES256"),
            resources=resources,
        )
    ) as server:

        def post(path: str, client: dict[str, Any], **fields: str) -> Any:
            form = {name: client[name] for name in ("client_id", "client_secret")} | fields
            kind = {"content-type": "application/x-www-form-urlencoded"}
            sent = Request("POST", path, kind, urlencode(form).encode())
            return json.loads(server.handle(sent).body)

        for resource, active in zip(resources, (True, False), strict=True):
            grant = {"grant_type": "client_credentials", "resource": resource}
            token = post("/oauth/token", robot, **grant)["access_token"]
            assert post("/oauth/introspect", added, token=token)["active"] is active


@pytest.mark.parametrize(
    "introspects", ["api.example.com", "https://api.example.com/#x", "/v1", ""]
)
def test_a_resource_to_introspect_is_a_uri(run: Run, introspects: str) -> None:
    refused = run("client", "add", "RS", "--introspects", introspects, code=2)
    assert "--introspects: " in refused.stderr


def test_a_client_has_what_its_options_say(run: Run, tmp_path: Path) -> None:
    public = parsed(
        run(
            *("client", "add", "Pocket", "--public", "--json", "--id", "pocket"),
            *("--redirect-uri", "http://127.0.0.1/cb", "--redirect-uri", "com.example.app:/cb"),
            *("--scope", "read", "--scope", "write", "--origin", "https://app.example.com"),
        )
    )
    assert "client_secret" not in public
    assert public["auth_method"] == "none"
    assert public["redirect_uris"] == ["http://127.0.0.1/cb", "com.example.app:/cb"]
    assert public["scopes"] == ["read", "write"]
    assert public["origins"] == ["https://app.example.com"]
    phone = ("client", "add", "Phone", "--public", "--redirect-uri", "http://127.0.0.1/cb")
    assert "shown only once" not in run(*phone).stdout
    lax = parsed(
        run(
            *("client", "add", "Old", "--unsafe-without-pkce", "--without-consent", "--json"),
            *("--redirect-uri", "https://app.example.com/cb", "--grant-type", "authorization_code"),
        )
    )
    assert (lax["require_pkce"], lax["require_consent"]) == (False, False)
    assert lax["grant_types"] == ["authorization_code"]
    keys = tmp_path / "keys.json"
    keys.write_text('{"keys": []}')
    assert "--jwks: " in run("client", "add", "x", "--jwks", str(keys), code=2).stderr
    keys.write_text("[]")
    assert "no JWK Set" in run("client", "add", "x", "--jwks", str(keys), code=2).stderr


def test_a_client_with_private_key_jwt_is_asked_for_its_keys_by_the_option(run: Run) -> None:
    refused = run("client", "add", "x", "--auth-method", "private_key_jwt", code=2).stderr
    assert refused.startswith("bearerguard: --jwks: ")
    assert "pass --jwks, a JWK Set" in refused
    assert "jwks=" not in refused


def test_a_clients_tokens_live_as_long_as_its_options_say(run: Run, store: str) -> None:
    lifetimes = ("--access-token-lifetime", "60", "--refresh-token-lifetime", "7200")
    more = ("--refresh-token-max-lifetime", "86400", "--scope", "read", "--json")
    made = parsed(run("client", "add", "Short", *lifetimes, *more))
    assert [made[f"{name}_lifetime"] for name in ("access_token", "refresh_token_max")] == [
        60,
        86400,
    ]
    server = AuthorizationServer("https://id.example.com", store=store, scopes={"read": "Read"})
    fields = {
        "grant_type": "client_credentials",
        "client_id": made["client_id"],
        "client_secret": made["client_secret"],
    }
    headers = {"content-type": "application/x-www-form-urlencoded"}
    got = server.handle(Request("POST", "/oauth/token", headers, urlencode(fields).encode()))
    server.close()
    assert json.loads(got.body)["expires_in"] == 60
    refused = run("client", "add", "x", "--access-token-lifetime", "-1", code=2)
    assert "--access-token-lifetime: " in refused.stderr


def test_a_client_gets_a_new_secret_and_is_removed(run: Run) -> None:
    first = parsed(run("client", "add", "Notes", "--id", "notes", "--json"))["client_secret"]
    second = parsed(run("client", "rotate-secret", "notes", "--overlap", "0", "--json"))
    assert second["client_secret"] != first
    assert "is removed" in run("client", "remove", "notes").stdout
    assert "no clients:" in run("client", "list").stdout
    run("client", "add", "Notes", "--id", "notes")
    assert parsed(run("client", "remove", "notes", "--json"))["removed"] is True


def test_a_key_is_rotated_and_listed_without_its_private_part(run: Run) -> None:
    run("client", "add", "Any", "--id", "any")
    assert "There is no key:" in run("keys", "list").stdout
    first = parsed(run("keys", "rotate", "--immediately", "--json"))["kid"]
    assert "is published." in run("keys", "rotate").stdout
    listed = parsed(run("keys", "list", "--json"))
    assert listed[0]["kid"] == first
    assert set(listed[0]) == {"kid", "algorithm", "signs_from", "published_until"}
    assert listed[1]["kid"] in run("keys", "list").stdout


def test_a_key_is_withdrawn_and_a_new_one_signs(run: Run) -> None:
    run("client", "add", "Any", "--id", "any")
    leaked = parsed(run("keys", "rotate", "--json"))["kid"]
    said = parsed(run("keys", "withdraw", leaked, "--json"))
    assert said["withdrawn"] == leaked != said["signing"]
    assert [key["kid"] for key in parsed(run("keys", "list", "--json"))] == [said["signing"]]
    assert "is withdrawn" in run("keys", "withdraw", said["signing"]).stdout
    refused = run("keys", "withdraw", leaked, code=1).stderr
    assert refused.startswith("bearerguard: There is no key")
    assert "keys list" in refused


def test_the_first_key_signs_at_once_though_a_command_made_it(run: Run, store: str) -> None:
    robot = parsed(run("client", "add", "Robot", "--scope", "read", "--json"))
    kid = parsed(run("keys", "rotate", "--json"))["kid"]
    server = AuthorizationServer("http://127.0.0.1:8000", store=store)
    form = {"grant_type": "client_credentials"} | {
        name: robot[name] for name in ("client_id", "client_secret")
    }
    kind = {"content-type": "application/x-www-form-urlencoded"}
    sent = Request("POST", "/oauth/token", kind, urlencode(form).encode())
    token = json.loads(server.handle(sent).body)["access_token"]
    server.close()
    assert pyjwt.get_unverified_header(token)["kid"] == kid


@pytest.mark.parametrize("environ", ["another secret of this test that is long enough", ""])
def test_with_another_secret_than_the_servers_nothing_is_changed(
    run: Run, monkeypatch: pytest.MonkeyPatch, environ: str
) -> None:
    own = os.environ["BEARERGUARD_SERVER_SECRET"]
    run("user", "add", "ada", given=f"{PASSWORD}\n")
    run("keys", "rotate")
    monkeypatch.setenv("BEARERGUARD_SERVER_SECRET", environ)
    refused = run("client", "add", "Robot", "--scope", "read", code=2)
    assert "BEARERGUARD_SERVER_SECRET" in refused.stderr
    assert "sealed with another secret" in refused.stderr
    monkeypatch.setenv("BEARERGUARD_SERVER_SECRET", own)
    assert "no clients:" in run("client", "list").stdout


def test_only_one_thing_is_revoked_at_a_time(run: Run) -> None:
    assert "choose one" in run("revoke", "--user", "ada", "--token", code=2).stderr


def test_at_a_terminal_the_password_is_typed_twice_and_not_shown(store: str) -> None:
    ours, theirs = pty.openpty()
    typing = [
        sys.executable,
        "-c",
        "from bearerguard.cli import main; main()",
        "user",
        "add",
        "ada",
    ]
    with subprocess.Popen(typing, stdin=theirs, stdout=theirs, stderr=theirs) as process:
        os.close(theirs)
        shown = b""
        for prompt in (b"Password: ", b"Repeat for confirmation: "):
            while not shown.endswith(prompt):
                shown += os.read(ours, 1024)
            os.write(ours, f"{PASSWORD}\n".encode())
        while process.poll() is None and b"created_at" not in shown:
            shown += os.read(ours, 1024)
    os.close(ours)
    assert process.returncode == 0, shown
    assert PASSWORD.encode() not in shown
    assert b"user_id" in shown


def test_without_users_the_list_says_how_to_make_one(run: Run) -> None:
    run("client", "add", "Any", "--id", "any")
    assert "`bearerguard user add NAME`" in run("user", "list").stdout


def test_a_store_that_cannot_be_used_is_named(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for url, complaint in (
        (f"sqlite:///{tmp_path}/missing/auth.db", "cannot be opened"),
        ("nonsense", "--store: pass a database URL"),
    ):
        monkeypatch.setenv("BEARERGUARD_SERVER_STORE", url)
        assert complaint in run("user", "list", code=2).stderr
    monkeypatch.delenv("BEARERGUARD_SERVER_STORE")
    assert "Missing option '--store'" in run("user", "list", code=2).stderr


def test_help_is_there_for_every_command(run: Run) -> None:
    for arguments in ([], ["client"], ["user"], ["keys"], ["revoke"], ["serve"], ["client", "add"]):
        assert "Usage:" in run(*arguments, "--help").stdout


READING = (
    ("keys", "list"),
    ("keys", "withdraw", "a"),
    ("keys", "rotate"),
    ("user", "list"),
    ("user", "disable", "ada"),
    ("user", "enable", "ada"),
    ("client", "list"),
    ("client", "remove", "a"),
    ("client", "rotate-secret", "a"),
    ("revoke", "--user", "ada"),
    ("revoke", "--grant", "a"),
)


@pytest.mark.parametrize("arguments", READING, ids=" ".join)
def test_a_command_that_adds_nothing_creates_nothing(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    monkeypatch.delenv("BEARERGUARD_SERVER_SECRET")
    refused = run(*arguments, code=2).stderr
    assert "--store: " in refused
    assert "auth.db cannot be opened: there is no database" in refused
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("content", [b"", b"hello", b"something else" * 1000])
@pytest.mark.parametrize("arguments", [*READING[:1], ("user", "list")], ids=" ".join)
def test_a_file_that_is_no_database_is_named_and_left_as_it_is(
    run: Run,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    arguments: tuple[str, ...],
    content: bytes,
) -> None:
    monkeypatch.delenv("BEARERGUARD_SERVER_SECRET")
    path = tmp_path / "auth.db"
    path.write_bytes(content)
    path.chmod(0o644)
    refused = run(*arguments, code=2).stderr
    assert re.search(r"--store: .*auth\.db is (no|not an) .*database", refused)
    assert [each.name for each in tmp_path.iterdir()] == ["auth.db"]
    assert (path.read_bytes(), path.stat().st_mode & 0o777) == (content, 0o644)


def test_a_reading_command_makes_no_development_secret(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    run("client", "add", "Any")
    monkeypatch.delenv("BEARERGUARD_SERVER_SECRET")
    assert "set BEARERGUARD_SERVER_SECRET to the secret" in run("client", "list", code=2).stderr
    assert "auth.db.secret" not in {each.name for each in tmp_path.iterdir()}


@pytest.mark.parametrize(
    ("variable", "scopes"),
    [
        ("read=See your recordings", {"read": "See your recordings"}),
        ("read=Read write=Write", {"read": "Read", "write": "Write"}),
        (
            "read=See your recordings write=Change your recordings",
            {"read": "See your recordings", "write": "Change your recordings"},
        ),
        (
            "read=See them, all of them; write=Change a=b of them;",
            {"read": "See them, all of them", "write": "Change a=b of them"},
        ),
        ("\n read=See; share\n\n write=Change\n", {"read": "See; share", "write": "Change"}),
        ("https://a.example/read=See", {"https://a.example/read": "See"}),
        ("", None),
        (" \n", None),
    ],
)
def test_scopes_with_descriptions_are_given_by_the_environment(
    variable: str, scopes: dict[str, str] | None
) -> None:
    assert described(None, {"BEARERGUARD_SERVER_SCOPES": variable}) == scopes
    assert described(["x=An option"], {"BEARERGUARD_SERVER_SCOPES": variable}) == {"x": "An option"}


@pytest.mark.parametrize("variable", ["read", "read=", "=See", "read=See;write", "see all read=x"])
def test_scopes_without_a_description_name_the_variable(variable: str) -> None:
    with pytest.raises(
        ConfigurationError, match=r"^BEARERGUARD_SERVER_SCOPES: pass each scope with"
    ):
        described(None, {"BEARERGUARD_SERVER_SCOPES": variable})
    with pytest.raises(ConfigurationError, match=r"^--scope: pass each scope with"):
        described(["read"])


def test_serve_names_the_option_of_its_store(run: Run) -> None:
    for store in ("nonsense", "sqlite:////nowhere/at/all/auth.db"):
        refused = run("serve", "--issuer", "http://127.0.0.1:8000", "--store", store, code=2)
        assert refused.stderr.startswith("bearerguard: --store: ")


@pytest.fixture
def served(store: str) -> Generator[AuthorizationServer]:
    server = AuthorizationServer(
        "https://id.example.com",
        store=store,
        signing=SigningKeys(algorithm="ES256"),
        scopes={"read": "Read"},
    )
    yield server
    server.close()


def own_token(server: AuthorizationServer) -> str:
    made = server.clients.add("Robot", scopes=["read"])
    body = urlencode(
        {
            "grant_type": "client_credentials",
            "client_id": made.client_id,
            "client_secret": made.client_secret,
        }
    ).encode()
    lines = {"Content-Type": "application/x-www-form-urlencoded"}
    token: str = json.loads(server.handle(Request("POST", "/oauth/token", lines, body)).body)[
        "access_token"
    ]
    return token


@pytest.mark.parametrize("issuer", [(), ("--issuer", "https://id.example.com")])
def test_a_jwt_is_revoked_whether_or_not_the_issuer_is_named(
    run: Run, served: AuthorizationServer, issuer: tuple[str, ...]
) -> None:
    token = own_token(served)
    assert served.introspect(token)["active"]
    assert "Revoked: 1." in run("revoke", "--token", *issuer, given=f"{token}\n").stdout
    assert not served.introspect(token)["active"]


def test_what_was_not_revoked_does_not_look_like_success(
    run: Run, served: AuthorizationServer
) -> None:
    token = own_token(served)
    elsewhere = ("--issuer", "https://other.example.com")
    header, payload, signature = token.split(".")
    for arguments, given in (
        (("--token", *elsewhere), token),
        (("--token",), f"{header}.{payload}.{signature[:-8]}AAAAAAAA"),
        (("--token",), "bgr_unknown"),
        (("--token", "--json"), "bgr_unknown"),
        (("--grant", "unknown"), ""),
        (("--user-id", "user-unknown", "--client", "unknown"), ""),
    ):
        refused = run("revoke", *arguments, given=f"{given}\n", code=1)
        if "--json" in arguments:
            assert parsed(refused)["error"]["message"].startswith("nothing was revoked")
        else:
            assert refused.stdout == ""
        assert refused.stderr.startswith("bearerguard: ")
    assert served.introspect(token)["active"]
    run("revoke", "--token", given=f"{token}\n")
    assert "has ended already" in run("revoke", "--token", given=f"{token}\n", code=1).stderr


def test_a_user_who_had_allowed_nothing_is_said_to_have_nothing_left(run: Run) -> None:
    ada = parsed(run("user", "add", "ada", "--json", given=f"{PASSWORD}\n"))["user_id"]
    for named in (("--user", "ada"), ("--user-id", ada)):
        assert "no active grants" in run("revoke", *named).stdout
        assert parsed(run("revoke", *named, "--json")) == {"revoked": 0}


LACKING = """
import sys
sys.modules[sys.argv.pop(1)] = None  # as if it were not installed
from bearerguard.cli import main
main()
"""


@pytest.mark.parametrize(
    ("module", "arguments", "code", "said"),
    [
        ("typer", ["client", "list"], 1, "the command needs the package typer"),
        ("rich", ["client", "list"], 1, "pip install 'bearerguard[cli]'"),
        (
            "sqlalchemy",
            ["client", "list", "--json"],
            2,
            "bearerguard.server needs the package sqlalchemy",
        ),
        ("uvicorn", ["serve", "--issuer", "x"], 2, "serve needs the package uvicorn"),
        ("argon2", ["serve", "--issuer", "x"], 2, "pip install 'bearerguard[server]'"),
        ("alembic", ["--help"], 0, ""),
    ],
)
def test_an_extra_that_is_not_installed_is_named(
    module: str, arguments: list[str], code: int, said: str
) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", LACKING, module, *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == code, ended.stderr
    assert "Traceback" not in ended.stderr
    assert said in ended.stderr


def test_a_command_writes_its_events_as_serve_does(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    added = run("client", "add", "Notes", "--id", "notes")
    (line,) = [each for each in added.stderr.splitlines() if "client_added" in each]
    assert re.match(r"\d{4}-\d\d-\d\dT[\d:.]+Z INFO bearerguard.server client_added \{", line)
    monkeypatch.setenv("BEARERGUARD_SERVER_LOG_FORMAT", "json")
    for command, code in (
        (("client", "rotate-secret", "notes"), "client_secret_rotated"),
        (("client", "remove", "notes"), "client_removed"),
    ):
        events = [json.loads(each) for each in run(*command).stderr.splitlines()]
        (event,) = [each for each in events if each.get("code") == code]
        assert event["details"]["client_id"] == "notes"
        assert event["details"]["by"] == "command"
    added = run("user", "add", "ada", given=f"{PASSWORD}\n")
    assert '"code": "user_added"' in added.stderr
    assert PASSWORD not in added.output
    assert '"code": "user_revoked"' in run("revoke", "--user", "ada").stderr


def granted(store: str, login: str, *clients: str) -> list[str]:
    """Let a user allow clients something; return the ids of the grants, the oldest first."""
    with closing(
        AuthorizationServer(
            "https://id.example.com", store=store, signing=SigningKeys(algorithm="ES256")
        )
    ) as server:
        user_id = server.users.get(login).user_id
        answers = [
            server.tokens.issue(
                server.clients.get(each), Parameters({"grant_type": "x"}), subject=user_id
            )
            for each in clients
        ]
        tokens = [each.access_token for each in answers]
    return [pyjwt.decode(each, options={"verify_signature": False})["sid"] for each in tokens]


def test_GRANT_01_grants_are_listed_in_parts_and_revoked(run: Run, store: str) -> None:
    for login in ("ada", "grace"):
        run("user", "add", login, given=f"{PASSWORD}\n")
    for name in ("notes", "web"):
        run("client", "add", name.title(), "--id", name, "--scope", "read")
    adas = granted(store, "ada", "notes", "web", "web")
    graces = granted(store, "grace", "notes", "web")
    part = parsed(run("grants", "list", "--limit", "3", "--json"))
    rest = parsed(run("grants", "list", "--after", part["after"], "--json"))
    listed = [each["grant_id"] for each in (*part["grants"], *rest["grants"])]
    assert (sorted(listed), rest["after"]) == (sorted([*adas, *graces]), None)
    text = run("grants", "list", "--user", "ada", "--limit", "2")
    assert "Notes" not in text.stdout, "it is the oldest"
    assert adas[2] in text.stdout
    assert "There are more: --after " in text.stderr
    assert parsed(run("grants", "revoke", adas[0], "--json")) == {"revoked": 1}
    again = run("grants", "revoke", adas[0], code=1)
    assert f"no such grant is valid: {adas[0]}" in again.stderr
    assert "Revoked: 2." in run("grants", "revoke", "--user", "ada", "--client", "web").stdout
    assert "Revoked: 1." in run("grants", "revoke", "--client", "web").stdout
    assert "no valid grants" in run("grants", "revoke", "--client", "web").stdout
    assert [each["grant_id"] for each in parsed(run("grants", "list", "--json"))["grants"]] == [
        graces[0]
    ]
    assert "There are no grants." in run("grants", "list", "--client", "web").stdout


def test_GRANT_01_ids_of_no_grant_are_named_and_the_others_revoked(run: Run, store: str) -> None:
    run("user", "add", "ada", given=f"{PASSWORD}\n")
    run("client", "add", "Notes", "--id", "notes", "--scope", "read")
    first, second, third = granted(store, "ada", "notes", "notes", "notes")
    partly = run("grants", "revoke", "mistyped", first, "\x1b[2J", first, "mistyped", code=1)
    assert partly.stdout == "Revoked: 1.\n"
    last = partly.stderr.splitlines()[-1]
    assert last.startswith("bearerguard: not revoked")
    assert last.endswith("no such grant is valid: mistyped, \\x1b[2J")
    assert parsed(run("grants", "revoke", first, second, "--json", code=1)) == {
        "revoked": 1,
        "missing": [first],
        "error": {
            "message": f"not revoked, because no such grant is valid: {first}",
            "exit_code": 1,
        },
    }
    assert [each["grant_id"] for each in parsed(run("grants", "list", "--json"))["grants"]] == [
        third
    ]


def test_GRANT_01_a_user_is_deleted_after_a_question(run: Run, store: str) -> None:
    added = parsed(run("user", "add", "ada", "--json", given=f"{PASSWORD}\n"))
    refused = run("user", "delete", "ada", given="y\n", code=2)
    assert "pass --yes" in refused.stderr
    assert parsed(run("user", "list", "--json")) == [added]
    deleted = parsed(run("user", "delete", "ada", "--yes", "--json"))
    assert (deleted["login"], deleted["deleted"]) == ("ada", True)
    assert parsed(run("user", "list", "--json")) == []
    assert "There is no user 'ada'" in run("user", "delete", "ada", "--yes", code=1).stderr


@pytest.mark.parametrize(("answer", "left"), [("n", ["ada"]), ("y", [])])
def test_GRANT_01_at_a_terminal_the_deletion_is_asked_for(
    run: Run, store: str, answer: str, left: list[str]
) -> None:
    run("user", "add", "ada", given=f"{PASSWORD}\n")
    ours, theirs = pty.openpty()
    asking = [sys.executable, "-c", "from bearerguard.cli import main; main()", "user", "delete"]
    with subprocess.Popen([*asking, "ada"], stdin=theirs, stdout=theirs, stderr=theirs) as process:
        os.close(theirs)
        shown = b""
        while b"Delete the user ada for good?" not in shown:
            shown += os.read(ours, 1024)
        os.write(ours, f"{answer}\n".encode())
        assert process.wait() == (0 if answer == "y" else 1)
    os.close(ours)
    assert [each["login"] for each in parsed(run("user", "list", "--json"))] == left
