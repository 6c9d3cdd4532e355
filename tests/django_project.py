"""A Django project in this process. Its settings are made once: all tests share them, and override.

Import this before anything that reads Django's settings.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import django
from django.conf import settings

from bearerguard import Guard

OURS = "bearerguard.django.BearerMiddleware"
# As `django-admin startproject` writes it, with ours below.
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    OURS,
]

if not settings.configured:
    settings.configure(
        ALLOWED_HOSTS=["*"],
        DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
        DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
        INSTALLED_APPS=[
            "django.contrib.auth",
            "django.contrib.contenttypes",
            "django.contrib.sessions",
            "rest_framework",
            "drf_spectacular",
            "bearerguard.django",
        ],
        LOGGING_CONFIG=None,
        PASSWORD_HASHERS=["django.contrib.auth.hashers.MD5PasswordHasher"],
        ROOT_URLCONF=(),
        SECRET_KEY="a secret of the tests and of nothing else",
        SESSION_ENGINE="django.contrib.sessions.backends.signed_cookies",
        USE_TZ=True,
    )
    django.setup()


@contextmanager
def project(
    *patterns: Any, guard: Guard, middleware: list[str] | None = None, **options: Any
) -> Generator[None]:
    """Serve these URL patterns, guarded: `options` are keys of `BEARERGUARD`."""
    from django.test import override_settings

    with override_settings(
        BEARERGUARD={"GUARD": guard, **options},
        MIDDLEWARE=[OURS] if middleware is None else middleware,
        ROOT_URLCONF=patterns,
    ):
        yield
