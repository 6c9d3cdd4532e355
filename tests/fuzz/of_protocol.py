"""What issuers, APIs and clients send: claims, metadata, responses, messages."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from bearerguard.errors import ConfigurationError, TokenError, TokenRefused, TokenUnavailable
from bearerguard.protocol import (
    client_registration,
    introspection,
    jwt_claims,
    mcp,
    metadata,
    resource_metadata,
    scope,
    token_endpoint,
)
from bearerguard.protocol.events import logout_token
from bearerguard.protocol.jose import strict_json
from bearerguard.server.clients import client_metadata, redirect_uri
from bearerguard.server.clients.assertion import AssertionRules
from bearerguard.server.clients.authentication_methods import Rejected
from tests.fuzz.target import response, target, text

NOW = 1_800_000_000
_EXPECTED = jwt_claims.Expected(frozenset({"api"}))
_ASSERTIONS = AssertionRules(
    ["https://as.example"], ["https://as.example/oauth/token"], required=("sub", "jti")
)
_ISSUER = "https://id.example/tenant"


def _object(octets: bytes) -> dict[str, Any] | None:
    with suppress(ValueError):
        return strict_json.without_nulls(strict_json.loads_object(octets))
    return None


@target(
    b'{"iss":"i","aud":["api","b"],"exp":1800000060,"iat":1800000000,"sub":"ada","scope":"a b"}',
    b'{"iss":"i","aud":"api","exp":1800000060.5,"roles":["a",1],"scp":["a"],"act":{"sub":"b"}}',
    b'{"iss":"i","aud":"api","exp":9007199254740993,"nbf":true}',
    b'{"iss":"i","aud":"api","exp":1800000060,"cnf":{"jkt":"a"},"token_type":"DPoP"}',
    b'{"iss":"i","aud":"api","exp":1800000060,"auth_time":"0001-01-01T00:00:00Z","acr":"1"}',
    b'{"iss":"i","aud":"api","exp":1800000060,"auth_time":"9999-12-31T23:59:60Z","typ":["id"]}',
    b'{"iss":"i","aud":"api","exp":1800000060,"events":{},"nonce":"n","at_hash":"h"}',
)
def claims(octets: bytes) -> None:
    found = _object(octets)
    if found is None:
        return
    with suppress(TokenError):
        jwt_claims.check_no_logout_token(found)
        jwt_claims.check_not_id_token(found)
        jwt_claims.check_kind(found, accept_id_tokens=False)
    with suppress(TokenError):
        principal = jwt_claims.bearer({**found}, _EXPECTED, NOW)
        assert found["exp"] > NOW - _EXPECTED.leeway
        assert principal.expires_at == found["exp"]
        audience = found["aud"]
        assert "api" in (audience if isinstance(audience, list) else [audience])
        assert hash(principal) == hash(principal)


@target(b'{"scope":"a  b a"}', b'{"scp":["a","",1]}', b'{"scope":1}', b'"a"')
def scope_claim(octets: bytes) -> None:
    found = _object(octets)
    given = text(octets)
    assert scope.parse(scope.build(given.split(" "))) == scope.parse(given)
    assert scope.is_scope_token(given) is bool(
        given and all(each not in '"\\' and "!" <= each <= "~" for each in given)
    )
    if found is not None:
        with suppress(ValueError):
            assert all(each and isinstance(each, str) for each in scope.granted(found))


@target(
    b'200\nContent-Type: application/json\n\n{"active":true,"scope":"a","exp":1800000060}',
    b'200\nContent-Type: application/json\n\n{"active":"true"}',
    b'400\n\n{"error":"unsupported_token_type"}',
    b"401\n\n",
    b"200\nContent-Type: application/token-introspection+jwt\n\n"
    b"eyJhbGciOiJFUzI1NiIsInR5cCI6InRva2VuLWludHJvc3BlY3Rpb24rand0In0."
    b"eyJpc3MiOiJpIiwiYXVkIjoiYXBpIiwiaWF0IjoxODAwMDAwMDAwLCJ0b2tlbl9pbnRyb3NwZWN0aW9uIjp7ImFjdGl2"
    b"ZSI6dHJ1ZX19.AA",
    b'200\n\n{"issuer":"https://id.example/tenant","introspection_endpoint":"https://id.example/i",'
    b'"introspection_endpoint_auth_methods_supported":["client_secret_basic",1]}',
)
def introspection_response(octets: bytes) -> None:
    given = response(octets)
    for signed in (False, True):
        with suppress(introspection.IntrospectionFailed):
            found = introspection.read(given, signed=signed)
            assert given.status == 200
            if isinstance(found, introspection.SignedResponse):
                with suppress(introspection.IntrospectionFailed):
                    members = introspection.signed_members(
                        found, issuers=["i"], audience=frozenset({"api"}), now=NOW
                    )
                    assert members is None or "active" not in members
            else:
                assert not signed
                assert found is None or b"true" in given.body
    with suppress(ValueError):
        endpoint, methods = introspection.endpoint_and_methods(given.body, _ISSUER)
        assert isinstance(endpoint, str)
        assert all(isinstance(each, str) for each in methods)


@target(
    b'https://id.example/tenant\n{"issuer":"https://id.example/tenant","jwks_uri":"https://a/"}',
    b'https://id.example/tenant/\n{"issuer":"HTTPS://ID.example:443/tenant"}',
    b"https://id.example/.well-known/openid-configuration\n{}",
    b'http://[::1\n{"issuer":"http://[::1","access_token_issuer":"http://[::1"}',
    b"https://user:password@id.example\n[]",
    b"id.example:8080/realms/a/protocol/openid-connect/token\n{}",
)
def issuer_metadata(octets: bytes) -> None:
    first, _, body = octets.partition(b"\n")
    issuer = text(first)
    assert isinstance(metadata.issuer_mistake(issuer), str)
    if metadata.is_https(issuer) or metadata.is_http(issuer):
        assert all(url.startswith("http") for url in metadata.metadata_urls(issuer))
        metadata.leads_here(issuer, _ISSUER)
        assert not (metadata.is_https(issuer) and metadata.is_loopback_http(issuer))
    with suppress(ValueError):
        assert isinstance(metadata.publisher(body, issuer), str)
    with suppress(ValueError):
        published = metadata.parse(body, issuer)
        assert published["issuer"] == issuer
        assert isinstance(metadata.endpoint(published, "jwks_uri", "jwks_uri="), str)


@target(
    b'https://api.example/v1/a\n{"resource":"https://api.example/v1","scopes_supported":["a",1]}',
    b'https://api.example\n{"resource":"https://API.example:443/"}',
    b'https://api.example\n{"resource":"https://api.example:99999/"}',
    b'https://api.example\n{"resource":"https://[/"}',
)
def api_metadata(octets: bytes) -> None:
    first, _, body = octets.partition(b"\n")
    url = text(first)
    if not (metadata.is_https(url) or metadata.is_http(url)):
        return  # who asks has checked it
    assert resource_metadata.metadata_urls(url)
    with suppress(ValueError):
        found = resource_metadata.parse(body, url)
        assert resource_metadata.origin(found.resource) == resource_metadata.origin(url)
        assert resource_metadata.metadata_url(found.resource)


@target(
    b'200\n\n{"access_token":"a","token_type":"Bearer","expires_in":3600,"scope":["a"]}',
    b'200\n\n{"access_token":"a","token_type":"bot","expires_in":"1e3","refresh_token":""}',
    b"200\nContent-Type: application/x-www-form-urlencoded\n\naccess_token=a&token_type=bearer",
    b"200\nContent-Type: application/x-www-form-urlencoded\n\naccess_token=%ff&access_token=a",
    b'200\n\n{"error":{"message":"m"},"access_token":"a"}',
    b'400\n\n{"error":"invalid_grant","error_description":"d"}',
    b"503\nRetry-After: 5\n\n",
    b"302\nLocation: https://a/b\n\n",
    b'200\n\n{"client_id":"a","client_secret":"s","client_secret_expires_at":1e300}',
    b'200\n\n{"issued_token_type":"urn:t","access_token":"a"}',
)
def token_response(octets: bytes) -> None:
    given = response(octets)
    assert isinstance(token_endpoint.is_done(given), bool)
    for kind in ("Bearer", "DPoP"):
        with suppress(TokenRefused, TokenUnavailable):
            found = token_endpoint.read(given, token_type=kind, assumed_type="Bearer")
            assert 200 <= given.status < 300
            assert found.access_token.isascii()
            assert found.access_token.isprintable()
            assert found.token_type == kind
            assert found.expires_in is None or 0 < found.expires_in < 1e10
    with suppress(TokenRefused, TokenUnavailable):
        token_endpoint.issued(given, "urn:t")
    with suppress(TokenRefused, TokenUnavailable):
        assert client_registration.read(given).client_id


@target(
    b'{"aud":"app","events":{"http://schemas.openid.net/event/backchannel-logout":{}},"sub":"a",'
    b'"jti":"j","iat":1800000000,"exp":1800000060}',
    b'{"aud":["app",[]],"events":[],"sid":1}',
)
def logout_claims(octets: bytes) -> None:
    found = _object(octets)
    if found is not None:
        with suppress(TokenError):
            logout = logout_token.parse(found, ["app"], 30, NOW)
            assert logout.subject or logout.session
            assert logout.expires_at > NOW - 30


@target(
    b"mcp-method: tools/call\nMcp-Name: =?base64?w6k=?=\n\n"
    b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"\xc3\xa9"}}',
    b'\n\n[{"method":"resources/read","params":{"uri":"a"}},{"id":2}]',
    b'\n\n{"method":"completion/complete","params":{"ref":{"type":"ref/prompt","name":"p"}}}',
    b'\n\n{"method":"subscriptions/listen","params":{"notifications":'
    b'{"resourceSubscriptions":["a"],"resource_subscriptions":null}}}',
    b"mcp-method: \nmcp-method: a\n\n{}",
)
def mcp_message(octets: bytes) -> None:
    head, _, body = octets.partition(b"\n\n")
    pairs = (line.partition(b":") for line in head.split(b"\n") if line)
    try:
        declared = mcp.from_headers((name, value.strip()) for name, _, value in pairs)
        operations = mcp.from_body(body, declared)
    except mcp.MessageError as error:
        strict_json.loads(mcp.error_body(error.code, str(error), error.request_id))
        return
    for each in operations:
        assert (each.kind is None) is (each.name is None)
        assert declared is None or each.method == declared.method


@target(
    b'{"redirect_uris":["https://app.example/cb"],"client_name":"A","grant_types":'
    b'["authorization_code","refresh_token"],"response_types":["code"]}',
    b'{"redirect_uris":["com.example:/cb","http://127.0.0.1/cb"],"application_type":"native"}',
    b'{"redirect_uris":["https://app.example/cb"],"application_type":["web"],"grant_types":{}}',
    b'{"redirect_uris":["https://[::1/cb"],"token_endpoint_auth_method":["none"]}',
    b'{"redirect_uris":["https://app.example/cb"],"token_endpoint_auth_method":"private_key_jwt",'
    b'"jwks":{"keys":[]},"jwks_uri":"https://app.example/jwks"}',
)
def registered_metadata(octets: bytes) -> None:
    found = _object(octets)
    if found is None:
        return
    with suppress(client_metadata.UnfitMetadata):
        read = client_metadata.read(
            found, auth_methods={"none", "private_key_jwt"}, default_method="none", name=""
        )
        assert read.redirect_uris
        assert read.name
        assert all(each.startswith("http") for each in read.origins)


@target(b"https://app.example/cb?a=1", b"http://127.0.0.1:80/cb", b"com.example:/cb", b"https://[")
def registered_redirect(octets: bytes) -> None:
    given = text(octets)
    matched = redirect_uri.matches(given, ["https://app.example/cb", "http://127.0.0.1/cb"])
    assert not matched or given.partition(":")[0] in {"https", "http"}
    with suppress(ConfigurationError):
        redirect_uri.check(given)
        assert redirect_uri.matches(given, [given])
        assert redirect_uri.with_parameters(given, [("a", "b c")]).startswith(given)


@target(
    b'{"aud":"https://as.example","iss":"c","sub":"c","jti":"j","exp":1800000060,"iat":1800000000}',
    b'{"aud":["https://as.example/oauth/%74oken"],"sub":"c","jti":1,"exp":1800000060,"iat":"now"}',
    b'{"aud":[[]],"iss":{},"sub":[],"jti":"","exp":1e308}',
)
def assertion_claims(octets: bytes) -> None:
    found = _object(octets)
    if found is not None and not isinstance(_ASSERTIONS.unfit(found, NOW), Rejected):
        assert NOW - 30 < found["exp"] <= NOW + 3630
        assert 0 < len(found["jti"]) <= 255
        assert _ASSERTIONS.used_until(found) > NOW
