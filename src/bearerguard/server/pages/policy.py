"""The header lines that every page carries: what a browser may do with it, and what not.

No script, no frame, no asset of another host, no cache, no referrer. Knows no templates.
"""

from __future__ import annotations

import base64
import hashlib
import re
from urllib.parse import urlsplit

_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*")
# A host as CSP can name it (CSP §2.3.1); it has no spelling for IPv6 literals.
_AUTHORITY = re.compile(r"[a-z0-9.-]+(:[0-9]+)?")

_ALWAYS = (
    ("Content-Type", "text/html; charset=utf-8"),
    ("Cache-Control", "no-store"),
    ("Pragma", "no-cache"),
    ("Referrer-Policy", "no-referrer"),
    ("X-Content-Type-Options", "nosniff"),
    ("X-Frame-Options", "DENY"),
    ("Permissions-Policy", "camera=(), geolocation=(), microphone=()"),
)


def page_headers(
    style: str, *, leads_to: str = "", in_popups: bool = False
) -> tuple[tuple[str, str], ...]:
    """Return the header lines of a page.

    Args:
        style: the page's style sheet, as it stands between its tags.
        leads_to: the redirect URI to which answering the page's form leads in the end.
        in_popups: whether an app may show the page in a popup, which answers its opener.
    """
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = "; ".join(
        (
            "default-src 'none'",
            f"style-src 'sha256-{digest}'",
            f"form-action {_form_action(leads_to)}",
            "frame-ancestors 'none'",
            "base-uri 'none'",
        )
    )
    # Any other value cuts a popup off from the page that opened it, for ever: the client's
    # callback page, later in the same popup, could not hand its answer over (Swagger UI,
    # oidc-client-ts). What an opener of another origin can do without it is to send the popup
    # elsewhere and to count its frames, of which there are none. It can read and fill in nothing
    # (same-origin policy), frame nothing (frame-ancestors) and post no form (CSRF tickets).
    opener = "unsafe-none" if in_popups else "same-origin"
    lines = (("Cross-Origin-Opener-Policy", opener), ("Content-Security-Policy", policy))
    return (*_ALWAYS, *lines)


def _form_action(leads_to: str) -> str:
    """Return where a form may go.

    Chromium holds every redirect after a form's POST to this directive, the client's own
    redirects after ours included: many apps send the browser on to another host. So a page
    that leads to a client allows https, and besides it only the client's own address.
    """
    if not leads_to:
        return "'self'"
    scheme, authority = _address(leads_to)
    if scheme == "https":
        return "'self' https:"
    if scheme == "http" and _AUTHORITY.fullmatch(authority):
        return f"'self' https: http://{authority}"
    return f"'self' https: {scheme}:" if scheme else "'self' https:"


def _address(uri: str) -> tuple[str, str]:
    """Return a URI's scheme and authority; nothing of it may get into the policy unchecked."""
    parts = urlsplit(uri)
    scheme = parts.scheme if _SCHEME.fullmatch(parts.scheme) else ""
    return scheme, parts.netloc.lower()
