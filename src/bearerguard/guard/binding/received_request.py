"""A request as the server received it: what its sender has to prove something about.

An adapter makes it only for a request whose token is bound, or may be.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, MutableMapping
from typing import Any
from urllib.parse import quote, unquote

from bearerguard.runtime.messages import ClientCertificate, Request

# The characters that a path has as they are (RFC 3986 §3.3), besides the unreserved ones.
_SAFE = "/:@!$&'()*+,;=~"


class ReceivedRequest:
    """A request as the server received it.

    Args:
        method: the method as it was sent; GET for a websocket.
        path: the path as it was sent, percent-encoded, with the mount; see `sent_path`.
        values: returns the values of all header fields of a lower-case name.
        scheme: http or https, ws or wss: the scheme of the connection.
        peer: the address that the connection comes from, "" for a Unix socket; None where a
            middleware may have replaced it. Or a function that returns it: few requests need it.
        tls: what the server says of the TLS connection: the `tls` extension of an ASGI scope, or
            the environ of WSGI; None for nothing.
        certificate: that of the TLS client, where a caller of the guard has passed it.
        kept: what the server and the app keep with the request, its ASGI scope or WSGI environ.
            There the guard notes the proof that the request has used, for a second decision on the
            same request; None where nothing decides twice.
    """

    __slots__ = ("_peer", "certificate", "kept", "method", "path", "scheme", "tls", "values")

    def __init__(  # noqa: PLR0917 - its values, in their order
        self,
        method: str,
        path: str,
        values: Callable[[str], list[bytes]],
        scheme: str = "https",
        peer: str | Callable[[], str | None] | None = "",
        tls: Mapping[str, Any] | None = None,
        certificate: ClientCertificate | None = None,
        kept: MutableMapping[str, Any] | None = None,
    ) -> None:
        self.method: str = method
        self.path: str = path
        self.values: Callable[[str], list[bytes]] = values
        self.scheme: str = scheme
        self._peer = peer
        self.tls: Mapping[str, Any] | None = tls
        self.certificate: ClientCertificate | None = certificate
        self.kept: MutableMapping[str, Any] | None = kept

    @property
    def peer(self) -> str | None:
        """The address that the connection comes from."""
        peer = self._peer
        return peer() if callable(peer) else peer

    def __repr__(self) -> str:
        """Show the method alone: a path or a header may hold a token."""
        return f"ReceivedRequest({self.method!r})"


def received(request: Request | ReceivedRequest) -> ReceivedRequest:
    """Return a `Request` of a caller of the guard as an adapter would."""
    if isinstance(request, ReceivedRequest):
        return request
    # Cut first: a query may have "://" too, and what follows it is no path of the request.
    url = request.url.partition("?")[0].partition("#")[0]
    scheme, mark, rest = url.partition("://")
    if mark and not url.startswith("/"):
        path = "/" + rest.partition("/")[2]
    else:
        scheme, path = "https", url
    return ReceivedRequest(
        request.method,
        path,
        lambda name: request.values(name.encode()),
        scheme,
        request.peer,
        certificate=request.certificate,
    )


def sent_path(whole: str, root: str, raw: str) -> str:
    """Return the path that the client sent, percent-encoded, with the mount of a server.

    Servers differ in whether `raw` has the mount that their options name, and a proxy may have
    removed it: it is neither left out nor put there twice.

    Args:
        whole: the path with the mount, percent-decoded, as apps see it.
        root: the mount, percent-decoded, without a final slash; "" for none.
        raw: the path as the server received it, with or without a query; "" if it is not known.
    """
    raw = raw.partition("?")[0]
    if raw == whole and "%" not in raw:
        return raw
    if "://" in raw[:8]:  # the absolute form of a request target
        raw = "/" + raw.partition("://")[2].partition("/")[2]
    decoded = unquote(raw)
    if decoded == whole:
        return raw
    if root and root + decoded == whole:
        return quote(root, safe=_SAFE) + raw
    return quote(whole, safe=_SAFE)  # it is not known, or something has rewritten it
