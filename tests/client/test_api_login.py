"""A login that starts from an API's URL: discovery, registration, and what is bound to whom."""

from __future__ import annotations

import json
import socket
import threading
import urllib.request
from typing import cast
from urllib.parse import parse_qsl, urlencode, urlsplit

import anyio
import httpx2
import pytest
import requests

from bearerguard.client import (
    ApiLogin,
    BearerAuth,
    ClientCredentials,
    ClientRegistration,
    MemoryStorage,
    TokenManager,
)
from bearerguard.client.requests import BearerAuth as RequestsAuth
from bearerguard.errors import (
    ConfigurationError,
    DiscoveryError,
    InsufficientScope,
    LoginFailed,
    LoginRequired,
    TokenRefused,
    TokenUnavailable,
)
from tests.client.scripted_server import RESOURCE

APP = ClientRegistration(name="Agent", metadata={"software_id": "agent-1"})
DOCUMENT = "https://agent.example.com/client.json"


class Person:
    """Consents to each authorization request, and remembers what was requested."""

    def __init__(self):
        self.requested = []
        self.response = {}

    def open(self, url):
        asked = dict(parse_qsl(urlsplit(url).query))
        self.requested.append(asked)
        answer = {"state": asked["state"], **(self.response or {"code": "c"})}
        address = asked["redirect_uri"] + "?" + urlencode(answer)
        threading.Thread(target=urllib.request.urlopen, args=(address,)).start()


def registering(server):
    """Let a server register clients; each gets the next client id."""
    server.metadata["registration_endpoint"] = f"{server.url}/register"
    count = iter(range(1, 100))
    server.answers["/register"] = lambda _: (201, [], {"client_id": f"{server.url} {next(count)}"})


@pytest.fixture
def api(server, other):
    """An API at `other`, whose tokens come from `server`."""
    registering(server)
    other.about = {"resource": f"{other.url}/api", "authorization_servers": [server.url]}
    other.answers[f"{RESOURCE}/api"] = lambda _: (200, [], other.about)
    other.good = server.good
    return other


@pytest.fixture
def person():
    return Person()


def login(api, person, storage=None, app=APP, **options):
    storage = MemoryStorage() if storage is None else storage
    source = ApiLogin(
        f"{api.url}/api", app=app, storage=storage, open_browser=person.open, timeout=10, **options
    )
    return TokenManager(source, storage=storage)


def by_httpx2(tokens, url):
    with httpx2.Client(auth=BearerAuth(tokens, login=True)) as client:
        return client.get(url).status_code


def by_httpx2_async(tokens, url):
    async def called():
        async with httpx2.AsyncClient(auth=BearerAuth(tokens, login=True)) as client:
            return (await client.get(url)).status_code

    return anyio.run(called)


def by_requests(tokens, url):
    return requests.get(url, auth=RequestsAuth(tokens, login=True), timeout=10).status_code


@pytest.mark.parametrize("called", [by_httpx2, by_httpx2_async, by_requests])
def test_CL_11_nothing_but_the_url_is_needed(server, api, person, called):
    tokens = login(api, person)
    assert [called(tokens, f"{api.url}/api") for _ in range(2)] == [200, 200]
    assert len(person.requested) == 1
    (registered,) = server.at("/register")
    document = json.loads(registered.body)
    assert document["redirect_uris"] == [person.requested[0]["redirect_uri"]]
    assert {name: document[name] for name in document if name != "redirect_uris"} == {
        "client_name": "Agent",
        "software_id": "agent-1",
        "grant_types": ["authorization_code", "refresh_token"],
        "response_types": ["code"],
        "token_endpoint_auth_method": "none",
        "application_type": "native",
    }
    assert person.requested[0]["client_id"] == f"{server.url} 1"
    assert person.requested[0]["resource"] == f"{api.url}/api"
    assert server.at("/token")[0].form["client_id"] == f"{server.url} 1"
    assert not [each for each in server.asked if "authorization" in each.headers]


def test_without_login_nobody_is_asked(api, person):
    auth = BearerAuth(login(api, person))
    with pytest.raises(LoginRequired), httpx2.Client(auth=auth) as client:
        client.get(f"{api.url}/api")
    assert not person.requested


