"""What a client says of itself, in a metadata document or a registration request (RFC 7591 §2).

Its certificates are described by the members of RFC 8705 (§2.1.2, §2.2.2, §3.4).

Members that this server makes no use of are ignored: `logo_uri` and `client_uri` are never shown,
since nobody has checked them. The client's scopes are the server's to choose.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from bearerguard.errors import BearerGuardError, ConfigurationError, quoted
from bearerguard.protocol import names
from bearerguard.server.clients import client as clients
from bearerguard.server.clients import client_certificates, redirect_uri
from bearerguard.server.clients.client import Names

INVALID_REDIRECT_URI = "invalid_redirect_uri"
INVALID_CLIENT_METADATA = "invalid_client_metadata"

# The grants that a client may have that no operator knows: those in which a user decides.
_GRANTS = (clients.AUTHORIZATION_CODE, clients.REFRESH_TOKEN)
# Another in which a user decides, for clients that name it: devices have no redirect URI.
_OF_DEVICES = names.DEVICE_CODE
_MAX_REDIRECT_URIS = 20
# The name of a client that has neither a name nor a redirect URI.
_NAMELESS = "Device"
_APPLICATION_TYPES = (None, "web", "native")
_WITH_KEYS = frozenset({clients.PRIVATE_KEY_JWT, clients.SELF_SIGNED_TLS_CLIENT_AUTH})
_BY_CERTIFICATE = (clients.TLS_CLIENT_AUTH, clients.SELF_SIGNED_TLS_CLIENT_AUTH)
# How each member begins that names a client's certificate; its kind follows (RFC 8705 §2.1.2).
_NAME = "tls_client_auth_"
MUST_PUSH = "require_pushed_authorization_requests"  # RFC 9126 §6
CERTIFICATE_BOUND = "tls_client_certificate_bound_access_tokens"


class UnfitMetadata(BearerGuardError):
    """A client cannot be registered with what it says of itself.

    Attributes:
        error: the code of RFC 7591 §3.2.2.
        reason: a stable name of what is wrong, for the log.
    """

    def __init__(self, text: str, reason: str, error: str = INVALID_CLIENT_METADATA) -> None:
        super().__init__(text)
        self.error = error
        self.reason = reason


@dataclass(frozen=True, slots=True)
class ClientMetadata:
    """What is used of a client's metadata, checked; a JWK Set is not yet."""

    name: str
    redirect_uris: tuple[str, ...]
    grant_types: tuple[str, ...]
    auth_method: str
    jwks: Mapping[str, Any] | None = None
    jwks_uri: str | None = None
    application_type: str | None = None
    dpop_bound_access_tokens: bool = False
    require_pushed_authorization_requests: bool = False
    certificate_name: str | None = None
    tls_client_certificate_bound_access_tokens: bool = False

    @property
    def origins(self) -> tuple[str, ...]:
        """The origins of its pages, if it runs in a browser: those that it is sent back to."""
        found = (urlsplit(uri) for uri in self.redirect_uris)
        web = (f"{each.scheme}://{_place(each.netloc, each.scheme)}" for each in found)
        return tuple(dict.fromkeys(each for each in web if clients.is_web_origin(each)))


def with_certificates(own: Collection[str], methods: Names) -> frozenset[str]:
    """Return the authentication methods `own`, and those by certificate that the server has."""
    return frozenset(own) | {each for each in _BY_CERTIFICATE if methods.is_allowed(each)}


def read(
    content: Mapping[str, Any],
    *,
    auth_methods: Collection[str],
    default_method: str,
    name: str,
    takes_certificates: bool = False,
    further_grants: tuple[str, ...] = (),
) -> ClientMetadata:
    """Return what is used of a client's metadata.

    Args:
        content: the members (RFC 7591 §2).
        auth_methods: the values of `token_endpoint_auth_method` that are possible.
        default_method: its value if it is absent.
        name: the client's name if it has none that a page may show; by default a redirect
            URI's host.
        takes_certificates: whether the server takes the certificates of TLS clients.
        further_grants: the grants besides that it may have if it names them.

    Raises:
        UnfitMetadata: a member is malformed, or not possible here.
    """
    grant_types = _grant_types(content, (*_GRANTS, _OF_DEVICES, *further_grants))
    uris = _redirect_uris(content, needed=clients.AUTHORIZATION_CODE in grant_types)
    method = content.get("token_endpoint_auth_method") or default_method
    if not isinstance(method, str) or method not in auth_methods:
        raise UnfitMetadata(
            f"token_endpoint_auth_method: choose from {', '.join(sorted(auth_methods))}",
            "unsupported_auth_method",
        )
    jwks, jwks_uri = content.get("jwks"), content.get("jwks_uri")
    if jwks is not None and jwks_uri is not None:
        raise UnfitMetadata("jwks, jwks_uri: send one of them (RFC 7591 section 2)", "two_jwks")
    if method not in _WITH_KEYS:
        jwks = jwks_uri = None  # without a use
    elif not isinstance(jwks, dict) and not isinstance(jwks_uri, str):
        raise UnfitMetadata(f"{method} needs jwks", "missing_jwks")
    if content.get("introspection_signed_response_alg") == "none":
        # Any other value is not registered: the key in use signs (RFC 9701 §5).
        raise UnfitMetadata(
            "introspection_signed_response_alg: an unsigned response proves nothing: leave it out",
            "unsigned_introspection",
        )
    certificate_bound = _flag(content, CERTIFICATE_BOUND)
    if certificate_bound and not takes_certificates:
        raise UnfitMetadata(
            f"{CERTIFICATE_BOUND}: the server takes no client certificates", "no_mutual_tls"
        )
    return ClientMetadata(
        name=clients.readable(
            content.get("client_name"), name or (_host(uris[0]) if uris else _NAMELESS)
        ),
        redirect_uris=uris,
        grant_types=grant_types,
        auth_method=method,
        jwks=jwks,
        jwks_uri=jwks_uri,
        application_type=content.get("application_type"),
        dpop_bound_access_tokens=_flag(content, "dpop_bound_access_tokens"),
        require_pushed_authorization_requests=_flag(content, MUST_PUSH),
        certificate_name=_certificate_name(content) if method == clients.TLS_CLIENT_AUTH else None,
        tls_client_certificate_bound_access_tokens=certificate_bound,
    )


