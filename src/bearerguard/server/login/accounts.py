"""User accounts: names, passwords, and whether they are disabled.

Knows no pages and no cookies. A user's id is generated here and never changes. The id, and not the
login name, is the `sub` of the user's tokens.
"""

from __future__ import annotations

import secrets
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256

from sqlalchemy import bindparam, delete, insert, select, update

from bearerguard.errors import AccountError
from bearerguard.server.audit import Audit
from bearerguard.server.login.passwords import Passwords, check_new
from bearerguard.server.login.session import ProofLapsed
from bearerguard.server.store.connection import (
    Connection,
    Executes,
    Prepared,
    Row,
    is_storable,
)
from bearerguard.server.store.database import Database
from bearerguard.server.store.people import (
    add_identity,
    find_identity,
    identities,
    is_user_id,
    sessions,
    users,
)
from bearerguard.server.store.schema import MAX_ID, codes

_MAX_LOGIN = 200
_MAX_NAME = 200
# Characters of a login name as typed. Normalization can shorten a text (it composes letters and
# marks) or lengthen it (it decomposes ligatures), so this limit is higher than that of the name.
_MAX_TYPED = 4 * _MAX_LOGIN
_PREFIX = "user-"


@dataclass(frozen=True, slots=True)
class Account:
    """A user account; times are Unix seconds.

    `has_password`: False for users who sign in elsewhere alone.
    """

    user_id: str
    login: str
    name: str
    created_at: float
    disabled_at: float | None
    has_password: bool = True

    @property
    def disabled(self) -> bool:
        """Whether this user may not log in."""
        return self.disabled_at is not None


