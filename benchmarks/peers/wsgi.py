"""WSGI peers: each an app without authentication and the same app with it.

Both are Flask extensions, so their bare app is a Flask app.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, TypeAlias

from benchmarks.peers.asgi import PATH
from benchmarks.token_issuer import AUDIENCE, TokenIssuer

WSGIApp: TypeAlias = Callable[[dict[str, Any], Any], Iterable[bytes]]

BODY = b'{"recordings":[]}'
HEADERS = [("Content-Type", "application/json"), ("Content-Length", str(len(BODY)))]


@dataclass(frozen=True)
class Pair:
    """An app without authentication and with it."""

    without: WSGIApp
    protected: WSGIApp


def bare(_environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    """Respond like an API, and do nothing else."""
    start_response("200 OK", list(HEADERS))
    return [BODY]


def _flask(protect: Callable[[Callable[[], Any]], Callable[[], Any]] | None = None) -> Any:
    from flask import Flask, Response

    def recordings() -> Any:
        return Response(BODY, mimetype="application/json")

    app = Flask("benchmarks")
    app.add_url_rule(PATH, view_func=recordings if protect is None else protect(recordings))
    return app


def flask_jwt_extended(issuer: TokenIssuer) -> Pair:
    """flask-jwt-extended's `jwt_required`."""
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
    from flask_jwt_extended import JWTManager, jwt_required

    public = issuer.key.private.public_key()
    app = _flask(jwt_required())
    app.config.update(
        JWT_ALGORITHM=issuer.algorithm,
        JWT_PUBLIC_KEY=public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
        JWT_DECODE_AUDIENCE=AUDIENCE,
        JWT_DECODE_ISSUER=issuer.url,
    )
    JWTManager(app)
    return Pair(_flask(), app)


def authlib(issuer: TokenIssuer) -> Pair:
    """Authlib's resource protector with its validator of RFC 9068 tokens."""
    from authlib.integrations.flask_oauth2 import ResourceProtector
    from authlib.oauth2.rfc9068 import JWTBearerTokenValidator
    from joserfc.jwk import KeySet

    keys = KeySet.import_key_set(issuer.jwks())

    class Validator(JWTBearerTokenValidator):  # type: ignore[misc]
        def get_jwks(self) -> Any:
            return keys

    protector = ResourceProtector()
    protector.register_token_validator(Validator(issuer.url, AUDIENCE))
    return Pair(_flask(), _flask(protector("read")))


MAKERS: dict[str, Callable[[TokenIssuer], Pair]] = {
    "flask-jwt-extended": flask_jwt_extended,
    "Flask + Authlib (RFC 9068)": authlib,
}
