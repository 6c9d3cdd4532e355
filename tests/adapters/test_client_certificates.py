"""Headers with client certificates: what an app sees of them, behind both adapters."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterable
from typing import Any

import pytest
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from bearerguard import ConfigurationError, Guard, Request, TokenError, asgi, wsgi
from bearerguard.protocol import dpop
from bearerguard.protocol.http import proxies
from bearerguard.protocol.http.certificate_header import CertificateHeader
from bearerguard.protocol.http.proxies import environ_peer
from bearerguard.protocol.jose import signing
from bearerguard.runtime.messages import ClientCertificate
from bearerguard.testing import LocalIssuer, SigningKey
from tests.certificates import CLIENT, OTHER
from tests.conformance.drivers import Headers, Received, Sent, through_asgi, through_wsgi

PROXY, STRANGER = ("10.0.0.7", 40_000), ("203.0.113.9", 40_000)
SPELLINGS = ("ssl-client-cert", "SSL-Client-Cert", "ssl_client_cert", "SSL_Client-Cert")

Send = Callable[[Guard, Sent], tuple[Received, dict[str, str]]]


def send_asgi(guard: Guard, request: Sent) -> tuple[Received, dict[str, str]]:
    seen: dict[str, str] = {}

    async def app(scope: Any, _receive: Any, send: Any) -> None:
        seen.update((name.decode(), value.decode("latin-1")) for name, value in scope["headers"])
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    guarded = asgi.BearerMiddleware(app, guard=guard, exclude=["/open"])
    return through_asgi(guarded, request), seen


def send_wsgi(guard: Guard, request: Sent) -> tuple[Received, dict[str, str]]:
    seen: dict[str, str] = {}

    def app(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        seen.update(
            (key[5:].lower().replace("_", "-"), value)
            for key, value in environ.items()
            if key.startswith("HTTP_")
        )
        start_response("200 OK", [])
        return [b""]

    guarded = wsgi.BearerMiddleware(app, guard=guard, exclude=["/open"])
    return through_wsgi(guarded, request), seen


@pytest.fixture(params=[send_asgi, send_wsgi], ids=["asgi", "wsgi"])
def send(request: pytest.FixtureRequest) -> Send:
    found: Send = request.param
    return found


@pytest.fixture
def local() -> LocalIssuer:
    return LocalIssuer("https://issuer.test", algorithm="ES256")


def guard_of(local: LocalIssuer, **options: Any) -> Guard:
    return Guard(local.issuer(), transport=local.transport(), **options)


def headers(local: LocalIssuer, *fields: tuple[str, str]) -> Headers:
    token = local.token()
    others = [(name, value.encode()) for name, value in fields]
    return [("Authorization", f"Bearer {token}".encode()), *others]


@pytest.mark.parametrize("target", ["/things", "/open"])
@pytest.mark.parametrize("field", [*SPELLINGS, "ssl-client-verify", "SSL_CLIENT_SUBJECT_DN"])
def test_MTLS_01_an_app_does_not_see_a_header_of_a_stranger(
    send: Send, local: LocalIssuer, target: str, field: str
) -> None:
    guard = guard_of(local, certificates="nginx", trusted_proxies=["10.0.0.0/24"])
    sent = headers(local, (field, CLIENT.escaped), ("x-other", "kept"))
    for peer in (STRANGER, None, ("10.0.0.7", 0)):
        response, seen = send(guard, Sent(sent, target=target, peer=peer))
        assert response.status == 200
        assert set(seen) == {"authorization", "x-other"}


def test_MTLS_01_an_app_sees_the_header_of_a_proxy(send: Send, local: LocalIssuer) -> None:
    guard = guard_of(local, certificates="nginx", trusted_proxies=["10.0.0.0/24"])
    sent = headers(local, ("ssl-client-cert", CLIENT.escaped), ("ssl-client-verify", "SUCCESS"))
    _, seen = send(guard, Sent(sent, peer=PROXY))
    assert seen["ssl-client-cert"] == CLIENT.escaped
    assert seen["ssl-client-verify"] == "SUCCESS"


def test_MTLS_01_an_underscore_is_no_proxys(local: LocalIssuer) -> None:
    """A WSGI or CGI app behind would take it for the proxy's own (ASGI servers pass it on)."""
    guard = guard_of(local, certificates="nginx", trusted_proxies=["10.0.0.0/24"])
    fields = [("ssl_client_cert", OTHER.escaped), ("ssl-client-cert", CLIENT.escaped)]
    _, seen = send_asgi(guard, Sent(headers(local, *fields), peer=PROXY))
    assert set(seen) == {"authorization", "ssl-client-cert"}
    bound = local.token(claims={"cnf": {"x5t#S256": CLIENT.thumbprint}})
    sent = [("Authorization", f"Bearer {bound}".encode())]
    sent += [(name, value.encode()) for name, value in fields]
    assert send_asgi(guard, Sent(sent, peer=PROXY))[0].status == 200


