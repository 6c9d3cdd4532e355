"""GitHub as its documentation describes it, on loopback: the OAuth app flow and the REST API.

https://docs.github.com/en/apps/oauth-apps and https://docs.github.com/en/rest/users
"""

from __future__ import annotations

import json
import secrets
import threading
from collections.abc import Generator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

from bearerguard.protocol import pkce


class GitHub:
    """A GitHub Enterprise Server with one user.

    Attributes:
        user: what `GET /user` says.
        emails: what `GET /user/emails` says.
        memberships: the state of the user's membership, by organization.
        status: the status of all responses of the API, instead of 200.
        scopes: the scopes of the last request.
        prompts: the `prompt` of each request.
    """

    url = ""

    def __init__(self) -> None:
        self.user: dict[str, Any] = {"id": 583231, "login": "octocat", "name": "The Octocat"}
        self.emails: Any = [
            {"email": "other@evil.example", "verified": True, "primary": False},
            {"email": "octocat@example.com", "verified": True, "primary": True},
        ]
        self.memberships: dict[str, str] = {}
        self.status = 200
        self.scopes = ""
        self.prompts: list[str | None] = []
        self._codes: dict[str, dict[str, str]] = {}
        self._tokens: set[str] = set()

    def authorize(self, url: str) -> str:
        """Let the user allow it, and return the URL that GitHub redirects to."""
        parts = urlsplit(url)
        assert url.startswith(f"{self.url}/login/oauth/authorize?"), url
        asked = dict(parse_qsl(parts.query))
        self.scopes = asked["scope"]
        self.prompts.append(asked.get("prompt"))
        code = secrets.token_hex(10)
        self._codes[code] = asked
        return f"{asked['redirect_uri']}?{urlencode({'code': code, 'state': asked['state']})}"

    def respond(  # noqa: PLR0911 - one for each resource
        self, method: str, path: str, headers: Any, body: bytes
    ) -> tuple[int, Any]:
        if (method, path) == ("POST", "/login/oauth/access_token"):
            assert headers["Accept"] == "application/json"  # else it is a form
            return 200, self._redeemed(dict(parse_qsl(body.decode())))
        if headers["Authorization"].removeprefix("Bearer ") not in self._tokens:
            return 401, {"message": "Bad credentials"}
        if self.status != 200:
            return self.status, {"message": "Server Error"}
        if path == "/api/v3/user":
            return 200, self.user
        if path == "/api/v3/user/emails":
            return 200, self.emails
        organization = path.removeprefix("/api/v3/user/memberships/orgs/")
        if organization in self.memberships:
            return 200, {"state": self.memberships[organization], "role": "member"}
        return 404, {"message": "Not Found"}

    def _redeemed(self, form: dict[str, str]) -> dict[str, str]:
        asked = self._codes.pop(form.get("code", ""), None)
        if (form["client_id"], form["client_secret"]) != ("Iv1.x", "its secret"):
            return {"error": "incorrect_client_credentials"}
        if asked is None or not pkce.proves(form["code_verifier"], asked["code_challenge"]):
            return {"error": "bad_verification_code", "error_description": "It is incorrect."}
        token = f"gho_{secrets.token_hex(18)}"
        self._tokens.add(token)
        return {"access_token": token, "scope": asked["scope"], "token_type": "bearer"}


@contextmanager
def serving(github: GitHub) -> Generator[None]:
    """Serve it on loopback inside the block."""

    class Handler(BaseHTTPRequestHandler):
        def _respond(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            status, content = github.respond(self.command, self.path, self.headers, body)
            octets = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json; charset=utf-8")
            self.send_header("Content-Length", str(len(octets)))
            self.end_headers()
            self.wfile.write(octets)

        do_GET = do_POST = _respond  # noqa: N815 - named by the library

        def log_message(self, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    github.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
