"""`bearerguard call` against an API with all sorts of responses."""

from __future__ import annotations

import base64
import json
import os
import pty
import shlex
import subprocess
import sys
from collections.abc import Generator
from contextlib import suppress
from dataclasses import fields
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import typer
from typer.testing import CliRunner

from bearerguard.cli import app
from bearerguard.cli.client.call import _command
from bearerguard.cli.client.login import login as login_command
from bearerguard.cli.client.logins import Login
from bearerguard.client.manager import TokenManager
from bearerguard.client.sources.static_token import StaticToken
from bearerguard.client.storages.environment import TOKEN_VARIABLE
from bearerguard.client.storages.state_directory import VARIABLE as HOME_VARIABLE
from bearerguard.client.token import Token
from bearerguard.errors import StepUpRequired
from bearerguard.runtime.messages import Request, Response
from bearerguard.testing.loopback import serving
from tests.processes import free_port

_CHALLENGES = {
    "/step-up": 'Bearer error="insufficient_user_authentication", acr_values="gold", max_age="60"',
    "/anew": 'Bearer error="insufficient_user_authentication"',
    "/weak": 'Bearer error="insufficient_scope", scope="write"',
    "/weaker": 'Bearer error="insufficient_scope"',
    "/markup": 'Bearer error="insufficient_scope", scope="[/] [red]x"',
    "/shell": 'Bearer error="insufficient_scope", scope="$(id) \'`id`"',
    "/steering": 'Bearer error="insufficient_user_authentication", acr_values="\x1b[2J[/]"',
    "/unknown": 'Bearer error="invalid_request", error_description="\x1b[2J[/]"',
}
_JSON = (("Content-Type", "application/json; x=y"),)
_BODIES = {
    "/json": (_JSON, b'{"a": [1]}'),
    "/no-json": (_JSON, b"{"),
    "/octets": ((), b"\xff"),
    "/broken": ((("Content-Encoding", "gzip"),), b"no gzip"),
}

# What steers a terminal, turns text round, or is not seen; and what is text.
RAW = "\x1b]0;x\x07|\x9b2J|\x7f|\u202e|\u2066|\u200b|\u2028|\u061c|\u3164|\u00e9\u3000\t.\r\n"


def respond(request: Request) -> Response:
    path = urlsplit(request.url).path
    if path in _CHALLENGES:
        status = 403 if "scope" in _CHALLENGES[path] else 401
        return Response(status, (("WWW-Authenticate", _CHALLENGES[path]),), b"")
    if request.values(b"authorization") != [b"Bearer given"]:
        return Response(400, (), b"")
    if path == "/raw":
        return Response(200, (("X-Odd", "\x9b2J"),), RAW.encode())
    if path in _BODIES:
        return Response(200, *_BODIES[path])
    if path == "/digits":
        digits = f"{request.values(b'x-own')[0].hex()}|{request.body.hex()}"
        return Response(200, (), digits.encode())
    kind = b", ".join(request.values(b"content-type"))
    own = b", ".join(request.values(b"x-own"))
    said = [request.method.encode(), kind, own, request.body]
    return Response(200, (("X-Answer", "yes"),), b"|".join(said))


@pytest.fixture
def api() -> Generator[str]:
    with serving(respond) as url:
        yield url


def call(home: Path, *arguments: str, code: int = 0, given: str = "") -> tuple[str, str]:
    """Run the command in this process: a new one takes a second to start."""
    done = CliRunner().invoke(
        app,
        ["call", *arguments],
        env={HOME_VARIABLE: str(home), TOKEN_VARIABLE: "given"},
        input=given,
        catch_exceptions=False,
    )
    assert done.exit_code == code, done.output
    assert "given" not in done.stdout + done.stderr
    return done.stdout, done.stderr


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("/step-up", "the API demands a login at most 60 s old and by gold"),
        ("/anew", "the API demands a login anew"),
        ("/weak", "the token lacks the scope write"),
        ("/weaker", "the token lacks a scope"),
        ("/markup", "the token lacks the scope [/] [red]x"),
        ("/steering", r"the API demands a login by \x1b[2J[/]"),
    ],
)
def test_CL_03_what_the_api_demands_is_said_with_what_to_do(api, tmp_path, path, said):
    out, err = call(tmp_path, api + path, code=4)
    assert said in err
    assert "log in again" in err
    assert out == ""


