"""Validating a JWT access token against the issuers that the guard trusts (RFC 9068 §4).

The order is fixed: what needs no key, then the signature, then the claims; nothing that a
token says is believed before its signature is. A token whose header an earlier one had is
validated by a plain call; only a header that is new, or keys that are, need a flow.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, TypeAlias

from bearerguard.errors import (
    BAD_CLAIM,
    BAD_SIGNATURE,
    UNKNOWN_ISSUER,
    UNKNOWN_KEY,
    WRONG_ALGORITHM,
    Refusal,
    TokenError,
    quoted,
)
from bearerguard.flow import Flow
from bearerguard.guard.issuer import Issuer
from bearerguard.guard.key_cache import KeyCache, Proof
from bearerguard.guard.token_cache import Entry
from bearerguard.principal import Claims, Principal, shared
from bearerguard.protocol import claims, jwt, logout_token, scope
from bearerguard.protocol.jwk import VerificationKey
from bearerguard.protocol.jwt import SignedToken

Trusted: TypeAlias = tuple[Issuer, KeyCache]


class Reading:
    """A token taken apart, with the issuer that it names; nothing of it is proved."""

    __slots__ = ("issuer", "keys", "token")

    def __init__(self, token: SignedToken, issuer: Issuer, keys: KeyCache) -> None:
        self.token = token
        self.issuer = issuer
        self.keys = keys


class JwtValidator:
    """Validates the tokens of those issuers that `find` knows by their `iss`."""

    def __init__(self, find: Callable[[str], Trusted | None], clock: Callable[[], float]) -> None:
        self._find = find
        self._clock = clock

    def read(self, octets: bytes) -> Reading:
        """Take a token apart; raises `TokenError` for no JWT, or one of an unknown issuer."""
        try:
            token = jwt.parse(octets)
        except TokenError as refusal:
            self._explain(refusal, octets)
            raise
        name = token.claims.get("iss")
        trusted = self._find(name) if type(name) is str else None
        if trusted is None:
            raise TokenError(
                UNKNOWN_ISSUER,
                f"iss is {quoted(name)}: add an Issuer with exactly that url if you trust it",
            )
        return Reading(token, *trusted)

    def _explain(self, refusal: TokenError, octets: bytes) -> None:
        """Add what is known of the issuer that an unreadable token names, if any is."""
        named = jwt.unproved_issuer(octets)
        trusted = None if named is None else self._find(named)
        if trusted is not None:
            refusal.concern(named or "", trusted[0].hints.get(refusal.reason.code))

    def recognise(self, reading: Reading) -> Entry | None:
        """Return what the token proves by the key that proved an earlier one with its header.

        None says that there is no such key, or that it did not sign this token, and nothing
        more. Raises `TokenError` for a token that is genuine and does not hold.
        """
        token = reading.token
        proof = reading.keys.proof(token.header)
        if proof is None or not proof.verify(token.signing_input, token.signature):
            return None
        return self._entry(reading, proof)

    def prove(self, reading: Reading) -> Flow[Entry]:
        """Return what the token proves; raises `TokenError` or `IssuerUnavailable`."""
        issuer, keys, segment = reading.issuer, reading.keys, reading.token.header
        try:
            header = jwt.parse_header(segment)
            jwt.check_type(header.typ, issuer.accepted_types)
            key, proof = yield from _proof(reading, header, keys.proof(segment))
        except Refusal as refusal:
            refusal.concern(issuer.url, issuer.hints.get(refusal.reason.code))
            raise
        keys.remember(segment, key, proof)
        return self._entry(reading, proof)

    def prove_logout(self, octets: bytes) -> Flow[Reading]:
        """Return a genuine logout token, its claims unchecked; raises as `prove` does.

        Its header is not remembered: an access token with the same one would be recognised.
        """
        reading = self.read(octets)
        try:
            header = jwt.parse_header(reading.token.header)
            logout_token.check_type(header.typ)
            yield from _proof(reading, header, None)
        except Refusal as refusal:
            refusal.concern(reading.issuer.url)
            raise
        return reading

    def renew(self, entry: Entry) -> bool:
        """Whether a token proved earlier still holds though its key's lease ran out."""
        trusted = self._find(entry.principal.issuer or "")
        return trusted is not None and trusted[1].renew(entry.lease)

    def _entry(self, reading: Reading, proof: Proof) -> Entry:
        """Return what a genuine token proves, if its claims hold."""
        issuer, found = reading.issuer, reading.token.claims
        try:
            if proof.may_be_id_token and not issuer.accept_id_tokens:
                claims.check_not_id_token(found)
            if issuer.mapping is not None:
                return self._mapped(issuer.mapping.seen(found), reading, proof)
            claims.check(found, issuer.expected, self._clock())
            principal = principal_of(found)
        except Refusal as refusal:
            refusal.concern(issuer.url, issuer.hints.get(refusal.reason.code))
            raise
        return Entry(principal, found["exp"] + issuer.expected.leeway, proof.lease)

    def _mapped(self, seen: dict[str, Any], reading: Reading, proof: Proof) -> Entry:
        """Do as `_entry` with claims under their standard names; the principal keeps its own."""
        expected = reading.issuer.expected
        claims.check(seen, expected, self._clock())
        principal = principal_of(seen)._replace(claims=Claims(reading.token.claims))
        return Entry(principal, seen["exp"] + expected.leeway, proof.lease)


