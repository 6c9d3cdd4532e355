"""drf-spectacular: the security schemes of the guard, and the scopes of each operation.

Importing it registers the extension; the app `bearerguard.django` in `INSTALLED_APPS` does that.
"""

from __future__ import annotations

from typing import Any

from drf_spectacular.extensions import OpenApiAuthenticationExtension

from bearerguard.django.protection import protection
from bearerguard.django.rest_framework import requirement_of_view
from bearerguard.guard.config.requirement import combined
from bearerguard.middleware.openapi import security_requirements, security_schemes

__all__ = ["BearerScheme"]


class BearerScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    """Describes `BearerAuthentication` and its subclasses in OpenAPI."""

    target_class: str | type[object] | None = (
        "bearerguard.django.rest_framework.BearerAuthentication"
    )
    match_subclasses: bool = True

    def __init__(self, target: Any) -> None:
        super().__init__(target)  # type: ignore[no-untyped-call]
        #: The names of the security schemes, one for each issuer.
        self.name: str | list[str] = list(security_schemes(protection().guard))

    def get_security_definition(self, auto_schema: Any) -> list[Any]:  # noqa: ARG002 - as the library calls it
        """Return the security schemes."""
        return list(security_schemes(protection().guard).values())

    def get_security_requirement(self, auto_schema: Any) -> list[Any]:
        """Return the Security Requirement Objects of an operation (OpenAPI 3.0, §4.7.30)."""
        in_force = protection()
        own = requirement_of_view(auto_schema.view, auto_schema.method)
        return [
            *security_requirements(in_force.guard, combined(in_force.admission.requirement, own))
        ]
