"""Django Ninja: `BearerAuth` for an API, its routers and operations, sync and async.

Behind the middleware of `bearerguard.django` it uses the middleware's decision; without the
middleware it authenticates requests itself. A refusal is one of Ninja's own exceptions, which the
API's exception handlers get; the response has the whole challenge, whichever handler makes it.
"""

from __future__ import annotations

import asyncio
import hashlib
import weakref
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any, NoReturn

from bearerguard.errors import MISSING_CREDENTIALS, ConfigurationError
from bearerguard.guard.config.options import check_requirement
from bearerguard.guard.config.requirement import Requirement, combined
from bearerguard.guard.config.requirement import scopes as _scopes
from bearerguard.middleware.openapi import security_requirements, security_schemes
from bearerguard.middleware.refusal import joined_headers
from bearerguard.principal import ANONYMOUS, Principal
from bearerguard.runtime.extras import Extra

with Extra("ninja", needed_by=__name__):
    from django.http import HttpRequest, HttpResponse
    from ninja import NinjaAPI
    from ninja.errors import AuthenticationError, AuthorizationError, HttpError
    from ninja.openapi.schema import OpenAPISchema
    from ninja.operation import Operation, PathView
    from ninja.security.base import AuthBase, SecuritySchema
    from ninja.throttling import AuthRateThrottle

    from bearerguard.django import on_demand  # here: this extra installs what it needs
    from bearerguard.django.on_demand import RequestRefused
    from bearerguard.django.protection import is_async, protection

__all__ = ["BearerAuth", "CallerRateThrottle", "install"]

# The attribute of a request that stores its refusal, for the response.
_REFUSED = "_bearerguard_refused"
_EXCEPTIONS: dict[int, type[HttpError]] = {401: AuthenticationError, 403: AuthorizationError}
# The statuses of refusals, for OpenAPI.
_REFUSALS = (401, 403, 503)
# The APIs whose responses to refused requests get the challenge.
_installed: weakref.WeakSet[NinjaAPI] = weakref.WeakSet()


class BearerAuth(AuthBase):
    """Authenticates requests: `NinjaAPI(auth=BearerAuth())`, `auth=BearerAuth(scopes=["read"])`.

    `request.auth` and `request.principal` are the `Principal`. One object serves sync and async
    operations. The `auth=` of an operation replaces that of its router and API, as Ninja has it.

    Args:
        scopes: the scopes that an operation needs, all of them.
        require: what it needs besides, such as `role("admin")`.
        optional: whether a request without a token passes as `ANONYMOUS`.

    Raises:
        ConfigurationError: an option is malformed.
    """

    #: An async operation then awaits what `__call__` returns.
    is_async: bool = True

    def __init__(
        self,
        *,
        scopes: Sequence[str] = (),
        require: Requirement | None = None,
        optional: bool = False,
    ) -> None:
        # Not the base's: it would read the scheme, and so the settings, when a module is imported.
        if isinstance(scopes, str):
            raise ConfigurationError('scopes=: pass a list such as ["read"]')
        check_requirement(require)
        if not isinstance(optional, bool):
            raise ConfigurationError("optional=: pass True or False")
        self.requirement: Requirement | None = combined(
            _scopes(*scopes) if scopes else None, require
        )
        self.optional: bool = optional

    @property
    def openapi_security_schema(self) -> SecuritySchema:  # type: ignore[override]
        """The security scheme of the first issuer; `install` documents all of them."""
        return SecuritySchema(**next(iter(security_schemes(protection().guard).values())))

    def __call__(self, request: Any) -> Any:
        """Return the principal, None without a token; a coroutine for an async operation.

        Raises:
            HttpError: the request is refused.
        """
        if "REQUEST_METHOD" not in request.META:
            _complete(request)
        return self._aauthenticate(request) if _is_awaited(request) else self._authenticate(request)

    def _authenticate(self, request: HttpRequest) -> Principal | None:
        try:
            return self._authorized(request, on_demand.authenticate(request))
        except RequestRefused as refused:
            _refuse(request, refused)

    async def _aauthenticate(self, request: HttpRequest) -> Principal | None:
        try:
            return self._authorized(request, await on_demand.aauthenticate(request))
        except RequestRefused as refused:
            _refuse(request, refused)

    def _authorized(self, request: HttpRequest, principal: Principal) -> Principal | None:
        if not principal.is_authenticated:
            if self.optional:
                return principal
            # Another `auth` of the operation may accept it; if none does, Ninja responds 401.
            _store(request, on_demand.missing(request, self.requirement))
            return None
        refused = on_demand.unmet(request, principal, self.requirement)
        if refused is not None:
            raise refused
        return principal


