"""Settings of an API without a database, sessions and cookies."""

import os

SECRET_KEY = os.environ.get("SECRET_KEY", "for development only")
DEBUG = os.environ.get("DEBUG") == "1"
ALLOWED_HOSTS = ["127.0.0.1", "localhost", "testserver"]
ROOT_URLCONF = "recordings.urls"
INSTALLED_APPS = ["bearerguard.django"]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.middleware.common.CommonMiddleware",
    "bearerguard.django.BearerMiddleware",
]

BEARERGUARD = {
    "ISSUER": os.environ.get("BEARERGUARD_ISSUER"),
    "AUDIENCE": os.environ.get("BEARERGUARD_AUDIENCE"),
    "EXCLUDE": ["/health"],
}
