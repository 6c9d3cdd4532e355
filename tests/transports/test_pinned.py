"""The transport for URLs that strangers name: what it must not reach, it does not connect to."""

from __future__ import annotations

import socket
import ssl
from pathlib import Path
from typing import Any

import anyio
import httpcore2
import pytest
from cryptography import x509

from bearerguard.runtime.addresses import is_public
from bearerguard.runtime.flow import Fetch
from bearerguard.runtime.messages import FetchFailed, Response
from bearerguard.testing.loopback import serving
from bearerguard.transports.dialing import Dialer
from bearerguard.transports.pinned import PinnedTransport
from bearerguard.transports.resolver import Addresses, Resolver
from tests.raw_servers import make_certificate, over_tls, raw_server

WAYS = pytest.mark.parametrize("way", ["sync", "asyncio", "trio"])
DOCUMENT = "https://client.example.com/metadata.json"
TRUSTED = ssl.create_default_context()
OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"

# One address of each block that IANA's registries have for a special purpose, of those that embed
# an IPv4 address, and of those that hosts of one network alone reach.
SPECIAL = (
    *("0.0.0.0", "0.1.2.3", "10.0.0.1", "10.255.255.254", "100.64.0.1", "100.100.100.200"),
    *("127.0.0.1", "127.255.255.254", "169.254.0.1", "169.254.169.254", "172.16.0.1"),
    *("172.31.255.254", "192.0.0.1", "192.0.0.192", "192.0.2.1", "192.31.196.1", "192.52.193.1"),
    *("192.88.99.1", "192.168.0.1", "192.168.255.254", "192.175.48.1", "198.18.0.1"),
    *("198.19.255.254", "198.51.100.1", "203.0.113.1", "224.0.0.1", "239.255.255.255"),
    *("240.0.0.1", "255.255.255.255", "168.63.129.16"),
    *("::", "::1", "::7f00:1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:8.8.8.8"),
    *("::ffff:0:10.0.0.1", "64:ff9b::127.0.0.1", "64:ff9b::10.0.0.1", "64:ff9b::169.254.169.254"),
    *("64:ff9b:1::10.0.0.1", "100::1", "100:0:0:1::1", "2001::1", "2001:0:7f00:1::1"),
    *("2001:2::1", "2001:3::1", "2001:4:112::1", "2001:10::1", "2001:20::1", "2001:30::1"),
    *("2001:db8::1", "2002:7f00:1::1", "2002:a00:1::", "2620:4f:8000::1", "3fff::1", "5f00::1"),
    *("fc00::1", "fd00:ec2::254", "fe80::1", "fe80::1%2", "fec0::1", "ff02::1", "ff0e::1"),
    *("2606:4700::5efe:a00:1", "2606:4700::200:5efe:a00:1", "4000::1"),
)
PUBLIC = ("8.8.8.8", "100.63.255.255", "172.32.0.1", "2606:4700:4700::1111", "64:ff9b::8.8.8.8")

# URLs that are refused before any name is resolved.
URLS = (
    *("http://client.example.com/m", "ftp://client.example.com/m", "file:///etc/passwd"),
    *("https://127.0.0.1/m", "https://[::1]/m", "https://8.8.8.8/m", "https://[2606:4700::1]/m"),
    *("https://2130706433/m", "https://0x7f000001/m", "https://0x7f.1/m", "https://0177.0.0.1/m"),
    *("https://127.1/m", "https://a.0x7f/m", "https://a.127/m", "https://localhost/m"),
    *("https://client.example.com./m", "https://metadata/m", "https://-a.example.com/m"),
    *("https://client.example.com:22/m", "https://client.example.com:8443/m"),
    *("https://me@client.example.com/m", "https://client.example.com:443@127.0.0.1/m"),
    *("https://client.example.com\\@127.0.0.1/m", "https://127%2e0%2e0%2e1/m"),
    *("https://client.example.com/a\tb", "https://\uff11\uff12\uff17.0.0.1/m", "https://:443/m"),
    *("https://[client.example.com/m", "https://client.example.com:99999/m", "https:///m", ""),
    "https://client.example.com/" + "a" * 2048,
)


