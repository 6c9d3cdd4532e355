"""django-oauth-toolkit in a Django project, as both documentations recommend for production.

`app` is for gunicorn. `python -m benchmarks.server_tokens.django_app` makes the tables, the user
and the clients of the environment, and prints the user's cookie as JSON.

Its secrets of clients are not hashed here: by default, the hash for passwords would take a third
of a second of each request. Tokens are random, which is all that it has.
"""

from __future__ import annotations

import json
import os
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

import django
from django.conf import settings
from django.core.wsgi import get_wsgi_application

_SETTINGS: dict[str, Any] = {
    "SECRET_KEY": os.environ["SECRET"],
    "ALLOWED_HOSTS": ["127.0.0.1"],
    "ROOT_URLCONF": "benchmarks.server_tokens.django_urls",
    "USE_TZ": True,
    "INSTALLED_APPS": [
        "django.contrib.auth",
        "django.contrib.contenttypes",
        "django.contrib.sessions",
        "django.contrib.messages",
        "oauth2_provider",
    ],
    "MIDDLEWARE": [
        "django.middleware.security.SecurityMiddleware",
        "django.contrib.sessions.middleware.SessionMiddleware",
        "django.middleware.common.CommonMiddleware",
        "django.middleware.csrf.CsrfViewMiddleware",
        "django.contrib.auth.middleware.AuthenticationMiddleware",
        "django.contrib.messages.middleware.MessageMiddleware",
        "django.middleware.clickjacking.XFrameOptionsMiddleware",
    ],
    "OAUTH2_PROVIDER": {"SCOPES": {"read": "Read", "write": "Write"}, "PKCE_REQUIRED": True},
}


def _database() -> dict[str, Any]:
    url = urlsplit(os.environ["DATABASE"])
    engine: dict[str, Any]
    if url.scheme == "sqlite":
        # Durable, and with transactions that wait for each other instead of failing.
        pragmas = "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL"
        options = {"transaction_mode": "IMMEDIATE", "timeout": 20, "init_command": pragmas}
        engine = {"ENGINE": "django.db.backends.sqlite3", "NAME": url.path[1:], "OPTIONS": options}
    else:
        engine = {
            "ENGINE": "django.db.backends.postgresql",
            "NAME": url.path[1:],
            "USER": url.username,
            "HOST": url.hostname,
            "PORT": str(url.port),
        }
    return {**engine, "CONN_MAX_AGE": None}  # connections are kept


settings.configure(**_SETTINGS, DATABASES={"default": _database()})
django.setup()
app = get_wsgi_application()


def main() -> None:
    """Make what the environment describes."""
    from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY
    from django.contrib.auth.models import User
    from django.contrib.sessions.backends.db import SessionStore
    from django.core.management import call_command
    from oauth2_provider.models import Application

    call_command("migrate", verbosity=0)
    user = User.objects.create_user("ada")
    grants = {
        "app": Application.GRANT_AUTHORIZATION_CODE,
        "machine": Application.GRANT_CLIENT_CREDENTIALS,
    }
    for client_id, secret in json.loads(os.environ["CLIENTS"]).items():
        Application.objects.create(
            client_id=client_id,
            client_secret=secret,
            hash_client_secret=False,
            client_type=Application.CLIENT_CONFIDENTIAL,
            authorization_grant_type=grants[client_id],
            redirect_uris=os.environ["REDIRECT_URI"],
            skip_authorization=True,
        )
    session = SessionStore()
    session[SESSION_KEY] = str(user.pk)
    session[BACKEND_SESSION_KEY] = "django.contrib.auth.backends.ModelBackend"
    session[HASH_SESSION_KEY] = user.get_session_auth_hash()
    session.set_expiry(timedelta(hours=1))
    session.create()
    print(json.dumps(f"sessionid={session.session_key}"))


if __name__ == "__main__":
    main()
