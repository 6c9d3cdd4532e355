"""How a request proves that its sender holds the key to which its token is bound.

This is the one place where confirmation methods are checked (RFC 7800): `jkt` by a DPoP proof
(RFC 9449), others by the functions that are passed. Nothing here is cached: a token that was
validated before is bound all the same, and each request has to prove it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal, NamedTuple, TypeAlias

from bearerguard.errors import (
    BODY_TOO_LONG,
    REPLAYED_PROOF,
    SENDER_CONSTRAINED,
    UNBOUND,
    BodyTooLong,
    ConfigurationError,
    NonceRequired,
    ProofError,
    Refusal,
    TokenError,
)
from bearerguard.guard.binding.confirmation import Confirmations
from bearerguard.guard.binding.external_url import ExternalUrls
from bearerguard.guard.binding.received_request import ReceivedRequest, received
from bearerguard.guard.binding.replays import MemoryReplays, use_shared
from bearerguard.guard.config.options import (
    check_dpop,
    check_dpop_algorithms,
    check_dpop_max_age,
)
from bearerguard.guard.config.protected_resource import ProtectedResource
from bearerguard.guard.decision import Allow, Deny
from bearerguard.guard.stores import ReplayStore
from bearerguard.guard.token_cache import BoundTo, VerifiedToken
from bearerguard.principal import Principal
from bearerguard.protocol import dpop, names
from bearerguard.protocol.dpop import JKT, CheckedProof
from bearerguard.protocol.http.challenge import Challenge
from bearerguard.protocol.http.credentials import Credentials, bearer_credentials, credentials
from bearerguard.runtime.bodies import MAX_BODY_BYTES
from bearerguard.runtime.flow import Flow
from bearerguard.runtime.messages import Request
from bearerguard.runtime.sealing import Secret, secret_list

Mode: TypeAlias = Literal["off", "allowed", "required"]
Check: TypeAlias = Callable[[str, ReceivedRequest], None]
"""Raises `TokenError` unless a request proves the possession of the key that a value names."""

_NO_REQUEST = (
    "it is bound to a sender's key (cnf), and nothing proves its possession here: pass request= to"
    " verify(), or the request to decide()"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class DpopOptions:
    """The options of `Guard` about DPoP, as it documents them."""

    mode: Mode
    replay: MemoryReplays | ReplayStore | None
    nonces: Secret | Sequence[Secret] | None
    content_digest: bool
    algorithms: Sequence[str]
    max_age: float
    public_url: str | None
    trusted_proxies: Sequence[str]


def made(
    options: DpopOptions,
    checks: Mapping[str, Check],
    resource: ProtectedResource | None,
    challenge: Challenge,
) -> Binding | None:
    """Return what checks the binding of tokens, None for a guard that accepts no bound tokens.

    `checks` are the confirmation methods besides `jkt`. Raises `ConfigurationError`.
    """
    check_dpop(options.mode)
    if options.mode == "off":
        return Binding(Confirmations(checks), checks) if checks else None
    required = JKT if options.mode == "required" else None
    confirmations = Confirmations({JKT, *checks}, required)
    return Binding(confirmations, checks, Proofs(options, resource, challenge))


# Where a request keeps the mark of the proof that it has used.
USED_PROOF = "bearerguard.proof"


class Proved(NamedTuple):
    """A request whose proof is valid; whether it was used before is not known yet.

    Attributes:
        proof: the proof.
        principal: who bears the token.
        request: the request.
        mark: says of whom, for which token and by which fields it was accepted.
    """

    proof: CheckedProof
    principal: Principal
    request: ReceivedRequest
    mark: tuple[object, ...]

    def note_use(self) -> None:
        """Let the same guard decide again on this request: the app may have it at two places."""
        kept = self.request.kept
        if kept is not None:
            kept[USED_PROOF] = self.mark


class Proofs:
    """Checks the DPoP proofs of an API's requests, and makes its challenges."""

    def __init__(
        self, options: DpopOptions, resource: ProtectedResource | None, challenge: Challenge
    ) -> None:
        self._urls = ExternalUrls(options.public_url, options.trusted_proxies, resource)
        self._nonces = _nonces(options.nonces)
        check_dpop_algorithms(options.algorithms)
        check_dpop_max_age(options.max_age)
        self._checker = dpop.ProofChecker(
            options.algorithms, max_age=options.max_age, nonces=self._nonces
        )
        self.replays: MemoryReplays | ReplayStore = _checked_replays(options.replay)
        if not isinstance(options.content_digest, bool):
            raise ConfigurationError("dpop_content_digest=: pass True or False")
        self.content_digest: bool = options.content_digest
        #: Whether `allowed` may add something.
        self.adds: bool = self.content_digest or self._nonces is not None
        self._is_preferred = options.mode == "required"
        self._bearer = challenge
        self._own = replace(challenge, scheme=names.DPOP, algs=" ".join(options.algorithms))

    def check(
        self,
        token: bytes,
        bound: BoundTo,
        principal: Principal,
        request: ReceivedRequest,
        now: float,
    ) -> Proved | None:
        """Check the proof of a request; None for the request that has used it here before."""
        digest = bound.token_digest
        if digest is None:
            digest = bound.token_digest = dpop.token_digest(token.decode("ascii"))
        fields = request.values("dpop")
        mark = (self, digest, fields)
        if request.kept is not None and request.kept.get(USED_PROOF) == mark:
            return None
        proof = self._checker.check(
            fields,
            method=request.method,
            target=self._urls.of(request),
            now=now,
            token_digest=digest,
            jkt=bound.jkt,
        )
        if self.content_digest and proof.content_digest is None:
            dpop.check_content_digest(None, b"")
        return Proved(proof, principal, request, mark)

    def use(self, proved: Proved, now: float) -> Flow[None]:
        """Note the use of a proof in any store; raises as `use_now` does."""
        replays = self.replays
        if isinstance(replays, MemoryReplays):
            self.use_now(proved, now)
        else:
            _check_first(proved, first=(yield from use_shared(proved.proof, replays.prefix, now)))

    def use_now(self, proved: Proved, now: float) -> bool:
        """Note the use of a proof in memory; False if a flow must do it in a shared store.

        Raises `ProofError` for one that was used before, `ReplaysUnavailable` for a full store.
        """
        replays = self.replays
        if not isinstance(replays, MemoryReplays):
            return False
        principal = proved.principal
        caller = principal.issuer, principal.subject or principal.client_id
        _check_first(proved, first=replays.use(proved.proof, now, caller))
        return True

    def allowed(self, allow: Allow, proof: CheckedProof, now: float) -> Allow:
        """Return a decision with what a used proof adds to it.

        That is the field with a new nonce, if the one that was used grows old (§8.2), and what the
        digest of the body must be.
        """
        nonces = self._nonces
        if self.content_digest:
            allow = replace(allow, content_digest=proof.content_digest)
        if nonces is not None and nonces.is_old(proof.nonce or "", now):
            allow = replace(allow, headers=((names.DPOP_NONCE, nonces.make(now)),))
        return allow

    def challenged(self, deny: Deny, scheme: str | None, error: Refusal | None, now: float) -> Deny:
        """Return a refusal with the challenges of both schemes (§7.2).

        The error is in the challenge of the scheme that was used, or in both where `scheme` is
        None. A 403 has that scheme's challenge alone.
        """
        sent = deny.challenges[0]
        is_sent_as_dpop = scheme == names.DPOP
        own = replace(sent, scheme=names.DPOP, algs=self._own.algs)
        if deny.status == 403:  # noqa: PLR2004 - Forbidden
            return replace(deny, challenges=(own,)) if is_sent_as_dpop else deny
        if scheme is None:
            both = (own, sent) if self._is_preferred else (sent, own)
        else:
            both = (own, self._bearer) if is_sent_as_dpop else (sent, self._own)
        headers = deny.headers
        if isinstance(error, NonceRequired) and self._nonces is not None:
            headers = (*headers, (names.DPOP_NONCE, self._nonces.make(now)))
        return replace(deny, challenges=both, headers=headers)


