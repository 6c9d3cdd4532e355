"""`BEARERGUARD["USER"]`: the Django user of a principal.

A valid token whose user does not exist, or is not active, is refused with 403: another token for
the same user would not help. An exception of the hook is handled by Django, as that of a view.
"""

from __future__ import annotations

from typing import Any

from asgiref.sync import async_to_sync, sync_to_async
from django.apps import apps

from bearerguard.django.protection import GuardedRequest, is_async
from bearerguard.errors import ConfigurationError, Reason
from bearerguard.guard.decision import Deny

NO_ACCOUNT = Reason("no_account", "There is no active account for this access token")


def set_user(guarded: GuardedRequest, request: Any) -> Deny | None:
    """Set `request.user` and `request.auser`; return the refusal if the principal has no user."""
    hook = _hook_for(guarded, request)
    if hook is None:
        return None
    if is_async(hook):
        hook = async_to_sync(hook)
    return _set(guarded, request, hook(guarded.principal))


async def aset_user(guarded: GuardedRequest, request: Any) -> Deny | None:
    """Do what `set_user` does; a sync hook runs in Django's thread for sync code."""
    hook = _hook_for(guarded, request)
    if hook is None:
        return None
    if not is_async(hook):
        hook = sync_to_async(hook, thread_sensitive=True)
    return _set(guarded, request, await hook(guarded.principal))


def _hook_for(guarded: GuardedRequest, request: Any) -> Any:
    """Return the hook to call, None if there is none or the request has no token."""
    hook = guarded.protection.user
    if hook is not None and not guarded.principal.is_authenticated:
        _set_anonymous(request)
        return None
    return hook


def _set(guarded: GuardedRequest, request: Any, user: Any) -> Deny | None:
    if user is None:
        return _deny(guarded, "returned None for a valid token")
    is_authenticated = getattr(user, "is_authenticated", None)
    if is_authenticated is None:  # such as the tuple of `get_or_create`
        raise ConfigurationError(
            f'BEARERGUARD["USER"]: it returned a {type(user).__name__}: return a user, or None'
        )
    # An anonymous user is never active: the hook returns one for a token that has no user.
    if is_authenticated and not getattr(user, "is_active", True):
        return _deny(guarded, "returned a user who is not active for a valid token")
    _assign(request, user)
    return None


def _deny(guarded: GuardedRequest, cause: str) -> Deny:
    guard = guarded.protection.guard
    guard.report(NO_ACCOUNT.code, f'BEARERGUARD["USER"] {cause}', place=guarded.place())
    return Deny(403, NO_ACCOUNT, (guard.challenge,), principal=guarded.principal)


def _set_anonymous(request: Any) -> None:
    """Set Django's anonymous user where no middleware sets a session's."""
    if not hasattr(request, "user") and apps.is_installed("django.contrib.auth"):
        # Django's models may be imported only when its apps are loaded.
        from django.contrib.auth.models import AnonymousUser  # noqa: PLC0415 - see above

        _assign(request, AnonymousUser())


def _assign(request: Any, user: Any) -> None:
    async def auser() -> Any:
        return user

    request.user, request.auser = user, auser
