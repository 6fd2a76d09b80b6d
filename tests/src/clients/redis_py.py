import os, threading, time
import redis

url = os.environ["CACHE_URL"]
for protocol in (2, 3):
    r = redis.Redis.from_url(url, decode_responses=True, client_name="me", protocol=protocol)
    r.flushall()
    print(protocol, r.client_getname(), r.ping(), type(r.client_id()).__name__)
    r.set("a", "ä", ex=100)
    print(r.get("a"), r.ttl("a") > 90, r.exists("a", "b"), r.get("none"))
    print(r.hset("h", mapping={"x": 1, "y": 2}), r.hgetall("h"), r.hmget("h", "x", "z"))
    print(r.zadd("z", {"m": 1.5, "n": 2}), r.zrange("z", 0, -1, withscores=True), r.zpopmin("z"))
    print(sorted(r.sadd("s", "1", "2") and r.smembers("s")))

    with r.pipeline(transaction=False) as p:
        for i in range(2000):
            p.set(f"k:{i}", "v" * 500)
            p.get(f"k:{i}")
        got = p.execute()
    print(len(got), all(got[1::2]) and len(set(got[1::2])))
    with r.pipeline() as p:
        p.multi()
        p.incr("n").lpush("l", 1, 2).lrange("l", 0, -1).get("none").hgetall("h")
        print(p.execute())

    # A transaction that is tried again when somebody interferes.
    tries = []
    def add(pipe):
        value = int(pipe.get("n"))
        if not tries:
            redis.Redis.from_url(url).incr("n")
        tries.append(value)
        pipe.multi()
        pipe.set("n", value + 10)
    print(r.transaction(add, "n"), tries, r.get("n"))

    with r.pipeline() as p:
        p.set("s2", "text").incr("s2").get("s2")
        print([str(x) for x in p.execute(raise_on_error=False)])
    print(len(set(r.scan_iter("k:*", count=100))), sorted(r.scan_iter("k:199?")))
    print(sorted(r.hscan_iter("h")), sorted(r.sscan_iter("s")), list(r.zscan_iter("z")))
    print(len(r.keys("k:1*")), r.dbsize(), r.type("h"))

    later = threading.Timer(0.1, lambda: redis.Redis.from_url(url).rpush("queue", "job"))
    later.start()
    print(r.blpop(["queue", "other"], timeout=5), r.blpop("queue", timeout=0.05))
    later.join()

    p = r.pubsub(ignore_subscribe_messages=True)
    p.subscribe("news"); p.psubscribe("n*")
    deadline = time.time() + 5
    while r.pubsub_numsub("news") != [("news", 1)] or r.pubsub_numpat() != 1:
        assert time.time() < deadline
    print(r.publish("news", "hello"))
    heard = []
    while len(heard) < 2 and time.time() < deadline:
        message = p.get_message(timeout=0.1)
        if message: heard.append(tuple(sorted(str(x) for x in message.items())))
    print(sorted(heard))
    p.close()

    script = r.register_script("return {KEYS[1] and 1, server.call('INCRBY', KEYS[1], ARGV[1])}")
    print(script(keys=["count"], args=[5]), script(keys=["count"], args=[6]))
    print(r.xadd("x", {"f": "v"}, id="1-1"), r.xread({"x": 0}), r.xgroup_create("x", "g", 0))
    print(r.xreadgroup("g", "c", {"x": ">"}), r.xack("x", "g", "1-1"))
    with r.lock("lock", timeout=5) as lock:
        print(lock.owned(), r.lock("lock", blocking=False).acquire())
    for line in ("GET", "NOSUCH x", "LPUSH s2 x", "SELECT 99"):
        try: print(r.execute_command(*line.split()))
        except redis.RedisError as e: print(type(e).__name__, e)
    print(r.info("server")["redis_version"], r.info("keyspace")["db0"]["keys"] == r.dbsize())
    other = redis.Redis.from_url(url, db=3, decode_responses=True)
    print(other.get("a"), other.set("a", 3), other.dbsize(), r.get("a"))
    r.close()
print("end")
