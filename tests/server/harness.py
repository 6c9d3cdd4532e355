"""The harness: a server in this process, a manual clock, and requests of clients and users."""

from __future__ import annotations

import base64
import json
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote_plus, urlencode, urlsplit

from bearerguard import Event, Request, Response
from bearerguard.protocol import pkce
from bearerguard.protocol.jose import base64url
from bearerguard.server import (
    AuthorizationServer,
    PeopleOptions,
    Registered,
    SigningKeys,
    User,
)
from tests.server.stores import Store, sqlite_store

ISSUER = "https://api.example.com"
CALLBACK = "https://app.example.com/cb"
SECRET = "a secret of the server only for tests"
SCOPES = {"read": "Read your recordings", "write": "Change your recordings"}
FORM = "application/x-www-form-urlencoded"


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now


@dataclass(frozen=True)
class Reply:
    """A response, with what tests ask of it."""

    response: Response

    @property
    def status(self) -> int:
        return self.response.status

    @property
    def json(self) -> dict[str, Any]:
        content: dict[str, Any] = json.loads(self.response.body)
        return content

    @property
    def error(self) -> tuple[int, str | None]:
        return self.status, self.json.get("error")

    @property
    def location(self) -> str:
        location = self.response.header("location")
        assert location is not None, self.response.body
        return location

    @property
    def sent(self) -> dict[str, str]:
        """The parameters that a redirect sends to the client."""
        found = parse_qs(urlsplit(self.location).query, strict_parsing=True)
        assert all(len(values) == 1 for values in found.values()), found
        return {name: values[0] for name, values in found.items()}

    def header(self, name: str) -> str | None:
        return self.response.header(name)


