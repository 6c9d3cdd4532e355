"""The picture of the floors, docs/architecture.svg, drawn from the import contract of the project.

`python -m tests.docs.floors` draws it anew.
"""

from __future__ import annotations

import re
import tomllib

from tests.docs.pages import ROOT

PICTURE = ROOT / "docs" / "architecture.svg"

# What is said of a floor, by one of its packages.
_SAYS = {
    "testing": "for users of the roles: test tools, commands, presets",
    "fastapi": "frameworks that stand on another: FastAPI, Django Ninja",
    "flask": "frameworks, each in its own file or package, blind to each other",
    "prometheus": "observers: metrics, traces, log formats",
    "asgi": "adapters, without third-party imports; shared stores; logout",
    "middleware": "what adapters share: admission, refusals, expiry headers",
    "guard": "the three roles, blind to each other",
    "transports": "the sockets: HTTP, Redis; PostgreSQL is server/store's",
    "protocol": "the RFCs as pure functions: no clock, no I/O",
    "runtime": "flows and their drivers, single flight, messages, sealing",
    "principal": "who is calling",
    "errors": "what can go wrong, and whose fault it is",
}
_ROLES = {"guard", "client", "server"}
_WIDTH, _LEFT, _TOP, _FLOOR, _BOX, _GAP, _ROOMS = 880, 24, 56, 50, 42, 8, 410
_STYLE = """\
text { font: 13px system-ui, sans-serif; fill: #1f2328; }
.page { fill: #ffffff; }
.head { font-size: 15px; font-weight: 600; }
.name { font-weight: 600; text-anchor: middle; }
.says { fill: #59636e; font-size: 12px; }
.room { fill: #eaeef2; stroke: #afb8c1; }
.role { fill: #ddf4ff; stroke: #54aeff; }
@media (prefers-color-scheme: dark) {
  text { fill: #f0f6fc; }
  .page { fill: #0d1117; }
  .says { fill: #9198a1; }
  .room { fill: #212830; stroke: #3d444d; }
  .role { fill: #0c2d6b; stroke: #4493f8; }
}"""


def floors() -> list[list[str]]:
    """Return the packages of each floor, the highest first."""
    linter = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    (contract,) = [each for each in linter["contracts"] if each["type"] == "layers"][:1]
    return [re.split(r" [|:] ", each) for each in contract["layers"]]


def drawn() -> str:
    """Return the picture."""
    shapes: list[str] = []
    y = _TOP
    for names in floors():
        shapes += _floor(names, y)
        y += _FLOOR
    height = y + 30
    body = "\n".join(shapes)
    return f"""\
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" role="img" \
aria-labelledby="title">
<title id="title">The floors of bearerguard: a file imports only lower ones</title>
<style>
{_STYLE}
</style>
<rect class="page" width="{_WIDTH}" height="{height}" rx="8"/>
<text class="head" x="{_LEFT}" y="34">A file imports only lower floors</text>
{body}
<text class="says" x="{_LEFT}" y="{y + 12}">Checked by import-linter (scripts/lint).</text>
</svg>
"""


def _floor(names: list[str], y: int) -> list[str]:
    """Draw one floor: its rooms, as wide as their names need, and what it is for."""
    spare = _ROOMS - _GAP * (len(names) - 1) - 8 * sum(map(len, names))
    x = _LEFT
    shapes: list[str] = []
    for name in names:
        width = 8 * len(name) + spare // len(names)
        kind = "role" if name in _ROLES else "room"
        shapes.append(
            f'<rect class="{kind}" x="{x}" y="{y}" width="{width}" height="{_BOX}" rx="6"/>'
        )
        shapes.append(f'<text class="name" x="{x + width // 2}" y="{y + 26}">{name}</text>')
        x += width + _GAP
    says = next((text for name, text in _SAYS.items() if name in names), "")
    shapes.append(f'<text class="says" x="{_LEFT + _ROOMS + 20}" y="{y + 26}">{says}</text>')
    return shapes


if __name__ == "__main__":
    PICTURE.write_text(drawn())
