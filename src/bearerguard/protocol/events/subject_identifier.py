"""Subject identifiers of security events (RFC 9493, OpenID Shared Signals Framework 1.0 §3).

Pure: reads who or what an event is about, and knows no issuer. A simple identifier has a format; a
complex one has several, each under the name of what it identifies: `user`, `session` and others.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

# Formats whose members are read here; others are for the application to resolve.
ISS_SUB, OPAQUE, JWT_ID = "iss_sub", "opaque", "jwt_id"
_ALIASES, _COMPLEX = "aliases", "complex"
_MAX_ALIASES = 16
_MEMBERS = {ISS_SUB: ("iss", "sub"), OPAQUE: ("id",), JWT_ID: ("iss", "jti"), "email": ("email",)}
# What a complex subject may identify (SSF §3.3).
_PARTS = frozenset(
    {"user", "session", "application", "device", "tenant", "org_unit", "group"},
)
# The part under which a simple identifier is: it may be of a user, or of what the event implies.
SIMPLE = ""


@dataclass(frozen=True, slots=True)
class SubjectIdentifier:
    """One identifier.

    Attributes:
        part: what a complex subject identifies by it, such as `user`; empty in a simple subject.
        format: such as `iss_sub`.
        members: its members, the format included.
    """

    part: str
    format: str
    members: Mapping[str, Any] = field(repr=False)

    def __getitem__(self, name: str) -> str:
        """Return a member that `read` has checked to be a text."""
        value: str = self.members[name]
        return value


def read(subject: object) -> list[SubjectIdentifier]:
    """Return the identifiers in a subject; raises ValueError for a malformed one."""
    if not isinstance(subject, Mapping) or not subject:
        raise ValueError("its subject is no object")
    kind = _format(subject)
    # Before the final specification a complex subject had no format.
    if kind == _COMPLEX or (kind is None and subject.keys() <= _PARTS):
        parts = [(name, value) for name, value in subject.items() if name in _PARTS]
        if not parts:
            raise ValueError("its complex subject has no part")
        return [each for name, value in parts for each in _simple(name, value)]
    return list(_simple(SIMPLE, subject))


def _simple(part: str, subject: object) -> Iterator[SubjectIdentifier]:
    if not isinstance(subject, Mapping):
        raise ValueError("a part of its subject is no object")  # noqa: TRY004 - one for all
    kind = _format(subject)
    if kind is None or kind == _COMPLEX:
        raise ValueError("its subject has no format")
    if kind == _ALIASES:
        aliases = subject.get("identifiers")
        if not isinstance(aliases, list) or not 0 < len(aliases) <= _MAX_ALIASES:
            raise ValueError("its aliases are no list of identifiers")
        for each in aliases:
            if isinstance(each, Mapping) and _format(each) == _ALIASES:
                raise ValueError("its aliases are nested")  # RFC 9493 §3.2.8
            yield from _simple(part, each)
        return
    for name in _MEMBERS.get(kind, ()):
        value = subject.get(name)
        if not isinstance(value, str) or not value:
            raise ValueError(f"the {name} of its subject is no text")
    yield SubjectIdentifier(part, kind, subject)


def _format(subject: Mapping[str, Any]) -> str | None:
    """Return the format; older events call it `subject_type`, and spell it with hyphens."""
    found = subject.get("format", subject.get("subject_type"))
    return found.replace("-", "_") if isinstance(found, str) and found else None
