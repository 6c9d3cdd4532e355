"""Django: middleware for `MIDDLEWARE`, `settings.BEARERGUARD`, and decorators for views.

`docs/django.md` shows them in use. With `"bearerguard.django"` in `INSTALLED_APPS` the system
checks of `checks.py` run too.

What else in this package knows requests of Django (`rest_framework`, `ninja`) may import from
`protection` (`Protection`, `protection`, `Visit`, `visit_of`, `response_of`) and `users`, and from
nothing else here. `visit_of(request)` is None where the middleware has not seen a request: then
`Visit(protection(), request)` authenticates it in the same way.
"""

from __future__ import annotations

from bearerguard.django.decorators import (
    require,
    require_scopes,
    token_not_required,
)
from bearerguard.django.middleware import BearerMiddleware

__all__ = [
    "BearerMiddleware",
    "require",
    "require_scopes",
    "token_not_required",
]
