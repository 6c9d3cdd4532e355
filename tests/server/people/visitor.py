"""A visitor without scripts: keeps cookies, reads pages, fills in forms, follows redirects."""

from __future__ import annotations

from collections.abc import Callable
from html.parser import HTMLParser
from urllib.parse import urlencode, urljoin, urlsplit

from bearerguard.runtime.messages import Request, Response


class Page(HTMLParser):
    """What a page shows and asks."""

    def __init__(self, response: Response) -> None:
        super().__init__()
        self.response = response
        self.status = response.status
        self.html = response.body.decode()
        self.title = ""
        self.text = ""
        self.action = ""
        self.fields: dict[str, str] = {}
        self.buttons: dict[tuple[str, str], str] = {}
        self._open = ""
        self.feed(self.html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self._open = tag
        if tag == "form":
            self.action = given["action"]
        if tag == "input" and given.get("type") != "checkbox":
            self.fields[given["name"]] = given.get("value", "")
        if tag == "button":
            key = (given.get("name", ""), given.get("value", ""))
            self.buttons[key] = given.get("formaction", "")

    def handle_endtag(self, tag: str) -> None:
        self._open = ""

    def handle_data(self, data: str) -> None:
        if self._open == "title":
            self.title += data
        elif self._open != "style" and data.strip():
            self.text += f"{data.strip()} "

    def header(self, name: str) -> str | None:
        return self.response.header(name)

    @property
    def policy(self) -> dict[str, str]:
        """The content security policy, by directive."""
        policy = self.header("Content-Security-Policy") or ""
        pairs = (directive.strip().partition(" ") for directive in policy.split(";"))
        return {name: value for name, _, value in pairs}


class Visitor:
    """Somebody with a browser of their own."""

    def __init__(
        self,
        handle: Callable[[Request], Response],
        *,
        url: str = "https://api.example.com",
        peer: str = "192.0.2.7",
    ) -> None:
        self._handle = handle
        self._url = url
        self.peer = peer
        self.cookies: dict[str, str] = {}
        self.set_cookies: list[str] = []

    def send(self, method: str, url: str, body: bytes = b"", **headers: str) -> Page:
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        if self.cookies:
            sent["Cookie"] = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        absolute = urljoin(self._url, url)
        response = self._handle(Request(method, absolute, sent, body, peer=self.peer))
        for name, value in response.headers:
            if name == "Set-Cookie":
                self.set_cookies.append(value)
                key, _, content = value.partition(";")[0].partition("=")
                if "Max-Age=0" in value:
                    self.cookies.pop(key, None)
                else:
                    self.cookies[key] = content
        return Page(response)

    def get(self, url: str, **headers: str) -> Page:
        return self.send("GET", url, b"", **headers)

    def post(self, url: str, fields: dict[str, str], **headers: str) -> Page:
        headers.setdefault("Content_Type", "application/x-www-form-urlencoded")
        return self.send("POST", url, urlencode(fields).encode(), **headers)

    def submit(self, page: Page, button: tuple[str, str] = ("", ""), **fields: str) -> Page:
        """Press a button of the page's form; a redirect is not followed."""
        name, value = button
        pressed = {name: value} if name else {}
        return self.post(page.buttons[button] or page.action, {**page.fields, **fields, **pressed})

    def follow(self, page: Page) -> Page:
        """Follow one redirect, which must be one to be followed with GET."""
        assert page.status == 303, page.text
        return self.get(page.header("Location") or "")

    def sign_in(self, username: str, password: str, at: str = "/oauth/login") -> Page:
        return self.submit(self.get(at), username=username, password=password)


def path(page: Page) -> str:
    """Where a redirect leads, without host and query."""
    return urlsplit(page.header("Location") or "").path
