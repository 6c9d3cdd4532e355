"""Validating a JWT access token against the issuers that the guard trusts (RFC 9068 §4).

The order is fixed: what needs no key, then the signature, then the claims; nothing that a
token says is believed before its signature is. A token whose header an earlier one had is
validated by a plain call; only a header that is new, or keys that are, need a flow.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple, TypeAlias

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
from bearerguard.guard.keys.key_cache import KeyCache, Proof
from bearerguard.guard.tokens.token_cache import Entry
from bearerguard.principal import Claims
from bearerguard.protocol import claims, logout_token, metadata
from bearerguard.protocol.jose import jwk, jwt
from bearerguard.protocol.jose.jwk import VerificationKey
from bearerguard.protocol.jose.jwt import SignedToken
from bearerguard.runtime.flow import Flow

Trusted: TypeAlias = tuple[Issuer, KeyCache]

# A stranger writes `iss`: what a refused token costs is bounded.
_LONGEST_COMPARED, _MAX_COMPARED = 256, 16


_NO_ISSUER = (
    "the token has no iss, and no option accepts such tokens: iss says whose keys prove a token,"
    " and RFC 9068 (section 2.2) requires it. Have the issuer add it (JWT_ENCODE_ISSUER in"
    " flask-jwt-extended, ISSUER in SimpleJWT)"
)


class Reading(NamedTuple):
    """A token taken apart, with the issuer that it names; nothing of it is proved.

    `tried` is what was found not to have signed it.
    """

    token: SignedToken
    issuer: Issuer
    keys: KeyCache
    tried: Proof | None = None


class JwtValidator:
    """Validates the tokens of those issuers that `find` knows by their `iss`."""

    def __init__(
        self,
        find: Callable[[str], Trusted | None],
        clock: Callable[[], float],
        max_token_bytes: int = jwt.MAX_TOKEN_BYTES,
        *,
        names: Sequence[str] = (),
    ) -> None:
        self._max_token_bytes = max_token_bytes
        self._find = find
        self._clock = clock
        self._names = names[:_MAX_COMPARED]

    def look(self, octets: bytes) -> Entry | Reading:
        """Return what a token proves by the key that proved an earlier one with its header.

        A reading says that there is no such key, or that it did not sign this token, and
        nothing more. Raises `TokenError` for no JWT, one of an unknown issuer, and one that is
        genuine and does not hold.
        """
        reading = token, issuer, keys = self._read(octets)
        proof = keys.proof(token.header)
        if proof is None or not proof.verify(token.signing_input, token.signature):
            return Reading(*reading, proof)
        return self._entry(token.claims, issuer, proof)

    def _read(self, octets: bytes) -> tuple[SignedToken, Issuer, KeyCache]:
        """Take a token apart; raises `TokenError` for no JWT, or one of an unknown issuer."""
        try:
            token = jwt.parse(octets, self._max_token_bytes)
        except TokenError as refusal:
            self._explain(refusal, octets)
            raise
        name = token.claims.get("iss")
        trusted = self._find(name) if type(name) is str else None
        if trusted is None:
            if name is None:
                raise TokenError(UNKNOWN_ISSUER, _NO_ISSUER)
            raise TokenError(
                UNKNOWN_ISSUER,
                f"iss is {quoted(name)}{self._nearly(name)}: add an Issuer with exactly that url"
                " if you trust it",
            )
        return token, *trusted

    def _nearly(self, name: object) -> str:
        """Say which issuer a name is nearly that of; no spelling makes it the same."""
        if isinstance(name, str) and len(name) <= _LONGEST_COMPARED:
            for known in self._names:
                hint = metadata.hint(name, known)
                if hint:
                    return f"{hint} from {quoted(known)}"
        return ""

    def _explain(self, refusal: TokenError, octets: bytes) -> None:
        """Add what is known of the issuer that an unreadable token names, if any is."""
        named = jwt.unverified_issuer(octets)
        trusted = None if named is None else self._find(named)
        if trusted is not None:
            refusal.concern(named or "", trusted[0].hints.get(refusal.reason.code))

    def prove(self, reading: Reading) -> Flow[Entry]:
        """Return what the token proves; raises `TokenError` or `IssuerUnavailable`."""
        token, issuer, keys, _ = reading
        try:
            header = jwt.parse_header(token.header)
            jwt.check_type(header.typ, issuer.accepted_types)
            key, proof = yield from _proof(reading, header)
        except Refusal as refusal:
            refusal.concern(issuer.url, issuer.hints.get(refusal.reason.code))
            raise
        keys.remember(token.header, key, proof)
        return self._entry(token.claims, issuer, proof)

    def prove_logout(self, octets: bytes) -> Flow[tuple[Reading, str | None]]:
        """Return a genuine logout token, its claims unchecked, and its key's id.

        Raises as `prove` does. Whether the key was withdrawn is the caller's to ask.

        Its header is not remembered: an access token with the same one would be recognised.
        """
        reading = Reading(*self._read(octets))
        try:
            header = jwt.parse_header(reading.token.header)
            logout_token.check_type(header.typ)
            _, proof = yield from _proof(reading, header)
        except Refusal as refusal:
            refusal.concern(reading.issuer.url)
            raise
        return reading, proof.lease.key_id

    def renew(self, entry: Entry) -> bool:
        """Whether a token proved earlier still holds though its key's lease ran out."""
        trusted = self._find(entry.principal.issuer or "")
        return trusted is not None and trusted[1].renew(entry.lease)

    def _entry(self, found: dict[str, Any], issuer: Issuer, proof: Proof) -> Entry:
        """Return what the claims of a genuine token prove, if they hold."""
        expected = issuer.expected
        try:
            if "events" in found:
                claims.check_no_logout_token(found)
            if proof.may_be_id_token and not issuer.accept_id_tokens:
                claims.check_not_id_token(found)
            mapped = issuer.standard_claims
            seen = found if mapped is None else mapped(found)
            if proof.may_be_id_token:  # after what ClaimMapping(required=) says of it
                claims.check_kind(found, accept_id_tokens=issuer.accept_id_tokens)
            principal = claims.bearer(seen, expected, self._clock())
            if seen is not found:  # its own claims, under the names they have
                principal = replace(principal, claims=Claims(found))
            if issuer.checks:
                run_checks(issuer.checks, issuer.url, principal.claims)
        except Refusal as refusal:
            refusal.concern(issuer.url, issuer.hints.get(refusal.reason.code))
            raise
        return Entry(principal, seen["exp"] + expected.leeway, proof.lease)


