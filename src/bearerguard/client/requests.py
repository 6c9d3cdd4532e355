"""`BearerAuth` for requests."""

from __future__ import annotations

from functools import partial
from typing import TypedDict, Unpack
from urllib.parse import urljoin

from bearerguard.client.bearer_auth import (
    REFUSALS,
    BoundAuth,
    FirstLease,
    Refusal,
    SendAgain,
    following,
    wrong_library,
)
from bearerguard.client.token import NO_LEASE, Lease
from bearerguard.protocol.names import DPOP_PROOF
from bearerguard.protocol.resource_metadata import origin
from bearerguard.runtime.extras import Extra

with Extra("client", needed_by=__name__):
    import requests
    from requests.auth import AuthBase


class _SendOptions(TypedDict, total=False):
    """The options with which a session sends a request; its hooks get them too."""

    stream: bool
    timeout: float | tuple[float | None, float | None] | None
    verify: bool | str
    cert: str | tuple[str, str] | None
    proxies: dict[str, str] | None


class BearerAuth(BoundAuth, AuthBase):
    """Sends a token that is always fresh: `session.auth = BearerAuth(manager)`.

    Its options, and what is raised, are those of `BoundAuth`.
    """

    def __call__(self, r: requests.PreparedRequest) -> requests.PreparedRequest:
        """Put a token on a request, and register a hook for its response."""
        if not isinstance(r, requests.PreparedRequest):
            raise wrong_library("requests", r)
        self._check(r.url or "")
        lease = self._manager.fresh() or self._leased(FirstLease()) or NO_LEASE
        self._put(r, lease)

        def examined(
            response: requests.Response, **options: Unpack[_SendOptions]
        ) -> requests.Response:
            # A redirected request has this hook too, but carries no token to another origin.
            if response.request.headers.get("Authorization", "") != lease.header:
                return response
            if response.is_redirect and not _stays(response):
                response.request.headers.pop(DPOP_PROOF, None)
            return self._retried(response, lease, options)

        r.register_hook("response", examined)
        return r

    def _retried(
        self, response: requests.Response, lease: Lease, options: _SendOptions
    ) -> requests.Response:
        """Return this response, or the response to the request sent again."""
        try:
            retries = self._retries(lease, self._refusal(response, lease))
            step = following(retries, None)
            while step is not None:
                reply: Lease | Refusal | None
                if not isinstance(step, SendAgain):
                    reply = self._leased(step)
                elif not isinstance(response.request.body, str | bytes | None):
                    return response  # the stream has been read
                else:
                    response = self._sent_again(response, step.lease, options)
                    reply = self._refusal(response, step.lease)
                step = following(retries, reply)
        except BaseException:
            response.close()  # no caller gets it
            raise
        return response

    def _sent_again(
        self, response: requests.Response, lease: Lease, options: _SendOptions
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
        if lease is NO_LEASE:
            return
        method, url, body = request.method or "GET", request.url or "", partial(_body, request)
        request.headers.update(self._headers(lease, method, url, body))

    def _refusal(self, response: requests.Response, lease: Lease) -> Refusal | None:
        """Return the response as a refusal of the token; None for any other response."""
        url = response.request.url or ""
        self._note(lease, url, response.headers)
        if response.status_code not in REFUSALS:
            return None
        return Refusal(response.status_code, _challenges(response), url)


def _body(request: requests.PreparedRequest) -> bytes | None:
    """Return the body of a request, None for a stream."""
    body = request.body or b""
    if isinstance(body, str):  # as its Content-Length was counted, whatever sends it
        request.body = body = body.encode()
    return body if isinstance(body, bytes) else None


def _stays(response: requests.Response) -> bool:
    """Whether a redirect stays on its origin."""
    try:
        target = urljoin(response.url, response.headers["location"])
        return origin(target) == origin(response.url)
    except ValueError:
        return False  # no valid URL


def _challenges(response: requests.Response) -> list[str]:
    """Return the header fields separately: requests joins them, urllib3 does not."""
    fields = getattr(getattr(response.raw, "headers", None), "getlist", None)
    if fields is None:  # an adapter without urllib3
        return [response.headers.get("www-authenticate", "")]
    return list(fields("www-authenticate"))
