"""What a server revokes is refused by the APIs' workers elsewhere, which share a Redis with it.

They know the server by its URL alone, as behind another host name; the server runs by command.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import pytest
from typer.testing import CliRunner

from bearerguard import Guard, Introspection, Issuer, Revocations, TokenError
from bearerguard.cli import app
from bearerguard.redis import RedisStore
from bearerguard.server import AuthorizationServer, PersonalTokens
from bearerguard.server.administration import Administration
from tests.processes import free_port, program
from tests.redis_server import RedisServer
from tests.server.harness import SECRET
from tests.server.stores import MakeStore, Store

SHARED = "a secret that the workers share and that is long enough"
COMMAND = str(Path(sys.executable).with_name("bearerguard"))


class Site:
    """The server by command, its administration, and an API's worker elsewhere."""

    def __init__(self, folder: Path, store: Store, redis: RedisServer) -> None:
        self.folder = folder
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.environ = {
            "BEARERGUARD_SERVER_ISSUER": self.url,
            "BEARERGUARD_SERVER_STORE": store.url,
            "BEARERGUARD_SERVER_SECRET": SECRET,
            "BEARERGUARD_SERVER_SCOPES": "read=Read",
            "BEARERGUARD_SERVER_ALGORITHM": "ES256",
            "BEARERGUARD_SERVER_REVOCATIONS_STORE": redis.url,
            "BEARERGUARD_SERVER_REVOCATIONS_SECRET": SHARED,
        }
        issuer = Issuer(self.url, audience=self.url, insecure_allow_http=True)
        self.worker = Guard(issuer, revocations=Revocations(RedisStore(redis.url, secret=SHARED)))
        with Administration(store.url, secret=SECRET) as administration:
            self.robot = administration.clients.add("Robot", scopes=["read"])

    @contextmanager
    def served(self) -> Generator[None]:
        command = [COMMAND, "serve", "--port", str(self.port)]
        with program(command, cwd=self.folder, environ=self.environ) as running:
            running.wait_for_port(self.port)
            yield

    def token(self) -> str:
        token: str = self._post("token", grant_type="client_credentials").json()["access_token"]
        return token

    def revoke(self, token: str) -> None:
        assert self._post("revoke", token=token).status_code == 200

    def revoke_by_command(self, token: str) -> None:
        command = [COMMAND, "revoke", "--token"]
        environ = {"PATH": "", **self.environ}
        subprocess.run(command, env=environ, input=token, text=True, check=True)

    def accepts(self, token: str) -> bool:
        try:
            self.worker.verify(token)
        except TokenError as refusal:
            if refusal.reason.code != "revoked":
                raise
            return False
        return True

    def _post(self, path: str, **fields: str) -> httpx2.Response:
        own = {"client_id": self.robot.client_id, "client_secret": self.robot.client_secret}
        return httpx2.post(f"{self.url}/oauth/{path}", data=fields | own, timeout=60)


@pytest.fixture
def site(tmp_path: Path, make_store: MakeStore, redis: RedisServer) -> Generator[Site]:
    site = Site(tmp_path, make_store(tmp_path), redis)
    yield site
    site.worker.close()


def eventually(what: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not what():
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.02)


@pytest.mark.both_engines
@pytest.mark.parametrize("how", [Site.revoke, Site.revoke_by_command], ids=["HTTP", "command"])
def test_what_the_server_or_a_command_revokes_is_refused_elsewhere(
    site: Site, how: Callable[[Site, str], None]
) -> None:
    with site.served():
        token, other = site.token(), site.token()
        assert site.accepts(token)
        how(site, token)
        eventually(lambda: not site.accepts(token))
        assert site.accepts(other)


@pytest.mark.both_engines
def test_revocations_made_while_the_store_is_down_are_published_when_it_is_back(
    site: Site, redis: RedisServer
) -> None:
    with site.served():
        token = site.token()
        assert site.accepts(token)
        redis.kill()
        site.revoke(token)
        redis.start()
        eventually(lambda: not site.accepts(token))


@pytest.mark.both_engines
def test_revocations_made_while_the_server_is_down_are_published_when_it_starts(
    site: Site, redis: RedisServer
) -> None:
    with site.served():
        token = site.token()
        assert site.accepts(token)
    site.revoke_by_command(token)
    assert site.accepts(token)
    with site.served():
        eventually(lambda: not site.accepts(token))


def test_a_personal_token_is_accepted_elsewhere_by_introspection_until_it_is_ended(
    site: Site, redis: RedisServer
) -> None:
    """The server is told by its configuration file, and has several workers."""
    config = site.folder / "serve.toml"
    config.write_text("personal-tokens = true\nworkers = 2\n")
    site.environ["BEARERGUARD_SERVER_CONFIG"] = str(config)
    with Administration(site.environ["BEARERGUARD_SERVER_STORE"], secret=SECRET) as administration:
        api = administration.clients.add("API", introspects=[site.url])
    issuer = Issuer(
        site.url,
        audience=site.url,
        insecure_allow_http=True,
        introspection=Introspection(api.client_id, client_secret=api.client_secret),
    )
    store = RedisStore(redis.url, secret=SHARED)
    revocations = Revocations(store, max_token_life=366 * 86_400)
    with site.served(), Guard(issuer, revocations=revocations) as guard:
        with AuthorizationServer(
            site.url,
            store=site.environ["BEARERGUARD_SERVER_STORE"],
            secret=SECRET,
            scopes={"read": "Read"},
            personal_tokens=PersonalTokens(),
        ) as server:
            new, other = (
                server.personal_tokens.add("ada", name, scopes=["read"]) for name in ("CI", "Old")
            )
        assert guard.verify(new.value).subject == "ada"
        assert guard.verify(other.value).scopes == {"read"}
        began = time.monotonic()
        with Administration(
            site.environ["BEARERGUARD_SERVER_STORE"], secret=SECRET
        ) as administration:
            assert administration.personal_tokens.end(new.token.id)
        eventually(lambda: not passes(guard, new.value))
        print(f"refused elsewhere after {time.monotonic() - began:.2f} s")
        assert guard.verify(other.value)


def passes(guard: Guard, token: str) -> bool:
    try:
        guard.verify(token)
    except TokenError:
        return False
    return True


@pytest.mark.parametrize(
    ("environ", "url", "said"),
    [
        ({}, "redis://127.0.0.1:1/0", "set BEARERGUARD_SERVER_REVOCATIONS_SECRET"),
        ({"BEARERGUARD_SERVER_REVOCATIONS_SECRET": "short"}, "redis://127.0.0.1:1/0", "32 bytes"),
        ({"BEARERGUARD_SERVER_REVOCATIONS_SECRET": SHARED}, "127.0.0.1", "pass a URL"),
    ],
)
def test_where_workers_learn_of_it_must_be_usable(
    tmp_path: Path, environ: dict[str, str], url: str, said: str
) -> None:
    own = ("--issuer", "http://127.0.0.1:1", "--store", f"sqlite:///{tmp_path}/auth.db")
    result = CliRunner().invoke(app, ["serve", *own, "--revocations", url], env=environ)
    assert result.exit_code == 2, result.output
    assert "--revocations" in result.stderr
    assert said in result.stderr
    assert SHARED not in result.stderr
