"""What processes share, in Redis or Valkey; needs `bearerguard[redis]`.

store = RedisStore("redis://127.0.0.1:6379/0", secret=os.environ["STORE_SECRET"])
guard = Guard(issuer, revocations=Revocations(store))

people = PeopleOptions(throttle=RedisThrottle("redis://127.0.0.1:6379/0"))
server = AuthorizationServer(url, people=people)
"""

from bearerguard.transports.redis import RedisStore
from bearerguard.transports.redis_throttle import RedisThrottle

__all__ = ["RedisStore", "RedisThrottle"]
