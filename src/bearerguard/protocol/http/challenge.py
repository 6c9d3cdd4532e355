"""The challenge that a refusal sends: the `WWW-Authenticate` field (RFC 9110 §11.6.1, RFC 6750 §3).

`received_challenge` parses what others send.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from bearerguard.protocol import names

# RFC 6750 §3 admits fewer characters in its own parameters than a quoted-string does.
_NOT_IN_ERROR = re.compile(r"[^\x20-\x21\x23-\x5B\x5D-\x7E]")
_NOT_IN_QUOTED_STRING = re.compile(r"[^\x20-\x7E]")


@dataclass(frozen=True, slots=True)
class Challenge:
    """One challenge to send: a realm, and the parameters of RFC 6750 §3 that describe a refusal."""

    realm: str
    error: str | None = None
    error_description: str | None = None
    scope: str | None = None
    scheme: str = names.BEARER

    def build(self) -> str:
        """Return the field value; no parameter appears twice, no character is illegal."""
        parameters = {"realm": _quoted_string(self.realm)}
        for name in ("error", "error_description", "scope"):
            value = getattr(self, name)
            if value is not None:
                parameters[name] = f'"{_NOT_IN_ERROR.sub("", value)}"'
        joined = ", ".join(f"{name}={value}" for name, value in parameters.items())
        return f"{self.scheme} {joined}"


def _quoted_string(text: str) -> str:
    legal = _NOT_IN_QUOTED_STRING.sub("", text)
    return '"' + legal.replace("\\", "\\\\").replace('"', '\\"') + '"'
