"""An embedded server serves the metadata of the API behind it, wherever the guard stands."""

from __future__ import annotations

import json
from typing import Any
from wsgiref.validate import validator

import pytest
from starlette.applications import Starlette
from starlette.routing import Mount

from bearerguard import Guard, ProtectedResource, asgi, scopes, wsgi
from bearerguard.client.discovery import discover
from bearerguard.runtime.flow import Fetch
from bearerguard.runtime.messages import FetchFailed, Response
from tests.conformance.drivers import Received, Sent, through_asgi, through_wsgi
from tests.server.harness import ISSUER, Harness, Make

ROOT = "/.well-known/oauth-protected-resource"
PREFLIGHT = [
    ("Origin", b"https://app.test"),
    ("Access-Control-Request-Method", b"GET"),
    ("Access-Control-Request-Headers", b"mcp-protocol-version"),
]


async def app(_scope: Any, _receive: Any, _send: Any) -> None:
    raise AssertionError("no request gets so far")


def metadata(received: Received) -> dict[str, Any]:
    assert received.status == 200, received.body
    assert received.one("access-control-allow-origin") == "*"
    found: dict[str, Any] = json.loads(received.body)
    return found


def get(served: Any, target: str = ROOT, method: str = "GET", headers: Any = ()) -> Received:
    return through_asgi(served, Sent([*headers], method=method, target=target))


@pytest.mark.parametrize("issuer", [ISSUER, f"{ISSUER}/tenant/one"])
def test_PRM_04_an_embedded_server_serves_it_by_itself(make: Make, issuer: str) -> None:
    server = make(issuer=issuer).server
    guarded = asgi.BearerMiddleware(app, guard=Guard(server.issuer()), require=scopes("read"))
    served = server.asgi_app(Starlette(routes=[Mount("/api", guarded)]))
    path = ROOT + issuer.removeprefix(ISSUER)
    for place in (path, ROOT):
        assert metadata(get(served, place)) == {
            "resource": issuer,
            "authorization_servers": [issuer],
            "scopes_supported": ["read"],
            "bearer_methods_supported": ["header"],
        }
        assert place in server.paths
    assert get(served, path, "POST").status == 405
    head = get(served, path, "HEAD")
    assert (head.status, head.body) == (200, b"")
    preflight = get(served, path, "OPTIONS", PREFLIGHT)
    assert preflight.one("access-control-allow-headers") == "mcp-protocol-version"
    refused = get(served, "/api/things")
    assert f'resource_metadata="{ISSUER}{path}"' in refused.one("www-authenticate")


def test_PRM_04_under_wsgi_too(harness: Harness) -> None:
    Guard(harness.server.issuer())
    served = validator(harness.server.wsgi_app())
    assert metadata(through_wsgi(served, Sent([], target=ROOT)))["resource"] == ISSUER
    assert through_wsgi(served, Sent([], "POST", ROOT)).status == 405


def test_a_server_without_a_guard_describes_no_api(harness: Harness) -> None:
    assert get(harness.server.asgi_app()).status == 404
    Guard(harness.server.issuer(), resource=False)
    assert get(harness.server.asgi_app()).status == 404


def test_the_root_describes_the_first_api_or_that_without_a_path(harness: Harness) -> None:
    served = harness.server.asgi_app()
    issuer = harness.server.issuer(audience=["one", "two"])
    Guard(issuer, resource=f"{ISSUER}/one")
    Guard(issuer, resource=f"{ISSUER}/two")
    assert metadata(get(served))["resource"] == f"{ISSUER}/one"
    assert metadata(get(served, f"{ROOT}/two"))["resource"] == f"{ISSUER}/two"
    Guard(issuer, resource=ProtectedResource(f"{ISSUER}/one", name="One"))
    assert metadata(get(served))["resource_name"] == "One"
    Guard(issuer, resource=f"{ISSUER}/")
    assert metadata(get(served))["resource"] == f"{ISSUER}/"
    Guard(issuer, resource=f"{ISSUER}/one")
    assert metadata(get(served))["resource"] == f"{ISSUER}/"


class InProcess:
    """A transport to one app."""

    def __init__(self, served: Any) -> None:
        self._served = served

    def fetch(self, request: Fetch) -> Response:
        if not request.url.startswith(ISSUER):
            raise FetchFailed(request.url)
        received = get(self._served, request.url.removeprefix(ISSUER) or "/", request.method)
        return Response(received.status, received.headers, received.body)

    async def afetch(self, request: Fetch) -> Response:
        return self.fetch(request)


def test_PRM_04_our_client_finds_all_from_the_url_of_the_api(harness: Harness) -> None:
    guard = Guard(harness.server.issuer(), resource=f"{ISSUER}/mcp", require=scopes("read"))
    served = harness.server.asgi_app(asgi.BearerMiddleware(app, guard=guard))
    found = discover(f"{ISSUER}/mcp", transport=InProcess(served))
    assert (found.resource, found.issuer, found.scopes) == (f"{ISSUER}/mcp", ISSUER, ("read",))
    assert found.metadata["token_endpoint"].startswith(ISSUER)


def test_wsgi_middleware_behind_the_server_needs_nothing_either(harness: Harness) -> None:
    guard = Guard(harness.server.issuer())

    def api(_environ: Any, _start_response: Any) -> Any:
        raise AssertionError("no request gets so far")

    served = validator(
        harness.server.wsgi_app(wsgi.BearerMiddleware(api, guard=guard, require=scopes("write")))
    )
    assert metadata(through_wsgi(served, Sent([], target=ROOT)))["scopes_supported"] == ["write"]
    refused = through_wsgi(served, Sent([], target="/things"))
    assert f'resource_metadata="{ISSUER}{ROOT}"' in refused.one("www-authenticate")
