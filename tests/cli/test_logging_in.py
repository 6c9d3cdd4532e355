"""Logging in from the command line, against our own server, with a real browser; and afterwards."""

from __future__ import annotations

import json
import os
import pty
import re
import secrets
import subprocess
import sys
import time
from collections.abc import Callable, Generator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, parse_qsl, urlencode, urlsplit

import httpx2
import pytest
from typer.testing import CliRunner

from bearerguard.cli import app
from bearerguard.client.storages.environment import TOKEN_VARIABLE
from bearerguard.client.storages.file_key import KEY_VARIABLE
from bearerguard.client.storages.state_directory import VARIABLE as HOME_VARIABLE
from bearerguard.runtime.messages import Request, Response
from bearerguard.server import AuthorizationServer
from bearerguard.testing.loopback import serving
from tests.chromium import pressed
from tests.processes import free_port, program

ROOT = Path(__file__).parents[2]
SECRET = "a secret of this test's own long enough"


class Machine:
    """A running server with an API, a registered native app, and a user's own directory."""

    def __init__(self, url: str, client_id: str, home: Path) -> None:
        self.url, self.client_id, self.home = url, client_id, home
        self.environ = {
            **{name: value for name, value in os.environ.items() if name != "DISPLAY"},
            HOME_VARIABLE: str(home),
            KEY_VARIABLE: secrets.token_hex(32),
        }

    def start(self, *arguments: str, **environ: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-c", "from bearerguard.cli import main; main()", *arguments],
            env=self.environ | environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *arguments: str, code: int = 0, **environ: str) -> tuple[str, str]:
        """Run a command in this process: a new one takes a second to start."""
        given = {"DISPLAY": None, **self.environ, **environ}
        done = CliRunner().invoke(app, arguments, env=given, catch_exceptions=False)
        assert done.exit_code == code, done.output
        return done.stdout, done.stderr

    def login(
        self, *options: str, browse: Callable[[str], object], scope: str = "read", code: int = 0
    ) -> tuple[str, str]:
        """Log in, and have `browse` visit the URL that is printed."""
        process = self.start(
            "login", self.url, "--client-id", self.client_id, *options, "--scope", scope
        )
        assert process.stderr is not None
        said = ""
        for line in process.stderr:
            said += line
            found = re.search(r"https?://\S+/oauth/authorize\?\S+", line)
            if found:
                browse(found[0])
                break
        try:
            out, err = process.communicate(timeout=60)
        finally:
            process.kill()
        assert process.returncode == code, said + out + err
        return out, said + err

    def token_requests(self) -> int:
        return int(httpx2.get(f"{self.url}/asked").text)


@pytest.fixture(scope="module")
def servers(
    tmp_path_factory: pytest.TempPathFactory,
) -> Generator[Callable[..., tuple[str, str]]]:
    """Return the URL of a server with these variables, and the id of its client; start it once."""
    running: dict[frozenset[tuple[str, str]], tuple[str, str]] = {}
    with ExitStack() as stack:

        def serve(**environ: str) -> tuple[str, str]:
            found = running.get(key := frozenset(environ.items()))
            if found is not None:
                return found
            port, folder = free_port(), tmp_path_factory.mktemp("server")
            url, store = f"http://127.0.0.1:{port}", f"sqlite:///{folder}/auth.db"
            command = [
                *(sys.executable, "-m", "uvicorn", "tests.cli.recordings_app:app"),
                *("--no-access-log", "--lifespan", "off", "--port", str(port)),
            ]
            variables = {"ISSUER": url, "STORE": store, "BEARERGUARD_SERVER_SECRET": SECRET}
            started = program(command, cwd=ROOT, environ=variables | environ)
            stack.enter_context(started).wait_for_port(port)
            server = AuthorizationServer(url, store=store, secret=SECRET)
            client = server.clients.add(
                "Command line",
                public=True,
                redirect_uris=["http://127.0.0.1/callback"],
                scopes=["read", "write"],
            )
            server.close()
            running[key] = url, client.client_id
            return running[key]

        yield serve


@pytest.fixture
def make(servers: Callable[..., tuple[str, str]], tmp_path: Path) -> Callable[..., Machine]:
    """Make a machine whose user has logged in nowhere."""
    return lambda **environ: Machine(*servers(**environ), tmp_path / "home")


