"""A server whose users sign in elsewhere, and the OpenID provider there, which a test can corrupt.

The provider's requests are those of the real transport; its tokens have genuine signatures.
"""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qs, parse_qsl, urlencode, urlsplit

import argon2

from bearerguard import Fetch, Request, Response
from bearerguard.protocol import pkce
from bearerguard.runtime.messages import FetchFailed
from bearerguard.server import PeopleOptions, UpstreamLogin
from bearerguard.server.login.people import PASSWORD_ACR
from bearerguard.testing import LocalIssuer
from tests.server.harness import ISSUER, Harness, Make, claims, hidden_fields
from tests.server.people.visitor import Page, Visitor

IDP, OTHER = "https://idp.example.com", "https://other.example.com"
CLIENT, SECRET = "our-client", "its secret: only for tests"
PASSWORD = "correct horse battery"
__all__ = ["PASSWORD_ACR"]


class OpenIdProvider:
    """An OpenID provider; what it says can be changed.

    Attributes:
        user: the claims of whoever logs in.
        changed: claims that override those of the next ID tokens, None to leave one out.
        header: likewise, members of their header.
        key: what signs them, None for the published key.
        parameters: likewise, the parameters of the next responses.
        published: likewise, its metadata.
        answer: the whole response of the token endpoint instead of tokens.
        userinfo: what UserInfo has besides `sub`.
        requests: the authentication requests.
        forms: what came to the token endpoint.
    """

    def __init__(self, url: str, clock: Any) -> None:
        self.url = url
        self.local = LocalIssuer(url, audience=CLIENT, algorithm="ES256", clock=clock)
        self.clock = clock
        self.user: dict[str, Any] = {
            "sub": "00u1",
            "name": "Ada Lovelace",
            "email": "ada@example.com",
            "email_verified": True,
        }
        self.changed: dict[str, Any] = {}
        self.header: dict[str, Any] = {}
        self.key: Any = None
        self.parameters: dict[str, Any] = {}
        self.published: dict[str, Any] = {}
        self.answer: Response | None = None
        self.userinfo: dict[str, Any] = {}
        self.requests: list[dict[str, str]] = []
        self.forms: list[dict[str, str]] = []
        self.fault: Exception | None = None
        self._codes: dict[str, dict[str, str]] = {}

    def authorize(self, url: str) -> str:
        """Let the user log in at the URL of an authentication request; return where to go on."""
        assert url.startswith(f"{self.url}/authorize?"), url
        asked = dict(parse_qsl(urlsplit(url).query, strict_parsing=True))
        self.requests.append(asked)
        code = secrets.token_urlsafe(16)
        self._codes[code] = asked
        sent = {"code": code, "state": asked["state"], "iss": self.url} | self.parameters
        given = {name: value for name, value in sent.items() if value is not None}
        return f"{asked['redirect_uri']}?{urlencode(given)}"

    def id_token(self, asked: Mapping[str, str], access_token: str = "") -> str:
        half = hashlib.sha256(access_token.encode()).digest()[:16]
        usual = {
            "client_id": None,
            "jti": None,
            "nonce": asked.get("nonce"),
            "at_hash": base64.urlsafe_b64encode(half).rstrip(b"=").decode(),
        }
        return self.local.token(
            subject=self.user["sub"],
            claims=usual | self.user | self.changed,
            header={"typ": None} | self.header,
            key=self.key,
        )

    def logout_token(self, **changed: Any) -> str:
        usual: dict[str, Any] = {
            "client_id": None,
            "events": {"http://schemas.openid.net/event/backchannel-logout": {}},
        }
        return self.local.token(
            subject=changed.pop("sub", self.user["sub"]),
            expires_in=120,
            key=changed.pop("key", None),
            claims=usual | changed,
            header={"typ": changed.pop("typ", "logout+jwt")},
        )

    def fetch(self, request: Fetch) -> Response:
        if self.fault is not None:
            raise self.fault
        path = urlsplit(request.url).path
        if path == "/token":
            return self.answer or self._redeemed(dict(parse_qsl(request.body.decode())), request)
        if path == "/userinfo":
            assert ("authorization", "Bearer an access token of it") in request.headers
            return answer({"sub": self.user["sub"], **self.userinfo})
        response = self.local.transport().fetch(request)
        if "openid-configuration" not in path or response.status != 200:
            return response
        metadata = json.loads(response.body) | {
            "authorization_endpoint": f"{self.url}/authorize",
            "token_endpoint": f"{self.url}/token",
            "userinfo_endpoint": f"{self.url}/userinfo",
            "authorization_response_iss_parameter_supported": True,
        }
        return answer(metadata | self.published)

    def _redeemed(self, form: dict[str, str], request: Fetch) -> Response:
        self.forms.append(form | dict(request.headers))
        asked = self._codes.pop(form.get("code", ""), None)
        proved = asked is not None and pkce.proves(form["code_verifier"], asked["code_challenge"])
        if asked is None or not proved or form["redirect_uri"] != asked["redirect_uri"]:
            return answer({"error": "invalid_grant"}, 400)
        token = "an access token of it"
        return answer(
            {
                "access_token": token,
                "token_type": "Bearer",
                "id_token": self.id_token(asked, token),
            }
        )


