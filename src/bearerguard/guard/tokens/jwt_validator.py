"""Validating a JWT access token against the issuers that the guard trusts (RFC 9068 §4).

The order is fixed: first what needs no key, then the signature, then the claims (`iss`, `aud`,
`exp` and the others, by `protocol.jwt_claims`); no claim is used before the signature is verified.
A token with a known header is validated by a plain call; only a new header, or new keys, need a
flow.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from bearerguard.errors import (
    BAD_SIGNATURE,
    UNKNOWN_ISSUER,
    UNKNOWN_KEY,
    WRONG_ALGORITHM,
    Refusal,
    TokenError,
    quoted,
)
from bearerguard.guard.config.claim_check import run_checks
from bearerguard.guard.config.issuer import Issuer
from bearerguard.guard.config.scope_hierarchy import ScopeHierarchy
from bearerguard.guard.keys.key_cache import KeyCache, SelectedKey
from bearerguard.guard.keys.key_validity import KeyValidity
from bearerguard.guard.token_cache import VerifiedToken
from bearerguard.principal import Claims
from bearerguard.protocol import jwt_claims, metadata
from bearerguard.protocol.jose import jwk, jwt
from bearerguard.protocol.jose.jwk import VerificationKey
from bearerguard.protocol.jose.jwt import SignedToken
from bearerguard.runtime.flow import Flow

if TYPE_CHECKING:
    from bearerguard.guard.binding.binding import Binding

IssuerKeys: TypeAlias = tuple[Issuer, KeyCache]
"""An issuer, with the cache of its keys."""

# A stranger writes `iss`: the cost of a refused token is bounded.
_LONGEST_COMPARED, _MAX_COMPARED = 256, 16


_NO_ISSUER = (
    "the token has no iss, and no option accepts such tokens: iss says whose keys verify a token,"
    " and RFC 9068 (section 2.2) requires it. Have the issuer add it (JWT_ENCODE_ISSUER in"
    " flask-jwt-extended, ISSUER in SimpleJWT)"
)


# The dots in a JWS and in a JWE.
_DOTS = frozenset({2, 4})


class ParsedToken(NamedTuple):
    """A token that is parsed, with the issuer that it names; nothing of it is verified.

    `tried` is a key that has not signed it.
    """

    token: SignedToken
    issuer: Issuer
    keys: KeyCache
    tried: SelectedKey | None = None


class SignedClaims(NamedTuple):
    """The claims of a JWT whose signature is valid, and which are unchecked besides."""

    claims: dict[str, Any]
    issuer: Issuer
    typ: str | None
    key_id: str | None


class JwtValidator:
    """Validates JWTs.

    Args:
        find: returns the issuer whose url or alias equals a token's `iss`, None for an unknown one.
        clock: returns Unix seconds.
        max_token_bytes: the longest token that is parsed.
        names: the urls of the issuers, to explain an `iss` that almost matches one.
        hierarchy: which scopes imply others.
        binding: reads to which keys tokens are bound; None where bound tokens are refused.
    """

    def __init__(
        self,
        find: Callable[[str], IssuerKeys | None],
        clock: Callable[[], float],
        max_token_bytes: int = jwt.MAX_TOKEN_BYTES,
        *,
        names: Sequence[str] = (),
        hierarchy: ScopeHierarchy | None = None,
        binding: Binding | None = None,
    ) -> None:
        self._hierarchy = hierarchy
        self._binding = binding
        self._max_token_bytes = max_token_bytes
        self._find = find
        self._clock = clock
        self._names = names[:_MAX_COMPARED]

    def validate_now(self, octets: bytes) -> VerifiedToken | ParsedToken:
        """Validate a token without I/O, by the key that its header has selected before.

        A `ParsedToken` means only that no key is known for its header, or that the known one
        has not signed it: `validate` decides. Raises `TokenError` for what is not a JWT, for an
        unknown issuer, and for a token that is signed but not acceptable.
        """
        members, (issuer, keys) = self._parse(octets)
        header, claims, signing_input, signature = members
        selected = keys.selected(header)
        if selected is None or not selected.verify(signing_input, signature):
            return ParsedToken(SignedToken(*members), issuer, keys, selected)
        return self.check_claims(claims, issuer, selected)

    def parse(self, octets: bytes) -> ParsedToken:
        """Parse a token; raises `TokenError` if it is not a JWT, or if its issuer is unknown."""
        members, trusted = self._parse(octets)
        return ParsedToken(SignedToken(*members), *trusted)

    def _parse(self, octets: bytes) -> tuple[jwt.Members, IssuerKeys]:
        try:
            members = jwt.members(octets, self._max_token_bytes)
        except TokenError as refusal:
            self._explain(refusal, octets)
            raise
        name = members[1].get("iss")
        trusted = self._find(name) if type(name) is str else None
        if trusted is None:
            if name is None:
                raise TokenError(UNKNOWN_ISSUER, _NO_ISSUER)
            raise TokenError(
                UNKNOWN_ISSUER,
                f"iss is {quoted(name)}{self._nearly(name)}: add an Issuer with exactly that url"
                " if you trust it",
            )
        return members, trusted

    def _nearly(self, name: object) -> str:
        """Return a hint to the issuer that `name` resembles; only the exact name is accepted."""
        if isinstance(name, str) and len(name) <= _LONGEST_COMPARED:
            for known in self._names:
                hint = metadata.hint(name, known)
                if hint:
                    return f"{hint} from {quoted(known)}"
        return ""

    def _explain(self, refusal: TokenError, octets: bytes) -> None:
        """Add what mends it: the hint of the issuer that it names, or introspection."""
        if octets.count(b".") not in _DOTS and len(octets) <= self._max_token_bytes:
            remedy = f"{refusal.remedy}; if it is opaque, pass introspection= to its Issuer"
            raise TokenError(refusal.reason, remedy) from None
        named = jwt.unverified_issuer(octets)
        trusted = None if named is None else self._find(named)
        if trusted is not None:
            refusal.concern(named or "", trusted[0].hints.get(refusal.reason.code))

    def validate(self, parsed: ParsedToken) -> Flow[VerifiedToken]:
        """Validate a token, fetching keys if need be.

        Raises `TokenError` or `IssuerUnavailable`.
        """
        token, issuer, keys, _ = parsed
        try:
            header = jwt.parse_header(token.header)
            jwt.check_type(header.typ, issuer.accepted_types)
            key, selected = yield from signing_key(parsed, header)
        except Refusal as refusal:
            refusal.concern(issuer.url, issuer.hints.get(refusal.reason.code))
            raise
        keys.remember(token.header, key, selected)
        return self.check_claims(token.claims, issuer, selected)

    def verify_signature(
        self, octets: bytes, check_type: Callable[[str | None], None]
    ) -> Flow[SignedClaims]:
        """Return the claims of a JWT that is no access token, and whose signature is valid.

        `check_type` raises `TokenError` unless the `typ` fits; the claims are unchecked. Raises
        `TokenError` or `IssuerUnavailable`.

        Its header is not remembered: an access token with the same header would skip the check
        of its `typ`.
        """
        parsed = self.parse(octets)
        issuer = parsed.issuer
        try:
            header = jwt.parse_header(parsed.token.header)
            check_type(header.typ)
            _, selected = yield from signing_key(parsed, header)
        except Refusal as refusal:
            refusal.concern(issuer.url)
            raise
        return SignedClaims(parsed.token.claims, issuer, header.typ, selected.validity.key_id)

    def renew(self, token: VerifiedToken, validity: KeyValidity) -> bool:
        """Prolong the validity of a token's key, if it may still be used; return whether it may."""
        trusted = self._find(token.principal.issuer or "")
        return trusted is not None and trusted[1].renew(validity)

    def is_stale(self, token: VerifiedToken) -> bool:
        """Whether the keys of a token's issuer should have been renewed by now."""
        trusted = self._find(token.principal.issuer or "")
        return trusted is not None and trusted[1].is_stale

    def check_claims(
        self, found: dict[str, Any], issuer: Issuer, selected: SelectedKey
    ) -> VerifiedToken:
        """Check the claims of a token whose signature is valid; raises `TokenError`."""
        expected = issuer.expected
        bound = None
        try:
            if self._binding is not None:
                bound = self._binding.confirmations.read(found)
            if "events" in found:
                jwt_claims.check_no_logout_token(found)
            if selected.may_be_id_token and not issuer.accept_id_tokens:
                jwt_claims.check_not_id_token(found)
            mapped = issuer.standard_claims
            seen = found if mapped is None else mapped(found)
            if selected.may_be_id_token:  # after the explanation by ClaimMapping(required=)
                jwt_claims.check_kind(
                    found, accept_id_tokens=issuer.accept_id_tokens, bound=bound is not None
                )
            principal = jwt_claims.bearer(seen, expected, self._clock(), bound=bound is not None)
            if seen is not found:  # the token's own claims, under their own names
                principal = replace(principal, claims=Claims(found))
            if self._hierarchy is not None:
                principal = self._hierarchy.applied_to(principal)
            if issuer.checks:
                run_checks(issuer.checks, issuer.url, principal.claims)
        except Refusal as refusal:
            refusal.concern(issuer.url, issuer.hints.get(refusal.reason.code))
            raise
        deadline = seen["exp"] + expected.leeway
        return VerifiedToken(principal, deadline, selected.validity, bound=bound)


