"""Issuers as they are found: what each provider does its own way, as an `Issuer`.

Each function fills in options that `Issuer` has anyway; `options` are those of `Issuer` and
go before what the provider needs. Facts of 2026; docs/providers.md says them in a table.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from bearerguard.errors import ConfigurationError, quoted
from bearerguard.guard.config.given_names import Names, names
from bearerguard.guard.config.introspection import Introspection
from bearerguard.guard.config.issuer import Issuer
from bearerguard.guard.config.issuer_names import Allowed

_ANY_TYPE: Final = ("at+jwt", "JWT")
_SOURCES = frozenset({"keys", "jwks_uri", "discovery_url", "shared_secret"})
_GUID = re.compile(r"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}")
_SERVICE_ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount/token"


def auth0(domain: str, *, audience: Names, **options: Any) -> Issuer:
    """Return the tenant at `domain`, such as "example.eu.auth0.com"; permissions are roles."""
    return _issuer(
        f"https://{_host('domain', domain)}/",
        options,
        audience=audience,
        jwks_uri=f"https://{domain}/.well-known/jwks.json",
        token_types=_ANY_TYPE,
        role_claims=("permissions",),
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
    introspection: Introspection | None = None,
    **options: Any,
) -> Issuer:
    """Return a custom authorization server of Okta; None for the organisation's own.

    The organisation's own server signs for Okta alone, and its tokens are never validated
    here: it takes `introspection`.
    """
    base = f"https://{_host('domain', domain)}"
    if authorization_server is None:
        if introspection is None:
            raise ConfigurationError(
                "authorization_server=: the access tokens of Okta's organisation server are for"
                " Okta's own APIs, and must not be validated by others: use a custom"
                " authorization server, or pass introspection="
            )
        return _issuer(
            base, options, audience=audience, introspection=introspection, tokens="opaque"
        )
    url = f"{base}/oauth2/{_part('authorization_server', authorization_server)}"
    return _issuer(
        url,
        options,
        audience=audience,
        introspection=introspection,
        jwks_uri=f"{url}/v1/keys",
        token_types=_ANY_TYPE,
        scope_claims=("scp",),
        client_claims=("cid",),
        role_claims=("groups",),
        required_claims=("cid",),  # an ID token has none
    )


def entra(
    tenant: str | None = None,
    *,
    audience: Names,
    tenants: Allowed | None = None,
    version: int = 2,
    **options: Any,
) -> Issuer:
    """Return a tenant of Microsoft Entra ID, by its GUID, or a pattern for several `tenants`.

    `version` is that of the API's access tokens (`requestedAccessTokenVersion`): they have
    other issuers, and `entra_both_versions` accepts both. `audience` is the API's client id,
    its App ID URI, or both.
    """
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
        tenants=tenants,
        jwks_uri=f"{login}/discovery/v2.0/keys" if newer else f"{login}/discovery/keys",
        token_types=("JWT",),
        scope_claims=("scp",),
        client_claims=("azp", "appid"),
        required_claims=("azp" if newer else "appid",),  # an ID token has neither
    )


def entra_both_versions(
    tenant: str | None = None, *, audience: Names, **options: Any
) -> tuple[Issuer, Issuer]:
    """Return what `entra` does, for version 2 and version 1: `Guard(*entra_both_versions(...))`."""
    if "version" in options:
        raise ConfigurationError("version=: leave it out, or use entra() for one version alone")
    newer, older = (
        entra(tenant, audience=audience, version=version, **options) for version in (2, 1)
    )
    return newer, older


def cognito(region: str, user_pool: str, *, client_ids: Names, **options: Any) -> Issuer:
    """Return a user pool; its access tokens have no audience but the client they are for."""
    host = f"cognito-idp.{_part('region', region)}.amazonaws.com"
    url = f"https://{host}/{_part('user_pool', user_pool)}"
    return _issuer(
        url,
        options,
        audience=client_ids,
        jwks_uri=f"{url}/.well-known/jwks.json",
        token_types=("JWT",),
        audience_claim="client_id",
        role_claims=("cognito:groups",),
        required_claims={"token_use": "access"},
    )


def keycloak(
    base: str,
    realm: str,
    *,
    audience: Names,
    clients: Names = (),
    **options: Any,
) -> Issuer:
    """Return a realm of the Keycloak at `base`; `clients` are those whose roles count too."""
    hint = (
        "in Keycloak, add a mapper of type Audience to a client scope of the calling client, and"
        " include this API's client in it"
    )
    return _issuer(
        f"{str(base).rstrip('/')}/realms/{_part('realm', realm)}",
        options,
        audience=audience,
        token_types=_ANY_TYPE,
        role_claims=(
            "realm_access.roles",
            *(f"resource_access.{each}.roles" for each in (clients and names("clients", clients))),
        ),
        required_claims={"typ": "Bearer"},  # in the body; an ID token has ID, a logout token Logout
        hints={"wrong_audience": hint, "missing_claim": hint},
    )


def google(*, audience: Names, service_accounts: Names | None = None, **options: Any) -> Issuer:
    """Return Google, whose ID tokens one service sends to another.

    Whoever has a Google account can have a token made for any audience: `service_accounts`
    are the e-mail addresses that may call; without them, demand something else.
    """
    callers: Mapping[str, Any] = {}
    if service_accounts is not None:  # an empty list is refused: it is not everybody
        callers = {"email": names("service_accounts", service_accounts), "email_verified": True}
    return _issuer(
        "https://accounts.google.com",
        options,
        aliases=("accounts.google.com",),
        audience=audience,
        jwks_uri="https://www.googleapis.com/oauth2/v3/certs",
        accept_id_tokens=True,
        required_claims=callers,
    )


def firebase(project: str, **options: Any) -> Issuer:
    """Return Firebase Authentication of a project, whose ID tokens apps send to their API."""
    return _issuer(
        f"https://securetoken.google.com/{project}",
        options,
        audience=project,
        jwks_uri="https://www.googleapis.com/robot/v1/metadata/x509/"
        "securetoken@system.gserviceaccount.com",
        accept_id_tokens=True,
        algorithms=("RS256",),
        required_claims=("sub", "auth_time"),
    )


def kubernetes(
    *,
    audience: Names,
    issuer: str = "https://kubernetes.default.svc.cluster.local",
    jwks_uri: str = "https://kubernetes.default.svc/openid/v1/jwks",
    token_file: str | Path | None = _SERVICE_ACCOUNT,
    **options: Any,
) -> Issuer:
    """Return a cluster, whose service accounts call with projected tokens.

    Its keys are behind the token in `token_file`, which the kubelet renews, and a certificate
    of the cluster's own: pass `HttpTransport(ssl_context=ssl.create_default_context(cafile=...))`
    with `ca.crt` of the same directory.
    """
    return _issuer(
        issuer,
        options,
        audience=audience,
        jwks_uri=jwks_uri,
        keys_token=None if token_file is None else _content_of(Path(token_file)),
        token_types=("JWT",),
    )


def github_actions(
    *,
    audience: Names,
    repository: Names | None = None,
    repository_owner: Names | None = None,
    ref: Names | None = None,
    environment: Names | None = None,
    **options: Any,
) -> Issuer:
    """Return GitHub Actions, whose workflows call with ID tokens of an audience of their choice.

    Any workflow in the world can choose this audience, so a repository or its owner is
    demanded too, each one name or several.
    """
    given = names("audience", audience)
    if any(each.startswith("https://github.com/") for each in given):
        raise ConfigurationError(
            "audience=: this is what GitHub puts in when a workflow names none: let workflows"
            " ask for an audience of this API's own"
        )
    if repository is None and repository_owner is None:
        raise ConfigurationError(
            "github_actions(): pass repository= or repository_owner=: any workflow of anybody"
            " can have a token for this audience"
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
        required_claims={name: value for name, value in wanted.items() if value is not None},
    )


def _issuer(url: str, options: Mapping[str, Any], **preset: Any) -> Issuer:
    if not _SOURCES.isdisjoint(options):
        preset = {
            name: value for name, value in preset.items() if name not in {"jwks_uri", "keys_token"}
        }
    return Issuer(url, **{**preset, **options})


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
