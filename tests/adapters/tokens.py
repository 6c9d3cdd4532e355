"""The Authorization header of a request, with a token of the issuer of these tests."""

from __future__ import annotations

from bearerguard.testing import LocalIssuer


def bearer(
    issuer: LocalIssuer, *scopes: str, subject: str = "user", client_id: str = "app"
) -> dict[str, str]:
    token = issuer.token(scopes=scopes, subject=subject, client_id=client_id)
    return {"Authorization": f"Bearer {token}"}
