"""Each provider's preset, on a token shaped like the provider's, with its keys in their place."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

from bearerguard import (
    ClaimMapping,
    ConfigurationError,
    Event,
    Guard,
    Introspection,
    Issuer,
    IssuerUnavailable,
    KeyPolicy,
    Principal,
    Response,
    TokenError,
    claim,
    providers,
)
from bearerguard.protocol.jose import base64url
from bearerguard.runtime.flow import Fetch
from bearerguard.runtime.messages import FetchFailed
from bearerguard.testing import SigningKey, sign
from tests.conformance.harness import NOON, Clock

TENANT = "72f988bf-86f1-41af-91ab-2d7cd011db47"
OTHER = "0d0d0d0d-86f1-41af-91ab-2d7cd011db47"
GUID = "6731de76-14a6-49ae-97bc-6eba6914391e"
KEY = SigningKey.generate("RS256", "k1")
SECOND = SigningKey.generate("RS256", "k1")
LIFE = {"iat": int(NOON), "exp": int(NOON) + 3600}


class Keys:
    """A transport that serves a provider's keys at one URL, and nothing else."""

    def __init__(self, place: str, document: Mapping[str, Any] | None = None) -> None:
        self.place = place
        self.document = {"keys": [KEY.jwk()]} if document is None else document
        self.authorization: list[str | None] = []

    def fetch(self, request: Fetch) -> Response:
        if request.url != self.place:
            raise FetchFailed(f"{request.url} is not {self.place}")
        self.authorization.append(dict(request.headers).get("authorization"))
        return Response(200, (), json.dumps(self.document).encode())

    async def afetch(self, request: Fetch) -> Response:
        return self.fetch(request)


def who(issuer: Issuer, keys: Keys, claims: Mapping[str, Any], **header: Any) -> Principal:
    """Return the principal of a token with these claims; `header` adds to alg and kid."""
    events: list[Event] = []
    guard = Guard(issuer, transport=keys, clock=Clock(), on_event=events.append)
    with guard:
        return guard.verify(token(claims, **header))


def token(claims: Mapping[str, Any], **header: Any) -> str:
    present = {name: value for name, value in {**LIFE, **claims}.items() if value is not None}
    return sign({"alg": "RS256", "kid": "k1", **header}, present, KEY)


def refused(message: str, *given: Any, **header: Any) -> None:
    with pytest.raises(TokenError, match=message):
        who(*given, **header)


def test_auth0() -> None:
    issuer = providers.auth0("example.eu.auth0.com", audience="https://api.example.com")
    keys = Keys("https://example.eu.auth0.com/.well-known/jwks.json")
    claims = {
        "iss": "https://example.eu.auth0.com/",
        "sub": "auth0|123456",
        "aud": ["https://api.example.com", "https://example.eu.auth0.com/userinfo"],
        "azp": "my_client",
        "scope": "openid profile read:recordings",
        "permissions": ["read:recordings", "delete:recordings"],
    }
    for typ in ("JWT", "at+jwt"):
        principal = who(issuer, keys, claims, typ=typ)
        assert (principal.subject, principal.client_id) == ("auth0|123456", "my_client")
        assert "read:recordings" in principal.scopes
        assert principal.roles == {"read:recordings", "delete:recordings"}
        assert principal.claims["permissions"] == ("read:recordings", "delete:recordings")
    refused("unknown_issuer", issuer, keys, {**claims, "iss": "https://example.eu.auth0.com"})
    refused("wrong_audience", issuer, keys, {**claims, "aud": "my_client"}, typ="JWT")


def test_auth0_encrypts_tokens_that_were_requested_without_an_audience() -> None:
    issuer = providers.auth0("example.eu.auth0.com", audience="https://api.example.com")
    header = {"alg": "dir", "enc": "A256GCM", "iss": issuer.url}
    encrypted = base64url.encode(json.dumps(header).encode()).decode() + "..c.c.c"
    with Guard(issuer) as guard:
        with pytest.raises(TokenError, match=r"encrypted_token.*audience= of the API"):
            guard.verify(encrypted)
        for other in ("e30..c.c.c", "!..c.c.c", "eyJpc3MiOjd9..c.c.c"):
            with pytest.raises(TokenError, match="encrypted_token") as error:
                guard.verify(other)
            assert "Auth0" not in str(error.value)


