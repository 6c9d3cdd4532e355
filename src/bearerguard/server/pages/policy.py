"""The header fields of pages: what a browser may do with a page.

No script, no frame, no asset of another host, no cache, no referrer. Knows no templates.
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
    style: str, *, leads_on: bool = False, in_popups: bool = False
) -> tuple[tuple[str, str], ...]:
    """Return the header fields of a page.

    Args:
        style: the page's style sheet, as it stands between its tags.
        leads_on: whether the page's form leads to a redirect to a client.
        in_popups: whether an app may show the page in a popup that talks to its opener.
    """
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = "; ".join(
        (
            "default-src 'none'",
            f"style-src 'sha256-{digest}'",
            # Chromium applies this directive to every redirect after a form's POST: ours to the
            # client, and the client's own to another host or to an app's scheme (`claude:`),
            # which is unknown here. No source expression matches every scheme, not even `*` (CSP
            # §6.7.2.8). So only pages that lead to no client have it. The others rely on their
            # templates, which escape every value and run no script, and on the CSRF token.
            *(() if leads_on else ("form-action 'self'",)),
            "frame-ancestors 'none'",
            "base-uri 'none'",
        )
    )
    # Any other value separates a popup from its opener for good: the client's callback page,
    # later in the same popup, could not pass its result on (Swagger UI, oidc-client-ts). With
    # this value, an opener of another origin can navigate the popup and count its frames, of
    # which there are none. It can read and fill in nothing (same-origin policy), frame nothing
    # (frame-ancestors) and post no form (CSRF token).
    opener = "unsafe-none" if in_popups else "same-origin"
    fields = (("Cross-Origin-Opener-Policy", opener), ("Content-Security-Policy", policy))
    return (*_ALWAYS, *fields)