def test_a_source_without_a_login_cannot_log_in_on_demand(server):
    source = ClientCredentials(
        server.url, client_id="c", client_secret="s", resources=f"{server.url}/api"
    )
    with pytest.raises(ConfigurationError, match="login="):
        BearerAuth(TokenManager(source), login=True)


def test_many_refused_requests_ask_the_person_once(api, person):
    tokens = login(api, person)

    async def called():
        async with httpx2.AsyncClient(auth=BearerAuth(tokens, login=True)) as client:
            statuses = []

            async def one():
                statuses.append((await client.get(f"{api.url}/api")).status_code)

            async with anyio.create_task_group() as group:
                for _ in range(20):
                    group.start_soon(one)
        return statuses

    assert anyio.run(called) == [200] * 20
    assert len(person.requested) == 1


def test_a_registration_is_kept_and_its_port_used_again(server, api, person):
    storage = MemoryStorage()
    login(api, person, storage).login()
    login(api, person, storage).login()
    assert len(server.at("/register")) == 1
    first, second = person.requested
    assert first["redirect_uri"] == second["redirect_uri"]


def test_an_app_registers_again_when_its_port_is_taken(server, api, person):
    storage = MemoryStorage()
    login(api, person, storage).login()
    port = urlsplit(person.requested[0]["redirect_uri"]).port
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(("127.0.0.1", port))
        taken.listen()
        login(api, person, storage).login()
    assert len(server.at("/register")) == 2


def test_an_app_with_a_document_does_not_register_where_it_is_read(server, api, person):
    server.metadata["client_id_metadata_document_supported"] = True
    app = ClientRegistration(name="Agent", metadata_url=DOCUMENT)
    tokens = login(api, person, app=app)
    tokens.login()
    assert person.requested[0]["client_id"] == DOCUMENT
    assert not server.at("/register")
    server.answers["/token"] = lambda _: (200, [], server.granted(refresh_token="r"))
    tokens.login()
    tokens.renew(tokens.lease())
    assert server.at("/token")[-1].form["client_id"] == DOCUMENT


def test_a_server_that_wants_a_secret_gets_the_one_that_it_issued(server, api, person):
    server.metadata["token_endpoint_auth_methods_supported"] = ["client_secret_basic"]
    server.answers["/register"] = lambda _: (
        201,
        [],
        {"client_id": "c", "client_secret": "s", "client_secret_expires_at": 0},
    )
    tokens = login(api, person)
    tokens.login()
    assert json.loads(server.at("/register")[0].body)["token_endpoint_auth_method"] == (
        "client_secret_basic"
    )
    assert server.at("/token")[0].headers["authorization"].startswith("Basic ")


def test_an_expired_secret_is_replaced_by_another_registration(server, api, person):
    server.metadata["token_endpoint_auth_methods_supported"] = ["client_secret_post"]
    server.answers["/register"] = lambda _: (
        201,
        [],
        {"client_id": "c", "client_secret": "s", "client_secret_expires_at": 1000},
    )
    storage = MemoryStorage()
    for _ in range(2):
        login(api, person, storage, clock=lambda: 2000.0).login()
    assert len(server.at("/register")) == 2


def test_scopes_are_those_of_the_challenge_then_of_the_metadata(server, api, person):
    api.about["scopes_supported"] = ["read", "write"]
    login(api, person).login()
    login(api, person).login(['Bearer scope="read"'])
    login(api, person, scopes="own").login(['Bearer scope="read"'])
    server.metadata["scopes_supported"] = ["read", "offline_access"]
    login(api, person).login()
    assert [each["scope"] for each in person.requested] == [
        "read write",
        "read",
        "own",
        "read write offline_access",
    ]


