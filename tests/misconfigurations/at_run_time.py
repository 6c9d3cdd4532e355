"""Misconfigurations that no start can see: what is wrong in the network, and the log line."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

from bearerguard import Guard, Issuer, Request, role
from bearerguard.client.dpop import Proofs, new_key
from bearerguard.protocol import dpop
from bearerguard.protocol.jose import signing
from bearerguard.testing import LocalIssuer

API = "https://api.example.com"
OPENID, OAUTH = "/.well-known/openid-configuration", "/.well-known/oauth-authorization-server"
# What an issuer's server sends for a path: a status and a body.
Answers = Callable[[str], Mapping[str, tuple[int, bytes]]]


class Fault(NamedTuple):
    """What is wrong, and what the log must say: the code of the line, and parts of its text."""

    run: Callable[[], None]
    code: str
    parts: tuple[str, ...]


@contextmanager
def serving(answers: Answers) -> Generator[str]:
    """Run an issuer's server on loopback; yield its URL."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, body = answers(url).get(self.path, (404, b"not found"))
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - as it is called
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield url
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def warmed(answers: Answers, **options: Any) -> Callable[[], None]:
    def run() -> None:
        with serving(answers) as url, Guard(Issuer(url, audience=API, **options)) as guard:
            guard.warm()

    return run


def unreachable(url: str) -> Callable[[], None]:
    def run() -> None:
        with Guard(Issuer(url, audience=API)) as guard:
            guard.warm()

    return run


def plain_http() -> None:
    with serving(lambda _url: {}) as url:
        secure = url.replace("http:", "https:")
        with Guard(Issuer(secure, audience=API)) as guard:
            guard.warm()


def document(**members: object) -> tuple[int, bytes]:
    return 200, json.dumps(members).encode()


def published(jwks: tuple[int, bytes]) -> Answers:
    return lambda url: {
        OPENID: document(issuer=url, jwks_uri=f"{url}/keys"),
        "/keys": jwks,
    }


def asked(headers: Mapping[str, str]) -> Callable[[], None]:
    def run() -> None:
        with Guard(Issuer("https://id.example.com", audience=API)) as guard:
            guard.run(guard.authenticate(Request("GET", "/items", headers)))

    return run


def sent(**token: Any) -> Callable[[], None]:
    def run() -> None:
        local = LocalIssuer(algorithm="ES256")
        with local.guard(require=role("admin")) as guard:
            headers = {"authorization": f"Bearer {local.token(**token)}"}
            guard.run(guard.authenticate(Request("POST", "/items", headers)))

    return run


def listed(uri: str) -> Callable[[], None]:
    def run() -> None:
        local = LocalIssuer(algorithm="ES256")
        trusted = local.issuer(status_lists=[local.status_list.uri])
        reference = {"status_list": {"idx": 7, "uri": uri}}
        with Guard(trusted, transport=local.transport(), clock=local.clock) as guard:
            headers = {"authorization": f"Bearer {local.token(claims={'status': reference})}"}
            guard.run(guard.authenticate(Request("POST", "/items", headers)))

    return run


def proved(**options: Any) -> Callable[[], None]:
    def run() -> None:
        local = LocalIssuer(algorithm="ES256")
        key = new_key()
        jkt = dpop.key_thumbprint(signing.private_key(json.loads(key)))
        token = local.token(claims={"cnf": {"jkt": jkt}})
        proof = Proofs(key, clock=local.clock).proof("GET", f"{API}/items", token)
        headers = {"Authorization": f"DPoP {token}", "DPoP": proof}
        with local.guard(dpop="required", **{"public_url": API} | options) as guard:
            guard.run(guard.authenticate(Request("GET", "/items", headers)))

    return run


