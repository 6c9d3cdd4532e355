"""The tables of keys, clients, grants, tokens and revocations, and the `metadata` of all tables.

Times are Unix seconds. Digests are keyed (see `server/secret.py`), in hexadecimal. Lists are
JSON text. The migrations in `migrations/versions` create exactly these tables (tested).
"""

from __future__ import annotations

from collections.abc import Set as AbstractSet

from sqlalchemy import (
    BigInteger,
    Column,
    ColumnElement,
    Double,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    func,
    text,
)

metadata: MetaData = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

_DIGEST = String(64)
# The most characters that a user's id may have (OpenID Connect Core 1.0 §2: those of `sub`).
MAX_ID = 255
_ID = String(MAX_ID)
# Rows of logins elsewhere, which a logout token without a subject names.
_HAS_SID = text("upstream_sid IS NOT NULL")


def login_columns() -> tuple[Column[str], Column[str], Column[str]]:
    """Return the columns that say how a user logged in.

    They are the claim `amr`, a JSON array; the issuer where the user logged in, NULL for here;
    and the issuer's session, its claim `sid`.
    """
    return Column("amr", Text), Column("upstream", _ID), Column("upstream_sid", _ID)


def sid_index(table: str) -> Index:
    """Return the index of a table by the sessions of upstreams."""
    return Index(
        f"ix_{table}_upstream_sid",
        "upstream_sid",
        sqlite_where=_HAS_SID,
        postgresql_where=_HAS_SID,
    )


def _client() -> Column[str]:
    owner = ForeignKey("clients.client_id", ondelete="CASCADE")
    return Column("client_id", _ID, owner, nullable=False)


signing_keys: Table = Table(
    "signing_keys",
    metadata,
    Column("kid", _ID, primary_key=True),
    Column("algorithm", String(16), nullable=False),
    Column("public_jwk", Text, nullable=False),
    Column("sealed_private", LargeBinary, nullable=False),
    # Published from `created_at`; signs from `active_at` until a later key takes over.
    Column("created_at", Double, nullable=False),
    Column("active_at", Double, nullable=False),
    # When it leaves the JWKS; set when a later key takes over.
    Column("retires_at", Double),
)

clients: Table = Table(
    "clients",
    metadata,
    Column("client_id", _ID, primary_key=True),
    Column("name", Text, nullable=False),
    # A JSON object with all options of the registration. Those that queries need are also in
    # `access_lifetime` and in `client_origins`.
    Column("options", Text, nullable=False, server_default=text("'{}'")),
    Column("access_lifetime", Double),
    Column("created_at", Double, nullable=False),
    # For the maximum, which a revocation needs, and for the clients that are being removed.
    Index(None, "access_lifetime"),
)

# The `access_lifetime` of a client that is being removed; no other client can have it.
REMOVED = -1.0


def stands() -> ColumnElement[bool]:
    """Return the condition that a client is not being removed."""
    return func.coalesce(clients.c.access_lifetime, 0.0) >= 0.0


# The clients that no operator registered. One is removed when nobody has used it for a while.
registrations: Table = Table(
    "registrations",
    metadata,
    Column(
        "client_id",
        _ID,
        ForeignKey("clients.client_id", ondelete="CASCADE"),
        primary_key=True,
    ),
    # "request" (RFC 7591), or "document" for a client id metadata document.
    Column("registered_by", String(16), nullable=False),
    # Each use puts it off. A client with a grant or a code is kept.
    Column("expires_at", Double, nullable=False),
    Index(None, "expires_at"),
)

client_secrets: Table = Table(
    "client_secrets",
    metadata,
    Column("digest", _DIGEST, primary_key=True),
    _client(),
    Column("created_at", Double, nullable=False),
    Column("expires_at", Double),
    Index(None, "client_id"),
    Index(None, "expires_at"),
)

client_origins: Table = Table(
    "client_origins",
    metadata,
    Column("origin", _ID, primary_key=True),
    Column(
        "client_id",
        _ID,
        ForeignKey("clients.client_id", ondelete="CASCADE"),
        primary_key=True,
    ),
    Index(None, "client_id"),
)

