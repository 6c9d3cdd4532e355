"""The pages that the loopback receiver shows in the browser: no script, nothing to load."""

from __future__ import annotations

import base64
import hashlib
from http import HTTPStatus

_STYLE = """
:root{color-scheme:light dark;--ground:#f2f4f8;--card:#fff;--edge:#d9dee8;--text:#17202f;
--quiet:#515c70;--good:#17703f;--good-tint:#e6f4ec;--bad:#a3191f;--bad-tint:#fdeeee;
--shadow:0 1px 2px rgb(20 30 60/8%),0 12px 32px rgb(20 30 60/8%)}
@media (prefers-color-scheme:dark){:root{--ground:#0f131b;--card:#181e29;--edge:#2b3444;
--text:#edf1f8;--quiet:#a9b4c6;--good:#74d3a0;--good-tint:#173325;--bad:#ffb0ae;
--bad-tint:#3a1c20;--shadow:none}}
*{box-sizing:border-box}
body{margin:0;min-height:100vh;display:grid;place-items:center;padding:2rem 1rem;
background:var(--ground);color:var(--text);
font:1rem/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"Noto Sans","DejaVu Sans",sans-serif}
main{width:100%;max-width:26rem;padding:2.25rem 2rem;text-align:center;background:var(--card);
border:1px solid var(--edge);border-radius:1rem;box-shadow:var(--shadow)}
svg{display:block;width:3.5rem;height:3.5rem;margin:0 auto 1.25rem;padding:.875rem;
border-radius:50%;fill:none;stroke:currentColor;stroke-width:2.5;stroke-linecap:round;
stroke-linejoin:round}
.good svg{color:var(--good);background:var(--good-tint)}
.bad svg{color:var(--bad);background:var(--bad-tint)}
h1{margin:0;font-size:1.5rem;line-height:1.25;font-weight:650;letter-spacing:-.01em}
p{margin:.75rem 0 0;color:var(--quiet)}
"""
_POLICY = "; ".join(
    (
        "default-src 'none'",
        f"style-src 'sha256-{base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()}'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "base-uri 'none'",
    )
)
_GOOD, _BAD = "M5 13l4.5 4.5L19 7.5", "M7 7l10 10M17 7L7 17"


def received(*, worked: bool) -> bytes:
    """Return the HTTP response to an authorization response: a code (`worked`) or an error."""
    if worked:
        text = "Access was granted. Go back to the program that sent you here."
        return _response(HTTPStatus.OK, "good", "You can close this page", text)
    text = "No access was granted. The program that sent you here says why."
    return _response(HTTPStatus.OK, "bad", "Login not completed", text)


def refused(status: int) -> bytes:
    """Return the HTTP response to any other request."""
    text = "This page does not belong to the login in progress. Start the login again."
    return _response(HTTPStatus(status), "bad", "Nothing to see here", text)


def _response(status: HTTPStatus, kind: str, title: str, text: str) -> bytes:
    """Return a complete HTTP response."""
    mark = _GOOD if kind == "good" else _BAD
    body = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{title}</title><style>{_STYLE}</style></head>"
        f'<body><main class="{kind}"><svg viewBox="0 0 24 24" aria-hidden="true">'
        f'<path d="{mark}"/></svg><h1>{title}</h1><p>{text}</p></main></body></html>\n'
    ).encode()
    head = (
        f"HTTP/1.1 {status.value} {status.phrase}",
        "Content-Type: text/html; charset=utf-8",
        f"Content-Length: {len(body)}",
        f"Content-Security-Policy: {_POLICY}",
        "Cache-Control: no-store",
        "Referrer-Policy: no-referrer",
        "X-Content-Type-Options: nosniff",
        "X-Frame-Options: DENY",
        "Cross-Origin-Opener-Policy: same-origin",
        "Connection: close",
    )
    return "\r\n".join((*head, "", "")).encode() + body
