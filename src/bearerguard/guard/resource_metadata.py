"""The metadata that a guard publishes: where it is, and the response to a request for it.

Each adapter, each framework and an embedded server serve it by this one rule. Anybody may read it:
it needs no token, and pages of every origin may fetch it (RFC 9728 §3).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from urllib.parse import unquote, urlsplit

from bearerguard.guard.config.issuer import Issuer
from bearerguard.guard.config.protected_resource import ProtectedResource, authorization_servers
from bearerguard.guard.config.requirement import Requirement
from bearerguard.protocol import names, resource_metadata
from bearerguard.protocol.http import cors
from bearerguard.protocol.scope import OFFLINE_ACCESS
from bearerguard.runtime.messages import Response

_METHODS = "GET, HEAD"
# As long as that of an authorization server (RFC 8414), of which it is the counterpart.
_CACHING = ("Cache-Control", "public, max-age=3600")
_EMPTY = (("Content-Type", "text/plain"), ("Content-Length", "0"))
_READABLE = ("Access-Control-Allow-Origin", "*")


class PublishedResource:
    """The metadata document of one API.

    Args:
        resource: what it says.
        issuers: the guard's.
        requirement: what every request needs; its scopes are published if `resource` has none.

    Attributes:
        path: its path, percent-decoded: the well-known one, followed by that of the API.
    """

    __slots__ = ("_found", "_tail", "path")

    def __init__(
        self,
        resource: ProtectedResource,
        issuers: Sequence[Issuer],
        requirement: Requirement | None,
    ) -> None:
        advertised = None if requirement is None else requirement.advertised_scope()
        scopes = resource.scopes or (advertised or "").split()
        body = resource_metadata.build(
            resource.url,
            authorization_servers=authorization_servers(resource, issuers),
            scopes=[each for each in scopes if each != OFFLINE_ACCESS],
            members={
                "resource_name": resource.name,
                "resource_documentation": resource.documentation,
                "resource_policy_uri": resource.policy,
                "resource_tos_uri": resource.terms,
                **resource.members,
            },
        )
        self._found = Response(
            200,
            (
                ("Content-Type", names.JSON),
                ("Content-Length", str(len(body))),
                _CACHING,
                _READABLE,
                ("X-Content-Type-Options", "nosniff"),
            ),
            body,
        )
        self._tail = unquote(urlsplit(resource.url).path).removesuffix("/")
        self.path: str = resource_metadata.PATH + self._tail

    def is_at(self, path: str, root: str = "") -> bool:
        """Whether a request for `path` means this document.

        It is at the well-known path, and followed there by the path of the API (RFC 9728 §3.1),
        with or without a final slash. `root` is where the app is mounted; `path` is below it, and
        the path of the API may lack it.
        """
        if not path.startswith(resource_metadata.PATH):
            return False
        tail = path[len(resource_metadata.PATH) :].removesuffix("/")
        return tail in {"", self._tail} or (bool(root) and root + tail == self._tail)

    def respond(self, method: str, header: Callable[[str], str | None]) -> Response:
        """Return the response to a request; `header` returns a field by its lower-case name."""
        if method == "GET":
            return self._found
        if method == "HEAD":
            return Response(200, self._found.headers)
        if method == "OPTIONS":
            return cors.preflight(_METHODS, "*", header)
        allow = ("Allow", f"{_METHODS}, OPTIONS")
        return Response(405, (*_EMPTY, allow, _READABLE))
