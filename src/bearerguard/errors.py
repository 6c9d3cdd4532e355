"""What can go wrong, and whose fault it is.

Owns the exception tree and the reasons of refusals; knows nothing of HTTP framing.

BearerGuardError
├── ConfigurationError      the operator's, at start-up: names the option and the remedy
├── Refusal                 the request's: has a reason, an RFC 6750 error code and a status
│   ├── CredentialsError    400 invalid_request: the Authorization field is malformed
│   ├── TokenError          401 invalid_token: the token is not valid
│   │   └── TokenExpired    … because it expired
│   ├── ProofError          401 invalid_dpop_proof: the DPoP proof is missing or not valid
│   │   └── NonceRequired   … 401 use_dpop_nonce: it lacks a recent nonce of ours
│   └── BodyTooLong         413: the body is too long to be read before the app reads it
├── IssuerUnavailable       ours or the issuer's, 503: the token could not be validated
│   ├── RevocationsUnavailable  … because revocations could not be read
│   ├── ReplaysUnavailable      … because the use of a DPoP proof could not be stored
│   ├── StatusUnavailable       … because the issuer's status list could not be read
│   └── ClaimCheckFailed        … because a check of the application failed
├── StreamEnded             the token's that held a stream open: it expired or was revoked
├── RevocationFailed        the store's: it did not acknowledge a revocation
├── FetchFailed             a transport's: no usable response (defined in `runtime.messages`)
├── StoreFailed             a shared store's: no usable response (defined in `runtime.messages`)
├── SealError               the data's: it was altered, or sealed with another secret
│                           (defined in `runtime.sealing`)
├── TokenRefused            the authorization server's response to a client: no token, and why
│   └── LoginRequired       … because the grant has ended: the user must log in again
├── TokenUnavailable        the authorization server's: no usable response to a token request
├── DiscoveryError          an issuer's or API's metadata is missing, or not to be trusted
├── StepUpRequired          the API's response to a client: log in again, or more strongly
├── InsufficientScope       … or: ask for more scopes
├── LoginFailed             the user's or the server's: a login was not completed
├── StorageError            the client's: a token could not be kept, read or removed
├── StoreUnavailable        an operation of the server's database failed; try again
├── PasswordsBusy           the server checks too many passwords at the moment; try again
└── AdministrationError     an administrator's: the server cannot carry out the operation
    ├── ClientError         … there is no such client, or there is one already
    ├── AccountError        … there is no such account, or there is one already
    │   └── PasswordRejected    … or its new password is too weak
    ├── SigningKeyError     … there is no such signing key
    └── NothingRevoked      … what was to be revoked does not exist, or has ended

`temporary` of each error says whether the same call may succeed later, without any change.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

# An attacker chooses the evidence, so it is escaped and cut for one log line.
_EVIDENCE_LENGTH = 100


class BearerGuardError(Exception):
    """The base class of this package's errors.

    Attributes:
        temporary: whether the same call may succeed later, without any change.
    """

    temporary: bool = False


class ConfigurationError(BearerGuardError, ValueError):
    """An option is missing or unsafe; the message names it and the remedy."""


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a request was refused: a stable code for operators, a safe text for clients."""

    code: str
    description: str = "The access token is invalid"


