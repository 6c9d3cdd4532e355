"""The operations that are measured, over HTTP, and the codes and tokens that they consume.

Every response is checked: a token must be in it, or a window fails. What an operation consumes is
made before its window begins, by the operations before it: a code by the authorization endpoint, a
refresh token by its redemption.
"""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from http import HTTPStatus
from itertools import cycle
from typing import Any
from urllib.parse import parse_qs, quote_plus, urlencode, urlsplit

from benchmarks.server_tokens import load
from benchmarks.server_tokens.load import Exchange, LoadError, Reply

CONNECTIONS = 8
REDIRECT_URI = "https://app.example.com/callback"
SCOPE = "read write"
OPERATIONS = ("credentials", "code", "refresh", "introspect", "revoke")

_VERIFIER = secrets.token_urlsafe(48)
_CHALLENGE = (
    base64.urlsafe_b64encode(hashlib.sha256(_VERIFIER.encode()).digest()).rstrip(b"=").decode()
)
# Each connection introspects so many tokens in turn.
_INTROSPECTED = 8


@dataclass(frozen=True)
class Credentials:
    """A client that a server knows."""

    client_id: str
    secret: str = field(repr=False)

    @property
    def basic(self) -> str:
        """The value of its header (RFC 6749 §2.3.1)."""
        pair = f"{quote_plus(self.client_id)}:{quote_plus(self.secret)}"
        return "Basic " + base64.b64encode(pair.encode()).decode()


@dataclass(frozen=True, kw_only=True)
class Endpoints:
    """The paths of a server."""

    authorize: str
    token: str
    introspect: str
    revoke: str


@dataclass(frozen=True, kw_only=True)
class Party:
    """A server that runs, as its clients and a signed-in user's browser know it.

    `resource` goes into requests for tokens where a server needs it; `opaque` is the one that
    makes tokens which can be introspected, where JWTs cannot be.
    """

    port: int
    endpoints: Endpoints
    app: Credentials
    machine: Credentials
    cookie: str = field(repr=False)
    resource: str | None = None
    opaque: str | None = None


@dataclass(frozen=True, slots=True)
class _Tokens:
    access: str = field(repr=False)
    refresh: str = field(repr=False)


class Flow:
    """The operations of one server."""

    def __init__(self, party: Party) -> None:
        self.party = party
        self._codes: deque[str] = deque()
        self._tokens: deque[_Tokens] = deque()
        self._families: list[_Family] = []
        self._introspections: list[bytes] = []
        self._exchanges: dict[str, Callable[[float], list[Exchange]]] = {
            "credentials": self._credentials,
            "code": self._code,
            "refresh": self._refresh,
            "introspect": self._introspect,
            "revoke": self._revoke,
        }

    def prepare(self, operation: str, seconds: float) -> list[Exchange]:
        """Return what the connections send in a window of an operation.

        Makes the codes and tokens that it will consume; of those that are consumed once, as many
        as the server makes in that time.
        """
        return self._exchanges[operation](seconds)

    def prove(self) -> None:
        """Check that the server does what is measured, and refuses what is spent.

        Raises:
            LoadError: it does not.
        """
        self._make_tokens(0.0)
        tokens = self._tokens.popleft()
        self._once(self._machine_token(self.party.resource), _checked_token)
        if self.party.opaque is None:
            self._once(self._introspection(tokens.access), _checked_active)
        family = _Family(self, tokens.refresh)
        for _ in range(2):
            self._once(family.request(), family.response)
        self._once(self._revocation(family.token), load.checked_status)
        self._once(family.request(), _checked_refusal)

    # Exchanges

    def _credentials(self, _seconds: float) -> list[Exchange]:
        request = self._machine_token(self.party.resource)
        return [_Repeated([request], _checked_token) for _ in range(CONNECTIONS)]

    def _code(self, seconds: float) -> list[Exchange]:
        self._make_codes(seconds)
        return [_Redeeming(self, self._codes, self._tokens) for _ in range(CONNECTIONS)]

    def _refresh(self, _seconds: float) -> list[Exchange]:
        while len(self._families) < CONNECTIONS:
            self._make_tokens(0.0)
            self._families.append(_Family(self, self._tokens.popleft().refresh))
        return list(self._families)

    def _introspect(self, _seconds: float) -> list[Exchange]:
        while len(self._introspections) < CONNECTIONS * _INTROSPECTED:
            self._introspections.append(self._introspection(self._active_token()))
        mine = [self._introspections[place::CONNECTIONS] for place in range(CONNECTIONS)]
        return [_Repeated(requests, _checked_active) for requests in mine]

    def _revoke(self, seconds: float) -> list[Exchange]:
        self._make_tokens(seconds)
        return [_Revoking(self, self._tokens) for _ in range(CONNECTIONS)]

    # What they consume

    def _make_codes(self, seconds: float) -> None:
        """Let the user's browser get codes for some time, and one for each connection at least.

        Those that are left are given up: they expire soon.
        """
        self._codes.clear()
        request = self._authorization()
        browsers = [_Authorizing(request, self._codes) for _ in range(CONNECTIONS)]
        load.run(self.party.port, browsers, seconds)

    def _make_tokens(self, seconds: float) -> None:
        """Make grants as long as that takes, and one at least; those that are left do as well."""
        if len(self._tokens) < (CONNECTIONS if seconds else 1):
            self._make_codes(seconds)
            clients = [_Redeeming(self, self._codes, self._tokens) for _ in range(CONNECTIONS)]
            load.run(self.party.port, clients, seconds)

    def _active_token(self) -> str:
        if self.party.opaque is None:
            self._make_tokens(0.0)
            # It stays: only its refresh token would be revoked.
            tokens = self._tokens.popleft()
            return tokens.access
        found: list[str] = []
        request = self._machine_token(self.party.opaque)
        self._once(request, lambda reply: found.append(_checked_token(reply)["access_token"]))
        return found[0]

    def _once(self, request: bytes, check: Callable[[Reply], object]) -> None:
        load.run(self.party.port, [_Repeated([request], check)], 0.0)

    # Requests

    def _authorization(self) -> bytes:
        fields = {
            "response_type": "code",
            "client_id": self.party.app.client_id,
            "redirect_uri": REDIRECT_URI,
            "scope": SCOPE,
            "state": "a-state",
            "code_challenge": _CHALLENGE,
            "code_challenge_method": "S256",
            **_resource(self.party.resource),
        }
        lines = (
            f"GET {self.party.endpoints.authorize}?{urlencode(fields)} HTTP/1.1",
            f"Host: 127.0.0.1:{self.party.port}",
            f"Cookie: {self.party.cookie}",
        )
        return "\r\n".join((*lines, "", "")).encode()

    def _machine_token(self, resource: str | None) -> bytes:
        fields = {"grant_type": "client_credentials", "scope": SCOPE, **_resource(resource)}
        return self._post(self.party.endpoints.token, self.party.machine, fields)

    def redemption(self, code: str) -> bytes:
        """Return the request for the tokens of a code."""
        fields = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": REDIRECT_URI,
            "code_verifier": _VERIFIER,
        }
        return self._post(self.party.endpoints.token, self.party.app, fields)

    def renewal(self, token: str) -> bytes:
        """Return the request that a refresh token is for."""
        fields = {"grant_type": "refresh_token", "refresh_token": token}
        return self._post(self.party.endpoints.token, self.party.app, fields)

    def _introspection(self, token: str) -> bytes:
        client = self.party.app if self.party.opaque is None else self.party.machine
        return self._post(self.party.endpoints.introspect, client, {"token": token})

    def _revocation(self, token: str) -> bytes:
        fields = {"token": token, "token_type_hint": "refresh_token"}
        return self._post(self.party.endpoints.revoke, self.party.app, fields)

    def revocation(self, tokens: _Tokens) -> bytes:
        """Return the request that revokes a refresh token."""
        return self._revocation(tokens.refresh)

    def _post(self, path: str, client: Credentials, fields: dict[str, str]) -> bytes:
        body = urlencode(fields).encode()
        lines = (
            f"POST {path} HTTP/1.1",
            f"Host: 127.0.0.1:{self.party.port}",
            f"Authorization: {client.basic}",
            "Content-Type: application/x-www-form-urlencoded",
            f"Content-Length: {len(body)}",
        )
        return "\r\n".join((*lines, "", "")).encode() + body


