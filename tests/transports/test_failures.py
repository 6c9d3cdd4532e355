"""FETCH-01: a failed fetch says which failure it was, by real sockets and real TLS."""

from __future__ import annotations

import datetime as dt
import errno
import socket
import ssl
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from bearerguard import Guard, HttpTransport, Issuer
from bearerguard.client import ClientCredentials, TokenManager
from bearerguard.errors import TokenUnavailable
from bearerguard.runtime.flow import Fetch
from bearerguard.runtime.messages import FetchFailed, Response
from bearerguard.testing.loopback import serving
from bearerguard.transports.failures import failure
from tests.client.callers import caller
from tests.raw_servers import over_tls, raw_server

Write = Callable[..., Path]


@pytest.fixture
def certificate(tmp_path: Path) -> Write:
    """Returns what writes a certificate with its key into one file."""

    def write(
        *, host: str = "localhost", begins: int = -1, ends: int = 1, own: bool = True
    ) -> Path:
        key, authority = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, host)])
        issuer = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "an authority")])
        now = dt.datetime.now(dt.UTC)
        built = (
            x509.CertificateBuilder(
                name if own else issuer,
                name,
                key.public_key(),
                1,
                now + dt.timedelta(days=begins),
                now + dt.timedelta(days=ends),
            )
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
            .sign(key if own else authority, hashes.SHA256())
        )
        path = tmp_path / "own.pem"
        path.write_bytes(
            key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
            + built.public_bytes(Encoding.PEM)
        )
        return path

    return write


def failures(transport: HttpTransport, url: str) -> list[FetchFailed]:
    """Return how a fetch fails in a thread, on asyncio and on trio."""
    request = Fetch("GET", url)
    found: list[FetchFailed] = []
    for fetch in (
        lambda: transport.fetch(request),
        lambda: anyio.run(transport.afetch, request),
        lambda: anyio.run(transport.afetch, request, backend="trio"),
    ):
        with pytest.raises(FetchFailed) as error:
            fetch()
        assert str(error.value).startswith(f"{url}: ")
        found.append(error.value)
    return found


def keep_silent(connection: socket.socket) -> None:
    connection.recv(1)


