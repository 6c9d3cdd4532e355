"""The whole round over real TLS: our client, a proxy or server, our server, and the guard.

nginx reaches the app from another address of this machine than clients do: so the app can tell a
proxy from a stranger.
"""

from __future__ import annotations

import ipaddress
import os
import shutil
import ssl
import sys
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from bearerguard.client import ClientCredentials, TokenManager
from bearerguard.errors import TokenRefused
from bearerguard.server import AuthorizationServer, MutualTls, Registered
from bearerguard.transports.http import HttpTransport
from tests.certificates import AUTHORITY, CLIENT, OTHER, SELF_SIGNED, Identity, make
from tests.processes import Program, free_port, program
from tests.server.harness import SCOPES, SECRET
from tests.server.stores import sqlite_store

ROOT = Path(__file__).parents[2]
NGINX = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
PROXY = "127.0.0.2"
LOCALHOST = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
SERVER = make("127.0.0.1", AUTHORITY, LOCALHOST, usage=ExtendedKeyUsageOID.SERVER_AUTH)
API = {"grant_types": ["client_credentials"], "redirect_uris": [], "scopes": ["read"]}

needs_nginx = pytest.mark.skipif(
    NGINX is None and "BEARERGUARD_NO_SKIPS" not in os.environ, reason="nginx is not installed"
)

_NGINX = """
daemon off; master_process off; worker_processes 1; pid {folder}/nginx.pid; error_log stderr warn;
events {{ worker_connections 64; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi; uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    server {{
        listen 127.0.0.1:{port} ssl;
        ssl_certificate {certificate}; ssl_certificate_key {key};
        ssl_client_certificate {authority};
        ssl_verify_client optional_no_ca;
        location / {{
            proxy_pass http://127.0.0.1:{behind};
            proxy_bind {proxy};
            proxy_set_header Host $http_host;
            proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
            proxy_set_header ssl-client-cert $ssl_client_escaped_cert;
        }}
    }}
}}
"""


@dataclass
class Served:
    """A running app: its URL over TLS, the one behind the proxy, and the hold on its store."""

    url: str
    behind: str
    program: Program
    server: AuthorizationServer
    folder: Path

    def add(self, **options: Any) -> Registered:
        return self.server.clients.add("Machine", **{**API, **options})

    def transport(self, identity: Identity | None) -> HttpTransport:
        context = ssl.create_default_context(cadata=AUTHORITY.pem)
        if identity is None:
            return HttpTransport(ssl_context=context)
        paths = identity.write(self.folder, identity.thumbprint)
        return HttpTransport(ssl_context=context, client_certificate=paths)

    def manager(
        self, client: Registered, identity: Identity | None, **options: Any
    ) -> TokenManager:
        source = ClientCredentials(self.url, client_id=client.client_id, scopes="read", **options)
        return TokenManager(source, transport=self.transport(identity))

    def get(self, token: str, identity: Identity | None, **headers: str) -> httpx2.Response:
        context = ssl.create_default_context(cadata=AUTHORITY.pem)
        if identity is not None:
            context.load_cert_chain(*identity.write(self.folder, identity.thumbprint))
        fields = {"authorization": f"Bearer {token}", **headers}
        with httpx2.Client(verify=context) as http:
            return http.get(f"{self.url}/things", headers=fields)


Command = Callable[[int, dict[str, str]], list[str]]


def by_uvicorn(*options: str) -> Command:
    return lambda port, _: [
        *("uvicorn", "tests.server.mutual_served:app", "--no-access-log"),
        *("--port", str(port), *options),
    ]


def by_gunicorn(port: int, files: dict[str, str]) -> list[str]:
    return [
        *("gunicorn", "tests.server.mutual_served:wsgi", "--threads", "4"),
        *("-b", f"127.0.0.1:{port}", "--certfile", files["CERTIFICATE"]),
        *("--keyfile", files["KEY"], "--ca-certs", files["AUTHORITY"]),
        *("--cert-reqs", str(int(ssl.CERT_OPTIONAL))),
    ]


def by_plain_gunicorn(port: int, _files: dict[str, str]) -> list[str]:
    return ["gunicorn", "tests.server.mutual_served:wsgi", "--threads", "4", "-b", f":{port}"]


def by_werkzeug(port: int, _files: dict[str, str]) -> list[str]:
    return ["tests.server.mutual_served", str(port)]


@contextmanager
def serving(folder: Path, command: Command, *, proxied: bool) -> Generator[Served]:
    port, behind = free_port(), free_port()
    certificate, key = SERVER.write(folder, "server")
    authority, _ = AUTHORITY.write(folder, "authority")
    files = {"CERTIFICATE": certificate, "KEY": key, "AUTHORITY": authority}
    if not proxied:
        behind = port
    url, store = f"https://127.0.0.1:{port}", sqlite_store(folder)
    environ = {
        **files,
        "ISSUER": url,
        "STORE": store.url,
        "BEARERGUARD_SERVER_SECRET": SECRET,
        "PYTHONPATH": str(ROOT),
        "CERTIFICATES": "nginx" if proxied else "tls",
        "PROXIES": PROXY if proxied else "",
    }
    with ExitStack() as stack:
        running = stack.enter_context(
            program([sys.executable, "-m", *command(behind, files)], cwd=ROOT, environ=environ)
        )
        running.wait_for_port(behind)
        if proxied:
            assert NGINX is not None
            names = {"certificate": certificate, "key": key, "authority": authority}
            config = folder / "nginx.conf"
            config.write_text(
                _NGINX.format(folder=folder, port=port, behind=behind, proxy=PROXY, **names)
            )
            nginx = program([NGINX, "-p", str(folder), "-c", str(config)], cwd=folder)
            stack.enter_context(nginx).wait_for_port(port)
        options = MutualTls("tls", authorities=AUTHORITY.pem)
        server = AuthorizationServer(
            url, store=store.url, secret=SECRET, scopes=SCOPES, mutual_tls=options
        )
        stack.callback(server.close)
        yield Served(url, f"http://127.0.0.1:{behind}", running, server, folder)


