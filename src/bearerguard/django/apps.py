"""The app `bearerguard.django`, for `INSTALLED_APPS`: it registers the system checks."""

from __future__ import annotations

from importlib import import_module

from django.apps import AppConfig, apps

from bearerguard.django import checks


# Private: Django finds it, and a public class whose base is untyped would have no full type.
class _Config(AppConfig):  # type: ignore[misc]
    """Registers the system checks."""

    name: str = "bearerguard.django"
    label: str = "bearerguard"
    verbose_name: str = "Bearer tokens"

    def ready(self) -> None:
        """Register the checks, and what drf-spectacular must know."""
        checks.register_all()
        if apps.is_installed("drf_spectacular"):
            import_module("bearerguard.django.spectacular")
