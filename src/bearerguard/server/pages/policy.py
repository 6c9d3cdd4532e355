"""The security header fields of pages.

They forbid frames, assets of other hosts, caching, referrers, and every script but one. Knows no
templates.
"""

from __future__ import annotations

import base64
import hashlib

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
    style: str,
    *,
    script: str = "",
    images: bool = False,
    leads_on: bool = False,
    in_popups: bool = False,
) -> tuple[tuple[str, str], ...]:
    """Return the header fields of a page.

    Args:
        style: the exact content of the page's style element, for its hash.
        script: the exact content of the page's script element, or "" for a page without one.
        images: whether the page has images, all of them in data URIs.
        leads_on: whether a form leads to another site in the end; see `Pages.page`.
        in_popups: whether an app may open the page in a popup that must keep its opener.
    """
    policy = "; ".join(
        (
            "default-src 'none'",
            f"style-src {_hash(style)}",
            *((f"script-src {_hash(script)}",) if script else ()),
            *(("img-src data:",) if images else ()),
            # Chromium applies this directive to every redirect after a form's POST: ours to the
            # client, and the client's own to another host or to an app's scheme (`claude:`),
            # which is unknown here. Likewise to a login elsewhere, and its own to another host. No
            # source expression matches every scheme, not even `*` (CSP §6.7.2.8). So it is set only
            # on pages that lead to neither. The others are protected by their templates, which
            # escape every value and run one known script at most, and by the CSRF token.
            *(() if leads_on else ("form-action 'self'",)),
            "frame-ancestors 'none'",
            "base-uri 'none'",
        )
    )
    # Any other value separates a popup from its opener for good: the client's callback page,
    # later in the same popup, could not pass its result on (Swagger UI, oidc-client-ts). With
    # `unsafe-none`, an opener of another origin can navigate the popup and count its frames (there
    # are none). It cannot read or fill in the page (same-origin policy), frame it
    # (frame-ancestors) or post its form (CSRF token).
    opener = "unsafe-none" if in_popups else "same-origin"
    fields = (("Cross-Origin-Opener-Policy", opener), ("Content-Security-Policy", policy))
    return (*_ALWAYS, *fields)


def _hash(content: str) -> str:
    """Return the source expression of an element with this content (CSP §2.3.1)."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}'"