def _resource(resource: str | None) -> dict[str, str]:
    return {} if resource is None else {"resource": resource}


class _Repeated:
    """Sends the same requests in turn."""

    def __init__(self, requests: list[bytes], check: Callable[[Reply], object]) -> None:
        self._requests = cycle(requests)
        self._check = check

    def request(self) -> bytes:
        return next(self._requests)

    def response(self, reply: Reply) -> None:
        self._check(reply)


class _Authorizing:
    """The browser of a user who is signed in: each request brings a code."""

    def __init__(self, request: bytes, codes: deque[str]) -> None:
        self._request = request
        self._codes = codes

    def request(self) -> bytes:
        return self._request

    def response(self, reply: Reply) -> None:
        location = reply.location()
        if not location.startswith(REDIRECT_URI):
            raise LoadError(f"no code, but status {reply.status} and {location[:200]!r}")
        self._codes.append(parse_qs(urlsplit(location).query)["code"][0])


class _Redeeming:
    """Redeems each code that there is; its tokens are kept."""

    def __init__(self, flow: Flow, codes: deque[str], tokens: deque[_Tokens]) -> None:
        self._flow = flow
        self._codes = codes
        self._tokens = tokens

    def request(self) -> bytes | None:
        return self._flow.redemption(self._codes.popleft()) if self._codes else None

    def response(self, reply: Reply) -> None:
        found = _checked_token(reply)
        self._tokens.append(_Tokens(found["access_token"], found["refresh_token"]))


class _Family:
    """Rotates the refresh token of one grant."""

    def __init__(self, flow: Flow, token: str) -> None:
        self._flow = flow
        self.token = token

    def request(self) -> bytes:
        return self._flow.renewal(self.token)

    def response(self, reply: Reply) -> None:
        successor = _checked_token(reply)["refresh_token"]
        if successor == self.token:
            raise LoadError("the refresh token was not rotated")
        self.token = successor


class _Revoking:
    """Revokes each refresh token that there is."""

    response = staticmethod(load.checked_status)

    def __init__(self, flow: Flow, tokens: deque[_Tokens]) -> None:
        self._flow = flow
        self._tokens = tokens

    def request(self) -> bytes | None:
        return self._flow.revocation(self._tokens.popleft()) if self._tokens else None


def _checked_token(reply: Reply) -> dict[str, Any]:
    load.checked_status(reply)
    found: dict[str, Any] = json.loads(reply.body)
    if len(found.get("access_token", "")) < 20:  # noqa: PLR2004 - no shorter one is safe
        raise LoadError("no token in the response")
    return found


def _checked_active(reply: Reply) -> None:
    load.checked_status(reply)
    if json.loads(reply.body).get("active") is not True:
        raise LoadError("the token is not active")


def _checked_refusal(reply: Reply) -> None:
    if reply.status != HTTPStatus.BAD_REQUEST:
        raise LoadError(f"status {reply.status} for a revoked refresh token")
