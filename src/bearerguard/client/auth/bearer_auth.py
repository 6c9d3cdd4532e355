"""What the `BearerAuth` of every HTTP library has in common, and the flow of those like httpx.

Knows no library: each has its own class, on its own base, in a file of its own.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator, Sequence
from typing import Any, ClassVar, Never

from bearerguard.client.auth.binding import (
    FORBIDDEN,
    STEPS,
    UNAUTHORIZED,
    Binding,
    Step,
    wrong_library,
)
from bearerguard.client.manager import TokenManager
from bearerguard.client.token import Lease

REFUSALS = (UNAUTHORIZED, FORBIDDEN)


class BoundAuth:
    """A token that is always fresh, for the origins that it is bound to.

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
        # Authorities that were seen to be bound, as a library takes URLs apart: for quick reply.
        self._known: set[tuple[str, str, int | None]] = set()

    def __repr__(self) -> str:
        return repr(self._binding)


class FlowingAuth(BoundAuth):
    """For httpx and what came from it: requests go out of a generator, and answers into it."""

    # The library's name, and what it raises for a body that was a stream.
    _library: ClassVar[str]
    _not_read: ClassVar[type[Exception]]

    def __call__(self, request: Never, /) -> Never:
        """Say so to another library, that calls what it is given: it would not see a 401."""
        raise wrong_library(self._library, request)

    def sync_auth_flow(self, request: Any) -> Generator[Any, Any, None]:
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
            again = self._again(request, response)
            if again is None:
                return
            request = again

    async def async_auth_flow(self, request: Any) -> AsyncGenerator[Any, Any]:
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
            again = self._again(request, response)
            if again is None:
                return
            request = again

    def _check(self, request: Any) -> None:
        authority = _authority(request)
        if authority not in self._known:
            self._binding.check(str(request.url))
            self._known.add(authority)

    def _put(self, request: Any, lease: Lease) -> None:
        if lease.token.dpop_key is None:
            request.headers["Authorization"] = lease.header
        else:
            request.headers.update(self._binding.headers(lease, request.method, str(request.url)))

    def _step(
        self, request: Any, response: Any, lease: Lease, left: frozenset[Step]
    ) -> Step | None:
        self._binding.hear(lease, response)
        if response.status_code not in REFUSALS:
            return None
        if _authority(response.request) != _authority(request):
            return None  # a redirect went elsewhere, and without the token
        challenges = response.headers.get_list("www-authenticate")
        url = str(response.request.url)
        return self._binding.step(lease, response.status_code, challenges, url, left)

    def _again(self, request: Any, response: Any) -> Any:
        """Return what to send again: where a redirect led, if one did; None for a spent stream."""
        try:
            request.content  # noqa: B018 - reading it tells
        except self._not_read:
            return None
        response.request.read()
        return response.request


def _authority(request: Any) -> tuple[str, str, int | None]:
    url = request.url
    return url.scheme, url.host, url.port
