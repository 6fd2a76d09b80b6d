"""What users of redis-py do beyond single commands: asyncio, caching, locks, threads, groups."""
import asyncio, os, threading, time

import redis
import redis.asyncio
from redis.backoff import ConstantBackoff
from redis.retry import Retry

url = os.environ["CACHE_URL"]


def until(what, test, seconds=10):
    deadline = time.time() + seconds
    while not test():
        assert time.time() < deadline, f"waited in vain: {what}"
        time.sleep(0.01)


def locks(r):
    first = r.lock("lock", timeout=2)
    assert first.acquire()
    second = r.lock("lock", timeout=2, blocking_timeout=0.05)
    print(second.acquire(), first.owned(), second.owned(), r.ttl("lock") > 0)
    print(first.extend(10), r.ttl("lock") > 5, first.reacquire(), first.release())
    try:
        first.release()
    except redis.exceptions.LockError as error:
        print(type(error).__name__, error)
    counted = []

    def work():
        for _ in range(5):
            with r.lock("shared", timeout=5, sleep=0.005):
                value = int(r.get("counter") or 0)
                time.sleep(0.001)
                r.set("counter", value + 1)
        counted.append(1)

    threads = [threading.Thread(target=work) for _ in range(4)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    print(len(counted), r.get("counter"))


def pubsub_thread(r):
    heard = []
    p = r.pubsub(ignore_subscribe_messages=True)
    p.subscribe(**{"news": lambda message: heard.append((message["type"], message["channel"], message["data"]))})
    p.psubscribe(**{"n[ae]w?": lambda message: heard.append((message["type"], message["pattern"], message["data"]))})
    thread = p.run_in_thread(sleep_time=0.01)
    until("a listener", lambda: r.pubsub_numsub("news") == [("news", 1)] and r.pubsub_numpat() == 1)
    print(r.publish("news", "hello"), r.pubsub_channels("n*"), r.pubsub_channels("other*"))
    until("messages", lambda: len(heard) == 2)
    thread.stop()
    thread.join(5)
    print(sorted(heard))
    shard = r.pubsub()
    shard.ssubscribe("shard")
    until("a shard", lambda: r.pubsub_shardnumsub("shard") == [("shard", 1)])
    print(r.spublish("shard", "there"), r.pubsub_shardchannels())
    said = []
    until("its message", lambda: said.append(shard.get_message()) or any(m and m["type"] == "smessage" for m in said))
    print([(m["type"], m["channel"], m["data"]) for m in said if m])
    shard.close()


def groups(r):
    print(r.xgroup_create("jobs", "g", id="$", mkstream=True), [r.xadd("jobs", {"n": n}, id=f"9-{n + 1}") for n in range(5)])
    print(r.xreadgroup("g", "a", {"jobs": ">"}, count=2), r.xreadgroup("g", "b", {"jobs": ">"}, count=9))
    print(r.xpending("jobs", "g"), [each["message_id"] for each in r.xpending_range("jobs", "g", "-", "+", 10, "b")])
    print(r.xclaim("jobs", "g", "a", 0, ["9-3"]), r.xautoclaim("jobs", "g", "c", 0, count=1), r.xack("jobs", "g", "9-1", "9-2"))
    print([(c["name"], c["pending"]) for c in r.xinfo_consumers("jobs", "g")], r.xinfo_groups("jobs")[0]["pending"])
    try:
        r.xgroup_create("jobs", "g")
    except redis.ResponseError as error:
        print(error)
    try:
        r.xreadgroup("none", "a", {"jobs": ">"})
    except redis.ResponseError as error:
        print(error)
    print(r.xtrim("jobs", maxlen=2), r.xrange("jobs"), r.xgroup_destroy("jobs", "g"), r.xinfo_stream("jobs")["length"])
    threading.Timer(0.05, lambda: r.xadd("later", {"f": "v"}, id="1-1")).start()
    print(r.xread({"later": "$", "jobs": "$"}, block=5000))


def transactions(r):
    r.set("w", 1)
    with r.pipeline() as p:
        p.watch("w")
        r.set("w", 2)
        p.multi()
        p.set("w", 3)
        try:
            p.execute()
        except redis.WatchError as error:
            print(type(error).__name__, error)
        p.watch("w", "x")
        print(p.get("w"), p.unwatch())
        p.multi()
        p.get("w").execute_command("NOSUCH", "x")
        try:
            p.execute()
        except redis.RedisError as error:
            print(type(error).__name__, error)
    with r.pipeline(transaction=False) as p:
        p.set("t", "x").lpush("t", 1).get("t").eval("return redis.call('GET', KEYS[1])", 1, "t")
        print([str(each) for each in p.execute(raise_on_error=False)])


def caching():
    from redis.cache import CacheConfig

    other = redis.Redis.from_url(url, decode_responses=True)
    other.mset({"c1": "one", "c2": "two"})
    r = redis.Redis.from_url(url, protocol=3, decode_responses=True, cache_config=CacheConfig(max_size=100))
    print(r.get("c1"), r.get("c1"), r.mget("c1", "c2"), r.get_cache().size)
    other.set("c1", "changed")
    until("an invalidation", lambda: r.get("c1") == "changed")
    other.flushdb()
    until("the flush", lambda: r.get("c1") is None)
    r.close()


def connections():
    pool = redis.BlockingConnectionPool.from_url(url, max_connections=3, timeout=5, decode_responses=True)
    r = redis.Redis(connection_pool=pool, retry=Retry(ConstantBackoff(0.01), 3), retry_on_error=[redis.ConnectionError])
    done = []

    def work(n):
        for i in range(50):
            r.incrby("sum", n)
        done.append(n)

    threads = [threading.Thread(target=work, args=[n]) for n in range(8)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    print(sorted(done), r.get("sum"))
    single = redis.Redis.from_url(url, single_connection_client=True, decode_responses=True, client_name="single", health_check_interval=1)
    me = single.client_id()
    names = [each["name"] for each in r.client_list()]
    print("single" in names, [each["id"] for each in r.client_list(client_id=[me])] == [str(me)], single.client_info()["name"])
    print(r.client_kill_filter(_id=str(me)))
    try:
        print(single.ping())
    except redis.ConnectionError as error:
        print(type(error).__name__, error)
    print(single.ping(), single.client_id() != me, single.client_getname())
    print(r.client_no_evict("ON"), r.client_setinfo("LIB-NAME", "mine"), r.client_unblock(single.client_id()), single.reset())
    ssub = r.client_list(_type="pubsub")
    print(ssub, r.lastsave() is not None, r.time()[0] > 1_700_000_000, r.command_count() > 200, r.memory_usage("sum") > 0)
    info = r.info()
    print(info["server_mode"], info["role"], info["loading"], "db0" in info, info["maxmemory_policy"])


async def asynchronous(protocol):
    r = redis.asyncio.Redis.from_url(url, protocol=protocol, decode_responses=True)
    await r.flushall()
    await asyncio.gather(*[r.set(f"k:{i}", i) for i in range(100)])
    async with r.pipeline(transaction=True) as p:
        print(await (p.mget("k:1", "k:99").incr("k:1").get("none")).execute())
    found = {key async for key in r.scan_iter("k:*", count=20)}
    print(len(found))
    async with r.lock("lock", timeout=5):
        print(await r.exists("lock"))
    async with r.pubsub(ignore_subscribe_messages=True) as p:
        await p.subscribe("async")
        await p.psubscribe("as*")
        while await r.pubsub_numpat() != 1:
            await asyncio.sleep(0.01)
        print(await r.publish("async", "x"))
        heard = []
        async with asyncio.timeout(5):
            while len(heard) < 2:
                message = await p.get_message(timeout=0.1)
                if message:
                    heard.append((message["type"], message["pattern"], message["channel"], message["data"]))
        print(sorted(heard, key=str))

    async def push():
        await asyncio.sleep(0.05)
        await r.rpush("queue", "job")

    popped, _ = await asyncio.gather(r.blpop(["queue", "others"], 5), push())
    print(popped)
    try:
        async with asyncio.timeout(0.05):
            await r.blpop("never", 0)
    except TimeoutError:
        print("cancelled", await r.get("k:5"))

    async def add(pipe):
        value = int(await pipe.get("k:7"))
        pipe.multi()
        pipe.set("k:7", value + 1)

    print(await r.transaction(add, "k:7"), await r.get("k:7"))
    script = r.register_script("return {KEYS[1], redis.call('INCRBY', KEYS[1], ARGV[1])}")
    print(await script(keys=["count"], args=[5]), await r.script_exists(script.sha), await r.script_flush())
    print(await script(keys=["count"], args=[6]))
    await r.aclose()


for protocol in (2, 3):
    r = redis.Redis.from_url(url, decode_responses=True, protocol=protocol)
    r.flushall()
    print("protocol", protocol)
    locks(r)
    pubsub_thread(r)
    groups(r)
    transactions(r)
    r.close()
    asyncio.run(asynchronous(protocol))
connections()
if redis.Redis.from_url(url).info("server")["redis_version"] != "7.2.4":
    caching()
else:
    # redis-py refuses to cache on a server that says so, whichever it is.
    try:
        caching()
    except redis.RedisError as error:
        print(type(error).__name__, error)
print("end")