@dataclass(frozen=True, slots=True)
class Binding:
    """Checks the binding of the tokens of one guard.

    Attributes:
        confirmations: reads to what a token is bound, when it is validated.
        checks: the confirmation methods besides `jkt`.
        proofs: those of DPoP, None where it is off.
    """

    confirmations: Confirmations
    checks: Mapping[str, Check]
    proofs: Proofs | None = None

    @property
    def store(self) -> ReplayStore | None:
        """The store of used proofs that workers share, None without one."""
        replays = None if self.proofs is None else self.proofs.replays
        return None if isinstance(replays, MemoryReplays) else replays

    def without_requirement(self) -> Binding:
        """Return a binding that accepts tokens without `cnf` too."""
        return replace(self, confirmations=self.confirmations.without_requirement())

    @property
    def credentials(self) -> Callable[..., Credentials | None]:
        """Returns the token of a request and its scheme; see `protocol.http.credentials`."""
        return bearer_credentials if self.proofs is None else credentials

    def check(
        self,
        token: VerifiedToken,
        sent: Credentials,
        request: Callable[[], ReceivedRequest] | None,
        now: float,
    ) -> Proved | None:
        """Check that the sender of a valid token holds its keys; return the proof, if it needs one.

        It needs none for a request on which this guard has decided before. The caller notes the use
        of the proof. Raises `TokenError` or `ProofError`.
        """
        bound = token.bound
        has_jkt = bound is not None and bound.jkt is not None
        if (sent.scheme == names.DPOP) is not has_jkt:
            raise _wrong_scheme(is_dpop=not has_jkt)
        if bound is None:
            return None
        if request is None:
            raise TokenError(SENDER_CONSTRAINED, _NO_REQUEST)
        about = request()
        if not has_jkt or len(bound.methods) > 1:
            for method, value in bound.methods.items():
                if method != JKT:
                    self.checks[method](value, about)
        if not has_jkt:
            return None
        return self._used_proofs.check(sent.token, bound, token.principal, about, now)

    def use_now(self, proved: Proved, now: float) -> bool:
        """Note the use of a proof without I/O; see `Proofs.use_now`."""
        return self._used_proofs.use_now(proved, now)

    def use(self, proved: Proved, now: float) -> Flow[None]:
        """Note the use of a proof; see `Proofs.use`."""
        return self._used_proofs.use(proved, now)

    def prove(
        self,
        token: VerifiedToken,
        octets: bytes,
        request: Request | ReceivedRequest | None,
        now: float,
    ) -> Flow[None]:
        """Check all that a bound token needs; raises `TokenError`, `ProofError` or an outage."""
        if token.bound is None:
            return
        scheme = dpop.token_type(token.bound.methods)
        given = None if request is None else partial(received, request)
        proved = self.check(token, Credentials(scheme, octets), given, now)
        if proved is not None:
            yield from self.use(proved, now)

    def accept_ticket(self, authorization: bytes, kept: MutableMapping[str, Any]) -> None:
        """Let a request pass by the credentials of a ticket; see `Guard.accept_ticket`."""
        sent = self.credentials([authorization])
        if sent is not None and sent.scheme == names.DPOP:
            kept[USED_PROOF] = (self.proofs, dpop.token_digest(sent.token.decode("ascii")), [])

    def allowed(self, allow: Allow, proof: CheckedProof, now: float) -> Allow:
        """Return a decision with what a used proof adds to it; see `Proofs.allowed`."""
        proofs = self._used_proofs
        return proofs.allowed(allow, proof, now) if proofs.adds else allow

    def check_body(self, digest: str, body: bytes | None) -> None:
        """Raise `ProofError` for another body, `BodyTooLong` for None."""
        if body is None:
            raise BodyTooLong(
                BODY_TOO_LONG, f"a body is read up to {MAX_BODY_BYTES} bytes to check its digest"
            )
        dpop.check_content_digest(digest, body)

    def challenged(
        self, deny: Deny, scheme: str | None, now: float, error: Refusal | None = None
    ) -> Deny:
        """Return a refusal with the challenges of every scheme; see `Proofs.challenged`."""
        return deny if self.proofs is None else self.proofs.challenged(deny, scheme, error, now)

    def forbidden(self, deny: Deny, principal: Principal, now: float) -> Deny:
        """Return the refusal of a valid token in the scheme by which it was sent."""
        return self.challenged(deny, dpop.token_type(principal.claims.get("cnf")), now)

    @property
    def _used_proofs(self) -> Proofs:
        assert self.proofs is not None, "none has jkt without"  # noqa: S101 - for the type checker
        return self.proofs


