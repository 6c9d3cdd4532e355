"""A server that trusts an identity provider and a workload platform, and requests to it."""

from __future__ import annotations

import uuid
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import Any

from bearerguard import Fetch, Response
from bearerguard.protocol import names
from bearerguard.server import Registered, TrustedIssuer
from bearerguard.testing import LocalIssuer
from tests.server.harness import ISSUER, Harness, Make, Reply

IDP, PLATFORM = "https://idp.example.com", "https://platform.example.com"
MCP, OTHER = "https://mcp.example.com", "https://other.example.com"
USERS = {"ada@example.com": "user-of-ada"}
WORKLOAD = "system:serviceaccount:shop:agent"


class Transport:
    """Calls the issuers of a test in this process."""

    def __init__(self, *issuers: LocalIssuer) -> None:
        self._transports = {each.url: each.transport() for each in issuers}

    def fetch(self, request: Fetch) -> Response:
        return next(
            each.fetch(request)
            for url, each in self._transports.items()
            if request.url.startswith(url)
        )

    async def afetch(self, request: Fetch) -> Response:
        raise NotImplementedError


class World:
    """A server, those that it trusts, and an agent that is registered for everything."""

    def __init__(self, make: Make, **options: Any) -> None:
        self.idp = LocalIssuer(IDP, audience=ISSUER, algorithm="ES256")
        self.platform = LocalIssuer(PLATFORM, audience=ISSUER, algorithm="ES256")
        self.mapped: list[Mapping[str, Any]] = []
        policy = {"subject": self.user} | options.pop("policy", {})
        self.harness: Harness = make(
            resources=options.pop("resources", [MCP, OTHER]),
            trusted_issuers=[TrustedIssuer(IDP, **policy), TrustedIssuer(PLATFORM)],
            transport=Transport(self.idp, self.platform),
            **options,
        )
        for issuer in (self.idp, self.platform):
            issuer.clock.set(self.harness.clock())
        self.agent = self.add("Agent")

    def user(self, claims: Mapping[str, Any]) -> str | None:
        self.mapped.append(claims)
        return USERS.get(claims.get("email", ""))

    def add(self, name: str, **options: Any) -> Registered:
        given = {"grant_types": ["jwt-bearer", "token-exchange"], "redirect_uris": []}
        return self.harness.add(name, **(given | options))

    @property
    def reason(self) -> Any:
        """Why the last request was refused."""
        refused = [each for each in self.harness.events if "reason" in each.details]
        return refused[-1].details["reason"]

    # Assertions

    def assertion(self, *, issuer: LocalIssuer | None = None, **changed: Any) -> str:
        """Return an assertion of the identity provider (RFC 7523 §3)."""
        by = issuer or self.idp
        head = {"typ": None} | changed.pop("header", {})
        claims = {"email": "ada@example.com", "client_id": None, "jti": uuid.uuid4().hex}
        return by.token(
            subject=changed.pop("sub", "00u1"),
            expires_in=changed.pop("expires_in", 300),
            key=changed.pop("key", None),
            claims=claims | changed,
            header=head,
        )

    def id_jag(self, **changed: Any) -> str:
        """Return an ID-JAG for the agent."""
        claims = {"client_id": self.agent.client_id, "resource": MCP, "scope": "read write"}
        header = {"typ": names.ID_JAG_JWT} | changed.pop("header", {})
        return self.assertion(header=header, **(claims | changed))

    def present(self, assertion: str, client: Registered | None = None, **fields: Any) -> Reply:
        return self.harness.token(
            client or self.agent, grant_type=names.JWT_BEARER, assertion=assertion, **fields
        )

    # Token exchange

    def exchange(self, token: str, client: Registered | None = None, **fields: Any) -> Reply:
        usual = {
            "grant_type": names.TOKEN_EXCHANGE,
            "subject_token": token,
            "subject_token_type": names.TYPE_ACCESS_TOKEN,
        }
        return self.harness.token(client or self.agent, **(usual | fields))

    def stored(self) -> dict[str, int]:
        """Return how many rows there are of what an issued token may leave."""
        store = self.harness.store
        return {name: store.count(name) for name in ("grants", "access_tokens", "assertions")}

    @contextmanager
    def nothing_stored(self) -> Generator[None]:
        before = self.stored()
        yield
        assert self.stored() == before
