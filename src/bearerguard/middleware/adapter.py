"""The bases of the ASGI and the WSGI middleware: their options and attributes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar, Generic, TypeVar

from bearerguard.errors import ConfigurationError
from bearerguard.guard.config.requirement import Requirement
from bearerguard.guard.guard import Guard
from bearerguard.guard.resource_metadata import PublishedResource
from bearerguard.middleware.admission import PREFLIGHT_REMEDY, Admission
from bearerguard.runtime.messages import Response

App = TypeVar("App")

#: The response of a `ResourceMetadata` that stands alone.
NOT_FOUND = Response(404, (("Content-Type", "text/plain"), ("Content-Length", "9")), b"Not Found")


class Adapter(ABC, Generic[App]):
    """Middleware that authenticates the requests of an app.

    Attributes:
        app: as passed.
        guard: as passed.
        admission: the checked options, which decide on requests and refuse them.

    They cannot be replaced: the constructor prepares from them what each request needs.
    """

    __slots__ = ("__weakref__", "admission", "app", "guard")

    admission: Admission
    app: App
    guard: Guard

    #: The remedy that the event of a refused CORS preflight names.
    preflight_remedy: ClassVar[str] = PREFLIGHT_REMEDY
    #: Whether CORS middleware inside the app sees refused requests too.
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
            exclude: path patterns that are not authenticated: exact, or `prefix*`, relative to the
                mount.
            pass_preflights: let CORS preflights through without a token, for CORS middleware
                inside `app`. Anybody can send one, and so reach the handlers of `app` for OPTIONS.

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
        guard.on_state_replaced(self._prepare)

    def __setattr__(self, name: str, value: object) -> None:
        # The former guard would go on accepting the tokens in its cache.
        if name in Adapter.__slots__ and hasattr(self, name):
            raise AttributeError(f"{name}: cannot be replaced: make another {type(self).__name__}")
        super().__setattr__(name, value)

    @abstractmethod
    def _prepare(self) -> None:
        """Prepare what each request needs: in the constructor, and if a test replaces the guard."""


class MetadataAdapter(Generic[App]):
    """Serves the metadata of an API (RFC 9728) and no other path.

    For where the guard itself does not stand around the whole app: it is mounted below a path, or
    is in dependencies of routes.

    Attributes:
        app: as passed.
        guard: as passed.
    """

    def __init__(self, app: App | None = None, *, guard: Guard) -> None:
        """Serve the metadata of a guard's API.

        Args:
            app: handles all other requests, which need no token here; without it they get 404.
            guard: the guard with `resource=`.

        Raises:
            ConfigurationError: the guard publishes no metadata.
        """
        if not isinstance(guard, Guard):
            raise ConfigurationError("guard=: pass a Guard, such as Guard(Issuer(...))")
        if guard.published is None:
            raise ConfigurationError("guard=: it has no metadata: pass resource= to the Guard")
        self.app: App | None = app
        self.guard: Guard = guard

    @property
    def _published(self) -> PublishedResource:
        # Not in the constructor: middleware that is made later may require more.
        published = self.guard.published
        assert published is not None, "the constructor has checked it"  # noqa: S101 - for the type checker
        return published
