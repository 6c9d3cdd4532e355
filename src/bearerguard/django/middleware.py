"""`BearerMiddleware`, for `MIDDLEWARE`: sync in a sync stack, async in an async one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from asgiref.sync import markcoroutinefunction
from django.http import HttpRequest, HttpResponse

from bearerguard.django import order
from bearerguard.django.protection import GuardedRequest, guarded_request, is_async, protection
from bearerguard.django.users import aset_user, set_user
from bearerguard.errors import ConfigurationError


class BearerMiddleware:
    """Authenticates every request by `settings.BEARERGUARD`.

    Sets `request.principal` to the `Principal`, `ANONYMOUS` where the request needed no token. It
    stands below the CORS middleware and Django's own, and above what reads the principal.

    Args:
        get_response: the next middleware, or the view.

    Raises:
        ConfigurationError: `settings.BEARERGUARD` is missing, misspelt or malformed, or
            `AuthenticationMiddleware` would replace the user that it sets.
    """

    sync_capable: bool = True
    async_capable: bool = True

    def __init__(self, get_response: Callable[[HttpRequest], Any]) -> None:
        self.get_response: Callable[[HttpRequest], Any] = get_response
        self._is_async: bool = is_async(get_response)
        if self._is_async:
            markcoroutinefunction(self)
            # Django would call a sync method in a thread.
            self.process_view = self._aprocess_view  # type: ignore[method-assign]
        in_force = protection()
        if in_force.user is not None and order.has_inside(order.AUTHENTICATION):
            raise ConfigurationError(order.USER_REPLACED)

    def __call__(self, request: HttpRequest) -> Any:
        """Handle a request; in an async stack, return a coroutine."""
        if self._is_async:
            return self._acall(request)
        guarded = GuardedRequest(protection(), request)
        published = guarded.metadata()
        if published is not None:
            return published
        refused = guarded.admit(guarded.protection.guard.run(guarded.decide()))
        refused = refused or guarded.refuse(set_user(guarded, request))
        return refused or guarded.complete(self.get_response(request))

    async def _acall(self, request: HttpRequest) -> Any:
        guarded = GuardedRequest(protection(), request)
        published = guarded.metadata()
        if published is not None:
            return published
        refused = guarded.admit(await guarded.protection.guard.arun(guarded.decide()))
        refused = refused or guarded.refuse(await aset_user(guarded, request))
        return refused or guarded.complete(await self.get_response(request))

    def process_view(self, request: HttpRequest, view: Any, _args: object, _kwargs: object) -> Any:
        """Return a refusal if the view is not the one that the request was admitted for."""
        guarded = guarded_request(request)
        return None if guarded is None else guarded.check_view(view)

    async def _aprocess_view(
        self, request: HttpRequest, view: Any, _args: object, _kwargs: object
    ) -> HttpResponse | None:
        guarded = guarded_request(request)
        return None if guarded is None else guarded.check_view(view)
