"""Which tokens are validated here, and which issuer introspects the others.

A JWT is never sent to an issuer because it is invalid here. An opaque token goes to the one
issuer that introspects, or to the one that `route_opaque` names: trying several would send one
issuer's token to another.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

from bearerguard.errors import (
    MALFORMED_TOKEN,
    UNKNOWN_ISSUER,
    ConfigurationError,
    IssuerUnavailable,
    TokenError,
    quoted,
)
from bearerguard.guard import introspection
from bearerguard.guard.config.issuer import Issuer
from bearerguard.protocol.http import credentials
from bearerguard.protocol.jose import jwt

RouteOpaque: TypeAlias = Callable[[str], "Issuer | str | None"]
"""Returns the issuer of an opaque token, or the issuer's url; None for an unknown token."""

# The dots in a JWS and in a JWE: a token with as many is a JWT, perhaps a malformed one.
_DOTS = frozenset({2, 4})


def check_routes(issuers: Sequence[Issuer], route_opaque: RouteOpaque | None) -> None:
    """Raise `ConfigurationError` unless it is clear which issuer introspects an opaque token."""
    asked = [issuer.url for issuer in issuers if issuer.introspection is not None]
    if route_opaque is None:
        if len(asked) > 1:
            raise ConfigurationError(
                f"introspection=: {quoted(asked[0])} and {quoted(asked[1])} both introspect: pass"
                " route_opaque= to the Guard, a callable that returns the issuer of a token"
            )
    elif not callable(route_opaque):
        raise ConfigurationError("route_opaque=: pass a callable that takes a token")
    elif not asked:
        raise ConfigurationError("route_opaque=: no issuer has introspection=")


class Routing:
    """The introspectors of a guard, and which of them gets which token."""

    def __init__(
        self,
        introspectors: Sequence[introspection.Introspector],
        route_opaque: RouteOpaque | None,
        max_token_bytes: int = jwt.MAX_TOKEN_BYTES,
    ) -> None:
        self._max_token_bytes = max_token_bytes
        # By url and by alias: either leads to the same introspector.
        self._named: Mapping[str, introspection.Introspector] = {
            name: each for each in introspectors for name in (each.issuer.url, *each.issuer.aliases)
        }
        self._route = route_opaque
        self._only = introspectors[0] if len(introspectors) == 1 else None
        self._asks_about_jwts = any(map(_takes_all, introspectors))

    def introspector(self, token: bytes) -> introspection.Introspector | None:
        """Return the introspector of a token, None if the token is validated here.

        Raises `TokenError` for a malformed token and for one that `route_opaque` does not know,
        and `IssuerUnavailable` if `route_opaque` fails.
        """
        if token.count(b".") not in _DOTS:
            return self._opaque(token)
        return self._of_jwt(token) if self._asks_about_jwts else None

    def _of_jwt(self, token: bytes) -> introspection.Introspector | None:
        """Return the introspector of a JWT whose issuer introspects JWTs too, else None."""
        try:
            name = jwt.parse(token, self._max_token_bytes).claims.get("iss")
        except TokenError:
            name = None  # perhaps encrypted for its issuer
        if isinstance(name, str):
            named = self._named.get(name)
            return named if named is not None and _takes_all(named) else None
        receiver = self._opaque(token) if self._only is None else self._only
        return receiver if _takes_all(receiver) else None

    def _opaque(self, token: bytes) -> introspection.Introspector:
        # Checked first: neither an issuer nor `route_opaque` gets anything else.
        if not credentials.is_token68(token):
            raise TokenError(MALFORMED_TOKEN, "it has characters that no bearer token has")
        if self._route is None and self._only is not None:
            return self._only
        name, introspector = self._chosen(token)
        if name is None:
            raise TokenError(UNKNOWN_ISSUER, "route_opaque= knows no issuer for it")
        if introspector is None:
            raise _unroutable("named no issuer with introspection=")
        return introspector

    def _chosen(self, token: bytes) -> tuple[object, introspection.Introspector | None]:
        try:
            chosen = self._route(token.decode("latin-1")) if self._route is not None else None
            name = chosen.url if isinstance(chosen, Issuer) else chosen
            return name, None if name is None else self._named.get(name)
        except Exception as error:  # not the fault of the token
            raise _unroutable(f"raised {type(error).__name__}") from error


def _unroutable(cause: str) -> IssuerUnavailable:
    # The issuer is None, not "route_opaque=": an issuer may have any name.
    return IssuerUnavailable(None, 1, f"route_opaque= {cause}")


def _takes_all(introspector: introspection.Introspector) -> bool:
    return introspector.issuer.tokens == "opaque"
