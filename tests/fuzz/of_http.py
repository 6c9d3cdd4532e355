"""Header fields, forms, URIs, bodies and documents."""

from __future__ import annotations

import gzip
import ipaddress
import re
import zlib
from contextlib import suppress
from typing import Any

import httpx2

from bearerguard.errors import ConfigurationError, CredentialsError
from bearerguard.protocol import dpop, pkce
from bearerguard.protocol.client_authentication import MalformedAuthentication, parse_basic
from bearerguard.protocol.http import caching, cors, credentials, document, form, uri
from bearerguard.protocol.http.challenge import Challenge
from bearerguard.protocol.http.received_challenge import find, parse
from bearerguard.runtime import addresses, bodies
from bearerguard.runtime.messages import FetchFailed
from bearerguard.transports.body import Body
from bearerguard.transports.redis_url import check_url
from bearerguard.transports.request_headers import checked_headers
from tests.fuzz.target import response, target, text

_URL = "https://id.example/jwks"
_ABSOLUTE = re.compile("[a-zA-Z][a-zA-Z0-9+.-]*:")
_STRAY_PERCENT = re.compile("%(?![0-9A-Fa-f]{2})")
_FIELD = re.compile(r"[\t\x20-\x7e]*")


@target(
    b"Bearer abc.def-_~+/==",
    b"bearer  abc",
    b"Bearer",
    b"Bearer\tabc",
    b"Basic YTpi",
    b"DPoP a.b.c",
    b"Bearer a\nBearer a",
    b"Bearer a,b",
)
def authorization_field(octets: bytes) -> None:
    fields = octets.split(b"\n") if octets else []
    shown = credentials.absence(fields)
    assert shown.isascii()
    try:
        token = credentials.bearer_token(fields)
    except CredentialsError:
        return
    if token is not None:
        assert len(fields) == 1
        assert credentials.is_token68(token)
        assert fields[0].strip(b" \t").endswith(token)


@target(b"Basic YTpi", b"basic  YTo=", b"Basic YSUzQWI6YisrYg==", b"Basic !", b"Bearer a", b"")
def basic_credentials(octets: bytes) -> None:
    try:
        found = parse_basic(octets.split(b"\n"))
    except MalformedAuthentication as error:
        assert error.error in {"invalid_request", "invalid_client"}
        return
    if found is not None:
        assert all(found)
        assert all("\0" not in each or each.isascii() for spellings in found for each in spellings)


@target(
    b'Bearer realm="api", error="invalid_token", error_description="a \\"b\\""',
    b'Basic realm="a", DPoP algs="ES256", Bearer scope="a b"',
    b"Negotiate dG9rZW4=, Bearer",
    b"Bearer a=b, a=c,, ,x",
    b'Bearer realm="unclosed',
    b"Bearer" + b" a," * 200,
)
def received_challenges(octets: bytes) -> None:
    challenges = parse(text(octets).split("\n"))
    for each in challenges:
        assert each.scheme == each.scheme.lower()
        assert all(name == name.lower() for name in each.parameters)
    found = find(challenges, "bearer", "dpop")
    assert found is None or found.scheme in {"bearer", "dpop"}


@target(b"api\nthe reason\nread write\nhttps://api.example", b'"\\\n\r\n\0\n\xff')
def built_challenge(octets: bytes) -> None:
    realm, error, scope, url, *_ = [*text(octets).split("\n"), "", "", ""]
    built = Challenge(realm, error, realm, scope, resource_metadata=url).build()
    assert _FIELD.fullmatch(built)
    (found,) = parse([built])
    legal = "".join(each for each in realm if " " <= each <= "~")
    if len(built) < 8192:
        assert found.parameters["realm"] == legal
        assert set(found.parameters) == {
            *("realm", "error", "error_description", "scope", "resource_metadata")
        }


@target(b"a+b%20c", b"%zz", b"%00", b"%ff", b"%C3%A9", b"\xc3\xa9")
def form_text(octets: bytes) -> None:
    with suppress(form.FormError):
        assert "\0" not in form.decode(octets)


@target(
    b"HTTPS://User@Host.example:443/a/./b/../c%7e%2f?q=%61#f",
    b"urn:example:a",
    b"//[::1]:80/..",
    b"http://[v1.x]:99999/",
    b"https:",
    b"a:b:c/../../..//d",
)
def uri_text(octets: bytes) -> None:
    given = text(octets)
    once = uri.normalized(given)
    if _ABSOLUTE.match(given) and not _STRAY_PERCENT.search(given):
        assert uri.normalized(once) == once
    with suppress(ValueError):
        target_uri = dpop.target(given)
        assert dpop.target(target_uri) == target_uri
        assert "?" not in target_uri
        assert "#" not in target_uri


@target(
    b"200\nCache-Control: public, max-age=60\nAge: 10\n\n",
    b'200\nCache-Control: max-age="9", no-store\n\n',
    b"200\nExpires: Thu, 01 Dec 1994 16:00:00 GMT\nDate: Thu, 01 Dec 1994 15:00:00 GMT\n\n",
    b"200\nExpires: 0\nDate: Thu, 01 Dec 1994 15:00:00\n\n",
    b'200\nETag: "a"\nLast-Modified: now\n\n',
)
def caching_fields(octets: bytes) -> None:
    given = response(octets)
    for seconds in (caching.max_age(given), caching.freshness(given)):
        assert seconds is None or 0.0 <= seconds < float("inf")
    assert all(value.isascii() for _, value in caching.validators(given))


