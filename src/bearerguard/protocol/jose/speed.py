"""The extra `[speed]`: msgspec and pybase64, used where they are installed.

They make parsing faster and change no result. `BEARERGUARD_PLAIN=1` in the environment leaves them
out, so that both ways can be tested on one machine.
"""

from __future__ import annotations

import os
from contextlib import suppress
from importlib import import_module
from typing import Any

msgspec: Any
pybase64: Any
msgspec = pybase64 = None

if not os.environ.get("BEARERGUARD_PLAIN"):
    with suppress(ImportError):
        msgspec, pybase64 = import_module("msgspec"), import_module("pybase64")

IN_USE = msgspec is not None
"""Whether the extra is in use."""
