"""What an OpenAPI document says of a guard: its security schemes, and what an operation requires.

Nothing is fetched for it: a scheme names where the issuer's metadata is.
"""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from bearerguard.guard.config.issuer import Issuer
from bearerguard.guard.config.requirement import Requirement
from bearerguard.guard.guard import Guard
from bearerguard.protocol import metadata

_NAME = "bearer"
# A name of a component has no other characters (OpenAPI 3.1, §4.8.7.1).
_NO_NAME = re.compile(r"[^A-Za-z0-9._-]")


def security_schemes(guard: Guard) -> dict[str, dict[str, str]]:
    """Return the Security Scheme Objects of a guard by their names, one for each issuer.

    It is `openIdConnect` where the issuer's metadata is discovered, else `http` with `bearer`.
    """
    issuers = guard.issuers
    if len(issuers) == 1:
        return {_NAME: _scheme(issuers[0])}
    schemes: dict[str, dict[str, str]] = {}
    for number, issuer in enumerate(issuers, 1):
        host = _NO_NAME.sub("-", urlsplit(issuer.url).netloc)
        name = f"{_NAME}-{host}" if host else f"{_NAME}-{number}"
        schemes[f"{name}-{number}" if name in schemes else name] = _scheme(issuer)
    return schemes


def security_requirements(
    guard: Guard, requirement: Requirement | None, *, optional: bool = False
) -> list[dict[str, list[str]]]:
    """Return the Security Requirement Objects of an operation: any one of them suffices.

    Scopes are those that the challenge to a request without a token names. `optional`: whether
    requests without a token pass.
    """
    advertised = None if requirement is None else requirement.advertised_scope()
    scopes = [] if advertised is None else advertised.split()
    anonymous: list[dict[str, list[str]]] = [{}] if optional else []
    # OpenAPI 3.0 knows scopes for these schemes alone.
    return anonymous + [
        {name: [*scopes] if scheme["type"] == "openIdConnect" else []}
        for name, scheme in security_schemes(guard).items()
    ]


def metadata_url(issuer: Issuer) -> str | None:
    """Return the URL of an issuer's metadata, None if it is not discovered."""
    given = (issuer.keys, issuer.shared_secret, issuer.jwks_uri, issuer.tenants)
    if any(each is not None for each in given):
        return None
    return issuer.discovery_url or issuer.url.removesuffix("/") + metadata.OPENID_PATH


def _scheme(issuer: Issuer) -> dict[str, str]:
    url = metadata_url(issuer)
    if url is not None:
        return {"type": "openIdConnect", "openIdConnectUrl": url}
    scheme = {"type": "http", "scheme": "bearer"}
    return scheme if issuer.tokens == "opaque" else {**scheme, "bearerFormat": "JWT"}
