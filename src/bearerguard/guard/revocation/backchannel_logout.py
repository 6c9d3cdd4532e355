"""Back-channel logout: an issuer reports that a user logged out, and tokens are revoked.

Owns the rules for a logout request and its response (OpenID Connect Back-Channel Logout 1.0 §2.5 to
§2.8), as a flow for both adapters. Knows no ASGI and no WSGI.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from urllib.parse import parse_qsl

from bearerguard.errors import (
    BAD_LOGOUT_TOKEN,
    IssuerUnavailable,
    Refusal,
    RevocationFailed,
    TokenError,
)
from bearerguard.guard.config.names import names
from bearerguard.guard.events import Events
from bearerguard.guard.revocation.posted_events import (
    MAX_BODY,
    NO_STORE,
    SignatureValidator,
    check_new,
    failure,
    required,
)
from bearerguard.guard.revocation.revocation_list import Revocation
from bearerguard.guard.revocation.revocations import SLACK, GuardRevocations
from bearerguard.protocol.events import logout_token
from bearerguard.protocol.events.logout_token import Logout
from bearerguard.protocol.revocation import Kind
from bearerguard.runtime.flow import Flow
from bearerguard.runtime.messages import Response

_MAX_FIELDS = 100
_FORM = "application/x-www-form-urlencoded"
_EMPTY = (("Content-Type", "text/plain"), ("Content-Length", "0"), NO_STORE)


class LogoutReceiver:
    """Responds to logout requests, and revokes tokens accordingly.

    Raises `ConfigurationError` without revocations, and without a client id.
    """

    def __init__(
        self,
        client_id: str | Collection[str],
        validator: SignatureValidator,
        revocations: GuardRevocations | None,
        *,
        clock: Callable[[], float],
        events: Events,
    ) -> None:
        self._revocations = required(revocations)
        self._client_ids = frozenset(
            names(
                "client_id",
                client_id,
                "pass the client's id at the issuer, the `aud` of its logout tokens, or a list of"
                " them",
            )
        )
        self._validator = validator
        self._clock = clock
        self._events = events

    def receive(self, method: str, content_type: str, body: bytes | None) -> Flow[Response]:
        """Return the response: 200 when every worker will refuse the tokens, 400 or 503 else.

        `body` is None if it was longer than `MAX_BODY` and was not read. A request that is no
        genuine logout gets 400. A failure on this side gets 503, although §2.8 mentions 400 alone:
        the issuer is not at fault and may retry.
        """
        if method != "POST":
            return Response(405, (("Allow", "POST"), *_EMPTY))
        try:
            yield from self._log_out(_token(content_type, body))
        except Refusal as refusal:
            self._events.emit(refusal.reason.code, refusal.issuer, refusal.remedy)
            return failure(400, "invalid_request", BAD_LOGOUT_TOKEN.description)
        except IssuerUnavailable as error:
            return self._unavailable(error, error.retry_after)
        except RevocationFailed as error:
            return self._unavailable(error, 1)
        return Response(200, _EMPTY)

    def _log_out(self, token: bytes) -> Flow[None]:
        signed = yield from self._validator.verify_signature(token, logout_token.check_type)
        issuer, leeway, now = signed.issuer.url, signed.issuer.leeway, self._clock()
        try:
            logout = logout_token.parse(signed.claims, self._client_ids, leeway, now)
            is_new = yield from check_new(
                self._revocations, signed, logout.token_id, BAD_LOGOUT_TOKEN
            )
            if not is_new:
                raise TokenError(BAD_LOGOUT_TOKEN, "it was used before")
        except Refusal as refusal:
            refusal.concern(issuer)
            raise
        life = self._revocations.shared.max_token_life
        yield from self._revocations.revoke(_revocations(logout, issuer, now, life))

    def _unavailable(self, error: Exception, retry_after: int) -> Response:
        self._events.emit("logout_failed", None, str(error))
        description = "The logout cannot be done at the moment"
        retry = (("Retry-After", str(retry_after)),)
        return failure(503, "temporarily_unavailable", description, retry)


def _revocations(
    logout: Logout, issuer: str, now: float, max_token_life: float
) -> list[Revocation]:
    """Return what a logout revokes: access tokens, and the logout token itself against replay."""
    # By the issuer's clock, like the dates of its access tokens, which are whole seconds.
    before = math.floor(logout.issued_at) + 1.0
    longest = now + max_token_life
    expires_at = max(before, now) + max_token_life + SLACK
    named: list[tuple[Kind, str | None]] = [("subject", logout.subject)]
    if logout.session is not None:
        # Access tokens that name no session may belong to the session that ended.
        named = [("session", logout.session), ("sessionless", logout.subject)]
    # A replay after that does no harm: it revokes what was issued before the logout token.
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
        raise TokenError(BAD_LOGOUT_TOKEN, f"the content type of the request is not {_FORM}")
    if body is None or len(body) > MAX_BODY:
        raise TokenError(BAD_LOGOUT_TOKEN, f"the request is longer than {MAX_BODY} bytes")
    try:
        fields = parse_qsl(body.decode("ascii"), max_num_fields=_MAX_FIELDS)
    except ValueError:
        fields = []
    tokens = [value for name, value in fields if name == "logout_token"]
    if len(tokens) != 1:
        raise TokenError(BAD_LOGOUT_TOKEN, "the request has no logout_token, or several")
    # Non-ASCII characters become "?", which is not in the alphabet of base64url either.
    return tokens[0].encode("ascii", "replace")
