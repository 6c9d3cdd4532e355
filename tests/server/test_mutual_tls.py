"""Client certificates at the authorization server (RFC 8705): they authenticate and bind."""

from __future__ import annotations

import base64
import ipaddress
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID
from starlette.testclient import TestClient
from werkzeug.test import Client as WsgiClient

from bearerguard import ConfigurationError, Request
from bearerguard.protocol.http import certificates
from bearerguard.protocol.http.certificate_header import CertificateHeader
from bearerguard.server import MutualTls, Registered
from bearerguard.server.administration import Administration
from tests.certificates import AUTHORITY, CLIENT, MIDDLE, OTHER, SELF_SIGNED, Identity, make
from tests.server.harness import CALLBACK, FORM, SECRET, VERIFIER, Harness, Make, Reply, claims

OPTIONS = MutualTls("tls", authorities=AUTHORITY.pem)
API: dict[str, Any] = {"grant_types": ["client_credentials"], "redirect_uris": []}
BOUND: dict[str, Any] = {"tls_client_certificate_bound_access_tokens": True}


@pytest.fixture
def harness(make: Make) -> Harness:
    return make_one(make)


def make_one(make: Make, options: MutualTls = OPTIONS, **others: Any) -> Harness:
    harness = make(mutual_tls=options, **others)
    harness.clock.now = MIDDLE
    return harness


def jwks(*identities: Identity) -> dict[str, Any]:
    return {"keys": [{"kty": "EC", "x5c": [each.base64]} for each in identities]}


def by_authority(harness: Harness, name: str = "san_dns=client-1.example.com") -> Registered:
    return harness.add("Mutual", **API, certificate_name=name)


def ask(
    harness: Harness,
    client: Registered,
    presented: Identity | None,
    *chain: Identity,
    path: str = "/oauth/token",
    **fields: Any,
) -> Reply:
    given = {"grant_type": "client_credentials", "client_id": client.client_id} | fields
    found = None
    if presented is not None:
        found = certificates.from_der(presented.der, [each.der for each in chain])
    body = urlencode({name: value for name, value in given.items() if value is not None})
    return Reply(
        harness.server.handle(
            Request("POST", path, {"content-type": FORM}, body.encode(), certificate=found)
        )
    )


def reason(harness: Harness) -> str:
    (event,) = harness.named("client_authentication_failed")
    harness.events.clear()
    return str(event.details["reason"])


@pytest.mark.both_engines
def test_MTLS_a_certificate_of_the_authority_authenticates_the_client_that_it_names(
    harness: Harness,
) -> None:
    client = by_authority(harness)
    assert client.client_secret is None
    assert ask(harness, client, CLIENT).status == 200
    assert ask(harness, client, OTHER).error == (401, "invalid_client")
    assert reason(harness) == "wrong_client_certificate"
    assert ask(harness, client, None).error == (401, "invalid_client")
    assert reason(harness) == "no_client_certificate"


NAMED = make(
    "machine-7",
    AUTHORITY,
    x509.DNSName("Machine-7.Example.com"),
    x509.UniformResourceIdentifier("spiffe://example.com/machine-7"),
    x509.IPAddress(ipaddress.ip_address("2001:db8::7")),
    x509.RFC822Name("machine-7@example.com"),
)


@pytest.mark.parametrize(
    "name",
    [
        "subject_dn=CN=machine-7,O=Example\\, Inc.",
        "san_dns=machine-7.example.COM",
        "san_uri=spiffe://example.com/machine-7",
        "san_ip=2001:DB8:0::7",
        "san_email=machine-7@example.com",
    ],
)
def test_MTLS_each_kind_of_name_is_compared_in_its_own_way(harness: Harness, name: str) -> None:
    client = by_authority(harness, name)
    assert ask(harness, client, NAMED).status == 200
    assert ask(harness, client, OTHER).error == (401, "invalid_client")
    assert ask(harness, client, make("client", AUTHORITY)).error == (401, "invalid_client")


def forged(name: str) -> Identity:
    return make(name, None, x509.DNSName("client-1.example.com"))


