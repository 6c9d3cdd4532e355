"""The page of personal access tokens, `/oauth/account/tokens`: the user's list, and a form.

A new token is in the response to the form that made it, and nowhere else: not in a URL, not in a
cookie, and not in the response to the same form sent again.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from bearerguard.errors import PersonalTokenError
from bearerguard.protocol import names
from bearerguard.runtime.messages import Request, Response
from bearerguard.server.http.oauth_error import OAuthError, invalid_request, too_many_requests
from bearerguard.server.http.parameters import from_form
from bearerguard.server.login.consent import ScopeLine, scope_line
from bearerguard.server.login.csrf import FIELD
from bearerguard.server.login.people import People
from bearerguard.server.login.session import SignedIn
from bearerguard.server.login.steps import see_other
from bearerguard.server.settings import DAY, Settings
from bearerguard.server.tokens.personal_tokens import (
    PER_MAKER,
    NewPersonalToken,
    PersonalToken,
    PersonalTokenRegistry,
    PersonalTokens,
)

PAGE = "/oauth/account/tokens"

# The query of the link by which a user logs in again.
_AGAIN = "sign_in=again"
# How the names of the checkboxes begin: no scope has a space.
_SCOPE = "scope "
_MAX_DIGITS = 4
# The reasons of refusals that the page has a text for.
_OF_FORMS = frozenset({"name", "scope", "resource", "lifetime", "too_many", "repeated"})


class PersonalTokensPage:
    """Responds to requests to the page.

    Args:
        registry: the tokens.
        options: the operator's.
        people: who is signed in, and the pages.
        settings: the server's.
        account: the path of the account page.
    """

    def __init__(
        self,
        registry: PersonalTokenRegistry,
        options: PersonalTokens,
        *,
        people: People,
        settings: Settings,
        account: str,
    ) -> None:
        self._registry = registry
        self._options = options
        self._people = people
        self._settings = settings
        self._account = account
        self._path = settings.base_path + PAGE

    def handle(self, request: Request) -> Response:
        """Return the response to a request."""
        if request.method not in {"GET", "HEAD", "POST"}:
            return self._people.wrong_method(request, PAGE, "GET", "HEAD", "POST")
        signed_in = self._people.signed_in(request)
        if request.method == "POST":
            if signed_in is None:
                return self._people.sign_in_for(PAGE)
            return self._posted(request, signed_in)
        again = urlsplit(request.url).query == _AGAIN
        if signed_in is None or again:
            return self._people.sign_in_for(PAGE, again=again)
        return self._page(request, signed_in)

    def _posted(self, request: Request, signed_in: SignedIn) -> Response:
        try:
            fields = from_form(request).values
        except OAuthError as error:
            return self._people.errors.show(error, PAGE, "request")
        if not self._people.parts.csrf.holds(request, fields, signed_in.user_id):
            unusable = invalid_request("The form is invalid or has expired", "unusable_form")
            unusable.note(user_id=signed_in.user_id)
            unusable.report(self._people.parts.audit, self._path)
            return self._page(request, signed_in, problem="stale", status=400)
        if "end" in fields:
            self._registry.end(fields["end"], user_id=signed_in.user_id)
            return see_other(self._path)
        return self._add(request, signed_in, fields)

    def _add(self, request: Request, signed_in: SignedIn, fields: Mapping[str, str]) -> Response:
        if not self._registry.is_recent(signed_in.auth_time):
            return self._page(request, signed_in, fields, problem="old", status=403)
        parts = self._people.parts
        wait = parts.throttle.charge_one("personal token", signed_in.user_id, PER_MAKER)
        if wait:
            refusal = too_many_requests(
                "new tokens", "too_many_personal_tokens", wait, user_id=signed_in.user_id
            )
            refusal.report(parts.audit, self._path)
            return self._page(
                request, signed_in, fields, problem="throttled", status=429, wait=wait
            )
        try:
            made = self._registry.add_once(
                signed_in.user_id,
                fields.get("name", "").strip(),
                scopes=_chosen(fields),
                lifetime=_seconds(fields.get("days", "")),
                resource=fields.get("for"),
                once=fields[FIELD],
                may_act=lambda connection, _: self._people.is_signed_in(connection, signed_in),
            )
        except PersonalTokenError as error:
            if error.reason not in _OF_FORMS:  # about the user, and nothing in the form
                return self._people.sign_in_for(PAGE)
            return self._page(request, signed_in, fields, problem=error.reason, status=400)
        return self._page(request, signed_in, made=made)

    def _page(
        self,
        request: Request,
        signed_in: SignedIn,
        fields: Mapping[str, str] | None = None,
        *,
        problem: str = "",
        made: NewPersonalToken | None = None,
        status: int = 200,
        wait: int = 0,
    ) -> Response:
        """Return the page; `fields` are those of a form with a problem."""
        people, chosen = self._people, _chosen(fields or {})
        texts = people.parts.pages.texts
        max_days = int(self._options.max_lifetime // DAY)
        given = {"max": max_days, "count": self._options.per_user, "wait": texts.wait(wait)}
        resources = [each.identifier for each in self._settings.resources]
        said = "login.stale" if problem == "stale" else f"tokens.problem.{problem}"
        proof = people.parts.csrf.proof(request, signed_in.user_id)
        waiting = ((names.RETRY_AFTER, str(wait)),) if wait else ()
        first = (fields or {}).get("for", resources[0])
        return people.parts.pages.page(
            "personal_tokens",
            status=status,
            leads_on=people.parts.leads_on,
            headers=(*proof.headers, *waiting),
            action=self._path,
            csrf=proof.value,
            account=self._account,
            sign_in=f"{self._path}?{_AGAIN}",
            tokens=[self._shown(each) for each in self._registry.list(signed_in.user_id)],
            scopes=[
                {"line": self._line(each), "checked": each in chosen}
                for each in self._registry.scopes
            ],
            resources=[{"name": each, "checked": each == first} for each in resources]
            if len(resources) > 1
            else [],
            problem=texts(said, **given) if problem else "",
            reason=problem,
            is_old=not self._registry.is_recent(signed_in.auth_time),
            is_unknown=signed_in.auth_time is None,
            made="" if made is None else made.value,
            name=made.token.name if made is not None else (fields or {}).get("name", ""),
            days=(fields or {}).get("days", str(max(1, int(self._options.lifetime // DAY)))),
            max_days=str(max_days),
        )

    def _line(self, scope: str) -> ScopeLine:
        return scope_line(scope, self._settings, self._people.parts.pages.texts)

    def _shown(self, token: PersonalToken) -> dict[str, Any]:
        return {
            "id": token.id,
            "name": token.name,
            "scopes": list(map(self._line, token.scopes)),
            "resource": token.resource,
            "client": token.client_name or "",
            "created": _date(token.created_at),
            "expires": _date(token.expires_at),
            "used": "" if token.last_used_at is None else _date(token.last_used_at),
        }


def _chosen(fields: Mapping[str, str]) -> Sequence[str]:
    return [name.removeprefix(_SCOPE) for name in fields if name.startswith(_SCOPE)]


def _seconds(days: str) -> float:
    """Return a number of days in seconds, 0 for what is none."""
    text = days.strip()
    usable = text.isascii() and text.isdecimal() and len(text) <= _MAX_DIGITS
    return int(text) * DAY if usable else 0.0


def _date(at: float) -> str:
    """Return a day as everybody reads it (ISO 8601), in UTC."""
    return time.strftime("%Y-%m-%d", time.gmtime(at))
