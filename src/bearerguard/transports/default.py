"""The transport that guards and clients use where they are given none.

It is imported when it is built: whoever brings another transport needs no HTTP library.
"""

from __future__ import annotations

from typing import Any

from bearerguard.errors import ConfigurationError
from bearerguard.runtime.fetching import Transport


def default_transport(headers: object = None, *, setting: str = "headers") -> Transport:
    """Return the `HttpTransport` that is used where no transport was given.

    `headers` are sent with every request, and have the form of a setting: a dict, or text with
    one `Name: value` a line, since values may have commas. Raises `ConfigurationError`, which
    names the `setting` and no value.
    """
    from bearerguard.transports.http import HttpTransport  # noqa: PLC0415 - built lazily by design

    if headers is None or headers == "":
        return HttpTransport()
    try:
        given: Any = _lines(headers) if isinstance(headers, str) else headers
        return HttpTransport(headers=given)
    except ConfigurationError as error:
        raise ConfigurationError(f"{setting}: {error}") from None


def _lines(text: str) -> list[tuple[str, str]]:
    lines = [line.strip().partition(":") for line in text.splitlines() if line.strip()]
    if not all(colon for _, colon, _ in lines):
        raise ConfigurationError("give one `Name: value` a line")
    return [(name, value.strip()) for name, _, value in lines]
