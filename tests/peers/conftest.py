"""The issuer, the servers and what the tests say to them."""

from __future__ import annotations

import shutil
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.processes import program

HERE = Path(__file__).parent


class OidcProvider:
    """A running oidc-provider."""

    def __init__(self, url: str) -> None:
        self.url = url

    def token(self, algorithm: str = "RS256", scope: str = "read") -> str:
        answer = httpx2.post(
            f"{self.url}/token",
            auth=("caller", "caller-secret"),
            data={
                "grant_type": "client_credentials",
                "resource": f"urn:api:{algorithm}",
                "scope": scope,
            },
        )
        token: str = answer.raise_for_status().json()["access_token"]
        return token

    def revoke(self, token: str) -> None:
        httpx2.post(
            f"{self.url}/token/revocation",
            auth=("caller", "caller-secret"),
            data={"token": token},
        ).raise_for_status()

    def rotate(self, *, keep: bool) -> None:
        httpx2.post(f"{self.url}/test/rotate", params={"keep": int(keep)}).raise_for_status()

    def outage(self, *, on: bool) -> None:
        httpx2.post(f"{self.url}/test/outage", params={"on": int(on)}).raise_for_status()

    def delay(self, milliseconds: int) -> None:
        httpx2.post(f"{self.url}/test/delay", params={"ms": milliseconds}).raise_for_status()

    @property
    def logouts(self) -> list[str]:
        """What came of each back-channel logout."""
        found: list[str] = httpx2.get(f"{self.url}/test/logouts").json()
        return found

    @property
    def hits(self) -> int:
        """How often its JWKS was asked for."""
        return self._hits("/jwks")

    @property
    def introspections(self) -> int:
        """How often it was asked about a token."""
        return self._hits("/token/introspection")

    def _hits(self, path: str) -> int:
        counted: int = httpx2.get(f"{self.url}/test/hits").json().get(path, 0)
        return counted


@contextmanager
def oidc_provider(**environ: str) -> Generator[OidcProvider]:
    if shutil.which("node") is None or not (HERE / "node_modules").is_dir():
        pytest.skip("node and the packages of tests/peers/package.json are not installed")
    with program(["node", "oidc_provider.mjs"], cwd=HERE, environ=environ) as running:
        yield OidcProvider(running.wait_for_line(r"^READY (\S+)"))


@pytest.fixture
def issuer() -> Generator[OidcProvider]:
    """A fresh issuer, whose keys, hits and outages are this test's own."""
    with oidc_provider() as provider:
        yield provider


def bearer(token: str, **more: Any) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}", **more}
