"""`protect` around an app of any kind: what it passes on, and what it refuses by itself."""

from __future__ import annotations

import json
import subprocess
import sys
from functools import reduce
from operator import or_
from pathlib import Path
from typing import Any

import anyio
import pytest

from bearerguard import ANONYMOUS, ConfigurationError, Event, Guard, Requirement, scopes, step_up
from bearerguard.mcp import protect
from bearerguard.testing import LocalIssuer
from tests.mcp.bare import App, call, message, status
from tests.mcp.calls import LEGACY, MODERN

ROOT = Path(__file__).parents[2]
DELETE = {"delete": scopes("write")}
LISTEN = (
    b'{"id":1,"method":"subscriptions/listen",'
    b'"params":{"notifications":{"resourceSubscriptions":%s}}}'
)


def error_of(sent: list[Any], expected: int, code: int) -> Any:
    """Return the id of a JSON-RPC error."""
    start, body = sent
    assert start["status"] == expected
    assert (b"content-type", b"application/json") in start["headers"]
    content = json.loads(body["body"])
    assert content["error"]["code"] == code
    return content["id"]


@pytest.fixture
def token(issuer: LocalIssuer) -> str:
    return issuer.token(scopes=["read"])


def test_the_app_receives_the_whole_body_once(guard: Guard, token: str) -> None:
    app = App()
    asked = message("tools/call", name="list", arguments={"x": "y" * 100})
    assert status(call(protect(app, guard=guard, tools=DELETE), asked, token=token)) == 200
    assert app.bodies == [json.dumps(asked).encode()]


def test_without_requirements_no_body_is_read(guard: Guard, token: str) -> None:
    app = App()
    waiting = [{"type": "http.request", "body": b"{not JSON", "more_body": False}]
    assert status(call(protect(app, guard=guard), token=token, messages=waiting)) == 200
    assert app.bodies == [b"{not JSON"]


def test_a_call_that_its_headers_show_to_be_refused_is_refused_unread(
    guard: Guard, token: str
) -> None:
    headers = {"Mcp-Method": "tools/call", "Mcp-Name": "delete"}
    waiting: list[Any] = [{"type": "never.read"}]
    app = protect(App(), guard=guard, tools=DELETE)
    assert status(call(app, headers=headers, token=token, messages=waiting)) == 403
    assert waiting


def test_a_client_that_disconnects_gets_no_response_and_calls_nothing(
    guard: Guard, token: str
) -> None:
    app = App()
    waiting = [
        {"type": "http.request", "body": b"{", "more_body": True},
        {"type": "http.disconnect"},
    ]
    assert not call(protect(app, guard=guard, tools=DELETE), token=token, messages=waiting)
    assert not app.callers


def test_STEP_01_a_tool_demands_a_recent_login(guard: Guard, issuer: LocalIssuer) -> None:
    app = protect(App(), guard=guard, tools={"delete": step_up(max_age=300)})
    now = int(issuer.clock())
    fresh, old = (issuer.token(claims={"auth_time": now - age}) for age in (0, 1000))
    asked = message("tools/call", name="delete")
    assert status(call(app, asked, token=fresh)) == 200
    assert status(call(app, message("tools/call", name="list"), token=old)) == 200
    start, _ = call(app, asked, token=old)
    assert start["status"] == 401
    challenge = dict(start["headers"])[b"www-authenticate"]
    assert b'error="insufficient_user_authentication"' in challenge
    assert b'max_age="300"' in challenge


@pytest.mark.parametrize("method", ["GET", "HEAD", "DELETE", "OPTIONS"])
def test_requests_that_carry_no_message_are_passed_on(
    guard: Guard, token: str, method: str
) -> None:
    app = protect(App(), guard=guard, tools=DELETE)
    assert status(call(app, method=method, token=token)) == 200


@pytest.mark.parametrize("method", ["PUT", "PATCH", "QUERY", "post"])
def test_any_other_method_is_decided_on_like_post(guard: Guard, token: str, method: str) -> None:
    app = protect(App(), guard=guard, tools=DELETE)
    asked = message("tools/call", name="delete")
    assert status(call(app, asked, method=method, token=token)) == 403


@pytest.mark.parametrize("name", ["Mcp-Method", "Mcp-Name"])
def test_TOOL_01_a_repeated_header_is_400(guard: Guard, token: str, name: str) -> None:
    app = protect(App(), guard=guard, tools=DELETE)
    headers = {"Mcp-Method": "tools/call", "Mcp-Name": "list"}
    headers[name.upper()] = headers[name]
    sent = call(app, message("tools/call", name="list"), headers, token=token)
    assert status(sent) == 400
    assert f"{name} is repeated" in sent[1]["body"].decode()


