"""TOOL-01: what a tool, resource or prompt requires, decided on headers and body."""

from __future__ import annotations

from typing import Any

import pytest

from bearerguard.testing import LocalIssuer
from tests.mcp.bare import message
from tests.mcp.calls import LEGACY, MODERN, McpClient, client, result, structured

REVISIONS = [MODERN, LEGACY]
TITLE = {"title": "Dawn chorus"}


@pytest.fixture(params=REVISIONS)
def reader(url: str, issuer: LocalIssuer, request: pytest.FixtureRequest) -> McpClient:
    reader = client(url, issuer, "read", revision=request.param)
    if request.param == LEGACY:
        reader.open()
    return reader


@pytest.fixture(params=REVISIONS)
def writer(url: str, issuer: LocalIssuer, request: pytest.FixtureRequest) -> McpClient:
    scopes = ("read", "write", "private", "prompts")
    writer = client(url, issuer, *scopes, revision=request.param)
    if request.param == LEGACY:
        writer.open()
    return writer


def refused(response: Any, scope: str) -> None:
    assert response.status_code == 403, response.text
    challenge = response.headers["www-authenticate"]
    assert 'error="insufficient_scope"' in challenge
    assert f'scope="{scope}"' in challenge


def test_TOOL_01_a_tool_without_a_requirement_needs_what_every_request_needs(
    reader: McpClient,
) -> None:
    assert structured(reader.call("list_recordings")) == ["Dawn chorus"]


def test_TOOL_01_a_caller_without_the_scopes_of_a_tool_gets_a_403_that_names_them(
    reader: McpClient,
) -> None:
    refused(reader.call("delete_recording", **TITLE), "read write")


def test_TOOL_01_a_caller_with_the_scopes_of_a_tool_calls_it(writer: McpClient) -> None:
    assert structured(writer.call("delete_recording", **TITLE)) == "deleted Dawn chorus"


def test_TOOL_01_a_name_beyond_ascii_is_decoded(reader: McpClient, writer: McpClient) -> None:
    refused(reader.call("aufnahme_löschen"), "read write")
    assert structured(writer.call("aufnahme_löschen")) == "gelöscht"


def test_TOOL_01_resources_and_prompts_have_requirements_too(
    reader: McpClient, writer: McpClient
) -> None:
    private = "recordings://private/dawn"
    assert result(reader.send("resources/read", uri="recordings://public"))["contents"]
    refused(reader.send("resources/read", uri=private), "read private")
    refused(reader.send("prompts/get", name="summarize"), "read prompts")
    (content,) = result(writer.send("resources/read", uri=private))["contents"]
    assert content["text"] == "private dawn"
    assert result(writer.send("prompts/get", name="summarize"))["messages"]


@pytest.mark.parametrize(
    "uri",
    [
        "RECORDINGS://private/dawn",
        "recordings://PRIVATE/dawn",
        "recordings://%70rivate/dawn",
        "recordings://private/x/../dawn",
    ],
)
def test_TOOL_01_a_resource_is_decided_on_however_its_uri_is_spelt(
    reader: McpClient, uri: str
) -> None:
    refused(reader.send("resources/read", uri=uri), "read private")


def test_TOOL_01_subscribing_to_a_resource_needs_what_reading_it_needs(reader: McpClient) -> None:
    refused(reader.send("resources/subscribe", uri="recordings://private/dawn"), "read private")


@pytest.mark.parametrize("member", ["resourceSubscriptions", "resource_subscriptions"])
def test_TOOL_01_listening_for_changes_of_a_resource_needs_what_reading_it_needs(
    url: str, issuer: LocalIssuer, member: str
) -> None:
    reader = client(url, issuer, "read", revision=MODERN)
    uris = ["recordings://public", "recordings://private/dawn"]
    listening = {member: uris, "toolsListChanged": True}
    refused(reader.send("subscriptions/listen", notifications=listening), "read private")


@pytest.mark.parametrize(
    ("ref", "scope"),
    [
        ({"type": "ref/prompt", "name": "summarize"}, "read prompts"),
        ({"type": "ref/resource", "uri": "recordings://private/{name}"}, "read private"),
    ],
    ids=str,
)
def test_TOOL_01_completing_an_argument_needs_what_its_prompt_or_resource_needs(
    reader: McpClient, ref: dict[str, str], scope: str
) -> None:
    argument = {"name": "name", "value": "d"}
    refused(reader.send("completion/complete", ref=ref, argument=argument), scope)


def test_TOOL_01_a_body_that_differs_from_the_headers_is_400(writer: McpClient) -> None:
    headers = {"Mcp-Method": "tools/call", "Mcp-Name": "list_recordings"}
    sent = message("tools/call", name="delete_recording", arguments=TITLE)
    response = writer.post(sent, headers)
    assert response.status_code == 400
    assert response.headers["content-type"] == "application/json"
    assert response.json()["error"]["code"] == -32020


def test_TOOL_01_a_client_of_an_earlier_revision_is_decided_on_its_body(
    url: str, issuer: LocalIssuer
) -> None:
    reader = client(url, issuer, "read", revision="2025-03-26")
    reader.open()
    refused(reader.call("delete_recording", **TITLE), "read write")


def test_TOOL_01_every_call_of_a_batch_must_pass(reader: McpClient) -> None:
    listing = message("tools/call", name="list_recordings", arguments={})
    deleting = message("tools/call", name="delete_recording", arguments=TITLE)
    refused(reader.post([listing, deleting]), "read write")
    # The server decides on a batch whose calls may be made: this one refuses it.
    assert reader.post([listing, listing]).status_code == 400
    batch = reader.post([listing], {"Mcp-Method": "tools/list"})
    assert batch.json()["error"]["code"] == -32020


def test_TOOL_01_a_body_beyond_the_bound_is_413(writer: McpClient) -> None:
    sent = message("tools/call", name="list_recordings", arguments={"x": "x" * 4 * 1024 * 1024})
    assert writer.post(sent).status_code == 413
