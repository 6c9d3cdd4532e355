"""An operator's logo and colors. Colors are checked for contrast (WCAG 2.2, 1.4.3). Knows no page.

The logo becomes a data URI: no further request, no further path, and an SVG that is only ever an
image runs no script and loads nothing.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import TypeAlias

from bearerguard.errors import ConfigurationError, quoted

# In every page, a third longer.
_MAX_LOGO = 64 * 1024
_SVG = re.compile(rb"\s*(?:<\?xml[^>]*>|<!--.*?-->|<!DOCTYPE[^>]*>|\s)*<svg[\s>]", re.DOTALL)
_HEX = re.compile(r"#[0-9a-fA-F]{6}\Z")
# Of text (WCAG 2.2, 1.4.3, level AA).
_ENOUGH = 4.5
_CHOSEN_CONTRAST = 6.5  # of colors that we choose
_STEPS = 50
_LINEAR = 0.04045  # up to here, sRGB is linear (WCAG 2.2, relative luminance)

_Rgb: TypeAlias = tuple[int, int, int]
_BLACK, _WHITE = (0, 0, 0), (255, 255, 255)
# The colors of style.css that an operator's colors stand beside: a test compares them.
_LIGHT: Mapping[str, str] = {
    "ground": "#f4f5f8",
    "card": "#ffffff",
    "text": "#17202f",
    "quiet": "#515c70",
    "on-accent": "#ffffff",
}
_DARK: Mapping[str, str] = {
    "ground": "#0e1219",
    "card": "#171d28",
    "text": "#edf1f8",
    "quiet": "#a9b4c6",
    "on-accent": "#0b1730",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Colors:
    """The colors of the pages, each as `#rrggbb`.

    Args:
        accent: of buttons, links and the focus.
        accent_dark: the same for readers who prefer dark pages; by default a lighter `accent`.
        background: of the page around the card.
        background_dark: the same for readers who prefer dark pages.

    Raises:
        ConfigurationError: a color is malformed, or text would be hard to read on it or in it.
    """

    accent: str | None = None
    accent_dark: str | None = None
    background: str | None = None
    background_dark: str | None = None

    def __post_init__(self) -> None:
        for name in ("accent", "accent_dark", "background", "background_dark"):
            value: object = getattr(self, name)
            if value is not None and not (isinstance(value, str) and _HEX.match(value)):
                raise ConfigurationError(
                    f"Colors({name}=): {quoted(value)} is no color: write it as #rrggbb, such as"
                    " #0b6e4f"
                )
        for suffix, palette, end in (("", _LIGHT, _BLACK), ("_dark", _DARK, _WHITE)):
            accent: str | None = getattr(self, "accent" + suffix)
            ground: str | None = getattr(self, "background" + suffix)
            if ground is not None:
                # The text on it decides: further away from the text than it is.
                away = _WHITE if end is _BLACK else _BLACK
                texts = [palette["text"], palette["quiet"]]
                _check(f"Colors(background{suffix}=)", ground, texts, away)
            if accent is not None:
                beside = [palette["card"], ground or palette["ground"]]
                _check(f"Colors(accent{suffix}=)", accent, beside, end)

    def style(self) -> str:
        """Return the style sheet that sets these colors, "" for none."""
        light = _values(self.accent, self.background, _LIGHT, _BLACK)
        is_dark = "(prefers-color-scheme: dark)"
        return _rule(f"not all and {is_dark}", light) + _rule(is_dark, self._dark())

    def _dark(self) -> dict[str, str]:
        accent = self.accent_dark
        if accent is None and self.accent is not None:
            beside = [_DARK["card"], self.background_dark or _DARK["ground"]]
            accent = _nearest(self.accent, beside, _WHITE, _CHOSEN_CONTRAST)
        return _values(accent, self.background_dark, _DARK, _WHITE)


def logo_uri(path: str | PathLike[str]) -> str:
    """Return a logo as a data URI.

    Raises:
        ConfigurationError: the file cannot be read, is too large, or is no picture of a known kind.
    """
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise ConfigurationError(
            f"logo=: {path} cannot be read ({type(error).__name__}): name an SVG, PNG, JPEG or WebP"
        ) from error
    if len(content) > _MAX_LOGO:
        raise ConfigurationError(
            f"logo=: {path} has {len(content)} bytes, and each page contains it: make it smaller"
            f" than {_MAX_LOGO}, as an SVG or some 128 pixels high"
        )
    kind = _kind(content)
    if kind is None:
        raise ConfigurationError(f"logo=: {path} is no picture: name an SVG, PNG, JPEG or WebP")
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def _kind(content: bytes) -> str | None:
    """Return the subtype of a picture's media type, by its first octets; None if unknown."""
    if content.startswith(b"\x89PNG\r\n\x1a\n"):
        return "png"
    if content.startswith(b"\xff\xd8\xff"):
        return "jpeg"
    if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        return "webp"
    return "svg+xml" if _SVG.match(content.removeprefix(b"\xef\xbb\xbf")) else None


