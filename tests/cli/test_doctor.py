"""`bearerguard doctor` against real issuers, APIs and servers, sound and broken."""

from __future__ import annotations

import base64
import json
import sqlite3
import sys
import time
from collections.abc import Generator, Iterable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any, TypeAlias
from urllib.parse import urlsplit

import httpx2
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding
from typer.testing import CliRunner

from bearerguard import EXPOSED_HEADERS, Guard, HttpTransport, Issuer, scopes
from bearerguard.asgi import BearerMiddleware
from bearerguard.cli import app
from bearerguard.cli.guard.doctor import api, issuer, keys, server, store, web
from bearerguard.cli.guard.doctor.exchange import Exchange, Requester
from bearerguard.cli.guard.doctor.finding import Finding, Rule, Severity
from bearerguard.protocol.jose.thumbprint import public_jwk
from bearerguard.runtime.flow import Fetch
from bearerguard.runtime.messages import FetchFailed, Response
from bearerguard.server import AuthorizationServer
from bearerguard.server.endpoints import metadata as endpoints
from bearerguard.testing import LocalIssuer
from bearerguard.testing.signing_key import SigningKey
from bearerguard.transports.tls_peer import TlsPeer
from tests.processes import free_port
from tests.raw_servers import certificate  # noqa: F401 - a fixture
from tests.uvicorn_thread import running

SECRET = "a secret of the tests of doctor, long enough"
RULES = [
    each
    for module in (api, issuer, keys, server, store, web)
    for each in vars(module).values()
    if isinstance(each, Rule)
]


def doctor(*arguments: str, code: int = 0) -> dict[str, Any]:
    """Run the command; return its only report."""
    done = CliRunner().invoke(app, ["doctor", *arguments, "--json"])
    assert done.exit_code == code, done.output
    (report,) = json.loads(done.stdout)["reports"]
    found: dict[str, Any] = report
    for each in found["findings"]:
        assert all(each[name] for name in ("found", "expected", "section")), each
        assert (each["severity"] == "ok") == (each["remedy"] == ""), each
    return found


def severities(found: dict[str, Any] | Iterable[Finding]) -> dict[str, str]:
    """Return the worst severity of each check."""
    order = [str(each) for each in Severity]
    pairs = (
        [(each["check"], each["severity"]) for each in found["findings"]]
        if isinstance(found, dict)
        else [(each.check, str(each.severity)) for each in found]
    )
    worst: dict[str, str] = {}
    for check, severity in pairs:
        worst[check] = max(worst.get(check, "ok"), severity, key=order.index)
    return worst


def text_of(found: dict[str, Any], check: str) -> str:
    return " | ".join(each["found"] for each in found["findings"] if each["check"] == check)


# Issuers


@pytest.fixture
def local() -> Generator[LocalIssuer]:
    made = LocalIssuer()
    with made.serve():
        yield made


def test_a_sound_issuer_has_no_problem_and_no_warning(local):
    local.cache_control = "max-age=600"
    found = doctor(local.url)
    assert found["kinds"] == ["issuer"]
    assert found["counts"]["problem"] == found["counts"]["warning"] == 0
    worst = severities(found)
    for check in ("discovery.issuer", "keys.usable", "keys.kid", "clock.skew", "caching.jwks"):
        assert worst[check] == "ok"
    assert worst["introspection.authentication"] == "ok"
    assert "max-age=600" in text_of(found, "caching.jwks")


def no_kid(local: LocalIssuer) -> None:
    local.rename(None)


def no_kid_of_two(local: LocalIssuer) -> None:
    local.rotate()
    local.rename(None)


def same_kid(local: LocalIssuer) -> None:
    local.rotate()
    local.rename("key-1")


def repeated(local: LocalIssuer) -> None:
    local.extra_keys = [local.key.jwk() | {"kid": "other"}]


def private(local: LocalIssuer) -> None:
    local.extra_keys = [{"kty": "oct", "k": "c2VjcmV0", "kid": "shared", "alg": "HS256"}]


def weak(local: LocalIssuer) -> None:
    key = rsa.generate_private_key(65537, 1024)
    local.extra_keys = [public_jwk(key.public_key()) | {"kid": "weak"}]


def encryption(local: LocalIssuer) -> None:
    local.extra_keys = [local.key.jwk() | {"kid": "enc", "use": "enc"}]


def expired_certificate(local: LocalIssuer) -> None:
    local.extra_keys = [local.key.jwk() | {"kid": "x", "x5c": [certified(local.key, days=-3)]}]


def foreign_certificate(local: LocalIssuer) -> None:
    other = SigningKey.generate("RS256", "other")
    local.extra_keys = [local.key.jwk() | {"kid": "x", "x5c": [certified(other)]}]


def no_certificate(local: LocalIssuer) -> None:
    local.extra_keys = [local.key.jwk() | {"kid": "x", "x5c": ["!"]}]


def never_cached(local: LocalIssuer) -> None:
    local.cache_control = "no-store"


def cached_for_a_year(local: LocalIssuer) -> None:
    local.cache_control = "public, max-age=31536000"


def certified(key: SigningKey, days: int = 3) -> str:
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "key")])
    end = datetime.now(UTC) + timedelta(days=days)
    builder = x509.CertificateBuilder(
        name, name, key.private.public_key(), 1, end - timedelta(days=30), end
    )
    signed = builder.sign(key.private, hashes.SHA256())
    return base64.b64encode(signed.public_bytes(Encoding.DER)).decode()


