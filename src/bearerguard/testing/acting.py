"""Test clients that send a genuine token with each request.

Knows a client by the attribute that holds its default headers, and imports no framework.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator, MutableMapping
from contextlib import contextmanager
from copy import copy
from functools import wraps
from typing import Any, Generic, TypeVar, Unpack

from bearerguard.errors import ConfigurationError
from bearerguard.protocol import names
from bearerguard.testing.local_issuer import LocalIssuer, TokenOptions

Client = TypeVar("Client")

_ENVIRON = "HTTP_AUTHORIZATION"  # PEP 3333
_KNOWN = (
    "acting_as(client): pass a test client of Starlette, FastAPI, Flask, Django, Django REST"
    " framework, django-ninja, Quart or Litestar, or a client of httpx or requests; for another"
    " one, send the headers that LocalIssuer.headers() returns"
)
_NO_ISSUER = (
    "acting_as(): no issuer is in use: request the fixture bearerguard_issuer, call it inside"
    " `with trusted(guard):`, or pass issuer="
)
_absent = object()
# Inner blocks last.
_in_use: list[LocalIssuer] = []


@contextmanager
def in_use(issuer: LocalIssuer) -> Generator[None]:
    """Have `acting_as` take tokens from `issuer` inside the block."""
    _in_use.append(issuer)
    try:
        yield
    finally:
        _in_use.remove(issuer)


class Acting(Generic[Client]):
    """A client that sends a token; as a context manager, until the block ends."""

    def __init__(self, client: Client, stop: Callable[[], None]) -> None:
        self.client: Client = client
        self._stop = stop

    def stop(self) -> None:
        """Restore the header fields that the client sent before."""
        self._stop()

    def __enter__(self) -> Client:
        return self.client

    def __exit__(self, *_: object) -> None:
        self.stop()


def acting_as(
    client: Client,
    *,
    issuer: LocalIssuer | None = None,
    opaque: bool = False,
    **token: Unpack[TokenOptions],
) -> Acting[Client]:
    """Have a test client send a genuine token with each request, from now on or inside a block.

    The client may be a test client of Starlette, FastAPI, Flask, Django (sync and async), Django
    REST framework, django-ninja, Quart or Litestar, or one of httpx, httpx2 or requests:

        with acting_as(client, scopes=["read"], subject="ada"):
            client.get("/recordings")

    Args:
        client: the client; the block gets it.
        issuer: the issuer of the token; by default that of the innermost `trusted` block, or the
            fixture `bearerguard_issuer`.
        opaque: send an opaque token, which must be introspected, instead of a JWT.
        token: the arguments of `LocalIssuer.token`: `scopes`, `subject`, `roles`, `claims`,
            `expires_in` (seconds), `client_id`.

    Raises:
        ConfigurationError: no issuer is in use.
        TypeError: the client, or an argument, is unknown.
    """
    if issuer is None:
        if not _in_use:
            raise ConfigurationError(_NO_ISSUER)
        issuer = _in_use[-1]
    value = issuer.opaque_token(**token) if opaque else issuer.token(**token)
    return Acting(client, _send(client, f"{names.BEARER} {value}"))


def _send(client: Any, authorization: str) -> Callable[[], None]:
    """Have a client send this Authorization field; return what undoes it."""
    if _is_a(client, "quart.testing", "QuartClient"):
        return _wrap(client, authorization)
    if _is_a(client, "django.test.client", "RequestFactory"):
        # What DRF's client got from `credentials()` would replace its defaults.
        defaults = getattr(client, "_credentials", client.defaults)
        is_async = _is_a(client, "django.test.client", "AsyncRequestFactory")
        return _put(defaults, names.AUTHORIZATION if is_async else _ENVIRON, authorization)
    if _is_a(client, "flask.testing", "FlaskClient"):
        return _put(client.environ_base, _ENVIRON, authorization)
    headers = getattr(client, "headers", None)
    if not isinstance(headers, MutableMapping):
        raise TypeError(_KNOWN)
    return _put(headers, names.AUTHORIZATION, authorization)


def _is_a(client: object, module: str, name: str) -> bool:
    """Whether a client is an instance of a framework's class, without importing the framework."""
    kind = getattr(sys.modules.get(module), name, None)
    return kind is not None and isinstance(client, kind)


def _put(fields: MutableMapping[str, Any], name: str, value: str) -> Callable[[], None]:
    before = fields.get(name, _absent)
    fields[name] = value

    def undo() -> None:
        if before is _absent:
            fields.pop(name, None)
        else:
            fields[name] = before

    return undo


def _wrap(client: Any, authorization: str) -> Callable[[], None]:
    """Add the field to each request of a Quart client, which has no default headers."""
    before = {name: vars(client).get(name, _absent) for name in ("open", "request", "websocket")}
    for name in before:
        setattr(client, name, _with_header(getattr(client, name), authorization))

    def undo() -> None:
        for name, value in before.items():
            if value is _absent:
                delattr(client, name)
            else:
                setattr(client, name, value)

    return undo


def _with_header(call: Callable[..., Any], authorization: str) -> Callable[..., Any]:
    @wraps(call)
    def send(*args: Any, **kwargs: Any) -> Any:
        given = copy(kwargs.pop("headers", None) or {})
        if not any(name.lower() == "authorization" for name in given.keys()):  # noqa: SIM118 - not of Headers
            given[names.AUTHORIZATION] = authorization
        return call(*args, headers=given, **kwargs)

    return send
