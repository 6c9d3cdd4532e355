"""The verification page, `/oauth/device`: a person enters the code of a device (RFC 8628 §3.3).

The person signs in first. A code that a link brings is only filled in: it must be confirmed, and is
shown once more beside the device's name and what it asks for.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from urllib.parse import urlsplit

from bearerguard.protocol import names
from bearerguard.runtime.messages import Request, Response
from bearerguard.server.audit import Audit
from bearerguard.server.clients import client as clients
from bearerguard.server.clients.client import Client
from bearerguard.server.clients.metadata_documents import DocumentRefused
from bearerguard.server.clients.registry import ClientRegistry
from bearerguard.server.grants import device_code
from bearerguard.server.grants.device_code import DeviceCodeGrant
from bearerguard.server.http import responses
from bearerguard.server.http.oauth_error import OAuthError, invalid_request
from bearerguard.server.http.parameters import parse
from bearerguard.server.login.consent import scope_line
from bearerguard.server.login.devices import DEVICE, DeviceAnswer, DeviceRequest, device_query
from bearerguard.server.login.people import People
from bearerguard.server.login.session import SessionEnded, SignedIn
from bearerguard.server.settings import Settings
from bearerguard.server.store.connection import Row

_METHODS = ("GET", "HEAD", "POST")


class DeviceEndpoint:
    """Responds to the requests of people who connect a device."""

    def __init__(
        self,
        *,
        settings: Settings,
        registry: ClientRegistry,
        codes: DeviceCodeGrant,
        people: People,
        audit: Audit,
    ) -> None:
        self._settings = settings
        self._registry = registry
        self._codes = codes
        self._people = people
        self._pages = people.devices
        self._audit = audit

    def handle(self, request: Request) -> Response:
        """Return the response to a request for the page, or to one of its forms."""
        try:
            return self._handled(request)
        except DocumentRefused as error:  # that of a client without a row
            refusal = invalid_request("The client's document is refused", error.reason)
            refusal.note(detail=str(error))
            text = "app_document"
            if error.temporary:
                refusal.status, text = 503, "app_unavailable"
            return self._people.errors.show(refusal, DEVICE, "link", text)
        except OAuthError as error:  # the client is being removed
            error.status, error.headers = 503, ((names.RETRY_AFTER, responses.RETRY_SECONDS),)
            return self._people.errors.show(error, DEVICE, "unavailable")

    def _handled(self, request: Request) -> Response:
        if request.method not in _METHODS:
            return self._people.wrong_method(request, DEVICE, *_METHODS)
        fields: Mapping[str, str] = {}
        if request.method == "POST":
            posted = self._pages.fields(request)
            if isinstance(posted, Response):
                return posted
            fields = posted
        typed = fields.get("user_code", "") or _linked(request)
        signed_in = self._people.signed_in(request)
        if signed_in is None:
            # What was typed comes back after the login.
            query = device_query(_readable(typed))
            return self._people.ask_to_sign_in(request, query=query, client_name="", path=DEVICE)
        if request.method != "POST":
            return self._pages.form(request, signed_in, _readable(typed))
        if "decision" in fields:
            return self._decide(request, fields, signed_in)
        return self._enter(request, fields, signed_in)

    def _enter(self, request: Request, fields: Mapping[str, str], signed_in: SignedIn) -> Response:
        """Return the consent for the code that was entered, or the field with what is wrong."""
        typed = fields.get("user_code", "")
        if not self._pages.holds(request, fields, signed_in):
            self._report(_unusable_form(signed_in))
            return self._pages.form(request, signed_in, _readable(typed), problem="login.stale")
        if not typed.strip():
            missing = invalid_request("The user code is missing", "missing_user_code")
            missing.note(user_id=signed_in.user_id)
            self._report(missing)
            return self._pages.form(request, signed_in, problem="device.missing")
        attempt = self._pages.charge(signed_in, request.peer)
        if attempt.wait:
            self._audit.emit(
                "user_code_throttled",
                user_id=signed_in.user_id,
                address=request.peer or None,
            )
            return self._pages.form(
                request, signed_in, typed, problem="login.throttled", wait=attempt.wait
            )
        found = self._codes.find(typed)
        client = None if found is None else self._registry.resolve(found.client_id)
        if found is None or client is None:
            unusable = invalid_request("The user code is wrong", "wrong_user_code")
            unusable.note(user_id=signed_in.user_id, address=request.peer or None)
            self._report(unusable)
            return self._pages.form(request, signed_in, typed, problem="device.wrong")
        self._pages.take_back(attempt)
        return self._pages.ask(request, signed_in, self._asked(found, client, typed))

    def _asked(self, code: Row, client: Client, typed: str) -> DeviceRequest:
        texts = self._people.parts.pages.texts
        resources = tuple(json.loads(code.resources))
        is_default = resources == (self._settings.resources[0].identifier,)
        is_described = client.registered_by == clients.BY_DOCUMENT
        return DeviceRequest(
            digest=code.digest,
            user_code=_readable(typed),
            client_id=client.client_id,
            client_name=client.name,
            scopes=tuple(scope_line(name, self._settings, texts) for name in code.scope.split()),
            resources=() if is_default else resources,
            published_at=urlsplit(client.client_id).netloc.lower() if is_described else "",
            is_unknown=client.registered_by == clients.BY_REQUEST,
        )

    def _decide(self, request: Request, fields: Mapping[str, str], signed_in: SignedIn) -> Response:
        answer = self._pages.answer(request, fields, signed_in)
        if answer is None:
            self._report(_unusable_form(signed_in))
            return self._pages.again(request, fields, signed_in)
        try:
            is_in_time = (self._allow if answer.allowed else self._deny)(answer, signed_in)
        except SessionEnded:  # since this request has found it
            query = self._pages.posted(request, signed_in) or ""
            return self._people.ask_to_sign_in(request, query=query, client_name="", path=DEVICE)
        if not is_in_time:
            late = invalid_request("The code has expired or was used", "user_code_too_late")
            late.note(client_id=answer.client_id, user_id=signed_in.user_id)
            return self._people.errors.show(late, DEVICE, "device")
        return self._pages.done(answer)

    def _allow(self, answer: DeviceAnswer, signed_in: SignedIn) -> bool:
        client = self._registry.resolve(answer.client_id)
        if client is None or not self._codes.allow(
            answer.digest,
            client,
            signed_in,
            lambda connection: self._people.check_session(connection, signed_in),
        ):
            return False
        self._audit.emit(
            "consent_given",
            client_id=answer.client_id,
            user_id=signed_in.user_id,
            scope=answer.scope,
            remembered=False,
        )
        return True

    def _deny(self, answer: DeviceAnswer, signed_in: SignedIn) -> bool:
        if not self._codes.deny(answer.digest):
            return False
        refused = OAuthError(names.ACCESS_DENIED, "The user refused", event="consent_refused")
        refused.note(client_id=answer.client_id, user_id=signed_in.user_id)
        self._report(refused)
        return True

    def _report(self, error: OAuthError) -> None:
        error.report(self._audit, self._settings.base_path + DEVICE)


def _unusable_form(signed_in: SignedIn) -> OAuthError:
    unusable = invalid_request("The form is invalid or has expired", "unusable_form")
    unusable.note(user_id=signed_in.user_id)
    return unusable


def _linked(request: Request) -> str:
    """Return the user code of a link, or ""."""
    try:
        return parse(urlsplit(request.url).query.encode()).get("user_code") or ""
    except (OAuthError, UnicodeEncodeError):
        return ""


def _readable(typed: str) -> str:
    """Return a user code as devices show it; "" for what is none."""
    code = device_code.normalized(typed)
    return "" if code is None else device_code.shown(code)
