"""The page of the demo's app, to which the browser returns with a code; it follows dark mode."""

from __future__ import annotations

from html import escape

_STYLE = """
:root { color-scheme: light dark; --ground: #f4f5f8; --card: #fff; --edge: #dde1ea; --text: #17202f;
  --quiet: #515c70; --code: #eaf0fe; }
@media (prefers-color-scheme: dark) {
  :root { --ground: #0e1219; --card: #171d28; --edge: #2b3444; --text: #edf1f8; --quiet: #a9b4c6;
    --code: #212c44; }
}
* { box-sizing: border-box; }
body { margin: 0; padding: 12vh 1rem 2rem; background: var(--ground); color: var(--text);
  font: 1rem/1.6 system-ui, "Segoe UI", Roboto, "DejaVu Sans", sans-serif;
  overflow-wrap: anywhere; }
main { max-width: 34rem; margin: 0 auto; padding: 2rem; background: var(--card);
  border: 1px solid var(--edge); border-radius: 1rem; }
h1 { margin: 0; font-size: 1.5rem; line-height: 1.25; }
p { margin: .75rem 0 0; color: var(--quiet); }
pre { margin: 1rem 0 0; padding: .875rem 1rem; background: var(--code); border-radius: .5rem;
  font-weight: 600; white-space: pre-wrap; user-select: all; }
"""


def page(line: str, *, worked: bool) -> str:
    """Return the page that shows a line to paste, or an error if the app got no code."""
    heading, text = (
        ("Back in the app", "Paste this into the terminal within a minute, and then the next line:")
        if worked
        else ("The app got no code", "The server sent this instead:")
    )
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>Pocket Recorder</title><style>{_STYLE}</style>"
        f"<main><h1>{heading}</h1><p>{text}</p><pre>{escape(line)}</pre></main></html>"
    )
