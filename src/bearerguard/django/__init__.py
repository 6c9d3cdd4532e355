"""Django: middleware for `MIDDLEWARE`, `settings.BEARERGUARD`, and decorators for views.

`docs/django.md` shows them in use. With `"bearerguard.django"` in `INSTALLED_APPS` the system
checks of `checks.py` run too.

The other modules for Django (`rest_framework`, `ninja`) import from this package only `on_demand`,
and `protection`, `is_async` and `guarded_request` of `protection`.
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