INTERMEDIATE = make("Below", AUTHORITY, authority=True)
BELOW = make("client-1", INTERMEDIATE, x509.DNSName("client-1.example.com"))
NAMESAKE = make("Test authority", authority=True)
MUTE = make("Signs no certificates", AUTHORITY, authority=True, signs=False)


@pytest.mark.parametrize(
    ("presented", "chain"),
    [
        (forged("client-1"), ()),
        (forged("client-1"), (AUTHORITY,)),
        (make("client-1", NAMESAKE, x509.DNSName("client-1.example.com")), (NAMESAKE,)),
        (make("client-1", CLIENT, x509.DNSName("client-1.example.com")), (CLIENT, AUTHORITY)),
        (make("client-1", MUTE, x509.DNSName("client-1.example.com")), (MUTE,)),
        (make("client-1", AUTHORITY, x509.DNSName("client-1.example.com"), expired=True), ()),
        (
            make(
                "client-1",
                AUTHORITY,
                x509.DNSName("client-1.example.com"),
                usage=ExtendedKeyUsageOID.SERVER_AUTH,
            ),
            (),
        ),
        (BELOW, ()),
    ],
    ids=[
        *("signs itself", "signs itself beside the authority", "an authority of the same name"),
        *(
            "signed by a client",
            "signed by what signs none",
            "expired",
            "a web server's",
            "a link is missing",
        ),
    ],
)
def test_MTLS_a_certificate_that_the_authority_does_not_vouch_for_is_refused(
    harness: Harness, presented: Identity, chain: tuple[Identity, ...]
) -> None:
    """Whatever the proxy has let through: nginx's `optional_no_ca` lets all through."""
    client = by_authority(harness)
    assert ask(harness, client, presented, *chain).error == (401, "invalid_client")
    assert reason(harness) == "untrusted_client_certificate"


def test_MTLS_the_authority_may_vouch_by_another_one(harness: Harness) -> None:
    assert ask(harness, by_authority(harness), BELOW, INTERMEDIATE).status == 200


def of_other_units(*names: x509.GeneralName) -> x509.NameConstraints:
    return x509.NameConstraints(permitted_subtrees=names, excluded_subtrees=None)


@pytest.mark.parametrize(
    ("limit", "status"),
    [
        (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), 401),
        (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), 200),
        (of_other_units(x509.DNSName("other.example.com")), 401),
        (of_other_units(x509.DNSName("example.com")), 200),
        (of_other_units(x509.DirectoryName(AUTHORITY.certificate.subject)), 401),
    ],
    ids=["web servers", "clients", "other hosts", "these hosts", "other subjects"],
)
def test_MTLS_an_authority_below_vouches_within_its_limits_alone(
    harness: Harness, limit: x509.ExtensionType, status: int
) -> None:
    below = make("Below", AUTHORITY, authority=True, extensions=[limit])
    presented = make("client-1", below, x509.DNSName("client-1.example.com"))
    client = by_authority(harness)
    assert ask(harness, client, presented, below).status == status
    if status != 200:
        assert reason(harness) == "untrusted_client_certificate"


def test_MTLS_a_digest_alone_is_no_certificate_of_an_authority(harness: Harness) -> None:
    client = by_authority(harness)
    digest = CertificateHeader("envoy").parse(
        [f"Hash={base64.urlsafe_b64decode(CLIENT.thumbprint + '=').hex()}".encode()]
    )
    fields = {"grant_type": "client_credentials", "client_id": client.client_id}
    request = Request(
        *("POST", "/oauth/token", {"content-type": FORM}, urlencode(fields).encode()),
        certificate=digest,
    )
    assert Reply(harness.server.handle(request)).error == (401, "invalid_client")
    assert reason(harness) == "client_certificate_without_content"


@pytest.mark.both_engines
def test_MTLS_a_registered_certificate_authenticates_whoever_signed_it(harness: Harness) -> None:
    by_thumbprint = {"keys": [{"kty": "EC", "x5t#S256": CLIENT.thumbprint}]}
    options: dict[str, Any] = {**API, "auth_method": "self_signed_tls_client_auth"}
    client = harness.add("Own", **options, jwks=jwks(SELF_SIGNED, OTHER))
    again = harness.add("Own", **options, jwks=by_thumbprint)
    assert ask(harness, client, SELF_SIGNED).status == 200
    assert ask(harness, client, OTHER).status == 200
    assert ask(harness, again, CLIENT).status == 200
    assert ask(harness, again, SELF_SIGNED).error == (401, "invalid_client")
    assert reason(harness) == "wrong_client_certificate"
    assert ask(harness, client, make("client-3")).error == (401, "invalid_client")