def signing_key(
    parsed: ParsedToken, header: jwt.Header
) -> Flow[tuple[VerificationKey, SelectedKey]]:
    """Return the key of the issuer that signed a token; raises `TokenError` if none did."""
    token, issuer, keys, tried = parsed
    check_algorithm(header.algorithm, issuer)
    candidates = yield from keys.candidates(header.algorithm, header.kid)
    for key, validity in candidates:
        if tried is not None and tried.validity is validity:
            continue
        verify = key.verifier(header.algorithm)
        if verify(token.signing_input, token.signature):
            return key, SelectedKey(verify, validity, may_be_id_token=may_be_id_token(header.typ))
    named = f"alg {quoted(header.algorithm)} and kid {quoted(header.kid)}"
    if not candidates:
        raise TokenError(UNKNOWN_KEY, f"the issuer publishes no key for {named}")
    raise TokenError(BAD_SIGNATURE, f"the signature is not that of the key for {named}")


def check_algorithm(algorithm: str, issuer: Issuer) -> None:
    """Raise `TokenError` unless the issuer may sign with this algorithm (RFC 8725 §3.1)."""
    if algorithm not in issuer.accepted_algorithms:
        raise TokenError(
            WRONG_ALGORITHM,
            f"alg is {quoted(algorithm)}, this issuer may use"
            f" {', '.join(issuer.accepted_algorithms)}{_too_short_for(algorithm, issuer)}",
        )


def may_be_id_token(typ: str | None) -> bool:
    """Whether ID tokens have this `typ` too: access tokens alone have `at+jwt` (RFC 9068 §2.1)."""
    return jwt.media_type(typ) != "at+jwt"


def _too_short_for(algorithm: str, issuer: Issuer) -> str:
    """Explain that a shared secret is too short for an algorithm, if it is."""
    least, secrets = jwk.SECRET_BYTES.get(algorithm), issuer.static_keys
    if issuer.shared_secret is None or least is None or secrets is None:
        return ""
    if any(len(key.octets) >= least for key in secrets.keys):
        return ""
    return f": {algorithm} needs a shared_secret= of at least {least} bytes (RFC 7518 §3.2)"
