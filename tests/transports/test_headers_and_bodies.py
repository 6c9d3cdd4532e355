"""Configured request headers, and response bodies that are compressed without being asked to."""

from __future__ import annotations

import functools
import gzip
import json
import zlib
from typing import Any

import anyio
import pytest

import bearerguard
from bearerguard import ConfigurationError, Guard, HttpTransport, Introspection, Issuer
from bearerguard.runtime.flow import Fetch
from bearerguard.runtime.messages import FetchFailed, Request, Response
from bearerguard.testing import LocalIssuer
from bearerguard.testing.loopback import serving

# Without the time, which would be in the names of tests.
gzipped = functools.partial(gzip.compress, mtime=0)


def raw_deflate(body: bytes) -> bytes:
    compressor = zlib.compressobj(wbits=-15)
    return compressor.compress(body) + compressor.flush()


CODINGS = [
    ("gzip", gzipped),
    ("x-gzip", gzipped),
    ("GZIP", gzipped),
    ("identity, gzip", gzipped),
    ("deflate", zlib.compress),
    ("deflate", raw_deflate),
    ("gzip", lambda body: gzipped(body[:7]) + gzipped(body[7:])),
]


def ways(transport: HttpTransport, url: str) -> list[Any]:
    """Return what comes in a thread, on asyncio and on trio: a response or a failure."""
    found: list[Any] = []
    for way in (None, "asyncio", "trio"):
        try:
            if way is None:
                found.append(transport.fetch(Fetch("GET", url)))
            else:
                found.append(anyio.run(transport.afetch, Fetch("GET", url), backend=way))
        except FetchFailed as error:
            found.append(error)
    return found


@pytest.mark.parametrize(("coding", "compress"), CODINGS)
def test_E41_a_compressed_body_is_decompressed_though_identity_was_requested(
    coding: str, compress: Any
) -> None:
    body = b'{"keys": []}' * 99
    headers = (("Content-Encoding", coding), ("X", "1"))
    with serving(lambda _: Response(200, headers, compress(body))) as url:
        for response in ways(HttpTransport(max_bytes=len(body)), url):
            assert response.body == body
            assert response.header("content-encoding") is None
            assert response.header("content-length") is None
            assert response.header("x") == "1"
        for error in ways(HttpTransport(max_bytes=len(body) - 1), url):
            assert (error.kind, "too large" in str(error)) == ("too_large", True)


@pytest.mark.parametrize(
    ("coding", "body", "expected"),
    [
        ("gzip", b"xy", "does not match its Content-Encoding"),
        ("gzip", gzipped(b"{}" * 99)[:-9], "cut off"),
        ("gzip", gzipped(b"{}") + b"more", "does not match its Content-Encoding"),
        ("gzip", gzipped(b"") * 20, "too large"),
        ("deflate", b"\xff\xff\xff", "does not match its Content-Encoding"),
        ("br", b"x", "compressed by 'br'"),
        ("gzip, gzip", gzipped(gzipped(b"{}")), "compressed by 'gzip, gzip'"),
        ("zstd", b"x", "compressed by 'zstd'"),
    ],
)
def test_E41_a_body_that_cannot_be_decompressed_fails(
    coding: str, body: bytes, expected: str
) -> None:
    with serving(lambda _: Response(200, (("Content-Encoding", coding),), body)) as url:
        for error in ways(HttpTransport(), url):
            assert expected in str(error)


def test_E41_a_decompression_bomb_is_refused_early() -> None:
    bomb = gzipped(b"\0" * 50_000_000)
    with serving(lambda _: Response(200, (("Content-Encoding", "gzip"),), bomb)) as url:
        for error in ways(HttpTransport(), url):
            assert error.kind == "too_large"


