"""`BearerMiddleware`, for `MIDDLEWARE`: sync in a sync stack, async in an async one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from asgiref.sync import markcoroutinefunction
from django.http import HttpRequest, HttpResponse

from bearerguard.django import order
from bearerguard.django.protection import Visit, is_async, protection, visit_of
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
            raise ConfigurationError(order.OF_USERS)

    def __call__(self, request: HttpRequest) -> Any:
        """Handle a request; in an async stack, return a coroutine."""
        if self._is_async:
            return self._acall(request)
        visit = Visit(protection(), request)
        refused = visit.admit(visit.protection.guard.run(visit.decide()))
        refused = refused or visit.refuse(set_user(visit, request))
        return refused or visit.complete(self.get_response(request))

    async def _acall(self, request: HttpRequest) -> Any:
        visit = Visit(protection(), request)
        refused = visit.admit(await visit.protection.guard.arun(visit.decide()))
        refused = refused or visit.refuse(await aset_user(visit, request))
        return refused or visit.complete(await self.get_response(request))

    def process_view(self, request: HttpRequest, view: Any, _args: object, _kwargs: object) -> Any:
        """Compare the view with the one for which the request was admitted."""
        visit = visit_of(request)
        return None if visit is None else visit.enter(view)

    async def _aprocess_view(
        self, request: HttpRequest, view: Any, _args: object, _kwargs: object
    ) -> HttpResponse | None:
        visit = visit_of(request)
        return None if visit is None else visit.enter(view)