def _wrong_scheme(*, is_dpop: bool) -> TokenError:
    if is_dpop:
        return TokenError(
            UNBOUND,
            "it has no cnf with jkt, and was sent as DPoP: send it as Bearer, or let the issuer"
            " bind it to the key of the proofs",
        )
    return TokenError(
        SENDER_CONSTRAINED,
        "it is bound to a sender's key (cnf with jkt), and was sent as Bearer: send it as"
        " `Authorization: DPoP`, with a proof in the field DPoP",
    )


def _check_first(proved: Proved, *, first: bool) -> None:
    if not first:
        raise ProofError(
            REPLAYED_PROOF, "the proof was used before: let the client make one for each request"
        )
    proved.note_use()


def _nonces(secret: Secret | Sequence[Secret] | None) -> dpop.Nonces | None:
    if secret is None:
        return None
    try:
        return dpop.Nonces(secret_list(secret), purpose="api")
    except ConfigurationError as error:
        message = str(error).replace("secret=:", "dpop_nonces=:", 1)
        raise ConfigurationError(message) from None


def _checked_replays(
    replay: MemoryReplays | ReplayStore | None,
) -> MemoryReplays | ReplayStore:
    if replay is None:
        return MemoryReplays()
    if not isinstance(replay, MemoryReplays) and not all(
        hasattr(replay, name) for name in ("prefix", "handlers", "async_handlers")
    ):
        raise ConfigurationError(
            "replay=: pass a RedisStore, which all workers share, or MemoryReplays() for one"
            " process"
        )
    return replay
