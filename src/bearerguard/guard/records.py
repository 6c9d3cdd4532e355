"""What observers receive: the records of decisions and of fetches.

Apart from `observers`, since a guard without observers makes none.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

DecisionKind: TypeAlias = Literal["request", "token", "route"]
DecisionResult: TypeAlias = Literal["allow", "deny", "unavailable"]
FetchTarget: TypeAlias = Literal["metadata", "jwks", "introspection", "status_list", "revocations"]


@dataclass(frozen=True, slots=True)
class DecisionRecord:
    """A decision.

    Attributes:
        kind: `request` for a request that the guard decided on, once each; `token` for a call of
            `verify` or `averify`; `route` for a request that was allowed before, and then refused
            by the requirement of its route. A route that allows makes no record.
        result: `allow`, `deny` or `unavailable` (503).
        reason: the code of the refusal. None for an allowed token; `missing_credentials` with
            `allow` for a request that passed without one.
        issuer: the url of the configured issuer, for a tenant that of its pattern; None where none
            is known.
        status: the HTTP status of the refusal, None for `allow`.
        is_cached: whether the token was found in the cache; None if none was looked up.
        is_stale: whether the decision relied on keys, or on an introspection response, that should
            have been renewed by now.
        seconds: how long the decision took, fetches included.
    """

    kind: DecisionKind
    result: DecisionResult
    reason: str | None
    issuer: str | None
    status: int | None
    is_cached: bool | None
    is_stale: bool
    seconds: float


@dataclass(frozen=True, slots=True)
class FetchRecord:
    """One request to an issuer, or one read of the revocations that workers share.

    A fetch that was cancelled, because its client has disconnected, makes no record.

    Attributes:
        target: `metadata`, `jwks`, `introspection`, `status_list` or `revocations`.
        result: `ok` if it returned the requested document, else `failed`.
        error: what went wrong, None for `ok`: `unknown_host`, `refused`, `unreachable`,
            `timed_out`, `tls`, `closed`, `too_large`, `encoding`, `invalid_url`, `redirect`,
            `status`, `not_json`, `content` (not the requested document), `store` or
            `other`.
        issuer: the url of the configured issuer, for a tenant that of its pattern; None for
            revocations.
        method: the HTTP method, None for revocations.
        url: the URL without user, query and fragment, None for revocations.
        status: the HTTP status, None if no response arrived.
        octets: the length of the response's body, None if no response arrived.
        seconds: how long it took.
    """

    target: FetchTarget
    result: Literal["ok", "failed"]
    error: str | None
    issuer: str | None
    method: str | None
    url: str | None
    status: int | None
    octets: int | None
    seconds: float
