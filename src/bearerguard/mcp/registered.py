"""Which tools, resources and prompts an app has, where that can be known: MCP SDK and fastmcp.

Called when the app has started. An app of another kind, and one of the SDK's low-level servers, is
not examined. Imports neither package: an app of theirs has imported it.
"""

from __future__ import annotations

import logging
import sys
from collections import deque
from collections.abc import Iterable, Iterator
from difflib import get_close_matches
from typing import Any

from bearerguard.errors import quoted
from bearerguard.mcp.requirements import Names, OperationRequirements
from bearerguard.middleware.inner_apps import kept_attribute

_log = logging.getLogger("bearerguard")

# Where Starlette, middleware and the SDK keep apps, routes and sessions.
_PARTS = ("app", "_app", "router", "routes", "endpoint", "session_manager")
# More than any app has: routes may refer to each other.
_MAX_OBJECTS = 10_000


async def unknown_names(app: object, requirements: OperationRequirements) -> str | None:
    """Return which names the app does not have, for its operator; None if there is none."""
    for server in _servers(app):
        try:
            tools = await _listed(server, "list_tools", "name")
            prompts = await _listed(server, "list_prompts", "name")
            resources = await _listed(server, "list_resources", "uri")
            templates = await _listed(server, "list_resource_templates", "uri_template")
        except Exception as error:  # of a proxy whose server is down, or of the app's middleware
            _log.warning(
                "tools=, resources= and prompts= are not compared with those that the MCP app has:"
                " listing them raised %s",
                type(error).__name__,
            )
            return None
        unknown = [*_unknown(requirements.tools, tools), *_unknown(requirements.prompts, prompts)]
        if not templates:  # a template may serve any resource
            unknown += _unknown(requirements.resources, resources)
        return "; ".join(unknown) or None
    return None


def _unknown(names: Names, known: Iterable[str]) -> Iterator[str]:
    listed = sorted(known)
    for key in names.unknown(listed):
        close = get_close_matches(key, listed, 1)
        remedy = f"did you mean {quoted(close[0])}?" if close else "correct the name."
        yield (
            f"{names.option}=: the MCP app has no {names.option[:-1]} {quoted(key)}: {remedy}"
            " Pass check_names=False if it is added later"
        )


async def _listed(server: Any, method: str, member: str) -> set[str]:
    """Return the names of what a server lists, those that it hides from callers included."""
    found = [*await getattr(server, method)()]
    provider = _class_of("fastmcp.server.providers.aggregate", "AggregateProvider")
    if isinstance(server, provider):
        found += await getattr(provider, method)(server)
    return {str(getattr(each, member)) for each in found}


def _servers(root: object) -> Iterator[object]:
    """Yield the servers of fastmcp and of the SDK that an app serves."""
    waiting, seen = deque[Any]([root]), dict[int, object]()
    low_level = _class_of("mcp.server.lowlevel.server", "Server")
    high_level = _class_of("mcp.server.mcpserver.server", "MCPServer")
    while waiting and len(seen) < _MAX_OBJECTS:
        each = waiting.popleft()
        if each is None or id(each) in seen:
            continue
        seen[id(each)] = each
        if isinstance(each, low_level):
            entry: Any = each.get_request_handler("tools/list")
            server = getattr(getattr(entry, "handler", None), "__self__", None)
            if isinstance(server, high_level):
                yield server
            continue
        server = getattr(kept_attribute(each, "state"), "fastmcp_server", None)
        if server is not None:
            yield server
        if isinstance(each, list | tuple):
            waiting.extend(each)
        else:
            waiting.extend(kept_attribute(each, name) for name in _PARTS)


def _class_of(module: str, name: str) -> Any:
    """Return a class of a module that is loaded, else what nothing is an instance of."""
    return getattr(sys.modules.get(module), name, ())
