"""A resolver that hangs holds no caller past its timeout, and few threads."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Generator
from typing import Any

import anyio
import pytest

from bearerguard import HttpTransport
from bearerguard.runtime.flow import Fetch
from bearerguard.runtime.messages import FetchFailed, Response
from bearerguard.testing.loopback import serving
from bearerguard.transports.resolver import RESOLVER, Resolver, ResolvingTimedOut, _address

WAYS = pytest.mark.parametrize("way", ["sync", "asyncio", "trio"])


class Hanging:
    """A resolver that answers nothing until it is let go."""

    def __init__(self, real: Callable[..., Any]) -> None:
        self.let_go = threading.Event()
        self.asked: list[str] = []
        self._real = real

    def __call__(self, host: str, *arguments: Any, **options: Any) -> Any:
        if host.startswith("slow"):
            self.asked.append(host)
            self.let_go.wait(60)
            host = "127.0.0.1"
        return self._real(host, *arguments, **options)


@pytest.fixture
def hanging(monkeypatch: pytest.MonkeyPatch) -> Generator[Hanging]:
    resolver = Hanging(socket.getaddrinfo)
    monkeypatch.setattr(socket, "getaddrinfo", resolver)
    yield resolver
    resolver.let_go.set()
    for thread in threading.enumerate():
        if thread.name == "bearerguard-resolver":
            thread.join(10)
    assert RESOLVER.threads == 0


def fetch(way: str, transport: HttpTransport, url: str) -> Response:
    request = Fetch("GET", url)
    if way == "sync":
        return transport.fetch(request)
    return anyio.run(transport.afetch, request, backend=way)


@WAYS
def test_E39_a_fetch_ends_in_time_though_the_resolver_hangs(hanging: Hanging, way: str) -> None:
    transport = HttpTransport(timeout=0.2)
    with pytest.raises(FetchFailed, match=r"timed out: .* in 0.2 s") as error:
        fetch(way, transport, "http://slow.example/jwks")
    assert not hanging.let_go.is_set()
    assert error.value.kind == "timed_out"
    with serving(lambda _: Response(200)) as url:  # other names are none the worse for it
        assert fetch(way, transport, url.replace("127.0.0.1", "localhost")).status == 200


@WAYS
def test_E39_all_callers_that_ask_for_a_name_share_one_lookup(hanging: Hanging, way: str) -> None:
    transport = HttpTransport(timeout=0.05)
    for _ in range(5):
        with pytest.raises(FetchFailed):
            fetch(way, transport, "http://slow.example/jwks")
    assert hanging.asked == ["slow.example"]


def test_E39_many_names_take_no_more_than_eight_threads(hanging: Hanging) -> None:
    transport = HttpTransport(timeout=0.02)
    for number in range(20):
        with pytest.raises(FetchFailed, match="timed out"):
            transport.fetch(Fetch("GET", f"http://slow{number}.example/jwks"))
    assert RESOLVER.threads == 8
    assert len(hanging.asked) == 8
    assert len(RESOLVER._lookups) == 8  # what nobody waits for is not kept for later


@WAYS
def test_a_name_that_is_resolved_at_last_is_connected_to(hanging: Hanging, way: str) -> None:
    with serving(lambda _: Response(200)) as url:
        threading.Timer(0.05, hanging.let_go.set).start()
        slow = url.replace("127.0.0.1", "slow.example")
        assert fetch(way, HttpTransport(proxy=None, timeout=30), slow).status == 200


def test_a_task_whose_name_is_resolved_already_does_not_wait() -> None:
    resolver = Resolver()

    async def main() -> None:
        lookup = resolver._join("127.0.0.1", 80)
        assert lookup.done.wait(10)
        resolver._lookups[lookup.key] = lookup  # as between the last step of the thread and ours
        assert await resolver.aresolve("127.0.0.1", 80) == ("127.0.0.1",)

    anyio.run(main)


def test_an_event_loop_that_is_closed_is_not_notified(hanging: Hanging) -> None:
    with pytest.raises(FetchFailed):
        fetch("asyncio", HttpTransport(timeout=0.05), "http://slow.example/")
    hanging.let_go.set()


def test_a_forked_child_starts_without_lookups(hanging: Hanging) -> None:
    resolver = Resolver()
    with pytest.raises(ResolvingTimedOut):
        resolver.resolve("slow.example", 80, 0.02)
    resolver.begin()
    assert resolver.resolve("127.0.0.1", 80, 10) == ("127.0.0.1",)


def test_an_address_keeps_its_zone() -> None:
    assert _address(("fe80::1", 80, 0, 2)) == "fe80::1%2"
    assert _address(("fe80::1%eth0", 80, 0, 2)) == "fe80::1%eth0"
    assert _address(("::1", 80, 0, 0)) == "::1"
