"""The pages for users: templates, their texts, and their header fields.

Pages are rendered on the server, without scripts and without content from other hosts. Templates in
the operator's directory take precedence over the built-in ones, and can extend them with
`{% extends "bearerguard/login.html" %}`.
"""

from __future__ import annotations

from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any

from jinja2 import (
    BaseLoader,
    BytecodeCache,
    ChoiceLoader,
    Environment,
    FileSystemLoader,
    PrefixLoader,
    StrictUndefined,
    TemplateError,
)
from jinja2.bccache import Bucket
from markupsafe import Markup

from bearerguard.errors import ConfigurationError
from bearerguard.runtime.messages import Response
from bearerguard.server.http.oauth_error import OAuthError
from bearerguard.server.pages.policy import page_headers
from bearerguard.server.pages.texts import Texts

TEMPLATES = Path(__file__).parent / "templates"

# Example values for every page: each is rendered once at start-up, to check its template.
_FORM = {"action": "/", "csrf": "x", "request": "x"}
SAMPLES: Mapping[str, Mapping[str, Any]] = {
    "login": {
        **_FORM,
        "client_name": "App",
        "again": True,
        "username": "x",
        "problem": "x",
        "invalid": True,
        "passwords": True,
        "upstreams": [{"name": "x", "action": "/"}],
    },
    "upstream": {"text": "x", "again": "/"},
    "signed_in": {**_FORM, "name": "x"},
    "signed_out": {"login": "/"},
    "consent": {
        **_FORM,
        "switch_action": "/",
        "client_name": "App",
        "name": "x",
        "scopes": [{"name": "x", "description": "y"}],
        "resources": ["x"],
        "redirect_kind": "host",
        "redirect_host": "x",
        "rememberable": True,
        "published_at": "x",
        "is_unknown": True,
        "is_local": True,
    },
    "error": {"heading": "x", "text": "x"},
}

# Pages of an authorization request: an app may have opened them in a popup.
_IN_POPUPS = frozenset({"login", "consent", "error", "upstream"})


class _Compiled(BytecodeCache):
    """The compiled templates of this process, for its next server: test suites make many."""

    def __init__(self) -> None:
        self._known: dict[str, bytes] = {}

    def load_bytecode(self, bucket: Bucket) -> None:
        if bucket.key in self._known:
            bucket.bytecode_from_string(self._known[bucket.key])  # unless the source has changed

    def dump_bytecode(self, bucket: Bucket) -> None:
        self._known[bucket.key] = bucket.bytecode_to_string()


_COMPILED = _Compiled()


class Pages:
    """Renders pages.

    Args:
        site: the server's name on pages.
        templates: a directory with templates, and a `style.css`, that replace the built-in ones.
        texts: replacements for texts, by their names in `texts.TEXTS`.

    Raises:
        ConfigurationError: a template cannot be rendered, or a text is not valid.
    """

    def __init__(
        self,
        site: str,
        *,
        templates: str | PathLike[str] | None = None,
        texts: Mapping[str, str] | None = None,
    ) -> None:
        self.texts: Texts = Texts(texts)
        self._site = site
        built_in = FileSystemLoader(TEMPLATES)
        loaders: list[BaseLoader] = [built_in, PrefixLoader({"bearerguard": built_in})]
        if templates is not None:
            if not Path(templates).is_dir():
                raise ConfigurationError(f"templates=: {templates} is not a directory: name one")
            loaders.insert(0, FileSystemLoader(templates))
        self._environment = Environment(
            loader=ChoiceLoader(loaders),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            auto_reload=False,
            bytecode_cache=_COMPILED,
        )
        self._style = self._prepare()

    def _prepare(self) -> str:
        """Render every page once, so that an error in a template shows at start-up."""
        loader = self._environment.loader
        assert loader is not None  # noqa: S101 - set in `__init__`; for the type checker
        try:
            style = loader.get_source(self._environment, "style.css")[0]
            for name, values in SAMPLES.items():
                self._render(name, style, values)
        except (TemplateError, UnicodeDecodeError, KeyError, TypeError, ValueError) as error:
            raise ConfigurationError(f"templates=: {type(error).__name__}: {error}") from error
        if "</" in style:
            raise ConfigurationError("templates=: style.css must not contain `</`")
        return style

    def page(
        self,
        name: str,
        /,
        *,
        status: int = 200,
        leads_to: str | bool = "",
        headers: tuple[tuple[str, str], ...] = (),
        **values: object,
    ) -> Response:
        """Return a page as a response.

        Args:
            name: the template's name, without `.html`.
            status: the status code.
            leads_to: whether a form leads to another site in the end, such as the client's
                redirect URI.
            headers: additional header fields.
            values: the template's variables.
        """
        body = self._render(name, self._style, values)
        fields = page_headers(self._style, leads_on=bool(leads_to), in_popups=name in _IN_POPUPS)
        return Response(status, (*fields, *headers), body.encode())

    def _render(self, name: str, style: str, values: Mapping[str, Any]) -> str:
        return self._environment.get_template(f"{name}.html").render(
            t=self.texts,
            site=self._site,
            # Trusted: the style sheet is built in or the operator's, and contains no end tag.
            style=Markup(style),  # noqa: S704 - see above
            **values,
        )

    def error(self, status: int, name: str, text: str = "text", **headers: str) -> Response:
        """Return an error page with the texts `error.{name}.heading` and `error.{name}.{text}`.

        In the names of header fields, `_` stands for `-`.
        """
        return self.page(
            "error",
            status=status,
            headers=tuple((key.replace("_", "-"), value) for key, value in headers.items()),
            heading=self.texts(f"error.{name}.heading"),
            text=self.texts(f"error.{name}.{text}"),
        )

    def unreadable(self, error: OAuthError) -> Response:
        """Return the page for a malformed form; it shows no value of the form."""
        return self.error(error.status, "request")