def test_MTLS_a_certificate_authenticates_no_client_that_is_registered_otherwise(
    harness: Harness,
) -> None:
    assert ask(harness, harness.app, CLIENT).error == (401, "invalid_client")
    assert reason(harness) == "wrong_authentication_method"
    nobody = Registered(harness.app.client, None)
    unknown = ask(harness, nobody, CLIENT, client_id="nobody")
    assert unknown.error == (401, "invalid_client")


def test_MTLS_a_client_with_a_certificate_may_not_show_a_secret_instead(harness: Harness) -> None:
    client = by_authority(harness)
    assert ask(harness, client, CLIENT, client_secret="x" * 40).error == (401, "invalid_client")
    assert reason(harness) == "wrong_authentication_method"


@pytest.mark.parametrize("path", ["/oauth/introspect", "/oauth/revoke"])
def test_MTLS_the_other_endpoints_take_the_same_certificate(harness: Harness, path: str) -> None:
    client = by_authority(harness)
    token = ask(harness, client, CLIENT).json["access_token"]
    assert ask(harness, client, OTHER, path=path, token=token).status == 401
    assert ask(harness, client, CLIENT, path=path, token=token).status == 200


# Certificate-bound tokens (§3)


@pytest.mark.both_engines
@pytest.mark.parametrize("kind", ["jwt", "opaque"])
def test_MTLS_a_token_is_bound_to_the_certificate_that_its_client_presented(
    make: Make, kind: str
) -> None:
    from bearerguard.server import Resource

    api = Resource("https://api.example.com", tokens=kind)  # type: ignore[arg-type]
    harness = make_one(make, resources=[api])
    client = harness.add("Bound", **API, **BOUND, introspects=[api.identifier])
    secret: dict[str, Any] = {"client_secret": client.client_secret}
    response = ask(harness, client, CLIENT, **secret)
    assert response.status == 200, response.json
    assert response.json["token_type"] == "Bearer"
    token = response.json["access_token"]
    assert kind == "opaque" or claims(token)["cnf"] == {"x5t#S256": CLIENT.thumbprint}
    found = ask(harness, client, CLIENT, path="/oauth/introspect", token=token, **secret)
    assert found.json["active"]
    assert found.json["cnf"] == {"x5t#S256": CLIENT.thumbprint}
    assert found.json["token_type"] == "Bearer"


def test_MTLS_a_client_whose_tokens_are_bound_gets_none_without_a_certificate(
    harness: Harness,
) -> None:
    client = harness.add("Bound", **API, **BOUND)
    response = ask(harness, client, None, client_secret=client.client_secret)
    assert response.error == (400, "invalid_request")
    assert "access_token" not in response.json
    (event,) = harness.named("request_refused")
    assert event.details["reason"] == "no_client_certificate"


def test_MTLS_tokens_of_other_clients_stay_bearer_tokens(harness: Harness) -> None:
    """A browser or a proxy may present a certificate of which the client knows nothing."""
    client = harness.add("Unbound", **API)
    response = ask(harness, client, CLIENT, client_secret=client.client_secret)
    assert "cnf" not in claims(response.json["access_token"])


@pytest.mark.both_engines
def test_MTLS_a_refresh_token_of_a_public_client_is_bound_to_its_certificate(
    harness: Harness,
) -> None:
    phone = harness.add("Phone", public=True, redirect_uris=[CALLBACK], **BOUND)
    code = harness.code(phone)
    usual = {"redirect_uri": CALLBACK, "code_verifier": VERIFIER, "code": code}
    first = ask(harness, phone, CLIENT, grant_type="authorization_code", **usual).json
    assert claims(first["access_token"])["cnf"] == {"x5t#S256": CLIENT.thumbprint}
    refresh = {"grant_type": "refresh_token", "refresh_token": first["refresh_token"]}
    assert ask(harness, phone, OTHER, **refresh).error == (400, "invalid_grant")
    assert ask(harness, phone, None, **refresh).error == (400, "invalid_request")
    second = ask(harness, phone, CLIENT, **refresh)  # the attempts have revoked nothing
    assert claims(second.json["access_token"])["cnf"] == {"x5t#S256": CLIENT.thumbprint}


