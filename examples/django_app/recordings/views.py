"""The views: who calls them is `request.principal`."""

from typing import Any

from django.http import HttpRequest, JsonResponse
from django.views import View

from bearerguard.django import require_scopes

recordings = [{"id": 1, "title": "Dawn chorus"}]


class Recordings(View):
    @require_scopes("read")
    def get(self, _request: HttpRequest) -> JsonResponse:
        return JsonResponse({"recordings": recordings})

    @require_scopes("write")
    def post(self, request: Any) -> JsonResponse:
        title = f"Uploaded by {request.principal.identity}"
        recordings.append({"id": len(recordings) + 1, "title": title})
        return JsonResponse(recordings[-1], status=201)


async def health(_request: HttpRequest) -> JsonResponse:
    return JsonResponse({"status": "ok"})