class Answers(Resolver):
    """A resolver that returns one answer after another, and the last one for ever."""

    def __init__(self, *answers: Addresses) -> None:
        super().__init__()
        self.answers = list(answers)
        self.asked: list[str] = []

    def resolve(self, host: str, port: int, seconds: float) -> Addresses:
        del port, seconds
        self.asked.append(host)
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]

    async def aresolve(self, host: str, port: int) -> Addresses:
        return self.resolve(host, port, 0)


def fetch(way: str, transport: PinnedTransport, url: str = DOCUMENT) -> Response:
    request = Fetch("GET", url)
    if way == "sync":
        return transport.fetch(request)
    return anyio.run(transport.afetch, request, backend=way)


def refusal(way: str, transport: PinnedTransport, url: str = DOCUMENT) -> FetchFailed:
    with pytest.raises(FetchFailed) as error:
        fetch(way, transport, url)
    return error.value


@pytest.fixture
def dialed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What a fetch connects to, in place of a socket."""
    found: list[str] = []

    def connect(self: object, address: str, port: int, *_: Any) -> Any:
        found.append(f"{address} {port}")
        raise httpcore2.ConnectError

    async def aconnect(self: object, address: str, port: int, *_: Any) -> Any:
        connect(self, address, port)

    monkeypatch.setattr(httpcore2.SyncBackend, "connect_tcp", connect)
    monkeypatch.setattr("httpcore2._backends.auto.AutoBackend.connect_tcp", aconnect)
    return found


@WAYS
def test_CIMD_01_none_of_64_special_addresses_is_connected_to(way: str, dialed: list[str]) -> None:
    assert len(set(SPECIAL)) >= 64
    refused = 0
    for address in SPECIAL:
        error = refusal(way, PinnedTransport(ssl_context=TRUSTED, resolver=Answers((address,))))
        assert error.kind == "forbidden"
        assert f"its address {address} is not public" in str(error)
        refused += 1
    assert refused == len(SPECIAL)
    assert dialed == []


@pytest.mark.parametrize("address", PUBLIC)
@WAYS
def test_CIMD_01_a_public_address_is_connected_to_at_port_443(
    way: str, address: str, dialed: list[str]
) -> None:
    error = refusal(way, PinnedTransport(ssl_context=TRUSTED, resolver=Answers((address,))))
    assert error.kind == "unreachable"
    assert dialed == [f"{address} 443"]


@WAYS
def test_CIMD_01_a_host_with_one_special_address_among_public_ones_is_refused(
    way: str, dialed: list[str]
) -> None:
    error = refusal(
        way, PinnedTransport(ssl_context=TRUSTED, resolver=Answers(("8.8.8.8", "10.0.0.1")))
    )
    assert error.kind == "forbidden"
    assert dialed == []


@WAYS
def test_CIMD_01_a_resolver_that_changes_its_answer_is_asked_once(
    way: str, dialed: list[str]
) -> None:
    rebinding = Answers(("8.8.8.8",), ("127.0.0.1",))
    refusal(way, PinnedTransport(ssl_context=TRUSTED, resolver=rebinding))
    assert rebinding.asked == ["client.example.com"]
    assert dialed == ["8.8.8.8 443"]
    assert (
        refusal(way, PinnedTransport(ssl_context=TRUSTED, resolver=rebinding)).kind == "forbidden"
    )
    assert dialed == ["8.8.8.8 443"]


@pytest.mark.parametrize("url", URLS)
@WAYS
def test_CIMD_01_a_url_that_may_lead_elsewhere_is_refused_before_its_name_is_resolved(
    way: str, url: str, dialed: list[str]
) -> None:
    resolver = Answers(("8.8.8.8",))
    assert (
        refusal(way, PinnedTransport(ssl_context=TRUSTED, resolver=resolver), url).kind
        == "forbidden"
    )
    assert resolver.asked == dialed == []


@WAYS
def test_CIMD_01_the_proxies_of_the_environment_are_not_used(
    way: str, dialed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTPS_PROXY", "ALL_PROXY", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, "http://10.0.0.1:3128")
    refusal(way, PinnedTransport(ssl_context=TRUSTED, resolver=Answers(("8.8.8.8",))))
    assert dialed == ["8.8.8.8 443"]


@pytest.fixture(scope="module")
def named(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tls") / "client.pem"
    return make_certificate(path, x509.DNSName("client.example.com"))


def trusting(certificate: Path) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(certificate))


def local(certificate: Path, *answers: Addresses) -> PinnedTransport:
    return PinnedTransport(
        ssl_context=trusting(certificate),
        insecure_allow_loopback=True,
        resolver=Answers(*answers),
        timeout=10,
    )


@WAYS
def test_CIMD_01_the_certificate_is_that_of_the_name(way: str, named: Path) -> None:
    shown: list[str | None] = []

    def respond(connection: socket.socket) -> None:
        connection.sendall(OK)

    with raw_server(over_tls(named, respond, shown), reads=False) as url:
        port = url.split(":")[2].split("/")[0]
        transport = local(named, ("127.0.0.1",), ("127.0.0.2",))
        response = fetch(way, transport, f"https://client.example.com:{port}/m")
        assert (response.status, response.body) == (200, b"{}")
        assert shown == ["client.example.com"]
        error = refusal(way, local(named, ("127.0.0.1",)), f"https://other.example.com:{port}/m")
        assert error.kind == "tls"


@WAYS
def test_CIMD_01_a_redirect_is_returned_and_its_target_not_resolved(way: str) -> None:
    answered: list[str] = []

    def redirect(request: Any) -> Response:
        answered.append(request.url)
        return Response(302, (("Location", "http://169.254.169.254/latest/meta-data"),))

    with serving(redirect) as url:
        resolver = Answers(("127.0.0.1",))
        transport = PinnedTransport(insecure_allow_loopback=True, resolver=resolver)
        assert fetch(way, transport, url + "/m").status == 302
    assert answered == ["/m"]
    assert resolver.asked == []


@WAYS
def test_CIMD_01_a_body_beyond_the_limit_and_one_that_trickles_are_given_up(way: str) -> None:
    with serving(lambda _: Response(200, (), b" " * 5_000_000)) as url:
        transport = PinnedTransport(insecure_allow_loopback=True, max_bytes=5120)
        assert refusal(way, transport, url).kind == "too_large"

    def trickle(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
        while True:
            connection.sendall(b" ")
            connection.recv(1)

    with raw_server(trickle) as url:
        transport = PinnedTransport(insecure_allow_loopback=True, timeout=0.2)
        assert refusal(way, transport, url).kind == "timed_out"


@WAYS
def test_CIMD_01_loopback_is_reached_only_where_it_is_allowed(way: str) -> None:
    with serving(lambda _: Response(204)) as url:
        assert fetch(way, PinnedTransport(insecure_allow_loopback=True), url).status == 204
        assert refusal(way, PinnedTransport(), url).kind == "forbidden"
        secure = url.replace("http:", "https:")
        assert refusal(way, PinnedTransport(insecure_allow_loopback=True), secure).kind == "tls"
        assert refusal(way, PinnedTransport(), secure).kind == "forbidden"
    private = PinnedTransport(insecure_allow_loopback=True, resolver=Answers(("10.0.0.1",)))
    assert refusal(way, private).kind == "forbidden"
    assert refusal(way, private, "http://client.example.com/m").kind == "forbidden"


def test_CIMD_01_the_dialer_connects_to_the_very_addresses_that_were_admitted() -> None:
    admitted: list[tuple[str, Addresses]] = []

    class Below(httpcore2.NetworkBackend):
        def __init__(self) -> None:
            self.dialed: list[str] = []

        def connect_tcp(self, host: str, *_: Any, **__: Any) -> Any:
            self.dialed.append(host)
            raise httpcore2.ConnectError

    def admit(host: str, addresses: Addresses) -> None:
        admitted.append((host, addresses))

    below = Below()
    dialer = Dialer(below, Answers(("8.8.8.8", "8.8.4.4")), admit)
    with pytest.raises(httpcore2.ConnectError):
        dialer.connect_tcp("client.example.com", 443, 1.0)
    assert admitted == [("client.example.com", ("8.8.8.8", "8.8.4.4"))]
    assert below.dialed == ["8.8.8.8", "8.8.4.4"]


@pytest.mark.parametrize("text", ["", "client.example.com", "127.1", "1.2.3.4.5", "0x7f.0.0.1"])
def test_CIMD_01_what_is_no_address_is_not_public(text: str) -> None:
    assert not is_public(text)
