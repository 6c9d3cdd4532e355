"""The options of logins elsewhere, as values that check themselves, and whom they admit.

Who may sign in is always said: by a domain, a group, an organization or a function. Otherwise
everybody with an account at a public provider would be a user here.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from typing import Any, TypeAlias
from urllib.parse import urlsplit

from bearerguard.errors import ConfigurationError, quoted
from bearerguard.protocol import client_authentication, metadata, scope
from bearerguard.server.store.connection import is_storable
from bearerguard.server.store.schema import MAX_ID

CALLBACK = "/oauth/login/callback/"
GITHUB = "https://github.com"
_SCOPES = ("openid", "profile", "email")
_KEY = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_METHODS = (client_authentication.BASIC, client_authentication.POST)
_MAX_LEEWAY = 300
_MAX_NAME = 60


@dataclass(frozen=True, slots=True)
class UpstreamIdentity:
    """Who has signed in elsewhere, from a validated ID token or an API.

    Attributes:
        issuer: where.
        subject: the user's identifier there, which never changes.
        name: the user's name, "" if unknown.
        email: an e-mail address, "" if unknown.
        email_verified: whether the issuer says that the address is the user's. Unless it is True,
            anybody may have typed the address.
        groups: the groups or organizations that the issuer names.
        claims: all claims; they cannot be changed.
    """

    issuer: str
    subject: str = field(repr=False)
    name: str = field(default="", repr=False)
    email: str = field(default="", repr=False)
    email_verified: bool = False
    groups: frozenset[str] = field(default=frozenset(), repr=False)
    claims: Mapping[str, Any] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class Admission:
    """That a user may sign in.

    Attributes:
        login: the login name of the account that the first login makes; a generated one by
            default, or where this one is taken. It never selects an existing account.
        name: what pages call the user; by default the issuer's name for the user.
    """

    login: str = ""
    name: str = ""


Admit: TypeAlias = Callable[[UpstreamIdentity], Admission | None]
"""Returns the admission of a user at each login, None to refuse it."""


@dataclass(frozen=True, slots=True)
class UpstreamLogin:
    """A login at an OpenID provider (OpenID Connect Core 1.0), by the code flow with PKCE.

    Register this redirect URI there: the server's issuer URL, followed by
    `/oauth/login/callback/` and the `key`. Of `admit`, `domains` and `groups`, at least one is
    needed; a user must pass all that are given, at each login.

    Args:
        issuer: its identifier, the `iss` of its ID tokens.
        client_id: the id of this server there.
        client_secret: the secret that belongs to it.
        name: its name on the login page, such as "Example".
        key: its name in URLs: small letters, digits and hyphens; by default made of `name`.
        scopes: what is asked for.
        admit: decides about each user.
        domains: admits users with a verified e-mail address in one of these domains, not in
            domains below them.
        groups: admits members of one of these groups.
        groups_claim: the claim that names the groups.
        acr_values: the authentication contexts that its logins can have: a list of names, or a
            mapping from its names to those here. Other contexts count as unknown. Without it,
            its names are taken as they are, and none is announced.
        client_auth: "client_secret_basic" or "client_secret_post"; by default what it supports.
        userinfo: whether claims that the ID token lacks are fetched (OIDC Core §5.3).
        algorithms: the signature algorithms of its ID tokens; all asymmetric ones by default.
        leeway: seconds of clock skew accepted, 300 at most.
        insecure_allow_http: allow plain http beyond loopback.

    Raises:
        ConfigurationError: an option is unsafe or malformed, or nothing says who may sign in.
    """

    issuer: str
    _: KW_ONLY
    client_id: str
    client_secret: str = field(repr=False)
    name: str = ""
    key: str = ""
    scopes: Sequence[str] = _SCOPES
    admit: Admit | None = None
    domains: Collection[str] = ()
    groups: Collection[str] = ()
    groups_claim: str = "groups"
    acr_values: Mapping[str, str] | Sequence[str] | None = None
    client_auth: str | None = None
    userinfo: bool = True
    algorithms: Sequence[str] | None = None
    leeway: float = 30
    insecure_allow_http: bool = False

    def __post_init__(self) -> None:
        _check_url("UpstreamLogin(issuer)", self.issuer, insecure=self.insecure_allow_http)
        if len(self.issuer) > MAX_ID:
            raise ConfigurationError(f"UpstreamLogin(issuer): it has at most {MAX_ID} characters")
        _complete(self, urlsplit(self.issuer).hostname or "")
        object.__setattr__(self, "domains", _domains(self.domains))
        object.__setattr__(self, "groups", _names("UpstreamLogin(groups=)", self.groups))
        if not self.admit and not self.domains and not self.groups:
            raise _nobody_admitted("UpstreamLogin", "groups=")
        scopes = _names("UpstreamLogin(scopes=)", self.scopes)
        if "openid" not in scopes or not all(map(scope.is_scope_token, scopes)):
            raise ConfigurationError(
                'UpstreamLogin(scopes=): pass a list of scopes with "openid": without it there is'
                " no ID token"
            )
        object.__setattr__(self, "scopes", scopes)
        if self.client_auth not in {None, *_METHODS}:
            raise ConfigurationError(
                f"UpstreamLogin(client_auth=): choose {' or '.join(map(quoted, _METHODS))}"
            )
        if not isinstance(self.leeway, int | float) or not 0 <= self.leeway <= _MAX_LEEWAY:
            raise ConfigurationError(
                f"UpstreamLogin(leeway=): pass seconds from 0 to {_MAX_LEEWAY}"
            )
        contexts = self.contexts
        if contexts is not None and not all(
            isinstance(each, str) and scope.is_scope_token(each)
            for each in (*contexts, *contexts.values())
        ):
            raise ConfigurationError(
                "UpstreamLogin(acr_values=): pass a list of names without spaces, or a mapping from"
                " its names to those here"
            )

    @property
    def contexts(self) -> Mapping[str, str] | None:
        """The names of authentication contexts there, with those here; None for any."""
        given = self.acr_values
        if given is None or isinstance(given, Mapping):
            return given
        if isinstance(given, str):
            raise ConfigurationError("UpstreamLogin(acr_values=): pass a list of names")
        return {each: each for each in given}

    def admission(self, identity: UpstreamIdentity) -> Admission | None:
        """Return whether a user may sign in; raises what `admit` raises."""
        return _admission(self.admit, self.domains, self.groups, identity)


@dataclass(frozen=True, slots=True, kw_only=True)
class GitHubLogin:
    """A login at GitHub, or at a GitHub Enterprise Server, by its OAuth app flow with PKCE.

    The redirect URI of the OAuth app is the server's issuer URL, followed by
    `/oauth/login/callback/` and the `key`. Of `admit`, `domains` and `organizations`, at least one
    is needed; a user must pass all that are given, at each login. GitHub does not say when or how
    a user was authenticated: requests that demand a recent login are not satisfied.

    Args:
        client_id: the id of the OAuth app.
        client_secret: its secret.
        name: its name on the login page.
        key: its name in URLs: small letters, digits and hyphens.
        admit: decides about each user.
        domains: admits users whose primary e-mail address is verified and in one of these domains.
        organizations: admits active members of one of these organizations.
        base_url: of a GitHub Enterprise Server; `https://github.com` by default.
        insecure_allow_http: allow plain http beyond loopback.

    Raises:
        ConfigurationError: an option is unsafe or malformed, or nothing says who may sign in.
    """

    client_id: str
    client_secret: str = field(repr=False)
    name: str = "GitHub"
    key: str = "github"
    admit: Admit | None = None
    domains: Collection[str] = ()
    organizations: Collection[str] = ()
    base_url: str = GITHUB
    insecure_allow_http: bool = False

    def __post_init__(self) -> None:
        _check_url("GitHubLogin(base_url=)", self.base_url, insecure=self.insecure_allow_http)
        object.__setattr__(self, "base_url", self.base_url.rstrip("/"))
        _complete(self, "GitHub")
        object.__setattr__(self, "domains", _domains(self.domains))
        organizations = _names("GitHubLogin(organizations=)", self.organizations)
        if not all(re.fullmatch(r"[A-Za-z0-9-]{1,39}", each) for each in organizations):
            raise ConfigurationError(
                "GitHubLogin(organizations=): pass their names as in the URL of their pages"
            )
        object.__setattr__(self, "organizations", tuple(each.lower() for each in organizations))
        if not self.admit and not self.domains and not self.organizations:
            raise _nobody_admitted("GitHubLogin", "organizations=")

    @property
    def issuer(self) -> str:
        """What identities there are linked by."""
        return self.base_url

    @property
    def api_url(self) -> str:
        """The URL of its REST API."""
        return "https://api.github.com" if self.base_url == GITHUB else f"{self.base_url}/api/v3"

    def admission(self, identity: UpstreamIdentity) -> Admission | None:
        """Return whether a user may sign in; raises what `admit` raises."""
        return _admission(self.admit, self.domains, self.organizations, identity)


Upstream: TypeAlias = UpstreamLogin | GitHubLogin


def check_upstreams(given: object) -> tuple[Upstream, ...]:
    """Return `upstreams=` as a tuple; raises `ConfigurationError`."""
    if not isinstance(given, list | tuple) or not all(
        isinstance(each, UpstreamLogin | GitHubLogin) for each in given
    ):
        raise ConfigurationError(
            "upstreams=: pass a list of UpstreamLogin(...) or GitHubLogin(...)"
        )
    seen: set[str] = set()
    for each in given:
        if each.key in seen:
            raise ConfigurationError(
                f"upstreams=: two have the key {quoted(each.key)}: pass a key= of its own to each"
            )
        seen.add(each.key)
    return tuple(given)


def domain_of(address: str) -> str | None:
    """Return the domain of an e-mail address as it is compared, None if it cannot be compared.

    Letters of ASCII are compared in lower case. Other labels are compared as they are, and not
    mapped: a mapping would make different names alike (`ß`, `ss`).
    """
    local, at, domain = address.rpartition("@")
    return _domain(domain) if local and at else None


def _domain(name: str) -> str | None:
    labels = [_label(each) for each in name.split(".")]
    found = [each for each in labels if each is not None]
    return ".".join(found) if len(found) == len(labels) else None


def _label(text: str) -> str | None:
    if text.isascii():
        return text.lower() if re.fullmatch(r"[A-Za-z0-9-]{1,63}", text) else None
    if (
        unicodedata.normalize("NFKC", text) != text
        or text.lower() != text
        or not text.isprintable()
    ):
        return None
    try:
        return "xn--" + text.encode("punycode").decode("ascii")
    except UnicodeError:
        return None


def _admission(
    admit: Admit | None,
    domains: Collection[str],
    groups: Collection[str],
    identity: UpstreamIdentity,
) -> Admission | None:
    if domains and not (identity.email_verified and domain_of(identity.email) in domains):
        return None
    if groups and identity.groups.isdisjoint(groups):
        return None
    if admit is None:
        return Admission()
    admitted: object = admit(identity)
    if admitted is not None and not isinstance(admitted, Admission):
        raise ConfigurationError("admit=: it must return an Admission(...) or None")
    return admitted


def _nobody_admitted(kind: str, groups: str) -> ConfigurationError:
    return ConfigurationError(
        f"{kind}: say who may sign in: pass admit=, a function that returns Admission() or None, or"
        f" domains= or {groups}; without one, everybody with an account there would be a user here"
    )


def _complete(options: Upstream, name: str) -> None:
    """Check what both kinds have, and set `name` and `key` where they are left out."""
    kind = type(options).__name__
    for option in ("client_id", "client_secret"):
        value: object = getattr(options, option)
        if not isinstance(value, str) or not value or not value.isprintable():
            raise ConfigurationError(f"{kind}({option}=): pass it as a text")
    if options.admit is not None and not callable(options.admit):
        raise ConfigurationError(
            f"{kind}(admit=): pass a function that takes an UpstreamIdentity and returns"
            " Admission(...) or None"
        )
    shown = options.name or name
    if not isinstance(shown, str) or not shown.isprintable() or len(shown) > _MAX_NAME:
        raise ConfigurationError(f"{kind}(name=): pass at most {_MAX_NAME} printable characters")
    object.__setattr__(options, "name", shown)
    key = options.key or re.sub(r"[^a-z0-9]+", "-", shown.lower()).strip("-")
    if not isinstance(key, str) or not _KEY.fullmatch(key):
        raise ConfigurationError(
            f"{kind}(key=): {quoted(key)} is no name for URLs: pass small letters, digits and"
            ' hyphens, such as key="example"'
        )
    object.__setattr__(options, "key", key)


def _check_url(option: str, url: object, *, insecure: bool) -> None:
    mistake = metadata.issuer_mistake(url) if isinstance(url, str) else ""
    if mistake:
        raise ConfigurationError(f"{option}: {quoted(url)} {mistake}")
    usable = isinstance(url, str) and (
        metadata.is_https(url)
        or metadata.is_loopback_http(url)
        or (insecure and metadata.is_http(url))
    )
    if not usable or not isinstance(url, str) or "?" in url or not is_storable(url):
        raise ConfigurationError(
            f"{option}: {quoted(url)} is no https URL without a query; http is for loopback"
            " addresses, or pass insecure_allow_http=True on a network you trust"
        )


def _domains(given: Collection[str]) -> tuple[str, ...]:
    domains = [_domain(each) for each in _names("domains=", given)]
    known = tuple(each for each in domains if each is not None)
    if len(known) != len(domains) or not all("." in each for each in known):
        raise ConfigurationError(
            'domains=: pass the domains of e-mail addresses, such as ["example.com"]'
        )
    return known


def _names(option: str, given: object) -> tuple[str, ...]:
    listed: Any = given
    if not isinstance(given, list | tuple | set | frozenset) or not all(
        isinstance(each, str) and each for each in listed
    ):
        raise ConfigurationError(f"{option}: pass a list of texts")
    return tuple(listed)