def test_okta() -> None:
    issuer = providers.okta("dev-1.okta.com", audience="api://default")
    keys = Keys("https://dev-1.okta.com/oauth2/default/v1/keys")
    claims = {
        "ver": 1,
        "jti": "AT.1",
        "iss": "https://dev-1.okta.com/oauth2/default",
        "aud": "api://default",
        "cid": "0oa1",
        "uid": "00u1",
        "scp": ["openid", "read"],
        "sub": "ada@example.com",
        "groups": ["Everyone", "admins"],
    }
    principal = who(issuer, keys, claims)
    assert (principal.subject, principal.client_id) == ("ada@example.com", "0oa1")
    assert principal.scopes == {"openid", "read"}
    assert principal.roles == {"Everyone", "admins"}
    refused("missing_claim.*cid", issuer, keys, {**claims, "cid": None})
    other = providers.okta("dev-1.okta.com", audience="a", authorization_server="aus1")
    assert other.url == "https://dev-1.okta.com/oauth2/aus1"


def test_the_tokens_of_oktas_organisation_server_are_never_validated_here() -> None:
    with pytest.raises(ConfigurationError, match="must not be validated by others"):
        providers.okta("dev-1.okta.com", audience="api", authorization_server=None)
    asked = providers.okta(
        "dev-1.okta.com",
        audience="api",
        authorization_server=None,
        introspection=Introspection("api", client_secret="s"),
    )
    assert (asked.url, asked.tokens) == ("https://dev-1.okta.com", "opaque")


def test_entra_version_2() -> None:
    issuer = providers.entra(TENANT, audience=GUID)
    keys = Keys(f"https://login.microsoftonline.com/{TENANT}/discovery/v2.0/keys")
    claims = {
        "aud": GUID,
        "iss": f"https://login.microsoftonline.com/{TENANT}/v2.0",
        "azp": "c1",
        "azpacr": "1",
        "name": "Ada",
        "oid": "o1",
        "scp": "Recordings.Read Recordings.Write",
        "roles": ["Admin"],
        "sub": "s1",
        "tid": TENANT,
        "ver": "2.0",
    }
    principal = who(issuer, keys, claims, typ="JWT", x5t="k1")
    assert (principal.subject, principal.client_id) == ("s1", "c1")
    assert principal.scopes == {"Recordings.Read", "Recordings.Write"}
    assert principal.roles == {"Admin"}
    daemon = {**claims, "scp": None, "sub": "o2", "oid": "o2"}
    assert who(issuer, keys, daemon, typ="JWT").scopes == frozenset()
    refused("missing_claim.*azp", issuer, keys, {**claims, "azp": None}, typ="JWT")
    elsewhere = {**claims, "iss": f"https://login.microsoftonline.com/{OTHER}/v2.0"}
    refused("unknown_issuer", issuer, keys, elsewhere, typ="JWT")


def test_entra_version_1() -> None:
    issuer = providers.entra(TENANT, audience=GUID, version=1)
    keys = Keys(f"https://login.microsoftonline.com/{TENANT}/discovery/keys")
    claims = {
        "aud": f"api://{GUID}",
        "iss": f"https://sts.windows.net/{TENANT}/",
        "appid": "c1",
        "appidacr": "1",
        "scp": "user_impersonation",
        "sub": "s1",
        "tid": TENANT,
        "ver": "1.0",
    }
    principal = who(issuer, keys, claims, typ="JWT")
    assert principal.client_id == "c1"
    assert principal.scopes == {"user_impersonation"}
    refused("missing_claim.*appid", issuer, keys, {**claims, "appid": None}, typ="JWT")