def test_TOOL_01_a_character_that_no_header_may_have_is_400(guard: Guard, token: str) -> None:
    app = protect(App(), guard=guard, tools={"delete": scopes("write")})
    headers = {"Mcp-Method": "tools/call", "Mcp-Name": "löschen"}
    sent = call(app, message("tools/call", name="löschen"), headers, token=token)
    assert status(sent) == 400
    assert json.loads(sent[1]["body"])["error"]["code"] == -32020


@pytest.mark.parametrize("revision", ["", "2025-03-26", LEGACY, MODERN, "2099-01-01"])
@pytest.mark.parametrize(
    "headers",
    [
        {"Mcp-Method": "tools/list"},
        {"Mcp-Method": "tools/call"},
        {"Mcp-Method": "tools/call", "Mcp-Name": "list_recordings"},
        {"Mcp-Method": "prompts/get", "Mcp-Name": "delete_recording"},
        {"Mcp-Method": "TOOLS/CALL", "Mcp-Name": "delete_recording"},
        {"Mcp-Name": "delete_recording"},
    ],
    ids=str,
)
def test_TOOL_01_a_body_that_differs_from_the_headers_is_400_in_every_revision(
    guard: Guard, token: str, revision: str, headers: dict[str, str]
) -> None:
    app = App()
    version = {"MCP-Protocol-Version": revision} if revision else {}
    asked = message("tools/call", name="delete_recording")
    sent = call(protect(app, guard=guard, tools=DELETE), asked, version | headers, token=token)
    assert error_of(sent, 400, -32020) in {1, None}
    assert not app.bodies


@pytest.mark.parametrize(
    "name",
    [
        "=?base64?ZGVsZXRlX3JlY29yZGluZw?=",  # no padding
        "=?base64?ZGVsZXRlX3JlY29yZGluZy==?=",
        "=?base64?/w==?=",  # not UTF-8
        "=?base64?ZGVs ZXRl?=",
    ],
)
def test_TOOL_01_a_malformed_name_in_a_header_is_400(guard: Guard, token: str, name: str) -> None:
    headers = {"Mcp-Method": "tools/call", "Mcp-Name": name}
    asked = message("tools/call", name="delete_recording")
    app = protect(App(), guard=guard, tools=DELETE)
    assert error_of(call(app, asked, headers, token=token), 400, -32020) is None


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", -32700),
        (b"{", -32700),
        (b'{"jsonrpc":"2.0","id":1,"method":"ping","method":"tools/call"}', -32700),
        (json.dumps(message("tools/call", name="list_recordings")).encode("utf-16"), -32700),
        (b'{"id":1,"method":"tools/call","params":{"name":"a","x":' + b"[" * 99, -32700),
        (b'"tools/call"', -32600),
        (b"[[]]", -32600),
        (b'[{"method":"ping"},1]', -32600),
        (b'{"id":1,"method":["tools/call"]}', -32600),
        (b'{"id":1,"method":"tools/call"}', -32602),
        (b'{"id":1,"method":"tools/call","params":["delete_recording"]}', -32602),
        (b'{"id":1,"method":"tools/call","params":{"name":["delete_recording"]}}', -32602),
        (b'{"id":1,"method":"resources/read","params":{"uri":null}}', -32602),
        (b'{"id":1,"method":"completion/complete"}', -32602),
        (b'{"id":1,"method":"completion/complete","params":{"ref":{"type":"ref/tool"}}}', -32602),
        (b'{"id":1,"method":"completion/complete","params":{"ref":{"type":["x"]}}}', -32602),
        (
            b'{"id":1,"method":"completion/complete","params":{"ref":{"type":"ref/prompt"}}}',
            -32602,
        ),
        (LISTEN % b'"a://b"', -32602),
        (LISTEN % b'[["a://b"]]', -32602),
    ],
)
def test_TOOL_01_a_body_that_can_be_read_in_more_than_one_way_is_400(
    guard: Guard, token: str, body: bytes, code: int
) -> None:
    app = App()
    sent = call(protect(app, guard=guard, tools=DELETE), body, token=token)
    assert error_of(sent, 400, code) in {1, None}
    assert not app.bodies


def test_TOOL_01_an_error_has_the_id_of_its_message(guard: Guard, token: str) -> None:
    app = protect(App(), guard=guard, tools=DELETE)
    for given, sent in (("a", "a"), (2, 2), (None, None), (True, None), ({}, None)):
        asked = {**message("tools/call"), "id": given}
        assert error_of(call(app, asked, token=token), 400, -32602) == sent


