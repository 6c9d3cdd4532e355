"""Websockets of tokens that are bound to a key: by a ticket, and prolonged with another proof."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route, WebSocketRoute
from starlette.testclient import TestClient, WebSocketDenialResponse
from starlette.websockets import WebSocket

from bearerguard import (
    ConfigurationError,
    Guard,
    ProofError,
    Tickets,
    TokenError,
    WebSockets,
)
from bearerguard.asgi import BearerMiddleware, issue_ticket, reauthenticate
from bearerguard.errors import IssuerUnavailable
from bearerguard.protocol import dpop
from bearerguard.protocol.jose import signing
from bearerguard.testing import Clock, LocalIssuer

CLOCK = Clock(1_800_000_000)
ISSUER = LocalIssuer(algorithm="ES256", clock=CLOCK)
KEY = signing.PrivateKey("ES256", None, signing.generate("ES256"))
JKT = dpop.key_thumbprint(KEY)
HOST = "https://api.test"


def bound(subject: str = "ada", **options: Any) -> str:
    return ISSUER.token(subject=subject, claims={"cnf": {"jkt": JKT}}, **options)


def proof(token: str, target: str, method: str = "GET", **claims: Any) -> str:
    jti = uuid.uuid4().hex
    return dpop.proof(
        KEY, method, HOST + target, now=CLOCK(), jti=jti, access_token=token, **claims
    )


def fields(token: str, target: str, method: str = "GET", **claims: Any) -> dict[str, str]:
    return {"Authorization": f"DPoP {token}", "DPoP": proof(token, target, method, **claims)}


async def ws(websocket: WebSocket) -> None:
    """Prolong the connection by each message, and say what came of it."""
    await websocket.accept()
    await websocket.send_text(websocket.user.subject)
    async for message in websocket.iter_json():
        try:
            principal = await reauthenticate(websocket, message["token"], proof=message["proof"])
        except (TokenError, ProofError) as error:
            await websocket.send_text(error.reason.code)
        else:
            await websocket.send_text(f"until {principal.expires_at}")


async def ticket(request: Request) -> JSONResponse:
    try:
        return JSONResponse({"ticket": await issue_ticket(request)})
    except IssuerUnavailable as error:
        return JSONResponse({"why": str(error)}, 503)


APP = Starlette(routes=[WebSocketRoute("/ws", ws), Route("/ticket", ticket, methods=["POST"])])


def client(guard: Guard, **options: Any) -> TestClient:
    return TestClient(BearerMiddleware(APP, guard=guard, **options))


def issued(api: TestClient, token: str) -> str:
    response = api.post("/ticket", headers=fields(token, "/ticket", "POST", body=b""))
    assert response.status_code == 200
    found: str = response.json()["ticket"]
    return found


def refused(api: TestClient, *subprotocols: str) -> int:
    with (
        pytest.raises(WebSocketDenialResponse) as raised,
        api.websocket_connect("/ws", subprotocols=[*subprotocols]),
    ):
        pass
    return raised.value.status_code


@pytest.mark.parametrize("options", [{}, {"dpop_content_digest": True}, {"dpop": "required"}])
def test_WS_01_the_ticket_of_a_bound_token_opens_one_websocket(options: dict[str, Any]) -> None:
    sockets = WebSockets(subprotocol=True, tickets=Tickets())
    api = client(ISSUER.guard(**{"dpop": "allowed", "websockets": sockets, **options}))
    token = bound()
    one = issued(api, token)
    with api.websocket_connect("/ws", subprotocols=["bearer-ticket", one]) as session:
        assert session.accepted_subprotocol == "bearer-ticket"
        assert session.receive_text() == "ada"
    assert refused(api, "bearer-ticket", one) == 401
    # The token itself proves nothing, and no request but the ticket's own passes without a proof.
    assert refused(api, "bearer", token) == 401
    assert api.post("/ticket", headers={"Authorization": f"DPoP {token}"}).status_code == 401
    assert api.post("/ticket", headers=fields(token, "/ws")).status_code == 401


def test_WS_01_the_ticket_of_a_bearer_token_opens_one_where_proofs_are_possible() -> None:
    sockets = WebSockets(tickets=Tickets())
    api = client(ISSUER.guard(dpop="allowed", websockets=sockets))
    bearer = {"Authorization": f"Bearer {ISSUER.token(subject='bob')}"}
    one = api.post("/ticket", headers=bearer).json()["ticket"]
    with api.websocket_connect("/ws", subprotocols=["bearer-ticket", one]) as session:
        assert session.receive_text() == "bob"


def test_WS_01_a_ticket_of_a_bound_token_ends_with_its_token() -> None:
    clock = Clock(CLOCK())
    sockets = WebSockets(tickets=Tickets())
    api = client(ISSUER.guard(dpop="allowed", websockets=sockets, clock=clock))
    one = issued(api, bound(expires_in=10))
    clock.advance(60)
    assert refused(api, "bearer-ticket", one) == 401


def test_WS_01_a_ticket_needs_a_request_whose_token_was_decided_on() -> None:
    sockets = WebSockets(tickets=Tickets())
    guard = ISSUER.guard(dpop="allowed", websockets=sockets)
    for option in ({"exclude": ["/ticket"]}, {"optional": True}):
        with pytest.raises(ConfigurationError, match="admitted by its token"):
            client(guard, **option).post("/ticket", headers={"Authorization": "Basic YTpi"})
    with pytest.raises(ConfigurationError, match="admitted by its token"):
        client(guard, exclude=["/ticket"]).post(
            "/ticket", headers={"Authorization": f"DPoP {bound()}"}
        )


def test_WS_01_one_caller_cannot_fill_the_memory_for_tickets(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("bearerguard.guard.config.websockets._MAX_TICKETS", 300)
    now = [0.0]
    tickets = Tickets(seconds=10, monotonic=lambda: now[0])
    api = client(ISSUER.guard(dpop="allowed", websockets=WebSockets(tickets=tickets)))
    held = [issued(api, bound()) for _ in range(3)]
    sent = fields(bound(), "/ticket", "POST", body=b"")
    full = api.post("/ticket", headers=sent)
    assert (full.status_code, "too many tickets of this caller" in full.text) == (503, True)
    assert issued(api, bound("eve"))
    with api.websocket_connect("/ws", subprotocols=["bearer-ticket", held[0]]):
        assert issued(api, bound())  # in the place of that which was used
    now[0] = 10
    for _ in range(3):
        issued(api, bound())


@pytest.mark.parametrize("digest", [False, True])
def test_STREAM_01_a_connection_prolongs_itself_by_a_bound_token_with_its_proof(
    digest: bool,
) -> None:
    api = client(ISSUER.guard(dpop="allowed", dpop_content_digest=digest))
    token, newer = bound(expires_in=60), bound(expires_in=600)
    opening = fields(token, "/ws", body=b"")
    good = proof(newer, "/ws", body=b"")
    cases = [
        (newer, None, "missing_proof"),
        (newer, opening["DPoP"], "wrong_proof_token"),
        (newer, proof(newer, "/other", body=b""), "wrong_proof_target"),
        (newer, good, f"until {int(CLOCK()) + 600}"),
        (newer, good, "replayed_proof"),
        (token, opening["DPoP"], "replayed_proof"),
        (bound("eve"), None, "missing_proof"),
        (ISSUER.token(subject="ada", expires_in=900), None, f"until {int(CLOCK()) + 900}"),
    ]
    with api.websocket_connect("/ws", headers=opening) as session:
        assert session.receive_text() == "ada"
        for sent, made, expected in cases:
            session.send_json({"token": sent, "proof": made})
            assert session.receive_text() == expected
