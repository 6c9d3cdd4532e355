"""Back-channel logout: an issuer says that a user is gone, and tokens are revoked for it.

Owns what one logout request must be and what it is answered (OpenID Connect Back-Channel
Logout 1.0 §2.5 to §2.8), as a flow for both faces. Knows no ASGI and no WSGI.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Collection
from urllib.parse import parse_qsl

from bearerguard.errors import (
    BAD_LOGOUT_TOKEN,
    ConfigurationError,
    IssuerUnavailable,
    Refusal,
    RevocationFailed,
    TokenError,
    quoted,
)
from bearerguard.guard.config.names import names
from bearerguard.guard.events import Events
from bearerguard.guard.revocation.revocation_list import Kind, Revocation
from bearerguard.guard.revocation.revocations import SLACK, Revocations
from bearerguard.guard.tokens.jwt_validator import JwtValidator
from bearerguard.principal import Principal
from bearerguard.protocol import logout_token
from bearerguard.protocol.logout_token import Logout
from bearerguard.runtime.flow import Flow
from bearerguard.runtime.messages import Response

# A logout token has some 1000 bytes.
MAX_BODY = 65_536
_MAX_FIELDS = 100
_FORM = "application/x-www-form-urlencoded"
_NO_STORE = ("Cache-Control", "no-store")  # §2.8
_EMPTY = (("Content-Type", "text/plain"), ("Content-Length", "0"), _NO_STORE)


class LogoutReceiver:
    """Answers logout requests and feeds the guard's revocations.

    Raises `ConfigurationError` without revocations, and for no client id.
    """

    def __init__(
        self,
        client_id: str | Collection[str],
        validator: JwtValidator,
        revocations: Revocations | None,
        *,
        clock: Callable[[], float],
        events: Events,
    ) -> None:
        if revocations is None:
            raise ConfigurationError("guard=: pass Guard(..., revocations=Revocations(...))")
        self._client_ids = frozenset(
            names(
                "client_id",
                client_id,
                "pass the client's id at the issuer, the `aud` of its logout tokens, or a list of"
                " them",
            )
        )
        self._validator = validator
        self._revocations = revocations
        self._clock = clock
        self._events = events

    def receive(self, method: str, content_type: str, body: bytes | None) -> Flow[Response]:
        """Answer a request: 200 when every worker will refuse the tokens concerned, else no 2xx.

        `body` is None for one that was not read, as it is longer than `MAX_BODY`.
        400 is for a request that is no genuine logout. What fails for our reasons is 503,
        though §2.8 knows 400 alone: an issuer may try again, and no failure of ours is told
        to be the issuer's.
        """
        if method != "POST":
            return Response(405, (("Allow", "POST"), *_EMPTY))
        try:
            yield from self._log_out(_token(content_type, body))
        except Refusal as refusal:
            self._events.emit(refusal.reason.code, refusal.issuer, refusal.remedy)
            return _failure(400, "invalid_request", BAD_LOGOUT_TOKEN.description)
        except IssuerUnavailable as error:
            return self._unable(error, error.retry_after)
        except RevocationFailed as error:
            return self._unable(error, 1)
        return Response(200, _EMPTY)

    def _log_out(self, token: bytes) -> Flow[None]:
        reading, key_id = yield from self._validator.prove_logout(token)
        issuer, leeway = reading.issuer.url, reading.issuer.expected.leeway
        now = self._clock()
        try:
            logout = logout_token.parse(reading.token.claims, self._client_ids, leeway, now)
            yield from self._revocations.ensure(issuer)
            revoked = self._revocations.current
            if revoked.covers(Principal(issuer=issuer), key_id):
                raise TokenError(
                    BAD_LOGOUT_TOKEN, f"the key {quoted(key_id)} that signed it was withdrawn"
                )
            if revoked.covers(Principal(issuer=issuer, token_id=logout.token_id)):
                raise TokenError(BAD_LOGOUT_TOKEN, "it was used before")
        except Refusal as refusal:
            refusal.concern(issuer)
            raise
        life = self._revocations.max_token_life
        yield from self._revocations.revoke(_ordered(logout, issuer, now, life))

    def _unable(self, error: Exception, retry_after: int) -> Response:
        self._events.emit("logout_failed", None, str(error))
        description = "The logout cannot be done at the moment"
        retry = (("Retry-After", str(retry_after)),)
        return _failure(503, "temporarily_unavailable", description, retry)


def _ordered(logout: Logout, issuer: str, now: float, max_token_life: float) -> list[Revocation]:
    """Return what a logout revokes, and its own token, which counts once for all workers."""
    # By the issuer's clock, as the dates of its access tokens are; those are whole seconds.
    before = math.floor(logout.issued_at) + 1.0
    longest = now + max_token_life
    expires_at = max(before, now) + max_token_life + SLACK
    named: list[tuple[Kind, str | None]] = [("subject", logout.subject)]
    if logout.session is not None:
        # Access tokens that name no session may belong to this one.
        named = [("session", logout.session), ("sessionless", logout.subject)]
    # Longer than it is kept it does no harm either: it revokes what was issued before it.
    own_end = min(logout.expires_at, longest) + SLACK
    return [
        *(
            Revocation(kind, issuer, value, before, expires_at)
            for kind, value in named
            if value is not None
        ),
        Revocation("token", issuer, logout.token_id, None, own_end),
    ]


def _token(content_type: str, body: bytes | None) -> bytes:
    """Return the logout token of a form (§2.5)."""
    if content_type.partition(";")[0].strip().lower() != _FORM:
        raise TokenError(BAD_LOGOUT_TOKEN, f"the request is no {_FORM}")
    if body is None or len(body) > MAX_BODY:
        raise TokenError(BAD_LOGOUT_TOKEN, f"the request is longer than {MAX_BODY} bytes")
    try:
        fields = parse_qsl(body.decode("ascii"), max_num_fields=_MAX_FIELDS)
    except ValueError:
        fields = []
    tokens = [value for name, value in fields if name == "logout_token"]
    if len(tokens) != 1:
        raise TokenError(BAD_LOGOUT_TOKEN, "the request has no logout_token, or several")
    # What is not ASCII is no token: the replacement is no letter of base64url either.
    return tokens[0].encode("ascii", "replace")


def _failure(
    status: int, error: str, description: str, headers: tuple[tuple[str, str], ...] = ()
) -> Response:
    body = json.dumps({"error": error, "error_description": description}).encode()
    length = ("Content-Length", str(len(body)))
    return Response(
        status, (("Content-Type", "application/json"), length, _NO_STORE, *headers), body
    )