class Accounts:
    """The users of one server.

    Args:
        database: stores the accounts.
        passwords: hashes and checks passwords.
        clock: returns Unix seconds.
        audit: receives the events.
        on_disabled: called with the id of a disabled user; revokes all grants of that user.
        on_unlinked: called with a user's id and an issuer where the user cannot sign in any more;
            ends what began there.
    """

    def __init__(
        self,
        database: Database,
        passwords: Passwords,
        clock: Callable[[], float],
        *,
        audit: Audit,
        on_disabled: Callable[[str], object],
        on_unlinked: Callable[[str, str], object],
    ) -> None:
        self._database = database
        self._passwords = passwords
        self._clock = clock
        self._audit = audit
        self._on_disabled = on_disabled
        self._on_unlinked = on_unlinked

    def add(self, login: str, password: str, *, name: str = "") -> Account:
        """Add an account.

        Args:
            login: the login name: 1 to 200 printable characters without spaces, in any case.
            password: at least 12 characters.
            name: what pages call the user; by default the login name.

        Raises:
            AccountError: the login name is taken, or the login name or `name` is not valid.
            PasswordRejected: the password is too easy to guess.
            PasswordsBusy: too many passwords are being hashed or checked.
        """
        normal = usable_login(login)
        shown = usable_name(name or login)
        check_new(password, normal)
        row = {
            "user_id": new_user_id(),
            "login": normal,
            "name": shown,
            "password_hash": self._passwords.hash(password),
            "created_at": self._clock(),
        }
        with self._database.write() as connection:
            if find_account(connection, normal) is not None:
                raise AccountError(f"The login name {normal!r} is taken: choose another")
            connection.execute(insert(users).values(row))
            account = _account(_require(connection, normal))
        self._audit.emit("user_added", user_id=account.user_id)
        return account

    def all(self) -> list[Account]:
        """Return all accounts in the order of their login names."""
        return [_account(row) for row in self._database.execute(select(users).order_by("login"))]

    def get(self, login: str) -> Account:
        """Return an account; raises `AccountError` if there is none."""
        return _account(_require(self._database, normalized(login)))

    def of_user(self, user_id: str) -> Account | None:
        """Return the account of a user's id, or None."""
        row = self._database.execute(_OF_USER, {"user": user_id}).one_or_none()
        return None if row is None else _account(row)

    def user_id(self, login: str) -> str | None:
        """Return the id of the user with this login name, or None."""
        row = find_account(self._database, normalized(login))
        return None if row is None else row.user_id

    def password_mark(self, login: str) -> str | None:
        """Return a value that changes when the password changes; None if there is no account.

        The value is the password hash: it must not leave the server.
        """
        row = find_account(self._database, normalized(login))
        return None if row is None else row.password_hash

    def set_password(self, login: str, password: str) -> Account:
        """Set a new password; end the user's sessions and invalidate the known browsers.

        Raises:
            AccountError: there is no such account.
            PasswordRejected: the password is too easy to guess.
            PasswordsBusy: too many passwords are being hashed or checked.
        """
        normal = normalized(login)
        check_new(password, normal)
        stored = self._passwords.hash(password)
        return self._change(normal, "password_changed", password_hash=stored)

    def replace_password(self, account: Account, checked: str, password: str) -> str | None:
        """Replace the password that `checked()` has verified, whose stored hash is `checked`.

        Returns the new hash. Returns None, without a change, if the password was changed since, or
        the account was disabled. Otherwise it does what `set_password` does.

        Raises:
            PasswordRejected: the password is too easy to guess.
            PasswordsBusy: too many passwords are being hashed or checked.
        """
        check_new(password, account.login)
        stored = self._passwords.hash(password)
        with self._database.write() as connection:
            is_same = (
                (users.c.user_id == account.user_id)
                & (users.c.password_hash == checked)
                & users.c.disabled_at.is_(None)
            )
            replacing = update(users).where(is_same).values(password_hash=stored)
            if not connection.execute(replacing).rowcount:
                return None
            ended = connection.execute(
                delete(sessions).where(sessions.c.user_id == account.user_id)
            ).rowcount
        self._report_change("password_changed", account.user_id, ended)
        return stored

    def disable(self, login: str) -> Account:
        """Disable an account: end the user's sessions and revoke the user's grants.

        Raises:
            AccountError: there is no such account.
        """
        account = self._change(normalized(login), "user_disabled", disabled_at=self._clock())
        self._on_disabled(account.user_id)
        return account

    def delete(self, login: str) -> Account:
        """Delete an account, its sessions, the consent and the grants of its user.

        It is disabled first: what is under way for the user ends, and if this fails, no token is
        left. Returns the account that there was. Ended grants leave the store with the next
        pruning; the log of revocations has the user's id until the last token would have expired.

        Raises:
            AccountError: there is no such account.
        """
        account = self.disable(login)
        with self._database.write() as connection:
            # Those that were redeemed, too: no grant is left that a replay would have to end.
            connection.execute(delete(codes).where(codes.c.user_id == account.user_id))
            connection.execute(delete(users).where(users.c.user_id == account.user_id))
        self._audit.emit("user_deleted", user_id=account.user_id)
        return account

    def enable(self, login: str) -> Account:
        """Enable a disabled account; raises `AccountError` if there is none."""
        return self._change(normalized(login), "user_enabled", disabled_at=None)

    def link(self, login: str, *, issuer: str, subject: str) -> Account:
        """Let a user sign in elsewhere: link an account to a user of another issuer.

        Args:
            login: the account's login name.
            issuer: the issuer's URL as the server has it: `UpstreamLogin(issuer)`, or
                `https://github.com`.
            subject: the user's identifier there: the `sub` of ID tokens, or GitHub's user number.

        Raises:
            AccountError: there is no such account, the identity is another user's, or the issuer
                or the subject is malformed.
        """
        for name, value in (("issuer", issuer), ("subject", subject)):
            if not is_user_id(value) or not value.isprintable():
                raise AccountError(f"An {name} has 1 to {MAX_ID} printable characters")
        with self._database.write() as connection:
            row = _require(connection, normalized(login))
            known = find_identity(connection, issuer, subject)
            if known is not None and known.user_id != row.user_id:
                raise AccountError("This identity is linked to another user: unlink it there first")
            if known is None:
                add_identity(connection, issuer, subject, row.user_id, self._clock())
        if known is None:
            self._audit.emit("identity_linked", user_id=row.user_id, issuer=issuer)
        return _account(row)

    def unlink(self, login: str, *, issuer: str) -> int:
        """Let a user no longer sign in at an issuer; return how many identities that ended.

        The sessions of the user end, those with a password too, and the grants of logins there.

        Raises:
            AccountError: there is no such account.
        """
        with self._database.write() as connection:
            row = _require(connection, normalized(login))
            removed = connection.execute(
                delete(identities).where(
                    identities.c.user_id == row.user_id, identities.c.issuer == issuer
                )
            ).rowcount
            ended = 0
            if removed:
                ending = delete(sessions).where(sessions.c.user_id == row.user_id)
                ended = connection.execute(ending).rowcount
        if removed:
            self._audit.emit("identity_unlinked", user_id=row.user_id, issuer=issuer)
            self._report_ended("identity_unlinked", row.user_id, ended)
            self._on_unlinked(row.user_id, issuer)
        return removed

    def check(self, login: str, password: str) -> Account | None:
        """Return the account of a login name and password; see `checked`."""
        checked = self.checked(login, password)
        return None if checked is None else checked[0]

    def checked(self, login: str, password: str) -> tuple[Account, str] | None:
        """Return the account of a login name and password, and the password's stored hash.

        Returns None if the name is unknown, the password is wrong or the account is disabled. An
        unknown name takes as long as a wrong password.

        Raises:
            PasswordsBusy: too many passwords are being hashed or checked.
        """
        normal = normalized(login)
        row = find_account(self._database, normal)
        stored = None if row is None else row.password_hash
        verdict = self._passwords.check(stored, password)
        if row is None or not verdict.right or row.disabled_at is not None:
            return None
        if verdict.renewed is not None:
            self._renew(row.user_id, stored, verdict.renewed)
        return _account(row), verdict.renewed or row.password_hash

    def check_unchanged(self, connection: Connection, user_id: str, fingerprint: str) -> None:
        """Raise `ProofLapsed` if a user has another password than that with a `fingerprint`."""
        row = connection.execute(_OF_USER, {"user": user_id}).one_or_none()
        stored = None if row is None else row.password_hash
        if stored is None or fingerprint_of(stored) != fingerprint:
            raise ProofLapsed("password_changed")

    def _renew(self, user_id: str, old: str | None, new: str) -> None:
        # Replace only the hash that was checked: the password may have changed since.
        with self._database.write() as connection:
            changed = connection.execute(
                update(users)
                .where(users.c.user_id == user_id, users.c.password_hash == old)
                .values(password_hash=new)
            ).rowcount
        if changed:
            self._audit.emit("password_upgraded", user_id=user_id)

    def _change(self, normal: str, event: str, **values: str | float | None) -> Account:
        with self._database.write() as connection:
            row = _require(connection, normal)
            connection.execute(update(users).where(users.c.user_id == row.user_id).values(**values))
            ended = connection.execute(delete(sessions).where(sessions.c.user_id == row.user_id))
            account = _account(_require(connection, normal))
        self._report_change(event, account.user_id, ended.rowcount)
        return account

    def _report_change(self, event: str, user_id: str, ended: int) -> None:
        self._audit.emit(event, user_id=user_id)
        self._report_ended(event, user_id, ended)

    def _report_ended(self, reason: str, user_id: str, ended: int) -> None:
        if ended:
            self._audit.emit("sessions_ended", user_id=user_id, sessions=ended, reason=reason)


