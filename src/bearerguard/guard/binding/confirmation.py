"""The claim `cnf`: to which key of its sender a token is bound (RFC 7800 §3.1).

Owns which methods there are and what their values look like. How a request proves the possession of
the key is in `binding`.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from bearerguard.errors import BAD_CLAIM, UNBOUND, TokenError
from bearerguard.guard.token_cache import BoundTo
from bearerguard.protocol.jose.thumbprint import is_thumbprint
from bearerguard.protocol.jwt_claims import unchecked_binding


class Confirmations:
    """Reads the `cnf` of tokens whose signature is valid.

    Args:
        methods: those that the guard can check; a token with another one is refused, since it is
            not known what would have to be proved.
        required: the method that every token must have, None for none.
    """

    def __init__(self, methods: Collection[str], required: str | None = None) -> None:
        self._methods = frozenset(methods)
        self._required = required

    def without_requirement(self) -> Confirmations:
        """Return what reads tokens that need no `cnf`."""
        return Confirmations(self._methods)

    def __str__(self) -> str:
        known = " or ".join(sorted(self._methods))
        return f"cnf with {self._required or known}" + ("" if self._required else ", or no cnf")

    def read(self, claims: dict[str, Any]) -> BoundTo | None:
        """Return to what a token is bound, None for a bearer token; raises `TokenError`."""
        cnf = claims.get("cnf")
        if cnf is None:
            if self._required is not None:
                raise TokenError(
                    UNBOUND,
                    f"it has no cnf with {self._required}: let the issuer bind this client's"
                    " tokens to its key",
                )
            return None
        if not isinstance(cnf, dict) or not cnf:
            raise TokenError(BAD_CLAIM, "its cnf is no object with a confirmation method")
        for method, value in cnf.items():
            if method not in self._methods:
                raise unchecked_binding({method: value})
            if not is_thumbprint(value):
                raise TokenError(BAD_CLAIM, f"its cnf has a {method} that is no thumbprint")
        if self._required is not None and self._required not in cnf:
            raise TokenError(UNBOUND, f"its cnf has no {self._required}")
        return BoundTo(dict(cnf))
