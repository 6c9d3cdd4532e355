"""REST framework: authentication, permissions, throttling by client, and an exception handler.

Behind the middleware of `bearerguard.django` it uses the middleware's decision. Without the
middleware it authenticates requests itself, and `permission_classes` decide whether a request needs
a token.

`rest_framework.views` is imported only when it is needed: it imports this module itself, for its
settings.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn

from django.core.exceptions import PermissionDenied
from django.utils.cache import patch_vary_headers

from bearerguard.django import on_demand
from bearerguard.django.on_demand import RequestRefused
from bearerguard.django.protection import protection
from bearerguard.errors import ConfigurationError
from bearerguard.guard.config.requirement import Requirement, combined, scopes
from bearerguard.guard.decision import Unavailable
from bearerguard.middleware.refusal import joined_headers, problem
from bearerguard.principal import ANONYMOUS, Principal
from bearerguard.runtime.extras import Extra

with Extra("rest-framework", needed_by=__name__):
    from rest_framework import exceptions
    from rest_framework.permissions import AND, OR

if TYPE_CHECKING:
    # REST framework brings no types: these are the parts of its bases that are used here.
    class BaseAuthentication:
        """The base of authentication classes."""

    class OperationHolderMixin:
        """Combines permissions by `&`, `|` and `~`."""

        def __and__(self, other: Any) -> Any: ...
        def __or__(self, other: Any) -> Any: ...
        def __rand__(self, other: Any) -> Any: ...
        def __ror__(self, other: Any) -> Any: ...
        def __invert__(self) -> Any: ...

    class _CombinedType(OperationHolderMixin, type):
        pass

    class BasePermission(metaclass=_CombinedType):
        """The base of permission classes."""

    class SimpleRateThrottle:
        """The base of throttles with a rate."""

        cache_format: str

        def get_ident(self, request: Any) -> str: ...

else:
    from rest_framework.authentication import BaseAuthentication
    from rest_framework.permissions import BasePermission, OperationHolderMixin
    from rest_framework.throttling import SimpleRateThrottle

__all__ = [
    "BearerAuthentication",
    "BearerUser",
    "ClientRateThrottle",
    "HasScopes",
    "Requires",
    "exception_handler",
    "requirement_of_view",
]

_CHALLENGE = "WWW-Authenticate"
# The attribute of Django's request, and of the exception, that stores a refusal.
_REFUSED = "_bearerguard_refused"
# The members of a refusal's body that REST framework does not have.
_MEMBERS = ("error", "scope", "acr_values", "max_age")
# REST framework's own exceptions by status.
_EXCEPTIONS: dict[int, type[exceptions.APIException]] = {
    400: exceptions.ParseError,
    401: exceptions.AuthenticationFailed,
    403: exceptions.PermissionDenied,
}


class BearerUser:
    """The caller as a user, for REST framework's permissions and throttles.

    `request.user` is one where `BEARERGUARD["USER"]` does not map principals to users of Django. It
    has no account: it is in no group and has no permission of Django.

    Args:
        principal: the caller.

    Attributes:
        principal: as passed.
        pk: an opaque identifier of the caller, stable across tokens; `id` is the same.
    """

    is_authenticated: ClassVar[bool] = True
    is_anonymous: ClassVar[bool] = False
    is_active: ClassVar[bool] = True
    is_staff: ClassVar[bool] = False
    is_superuser: ClassVar[bool] = False

    def __init__(self, principal: Principal) -> None:
        self.principal: Principal = principal
        self.pk: str = _key(principal, "subject", "client_id", "token_id")

    @property
    def id(self) -> str:
        """The same as `pk`."""
        return self.pk

    @property
    def username(self) -> str:
        """The principal's `identity`."""
        return self.principal.identity

    def get_username(self) -> str:
        """Return the principal's `identity`."""
        return self.principal.identity

    def has_perm(self, perm: str, obj: object = None) -> bool:  # noqa: ARG002 - Django's protocol
        """Return False."""
        return False

    def has_perms(self, perm_list: Sequence[str], obj: object = None) -> bool:  # noqa: ARG002 - Django's protocol
        """Return whether the list is empty."""
        return not perm_list

    def has_module_perms(self, app_label: str) -> bool:  # noqa: ARG002 - Django's protocol
        """Return False."""
        return False

    def __eq__(self, other: object) -> bool:
        return isinstance(other, BearerUser) and other.pk == self.pk

    def __hash__(self) -> int:
        return hash(self.pk)

    def __str__(self) -> str:
        return self.principal.identity


