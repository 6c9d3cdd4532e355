"""`protect(secret=...)`: the session ids of an app that does not bind sessions to callers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import anyio
import pytest

from bearerguard import Guard
from bearerguard.mcp import protect
from bearerguard.testing import LocalIssuer

OLD, NEW = "the old secret of all the workers of this API", "the new secret, for all of its workers"
FIELD = b"mcp-session-id"


async def app(scope: Any, _receive: Any, send: Any) -> None:
    """Respond with the session id of the request, or with a new one."""
    given = [value for name, value in scope["headers"] if name == FIELD]
    headers = [(FIELD, (given or [b"0123456789abcdef"])[0]), (b"content-type", b"text/plain")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": (given or [b"none"])[0]})


@pytest.fixture
def ask(guard: Guard, issuer: LocalIssuer) -> Callable[..., tuple[int, bytes, bytes]]:
    def ask(
        *session: bytes, secret: Any = (NEW, OLD), subject: str = "ada", client_id: str = "app"
    ) -> tuple[int, bytes, bytes]:
        """Return the status, the session id and the body of a response of a new worker."""
        token = issuer.token(subject=subject, client_id=client_id)
        headers = [(b"authorization", f"Bearer {token}".encode())]
        headers += [(FIELD, each) for each in session]
        sent: list[Any] = []

        async def send(message: Any) -> None:
            sent.append(message)

        worker: Any = protect(app, guard=guard, secret=secret)
        scope = {"type": "http", "method": "GET", "path": "/mcp", "headers": headers}
        anyio.run(worker, scope, anyio.sleep_forever, send)
        start, body = sent
        return start["status"], dict(start["headers"]).get(FIELD, b""), body["body"]

    return ask


def test_a_session_id_works_for_its_caller_in_every_worker(ask: Any) -> None:
    status, issued, seen = ask()
    assert (status, seen) == (200, b"none")
    assert ask(issued) == (200, issued, b"0123456789abcdef")


@pytest.mark.parametrize("other", [{"subject": "bob"}, {"client_id": "another"}], ids=str)
def test_a_session_id_is_unknown_for_any_other_caller(ask: Any, other: dict[str, str]) -> None:
    _, issued, _ = ask()
    status, _, body = ask(issued, **other)
    assert status == 404
    assert b"Session not found" in body


@pytest.mark.parametrize(
    "altered",
    [
        lambda _issued: b"0123456789abcdef",
        lambda issued: issued[:-1],
        lambda issued: b"1" + issued,
        lambda _issued: b"",
        lambda _issued: b".",
        lambda _issued: "Ä.ö".encode("latin-1"),
    ],
)
def test_a_session_id_that_was_not_issued_is_unknown(ask: Any, altered: Any) -> None:
    _, issued, _ = ask()
    assert ask(altered(issued))[0] == 404


def test_a_second_session_id_beside_ones_own_is_unknown(ask: Any) -> None:
    _, own, _ = ask()
    _, other, _ = ask(subject="bob")
    assert ask(own, other)[0] == 404


def test_a_secret_is_renewed_while_sessions_go_on(ask: Any) -> None:
    _, issued, _ = ask(secret=OLD)
    status, renewed, _ = ask(issued, secret=[NEW, OLD])
    assert status == 200
    assert renewed != issued
    assert ask(renewed, secret=NEW)[0] == 200
    assert ask(issued, secret=NEW)[0] == 404


def test_the_mark_has_nothing_of_the_caller(ask: Any) -> None:
    _, issued, _ = ask(subject="ada.lovelace@example.com")
    assert b"ada" not in issued
    assert len(issued) < 64
