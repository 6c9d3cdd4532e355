"""The parameters of a request: from a query or a form, read strictly (RFC 6749 §3.1, §3.2).

Without a value is as if omitted; unknown ones are ignored; a repeated one is an error, except
`resource` (RFC 8707 §2). What is wrong never quotes what was sent, which may be a secret.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from bearerguard.protocol.http import form
from bearerguard.runtime.messages import Request
from bearerguard.server.http.oauth_error import OAuthError, invalid_request

MAX_BYTES = 65_536
_MAX_PARAMETERS = 100

_FORM = b"application/x-www-form-urlencoded"
# A form is ASCII that encodes UTF-8, whatever it is called: Java's clients say ISO-8859-1. What
# would be other octets is refused.
_CHARSETS = frozenset({b"utf-8", b"utf8", b"us-ascii", b"iso-8859-1"})
# What files and shells leave around a form, unencoded, is none of its last value.
_AROUND = b" \t\r\n"
_REPEATABLE = "resource"
# Whose names a log may have. Any other may be a secret that was put in the wrong place.
_NAMES = frozenset(
    {
        *("client_id", "client_secret", "client_assertion", "client_assertion_type"),
        *("code", "code_challenge", "code_challenge_method", "code_verifier", "grant_type"),
        *("nonce", "prompt", "max_age", "redirect_uri", "refresh_token", "response_mode"),
        *("response_type", "scope", "state", "token", "token_type_hint", "username", "password"),
    }
)


@dataclass(frozen=True, slots=True)
class Parameters:
    """What a request said. Names that were repeated are in `repeated`, with their first value."""

    values: Mapping[str, str] = field(repr=False)
    resources: tuple[str, ...] = ()
    repeated: frozenset[str] = frozenset()

    def get(self, name: str) -> str | None:
        """Return a parameter's value, None where it is absent or empty."""
        return self.values.get(name)

    def check(self) -> None:
        """Raise `OAuthError` if one was repeated."""
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
    """Return what a form says; raises `OAuthError` for what is no form or repeats itself."""
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
    """Whether a media type is a form's; of its parameters only the charset matters."""
    kind, *parameters = content_type.lower().split(b";")
    if kind.strip() != _FORM:
        return False
    for each in parameters:
        name, _, value = each.partition(b"=")
        if name.strip() == b"charset" and value.strip().strip(b'"') not in _CHARSETS:
            return False
    return True


def parse(octets: bytes) -> Parameters:
    """Return what a query or a form says; raises `OAuthError` for malformed encoding."""
    if len(octets) > MAX_BYTES:
        raise OAuthError(
            "invalid_request", "The request is too large", reason="too_large", status=413
        )
    pairs = [pair.partition(b"=") for pair in octets.split(b"&") if pair]
    if len(pairs) > _MAX_PARAMETERS:
        raise invalid_request("There are too many parameters", "too_many_parameters")
    values: dict[str, str] = {}
    resources: list[str] = []
    seen: set[str] = set()
    repeated: set[str] = set()
    for encoded_name, _, encoded_value in pairs:
        try:
            name, value = form.decode(encoded_name), form.decode(encoded_value)
        except form.FormError as error:
            raise invalid_request(str(error), error.reason) from None
        if name == _REPEATABLE:
            resources += [value] if value else []
            continue
        if name in seen:
            repeated.add(name)
            continue
        seen.add(name)
        if value:
            values[name] = value
    return Parameters(values, tuple(dict.fromkeys(resources)), frozenset(repeated))
