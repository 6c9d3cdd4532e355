"""MTLS-01 and CNF-01: tokens that are bound to a client certificate (RFC 8705)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from bearerguard.protocol.http.certificate_header import CertificateHeader
from tests.certificates import AUTHORITY, CLIENT, OTHER
from tests.conformance.drivers import Headers, Received
from tests.conformance.harness import Harness
from tests.conformance.hdr_table import TOKEN
from tests.conformance.scenario import Scenario

BOUND = {"x5t#S256": CLIENT.thumbprint}
PROXY, STRANGER = ("10.0.0.7", 40_000), ("203.0.113.9", 40_000)
PROXIES: Mapping[str, Any] = {"trusted_proxies": ["10.0.0.0/24"]}
NGINX: Mapping[str, Any] = {"certificates": "nginx", **PROXIES}
FIELD = "ssl-client-cert"


def bound(
    *fields: tuple[str, str], cnf: object = BOUND, **claims: Any
) -> Callable[[Harness], Headers]:
    """Send a bound token, with header fields besides."""

    def send(harness: Harness) -> Headers:
        others = [(name, value.encode()) for name, value in fields]
        return [*harness.bearer(cnf=cnf, jti="bound", **claims), *others]

    return send


def opaque(harness: Harness) -> Headers:
    return harness.opaque(cnf=BOUND)


def _warm(harness: Harness) -> None:
    """Let the token be cached, by a request that proves it."""
    response = harness.request(bound()(harness), certificate=CLIENT.pem)
    assert response.status == 200


def _again(certificate: str, status: int) -> Callable[[Harness, Received], None]:
    def send(harness: Harness, _response: Received) -> None:
        for _ in range(2):
            again = harness.request(bound()(harness), certificate=certificate)
            assert again.status == status
            passes = harness.request(bound()(harness), certificate=CLIENT.pem)
            assert passes.status == 200

    return send


_ESCAPED = (FIELD, CLIENT.escaped)

TABLE = [
    Scenario(
        id="MTLS-01 the certificate of the connection is the token's",
        guard={"certificates": "tls"},
        send=bound(),
        certificate=CLIENT.pem,
        status=200,
        after=_again(OTHER.pem, 401),
    ),
    Scenario(
        id="MTLS-01 the chain of the connection begins with the token's certificate",
        guard={"certificates": "tls"},
        send=bound(),
        certificate=CLIENT.pem + AUTHORITY.pem,
        status=200,
    ),
    *(
        Scenario(
            id=f"MTLS-01 {name}",
            guard={"certificates": "tls"},
            send=bound(*fields),
            before=before,
            certificate=certificate,
            status=401,
            error=TOKEN,
        )
        for name, certificate, before, fields in (
            ("another certificate", OTHER.pem, lambda _: None, ()),
            ("no certificate", "", lambda _: None, ()),
            ("another certificate, with a token that is cached", OTHER.pem, _warm, ()),
            ("no certificate, with a token that is cached", "", _warm, ()),
            ("what the server reports is no certificate", "hello", lambda _: None, ()),
            ("a header, where the connection counts", "", lambda _: None, (_ESCAPED,)),
        )
    ),
    Scenario(
        id="MTLS-01 an opaque token is bound as well",
        guard={"certificates": "tls"},
        introspection={},
        send=opaque,
        certificate=CLIENT.pem,
        status=200,
    ),
    Scenario(
        id="MTLS-01 an opaque token without its certificate",
        guard={"certificates": "tls"},
        introspection={},
        send=opaque,
        certificate=OTHER.pem,
        status=401,
        error=TOKEN,
    ),
    Scenario(
        id="MTLS-01 a token without cnf needs no certificate",
        guard={"certificates": "tls"},
        send=lambda harness: harness.bearer(),
        status=200,
    ),
    Scenario(
        id="MTLS-01 a token without cnf passes with any certificate",
        guard=NGINX,
        send=lambda harness: [*harness.bearer(), (FIELD, b"hello")],
        peer=PROXY,
        status=200,
    ),
    *(
        Scenario(
            id=f"MTLS-01 a trusted proxy's header: {name}",
            guard={"certificates": source, **PROXIES},
            send=bound((field, value)),
            peer=PROXY,
            status=200,
        )
        for name, source, field, value in (
            ("nginx", "nginx", "SSL-Client-Cert", CLIENT.escaped),
            (
                "nginx, under another name",
                CertificateHeader("nginx", name="X-SSL-Client-Cert"),
                "X-SSL-Client-Cert",
                CLIENT.escaped,
            ),
            ("Envoy", "envoy", "X-Forwarded-Client-Cert", f'By=a;Cert="{CLIENT.escaped}"'),
            ("Traefik", "traefik", "X-Forwarded-Tls-Client-Cert", CLIENT.base64),
            ("an AWS ALB", "alb", "X-Amzn-Mtls-Clientcert-Leaf", CLIENT.alb),
            ("RFC 9440", "rfc9440", "Client-Cert", f":{CLIENT.base64}:"),
        )
    ),
    *(
        Scenario(
            id=f"MTLS-01 a header that does not count: {name}",
            guard=NGINX,
            send=bound(*fields),
            peer=peer,
            status=401,
            error=TOKEN,
        )
        for name, peer, fields in (
            ("of a stranger", STRANGER, (_ESCAPED,)),
            ("of no known peer", None, (_ESCAPED,)),
            (
                "of a stranger who claims to be a proxy",
                STRANGER,
                (_ESCAPED, ("X-Forwarded-For", "10.0.0.7")),
            ),
            (
                "of a peer that a middleware took from X-Forwarded-For",
                ("10.0.0.7", 0),
                (_ESCAPED, ("X-Forwarded-For", "10.0.0.7")),
            ),
            ("another certificate", PROXY, ((FIELD, OTHER.escaped),)),
            ("empty", PROXY, ((FIELD, ""),)),
            ("repeated", PROXY, ((FIELD, OTHER.escaped), _ESCAPED)),
            ("repeated, the right one first", PROXY, (_ESCAPED, (FIELD, OTHER.escaped))),
            ("repeated, twice the same", PROXY, (_ESCAPED, _ESCAPED)),
            ("joined by a comma", PROXY, ((FIELD, f"{OTHER.escaped},{CLIENT.escaped}"),)),
            ("of a megabyte", PROXY, ((FIELD, CLIENT.escaped * 1000),)),
            ("not escaped", PROXY, ((FIELD, CLIENT.base64),)),
            ("in another proxy's form", PROXY, ((FIELD, f":{CLIENT.base64}:"),)),
            ("of another proxy's name", PROXY, (("client-cert", f":{CLIENT.base64}:"),)),
            ("octets that are not ASCII", PROXY, ((FIELD, "\u00ff" * 100),)),
        )
    ),
    Scenario(
        id="MTLS-01 without certificates= a bound token is refused",
        send=bound(_ESCAPED),
        certificate=CLIENT.pem,
        peer=PROXY,
        status=401,
        error=TOKEN,
    ),
    *(
        Scenario(
            id=f"CNF-01 with certificates, {name}",
            guard={"certificates": "tls"},
            send=bound(cnf=cnf),
            certificate=CLIENT.pem,
            status=401,
            error=TOKEN,
        )
        for name, cnf in (
            ("a certificate and a method that is not known", {**BOUND, "x5t#S512": "x"}),
            ("a certificate and a key, of which no proof is read", {**BOUND, "jkt": "x" * 43}),
            ("a method that is not known", {"kid": "x"}),
            ("no method", {}),
            ("no object", [BOUND]),
            ("a certificate that is no text", {"x5t#S256": [CLIENT.thumbprint]}),
            ("a certificate that is null", {"x5t#S256": None}),
            ("a certificate in hexadecimal", {"x5t#S256": "ab" * 32}),
            ("a certificate with padding", {"x5t#S256": CLIENT.thumbprint + "="}),
        )
    ),
]