def test_a_message_that_asks_for_nothing_passes(guard: Guard, token: str) -> None:
    app = protect(App(), guard=guard, tools=DELETE)
    messages: list[Any] = [
        {"jsonrpc": "2.0", "id": 1, "result": {}},
        [],
        message("delete"),
        message("subscriptions/listen"),
        message("subscriptions/listen", notifications={"toolsListChanged": True}),
    ]
    for asked in messages:
        assert status(call(app, asked, token=token)) == 200
    headers = {"Mcp-Method": "notifications/cancelled"}
    told = {"jsonrpc": "2.0", "method": "notifications/cancelled"}
    assert status(call(app, told, headers, token=token)) == 200
    response = {"jsonrpc": "2.0", "id": 1, "result": {}}
    assert status(call(app, response, headers, token=token)) == 400


def test_other_routes_are_authenticated_and_their_bodies_are_not_read(
    guard: Guard, token: str
) -> None:
    app = protect(App(), guard=guard, tools=DELETE, other_routes=("/upload/*",))
    assert status(call(app, b"\xff", token=token, path="/upload/x", messages=[])) == 200
    assert status(call(app, b"\xff", path="/upload/x")) == 401
    assert status(call(app, b"\xff", token=token, path="/upload/../mcp")) == 400
    assert status(call(app, b"\xff", token=token, path="/mcp")) == 400


def test_an_excluded_path_is_no_way_around_a_tool(guard: Guard) -> None:
    app = protect(App(), guard=guard, tools=DELETE, exclude=("/mcp",))
    assert status(call(app, message("tools/call", name="delete"))) == 401
    assert status(call(app, message("tools/call", name="list"))) == 200


def test_where_a_token_is_optional_a_tool_may_need_one(guard: Guard) -> None:
    inner = App()
    app = protect(inner, guard=guard, tools=DELETE, optional=True)
    assert status(call(app, message("tools/call", name="list"))) == 200
    assert inner.callers == [ANONYMOUS]
    assert status(call(app, message("tools/call", name="delete"))) == 401


def test_a_websocket_is_refused_where_its_messages_would_not_be_decided_on(
    guard: Guard, token: str
) -> None:
    refused = call(protect(App(), guard=guard, tools=DELETE), token=token, kind="websocket")
    assert refused == [{"type": "websocket.close", "code": 1008}]
    passed = call(protect(App(), guard=guard), token=token, kind="websocket")
    assert passed == [{"type": "websocket.accept"}]


def test_lifespan_and_unknown_scopes_reach_the_app(guard: Guard) -> None:
    seen: list[Any] = []

    async def app(scope: Any, _receive: Any, _send: Any) -> None:
        seen.append(scope["type"])

    for tools in (None, DELETE):
        guarded: Any = protect(app, guard=guard, tools=tools)
        for kind in ("lifespan", "whatever"):
            anyio.run(guarded, {"type": kind}, None, None)
    assert seen == ["lifespan", "whatever"] * 2


def test_the_longest_key_that_matches_decides(guard: Guard, issuer: LocalIssuer) -> None:
    tools = {"*": scopes("a"), "rec_*": scopes("b"), "rec_x*": scopes("c"), "rec_xy": scopes("d")}
    app = protect(App(), guard=guard, tools=tools)
    for name, needed in (("list", "a"), ("rec_", "b"), ("rec_xx", "c"), ("rec_xy", "d")):
        for scope in "abcd":
            granted = issuer.token(scopes=[scope])
            sent = call(app, message("tools/call", name=name), token=granted)
            assert status(sent) == (200 if scope == needed else 403), (name, scope)


def test_a_resource_is_decided_on_however_its_key_is_spelt(
    guard: Guard, issuer: LocalIssuer
) -> None:
    resources = {"Recordings://Private/*": scopes("a"), "HTTPS://A.test:443/x": scopes("b")}
    app = protect(App(), guard=guard, resources={**resources, "urn:x:*": scopes("c")})
    none = issuer.token()
    for uri in ("recordings://private/1", "https://a.test/x", "https://A.test/y/../x", "urn:x:1"):
        assert status(call(app, message("resources/read", uri=uri), token=none)) == 403, uri
    for uri in ("recordings://privately", "https://a.test/x/", "urn:y"):
        assert status(call(app, message("resources/read", uri=uri), token=none)) == 200, uri


