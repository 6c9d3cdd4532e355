"""Claim mapping, for issuers that do not follow RFC 9068.

Pure: returns a token's claims under their standard names, for the checks and the principal. An
issuer without a mapping adds no work per token.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias, cast

from bearerguard.errors import BAD_CLAIM, MISSING_CLAIM, ConfigurationError, TokenError
from bearerguard.guard.config.names import Names, names
from bearerguard.principal import Claims

RequiredClaims: TypeAlias = Mapping[str, str | bool | Sequence[str | bool] | None] | Names

_REQUIRED_REMEDY = (
    "pass claim names, or a dict from claim name to the value, or the list of values, that the"
    " claim must have"
)


@dataclass(frozen=True, slots=True)
class ClaimMapping:
    """Which claims hold scopes, roles, client and audience, and which claims are required.

    Each option names one claim or several. A name may be a path with dots, such as
    `realm_access.roles`; a claim whose own name contains the dots takes precedence.

    Args:
        scopes: the claims that hold scopes; all that are present are combined. `scope`, else `scp`,
            by default.
        roles: the claims that hold roles; all that are present are combined. `roles` by default.
        client: the claims that hold the client id; the first that is present is used. `client_id`,
            else `azp`, by default.
        audience: the claim that is compared with the issuer's `audience=`.
        required: claims that must be present: their names, or a dict from name to value. The value
            is the one that the claim must have, a list of which it must have one, or None for any.

    Raises:
        ConfigurationError: an option is malformed.
    """

    scopes: Names = ()
    roles: Names = ()
    client: Names = ()
    audience: str = "aud"
    required: RequiredClaims = ()
    _demanded: tuple[tuple[str, frozenset[str | bool] | None], ...] = field(
        init=False, repr=False, compare=False
    )

    def __post_init__(self) -> None:
        for option in ("scopes", "roles", "client"):
            object.__setattr__(self, option, _paths(option, getattr(self, option)))
        if not isinstance(self.audience, str) or not self.audience:
            raise ConfigurationError('audience=: pass the name of a claim, such as "aud"')
        # The caller's lists and dicts become immutable, comparable and hashable.
        required = Claims({path: _values(value) for path, value in _named(self.required)})
        object.__setattr__(self, "required", required)
        object.__setattr__(
            self,
            "_demanded",
            tuple((path, None if v is None else frozenset(v)) for path, v in required.items()),
        )

    @property
    def required_values(self) -> Claims:
        """The claims that are required: the values allowed by name, None for any value."""
        return cast("Claims", self.required)

    def completed_by(self, defaults: ClaimMapping) -> ClaimMapping:
        """Return this mapping, with `defaults` for the options that it leaves out.

        The claims that either requires are required. If both require a claim, the values of this
        mapping apply.
        """
        return replace(
            self,
            scopes=self.scopes or defaults.scopes,
            roles=self.roles or defaults.roles,
            client=self.client or defaults.client,
            audience=defaults.audience if self.audience == "aud" else self.audience,
            required={**dict(_named(defaults.required)), **dict(_named(self.required))},
        )

    def standard_claims(self, claims: dict[str, Any], issuer: str | None = None) -> dict[str, Any]:
        """Return the claims under their standard names, with `issuer` as `iss` if it is given.

        Raises `TokenError` if a required claim is missing or has a wrong value, and if a claim is
        malformed.
        """
        for path, values in self._demanded:
            _check(claims, path, values)
        standard = dict(claims)
        if issuer is not None:
            standard["iss"] = issuer
        if self.audience != "aud":
            standard["aud"] = value_at(claims, self.audience)
        if self.scopes:
            standard["scope"] = " ".join(_texts(claims, self.scopes))
        if self.roles:
            standard["roles"] = _texts(claims, self.roles)
        if self.client:
            clients = _texts(claims, self.client)
            standard["client_id"] = clients[0] if clients else None
        return {name: value for name, value in standard.items() if value is not None}


def _paths(option: str, given: object) -> tuple[str, ...]:
    if isinstance(given, list | tuple) and not given:
        return ()
    remedy = 'pass a claim or a list of claims, each a name or a path such as "realm_access.roles"'
    return tuple(names(option, given, remedy))


def _named(required: object) -> list[tuple[str, Any]]:
    """Return each required claim with the value, or the values, that it must have."""
    if isinstance(required, list | tuple) and not required:
        return []
    if not isinstance(required, Mapping):
        return [(path, None) for path in names("required", required, _REQUIRED_REMEDY)]
    if not all(isinstance(path, str) and path for path in required):
        raise ConfigurationError(f"required=: {_REQUIRED_REMEDY}")
    return list(required.items())


def _values(value: object) -> tuple[str | bool, ...] | None:
    if value is None:
        return None
    values = [value] if isinstance(value, str | bool) else value
    if (
        not isinstance(values, list | tuple | set | frozenset)
        or not values
        or not all(isinstance(each, str | bool) for each in values)
    ):
        raise ConfigurationError(f"required=: {_REQUIRED_REMEDY}")
    return tuple(sorted(set(values), key=repr))


def _check(claims: Mapping[str, Any], path: str, values: frozenset[str | bool] | None) -> None:
    value = value_at(claims, path)
    if value is None:
        raise TokenError(MISSING_CLAIM, f"it has no {path}, which ClaimMapping(required=) requires")
    members = value if isinstance(value, list) else [value]
    # Numbers are left out: in Python 1 == True, in JSON 1 is not true.
    plain = [each for each in members if isinstance(each, str | bool)]
    if values is not None and values.isdisjoint(plain):
        raise TokenError(
            BAD_CLAIM, f"its {path} has none of the values that ClaimMapping(required=) allows"
        )


def _texts(claims: Mapping[str, Any], paths: Sequence[str]) -> list[str]:
    """Return the strings at these paths, each an array of strings or one string."""
    texts: list[str] = []
    for path in paths:
        value = value_at(claims, path)
        members = value if isinstance(value, list) else [] if value is None else [value]
        if not all(isinstance(member, str) for member in members):
            raise TokenError(BAD_CLAIM, f"its {path} is neither a string nor an array of strings")
        texts += members
    return texts


def top_level_names(path: str) -> set[str]:
    """Return the names of the top-level claims in which a path may begin."""
    return {head for head, _ in _splits(path)}


def value_at(claims: Mapping[str, Any], path: str) -> Any:
    """Return the value at a path, None if it is absent or null."""
    for head, rest in _splits(path):
        value = claims.get(head)
        if rest:
            value = value_at(value, rest) if isinstance(value, Mapping) else None
        if value is not None:
            return value
    return None


def _splits(path: str) -> Iterator[tuple[str, str]]:
    """Yield all splits of a path into a claim's name and the rest, the longest name first."""
    yield path, ""
    end = path.rfind(".")
    while end > 0:
        yield path[:end], path[end + 1 :]
        end = path.rfind(".", 0, end)
