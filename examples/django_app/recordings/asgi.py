"""The app for servers of ASGI."""

import os

from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "recordings.settings")
application = get_asgi_application()
