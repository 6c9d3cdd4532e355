"""`BearerAuth` for httpx, for its synchronous and its asynchronous clients."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator, Sequence
from typing import Never

import httpx

from bearerguard.client.binding import FORBIDDEN, STEPS, UNAUTHORIZED, Binding, Step, wrong_library
from bearerguard.client.manager import TokenManager
from bearerguard.client.token import Lease

_REFUSALS = (UNAUTHORIZED, FORBIDDEN)


class BearerAuth(httpx.Auth):
    """Sends a token that is always fresh: `httpx.Client(auth=BearerAuth(manager))`.

    A 401 has the token renewed and the request sent again, once, if its body can be sent
    again; a body that is a stream cannot, so that the caller gets the 401.

    Args:
        manager: hands out tokens.
        origins: where they may go; by default the source's `resource`.
        insecure_allow_http: allow plain http beyond loopback.

    Raises:
        ConfigurationError: no origin is known, or one is unsafe; or a request goes elsewhere.
        InsufficientScope: the API demands more scope (RFC 6750 §3.1).
        StepUpRequired: the API demands another login (RFC 9470 §3).
        LoginRequired, TokenRefused, TokenUnavailable, StorageError: there is no token.
    """

    def __init__(
        self,
        manager: TokenManager,
        *,
        origins: Sequence[str] | None = None,
        insecure_allow_http: bool = False,
    ) -> None:
        self._binding = Binding(manager, origins, insecure_allow_http=insecure_allow_http)
        self._manager = manager
        # Authorities that were seen to be bound, as httpx takes URLs apart: for quick reply.
        self._known: set[tuple[str, str, int | None]] = set()

    def __repr__(self) -> str:
        return repr(self._binding)

    def __call__(self, request: Never, /) -> Never:
        """Say so to another library, that calls what it is given: it would not see a 401."""
        raise wrong_library("httpx", request)

    def sync_auth_flow(
        self, request: httpx.Request
    ) -> Generator[httpx.Request, httpx.Response, None]:
        """Send a request, and once again if that helps."""
        self._check(request)
        lease = self._manager.fresh() or self._manager.lease()
        left = STEPS
        while True:
            self._put(request, lease)
            response = yield request
            step = self._step(request, response, lease, left)
            if step is None:
                return
            left -= {step}
            if step is Step.RENEW:
                renewed = self._manager.renew(lease)
                if renewed.header == lease.header:
                    return
                lease = renewed
            again = _again(request, response)
            if again is None:
                return
            request = again

    async def async_auth_flow(
        self, request: httpx.Request
    ) -> AsyncGenerator[httpx.Request, httpx.Response]:
        """Send a request, and once again if that helps."""
        self._check(request)
        lease = self._manager.fresh() or await self._manager.alease()
        left = STEPS
        while True:
            self._put(request, lease)
            response = yield request
            step = self._step(request, response, lease, left)
            if step is None:
                return
            left -= {step}
            if step is Step.RENEW:
                renewed = await self._manager.arenew(lease)
                if renewed.header == lease.header:
                    return
                lease = renewed
            again = _again(request, response)
            if again is None:
                return
            request = again

    def _check(self, request: httpx.Request) -> None:
        authority = _authority(request)
        if authority not in self._known:
            self._binding.check(str(request.url))
            self._known.add(authority)

    def _put(self, request: httpx.Request, lease: Lease) -> None:
        if lease.token.dpop_key is None:
            request.headers["Authorization"] = lease.header
        else:
            request.headers.update(self._binding.headers(lease, request.method, str(request.url)))

    def _step(
        self,
        request: httpx.Request,
        response: httpx.Response,
        lease: Lease,
        left: frozenset[Step],
    ) -> Step | None:
        self._binding.hear(lease, response)
        if response.status_code not in _REFUSALS:
            return None
        if _authority(response.request) != _authority(request):
            return None  # a redirect went elsewhere, and without the token
        challenges = response.headers.get_list("www-authenticate")
        url = str(response.request.url)
        return self._binding.step(lease, response.status_code, challenges, url, left)


def _authority(request: httpx.Request) -> tuple[str, str, int | None]:
    url = request.url
    return url.scheme, url.host, url.port


def _again(request: httpx.Request, response: httpx.Response) -> httpx.Request | None:
    """Return what to send again: where a redirect led, if one did; None for a spent stream."""
    try:
        request.content  # noqa: B018 - reading it tells
    except httpx.RequestNotRead:
        return None
    response.request.read()
    return response.request
