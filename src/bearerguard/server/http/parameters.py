"""The parameters of a request: from a query or a form, read strictly (RFC 6749 §3.1, §3.2).

A parameter without a value counts as absent, an unknown one is ignored, a repeated one is an error
unless it is `resource` (RFC 8707 §2) or `audience` (RFC 8693 §2.1). No error quotes a value, which
may be a secret.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from bearerguard.protocol import names
from bearerguard.protocol.http import form
from bearerguard.runtime.messages import Request
from bearerguard.server.http.oauth_error import OAuthError, invalid_request

MAX_BYTES = 65_536
_MAX_PARAMETERS = 100

_FORM = names.FORM.encode()
# A form is ASCII that encodes UTF-8, whatever the charset says: Java clients send ISO-8859-1. Other
# octets are refused.
_CHARSETS = frozenset({b"utf-8", b"utf8", b"us-ascii", b"iso-8859-1"})
# White space that files and shells leave around a form does not belong to its last value.
_AROUND = b" \t\r\n"
_RESOURCE, _AUDIENCE = "resource", "audience"
# Names that may be logged. Any other name may be a secret in the wrong place.
_NAMES = frozenset(
    {
        *("client_id", "client_secret", "client_assertion", "client_assertion_type"),
        *("code", "code_challenge", "code_challenge_method", "code_verifier", "grant_type"),
        *("nonce", "prompt", "max_age", "redirect_uri", "refresh_token", "response_mode"),
        *("response_type", "scope", "state", "token", "token_type_hint", "username", "password"),
        *("assertion", "actor_token", "actor_token_type", "requested_token_type"),
        *("subject_token", "subject_token_type", "device_code", "user_code"),
    }
)


@dataclass(frozen=True, slots=True)
class Parameters:
    """The parameters of a request.

    Args:
        values: by name, `resource` excepted; of repeated ones the first value.
        resources: the values of `resource`, each once.
        repeated: the names that were repeated.
        audiences: the values of `audience`, each once.
        confirmation: the key that the request proves to hold, as the claim `cnf` of tokens that
            are bound to it: `{"jkt": thumbprint}` (RFC 9449 §6.1). Empty without a proof.
    """

    values: Mapping[str, str] = field(repr=False)
    resources: tuple[str, ...] = ()
    repeated: frozenset[str] = frozenset()
    audiences: tuple[str, ...] = ()
    confirmation: Mapping[str, str] = field(default_factory=dict)

    def get(self, name: str) -> str | None:
        """Return a parameter's value, or None if it is absent or empty."""
        return self.values.get(name)

    def check(self) -> None:
        """Raise `OAuthError` if a parameter was repeated."""
        if self.repeated:
            names = [name for name in self.repeated if name in _NAMES] or ["another"]
            raise invalid_request(
                "A parameter is repeated", "repeated_parameter", parameter=" ".join(sorted(names))
            )

    def required(self, name: str) -> str:
        """Return a parameter's value; raises `OAuthError` if it is absent."""
        value = self.values.get(name)
        if value is None:
            raise invalid_request(
                f"The parameter {name} is missing", "missing_parameter", parameter=name
            )
        return value


def from_form(request: Request) -> Parameters:
    """Return the parameters of a form; raises `OAuthError` if it is none, or repeats one."""
    types = request.values(b"content-type")
    if len(types) != 1 or not _is_form(types[0]):
        raise invalid_request(
            "The body must be application/x-www-form-urlencoded",
            "no_form",
            content_type=b", ".join(types).decode("latin-1"),
        )
    parameters = parse(request.body.strip(_AROUND))
    parameters.check()
    return parameters


def _is_form(content_type: bytes) -> bool:
    """Whether a media type is that of a form. Of its parameters, only the charset matters."""
    if content_type == _FORM:
        return True
    kind, *parameters = content_type.lower().split(b";")
    if kind.strip() != _FORM:
        return False
    for each in parameters:
        name, _, value = each.partition(b"=")
        if name.strip() == b"charset" and value.strip().strip(b'"') not in _CHARSETS:
            return False
    return True


def parse(octets: bytes) -> Parameters:
    """Return the parameters of a query or a form; raises `OAuthError` if it is malformed."""
    if len(octets) > MAX_BYTES:
        raise OAuthError(
            "invalid_request", "The request is too large", reason="too_large", status=413
        )
    pairs = [pair.partition(b"=") for pair in octets.split(b"&") if pair]
    if len(pairs) > _MAX_PARAMETERS:
        raise invalid_request("There are too many parameters", "too_many_parameters")
    values: dict[str, str] = {}
    targets: dict[str, list[str]] = {_RESOURCE: [], _AUDIENCE: []}
    seen: set[str] = set()
    repeated: set[str] = set()
    for encoded_name, _, encoded_value in pairs:
        try:
            name, value = form.decode(encoded_name), form.decode(encoded_value)
        except form.FormError as error:
            raise invalid_request(str(error), error.reason) from None
        if name in targets:
            targets[name] += [value] if value else []
            if value and name == _AUDIENCE:
                values.setdefault(name, value)
            continue
        if name in seen:
            repeated.add(name)
            continue
        seen.add(name)
        if value:
            values[name] = value
    resources, audiences = (tuple(dict.fromkeys(each)) for each in targets.values())
    return Parameters(values, resources, frozenset(repeated), audiences)
