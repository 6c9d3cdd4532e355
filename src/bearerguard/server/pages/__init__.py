"""The pages for users: templates, their texts, and their header fields.

Pages are rendered on the server, without content from other hosts, and work without scripts: the
one script, `page.js`, only adds comforts. Templates in the operator's directory take precedence
over the built-in ones, and can extend them with `{% extends "bearerguard/login.html" %}`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
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
from bearerguard.server.pages.branding import Colors, logo_uri
from bearerguard.server.pages.policy import page_headers
from bearerguard.server.pages.texts import Texts

TEMPLATES = Path(__file__).parent / "templates"

# Example values for every page: each is rendered once at start-up, to check its template.
_FORM = {"action": "/", "csrf": "x", "request": "x"}
_SCOPE = {"name": "x", "description": "y", "powerful": True}
SAMPLES: Mapping[str, Mapping[str, Any]] = {
    "login": {
        **_FORM,
        "client_name": "App",
        "again": True,
        "username": "x",
        "problem": "x",
        "invalid": True,
        "wait": 61,
        "wait_text": "x",
        "passwords": True,
        "upstreams": [{"name": "x", "action": "/"}],
    },
    "upstream": {"text": "x", "again": "/", "client_name": "App", "reference": "x"},
    "signed_in": {**_FORM, "name": "x", "account": "/"},
    "signed_out": {"login": "/"},
    "consent": {
        **_FORM,
        "switch_action": "/",
        "client_name": "App",
        "name": "x",
        "scopes": [_SCOPE],
        "new_scopes": [_SCOPE],
        "known_scopes": [_SCOPE],
        "resources": ["x"],
        "redirect_kind": "host",
        "redirect_host": "x",
        "rememberable": True,
        "published_at": "x",
        "is_unknown": True,
        "is_local": True,
    },
    "start": {"login": "/"},
    "error": {
        "heading": "x",
        "text": "x",
        "client_name": "App",
        "reference": "x",
        "back": {"url": "/", "text": "x"},
        "is_final": True,
    },
    "account": {
        **_FORM,
        "name": "x",
        "done": "x",
        "problem": "x",
        "apps": [
            {
                "client_id": "x",
                "name": "App",
                "is_unknown": True,
                "place": "host",
                "host": "x",
                "scopes": [_SCOPE],
                "resources": ["x"],
                "when": "x",
                "remembered": True,
                "sign_ins": [{"grant_id": "x", "when": "x"}],
                "count": 2,
            }
        ],
        "more": True,
        "page": 1,
        "pages": 3,
        "previous": "/",
        "next": "/",
        "sessions": [{"session_id": "x", "device": "x", "when": "x", "is_this": False}],
        "logout": "/",
        "password": "/",
        "tokens_url": "/",
    },
    "account_password": {
        **_FORM,
        "account": "/",
        "username": "x",
        "problem": "x",
        "wrong": True,
        "unfit": True,
        "least": 12,
    },
    "device": {
        **_FORM,
        "switch_action": "/",
        "name": "x",
        "user_code": "x",
        "problem": "x",
    },
    "device_consent": {
        **_FORM,
        "switch_action": "/",
        "name": "x",
        "user_code": "x",
        "client_name": "App",
        "scopes": [_SCOPE],
        "resources": ["x"],
        "published_at": "x",
        "is_unknown": True,
    },
    "device_done": {"heading": "x", "text": "x"},
    "personal_tokens": {
        **_FORM,
        "account": "/",
        "sign_in": "/",
        "tokens": [
            {
                "id": "x",
                "name": "x",
                "scopes": [_SCOPE],
                "resource": "x",
                "client": "x",
                "created": "x",
                "expires": "x",
                "used": "",
            }
        ],
        "scopes": [{"line": _SCOPE, "checked": True}],
        "resources": [{"name": "x", "checked": True}],
        "problem": "x",
        "reason": "name",
        "is_old": True,
        "is_unknown": True,
        "made": "x",
        "name": "x",
        "days": "30",
        "max_days": "365",
    },
}

# Pages of an authorization request: an app may have opened them in a popup.
_IN_POPUPS = frozenset({"login", "consent", "error", "upstream"})
# A comment at the start of a style sheet or a script is for whoever reads the file.
_COMMENT = re.compile(r"\A\s*/\*.*?\*/\s*", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Link:
    """A link on a page: its URL and its text."""

    url: str
    text: str


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
        templates: a directory with templates, a `style.css` and a `page.js` that replace the
            built-in ones.
        texts: replacements for texts, by their names in `texts.TEXTS`.
        logo: a file with a picture that stands beside the server's name.
        colors: the operator's colors.

    Raises:
        ConfigurationError: a template cannot be rendered, or an option is not valid.
    """

    def __init__(
        self,
        site: str,
        *,
        templates: str | PathLike[str] | None = None,
        texts: Mapping[str, str] | None = None,
        logo: str | PathLike[str] | None = None,
        colors: Colors | None = None,
    ) -> None:
        self.texts: Texts = Texts(texts)
        self._site = site
        self._logo = "" if logo is None else logo_uri(logo)
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
        self._style, self._script = "", ""
        self._prepare(colors)

    def _prepare(self, colors: Colors | None) -> None:
        """Render every page once, so that an error in a template shows at start-up."""
        if colors is not None and not isinstance(colors, Colors):
            raise ConfigurationError('colors=: pass Colors(...), such as Colors(accent="#0b6e4f")')
        try:
            self._style = self._asset("style.css") + ("" if colors is None else colors.style())
            self._script = self._asset("page.js")
            for name, values in SAMPLES.items():
                self._render(name, values)
        except (TemplateError, UnicodeDecodeError, KeyError, TypeError, ValueError) as error:
            raise ConfigurationError(f"templates=: {type(error).__name__}: {error}") from error

    def _asset(self, name: str) -> str:
        """Return the content of a style or script element."""
        loader = self._environment.loader
        assert loader is not None  # noqa: S101 - set in `__init__`; for the type checker
        content = _COMMENT.sub("", loader.get_source(self._environment, name)[0])
        if "</" in content or "<!--" in content:
            raise ConfigurationError(f"templates=: {name} must not contain `</` or `<!--`")
        return content

    def page(
        self,
        name: str,
        /,
        *,
        status: int = 200,
        leads_on: bool = False,
        headers: tuple[tuple[str, str], ...] = (),
        **values: object,
    ) -> Response:
        """Return a page as a response.

        Args:
            name: the template's name, without `.html`.
            status: the status code.
            leads_on: whether a form leads to another site in the end, such as the client's
                redirect URI, or the login at an upstream.
            headers: additional header fields.
            values: the template's variables.
        """
        body = self._render(name, values)
        fields = page_headers(
            self._style,
            script=self._script if f"<script>{self._script}</script>" in body else "",
            images=bool(self._logo),
            leads_on=leads_on,
            in_popups=name in _IN_POPUPS,
        )
        return Response(status, (*fields, *headers), body.encode())

    def _render(self, name: str, values: Mapping[str, Any]) -> str:
        return self._environment.get_template(f"{name}.html").render(
            t=self.texts,
            site=self._site,
            logo=self._logo,
            # Trusted: both are built in or the operator's, and contain no end tag.
            style=Markup(self._style),  # noqa: S704 - see above
            script=Markup(self._script),  # noqa: S704 - see above
            **values,
        )

    @property
    def site(self) -> str:
        """The server's name on pages."""
        return self._site

    def error(
        self,
        status: int,
        name: str,
        text: str = "text",
        *,
        headers: tuple[tuple[str, str], ...] = (),
        reference: str = "",
        client_name: str = "",
        back: Link | None = None,
    ) -> Response:
        """Return an error page.

        Args:
            status: the status code.
            name: of the texts `error.{name}.heading` and `error.{name}.{text}`.
            text: see `name`.
            headers: additional header fields.
            reference: the `reference` of the event that reports the error, "" if none does.
            client_name: the client that the request is about, if it is known, else "".
            back: where the user can go from here.
        """
        return self.page(
            "error",
            status=status,
            headers=headers,
            heading=self.texts(f"error.{name}.heading"),
            text=self.texts(f"error.{name}.{text}"),
            reference=reference,
            client_name=client_name,
            back=back,
            is_final=status < HTTPStatus.INTERNAL_SERVER_ERROR,  # else it may be tried again
        )
