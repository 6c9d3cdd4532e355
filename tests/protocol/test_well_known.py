"""DISC-01: guard and client ask the well-known places by one rule."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable

import pytest

from bearerguard import ConfigurationError, FetchFailed, Guard, Issuer, IssuerUnavailable
from bearerguard.client import ClientCredentials, TokenManager
from bearerguard.errors import BearerGuardError, DiscoveryError, TokenUnavailable
from bearerguard.protocol import metadata
from bearerguard.protocol.http import document
from bearerguard.runtime.flow import Fetch
from bearerguard.runtime.messages import Response
from bearerguard.testing import LocalIssuer

REALM = "https://id.example.com/realm"
FIRST, SECOND, THIRD = metadata.metadata_urls(REALM)
HTML = b"<!doctype html><html><div id=app></div></html>"


class Net:
    """Answers at the first place what a test wants, and elsewhere as a good issuer does."""

    def __init__(self, first: object, second: object = None, third: object = None) -> None:
        self.issuer = LocalIssuer(REALM, audience="api")
        self.places = {FIRST: first, SECOND: second, THIRD: third or Response(410)}
        self.asked: list[Fetch] = []

    def fetch(self, request: Fetch) -> Response:
        self.asked.append(request)
        found = self.places.get(request.url)
        if isinstance(found, Exception):
            raise found
        if isinstance(found, Response):
            return found
        if request.url == f"{REALM}/token":
            return Response(200, (), b'{"access_token":"t","token_type":"Bearer","expires_in":60}')
        if request.url in {SECOND, THIRD}:
            return served(issuer=REALM)
        return self.issuer.transport().fetch(request)

    async def afetch(self, request: Fetch) -> Response:
        return self.fetch(request)

    @property
    def urls(self) -> list[str]:
        return [each.url for each in self.asked]


def served(**members: object) -> Response:
    known = {"jwks_uri": f"{REALM}/jwks", "token_endpoint": f"{REALM}/token"}
    return Response(200, (), json.dumps({**known, **members}).encode())


def ask_guard(net: Net) -> str | None:
    guard = Guard(Issuer(REALM, audience="api"), transport=net)
    return guard.verify(net.issuer.token()).subject


def ask_client(net: Net) -> str:
    source = ClientCredentials(REALM, client_id="app", client_secret="s3cret")
    return TokenManager(source, transport=net).token().access_token


ROLES = pytest.mark.parametrize("ask", [ask_guard, ask_client], ids=["guard", "client"])

UNUSABLE = [
    (FetchFailed("the connection was reset"), f"{FIRST}: the connection was reset"),
    (FetchFailed(f"{FIRST}: too slow", kind="timed_out"), f"{FIRST}: too slow"),
    (Response(404), "status 404"),
    (Response(204), "status 204"),
    (Response(500), "status 500"),
    (Response(503, (("retry-after", "9"),)), "status 503"),
    (Response(403), r"status 403 .*HttpTransport\(headers="),
    (Response(301, (("location", "//evil.example/a?b=c"),)), "redirect to 'https://evil.example':"),
    (Response(302, (("location", "http://["),)), "status 302, a redirect: it is not followed"),
    (Response(307), "status 307, a redirect: it is not followed"),
    (Response(200, (), HTML), "not JSON but HTML"),
    (Response(200, (), b"\n<?xml version='1.0'?><a/>"), "not JSON but XML"),
    (Response(200, (), b""), "the body is empty"),
    (Response(200, (), gzip.compress(b"{}")), "not JSON but gzip"),
    (Response(200, (), b"\x00\x01"), "not JSON but binary"),
    (Response(200, (), b"moved"), "not JSON but text"),
    (Response(200, (), b"<!-- 9 -->\n<head><title>Sorry</title>"), "not JSON but HTML"),
    (Response(200, (), '{"issuer": 1}'.encode("utf-16")), "in UTF-16 or UTF-32"),
    (Response(200, (), b"\xef\xbb\xbf" * 2 + b"{}"), "not JSON but text"),
    (Response(200, (("content-type", "application/json"),), b"<p>no</p>"), "not JSON but HTML"),
    (Response(404, (), HTML), "status 404"),
    (Response(200, (), b'{"a":1,"a":2}'), "not JSON: a member name is repeated"),
    (Response(200, (), b"[]"), "not a JSON object"),
    (served(), "it names no issuer"),
    (served(issuer=7), "its issuer is 7"),
    (served(issuer="https://other.example"), "its issuer is 'https://other.example', not"),
    (served(issuer=REALM + "/"), "which differs only by the final /"),
    (served(issuer="https://ID.example.com/Realm"), "only by upper and lower case"),
    (served(issuer="https://id.example.com:443/realm"), "only by the default port"),
    (served(issuer="https://id.example.com/%72ealm"), "only by percent-encoding"),
    (served(issuer="http://id.example.com/realm"), "only by http and https"),
    (served(issuer="https://ID.example.com:443/realm/"), "differs only in spelling"),
]


@ROLES
@pytest.mark.parametrize(("found", "expected"), UNUSABLE)
def test_DISC_01_after_an_unusable_place_the_next_one_is_asked(
    ask: Callable[[Net], str | None], found: object, expected: str
) -> None:
    net = Net(found)
    assert ask(net)
    assert net.urls[:2] == [FIRST, SECOND]


@ROLES
@pytest.mark.parametrize(("found", "expected"), UNUSABLE)
def test_DISC_01_where_no_place_serves_the_error_says_what_was_found_at_each(
    ask: Callable[[Net], str | None], found: object, expected: str
) -> None:
    net = Net(found, Response(410))
    with pytest.raises(BearerGuardError, match=f"{expected}.*; {SECOND}: status 410") as error:
        ask(net)
    assert FIRST in str(error.value)
    assert "b=c" not in str(error.value)
    assert net.urls == [FIRST, SECOND, THIRD]


def test_DISC_01_a_server_that_hangs_is_asked_for_its_other_place_only_briefly() -> None:
    net = Net(FetchFailed("no response", kind="timed_out"))
    assert ask_guard(net)
    assert [each.share for each in net.asked] == [1.0, 0.25, 1.0]


def test_DISC_01_strangers_cause_no_further_fetches_while_no_place_serves() -> None:
    net = Net(Response(200, (), HTML), Response(500))
    guard = Guard(Issuer(REALM, audience="api"), transport=net, clock=lambda: 1e9)
    for _ in range(20):
        with pytest.raises(IssuerUnavailable):
            guard.verify(net.issuer.token())
    assert net.urls == [FIRST, SECOND, THIRD]


@ROLES
def test_META_01_both_forms_of_openid_configuration_are_tried(
    ask: Callable[[Net], str | None],
) -> None:
    net = Net(Response(404), Response(404), served(issuer=REALM))
    assert ask(net)
    assert net.urls[:3] == [FIRST, SECOND, THIRD]


@pytest.mark.parametrize(
    ("first", "second", "raised", "temporary"),
    [
        (Response(404), Response(404), DiscoveryError, False),
        (served(issuer="x"), Response(404), DiscoveryError, False),
        (Response(404), FetchFailed("gone", kind="tls"), DiscoveryError, False),
        (Response(404), Response(503, (("retry-after", "9"),)), TokenUnavailable, True),
        (FetchFailed("x"), FetchFailed("y", kind="tls"), TokenUnavailable, True),
        (FetchFailed("x", kind="tls"), FetchFailed("y", kind="tls"), TokenUnavailable, False),
        (
            FetchFailed("x", kind="unknown_host"),
            FetchFailed("x", kind="unknown_host"),
            TokenUnavailable,
            False,
        ),
    ],
)
def test_DISC_01_the_error_of_a_client_says_whether_trying_again_may_help(
    first: object, second: object, raised: type[Exception], temporary: bool
) -> None:
    with pytest.raises(raised) as error:
        ask_client(Net(first, second, second))
    assert isinstance(error.value, BearerGuardError)
    assert error.value.temporary is temporary
    if isinstance(second, Response) and second.status == 503:
        assert getattr(error.value, "retry_after", None) == 9


def test_DISC_01_a_document_may_begin_with_a_byte_order_mark() -> None:
    assert document.loads(b'\xef\xbb\xbf{"a":1}') == {"a": 1}
    with pytest.raises(document.NotJson):
        document.loads(b'\xef\xbb\xbf\xef\xbb\xbf{"a":1}')


def test_DISC_01_a_configured_document_may_name_an_issuer_as_access_token_issuer() -> None:
    name = "http://adfs.example.com/adfs/services/trust"
    place = "https://adfs.example.com/adfs/.well-known/openid-configuration"
    issuer = LocalIssuer(name, audience="api")

    class Adfs:
        def fetch(self, request: Fetch) -> Response:
            assert request.url.startswith("https://"), request.url
            if request.url == place:
                return served(
                    issuer="https://adfs.example.com/adfs",
                    access_token_issuer=name,
                    jwks_uri="https://adfs.example.com/adfs/discovery/keys",
                )
            return Response(200, (), json.dumps(issuer.jwks()).encode())

        async def afetch(self, request: Fetch) -> Response:
            return self.fetch(request)

    guard = Guard(Issuer(name, audience="api", discovery_url=place), transport=Adfs())
    assert guard.verify(issuer.token()).issuer == name


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (REALM + "/", "which differs only by the final / from 'https://id.example.com/realm'"),
        ("https://id.example.com:443/realm", "only by the default port from"),
        ("https://id.example.com/r%65alm", "only by percent-encoding from"),
        ("https://ID.example.com/realm", "only by upper and lower case from"),
        ("https://other.example", "'https://other.example': add an Issuer"),
        ("https://id.example.com/" + "x" * 300, "add an Issuer"),
    ],
)
def test_DISC_01_no_spelling_makes_a_name_the_issuers_but_the_refusal_says_what_differs(
    name: str, expected: str
) -> None:
    net = Net(None)
    guard = Guard(Issuer(REALM, audience="api"), transport=net)
    with pytest.raises(BearerGuardError, match=expected):
        guard.verify(net.issuer.token(claims={"iss": name}))
    assert not net.asked


@ROLES
@pytest.mark.parametrize("member", [None, 7, ["https://id.example.com/realm/token"]])
def test_DISC_01_a_document_without_the_url_that_is_needed_is_passed_over(
    ask: Callable[[Net], str | None], member: object
) -> None:
    net = Net(served(issuer=REALM, jwks_uri=member, token_endpoint=member))
    assert ask(net)
    assert net.urls[:2] == [FIRST, SECOND]


@ROLES
@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://id.example.com/realm/x", "no https URL"),
        ("ftp://id.example.com/x", "no https URL"),
        ("", "no https URL"),
        ("https://user@id.example.com/x", "no https URL"),
        ("https://id.example.com/x#y", "no https URL"),
        ("https://127.0.0.1/x", "this machine"),
        ("https://[::1]:8443/x", "this machine"),
        ("https://localhost./x", "this machine"),
        ("http://localhost/x", "no https URL|this machine"),
        ("https://[", "no https URL"),
        ("https://0.0.0.0/x", "this machine"),
        ("https://2130706433/x", "this machine"),
    ],
)
def test_DISC_01_a_url_in_metadata_that_is_not_safe_is_not_asked(
    ask: Callable[[Net], str | None], url: str, expected: str
) -> None:
    net = Net(served(issuer=REALM, jwks_uri=url, token_endpoint=url))
    with pytest.raises(BearerGuardError, match=expected):
        ask(net)
    assert net.urls == [FIRST]


@pytest.mark.parametrize("issuer", ["https://id.example.com/realm?a=b", "https://id.example.com?a"])
def test_META_01_an_issuer_identifier_has_no_query(issuer: str) -> None:
    with pytest.raises(ConfigurationError, match="no query"):
        Issuer(issuer, audience="api")
    with pytest.raises(ConfigurationError, match="no query"):
        ClientCredentials(issuer, client_id="app", client_secret="s3cret")


ISSUERS = [
    "https://id.example.com",
    "https://id.example.com/",
    "https://id.example.com/realm/",
    "https://id.example.com/realm//",
    "https://ID.example.com:443/%7Erealm",
    "http://localhost:9/realm",
    "https://[2001:db8::1]/realm",
]


@pytest.mark.parametrize("issuer", ISSUERS)
def test_META_01_guard_and_client_ask_the_same_places_in_the_same_order(issuer: str) -> None:
    asked: dict[str, list[str]] = {"guard": [], "client": []}

    class Nothing:
        def __init__(self, role: str) -> None:
            self.urls = asked[role]

        def fetch(self, request: Fetch) -> Response:
            self.urls.append(request.url)
            return Response(404)

        async def afetch(self, request: Fetch) -> Response:
            return self.fetch(request)

    token = LocalIssuer(issuer, audience="api").token()
    with pytest.raises(IssuerUnavailable):
        Guard(Issuer(issuer, audience="api"), transport=Nothing("guard")).verify(token)
    source = ClientCredentials(issuer, client_id="app", client_secret="s3cret")
    with pytest.raises(DiscoveryError):
        TokenManager(source, transport=Nothing("client")).token()
    assert asked["guard"] == asked["client"] == list(metadata.metadata_urls(issuer))