def _proof(reading: Reading, header: jwt.Header) -> Flow[tuple[VerificationKey, Proof]]:
    """Return the key of the issuer that signed the token, and the proof of that."""
    token, issuer, keys, tried = reading
    if header.algorithm not in issuer.accepted_algorithms:
        raise TokenError(
            WRONG_ALGORITHM,
            f"alg is {quoted(header.algorithm)}, this issuer may use"
            f" {', '.join(issuer.accepted_algorithms)}{_too_short_for(header.algorithm, issuer)}",
        )
    candidates = yield from keys.candidates(header.algorithm, header.kid)
    for key, lease in candidates:
        if tried is not None and tried.lease is lease:
            continue
        verify = key.verifier(header.algorithm)
        if verify(token.signing_input, token.signature):
            # Only RFC 9068 says of a type that it is that of access tokens alone.
            may_be_id_token = jwt.media_type(header.typ) != "at+jwt"
            return key, Proof(verify, lease, may_be_id_token=may_be_id_token)
    named = f"alg {quoted(header.algorithm)} and kid {quoted(header.kid)}"
    if not candidates:
        raise TokenError(UNKNOWN_KEY, f"the issuer publishes no key for {named}")
    raise TokenError(BAD_SIGNATURE, f"the signature is not that of the key for {named}")


def _too_short_for(algorithm: str, issuer: Issuer) -> str:
    """Return what keeps a shared secret from serving an algorithm, if that is its length."""
    least = jwk.SECRET_BYTES.get(algorithm)
    if issuer.shared_secret is None or least is None or len(issuer.shared_secret) >= least:
        return ""
    return f": {algorithm} needs a shared_secret= of at least {least} bytes (RFC 7518 §3.2)"
