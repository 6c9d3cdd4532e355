"""The endpoint for back-channel logout, for ASGI and WSGI: an issuer reports users who logged out.

    logout = BackchannelLogout(guard, client_id="app")
    # mount logout.asgi or logout.wsgi outside the guard's middleware, or exclude= its path

Only translates between ASGI or WSGI and the guard's `LogoutReceiver`.
"""

from __future__ import annotations

from collections.abc import Collection

from bearerguard.guard.guard import Guard
from bearerguard.guard.revocation.posted_events import Posted
from bearerguard.middleware.receiver_app import ReceiverApp
from bearerguard.runtime.flow import Flow
from bearerguard.runtime.messages import Response


class BackchannelLogout(ReceiverApp):
    """Accepts logout tokens (OpenID Connect Back-Channel Logout 1.0) and revokes accordingly.

    A logout token with a `sid` revokes the access tokens of that session, and those of the
    subject that name no session. One with a `sub` alone revokes all of the subject's. Only
    tokens issued before the logout token are revoked.

    Responds with 200 when every worker will refuse those tokens, with 400 to a request that is
    no genuine logout or was received before, and with 503 and `Retry-After` when tokens could
    not be revoked.

    Args:
        guard: a guard with `revocations=`. One of its issuers must have signed the logout token.
        client_id: the client id of the application at the issuer, the `aud` of logout tokens;
            or a list, where issuers use different ids.

    Raises:
        ConfigurationError: the guard has no revocations, or an option is malformed.
    """

    def __init__(self, guard: Guard, *, client_id: str | Collection[str]) -> None:
        self._client_id = client_id
        super().__init__(guard)

    def _prepare(self) -> None:
        receiver = self._guard.logout_receiver(self._client_id)

        def receive(posted: Posted) -> Flow[Response]:
            return receiver.receive(posted.method, posted.content_type, posted.body)

        self._receive = receive
