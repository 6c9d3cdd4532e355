"""Reading an `application/x-www-form-urlencoded` body, strictly and within bounds.

Every refusal is a `FormError`; what it says never quotes the body, which may hold a password.
"""

from __future__ import annotations

import re
from urllib.parse import unquote_to_bytes

from bearerguard.messages import Request

# A sealed authorization request and a password fit many times over.
MAX_BYTES = 65_536
MAX_FIELDS = 64

_MEDIA_TYPE = re.compile(
    rb'application/x-www-form-urlencoded[ \t]*(;[ \t]*charset="?utf-8"?[ \t]*)?', re.IGNORECASE
)
_STRAY_PERCENT = re.compile(rb"%(?![0-9A-Fa-f]{2})")


class FormError(ValueError):
    """The body is no form that can be read; the message is safe to show."""


def read(request: Request) -> dict[str, str]:
    """Return the fields of a form that was posted; a field given twice is refused."""
    types = request.values(b"content-type")
    if len(types) != 1 or not _MEDIA_TYPE.fullmatch(types[0].strip()):
        raise FormError("The form must be sent as application/x-www-form-urlencoded")
    return parse(request.body)


def parse(body: bytes) -> dict[str, str]:
    """Return the fields that a body has."""
    if len(body) > MAX_BYTES:
        raise FormError("The form is too large")
    parts = [part for part in body.split(b"&") if part]
    if len(parts) > MAX_FIELDS:
        raise FormError("The form has too many fields")
    fields: dict[str, str] = {}
    for part in parts:
        name, _, value = part.partition(b"=")
        key = _decoded(name)
        if key in fields:
            raise FormError("A field of the form is repeated")
        fields[key] = _decoded(value)
    return fields


def _decoded(octets: bytes) -> str:
    if _STRAY_PERCENT.search(octets):
        raise FormError("The form is not encoded properly")
    try:
        return unquote_to_bytes(octets.replace(b"+", b" ")).decode("utf-8")
    except UnicodeDecodeError:
        raise FormError("The form is not encoded as UTF-8") from None
