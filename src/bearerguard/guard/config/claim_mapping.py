"""Claims of providers that name things their own way, read as if they followed RFC 9068.

Pure: makes, of a token's claims, those that the checks and the principal are made from. An
issuer without a mapping costs its tokens nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from bearerguard.errors import BAD_CLAIM, MISSING_CLAIM, ConfigurationError, TokenError

RequiredClaims: TypeAlias = Mapping[str, str | bool | Sequence[str] | None] | Sequence[str]


@dataclass(frozen=True, slots=True)
class ClaimMapping:
    """Which claims of an issuer's tokens mean what; paths are dotted, `realm_access.roles`.

    A claim whose own name has dots in it is found as well: the longest name that is there
    comes first. `issuer` is the one name of an issuer whose tokens spell it in several ways.
    """

    issuer: str | None
    scope_claims: tuple[str, ...]
    role_claims: tuple[str, ...]
    client_claims: tuple[str, ...]
    audience_claim: str
    required: tuple[tuple[str, frozenset[str | bool] | None], ...]

    def seen(self, claims: dict[str, Any]) -> dict[str, Any]:
        """Return the claims under their standard names; raises `TokenError` for unfit ones."""
        for path, values in self.required:
            self._check(claims, path, values)
        seen = dict(claims)
        if self.issuer is not None:
            seen["iss"] = self.issuer
        if self.audience_claim != "aud":
            seen["aud"] = _found(claims, self.audience_claim)
        if self.scope_claims:
            texts = _texts(claims, self.scope_claims)
            seen["scope"] = " ".join(texts)
        if self.role_claims:
            seen["roles"] = _texts(claims, self.role_claims)
        if self.client_claims:
            clients = _texts(claims, self.client_claims)
            seen["client_id"] = clients[0] if clients else None
        return {name: value for name, value in seen.items() if value is not None}

    def _check(
        self, claims: Mapping[str, Any], path: str, values: frozenset[str | bool] | None
    ) -> None:
        value = _found(claims, path)
        if value is None:
            raise TokenError(MISSING_CLAIM, f"it has no {path}, which required_claims= demands")
        members = value if isinstance(value, list) else [value]
        plain = [each for each in members if isinstance(each, str | bool)]
        if values is not None and values.isdisjoint(plain):
            raise TokenError(
                BAD_CLAIM,
                f"its {path} is none of those that required_claims= demands",
            )


def mapping_of(
    *,
    issuer: str | None,
    scope_claims: object,
    role_claims: object,
    client_claims: object,
    audience_claim: object,
    required_claims: object,
) -> ClaimMapping | None:
    """Return the mapping that the options describe, None where they leave all as it is.

    Raises `ConfigurationError` naming the option that is malformed.
    """
    if not isinstance(audience_claim, str) or not audience_claim:
        raise ConfigurationError('audience_claim=: pass the name of a claim, such as "aud"')
    mapping = ClaimMapping(
        issuer,
        _paths("scope_claims", scope_claims),
        _paths("role_claims", role_claims),
        _paths("client_claims", client_claims),
        audience_claim,
        _required(required_claims),
    )
    return None if mapping == _AS_IT_IS else mapping


_AS_IT_IS = ClaimMapping(None, (), (), (), "aud", ())


def _paths(option: str, given: object) -> tuple[str, ...]:
    if not isinstance(given, list | tuple) or not all(
        isinstance(path, str) and path for path in given
    ):
        raise ConfigurationError(
            f'{option}=: pass a list of claims, each a name or a path such as "realm_access.roles"'
        )
    return tuple(given)


def _required(given: object) -> tuple[tuple[str, frozenset[str | bool] | None], ...]:
    names = given if isinstance(given, Mapping) else _paths("required_claims", given)
    wanted = names if isinstance(names, Mapping) else dict.fromkeys(names)
    required: list[tuple[str, frozenset[str | bool] | None]] = []
    for path, value in wanted.items():
        values = [value] if isinstance(value, str | bool) else value
        if (
            not isinstance(path, str)
            or not path
            or not isinstance(values, list | tuple | set | frozenset | None)
            or (
                values is not None
                and not (values and all(isinstance(each, str | bool) for each in values))
            )
        ):
            raise ConfigurationError(
                "required_claims=: pass names of claims, or a dict of names and the value, or"
                " the list of values, that each must have"
            )
        required.append((path, None if values is None else frozenset(values)))
    return tuple(required)


def _texts(claims: Mapping[str, Any], paths: Sequence[str]) -> list[str]:
    """Return the texts that stand at these paths, each an array of texts or one text."""
    texts: list[str] = []
    for path in paths:
        value = _found(claims, path)
        members = value if isinstance(value, list) else [] if value is None else [value]
        if not all(isinstance(member, str) for member in members):
            raise TokenError(BAD_CLAIM, f"its {path} is neither a string nor an array of strings")
        texts += members
    return texts


def _found(claims: Mapping[str, Any], path: str) -> Any:
    """Return what stands at a path, None where nothing or null does."""
    for head, rest in _splits(path):
        value = claims.get(head)
        if rest:
            value = _found(value, rest) if isinstance(value, Mapping) else None
        if value is not None:
            return value
    return None


def _splits(path: str) -> Iterator[tuple[str, str]]:
    """Return all ways to take a claim's name from the front of a path, the longest first."""
    yield path, ""
    end = path.rfind(".")
    while end > 0:
        yield path[:end], path[end + 1 :]
        end = path.rfind(".", 0, end)
