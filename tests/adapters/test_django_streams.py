"""STREAM-01 in Django: a `StreamingHttpResponse` ends with the token, sync and async."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from tests.django_project import project

# isort: split
from django.http import StreamingHttpResponse
from django.test import AsyncClient, Client
from django.urls import path

from bearerguard import Guard, Revocations
from bearerguard.errors import StreamEnded
from bearerguard.testing import LocalIssuer

EVENTS = "text/event-stream"


def parts() -> Iterator[bytes]:
    while True:
        yield b"x"


async def aparts() -> AsyncIterator[bytes]:
    yield b"x"
    await asyncio.sleep(3600)


async def few() -> AsyncIterator[bytes]:
    yield b"x"
    yield b"y"


PATTERNS = [
    path("sync", lambda _request: StreamingHttpResponse(parts(), content_type=EVENTS)),
    path("export", lambda _request: StreamingHttpResponse(parts())),
    path("async", lambda _request: StreamingHttpResponse(aparts(), content_type=EVENTS)),
    path("aexport", lambda _request: StreamingHttpResponse(aparts())),
    path("few", lambda _request: StreamingHttpResponse(few())),
]


@pytest.fixture
def revoking(issuer: LocalIssuer) -> Guard:
    return issuer.guard(revocations=Revocations())


def test_STREAM_01_a_sync_streaming_response_of_django_ends(
    issuer: LocalIssuer, revoking: Guard
) -> None:
    token = issuer.token()
    with project(*PATTERNS, guard=revoking):
        headers = {"Authorization": f"Bearer {token}"}
        events: Any = Client().get("/sync", headers=headers).streaming_content
        export: Any = Client().get("/export", headers=headers).streaming_content
        for received in (events, export):
            assert [next(received) for _ in range(3)] == [b"x"] * 3
        revoking.revoke(token)
        assert list(events) == []
        with pytest.raises(StreamEnded, match="revoked"):
            next(export)


@pytest.mark.parametrize("place", ["/async", "/aexport"])
def test_STREAM_01_an_async_streaming_response_of_django_ends_while_it_waits(
    issuer: LocalIssuer, revoking: Guard, place: str
) -> None:
    token = issuer.token()

    async def read() -> list[bytes]:
        response: Any = await AsyncClient().get(place, headers={"Authorization": f"Bearer {token}"})
        received: list[bytes] = []
        async for part in response.streaming_content:
            received.append(part)
            asyncio.get_running_loop().call_later(0.05, revoking.revoke, token)
        return received

    with project(*PATTERNS, guard=revoking):
        if place == "/async":
            assert asyncio.run(asyncio.wait_for(read(), 10)) == [b"x"]
        else:
            with pytest.raises(StreamEnded, match="revoked"):
                asyncio.run(asyncio.wait_for(read(), 10))


def test_STREAM_01_an_async_response_of_django_that_ended_while_its_client_read_waits_no_more(
    issuer: LocalIssuer, revoking: Guard
) -> None:
    token = issuer.token()

    async def read() -> list[bytes]:
        response: Any = await AsyncClient().get(
            "/async", headers={"Authorization": f"Bearer {token}"}
        )
        received: list[bytes] = []
        async for part in response.streaming_content:
            received.append(part)
            revoking.revoke(token)
            await asyncio.sleep(0.05)  # the client is slow
        return received

    with project(*PATTERNS, guard=revoking):
        assert asyncio.run(asyncio.wait_for(read(), 5)) == [b"x"]


def test_a_streaming_response_of_django_that_finishes_is_whole(
    issuer: LocalIssuer, revoking: Guard
) -> None:
    async def read(guard: Guard) -> bytes:
        with project(*PATTERNS, guard=guard):
            response: Any = await AsyncClient().get(
                "/few", headers={"Authorization": f"Bearer {issuer.token()}"}
            )
            return b"".join([part async for part in response.streaming_content])

    for guard in (revoking, issuer.guard(stream_until_expiry=False)):
        assert asyncio.run(read(guard)) == b"xy"