# What a user has allowed a client at one time. The refresh tokens of a grant are a family.
grants: Table = Table(
    "grants",
    metadata,
    Column("grant_id", _ID, primary_key=True),
    _client(),
    Column("user_id", _ID, nullable=False),
    Column("scope", Text, nullable=False),
    Column("resources", Text, nullable=False),
    Column("auth_time", Double),
    Column("acr", Text),
    Column("created_at", Double, nullable=False),
    # No refresh token of the family outlives this.
    Column("expires_at", Double, nullable=False),
    Column("revoked_at", Double),
    # When its last access token expires: JWTs have no rows. NULL if an earlier version made them.
    Column("access_expires_at", Double),
    # The generation of the family's last refresh token.
    Column("generation", Integer, nullable=False, server_default=text("0")),
    # The claim `cnf` of the key that the refresh tokens are bound to, a JSON object; NULL for none.
    Column("cnf", Text),
    *login_columns(),
    sid_index("grants"),
    # Lists of grants, the newest first: of all, of a client and of a user, in pages.
    Index("ix_grants_newest", "created_at", "grant_id"),
    Index("ix_grants_client_newest", "client_id", "created_at", "grant_id"),
    Index("ix_grants_user_newest", "user_id", "created_at", "grant_id"),
    Index(None, "expires_at"),
    # Grants that pruning removes.
    Index(
        "ix_grants_revoked",
        "revoked_at",
        sqlite_where=text("revoked_at IS NOT NULL"),
        postgresql_where=text("revoked_at IS NOT NULL"),
    ),
)

codes: Table = Table(
    "codes",
    metadata,
    Column("digest", _DIGEST, primary_key=True),
    _client(),
    Column("user_id", _ID, nullable=False),
    Column("redirect_uri", Text, nullable=False),
    Column("challenge", String(128)),
    Column("scope", Text, nullable=False),
    Column("resources", Text, nullable=False),
    Column("auth_time", Double),
    Column("acr", Text),
    Column("created_at", Double, nullable=False),
    Column("expires_at", Double, nullable=False),
    Column("redeemed_at", Double),
    # The grant that the redemption made.
    Column("grant_id", _ID),
    # The thumbprint of the key that must redeem it (RFC 9449 §10); NULL for any.
    Column("dpop_jkt", _DIGEST),
    *login_columns(),
    sid_index("codes"),
    Index(None, "client_id"),
    Index(None, "user_id"),
    Index(None, "expires_at"),
)

# Authorization requests that clients have pushed (RFC 9126). No foreign key, which would need one
# more index: whoever uses one looks its client up.
pushed_requests: Table = Table(
    "pushed_requests",
    metadata,
    Column("digest", _DIGEST, primary_key=True),
    Column("client_id", _ID, nullable=False),
    # The parameters, as a query.
    Column("parameters", Text, nullable=False),
    Column("created_at", Double, nullable=False),
    # Put off once, when a user has arrived.
    Column("expires_at", Double, nullable=False),
    # When the client got a code for it, or an error.
    Column("used_at", Double),
    Index(None, "expires_at"),
)

