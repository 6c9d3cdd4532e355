"""The status list of a `LocalIssuer` (draft-ietf-oauth-status-list): its tokens' statuses.

It has the faults of its issuer, and a test can set each status.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from bearerguard.protocol import names, status_list
from bearerguard.runtime.messages import Response
from bearerguard.testing.signing_key import SigningKey, sign

_PATH = "/statuslists/1"


class LocalStatusList:
    """A status list of one `LocalIssuer`.

    Attributes:
        bits: how many bits each status has: 1, 2, 4 or 8.
        size: how many statuses it has.
        ttl: its `ttl` in seconds, None to leave it out.
        expires_in: the seconds until its `exp`, None to leave it out.
        claims: further claims of the status list token; they override the usual ones, and None
            leaves a claim out.
        header: members of its JOSE header, likewise.
        cache_control: the `Cache-Control` of the response, or None.
        key: the key that signs it; the newest one of the issuer if None.
    """

    def __init__(self, issuer_url: Callable[[], str], clock: Callable[[], float]) -> None:
        self.bits = 1
        self.size = 1000
        self.ttl: float | None = 60
        self.expires_in: float | None = None
        self.claims: Mapping[str, Any] = {}
        self.header: Mapping[str, Any] = {}
        self.cache_control: str | None = None
        self.key: SigningKey | None = None
        self._issuer_url = issuer_url
        self._clock = clock
        self._statuses: dict[int, int] = {}

    @property
    def uri(self) -> str:
        """Where it is."""
        return self._issuer_url().rstrip("/") + _PATH

    def __setitem__(self, index: int, status: int) -> None:
        """Set a status: 0 for valid, 1 for revoked, 2 for suspended."""
        self._statuses[index] = status

    def reference(self, index: int) -> dict[str, Any]:
        """Return the claim `status` of a token whose status is at this index."""
        return {"status": {"status_list": {"idx": index, "uri": self.uri}}}

    def token(self, signer: SigningKey) -> str:
        """Return the status list token, signed by `signer` unless `key` is set."""
        key, now = self.key or signer, int(self._clock())
        usual = {
            "sub": self.uri,
            "iat": now,
            "exp": None if self.expires_in is None else now + self.expires_in,
            "ttl": self.ttl,
            "status_list": status_list.encode(
                (self._statuses.get(index, 0) for index in range(self.size)), self.bits
            ),
        }
        header = {"alg": key.algorithm, "typ": names.STATUS_LIST_JWT, "kid": key.kid}
        return sign(_present(header | {**self.header}), _present(usual | {**self.claims}), key)

    def handle(self, signer: SigningKey) -> Response:
        """Return the response to a request for it."""
        caching = () if self.cache_control is None else (("Cache-Control", self.cache_control),)
        headers = (("Content-Type", status_list.MEDIA_TYPE), *caching)
        return Response(200, headers, self.token(signer).encode())


def _present(members: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in members.items() if value is not None}