@pytest.mark.parametrize(
    "uri",
    [
        "notes://team/2026",
        "notes://team/2026?x",
        "notes://team/2026#x",
        "notes://team/%32026?x=1",
        "notes://team/a%3Ab",
        "notes://team/a%3ab?x",
        "notes://team/all%2Fsecret",
        "notes://team/~ada/1",
    ],
)
def test_TOOL_01_a_resource_is_decided_on_as_apps_decode_it(
    guard: Guard, issuer: LocalIssuer, uri: str
) -> None:
    one, several = (
        ("notes://team/2026", "notes://team/a:b"),
        ("notes://team/all/*", "notes://team/%7Eada/*"),
    )
    resources = dict.fromkeys((*one, *several), scopes("notes"))
    app = protect(App(), guard=guard, resources=resources)
    asked = message("resources/read", uri=uri)
    assert status(call(app, asked, token=issuer.token())) == 403
    assert status(call(app, asked, token=issuer.token(scopes=["notes"]))) == 200


def test_a_requirement_with_too_many_alternatives_is_refused_at_the_start(guard: Guard) -> None:
    def some(letter: str) -> Requirement:
        return reduce(or_, [scopes(f"{letter}{number}") for number in range(9)])

    with pytest.raises(ConfigurationError, match="more than 64 alternatives"):
        protect(App(), guard=guard, require=some("a"), tools={"x": some("b")})


def test_a_refusal_tells_the_operator_which_tool_was_called(issuer: LocalIssuer) -> None:
    events: list[Event] = []
    with issuer.guard(on_event=events.append) as guard:
        app = protect(App(), guard=guard, tools={"delete_*": scopes("write")})
        granted = issuer.token(scopes=["read"])
        call(app, message("tools/call", name="delete_recording"), token=granted)
        call(app, b"{", token=granted)
    forbidden, malformed = (each for each in events if each.code != "keys_fetched")
    assert forbidden.code == "insufficient_scope"
    assert forbidden.detail == (
        "POST /mcp tools/call delete_* needs scope 'write'; the token has scopes ['read']"
    )
    assert malformed.code == "message_refused"
    assert malformed.details == {"method": "POST", "path": "/mcp"}
    assert malformed.detail.startswith("Parse error")


def test_a_token_that_cannot_be_checked_is_503_and_not_500(issuer: LocalIssuer) -> None:
    with issuer.guard() as guard:
        app = protect(App(), guard=guard, tools=DELETE)
        granted = issuer.token(scopes=["write"])
        issuer.outage = True
        sent = call(app, message("tools/call", name="delete"), token=granted)
        issuer.outage = False
    assert status(sent) == 503
    assert b"retry-after" in dict(sent[0]["headers"])


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"tools": {"delete": "write"}}, "tools=: "),
        ({"tools": ["delete"]}, "tools=: "),
        ({"tools": {"": scopes("a")}}, "tools=: "),
        ({"tools": {"*_recording": scopes("a")}}, "tools=: "),
        ({"resources": {1: scopes("a")}}, "resources=: "),
        ({"prompts": {"a**": scopes("a")}}, "prompts=: "),
        ({"max_body_bytes": 0}, "max_body_bytes=: "),
        ({"other_routes": ["upload"]}, "other_routes=: "),
        ({"secret": "short"}, "secret=: "),
        ({"require": "read"}, "require"),
    ],
)
def test_a_malformed_option_is_named(guard: Guard, options: Any, named: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        protect(App(), guard=guard, **options)
    assert str(caught.value).startswith(named)


WITHOUT = """
import sys

class Finder:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"mcp", "fastmcp", "starlette"}:  # as if not installed
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Finder())
from bearerguard import scopes
import bearerguard.mcp
from bearerguard.testing import LocalIssuer
from tests.mcp.bare import App, call, message, status

issuer, app = LocalIssuer(algorithm="ES256"), App()
tools = {"delete": scopes("write")}
guarded = bearerguard.mcp.protect(app, guard=issuer.guard(), tools=tools)
for name in ("list", "delete"):
    sent = call(guarded, message("tools/call", name=name), token=issuer.token(subject="ada"))
    print(status(sent))
print(app.callers[0].subject, app.users[0].subject)
try:
    bearerguard.mcp.GuardTokenVerifier
except ImportError as error:
    print(error)
"""


def test_an_app_of_ones_own_needs_no_sdk() -> None:
    said = subprocess.run(
        [sys.executable, "-c", WITHOUT],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
        cwd=ROOT,
    ).stdout
    remedy = "pip install 'bearerguard[mcp]'"
    assert said.splitlines() == [
        "200",
        "403",
        "ada ada",
        f"bearerguard.mcp needs the package mcp, which is not installed: {remedy}",
    ]


def test_an_sdk_that_does_not_bind_sessions_is_refused() -> None:
    script = """
from mcp.server.auth.provider import AccessToken

del AccessToken.model_fields["claims"]  # as in the releases before 2.0
import bearerguard.mcp
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 1
    assert "ConfigurationError: bearerguard.mcp needs mcp 2.3 or later" in done.stderr
