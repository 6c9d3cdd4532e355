"""What `manage.py check` finds: settings that are missing, middleware that is in the wrong order.

An error is a configuration that cannot work, or that leaves open what should be guarded; a warning
is one that is rarely intended. `docs/django.md` lists them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from django.conf import settings as django_settings
from django.core.checks import CheckMessage, Error, Tags, Warning, register  # noqa: A004 - its name in Django
from django.urls import URLPattern, get_resolver, is_valid_path

from bearerguard.django import order, settings
from bearerguard.django.protection import Protection, protection, token_required
from bearerguard.errors import ConfigurationError
from bearerguard.middleware.decorators import requirement_of

_AUTHENTICATION = "bearerguard.django.rest_framework.BearerAuthentication"
_OURS = '"bearerguard.django.BearerMiddleware"'
# A part of a route that stands for a value, such as <int:number>.
_CONVERTER = re.compile(r"<[^>]*>")


def register_all() -> None:
    """Register the checks with Django."""
    register(check_settings, Tags.security)
    register(check_middleware, Tags.security)
    register(check_views, Tags.security)
    register(check_deployment, Tags.security, deploy=True)


def check_settings(**_: object) -> list[CheckMessage]:
    """Check that `settings.BEARERGUARD` makes a guard."""
    try:
        protection()
    except ConfigurationError as error:
        return [Error(str(error), id="bearerguard.E001")]
    return []


def check_middleware(**_: object) -> list[CheckMessage]:
    """Check that `BearerMiddleware` is there, and its place."""
    if not order.has_ours():
        return _without_middleware()
    found: list[CheckMessage] = []
    has_user = settings.given().get("USER") is not None
    if has_user and order.has_inside(order.AUTHENTICATION):
        found.append(Error(order.USER_REPLACED, id="bearerguard.E003"))
    if order.has_inside(order.UPDATE_CACHE):
        found.append(
            Error(
                "UpdateCacheMiddleware stands below BearerMiddleware in MIDDLEWARE, and would send"
                " one caller's responses to others",
                hint="Move UpdateCacheMiddleware above BearerMiddleware, where it sees that"
                " responses to tokens are private.",
                id="bearerguard.E004",
            )
        )
    if order.has_cors_inside() and not settings.given().get("PASS_PREFLIGHTS"):
        found.append(
            Warning(
                "The CORS middleware stands below BearerMiddleware in MIDDLEWARE: CORS preflights"
                " are refused before they reach it",
                hint="Move the CORS middleware to the top of MIDDLEWARE.",
                id="bearerguard.W002",
            )
        )
    if not has_user and order.has(order.LOGIN_REQUIRED):
        found.append(
            Warning(
                "LoginRequiredMiddleware redirects requests with tokens to the login page: they"
                " have no user",
                hint='Set BEARERGUARD["USER"], or mark the views of the API with'
                " login_not_required.",
                id="bearerguard.W003",
            )
        )
    return found


def check_views(**_: object) -> list[CheckMessage]:
    """Check that requests can pass a view's requirement, and that configured paths are URLs."""
    in_force = _protection()
    if in_force is None:
        return []
    found: list[CheckMessage] = [
        Warning(
            f'BEARERGUARD["{key}"] has {path}, which does not match the URL {path}/',
            hint="Write the path with its slash at the end.",
            id="bearerguard.W008",
        )
        for key, covers in (
            ("EXCLUDE", in_force.admission.excludes),
            ("OPTIONAL", in_force.admission.is_optional),
        )
        for path in _paths(key)
        if not (is_valid_path(path) or covers(f"{path}/")) and is_valid_path(f"{path}/")
    ]
    for view in _views():
        if view.is_required and in_force.admission.excludes(view.sample):
            found.append(
                Error(
                    f"{view.name} refuses every request: it has a requirement, and"
                    f' BEARERGUARD["EXCLUDE"] leaves {view.route} without authentication',
                    hint="Take the path out of EXCLUDE, or the decorator from the view.",
                    id="bearerguard.E005",
                )
            )
        elif requirement_of(view.callback) is not None and not token_required(view.callback):
            found.append(
                Warning(
                    f"{view.name} is marked with token_not_required() and has a requirement, so"
                    " it refuses requests without a token",
                    hint="Remove one of the decorators.",
                    id="bearerguard.W004",
                )
            )
    return found