@pytest.mark.parametrize("version", [1, 2])
def test_entra_for_several_tenants(version: int) -> None:
    issuer = providers.entra(tenants=[TENANT], audience="api://recordings", version=version)
    part = "discovery/v2.0/keys" if version == 2 else "discovery/keys"
    keys = Keys(f"https://login.microsoftonline.com/{TENANT}/{part}")
    client = {"azp": "c1"} if version == 2 else {"appid": "c1"}
    for tenant, allowed in ((TENANT, True), (OTHER, False)):
        url = (
            f"https://login.microsoftonline.com/{tenant}/v2.0"
            if version == 2
            else f"https://sts.windows.net/{tenant}/"
        )
        claims = {"iss": url, "aud": "api://recordings", "sub": "s1", **client}
        if allowed:
            assert who(issuer, keys, claims, typ="JWT").issuer == url
        else:
            refused("unknown_issuer", issuer, keys, claims, typ="JWT")


class EntraKeys(Keys):
    """A transport that serves the keys of both versions of Entra, each at its own URL."""

    def __init__(self, tenant: str) -> None:
        super().__init__("nowhere")
        login = f"https://login.microsoftonline.com/{tenant}/discovery"
        self.places = {f"{login}/keys": SECOND, f"{login}/v2.0/keys": KEY}

    def fetch(self, request: Fetch) -> Response:
        key = self.places.get(request.url)
        if key is None:
            raise FetchFailed(f"{request.url} is none of {[*self.places]}")
        return Response(200, (), json.dumps({"keys": [key.jwk()]}).encode())


@pytest.mark.parametrize("several", [False, True], ids=["one tenant", "a pattern"])
def test_entra_in_both_versions(*, several: bool) -> None:
    api: dict[str, Any] = {"audience": [GUID, "api://recordings"]}
    issuers = (
        providers.entra_both_versions(tenants=[TENANT], **api)
        if several
        else providers.entra_both_versions(TENANT, **api)
    )

    def older(tenant: str = TENANT, **changed: Any) -> dict[str, Any]:
        url = f"https://sts.windows.net/{tenant}/"
        claims = {"iss": url, "aud": "api://recordings", "appid": "c1", "sub": "s1", "ver": "1.0"}
        return {**claims, "scp": "Recordings.Read", "tid": tenant, **LIFE, **changed}

    def newer(tenant: str = TENANT, **changed: Any) -> dict[str, Any]:
        url = f"https://login.microsoftonline.com/{tenant}/v2.0"
        claims = {"iss": url, "aud": GUID, "azp": "c1", "sub": "s1", "ver": "2.0"}
        return {**claims, "scp": "Recordings.Read", "tid": tenant, **LIFE, **changed}

    with Guard(*issuers, transport=EntraKeys(TENANT), clock=Clock()) as guard:
        for claims, key in ((older(), SECOND), (newer(), KEY)):
            token = sign({"alg": "RS256", "kid": "k1", "typ": "JWT"}, claims, key)
            principal = guard.verify(token)
            assert principal.issuer == claims["iss"]
            assert (principal.subject, principal.client_id) == ("s1", "c1")
            assert principal.scopes == {"Recordings.Read"}
        for claims, key, reason in (
            (older(), KEY, "bad_signature"),  # each version has keys of its own
            (newer(), SECOND, "bad_signature"),
            (older(OTHER), SECOND, "unknown_issuer"),
            (newer(OTHER), KEY, "unknown_issuer"),
            (older(aud="api://another"), SECOND, "wrong_audience"),
            (newer(azp=None), KEY, "missing_claim"),
        ):
            present = {name: value for name, value in claims.items() if value is not None}
            token = sign({"alg": "RS256", "kid": "k1", "typ": "JWT"}, present, key)
            with pytest.raises(TokenError, match=reason):
                guard.verify(token)


