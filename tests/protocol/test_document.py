"""Documents that strangers serve: a JSON object with status 200, or the reason why it is none."""

from __future__ import annotations

import pytest

from bearerguard.protocol.http import document
from bearerguard.runtime.messages import FetchFailed, Response

URL = "https://client.example.com/metadata.json"


@pytest.mark.parametrize(
    "media_type",
    ["application/json", "Application/JSON; charset=utf-8", "application/client-metadata+json"],
)
def test_CIMD_01_an_object_with_a_media_type_of_json_is_returned(media_type: str) -> None:
    response = Response(200, (("Content-Type", media_type),), b'{"client_id": "x"}')
    assert document.json_object(URL, response) == {"client_id": "x"}


@pytest.mark.parametrize(
    ("status", "media_type", "body", "kind", "words"),
    [
        (200, "text/html", b"{}", "not_json", "its media type 'text/html' is not JSON's"),
        (200, "", b"{}", "not_json", "its media type '' is not JSON's"),
        (200, "application/jsonp", b"{}", "not_json", "is not JSON's"),
        (200, "application/json", b"[]", "not_json", "not a JSON object"),
        (200, "application/json", b"<html>", "not_json", "not JSON but HTML"),
        (200, "application/json", b'{"a": 1, "a": 2}', "not_json", "not JSON"),
        (201, "application/json", b"{}", "status", "status 201"),
        (304, "application/json", b"", "status", "status 304"),
        (302, "application/json", b"{}", "redirect", "it is not followed"),
    ],
)
def test_CIMD_01_any_other_response_is_no_document(
    status: int, media_type: str, body: bytes, kind: str, words: str
) -> None:
    response = Response(status, (("Content-Type", media_type),), body)
    with pytest.raises(FetchFailed, match=words) as error:
        document.json_object(URL, response)
    assert error.value.kind == kind