def test_what_an_api_writes_steers_no_terminal(api, tmp_path):
    _, err = call(tmp_path, f"{api}/unknown", code=1)
    assert r'error_description="\x1b[2J[/]"' in err
    assert "\x1b" not in err


def test_header_lines_and_bodies_steer_no_terminal_and_a_pipe_gets_them_exactly(api, tmp_path):
    out, _ = call(tmp_path, f"{api}/raw", "-i")
    assert out.endswith(RAW.replace("\r\n", "\n"))  # as Python reads a pipe
    assert "x-odd: \\x9b2J" in out.partition("\n\n")[0].lower().replace("j", "J")
    seen = at_terminal(tmp_path, f"{api}/raw", "-i")
    assert not set("\x1b\x07\x9b\x7f\u202e\u2066\u200b\u2028\u061c\u3164") & set(seen)
    assert r"\x1b]0;x\x07|\x9b2J|\x7f|\u202e|\u2066|\u200b|\u2028|\u061c|\u3164|" in seen
    assert "\u00e9\u3000\t." in seen


def at_terminal(home, *arguments):
    """Return what a call writes to a terminal."""
    leader, follower = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-c", "from bearerguard.cli import main; main()", "call", *arguments],
        env=os.environ
        | {
            HOME_VARIABLE: str(home),
            TOKEN_VARIABLE: "given",
            "PYTHONIOENCODING": "utf-8",
        },
        stdin=subprocess.DEVNULL,
        stdout=follower,
        stderr=subprocess.DEVNULL,
    ) as process:
        os.close(follower)
        seen = b""
        with suppress(OSError):  # how a terminal ends
            while more := os.read(leader, 4096):
                seen += more
        assert process.wait(60) == 0
    os.close(leader)
    return seen.decode()


def test_a_command_that_is_named_is_one_command_whatever_scope_an_api_demands(api, tmp_path):
    login = {"issuer": "https://id.example.com", "client_id": "app", "scope": [], "resource": []}
    document = {"version": 1, "logins": [login | {"storage": "insecure-plaintext"}]}
    tokens = {f"{login['issuer']} app": base64.b64encode(Token("given").to_bytes()).decode()}
    for name, members in (("logins.json", document), ("tokens.plaintext", tokens)):
        (tmp_path / name).write_text(json.dumps(members))
        (tmp_path / name).chmod(0o600)
    _, err = call(tmp_path, f"{api}/shell", "--issuer", "https://id.example.com", code=4)
    pasted = f'bearerguard() {{ printf "%s|" "$@"; }}\n{err.splitlines()[2]}'
    done = subprocess.run(["sh", "-c", pasted], capture_output=True, text=True, check=True)
    arguments = "login|https://id.example.com|--client-id|app|--scope|$(id) '`id`|"
    assert done.stdout == arguments + "--storage|insecure-plaintext|"


def test_a_command_that_is_named_keeps_every_option_of_the_login_before():
    login = Login(
        issuer="https://id.example.com/",
        client_id="app",
        scope=("read",),
        resource=("https://api.example.com/a b", "urn:x"),
        storage="file",
        device=True,
        dpop=True,
        assume_pkce=True,
        push=True,
        parameters=(("audience", "https://api.example.com"), ("prompt", "con=sent $(id)")),
        redirect_uri="http://localhost:8765/callback",
        assume_token_type="Bearer",
        bearer_type="User Access Token",
    )
    words = shlex.split(login.command(("read", "write")))
    assert words[:3] == ["bearerguard", "login", "https://id.example.com/"]
    alone = typer.Typer()
    alone.command()(login_command)
    given = typer.main.get_command(alone).make_context("login", words[2:]).params
    assert given["scope"] == ["read write"]
    assert given["resource"] == ["https://api.example.com/a b", "urn:x"]
    assert given["param"] == ["audience=https://api.example.com", "prompt=con=sent $(id)"]
    assert given["redirect_uri"] == "http://localhost:8765/callback"
    assert given["assume_token_type"] == "Bearer"
    assert given["bearer_type"] == "User Access Token"
    assert given["storage"] == "file"
    assert given["device"] is given["dpop"] is given["assume_pkce"] is given["push"] is True


