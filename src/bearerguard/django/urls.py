"""The metadata of the API (RFC 9728), for projects without the middleware, which serves it too.

REST framework and Ninja authenticate in views alone. At the root of the project's URLs:
`path("", include("bearerguard.django.urls"))`.
"""

from __future__ import annotations

from django.http import Http404, HttpRequest, HttpResponse
from django.urls import URLPattern, URLResolver, re_path

from bearerguard.django.protection import TOKEN_REQUIRED, GuardedRequest, protection

__all__ = ["urlpatterns"]


def _metadata(request: HttpRequest) -> HttpResponse:
    found = GuardedRequest(protection(), request).metadata()
    if found is None:
        raise Http404
    return found


# Django's and our own mark of a view: it needs neither a CSRF token nor an access token.
for _mark, _value in (("csrf_exempt", True), (TOKEN_REQUIRED, False)):
    setattr(_metadata, _mark, _value)

urlpatterns: list[URLPattern | URLResolver] = [
    re_path(r"^\.well-known/oauth-protected-resource(?:/.*)?$", _metadata)
]
"""The one path of the metadata, with the path of any API after it."""
