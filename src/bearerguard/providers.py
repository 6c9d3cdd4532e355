"""Presets for common identity providers: each function returns an `Issuer`.

Each function only sets options of `Issuer`. `options` are further options of `Issuer`; they
override the preset, except that the claims which a preset requires stay required. As of 2026;
docs/providers.md has a table.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Final, Unpack

from bearerguard.errors import ConfigurationError, quoted
from bearerguard.guard.config.claim_mapping import ClaimMapping, RequiredClaims
from bearerguard.guard.config.issuer import Issuer, IssuerOptions
from bearerguard.guard.config.key_policy import KeyPolicy
from bearerguard.guard.config.names import Names, names

_ANY_TYPE: Final = ("at+jwt", "JWT")
_OTHER_SOURCES = frozenset({"keys", "discovery_url", "shared_secret"})
_GUID = re.compile(r"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}")
_SERVICE_ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount/token"


def auth0(domain: str, *, audience: Names, **options: Unpack[IssuerOptions]) -> Issuer:
    """Return the tenant at `domain`, such as "example.eu.auth0.com"; `permissions` become roles."""
    return _issuer(
        f"https://{_host('domain', domain)}/",
        options,
        audience=audience,
        jwks_uri=f"https://{domain}/.well-known/jwks.json",
        token_types=_ANY_TYPE,
        claims=ClaimMapping(roles="permissions"),
        hints={
            "encrypted_token": "Auth0 does so when no API was asked for: request the token with"
            " the audience= of the API"
        },
    )


def okta(
    domain: str,
    *,
    audience: Names,
    authorization_server: str | None = "default",
    **options: Unpack[IssuerOptions],
) -> Issuer:
    """Return a custom authorization server of Okta, or with None the organisation's own.

    The tokens of the organisation's own server are meant for Okta alone and cannot be validated
    here: it needs `introspection`.
    """
    base = f"https://{_host('domain', domain)}"
    if authorization_server is None:
        if options.get("introspection") is None:
            raise ConfigurationError(
                "authorization_server=: the access tokens of Okta's organisation server are for"
                " Okta's own APIs, and must not be validated by others: use a custom"
                " authorization server, or pass introspection="
            )
        return _issuer(base, options, audience=audience, tokens="opaque")
    url = f"{base}/oauth2/{_part('authorization_server', authorization_server)}"
    return _issuer(
        url,
        options,
        audience=audience,
        jwks_uri=f"{url}/v1/keys",
        token_types=_ANY_TYPE,
        claims=ClaimMapping(
            scopes="scp",
            client="cid",
            roles="groups",
            required="cid",  # an ID token has none
        ),
    )


def entra(
    tenant: str | None = None,
    *,
    audience: Names,
    version: int = 2,
    **options: Unpack[IssuerOptions],
) -> Issuer:
    """Return a tenant of Microsoft Entra ID by its GUID, or with `tenants=` several.

    `version` is that of the API's access tokens (`requestedAccessTokenVersion`): each has an
    issuer of its own, and `entra_both_versions` accepts both. `audience` is the API's client id,
    its App ID URI, or both.
    """
    tenants = options.get("tenants")
    if (tenant is None) is (tenants is None):
        raise ConfigurationError("entra(): pass a tenant, or tenants= for an API with several")
    for each in [tenant] if tenants is None else () if callable(tenants) else tenants:
        if not isinstance(each, str) or not _GUID.fullmatch(each):
            raise ConfigurationError(
                f"tenant: {quoted(each)} is never in a token's iss: pass the tenant's GUID in lower"
                " case, or tenants= for an API with several"
            )
    if version not in {1, 2}:
        raise ConfigurationError("version=: access tokens have version 1 or 2")
    name = tenant or "{tenant}"
    login = f"https://login.microsoftonline.com/{name}"
    newer = version == 2  # noqa: PLR2004 - as Microsoft counts
    given = names("audience", audience)
    return _issuer(
        f"{login}/v2.0" if newer else f"https://sts.windows.net/{name}/",
        options,
        # One API is called by its client id in some tokens and by its URI in others.
        audience=[*given, *(f"api://{each}" for each in given if _GUID.fullmatch(each))],
        jwks_uri=f"{login}/discovery/v2.0/keys" if newer else f"{login}/discovery/keys",
        token_types=("JWT",),
        claims=ClaimMapping(
            scopes="scp",
            client=("azp", "appid"),
            required="azp" if newer else "appid",  # an ID token has neither
        ),
    )


def entra_both_versions(
    tenant: str | None = None, *, audience: Names, **options: Unpack[IssuerOptions]
) -> tuple[Issuer, Issuer]:
    """Return the issuers of version 2 and version 1: `Guard(*entra_both_versions(...))`."""
    if "version" in options:
        raise ConfigurationError("version=: leave it out, or use entra() for one version alone")
    newer, older = (
        entra(tenant, audience=audience, version=version, **options) for version in (2, 1)
    )
    return newer, older


def cognito(
    region: str, user_pool: str, *, client_ids: Names, **options: Unpack[IssuerOptions]
) -> Issuer:
    """Return a user pool; its access tokens have `client_id` instead of `aud`."""
    host = f"cognito-idp.{_part('region', region)}.amazonaws.com"
    url = f"https://{host}/{_part('user_pool', user_pool)}"
    return _issuer(
        url,
        options,
        audience=client_ids,
        jwks_uri=f"{url}/.well-known/jwks.json",
        token_types=("JWT",),
        claims=ClaimMapping(
            audience="client_id", roles="cognito:groups", required={"token_use": "access"}
        ),
    )


def keycloak(
    base: str,
    realm: str,
    *,
    audience: Names,
    clients: Names = (),
    **options: Unpack[IssuerOptions],
) -> Issuer:
    """Return a realm of the Keycloak at `base`; with `clients`, their client roles count too."""
    listed = names("clients", clients) if clients else []
    hint = (
        "in Keycloak, add a mapper of type Audience to a client scope of the calling client, and"
        " include this API's client in it"
    )
    return _issuer(
        f"{str(base).rstrip('/')}/realms/{_part('realm', realm)}",
        options,
        audience=audience,
        token_types=_ANY_TYPE,
        claims=ClaimMapping(
            roles=("realm_access.roles", *(f"resource_access.{each}.roles" for each in listed)),
            required={"typ": "Bearer"},  # a claim; ID tokens have ID, logout tokens Logout
        ),
        hints={"wrong_audience": hint, "missing_claim": hint},
    )


def google(
    *, audience: Names, service_accounts: Names | None = None, **options: Unpack[IssuerOptions]
) -> Issuer:
    """Return Google, for the ID tokens that services send to each other.

    Everybody with a Google account can get a token for any audience. `service_accounts` are the
    e-mail addresses that may call; without them, require something else.
    """
    callers: RequiredClaims = {}
    if service_accounts is not None:  # an empty list is refused: it does not mean everybody
        callers = {"email": names("service_accounts", service_accounts), "email_verified": True}
    return _issuer(
        "https://accounts.google.com",
        options,
        aliases=("accounts.google.com",),
        audience=audience,
        jwks_uri="https://www.googleapis.com/oauth2/v3/certs",
        accept_id_tokens=True,
        claims=ClaimMapping(required=callers),
    )


def firebase(project: str, **options: Unpack[IssuerOptions]) -> Issuer:
    """Return Firebase Authentication of a project, whose ID tokens apps send to an API."""
    return _issuer(
        f"https://securetoken.google.com/{project}",
        options,
        audience=project,
        jwks_uri="https://www.googleapis.com/robot/v1/metadata/x509/"
        "securetoken@system.gserviceaccount.com",
        accept_id_tokens=True,
        algorithms=("RS256",),
        claims=ClaimMapping(required=("sub", "auth_time")),
    )


def kubernetes(
    *,
    audience: Names,
    issuer: str = "https://kubernetes.default.svc.cluster.local",
    token_file: str | Path | None = _SERVICE_ACCOUNT,
    **options: Unpack[IssuerOptions],
) -> Issuer:
    """Return a cluster, whose service accounts call with projected tokens.

    Fetching its keys needs the token in `token_file`, which the kubelet renews, and the cluster's
    own certificate authority: pass the guard
    `transport=HttpTransport(ssl_context=ssl.create_default_context(cafile=...))` with the
    `ca.crt` of the same directory.
    """
    return _issuer(
        issuer,
        options,
        audience=audience,
        jwks_uri="https://kubernetes.default.svc/openid/v1/jwks",
        key_policy=KeyPolicy(token=None if token_file is None else _content_of(Path(token_file))),
        token_types=("JWT",),
    )


def github_actions(
    *,
    audience: Names,
    repository: Names | None = None,
    repository_owner: Names | None = None,
    ref: Names | None = None,
    environment: Names | None = None,
    **options: Unpack[IssuerOptions],
) -> Issuer:
    """Return GitHub Actions, whose workflows call with ID tokens.

    Any workflow of anybody can get a token for any audience, so `repository` or
    `repository_owner` is required too; each option is one name or several.
    """
    given = names("audience", audience)
    if any(each.startswith("https://github.com/") for each in given):
        raise ConfigurationError(
            "audience=: this is GitHub's default when a workflow names none: let workflows ask for"
            " an audience of this API's own"
        )
    if repository is None and repository_owner is None:
        raise ConfigurationError(
            "github_actions(): pass repository= or repository_owner=: any workflow of anybody"
            " can get a token for this audience"
        )
    wanted = {
        "repository": repository,
        "repository_owner": repository_owner,
        "ref": ref,
        "environment": environment,
    }
    url = "https://token.actions.githubusercontent.com"
    return _issuer(
        url,
        options,
        audience=given,
        jwks_uri=f"{url}/.well-known/jwks",
        accept_id_tokens=True,
        claims=ClaimMapping(
            required={name: value for name, value in wanted.items() if value is not None}
        ),
    )


def _issuer(
    url: str, options: IssuerOptions, *, audience: Names, **preset: Unpack[IssuerOptions]
) -> Issuer:
    """Return an issuer with `options`, completed by the preset."""
    chosen: IssuerOptions = {**preset, **options}
    if not _OTHER_SOURCES.isdisjoint(options):
        if "jwks_uri" not in options:
            chosen.pop("jwks_uri", None)
        if "key_policy" not in options:
            chosen.pop("key_policy", None)
    elif (policy := preset.get("key_policy")) is not None:
        chosen["key_policy"] = _with_token(chosen.get("key_policy", policy), policy)
    given = chosen.get("claims")
    if "claims" in preset and isinstance(given, ClaimMapping):
        chosen["claims"] = given.completed_by(preset["claims"])
    return Issuer(url, audience=audience, **chosen)


def _with_token(policy: KeyPolicy, preset: KeyPolicy) -> KeyPolicy:
    if isinstance(policy, KeyPolicy) and policy.token is None:
        return replace(policy, token=preset.token)
    return policy


def _host(option: str, name: object) -> str:
    if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z0-9.-]+", name):
        raise ConfigurationError(f"{option}: pass a host name, such as example.eu.auth0.com")
    return name


def _part(option: str, name: object) -> str:
    if not isinstance(name, str) or not re.fullmatch(r"[^/?#\s]+", name) or name in {".", ".."}:
        raise ConfigurationError(f"{option}: pass a name, as the issuer's url has it")
    return name


def _content_of(path: Path) -> Callable[[], str]:
    return lambda: path.read_text("ascii").strip()