def test_cognito() -> None:
    issuer = providers.cognito("eu-west-1", "eu-west-1_AbC", client_ids=["c1", "c2"])
    url = "https://cognito-idp.eu-west-1.amazonaws.com/eu-west-1_AbC"
    keys = Keys(f"{url}/.well-known/jwks.json")
    claims = {
        "sub": "aaaaaaaa-bbbb",
        "cognito:groups": ["admins"],
        "iss": url,
        "client_id": "c2",
        "token_use": "access",
        "scope": "recordings/read",
        "auth_time": int(NOON),
        "username": "ada",
    }
    principal = who(issuer, keys, claims)
    assert principal.client_id == "c2"
    assert principal.roles == {"admins"}
    assert principal.scopes == {"recordings/read"}
    assert "aud" not in principal.claims
    refused("wrong_audience", issuer, keys, {**claims, "client_id": "c3"})
    refused("missing_claim", issuer, keys, {**claims, "client_id": None})
    identity = {**claims, "token_use": "id", "aud": "c2"}
    refused("bad_claim.*token_use", issuer, keys, identity)


def keycloak_keys(base: str) -> Keys:
    class Discovered(Keys):
        def fetch(self, request: Fetch) -> Response:
            if request.url == f"{base}/realms/main/.well-known/openid-configuration":
                document = {"issuer": f"{base}/realms/main", "jwks_uri": self.place}
                return Response(200, (), json.dumps(document).encode())
            if "oauth-authorization-server" in request.url:
                return Response(404)
            return super().fetch(request)

    return Discovered(f"{base}/realms/main/protocol/openid-connect/certs")


def test_keycloak() -> None:
    base = "https://sso.example.com"
    issuer = providers.keycloak(f"{base}/", "main", audience="recordings", clients=["my.api"])
    claims = {
        "jti": "trrtcc:1",
        "iss": f"{base}/realms/main",
        "aud": ["recordings", "account"],
        "sub": "f1",
        "typ": "Bearer",
        "azp": "web",
        "realm_access": {"roles": ["offline_access", "admin"]},
        "resource_access": {"my.api": {"roles": ["editor"]}, "account": {"roles": ["view"]}},
        "scope": "email profile read",
        "preferred_username": "ada",
    }
    principal = who(issuer, keycloak_keys(base), claims, typ="JWT")
    assert (principal.subject, principal.client_id) == ("f1", "web")
    assert principal.roles == {"offline_access", "admin", "editor"}
    assert principal.display_name == "ada"
    for wrong, reason in (({"aud": "account"}, "wrong_audience"), ({"aud": None}, "missing_claim")):
        refused(
            f"{reason}.*mapper of type Audience",
            issuer,
            keycloak_keys(base),
            {**claims, **wrong},
            typ="JWT",
        )
    for typ in ("ID", "Refresh", "Logout"):
        refused("bad_claim.*typ", issuer, keycloak_keys(base), {**claims, "typ": typ}, typ="JWT")
    asked = providers.keycloak(
        base, "main", audience="a", introspection=Introspection("api", client_secret="s")
    )
    assert asked.introspection is not None


def introspected(issuer: Issuer, place: str, metadata: str, members: dict[str, Any]) -> Any:
    """Return the principal of an opaque token for which the issuer responds with `members`."""

    class Asked(Keys):
        def fetch(self, request: Fetch) -> Response:
            if request.url == metadata:
                document = {"issuer": issuer.url, "introspection_endpoint": place}
                return Response(200, (), json.dumps(document).encode())
            if request.url != place:
                return Response(404)
            answer = json.dumps({"active": True, **LIFE, **members}).encode()
            return Response(200, (("Content-Type", "application/json"),), answer)

    with Guard(issuer, transport=Asked("nowhere"), clock=Clock()) as guard:
        return guard.verify("opaque-token")