@pytest.mark.parametrize("options", [{}, {"certificates": "tls"}])
def test_MTLS_01_without_a_header_of_proxies_an_app_sees_all(
    send: Send, local: LocalIssuer, options: dict[str, Any]
) -> None:
    sent = headers(local, ("ssl-client-cert", CLIENT.escaped))
    _, seen = send(guard_of(local, **options), Sent(sent, peer=STRANGER))
    assert seen["ssl-client-cert"] == CLIENT.escaped


def test_MTLS_01_each_format_keeps_its_own_headers_from_the_app(local: LocalIssuer) -> None:
    for source, field in (
        ("envoy", "x-forwarded-client-cert"),
        ("traefik", "x-forwarded-tls-client-cert-info"),
        ("alb", "x-amzn-mtls-clientcert-subject"),
        ("rfc9440", "client-cert-chain"),
        (CertificateHeader("nginx", name="X-Cert"), "x-cert"),
    ):
        guard = guard_of(local, certificates=source, trusted_proxies=["unix"])
        for each in (send_asgi, send_wsgi):
            _, seen = each(guard, Sent(headers(local, (field, "forged")), peer=STRANGER))
            assert set(seen) == {"authorization"}


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("forwarded_for", "port"),
    [
        ("10.0.0.7:40000", None),
        ("10.0.0.7:+40000", None),
        ("10.0.0.7:040000", None),
        ("10.0.0.7: 4_0000", None),
        ("[10.0.0.7]:+40000", None),
        ("10.0.0.7", None),
        ("10.0.0.7, 198.51.100.9", "40000"),
        ("10.0.0.7", " +40000"),
    ],
)
async def test_MTLS_01_a_stranger_cannot_become_the_proxy_by_a_middleware(
    forwarded_for: str, port: str | None, local: LocalIssuer
) -> None:
    """uvicorn takes the port of the address, as `int` reads it; daphne that of another field."""
    guard = guard_of(local, certificates="nginx", trusted_proxies=["10.0.0.7"])
    token = local.token(claims={"cnf": {"x5t#S256": CLIENT.thumbprint}})
    headers = [
        (b"authorization", f"Bearer {token}".encode()),
        (b"ssl-client-cert", CLIENT.escaped.encode()),
        (b"x-forwarded-for", forwarded_for.encode()),
    ]
    if port is not None:
        headers.append((b"x-forwarded-port", port.encode()))
    scope: dict[str, Any] = {"type": "http", "method": "GET", "path": "/", "headers": headers}
    statuses: list[int] = []
    seen: list[Any] = []

    async def app(scope: Any, _receive: Any, send: Any) -> None:
        seen.append(scope["client"])
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body"})

    async def receive() -> dict[str, Any]:
        return {"type": "http.request"}

    async def send(message: Any) -> None:
        statuses.append(message.get("status", 0))

    guarded = asgi.BearerMiddleware(app, guard=guard)
    if port is None:
        replacing: Any = ProxyHeadersMiddleware(guarded, "*")  # type: ignore[arg-type]
        await replacing({**scope, "client": STRANGER}, receive, send)
    else:
        await guarded({**scope, "client": PROXY}, receive, send)
    assert (statuses[0], seen) == (401, [])

    environ = {"REMOTE_ADDR": PROXY[0], "REMOTE_PORT": "40000"}
    environ["HTTP_X_FORWARDED_FOR"] = forwarded_for
    if ":" in forwarded_for or port is not None:
        environ["HTTP_X_FORWARDED_PORT"] = port or ""
        assert environ_peer(environ) is None


# Verifying without an adapter


@pytest.mark.anyio
async def test_MTLS_01_verify_needs_the_request_of_a_bound_token(local: LocalIssuer) -> None:
    guard = guard_of(local, certificates="nginx", trusted_proxies=["10.0.0.7"])
    token = local.token(claims={"cnf": {"x5t#S256": CLIENT.thumbprint}})
    field = {"ssl-client-cert": CLIENT.escaped}
    good = (
        Request(headers=field, peer="10.0.0.7"),
        Request(certificate=ClientCertificate(CLIENT.thumbprint)),
    )
    for request in good:
        assert guard.verify(token, request).subject
        assert (await guard.averify(token, request)).subject
    bad = (
        (None, "sender_constrained"),
        (Request(headers=field), "no_certificate"),
        (Request(headers=field, peer="10.0.0.8"), "no_certificate"),
        (Request(peer="10.0.0.7"), "no_certificate"),
        (Request(certificate=ClientCertificate(OTHER.thumbprint)), "wrong_certificate"),
    )
    for given, reason in bad:
        with pytest.raises(TokenError) as raised:
            guard.verify(token, given)
        assert raised.value.reason.code == reason
        with pytest.raises(TokenError):
            await guard.averify(token, given)


