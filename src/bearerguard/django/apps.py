"""The app `bearerguard.django`, for `INSTALLED_APPS`: it registers the system checks."""

from __future__ import annotations

from django.apps import AppConfig

from bearerguard.django import checks


class BearerGuardConfig(AppConfig):  # type: ignore[misc] # Django is untyped
    """Registers the system checks."""

    name: str = "bearerguard.django"
    label: str = "bearerguard"
    verbose_name: str = "Bearer tokens"

    def ready(self) -> None:
        """Register the checks."""
        checks.register_all()
