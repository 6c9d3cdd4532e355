"""The extension object of a framework whose apps are configured by a mapping: Flask and Quart."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Generic, Protocol, TypeVar

from bearerguard.errors import ConfigurationError
from bearerguard.guard.config.requirement import Requirement
from bearerguard.guard.guard import Guard
from bearerguard.middleware.admission import AdmissionOptions

EXTENSION = "bearerguard"


class ConfiguredApp(Protocol):
    """An app with settings, and with extensions by their names."""

    config: Any
    extensions: dict[str, Any]


App = TypeVar("App", bound=ConfiguredApp)


class Extension(ABC, Generic[App]):
    """Authenticates every request of an app; each `BearerGuard` documents the arguments."""

    def __init__(
        self,
        app: App | None = None,
        *,
        guard: Guard | None = None,
        require: Requirement | None = None,
        optional: bool | Sequence[str] = False,
        exclude: Sequence[str] = (),
    ) -> None:
        self.guard: Guard | None = guard
        self._options: AdmissionOptions = {
            "require": require,
            "optional": optional,
            "exclude": exclude,
        }
        if app is not None:
            self.init_app(app)

    def init_app(self, app: App) -> None:
        """Protect `app`; one extension may protect several.

        Raises:
            ConfigurationError: the app has a `BearerGuard`, or a setting is missing or malformed.
        """
        if EXTENSION in app.extensions:
            raise ConfigurationError("init_app(): this app has a BearerGuard already")
        guard = self.guard or Guard.from_mapping(app.config)
        app.extensions[EXTENSION] = self._protect(app, guard, self._options)

    @abstractmethod
    def _protect(self, app: App, guard: Guard, options: AdmissionOptions) -> object:
        """Put the middleware around `app`, and return it."""
