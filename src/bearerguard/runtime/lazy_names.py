"""Public names of a package that bring their modules when they are first used (PEP 562)."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


def lazy_names(
    package: str, place_of: Mapping[str, str]
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Return the `__getattr__` and `__dir__` of a package, by the module of each name.

    Modules are named from the package: "manager", or ".errors" for one beside the package.
    """
    members = vars(sys.modules[package])

    def found(name: str) -> Any:
        place = place_of.get(name)
        if place is None:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value = members[name] = getattr(import_module(f".{place}", package), name)
        return value

    return found, lambda: sorted({*members, *place_of})
