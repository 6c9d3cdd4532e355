"""Authlib's authorization server in Flask with SQLAlchemy, as its documentation builds it.

`app` is for gunicorn. `python -m benchmarks.server_tokens.authlib_app` makes the tables, the user
and the clients of the environment, and prints the user's cookie as JSON.

Tokens are random, which is the default: that costs less than signing JWTs.
"""

from __future__ import annotations

import json
import os
from typing import Any

from authlib.integrations.flask_oauth2 import AuthorizationServer
from authlib.integrations.sqla_oauth2 import (
    OAuth2AuthorizationCodeMixin,
    OAuth2ClientMixin,
    OAuth2TokenMixin,
    create_query_client_func,
    create_revocation_endpoint,
    create_save_token_func,
)
from authlib.oauth2.rfc6749 import grants
from authlib.oauth2.rfc7636 import CodeChallenge
from authlib.oauth2.rfc7662 import IntrospectionEndpoint
from flask import Flask, Response, session
from sqlalchemy import ForeignKey, String, create_engine, event, select
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, scoped_session, sessionmaker

_THREADS = 8
_GRANTS = ("authorization_code", "refresh_token", "client_credentials")


class Base(DeclarativeBase):
    """The tables."""


class User(Base):
    """A user."""

    __tablename__ = "users"
    id: Mapped[int] = mapped_column(primary_key=True)
    username: Mapped[str] = mapped_column(String(40), unique=True)

    def get_user_id(self) -> int:
        """Return what tokens know the user by."""
        return self.id


class Client(Base, OAuth2ClientMixin):  # type: ignore[misc, unused-ignore]
    """A client."""

    __tablename__ = "oauth2_client"
    id: Mapped[int] = mapped_column(primary_key=True)


class Code(Base, OAuth2AuthorizationCodeMixin):  # type: ignore[misc, unused-ignore]
    """A code."""

    __tablename__ = "oauth2_code"
    id: Mapped[int] = mapped_column(primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))


class Token(Base, OAuth2TokenMixin):  # type: ignore[misc, unused-ignore]
    """An access token with its refresh token."""

    __tablename__ = "oauth2_token"
    id: Mapped[int] = mapped_column(primary_key=True)
    user_id: Mapped[int | None] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))


def _engine() -> Any:
    url = os.environ["DATABASE"].replace("postgresql://", "postgresql+psycopg://")
    engine = create_engine(url, pool_size=_THREADS)
    if engine.dialect.name == "sqlite":

        @event.listens_for(engine, "connect")
        def _durable(connection: Any, _record: object) -> None:
            for pragma in ("journal_mode = WAL", "synchronous = FULL", "busy_timeout = 20000"):
                connection.execute(f"PRAGMA {pragma}")

    return engine


engine = _engine()
database = scoped_session(sessionmaker(engine))


class AuthorizationCodeGrant(grants.AuthorizationCodeGrant):  # type: ignore[misc, unused-ignore]
    """Codes in the database."""

    def save_authorization_code(self, code: str, asked: Any) -> None:
        """Store a code with its PKCE challenge."""
        database.add(
            Code(
                code=code,
                client_id=asked.client.client_id,
                redirect_uri=asked.payload.redirect_uri,
                scope=asked.scope,
                user_id=asked.user.id,
                code_challenge=asked.payload.data.get("code_challenge"),
                code_challenge_method=asked.payload.data.get("code_challenge_method"),
            )
        )
        database.commit()

    def query_authorization_code(self, code: str, client: Client) -> Code | None:
        """Return a valid code."""
        query = select(Code).filter_by(code=code, client_id=client.client_id)
        found = database.scalars(query).first()
        return found if found is not None and not found.is_expired() else None

    def delete_authorization_code(self, authorization_code: Code) -> None:
        """Delete a code that was redeemed."""
        database.delete(authorization_code)
        database.commit()

    def authenticate_user(self, authorization_code: Code) -> User | None:
        """Return the user of a code."""
        return database.get(User, authorization_code.user_id)