def check_deployment(**_: object) -> list[CheckMessage]:
    """Check for options that are safe in development only."""
    in_force = _protection()
    if in_force is None:
        return []
    found: list[CheckMessage] = []
    issuers = in_force.guard.issuers
    plain = [issuer.url for issuer in issuers if issuer.url.startswith("http://")]
    if plain:
        found.append(
            Warning(
                f"The issuer {plain[0]} is at a plain http URL: whoever is on the network can"
                " replace its keys",
                hint="Use an https URL.",
                id="bearerguard.W005",
            )
        )
    if any(issuer.insecure_allow_http for issuer in issuers):
        found.append(
            Warning(
                "insecure_allow_http allows plain http: whoever is on the network can replace keys"
                " and read secrets",
                hint='Take it out of BEARERGUARD, or of the issuer of BEARERGUARD["GUARD"].',
                id="bearerguard.W006",
            )
        )
    if _any_site_has_credentials():
        found.append(
            Warning(
                "CORS_ALLOW_ALL_ORIGINS with CORS_ALLOW_CREDENTIALS: any site may send requests"
                " with its own token and a visitor's session, and read the responses",
                hint="List the sites in CORS_ALLOWED_ORIGINS.",
                id="bearerguard.W007",
            )
        )
    return found


def _without_middleware() -> list[CheckMessage]:
    hint = f"Add {_OURS} to MIDDLEWARE, below AuthenticationMiddleware."
    guarded = [view.name for view in _views() if view.is_required]
    if guarded:
        return [
            Error(
                f"{guarded[0]} has a requirement, but BearerMiddleware is not in MIDDLEWARE: every"
                " request to it fails",
                hint=hint,
                id="bearerguard.E002",
            )
        ]
    of_rest_framework = getattr(django_settings, "REST_FRAMEWORK", {})
    if _AUTHENTICATION in of_rest_framework.get("DEFAULT_AUTHENTICATION_CLASSES", ()):
        return []  # its views are guarded without it
    return [
        Warning(
            "BearerMiddleware is not in MIDDLEWARE: no view of Django is guarded",
            hint=hint,
            id="bearerguard.W001",
        )
    ]


def _paths(key: str) -> list[str]:
    """Return the exact paths of a key, none where it has no list or there are no URLs."""
    given = settings.given().get(key)
    if isinstance(given, bool) or given is None or not _has_urls():
        return []
    return [path for path in given if not path.endswith("*")]


def _has_urls() -> bool:
    return bool(getattr(django_settings, "ROOT_URLCONF", None))


def _any_site_has_credentials() -> bool:
    return bool(
        getattr(django_settings, "CORS_ALLOW_ALL_ORIGINS", False)
        and getattr(django_settings, "CORS_ALLOW_CREDENTIALS", False)
    )


def _protection() -> Protection | None:
    try:
        return protection()
    except ConfigurationError:
        return None  # `check_settings` reports it


class _View(NamedTuple):
    route: str
    callback: Any

    @property
    def name(self) -> str:
        named = getattr(self.callback, "view_class", self.callback)
        return f"{named.__module__}.{getattr(named, '__qualname__', type(named).__qualname__)}"

    @property
    def is_required(self) -> bool:
        """Whether it, or a method of it, has a requirement."""
        view = getattr(self.callback, "view_class", None)
        methods = [getattr(view, name, None) for name in getattr(view, "http_method_names", ())]
        return any(requirement_of(each) is not None for each in (self.callback, *methods))

    @property
    def sample(self) -> str:
        """A path that leads to it."""
        return _CONVERTER.sub("x", self.route)


def _views() -> Iterator[_View]:
    if _has_urls():
        yield from _below("/", get_resolver())


def _below(prefix: str, resolver: Any) -> Iterator[_View]:
    for each in resolver.url_patterns:
        route = prefix + str(each.pattern)
        if isinstance(each, URLPattern):
            yield _View(route, each.callback)
        else:
            yield from _below(route, each)
