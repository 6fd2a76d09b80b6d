"""valkey-py, with its cache, which knows that it talks to Valkey."""
import asyncio, os, time

import valkey
import valkey.asyncio

url = os.environ["CACHE_URL"].replace("redis://", "valkey://")


def run(protocol):
    v = valkey.Valkey.from_url(url, decode_responses=True, protocol=protocol)
    v.flushall()
    print(protocol, v.ping(), v.set("a", "ä", ex=100), v.get("a"), v.getex("a", persist=True), v.ttl("a"))
    print(v.hset("h", mapping={"x": 1, "y": 2}), v.hgetall("h"), v.zadd("z", {"m": 1.5}), v.zrange("z", 0, -1, withscores=True))
    print(v.lpush("l", 1, 2, 3), v.sort("l"), v.lmpop(2, "none", "l", direction="LEFT"), v.lpos("l", "1"))
    with v.pipeline() as p:
        print(p.incr("n").get("none").hgetall("h").execute())
    with v.pipeline() as p:
        p.watch("n")
        v.incr("n")
        p.multi()
        p.get("n")
        try:
            p.execute()
        except valkey.WatchError as error:
            print(type(error).__name__)
    with v.lock("lock", timeout=5) as lock:
        print(lock.owned(), v.lock("lock", blocking=False).acquire())
    script = v.register_script("return {KEYS[1], redis.call('INCRBY', KEYS[1], ARGV[1])}")
    print(script(keys=["count"], args=[5]), v.script_exists(script.sha), v.eval("return server.call('GET', ARGV[1])", 0, "count"))
    print(v.geoadd("g", (13.36, 38.11, "Palermo")), v.geosearch("g", longitude=13, latitude=38, radius=100, unit="km"))
    print(v.setbit("bits", 7, 1), v.bitcount("bits"), v.bitfield("bits").get("u8", 0).execute(), v.pfadd("p", "a", "b"), v.pfcount("p"))
    for i in range(100):
        v.set(f"k:{i}", i)
    print(len(set(v.scan_iter("k:*", count=10))), sorted(v.keys("k:9?"))[0], v.dbsize(), v.rename("k:1", "k:one"), v.copy("k:2", "k:two"))
    p = v.pubsub()
    p.subscribe("news")
    p.psubscribe("n*")
    heard = []
    deadline = time.time() + 5
    while len(heard) < 2:
        heard += filter(None, [p.get_message(timeout=0.1)])
        assert time.time() < deadline
    print([(m["type"], m["channel"], m["data"]) for m in heard], v.publish("news", "x"))
    heard = []
    while len(heard) < 2:
        heard += filter(None, [p.get_message(timeout=0.1)])
        assert time.time() < deadline
    print(sorted((m["type"], m["channel"], m["data"]) for m in heard))
    p.close()
    for line in ("GET", "NOSUCH x", "LPUSH a x", "SELECT 99", "CLIENT NOSUCH"):
        try:
            print(v.execute_command(*line.split()))
        except valkey.ValkeyError as error:
            print(line, type(error).__name__, error)
    five = valkey.Valkey.from_url(url + "/5", decode_responses=True)
    print(five.set("a", 5), v.get("a"), five.dbsize(), five.move("a", 6), five.exists("a"))
    print(v.client_getname(), v.client_setname("me"), v.acl_whoami(), v.info("clients")["connected_clients"] >= 1)
    v.close()


async def asynchronous():
    v = valkey.asyncio.Valkey.from_url(url, decode_responses=True, protocol=3)
    async with v.pipeline(transaction=False) as p:
        for i in range(200):
            p.incr("sum")
        print((await p.execute())[-1])
    async with v.pubsub() as p:
        await p.subscribe("one")
        heard = []
        async for message in p.listen():
            heard.append((message["type"], message["channel"], message["data"]))
            if len(heard) == 1:
                await v.publish("one", "two")
            else:
                break
        print(heard)
    print(await v.xadd("x", {"f": "v"}, id="1-1"), await v.xread({"x": 0}), await v.bzpopmin("none", 0.02))
    await v.aclose()


for protocol in (2, 3):
    run(protocol)
asyncio.run(asynchronous())
print("end")