class BearerAuthentication(BaseAuthentication):
    """Sets `request.auth` to the `Principal` and `request.user` to its user.

    A request with other credentials, or none, is left to the next authentication class and to the
    permissions. The user is that of `BEARERGUARD["USER"]`, else a `BearerUser`.
    """

    def authenticate(self, request: Any) -> tuple[Any, Principal] | None:
        """Return the user and the principal of a request, None if it has no token.

        Raises:
            APIException: the token is refused, with the status of the refusal.
        """
        inner = request._request  # noqa: SLF001 - Django's, as REST framework's own classes take it
        try:
            principal = on_demand.authenticate(inner)
        except RequestRefused as refused:
            _refuse(inner, refused)
        except Exception:
            # Of BEARERGUARD["USER"]. As after REST framework's own exceptions, whoever handles this
            # one sees nobody; another look would call the function again.
            request._not_authenticated()  # noqa: SLF001 - as above
            raise
        if not principal.is_authenticated:
            return None
        return (BearerUser(principal) if protection().user is None else inner.user), principal

    def authenticate_header(self, request: Any) -> str:
        """Return the challenge of a 401."""
        refused = getattr(request, _REFUSED, None) or _missing(request)
        return joined_headers(refused.refusal)[_CHALLENGE]


class Requires(OperationHolderMixin):
    """A permission that demands a requirement: `permission_classes = [Requires(role("admin"))]`.

    It combines with other permissions by `&`, `|` and `~`, as they do.

    Args:
        requirement: what the caller needs.

    Raises:
        ConfigurationError: it is not a requirement.
    """

    def __init__(self, requirement: Requirement) -> None:
        if not isinstance(requirement, Requirement):
            raise ConfigurationError('Requires(): pass a requirement, such as scopes("read")')
        self.requirement: Requirement = requirement

    def __call__(self) -> _Required:
        """Return the permission, as calling a permission class does."""
        return _Required(self.requirement)


class HasScopes(BasePermission):
    """A permission that demands the scopes of the view's attribute `required_scopes`.

    `required_scopes` is a list, or a dict of lists by action or by HTTP method, as
    `{"list": ["read"], "POST": ["write"]}`. `HasScopes.of("read")` names them in
    `permission_classes` itself.
    """

    @staticmethod
    def of(*names: str) -> Requires:
        """Return a permission that demands all of these scopes."""
        return Requires(scopes(*names))

    def needed(self, view: Any, method: str) -> Requirement | None:
        """Return the scopes that a request to a view needs, as a requirement.

        Raises:
            ConfigurationError: the view names none, or none for this action.
        """
        names = getattr(view, "required_scopes", None)
        if isinstance(names, Mapping):
            names = _by_action(names, view, method)
        if names is None or isinstance(names, str):
            raise ConfigurationError(
                f"HasScopes: set required_scopes of {type(view).__name__} to a list of scopes, or"
                ' to a dict of lists by action or method; or use HasScopes.of("read")'
            )
        return scopes(*names) if names else None

    def has_permission(self, request: Any, view: Any) -> bool:
        """Return whether the caller of a request has them."""
        principal, needed = _principal(request), self.needed(view, request.method)
        return principal.is_authenticated and (
            needed is None or protection().guard.meets(principal, needed)
        )


class _Required(HasScopes):
    def __init__(self, requirement: Requirement) -> None:
        self.requirement = requirement

    def needed(self, view: Any, method: str) -> Requirement:  # noqa: ARG002 - as the base class has it
        return self.requirement


class ClientRateThrottle(SimpleRateThrottle):
    """Limits the rate of requests of each client of the authorization server.

    Its rate is `DEFAULT_THROTTLE_RATES["client"]`. Tokens that name no client count for their
    subject, and requests without a token for their address.
    """

    scope: str = "client"

    def get_cache_key(self, request: Any, view: Any) -> str:  # noqa: ARG002 - as the base class has it
        """Return the key under which the requests of a client are counted."""
        principal = _principal(request)
        ident = self.get_ident(request)
        if principal.is_authenticated:
            ident = _key(principal, "client_id", "subject")
        return self.cache_format % {"scope": self.scope, "ident": ident}


