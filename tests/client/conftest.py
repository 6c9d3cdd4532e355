"""What the tests of the client share."""

from tests.client.scripted_server import other, server, time

__all__ = ["other", "server", "time"]
