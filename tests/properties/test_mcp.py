"""Messages and headers of MCP: read as the SDK reads them, or refused."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st
from mcp.shared import inbound

from bearerguard import scopes
from bearerguard.mcp.requirements import OperationRequirements
from bearerguard.protocol import mcp

# The methods that name what they ask for, with the parameter that does, and what it is.
NAMED = {
    mcp.CALL_TOOL: ("name", mcp.TOOL),
    mcp.GET_PROMPT: ("name", mcp.PROMPT),
    mcp.READ_RESOURCE: ("uri", mcp.RESOURCE),
}
METHODS = st.sampled_from([*NAMED, "tools/list", "ping"])
VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["method", "params", "name", "uri", "id"]), inner, max_size=5
        )
    ),
    max_leaves=8,
)


@given(st.text(), METHODS)
@example("=?base64?x?=", "tools/call")
@example(" padded ", "tools/call")
def test_a_name_that_the_sdk_sends_is_read_as_it_was(name: str, method: str) -> None:
    try:
        value = inbound.encode_header_value(name).encode()
    except UnicodeEncodeError:
        return  # half a surrogate pair, which JSON cannot have either
    headers = [(b"Mcp-Method", method.encode()), (b"Mcp-Name", value)]
    declared = mcp.from_headers(headers)
    parameter, kind = NAMED.get(method, ("name", None))
    params = {parameter: name}
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).encode()
    named = name if method in NAMED else None
    assert mcp.from_body(body, declared) == [mcp.Operation(method, named, kind)]


@given(st.lists(st.tuples(st.sampled_from([b"mcp-method", b"MCP-Name"]), st.binary()), max_size=3))
@example([(b"mcp-method", b"tools/call"), (b"MCP-Name", b"=?base64?////?=")])
def test_any_headers_name_an_operation_or_are_refused(headers: list[tuple[bytes, bytes]]) -> None:
    try:
        operation = mcp.from_headers(headers)
    except mcp.MessageError:
        return
    if operation is None:
        assert not headers
        return
    sent = {name.lower().decode(): value.decode() for name, value in headers}
    assert operation.method == sent["mcp-method"]
    if operation.name is not None:
        assert operation.name == inbound.decode_header_value(sent["mcp-name"])


@given(st.binary() | VALUES.map(lambda value: json.dumps(value).encode()))
def test_any_body_is_read_as_json_reads_it_or_is_refused(body: bytes) -> None:
    try:
        operations = mcp.from_body(body, None)
    except mcp.MessageError as error:
        json.loads(mcp.error_body(error.code, str(error), error.request_id))
        return
    content = json.loads(body)
    messages = content if isinstance(content, list) else [content]
    methods = [each["method"] for each in messages if each.get("method") is not None]
    assert [each.method for each in operations] == methods


@given(st.text(min_size=1), st.text())
def test_a_name_is_decided_on_by_itself_or_by_its_beginning(name: str, rest: str) -> None:
    if "*" in name:
        return
    exact, pattern = {name: scopes("a")}, {f"{name}*": scopes("a")}
    for method, option in ((mcp.CALL_TOOL, "tools"), (mcp.READ_RESOURCE, "resources")):
        _, kind = NAMED[method]
        for keys in (exact, pattern):
            options: dict[str, Any] = {"tools": None, "resources": None, "prompts": None}
            found = OperationRequirements(**options | {option: keys})
            assert found.of([mcp.Operation(method, name, kind)])
        patterns = OperationRequirements(**options | {option: pattern})
        assert patterns.of([mcp.Operation(method, name + rest, kind)])
