"""DPoP (RFC 9449): each request has a proof of its own, with its server's nonce."""

from __future__ import annotations

import jwt
import pytest

from bearerguard.client import MemoryStorage
from bearerguard.client.dpop import Proofs, new_key
from bearerguard.errors import TokenRefused
from bearerguard.protocol.jose.thumbprint import thumbprint
from tests.client.callers import NAMES, caller
from tests.client.scripted_server import manager, settle


def bound(server, **members):
    return lambda _: (200, [], server.granted(token_type="DPoP", **members))


def nonce_demanded(status=401):
    challenge = ("WWW-Authenticate", 'DPoP error="use_dpop_nonce", algs="ES256"')
    body = {"error": "use_dpop_nonce"}
    return lambda nonce: (status, [challenge, ("DPoP-Nonce", nonce)], body)


def key_of(asked):
    return thumbprint(jwt.get_unverified_header(asked.headers["dpop"])["jwk"])


@pytest.mark.parametrize("name", NAMES)
def test_CL_06_each_request_has_a_proof_of_its_own_by_one_key(server, time, name):
    server.answers["/token"] = bound(server)
    with caller(name, manager(server, time, dpop=True)) as call:
        for _ in range(2):
            assert call("GET", f"{server.url}/api?q=1").text == "t1"
        assert call("POST", f"{server.url}/api/x", data={"a": "b"}).status_code == 200
    asked = [*server.at("/token"), *server.at("/api"), *server.at("/api/x")]
    assert len(asked) == 4
    proofs = [each.proof() for each in asked]
    assert len({each["jti"] for each in proofs}) == 4
    assert len({key_of(each) for each in asked}) == 1
    assert "ath" not in proofs[0]
    assert all("ath" in each for each in proofs[1:])
    assert server.at("/api")[0].headers["authorization"] == "DPoP t1"


@pytest.mark.parametrize("status", [400, 401])
def test_CL_06_a_nonce_that_the_token_endpoint_demands_is_brought_once(server, time, status):
    grant = bound(server)

    def endpoint(asked):
        if "nonce" not in asked.proof():
            return nonce_demanded(status)("n-1")
        return grant(asked)

    server.answers["/token"] = endpoint
    tokens = manager(server, time, dpop=True)
    assert tokens.token().token_type == "DPoP"
    first, second = server.at("/token")
    assert first.proof()["jti"] != second.proof(nonce="n-1")["jti"]


def test_CL_06_a_token_endpoint_that_always_demands_another_nonce_is_asked_twice(server, time):
    server.answers["/token"] = lambda _: nonce_demanded(400)(f"n-{len(server.asked)}")
    with pytest.raises(TokenRefused, match="use_dpop_nonce"):
        manager(server, time, dpop=True).token()
    assert len(server.at("/token")) == 2


@pytest.mark.parametrize("name", NAMES)
def test_CL_06_a_nonce_that_an_api_demands_is_brought_once_and_kept_for_it(server, time, name):
    server.answers["/token"] = bound(server)

    def api(asked):
        if asked.proof().get("nonce") != "rs-1":
            return nonce_demanded()("rs-1")
        return 200, [], b"good"

    server.answers["/api"] = api
    with caller(name, manager(server, time, dpop=True)) as call:
        assert call("POST", f"{server.url}/api", data={"a": "b"}).text == "good"
        assert call("GET", f"{server.url}/api").text == "good"
    first, second, third = server.at("/api")
    assert first.proof()["jti"] != second.proof(nonce="rs-1")["jti"]
    third.proof(nonce="rs-1")
    assert second.form == {"a": "b"}
    assert len(server.at("/token")) == 1


@pytest.mark.parametrize("name", NAMES)
def test_CL_06_an_api_that_always_demands_another_nonce_is_asked_twice(server, time, name):
    server.answers["/token"] = bound(server)
    server.answers["/api"] = lambda _: nonce_demanded()(f"n-{len(server.asked)}")
    with caller(name, manager(server, time, dpop=True)) as call:
        assert call("GET", f"{server.url}/api").status_code == 401
    assert len(server.at("/api")) == 2


@pytest.mark.parametrize("name", NAMES)
def test_CL_06_a_token_and_a_nonce_may_both_be_refused_once(server, time, name):
    server.answers["/token"] = bound(server)

    def api(asked):
        if asked.token == "t1":
            return 401, [("WWW-Authenticate", 'DPoP error="invalid_token"')], b""
        if "nonce" not in asked.proof():
            return nonce_demanded()("rs-1")
        return 200, [], b"good"

    server.answers["/api"] = api
    with caller(name, manager(server, time, dpop=True)) as call:
        assert call("GET", f"{server.url}/api").text == "good"
    assert len(server.at("/api")) == 3


@pytest.mark.parametrize("error", ["invalid_dpop_proof", "use_dpop_nonce", "invalid_token"])
@pytest.mark.parametrize("name", NAMES)
def test_CL_06_where_a_redirect_leads_a_proof_is_made_for_there(server, time, name, error):
    server.answers["/token"] = bound(server)
    server.answers["/api"] = lambda _: (307, [("Location", "/moved?page=2")], b"")

    def moved(asked):
        htu = jwt.decode(asked.headers["dpop"], options={"verify_signature": False})["htu"]
        if not htu.endswith("/moved"):
            return 401, [("WWW-Authenticate", f'DPoP error="{error}"'), ("DPoP-Nonce", "n")], b""
        asked.proof(nonce="n")
        return 200, [], b"good"

    server.answers["/moved"] = moved
    with caller(name, manager(server, time, dpop=True)) as call:
        assert call("POST", f"{server.url}/api", data={"a": "b"}).text == "good"
    assert [each.form for each in server.at("/moved")] == [{"a": "b"}] * 2
    assert len(server.at("/api")) == 1
    assert len(server.at("/token")) == (2 if error == "invalid_token" else 1)


