"""What tools see of their caller, and whose session it is."""

from __future__ import annotations

from typing import Any

import pytest

from bearerguard import Guard, Principal
from bearerguard.mcp import protect
from bearerguard.mcp.callers import members
from bearerguard.testing import LocalIssuer
from tests.mcp.bare import call
from tests.mcp.calls import LEGACY, MODERN, McpClient, client, structured


@pytest.mark.parametrize("revision", [MODERN, LEGACY])
def test_a_tool_sees_its_caller_in_every_way_that_its_framework_has(
    url: str, issuer: LocalIssuer, revision: str
) -> None:
    ada = client(url, issuer, "read", "write", subject="ada", client_id="app", revision=revision)
    if revision == LEGACY:
        ada.open()
    seen = structured(ada.call("whoami"))
    expires_at = seen["token"].pop("expires_at")
    assert expires_at > issuer.clock()
    known = {name: value for name, value in seen["token"].items() if value is not None}
    assert known == {
        "client_id": "app",
        "scopes": ["read", "write"],
        "subject": "ada",
        "resource": issuer.audience,
    }
    assert seen["issuer"] == issuer.url
    assert seen["user"] == "ada"
    assert seen["scopes"] == ["read", "write"]
    assert seen["principal"] == [issuer.url, "ada", "app"]


def test_the_caller_of_a_session_is_that_of_each_request(
    stateful_url: str, issuer: LocalIssuer
) -> None:
    ada = client(stateful_url, issuer, "read", subject="ada")
    ada.open()
    renewed = client(stateful_url, issuer, "read", "more", subject="ada")
    renewed.session = ada.session
    assert structured(renewed.call("whoami"))["token"]["scopes"] == ["more", "read"]
    assert structured(ada.call("whoami"))["token"]["scopes"] == ["read"]


@pytest.mark.parametrize(
    "other",
    [{"subject": "bob"}, {"client_id": "another"}, {"subject": None, "client_id": "app"}],
    ids=str,
)
def test_a_session_is_its_callers_alone(
    stateful_url: str, issuer: LocalIssuer, other: dict[str, str]
) -> None:
    ada = client(stateful_url, issuer, "read", subject="ada")
    ada.open()
    assert ada.session
    thief = client(stateful_url, issuer, "read", **{"subject": "ada", **other})
    thief.session = ada.session
    assert thief.call("list_recordings").status_code == 404
    for method in ("GET", "DELETE"):
        assert thief.request(method).status_code == 404
    assert structured(ada.call("list_recordings")) == ["Dawn chorus"]
    assert ada.request("DELETE").status_code == 200
    assert ada.call("list_recordings").status_code == 404


def test_a_stream_of_a_session_needs_a_token(stateful_url: str, issuer: LocalIssuer) -> None:
    ada = client(stateful_url, issuer, "read")
    ada.open()
    nobody = McpClient(stateful_url, "nothing")
    del nobody.headers["Authorization"]
    nobody.session = ada.session
    response = nobody.request("GET")
    assert response.status_code == 401
    assert response.headers["www-authenticate"].startswith("Bearer ")


def test_a_caller_shows_no_subject_in_a_log_line(issuer: LocalIssuer, guard: Guard) -> None:
    users: list[Any] = []

    async def app(scope: Any, _receive: Any, send: Any) -> None:
        users.append(scope["user"])
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    token = issuer.token(subject="ada", claims={"name": "Ada Lovelace", "aud": issuer.audience})
    call(protect(app, guard=guard), token=token)
    (user,) = users
    assert user.identity == "ada"
    assert user.display_name == "Ada Lovelace"
    assert user.principal == guard.verify(token)
    assert "ada" not in repr(user).lower()
    assert token not in repr(user)


def test_the_audience_is_the_resource_of_an_api_without_metadata(issuer: LocalIssuer) -> None:
    with issuer.guard(resource=False) as guard:
        for audience in (issuer.audience, [issuer.audience], ["x", issuer.audience]):
            principal = guard.verify(issuer.token(claims={"aud": audience}))
            assert members(guard, principal, "")["resource"] == issuer.audience
        assert members(guard, Principal(issuer="x"), "")["resource"] is None
        assert members(guard, Principal(issuer="x"), "")["client_id"] == ""
