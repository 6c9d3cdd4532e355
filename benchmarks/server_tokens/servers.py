"""The servers that are measured: how each is set up, started and known to its clients.

All run at once, each over a database of its own, and are loaded one after the other. A server on
SQLite or PostgreSQL commits durably.
"""

from __future__ import annotations

import importlib.util
import os
import re
import secrets
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from html import unescape
from pathlib import Path
from typing import Any

import httpx2

from bearerguard.server import AuthorizationServer, SigningKeys
from benchmarks.children import ROOT, ask, end, environment
from benchmarks.peers import left_out
from benchmarks.server_tokens import postgres
from benchmarks.server_tokens.flow import REDIRECT_URI, SCOPE, Credentials, Endpoints, Flow, Party
from benchmarks.serving import ServerError, free_port

SQLITE, POSTGRESQL = "sqlite", "postgresql"
_ENGINES = {SQLITE: "SQLite", POSTGRESQL: "PostgreSQL"}
OURS, AUTHLIB, DJANGO, OIDC_PROVIDER = "ours", "authlib", "django", "oidc-provider"
_NAMES = {OURS: "bearerguard", AUTHLIB: "Authlib", DJANGO: "django-oauth-toolkit"}
_MODULES = {AUTHLIB: "authlib", DJANGO: "oauth2_provider"}
_NODE_MODULES = ROOT / "tests" / "peers" / "node_modules"
_START_SECONDS = 90
_USER, _PASSWORD = "ada", secrets.token_urlsafe(16)
_THREADS = 8


@dataclass(frozen=True)
class Kind:
    """What one line of the results is about."""

    product: str
    engine: str = ""
    workers: int = 1
    algorithm: str = ""

    @property
    def name(self) -> str:
        """What `--only` and the JSON call it."""
        parts = [self.product, self.engine, str(self.workers), self.algorithm.lower()]
        if not self.engine:
            del parts[1:3]
        return "-".join(each for each in parts if each)

    @property
    def label(self) -> str:
        """What the table calls it."""
        if not self.engine:
            return f"{self.product} in memory, {self.algorithm}"
        workers = f"{self.workers} worker{'s' if self.workers > 1 else ''}"
        signing = f", {self.algorithm}" if self.algorithm else ""
        return f"{_NAMES[self.product]}, {_ENGINES[self.engine]}, {workers}{signing}"

    def is_chosen(self, only: Sequence[str]) -> bool:
        """Whether one of the names on the command line, or the beginning of one, is this one's."""
        return not only or any(f"{self.name}-".startswith(f"{each}-") for each in only)


def _kinds() -> Iterator[Kind]:
    for engine in _ENGINES:
        for workers in (1, 2, 4):
            yield Kind(OURS, engine, workers, "ES256")
        for workers in (1, 2):
            yield Kind(OURS, engine, workers, "RS256")
    for algorithm in ("ES256", "RS256"):
        yield Kind(OIDC_PROVIDER, algorithm=algorithm)
    for product in (AUTHLIB, DJANGO):
        for engine in _ENGINES:
            for workers in (1, 2):
                yield Kind(product, engine, workers)


KINDS: tuple[Kind, ...] = tuple(_kinds())


@dataclass(frozen=True)
class Plan:
    """How a server is started, on the port that ends its command if it is ours, and used."""

    command: Sequence[str]
    environ: dict[str, str] = field(repr=False)
    endpoints: Endpoints
    cookie: str = ""
    sign_in: dict[str, str] | None = None
    resource: str | None = None
    opaque: str | None = None


@dataclass(frozen=True)
class Running:
    """A server that runs."""

    kind: Kind
    pid: int
    port: int
    flow: Flow
    plan: Plan


class Folder:
    """Where the databases and the logs are, and the PostgreSQL that they may be in.

    `fill` is called with the URL of each database of our server before that starts.
    """

    def __init__(
        self,
        path: Path,
        cluster: postgres.Cluster | None,
        *,
        fill: Callable[[str], None] | None = None,
    ) -> None:
        self.path = path
        self.fill = fill
        self._cluster = cluster

    def database(self, kind: Kind) -> str:
        """Return the URL of an empty database."""
        if kind.engine != POSTGRESQL:
            return f"sqlite:///{self.path}/{kind.name}.db"
        if self._cluster is None:
            raise ServerError(postgres.MISSING)
        return self._cluster.create(f"{self.path.name}-{kind.name}")