BOUND: dict[str, Any] = {"tls_client_certificate_bound_access_tokens": True}
NAMED = {"certificate_name": "san_dns=client-1.example.com"}
OWN = {
    "auth_method": "self_signed_tls_client_auth",
    "jwks": {"keys": [{"kty": "EC", "x5c": [SELF_SIGNED.base64]}]},
}


def check_round(served: Served) -> str:
    """A client gets a bound token by its certificate, and uses it; nobody else can do either."""
    client = served.add(**NAMED, **BOUND)
    method = {"auth_method": "tls_client_auth"}
    token = served.manager(client, CLIENT, **method).token().access_token
    for _ in range(2):  # the second time, it is cached
        passes = served.get(token, CLIENT)
        assert passes.status_code == 200
        assert passes.text.startswith(client.client_id)
        for identity in (OTHER, None):
            refused = served.get(token, identity)
            assert refused.status_code == 401
            assert 'error="invalid_token"' in refused.headers["www-authenticate"]
            forged = served.get(token, identity, **{"ssl-client-cert": CLIENT.escaped})
            assert forged.status_code == 401
    for identity in (OTHER, None):
        with pytest.raises(TokenRefused, match="invalid_client"):
            served.manager(client, identity, **method).token()
    return token


@needs_nginx
def test_MTLS_01_the_whole_round_behind_nginx(tmp_path: Path) -> None:
    with serving(tmp_path, by_uvicorn("--no-proxy-headers"), proxied=True) as served:
        token = check_round(served)
        # A stranger who reaches the app without the proxy.
        fields = {"authorization": f"Bearer {token}", "ssl-client-cert": CLIENT.escaped}
        for forwarded in ({}, {"x-forwarded-for": PROXY}):
            past = httpx2.get(f"{served.behind}/things", headers={**fields, **forwarded})
            assert past.status_code == 401
        # nginx lets a self-signed certificate through, and the server knows whose it is.
        own = served.add(**OWN, **BOUND)
        manager = served.manager(own, SELF_SIGNED, auth_method="self_signed_tls_client_auth")
        bound = manager.token().access_token
        assert served.get(bound, SELF_SIGNED).text == f"{own.client_id} certificate"
        assert served.get(bound, CLIENT).status_code == 401
        impostor = make("client-1", None, x509.DNSName("client-1.example.com"))
        with pytest.raises(TokenRefused, match="invalid_client"):
            served.manager(served.add(**NAMED), impostor, auth_method="tls_client_auth").token()
        # A client with a secret whose tokens are bound.
        other = served.add(**BOUND)
        secret = {"client_secret": other.client_secret, "mutual_tls": True}
        shared = served.manager(other, OTHER, **secret).token().access_token
        assert served.get(shared, OTHER).status_code == 200
        assert served.get(shared, CLIENT).status_code == 401


@needs_nginx
@pytest.mark.anyio
async def test_MTLS_01_the_same_round_in_an_event_loop(tmp_path: Path) -> None:
    with serving(tmp_path, by_plain_gunicorn, proxied=True) as served:
        client = served.add(**NAMED, **BOUND)
        manager = served.manager(client, CLIENT, auth_method="tls_client_auth")
        token = (await manager.atoken()).access_token
        assert served.get(token, CLIENT).text == client.client_id
        assert served.get(token, OTHER).status_code == 401


@needs_nginx
def test_MTLS_01_uvicorns_proxy_headers_hide_the_proxy_and_the_log_says_so(tmp_path: Path) -> None:
    """With `--forwarded-allow-ips "*"`, any client could claim to be the proxy."""
    trusting = by_uvicorn("--proxy-headers", "--forwarded-allow-ips", "*")
    with serving(tmp_path, trusting, proxied=True) as served:
        client = served.add(**BOUND)
        source = served.manager(client, CLIENT, client_secret=client.client_secret)
        with pytest.raises(TokenRefused, match="invalid_request"):
            source.token()
        fields = {"ssl-client-cert": CLIENT.escaped}
        for forwarded in (PROXY, f"{PROXY}:4711", f"192.0.2.1, {PROXY}"):
            response = httpx2.post(
                f"{served.behind}/oauth/token",
                data={
                    "grant_type": "client_credentials",
                    "client_id": client.client_id,
                    "client_secret": client.client_secret,
                },
                headers={**fields, "x-forwarded-for": forwarded},
            )
            assert response.status_code == 400, forwarded
        assert "run uvicorn with --no-proxy-headers" in served.program.output


@pytest.mark.parametrize("command", [by_gunicorn, by_werkzeug], ids=["gunicorn", "werkzeug"])
def test_MTLS_01_the_whole_round_where_the_server_ends_tls(
    tmp_path: Path, command: Command
) -> None:
    with serving(tmp_path, command, proxied=False) as served:
        check_round(served)