@target(
    b'200\nContent-Type: application/json\n\n{"issuer":"https://id.example"}',
    b"302\nLocation: https://user:secret@other.example/a?secret=1\n\n",
    b"302\nLocation: //[\n\n",
    b"403\n\n<html>",
    b"429\nRetry-After: 120\n\n",
    b"503\nRetry-After: 9999999999999999999999\n\n",
    b"200\nContent-Type: application/jwk-set+json; charset=utf-8\n\n\xef\xbb\xbf{}",
    b"200\n\n\x1f\x8b",
    b"200\n\n\xff\xfe{\0}\0",
    b"200\n\n<?xml version='1.0'?>",
)
def fetched_document(octets: bytes) -> None:
    given = response(octets)
    assert 1.0 <= document.retry_after(given) <= 3600.0
    assert "@" not in document.redirect(given)
    with suppress(FetchFailed):
        assert isinstance(document.json_object(_URL, given), dict)
    with suppress(document.NotJson):
        document.loads(given.body)


@target(
    b"200\nContent-Encoding: gzip\nContent-Length: 25\n\n" + gzip.compress(b'{"a": 1}', mtime=0),
    b"200\nContent-Encoding: deflate\n\n" + zlib.compress(b"{}"),
    b"200\nContent-Encoding: deflate\n\n" + zlib.compress(b"{}")[2:-4],
    b"200\nContent-Encoding: gzip, br\n\n{}",
    b"200\nContent-Encoding: gzip\n\n" + gzip.compress(b"0" * 5000, mtime=0) * 3,
    b"200\nContent-Length: " + b"9" * 5000 + b"\n\n{}",
    b"200\nContent-Length: \xb2\n\n{}",
)
def compressed_body(octets: bytes) -> None:
    given, most = response(octets), 4096
    fields = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in given.headers]
    received = httpx2.Response(given.status, headers=fields)
    try:
        body = Body(_URL, received, most)
        body.add(given.body)
        assert len(body.whole()) <= most
        body.headers()
    except FetchFailed as error:
        assert error.kind in {"too_large", "encoding"}


@target(b"redis://:password@127.0.0.1:6379/0?timeout=1", b"rediss://h/0?ssl_cert_reqs=x", b"unix:")
def redis_address(octets: bytes) -> None:
    try:
        check_url("RedisStore", text(octets))
    except ConfigurationError as error:
        assert "password" not in str(error)


@target(b"User-Agent: a", b"Authorization: a", b"X: \r\nY: b", b": a", b"Host: a")
def header_option(octets: bytes) -> None:
    pairs = [line.partition(b":") for line in octets.split(b"\n")]
    given = [(text(name), text(value)) for name, _, value in pairs]
    with suppress(ConfigurationError):
        for name, value in checked_headers(given):
            assert not re.search(r"[\r\n\0]", name + value)
            assert name.lower() not in {"authorization", "host", "content-length"}


@target(b"X-A, traceparent\nPOST\nhttps://app.example", b"*\nGET\n", b"a\r\nb: c\nGET\n*")
def preflight_fields(octets: bytes) -> None:
    names, method, origin, *_ = [*text(octets).split("\n"), "", ""]
    found = {"access-control-request-headers": names, "access-control-request-method": method}
    answer = cors.preflight("GET, HEAD", origin or None, found.get)
    assert answer.status == 204
    for name, value in answer.headers:
        if name != "Access-Control-Allow-Origin":  # the caller's own, which it has compared
            assert _FIELD.fullmatch(value), name


@target(
    *(b"127.0.0.1", b"::1", b"::ffff:127.0.0.1", b"localhost.", b"0x7f.1", b"64:ff9b::7f00:1"),
    *(b"10.0.0.1", b"93.184.216.34", b"2606:2800:220:1::1", b"fe80::1%eth0", b"0", b"[::]"),
)
def address_text(octets: bytes) -> None:
    given = text(octets)
    if addresses.is_loopback(given):
        assert addresses.may_be_this_machine(given)
    if addresses.is_public(given):
        assert not addresses.may_be_this_machine(given)
        assert ipaddress.ip_address(given).is_global or given.lower().startswith("64:ff9b:")


@target(b"a-nonce_1", b"", b"a b", b"\xff", b"a\nb")
def dpop_nonce(octets: bytes) -> None:
    found = dpop.nonce(text(octets).split("\n"))
    assert found is None or re.fullmatch(r"[\x21\x23-\x5b\x5d-\x7e]+", found)


@target(pkce.challenge("m" * 43).encode() + b"\n" + b"m" * 43, b"\n", b"a\nb")
def pkce_pair(octets: bytes) -> None:
    challenge, _, verifier = text(octets).partition("\n")
    proved = pkce.proves(verifier, challenge)
    assert not proved or (pkce.is_challenge(challenge) and pkce.challenge(verifier) == challenge)


class _Input:
    def read(self, size: int) -> bytes:
        assert size >= 0, "it would read until the client ends"
        return b"a" * min(size, 1000)


@target(b"5", b"-1", b"+5", b"\xb2", b"9" * 5000, b"1001", b"", b" 5", b"0x5", b"5, 5")
def content_length(octets: bytes) -> None:
    environ: dict[str, Any] = {"CONTENT_LENGTH": text(octets), "wsgi.input": _Input()}
    body = bodies.wsgi_body(environ, 1000)
    assert body is None or len(body) <= 1000
