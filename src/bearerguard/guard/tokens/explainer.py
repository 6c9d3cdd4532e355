"""Explains one token: the result of every check of validation, not only of the first that fails.

Owns no rule. The decision is that of the code that validates every token. For each check of the
claims, the same code validates a token that is valid but for the claims under examination.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar, cast

from bearerguard.errors import (
    BAD_CLAIM,
    BAD_SIGNATURE,
    ENCRYPTED_TOKEN,
    EXPIRED,
    ISSUER_UNAVAILABLE,
    MALFORMED_TOKEN,
    MISSING_CLAIM,
    NOT_YET_VALID,
    SENDER_CONSTRAINED,
    UNKNOWN_ISSUER,
    WRONG_ALGORITHM,
    WRONG_AUDIENCE,
    IssuerUnavailable,
    Reason,
    Refusal,
    RevocationsUnavailable,
    StatusUnavailable,
    TokenError,
    quoted,
)
from bearerguard.guard.config.claim_check import name_of, run_checks
from bearerguard.guard.config.claim_mapping import ClaimMapping, top_level_names, value_at
from bearerguard.guard.config.introspection import Introspection
from bearerguard.guard.config.issuer import Issuer
from bearerguard.guard.config.requirement import Moment, Requirement
from bearerguard.guard.config.scope_hierarchy import ScopeHierarchy
from bearerguard.guard.decision import Allow, Decision, failed, insufficient
from bearerguard.guard.events import Events
from bearerguard.guard.explanation import Check, CheckStatus, Explanation
from bearerguard.guard.introspection.introspector import Introspector
from bearerguard.guard.introspection.responses import (
    IntrospectedToken,
    IntrospectionResponse,
    ResponseReader,
    members_of,
)
from bearerguard.guard.keys.key_cache import SelectedKey
from bearerguard.guard.keys.key_validity import KeyValidity
from bearerguard.guard.revocation.revocations import GuardRevocations
from bearerguard.guard.token_cache import TokenCache, VerifiedToken
from bearerguard.guard.tokens import jwt_validator
from bearerguard.guard.tokens.authenticator import (
    Authenticator,
    OpaqueToken,
    PendingValidation,
)
from bearerguard.guard.tokens.jwt_validator import JwtValidator, ParsedToken
from bearerguard.guard.tokens.trusted_issuers import TrustedIssuers
from bearerguard.principal import Claims, Principal
from bearerguard.protocol import jwt_claims
from bearerguard.protocol.http.challenge import Challenge
from bearerguard.protocol.http.expiry import utc_text
from bearerguard.protocol.jose import jwt
from bearerguard.runtime.flow import Flow
from bearerguard.runtime.reporting.durations import in_words

if TYPE_CHECKING:
    from bearerguard.guard.binding.binding import Binding

T = TypeVar("T")

Failure: TypeAlias = Refusal | IssuerUnavailable

# The lifetime, in seconds, of the valid token that each check of the claims changes.
_LIFE = 3600
_MAX_NAMED = 8  # keys and issuers
_MAX_DATE = 2**53
_DOTS = {2: "three parts that are no JWT", 4: "an encrypted JWT (JWE)"}
_FORM = "form"
_MALFORMED = (MALFORMED_TOKEN, ENCRYPTED_TOKEN)
_SIGNATURE_CHECKS = ("header", "type", "algorithm", "key", "signature")
_CLAIM_CHECKS = (
    "kind",
    "required claims",
    "audience",
    "not before",
    "issued at",
    "sender",
    "claims",
    "expiry",
)
# Claims whose form alone is checked: those of the principal (RFC 9068 §2.2).
_WELL_FORMED = frozenset(
    {"sub", "client_id", "azp", "jti", "scope", "scp", "roles", "acr", "auth_time"}
)
_REFERENCES = {
    _FORM: "RFC 7519 §3",
    "issuer": "RFC 7519 §4.1.1",
    "header": "RFC 7515 §4.1",
    "type": "RFC 9068 §2.1",
    "algorithm": "RFC 8725 §3.1",
    "key": "RFC 7515 §4.1.4",
    "signature": "RFC 7515 §5.2",
    "introspection": "RFC 7662 §2.2",
    "kind": "RFC 8725 §3.12",
    "required claims": "RFC 9068 §2.2",
    "audience": "RFC 7519 §4.1.3",
    "not before": "RFC 7519 §4.1.5",
    "issued at": "RFC 7519 §4.1.6",
    "sender": "RFC 7800 §3.1",
    "claims": "RFC 9068 §2.2",
    "expiry": "RFC 7519 §4.1.4",
    "status": "draft-ietf-oauth-status-list §8.3",
    "revocation": "RFC 7009 §2",
    "requirement": "RFC 6750 §3.1",
}
_ON_FAILURE = (
    "mend what failed: let this machine reach the issuer, and let each URL give the JSON it is for;"
    " `bearerguard doctor` examines an issuer"
)
_OPAQUE_REMEDY = (
    "pass introspection= to the Issuer if its access tokens are opaque, or let it issue JWTs for"
    " this API"
)
# For refusals whose message names no remedy.
_REMEDIES = {
    "malformed_token": "pass the access token whole, without quotes and line breaks",
    "wrong_algorithm": "let the issuer sign with one of these, or pass algorithms= if it may use"
    " this one",
    "critical_header": "let the issuer leave the extension out",
    "unknown_key": "check that the token is of this issuer's live system, and that its JWKS has"
    " the key; tokens of a withdrawn key stay refused",
    "bad_signature": "copy the token whole, and check that it is of this issuer's live system",
    "id_token": "send the access token instead",
    "bad_claim": "let the issuer send the claim as the RFC defines it",
    "missing_claim": "let the issuer send it",
    "sender_constrained": "let the issuer send this client tokens that are not bound to a key",
    "unbound": "let the issuer bind this client's tokens to its key",
    "not_yet_valid": "set the clocks of the issuer and of this machine",
    "expired": "get a new token: refresh it, or log in again; if a new one is refused as well, set"
    " the clocks of the issuer and of this machine",
    "inactive": "get a new token: this one expired, was revoked, or is not of this issuer",
    "revoked": "log in again",
    "refused_by_check": "change the token at the issuer, or the check",
    "claim_check_failed": "correct the check",
    "issuer_unavailable": _ON_FAILURE,
    "bad_status": "let the issuer name the token's place in one of its status lists",
    "status_not_valid": "log in again, or have the issuer lift the suspension",
    "status_unavailable": _ON_FAILURE,
    "revocations_unavailable": "make the store of revocations reachable from here",
    "insufficient_scope": "request a token with these scopes",
    "insufficient_user_authentication": "let the user log in again in this way: the authorization"
    " request has acr_values and max_age, and the issuer sends acr and auth_time in access tokens",
    "requirement_unmet": "give the user or the client what is missing, at the issuer",
}


class _Unreported(Events):
    """Reports nothing: an explanation is not an event of a request."""

    def __init__(self, clock: Callable[[], float]) -> None:
        super().__init__(None, clock)

    def emit(self, *_event: object, **_details: object) -> None:
        pass


class _Recorder(ResponseReader):
    """Stores the response that it reads, and reads it at the time of the decision."""

    response: IntrospectionResponse | None = None

    def __init__(
        self,
        issuer: Issuer,
        options: Introspection,
        hierarchy: ScopeHierarchy | None,
        at: float,
        binding: Binding | None,
    ) -> None:
        super().__init__(issuer, options, hierarchy, binding)
        self._at = at

    def read(
        self,
        response: IntrospectionResponse,
        received_at: float,  # noqa: ARG002 - nothing is cached
        now: float,  # noqa: ARG002 - as above
        elapsed: float,
    ) -> IntrospectedToken:
        self.response = response
        return super().read(response, self._at, self._at, elapsed)


@dataclass(frozen=True, slots=True)
class _ReadableToken:
    """A token whose claims can be read, and how its claims are validated.

    `validate` takes claims and an issuer, and raises `TokenError`. `required` are the claims that
    validation requires of this kind of token, `assumed` those that it adds: the issuer's response
    implies them.
    """

    claims: dict[str, Any]
    assumed: dict[str, Any]
    issuer: Issuer
    required: tuple[str, ...]
    validate: Callable[[dict[str, Any], Issuer], Principal]
    key_id: str | None


class Explainer:
    """Explains one token; made anew for each.

    Args:
        trust: the guard's issuers, with their keys.
        challenge: what each challenge of the guard has.
        hierarchy: which scopes imply others.
        requirement: what the request requires, the guard's own requirement included.
        clock: the guard's; authentication at an introspection endpoint goes by it.
        at: the time of the decision, in Unix seconds.
        revocations: the guard's.
        max_token_bytes: the longest token that is parsed, in bytes.
        binding: what checks the binding of tokens; None where bound tokens are refused.
    """

    def __init__(
        self,
        trust: TrustedIssuers,
        *,
        challenge: Challenge,
        hierarchy: ScopeHierarchy | None,
        requirement: Requirement | None,
        clock: Callable[[], float],
        at: float,
        revocations: GuardRevocations | None,
        max_token_bytes: int,
        binding: Binding | None = None,
    ) -> None:
        self._trust = trust
        self._binding = binding
        # What validates the claims one by one: the others are absent then, `cnf` too.
        self._lenient = None if binding is None else binding.without_requirement()
        self._challenge = challenge
        self._hierarchy = hierarchy
        self._requirement = requirement
        self._guards_clock = clock
        self._at = at
        self._revocations = revocations
        self._max_token_bytes = max_token_bytes
        self._events = _Unreported(self._clock)
        # Empty: a cached token or response may be out of date.
        self._tokens = TokenCache(1, self._clock)
        self._validator = JwtValidator(
            trust.find,
            self._clock,
            max_token_bytes,
            names=trust.urls,
            hierarchy=hierarchy,
            binding=binding,
        )
        self._of_claims = JwtValidator(
            trust.find, self._clock, hierarchy=hierarchy, binding=self._lenient
        )
        self._authenticator = Authenticator(
            self._validator,
            trust.routing,
            self._tokens,
            clock=self._clock,
            monotonic=self._clock,
            revocations=revocations,
            statuses=trust.statuses,
            max_token_bytes=max_token_bytes,
        )
        self._recorder: _Recorder | None = None
        self._checks: list[Check] = []
        self._failure: Failure | None = None
        self._header: dict[str, str | None] = {}

    def explain(self, token: bytes) -> Flow[Explanation]:
        """Return the explanation of a token."""
        outcome = yield from self._validated(token)
        self._failure = None if isinstance(outcome, VerifiedToken) else outcome
        if self._recorder is not None:
            described = self._explain_response(token, self._recorder)
        else:
            described = yield from self._explain_jwt(token)
        principal = None if described is None else self._explain_claims(described)
        yield from self._explain_status(principal, described)
        yield from self._explain_revocation(principal, described)
        decision = self._decided(outcome, principal)
        return Explanation(
            decision,
            tuple(self._checks),
            None if described is None else described.issuer.url,
            self._at,
            self._header,
            Claims() if described is None else Claims(described.claims),
        )

    def _clock(self) -> float:
        return self._at

    # The decision

    def _validated(self, token: bytes) -> Flow[VerifiedToken | Failure]:
        """Validate the token as that of a request; return why it fails."""
        try:
            found = self._authenticator.validate_now(token)
            if isinstance(found, VerifiedToken):
                return found
            if isinstance(found, PendingValidation) and isinstance(found.token, OpaqueToken):
                asked = self._recording(found.token.introspector)
                # Not the token's digest: a request that asks for it now would share its response.
                found = PendingValidation(os.urandom(32), OpaqueToken(asked, token))
            return (yield from self._authenticator.validate(found))
        except (Refusal, IssuerUnavailable) as error:
            return error

    def _recording(self, introspector: Introspector) -> Introspector:
        """Return an introspector without cached responses, whose response is recorded."""
        issuer, options = introspector.issuer, introspector.options
        self._recorder = _Recorder(issuer, options, self._hierarchy, self._at, self._binding)
        return Introspector(
            issuer,
            options,
            introspector.keys,
            self._tokens,
            clock=self._guards_clock,
            events=self._events,
            revocations=self._revocations,
            reader=self._recorder,
        )

    def _decided(self, outcome: VerifiedToken | Failure, principal: Principal | None) -> Decision:
        """Return the decision; note the check of the requirement, and a failure without a check."""
        requirement, unmet = self._requirement, None
        at = Moment(self._at, self._trust.leeway(None if principal is None else principal.issuer))
        if requirement is None:
            self._add("requirement", "not applicable", "nothing: no scope, role, claim or login")
        elif principal is None:
            self._add("requirement", "not reached", str(requirement))
        elif requirement.met_by(principal, at):
            self._add("requirement", "passed", str(requirement), _met(requirement, principal, at))
        else:
            unmet = insufficient(self._challenge, requirement, principal, at)
            has = requirement.unmet_by(principal, at)[1]
            self._fail("requirement", str(requirement), has, unmet.reason)
        if isinstance(outcome, VerifiedToken):
            return unmet or Allow(outcome.principal)
        if all(check.reason != outcome.reason.code for check in self._checks):
            # A check of the application's own may say something else the second time.
            self._note("validation", "a valid token", outcome)
        return failed(self._challenge, outcome)

    # The token itself

    def _explain_jwt(self, octets: bytes) -> Flow[_ReadableToken | None]:
        expected = "a signed JWT"
        if self._trust.routing is None:
            expected += "; no issuer has introspection= for opaque tokens"
        trusted = [quoted(url) for url in self._trust.urls[:_MAX_NAMED]]
        try:
            token, issuer, keys, _ = self._validator.parse(octets)
        except (Refusal, IssuerUnavailable) as error:
            # `Routing` may have refused it before.
            failure = self._failure or error
            return (yield from self._explain_untrusted(octets, expected, trusted, failure))
        self._add(_FORM, "passed", expected, "a JWT")
        self._add("issuer", "passed", " or ".join(trusted), quoted(token.claims["iss"]))
        return (yield from self._explain_signature(ParsedToken(token, issuer, keys)))

    def _explain_untrusted(
        self, octets: bytes, expected: str, trusted: list[str], failure: Failure
    ) -> Flow[_ReadableToken | None]:
        """Explain a token that cannot be parsed, or whose issuer is unknown."""
        try:
            token = jwt.parse(octets, self._max_token_bytes)
        except TokenError:
            if failure.reason not in _MALFORMED:  # `route_opaque` names no issuer
                self._add(_FORM, "passed", "any token", _form_of(octets))
                self._note("issuer", " or ".join(trusted), failure)
                self._skip("introspection", *_CLAIM_CHECKS)
                return None
            if len(octets) > self._max_token_bytes:
                self._note(_FORM, expected, failure)
            elif octets.count(b".") not in _DOTS and self._trust.routing is None:
                self._fail(_FORM, expected, "an opaque token", failure.reason, _OPAQUE_REMEDY)
            else:
                self._note(_FORM, expected, failure, _form_of(octets))
            self._skip("issuer", *_SIGNATURE_CHECKS, *_CLAIM_CHECKS)
            return None
        self._add(_FORM, "passed", expected, "a JWT")
        self._note("issuer", " or ".join(trusted), failure)
        only = self._trust.find(self._trust.urls[0]) if len(self._trust.urls) == 1 else None
        if only is None:
            self._skip(*_SIGNATURE_CHECKS, *_CLAIM_CHECKS)
            return None
        # The rest is checked by the rules of the only issuer: its name may be misspelt.
        return (yield from self._explain_signature(ParsedToken(token, *only)))

    def _explain_signature(self, parsed: ParsedToken) -> Flow[_ReadableToken]:
        """Explain the header, the key and the signature of a JWT."""
        token, issuer = parsed.token, parsed.issuer
        selected = None
        try:
            header = jwt.parse_header(token.header)
        except TokenError as error:
            self._note("header", "alg, kid and typ, and no critical extension", error)
            self._skip(*_SIGNATURE_CHECKS[1:])
            typ = None
        else:
            typ = header.typ
            self._header = {"alg": header.algorithm, "kid": header.kid, "typ": typ}
            named = f"alg {quoted(header.algorithm)}, kid {quoted(header.kid)}"
            self._add("header", "passed", "no critical extension", named)
            self._try(
                "type",
                lambda: jwt.check_type(header.typ, issuer.accepted_types),
                " or ".join(sorted(issuer.accepted_types)),
                "no typ" if header.typ is None else quoted(header.typ)[1:-1],
            )
            self._try(
                "algorithm",
                lambda: jwt_validator.check_algorithm(header.algorithm, issuer),
                " or ".join(issuer.accepted_algorithms),
                quoted(header.algorithm)[1:-1],
            )
            selected = yield from self._explain_key(parsed, header)
        if selected is None:  # the claims are checked all the same
            selected = SelectedKey(
                lambda *_: False,
                KeyValidity(self._at),
                may_be_id_token=jwt_validator.may_be_id_token(typ),
            )
        key = selected

        def validate(claims: dict[str, Any], issuer: Issuer) -> Principal:
            return self._of_claims.check_claims(claims, issuer, key).principal

        required = issuer.expected.required
        return _ReadableToken(token.claims, {}, issuer, required, validate, key.validity.key_id)

    def _explain_key(self, parsed: ParsedToken, header: jwt.Header) -> Flow[SelectedKey | None]:
        kid = "" if header.kid is None else f" with {_kid(header.kid)}"
        expected = f"a key of the issuer for {quoted(header.algorithm)[1:-1]}{kid}"
        try:
            # The first failure has the cause; a further one says only that a fetch has failed.
            if self._failure is not None and self._failure.reason is ISSUER_UNAVAILABLE:
                raise self._failure
            _, selected = yield from jwt_validator.signing_key(parsed, header)
        except IssuerUnavailable as error:
            self._note("key", expected, error)
            self._skip("signature")
            return None
        except TokenError as error:
            if error.reason is WRONG_ALGORITHM:
                self._skip("key", "signature")
                return None
            keys = (f"{_kid(key.kid)} for {'/'.join(key.algorithms)}" for key in parsed.keys.held())
            held = f"the issuer has {_named(keys)}"
            if error.reason is not BAD_SIGNATURE:
                self._note("key", expected, error, held)
                self._skip("signature")
                return None
            self._add("key", "passed", expected, held)
            self._note("signature", "that of the key", error, "not that of the key")
            return None
        self._add("key", "passed", expected, _kid(selected.validity.key_id))
        self._add("signature", "passed", "that of the key", "that of the key")
        return selected

    def _explain_response(self, octets: bytes, recorder: _Recorder) -> _ReadableToken | None:
        """Explain the issuer's response about a token."""
        issuer, options = recorder.issuer, recorder.options
        form = "a JWT" if octets.count(b".") in _DOTS else "an opaque token"
        self._add(_FORM, "passed", f"any token: {quoted(issuer.url)} introspects it", form)
        response, expected = recorder.response, "the issuer says that it is active"
        members = None if response is None else response.members
        if response is None or members is None:
            failure = cast("Failure", self._failure)  # a token without members is refused
            actual = str(failure) if response is None else "it is not active"
            self._note("introspection", expected, failure, actual)
            self._skip("issuer", *_CLAIM_CHECKS)
            return None
        self._add("introspection", "passed", expected, "it is active")

        def validate(claims: dict[str, Any], issuer: Issuer) -> Principal:
            reader = ResponseReader(issuer, options, self._hierarchy, self._lenient)
            response = IntrospectionResponse(claims)
            return reader.read(response, self._at, self._at, self._at).principal

        required = () if options.allow_missing_audience else ("aud",)
        members = members_of(members)
        described = _ReadableToken(
            members, recorder.assumed, issuer, required, validate, response.key_id
        )
        names = [quoted(name) for name in (issuer.url, *issuer.aliases)]
        self._probe(
            described,
            "issuer",
            {"iss"},
            {UNKNOWN_ISSUER},
            " or ".join(names),
            passed="the issuer's own" if "iss" not in members else quoted(members["iss"]),
        )
        return described

    # The claims

    def _explain_claims(self, token: _ReadableToken) -> Principal | None:
        """Explain the claims; return the principal, None if its claims are malformed."""
        issuer, claims, now = token.issuer, token.claims, self._at
        mapping, skew = issuer.claims, f"leeway {issuer.leeway:g} s"
        ahead = f"leeway {jwt.MAX_FUTURE} s"
        clean = "no claim of another kind of token"
        kinds = jwt_claims.KIND_CLAIMS | self._checked_binding(claims)
        self._probe(token, "kind", kinds, None, clean, passed=clean)
        self._explain_required(token)
        self._probe(
            token,
            "audience",
            top_level_names(mapping.audience),
            (WRONG_AUDIENCE, BAD_CLAIM),
            " or ".join(quoted(each) for each in sorted(issuer.expected.audience)),
            quoted(value_at(claims, mapping.audience)),
            claims=ClaimMapping(audience=mapping.audience),
        )
        for name, claim, reason, expected in (
            ("not before", "nbf", NOT_YET_VALID, f"by {utc_text(now)}, {skew}"),
            (
                "issued at",
                "iat",
                NOT_YET_VALID,
                f"by {utc_text(now)}, {ahead}",
            ),
            ("expiry", "exp", EXPIRED, f"after {utc_text(now)}, {skew}"),
        ):
            when = _when(claims.get(claim), now)
            self._probe(token, name, {claim}, (reason, BAD_CLAIM), expected, when)
        self._explain_sender(token)
        self._explain_checks(token)
        paths = (*mapping.scopes, *mapping.roles, *mapping.client)
        principal = self._probe(
            token,
            "claims",
            _WELL_FORMED.union(*map(top_level_names, paths)),
            (BAD_CLAIM,),
            "well-formed subject, client, scopes and roles",
            passed="well-formed",
            claims=ClaimMapping(scopes=mapping.scopes, roles=mapping.roles, client=mapping.client),
        )
        if principal is None:
            return None
        whole = replace(
            principal,
            issued_at=_number(claims.get("iat")),
            expires_at=_number(claims.get("exp")),
            claims=Claims(dict(claims)),
        )
        return whole.with_effective_scopes(principal.effective_scopes)

    def _checked_binding(self, claims: dict[str, Any]) -> set[str]:
        """Return the claim that says to what a token is bound, if the guard can check it."""
        if self._lenient is None:
            return set()
        try:
            bound = self._lenient.confirmations.read(claims)
        except TokenError:
            return set()  # `_explain_sender` notes it
        return set() if bound is None else {"cnf"}

    def _explain_sender(self, token: _ReadableToken) -> None:
        """Explain to which key of its sender the token is bound."""
        if self._binding is None:
            self._probe(
                token,
                "sender",
                {"cnf"},
                (SENDER_CONSTRAINED,),
                "no cnf: the token is sent as Bearer",
                "the token is bound to a key",
            )
            return
        confirmations, cnf = self._binding.confirmations, token.claims.get("cnf")
        methods = " and ".join(cnf) if isinstance(cnf, dict) else ""
        passed = "no cnf: the token is sent as Bearer"
        if methods:
            passed = (
                f"bound by {quoted(methods)[1:-1]}: each request must prove that it has the key"
            )
        rule = partial(confirmations.read, token.claims)
        self._try("sender", rule, str(confirmations), passed=passed)

    def _explain_required(self, token: _ReadableToken) -> None:
        """Explain which claims are missing: by RFC, and by `ClaimMapping(required=)`."""
        issuer, claims = token.issuer, token.claims
        mapping = issuer.claims
        names = top_level_names(mapping.audience).union(*map(top_level_names, mapping.client))
        valid = self._base(issuer) | {"sub": "-", "client_id": "-", "jti": "-", "iat": self._at}
        present = {name: value for name, value in valid.items() if name in claims}
        present |= {name: claims[name] for name in names if name in claims}
        only = ClaimMapping(audience=mapping.audience, client=mapping.client)
        self._try(
            "required claims",
            partial(token.validate, present, issuer.with_claims(only, strict=issuer.strict)),
            ", ".join(token.required) or "none",
            passed="all are there",
            reasons=(MISSING_CLAIM,),
        )
        for path, values in mapping.required_values.items():
            one = ClaimMapping(required={path: values})
            self._try(
                f"required {path}",
                partial(one.standard_claims, token.assumed | claims),
                path if values is None else f"{path} of a certain value",
                passed="it is there",
            )

    def _explain_checks(self, token: _ReadableToken) -> None:
        """Explain what the application's own checks say."""
        for check in token.issuer.checks:
            name, expected = f"check {name_of(check)}", "the check accepts the claims"
            if self._failure is None:  # it has, and is not called again
                self._add(name, "passed", expected, "accepted")
            else:
                claims = Claims(dict(token.claims))
                rule = partial(run_checks, [check], token.issuer.url, claims)
                self._try(name, rule, expected, passed="accepted")

    def _probe(  # noqa: PLR0917 - a row of the table that `_explain_claims` is
        self,
        token: _ReadableToken,
        name: str,
        examined: Collection[str],
        reasons: Collection[Reason] | None,
        expected: str,
        actual: str = "",
        *,
        passed: str = "",
        claims: ClaimMapping = ClaimMapping(),  # noqa: B008 - it is immutable
    ) -> Principal | None:
        """Validate a token that has the examined claims, and is valid in all others.

        Returns its principal, None where that fails. `claims` is the mapping that is used.
        """
        found = {each: token.claims[each] for each in examined if each in token.claims}
        if not found and not passed:
            self._add(name, "not applicable", expected, "the token has none")
            return None
        issuer = token.issuer.with_claims(claims)
        whole = self._base(issuer)
        if claims.audience != "aud":
            whole[claims.audience] = whole["aud"]
        rule = partial(token.validate, whole | found, issuer)
        return self._try(name, rule, expected, actual, passed=passed, reasons=reasons)

    def _base(self, issuer: Issuer) -> dict[str, Any]:
        """Return the claims of a token that is valid."""
        audience = min(issuer.expected.audience)
        return {"iss": issuer.url, "exp": int(self._at) + _LIFE, "aud": audience}

    # Status and revocation

    def _explain_status(
        self, principal: Principal | None, token: _ReadableToken | None
    ) -> Flow[None]:
        statuses, expected = self._trust.statuses, "VALID in the issuer's status list"
        if statuses is None or (token is not None and not token.issuer.status_lists):
            return
        if principal is None:
            self._skip("status")
            return
        verified = VerifiedToken(principal, math.inf, KeyValidity(math.inf))
        try:
            if isinstance(self._failure, StatusUnavailable):
                raise self._failure
            if self._recorder is not None or not statuses.admits(verified):
                yield from statuses.check(verified)
        except (Refusal, IssuerUnavailable) as error:
            self._note("status", expected, error)
        else:
            found = "VALID" if "status" in principal.claims else "the token names no list"
            self._add("status", "passed", expected, found)

    def _explain_revocation(
        self, principal: Principal | None, token: _ReadableToken | None
    ) -> Flow[None]:
        revocations, expected = self._revocations, "not revoked"
        if revocations is None:
            self._add("revocation", "not applicable", "nothing: the guard has no revocations=")
            return
        if principal is None or token is None:
            self._skip("revocation")
            return
        try:
            if isinstance(self._failure, RevocationsUnavailable):
                raise self._failure
            yield from revocations.ensure(token.issuer.url)
            revocations.check(principal, token.key_id)
        except (Refusal, IssuerUnavailable) as error:
            self._note("revocation", expected, error)
        else:
            self._add("revocation", "passed", expected, "not revoked")

    # Noting checks

    def _try(
        self,
        name: str,
        rule: Callable[[], T],
        expected: str,
        actual: str = "",
        *,
        passed: str = "",
        reasons: Collection[Reason] | None = None,
    ) -> T | None:
        """Note whether a rule holds, and return its result, None where it does not.

        A failure with another reason than these is another check's matter. Without `actual`, the
        failure's message or `passed` is shown.
        """
        result = None
        try:
            result = rule()
        except (Refusal, IssuerUnavailable) as error:
            if reasons is None or error.reason in reasons:
                self._note(name, expected, error, actual)
                return None
        self._add(name, "passed", expected, actual or passed)
        return result

    def _note(self, name: str, expected: str, failure: Failure, actual: str = "") -> None:
        """Note a failure: its message says what was found and, after a colon, the remedy."""
        message = failure.remedy if isinstance(failure, Refusal) else str(failure)
        found, _, remedy = message.partition(": ")
        code = failure.reason.code
        if name.startswith("check "):  # the message is the application's
            found, remedy = message, _REMEDIES["refused_by_check"]
        elif isinstance(failure, IssuerUnavailable) or not remedy:
            found, remedy = message, _REMEDIES.get(code, "")
        self._fail(name, expected, actual or found, failure.reason, remedy)

    def _fail(
        self, name: str, expected: str, actual: str, reason: Reason, remedy: str | None = None
    ) -> None:
        remedy = _REMEDIES[reason.code] if remedy is None else remedy
        reference = _REFERENCES.get(name, "")
        self._checks.append(Check(name, "failed", expected, actual, remedy, reference, reason.code))

    def _skip(self, *names: str) -> None:
        for name in names:
            self._add(name, "not reached")

    def _add(self, name: str, status: CheckStatus, expected: str = "", actual: str = "") -> None:
        reference = _REFERENCES.get(name, "")
        self._checks.append(Check(name, status, expected, actual, reference=reference))


def _form_of(token: bytes) -> str:
    """Describe the form of a token that is not a JWT."""
    return _DOTS.get(token.count(b"."), "an opaque token")


def _met(requirement: Requirement, principal: Principal, at: Moment) -> str:
    if requirement.met_by(principal.with_effective_scopes(principal.scopes), at):
        return "the token has it"
    return f"the token's scopes imply it: {quoted(sorted(principal.scopes))}"


def _kid(kid: str | None) -> str:
    return "no kid" if kid is None else f"kid {quoted(kid)}"


def _named(names: Iterable[str]) -> str:
    listed = list(names)
    more = [f"{len(listed) - _MAX_NAMED} others"] if len(listed) > _MAX_NAMED else []
    return ", ".join([*listed[:_MAX_NAMED], *more]) or "none"


def _number(value: object) -> float | None:
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def _when(value: object, now: float) -> str:
    """Return a date of the token in UTC and relative to `now`; "" for a value that is no date."""
    seconds = _number(value)
    if seconds is None or not 0 <= seconds < _MAX_DATE:
        return ""
    apart = in_words(abs(seconds - now))
    return f"{utc_text(seconds)} ({f'{apart} ago' if seconds < now else f'in {apart}'})"
