# An app in Python with an unmodified redis-py. It answers each line of stdin, an expression, with
# one line: its value.
import os
import sys

import redis

cache = redis.Redis.from_url(os.environ["CACHE_URL"], decode_responses=True)

for line in sys.stdin:
    try:
        value = eval(line)
        print(sorted(value) if isinstance(value, list) else repr(value), flush=True)
    except Exception as error:
        print(error, flush=True)