def described_certificate(name: str) -> dict[str, str]:
    """Return a client's `certificate_name` as the member that a registration has it in."""
    kind, _, value = name.partition("=")
    return {_NAME + kind: value}


def _certificate_name(content: Mapping[str, Any]) -> str:
    """Return the name of a client's certificate; raises `UnfitMetadata` unless there is one."""
    members = [_NAME + kind for kind in client_certificates.KINDS]
    found = [name for name in members if content.get(name) is not None]
    if len(found) != 1:
        raise UnfitMetadata(
            f"tls_client_auth: send exactly one of {', '.join(members)} (RFC 8705 section 2.1.2)",
            "missing_certificate_name" if not found else "two_certificate_names",
        )
    value = content[found[0]]
    name = f"{found[0].removeprefix(_NAME)}={value}"
    try:
        client_certificates.check_name(name if isinstance(value, str) else None)
    except ConfigurationError:
        raise UnfitMetadata(
            f"{found[0]}: no certificate has this name (RFC 8705 section 2.1.2)",
            "malformed_certificate_name",
        ) from None
    return name


def _redirect_uris(content: Mapping[str, Any], *, needed: bool) -> tuple[str, ...]:
    uris = content.get("redirect_uris")
    if not needed and uris in (None, []):
        return ()
    if not isinstance(uris, list) or not 0 < len(uris) <= _MAX_REDIRECT_URIS:
        raise UnfitMetadata(
            f"redirect_uris: send a list of 1 to {_MAX_REDIRECT_URIS} URIs",
            "missing_redirect_uris",
            INVALID_REDIRECT_URI,
        )
    for uri in uris:
        try:
            redirect_uri.check(uri)
        except ConfigurationError as error:
            text = str(error).replace("redirect_uris=:", "redirect_uris:")
            raise UnfitMetadata(text, "unfit_redirect_uri", INVALID_REDIRECT_URI) from None
    kind = content.get("application_type")
    if kind not in _APPLICATION_TYPES:
        raise UnfitMetadata("application_type: choose web or native", "unknown_application_type")
    if kind == "web":
        local = [uri for uri in uris if not _is_of_the_web(uri)]
        if local:
            raise UnfitMetadata(
                f"redirect_uris: {quoted(local[0])} is a native application's: send"
                " application_type native (OpenID Connect Registration section 2)",
                "redirect_uri_not_of_the_web",
                INVALID_REDIRECT_URI,
            )
    return tuple(dict.fromkeys(uris))


def _grant_types(content: Mapping[str, Any], possible: tuple[str, ...]) -> tuple[str, ...]:
    types = _texts(content, "response_types")
    grants = _texts(content, "grant_types")
    by_redirect = grants is None or clients.AUTHORIZATION_CODE in grants
    # RFC 7591 §2.1: a client without a grant that begins with a redirect has none.
    if types is not None and "code" not in types and (types or by_redirect):
        raise UnfitMetadata(
            "response_types: the server supports code only", "unsupported_response_type"
        )
    if grants is None:
        return _GRANTS
    if not by_redirect and _OF_DEVICES not in grants:
        raise UnfitMetadata(
            f"grant_types: authorization_code or {_OF_DEVICES} is needed, and refresh_token"
            " possible",
            "unsupported_grant_type",
        )
    return tuple(each for each in possible if each in grants)


def _flag(content: Mapping[str, Any], name: str) -> bool:
    found = content.get(name, False)
    if not isinstance(found, bool):
        raise UnfitMetadata(f"{name}: send true or false", f"malformed_{name}")
    return found


def _texts(content: Mapping[str, Any], name: str) -> list[str] | None:
    found = content.get(name)
    if found is None:
        return None
    if not isinstance(found, list) or not all(isinstance(each, str) for each in found):
        raise UnfitMetadata(f"{name}: send a list of texts", f"malformed_{name}")
    return found


def _is_of_the_web(uri: str) -> bool:
    return uri.startswith("https:") and urlsplit(uri).hostname != "localhost"


def _host(uri: str) -> str:
    parts = urlsplit(uri)
    return parts.netloc if parts.scheme in {"http", "https"} else parts.scheme


def _place(netloc: str, scheme: str) -> str:
    """Return a host and a port as an origin has them (RFC 6454 §6.1)."""
    usual = {"http": ":80", "https": ":443"}.get(scheme, "")
    return netloc.lower().removesuffix(usual) if usual else netloc.lower()