def test_CL_06_a_redirect_to_another_origin_carries_no_proof(server, other, time):
    server.answers["/token"] = bound(server)
    server.answers["/api"] = lambda _: (302, [("Location", f"{other.url}/api")], b"")
    with caller("requests", manager(server, time, dpop=True)) as call:
        assert call("GET", f"{server.url}/api").status_code == 401
    server.at("/api")[0].proof()
    assert not {"authorization", "dpop"} & set(other.at("/api")[0].headers)


def test_CL_06_nonces_are_kept_by_origin_and_taken_from_good_answers(server, other, time):
    server.answers["/token"] = lambda asked: (
        200,
        [("DPoP-Nonce", "as-1")],
        bound(other)(asked)[2],
    )
    other.answers["/api"] = lambda asked: (200, [("DPoP-Nonce", f"rs-{len(other.asked)}")], b"")
    tokens = manager(server, time, dpop=True, resources=other.url)
    with caller("httpx2", tokens) as call:
        for _ in range(3):
            call("GET", f"{other.url}/api")
    assert [each.proof().get("nonce") for each in other.at("/api")] == [None, "rs-1", "rs-2"]
    tokens.renew(tokens.lease())
    nonces = [each.proof().get("nonce") for each in server.at("/token")]
    assert "rs-3" not in nonces


@pytest.mark.parametrize("given", ["", "a b", "\u00e9", 'a"b', "x" * 1025, "a\\b"])
def test_CL_06_what_is_no_nonce_is_not_kept(given):
    proofs = Proofs(new_key())
    assert not proofs.note("https://h/x", given)
    assert proofs.note("https://h/x", "good")
    assert not proofs.note("https://h/y", "good")
    assert repr(proofs) == "Proofs()"


def test_CL_06_a_bearer_token_gets_no_proof_and_demands_of_one_are_the_callers(server, time):
    server.answers["/api"] = lambda _: nonce_demanded()("n-1")
    with caller("httpx2", manager(server, time)) as call:
        assert call("GET", f"{server.url}/api").status_code == 401
    assert len(server.at("/api")) == 1
    assert "dpop" not in server.at("/api")[0].headers


@pytest.mark.parametrize("kind", ["DPoP", "Bearer"])
def test_CL_06_of_several_challenges_that_of_the_tokens_own_type_counts(server, time, kind):
    both = ['Bearer error="invalid_token"', 'DPoP error="use_dpop_nonce"']
    lines = [("WWW-Authenticate", each) for each in (both if kind == "DPoP" else both[::-1])]
    server.answers["/token"] = lambda _: (200, [], server.granted(token_type=kind))

    def api(asked):
        good = "nonce" in asked.proof() if kind == "DPoP" else asked.token == "t2"
        return (200, [], b"good") if good else (401, [*lines, ("DPoP-Nonce", "rs-1")], b"")

    server.answers["/api"] = api
    with caller("httpx2", manager(server, time, dpop=kind == "DPoP")) as call:
        assert call("GET", f"{server.url}/api").text == "good"
    assert len(server.at("/token")) == (1 if kind == "DPoP" else 2)


def test_CL_06_a_token_that_another_process_kept_keeps_its_key(server, time):
    server.answers["/token"] = bound(server)
    storage = MemoryStorage()
    for _ in range(2):
        with caller("httpx2", manager(server, time, storage, dpop=True)) as call:
            assert call("GET", f"{server.url}/api").text == "t1"
    time.pass_by(4000)
    settle()
    with caller("requests", manager(server, time, storage, dpop=True)) as call:
        assert call("GET", f"{server.url}/api").text == "t2"
    assert len({key_of(each) for each in (*server.at("/token"), *server.at("/api"))}) == 1


def test_CL_08_a_bearer_token_in_place_of_a_bound_one_is_thrown_away(server, time):
    storage = MemoryStorage()
    tokens = manager(server, time, storage, dpop=True)
    with pytest.raises(TokenRefused, match="Bearer"):
        tokens.token()
    assert not storage.keys()


@pytest.mark.parametrize("kind", ["mac", "DPoP", "", None, 7, "Bearer "])
def test_CL_08_a_token_of_an_unknown_type_is_not_used(server, time, kind):
    server.answers["/token"] = lambda _: (200, [], server.granted(token_type=kind))
    storage = MemoryStorage()
    with pytest.raises(TokenRefused, match="unsupported_token_type"):
        manager(server, time, storage).token()
    assert not storage.keys()


def test_CL_08_client_credentials_are_asked_anew_and_no_refresh_token_is_kept(server, time):
    server.answers["/token"] = lambda _: (200, [], server.granted(refresh_token="r"))
    tokens = manager(server, time)
    assert tokens.token().refresh_token is None
    tokens.renew(tokens.lease())
    assert [each.form["grant_type"] for each in server.at("/token")] == ["client_credentials"] * 2


def test_CL_08_the_type_is_compared_in_any_case(server, time):
    server.answers["/token"] = lambda _: (200, [], server.granted(token_type="bEARER"))
    with caller("httpx", manager(server, time)) as call:
        call("GET", f"{server.url}/api")
    assert server.at("/api")[0].headers["authorization"] == "Bearer t1"
