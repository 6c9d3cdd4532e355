"""Which browser on which system has sent a request, by its User-Agent (RFC 9110 §10.1.5).

For a page on which users recognise their own devices: anybody can send any User-Agent. A browser
also sends the names of those that it is derived from, so the most derived ones are looked for
first.
"""

from __future__ import annotations

from typing import NamedTuple

from bearerguard.runtime.messages import Request

# A part of the User-Agent, and the name of the browser that sends it.
_BROWSERS = (
    ("Edg", "Edge"),
    ("OPR/", "Opera"),
    ("SamsungBrowser/", "Samsung Internet"),
    ("Vivaldi/", "Vivaldi"),
    ("YaBrowser/", "Yandex Browser"),
    ("DuckDuckGo/", "DuckDuckGo"),
    ("Firefox/", "Firefox"),
    ("FxiOS/", "Firefox"),
    ("CriOS/", "Chrome"),
    ("Chromium/", "Chromium"),
    ("HeadlessChrome/", "Chrome"),
    ("Chrome/", "Chrome"),
    # Every browser that is derived from WebKit names Safari.
    ("Version/", "Safari"),
)
_SYSTEMS = (
    ("iPhone", "iPhone"),
    ("iPad", "iPad"),
    ("Android", "Android"),
    ("CrOS", "ChromeOS"),
    ("Windows", "Windows"),
    ("Macintosh", "macOS"),
    ("Linux", "Linux"),
)
# The common ones are shorter than 250 characters; the rest of a longer one is not read.
_MAX_READ = 512


class Browser(NamedTuple):
    """A browser and its system; None for what is unknown."""

    name: str | None
    system: str | None


def browser_of(request: Request) -> Browser:
    """Return the browser that has sent a request."""
    sent = (request.header("user-agent") or "")[:_MAX_READ]
    return Browser(_first(_BROWSERS, sent), _first(_SYSTEMS, sent))


def _first(known: tuple[tuple[str, str], ...], sent: str) -> str | None:
    return next((name for part, name in known if part in sent), None)