def exception_handler(exc: Exception, context: Mapping[str, Any]) -> Any:
    """Handle an exception as REST framework does, with the whole challenge on 401 and 403.

    It is for `REST_FRAMEWORK["EXCEPTION_HANDLER"]`; a handler of the project's own may call it. A
    403 names all scopes that the view's permissions need, if scopes are what the token lacks. A 401
    names the login that they need, if that is what it lacks (RFC 9470).
    """
    from rest_framework.views import exception_handler as handle  # noqa: PLC0415 - see above

    request = context.get("request")
    if request is None:
        return handle(exc, context)
    refused = _refusal_of(exc, request, context.get("view"))
    response = handle(exc, context)
    if refused is None or response is None:
        return response
    response.status_code = refused.refusal.status
    own = getattr(exc, "auth_header", None)
    for name, value in joined_headers(refused.refusal).items():
        if name == "Vary":
            patch_vary_headers(response, [value])
        elif name == _CHALLENGE and own not in {None, value}:
            response[name] = f"{own}, {value}"  # of another authentication class
        else:
            response[name] = value
    if isinstance(response.data, dict):
        members = problem(refused.decision)
        response.data |= {name: members[name] for name in _MEMBERS if name in members}
    return response


def requirement_of_view(view: Any, method: str) -> Requirement | None:
    """Return what the permissions of a view need of a token, None if any token will do."""
    return combined(*(_needed(each, view, method) for each in view.get_permissions()))


def _needed(permission: Any, view: Any, method: str) -> Requirement | None:
    if isinstance(permission, HasScopes):
        return permission.needed(view, method)
    if not isinstance(permission, AND | OR):
        return None  # what another permission needs, no scope would change
    both = [_needed(each, view, method) for each in (permission.op1, permission.op2)]
    known = [each for each in both if each is not None]
    if isinstance(permission, OR) and len(known) > 1:
        return known[0] | known[1]
    return combined(*known)


def _by_action(names: Mapping[str, Any], view: Any, method: str) -> Any:
    """Return the scopes for the action of a view set, or for the method."""
    action = getattr(view, "action", None)
    for key in (action, method, "GET" if method == "HEAD" else method):
        if key is not None and key in names:
            return names[key]
    is_routed = action is not None or hasattr(view, method.lower())
    if not is_routed or method == "OPTIONS":
        return []  # it will be 405, or describes the view
    raise ConfigurationError(
        f"HasScopes: required_scopes of {type(view).__name__} has no entry for"
        f" {action or method}: add one, [] for any token"
    )


def _principal(request: Any) -> Principal:
    """Return the caller, `ANONYMOUS` for a user without a token."""
    user = request.user
    candidates = (request.auth, user, getattr(user, "principal", None))
    found: Any = next((each for each in candidates if isinstance(each, Principal)), None)
    if found is None:  # behind the middleware a view need not have `BearerAuthentication`
        found = getattr(request, "principal", ANONYMOUS)
    return found  # type: ignore[no-any-return]


def _refuse(request: Any, refused: RequestRefused) -> NoReturn:
    """Raise a refusal as REST framework's own exception."""
    decision = refused.decision
    reason = decision.reason
    make = _EXCEPTIONS.get(decision.status, exceptions.APIException)
    error: Any = make(reason.description, reason.code)
    error.status_code = decision.status
    if isinstance(decision, Unavailable):
        error.wait = decision.retry_after  # REST framework sends it as Retry-After
    else:
        # For a handler other than ours. On a 401 it becomes the first authentication class's.
        error.auth_header = joined_headers(refused.refusal)[_CHALLENGE]
    setattr(error, _REFUSED, refused)
    setattr(request, _REFUSED, refused)
    raise error from None


def _refusal_of(exc: Exception, request: Any, view: Any) -> RequestRefused | None:
    """Return the refusal that an exception stands for, None if a token would not change it."""
    refused: RequestRefused | None = getattr(exc, _REFUSED, None)
    if refused is not None or view is None:
        return refused
    if isinstance(exc, exceptions.NotAuthenticated):
        ours = any(isinstance(each, BearerAuthentication) for each in request.authenticators)
        return _unmet(request, ANONYMOUS, view) if ours else None
    principal = _principal(request)
    if isinstance(exc, exceptions.PermissionDenied | PermissionDenied) and (
        principal.is_authenticated
    ):
        return _unmet(request, principal, view)
    return None


def _unmet(request: Any, principal: Principal, view: Any) -> RequestRefused | None:
    needed = requirement_of_view(view, request.method)
    return on_demand.unmet(request._request, principal, needed)  # noqa: SLF001 - as above


def _missing(request: Any) -> RequestRefused:
    view = request.parser_context.get("view")
    needed = None if view is None else requirement_of_view(view, request.method)
    return on_demand.missing(request._request, needed)  # noqa: SLF001 - as above


def _key(principal: Principal, *names: str) -> str:
    """Return a text for a caller or client, by the first of these that it has; fits every cache.

    It has the name of the attribute: a client may be called as another's subject is.
    """
    name = next((each for each in names if getattr(principal, each)), "")
    named = (principal.issuer, name, getattr(principal, name, None))
    return hashlib.sha256(repr(named).encode()).hexdigest()
