"""`BearerAuth` for requests."""

from __future__ import annotations

from typing import Any
from urllib.parse import urljoin

import requests
from requests.auth import AuthBase

from bearerguard.client.auth.bearer_auth import REFUSALS, BoundAuth
from bearerguard.client.auth.binding import STEPS, Step, wrong_library
from bearerguard.client.token import Lease
from bearerguard.protocol.names import DPOP_PROOF
from bearerguard.protocol.resource_metadata import origin


class BearerAuth(BoundAuth, AuthBase):
    """Sends a token that is always fresh: `session.auth = BearerAuth(manager)`.

    Its options, and what is raised, are those of `BoundAuth`.
    """

    def __call__(self, r: requests.PreparedRequest) -> requests.PreparedRequest:
        """Put a token on a request, and look at its answer."""
        if not isinstance(r, requests.PreparedRequest):
            raise wrong_library("requests", r)
        self._binding.check(r.url or "")
        lease = self._manager.fresh() or self._manager.lease()
        self._put(r, lease)

        def answered(response: requests.Response, **options: Any) -> requests.Response:
            # A redirect hands this hook on, and to another origin no token.
            if response.request.headers.get("Authorization") != lease.header:
                return response
            if response.is_redirect and not _stays(response):
                response.request.headers.pop(DPOP_PROOF, None)
            return self._answered(response, lease, options)

        r.register_hook("response", answered)
        return r

    def _answered(
        self, response: requests.Response, lease: Lease, options: dict[str, Any]
    ) -> requests.Response:
        left = STEPS
        while True:
            try:
                step = self._step(response, lease, left)
                renewed = self._manager.renew(lease) if step is Step.RENEW else lease
            except BaseException:
                response.close()  # nobody else can: it reaches no caller
                raise
            if step is None or (step is Step.RENEW and renewed.header == lease.header):
                return response
            if not isinstance(response.request.body, str | bytes | None):
                return response  # a stream, that is spent
            left, lease = left - {step}, renewed
            response = self._sent_again(response, lease, options)

    def _sent_again(
        self, response: requests.Response, lease: Lease, options: dict[str, Any]
    ) -> requests.Response:
        again = response.request.copy()
        again.hooks = {"response": []}
        self._put(again, lease)
        response.content  # noqa: B018 - reading it to its end frees the connection
        response.close()
        answer: requests.Response = response.connection.send(again, **options)
        answer.history.append(response)
        answer.request = again
        return answer

    def _put(self, request: requests.PreparedRequest, lease: Lease) -> None:
        request.headers.update(
            self._binding.headers(lease, request.method or "GET", request.url or "")
        )

    def _step(
        self, response: requests.Response, lease: Lease, left: frozenset[Step]
    ) -> Step | None:
        self._binding.hear(lease, response)
        if response.status_code not in REFUSALS:
            return None
        url = response.request.url or ""
        return self._binding.step(lease, response.status_code, _challenges(response), url, left)


def _stays(response: requests.Response) -> bool:
    """Whether a redirect leads to the origin that it comes from."""
    try:
        target = urljoin(response.url, response.headers["location"])
        return origin(target) == origin(response.url)
    except ValueError:
        return False  # it leads nowhere


def _challenges(response: requests.Response) -> list[str]:
    """Return the lines as they came: requests joins them, and urllib3 underneath does not."""
    lines = getattr(getattr(response.raw, "headers", None), "getlist", None)
    if lines is None:  # an adapter without urllib3
        return [response.headers.get("www-authenticate", "")]
    return list(lines("www-authenticate"))