def allow(url: str) -> str:
    """Do what a browser does: allow on the consent page, and follow the way back."""
    with httpx2.Client(follow_redirects=True, timeout=20) as browser:
        page = browser.get(url)
        fields = dict(re.findall(r'name="([^"]+)"\s+value="([^"]*)"', page.text))
        action = re.search(r'<form[^>]*action="([^"]+)"', page.text)
        if action is None:
            return page.text
        response = browser.post(
            page.url.join(action[1].replace("&amp;", "&")),
            data=fields | {"decision": "allow"},
            headers={"Origin": f"{page.url.scheme}://{page.url.netloc.decode()}"},
        )
        return response.text


def test_a_login_is_kept_used_shown_and_ended(make):
    machine = make()
    seen: list[str] = []
    out, err = machine.login("--json", browse=lambda url: seen.append(allow(url)))
    assert "You can close this page" in seen[0]
    assert json.loads(out)["scope"] == ["read"]
    token, said = machine.run("token")
    assert machine.run("token", "--header")[0] == f"Authorization: Bearer {token}"
    assert re.fullmatch(r"[\w-]+\.[\w-]+\.[\w-]+\n", token)
    assert said == ""
    assert token.strip() not in out + err
    status = json.loads(machine.run("status", "--json")[0])["logins"][0]
    assert status["issuer"] == machine.url
    assert status["refreshes"] is True
    assert 3500 < status["expires_in"] <= 3600
    shown = machine.run("status")[0]
    assert "valid for 59 min" in shown or "valid for 60 min" in shown
    assert token.strip() not in shown
    for path in machine.home.iterdir():
        assert token.strip().encode() not in path.read_bytes()
    body, _ = machine.run("call", f"{machine.url}/api")
    assert body == "ada may GET"
    _, err = machine.run("logout")
    assert "the token is revoked" in err
    assert "There are no logins" in machine.run("status")[0]
    assert "run `bearerguard login ISSUER`" in machine.run("token", code=4)[1]
    refused = httpx2.get(f"{machine.url}/api", headers={"Authorization": f"Bearer {token.strip()}"})
    assert refused.status_code == 401


def test_a_call_that_lacks_scope_says_which_and_how_to_get_it(make):
    machine = make()
    machine.login(browse=allow)
    out, err = machine.run("call", f"{machine.url}/api", "-d", "{}", code=4)
    assert out == ""
    assert "the token lacks the scope write" in err
    assert (
        f"bearerguard login {machine.url} --client-id {machine.client_id} --scope 'read write'"
        in err
    )
    machine.login(browse=allow, scope="read write")
    assert machine.run("call", f"{machine.url}/api", "-X", "POST")[0] == "ada may POST"


def test_a_script_gets_json_of_the_token_of_calls_and_of_refusals(make):
    machine = make()
    machine.login(browse=allow)
    token = json.loads(machine.run("token", "--json")[0])
    assert re.fullmatch(r"[\w-]+\.[\w-]+\.[\w-]+", token["access_token"])
    assert (token["token_type"], token["scope"]) == ("Bearer", ["read"])
    assert 3500 < token["expires_in"] <= 3600
    assert "choose one of them" in machine.run("token", "--json", "--header", code=2)[1]
    good = json.loads(machine.run("call", f"{machine.url}/api", "--json")[0])
    assert (good["status"], good["body"]) == (200, "ada may GET")
    assert good["headers"]["server"] == ["uvicorn"]
    lacking = json.loads(machine.run("call", f"{machine.url}/api", "-d", "{}", "--json", code=4)[0])
    assert lacking["error"]["scope"] == ["write"]
    assert "--scope 'read write'" in lacking["error"]["command"]
    assert lacking["error"]["exit_code"] == 4
    left = json.loads(machine.run("logout", "--json")[0])
    assert left == {"issuer": machine.url, "revoked": True, "problem": None}
    for command in (("token",), ("logout",), ("call", machine.url)):
        out, _ = machine.run(*command, "--json", code=4)
        assert json.loads(out)["error"]["message"].startswith("nobody has logged in")


