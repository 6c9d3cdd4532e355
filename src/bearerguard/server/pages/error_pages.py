"""Shows error pages and reports each: the page and its event have the same reference."""

from __future__ import annotations

from bearerguard.runtime.messages import Response
from bearerguard.server.audit import Audit, new_reference
from bearerguard.server.http.oauth_error import OAuthError
from bearerguard.server.pages import Link, Pages


class ErrorPages:
    """The error pages of one server.

    Args:
        pages: renders them.
        audit: receives the events.
        base: the path of the issuer's URL, before `/oauth`.
    """

    def __init__(self, pages: Pages, audit: Audit, base: str) -> None:
        self._pages = pages
        self._audit = audit
        self._base = base

    def show(
        self,
        error: OAuthError,
        endpoint: str,
        name: str,
        text: str = "text",
        *,
        client_name: str = "",
        back: Link | None = None,
    ) -> Response:
        """Report that a request to `endpoint` was refused, and return the page that says so.

        Nothing is redirected to the client (RFC 6749 §4.1.2.1).

        Args:
            error: the refusal; its status and its header fields are those of the page.
            endpoint: the path, relative to the issuer's.
            name: of the texts `error.{name}.heading` and `error.{name}.{text}`.
            text: see `name`.
            client_name: the client that the request is about, if it is known, else "".
            back: where the user can go from here.
        """
        reference = new_reference()
        error.note(reference=reference)
        error.report(self._audit, self._base + endpoint)
        return self._pages.error(
            error.status,
            name,
            text,
            headers=error.headers,
            reference=reference,
            client_name=client_name,
            back=back,
        )
