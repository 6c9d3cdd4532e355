"""A backend of the keyring library that keeps entries in this process, and may be made to fail."""

from __future__ import annotations

from keyring.backend import KeyringBackend
from keyring.errors import KeyringLocked, PasswordDeleteError


class DictKeyring(KeyringBackend):
    priority = 1

    def __init__(self, longest: int = 10**9) -> None:
        super().__init__()
        self.entries: dict[tuple[str, str], str] = {}
        self.longest = longest
        self.locked = False
        self.writes_left = 10**9

    def get_password(self, service, username):
        if self.locked:
            raise KeyringLocked("locked")
        return self.entries.get((service, username))

    def set_password(self, service, username, password):
        if len(password) > self.longest:
            raise OSError("too long")
        if self.writes_left <= 0:
            raise OSError("killed")
        self.writes_left -= 1
        self.entries[service, username] = password

    def delete_password(self, service, username):
        if self.writes_left <= 0:
            raise OSError("killed")
        self.writes_left -= 1
        if (service, username) not in self.entries:
            raise PasswordDeleteError("absent")
        del self.entries[service, username]
