"""A token manager bound to the origins of an API: what each HTTP library's `BearerAuth` shares.

Decides where a token may go, and what an answer means; sends nothing. Tokens go to the bound
origins only: a request to any other is an error, and a redirect to one carries no token.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import Enum, auto
from typing import Any, Protocol

from bearerguard.client import discovery
from bearerguard.client.manager import TokenManager
from bearerguard.client.token import Lease
from bearerguard.errors import ConfigurationError, InsufficientScope, StepUpRequired
from bearerguard.protocol import names
from bearerguard.protocol.http import challenge
from bearerguard.protocol.http.challenge import ReceivedChallenge
from bearerguard.protocol.resource_metadata import origin

UNAUTHORIZED, FORBIDDEN = 401, 403
_DIGITS = 10
# An API that refuses a token that has just come refuses the next as well, for all that is known:
# for so many seconds no other one is fetched for it.
_HOPELESS_SECONDS = 10.0


class Answer(Protocol):
    """A response of any of the libraries."""

    @property
    def request(self) -> Any: ...  # noqa: D102 - what each library calls it
    @property
    def headers(self) -> Any: ...  # noqa: D102 - likewise


class Step(Enum):
    """What to do after an answer that refuses a token; each at most once for a request."""

    RENEW = auto()
    NEW_PROOF = auto()


STEPS = frozenset(Step)


class Binding:
    """A manager, and the origins that its tokens go to.

    Args:
        manager: hands out tokens.
        origins: such as "https://api.example.com"; by default those of the source's `resource`.
        insecure_allow_http: allow plain http beyond loopback.

    Raises:
        ConfigurationError: no origin is known, or one is unsafe.
    """

    def __init__(
        self,
        manager: TokenManager,
        origins: Sequence[str] | None,
        *,
        insecure_allow_http: bool,
    ) -> None:
        if not isinstance(manager, TokenManager):
            raise ConfigurationError(
                f"BearerAuth: pass a TokenManager, not {type(manager).__name__}"
            )
        if isinstance(origins, str):
            origins = (origins,)
        given = manager.source.resources if origins is None else origins
        if not given:
            raise ConfigurationError(
                'origins=: pass where tokens may go, such as origins=("https://api.example.com",)'
            )
        self.manager = manager
        self.origins = frozenset(
            origin(discovery.secure_url("origins=", each, insecure_allow_http=insecure_allow_http))
            for each in given
        )
        self._heard: Lease | None = None
        # A token that was refused when it was new, and until when none is fetched in its place.
        self._hopeless = ("", 0.0)

    def __repr__(self) -> str:
        return f"BearerAuth({', '.join(sorted(self.origins))})"

    def check(self, url: str) -> None:
        """Raise `ConfigurationError` unless tokens may go to `url`."""
        if not self.is_bound(url):
            raise ConfigurationError(
                f"a token for {', '.join(sorted(self.origins))} does not go to {origin(url)}:"
                " name it in origins= if it may, or send the request without auth="
            )

    def is_bound(self, url: str) -> bool:
        """Whether tokens may go to `url`."""
        return origin(url) in self.origins

    def headers(self, lease: Lease, method: str, url: str) -> list[tuple[str, str]]:
        """Return what a request carries for a token: with a proof, when it is bound to a key."""
        found = [("Authorization", lease.header)]
        proofs = self.manager.proofs(lease)
        if proofs is not None:
            found.append((names.DPOP_PROOF, proofs.proof(method, url, lease.token.access_token)))
        return found

    def hear(self, lease: Lease, answer: Answer) -> None:
        """Learn from an answer: how long a token lives, told once, and the next nonce."""
        if lease is self._heard:
            return
        url = str(answer.request.url)
        if not self.is_bound(url):
            return  # a redirect went elsewhere
        seconds = (answer.headers.get("access-token-expires-in") or "").strip()
        if seconds.isascii() and seconds.isdigit() and len(seconds) <= _DIGITS:
            self.manager.expires_in(lease, float(seconds))
        proofs = self.manager.proofs(lease)
        if proofs is None:
            self._heard = lease
        else:
            proofs.note(url, answer.headers.get("dpop-nonce"))

    def step(
        self, lease: Lease, status: int, challenges: Iterable[str], url: str, left: frozenset[Step]
    ) -> Step | None:
        """Return what of `left` to do after an answer; None to leave it to the caller.

        Raises `InsufficientScope` or `StepUpRequired` for what no other token of the same
        kind would do.
        """
        if not self.is_bound(url):
            return None
        step = _demanded(status, challenges, lease.token.token_type.lower())
        if step is Step.NEW_PROOF and lease.token.dpop_key is None:
            return None
        if step is Step.RENEW:
            token, now = lease.token.access_token, self.manager.monotonic()
            if step not in left:
                self._hopeless = (token, now + _HOPELESS_SECONDS)
            elif self._hopeless[0] == token and now < self._hopeless[1]:
                return None
        return step if step in left else None


def _demanded(status: int, challenges: Iterable[str], scheme: str) -> Step | None:
    parsed = challenge.parse(challenges)
    found = challenge.find(parsed, scheme)  # of several, what is said of such a token
    if found is None or "error" not in found.parameters:
        found = challenge.find(parsed, "bearer", "dpop")
    error = None if found is None else found.parameters.get("error")
    if found is not None and error == "insufficient_scope":
        raise InsufficientScope(_words(found, "scope"))
    if status == FORBIDDEN:
        return None
    if found is not None and error == "insufficient_user_authentication":
        age = found.parameters.get("max_age", "")
        raise StepUpRequired(
            _words(found, "acr_values"),
            int(age) if age.isascii() and age.isdigit() and len(age) <= _DIGITS else None,
            _words(found, "scope"),
        )
    if error in {names.USE_DPOP_NONCE, names.INVALID_DPOP_PROOF}:
        return Step.NEW_PROOF
    # A token was sent: without a code, it is what the API objects to.
    return Step.RENEW if error in {None, "invalid_token"} else None


def _words(challenge: ReceivedChallenge, name: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(challenge.parameters.get(name, "").split()))


def wrong_library(own: str, request: object) -> TypeError:
    """Return what is said to a library that was given the `BearerAuth` of another."""
    places = {"httpx2": "", "httpx": ".httpx", "requests": ".requests"}
    others = " or ".join(
        f"that of bearerguard.client{place} for {library}"
        for library, place in places.items()
        if library != own
    )
    module = type(request).__module__.partition(".")[0]
    return TypeError(f"this BearerAuth is for {own}, not for {module}: use {others}")
