"""What the tests of the client share."""

from tests.client.scripted_server import another, other, server, time

__all__ = ["another", "other", "server", "time"]
