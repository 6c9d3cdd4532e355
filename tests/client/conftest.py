"""What the tests of the client share."""

from tests.client.desk import desk, other, time

__all__ = ["desk", "other", "time"]
