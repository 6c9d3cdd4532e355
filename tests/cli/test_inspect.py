"""`bearerguard inspect`: what a person reads, what a script reads, and how it ends."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
import termios
from collections.abc import Callable, Generator
from pathlib import Path
from struct import pack
from threading import Timer
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from bearerguard.cli import app
from bearerguard.cli.guard.inspect import FLAGS, flag_of
from bearerguard.guard.config.settings import NAMES, PREFIX
from bearerguard.testing import LocalIssuer

Run = Callable[..., Result]
AUDIENCE = "https://api.test"
COMMAND = (sys.executable, "-c", "from bearerguard.cli import main; main()", "inspect")


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(PREFIX):
            monkeypatch.delenv(name)
    monkeypatch.setattr(sys, "path", [*sys.path])


@pytest.fixture(scope="module")
def issuer() -> Generator[LocalIssuer]:
    local = LocalIssuer(algorithm="ES256")
    with local.serve():
        yield local


@pytest.fixture
def run(issuer: LocalIssuer, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run the command with the issuer's policy in the environment."""
    monkeypatch.setenv("BEARERGUARD_ISSUER", issuer.url)
    monkeypatch.setenv("BEARERGUARD_AUDIENCE", AUDIENCE)
    return bare


def bare(*arguments: str, given: str = "", code: int | None = 0) -> Result:
    result = CliRunner().invoke(app, ["inspect", *arguments], input=given)
    assert code in {None, result.exit_code}, result.output
    return result


def check_of(result: Result, name: str) -> dict[str, Any]:
    (found,) = [each for each in json.loads(result.stdout)["checks"] if each["name"] == name]
    return dict(found)


def test_a_good_token_is_accepted_with_every_check(run: Run, issuer: LocalIssuer) -> None:
    shown = run(given=issuer.token()).stdout
    assert shown.startswith("accepted at ")
    assert re.search(r"^passed +signature +that of the key$", shown, re.MULTILINE)
    assert "\x1b" not in shown
    assert "✓" not in shown