HTML = (200, b"<!DOCTYPE html><html><title>Sign in</title></html>")
FETCH = "keys_fetch_failed"
FAULTS: dict[str, Fault] = {
    "unknown host": Fault(
        unreachable("https://nothing.invalid"), FETCH, ("unknown host 'nothing.invalid'",)
    ),
    "nobody listens": Fault(
        unreachable("http://127.0.0.1:1"), FETCH, ("http://127.0.0.1:1", "connection was refused")
    ),
    "https where http is spoken": Fault(plain_http, FETCH, ("TLS:", "speaks no TLS at this port")),
    "metadata is HTML": Fault(
        warmed(lambda _url: {OPENID: HTML, OAUTH: HTML}), FETCH, (OPENID, "not JSON but HTML")
    ),
    "keys are HTML": Fault(warmed(published(HTML)), FETCH, ("/keys", "not JSON but HTML")),
    "no metadata": Fault(warmed(lambda _url: {}), FETCH, (OPENID, OAUTH, "status 404")),
    "metadata of another issuer": Fault(
        warmed(lambda _url: {OPENID: document(issuer="https://other.example.com")}),
        FETCH,
        ("its issuer is 'https://other.example.com', not 'http://127.0.0.1:",),
    ),
    "metadata with a final slash": Fault(
        warmed(lambda url: {OPENID: document(issuer=f"{url}/")}),
        FETCH,
        ("its issuer is 'http://127.0.0.1:", "differs only by the final /"),
    ),
    "metadata without jwks_uri": Fault(
        warmed(lambda url: {OPENID: document(issuer=url)}), FETCH, ("no jwks_uri: pass jwks_uri=",)
    ),
    "keys without a key": Fault(
        warmed(published(document(keys=[]))), FETCH, ("/keys: ", "its array `keys` is empty")
    ),
    "keys that are something else": Fault(
        warmed(published(document(issuer="x", jwks_uri="y"))),
        FETCH,
        ("/keys: ", "but ['issuer', 'jwks_uri']", "for discovery_url="),
    ),
    "keys for encryption only": Fault(
        warmed(published(document(keys=[{"kty": "RSA", "use": "enc"}]))),
        FETCH,
        ("/keys: ", "no usable key", "its use is not sig"),
    ),
    "an outage": Fault(warmed(published((503, b"later"))), FETCH, ("/keys: status 503",)),
    "Token instead of Bearer": Fault(
        asked({"authorization": "Token planted-7f3a"}),
        "missing_credentials",
        ("the scheme Token", "send `Authorization: Bearer`"),
    ),
    "a token without a scheme": Fault(
        asked({"authorization": "planted-7f3a"}), "missing_credentials", ("has no scheme",)
    ),
    "no header, as behind mod_wsgi": Fault(
        asked({}), "missing_credentials", ("no Authorization header", "`WSGIPassAuthorization On`")
    ),
    "two tokens": Fault(
        asked({"authorization": "Bearer planted-7f3a planted-7f3a"}),
        "malformed_credentials",
        ("one token", "GET /items"),
    ),
    "an opaque token": Fault(
        asked({"authorization": "Bearer planted-7f3a"}),
        "malformed_token",
        ("not a JWT", "pass introspection= to its Issuer"),
    ),
    "a role is missing": Fault(
        sent(roles=["editor"]),
        "requirement_unmet",
        ("POST /items needs role 'admin'", "the token has roles ['editor']"),
    ),
    "another audience": Fault(
        sent(claims={"aud": "https://other.example.com"}),
        "wrong_audience",
        ("'https://other.example.com'", "audience="),
    ),
    "another type of token": Fault(
        sent(header={"typ": "JWT"}), "wrong_type", ('pass token_types=("at+jwt", "JWT")',)
    ),
    "a status list elsewhere": Fault(
        listed("https://lists.example.com/1"),
        "bad_status",
        ("'https://lists.example.com/1'", "add it to status_lists="),
    ),
    "DPoP tokens where dpop= is off": Fault(
        asked({"authorization": "DPoP planted-7f3a"}),
        "missing_credentials",
        ("the scheme DPoP", 'pass dpop="allowed" to the Guard'),
    ),
    "DPoP-bound tokens where dpop= is off": Fault(
        sent(claims={"cnf": {"jkt": "j" * 43}}),
        "sender_constrained",
        ("cnf with 'jkt'", 'pass dpop="allowed" to the Guard'),
    ),
    "certificate-bound tokens without certificates=": Fault(
        sent(claims={"cnf": {"x5t#S256": "x" * 43}}),
        "sender_constrained",
        ("cnf with 'x5t#S256'", "pass certificates= to the Guard"),
    ),
    "another URL in proofs": Fault(
        proved(public_url="https://other.example.com"),
        "wrong_proof_target",
        ("'https://api.example.com/items'", "'https://other.example.com/items'", "public_url="),
    ),
    "proofs without the body's digest": Fault(
        proved(dpop_content_digest=True),
        "wrong_content_digest",
        ("send `sha-256=", "leave out dpop_content_digest="),
    ),
    "iss with a final slash": Fault(
        sent(claims={"iss": "https://issuer.test/"}),
        "unknown_issuer",
        ("'https://issuer.test/'", "differs only by the final /"),
    ),
}
