"""The client against a certified issuer: each grant, proofs of possession, and logging out."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Generator
from typing import Any

import anyio
import httpx2
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from jwt.algorithms import ECAlgorithm

from bearerguard.client import (
    AuthorizationCode,
    ClientCredentials,
    DeviceCode,
    MemoryStorage,
    RefreshToken,
    TokenManager,
)
from bearerguard.client.login.device_code import DevicePrompt
from bearerguard.errors import DiscoveryError, LoginRequired, TokenRefused
from tests.peers.conftest import OidcProvider, oidc_provider

RESOURCE = "urn:api:ES256"
KEY = {**json.loads(ECAlgorithm.to_jwk(ec.generate_private_key(ec.SECP256R1()))), "kid": "one"}
PUBLIC = {name: value for name, value in KEY.items() if name != "d"}
NATIVE: dict[str, Any] = {"client_id": "native", "scopes": "read write", "resources": RESOURCE}


@pytest.fixture(scope="module")
def provider() -> Generator[OidcProvider]:
    with oidc_provider(CLIENT_JWK=json.dumps(PUBLIC)) as running:
        yield running


def claims(token: str) -> dict[str, Any]:
    found: dict[str, Any] = jwt.decode(token, options={"verify_signature": False})
    return found


class Browser:
    """Somebody who signs in by a name and allows what is asked for."""

    def __init__(self) -> None:
        self._thread = threading.Thread()
        self.problem: BaseException | None = None

    def open(self, address: str) -> None:
        """Go there, and come back at once, as a browser that is started does."""
        self._thread = threading.Thread(target=self._visit, args=(address,))
        self._thread.start()

    def enter(self, prompt: DevicePrompt) -> None:
        """Enter the code that a device shows."""
        self.open(prompt.verification_uri_complete or prompt.verification_uri)

    def join(self) -> None:
        self._thread.join(30)
        assert self.problem is None

    def _visit(self, address: str) -> None:
        try:
            with httpx2.Client(timeout=30, follow_redirects=True) as client:
                answer = client.get(address)
                while "<form" in answer.text:
                    action = re.search(r'action="([^"]+)"', answer.text)
                    assert action is not None, answer.text
                    inputs = re.findall(r"<input\s[^>]*>", answer.text)
                    found = [
                        (re.search(r'name="(\w+)"', each), re.search(r'value="([^"]*)"', each))
                        for each in inputs
                    ]
                    filled = {name[1]: value[1] for name, value in found if name and value}
                    if 'name="login"' in answer.text:
                        filled |= {"login": "ada", "password": "any"}
                    answer = client.post(str(answer.url.join(action[1])), data=filled)
                assert answer.status_code == 200, answer.text
        except BaseException as error:
            self.problem = error


@pytest.fixture
def browser() -> Generator[Browser]:
    visitor = Browser()
    yield visitor
    visitor.join()


def active(provider: OidcProvider, token: str) -> bool:
    answer = httpx2.post(
        f"{provider.url}/token/introspection",
        auth=("caller", "caller-secret"),
        data={"token": token},
    )
    found: bool = answer.raise_for_status().json()["active"]
    return found


def test_CL_01_client_credentials_are_renewed(provider: OidcProvider) -> None:
    source = ClientCredentials(
        provider.url,
        client_id="caller",
        client_secret="caller-secret",
        scopes="read",
        resources=RESOURCE,
    )
    manager = TokenManager(source)
    first = manager.token()
    granted = claims(first.access_token)
    assert (granted["iss"], granted["aud"], granted["scope"]) == (provider.url, RESOURCE, "read")
    assert first.lifetime == granted["exp"] - granted["iat"]
    assert manager.token() is first
    assert manager.renew(manager.lease()).token.access_token != first.access_token


def test_CL_07_a_client_proves_itself_by_its_key(provider: OidcProvider) -> None:
    source = ClientCredentials(
        provider.url, client_id="keyed", private_key=KEY, scopes="read", resources=RESOURCE
    )
    assert claims(TokenManager(source).token().access_token)["client_id"] == "keyed"
    stranger = {**json.loads(ECAlgorithm.to_jwk(ec.generate_private_key(ec.SECP256R1())))}
    other = ClientCredentials(
        provider.url,
        client_id="keyed",
        private_key={**stranger, "kid": "one"},
        scopes="read",
        resources=RESOURCE,
    )
    with pytest.raises(TokenRefused) as refused:
        TokenManager(other).token()
    assert refused.value.error == "invalid_client"


def test_CL_07_tokens_are_bound_to_a_key_with_the_nonce_that_the_issuer_demands(
    provider: OidcProvider,
) -> None:
    source = ClientCredentials(
        provider.url,
        client_id="caller",
        client_secret="caller-secret",
        scopes="read",
        resources=RESOURCE,
        dpop=True,
    )
    manager = TokenManager(source)
    token = manager.token()
    assert token.token_type == "DPoP"
    assert token.dpop_key is not None
    thumbprint = claims(token.access_token)["cnf"]["jkt"]
    again = manager.renew(manager.lease()).token
    assert claims(again.access_token)["cnf"]["jkt"] == thumbprint


def test_CL_07_a_login_by_loopback_redirect_refreshes_and_ends_with_a_logout(
    provider: OidcProvider, browser: Browser
) -> None:
    storage = MemoryStorage()
    source = AuthorizationCode(provider.url, **NATIVE, open_browser=browser.open)
    manager = TokenManager(source, storage=storage)
    first = manager.login()
    assert first.scopes == ("read", "write")
    assert claims(first.access_token)["sub"] == "ada"
    second = manager.renew(manager.lease()).token
    assert second.refresh_token not in {None, first.refresh_token}
    assert claims(second.access_token)["sub"] == "ada"
    assert active(provider, second.refresh_token or "")
    assert manager.logout()
    assert not active(provider, second.refresh_token or "")
    assert storage.keys() == []
    with pytest.raises(LoginRequired):
        manager.token()


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_login_and_a_logout_work_in_an_event_loop(
    provider: OidcProvider, browser: Browser, backend: str
) -> None:
    source = AuthorizationCode(provider.url, **NATIVE, open_browser=browser.open)
    manager = TokenManager(source)

    async def main() -> tuple[str, bool]:
        await manager.alogin()
        renewed = await manager.arenew(await manager.alease())
        return renewed.token.access_token, await manager.alogout()

    token, revoked = anyio.run(main, backend=backend)
    assert claims(token)["sub"] == "ada"
    assert revoked


def test_CL_05_a_refresh_token_that_was_used_is_over_for_who_still_has_it(
    provider: OidcProvider, browser: Browser
) -> None:
    source = AuthorizationCode(provider.url, **NATIVE, open_browser=browser.open)
    manager = TokenManager(source)
    first = manager.login()
    manager.renew(manager.lease())
    stolen = RefreshToken(provider.url, client_id="native", refresh_token=first.refresh_token or "")
    with pytest.raises(LoginRequired) as over:
        TokenManager(stolen).token()
    assert over.value.error == "invalid_grant"
    # The issuer takes a reuse for a theft, and ends the session.
    with pytest.raises(LoginRequired):
        manager.renew(manager.lease())


def test_CL_07_a_login_whose_tokens_are_bound_to_a_key_refreshes_with_that_key(
    provider: OidcProvider, browser: Browser
) -> None:
    source = AuthorizationCode(provider.url, **NATIVE, dpop=True, open_browser=browser.open)
    manager = TokenManager(source)
    first = manager.login()
    second = manager.renew(manager.lease()).token
    assert first.token_type == second.token_type == "DPoP"
    bound = [claims(each.access_token)["cnf"]["jkt"] for each in (first, second)]
    assert bound[0] == bound[1]


def test_CL_07_a_device_waits_until_its_code_was_entered(
    provider: OidcProvider, browser: Browser
) -> None:
    prompts: list[DevicePrompt] = []

    def show(prompt: DevicePrompt) -> None:
        prompts.append(prompt)
        browser.enter(prompt)

    manager = TokenManager(DeviceCode(provider.url, **NATIVE, prompt=show))
    token = manager.login()
    assert claims(token.access_token)["sub"] == "ada"
    assert len(prompts) == 1
    assert re.fullmatch(r"[A-Z]{4}-[A-Z]{4}", prompts[0].user_code)
    assert manager.renew(manager.lease()).token.access_token != token.access_token
    assert manager.logout()


def test_CL_07_an_issuer_that_calls_itself_otherwise_is_not_asked_for_tokens(
    provider: OidcProvider,
) -> None:
    renamed = provider.url.replace("127.0.0.1", "localhost")
    source = ClientCredentials(
        renamed, client_id="caller", client_secret="caller-secret", resources=RESOURCE
    )
    with pytest.raises(DiscoveryError, match="issuer"):
        TokenManager(source).token()