def test_SCOPE_01_a_scope_that_implies_the_required_one_is_named(
    run: Run, issuer: LocalIssuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BEARERGUARD_IMPLIES", '{"admin": ["write"], "write": ["read"]}')
    result = run("--scope", "read", given=issuer.token(scopes=["admin"]))
    assert "the token's scopes imply it: ['admin']" in result.stdout


def test_a_refused_token_is_explained_with_each_failure_and_its_remedy(
    run: Run, issuer: LocalIssuer
) -> None:
    token = issuer.token(expires_in=-300, scopes=["read"], claims={"aud": "https://other.test"})
    shown = run("--scope", "write", given=token, code=1).stdout
    assert shown.startswith("refused: 401 invalid_token (wrong_audience) at ")
    assert re.search(r"^failed +audience +actual +'https://other.test'$", shown, re.MULTILINE)
    assert re.search(r"^ +expected +'https://api.test' \(RFC.7519.§4.1.3\)$", shown, re.MULTILINE)
    assert re.search(r"^ +remedy +ask the issuer for that audience", shown, re.MULTILINE)
    assert "UTC (5 min ago)" in shown
    assert "scopes ['read']" in shown
    assert not any(part in shown for part in token.split("."))


def test_the_values_of_claims_are_printed_only_on_demand(run: Run, issuer: LocalIssuer) -> None:
    token = issuer.token(subject="person-0815")
    hidden = run(given=token).stdout
    assert "person-0815" not in hidden
    assert "sub" in hidden
    shown = run("--show-claims", given=token).stdout
    assert "person-0815" in shown
    assert re.search(r"^exp +\d+ \(20..-..-..T..:..:..Z\)$", shown, re.MULTILINE)
    document = json.loads(run("--json", given=token).stdout)
    assert "person-0815" not in json.dumps(document)
    assert "sub" in document["claims"]
    document = json.loads(run("--json", "--show-claims", given=token).stdout)
    assert document["claims"]["sub"] == "person-0815"


def test_who_acts_is_among_the_claims(run: Run, issuer: LocalIssuer) -> None:
    token = issuer.token(claims={"act": {"sub": "agent-0815", "act": {"sub": "console"}}})
    assert re.search(r"^claims .*\bact\b", run(given=token).stdout, re.MULTILINE)
    assert "agent-0815" not in run(given=token).stdout
    assert "agent-0815" in run("--show-claims", given=token).stdout
    document = json.loads(run("--json", "--show-claims", given=token).stdout)
    assert document["claims"]["act"]["act"] == {"sub": "console"}


def test_json_has_the_decision_and_every_check(run: Run, issuer: LocalIssuer) -> None:
    result = run("--json", "--role", "admin", given=issuer.token(roles=["reader"]), code=1)
    document = json.loads(result.stdout)
    assert set(document) == {
        *("result", "status", "reason", "error", "issuer", "at", "header", "claims", "checks")
    }
    assert (document["result"], document["status"]) == ("refused", 403)
    assert document["reason"] == "requirement_unmet"
    assert document["at"].endswith("Z")
    assert check_of(result, "requirement") == {
        "name": "requirement",
        "status": "failed",
        "expected": "role 'admin'",
        "actual": "roles ['reader']",
        "remedy": "give the user or the client what is missing, at the issuer",
        "reference": "RFC 6750 §3.1",
        "reason": "requirement_unmet",
    }


@pytest.mark.parametrize(
    "written", ["{}", "{}\n", " {}\r\n", "Bearer {}", "authorization: bearer {}\n"]
)
def test_a_token_is_read_as_people_copy_it(run: Run, issuer: LocalIssuer, written: str) -> None:
    token = issuer.token()
    run("-", given=written.format(token))
    run(given=written.format(token))


def test_a_token_in_an_argument_is_warned_about(run: Run, issuer: LocalIssuer) -> None:
    result = run(issuer.token())
    assert "history" in result.stderr
    assert "history" not in result.stdout


def test_standard_input_without_a_token_is_an_error(run: Run) -> None:
    assert "a token is expected" in run(given="\n", code=2).stderr


def test_an_opaque_token_without_introspection_says_what_to_configure(run: Run) -> None:
    shown = run(given="2YotnFZFEjr1zCsicMWpAA", code=1).stdout
    assert "an opaque token" in shown
    assert "pass introspection= to the Issuer" in shown


def test_an_opaque_token_is_introspected_where_the_environment_says_how(
    run: Run, issuer: LocalIssuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    how = issuer.introspection.options()
    monkeypatch.setenv("BEARERGUARD_INTROSPECTION_CLIENT_ID", how.client_id or "")
    monkeypatch.setenv("BEARERGUARD_INTROSPECTION_CLIENT_SECRET", how.client_secret or "")
    assert "it is active" in run(given=issuer.opaque_token()).stdout
    assert "it is not active" in run(given="2YotnFZFEjr1zCsicMWpAA", code=1).stdout


def test_an_issuer_that_cannot_be_reached_ends_with_75() -> None:
    local = LocalIssuer(algorithm="ES256")
    with local.serve():
        local.outage = True
        policy = ("--issuer", local.url, "--audience", AUDIENCE)
        shown = bare(*policy, given=local.token(), code=75).stdout
    assert shown.startswith("unavailable: 503 (issuer_unavailable)")
    assert "status 503" in shown


# The time


def test_a_token_is_judged_at_another_time(run: Run, issuer: LocalIssuer) -> None:
    token = issuer.token(expires_in=60)
    assert "(2 h ago)" not in run(given=token).stdout
    result = run("--at", "2099-11-28T18:00:00Z", "--json", given=token, code=1)
    document = json.loads(result.stdout)
    assert (document["reason"], document["at"]) == ("expired", "2099-11-28T18:00:00Z")
    for same in ("4099572000", "2099-11-28T18:00:00", "2099-11-28T19:00:00+01:00"):
        again = run("--at", same, "--json", given=token, code=1)
        assert json.loads(again.stdout)["at"] == "2099-11-28T18:00:00Z"


@pytest.mark.parametrize("text", ["tomorrow", "nan", "inf", ""])
def test_a_time_that_is_none_is_refused(run: Run, text: str) -> None:
    assert "--at: " in run("--at", text, code=2).stderr


# The policy


def test_the_policy_may_be_given_by_options(issuer: LocalIssuer) -> None:
    token = issuer.token(header={"typ": "JWT"}, claims={"aud": "b"})
    policy = ("--issuer", issuer.url, "--audience", "a,b")
    assert "wrong_type" in bare(*policy, given=token, code=1).stdout
    bare(*policy, "--token-types", "at+jwt,JWT", "--leeway", "5", given=token)
    strict = bare(*policy, "--strict", "--json", given=issuer.token(claims={"jti": None}), code=1)
    assert check_of(strict, "required claims")["actual"] == "it has no jti"


def test_options_win_over_the_environment(run: Run, issuer: LocalIssuer) -> None:
    run("--audience", "https://other.test", given=issuer.token(), code=1)


def test_each_option_of_a_policy_has_the_name_of_its_variable() -> None:
    explained = CliRunner().invoke(app, ["inspect", "--help"], env={"COLUMNS": "200"}).stdout
    plain = re.sub(r"\x1b\[[\d;]*m", "", explained)
    assert len(FLAGS) == 12
    for setting in FLAGS.values():
        flag = flag_of(setting)
        assert re.search(rf"^  {flag}(?= |$)", plain, re.MULTILINE)
        assert PREFIX + flag[2:].upper().replace("-", "_") in NAMES
        assert not setting.is_secret


def test_without_a_policy_it_says_how_to_give_one() -> None:
    said = bare(given="x", code=2).stderr
    assert "--app MODULE:NAME" in said
    assert "BEARERGUARD_ISSUER" in said


def test_a_wrong_policy_names_the_option_and_the_variable() -> None:
    said = bare("--issuer", "http://id.example.com", "--audience", "a", given="x", code=2).stderr
    assert "https" in said
    said = bare("--issuer", "https://id.example.com", given="x", code=2).stderr
    assert "--audience, BEARERGUARD_AUDIENCE is not set" in said
    said = bare("--leeway", "soon", "--issuer", "https://i.test", given="x", code=2).stderr
    assert "--leeway, BEARERGUARD_LEEWAY: give a number" in said


# The app


MADE = 0


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, issuer: LocalIssuer) -> Any:
    """Return what writes a module into the working directory, and returns its name."""
    monkeypatch.chdir(tmp_path)

    def write(text: str) -> str:
        global MADE  # noqa: PLW0603 - a module is imported once
        MADE += 1
        name = f"inspected_{MADE}"
        head = (
            "from bearerguard import Guard, Issuer, scopes, role\n"
            f"guard_of_it = Guard(Issuer({issuer.url!r}, audience={AUDIENCE!r}),"
            " require=scopes('read'))\n"
        )
        (tmp_path / f"{name}.py").write_text(head + text)
        return name

    return write


APPS = {
    "a guard": "app = guard_of_it",
    "asgi middleware": """
from bearerguard.asgi import BearerMiddleware
async def inner(scope, receive, send): ...
app = BearerMiddleware(inner, guard=guard_of_it, require=scopes("write"))
""",
    "wsgi middleware in another": """
from bearerguard.wsgi import BearerMiddleware
class Outer:
    def __init__(self, app):
        self.app = app
    def __call__(self, environ, start_response):
        return self.app(environ, start_response)
app = Outer(BearerMiddleware(lambda e, s: [], guard=guard_of_it, require=scopes("write")))
""",
    "starlette": """
from starlette.applications import Starlette
from starlette.middleware import Middleware
from bearerguard.starlette import BearerMiddleware
app = Starlette(
    middleware=[Middleware(BearerMiddleware, guard=guard_of_it, require=scopes("write"))]
)
""",
    "starlette, mounted": """
from starlette.applications import Starlette
from starlette.routing import Mount
from bearerguard.starlette import BearerMiddleware
inner = BearerMiddleware(Starlette(), guard=guard_of_it, require=scopes("write"))
app = Starlette(routes=[Mount("/api", inner)])
""",
    "flask": """
import flask
from bearerguard.flask import BearerGuard
app = flask.Flask("recordings")
BearerGuard(app, guard=guard_of_it, require=scopes("write"))
""",
    "quart": """
import quart
from bearerguard.quart import BearerGuard
app = quart.Quart("recordings")
BearerGuard(app, guard=guard_of_it, require=scopes("write"))
""",
    "litestar": """
from litestar import Litestar
from bearerguard.litestar import BearerPlugin
app = Litestar(plugins=[BearerPlugin(guard_of_it, require=scopes("write"))])
""",
    "fastapi, by middleware": """
from fastapi import FastAPI
from bearerguard.starlette import BearerMiddleware
app = FastAPI()
app.add_middleware(BearerMiddleware, guard=guard_of_it, require=scopes("write"))
""",
}


@pytest.mark.parametrize("kind", APPS)
def test_the_guard_of_an_app_is_found(kind: str, module: Any, issuer: LocalIssuer) -> None:
    name = module(APPS[kind])
    shown = bare("--app", f"{name}:app", "--json", given=issuer.token(scopes=["read"]), code=None)
    document = json.loads(shown.stdout)
    requirement = check_of(shown, "requirement")
    if kind == "a guard":
        assert document["result"] == "accepted"
        assert requirement["expected"] == "scope 'read'"
    else:
        assert document["reason"] == "insufficient_scope"
        assert requirement["expected"] == "scope 'read' and scope 'write'"


def test_a_guard_is_found_in_the_dependencies_of_routes(module: Any, issuer: LocalIssuer) -> None:
    name = module("""
from typing import Annotated
from fastapi import FastAPI, Security
from bearerguard import Principal
from bearerguard.fastapi import BearerSecurity
app = FastAPI()
bearer = BearerSecurity(guard_of_it, require=role("admin"))
@app.get("/recordings")
def recordings(principal: Annotated[Principal, Security(bearer, scopes=["write"])]): ...
""")
    token = issuer.token(scopes=["read"])
    result = bare("--app", f"{name}:app", "--json", given=token, code=1)
    assert check_of(result, "requirement")["expected"] == "scope 'read' and role 'admin'"


def test_an_app_may_be_made_by_a_function_or_be_named_as_usual(
    module: Any, issuer: LocalIssuer
) -> None:
    name = module("def create_app():\n    return guard_of_it\nclass It:\n    app = guard_of_it")
    token = issuer.token(scopes=["read"])
    bare("--app", f"{name}:create_app()", given=token)
    bare("--app", f"{name}:It.app", given=token)
    bare("--app", module("print('importing')\napp = guard_of_it"), "--json", given=token)


def test_a_guard_is_found_beside_an_app_that_does_not_show_it(
    module: Any, issuer: LocalIssuer
) -> None:
    name = module("def app(environ, start_response): ...")
    bare("--app", f"{name}:app", given=issuer.token(scopes=["read"]))


def test_the_name_of_a_claim_cannot_steer_the_terminal(run: Run, issuer: LocalIssuer) -> None:
    steering = "\x1b]0;pwned\x07\u202e\nrefused"
    shown = run("--show-claims", given=issuer.token(claims={steering: steering})).stdout
    escaped = r"\x1b]0;pwned\x07\u202e\nrefused"
    assert f"\n{escaped}  " in shown
    assert not set(steering) - set("refusedpwn]0;\n") & set(shown)


@pytest.mark.parametrize(
    ("text", "path", "said"),
    [
        ("", "{}:missing", "has no 'missing'"),
        ("", "{}", "name what is in the module"),
        ("import nowhere_at_all", "{}:app", "importing it raised ModuleNotFoundError"),
        ("1 / 0", "{}:app", "importing it raised ZeroDivisionError"),
        ("raise SystemExit(3)", "{}:app", "importing it raised SystemExit"),
        ("def app():\n    1 / 0", "{}:app()", "calling it raised ZeroDivisionError"),
        ("def app():\n    raise SystemExit(0)", "{}:app()", "calling it raised SystemExit"),
        (
            "class Lazy:\n    def __getattr__(self, name):\n        1 / 0\napp = Lazy()",
            "{}:app",
            "finding its guard raised ZeroDivisionError",
        ),
        ("del guard_of_it\napp = object()", "{}:app", "no guard was found"),
        ("app = [guard_of_it, Guard(*guard_of_it.issuers)]", "{}:app", "there are 2 guards"),
        ("", "nowhere_at_all.web:app", "there is no module 'nowhere_at_all'"),
    ],
)
def test_an_import_path_that_leads_nowhere_is_explained(
    text: str, path: str, said: str, module: Any
) -> None:
    name = module(text)
    assert said in bare("--app", path.format(name), given="x", code=2).stderr


def test_an_app_and_options_of_a_policy_exclude_each_other(module: Any) -> None:
    name = module("app = guard_of_it")
    said = bare("--app", f"{name}:app", "--issuer", "https://i.test", given="x", code=2).stderr
    assert "--app, --issuer: " in said


DJANGO = """
from django.conf import settings
from bearerguard import scopes
settings.configure(
    SECRET_KEY="of a test",
    ROOT_URLCONF=__name__,
    MIDDLEWARE=["bearerguard.django.BearerMiddleware"],
    BEARERGUARD={
        "ISSUER": "https://id.example.com",
        "AUDIENCE": "https://api.test",
        "SHARED_SECRET": "s" * 32,
        "REQUIRE": scopes("write"),
    },
)
from django.core.wsgi import get_wsgi_application
urlpatterns = []
application = get_wsgi_application()
"""


def test_the_guard_of_a_django_project_is_that_of_its_settings(tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(DJANGO)  # another process: settings are made once
    local = LocalIssuer(
        "https://id.example.com", audience=AUDIENCE, algorithm="HS256", secret="s" * 32
    )
    shown = subprocess.run(
        [*COMMAND, "--app", "shop:application"],
        input=local.token(scopes=["read"]),
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=False,
    )
    assert shown.returncode == 1, shown.stderr
    assert shown.stdout.startswith("refused: 403 insufficient_scope")
    assert "scope 'write'" in shown.stdout


# On a terminal


def on_a_terminal(arguments: list[str], typed: str, columns: int, **env: str) -> tuple[str, int]:
    """Return what a person sees who runs the command and types, and its exit code."""
    ours, theirs = pty.openpty()
    import fcntl

    fcntl.ioctl(theirs, termios.TIOCSWINSZ, pack("HHHH", 24, columns, 0, 0))
    process = subprocess.Popen(
        [*COMMAND, *arguments],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env={**os.environ, "TERM": "xterm-256color", **env},
        start_new_session=True,
    )
    os.close(theirs)
    seen = b""
    timer = Timer(20, process.kill)  # reading ends then, too
    timer.start()
    while not seen.endswith(b"Access token: "):  # then the terminal echoes nothing
        seen += os.read(ours, 4096)
    os.write(ours, typed.encode() + b"\n")
    try:
        while chunk := os.read(ours, 4096):
            seen += chunk
    except OSError:  # the terminal is closed
        pass
    timer.cancel()
    os.close(ours)
    return seen.decode(), process.wait(10)


def test_a_person_types_the_token_unseen_and_reads_80_columns_with_colour(
    issuer: LocalIssuer,
) -> None:
    token = issuer.token(claims={"aud": "https://other.example.com/" + "long/" * 12})
    policy = {"BEARERGUARD_ISSUER": issuer.url, "BEARERGUARD_AUDIENCE": AUDIENCE, "NO_COLOR": ""}
    seen, code = on_a_terminal([], token, 80, **policy)
    assert code == 1
    assert token not in seen
    assert "\x1b[32m✓\x1b[0m signature" in seen
    assert "\x1b[1;31m✗\x1b[0m audience" in seen
    plain = re.sub(r"\x1b\[[\d;]*m", "", seen)
    assert max(map(len, plain.splitlines())) <= 80
    cut, _ = on_a_terminal([], "x" * 4095, 80, **policy)
    assert "the terminal may have cut the token" in re.sub(r"\s+", " ", cut)


def test_a_script_gets_an_error_as_json_too() -> None:
    result = bare("--json", given="x", code=2)
    assert json.loads(result.stdout)["error"]["exit_code"] == 2


def test_STEP_01_a_login_that_a_route_requires_is_inspected(run: Run, issuer: LocalIssuer) -> None:
    login = {"acr": "phr", "auth_time": int(issuer.clock()) - 600}
    token = issuer.token(claims=login)
    run("--acr", "pwd", "--acr", "phr", "--max-age", "900", given=token)
    shown = run("--max-age", "300", given=token, code=1).stdout
    assert "refused: 401 insufficient_user_authentication" in shown
    assert "a login at most 300 s old" in shown
    assert "a login 10 min old" in shown
    assert "acr 'phr'" in run("--acr", "phrh", given=token, code=1).stdout
    run("--max-age", "0", given=token, code=2)
