"""A store that the workers of an API share, in Redis or Valkey; needs `bearerguard[redis]`.

store = RedisStore("redis://127.0.0.1:6379/0", secret=os.environ["STORE_SECRET"])
guard = Guard(issuer, revocations=Revocations(store))
"""

from bearerguard.transports.redis import RedisStore

__all__ = ["RedisStore"]