def test_CL_03_a_step_up_requests_the_union_of_the_scopes(server, api, person):
    needed = {"GET": "read", "DELETE": "write"}

    def granted(asked):
        scopes = person.requested[-1]["scope"]
        token = server.granted(scope=scopes)
        held[token["access_token"]] = scopes
        return 200, [], token

    held: dict[str, str] = {}
    server.answers["/token"] = granted

    def answer(asked):
        scopes = held.get(asked.token)
        if scopes is None:
            return 401, [("WWW-Authenticate", 'Bearer scope="read"')], b""
        scope = needed[asked.method]
        if scope in scopes.split():
            return 200, [], b"done"
        # As some servers do: the error code is in the body alone.
        return 403, [("WWW-Authenticate", f'Bearer scope="{scope}"')], b"{}"

    api.answers["/api"] = answer
    with httpx2.Client(auth=BearerAuth(login(api, person), login=True)) as client:
        assert client.get(f"{api.url}/api").status_code == 200
        assert client.post(f"{api.url}/other").status_code == 404
        needed["GET"] = "write"
        assert client.get(f"{api.url}/api").status_code == 200
        assert [each["scope"] for each in person.requested] == ["read", "read write"]
        needed["GET"] = "admin"
        person.response = {"error": "access_denied"}
        with pytest.raises(TokenRefused, match="access_denied"):
            client.get(f"{api.url}/api")


def test_a_step_up_that_helps_nothing_ends(server, api, person):
    def answer(asked):
        if not asked.token:
            return 401, [], b""
        challenge = 'Bearer error="insufficient_scope", scope="write"'
        return 403, [("WWW-Authenticate", challenge)], b""

    api.answers["/api"] = answer
    server.answers["/token"] = lambda _: (200, [], server.granted(scope="read write"))
    with httpx2.Client(auth=BearerAuth(login(api, person), login=True)) as client:
        with pytest.raises(InsufficientScope):
            client.get(f"{api.url}/api")
        assert len(person.requested) == 1


def test_an_api_that_refuses_every_token_does_not_open_one_browser_after_another(
    server, api, person
):
    api.answers["/api"] = lambda _: (401, [], b"")
    with httpx2.Client(auth=BearerAuth(login(api, person), login=True)) as client:
        assert [client.get(f"{api.url}/api").status_code for _ in range(5)] == [401] * 5
    assert len(person.requested) == 1


def test_a_person_who_refuses_is_not_asked_again_at_once(api, person):
    person.response = {"error": "access_denied"}
    with httpx2.Client(auth=BearerAuth(login(api, person), login=True)) as client:
        for _ in range(3):
            with pytest.raises(TokenRefused, match="access_denied"):
                client.get(f"{api.url}/api")
    assert len(person.requested) == 1


def test_a_login_that_helped_does_not_bar_the_next_demand(server, api, person):
    held: dict[str, str] = {}

    def granted(asked):
        token = server.granted(scope=person.requested[-1].get("scope", ""))
        held[token["access_token"]] = token["scope"]
        return 200, [], token

    def answer(asked):
        if asked.token not in held:
            return 401, [], b""
        scope = next((each for each in wanted if each not in held[asked.token].split()), None)
        if scope is None:
            return 200, [], b""
        challenge = f'Bearer error="insufficient_scope", scope="{scope}"'
        return 403, [("WWW-Authenticate", challenge)], b""

    wanted = ["read"]
    server.answers["/token"], api.answers["/api"] = granted, answer
    with httpx2.Client(auth=BearerAuth(login(api, person), login=True)) as client:
        assert client.get(f"{api.url}/api").status_code == 200
        wanted.append("write")
        assert client.get(f"{api.url}/api").status_code == 200
    assert [each.get("scope") for each in person.requested] == [None, "read", "read write"]


def test_CL_11_nothing_of_one_issuer_goes_to_another(server, api, person, another):
    registering(another)
    server.answers["/token"] = lambda _: (200, [], server.granted(refresh_token="of-server"))
    storage = MemoryStorage()
    tokens = login(api, person, storage)
    with httpx2.Client(auth=BearerAuth(tokens, login=True)) as client:
        assert client.get(f"{api.url}/api").status_code == 200
        api.about["authorization_servers"] = [another.url]
        api.good = another.good
        assert client.get(f"{api.url}/api").status_code == 200
    assert [each["client_id"] for each in person.requested] == [
        f"{server.url} 1",
        f"{another.url} 1",
    ]
    sent = b"".join(each.body for each in another.asked)
    assert b"of-server" not in sent
    assert server.url.encode() not in sent.replace(b"%3A", b":").replace(b"%2F", b"/")