def test_an_introspection_response_of_keycloak_is_read_like_its_token() -> None:
    issuer = providers.keycloak(
        "https://sso.example.com",
        "main",
        audience="recordings",
        clients="my.api",
        introspection=Introspection("recordings", client_secret="s"),
    )
    where = (
        f"{issuer.url}/protocol/openid-connect/token/introspect",
        f"{issuer.url}/.well-known/openid-configuration",
    )
    members = {
        "iss": issuer.url,
        "aud": ["recordings", "account"],
        "sub": "f1",
        "typ": "Bearer",
        "azp": "web",
        "realm_access": {"roles": ["admin"]},
        "resource_access": {"my.api": {"roles": ["editor"]}},
        "scope": "email read",
        "client_id": "web",
        "username": "ada",
        "token_type": "Bearer",
    }
    principal = introspected(issuer, *where, members)
    assert (principal.subject, principal.client_id) == ("f1", "web")
    assert principal.roles == {"admin", "editor"}
    assert principal.scopes == {"email", "read"}
    with pytest.raises(TokenError, match=r"bad_claim.*typ"):
        introspected(issuer, *where, {**members, "typ": "Refresh"})
    with pytest.raises(TokenError, match="mapper of type Audience"):
        introspected(issuer, *where, {**members, "aud": "account"})


def test_all_tokens_of_oktas_organisation_server_are_introspected() -> None:
    issuer = providers.okta(
        "dev-1.okta.com",
        audience="https://dev-1.okta.com",
        authorization_server=None,
        introspection=Introspection("api", client_secret="s"),
    )
    where = (
        f"{issuer.url}/oauth2/v1/introspect",
        f"{issuer.url}/.well-known/openid-configuration",
    )
    members = {
        "iss": issuer.url,
        "aud": issuer.url,
        "sub": "ada@example.com",
        "client_id": "0oa1",
        "uid": "00u1",
        "scope": "openid profile",
        "token_type": "Bearer",
        "username": "ada@example.com",
    }
    principal = introspected(issuer, *where, members)
    assert (principal.subject, principal.client_id) == ("ada@example.com", "0oa1")
    assert principal.scopes == {"openid", "profile"}


def test_google() -> None:
    issuer = providers.google(
        audience="https://api.example.com", service_accounts=["job@p.iam.gserviceaccount.com"]
    )
    keys = Keys("https://www.googleapis.com/oauth2/v3/certs")
    claims = {
        "iss": "https://accounts.google.com",
        "aud": "https://api.example.com",
        "azp": "1234",
        "sub": "1234",
        "email": "job@p.iam.gserviceaccount.com",
        "email_verified": True,
        "at_hash": "x",
    }
    for spelling in ("https://accounts.google.com", "accounts.google.com"):
        principal = who(issuer, keys, {**claims, "iss": spelling}, typ="JWT")
        assert principal.issuer == "https://accounts.google.com"
        assert principal.subject == "1234"
        assert principal.claims["iss"] == spelling
    for wrong in ({"email": "other@p.iam.gserviceaccount.com"}, {"email_verified": False}):
        refused("bad_claim", issuer, keys, {**claims, **wrong}, typ="JWT")
    anybody = providers.google(audience="https://api.example.com")
    assert who(anybody, keys, {**claims, "email": None}, typ="JWT").subject == "1234"


def certificate(key: SigningKey) -> str:
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "securetoken")])
    now = dt.datetime.now(dt.UTC)
    builder = x509.CertificateBuilder(name, name, key.private.public_key(), 1, now, now)
    signed = builder.sign(key.private, hashes.SHA256())
    return signed.public_bytes(Encoding.PEM).decode()


def test_firebase() -> None:
    issuer = providers.firebase("my-project")
    place = (
        "https://www.googleapis.com/robot/v1/metadata/x509/securetoken@system.gserviceaccount.com"
    )
    keys = Keys(
        place, {"k0": certificate(SigningKey.generate("RS256", None)), "k1": certificate(KEY)}
    )
    claims = {
        "iss": "https://securetoken.google.com/my-project",
        "aud": "my-project",
        "auth_time": int(NOON),
        "user_id": "u1",
        "sub": "u1",
        "firebase": {"sign_in_provider": "password"},
    }
    assert who(issuer, keys, claims, typ="JWT").subject == "u1"
    refused("wrong_audience", issuer, keys, {**claims, "aud": "another"}, typ="JWT")
    refused("unknown_key", issuer, keys, claims, typ="JWT", kid="k2")
    refused("bad_signature", issuer, keys, claims, typ="JWT", kid="k0")


