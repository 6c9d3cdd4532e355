"""The URL by which a client has requested something, which a proof names (`htu`, RFC 9449 §4.2).

It is made of what the operator has configured, or of what a proxy of theirs says; never of the Host
that any client may send: a proof that was made for another server would be accepted then.
"""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import urlsplit

from bearerguard.errors import WRONG_PROOF_TARGET, ConfigurationError, ProofError, quoted
from bearerguard.guard.binding.received_request import ReceivedRequest
from bearerguard.guard.config.options import check_public_url
from bearerguard.guard.config.protected_resource import ProtectedResource
from bearerguard.protocol.http.proxies import Proxies, forwarded_origin
from bearerguard.protocol.resource_metadata import origin

_UNKNOWN = (
    "public_url=: dpop= needs the URL by which clients reach this API, as proofs name it: pass"
    ' public_url="https://api.example.com", or resource=, or trusted_proxies= for the proxies whose'
    " X-Forwarded-Host and X-Forwarded-Proto say it"
)


class ExternalUrls:
    """Makes the URL that a client has requested.

    Args:
        public_url: scheme and host of the API, and the path that a proxy removes from requests.
        trusted_proxies: addresses or networks of proxies that say scheme and host.
        resource: the API, whose URL has scheme and host where nothing else says them.

    Raises:
        ConfigurationError: there is none of these, or one is malformed.
    """

    def __init__(
        self,
        public_url: str | None,
        trusted_proxies: Sequence[str],
        resource: ProtectedResource | None,
    ) -> None:
        self._proxies = Proxies(trusted_proxies) if trusted_proxies and public_url is None else None
        self._prefix = ""
        self._origin: str | None = None
        if public_url is not None:
            check_public_url(public_url)
            self._origin = origin(public_url)
            self._prefix = urlsplit(public_url).path.rstrip("/")
        elif resource is not None:
            self._origin = origin(resource.url)
        elif self._proxies is None:
            raise ConfigurationError(_UNKNOWN)

    def of(self, request: ReceivedRequest) -> str:
        """Return the URL without query and fragment; raises `ProofError` if it is not known."""
        known = self._origin
        if self._proxies is not None:
            if self._proxies.trusts(request.peer):
                known = forwarded_origin(request.scheme, request.values)
            if known is None:
                raise ProofError(
                    WRONG_PROOF_TARGET,
                    f"the URL of the request is not known: it comes from {quoted(request.peer)},"
                    " which is not among trusted_proxies=, or which says no valid host (uvicorn"
                    " replaces the address of a proxy: run it with --no-proxy-headers, or pass"
                    " public_url=)",
                )
        path, prefix = request.path, self._prefix
        if prefix and path != prefix and not path.startswith(prefix + "/"):
            path = prefix + path
        return f"{known}{path or '/'}"
