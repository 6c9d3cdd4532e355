"""What clients say of their certificates when they register themselves, or in their documents.

(RFC 8705 §2.1.2, §2.2.2, §3.4; MTLS-01, DCR-01, CIMD-01.)
"""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import urlencode

import pytest

from bearerguard.protocol import pkce
from bearerguard.protocol.http import certificates
from bearerguard.runtime.messages import Request, Response
from bearerguard.server import ClientMetadataDocuments, MutualTls, Registration
from tests.certificates import AUTHORITY, CLIENT, MIDDLE, OTHER, SELF_SIGNED, Identity
from tests.server.harness import FORM, VERIFIER, Harness, Make, Reply, claims
from tests.server.test_metadata_documents import HOSTED, JSON, URL, Web, metadata

BOUND: dict[str, Any] = {"tls_client_certificate_bound_access_tokens": True}
BY_AUTHORITY: dict[str, Any] = {
    "token_endpoint_auth_method": "tls_client_auth",
    "tls_client_auth_san_dns": "client-1.example.com",
}
OWN: dict[str, Any] = {
    "token_endpoint_auth_method": "self_signed_tls_client_auth",
    "jwks": {"keys": [{"kty": "EC", "x5c": [SELF_SIGNED.base64]}]},
}
OPTIONS = MutualTls("tls", authorities=AUTHORITY.pem)


class Site:
    """A server that takes certificates, and clients that no operator has registered."""

    def __init__(self, make: Make, options: MutualTls | None = OPTIONS) -> None:
        self.web = Web()
        self.harness: Harness = make(
            mutual_tls=options,
            registration=Registration(),
            client_metadata=ClientMetadataDocuments(transport=self.web),
        )
        self.harness.clock.now = MIDDLE

    def register(self, **members: Any) -> Reply:
        content = {"redirect_uris": [HOSTED], **members}
        fields = {"content-type": "application/json"}
        body = json.dumps(content).encode()
        request = Request("POST", "/oauth/register", fields, body, peer="198.51.100.7")
        return Reply(self.harness.server.handle(request))

    def code(self, client_id: str) -> str:
        query = {
            "client_id": client_id,
            "redirect_uri": HOSTED,
            "response_type": "code",
            "code_challenge": pkce.challenge(VERIFIER),
            "code_challenge_method": "S256",
        }
        page = self.harness.send("GET", f"/oauth/authorize?{urlencode(query)}")
        return self.harness.consent(page).sent["code"]

    def redeem(self, client_id: str, presented: Identity | None, **fields: Any) -> Reply:
        given = {
            "client_id": client_id,
            "grant_type": "authorization_code",
            "redirect_uri": HOSTED,
            "code_verifier": VERIFIER,
            "code": self.code(client_id),
        }
        found = None if presented is None else certificates.from_der(presented.der)
        body = urlencode(given | fields).encode()
        request = Request("POST", "/oauth/token", {"content-type": FORM}, body, certificate=found)
        return Reply(self.harness.server.handle(request))

    @property
    def reason(self) -> str:
        (*_, event) = self.harness.named("request_refused")
        return str(event.details["reason"])


@pytest.fixture
def site(make: Make) -> Site:
    return Site(make)


WAYS = pytest.mark.parametrize(
    ("members", "right", "wrong"), [(BY_AUTHORITY, CLIENT, OTHER), (OWN, SELF_SIGNED, CLIENT)]
)


@pytest.mark.both_engines
@WAYS
def test_DCR_01_MTLS_01_a_client_registers_its_certificate_and_authenticates_by_it(
    site: Site, members: dict[str, Any], right: Identity, wrong: Identity
) -> None:
    reply = site.register(**members, **BOUND)
    assert reply.status == 201, reply.json
    for name, value in (members | BOUND).items():
        assert reply.json[name] == value
    assert "client_secret" not in reply.json
    client_id = reply.json["client_id"]
    found = site.redeem(client_id, right)
    assert found.status == 200, found.json
    assert claims(found.json["access_token"])["cnf"] == {"x5t#S256": right.thumbprint}
    assert site.redeem(client_id, wrong).error == (401, "invalid_client")
    assert site.redeem(client_id, None).error == (401, "invalid_client")


@WAYS
def test_CIMD_01_MTLS_01_a_document_describes_a_certificate(
    site: Site, members: dict[str, Any], right: Identity, wrong: Identity
) -> None:
    site.web.publish(**members, **BOUND)
    found = site.redeem(URL, right)
    assert found.status == 200, found.json
    assert claims(found.json["access_token"])["cnf"] == {"x5t#S256": right.thumbprint}
    assert site.redeem(URL, wrong).error == (401, "invalid_client")


def test_CIMD_02_MTLS_01_certificates_are_fetched_from_the_documents_own_host(site: Site) -> None:
    keys = URL.replace("metadata", "keys")
    site.web.answers[keys] = Response(200, (JSON,), json.dumps(OWN["jwks"]).encode())
    site.web.publish(**{**OWN, "jwks": None}, jwks_uri=keys)
    assert site.redeem(URL, SELF_SIGNED).status == 200
    assert site.redeem(URL, CLIENT).error == (401, "invalid_client")


