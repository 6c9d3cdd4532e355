"""The base of the ASGI and the WSGI middleware: their options and attributes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar, Generic, TypeVar

from bearerguard.guard.config.requirement import Requirement
from bearerguard.guard.guard import Guard
from bearerguard.middleware.admission import PREFLIGHT_REMEDY, Admission

App = TypeVar("App")


class Adapter(ABC, Generic[App]):
    """Middleware that authenticates the requests of an app.

    Attributes:
        app: as passed.
        guard: as passed.
        admission: the checked options, which decide on requests and refuse them.

    These three are set once: what a warm request needs of them is prepared by the constructor.
    """

    __slots__ = ("admission", "app", "guard")

    admission: Admission
    app: App
    guard: Guard

    #: The advice in the event of a refused CORS preflight.
    preflight_remedy: ClassVar[str] = PREFLIGHT_REMEDY
    #: Whether CORS middleware inside the app sees refused requests all the same.
    app_sees_refusals: ClassVar[bool] = False

    def __init__(
        self,
        app: App,
        *,
        guard: Guard,
        require: Requirement | None = None,
        optional: bool | Sequence[str] = False,
        exclude: Sequence[str] = (),
        pass_preflights: bool = False,
    ) -> None:
        """Protect an app.

        Args:
            app: the app to protect.
            guard: validates the tokens.
            require: what every request of this app needs, besides the guard's own requirement.
            optional: True, or path patterns, where a request without a token passes as
                `ANONYMOUS`.
            exclude: path patterns that are not authenticated at all: exact, or `prefix*`, below the
                mount.
            pass_preflights: let CORS preflights through without a token, for CORS middleware
                inside `app`. Anybody can send one, and reaches what `app` does with OPTIONS.

        Raises:
            ConfigurationError: an option is malformed.
        """
        self.admission = Admission(
            guard,
            app=None if self.app_sees_refusals else app,
            preflight_remedy=self.preflight_remedy,
            require=require,
            optional=optional,
            exclude=exclude,
            pass_preflights=pass_preflights,
        )
        self.app = app
        self.guard = guard
        self._prepare()

    def __setattr__(self, name: str, value: object) -> None:
        # The former guard would go on accepting the tokens that it has seen.
        if name in Adapter.__slots__ and hasattr(self, name):
            raise AttributeError(
                f"{name}: it cannot be replaced: make another {type(self).__name__}"
            )
        super().__setattr__(name, value)

    @abstractmethod
    def _prepare(self) -> None:
        """Make what each request needs; the constructor calls it last."""
