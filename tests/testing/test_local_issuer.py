"""The issuer for tests, as its users use it."""

from __future__ import annotations

import json
import socket
import struct
from typing import Any
from urllib.parse import urlencode

import httpx2
import jwt
import pytest

from bearerguard import ClaimMapping, Guard, Issuer, IssuerUnavailable, TokenError
from bearerguard.runtime.flow import Fetch
from bearerguard.runtime.messages import Response
from bearerguard.testing import LocalIssuer, SigningKey, sign

ALGORITHMS = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512"]


@pytest.mark.parametrize("algorithm", [*ALGORITHMS, "EdDSA"])
def test_another_library_verifies_the_tokens(algorithm: str) -> None:
    issuer = LocalIssuer(algorithm=algorithm)
    token = issuer.token(subject="ada", scopes=["write"], claims={"tenant": "acme", "jti": None})
    key = jwt.PyJWK(issuer.jwks()["keys"][0])
    claims = jwt.decode(
        token, key, algorithms=[algorithm], audience=issuer.audience, issuer=issuer.url
    )
    assert (claims["sub"], claims["scope"], claims["tenant"]) == ("ada", "write", "acme")
    assert "jti" not in claims
    assert jwt.get_unverified_header(token)["typ"] == "at+jwt"


def test_keys_rotate_and_are_withdrawn() -> None:
    issuer = LocalIssuer(algorithm="ES256")
    first = issuer.key.kid
    assert first
    second = issuer.rotate(algorithm="EdDSA")
    assert [key["kid"] for key in issuer.jwks()["keys"]] == [first, second]
    assert issuer.key.algorithm == "EdDSA"
    issuer.remove(first)
    assert [key["kid"] for key in issuer.jwks()["keys"]] == [second]
    with pytest.raises(ValueError, match="only key"):
        issuer.remove(issuer.key.kid or "")
    with pytest.raises(ValueError, match="not published"):
        issuer.remove("unheard-of")


def test_an_issuer_serves_over_http_inside_the_block() -> None:
    issuer = LocalIssuer(algorithm="ES256")
    issuer.cache_control = "max-age=60"
    with issuer.serve() as url:
        assert issuer.url == url
        with Guard(Issuer(url, audience=issuer.audience)) as guard:
            assert guard.verify(issuer.token()).issuer == url
        answer = httpx2.get(f"{url}/jwks")
        assert answer.headers["cache-control"] == "max-age=60"
        assert httpx2.get(f"{url}/other").status_code == 404
        assert issuer.hits["/jwks"] == 2
        issuer.refuses = True
        with pytest.raises(httpx2.RemoteProtocolError):
            httpx2.get(url)
    assert issuer.url == "https://issuer.test"


def test_the_faults_of_the_issuer_make_it_unavailable_to_the_guard() -> None:
    issuer = LocalIssuer(algorithm="ES256")
    with issuer.guard() as guard:
        issuer.refuses = True
        with pytest.raises(IssuerUnavailable, match="refused"):
            guard.verify(issuer.token())


def test_anything_can_be_signed() -> None:
    issuer = LocalIssuer(algorithm="ES256")
    with issuer.guard() as guard, pytest.raises(TokenError, match="malformed_token"):
        guard.verify(sign(b"not JSON", {"iss": issuer.url}, issuer.key))
    assert "private" not in repr(SigningKey.generate("ES256", "a"))


def test_a_client_that_disconnects_is_not_logged(capfd: pytest.CaptureFixture[str]) -> None:
    issuer = LocalIssuer(algorithm="ES256")
    with issuer.serve() as url:
        host, port = url.removeprefix("http://").split(":")
        for request in (b"", b"GET /jwks HTTP/1.1\r\n"):
            client = socket.create_connection((host, int(port)))
            client.sendall(request)
            reset: Any = struct.pack("ii", 1, 0)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, reset)
            client.close()
        assert httpx2.get(f"{url}/jwks").status_code == 200
        issuer.extra_keys = [object()]  # cannot be JSON: a mistake in a test is shown
        with pytest.raises(httpx2.RemoteProtocolError):
            httpx2.get(f"{url}/jwks")
    output = capfd.readouterr().err
    assert "ConnectionResetError" not in output
    assert "not JSON serializable" in output


def test_opaque_tokens_are_introspected_for_authenticated_clients() -> None:
    issuer = LocalIssuer(algorithm="ES256")
    endpoint = f"{issuer.url}/introspect"
    token = issuer.opaque_token(subject="ada", expires_in=None)
    secret = issuer.introspection.client_secret

    def ask(method: str = "POST", **form: str) -> Response:
        body = urlencode({"token": token, **form}).encode()
        return issuer.transport().fetch(Fetch(method, endpoint, (), body))

    answer = ask(client_id="api", client_secret=secret)
    assert json.loads(answer.body)["sub"] == "ada"
    assert "exp" not in json.loads(answer.body)
    assert ask(client_id="api", client_secret="guessed").status == 401
    assert ask().status == 401
    assert ask("GET", client_id="api", client_secret=secret).status == 405
    basic = Fetch("POST", endpoint, (("authorization", "Basic !"),), b"token=x")
    assert issuer.transport().fetch(basic).status == 401
    issuer.introspection.revoke(token)
    assert json.loads(ask(client_id="api", client_secret=secret).body) == {"active": False}


@pytest.mark.parametrize("wrong", [{"scopes": "read"}, {"roles": "admin"}])
def test_a_text_in_the_place_of_a_list_is_refused(wrong: Any) -> None:
    issuer = LocalIssuer(algorithm="ES256")
    with pytest.raises(TypeError, match="pass a list such as"):
        issuer.token(**wrong)
    with pytest.raises(TypeError, match="pass a list such as"):
        issuer.opaque_token(**wrong)


def test_an_unknown_argument_of_a_token_is_refused() -> None:
    issuer = LocalIssuer(algorithm="ES256")
    for make in (issuer.token, issuer.opaque_token, issuer.headers):
        with pytest.raises(TypeError, match="lifetime"):
            make(lifetime=60)  # type: ignore[call-arg]


def test_an_issuer_of_tokens_like_a_provider_s_makes_a_guard_that_reads_them() -> None:
    issuer = LocalIssuer(
        "https://id.example.com/realms/acme",
        algorithm="ES256",
        token_type="JWT",
        claims=ClaimMapping(roles="realm_access.roles", required={"typ": "Bearer"}),
        jwks_uri="https://keys.example.com/acme",
    )
    assert repr(issuer) == "LocalIssuer('https://id.example.com/realms/acme')"
    with issuer.guard() as guard:
        token = issuer.token(roles=["admin"])
        assert guard.verify(token).roles == {"admin"}
        assert jwt.get_unverified_header(token)["typ"] == "JWT"
        assert issuer.hits["/acme"] == 1
