"""What can go wrong, and whose fault it is.

Owns the exception tree and the table of reasons; knows nothing of HTTP framing.

BearerGuardError
├── ConfigurationError      the operator's, at start-up: names the option and the remedy
├── Refusal                 the request's: has a reason, an RFC 6750 error code and a status
│   ├── CredentialsError    400 invalid_request: the Authorization field is malformed
│   └── TokenError          401 invalid_token: the token does not prove what it must
│       └── TokenExpired    … because its time is over
├── IssuerUnavailable       ours or the issuer's, 503: nothing was learned about the token
│   └── RevocationsUnavailable  … or not whether it was revoked
├── RevocationFailed        the store's: it did not acknowledge a revocation
├── TokenRefused            the authorization server's answer to a client: no token, and why
│   └── LoginRequired       … because the grant is over: the user must log in again
├── TokenUnavailable        the authorization server's: it could not be asked for a token
├── DiscoveryError          an issuer's or API's metadata is missing, or not to be trusted
├── StepUpRequired          the API's answer to a client: log in anew, or more strongly
├── InsufficientScope       … or: ask for more scope
├── LoginFailed             the user's or the server's: a login did not come to its end
└── StorageError            the client's: a token could not be kept, read or removed
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

# An attacker chooses what evidence quotes, so it is escaped and cut for one log line.
_EVIDENCE_LENGTH = 100


class BearerGuardError(Exception):
    """Whatever this package raises on purpose."""


class ConfigurationError(BearerGuardError, ValueError):
    """An option is missing or unsafe; the message names it and the remedy."""


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a request was refused: a stable code for operators, a safe text for clients."""

    code: str
    description: str = "The access token is invalid"


# One text for both: a WSGI server joins repeated lines, so the two cannot be told apart there.
_UNREADABLE = "The Authorization header field is malformed or repeated"
MALFORMED_CREDENTIALS = Reason("malformed_credentials", _UNREADABLE)
REPEATED_CREDENTIALS = Reason("repeated_credentials", _UNREADABLE)
MISSING_CREDENTIALS = Reason("missing_credentials", "This request must carry an access token")
INSUFFICIENT_SCOPE = Reason(
    "insufficient_scope",
    "The request needs a scope that the access token does not have",
)
REQUIREMENT_UNMET = Reason("requirement_unmet", "The access token does not allow this request")
ISSUER_UNAVAILABLE = Reason(
    "issuer_unavailable", "The access token cannot be checked at the moment"
)

REVOCATIONS_UNAVAILABLE = Reason("revocations_unavailable", ISSUER_UNAVAILABLE.description)

MALFORMED_TOKEN = Reason("malformed_token")
ENCRYPTED_TOKEN = Reason("encrypted_token")
WRONG_ALGORITHM = Reason("wrong_algorithm")
CRITICAL_HEADER = Reason("critical_header")
WRONG_TYPE = Reason("wrong_type")
ID_TOKEN = Reason("id_token")
UNKNOWN_ISSUER = Reason("unknown_issuer")
UNKNOWN_KEY = Reason("unknown_key")
BAD_SIGNATURE = Reason("bad_signature")
BAD_CLAIM = Reason("bad_claim")
MISSING_CLAIM = Reason("missing_claim")
WRONG_AUDIENCE = Reason("wrong_audience")
NOT_YET_VALID = Reason("not_yet_valid", "The access token is not valid yet")
EXPIRED = Reason("expired", "The access token expired")
SENDER_CONSTRAINED = Reason("sender_constrained")
REVOKED = Reason("revoked", "The access token was revoked")
LIVES_TOO_LONG = Reason("lives_too_long")
BAD_LOGOUT_TOKEN = Reason("bad_logout_token", "The logout token is invalid")
INACTIVE = Reason("inactive", "The access token is not active")


def quoted(evidence: object) -> str:
    """Return evidence fit for a log line: printable ASCII, at most 100 characters."""
    text = ascii(evidence)
    return text if len(text) <= _EVIDENCE_LENGTH else text[: _EVIDENCE_LENGTH - 3] + "..."


class Refusal(BearerGuardError):
    """The request is refused; `reason` says why, the message how an operator can mend it.

    Attributes:
        reason: the stable code and the text that is safe to send.
        remedy: what was found and what to change, for operators; holds no secret.
        issuer: the configured issuer it concerns, or None.
    """

    status = 401
    error = "invalid_token"

    def __init__(self, reason: Reason, remedy: str = "", *, issuer: str | None = None) -> None:
        super().__init__(f"{reason.code}: {remedy or reason.description}")
        self.reason = reason
        self.remedy = remedy
        self.issuer = issuer

    def concern(self, issuer: str, hint: str | None = None) -> None:
        """Note the issuer that it concerns, and what is known of that issuer's tokens."""
        self.issuer = issuer
        if hint is not None:
            self.remedy = f"{self.remedy}; {hint}"
            self.args = (f"{self.reason.code}: {self.remedy}",)