class CallerRateThrottle(AuthRateThrottle):
    """Limits the rate of requests of each caller: `throttle=[CallerRateThrottle("100/h")]`.

    Ninja's `AuthRateThrottle` counts by the text of `request.auth`, and that of a `Principal` names
    no caller: all tokens of an issuer with the same scopes would share one rate.
    """

    def get_cache_key(self, request: HttpRequest) -> str:
        """Return the key under which the requests of a caller are counted."""
        caller = getattr(request, "auth", None)
        if not isinstance(caller, Principal) or not caller.is_authenticated:
            return super().get_cache_key(request)
        named = repr((caller.issuer, caller.subject, caller.client_id))
        ident = hashlib.sha256(named.encode()).hexdigest()
        return self.cache_format % {"scope": self.scope, "ident": ident}


def install(api: NinjaAPI) -> None:
    """Add to an API's OpenAPI document all issuers, and the scopes and refusals of each operation.

    Call it once, when the API is made.
    """
    _add_challenges(api)

    def get_openapi_schema(
        *, path_prefix: str | None = None, path_params: dict[str, Any] | None = None
    ) -> OpenAPISchema:
        prefix = api.get_root_path(path_params or {}) if path_prefix is None else path_prefix
        return _Schema(api, prefix)

    api.get_openapi_schema = get_openapi_schema  # type: ignore[method-assign]


class _Schema(OpenAPISchema):
    """Ninja's OpenAPI document, completed for `BearerAuth`."""

    def operation_security(self, operation: Operation) -> list[dict[str, Any]] | None:
        given: list[dict[str, Any]] = super().operation_security(operation) or []
        for auth in _ours(operation):
            own = type(auth).__name__
            self.securitySchemes.pop(own, None)
            given = [each for each in given if own not in each]
            in_force = protection()
            needed = combined(in_force.admission.requirement, auth.requirement)
            given += security_requirements(in_force.guard, needed, optional=auth.optional)
            self.securitySchemes.update(security_schemes(in_force.guard))
        return given or None

    def responses(self, operation: Operation) -> dict[Any, Any]:
        result: dict[Any, Any] = super().responses(operation)
        if _ours(operation):
            for status in _REFUSALS:
                result.setdefault(status, {"description": HTTPStatus(status).phrase})
        return result


def _ours(operation: Operation) -> list[BearerAuth]:
    return [each for each in operation.auth_callbacks if isinstance(each, BearerAuth)]


def _complete(request: Any) -> None:
    """Set in a request of Ninja's test client the `META` entries that every server sets."""
    request.META["REQUEST_METHOD"] = request.method
    authorization = request.headers.get("Authorization")
    if authorization is not None:
        request.META["HTTP_AUTHORIZATION"] = authorization


def _is_awaited(request: HttpRequest) -> bool:
    """Whether an async operation is calling, which awaits the result."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    match = getattr(request, "resolver_match", None)
    return match is None or is_async(match.func)


def _refuse(request: HttpRequest, refused: RequestRefused) -> NoReturn:
    """Raise a refusal as Ninja's own exception."""
    _store(request, refused)
    decision = refused.decision
    error = _EXCEPTIONS.get(decision.status, HttpError)
    raise error(decision.status, decision.reason.description) from None


def _store(request: HttpRequest, refused: RequestRefused) -> None:
    """Store a refusal with its request, and have the API add its headers to the response."""
    setattr(request, _REFUSED, refused)
    view = getattr(getattr(request, "resolver_match", None), "func", None)
    # Ninja does not pass the API to an `auth`; the closure of the view has it.
    held = [cell.cell_contents for cell in getattr(view, "__closure__", None) or ()]
    for path_view in (each for each in held if isinstance(each, PathView)):
        _add_challenges(path_view.operations[0].api)


def _add_challenges(api: NinjaAPI) -> None:
    """Have an API add the headers of the refusal to its response, whichever handler makes it."""
    if api in _installed:
        return
    _installed.add(api)
    on_exception = api.on_exception

    def with_challenge(request: HttpRequest, exc: Any) -> HttpResponse:
        response = on_exception(request, exc)
        refused: RequestRefused | None = getattr(request, _REFUSED, None)
        if refused is not None and refused.decision.reason is MISSING_CREDENTIALS:
            on_demand.unmet(request, ANONYMOUS, None)  # reported: no other `auth` has accepted it
        if refused is not None and response.status_code == refused.refusal.status:
            for name, value in joined_headers(refused.refusal).items():
                response.setdefault(name, value)
        return response

    api.on_exception = with_challenge  # type: ignore[method-assign]
