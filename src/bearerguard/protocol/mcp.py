"""MCP over Streamable HTTP: the operations that a request names (revision 2026-07-28).

The headers `Mcp-Method` and `Mcp-Name` name one operation (§Request Metadata); the body names it
too, and decides what the app does. Clients of earlier revisions send the body alone, and those of
2025-03-26 may send several messages in one array.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

from bearerguard.protocol.jose import strict_json

PARSE_ERROR = -32700
INVALID_REQUEST = -32600
INVALID_PARAMS = -32602
HEADER_MISMATCH = -32020

CALL_TOOL = "tools/call"
GET_PROMPT = "prompts/get"
READ_RESOURCE = "resources/read"
#: What an operation names.
TOOL, PROMPT, RESOURCE = "tool", "prompt", "resource"
# The methods whose name is mirrored by `Mcp-Name`, each with the parameter that has it.
_MIRRORED = {CALL_TOOL: "name", GET_PROMPT: "name", READ_RESOURCE: "uri"}
_NAMED = {**_MIRRORED, "resources/subscribe": "uri", "resources/unsubscribe": "uri"}
_KINDS = dict.fromkeys(_NAMED, RESOURCE) | {CALL_TOOL: TOOL, GET_PROMPT: PROMPT}
# One request subscribes to several resources; the SDK also reads the name that Python has for it.
_LISTEN = "subscriptions/listen"
_SUBSCRIBED = ("resourceSubscriptions", "resource_subscriptions")
# It proposes arguments for a prompt, or for the template of a resource, and so shows what they are.
_COMPLETE = "completion/complete"
_REFERRED = {"ref/prompt": ("name", PROMPT), "ref/resource": ("uri", RESOURCE)}

# A field value (RFC 9110 §5.5), in visible ASCII as MCP restricts it.
_FIELD_VALUE = re.compile(rb"[\x09\x20-\x7E]*")
_SENTINEL = re.compile(r"=\?base64\?(.*)\?=")

RequestId: TypeAlias = str | int | float | None


class MessageError(ValueError):
    """The headers or the body cannot be accepted: 400, with this JSON-RPC error.

    Attributes:
        code: the JSON-RPC error code.
        request_id: the `id` of the message, None where it has none or cannot be read.
    """

    def __init__(self, code: int, message: str, request_id: RequestId = None) -> None:
        super().__init__(message)
        self.code: int = code
        self.request_id: RequestId = request_id


@dataclass(frozen=True, slots=True)
class Operation:
    """What a message asks for: a method, and the tool, prompt or resource that it names.

    `kind` is which of them `name` is; both are None where a message names none.
    """

    method: str
    name: str | None = None
    kind: str | None = None


def from_headers(headers: Iterable[tuple[bytes, bytes]]) -> Operation | None:
    """Return the operation that a request's headers name, None without these headers.

    Raises `MessageError` where they are repeated, incomplete or malformed.
    """
    values: dict[bytes, list[bytes]] = {b"mcp-method": [], b"mcp-name": []}
    for field, value in headers:
        found = values.get(field.lower())
        if found is not None:
            found.append(value)
    method, name = _single(values, b"mcp-method"), _single(values, b"mcp-name")
    if method is None:
        if name is not None:
            raise _mismatch("Mcp-Name is sent without Mcp-Method")
        return None
    if method not in _MIRRORED:
        return Operation(method)
    if name is None:
        raise _mismatch(f"Mcp-Name is missing, which {method} requires")
    return Operation(method, _decoded(name), _KINDS[method])


def from_body(body: bytes, declared: Operation | None) -> list[Operation]:
    """Return the operations that a request's body asks for; `declared` is that of the headers.

    Raises `MessageError` where the body is not JSON-RPC, can be read in more than one way, or
    differs from the headers.
    """
    try:
        content = strict_json.loads(body)
    except ValueError as error:
        raise MessageError(PARSE_ERROR, f"Parse error: {error}") from None
    if not isinstance(content, list):
        return list(_operations(content, declared))
    if declared is not None:
        raise _mismatch("Mcp-Method names one message, and the body is a batch")
    return [operation for each in content for operation in _operations(each, None)]


def error_body(code: int, message: str, request_id: RequestId = None) -> bytes:
    """Return a JSON-RPC error response."""
    error = {"code": code, "message": message}
    return json.dumps({"jsonrpc": "2.0", "id": request_id, "error": error}).encode()


def _single(values: dict[bytes, list[bytes]], name: bytes) -> str | None:
    found, title = values[name], name.decode().title()
    if len(found) > 1:
        raise _mismatch(f"{title} is repeated")
    if found and not _FIELD_VALUE.fullmatch(found[0]):
        raise _mismatch(f"{title} has a character that a header must not have")
    return found[0].decode("ascii") if found else None


def _decoded(value: str) -> str:
    """Decode the Base64 form, in which other characters are sent (§Value Encoding)."""
    match = _SENTINEL.fullmatch(value)
    if match is None:
        return value
    try:
        octets = base64.b64decode(match[1], validate=True)
        # Other readers must not decode it to another name: only the canonical form is accepted.
        if base64.b64encode(octets).decode() == match[1]:
            return octets.decode()
    except (binascii.Error, UnicodeDecodeError):
        pass  # refused below
    raise _mismatch("Mcp-Name is not valid Base64 of UTF-8")


def _operations(message: Any, declared: Operation | None) -> Iterator[Operation]:
    """Yield what one message asks for: nothing for a response."""
    if not isinstance(message, dict):
        raise MessageError(INVALID_REQUEST, "Invalid Request: a message is a JSON object")
    given: Any = message.get("id")
    is_id = isinstance(given, str | int | float) and not isinstance(given, bool)
    request_id: RequestId = given if is_id else None
    method: Any = message.get("method")
    if declared is not None and method != declared.method:
        raise _mismatch("Mcp-Method differs from the body's method", request_id)
    if method is None:
        return
    if not isinstance(method, str):
        raise MessageError(INVALID_REQUEST, "Invalid Request: method is a string", request_id)
    params: Any = message.get("params")
    for operation in _named(method, params if isinstance(params, dict) else {}, request_id):
        if declared is not None and method in _MIRRORED and operation.name != declared.name:
            text = f"Mcp-Name differs from the body's {_MIRRORED[method]}"
            raise _mismatch(text, request_id)
        yield operation


def _named(method: str, params: dict[str, Any], request_id: RequestId) -> Iterator[Operation]:
    """Yield an operation for each tool, prompt or resource that the parameters name."""
    within: Any = params
    if method in _NAMED:
        parameter, kind = _NAMED[method], _KINDS[method]
    elif method == _COMPLETE:
        within = params.get("ref")
        known = within.get("type") if isinstance(within, dict) else None
        if not isinstance(known, str) or known not in _REFERRED:
            text = "Invalid params: ref refers to a prompt or to a resource"
            raise MessageError(INVALID_PARAMS, text, request_id)
        parameter, kind = _REFERRED[known]
    else:
        if method == _LISTEN:
            uris = _subscribed(params, request_id)
            yield from (Operation(method, each, RESOURCE) for each in uris)
        yield Operation(method)
        return
    name: Any = within.get(parameter)
    if not isinstance(name, str):
        text = f"Invalid params: {method} requires {parameter}, a string"
        raise MessageError(INVALID_PARAMS, text, request_id)
    yield Operation(method, name, kind)


def _subscribed(params: dict[str, Any], request_id: RequestId) -> list[str]:
    """Return the URIs to whose changes a request subscribes."""
    wanted: Any = params.get("notifications")
    if not isinstance(wanted, dict):
        wanted = {}
    lists = [wanted[each] for each in _SUBSCRIBED if wanted.get(each) is not None]
    if not all(isinstance(each, list) for each in lists):
        lists = [[None]]
    uris: list[Any] = [uri for each in lists for uri in each]
    if not all(isinstance(uri, str) for uri in uris):
        text = f"Invalid params: {_SUBSCRIBED[0]} is a list of strings"
        raise MessageError(INVALID_PARAMS, text, request_id)
    return uris


def _mismatch(text: str, request_id: RequestId = None) -> MessageError:
    return MessageError(HEADER_MISMATCH, f"Header mismatch: {text}", request_id)
