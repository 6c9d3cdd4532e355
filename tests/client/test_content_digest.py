"""CL-06: a client whose proofs name the digest of each body, against a guard that demands it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Generator, Iterator
from typing import Any

import pytest

from bearerguard import asgi
from bearerguard.client import BearerAuth, ClientCredentials, TokenManager
from bearerguard.client.dpop import new_key
from bearerguard.client.token import Token
from bearerguard.errors import ConfigurationError
from bearerguard.protocol import dpop
from bearerguard.protocol.jose import signing
from bearerguard.runtime.flow import Flow
from bearerguard.testing import LocalIssuer
from tests.client.callers import NAMES, caller
from tests.processes import free_port
from tests.uvicorn_thread import running

ISSUER = LocalIssuer(algorithm="ES256")
SECRET = "a secret of the nonces, 32 bytes or more"


class Given:
    """A source of one token that is bound to a key."""

    key = "given"

    def __init__(self, api: str) -> None:
        self.resources: tuple[str, ...] = (api,)
        self._key = new_key()
        thumbprint = dpop.key_thumbprint(signing.private_key(json.loads(self._key)))
        self._token = ISSUER.token(subject="ada", claims={"cnf": {"jkt": thumbprint}})

    def token(self, _previous: Token | None) -> Flow[Token]:
        yield from ()
        return Token(self._token, "DPoP", dpop_key=self._key)


async def echo(scope: Any, receive: Any, send: Any) -> None:
    """Respond with the body; `/moved` leads to `/`, with the same method and body."""
    body, more = b"", True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    is_moved = scope["path"] == "/moved"
    headers = [(b"content-length", str(len(body)).encode()), (b"location", b"/")]
    status = 307 if is_moved else 200
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


@pytest.fixture(scope="module")
def api() -> Generator[str]:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    options: dict[str, Any] = {"dpop_content_digest": True, "dpop_nonces": SECRET}
    with ISSUER.guard(dpop="required", public_url=url, **options) as guard:
        middleware: Any = asgi.BearerMiddleware(echo, guard=guard)
        with running(middleware, port):
            yield url


@pytest.mark.parametrize("name", NAMES)
def test_CL_06_a_proof_names_the_digest_of_the_body_where_the_api_demands_it(
    name: str, api: str
) -> None:
    tokens = TokenManager(Given(api))
    field = "data" if name == "requests" else "content"
    with caller(name, tokens, content_digest=True) as call:
        assert call("GET", api).status_code == 200
        for body in (b"\x00\xff", "é€"):
            answer = call("POST", api, **{field: body})
            sent = body if isinstance(body, bytes) else body.encode()
            assert (answer.status_code, answer.content) == (200, sent)
        assert call("PUT", api, json={"a": 1}).status_code == 200
        moved = call("POST", f"{api}/moved", **{field: b"{}"})
        assert (moved.status_code, moved.content) == (200, b"{}")
    with caller(name, tokens) as call:
        assert call("POST", api, **{field: b"{}"}).status_code == 401


@pytest.mark.parametrize("name", NAMES)
def test_CL_06_the_digest_of_a_stream_is_refused_before_it_is_sent(name: str, api: str) -> None:
    taken: list[str] = []

    def parts() -> Iterator[bytes]:
        taken.append("part")
        yield b"part"

    async def async_parts() -> AsyncIterator[bytes]:
        taken.append("part")
        yield b"part"

    field = "data" if name == "requests" else "content"
    stream = async_parts() if name.endswith("async") else parts()
    with (
        caller(name, TokenManager(Given(api)), content_digest=True) as call,
        pytest.raises(ConfigurationError, match=r"content_digest=: the body is a stream.*as bytes"),
    ):
        call("POST", api, **{field: stream})
    assert taken == []


def test_CL_06_a_digest_without_proofs_is_refused() -> None:
    source = ClientCredentials("https://id.test", client_id="app", client_secret="s" * 32)
    manager = TokenManager(source)
    with pytest.raises(ConfigurationError, match=r"content_digest=.*pass dpop=True to ClientCred"):
        BearerAuth(manager, origins="https://api.test", content_digest=True)
    wrong: Any = "yes"
    with pytest.raises(ConfigurationError, match=r"content_digest=: pass True or False"):
        BearerAuth(manager, origins="https://api.test", content_digest=wrong)