def _proof(
    reading: Reading, header: jwt.Header, tried: Proof | None
) -> Flow[tuple[VerificationKey, Proof]]:
    """Return the key of the issuer that signed the token, and the proof of that.

    `tried` is what was found not to have signed it.
    """
    token, issuer = reading.token, reading.issuer
    if header.algorithm not in issuer.accepted_algorithms:
        raise TokenError(
            WRONG_ALGORITHM,
            f"alg is {quoted(header.algorithm)}, this issuer may use"
            f" {', '.join(issuer.accepted_algorithms)}",
        )
    candidates = yield from reading.keys.candidates(header.algorithm, header.kid)
    for key, lease in candidates:
        if tried is not None and tried.lease is lease:
            continue
        verify = key.verifier(header.algorithm)
        if verify(token.signing_input, token.signature):
            may_be_id_token = jwt.media_type(header.typ) == "jwt"
            return key, Proof(verify, lease, may_be_id_token=may_be_id_token)
    named = f"alg {quoted(header.algorithm)} and kid {quoted(header.kid)}"
    if not candidates:
        raise TokenError(UNKNOWN_KEY, f"the issuer publishes no key for {named}")
    raise TokenError(BAD_SIGNATURE, f"the signature is not that of the key for {named}")


def principal_of(found: dict[str, Any]) -> Principal:
    """Return who bears a token whose claims were checked; raises `TokenError` for a malformed one.

    What was not checked and is no text, date or list of names grants and says nothing.
    """
    try:
        scopes = scope.granted(found)
    except ValueError as error:
        raise TokenError(BAD_CLAIM, f"its {error}") from None
    get = found.get
    for name in _COMMON:
        value = get(name)
        if type(value) is str:
            found[name] = shared(value)
    client_id, acr = get("client_id") or get("azp"), get("acr")
    return Principal(
        found["iss"],
        get("sub"),
        client_id if type(client_id) is str else None,
        scopes,
        _roles(found) if get("roles") else _NO_NAMES,
        get("jti"),
        get("iat"),
        found["exp"],
        acr if type(acr) is str else None,
        None if get("auth_time") is None else claims.numeric_date(found, "auth_time"),
        Claims(found),
    )


# What the tokens of an API have in common, and would each keep a copy of.
_COMMON = ("iss", "aud", "client_id", "scope")
_NO_NAMES: frozenset[str] = frozenset()


def _roles(found: dict[str, Any]) -> frozenset[str]:
    # RFC 9068 §2.2.3.1: an array; what is none grants nothing.
    value = found["roles"]
    if type(value) is not list:
        return _NO_NAMES
    try:
        names, members = _named(tuple(value))
    except TypeError:  # an object or array among them
        names, members = _named(tuple([each for each in value if type(each) is str]))
    if len(names) == len(value):
        found["roles"] = members
    return names


@lru_cache(1024)
def _named(members: tuple[Any, ...]) -> tuple[frozenset[str], tuple[Any, ...]]:
    """Return the names among the members of an array, and one array for all that equal it."""
    return frozenset([each for each in members if type(each) is str]), members
