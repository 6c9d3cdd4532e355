"""DPoP from end to end: the client against the project's own server, which demands nonces."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Generator
from typing import Any

import anyio
import httpx2
import pytest

from bearerguard.client import (
    AuthorizationCode,
    ClientCredentials,
    MemoryStorage,
    RefreshToken,
    Token,
    TokenManager,
)
from bearerguard.client.dpop import Proofs
from bearerguard.errors import LoginRequired, TokenRefused
from bearerguard.protocol.jose.thumbprint import thumbprint
from bearerguard.server import Registered
from tests.server.harness import hidden_fields
from tests.server.serving import Served, served

LOOPBACK = "http://127.0.0.1/callback"


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Generator[Served]:
    folder = tmp_path_factory.mktemp("server")
    with served(folder, DPOP_NONCES="1", ALGORITHM="ES256") as each:
        yield each


def taken(name: str, manager: TokenManager, call: str = "token") -> Token:
    """Call a method of a manager: the sync one, or the async one in one of the event loops."""
    found: Token
    if name == "sync":
        found = getattr(manager, call)()
        return found
    found = anyio.run(getattr(manager, f"a{call}"), backend=name)
    return found


def renewed(name: str, manager: TokenManager) -> Token:
    lease = manager.lease()
    if name == "sync":
        return manager.renew(lease).token
    return anyio.run(manager.arenew, lease, backend=name).token


WORLDS = pytest.mark.parametrize("name", ["sync", "asyncio", "trio"])


def binding(running: Served, token: Token) -> Any:
    """The key that the server knows a token to be bound to; it is the client's own."""
    found = running.server.introspect(token.access_token)
    assert (found["active"], found["token_type"], token.token_type) == (True, "DPoP", "DPoP")
    key = token.dpop_key
    assert key is not None
    assert found["cnf"] == {"jkt": thumbprint(json.loads(key))}
    return found["cnf"]


@WORLDS
def test_ADP_01_client_credentials_get_a_bound_token_with_a_nonce(
    running: Served, name: str
) -> None:
    client = running.add(dpop_bound_access_tokens=True)
    source = ClientCredentials(
        running.url,
        client_id=client.client_id,
        client_secret=client.client_secret,
        dpop=True,
        scopes="read",
    )
    manager = TokenManager(source)
    first = taken(name, manager)
    second = renewed(name, manager)
    assert binding(running, first) == binding(running, second)
    assert first.access_token != second.access_token


def test_CL_06_a_nonce_of_the_server_is_kept_for_its_next_token(
    running: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = running.add()
    source = ClientCredentials(
        running.url, client_id=client.client_id, client_secret=client.client_secret, dpop=True
    )
    made: list[str] = []
    usual = Proofs.proof

    def counted(self: Proofs, method: str, url: str, access_token: str | None = None) -> str:
        made.append(url)
        return usual(self, method, url, access_token)

    monkeypatch.setattr(Proofs, "proof", counted)
    manager = TokenManager(source)
    manager.token()
    assert len(made) == 2
    manager.renew(manager.lease())
    assert len(made) == 3


def test_CL_06_a_client_that_sends_no_proof_gets_none_of_a_bound_clients_tokens(
    running: Served,
) -> None:
    client = running.add(dpop_bound_access_tokens=True)
    source = ClientCredentials(
        running.url, client_id=client.client_id, client_secret=client.client_secret
    )
    with pytest.raises(TokenRefused, match="invalid_dpop_proof"):
        TokenManager(source).token()


@pytest.fixture
def phone(running: Served) -> Registered:
    return running.add("Phone", public=True, redirect_uris=[LOOPBACK])


def browser(running: Served, seen: list[str]) -> Callable[[str], object]:
    """Return a browser whose user is signed in and allows everything."""

    def visit(url: str) -> None:
        seen.append(url)
        page = httpx2.get(url, headers={"cookie": "user=ada"})
        assert page.status_code == 200, page.text
        cookie = page.headers["set-cookie"].partition(";")[0]
        answer = httpx2.post(
            f"{running.url}/oauth/consent",
            data={**hidden_fields(page.text), "decision": "allow"},
            headers={"cookie": f"user=ada; {cookie}"},
        )
        assert answer.status_code == 303, answer.text
        # The client answers it when it waits, which it does after this.
        threading.Thread(target=httpx2.get, args=(answer.headers["location"],)).start()

    return visit


@WORLDS
def test_ADP_01_a_login_binds_the_code_and_all_tokens_to_one_key(
    running: Served, phone: Registered, name: str
) -> None:
    seen: list[str] = []
    storage = MemoryStorage()

    def manager() -> TokenManager:
        source = AuthorizationCode(
            running.url,
            client_id=phone.client_id,
            dpop=True,
            scopes="read write",
            open_browser=browser(running, seen),
        )
        return TokenManager(source, storage=storage)

    first = taken(name, manager(), "login")
    bound = binding(running, first)
    assert f"dpop_jkt={bound['jkt']}" in seen[0]
    second = renewed(name, manager())
    assert binding(running, second) == bound
    assert second.refresh_token not in {None, first.refresh_token}
    assert len(seen) == 1


def test_ADP_01_a_stolen_refresh_token_gives_its_thief_nothing(
    running: Served, phone: Registered
) -> None:
    source = AuthorizationCode(
        running.url, client_id=phone.client_id, dpop=True, open_browser=browser(running, [])
    )
    manager = TokenManager(source)
    stolen = manager.login().refresh_token
    assert stolen is not None
    for dpop in (False, True):
        thief = RefreshToken(
            running.url, client_id=phone.client_id, refresh_token=stolen, dpop=dpop
        )
        with pytest.raises(LoginRequired):
            TokenManager(thief).token()
    binding(running, manager.renew(manager.lease()).token)


def test_CL_08_a_bearer_token_of_a_server_that_reads_no_proofs_is_thrown_away(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    with served(tmp_path_factory.mktemp("off"), DPOP="off") as each:
        client = each.add()
        storage = MemoryStorage()
        source = ClientCredentials(
            each.url, client_id=client.client_id, client_secret=client.client_secret, dpop=True
        )
        with pytest.raises(TokenRefused, match="Bearer"):
            TokenManager(source, storage=storage).token()
        assert not storage.keys()
