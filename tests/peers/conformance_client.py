"""A client of MCP servers for the protocol's conformance suite: `conformance_client.py URL`.

The suite starts an MCP server and an authorization server, and watches what this client sends.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import threading
from functools import partial
from typing import Any

import httpx2
from mcp.client.client import Client
from mcp.client.streamable_http import streamable_http_client

from bearerguard.client import (
    ApiLogin,
    AuthorizationCode,
    BearerAuth,
    ClientCredentials,
    ClientRegistration,
    IdentityAssertion,
    Interactive,
    JwtBearer,
    MemoryStorage,
    TokenManager,
    TokenSource,
    discover,
)

SCENARIO = os.environ["MCP_CONFORMANCE_SCENARIO"].removeprefix("auth/")
CONTEXT: dict[str, Any] = json.loads(os.environ.get("MCP_CONFORMANCE_CONTEXT") or "{}")
VERSION = os.environ.get("MCP_CONFORMANCE_PROTOCOL_VERSION", "2025-11-25")
# The document that the suite expects to see as a client id; no server of the suite fetches it.
DOCUMENT = "https://conformance-test.local/client-metadata.json"
MODERN = "2026-07-28"


def in_place_of_a_browser(url: str) -> None:
    """Follow the redirect of an authorization endpoint that asks nobody."""
    get = partial(httpx2.get, url, follow_redirects=True, timeout=20)
    threading.Thread(target=get, daemon=True).start()


def known_client(url: str) -> TokenSource:
    """Return the source of a client that the authorization server knows already."""
    found = discover(url)
    options: dict[str, Any] = {"client_id": CONTEXT["client_id"]}
    if SCENARIO == "wif-jwt-bearer":
        return JwtBearer(
            found.issuer, assertion=CONTEXT["valid_jwt"], resources=found.resource, **options
        )
    if "private_key_pem" in CONTEXT:
        options["private_key"] = CONTEXT["private_key_pem"]
    else:
        options["client_secret"] = CONTEXT["client_secret"]
    if SCENARIO.startswith("client-credentials"):
        return ClientCredentials(found.issuer, resources=found.resource, **options)
    if SCENARIO == "enterprise-managed-authorization":
        assertion = IdentityAssertion(
            CONTEXT["idp_issuer"],
            client_id=CONTEXT["idp_client_id"],
            subject_token=CONTEXT["idp_id_token"],
        )
        return JwtBearer(found.issuer, assertion=assertion, resources=found.resource, **options)
    return AuthorizationCode(
        found.issuer,
        scopes=found.scopes,
        resources=found.resource,
        open_browser=in_place_of_a_browser,
        **options,
    )


def source(url: str) -> TokenSource:
    """Return the source of a scenario."""
    if "client_id" in CONTEXT:
        return known_client(url)
    return ApiLogin(
        url,
        app=ClientRegistration(name="Conformance", metadata_url=DOCUMENT),
        storage=MemoryStorage(),
        open_browser=in_place_of_a_browser,
        dpop=SCENARIO.startswith("dpop"),
        timeout=20,
    )


async def main(url: str) -> None:
    """Connect, list the tools twice and call the first one."""
    manager = TokenManager(source(url))
    login = isinstance(manager.source, Interactive)
    auth = BearerAuth(manager, origins=url, login=login)
    async with httpx2.AsyncClient(auth=auth, timeout=20) as http:
        transport = streamable_http_client(url, http_client=http)
        mode: Any = MODERN if VERSION == MODERN else "legacy"
        async with Client(transport, mode=mode, cache=None) as client:
            tools = (await client.list_tools()).tools
            await client.list_tools()
            await client.call_tool(tools[0].name, {})


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
