"""The chart of a run: one self-contained SVG, legible on light and on dark pages.

Bars are medians on a linear scale from zero, with the quartiles as a thin line. A panel
whose part was not run is left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

_WIDTH, _LABEL, _VALUE, _MARGIN = 860, 270, 90, 24
_ROW, _BAR, _HEAD, _GAP = 26, 16, 52, 22
_STYLE = """
text { font: 13px system-ui, sans-serif; fill: #1f2328; }
.page { fill: #ffffff; }
.title { font-size: 15px; font-weight: 600; }
.subtitle, .foot { fill: #59636e; font-size: 12px; }
.ours { fill: #0969da; }
.other { fill: #8c959f; }
.spread { stroke: #1f2328; stroke-width: 1.5; }
.axis { stroke: #d1d9e0; }
.end { text-anchor: end; }
@media (prefers-color-scheme: dark) {
  text { fill: #f0f6fc; }
  .page { fill: #0d1117; }
  .subtitle, .foot { fill: #9198a1; }
  .ours { fill: #4493f8; }
  .other { fill: #6e7681; }
  .spread { stroke: #f0f6fc; }
  .axis { stroke: #3d444d; }
}
"""


@dataclass(frozen=True)
class Bar:
    """One figure: its label, median and quartiles."""

    label: str
    median: float
    low: float
    high: float

    @property
    def is_ours(self) -> bool:
        """Whether it is this package's."""
        return self.label.startswith("bearerguard")


@dataclass(frozen=True)
class Panel:
    """Bars on one scale."""

    title: str
    subtitle: str
    bars: Sequence[Bar]
    digits: int


def draw(document: Mapping[str, Any]) -> str:
    """Return the chart of a run, given what its JSON holds."""
    panels = [panel for panel in _panels(document["parts"]) if panel.bars]
    top = _MARGIN
    drawn: list[str] = []
    for panel in panels:
        drawn += _panel(panel, top)
        top += _HEAD + _ROW * len(panel.bars) + _GAP
    foot = (
        f"Python {document['python']}, {document['machine']};"
        f" cryptography {document['versions']['cryptography']},"
        f" PyJWT {document['versions']['PyJWT']}."
        " Medians of interleaved rounds; the thin line spans the quartiles."
    )
    drawn.append(f'<text class="foot" x="{_MARGIN}" y="{top + 4}">{escape(foot)}</text>')
    height = top + _MARGIN
    return "\n".join(
        [
            (
                f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}"'
                f' width="{_WIDTH}" height="{height}" role="img" aria-labelledby="chart-title">'
            ),
            '<title id="chart-title">What bearerguard costs, beside its peers</title>',
            f"<style>{_STYLE}</style>",
            f'<rect class="page" width="{_WIDTH}" height="{height}" rx="6"/>',
            *drawn,
            "</svg>\n",
        ]
    )


def _panels(parts: Mapping[str, Any]) -> list[Panel]:
    floor = "in multiples of the floor (a scan, a dict, a clock); less is better"
    cold = parts.get("verify", {}).get("× raw", {})
    rates = parts.get("server", {}).get("requests/s", {}).get("uvicorn", {})
    names = {
        "bare": "the app alone",
        "warm": "bearerguard, token seen before",
        "cold": "bearerguard, every token new",
        "pyjwt": "Starlette + PyJWT",
    }
    return [
        Panel(
            "Added to an ASGI request whose token was seen before",
            floor,
            _bars(parts.get("asgi", {}).get("× F", {})),
            1,
        ),
        Panel(
            "Added to a WSGI request whose token was seen before",
            floor,
            _bars(parts.get("wsgi", {}).get("× F", {})),
            1,
        ),
        Panel(
            "Verifying a new RS256 token",
            "in multiples of its signature alone; less is better",
            _bars({name: each["RS256"] for name, each in cold.items() if "RS256" in each}),
            2,
        ),
        Panel(
            "Requests per second under uvicorn, one worker",
            "more is better; the load generator shares the machine",
            _bars({label: rates[name] for name, label in names.items() if name in rates}),
            0,
        ),
    ]


def _bars(figures: Mapping[str, Mapping[str, float]]) -> list[Bar]:
    return [
        Bar(label, found["median"], found["low"], found["high"]) for label, found in figures.items()
    ]


def _panel(panel: Panel, top: int) -> list[str]:
    left, room = _MARGIN + _LABEL, _WIDTH - 2 * _MARGIN - _LABEL - _VALUE
    most = max(bar.high for bar in panel.bars)
    first = top + _HEAD - 10
    last = first + _ROW * len(panel.bars)
    lines = [
        f'<text class="title" x="{_MARGIN}" y="{top + 8}">{escape(panel.title)}</text>',
        f'<text class="subtitle" x="{_MARGIN}" y="{top + 26}">{escape(panel.subtitle)}</text>',
        f'<line class="axis" x1="{left}" y1="{first}" x2="{left}" y2="{last}"/>',
    ]
    for number, bar in enumerate(panel.bars):
        y = first + _ROW * number + (_ROW - _BAR) // 2
        middle = y + _BAR / 2

        def at(value: float) -> float:
            return left + room * value / most

        kind = "ours" if bar.is_ours else "other"
        value = f"{bar.median:,.{panel.digits}f}"
        lines += [
            f'<text class="end" x="{left - 10}" y="{y + 13}">{escape(bar.label)}</text>',
            (
                f'<rect class="{kind}" x="{left}" y="{y}" height="{_BAR}"'
                f' width="{max(1.0, at(bar.median) - left):.1f}" rx="2"/>'
            ),
            (
                f'<line class="spread" x1="{at(bar.low):.1f}" x2="{at(bar.high):.1f}"'
                f' y1="{middle}" y2="{middle}"/>'
            ),
            f'<text x="{at(bar.high) + 8:.1f}" y="{y + 13}">{value}</text>',
        ]
    return lines
