# ruff: noqa: INP001 - Sphinx reads this file; nobody imports it

"""How Sphinx builds the documentation, for `scripts/docs`.

Nothing comes from elsewhere: no fonts, no scripts, no inventories.
"""

from __future__ import annotations

import re
from typing import Any

from django.conf import settings

import bearerguard

# REST framework and Ninja read them when they are imported.
settings.configure()

project = "bearerguard"
author = "the bearerguard contributors"
release = version = bearerguard.__version__
project_copyright = author

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
]
myst_enable_extensions = ["colon_fence", "deflist", "attrs_block"]
myst_heading_anchors = 3
copybutton_prompt_text = "$ "
copybutton_only_copy_prompt_lines = True
exclude_patterns = ["_build"]

html_theme = "furo"
html_title = f"bearerguard {release}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sourcelink = False
pygments_style = "friendly"
pygments_dark_style = "monokai"

default_role = "code"  # a docstring's `name`
nitpicky = True
# Types in signatures belong to other packages or are aliases that no page describes; a page's link
# to a public name, such as bearerguard.Guard, must lead somewhere.
nitpick_ignore_regex = [("py:.*", r"(?!bearerguard\.[A-Z]\w+$).*")]

autoclass_content = "class"
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
python_maximum_signature_line_length = 80
autodoc_class_signature = "mixed"
napoleon_google_docstring = True
napoleon_custom_sections = [("Attributes", "params_style")]
napoleon_use_rtype = False

_CODE = re.compile(r"(``[^`]+``|`[^`]+`)")
_DEFAULTS = [
    (r"~collections\.abc\.", ""),
    # What FastAPI alone reads of a type.
    (r"~?[\w.]*\bAnnotated\[([~\w.]+), <[^>]+ object at 0x[0-9a-f]+>\]", r"\1"),
    (r"<(?:built-in )?function (\w+)>", r"\1"),
    (r"\(None, None, None, frozenset.*?Claims\(\)\)|Principal\(issuer=None, .*?\)", "ANONYMOUS"),
    (r"= ExpiryHeaders\(expires_in=.*?\)", "= ExpiryHeaders()"),
]
_TREE = re.compile(r"[├└│]")
_MARKS = re.compile(r"([*|\\]|_(?=\W|$))")


def plain_docstring(
    _app: Any, what: str, _name: str, _thing: Any, _options: Any, lines: list[str]
) -> None:
    """Keep a docstring's plain text plain: only `code` is markup in it.

    Of a module's docstring readers need the first paragraph, and the tree of errors.
    """
    if what == "module":
        tree = [number for number, line in enumerate(lines) if _TREE.match(line)]
        drawn = lines[tree[0] - 1 : tree[-1] + 1] if tree else []
        first = lines.index("") if "" in lines else len(lines)
        lines[:] = lines[:first]
    for number, line in enumerate(lines):
        parts = _CODE.split(line)
        parts[::2] = [_MARKS.sub(r"\\\1", part) for part in parts[::2]]
        lines[number] = "".join(parts)
    if what == "module" and drawn:
        lines += ["", "::", "", *("    " + line for line in drawn), ""]


def leave_out(
    app: Any, _what: str, _name: str, thing: Any, _skip: object, _options: Any
) -> bool | None:
    """Leave out the fields of a named tuple, which the class lists, and what has its own page."""
    if thing.__class__.__name__ == "_tuplegetter":
        return True
    elsewhere = app.env.docname != "api/errors"
    is_error = isinstance(thing, type) and issubclass(thing, bearerguard.BearerGuardError)
    return True if is_error and elsewhere and thing.__module__ == "bearerguard.errors" else None


def plain_signature(
    _app: Any, _what: str, _name: str, _thing: Any, _options: Any, signature: str, returns: str
) -> tuple[str, str] | None:
    """Show defaults as somebody would write them."""
    if not signature:
        return None
    for shown, instead in _DEFAULTS:
        signature = re.sub(shown, instead, signature)
    return signature, returns


def setup(app: Any) -> None:
    """Register what prepares docstrings, before napoleon (whose priority is 500) reads them."""
    app.connect("autodoc-process-docstring", plain_docstring, priority=400)
    app.connect("autodoc-skip-member", leave_out)
    app.connect("autodoc-process-signature", plain_signature)