class CredentialsError(Refusal):
    """The Authorization field cannot be read (RFC 6750 §3.1, invalid_request)."""

    status = 400
    error = "invalid_request"


class TokenError(Refusal):
    """The token does not prove what it must (RFC 6750 §3.1, invalid_token)."""


class TokenExpired(TokenError):
    """The token was genuine and its time is over; its signature verified."""


class IssuerUnavailable(BearerGuardError):
    """The issuer could not be asked, so nothing is known about the token (503).

    Attributes:
        issuer: the configured issuer.
        retry_after: whole seconds after which asking again makes sense, at least 1.
        reason: the named reason, for logs and events.
    """

    reason: ClassVar[Reason] = ISSUER_UNAVAILABLE

    def __init__(self, issuer: str, retry_after: int, cause: str) -> None:
        super().__init__(f"{issuer} is unavailable: {cause}; retry in {retry_after} s")
        self.issuer = issuer
        self.retry_after = retry_after


class RevocationsUnavailable(IssuerUnavailable):
    """What was revoked could not be learned, so whether this token was is not known (503)."""

    reason: ClassVar[Reason] = REVOCATIONS_UNAVAILABLE

    def __init__(self, issuer: str, retry_after: int, cause: str) -> None:
        super().__init__(issuer, retry_after, cause)
        self.args = (f"revocations are unavailable: {cause}; retry in {retry_after} s",)


class RevocationFailed(BearerGuardError):
    """The store did not acknowledge a revocation: it may hold or not. Try again."""


class TokenRefused(BearerGuardError):
    """The authorization server gave no token, and would give none if asked again the same way.

    Attributes:
        error: the error code of RFC 6749 §5.2, or of the extension in use.
    """

    def __init__(self, error: str, cause: str) -> None:
        super().__init__(f"{quoted(error)[1:-1]}: {cause}")
        self.error = error


class LoginRequired(TokenRefused):
    """Nothing that is kept leads to another token: the user has to log in (again).

    Attributes:
        cause: why, in words.
    """

    def __init__(self, cause: str, error: str = "login_required") -> None:
        super().__init__(error, f"{cause}; call login() on the token manager")
        self.cause = cause


class TokenUnavailable(BearerGuardError):
    """The authorization server could not be asked for a token; nothing that was kept is lost.

    Attributes:
        retry_after: seconds after which asking again makes sense.
        temporary: False where asking again alone does not help: the host is unknown, say, or its
            certificate is not valid.
    """

    def __init__(self, cause: str, retry_after: float = 1.0, *, temporary: bool = True) -> None:
        super().__init__(f"no token at the moment: {cause}" if temporary else f"no token: {cause}")
        self.retry_after = retry_after
        self.temporary = temporary


class DiscoveryError(BearerGuardError):
    """Metadata is missing, is no metadata, or speaks for another than was asked."""


class InsufficientScope(BearerGuardError):
    """The API demands more scope than the token has (RFC 6750 §3.1); `step_up` asks for it.

    Attributes:
        scopes: what the API says is needed; empty when it does not say.
    """

    def __init__(self, scopes: tuple[str, ...]) -> None:
        named = quoted(" ".join(scopes)) if scopes else "more scope, without saying which"
        super().__init__(f"insufficient_scope: the API demands {named}: pass this to step_up()")
        self.scopes = scopes


class StepUpRequired(BearerGuardError):
    """The API demands a newer or a stronger login (RFC 9470 §3); `step_up` asks for it.

    Attributes:
        acr_values: the authentication contexts that would do, the preferred first.
        max_age: how many seconds old the login may be, or None.
        scopes: the scopes that are needed, if the API says so.
    """

    def __init__(
        self,
        acr_values: tuple[str, ...] = (),
        max_age: int | None = None,
        scopes: tuple[str, ...] = (),
    ) -> None:
        demands = [f"one of {quoted(' '.join(acr_values))}"] if acr_values else []
        demands += [] if max_age is None else [f"a login at most {max_age} s old"]
        demanded = " and ".join(demands) or "another login"
        super().__init__(
            f"insufficient_user_authentication: the API demands {demanded}: pass this to step_up()"
        )
        self.acr_values = acr_values
        self.max_age = max_age
        self.scopes = scopes


class LoginFailed(BearerGuardError):
    """A login did not come to its end; the message says why. Try again."""


class StorageError(BearerGuardError):
    """A token could not be kept, read or removed; the message names the place and the remedy."""