def test_an_empty_body_needs_no_decompressing() -> None:
    with serving(lambda _: Response(200, (("Content-Encoding", "gzip"),))) as url:
        assert [each.body for each in ways(HttpTransport(), url)] == [b""] * 3


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"], ids=["plain", "byte order mark"])
@pytest.mark.parametrize(("coding", "compress"), CODINGS)
def test_E41_keys_metadata_and_introspection_responses_may_be_compressed(
    coding: str, compress: Any, mark: bytes
) -> None:
    local = LocalIssuer("https://id.example", audience="a")
    where: list[str] = []

    def answer(request: Request) -> Response:
        if request.url == "/introspect":
            document: Any = {"active": True, "sub": "u", "aud": "a", "iss": "https://id.example"}
        elif request.url == "/jwks":
            document = local.jwks()
        else:
            document = {
                "issuer": "https://id.example",
                "jwks_uri": f"{where[0]}/jwks",
                "introspection_endpoint": f"{where[0]}/introspect",
            }
        body = compress(mark + json.dumps(document).encode())
        return Response(200, (("Content-Encoding", coding),), body)

    with serving(answer) as url:
        where.append(url)
        asking = Introspection("api", client_secret="s")
        issuer = Issuer(
            "https://id.example", audience="a", discovery_url=f"{url}/meta", introspection=asking
        )
        with Guard(issuer) as guard:
            assert guard.verify(local.token()).subject
            assert guard.verify("opaque").subject == "u"


def test_C24_requests_have_our_user_agent_or_the_configured_headers() -> None:
    seen: list[Request] = []

    def answer(request: Request) -> Response:
        seen.append(request)
        return Response(200)

    ours = [f"bearerguard/{bearerguard.__version__}".encode()]
    with serving(answer) as url:
        ways(HttpTransport(), url)
        assert [each.values(b"user-agent") for each in seen] == [ours] * 3
        seen.clear()
        ways(HttpTransport(headers={"user-agent": "MyApi/1.0 (x, y)", "X-Api-Key": "k"}), url)
        assert {(*each.values(b"user-agent"), *each.values(b"x-api-key")) for each in seen} == {
            (b"MyApi/1.0 (x, y)", b"k")
        }
        seen.clear()
        transport = HttpTransport(headers=[("Accept", "text/plain"), ("X", "1"), ("X", "2")])
        transport.fetch(Fetch("GET", url, (("accept", "application/json"),)))
        assert seen[0].values(b"accept") == [b"application/json"]  # the request's own header
        assert seen[0].values(b"x") == [b"1", b"2"]
        assert seen[0].values(b"user-agent") == ours


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"Host": "evil"}, "Host is set by each request"),
        ({"content-LENGTH": "0"}, "is set by each request"),
        ({"Transfer-Encoding": "chunked"}, "is set by each request"),
        ({"Accept-Encoding": "gzip"}, "is set by each request"),
        ({"Authorization": "Bearer s3cret"}, "KeyPolicy\\(token=\\)"),
        ({"cookie": "sid=s3cret"}, "would go to every server"),
        ({"X": "s3cret\r\nHost: evil"}, "the value of X cannot be sent"),
        ({"X": "s3cret\n"}, "the value of X cannot be sent"),
        ({"X": "s3cret\0"}, "the value of X cannot be sent"),
        ({"X": " s3cret"}, "the value of X cannot be sent"),
        ({"X": "s3cret ☃"}, "the value of X cannot be sent"),
        ({"X": "s3cret é"}, "the value of X cannot be sent"),
        ({"X": ""}, "the value of X cannot be sent"),
        ({"X": 7}, "the value of X cannot be sent"),
        ({"X: y\r\nZ": "1"}, "no name of a header field"),
        ({"": "1"}, "no name of a header field"),
        ({7: "1"}, "no name of a header field"),
        (["X"], "pass a dict"),
        (7, "headers="),
    ],
)
def test_C24_header_fields_that_cannot_be_sent_are_refused_without_their_values(
    headers: Any, expected: str
) -> None:
    with pytest.raises(ConfigurationError, match=expected) as error:
        HttpTransport(headers=headers)
    assert "s3cret" not in str(error.value)