def test_kubernetes(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("first\n")
    issuer = providers.kubernetes(
        audience="recordings", token_file=file, key_policy=KeyPolicy(cooldown=1)
    )
    keys = Keys("https://kubernetes.default.svc/openid/v1/jwks")
    claims = {
        "aud": ["recordings"],
        "iss": "https://kubernetes.default.svc.cluster.local",
        "sub": "system:serviceaccount:prod:worker",
        "kubernetes.io": {"namespace": "prod", "serviceaccount": {"name": "worker"}},
        "nbf": int(NOON),
    }
    assert who(issuer, keys, claims).subject == "system:serviceaccount:prod:worker"
    file.write_text("renewed\n")
    who(issuer, keys, claims)
    assert keys.authorization == ["Bearer first", "Bearer renewed"]
    narrow = providers.kubernetes(
        audience="recordings",
        token_file=None,
        claims=ClaimMapping(required={"kubernetes.io.namespace": "prod"}),
    )
    assert who(narrow, keys, claims).is_authenticated
    assert keys.authorization[-1] is None
    elsewhere = {**claims, "kubernetes.io": {"namespace": "test"}}
    refused("bad_claim.*namespace", narrow, keys, elsewhere)
    file.unlink()
    with pytest.raises(IssuerUnavailable, match="FileNotFoundError"):
        who(issuer, keys, claims)


def test_github_actions() -> None:
    issuer = providers.github_actions(
        audience="recordings", repository="octo/api", environment=["prod", "staging"]
    )
    keys = Keys("https://token.actions.githubusercontent.com/.well-known/jwks")
    claims = {
        "jti": "j",
        "sub": "repo:octo/api:environment:prod",
        "aud": "recordings",
        "ref": "refs/heads/main",
        "repository": "octo/api",
        "repository_owner": "octo",
        "environment": "prod",
        "iss": "https://token.actions.githubusercontent.com",
        "nbf": int(NOON) - 600,
    }
    principal = who(issuer, keys, claims, typ="JWT", x5t="x")
    assert principal.subject == "repo:octo/api:environment:prod"
    assert claim("ref", "refs/heads/main").met_by(principal)
    for wrong in ({"repository": "evil/api"}, {"environment": "dev"}):
        refused("bad_claim", issuer, keys, {**claims, **wrong}, typ="JWT")
    refused("missing_claim.*environment", issuer, keys, {**claims, "environment": None}, typ="JWT")


# What os.environ.get(...) returns for a variable that nobody set.
UNSET: Any = None

MISTAKES: list[tuple[str, Callable[[], object]]] = [
    (r"domain: pass a host", lambda: providers.auth0("https://example.auth0.com/", audience="a")),
    (r"domain: pass a host", lambda: providers.okta("dev/1", audience="a")),
    (r"entra\(\): pass a tenant", lambda: providers.entra(audience="a")),
    (r"entra\(\): pass a tenant", lambda: providers.entra(TENANT, tenants=[TENANT], audience="a")),
    (r"tenant: 'common' is never", lambda: providers.entra("common", audience="a")),
    (r"tenant: .*lower case", lambda: providers.entra(tenants=[TENANT.upper()], audience="a")),
    (r"tenants=", lambda: providers.entra(tenants=[], audience="a")),
    (r"audience=: pass a name", lambda: providers.entra(TENANT, audience=UNSET)),
    (r"audience=: pass a name", lambda: github(audience=UNSET, repository="octo/api")),
    (r"service_accounts=", lambda: providers.google(audience="a", service_accounts=[])),
    (r"clients=", lambda: providers.keycloak("https://id.test", "r", audience="a", clients=[7])),  # type: ignore[list-item]
    (r"realm: pass", lambda: providers.keycloak("https://id.test", "/", audience="a")),
    (r"Issuer\(url\)", lambda: providers.keycloak(UNSET, "r", audience="a")),
    (
        r"authorization_server: pass",
        lambda: providers.okta("dev.okta.com", audience="a", authorization_server=".."),
    ),
    (r"region: pass", lambda: providers.cognito(UNSET, "pool", client_ids="c")),
    (r"user_pool: pass", lambda: providers.cognito("eu-west-1", "", client_ids="c")),
    (r"version=", lambda: providers.entra(TENANT, audience="a", version=3)),
    (
        r"version=: leave it out",
        lambda: providers.entra_both_versions(TENANT, audience="a", version=1),  # type: ignore[call-arg]
    ),
    (r"audience=: this is GitHub's default", lambda: github(audience="https://github.com/octo")),
    (r"repository= or repository_owner=", lambda: github(ref="refs/heads/main")),
    (r"audience=", lambda: providers.google(audience="")),
]


def github(**options: Any) -> Issuer:
    return providers.github_actions(**{"audience": "recordings", **options})


@pytest.mark.parametrize(("message", "mistake"), MISTAKES)
def test_a_mistake_is_named(message: str, mistake: Callable[[], object]) -> None:
    with pytest.raises(ConfigurationError, match=message):
        mistake()


def test_one_name_may_stand_for_a_list_of_one() -> None:
    keycloak = providers.keycloak("https://id.test", "r", audience="a", clients="web")
    assert keycloak.claims.roles == ("realm_access.roles", "resource_access.web.roles")
    google = providers.google(audience="a", service_accounts="svc@p.iam.gserviceaccount.com")
    keys = Keys("https://www.googleapis.com/oauth2/v3/certs")
    claims = {"iss": google.url, "aud": "a", "sub": "1", "email_verified": True}
    mine, other = "svc@p.iam.gserviceaccount.com", "s"
    assert who(google, keys, {**claims, "email": mine}, typ="JWT").subject == "1"
    refused("bad_claim", google, keys, {**claims, "email": other}, typ="JWT")


def test_claims_that_a_preset_requires_stay_required() -> None:
    """Else an ID token would pass at an API that only configures its roles."""
    mine = ClaimMapping(roles="my_roles", required="tenant")
    issuer = providers.keycloak("https://id.test", "r", audience="a", claims=mine)
    assert issuer.claims == ClaimMapping(
        roles="my_roles", required={"typ": "Bearer", "tenant": None}
    )
    alone = providers.firebase("p", claims=ClaimMapping(roles="r"))
    assert alone.claims == ClaimMapping(roles="r", required=["sub", "auth_time"])


def test_the_token_for_the_keys_stays_beside_other_options(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("t")

    def token(**options: Any) -> object:
        issuer = providers.kubernetes(audience="a", token_file=file, **options)
        token = issuer.key_policy.token
        return token() if callable(token) else token

    assert token() == "t"
    assert token(key_policy=KeyPolicy(refresh=60)) == "t"
    assert token(key_policy=KeyPolicy(token="mine")) == "mine"
    assert token(jwks_uri="https://k.test/keys") == "t"
    assert token(keys=KEY.jwk()) is None
    both = {"jwks_uri": "https://k.test/keys", "key_policy": KeyPolicy(token="mine")}
    with pytest.raises(ConfigurationError, match="exclude each other"):
        token(keys=KEY.jwk(), **both)


def test_options_override_the_preset() -> None:
    issuer = providers.auth0("example.auth0.com", audience="a", keys=KEY.jwk(), leeway=5)
    assert (issuer.jwks_uri, issuer.leeway) == (None, 5)
    claims = {"iss": issuer.url, "aud": "a", "sub": "s"}
    assert who(issuer, Keys("nowhere"), claims, typ="JWT").subject == "s"


@pytest.mark.parametrize(
    "name",
    [
        *("auth0", "okta", "entra", "cognito", "keycloak"),
        *("google", "firebase", "kubernetes", "github_actions"),
    ],
)
def test_each_has_a_row_in_the_documentation(name: str) -> None:
    page = (Path(__file__).parent.parent / "docs" / "providers.md").read_text()
    assert f"\n| `{name}` |" in page
    assert (getattr(providers, name).__doc__ or "").strip()