# What devices have asked for, until somebody decides and the device has its tokens (RFC 8628).
device_codes: Table = Table(
    "device_codes",
    metadata,
    Column("digest", _DIGEST, primary_key=True),
    Column("user_code", _DIGEST, nullable=False, unique=True),
    # No foreign key: a client with a metadata document has no row before a user allows it
    # something.
    Column("client_id", _ID, nullable=False),
    Column("scope", Text, nullable=False),
    Column("resources", Text, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("expires_at", Double, nullable=False),
    # Seconds between two polls; each that came too soon has added to it. The last that did not.
    Column("poll_interval", Double, nullable=False),
    Column("polled_at", Double),
    # When somebody allowed or refused it; who allowed it, NULL for nobody.
    Column("decided_at", Double),
    Column("user_id", _ID),
    Column("auth_time", Double),
    Column("acr", Text),
    *login_columns(),
    Column("redeemed_at", Double),
    sid_index("device_codes"),
    Index(None, "client_id"),
    Index(None, "user_id"),
    Index(None, "expires_at"),
)

refresh_tokens: Table = Table(
    "refresh_tokens",
    metadata,
    Column("digest", _DIGEST, primary_key=True),
    Column("grant_id", _ID, ForeignKey("grants.grant_id", ondelete="CASCADE"), nullable=False),
    Column("created_at", Double, nullable=False),
    Column("expires_at", Double, nullable=False),
    Column("used_at", Double),
    Column("successor", _DIGEST),
    # The successor itself, for the grace period, sealed with a key derived from the old token.
    Column("sealed_successor", LargeBinary),
    # How many tokens preceded it in its family; NULL for a token of an earlier version, which does
    # not contain its generation.
    Column("generation", Integer),
    Index(None, "grant_id"),
    Index(None, "expires_at"),
    # Used tokens whose reuse is recognised without their row.
    Index(
        "ix_refresh_tokens_spent",
        "used_at",
        sqlite_where=text("used_at IS NOT NULL AND generation IS NOT NULL"),
        postgresql_where=text("used_at IS NOT NULL AND generation IS NOT NULL"),
    ),
    # Sealed successors that pruning removes after the grace period.
    Index(
        "ix_refresh_tokens_sealed",
        "used_at",
        sqlite_where=text("sealed_successor IS NOT NULL"),
        postgresql_where=text("sealed_successor IS NOT NULL"),
    ),
)

# Access tokens that are opaque, or that were revoked. Earlier versions stored those of grants, too.
access_tokens: Table = Table(
    "access_tokens",
    metadata,
    # A JWT's jti; an opaque token's digest.
    Column("token_key", _ID, primary_key=True),
    _client(),
    Column("grant_id", _ID, ForeignKey("grants.grant_id", ondelete="CASCADE")),
    Column("subject", _ID, nullable=False),
    Column("scope", Text, nullable=False),
    Column("audience", Text, nullable=False),
    Column("auth_time", Double),
    Column("acr", Text),
    # The claim `act` of an exchanged token, a JSON object; NULL for any other.
    Column("act", Text),
    # The claim `cnf` of a token that is bound to a key, a JSON object; NULL for any other.
    Column("cnf", Text),
    # The claim `amr`, a JSON array.
    Column("amr", Text),
    Column("issued_at", Double, nullable=False),
    Column("expires_at", Double, nullable=False),
    Column("revoked_at", Double),
    Index(None, "client_id"),
    Index(None, "grant_id"),
    Index(None, "expires_at"),
)

# What is accepted once and was used: client assertions, DPoP proofs (RFC 7523 §3, RFC 9449 §11.1),
# and logins that an authorization request demanded; and who was logged out elsewhere, for logins
# that come back after it.
assertions: Table = Table(
    "assertions",
    metadata,
    Column("digest", _DIGEST, primary_key=True),
    Column("expires_at", Double, nullable=False),
    Index(None, "expires_at"),
)

# The log of revocations. Guards read it when they start, and follow it from other processes.
revocations: Table = Table(
    "revocations",
    metadata,
    # Never reused: guards read the entries after a position.
    Column("position", Integer, primary_key=True),
    Column("kind", String(16), nullable=False),
    # The issuer of the tokens; NULL for this server.
    Column("issuer", Text),
    Column("value", Text, nullable=False),
    # Tokens issued before this time are revoked; NULL for all.
    Column("before", Double),
    # By then, all tokens that the entry revokes have expired.
    Column("expires_at", Double, nullable=False),
    Index(None, "expires_at"),
    sqlite_autoincrement=True,
)

# Tasks that one process at a time does, and until when a process has each.
upkeep: Table = Table(
    "upkeep",
    metadata,
    Column("task", String(32), primary_key=True),
    Column("taken_until", Double, nullable=False),
)

# The versions of what processes keep in memory: "clients", with their secrets and origins, and
# "keys". Triggers of the tables change them with every change, whoever makes it.
changes: Table = Table(
    "changes",
    metadata,
    Column("name", String(32), primary_key=True),
    Column("version", BigInteger, nullable=False),
)


# Alembic's own table.
_MIGRATIONS = "alembic_version"


def is_ours(tables: AbstractSet[str]) -> bool:
    """Whether a database with these tables is an authorization server's, of any version."""
    return {"signing_keys", _MIGRATIONS} <= tables


def foreign_tables(tables: AbstractSet[str]) -> list[str]:
    """Return the tables, in order, whose names ours have, of a database that is not ours."""
    return sorted(tables & {_MIGRATIONS, *metadata.tables})