def test_a_refresh_goes_to_the_server_that_issued_the_token(server, api, person):
    server.answers["/token"] = lambda _: (200, [], server.granted(refresh_token="r"))
    storage = MemoryStorage()
    login(api, person, storage).login()
    tokens = login(api, person, storage)
    tokens.renew(tokens.lease())
    refresh = server.at("/token")[-1].form
    assert (refresh["grant_type"], refresh["resource"]) == ("refresh_token", f"{api.url}/api")
    assert len(person.requested) == 1
    server.answers["/revoke"] = lambda _: (200, [], b"")
    assert tokens.logout()
    assert server.at("/revoke")[0].form["token"] == "r"


def test_an_app_that_the_server_has_forgotten_registers_again(server, api, person):
    server.answers["/token"] = lambda _: (200, [], server.granted(refresh_token="r"))
    tokens = login(api, person)
    tokens.login()
    server.answers["/token"] = lambda _: (401, [], {"error": "invalid_client"})
    with pytest.raises(LoginRequired, match="no longer knows"):
        tokens.renew(tokens.lease())
    del server.answers["/token"]
    tokens.login()
    assert len(server.at("/register")) == 2


def test_a_login_that_the_server_ends_with_an_error_page_registers_again(server, api, person):
    storage = MemoryStorage()
    login(api, person, storage).login()
    away = ApiLogin(
        f"{api.url}/api", app=APP, storage=storage, open_browser=lambda _: None, timeout=0.3
    )
    with pytest.raises(LoginFailed, match="no response"):
        TokenManager(away, storage=storage).login()
    login(api, person, storage).login()
    assert len(server.at("/register")) == 2


def test_a_server_that_refuses_to_register_says_why(server, api, person):
    server.answers["/register"] = lambda _: (
        400,
        [],
        {"error": "invalid_client_metadata", "error_description": "no agents"},
    )
    with pytest.raises(LoginFailed, match="no agents"):
        login(api, person).login()
    server.answers["/register"] = lambda _: (503, [], b"")
    with pytest.raises(TokenUnavailable):
        login(api, person).login()
    server.answers["/register"] = lambda _: (201, [], {"client_secret": "s"})
    with pytest.raises(LoginFailed, match="no client_id"):
        login(api, person).login()


def test_a_server_without_registration_names_the_way_out(server, api, person):
    del server.metadata["registration_endpoint"]
    with pytest.raises(DiscoveryError, match=r"AuthorizationCode\(.*client_id="):
        login(api, person).login()


def test_a_registration_may_carry_an_initial_access_token(server, api, person):
    app = ClientRegistration(name="Agent", initial_access_token="first")
    login(api, person, app=app).login()
    assert server.at("/register")[0].headers["authorization"] == "Bearer first"
    assert "first" not in repr(app)


def test_an_api_without_metadata_has_its_issuer_at_its_own_origin(server, person):
    registering(server)
    login(server, person).login()
    assert "resource" not in person.requested[0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": " "}, "name="),
        ({"name": "a", "metadata_url": "http://a.example.com/c"}, "metadata_url="),
        ({"name": "a", "metadata_url": "https://a.example.com/"}, "metadata_url="),
        ({"name": "a", "private_key": "k"}, "private_key="),
        ({"name": "a", "metadata": {"redirect_uris": []}}, "redirect_uris"),
    ],
)
def test_a_registration_that_cannot_be_sent_is_refused(arguments, message):
    with pytest.raises(ConfigurationError, match=message):
        ClientRegistration(**arguments)


def test_an_api_login_checks_its_options(person):
    storage, wrong = MemoryStorage(), cast("ClientRegistration", "Agent")
    with pytest.raises(ConfigurationError, match="https"):
        ApiLogin("http://api.example.com", app=APP, storage=storage)
    with pytest.raises(ConfigurationError, match="ClientRegistration"):
        ApiLogin("https://api.example.com", app=wrong, storage=storage)
    assert repr(ApiLogin("https://api.example.com", app=APP, storage=storage))