def answer(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")


@pytest.mark.parametrize(
    ("made", "trusted", "expected"),
    [
        ({}, False, "TLS: the certificate is self-signed"),
        ({"own": False}, False, "TLS: the certificate is signed by an unknown authority"),
        ({"begins": -3, "ends": -1}, True, "TLS: the certificate has expired"),
        ({"begins": 1, "ends": 3}, True, "TLS: the certificate is not valid yet"),
        ({"host": "other.example"}, True, "TLS: the certificate is for another host"),
    ],
)
def test_FETCH_01_a_certificate_that_is_not_valid_says_why(
    certificate: Write, made: dict[str, Any], trusted: bool, expected: str
) -> None:
    path = certificate(**made)
    context = ssl.create_default_context(cafile=path) if trusted else None
    with raw_server(over_tls(path, answer), reads=False) as url:
        secure = url.replace("http://127.0.0.1", "https://localhost")
        for error in failures(HttpTransport(ssl_context=context), secure):
            assert expected in str(error)
            assert (error.kind, error.temporary) == ("tls", False)


def test_FETCH_01_a_server_without_tls_and_one_that_hangs_up_are_distinguished() -> None:
    with raw_server(answer) as url:
        for error in failures(HttpTransport(), url.replace("http:", "https:")):
            assert "TLS: the server speaks no TLS at this port" in str(error)
            assert (error.kind, error.temporary) == ("tls", False)
    with raw_server(lambda _: None) as url:
        for error in failures(HttpTransport(), url.replace("http:", "https:")):
            assert (error.kind, error.temporary) == ("closed", True)


def reset(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def cut_off(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{")


def test_FETCH_01_a_response_that_breaks_off_says_how() -> None:
    for answer_, expected in ((reset, "the connection was reset"), (cut_off, "closed")):
        with raw_server(answer_) as url:
            for error in failures(HttpTransport(), url):
                assert expected in str(error)
                assert (error.kind, error.temporary) == ("closed", True)


def test_FETCH_01_an_unknown_host_a_refused_connection_and_silence_are_distinguished() -> None:
    for error in failures(HttpTransport(), "https://nowhere.invalid/jwks"):
        assert "unknown host 'nowhere.invalid'" in str(error)
        assert (error.kind, error.temporary) == ("unknown_host", False)
    with serving(lambda _: Response(200)) as url:
        gone = url.replace("127.0.0.1", "localhost")
    for error in failures(HttpTransport(), gone):
        assert str(error).endswith(": the connection was refused")
        assert (error.kind, error.temporary) == ("refused", True)
    with raw_server(keep_silent) as url:
        for error in failures(HttpTransport(timeout=0.2), url):
            assert str(error).endswith(": timed out: no complete response in 0.2 s")
            assert (error.kind, error.temporary) == ("timed_out", True)


def test_FETCH_01_a_failure_between_us_and_a_proxy_names_the_proxy() -> None:
    with serving(lambda _: Response(200)) as url:
        gone = url
    for error in failures(HttpTransport(proxy=gone), "http://id.example/jwks"):
        assert f"refused (asked by the proxy {gone[7:]})" in str(error)
    with serving(lambda _: Response(403)) as url:
        for error in failures(HttpTransport(proxy=url), "https://id.example/jwks"):
            assert error.kind in {"unreachable", "closed"}
    for error in failures(HttpTransport(proxy="http://[::1]:9"), "http://id.example/jwks"):
        assert "the proxy [::1]:9" in str(error) or error.kind == "unreachable"


@pytest.mark.parametrize(
    ("error", "kind", "temporary"),
    [
        (socket.gaierror(socket.EAI_AGAIN, "try again"), "unknown_host", True),
        (socket.gaierror(socket.EAI_NONAME, "no name"), "unknown_host", False),
        (OSError(errno.ENETUNREACH, "secret"), "unreachable", True),
        (ExceptionGroup("all", [ConnectionRefusedError("secret")]), "refused", True),
        (OSError(errno.EIO, "secret"), "closed", True),
        (UnicodeError("secret"), "invalid_url", False),
        (ssl.SSLError(1, "secret"), "tls", False),
    ],
)
def test_FETCH_01_failures_that_no_loopback_server_can_cause_are_distinguished_too(
    error: Exception, kind: str, temporary: bool
) -> None:
    found = failure(error, 5)
    assert (found.kind, found.temporary) == (kind, temporary)
    assert "secret" not in found.words


def test_FETCH_01_a_chain_of_causes_that_never_ends_is_cut() -> None:
    first, second = ValueError(), ValueError()
    first.__cause__, second.__cause__ = second, first
    assert failure(first, 5).kind == "closed"


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"<!DOCTYPE html><html></html>", "not JSON but HTML"),
        (b"", "not JSON: the body is empty"),
        (b"{", "not JSON: "),
    ],
)
def test_FETCH_01_the_error_for_keys_that_are_not_json_says_what_came_and_from_where(
    body: bytes, expected: str
) -> None:
    events: list[Any] = []
    with serving(lambda _: Response(200, body=body)) as url:
        issuer = Issuer("https://id.example", audience="a", jwks_uri=f"{url}/jwks")
        Guard(issuer, on_event=events.append).warm()
    assert events[-1].code == "keys_fetch_failed"
    assert events[-1].detail.startswith(f"{url}/jwks: {expected}")


@pytest.mark.parametrize("library", ["httpx2", "httpx", "requests"])
@pytest.mark.parametrize(
    ("place", "expected"),
    [
        ("https://nowhere.invalid", "unknown host 'nowhere.invalid'"),
        ("TLS", "the certificate is self-signed"),
    ],
)
def test_FETCH_01_the_error_of_a_client_without_a_token_says_which_failure_it_was(
    certificate: Write, library: str, place: str, expected: str
) -> None:
    with raw_server(over_tls(certificate(), answer), reads=False) as url:
        issuer = (
            place if place != "TLS" else url[:-5].replace("http://127.0.0.1", "https://localhost")
        )
        source = ClientCredentials(
            issuer, client_id="c", client_secret="s3cret", resources="https://api.example"
        )
        with (
            caller(library, TokenManager(source)) as call,
            pytest.raises(TokenUnavailable, match=expected) as error,
        ):
            call("GET", "https://api.example/x")
    assert not error.value.temporary
    assert "s3cret" not in str(error.value)
