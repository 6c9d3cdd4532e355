"""The client against the project's own authorization server, over HTTP."""

from __future__ import annotations

from pathlib import Path

import pytest
from jwt.algorithms import ECAlgorithm

from bearerguard.client import ClientCredentials, TokenManager
from bearerguard.errors import TokenRefused
from bearerguard.testing import SigningKey
from tests.server.serving import served


def jwk(key: SigningKey, *, private: bool) -> dict[str, str]:
    material = key.private if private else key.private.public_key()
    members: dict[str, str] = ECAlgorithm.to_jwk(material, as_dict=True)
    return {**members, "kid": "k1", "alg": "ES256"}


def test_a_client_proves_itself_by_private_key_jwt(tmp_path: Path) -> None:
    own, foreign = SigningKey.generate("ES256", "k1"), SigningKey.generate("ES256", "k1")
    with served(tmp_path) as running:
        client = running.add(
            auth_method="private_key_jwt", jwks={"keys": [jwk(own, private=False)]}
        )

        def tokens(key: SigningKey) -> TokenManager:
            source = ClientCredentials(
                running.url,
                client_id=client.client_id,
                private_key=jwk(key, private=True),
                scopes="read",
                resources=running.url,
            )
            return TokenManager(source)

        manager = tokens(own)
        first = manager.token()
        second = manager.renew(manager.lease()).token
        for each in (first, second):
            assert running.server.introspect(each.access_token)["client_id"] == client.client_id
        assert first.access_token != second.access_token
        with pytest.raises(TokenRefused, match="invalid_client"):
            tokens(foreign).token()
