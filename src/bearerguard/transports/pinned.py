"""The transport for URLs that strangers name: it reaches public hosts by https, and nothing else.

A host is resolved once. Its addresses are checked, and the connection is made to the very address
that was checked, with the certificate of the name: another answer of the resolver changes nothing.
Redirects are not followed, and no proxy is used, for a proxy would resolve the name again. Knows
nothing of what is fetched.
"""

from __future__ import annotations

import re
import ssl
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from bearerguard.errors import quoted
from bearerguard.runtime.addresses import is_loopback, is_public
from bearerguard.runtime.flow import Fetch
from bearerguard.runtime.messages import FetchFailed, Response
from bearerguard.transports.http import HttpTransport
from bearerguard.transports.resolver import RESOLVER, Addresses, Resolver

if TYPE_CHECKING:
    import httpx2

_HTTPS_PORT = 443
_MAX_URL, _MAX_HOST = 2048, 253
# Printable ASCII without a backslash: parsers of URLs differ about other characters (RFC 3986 §2).
_URL = re.compile(r"[!-\[\]-~]+")
# Names in lower or upper case letters, digits and hyphens (RFC 1123 §2.1). A last label of digits
# makes a name an IPv4 address, in one of the notations that C libraries know.
_NAME = re.compile(r"(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z](?:[a-z0-9-]{0,61}[a-z0-9])?")


class PinnedTransport(HttpTransport):
    """Fetches what a stranger's URL names, from public hosts alone.

    The URL must be https at port 443, and its host a name with a dot. All addresses of the
    name must be public: none of the special-purpose blocks of IANA's registries, such as
    loopback, private, link-local, documentation or multicast addresses, and no IPv6 address that
    stands for an IPv4 one. A redirect is returned, not followed; the environment's proxies are
    ignored.

    Args:
        timeout: seconds until the whole response must have arrived, name resolution included.
        max_bytes: the longest body accepted in bytes, before and after decompression.
        ssl_context: for hosts with a certificate of a private authority.
        insecure_allow_loopback: also fetch from this machine, by http too and at any port. For
            development and tests.
        resolver: finds the addresses of a host.

    Raises:
        ConfigurationError: a limit is not positive.
    """

    def __init__(
        self,
        *,
        timeout: float = 5.0,
        max_bytes: int = 524_288,
        ssl_context: ssl.SSLContext | None = None,
        insecure_allow_loopback: bool = False,
        resolver: Resolver = RESOLVER,
    ) -> None:
        super().__init__(timeout=timeout, max_bytes=max_bytes, ssl_context=ssl_context)
        self._allows_loopback = insecure_allow_loopback
        self._resolver = resolver

    def fetch(self, request: Fetch) -> Response:
        """Return the response, in the calling thread.

        Raises `FetchFailed` when there is none; its `kind` is "forbidden" for a URL or an address
        that this transport must not reach.
        """
        self._check(request.url)
        return super().fetch(request)

    async def afetch(self, request: Fetch) -> Response:
        """Do as `fetch`, in the running event loop."""
        self._check(request.url)
        return await super().afetch(request)

    def _check(self, url: str) -> None:
        fault = self._fault(url)
        if fault is not None:
            raise FetchFailed(f"{quoted(url)}: {fault}", kind="forbidden")

    def _fault(self, url: str) -> str | None:
        """Return why a URL must not be fetched, before anything is resolved."""
        if len(url) > _MAX_URL or not _URL.fullmatch(url):
            return f"longer than {_MAX_URL} characters, or has some that no URL has"
        try:
            parts = urlsplit(url)
            host, port = parts.hostname or "", parts.port
        except ValueError:
            return "no valid URL"
        if self._allows_loopback and parts.scheme in {"http", "https"} and is_loopback(host):
            return None
        named = _NAME.fullmatch(host) and len(host) <= _MAX_HOST
        faults = (
            (parts.scheme != "https", "not https"),
            ("@" in parts.netloc, "has a user part"),
            (not named, "its host is no name with a dot (RFC 1123 §2.1); addresses are refused"),
            (
                port not in {None, _HTTPS_PORT} and not self._allows_loopback,
                f"port {port} instead of {_HTTPS_PORT}",
            ),
        )
        return next((words for is_fault, words in faults if is_fault), None)

    def _admit(self, host: str, addresses: Addresses) -> None:
        """Raise `FetchFailed` if a host has an address that must not be connected to."""
        for address in addresses:
            if not is_public(address) and not (self._allows_loopback and is_loopback(address)):
                raise FetchFailed(f"{host}: its address {address} is not public", kind="forbidden")

    def _dial(self, client: httpx2.Client | httpx2.AsyncClient) -> None:
        from bearerguard.transports.dialing import dial_within_deadlines  # noqa: PLC0415 - it imports an HTTP library

        dial_within_deadlines(client, resolver=self._resolver, admit=self._admit)

    def _options(self, *, direct: bool) -> dict[str, Any]:  # noqa: ARG002 - no proxy is asked
        return super()._options(direct=True)