def answer(content: Any, status: int = 200) -> Response:
    return Response(status, (("Content-Type", "application/json"),), json.dumps(content).encode())


class Transport:
    """Calls the providers of a test in this process."""

    def __init__(self) -> None:
        self.providers: list[Any] = []

    def fetch(self, request: Fetch) -> Response:
        for each in self.providers:
            if request.url.startswith(each.url):
                found: Response = each.fetch(request)
                return found
        raise FetchFailed(f"{request.url}: unknown host", kind="unknown_host")

    async def afetch(self, request: Fetch) -> Response:
        raise NotImplementedError


class World:
    """A server, an OpenID provider, and another one."""

    def __init__(self, make: Make, *, upstreams: Any = None, **options: Any) -> None:
        self.transport = Transport()
        more = options.pop("server", {})
        login = {"domains": ["example.com"], "name": "Example"} | options.pop("login", {})
        given = upstreams or [
            UpstreamLogin(IDP, client_id=CLIENT, client_secret=SECRET, **login),
            UpstreamLogin(
                OTHER,
                client_id=CLIENT,
                client_secret=SECRET,
                name="Other",
                domains=["example.com"],
            ),
        ]
        people = PeopleOptions(
            upstreams=given,
            password_parameters=argon2.profiles.CHEAPEST,
            **options,
        )
        self.harness: Harness = make(people=people, transport=self.transport, **more)
        self.server = self.harness.server
        clock = self.harness.clock
        self.idp, self.other = OpenIdProvider(IDP, clock), OpenIdProvider(OTHER, clock)
        self.transport.providers += [self.idp, self.other]

    def visitor(self, peer: str = "192.0.2.7") -> Visitor:
        return Visitor(self.handle, url=ISSUER, peer=peer)

    def handle(self, request: Request) -> Response:
        return self.server.handle(request)

    def chosen(self, visitor: Visitor, name: str = "example", at: str = "/oauth/login") -> str:
        """Press an upstream's button on the login page; return where that leads."""
        page = visitor.get(at)
        while page.status == 303:
            page = visitor.follow(page)
        assert page.status == 200, page.text
        form = hidden_fields(page.html)
        begun = visitor.post(f"/oauth/login/upstream/{name}", form)
        assert begun.status == 303, begun.text
        return begun.header("Location") or ""

    def sign_in(self, visitor: Visitor, at: str = "/oauth/login") -> Page:
        """Sign in at the provider, and return the response to the callback."""
        return visitor.get(self.idp.authorize(self.chosen(visitor, at=at)))

    def code(self, visitor: Visitor, **fields: Any) -> str:
        """Sign in for an authorization request, and return the code."""
        page = visitor.follow(self.sign_in(visitor, at=self.harness.link(**fields)))
        return sent(page)["code"]

    def claims(self, visitor: Visitor, **fields: Any) -> dict[str, Any]:
        """Return the claims of the access token of a login."""
        return claims(self.harness.redeem(self.code(visitor, **fields)).json["access_token"])

    def reasons(self, code: str = "upstream_login_failed") -> list[Any]:
        return [each.details["reason"] for each in self.harness.named(code)]


def sent(page: Page) -> dict[str, str]:
    """Return what a redirect sends to the client."""
    found = parse_qs(urlsplit(page.header("Location") or "").query)
    return {name: values[0] for name, values in found.items()}
