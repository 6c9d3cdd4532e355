"""Public names of a package whose modules are imported at their first use (PEP 562)."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


def lazy_names(
    package: str, module_of: Mapping[str, str]
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Return `__getattr__` and `__dir__` for a package, given the module of each public name.

    Modules are named from the package: "manager", or ".errors" for one beside the package.
    """
    members = vars(sys.modules[package])

    def attribute(name: str) -> Any:
        module = module_of.get(name)
        if module is None:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value = members[name] = getattr(import_module(f".{module}", package), name)
        return value

    return attribute, lambda: sorted({*members, *module_of})