@pytest.mark.parametrize(
    ("fault", "check", "severity", "said"),
    [
        (no_kid, "keys.kid", "note", "the only key has no kid"),
        (no_kid_of_two, "keys.kid", "warning", "1 of 2 keys have no kid"),
        (same_kid, "keys.kid", "problem", "several keys have the kid 'key-1'"),
        (repeated, "keys.repeated", "warning", "kid 'key-1', 'other'"),
        (private, "keys.private", "problem", "['shared']"),
        (weak, "keys.usable", "warning", "fewer than 2048 bits"),
        (encryption, "keys.encryption", "ok", "1 key for encryption"),
        (expired_certificate, "keys.x5c", "warning", "expired 3 days ago"),
        (foreign_certificate, "keys.x5c", "problem", "for another key"),
        (no_certificate, "keys.x5c", "warning", "cannot be read"),
        (never_cached, "caching.jwks", "note", "no-store"),
        (cached_for_a_year, "caching.jwks", "warning", "365.0 days"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_a_fault_of_the_keys_is_found(local, fault, check, severity, said):
    fault(local)
    found = doctor(local.url, code=1 if severity == "problem" else 0)
    assert severities(found)[check] == severity
    assert said in text_of(found, check)
    assert "c2VjcmV0" not in json.dumps(found)


def test_an_error_page_instead_of_json_is_named(local, documents):
    local.garbage = b"<html>an error page</html>"
    found = doctor(local.url, "--issuer", code=1)
    assert text_of(found, "discovery.places").count("not JSON but HTML") == 2
    documents.openid = b"<html>"
    documents.content = {"jwks_uri": f"{documents.url}/.well-known/openid-configuration"}
    found = doctor(documents.url, code=1)
    assert text_of(found, "keys.usable") == "not JSON but HTML"


def test_an_outage_is_found_at_each_place(local):
    local.outage = True
    found = doctor(local.url, "--issuer", code=1)
    assert severities(found)["discovery.places"] == "problem"
    assert text_of(found, "discovery.places").count("status 503") == 2


def test_a_connection_that_is_closed_ends_with_75(local):
    local.refuses = True
    found = doctor(local.url, code=75)
    assert severities(found) == {"reach.response": "problem"}


def test_what_is_not_there_ends_with_75_and_is_asked_once():
    found = doctor(f"http://127.0.0.1:{free_port()}", code=75)
    assert "the connection was refused" in text_of(found, "reach.response")
    assert found["requests"] == 0


def test_an_issuer_that_hangs_is_left_after_two_timeouts(local):
    local.delay = 30
    began = time.monotonic()
    doctor(local.url, "--timeout", "0.3", code=75)
    assert time.monotonic() - began < local.delay


def test_a_slow_issuer_is_noted(local):
    local.delay = 1.1
    assert severities(doctor(local.url, "--issuer"))["speed.response"] == "note"


def test_the_final_slash_is_named(local):
    found = doctor(f"{local.url}/", "--issuer", code=1)
    assert "which differs only by the final /" in text_of(found, "discovery.issuer")


def test_the_url_of_the_metadata_is_no_issuer_and_the_right_one_is_named(local):
    found = doctor(f"{local.url}/.well-known/openid-configuration", code=1)
    (named,) = [each for each in found["findings"] if each["check"] == "discovery.issuer"]
    assert named["remedy"] == f"pass '{local.url}' as the issuer"
    assert "keys.usable" in severities(found)


def test_an_endpoint_below_the_issuer_is_no_issuer_and_the_right_one_is_named(local):
    found = doctor(f"{local.url}/protocol/openid-connect", code=1)
    (named,) = [each for each in found["findings"] if each["check"] == "discovery.issuer"]
    assert named["remedy"] == f"pass '{local.url}' as the issuer"


class Documents:
    """An issuer of documents that a test writes."""

    def __init__(self) -> None:
        self.url = ""
        self.content: dict[str, Any] = {}
        self.headers: list[tuple[str, str]] = []
        self.openid: bytes | None = None
        self.seen: list[tuple[str, str, dict[str, str], bytes]] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        body = (await receive())["body"]
        sent = {name.decode(): value.decode() for name, value in scope["headers"]}
        self.seen.append((scope["method"], scope["path"], sent, body))
        found = {"issuer": self.url, **self.content}
        known = scope["path"] == "/.well-known/oauth-authorization-server"
        headers = [(n.encode(), v.encode()) for n, v in self.headers]
        status = 200 if known else {"/open": 200, "/400": 400}.get(scope["path"], 404)
        if scope["method"] == "OPTIONS" and scope["path"] in {"/open", "/cookies"}:
            origin = sent["origin"] if scope["path"] == "/cookies" else "*"
            headers += [(b"access-control-allow-origin", origin.encode())]
            headers += [(b"access-control-allow-credentials", b"true")]
        octets = json.dumps(found).encode()
        if scope["path"] == "/.well-known/openid-configuration" and self.openid is not None:
            status, octets = 200, self.openid
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": octets})


@pytest.fixture
def documents() -> Generator[Documents]:
    made = Documents()
    with running(made) as made.url:
        yield made


@pytest.mark.parametrize(
    ("content", "check", "severity"),
    [
        ({}, "discovery.jwks_uri", "warning"),
        ({"jwks_uri": "http://id.example.com/jwks"}, "discovery.jwks_uri", "problem"),
        ({"jwks_uri": "{url}/nowhere"}, "discovery.jwks_uri", "problem"),
        ({"token_endpoint": "http://id.example.com/t"}, "metadata.endpoints", "problem"),
        ({"code_challenge_methods_supported": ["S256"]}, "metadata.pkce", "ok"),
        ({"code_challenge_methods_supported": ["S256", "plain"]}, "metadata.pkce", "warning"),
        ({"code_challenge_methods_supported": ["plain"]}, "metadata.pkce", "problem"),
        ({}, "metadata.pkce", "warning"),
        ({"response_types_supported": ["code", "id_token token"]}, "metadata.implicit", "warning"),
        ({"response_types_supported": ["code", "id_token"]}, "metadata.implicit", "ok"),
        ({"grant_types_supported": ["password"]}, "metadata.password", "warning"),
        ({"authorization_response_iss_parameter_supported": True}, "metadata.iss", "ok"),
        ({}, "metadata.iss", "note"),
        ({"dpop_signing_alg_values_supported": ["ES256"]}, "metadata.sender", "ok"),
        ({"introspection_endpoint": "{url}/in"}, "introspection.authentication", "warning"),
        ({"introspection_endpoint": "{url}/open"}, "introspection.authentication", "problem"),
        ({"introspection_endpoint": "{url}/400"}, "introspection.authentication", "note"),
        ({"token_endpoint": "{url}/token"}, "cors.token", "ok"),
        ({"token_endpoint": "{url}/cookies"}, "cors.token", "problem"),
        ({"token_endpoint": "{url}/open"}, "cors.token", "note"),
        ({"issuer": "https://other.example.com"}, "discovery.issuer", "problem"),
    ],
)
def test_what_metadata_advertises_is_checked(documents, content, check, severity):
    filled = {
        name: value.format(url=documents.url) if isinstance(value, str) else value
        for name, value in content.items()
    }
    documents.content = {"authorization_endpoint": f"{documents.url}/authorize", **filled}
    code = {"code": 1} if severity == "problem" else {}
    found = CliRunner().invoke(app, ["doctor", documents.url, "--issuer", "--json"])
    (report,) = json.loads(found.stdout)["reports"]
    assert severities(report)[check] == severity
    if code:
        assert found.exit_code == 1


@pytest.mark.parametrize(
    ("octets", "check", "said"),
    [
        (b"<html>", "discovery.places", "not JSON but HTML"),
        (b'{"jwks_uri": "x"}', "discovery.places", "JSON that names no issuer"),
        (b'{"issuer": "https://other", "jwks_uri": "x"}', "discovery.same", "jwks_uri"),
    ],
)
def test_what_each_place_holds_is_said(documents, octets, check, said):
    documents.openid = octets
    found = doctor(documents.url)
    assert said in text_of(found, check)
    assert severities(found)["discovery.issuer"] == "ok"


def test_a_guard_that_is_told_where_the_keys_are_needs_no_metadata(local, documents):
    context = httpx2.create_ssl_context()

    def examined(**options: Any) -> dict[str, str]:
        guard = Issuer("https://127.0.0.1:9", audience="x", **options)
        requester = Requester(HttpTransport(), context)
        found = issuer.discovered(requester, guard.url, guard)
        return severities(issuer.findings(requester, found, guard))

    by_uri = examined(jwks_uri=f"{local.url}/jwks")
    assert by_uri["discovery.places"] == by_uri["keys.usable"] == "ok"
    fixed = examined(keys=local.jwks())
    assert fixed["discovery.places"] == "ok"
    assert "keys.usable" not in fixed
    documents.content = {"issuer": "https://127.0.0.1:9", "jwks_uri": f"{documents.url}/no"}
    place = f"{documents.url}/.well-known/oauth-authorization-server"
    by_place = examined(discovery_url=place)
    assert by_place["discovery.places"] == by_place["discovery.issuer"] == "ok"


def test_each_issuer_of_a_guard_is_examined_and_tenants_need_a_name(local, tmp_path, monkeypatch):
    tenants = "Guard(Issuer('https://id.example/{tenant}', audience='x', tenants=['a']))"
    two = f"Guard(Issuer({local.url!r}, audience='x'), Issuer('http://127.0.0.1:9', audience='x'))"
    imports = "from bearerguard import Guard, Issuer"
    (tmp_path / "of_tenants.py").write_text(f"{imports}\nguard = {tenants}\ntwo = {two}\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    refused = CliRunner().invoke(app, ["doctor", "--app", "of_tenants:guard"])
    assert (refused.exit_code, "one tenant" in refused.stderr) == (2, True)
    done = CliRunner().invoke(app, ["doctor", "--app", "of_tenants:two"])
    assert done.exit_code == 75
    assert f"{local.url}: an issuer" in done.stdout
    assert "http://127.0.0.1:9: not recognised" in done.stdout


def test_a_clock_that_is_wrong_is_a_problem_beyond_the_leeway():
    now = 1_790_000_000.0

    def dated(skew: float, seconds: float = 0.1, **fields: str) -> dict[str, str]:
        moment = datetime.fromtimestamp(now + skew - 0.5, UTC)
        headers = [("Date", format_datetime(moment, usegmt=True)), *fields.items()]
        exchange = Exchange(
            Fetch("GET", "https://x"), Response(200, tuple(headers)), None, seconds, now
        )
        return severities(web.clock(exchange))

    assert dated(0) == dated(1) == dated(-1) == {"clock.skew": "ok"}
    assert dated(10) == dated(-10) == {"clock.skew": "warning"}
    assert dated(40) == dated(-40) == {"clock.skew": "problem"}
    assert dated(2, seconds=4) == {"clock.skew": "ok"}
    assert dated(-40, Age="40") == {"clock.skew": "ok"}
    nothing = Exchange(Fetch("GET", "https://x"), Response(200), None, 0.1, now)
    assert severities(web.clock(nothing)) == {"clock.skew": "note"}


def test_a_server_whose_clock_is_a_minute_ahead_is_found():
    documents = Documents()
    ahead = datetime.now(UTC) + timedelta(seconds=60)
    documents.headers = [("Date", format_datetime(ahead, usegmt=True))]
    with running(documents, date_header=False) as documents.url:
        found = doctor(documents.url, "--issuer", code=1)
    assert "ahead of this machine's, beyond the leeway of 30 s" in text_of(found, "clock.skew")


@pytest.mark.parametrize(
    ("version", "days", "worst"),
    [
        ("TLSv1.3", 90, ["ok", "ok"]),
        ("TLSv1.2", 20, ["note", "warning"]),
        ("TLSv1.1", 6, ["problem", "problem"]),
    ],
)
def test_the_version_of_tls_and_the_end_of_the_certificate_are_judged(version, days, worst):
    found = severities(web.tls(TlsPeer(version, days * 86_400, ()), 0.0))
    assert [found["tls.version"], found["tls.certificate"]] == worst


def test_a_chain_that_is_not_complete_is_explained():
    text = "h: TLS: the certificate is signed by an unknown authority"
    (found,) = web.tls(FetchFailed(text), 0.0)
    assert "install the whole chain" in found.remedy


def test_an_issuer_over_tls_is_examined_and_its_authority_is_an_option(certificate):  # noqa: F811
    documents = Documents()
    with running(documents, ssl_certfile=str(certificate)) as documents.url:
        found = doctor(documents.url, "--issuer", "--ca-file", str(certificate), code=1)
        worst = severities(found)
        assert worst["tls.version"] == "ok"
        assert "expires in 1 days" in text_of(found, "tls.certificate")
        assert worst["discovery.issuer"] == "ok"
        unknown = doctor(documents.url, code=1)
    assert "self-signed" in text_of(unknown, "tls.certificate")
    assert unknown["requests"] == 0


def test_plain_http_beyond_this_machine_is_a_problem():
    requester = Requester(Nowhere(), httpx2.create_ssl_context())
    assert severities(web.transport_security(requester, "http://api.example.com")) == {
        "tls.https": "problem"
    }


class Nowhere:
    """A transport that records requests and has no responses, or those of a table."""

    def __init__(self, **responses: Response) -> None:
        self.sent: list[Fetch] = []
        self.responses = responses

    def fetch(self, request: Fetch) -> Response:
        self.sent.append(request)
        found = self.responses.get(urlsplit(request.url).scheme)
        if found is None:
            raise FetchFailed(f"{request.url}: status 0")
        return found


@pytest.mark.parametrize(
    ("response", "severity"),
    [
        (None, "ok"),
        (Response(308, (("Location", "https://id.example.com/x"),)), "ok"),
        (Response(302, (("Location", "https://id.example.com/x"),)), "note"),
        (Response(301, (("Location", "/x"),)), "problem"),
        (Response(200), "problem"),
    ],
)
def test_the_http_port_of_a_https_issuer_is_checked(response, severity):
    transport = Nowhere(**({} if response is None else {"http": response}))
    requester = Requester(transport, httpx2.create_ssl_context())
    found = severities(web.plain_http(requester, "https://id.example.com/x"))
    assert found == {"redirects.http": severity}
    assert [each.url for each in transport.sent] == ["http://id.example.com/x"]
    assert not list(web.plain_http(requester, "https://id.example.com:8443/x"))


def test_requests_are_bounded_in_number_and_time():
    transport = Nowhere(https=Response(200))
    context = httpx2.create_ssl_context()
    requester = Requester(transport, context, max_requests=3)
    for number in range(5):
        requester.get(f"https://x.example/{number}")
        requester.get(f"https://x.example/{number}")
    assert len(transport.sent) == 3
    assert requester.left_out == 2
    late = Requester(transport, context, max_seconds=-1)
    assert late.get("https://x.example/").response is None
    assert late.left_out == 1


@pytest.mark.parametrize("name", ["https://evil.example", "http://127.0.0.1:9"])
def test_a_remote_server_leads_no_request_to_this_machine(name):
    here = "http://127.0.0.1:9"
    content = {
        "issuer": name,
        "jwks_uri": f"{here}/jwks",
        "introspection_endpoint": f"{here}/introspect",
        "token_endpoint": f"{here}/token",
        "authorization_endpoint": f"{here}/authorize",
    }
    transport = Nowhere(https=Response(200, (), json.dumps(content).encode()))
    requester = Requester(transport, httpx2.create_ssl_context(), timeout=0.1)
    found = issuer.discovered(requester, "https://evil.example")
    shown = [*issuer.findings(requester, found, None), *server.findings(requester, found, None)]
    assert severities(shown)[issuer.KEYS_URI.check] == "problem"
    assert {urlsplit(each.url).hostname for each in transport.sent} == {"evil.example"}


def test_no_request_changes_anything_or_carries_credentials(documents):
    documents.content = {
        "authorization_endpoint": f"{documents.url}/authorize",
        "token_endpoint": f"{documents.url}/token",
        "introspection_endpoint": f"{documents.url}/introspect",
        "registration_endpoint": f"{documents.url}/register",
        "revocation_endpoint": f"{documents.url}/revoke",
        "jwks_uri": f"{documents.url}/jwks",
    }
    CliRunner().invoke(app, ["doctor", documents.url, "--server"])
    CliRunner().invoke(app, ["doctor", documents.url, "--api"])
    posted = {(path, body) for method, path, _, body in documents.seen if method == "POST"}
    assert posted == {
        ("/introspect", b"token=doctor"),
        ("/token", b"grant_type=password&username=doctor&password=none"),
    }
    assert {method for method, *_ in documents.seen} <= {"GET", "HEAD", "OPTIONS", "POST"}
    sent = {headers.get("authorization") for _, _, headers, _ in documents.seen}
    assert sent <= {None, "Bearer doctor-is-no-token", "Bearer doctor is no token"}


def checked(*members: Any, **options: Any) -> dict[str, str]:
    return severities(keys.findings(json.dumps({"keys": members}).encode(), 0.0, **options))


def test_a_jwk_set_is_judged_by_itself():
    rs256, es256 = SigningKey.generate("RS256", "a").jwk(), SigningKey.generate("ES256", "b").jwk()
    ed25519 = SigningKey.generate("EdDSA", "c").jwk()
    assert checked(rs256, es256, ed25519) == dict.fromkeys(
        ("keys.usable", "keys.strength", "keys.kid", "keys.algorithms"), "ok"
    )
    exponent = rsa.generate_private_key(3, 2048).public_key()
    assert checked(public_jwk(exponent) | {"kid": "e"})["keys.strength"] == "warning"
    assert checked(*(rs256 | {"kid": str(each)} for each in range(21)))["keys.count"] == "warning"
    assert checked(rs256, advertised=["none"])["keys.algorithms"] == "problem"
    assert checked(rs256, advertised=["ES256"])["keys.algorithms"] == "note"
    assert checked(rs256, advertised=["RS256", "HS256"])["keys.algorithms"] == "note"
    assert checked(ed25519, advertised=["Ed25519", "EdDSA"])["keys.algorithms"] == "ok"
    assert checked(rs256, accepted=["ES256"])["keys.algorithms"] == "problem"
    assert checked(rs256, accepted=["RS256"])["keys.algorithms"] == "ok"
    ml_dsa = SigningKey.generate("ML-DSA-44", "d").jwk()
    assert checked(ml_dsa, advertised=["ML-DSA-44"])["keys.algorithms"] == "ok"
    assert checked(ml_dsa | {"priv": "A" * 43})["keys.private"] == "problem"
    found = keys.findings(json.dumps({"keys": [ml_dsa]}).encode(), 0.0)
    assert any("AKP (ML-DSA-44)" in each.found for each in found)
    # A certificate of a key that this version does not know has nothing to be compared with.
    unknown = {"kty": "new", "x5c": [certified(SigningKey.generate("RS256", "x"))]}
    assert checked(rs256, unknown)["keys.x5c"] == "ok"
    assert checked() == {"keys.usable": "problem"}


# APIs


async def recordings(scope: Any, receive: Any, send: Any) -> None:
    headers = [(b"content-type", b"application/json")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"[]"})


def test_an_api_behind_the_guard_has_no_problem(local):
    guard = Guard(local.issuer(), require=scopes("read"))
    with running(BearerMiddleware(recordings, guard=guard)) as url:
        found = doctor(f"{url}/recordings")
    guard.close()
    assert found["kinds"] == ["api"]
    assert found["counts"]["problem"] == 0, found["findings"]
    worst = severities(found)
    for check in ("absent", "parameters", "invalid", "malformed", "query", "head"):
        assert worst[f"challenge.{check}"] == "ok", check
    assert worst["caching.refusal"] == worst["caching.authorized"] == "ok"
    # The guard's audience is the URL of the API elsewhere.
    assert worst["resource.challenge"] == "warning"


Answer: TypeAlias = tuple[int, list[tuple[str, str]], bytes]
CHALLENGE = ("WWW-Authenticate", 'Bearer realm="api"')
INVALID = ("WWW-Authenticate", 'Bearer realm="api", error="invalid_token"')
PLACE = "/.well-known/oauth-protected-resource"
ANY_PAGE = ("Access-Control-Allow-Origin", "*")
# Responses by the path, and by what the request has: any, a token, a token in the query, a method.
FAULTS: dict[tuple[str, str], Answer] = {
    ("/open", "any"): (200, [], b"[]"),
    ("/bare", "any"): (401, [], b""),
    ("/basic", "any"): (401, [("WWW-Authenticate", 'Basic realm="x"')], b""),
    ("/remapped", "any"): (401, [("x-amzn-Remapped-WWW-Authenticate", "Bearer")], b""),
    ("/login", "any"): (302, [("Location", "/accounts/login?next=/login")], b""),
    ("/crash", "any"): (500, [], b""),
    ("/forbidden", "any"): (403, [], b""),
    ("/empty", "any"): (401, [("WWW-Authenticate", "Bearer")], b""),
    ("/always", "any"): (401, [INVALID], b""),
    ("/cached", "any"): (401, [CHALLENGE, ("Cache-Control", "public, max-age=60")], b""),
    ("/stored", "any"): (401, [CHALLENGE, ("Age", "3")], b""),
    ("/cookie", "any"): (401, [CHALLENGE, ("Set-Cookie", "session=1")], b""),
    ("/slash", "any"): (301, [("Location", "/slash/")], b""),
    ("/kept", "any"): (307, [("Location", "/kept/")], b""),
    ("/away", "any"): (307, [("Location", "http://localhost:9/away/")], b""),
    ("/garbage-500", "token"): (500, [], b""),
    ("/garbage-503", "token"): (503, [], b""),
    ("/garbage-bare", "token"): (401, [CHALLENGE], b""),
    ("/accepts", "token"): (200, [("Cache-Control", "public, max-age=60")], b"[]"),
    ("/query", "query"): (401, [INVALID], b""),
    ("/head", "HEAD"): (200, [], b""),
    ("/no-head", "HEAD"): (405, [], b""),
    ("/head-404", "HEAD"): (404, [], b""),
    ("/.well-known/oauth-authorization-server/wrong", "any"): (200, [], b'{"issuer": "x"}'),
    ("/cors-star", "OPTIONS"): (200, [ANY_PAGE, ("Access-Control-Allow-Headers", "*")], b""),
    ("/cors-star", "none"): (401, [CHALLENGE, ANY_PAGE], b""),
    ("/cors", "OPTIONS"): (
        200,
        [ANY_PAGE, ("Access-Control-Allow-Headers", "Authorization, Content-Type")],
        b"",
    ),
    ("/cors", "none"): (
        401,
        [CHALLENGE, ANY_PAGE, ("Access-Control-Expose-Headers", ", ".join(EXPOSED_HEADERS))],
        b"",
    ),
    ("/cors-vary", "none"): (401, [CHALLENGE, ("Access-Control-Allow-Origin", "{origin}")], b""),
    ("/cors-cookies", "OPTIONS"): (
        200,
        [
            ("Access-Control-Allow-Origin", "{origin}"),
            ("Access-Control-Allow-Credentials", "true"),
        ],
        b"",
    ),
    ("/pointed", "any"): (
        401,
        [("WWW-Authenticate", f'Bearer resource_metadata="{{url}}{PLACE}/gone"')],
        b"",
    ),
    ("/elsewhere", "any"): (
        401,
        [("WWW-Authenticate", f'Bearer resource_metadata="https://other.example{PLACE}"')],
        b"",
    ),
}


class Broken:
    """An API of faults: each is a path."""

    def __init__(self) -> None:
        self.url = ""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        headers = dict(scope["headers"])
        status, fields, body = self.response(scope, headers)
        raw = [(name.encode(), value.encode()) for name, value in fields]
        await send({"type": "http.response.start", "status": status, "headers": raw})
        await send({"type": "http.response.body", "body": body})

    def response(self, scope: Any, headers: dict[bytes, bytes]) -> Answer:
        path, method = scope["path"], scope["method"]
        if path.startswith("/.well-known/oauth-protected-resource"):
            return self.metadata(path)
        has_token = b"authorization" in headers
        case = method if method in {"HEAD", "OPTIONS"} else "token" if has_token else "none"
        if b"access_token" in scope["query_string"]:
            case = "query"
        sound = (401, [INVALID if has_token else CHALLENGE, ("Cache-Control", "no-store")], b"")
        status, fields, body = FAULTS.get((path, case), FAULTS.get((path, "any"), sound))
        origin = headers.get(b"origin", b"").decode()
        return status, [(n, v.format(url=self.url, origin=origin)) for n, v in fields], body

    def metadata(self, path: str) -> Answer:
        resource = path.removeprefix("/.well-known/oauth-protected-resource")
        published: dict[str, dict[str, Any]] = {
            "/described": {"resource": f"{self.url}/described"},
            "/other": {"resource": "https://other.example/"},
            "/shorter/path": {"resource": f"{self.url}/shorter"},
            "/query-tokens": {
                "resource": f"{self.url}/query-tokens",
                "bearer_methods_supported": ["header", "query"],
            },
            "/unreachable": {
                "resource": f"{self.url}/unreachable",
                "authorization_servers": [f"{self.url}/no-server", "http://id.example.com"],
            },
            "/misnamed": {
                "resource": f"{self.url}/misnamed",
                "authorization_servers": [f"{self.url}/wrong"],
            },
        }
        if resource not in published:
            return 404, [], b""
        return 200, [], json.dumps(published[resource]).encode()


@pytest.fixture(scope="module")
def broken() -> Generator[str]:
    made = Broken()
    with running(made) as made.url:
        yield made.url


@pytest.mark.parametrize(
    ("path", "check", "severity", "said"),
    [
        ("/sound", "challenge.absent", "ok", "401 with a bearer challenge"),
        ("/open", "challenge.absent", "warning", "open to everybody"),
        ("/open", "challenge.invalid", "note", "no token is needed here"),
        ("/bare", "challenge.absent", "problem", "401 without WWW-Authenticate"),
        ("/basic", "challenge.absent", "problem", "'basic'"),
        ("/remapped", "challenge.absent", "problem", "x-amzn-remapped-www-authenticate"),
        ("/login", "challenge.absent", "problem", "/accounts/login"),
        ("/crash", "challenge.absent", "problem", "status 500"),
        ("/forbidden", "challenge.absent", "warning", "status 403"),
        ("/empty", "challenge.parameters", "warning", "no parameter"),
        ("/always", "challenge.parameters", "note", "no token was sent"),
        ("/garbage-500", "challenge.invalid", "problem", "status 500"),
        ("/garbage-503", "challenge.invalid", "warning", "503"),
        ("/garbage-bare", "challenge.invalid", "warning", "do not refresh"),
        ("/accepts", "challenge.invalid", "problem", "any text is accepted"),
        ("/accepts", "challenge.malformed", "problem", "status 200"),
        ("/accepts", "caching.authorized", "problem", "public, max-age=60"),
        ("/sound", "challenge.malformed", "note", "401"),
        ("/query", "challenge.query", "warning", "was read"),
        ("/head", "challenge.head", "problem", "HEAD passes"),
        ("/no-head", "challenge.head", "note", "405"),
        ("/head-404", "challenge.head", "warning", "404"),
        ("/cached", "caching.refusal", "problem", "public, max-age=60"),
        ("/stored", "caching.refusal", "problem", "stored refusal"),
        ("/bare", "caching.refusal", "note", "no Cache-Control"),
        ("/cookie", "challenge.cookies", "note", "cookie"),
        ("/slash", "redirects.slash", "warning", "a POST becomes a GET"),
        ("/slash/", "redirects.slash", "warning", "a POST becomes a GET"),
        ("/kept/", "redirects.slash", "note", "307"),
        ("/away/", "redirects.slash", "warning", "another host"),
        ("/cors", "cors.preflight", "ok", "may send a token"),
        ("/cors", "cors.exposed", "ok", "can read"),
        ("/cors-star", "cors.preflight", "warning", "'*'"),
        ("/cors-star", "cors.exposed", "warning", "WWW-Authenticate"),
        ("/cors-vary", "cors.vary", "warning", "doctor.invalid"),
        ("/cors-cookies", "cors.preflight", "problem", "cookies"),
        ("/sound", "cors.preflight", "note", "refuses preflights"),
        ("/sound", "resource.metadata", "note", "no metadata"),
        ("/pointed", "resource.metadata", "problem", "though the challenge names it"),
        ("/elsewhere", "resource.challenge", "warning", "on another host"),
        ("/described", "resource.metadata", "ok", "/described"),
        ("/described", "resource.challenge", "note", "does not name"),
        ("/described", "resource.servers", "note", "no authorization server"),
        ("/other", "resource.metadata", "problem", "its resource is another one"),
        ("/shorter/path", "resource.metadata", "warning", "whose well-known URL is"),
        ("/query-tokens", "resource.methods", "warning", "query"),
        ("/unreachable", "resource.servers", "problem", "status 401"),
        ("/unreachable", "resource.servers", "problem", "not an https URL"),
        ("/misnamed", "resource.servers", "problem", "its issuer is 'x'"),
    ],
)
def test_a_fault_of_an_api_is_found(broken, path, check, severity, said):
    done = CliRunner().invoke(app, ["doctor", f"{broken}{path}", "--api", "--json"])
    (report,) = json.loads(done.stdout)["reports"]
    assert severities(report)[check] == severity
    assert said in text_of(report, check)
    assert done.exit_code == (1 if report["counts"]["problem"] else 0)


def test_a_redirect_to_http_is_a_problem_for_an_api_over_https(monkeypatch):
    class Behind(Nowhere):
        def fetch(self, request: Fetch) -> Response:
            if request.url.startswith("https://api.example/v1/"):
                return Response(307, (("Location", "http://api.example/v1"),))
            return super().fetch(request)

    requester = Requester(Behind(https=Response(401)), httpx2.create_ssl_context())
    monkeypatch.setattr(requester, "tls_peer", lambda _url: TlsPeer("TLSv1.3", 9e9, ()))
    found = list(api.findings(requester, "https://api.example/v1"))
    assert severities(found)["redirects.slash"] == "problem"
    assert severities(found)["redirects.http"] == "ok"


def test_an_api_that_sends_nothing_is_a_problem_of_each_request():
    requester = Requester(Nowhere(), httpx2.create_ssl_context())
    worst = severities(api.findings(requester, "http://127.0.0.1:9/v1"))
    for check in ("challenge.absent", "challenge.invalid", "cors.preflight"):
        assert worst[check] == "problem"


def test_an_api_that_publishes_its_server_agrees_with_the_guard(local, tmp_path, monkeypatch):
    class Described(Broken):
        def metadata(self, path: str) -> Answer:
            content = {"resource": f"{self.url}/v1", "authorization_servers": [local.url]}
            return 200, [], json.dumps(content).encode()

    made = Described()
    with running(made) as made.url:
        sound = f"guard = Guard(Issuer({local.url!r}, audience={made.url + '/v1'!r}))"
        other = "other = Guard(Issuer('https://id.example', audience='x'))"
        imports = "from bearerguard import Guard, Issuer"
        (tmp_path / "of_doctor.py").write_text(f"{imports}\n{sound}\n{other}\n")
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "path", [*sys.path])
        good = doctor(f"{made.url}/v1", "--app", "of_doctor:guard")
        bad = doctor(f"{made.url}/v1", "--app", "of_doctor:other", code=1)
        assert severities(good)["guard.agreement"] == severities(good)["resource.servers"] == "ok"
        assert text_of(bad, "guard.agreement").count("|") == 1
        # Without a target, the issuers of the guard are examined.
        assert doctor("--app", "of_doctor:guard")["target"] == local.url
        refused = CliRunner().invoke(app, ["doctor", "--app", "of_doctor:gone"])
        assert (refused.exit_code, "has no 'gone'" in refused.stderr) == (2, True)
    monkeypatch.setenv("BEARERGUARD_ISSUER", local.url)
    monkeypatch.setenv("BEARERGUARD_AUDIENCE", "https://api.example.com")
    monkeypatch.setenv("BEARERGUARD_ALGORITHMS", "ES256")
    found = doctor(code=1)
    assert "no key is for any of them" in text_of(found, "keys.algorithms")


# Our server


@pytest.fixture
def own(tmp_path: Path) -> Generator[AuthorizationServer]:
    port = free_port()
    made = AuthorizationServer(
        f"http://127.0.0.1:{port}",
        store=f"sqlite:///{tmp_path}/auth.db",
        secret=SECRET,
        scopes={"read": "Read your recordings"},
    )
    with running(made.asgi_app(recordings), port):
        yield made
    made.close()


def test_our_server_passes_its_audit(own, tmp_path):
    own.clients.add("App", public=True, redirect_uris=["http://127.0.0.1/cb"], scopes=["read"])
    own.users.add("ada", "a password that is long")
    before = snapshot(tmp_path)
    found = doctor(own.settings.issuer, "--store", f"sqlite:///{tmp_path}/auth.db")
    assert snapshot(tmp_path) == before
    assert found["kinds"] == ["issuer", "server"]
    assert found["counts"]["problem"] == found["counts"]["warning"] == 0, found["findings"]
    worst = severities(found)
    for rule in RULES:
        if rule.check.startswith("server.") and rule.check not in {
            server.CLIENT.check,  # there is one
            server.HSTS.check,  # the proxy's, with https
            server.OPENER.check,
        }:
            assert worst[rule.check] == "ok", rule.check
    assert worst["store.pkce"] == worst["store.redirect_uris"] == worst["store.secrets"] == "ok"
    assert SECRET not in json.dumps(found)


def snapshot(folder: Path) -> dict[str, Any]:
    """Return all rows of the database."""
    with sqlite3.connect(folder / "auth.db") as connection:
        names = [
            n for (n,) in connection.execute("select name from sqlite_master where type='table'")
        ]
        rows = {
            name: sorted(map(repr, connection.execute(f"select * from {name}"))) for name in names
        }
    connection.close()
    return rows


def test_without_a_client_the_audit_says_what_it_could_not_examine(own):
    found = doctor(own.settings.issuer)
    assert severities(found)["server.client"] == "note"
    assert "server.pkce" not in severities(found)


def test_a_client_that_need_not_use_pkce_is_found_by_a_request(own):
    uri = "https://app.example.com/cb"
    made = own.clients.add("Old", redirect_uris=[uri], require_pkce=False)
    given = ("--client-id", made.client_id, "--redirect-uri", uri)
    found = doctor(own.settings.issuer, *given, code=1)
    assert severities(found)["server.pkce"] == "problem"
    assert severities(found)["server.redirect_uri"] == severities(found)["server.iss"] == "ok"


def test_the_database_shows_what_no_request_shows(own, tmp_path):
    add = own.clients.add
    add("Pocket", public=True, redirect_uris=["http://localhost/cb"])
    add("Web", redirect_uris=["http://127.0.0.1/cb"])
    lax = add("Lax", redirect_uris=["https://a.example/cb"], require_pkce=False)
    long = add("Long", access_token_lifetime=7 * 86_400, refresh_token_max_lifetime=400 * 86_400)
    with sqlite3.connect(tmp_path / "auth.db") as connection:
        # What an earlier version, or another program, has stored.
        options: dict[str, Any] = {
            "redirect_uris": ["https://*.example.com/cb"],
            "auth_method": "none",
        }
        options |= {"grant_types": ["authorization_code"], "require_pkce": False}
        bare: dict[str, Any] = {"grant_types": ["authorization_code"], "auth_method": "none"}
        bare |= {"require_consent": False, "redirect_uris": ["com.example.app:/cb"]}
        none = {"grant_types": ["authorization_code"], "auth_method": "none"}
        for name, content in (("star", options), ("bare", bare), ("none", none)):
            connection.execute(
                "insert into clients (client_id, name, options, created_at) values (?, ?, ?, 0)",
                (name, name, json.dumps(content)),
            )
        connection.execute(
            "update client_secrets set created_at = created_at - 4e7 where client_id = ?",
            (lax.client_id,),
        )
        connection.execute("update signing_keys set active_at = active_at - 2e7")
        connection.execute(
            "insert into users (user_id, login, name, created_at) values ('u1', 'bob', 'Bob', 0)"
        )
        connection.execute(
            "insert into grants (grant_id, client_id, user_id, scope, resources, created_at,"
            " expires_at) values ('g1', ?, 'u1', 'read', '[]', 0, 9e9)",
            (lax.client_id,),
        )
        for digest in ("a", "b"):
            connection.execute(
                "insert into refresh_tokens values (?, 'g1', 0, 9e9, null, null, null, 1)",
                (digest,),
            )
    connection.close()
    (tmp_path / "auth.db").chmod(0o644)
    found = doctor(own.settings.issuer, "--store", f"sqlite:///{tmp_path}/auth.db", code=1)
    worst = {name: each for name, each in severities(found).items() if name.startswith("store.")}
    assert worst == {
        "store.file": "problem",
        "store.redirect_uris": "problem",
        "store.localhost": "warning",
        "store.no_redirect": "warning",
        "store.pkce": "problem",
        "store.consent": "problem",
        "store.secrets": "warning",
        "store.keys": "warning",
        "store.accounts": "note",
        "store.refresh_rotation": "problem",
        "store.access_lifetime": "warning",
        "store.refresh_lifetime": "warning",
    }
    assert "has a wildcard" in text_of(found, "store.redirect_uris")
    assert long.client_id not in text_of(found, "store.pkce")
    assert (tmp_path / "auth.db").stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize("what", ["nothing", "a text", "an empty database", "no URL"])
def test_a_store_that_cannot_be_read_is_named_and_not_made(tmp_path, what):
    path = tmp_path / "auth.db"
    if what == "a text":
        path.write_text("This is no database at all, though it is long enough for a header." * 9)
    if what == "an empty database":
        sqlite3.connect(path).executescript("create table a (b)").connection.close()
    given = "nonsense" if what == "no URL" else f"sqlite:///{path}"
    refused = CliRunner().invoke(app, ["doctor", "http://127.0.0.1:9", "--store", given])
    assert refused.exit_code == 2
    assert refused.stderr.startswith("bearerguard: --store: ")
    assert path.exists() == (what in {"a text", "an empty database"})


class Frontend:
    """A server whose pages lack what ours have."""

    def __init__(self) -> None:
        self.url = ""
        self.cookie = "sid=1; Path=/"

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        status, fields, body = 200, [("Set-Cookie", self.cookie)], b"<html>"
        if scope["path"].startswith("/.well-known/"):
            paths = {name: self.url + path for name, path in server.PATHS.items()}
            more = {"registration_endpoint": f"{self.url}/register"}
            body = json.dumps({"issuer": self.url, **paths, **more}).encode()
        elif scope["path"] == "/oauth/authorize":
            sent = dict(httpx2.QueryParams(scope["query_string"].decode()))
            if sent.get("prompt") == "none" or sent["client_id"] == "doctor-unknown":
                status, fields = 302, [ANY_PAGE, ("Location", f"{sent['redirect_uri']}?code=x")]
        raw = [(name.encode(), value.encode()) for name, value in fields]
        await send({"type": "http.response.start", "status": status, "headers": raw})
        await send({"type": "http.response.body", "body": body})


def test_each_fault_of_a_server_is_found():
    made = Frontend()
    given = ("--client-id", "app", "--redirect-uri", "https://app.example/cb")
    with running(made) as made.url:
        found = doctor(made.url, *given, code=1)
    worst = severities(found)
    assert {name: each for name, each in worst.items() if name.startswith("server.")} == {
        "server.registration": "note",
        "server.password": "problem",
        "server.no_store": "problem",
        "server.token_get": "problem",
        "server.redirector": "problem",
        "server.cors": "problem",
        "server.redirect_uri": "problem",
        "server.pkce": "problem",
        "server.pkce_plain": "problem",
        "server.implicit": "problem",
        "server.iss": "problem",
        "server.frames": "problem",
        "server.opener": "note",
        "server.referrer": "warning",
        "server.cookies": "problem",
    }


@pytest.mark.parametrize(
    ("fields", "check", "severity"),
    [
        ([], "server.hsts", "warning"),
        ([("Strict-Transport-Security", "max-age=60")], "server.hsts", "note"),
        ([("Strict-Transport-Security", 'Max-Age="63072000"; preload')], "server.hsts", "ok"),
        ([("Set-Cookie", "a=1; HttpOnly; SameSite=Lax")], "server.cookies", "problem"),
        ([("Set-Cookie", "a=1; HttpOnly; SameSite=Lax; Secure")], "server.cookies", "warning"),
        ([("Set-Cookie", "__Host-a=1; httponly; samesite=Lax; secure")], "server.cookies", "ok"),
        ([("X-Frame-Options", "DENY")], "server.frames", "warning"),
        ([("Cross-Origin-Opener-Policy", "same-origin")], "server.opener", "ok"),
    ],
)
def test_the_header_fields_of_pages_are_judged(fields, check, severity):
    request = Fetch("GET", "https://id.example.com/login")
    page = Exchange(request, Response(200, tuple(fields)), None, 0.1, 0.0)
    assert severities(server.pages(page))[check] == severity


def test_a_store_without_a_signing_key_is_only_noted():
    stored = store.Stored(0o100600, [], [], [], 0, [], 7200.0, 0.0, 0, [])
    worst = severities(store.findings(stored, 0.0))
    assert worst["store.keys"] == worst["store.access_lifetime"] == "note"
    assert store.known_client(stored) is None


def test_without_the_extra_of_the_server_the_store_is_refused_by_its_name(monkeypatch):
    monkeypatch.delitem(sys.modules, "bearerguard.cli.guard.doctor.store")
    monkeypatch.delattr("bearerguard.cli.guard.doctor.store")
    monkeypatch.setitem(sys.modules, "sqlalchemy", None)
    refused = CliRunner().invoke(app, ["doctor", "http://127.0.0.1:9", "--store", "sqlite:///x"])
    assert refused.exit_code == 2
    assert "--store needs the package sqlalchemy" in refused.stderr


def test_the_paths_by_which_our_server_is_recognised_are_its_paths():
    assert dict(server.PATHS) == {
        "authorization_endpoint": endpoints.AUTHORIZE,
        "token_endpoint": endpoints.TOKEN,
        "introspection_endpoint": endpoints.INTROSPECT,
        "jwks_uri": endpoints.JWKS,
    }


# The report


@pytest.mark.parametrize("columns", ["80", "200"])
def test_the_report_is_readable_and_steers_no_terminal(documents, columns):
    documents.content = {
        "issuer": f"{documents.url}/\x1b[2J[red]\u202e",
        "authorization_endpoint": "https://id.example.com/" + "x" * 300,
        "grant_types_supported": ["\x1b]0;x\x07"],
    }
    done = CliRunner().invoke(app, ["doctor", documents.url, "-v"], env={"COLUMNS": columns})
    assert done.exit_code == 1
    assert not set("\x1b\x07\u202e") & set(done.output)
    assert max(map(len, done.stdout.splitlines())) <= 100 if columns == "200" else 80
    assert "PROBLEM" in done.stdout
    assert "check     discovery.issuer" in done.stdout
    assert "RFC 8414 §3.3" in done.stdout


def test_urls_are_not_broken(local):
    done = CliRunner().invoke(app, ["doctor", local.url], env={"COLUMNS": "30"})
    assert f"{local.url}/.well-known/oauth-authorization-server:" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "TARGET: pass the URL"),
        (("id.example.com",), "pass an https URL"),
        (("https://user:secret@id.example.com",), "remove the user and the password"),
        (("https://id.example.com/#x",), "pass an https URL"),
        (("https://id.example.com", "--issuer", "--api"), "choose one of them"),
        (("https://id.example.com", "--client-id", "x"), "pass both"),
        (("https://id.example.com", "--timeout", "0"), "--timeout"),
        (("https://id.example.com", "--app", "no_such:app"), "no module"),
        (("https://id.example.com", "--ca-file", "/nowhere"), "--ca-file"),
    ],
)
def test_an_option_that_cannot_be_used_is_named(arguments, said, monkeypatch):
    monkeypatch.delenv("BEARERGUARD_ISSUER", raising=False)
    refused = CliRunner().invoke(app, ["doctor", *arguments])
    assert refused.exit_code == 2
    assert said in refused.stderr
    assert "secret" not in refused.stderr


def test_each_rule_has_a_code_of_its_own_an_expectation_a_remedy_and_a_source():
    codes = [each.check for each in RULES]
    # The http port of an issuer and that of an API are one check with two remedies.
    assert len(codes) == len(set(codes)) + 1
    for each in RULES:
        assert each.expected
        assert each.remedy
        assert each.section