class RefreshTokenGrant(grants.RefreshTokenGrant):  # type: ignore[misc, unused-ignore]
    """Refresh tokens in the database, which are rotated."""

    INCLUDE_NEW_REFRESH_TOKEN = True

    def authenticate_refresh_token(self, refresh_token: str) -> Token | None:
        """Return a valid token."""
        query = select(Token).filter_by(refresh_token=refresh_token)
        found = database.scalars(query).first()
        return found if found is not None and not found.is_revoked() else None

    def authenticate_user(self, refresh_token: Token) -> User | None:
        """Return the user of a token."""
        return database.get(User, refresh_token.user_id)

    def revoke_old_credential(self, refresh_token: Token) -> None:
        """Revoke the token that was used."""
        refresh_token.access_token_revoked_at = refresh_token.refresh_token_revoked_at = 1
        database.commit()


class Introspection(IntrospectionEndpoint):  # type: ignore[misc, unused-ignore]
    """Introspection of access tokens."""

    def query_token(self, token: str, _hint: str | None) -> Token | None:
        """Return a token."""
        return database.scalars(select(Token).filter_by(access_token=token)).first()

    def introspect_token(self, token: Token) -> dict[str, Any]:
        """Return what is told of a token."""
        return {
            "active": True,
            "client_id": token.client_id,
            "token_type": token.token_type,
            "scope": token.get_scope(),
            "sub": str(token.user_id),
            "exp": token.issued_at + token.expires_in,
            "iat": token.issued_at,
        }

    def check_permission(self, token: Token, client: Client, _asked: object) -> bool:
        """Whether a client may know of a token."""
        allowed: bool = token.client_id == client.client_id
        return allowed


app = Flask(__name__)
app.secret_key = os.environ["SECRET"]
app.config["OAUTH2_REFRESH_TOKEN_GENERATOR"] = True
server = AuthorizationServer(
    app, create_query_client_func(database, Client), create_save_token_func(database, Token)
)
server.register_grant(AuthorizationCodeGrant, [CodeChallenge(required=True)])
server.register_grant(RefreshTokenGrant)
server.register_grant(grants.ClientCredentialsGrant)
server.register_endpoint(create_revocation_endpoint(database, Token))
server.register_endpoint(Introspection)


@app.teardown_appcontext
def _return_connection(_error: object) -> None:
    database.remove()


@app.get("/oauth/authorize")
def _authorize() -> Response:
    user = database.get(User, session["id"])
    grant = server.get_consent_grant(end_user=user)
    response: Response = server.create_authorization_response(grant_user=user, grant=grant)
    return response


@app.post("/oauth/token")
def _token() -> Response:
    response: Response = server.create_token_response()
    return response


@app.post("/oauth/introspect")
def _introspect() -> Response:
    response: Response = server.create_endpoint_response(Introspection.ENDPOINT_NAME)
    return response


@app.post("/oauth/revoke")
def _revoke() -> Response:
    response: Response = server.create_endpoint_response("revocation")
    return response


def main() -> None:
    """Make what the environment describes."""
    Base.metadata.create_all(engine)
    user = User(username="ada")
    database.add(user)
    for client_id, secret in json.loads(os.environ["CLIENTS"]).items():
        client = Client(client_id=client_id, client_secret=secret)
        client.set_client_metadata(
            {
                "grant_types": list(_GRANTS),
                "response_types": ["code"],
                "redirect_uris": [os.environ["REDIRECT_URI"]],
                "scope": os.environ["SCOPE"],
                "token_endpoint_auth_method": "client_secret_basic",
            }
        )
        database.add(client)
    database.commit()
    serializer: Any = app.session_interface.get_signing_serializer(app)  # type: ignore[attr-defined]
    print(json.dumps(f"session={serializer.dumps({'id': user.id})}"))


if __name__ == "__main__":
    main()
