"""The device authorization endpoint, `POST /oauth/device_authorization` (RFC 8628 §3.1, §3.2)."""

from __future__ import annotations

from urllib.parse import urlencode

from bearerguard.protocol import names
from bearerguard.runtime.messages import Request, Response
from bearerguard.runtime.rate_limits import RateLimit
from bearerguard.server.clients.authentication import ClientAuthentication
from bearerguard.server.clients.client import Client
from bearerguard.server.grants.device_code import DeviceCodeGrant
from bearerguard.server.grants.scopes_and_resources import requested_resources, requested_scopes
from bearerguard.server.http import responses
from bearerguard.server.http.oauth_error import noting, too_many_requests, unauthorized_client
from bearerguard.server.http.parameters import Parameters, from_form
from bearerguard.server.login.devices import DEVICE
from bearerguard.server.login.throttle import Throttle
from bearerguard.server.settings import Settings

# For clients that anybody can pose as, from one address: 60 at once, then 720 an hour.
PER_ADDRESS = RateLimit(attempts=60, interval=5)
# From all addresses together, for one client of the operator's, or for all other clients.
IN_ALL = RateLimit(attempts=5000, interval=0.1)


class DeviceAuthorizationEndpoint:
    """Responds to device authorization requests."""

    def __init__(
        self,
        *,
        authentication: ClientAuthentication,
        codes: DeviceCodeGrant,
        settings: Settings,
        throttle: Throttle,
    ) -> None:
        self._authentication = authentication
        self._codes = codes
        self._settings = settings
        self._throttle = throttle
        self._page = settings.url(DEVICE)

    def handle(self, request: Request) -> Response:
        """Return the response; raises `OAuthError`."""
        responses.check_method(request, "POST")
        parameters = from_form(request)
        client = self._authentication.authenticate(request, parameters)
        with noting(client_id=client.client_id):
            return self._respond(request, client, parameters)

    def _respond(self, request: Request, client: Client, parameters: Parameters) -> Response:
        if names.DEVICE_CODE not in client.grant_types:
            raise unauthorized_client(
                "The client is not registered for this grant type",
                "grant_type_not_registered",
                grant_type=names.DEVICE_CODE,
            )
        scopes = requested_scopes(parameters, client.scopes, self._settings)
        resources = requested_resources(parameters, self._settings)
        if not client.is_operators_alone:
            self._charge(request, client)
        issued = self._codes.issue(client, scopes, resources)
        filled_in = urlencode({"user_code": issued.user_code})
        return responses.private(
            {
                "device_code": issued.device_code,
                "user_code": issued.user_code,
                "verification_uri": self._page,
                "verification_uri_complete": f"{self._page}?{filled_in}",
                "expires_in": issued.expires_in,
                "interval": issued.interval,
            }
        )

    def _charge(self, request: Request, client: Client) -> None:
        """Raise `OAuthError` if there were too many requests."""
        wait = self._throttle.charge_site(
            "device authorization",
            request.peer,
            by_address=PER_ADDRESS,
            in_all=IN_ALL,
            whose=client.counted_as,
        )
        if wait:
            raise too_many_requests(
                "device authorization requests",
                "too_many_device_codes",
                wait,
                address=request.peer,
            )
