"""Django: middleware for `MIDDLEWARE`, `settings.BEARERGUARD`, and decorators for views.

`docs/django.md` shows them in use. With `"bearerguard.django"` in `INSTALLED_APPS` the system
checks of `checks.py` run too.

What else knows requests of Django (`rest_framework`, `ninja`) imports `on_demand`, and of
`protection` the function `protection`, `is_async` and `visit_of`: nothing else here.
"""

from __future__ import annotations

from importlib import import_module

from bearerguard.runtime.extras import Extra

with Extra("django", needed_by=__name__):
    import_module("django")  # first, so that it is what is missing
    from bearerguard.django.decorators import require, require_scopes, token_not_required
    from bearerguard.django.middleware import BearerMiddleware

__all__ = [
    "BearerMiddleware",
    "require",
    "require_scopes",
    "token_not_required",
]