# One text for both: a WSGI server joins repeated fields, so the two cannot be distinguished there.
_UNREADABLE = "The Authorization header field is malformed or repeated"
MALFORMED_CREDENTIALS = Reason("malformed_credentials", _UNREADABLE)
REPEATED_CREDENTIALS = Reason("repeated_credentials", _UNREADABLE)
MISSING_CREDENTIALS = Reason("missing_credentials", "This request must carry an access token")
INSUFFICIENT_SCOPE = Reason(
    "insufficient_scope",
    "The request needs a scope that the access token does not have",
)
INSUFFICIENT_USER_AUTHENTICATION = Reason(
    "insufficient_user_authentication",
    "The request needs a more recent or a stronger login",
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
REFUSED_BY_CHECK = Reason("refused_by_check")
CLAIM_CHECK_FAILED = Reason("claim_check_failed", ISSUER_UNAVAILABLE.description)
REPLAYS_UNAVAILABLE = Reason(
    "replays_unavailable", "The DPoP proof cannot be checked at the moment"
)
REVOKED = Reason("revoked", "The access token was revoked")
LIVES_TOO_LONG = Reason("lives_too_long")
BAD_STATUS = Reason("bad_status")
STATUS_NOT_VALID = Reason("status_not_valid", "The access token is revoked or suspended")
STATUS_UNAVAILABLE = Reason("status_unavailable", ISSUER_UNAVAILABLE.description)
BAD_LOGOUT_TOKEN = Reason("bad_logout_token", "The logout token is invalid")
OTHER_CALLER = Reason("other_caller", "The access token does not fit the open stream")
BAD_TICKET = Reason("bad_ticket", "The ticket is not valid")
ORIGIN_REFUSED = Reason("origin_refused", "Pages of this origin may not open a websocket")
BAD_SECURITY_EVENT = Reason("bad_security_event", "The security event token is invalid")
BAD_REVOCATION_REQUEST = Reason("bad_revocation_request", "The request is invalid")
INACTIVE = Reason("inactive", "The access token is not active")

# Tokens that are bound to a key of the sender (RFC 7800, RFC 9449)
WRONG_KEY = Reason("wrong_key", "The access token is bound to another key")
UNBOUND = Reason("unbound", "The access token must be bound to a key of its sender")
NO_CERTIFICATE = Reason(
    "no_certificate", "The access token is bound to a client certificate, and there is none"
)
WRONG_CERTIFICATE = Reason(
    "wrong_certificate", "The access token is bound to another client certificate"
)
MISSING_PROOF = Reason("missing_proof", "This request must carry a DPoP proof")
# One text for both, as for credentials.
_UNREADABLE_PROOF = "The DPoP proof is malformed or repeated"
MALFORMED_PROOF = Reason("malformed_proof", _UNREADABLE_PROOF)
REPEATED_PROOF = Reason("repeated_proof", _UNREADABLE_PROOF)
WRONG_PROOF_TYPE = Reason("wrong_proof_type", "The typ of the DPoP proof is not dpop+jwt")
WRONG_PROOF_ALGORITHM = Reason(
    "wrong_proof_algorithm", "The DPoP proof is signed by an algorithm that is not accepted"
)
BAD_PROOF_KEY = Reason("bad_proof_key", "The jwk of the DPoP proof is not usable")
BAD_PROOF_SIGNATURE = Reason(
    "bad_proof_signature", "The signature of the DPoP proof is not that of its jwk"
)
WRONG_PROOF_METHOD = Reason("wrong_proof_method", "The DPoP proof is for another method")
WRONG_PROOF_TARGET = Reason("wrong_proof_target", "The DPoP proof is for another URL")
UNTIMELY_PROOF = Reason("untimely_proof", "The DPoP proof is too old, or from the future")
WRONG_PROOF_TOKEN = Reason("wrong_proof_token", "The DPoP proof is for another access token")
WRONG_CONTENT_DIGEST = Reason(
    "wrong_content_digest", "The DPoP proof is not for the body of this request"
)
REPLAYED_PROOF = Reason("replayed_proof", "The DPoP proof was used before")
BODY_TOO_LONG = Reason("body_too_long", "The body of the request is too long")
NONCE_REQUIRED = Reason("nonce_required", "The DPoP proof must have the nonce of this response")


def quoted(evidence: object) -> str:
    """Return evidence fit for a log line: printable ASCII, at most 100 characters."""
    text = ascii(evidence)
    return text if len(text) <= _EVIDENCE_LENGTH else text[: _EVIDENCE_LENGTH - 3] + "..."


class Refusal(BearerGuardError):
    """The request is refused: `reason` says why, the message says how an operator can mend it.

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
        self.remedy: str = remedy
        self.issuer = issuer

    def concern(self, issuer: str, hint: str | None = None) -> None:
        """Record the issuer that it concerns, and a hint about that issuer's tokens."""
        self.issuer = issuer
        if hint is not None:
            self.remedy = f"{self.remedy}; {hint}"
            self.args: tuple[Any, ...] = (f"{self.reason.code}: {self.remedy}",)


class CredentialsError(Refusal):
    """The Authorization field cannot be read (RFC 6750 §3.1, invalid_request).

    Attributes:
        scheme: the scheme that is malformed, None where there may be several.
    """

    status = 400
    error = "invalid_request"

    def __init__(self, reason: Reason, remedy: str = "", *, scheme: str | None = None) -> None:
        super().__init__(reason, remedy)
        self.scheme = scheme


class TokenError(Refusal):
    """The token is not valid (RFC 6750 §3.1, invalid_token)."""


class TokenExpired(TokenError):
    """The token is genuine, but has expired."""


class ProofError(Refusal):
    """The DPoP proof of the request is missing or not valid (RFC 9449 §7.1).

    An API answers 401, an authorization server 400 (§5).
    """

    error = "invalid_dpop_proof"


class BodyTooLong(Refusal):
    """The body is too long to be read before the app reads it (RFC 9110 §15.5.14)."""

    status = 413
    error = "invalid_request"


class NonceRequired(ProofError):
    """The DPoP proof lacks a recent nonce of this server, which the response has (§8, §9)."""

    error = "use_dpop_nonce"


class IssuerUnavailable(BearerGuardError):
    """The issuer could not be reached, so the token could not be validated; the response is 503.

    Attributes:
        issuer: the configured issuer, None where it is not known which one is concerned.
        retry_after: whole seconds until the next attempt makes sense, at least 1.
        reason: the named reason, for logs and events.
    """

    temporary = True
    reason: ClassVar[Reason] = ISSUER_UNAVAILABLE

    def __init__(self, issuer: str | None, retry_after: int, cause: str) -> None:
        what = "the issuer" if issuer is None else issuer
        super().__init__(f"{what} is unavailable: {cause}; retry in {retry_after} s")
        self.issuer = issuer
        self.retry_after = retry_after


class RevocationsUnavailable(IssuerUnavailable):
    """Revocations could not be read, so the token may be revoked; the response is 503."""

    reason: ClassVar[Reason] = REVOCATIONS_UNAVAILABLE

    def __init__(self, issuer: str, retry_after: int, cause: str) -> None:
        super().__init__(issuer, retry_after, cause)
        self.args: tuple[Any, ...] = (
            f"revocations are unavailable: {cause}; retry in {retry_after} s",
        )


class ReplaysUnavailable(IssuerUnavailable):
    """Whether the DPoP proof was used before could not be found out; the response is 503."""

    reason: ClassVar[Reason] = REPLAYS_UNAVAILABLE

    def __init__(self, retry_after: int, cause: str) -> None:
        super().__init__(None, retry_after, cause)
        self.args: tuple[Any, ...] = (
            f"the replay store is unavailable: {cause}; retry in {retry_after} s",
        )


class StatusUnavailable(IssuerUnavailable):
    """A status list could not be read, so the token may be revoked; the response is 503."""

    reason: ClassVar[Reason] = STATUS_UNAVAILABLE

    def __init__(self, issuer: str, retry_after: int, cause: str) -> None:
        super().__init__(issuer, retry_after, cause)
        self.args: tuple[Any, ...] = (
            f"the status list is unavailable: {cause}; retry in {retry_after} s",
        )


class ClaimCheckFailed(IssuerUnavailable):
    """A check of the application's own (`Issuer(checks=)`) failed: the token is not accepted (503).

    Fix the check: it must return None or a string, and raise nothing but `TokenError`.
    """

    reason: ClassVar[Reason] = CLAIM_CHECK_FAILED

    def __init__(self, issuer: str, cause: str) -> None:
        super().__init__(issuer, 1, cause)
        self.args: tuple[Any, ...] = (f"checks=: {cause}",)


class StreamEnded(BearerGuardError, OSError):
    """The stream was ended because its token expired or was revoked; nothing more can be sent.

    An `OSError`, since frameworks take that for what it is to the app: the client's disconnect.

    Attributes:
        reason: why it was ended.
    """

    def __init__(self, reason: Reason) -> None:
        super().__init__(f"the stream was ended: {reason.description}")
        self.reason = reason


class RevocationFailed(BearerGuardError):
    """The store did not acknowledge a revocation, which may be stored or not. Try again."""

    temporary = True


class TokenRefused(BearerGuardError):
    """The authorization server refused a token, and would refuse the same request again.

    Attributes:
        error: the error code of RFC 6749 §5.2, or of the extension in use.
    """

    def __init__(self, error: str, cause: str) -> None:
        super().__init__(f"{quoted(error)[1:-1]}: {cause}")
        self.error = error


class LoginRequired(TokenRefused):
    """No stored token can be used or refreshed: the user has to log in (again).

    Attributes:
        cause: the reason, as text.
    """

    def __init__(self, cause: str, error: str = "login_required") -> None:
        super().__init__(error, f"{cause}; call login() on the token manager")
        self.cause = cause


class TokenUnavailable(BearerGuardError):
    """A token request had no usable response; the stored tokens stay valid.

    Attributes:
        retry_after: seconds until the next attempt makes sense.
        temporary: False where trying again alone does not help, such as for an unknown host or an
            invalid certificate.
    """

    def __init__(self, cause: str, retry_after: float = 1.0, *, temporary: bool = True) -> None:
        super().__init__(f"no token at the moment: {cause}" if temporary else f"no token: {cause}")
        self.retry_after = retry_after
        self.temporary = temporary


class DiscoveryError(BearerGuardError):
    """Metadata is missing or malformed, or names another issuer or API than was asked for."""


class InsufficientScope(BearerGuardError):
    """The API requires more scopes than the token has (RFC 6750 §3.1); `step_up` asks for them.

    Attributes:
        scopes: the scopes that the API names; empty when it names none.
    """

    def __init__(self, scopes: tuple[str, ...]) -> None:
        named = quoted(" ".join(scopes)) if scopes else "more scopes, without naming them"
        super().__init__(f"insufficient_scope: the API requires {named}: pass this to step_up()")
        self.scopes = scopes


class StepUpRequired(BearerGuardError):
    """The API requires a newer or a stronger login (RFC 9470 §3); `step_up` asks for it.

    Attributes:
        acr_values: the authentication contexts that the API accepts, the preferred first.
        max_age: the greatest age of the login in seconds, or None.
        scopes: the scopes that the API names; empty when it names none.
    """

    def __init__(
        self,
        acr_values: tuple[str, ...] = (),
        max_age: int | None = None,
        scopes: tuple[str, ...] = (),
    ) -> None:
        required_parts = [f"one of {quoted(' '.join(acr_values))}"] if acr_values else []
        required_parts += [] if max_age is None else [f"a login at most {max_age} s old"]
        required = " and ".join(required_parts) or "another login"
        super().__init__(
            f"insufficient_user_authentication: the API requires {required}: pass this to step_up()"
        )
        self.acr_values = acr_values
        self.max_age = max_age
        self.scopes = scopes


class LoginFailed(BearerGuardError):
    """A login was not completed; the message says why. Try again."""


class StorageError(BearerGuardError):
    """A token could not be stored, read or removed; the message names the place and the remedy."""


class StoreUnavailable(BearerGuardError):
    """An operation of the server's database failed; nothing was changed. Try again."""

    temporary = True


class PasswordsBusy(BearerGuardError):
    """So many passwords are being checked that this one would wait too long. Try again."""

    temporary = True


class AdministrationError(BearerGuardError, ValueError):
    """The authorization server cannot carry out an administrator's operation."""


class ClientError(AdministrationError):
    """There is no client of this id, there is one already, or it has no secret."""


class AccountError(AdministrationError):
    """There is no account of this login name, there is one already, or its names are unusable."""


class PasswordRejected(AccountError):
    """A new password is too short, too long or too obvious; the message says which."""


class SigningKeyError(AdministrationError):
    """There is no signing key of this id."""


class NothingRevoked(AdministrationError):
    """The thing to revoke does not exist, or has already expired or been revoked."""


class PersonalTokenError(AdministrationError):
    """A personal access token cannot be made; the message says why.

    Attributes:
        reason: `name`, `scope`, `resource` or `lifetime` for what is not valid, `too_many`,
            `disabled` for the account, `ended` for a user who may no longer act, `repeated` for a
            form, or `user` for what is no user's id.
    """

    def __init__(self, message: str, reason: str) -> None:
        super().__init__(message)
        self.reason = reason