def test_MTLS_01_a_log_line_says_why_a_certificate_does_not_count(
    local: LocalIssuer, caplog: pytest.LogCaptureFixture
) -> None:
    token = local.token(claims={"cnf": {"x5t#S256": CLIENT.thumbprint}})
    sent = [("Authorization", f"Bearer {token}".encode())]
    field = ("ssl-client-cert", CLIENT.escaped.encode())
    forwarded = ("X-Forwarded-For", b"10.0.0.7")
    for peer, fields, said in (
        (PROXY, [], "the proxy must send it as ssl-client-cert"),
        (STRANGER, [field], "'203.0.113.9', which sent the field, is none of trusted_proxies="),
        (("10.0.0.7", 0), [field, forwarded], "run uvicorn with --no-proxy-headers"),
        (PROXY, [field, field], "the field is repeated"),
    ):
        caplog.clear()
        # The same guard would not repeat a line so soon.
        guard = guard_of(local, certificates="nginx", trusted_proxies=["10.0.0.7"])
        response, _ = send_asgi(guard, Sent([*sent, *fields], peer=peer))
        assert response.status == 401
        assert said in caplog.text
        assert token not in caplog.text
        assert CLIENT.escaped not in caplog.text
    caplog.clear()
    send_asgi(guard_of(local, certificates="tls"), Sent(sent))
    assert "the server must report it" in caplog.text


def test_MTLS_01_a_header_needs_proxies_that_are_named(local: LocalIssuer) -> None:
    with pytest.raises(ConfigurationError, match="trusted_proxies="):
        guard_of(local, certificates="nginx")
    with pytest.raises(ConfigurationError, match="certificates="):
        guard_of(local, certificates="apache", trusted_proxies=["10.0.0.7"])
    with pytest.raises(ConfigurationError, match="trusted_proxies="):
        guard_of(local, certificates="nginx", trusted_proxies=["0.0.0.0/0"])


def test_MTLS_01_a_token_that_is_bound_to_a_key_and_a_certificate_needs_both(
    send: Send, local: LocalIssuer
) -> None:
    guard = guard_of(
        local, certificates="tls", dpop="allowed", public_url="https://api.example.com"
    )
    key = signing.PrivateKey("ES256", None, SigningKey.generate("ES256", None).private)
    jkt = dpop.key_thumbprint(key)
    token = local.token(claims={"cnf": {"jkt": jkt, "x5t#S256": CLIENT.thumbprint}})

    def status(scheme: str, certificate: str, *, proves: bool = True) -> int:
        proof = dpop.proof(
            key,
            "GET",
            "https://api.example.com/things",
            now=time.time(),
            jti=secrets.token_hex(8),
            access_token=token,
        )
        sent = [("Authorization", f"{scheme} {token}".encode())]
        if proves:
            sent.append(("DPoP", proof.encode()))
        return send(guard, Sent(sent, certificate=certificate))[0].status

    assert status("DPoP", CLIENT.pem) == 200
    assert status("DPoP", CLIENT.pem, proves=False) == 401
    assert status("DPoP", OTHER.pem) == 401
    assert status("DPoP", "") == 401
    assert status("Bearer", CLIENT.pem) == 401
    assert status("Bearer", CLIENT.pem, proves=False) == 401


@pytest.mark.parametrize("forwarded_for", ["10.0.0.7:unknown", "10.0.0.7:40001", "198.51.100.9"])
def test_MTLS_01_a_proxy_stays_the_peer_beside_another_port(forwarded_for: str) -> None:
    scope: dict[str, Any] = {
        "client": PROXY,
        "headers": [(b"x-forwarded-for", forwarded_for.encode())],
    }
    assert proxies.scope_peer(scope) == PROXY[0]
    environ = {"REMOTE_ADDR": PROXY[0], "REMOTE_PORT": str(PROXY[1])}
    environ["HTTP_X_FORWARDED_FOR"] = forwarded_for
    assert proxies.environ_peer(environ) == PROXY[0]