def test_the_suggested_login_keeps_the_scopes_that_were_granted_without_being_requested(make):
    machine = make()
    machine.login(browse=allow, scope="")
    challenge = ("WWW-Authenticate", 'Bearer error="insufficient_scope", scope="admin"')
    with serving(lambda _request: Response(403, (challenge,))) as api:
        _, err = machine.run("call", api, code=4)
    assert f"--client-id {machine.client_id} --scope 'read write admin'" in err


def test_a_user_who_refuses_is_told_apart_from_one_who_never_came(make):
    machine = make()

    def deny(url: str) -> None:
        query = parse_qs(urlsplit(url).query)
        back = {"error": "access_denied", "state": query["state"][0], "iss": machine.url}
        httpx2.get(f"{query['redirect_uri'][0]}?{urlencode(back)}")

    _, err = machine.login(browse=deny, code=1)
    assert "access_denied" in err
    assert "Traceback" not in err
    assert "There are no logins" in machine.run("status")[0]


def test_four_processes_with_an_expired_token_ask_for_one(make):
    machine = make(LIFETIME="2")
    machine.login(browse=allow)
    before = machine.token_requests()
    time.sleep(2.1)
    processes = [machine.start("token") for _ in range(4)]
    tokens = {process.communicate(timeout=60)[0] for process in processes}
    asked = machine.token_requests() - before
    print(f"4 processes, {asked} token request(s), {len(tokens)} token(s)")
    assert [process.returncode for process in processes] == [0] * 4
    assert asked == 1
    assert len(tokens) == 1


def test_a_place_that_keeps_nothing_ends_the_login_before_it_begins(make, tmp_path):
    machine = make()
    machine.home.mkdir(mode=0o755)
    _, err = machine.run("login", machine.url, "--client-id", machine.client_id, code=1)
    assert "is open to other users" in err
    assert "/oauth/authorize" not in err


def test_chromium_completes_a_login(make, tmp_path):
    machine = make()
    shown: list[str] = []

    def browse(url: str) -> None:
        button = "button[value=allow]"
        shown.append(pressed(url, button, "You can close this page", tmp_path / "profile"))

    out, _ = machine.login("--json", browse=browse)
    assert "Access was granted" in shown[0]
    assert json.loads(out)["issuer"] == machine.url
    assert machine.run("call", f"{machine.url}/api")[0] == "ada may GET"


def test_a_token_of_the_environment_needs_no_login(make):
    machine = make()
    assert machine.run("token", **{TOKEN_VARIABLE: "given"})[0] == "given\n"
    shown = machine.run("status", **{TOKEN_VARIABLE: "given"})[0]
    assert f"{TOKEN_VARIABLE} is set" in shown
    _, err = machine.run("call", f"{machine.url}/api", code=1, **{TOKEN_VARIABLE: "given"})
    assert "401" in err
    assert "invalid_token" in err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("login", "http://id.example.com", "--client-id", "a"), "http"),
        (("login", "https://id.example.com", "--client-id", "a", "--storage", "x"), "--storage"),
        (("call", "recordings"), "absolute"),
    ],
)
def test_bad_options_end_with_a_remedy(arguments, said, tmp_path):
    machine = Machine("", "", tmp_path / "home")
    _, err = machine.run(*arguments, code=2, **{TOKEN_VARIABLE: "given"})
    assert said in err


@pytest.mark.parametrize("storage", ["auto", "insecure-plaintext"])
def test_a_login_that_can_be_none_is_refused_before_anything_else(tmp_path, storage):
    machine = Machine("", "", tmp_path / "home")
    options = ("--client-id", "a", "--storage", storage)
    for issuer, given in (
        ("http://id.example.com", options),
        ("https://id.example.com", ("--client-id", "")),
    ):
        _, err = machine.run("login", issuer, *given, code=2)
        assert len(err.splitlines()) == 1
    assert not machine.home.exists()  # nothing was probed


def device_server(asked: list[str]) -> Callable[[Request], Response]:
    """Return a handler that responds as RFC 8628 says: pending once, then a token."""

    def respond(request: Request) -> Response:
        base = f"http://{request.values(b'host')[0].decode()}"
        form = dict(parse_qsl(request.body.decode()))
        if "well-known" in request.url:
            return json_response(
                issuer=base,
                token_endpoint=f"{base}/token",
                device_authorization_endpoint=f"{base}/device",
            )
        if request.url == "/device":
            return json_response(
                device_code="d",
                user_code="WDJB-MJHT",
                verification_uri=f"{base}/enter",
                verification_uri_complete=f"{base}/enter?code=WDJB-MJHT",
                expires_in=60,
                interval=1,
            )
        asked.append(form["grant_type"])
        if len(asked) == 1:
            return json_response(400, error="authorization_pending")
        return json_response(access_token="opaque-token", token_type="Bearer", expires_in=600)

    return respond


