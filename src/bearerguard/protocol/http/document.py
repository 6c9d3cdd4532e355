"""Responses with a JSON document: parse the document, or describe what came instead.

JSON is parsed as strictly as a token's, but for a byte order mark, which RFC 8259 §8.1 lets a
parser ignore. A description quotes nothing of the body, since that may hold a secret.
"""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import urljoin, urlsplit

from bearerguard.errors import quoted
from bearerguard.protocol import names
from bearerguard.protocol.jose import strict_json
from bearerguard.runtime.messages import FetchFailed, Response

_OK, _FIRST_REDIRECT, _FORBIDDEN, _TOO_MANY, _SERVER_ERROR = 200, 300, 403, 429, 500
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
# RFC 8259 §11, RFC 6838 §4.2.8.
_JSON_TYPE = re.compile(r"application/(?:[a-z0-9][a-z0-9!#$&^_.-]*\+)?json")
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_BEGINNINGS = (
    (
        (b"\xff\xfe", b"\xfe\xff", b"\x00\x00\xfe\xff"),
        "not JSON in UTF-8 (RFC 8259 §8.1) but text in UTF-16 or UTF-32",
    ),
    ((b"\x1f\x8b",), "not JSON but gzip"),
)
# An error page need not begin with its <html>: a comment or a fragment may stand there.
_HTML = (b"<!doctype html", b"<html", b"<head", b"<body", b"<title", b"<script", b"<h1", b"<p>")
# How many octets of a body are searched for HTML tags.
_HEAD = 1024
_SPACE = 0x20
# Seconds. A longer `Retry-After` is cut to this.
_MAX_PAUSE = 3600.0


class NotJson(ValueError):
    """A body is no JSON text; the message describes what it is instead."""


def loads(body: bytes) -> Any:
    """Parse the JSON text of a response; raises `NotJson` for any other."""
    text = body.removeprefix(_BYTE_ORDER_MARK)
    try:
        return strict_json.loads(text)
    except ValueError as error:
        raise NotJson(_instead(text, error)) from None


def loads_object(body: bytes) -> dict[str, Any]:
    """Parse the JSON object of a response; raises ValueError for anything else."""
    value = loads(body)
    if not isinstance(value, dict):
        raise NotJson("not a JSON object")
    return value


def json_object(url: str, response: Response) -> dict[str, Any]:
    """Return the JSON object of a response with status 200 and a media type of JSON.

    For documents of strangers; raises `FetchFailed` for any other response.
    """
    fault = unserved(url, response)
    if fault is not None:
        raise fault
    media_type = (response.header("content-type") or "").partition(";")[0].strip().lower()
    if not _JSON_TYPE.fullmatch(media_type):
        raise FetchFailed(
            f"{url}: its media type {quoted(media_type)} is not JSON's", kind="not_json"
        )
    try:
        return loads_object(response.body)
    except ValueError as error:
        raise FetchFailed(f"{url}: {error}", kind="not_json") from None


def unserved(url: str, response: Response) -> FetchFailed | None:
    """Return why a response from `url` holds no document; None if its status is 200."""
    status = response.status
    if status == _OK:
        return None
    if status in _REDIRECTS:
        target = _target(url, response.header("location"))
        return FetchFailed(
            f"{url}: status {status}, a redirect{target}: it is not followed", kind="redirect"
        )
    hint = ""
    if status == _FORBIDDEN:
        hint = " (a firewall may refuse this User-Agent: HttpTransport(headers=...) sends another)"
    return FetchFailed(f"{url}: status {status}{hint}", kind="status")


def is_success(response: Response) -> bool:
    """Whether a response has a status of success (RFC 9110 §15.3)."""
    return _OK <= response.status < _FIRST_REDIRECT


def is_unavailable(response: Response) -> bool:
    """Whether a server is in trouble or too busy, so that asking again later may help."""
    return response.status >= _SERVER_ERROR or response.status == _TOO_MANY


def retry_after(response: Response) -> float:
    """Return the seconds of `Retry-After`, from 1 to 3600; 1 without (RFC 9110 §10.2.3)."""
    seconds = (response.header(names.RETRY_AFTER) or "").strip()
    if not seconds.isascii() or not seconds.isdigit():
        return 1.0
    return max(1.0, min(float(seconds), _MAX_PAUSE))


def redirect(response: Response) -> str:
    """Describe a redirect by its origin; return an empty string for another response."""
    if response.status not in _REDIRECTS:
        return ""
    location = response.header("location")
    absolute = location is not None and "://" in location
    target = _target("", location) if absolute else ""
    return f"a redirect{target}: it is not followed"


def _target(url: str, location: str | None) -> str:
    """Return the origin that a redirect leads to; the rest of its URL may hold secrets."""
    try:
        target = urlsplit(urljoin(url, location or ""))
    except ValueError:
        return ""
    return f" to {quoted(f'{target.scheme}://{target.hostname}')}" if location else ""


def _instead(text: bytes, error: ValueError) -> str:
    start = text.strip()[:_HEAD].lower()
    if not start:
        return "not JSON: the body is empty"
    if start.startswith((b"{", b"[")):
        return f"not JSON: {error}"
    if start.startswith(b"<"):
        is_html = any(tag in start for tag in _HTML)
        return f"not JSON but {'HTML' if is_html else 'XML'}"
    for beginnings, what in _BEGINNINGS:
        if start.startswith(beginnings):
            return what
    if not all(octet >= _SPACE or octet in b"\t\r\n" for octet in start):
        return "not JSON but binary data"
    return "not JSON but text"
