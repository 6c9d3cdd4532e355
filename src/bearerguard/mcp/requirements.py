"""What each tool, resource and prompt requires of its caller: the options of `protect`.

A key is a name, or a beginning with `*` at its end. A name of its own decides before a pattern,
and a longer pattern before a shorter one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeAlias
from urllib.parse import unquote

from bearerguard.errors import ConfigurationError
from bearerguard.guard.config.requirement import Requirement
from bearerguard.protocol import mcp
from bearerguard.protocol.http.uri import normalized

Requirements: TypeAlias = Mapping[str, Requirement]


@dataclass(frozen=True, slots=True)
class _Keys:
    """What decides by the whole name, and by the beginning of a name, the longest first."""

    whole: Mapping[str, Requirement]
    beginnings: Mapping[str, Requirement]

    def find(self, name: str) -> tuple[str, Requirement] | None:
        if name in self.whole:
            return name, self.whole[name]
        for beginning, requirement in self.beginnings.items():
            if name.startswith(beginning):
                return beginning + "*", requirement
        return None


class Names:
    """The requirements of one kind of operation.

    Attributes:
        option: the option of `protect`.
    """

    def __init__(self, option: str, requirements: Requirements | None) -> None:
        given = {} if requirements is None else requirements
        if not isinstance(given, Mapping) or not all(_is_entry(*each) for each in given.items()):
            raise ConfigurationError(
                f'{option}=: pass a dict of requirements by name, such as {{"name": scopes("write")'
                "}; a name may have * at its end only"
            )
        self.option: str = option
        patterns = sorted((key for key in given if key.endswith("*")), key=len, reverse=True)
        self._keys = _Keys(
            {key: each for key, each in given.items() if not key.endswith("*")},
            {key[:-1]: given[key] for key in patterns},
        )

    def __iter__(self) -> Iterator[Requirement]:
        yield from self._keys.whole.values()
        yield from self._keys.beginnings.values()

    def find(self, name: str) -> list[tuple[str, Requirement]]:
        """Return the key that decides on a name, with its requirement; empty if none does."""
        found = self._keys.find(name)
        return [] if found is None else [found]

    def unknown(self, names: Iterable[str]) -> list[str]:
        """Return the keys that none of these names matches; `*` alone is for any name."""
        known = set(names)
        return [key for key in self._keys.whole if key not in known] + [
            beginning + "*"
            for beginning in self._keys.beginnings
            if beginning and not any(each.startswith(beginning) for each in known)
        ]


class ResourceNames(Names):
    """The requirements of resources: every spelling of a URI is decided on (RFC 3986 §6.2.2)."""

    def __init__(self, option: str, requirements: Requirements | None) -> None:
        super().__init__(option, requirements)
        whole, beginnings = self._keys.whole, self._keys.beginnings
        self._normalized = _Keys(
            {normalized(key): each for key, each in whole.items()},
            {_normalized_beginning(key): each for key, each in beginnings.items()},
        )
        self._decoded = _Keys(
            {unquote(key): each for key, each in self._normalized.whole.items()},
            {unquote(key): each for key, each in self._normalized.beginnings.items()},
        )

    def find(self, name: str) -> list[tuple[str, Requirement]]:
        """Return what decides on a URI as it was sent, and on what apps read it as.

        fastmcp decodes all of what a template matches, and ignores a query that it does not name.
        """
        usual = normalized(name)
        path = usual.partition("?")[0]
        found = (
            self._keys.find(name),
            self._normalized.find(usual),
            self._decoded.find(unquote(usual)),
            self._normalized.find(path),
            self._decoded.find(unquote(path)),
        )
        return [each for each in found if each is not None]


class OperationRequirements:
    """The requirements of all operations; false if there are none.

    Raises:
        ConfigurationError: an option is malformed.
    """

    def __init__(
        self,
        tools: Requirements | None,
        resources: Requirements | None,
        prompts: Requirements | None,
    ) -> None:
        self.tools: Names = Names("tools", tools)
        self.resources: ResourceNames = ResourceNames("resources", resources)
        self.prompts: Names = Names("prompts", prompts)

        self._of: dict[str, Names] = {
            mcp.TOOL: self.tools,
            mcp.RESOURCE: self.resources,
            mcp.PROMPT: self.prompts,
        }

    def __iter__(self) -> Iterator[Requirement]:
        yield from (*self.tools, *self.resources, *self.prompts)

    def __bool__(self) -> bool:
        return any(True for _ in self)

    def of(self, operations: Iterable[mcp.Operation]) -> dict[str, Requirement]:
        """Return what these operations require, by their methods and the keys that decide."""
        return {
            f"{operation.method} {key}": requirement
            for operation in operations
            if operation.kind is not None and operation.name is not None
            for key, requirement in self._of[operation.kind].find(operation.name)
        }


def _normalized_beginning(uri: str) -> str:
    """Return the beginning of a URI with scheme and host in lower case; it may end within them."""
    scheme, mark, rest = uri.partition("://")
    host, slash, path = rest.partition("/")
    return scheme.lower() + mark + host.lower() + slash + path if mark else uri


def _is_entry(key: object, requirement: object) -> bool:
    is_key = isinstance(key, str) and key != "" and "*" not in key[:-1]
    return is_key and isinstance(requirement, Requirement)