def test_a_login_with_a_code_shows_it_and_waits_for_the_answer(tmp_path):
    asked: list[str] = []
    with serving(device_server(asked)) as url:
        machine = Machine(url, "tv", tmp_path / "home")
        _, err = machine.run("login", url, "--client-id", "tv")
        assert "WDJB-MJHT" in err
        assert f"{url}/enter?code=WDJB-MJHT" in err
        assert asked == ["urn:ietf:params:oauth:grant-type:device_code"] * 2
        assert machine.run("token")[0] == "opaque-token\n"
        assert "refreshed automatically" not in machine.run("status")[0]


def test_at_a_terminal_something_turns_while_the_login_waits_and_the_result_is_json(tmp_path):
    ours, theirs = pty.openpty()
    with serving(device_server([])) as url:
        machine = Machine(url, "tv", tmp_path / "home")
        command = [sys.executable, "-c", "from bearerguard.cli import main; main()"]
        done = subprocess.run(
            [*command, "login", url, "--client-id", "tv", "--json"],
            env=machine.environ | {"TERM": "xterm", "COLUMNS": "40"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=theirs,
            timeout=60,
            check=True,
        )
    os.close(theirs)
    said = ""
    with suppress(OSError):  # how a terminal that nobody holds any more ends
        while True:
            said += os.read(ours, 65_536).decode()
    os.close(ours)
    assert len(set(re.findall("[\u2801-\u28ff]", said))) > 1  # the frames of what turns
    assert f"{url}/enter?code=WDJB-MJHT" in said
    assert json.loads(done.stdout)["issuer"] == url
    assert "opaque-token" not in done.stdout.decode() + said


def json_response(status: int = 200, **members: Any) -> Response:
    body = json.dumps(members).encode()
    return Response(status, (("Content-Type", "application/json"),), body)


def test_a_damaged_list_of_logins_is_reported_and_left_as_it_is(tmp_path):
    machine = Machine("", "", tmp_path / "home")
    machine.home.mkdir(mode=0o700)
    path = machine.home / "logins.json"
    bad = ("", "[]", "[" * 9999, '{"version": 2, "logins": []}')
    for text in (*bad, '{"version": 1, "logins": [{}]}', '{"version": 1, "logins": [1]}'):
        path.write_text(text)
        path.chmod(0o600)
        assert "is not a list of logins" in machine.run("status", code=1)[1]
        assert path.read_text() == text


def test_a_token_that_is_gone_or_cannot_be_read_is_shown_as_such(make):
    machine = make()
    machine.login(browse=allow)
    out, _ = machine.run("status", code=1, **{KEY_VARIABLE: secrets.token_hex(32)})
    assert "it was encrypted with another key" in out
    (machine.home / "tokens").unlink()
    assert "no token is stored: log in again" in machine.run("status", code=1)[0]
    assert "nobody has logged in" in machine.run("token", code=4)[1]


def test_a_login_by_a_plaintext_file_says_what_it_is(make):
    machine = make()
    _, err = machine.login("--storage", "insecure-plaintext", browse=allow)
    assert "whoever can read this user's files has the token" in err
    assert machine.run("call", f"{machine.url}/api", "-i")[0].startswith("HTTP 200")


def test_each_token_that_is_kept_is_shown_and_can_be_revoked(make):
    machine = make()
    machine.login(browse=allow)
    machine.login("--storage", "insecure-plaintext", browse=allow)
    machine.login("--storage", "insecure-plaintext", browse=allow)
    kept = [each["storage"] for each in json.loads(machine.run("status", "--json")[0])["logins"]]
    assert ["PLAINTEXT" in each for each in kept] == [True, False]
    for _ in kept:
        assert "the token is revoked" in machine.run("logout")[1]
    assert "There are no logins" in machine.run("status")[0]