def contrast(one: str, other: str) -> float:
    """Return the contrast ratio of two colors, from 1 to 21 (WCAG 2.2, contrast ratio)."""
    darker, lighter = sorted((_luminance(_rgb(one)), _luminance(_rgb(other))))
    return (lighter + 0.05) / (darker + 0.05)


def _check(option: str, color: str, beside: list[str], end: _Rgb) -> None:
    worst = min(beside, key=lambda each: contrast(color, each))
    if contrast(color, worst) < _ENOUGH:
        kind = "darker" if end is _BLACK else "lighter"
        raise ConfigurationError(
            f"{option}: {color} and {worst} have a contrast of {contrast(color, worst):.1f}, and"
            f" text needs {_ENOUGH} (WCAG 2.2 AA, 1.4.3): choose a {kind} one, such as"
            f" {_nearest(color, beside, end)}"
        )


def _nearest(color: str, beside: list[str], end: _Rgb, wanted: float = _ENOUGH) -> str:
    """Return the color nearest to `color`, on the way to `end`, with the wanted contrast.

    It is `end` itself, black or white, if none before it has that.
    """
    mixed = [_mixed(color, end, step / _STEPS) for step in range(_STEPS + 1)]
    fitting = (each for each in mixed if min(contrast(each, b) for b in beside) >= wanted)
    return next(fitting, mixed[-1])


def _values(
    accent: str | None, ground: str | None, palette: Mapping[str, str], end: _Rgb
) -> dict[str, str]:
    """Return the variables of style.css that these colors set."""
    values = {} if ground is None else {"ground": ground}
    if accent is not None:
        values |= {
            "accent": accent,
            "accent-strong": _mixed(accent, end, 0.25),
            "on-accent": palette["on-accent"],
            "tint": _mixed(accent, _rgb(palette["card"]), 0.88),
        }
    return values


def _rule(media: str, values: Mapping[str, str]) -> str:
    """Return the rule that sets variables for readers of one preference."""
    if not values:
        return ""
    set_ = " ".join(f"--{name}: {value};" for name, value in values.items())
    return f"@media {media} {{ :root {{ {set_} }} }}\n"


def _rgb(color: str) -> _Rgb:
    red, green, blue = bytes.fromhex(color[1:])
    return red, green, blue


def _mixed(color: str, other: _Rgb, share: float) -> str:
    """Return a color with a share of another."""
    parts = (round(a + (b - a) * share) for a, b in zip(_rgb(color), other, strict=True))
    return "#" + bytes(parts).hex()


def _luminance(color: _Rgb) -> float:
    """Return the relative luminance of a color, from 0 to 1 (WCAG 2.2, relative luminance)."""
    linear = [
        each / 12.92 if each <= _LINEAR else ((each + 0.055) / 1.055) ** 2.4
        for each in (part / 255 for part in color)
    ]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
