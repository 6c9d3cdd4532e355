"""A login at GitHub: its OAuth app flow, and its REST API, since it issues no ID token.

The user's number is the subject: login names can be given up, and taken by others.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from bearerguard.errors import BAD_LOGOUT_TOKEN, TokenError
from bearerguard.principal import Claims
from bearerguard.protocol import client_authentication, names, pkce, token_endpoint
from bearerguard.protocol.events.logout_token import Logout
from bearerguard.runtime.fetching import Transport
from bearerguard.runtime.flow import Fetch
from bearerguard.server.upstream.openid import redeemed
from bearerguard.server.upstream.options import Admission, GitHubLogin, UpstreamIdentity
from bearerguard.server.upstream.provider import (
    Asked,
    Authenticated,
    UpstreamError,
    fetched,
    json_value,
    read_json,
    text,
)

_SCOPES = "read:user user:email"
_NO_MEMBER = 404


class GitHubProvider:
    """A `Provider`.

    Args:
        options: the operator's.
        transport: sends the requests.
    """

    def __init__(self, options: GitHubLogin, *, transport: Transport) -> None:
        self._options = options
        self._transport = transport
        self.key: str = options.key
        self.name: str = options.name
        self.issuer: str = options.issuer
        self.acr_values: tuple[str, ...] = ()
        self.is_ready: bool = True  # its addresses are known

    def authorization_url(self, asked: Asked, state: str) -> str:
        """Return the URL where GitHub asks its user."""
        options = self._options
        fields = {
            "client_id": options.client_id,
            "redirect_uri": asked.redirect_uri,
            "scope": f"{_SCOPES} read:org" if options.organizations else _SCOPES,
            "state": state,
            "code_challenge": pkce.challenge(asked.verifier),
            "code_challenge_method": pkce.METHOD,
            # The only value that it has.
            "prompt": "select_account" if asked.prompt else "",
        }
        given = {name: value for name, value in fields.items() if value}
        return f"{options.base_url}/login/oauth/authorize?{urlencode(given)}"

    def authenticate(self, code: str, issuer: str | None, asked: Asked) -> Authenticated:
        """Redeem a code, and ask the API who the user is."""
        del issuer  # it is no parameter of GitHub's
        options = self._options
        request = token_endpoint.request(
            f"{options.base_url}/login/oauth/access_token",
            [
                ("code", code),
                ("redirect_uri", asked.redirect_uri),
                ("code_verifier", asked.verifier),
            ],
            client_authentication.client_secret_post(options.client_id, options.client_secret),
        )
        try:
            token = redeemed(self._transport, request).get("access_token")
        except UpstreamError as error:
            # GitHub's own name for an invalid code.
            if error.reason == "bad_verification_code":
                raise UpstreamError("invalid", error.reason, error.cause) from error
            raise
        if not isinstance(token, str) or not token.isascii() or not token.isprintable():
            raise UpstreamError("unavailable", "no_access_token", "GitHub sent no access token")
        return Authenticated(self._identity(token))

    def admission(self, identity: UpstreamIdentity) -> Admission | None:
        """Return whether a user may sign in."""
        return self._options.admission(identity)

    def logout(self, token: str) -> Logout:
        """Refuse: GitHub sends no logout tokens."""
        del token
        raise TokenError(BAD_LOGOUT_TOKEN, "GitHub sends no logout tokens")

    def close(self) -> None:
        """Do nothing: it has no connections of its own."""

    def _identity(self, token: str) -> UpstreamIdentity:
        user = self._get("/user", token)
        number = user.get("id") if isinstance(user, dict) else None
        if isinstance(number, bool) or not isinstance(number, int):
            raise UpstreamError("unavailable", "no_user", "GET /user has no id")
        email, verified = self._email(token)
        organizations = [
            each for each in self._options.organizations if self._is_member(each, token)
        ]
        login, name = text(user.get("login")), text(user.get("name"))
        claims: dict[str, Any] = {
            "sub": str(number),
            "login": login,
            "name": name,
            "email": email,
            "email_verified": verified,
            "organizations": organizations,
        }
        return UpstreamIdentity(
            self.issuer,
            str(number),
            name=name or login,
            email=email,
            email_verified=verified,
            groups=frozenset(organizations),
            claims=Claims(claims),
        )

    def _email(self, token: str) -> tuple[str, bool]:
        """Return the primary address, if it is verified; no other one counts."""
        listed = self._get("/user/emails", token)
        for each in listed if isinstance(listed, list) else ():
            if isinstance(each, dict) and each.get("primary") is True:
                verified = each.get("verified") is True
                return (text(each.get("email")), True) if verified else ("", False)
        return "", False

    def _is_member(self, organization: str, token: str) -> bool:
        url = f"{self._options.api_url}/user/memberships/orgs/{organization}"
        response = fetched(self._transport, Fetch("GET", url, _headers(token)))
        if response.status == _NO_MEMBER:
            return False
        # 403 may be a limit of requests, which says nothing about the user.
        membership = json_value(url, response)
        # An invitation that is not accepted is "pending".
        return isinstance(membership, dict) and membership.get("state") == "active"

    def _get(self, path: str, token: str) -> Any:
        return read_json(self._transport, self._options.api_url + path, _headers(token))


def _headers(token: str) -> tuple[tuple[str, str], ...]:
    return (
        ("accept", "application/vnd.github+json"),
        ("authorization", f"{names.BEARER} {token}"),
        ("x-github-api-version", "2022-11-28"),
    )