def test_MTLS_a_confidential_client_may_renew_its_certificate(harness: Harness) -> None:
    app = harness.add("App", **BOUND)
    secret: dict[str, Any] = {"client_secret": app.client_secret}
    usual = {"redirect_uri": CALLBACK, "code_verifier": VERIFIER, "code": harness.code(app)}
    first = ask(harness, app, CLIENT, grant_type="authorization_code", **usual, **secret).json
    refresh = {"grant_type": "refresh_token", "refresh_token": first["refresh_token"]}
    second = ask(harness, app, OTHER, **refresh, **secret).json
    assert claims(second["access_token"])["cnf"] == {"x5t#S256": OTHER.thumbprint}


# Options


def metadata(harness: Harness) -> dict[str, Any]:
    return harness.send("GET", "/.well-known/oauth-authorization-server").json


def test_MTLS_the_metadata_says_what_the_server_takes(make: Make) -> None:
    found = metadata(make_one(make, MutualTls("tls", authorities=AUTHORITY.pem)))
    methods = {"tls_client_auth", "self_signed_tls_client_auth"}
    assert found["tls_client_certificate_bound_access_tokens"] is True
    assert methods <= set(found["token_endpoint_auth_methods_supported"])
    assert methods <= set(found["introspection_endpoint_auth_methods_supported"])
    assert "mtls_endpoint_aliases" not in found
    found = metadata(make_one(make, MutualTls("tls", url="https://mtls.example.com/")))
    assert "tls_client_auth" not in found["token_endpoint_auth_methods_supported"]
    assert found["mtls_endpoint_aliases"] == {
        "token_endpoint": "https://mtls.example.com/oauth/token",
        "revocation_endpoint": "https://mtls.example.com/oauth/revoke",
        "introspection_endpoint": "https://mtls.example.com/oauth/introspect",
        "pushed_authorization_request_endpoint": "https://mtls.example.com/oauth/par",
        "device_authorization_endpoint": "https://mtls.example.com/oauth/device_authorization",
    }
    found = metadata(make())
    assert "tls_client_certificate_bound_access_tokens" not in found
    assert not methods & set(found["token_endpoint_auth_methods_supported"])


def test_MTLS_the_authorities_may_be_a_file(make: Make, tmp_path: Path) -> None:
    path, _ = AUTHORITY.write(tmp_path, "authority")
    for given in (path, Path(path), AUTHORITY.pem.encode()):
        harness = make_one(make, MutualTls("tls", authorities=given))
        assert ask(harness, by_authority(harness), CLIENT).status == 200


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"certificates": "apache"}, "certificates="),
        ({"certificates": None}, "certificates="),
        (
            {"certificates": "tls", "authorities": "/nowhere/ca.pem"},
            r"authorities=\): '/nowhere/ca.pem': No such file or directory: pass",
        ),
        (
            {"certificates": "tls", "authorities": b"hello"},
            r"authorities=\): the bytes: ValueError",
        ),
        ({"certificates": "tls", "authorities": 7}, r"authorities=\): the int: TypeError"),
        ({"certificates": "tls", "url": "http://a.test"}, r"url=\): 'http://a.test' is no base"),
        ({"certificates": "tls", "url": "https://a.test/?b=1"}, r"url=\): 'https://a.test/\?b=1'"),
        ({"certificates": "tls", "url": "https://[1"}, "url="),
        ({"certificates": "tls", "url": 7}, r"url=\): 7 is no base URL"),
    ],
)
def test_MTLS_an_option_that_cannot_be_is_named(options: Mapping[str, Any], named: str) -> None:
    with pytest.raises(ConfigurationError, match=named):
        MutualTls(**options)


