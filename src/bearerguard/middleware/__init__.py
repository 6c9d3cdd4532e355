"""What both adapters and all frameworks share, and the interface for adding others.

`Admission` decides on requests and refuses them, `ResponseHeaders` adds headers to responses, and
`RouteDecorators` makes `require`. `docs/extending/frameworks.md` has a worked example.
"""

from __future__ import annotations

from bearerguard.middleware.adapter import Adapter
from bearerguard.middleware.admission import Admission, AdmissionOptions, RequestInfo
from bearerguard.middleware.decorators import Admitted, RouteDecorators, check_routes, check_takes
from bearerguard.middleware.expiry_headers import ResponseHeaders, TokenHeaders

__all__ = [
    "Adapter",
    "Admission",
    "AdmissionOptions",
    "Admitted",
    "RequestInfo",
    "ResponseHeaders",
    "RouteDecorators",
    "TokenHeaders",
    "check_routes",
    "check_takes",
]
