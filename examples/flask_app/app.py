"""The recordings API in Flask. Start it with `flask run` or `gunicorn app:app`."""

from __future__ import annotations

from flask import Flask, jsonify
from flask.typing import ResponseReturnValue
from flask_cors import CORS

from bearerguard import EXPOSED_HEADERS
from bearerguard.flask import BearerGuard, current_principal, require_scopes

bearer = BearerGuard(exclude=("/health",))
recordings = [{"id": 1, "title": "Dawn chorus"}]


def create_app() -> Flask:
    app = Flask(__name__)
    # FLASK_BEARERGUARD_ISSUER and FLASK_BEARERGUARD_AUDIENCE, from the environment.
    app.config.from_prefixed_env()
    CORS(
        app,
        methods=["GET", "POST"],
        allow_headers=["Authorization", "Content-Type"],
        expose_headers=list(EXPOSED_HEADERS),
    )
    bearer.init_app(app)
    app.add_url_rule("/api/v1/recordings", view_func=list_recordings)
    app.add_url_rule("/api/v1/recordings", view_func=add_recording, methods=["POST"])
    app.add_url_rule("/health", view_func=health)
    return app


@require_scopes("read")
def list_recordings() -> ResponseReturnValue:
    return jsonify({"recordings": recordings})


@require_scopes("write")
def add_recording() -> ResponseReturnValue:
    title = f"Uploaded by {current_principal.identity}"
    recordings.append({"id": len(recordings) + 1, "title": title})
    return jsonify(recordings[-1]), 201


def health() -> ResponseReturnValue:
    return jsonify({"status": "ok"})


app = create_app()
