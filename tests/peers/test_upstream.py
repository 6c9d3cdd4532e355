"""Users of our server sign in at the certified oidc-provider, over real HTTP."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self
from urllib.parse import parse_qs, urlencode, urlsplit

import argon2
import httpx2
import pytest

from bearerguard.protocol import pkce
from bearerguard.server import (
    AuthorizationServer,
    PeopleOptions,
    PersonalTokens,
    Registered,
    UpstreamLogin,
)
from tests.peers.conftest import HERE, OidcProvider, oidc_provider
from tests.processes import free_port
from tests.server.harness import claims, hidden_fields
from tests.uvicorn_thread import running

CALLBACK, VERIFIER = "http://127.0.0.1:9/callback", "v" * 43


@dataclass
class Parties:
    """The provider, our server, and an app."""

    provider: OidcProvider
    url: str
    server: AuthorizationServer
    app: Registered
    events: list[Any]

    def link(self, **fields: str) -> str:
        asked = {
            "client_id": self.app.client_id,
            "redirect_uri": CALLBACK,
            "response_type": "code",
            "scope": "read",
            "code_challenge": pkce.challenge(VERIFIER),
            "code_challenge_method": "S256",
        }
        return f"{self.url}/oauth/authorize?{urlencode(asked | fields)}"

    def redeem(self, location: str) -> dict[str, Any]:
        answer = httpx2.post(
            f"{self.url}/oauth/token",
            data={
                "grant_type": "authorization_code",
                "code": parse_qs(urlsplit(location).query)["code"][0],
                "redirect_uri": CALLBACK,
                "code_verifier": VERIFIER,
                "client_id": self.app.client_id,
                "client_secret": self.app.client_secret,
            },
        )
        found: dict[str, Any] = answer.raise_for_status().json()
        return found

    def is_active(self, token: str) -> bool:
        answer = httpx2.post(
            f"{self.url}/oauth/introspect",
            data={
                "token": token,
                "client_id": self.app.client_id,
                "client_secret": self.app.client_secret,
            },
        )
        return answer.raise_for_status().json()["active"] is True

    def reasons(self) -> list[Any]:
        failed = [each for each in self.events if each.code == "upstream_login_failed"]
        return [each.details["reason"] for each in failed]


class Visitor:
    """Somebody with a browser without scripts, which keeps its cookies."""

    def __init__(self) -> None:
        self.client = httpx2.Client(timeout=60)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.client.close()

    def sign_in(self, link: str, name: str = "ada") -> httpx2.Response:
        """Go through all pages, and return the last response: a redirect to the app, or a page."""
        return self.follow(self.client.get(link), name)

    def follow(self, answer: httpx2.Response, name: str) -> httpx2.Response:
        """Go on from a response, as `sign_in` does."""
        for _ in range(30):
            location = answer.headers.get("location", "")
            if location.startswith(CALLBACK):
                return answer
            if answer.is_redirect:
                answer = self.client.get(str(answer.url.join(location)))
            elif "/oauth/login/upstream/example" in answer.text:
                posted = answer.url.join("/oauth/login/upstream/example")
                answer = self.client.post(posted, data=hidden_fields(answer.text))
            elif "Submitting Callback" in answer.text:  # it ends its session of another user
                action = re.search(r'action="([^"]+)"', answer.text)
                assert action is not None
                posted = answer.url.join(action[1])
                answer = self.client.post(posted, data=hidden_fields(answer.text))
            elif prompt := re.search(r'name="prompt" value="(\w+)"', answer.text):
                action = re.search(r'action="([^"]+)"', answer.text)
                assert action is not None
                form = {"prompt": prompt[1]}
                if prompt[1] == "login":
                    form |= {"login": name, "password": "any"}
                answer = self.client.post(str(answer.url.join(action[1])), data=form)
            else:
                return answer
        raise AssertionError("the pages never end")


@contextmanager
def parties(
    folder: Path, *, logout: bool = False, password_login: bool = True, **environ: str
) -> Generator[Parties]:
    port = free_port()
    url, events = f"http://127.0.0.1:{port}", list[Any]()
    environ["UPSTREAM_REDIRECT"] = f"{url}/oauth/login/callback/example"
    if logout:
        environ["UPSTREAM_LOGOUT"] = f"{url}/oauth/backchannel_logout/example"
    with oidc_provider(**environ) as provider:
        login = UpstreamLogin(
            provider.url,
            client_id="server",
            client_secret="server: secret+with %signs",
            name="Example",
            domains=["example.com"],
        )
        with AuthorizationServer(
            url,
            store=f"sqlite:///{folder}/auth.db",
            secret="a secret of the server only for tests",
            scopes={"read": "Read recordings"},
            personal_tokens=PersonalTokens(),
            people=PeopleOptions(
                upstreams=[login],
                password_login=password_login,
                password_parameters=argon2.profiles.CHEAPEST,
            ),
            on_event=events.append,
        ) as server:
            app = server.clients.add(
                "App", redirect_uris=[CALLBACK], scopes=["read"], require_consent=False
            )
            with running(server.asgi_app(), port):
                yield Parties(provider, url, server, app, events)


def test_a_user_of_oidc_provider_gets_tokens_of_our_server(tmp_path: Path) -> None:
    with parties(tmp_path) as there, Visitor() as ada, Visitor() as again:
        tokens = there.redeem(ada.sign_in(there.link()).headers["location"])
        found = claims(tokens["access_token"])
        [account] = there.server.users.all()
        assert (found["sub"], account.name) == (account.user_id, "User ada")
        assert abs(found["auth_time"] - time.time()) < 60
        # Signed in there already, the user sees no page of it; the account is the same.
        again.client.cookies = ada.client.cookies
        assert "code=" in again.sign_in(there.link()).headers["location"]
        assert len(there.server.users.all()) == 1


def test_AZ_08_a_demanded_login_is_done_anew_there(tmp_path: Path) -> None:
    with parties(tmp_path) as there, Visitor() as ada:
        first = claims(there.redeem(ada.sign_in(there.link()).headers["location"])["access_token"])
        for demand in ({"prompt": "login"}, {"max_age": "0"}):
            time.sleep(1.1)  # the times in tokens are whole seconds
            location = ada.sign_in(there.link(**demand)).headers["location"]
            later = claims(there.redeem(location)["access_token"])
            assert later["auth_time"] > first["auth_time"], demand
            assert later["sub"] == first["sub"]


def test_another_account_can_be_used_where_no_choice_of_accounts_is_offered(
    tmp_path: Path,
) -> None:
    with parties(tmp_path) as there, Visitor() as ada:
        consent = ada.sign_in(there.link(prompt="consent"))
        switch = re.search(r'formaction="([^"]+)"[^>]*>Use another account', consent.text)
        assert switch is not None, consent.text
        posted = ada.client.post(str(consent.url.join(switch[1])), data=hidden_fields(consent.text))
        answer = ada.follow(posted, "grace")
        assert "Use another account" in answer.text
        assert {each.name for each in there.server.users.all()} == {"User ada", "User grace"}
        assert there.reasons() == []


@pytest.mark.parametrize("offset", ["-25", "25"])
@pytest.mark.parametrize("demand", [{"prompt": "login"}, {"max_age": "0"}])
def test_AZ_08_a_demanded_login_is_done_anew_where_the_clock_is_off(
    tmp_path: Path, offset: str, demand: dict[str, str]
) -> None:
    with parties(tmp_path, CLOCK_OFFSET=offset) as there, Visitor() as ada:
        began = time.time()
        location = ada.sign_in(there.link(**demand)).headers["location"]
        found = claims(there.redeem(location)["access_token"])
        assert began - 5 < found["auth_time"] < time.time() + 5


def test_keys_that_rotate_there_are_found(tmp_path: Path) -> None:
    with parties(tmp_path) as there:
        for _ in range(2):
            with Visitor() as ada:
                assert "code=" in ada.sign_in(there.link()).headers["location"]
            there.provider.rotate(keep=False)
        assert there.reasons() == []


def test_a_clock_that_is_off_there_is_a_page(tmp_path: Path) -> None:
    with parties(tmp_path, CLOCK_OFFSET="7200") as there, Visitor() as ada:
        page = ada.sign_in(there.link())
        assert page.status_code == 400
        assert "sent a response that this site does not accept" in page.text
        assert there.reasons() == ["not_yet_valid"]


def test_an_outage_there_is_a_page_with_a_way_back(tmp_path: Path) -> None:
    with parties(tmp_path) as there, Visitor() as ada:
        there.provider.outage(on=True)
        page = ada.sign_in(there.link())
        assert (page.status_code, page.headers["retry-after"]) == (503, "5")
        assert "Example cannot be reached" in page.text
        there.provider.outage(on=False)
        back = re.search(r'<a class="[^"]*" href="([^"]+)"', page.text)
        assert back is not None
        time.sleep(5.1)  # it is asked every five seconds while it fails
        assert "code=" in ada.sign_in(str(page.url.join(back[1]))).headers["location"]


def test_who_signs_out_there_is_signed_out_here(tmp_path: Path) -> None:
    with parties(tmp_path, logout=True) as there, Visitor() as ada, Visitor() as eve:
        tokens = there.redeem(ada.sign_in(there.link()).headers["location"])
        others = there.redeem(eve.sign_in(there.link(), "eve").headers["location"])
        page = ada.client.get(f"{there.provider.url}/session/end")
        secret = re.search(r'name="xsrf" value="(\w+)"', page.text)
        assert secret is not None, page.text
        form = {"xsrf": secret[1], "logout": "yes"}
        ada.client.post(f"{there.provider.url}/session/end/confirm", data=form)
        assert there.provider.logouts == ["success"]
        assert not there.is_active(tokens["access_token"])
        assert there.is_active(others["access_token"])
        account = f"{there.url}/oauth/account"
        assert [each.client.get(account).status_code for each in (ada, eve)] == [303, 200]


def test_in_chromium_the_button_leads_through_the_provider_back_to_the_app(
    tmp_path: Path,
) -> None:
    """Its policy for forms (`form-action`) covers the redirects, too."""
    with parties(tmp_path) as there:
        plan = {
            "link": there.link(),
            "callback": CALLBACK,
            "button": "Continue with Example",
            "user": "ada",
            "picture": str(
                Path(os.environ.get("BEARERGUARD_PICTURES") or tmp_path) / "upstream-login.png"
            ),
        }
        location = browsed("upstream.mjs", plan)
        assert claims(there.redeem(location)["access_token"])["scope"] == "read"


def test_in_chromium_the_form_of_each_page_leads_to_the_provider_after_the_session(
    tmp_path: Path,
) -> None:
    """Without passwords here, the login is there: the policy of each page must allow it."""
    code = "/oauth/device?user_code=BCDF-GHJK"
    passwords = {"current": "one battery", "new": "another battery", "repeated": "another battery"}
    forms: list[dict[str, Any]] = [
        {"name": "account", "path": "/oauth/account", "button": "button[name=end]"},
        {
            "name": "password",
            "path": "/oauth/account/password",
            "button": "button.primary",
            "fields": passwords,
        },
        {
            "name": "tokens",
            "path": "/oauth/account/tokens",
            "button": "button.primary",
            "fields": {"name": "CI"},
        },
        {"name": "device", "path": code, "button": "button.primary"},
        {"name": "another account", "path": code, "button": "button.link", "ended": False},
    ]
    with parties(tmp_path, password_login=False) as there:
        there.server.users.add("ada", "correct horse battery")
        there.server.users.link("ada", issuer=there.provider.url, subject="ada")
        plan = {
            "link": there.link(),
            "url": there.url,
            "provider": there.provider.url,
            "callback": CALLBACK,
            "user": "ada",
            "forms": forms,
        }
        led = json.loads(browsed("upstream_forms.mjs", plan))
    assert led == {
        "account": "",
        "password": "",
        "tokens": "",
        "device": "",
        "another account": "select_account",
    }


def browsed(script: str, plan: dict[str, Any]) -> str:
    """Return what a script prints that drives Chromium."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        pytest.skip("chromium is not installed")
    done = subprocess.run(
        ["node", script, json.dumps(plan | {"chromium": chromium})],
        cwd=HERE,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_a_storm_of_logins_there_turns_nobody_away_and_leaves_tokens_alone(
    tmp_path: Path,
) -> None:
    """100 people come back from the provider at once; it takes 50 ms for each response."""
    people = 100
    with parties(tmp_path) as there:
        robot = there.server.clients.add(
            "Robot", grant_types=["client_credentials"], redirect_uris=[], scopes=["read"]
        )
        own = {
            "grant_type": "client_credentials",
            "client_id": robot.client_id,
            "client_secret": robot.client_secret,
        }
        with Visitor() as first:
            first.sign_in(there.link())
        visitors = [Visitor() for _ in range(people)]
        links = []
        for number, each in enumerate(visitors):
            links.append(_last_step(each, there, f"user{number}"))
        there.provider.delay(50)
        statuses: Counter[int] = Counter()
        slowest: list[float] = []
        done = threading.Event()

        def finish(visitor: Visitor, link: str) -> None:
            statuses[visitor.client.get(link).status_code] += 1

        def ask() -> None:
            while not done.is_set():
                began = time.perf_counter()
                httpx2.post(f"{there.url}/oauth/token", data=own).raise_for_status()
                slowest.append(time.perf_counter() - began)

        robots = threading.Thread(target=ask)
        robots.start()
        began = time.perf_counter()
        with ThreadPoolExecutor(people) as pool:
            list(pool.map(finish, visitors, links))
        seconds = time.perf_counter() - began
        done.set()
        robots.join()
        for each in visitors:
            each.client.close()
        print(
            f"{people} logins elsewhere in {seconds:.2f} s ({people / seconds:.0f}/s);"
            f" {len(slowest)} token requests meanwhile, the slowest {max(slowest) * 1000:.0f} ms"
        )
        assert statuses == {303: people}
        assert len(there.server.users.all()) == people + 1


def _last_step(visitor: Visitor, there: Parties, name: str) -> str:
    """Log in at the provider, and return the URL of the callback without opening it."""
    place = f"{there.url}/oauth/login/callback/example"
    get = visitor.client.get

    class Stopped(Exception):
        pass

    found: list[str] = []

    def stopping(url: Any, **options: Any) -> httpx2.Response:
        if str(url).startswith(place):
            found.append(str(url))
            raise Stopped
        return get(url, **options)

    visitor.client.get = stopping  # type: ignore[method-assign]
    with pytest.raises(Stopped):
        visitor.sign_in(there.link(), name)
    visitor.client.get = get  # type: ignore[method-assign]
    return found[0]