def test_MTLS_the_server_says_what_to_pass(make: Make) -> None:
    with pytest.raises(ConfigurationError, match="mutual_tls="):
        make(mutual_tls="nginx")


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"auth_method": "tls_client_auth"}, "certificate_name="),
        ({"certificate_name": "san_dns=a", "auth_method": "client_secret"}, "certificate_name="),
        ({"certificate_name": "client-1.example.com"}, "certificate_name="),
        ({"certificate_name": "san_dns="}, "certificate_name="),
        ({"certificate_name": "san_ip=client-1"}, "certificate_name="),
        ({"certificate_name": "subject_dn=client-1"}, "certificate_name="),
        ({"certificate_name": "cn=client-1"}, "certificate_name="),
        ({"auth_method": "self_signed_tls_client_auth"}, "jwks="),
        ({"auth_method": "self_signed_tls_client_auth", "jwks": {"keys": [7, {}]}}, "jwks="),
        ({"auth_method": "self_signed_tls_client_auth", "jwks": {"keys": {}}}, "jwks="),
        (
            {
                "auth_method": "self_signed_tls_client_auth",
                "jwks": {"keys": [{"x5c": ["AAAA"]}]},
            },
            "x5c",
        ),
        (
            {"auth_method": "self_signed_tls_client_auth", "jwks": {"keys": [{"x5c": [7]}]}},
            "x5c",
        ),
        ({"auth_method": "self_signed_tls_client_auth", "jwks": {"keys": [{"x5c": []}]}}, "x5c"),
    ],
)
def test_MTLS_a_client_that_cannot_be_registered_so_is_refused(
    harness: Harness, options: Mapping[str, Any], named: str
) -> None:
    with pytest.raises(ConfigurationError, match=named):
        harness.add("Wrong", **API, **options)


def test_MTLS_without_mutual_tls_no_client_may_have_certificates(make: Make) -> None:
    harness = make()
    wrong: tuple[dict[str, Any], ...] = (BOUND, {"certificate_name": "san_dns=a.example.com"})
    for options in wrong:
        with pytest.raises(ConfigurationError):
            harness.add("Wrong", **API, **options)


def test_MTLS_a_process_that_only_administers_registers_such_clients(harness: Harness) -> None:
    administration = Administration(harness.store.url, secret=SECRET)
    client = administration.clients.add(
        "Own", **API, **BOUND, certificate_name="san_dns=client-1.example.com"
    )
    assert ask(harness, client, CLIENT).status == 200


# Where the certificate comes from


def wsgi_post(app: Any, fields: Mapping[str, Any], **environ: Any) -> int:
    return WsgiClient(app).post("/oauth/token", data=fields, environ_overrides=environ).status_code


def asgi_post(app: Any, fields: Mapping[str, Any], headers: Any, **scope: Any) -> int:
    async def changed(given: Any, receive: Any, send: Any) -> None:
        await app({**given, **scope}, receive, send)

    return TestClient(changed).post("/oauth/token", data=fields, headers=headers).status_code


def fields_of(client: Registered) -> dict[str, str]:
    return {"grant_type": "client_credentials", "client_id": client.client_id}


def test_MTLS_the_asgi_server_reports_the_certificate_of_the_connection(harness: Harness) -> None:
    app, fields = harness.server.asgi_app(), fields_of(by_authority(harness))

    def status(*chain: str, headers: Any = None) -> int:
        tls = {"client_cert_chain": list(chain), "client_cert_error": None}
        return asgi_post(app, fields, headers, extensions={"tls": tls})

    assert status(CLIENT.pem) == 200
    assert status(CLIENT.pem, AUTHORITY.pem) == 200
    assert status(OTHER.pem) == 401
    assert status() == 401
    assert status("hello") == 401
    for header in ("ssl-client-cert", "client-cert", "ssl_client_cert"):
        assert status(headers={header: CLIENT.escaped}) == 401
    assert asgi_post(app, fields, None) == 401
    assert asgi_post(app, fields, None, extensions=None) == 401