def test_DCR_01_MTLS_01_the_tokens_of_a_public_client_are_bound_too(site: Site) -> None:
    client_id = site.register(token_endpoint_auth_method="none", **BOUND).json["client_id"]
    found = site.redeem(client_id, SELF_SIGNED)
    assert claims(found.json["access_token"])["cnf"] == {"x5t#S256": SELF_SIGNED.thumbprint}
    assert site.redeem(client_id, None).error == (400, "invalid_request")


def test_DCR_01_MTLS_01_what_a_client_makes_no_use_of_is_not_registered(site: Site) -> None:
    reply = site.register(
        token_endpoint_auth_method="none",
        tls_client_auth_san_dns="other.example.com",
        tls_client_certificate_bound_access_tokens=False,
        jwks=OWN["jwks"],
    )
    assert reply.status == 201
    unused = {"tls_client_auth_san_dns", "tls_client_certificate_bound_access_tokens", "jwks"}
    assert unused.isdisjoint(reply.json)


PRIVATE = {"keys": [{"kty": "EC", "x5t#S256": CLIENT.thumbprint, "d": "AAAA"}]}
UNFIT = [
    ({**BY_AUTHORITY, "tls_client_auth_san_dns": None}, "missing_certificate_name"),
    ({**BY_AUTHORITY, "tls_client_auth_san_uri": "urn:x"}, "two_certificate_names"),
    ({**BY_AUTHORITY, "tls_client_auth_san_dns": ["a", "b"]}, "malformed_certificate_name"),
    ({**BY_AUTHORITY, "tls_client_auth_san_dns": ""}, "malformed_certificate_name"),
    (
        {**BY_AUTHORITY, "tls_client_auth_san_dns": None, "tls_client_auth_san_ip": "10.0.0.0/8"},
        "malformed_certificate_name",
    ),
    (
        {**BY_AUTHORITY, "tls_client_auth_san_dns": None, "tls_client_auth_subject_dn": "nobody"},
        "malformed_certificate_name",
    ),
    ({**OWN, "jwks": None}, "missing_jwks"),
    (
        {"tls_client_certificate_bound_access_tokens": "true"},
        "malformed_tls_client_certificate_bound_access_tokens",
    ),
]


@pytest.mark.parametrize(
    ("members", "reason"),
    [
        *UNFIT,
        ({**OWN, "jwks": {"keys": []}}, "unfit_client"),
        ({**OWN, "jwks": {"keys": [{"kty": "EC", "x5c": ["?"]}]}}, "unfit_client"),
        ({**OWN, "jwks": PRIVATE}, "unfit_client"),
        ({**OWN, "jwks": None, "jwks_uri": "https://127.0.0.1/keys"}, "unsupported_jwks_uri"),
    ],
)
def test_DCR_01_MTLS_01_what_names_no_certificate_is_refused(
    site: Site, members: dict[str, Any], reason: str
) -> None:
    before = site.harness.store.count("clients")
    reply = site.register(**members)
    assert reply.error == (400, "invalid_client_metadata")
    assert reply.json["error_description"].isascii()
    assert site.reason == reason
    assert site.harness.store.count("clients") == before


@pytest.mark.parametrize(
    ("members", "reason"),
    [*UNFIT, ({**OWN, "jwks": {"keys": []}}, "unfit"), ({**OWN, "jwks": PRIVATE}, "unfit")],
)
def test_CIMD_01_MTLS_01_a_document_that_names_no_certificate_is_refused(
    site: Site, members: dict[str, Any], reason: str
) -> None:
    document = json.dumps(metadata(**members)).encode()
    site.web.answers[URL] = Response(200, (JSON,), document)
    query = {"client_id": URL, "redirect_uri": HOSTED, "response_type": "code"}
    assert site.harness.send("GET", f"/oauth/authorize?{urlencode(query)}").status == 400
    assert site.reason == f"document_{reason}"


@pytest.mark.parametrize("members", [BY_AUTHORITY, OWN, BOUND])
def test_DCR_01_MTLS_01_a_server_that_takes_no_certificates_registers_none(
    make: Make, members: dict[str, Any]
) -> None:
    site = Site(make, None)
    found = site.harness.send("GET", "/.well-known/oauth-authorization-server").json
    assert "tls_client_auth" not in str(found)
    reply = site.register(**members)
    assert reply.error == (400, "invalid_client_metadata")
    # The client is told what it can change, and nothing of this server's options.
    assert "mutual_tls" not in reply.json["error_description"]


def test_DCR_01_MTLS_01_without_authorities_none_vouches_for_a_client(make: Make) -> None:
    site = Site(make, MutualTls("tls"))
    assert site.register(**BY_AUTHORITY).error == (400, "invalid_client_metadata")
    assert site.reason == "unsupported_auth_method"
    assert site.register(**OWN).status == 201