def missing(kind: Kind) -> str:
    """Return why a server cannot be measured here, or nothing."""
    if kind.engine == POSTGRESQL and not postgres.is_here():
        return postgres.MISSING
    module = _MODULES.get(kind.product)
    if module is not None and importlib.util.find_spec(module) is None:
        return left_out([_NAMES[kind.product]])[0]
    if kind.product == OIDC_PROVIDER and not (_NODE_MODULES / "oidc-provider").is_dir():
        return "oidc-provider is not installed (npm install in tests/peers), so it is left out."
    return ""


@contextmanager
def started(kinds: Sequence[Kind], folder: Folder) -> Iterator[list[Running]]:
    """Run servers while the block lasts, each of which was found to do what is measured."""
    with ExitStack() as stack:
        starting = [stack.enter_context(_starting(kind, folder)) for kind in kinds]
        yield [_running(each) for each in starting]


def start_seconds(running: Running) -> float:
    """Return how long our server takes until it responds, started again beside itself."""
    port = free_port()
    command = [*running.plan.command[:-1], str(port)]
    begin = time.perf_counter()
    with _program(command, running.plan.environ, Path(os.devnull)) as process:
        _wait(running.kind, process, port, Path(os.devnull))
        return time.perf_counter() - begin


@dataclass(frozen=True)
class _Starting:
    kind: Kind
    process: subprocess.Popen[bytes]
    port: int
    plan: Plan
    clients: dict[str, Credentials]
    log: Path


@contextmanager
def _starting(kind: Kind, folder: Folder) -> Iterator[_Starting]:
    port = free_port()
    clients = {name: Credentials(name, secrets.token_hex(24)) for name in ("app", "machine")}
    plan = _PLANS[kind.product](kind, folder, port, clients)
    log = folder.path / f"{kind.name}.log"
    with _program(plan.command, plan.environ, log) as process:
        yield _Starting(kind, process, port, plan, clients, log)


@contextmanager
def _program(
    command: Sequence[str], environ: dict[str, str], log: Path
) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as sink:
        process = subprocess.Popen(
            command, cwd=ROOT, env=environment(environ), stdout=sink, stderr=sink
        )
    try:
        yield process
    finally:
        end(process)


def _running(starting: _Starting) -> Running:
    _wait(starting.kind, starting.process, starting.port, starting.log)
    plan, cookie = starting.plan, starting.plan.cookie
    if plan.sign_in is not None:
        address = f"http://127.0.0.1:{starting.port}{plan.endpoints.authorize}"
        cookie = _signed_in(address, plan.sign_in, plan.resource)
    party = Party(
        port=starting.port,
        endpoints=plan.endpoints,
        app=starting.clients["app"],
        machine=starting.clients["machine"],
        cookie=cookie,
        resource=plan.resource,
        opaque=plan.opaque,
    )
    flow = Flow(party)
    flow.prove()
    return Running(starting.kind, starting.process.pid, starting.port, flow, plan)