def test_a_login_that_an_api_demands_is_asked_for_as_it_demands():
    login = Login("https://id.example.com", "app", (), (), "", parameters=(("max_age", "9"),))
    refused = StepUpRequired(("gold", "silver"), 60)
    manager = TokenManager(StaticToken("given"))
    assert shlex.split(_command(refused, login, manager))[5:] == [
        *("--param", "max_age=60", "--param", "acr_values=gold silver")
    ]


def test_a_login_remembers_every_option_that_there_is():
    alone = typer.Typer(add_completion=False)
    alone.command()(login_command)
    options = {each.name for each in typer.main.get_command(alone).params} - {"json"}
    names = {each.name for each in fields(Login)}
    assert options - names == {"param"}
    assert names - options == {"parameters", "api"}


def test_a_body_comes_from_the_line_a_file_or_standard_input(api, tmp_path):
    body = tmp_path / "body.json"
    body.write_text("from a file")
    assert call(tmp_path, api, "-d", "here")[0] == "POST|application/json||here"
    assert call(tmp_path, api, "-d", f"@{body}")[0] == "POST|application/json||from a file"
    lines = ("-X", "POST", "-H", "Content-Type: text/plain", "-H", "X-Own: 1")
    assert call(tmp_path, api, "-d", "@-", *lines, given="piped")[0] == "POST|text/plain|1|piped"
    assert call(tmp_path, api, "-i")[0].splitlines()[0] == "HTTP 200 OK"


@pytest.mark.parametrize(
    ("path", "code", "members"),
    [
        ("", 0, {"status": 200, "body": "GET|||"}),
        ("/json", 0, {"status": 200, "body": {"a": [1]}}),
        ("/no-json", 0, {"status": 200, "body": "{"}),
        ("/octets", 0, {"status": 200, "body": None, "body_base64": "/w=="}),
        ("/weak", 4, {"scope": ["write"], "command": "log in again", "exit_code": 4}),
        ("/step-up", 4, {"acr_values": ["gold"], "max_age": 60, "command": "log in again"}),
        ("/unknown", 1, {"status": 401, "body": ""}),
        ("/broken", 1, {"exit_code": 1}),
    ],
)
def test_a_script_gets_the_response_or_the_error_as_json(api, tmp_path, path, code, members):
    said = json.loads(call(tmp_path, f"{api}{path}", "--json", code=code)[0])
    assert members.items() <= said.get("error", said).items()
    assert ("headers" in said) == ("status" in members)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("-H", "no colon"), "pass a header field"),
        (("-H", "authorization: Bearer x"), "leave Authorization out"),
        (("-H", "Ä: x"), "pass a header field"),
        (("-H", "X: a\nb"), "is malformed"),
        (("-X", "A B"), "is malformed"),
        (("-X", "Ä"), "-X: pass a method"),
        (("-d", "@/nowhere/at/all"), "cannot be read"),
    ],
)
def test_an_option_that_cannot_be_used_is_named(api, tmp_path, arguments, said):
    assert said in call(tmp_path, api, *arguments, code=2)[1]


@pytest.mark.parametrize(
    "url", ["https://[::1", "https://id.example.com:99999/", "https://a..b/", "https://h/\x7f"]
)
def test_an_address_that_cannot_be_is_an_error_in_one_line(tmp_path, url):
    _, err = call(tmp_path, url, code=2)
    assert "URL" in err
    assert len(err.splitlines()) == 1


def test_a_response_that_cannot_be_decoded_is_reported(api, tmp_path):
    assert "cannot be decoded" in call(tmp_path, f"{api}/broken", code=1)[1]


def test_octets_that_are_no_text_are_sent_as_they_are(api, tmp_path):
    lines = ("-H", os.fsdecode(b"X-Own: \xe4"), "-d", os.fsdecode(b"\xff"))
    assert call(tmp_path, f"{api}/digits", *lines)[0] == "e4|ff"


def test_an_api_on_this_machine_is_called_past_the_proxy(api, tmp_path, monkeypatch):
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{free_port()}")
    assert call(tmp_path, api)[0] == "GET|||"


def test_an_api_that_is_not_there_may_be_tried_again(tmp_path):
    url = f"http://127.0.0.1:{free_port()}/"
    assert "could not be reached" in call(tmp_path, url, code=75)[1]