class Harness:
    """A server with a confidential and a public client; the user `ada` is signed in."""

    def __init__(self, folder: Path, store: Store | None = None, **options: Any) -> None:
        self.clock = Clock()
        self.folder = folder
        self.store = store or sqlite_store(folder)
        self.events: list[Event] = []
        self.user: User | None = User("ada", "Ada", 1_699_999_000.0)
        self.people: PeopleOptions | None = PeopleOptions(
            current_user=lambda _: self.user, login_url="https://app.example.com/login"
        )
        given = {"people": self.people, "on_event": self.events.append}
        self.server = self.another(**(given | options))
        self.app = self.add("App")
        self.phone = self.add(
            "Phone", public=True, redirect_uris=["http://127.0.0.1/cb", CALLBACK + "/phone"]
        )

    def another(self, **options: Any) -> AuthorizationServer:
        """Open the server, as another process does, or a later one."""
        given: dict[str, Any] = {
            "store": self.store.url,
            "secret": SECRET,
            "scopes": SCOPES,
            "clock": self.clock,
            "signing": SigningKeys(algorithm="ES256"),  # made faster than RSA keys
        }
        return AuthorizationServer(options.pop("issuer", ISSUER), **(given | options))

    def add(self, name: str, **options: Any) -> Registered:
        given: dict[str, Any] = {"redirect_uris": [CALLBACK], "scopes": list(SCOPES)}
        if not options.get("public"):
            given["require_consent"] = False
        return self.server.clients.add(name, **(given | options))

    def named(self, name: str) -> list[Event]:
        return [event for event in self.events if event.code == name]

    # Requests

    def send(self, method: str, url: str, body: bytes = b"", **headers: str) -> Reply:
        fields = {name.replace("_", "-"): value for name, value in headers.items()}
        if url.startswith("/oauth/"):
            url = self.server.settings.base_path + url
        return Reply(self.server.handle(Request(method, url, fields, body)))

    def post(self, path: str, fields: Any, **headers: str) -> Reply:
        pairs = fields.items() if isinstance(fields, dict) else fields
        given = [(name, value) for name, value in pairs if value is not None]
        body = urlencode(given, doseq=True).encode()
        return self.send("POST", path, body, **{"content_type": FORM, **headers})

    def token(
        self, client: Registered | None = None, proof: str | None = None, **fields: Any
    ) -> Reply:
        """Ask for a token as the documentation prints it: the secret in the form."""
        headers = {} if proof is None else {"dpop": proof}
        return self.post("/oauth/token", self.credentials(client) | fields, **headers)

    def credentials(self, client: Registered | None = None) -> dict[str, Any]:
        registered = client or self.app
        return {"client_id": registered.client_id, "client_secret": registered.client_secret}

    def authorize(self, client: Registered | None = None, **fields: Any) -> Reply:
        """Follow a client's link."""
        return self.send("GET", self.link(client, **fields))

    def link(self, client: Registered | None = None, **fields: Any) -> str:
        """Return a client's link; with PKCE unless `code_challenge=None`."""
        registered = client or self.app
        usual = {
            "client_id": registered.client_id,
            "redirect_uri": registered.client.redirect_uris[-1],
            "response_type": "code",
            "scope": "read write",
            "state": "a state",
            "code_challenge": pkce.challenge(VERIFIER),
            "code_challenge_method": "S256",
        }
        chosen = {name: value for name, value in (usual | fields).items() if value is not None}
        return f"/oauth/authorize?{urlencode(chosen, doseq=True)}"

    def code(self, client: Registered | None = None, **fields: Any) -> str:
        response = self.authorize(client, **fields)
        if response.status == 200:
            response = self.consent(response)
        return response.sent["code"]

    def consent(
        self, page: Reply, *, decision: str = "allow", cookie: str = "", **fields: str
    ) -> Reply:
        """Send the form of a consent page as a browser does: with its hidden fields and cookie.

        `cookie` is what the browser had before.
        """
        form = hidden_fields(page.response.body.decode())
        cookie = cookie or (page.header("set-cookie") or "").partition(";")[0]
        return self.post("/oauth/consent", {**form, "decision": decision, **fields}, cookie=cookie)

    def redeem(self, code: str, client: Registered | None = None, **fields: Any) -> Reply:
        chosen = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": (client or self.app).client.redirect_uris[-1],
            "code_verifier": VERIFIER,
        }
        return self.token(client, **(chosen | fields))

    def tokens(self, client: Registered | None = None, **fields: Any) -> dict[str, Any]:
        response = self.redeem(self.code(client, **fields), client)
        assert response.status == 200, response.json
        return response.json

    def refresh(self, token: str, client: Registered | None = None, **fields: Any) -> Reply:
        return self.token(client, grant_type="refresh_token", refresh_token=token, **fields)

    def introspect(self, token: str, client: Registered | None = None) -> dict[str, Any]:
        response = self.post("/oauth/introspect", self.credentials(client) | {"token": token})
        assert response.status == 200, response.json
        return response.json

    def is_active(self, token: str) -> bool:
        return self.introspect(token)["active"] is True


VERIFIER = secrets.token_urlsafe(48)


def basic(client_id: str, secret: str | None) -> str:
    pair = f"{quote_plus(client_id)}:{quote_plus(secret or '')}"
    return "Basic " + base64.b64encode(pair.encode()).decode()


def claims(token: str) -> dict[str, Any]:
    """Read a JWT without checking it."""
    content: dict[str, Any] = json.loads(base64url.decode(token.split(".")[1].encode()))
    return content


def header(token: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(base64url.decode(token.split(".", maxsplit=1)[0].encode()))
    return content


def hidden_fields(page: str) -> dict[str, str]:
    """Return the hidden fields of the first form of a page."""
    from html.parser import HTMLParser

    class Fields(HTMLParser):
        def __init__(self) -> None:
            super().__init__()
            self.found: dict[str, str] = {}

        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            given = dict(attrs)
            if tag == "input" and given.get("type") == "hidden":
                self.found.setdefault(given["name"] or "", given.get("value") or "")

    parser = Fields()
    parser.feed(page)
    return parser.found


Make = Callable[..., Harness]
