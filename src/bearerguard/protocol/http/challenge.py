"""The challenge that a refusal sends: the `WWW-Authenticate` field (RFC 9110 §11.6.1, RFC 6750 §3).

`received_challenge` parses what others send.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from bearerguard.protocol import names

# RFC 6750 §3 admits fewer characters in its own parameters than a quoted-string does.
_NOT_IN_ERROR = re.compile(r"[^\x20-\x21\x23-\x5B\x5D-\x7E]")
# In the order in which they are sent.
_PARAMETERS = (
    *("error", "error_description", "scope"),
    *("acr_values", "max_age", "resource_metadata", "algs"),
)
_NOT_IN_QUOTED_STRING = re.compile(r"[^\x20-\x7E]")


@dataclass(frozen=True, slots=True)
class Challenge:
    """One challenge to send: a realm, and the parameters that describe a refusal (RFC 6750 §3).

    `resource_metadata` is the URL of the API's metadata (RFC 9728 §5.1), `algs` lists the
    algorithms of DPoP proofs (RFC 9449 §7.1). `acr_values`, separated by spaces, and `max_age`, in
    seconds, describe the login that is needed (RFC 9470 §3).
    """

    realm: str
    error: str | None = None
    error_description: str | None = None
    scope: str | None = None
    scheme: str = names.BEARER
    resource_metadata: str | None = None
    algs: str | None = None
    acr_values: str | None = None
    max_age: int | None = None

    def build(self) -> str:
        """Return the field value; no parameter appears twice, no character is illegal."""
        parameters = {"realm": _quoted_string(self.realm)}
        for name in _PARAMETERS:
            value = getattr(self, name)
            if value is not None:
                parameters[name] = f'"{_NOT_IN_ERROR.sub("", str(value))}"'
        joined = ", ".join(f"{name}={value}" for name, value in parameters.items())
        return f"{self.scheme} {joined}"


def _quoted_string(text: str) -> str:
    legal = _NOT_IN_QUOTED_STRING.sub("", text)
    return '"' + legal.replace("\\", "\\\\").replace('"', '\\"') + '"'