def normalized(login: str) -> str:
    """Return the canonical form of a login name (NFKC, case-folded), for comparison.

    A text that is too long for a login name is cut and not normalized, because normalization takes
    quadratic time in the number of combining marks. The result matches no account.
    """
    typed = login.strip()
    if len(typed) > _MAX_TYPED:
        return f"{typed[:_MAX_LOGIN]} …"  # no login name has a space
    return unicodedata.normalize("NFKC", typed).casefold()


def fingerprint_of(stored: str) -> str:
    """Return what tells a password's stored hash from others, and may leave the server sealed."""
    return sha256(stored.encode()).hexdigest()


def new_user_id() -> str:
    """Return the id of a new user."""
    return _PREFIX + secrets.token_hex(12)


def usable_login(login: str) -> str:
    """Return the canonical form of a login name; raises `AccountError` unless it is usable."""
    normal = normalized(login)
    if not 0 < len(normal) <= _MAX_LOGIN or not normal.isprintable() or " " in normal:
        raise AccountError(f"A login name has 1 to {_MAX_LOGIN} printable characters and no spaces")
    return normal


def usable_name(name: str) -> str:
    """Return what pages call a user; raises `AccountError` unless it is usable."""
    shown = " ".join(name.split())
    if not 0 < len(shown) <= _MAX_NAME or not shown.isprintable():
        raise AccountError(f"A name has 1 to {_MAX_NAME} printable characters")
    return shown


_FIND = Prepared(select(users).where(users.c.login == bindparam("login")))
_OF_USER = Prepared(select(users).where(users.c.user_id == bindparam("user")))


def find_account(connection: Executes, normal: str) -> Row | None:
    """Return the row of the account with a login name in its canonical form, or None."""
    if not is_storable(normal):
        return None
    return connection.execute(_FIND, {"login": normal}).one_or_none()


def _require(connection: Executes, normal: str) -> Row:
    row = find_account(connection, normal)
    if row is None:
        raise AccountError(f"There is no user {normal!r}")
    return row


def _account(row: Row) -> Account:
    return Account(
        row.user_id,
        row.login,
        row.name,
        row.created_at,
        row.disabled_at,
        row.password_hash is not None,
    )