def test_MTLS_the_wsgi_server_reports_the_certificate_of_the_connection(harness: Harness) -> None:
    app, fields = harness.server.wsgi_app(), fields_of(by_authority(harness))
    assert wsgi_post(app, fields, SSL_CLIENT_CERT=CLIENT.pem) == 200
    assert wsgi_post(app, fields, HTTPS_CC=CLIENT.pem) == 200
    assert wsgi_post(app, fields, SSL_CLIENT_CERT=OTHER.pem) == 401
    assert wsgi_post(app, fields, SSL_CLIENT_CERT="hello") == 401
    assert wsgi_post(app, fields, HTTP_SSL_CLIENT_CERT=CLIENT.escaped) == 401
    assert wsgi_post(app, fields) == 401
    below = {"SSL_CLIENT_CERT": BELOW.pem, "SSL_CLIENT_CERT_CHAIN_0": INTERMEDIATE.pem}
    assert wsgi_post(app, fields, **below) == 200


def test_MTLS_a_header_counts_from_a_trusted_proxy_alone(make: Make) -> None:
    harness = make_one(make, MutualTls("nginx", authorities=AUTHORITY.pem))
    fields, proxies = fields_of(by_authority(harness)), ["10.0.0.0/24", "unix"]
    asgi = harness.server.asgi_app(trusted_proxies=proxies)
    wsgi = harness.server.wsgi_app(trusted_proxies=proxies)

    def statuses(
        peer: str, *values: str, port: int = 40_000, forwarded: str | None = None
    ) -> list[int]:
        headers = [("ssl-client-cert", value) for value in values]
        environ: dict[str, Any] = {"REMOTE_ADDR": peer, "REMOTE_PORT": str(port)}
        if values:
            environ["HTTP_SSL_CLIENT_CERT"] = ",".join(values)
        if forwarded is not None:
            headers.append(("x-forwarded-for", forwarded))
            environ["HTTP_X_FORWARDED_FOR"] = forwarded
        return [
            asgi_post(asgi, fields, headers, client=(peer, port) if peer else None),
            wsgi_post(wsgi, fields, **environ),
        ]

    assert statuses("10.0.0.7", CLIENT.escaped) == [200, 200]
    assert statuses("10.0.0.7", CLIENT.escaped, forwarded="192.0.2.1") == [200, 200]
    assert statuses("", CLIENT.escaped) == [200, 200]
    assert statuses("10.0.1.7", CLIENT.escaped) == [401, 401]
    assert statuses("testclient", CLIENT.escaped) == [200, 200]  # no address: as a Unix socket
    assert statuses("10.0.0.7", OTHER.escaped, CLIENT.escaped) == [401, 401]
    assert statuses("10.0.0.7", "%FF" * 9000) == [401, 401]
    assert statuses("10.0.0.7") == [401, 401]
    # What a middleware has taken from X-Forwarded-For is no peer.
    assert statuses("10.0.0.7", CLIENT.escaped, port=0, forwarded="10.0.0.7") == [401, 401]
    spelled = "192.0.2.1, 10.0.0.7:40000"
    assert statuses("10.0.0.7", CLIENT.escaped, forwarded=spelled) == [401, 401]
    assert statuses("10.0.0.7", CLIENT.escaped, forwarded="10.0.0.7:1") == [200, 200]


def test_MTLS_the_peer_is_the_one_that_werkzeugs_proxy_fix_has_replaced(make: Make) -> None:
    from werkzeug.middleware.proxy_fix import ProxyFix

    harness = make_one(make, MutualTls("traefik", authorities=AUTHORITY.pem))
    fields = fields_of(by_authority(harness))
    app = ProxyFix(harness.server.wsgi_app(trusted_proxies=["10.0.0.7"]))
    sent = {
        "HTTP_X_FORWARDED_TLS_CLIENT_CERT": CLIENT.base64,
        "HTTP_X_FORWARDED_FOR": "10.0.0.7",
    }
    assert wsgi_post(app, fields, REMOTE_ADDR="10.0.0.7", **sent) == 200
    assert wsgi_post(app, fields, REMOTE_ADDR="192.0.2.1", **sent) == 401


def test_MTLS_a_header_needs_a_proxy_that_is_named(make: Make) -> None:
    server = make_one(make, MutualTls(CertificateHeader("nginx"))).server
    hosts: tuple[Callable[..., object], ...] = (server.asgi_app, server.wsgi_app)
    for host in hosts:
        with pytest.raises(ConfigurationError, match="trusted_proxies="):
            host()