def _wait(kind: Kind, process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        try:
            httpx2.get(f"http://127.0.0.1:{port}/", timeout=_START_SECONDS)
        except httpx2.TransportError:
            time.sleep(0.05)
        else:
            return
    raise ServerError(f"{kind.name} does not respond:\n{log.read_text(errors='replace')[-2000:]}")


def _signed_in(address: str, answers: dict[str, str], resource: str | None) -> str:
    """Sign in on the page of a server, as a browser does; return the cookies of that."""
    asked = {
        "response_type": "code",
        "client_id": "app",
        "redirect_uri": REDIRECT_URI,
        "scope": SCOPE,
        "code_challenge": "a" * 43,
        "code_challenge_method": "S256",
        **({} if resource is None else {"resource": resource}),
    }
    with httpx2.Client(timeout=30) as browser:
        page = browser.get(address, params=asked)
        for _ in range(6):
            if page.has_redirect_location:
                if page.headers["location"].startswith(REDIRECT_URI):
                    # Cookies may be marked as Secure, which a browser allows on loopback.
                    return "; ".join(f"{each.name}={each.value}" for each in browser.cookies.jar)
                page = browser.get(page.url.join(page.headers["location"]))
                continue
            form = re.search(r'<form[^>]*action="([^"]*)"', page.text)
            if form is None:
                break
            hidden = re.findall(r'type="hidden" name="([^"]+)" value="([^"]*)"', page.text)
            fields = {name: unescape(value) for name, value in hidden}
            page = browser.post(page.url.join(unescape(form[1])), data=fields | answers)
    raise ServerError(f"no sign-in at {address}: status {page.status_code}")


# The servers


def _ours(kind: Kind, folder: Folder, port: int, clients: dict[str, Credentials]) -> Plan:
    issuer, store = f"http://127.0.0.1:{port}", folder.database(kind)
    secret = secrets.token_hex(32)
    signing = SigningKeys(algorithm=kind.algorithm)  # type: ignore[arg-type] # one of its own
    with AuthorizationServer(issuer, store=store, secret=secret, signing=signing) as server:
        for name, client in clients.items():
            server.clients.add(
                name,
                client_id=name,
                client_secret=client.secret,
                scopes=SCOPE.split(),
                **_OPTIONS[name],
            )
        server.users.add(_USER, _PASSWORD)
    if folder.fill is not None:
        folder.fill(store)
    command = [str(Path(sys.executable).with_name("bearerguard")), "serve", "--issuer", issuer]
    command += ["--store", store, "--algorithm", kind.algorithm]
    if kind.workers > 1:
        command += ["--workers", str(kind.workers)]
    command += ["--port", str(port)]
    return Plan(
        command,
        {"BEARERGUARD_SERVER_SECRET": secret},
        Endpoints(
            authorize="/oauth/authorize",
            token="/oauth/token",  # noqa: S106 - a path
            introspect="/oauth/introspect",
            revoke="/oauth/revoke",
        ),
        sign_in={"username": _USER, "password": _PASSWORD},
    )


_OPTIONS: dict[str, dict[str, Any]] = {
    "app": {"redirect_uris": [REDIRECT_URI], "require_consent": False},
    "machine": {"grant_types": ["client_credentials"]},
}


def _oidc_provider(kind: Kind, _folder: Folder, port: int, clients: dict[str, Credentials]) -> Plan:
    environ = _described(clients) | {
        "PORT": str(port),
        "OIDC_PROVIDER": str(_NODE_MODULES / "oidc-provider" / "lib" / "index.js"),
        "NODE_ENV": "production",
    }
    return Plan(
        ["node", str(Path(__file__).with_name("oidc_provider.mjs"))],
        environ,
        Endpoints(
            authorize="/auth",
            token="/token",  # noqa: S106 - a path
            introspect="/token/introspection",
            revoke="/token/revocation",
        ),
        sign_in={"login": _USER, "password": _PASSWORD},
        resource=f"urn:api:{kind.algorithm}",
        opaque="urn:api:opaque",
    )


def _authlib(kind: Kind, folder: Folder, port: int, clients: dict[str, Credentials]) -> Plan:
    environ = _described(clients) | {"DATABASE": folder.database(kind)}
    return Plan(
        _gunicorn("authlib_app", kind, port),
        environ,
        Endpoints(
            authorize="/oauth/authorize",
            token="/oauth/token",  # noqa: S106 - a path
            introspect="/oauth/introspect",
            revoke="/oauth/revoke",
        ),
        cookie=ask("server_tokens.authlib_app", extra=environ),
    )


def _django(kind: Kind, folder: Folder, port: int, clients: dict[str, Credentials]) -> Plan:
    environ = _described(clients) | {"DATABASE": folder.database(kind)}
    return Plan(
        _gunicorn("django_app", kind, port),
        environ,
        Endpoints(
            authorize="/o/authorize/",
            token="/o/token/",  # noqa: S106 - a path
            introspect="/o/introspect/",
            revoke="/o/revoke_token/",
        ),
        cookie=ask("server_tokens.django_app", extra=environ),
    )


def _described(clients: dict[str, Credentials]) -> dict[str, str]:
    """Return the environment of a peer: its secret and its clients."""
    secrets_of = ", ".join(f'"{name}": "{each.secret}"' for name, each in clients.items())
    return {
        "SECRET": secrets.token_hex(32),
        "CLIENTS": f"{{{secrets_of}}}",
        "REDIRECT_URI": REDIRECT_URI,
        "SCOPE": SCOPE,
        # Loopback has no TLS.
        "AUTHLIB_INSECURE_TRANSPORT": "1",
        "OAUTHLIB_INSECURE_TRANSPORT": "1",
    }


def _gunicorn(module: str, kind: Kind, port: int) -> list[str]:
    # Threads: the default workers close each connection.
    options = ["--workers", str(kind.workers), "--threads", str(_THREADS), "--keep-alive", "75"]
    options += ["--no-control-socket"]
    target = f"benchmarks.server_tokens.{module}:app"
    return [sys.executable, "-m", "gunicorn", *options, "--bind", f"127.0.0.1:{port}", target]


_PLANS: dict[str, Callable[[Kind, Folder, int, dict[str, Credentials]], Plan]] = {
    OURS: _ours,
    OIDC_PROVIDER: _oidc_provider,
    AUTHLIB: _authlib,
    DJANGO: _django,
}
