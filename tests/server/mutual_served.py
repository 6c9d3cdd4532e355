"""A server and its guarded API that take client certificates, as a process of their own.

They take DPoP proofs, too. A user is signed in by the cookie `user`, as an app's own login.
`app` is ASGI, `wsgi` is WSGI. What they are comes from the environment.
"""

from __future__ import annotations

import os
from typing import Any

from bearerguard import Guard, asgi
from bearerguard import wsgi as guarded_wsgi
from bearerguard.server import AuthorizationServer, MutualTls, PeopleOptions, SigningKeys
from tests.server.cookie_login import current_user

PROXIES = os.environ.get("PROXIES", "").split()
SOURCE: Any = os.environ["CERTIFICATES"]

server = AuthorizationServer(
    os.environ["ISSUER"],
    store=os.environ["STORE"],
    scopes={"read": "Read your recordings", "write": "Change your recordings"},
    people=PeopleOptions(current_user=current_user, login_url="https://127.0.0.1/login"),
    signing=SigningKeys(algorithm="ES256"),
    mutual_tls=MutualTls(SOURCE, authorities=os.environ["AUTHORITY"]),
)
guard = Guard(server.issuer(), certificates=SOURCE, trusted_proxies=PROXIES, dpop="allowed")


async def api(scope: Any, _receive: Any, send: Any) -> None:
    if scope["type"] != "http":
        return
    seen = "certificate" if any(b"client-cert" in name for name, _ in scope["headers"]) else "-"
    body = f"{scope['user'].client_id} {seen}".encode()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body})


def wsgi_api(environ: Any, start_response: Any) -> list[bytes]:
    start_response("200 OK", [])
    return [environ["bearerguard.principal"].client_id.encode()]


app = server.asgi_app(asgi.BearerMiddleware(api, guard=guard), trusted_proxies=PROXIES)
wsgi = server.wsgi_app(
    guarded_wsgi.BearerMiddleware(wsgi_api, guard=guard), trusted_proxies=PROXIES
)


def serve_by_werkzeug() -> None:
    import ssl
    import sys

    from werkzeug.serving import make_server

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(os.environ["CERTIFICATE"], os.environ["KEY"])
    context.load_verify_locations(os.environ["AUTHORITY"])
    context.verify_mode = ssl.CERT_OPTIONAL
    make_server(
        "127.0.0.1", int(sys.argv[1]), wsgi, threaded=True, ssl_context=context
    ).serve_forever()


if __name__ == "__main__":
    serve_by_werkzeug()
