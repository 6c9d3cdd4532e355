"""What the client reads: redirects, stored tokens, and files that hold them."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

from bearerguard.client.backoff import _read
from bearerguard.client.discovery import issuer_url, secure_url
from bearerguard.client.login.loopback import LoopbackReceiver
from bearerguard.client.login.receivers import PastedRedirect, checked_redirect_uri
from bearerguard.client.registration import _client
from bearerguard.client.storages.document import DocumentStorage
from bearerguard.client.storages.state_directory import state_directory
from bearerguard.client.token import Token, lease
from bearerguard.errors import ConfigurationError, LoginFailed, StorageError
from tests.fuzz.target import target, text

_RECEIVER = LoopbackReceiver(state="the-state")
_HOST = _RECEIVER.redirect_uri.split("/")[2].encode()
_RECEIVER.close()  # its sockets; what parses needs none
_STORED = Token("a", "Bearer", 1.0, 2.0, "r", ("s",), None, "https://i", "https://r").to_bytes()


@target(
    b"GET /callback?code=a&state=the-state HTTP/1.1\r\nHost: " + _HOST,
    b"GET /callback?error=a&state=the-state HTTP/1.0\r\nhost:" + _HOST + b"\r\nhost: a",
    b"POST /callback HTTP/1.1\r\nHost: " + _HOST,
    b"GET /callback?state=%ff&state=a HTTP/1.1\r\nHost: " + _HOST,
    b"GET http://a/callback HTTP/1.1",
    b"",
)
def browser_redirect(octets: bytes) -> None:
    found, page = _RECEIVER._handled(octets)
    assert page.startswith(b"HTTP/1.1 ")
    if found is not None:
        assert found["state"] == "the-state"
        assert ("code" in found) is not ("error" in found)
        assert page.startswith(b"HTTP/1.1 200")


@target(b"com.example:/cb?code=a&state=b", b"com.example:/cb?a=%ff#x", b"", b"com.example:/cb")
def pasted_redirect(octets: bytes) -> None:
    pasted = PastedRedirect("com.example:/cb", lambda: text(octets))
    with suppress(LoginFailed):
        found = pasted.wait(0)
        assert ("code" in found) is not ("error" in found)


@target(b"http://127.0.0.1:8000/cb", b"com.example:/cb", b"http://[::1]/", b"https://[", b"a:b@c")
def redirect_option(octets: bytes) -> None:
    for check in (
        checked_redirect_uri,
        lambda url: secure_url("url=", url),
        lambda url: issuer_url("issuer=", url),
    ):
        with suppress(ConfigurationError):
            assert check(text(octets)).isascii()


@target(_STORED, b'{"version":1}', b"[]", b'{"version":1,"access_token":"a","scopes":1}', b"")
def stored_token(octets: bytes) -> None:
    with suppress(StorageError):
        token = Token.from_bytes(octets)
        assert Token.from_bytes(token.to_bytes()) == token
        lease(token, now=1.0, monotonic=1.0)


@target(
    b'{"client_id":"a","client_secret":"b"}',
    b'{"version":1,"cause":"a","begun":1,"seconds":1e300}',
    b'{"version":1,"cause":[],"begun":"nan","seconds":"inf"}',
    b"[]",
)
def stored_client(octets: bytes) -> None:
    _client(octets)
    found = _read(octets)
    assert found is None or isinstance(found[0], str)


class _Kept:
    def __init__(self, octets: bytes) -> None:
        self._octets = octets

    def read(self) -> bytes:
        return self._octets

    def write(self, octets: bytes) -> None:
        raise AssertionError("reading writes nothing")


@target(b'{"key":"dmFsdWU="}', b'{"key":1}', b"[]", b"null", b'{"key":"!"}', b"[" * 5000)
def stored_document(octets: bytes) -> None:
    storage = DocumentStorage(
        "a test's", _Kept(octets), locks=state_directory(), lock_name="never-taken"
    )
    read: tuple[Callable[[], object], ...] = (storage.keys, lambda: storage.load("key"))
    for each in read:
        with suppress(StorageError):
            each()
