"""valkey-glide for Python: its own core, RESP3, pub/sub by configuration, batches, scripts."""
import asyncio, os

from glide import (
    Batch, ClosingError, ExpirySet, ExpiryType, GlideClient, GlideClientConfiguration,
    NodeAddress, ProtocolVersion, RangeByIndex, RequestError, Script, StreamAddOptions, TrimByMaxLen, ConditionalChange,
)

host, port = os.environ["VALKEY_HOST"], int(os.environ["VALKEY_PORT"])


async def connect(protocol, **more):
    config = GlideClientConfiguration([NodeAddress(host, port)], protocol=protocol, request_timeout=10000, **more)
    return await GlideClient.create(config)


async def run(protocol):
    client = await connect(protocol, client_name="glide")
    await client.flushall()
    print(protocol.name, await client.ping(), await client.client_getname(), await client.set("a", "ä", expiry=ExpirySet(ExpiryType.SEC, 100)))
    print((await client.get("a")).decode(), await client.ttl("a") > 90, await client.get("none"))
    print(await client.set("a", "x", conditional_set=ConditionalChange.ONLY_IF_DOES_NOT_EXIST), await client.mset({"m1": "1", "m2": "2"}), await client.mget(["m1", "m3"]))
    print(await client.hset("h", {"x": "1", "y": "2"}), await client.hgetall("h"), await client.lpush("l", ["1", "2"]), await client.lrange("l", 0, -1))
    print(await client.zadd("z", {"m": 1.5, "n": 2}), await client.zrange_withscores("z", RangeByIndex(0, -1)), await client.sadd("s", ["p"]))
    values = await asyncio.gather(*[client.incrby("n", i) for i in range(300)])
    print(len(values), max(values))
    await asyncio.gather(*[client.set(f"k:{i}", str(i)) for i in range(100)])
    cursor, names = "0", set()
    while True:
        cursor, page = await client.scan(cursor, match="k:*", count=20)
        names.update(page)
        if cursor == b"0":
            break
    print(len(names), await client.dbsize())
    batch = Batch(is_atomic=True).incr("t").get("none").hgetall("h")
    print(await client.exec(batch, raise_on_error=True))
    batch = Batch(is_atomic=False).set("s1", "text").incr("s1").get("s1")
    print([str(each) for each in await client.exec(batch, raise_on_error=False)])
    await client.watch(["t"])
    other = await connect(protocol)
    await other.incr("t")
    print(await client.exec(Batch(is_atomic=True).get("t"), raise_on_error=True))
    script = Script("return {KEYS[1], redis.call('INCRBY', KEYS[1], ARGV[1])}")
    print(await client.invoke_script(script, keys=["count"], args=["5"]), await client.script_exists([script.get_hash()]), await client.script_flush())
    print(await client.invoke_script(script, keys=["count"], args=["6"]))
    for words in (["GET"], ["NOSUCH", "x"], ["LPUSH", "a", "x"]):
        try:
            print(await client.custom_command(words))
        except RequestError as error:
            print(words, error)
    print(await client.xadd("x", [("f", "v")], StreamAddOptions(id="1-1", trim=TrimByMaxLen(True, 10))), await client.xread({"x": "0"}))

    async def push():
        await asyncio.sleep(0.05)
        await other.rpush("queue", ["job"])

    popped, _ = await asyncio.gather(client.blpop(["queue", "others"], 5), push())
    print(popped)
    kinds = GlideClientConfiguration.PubSubChannelModes
    subscriptions = GlideClientConfiguration.PubSubSubscriptions({kinds.Exact: {"news"}, kinds.Pattern: {"n*"}}, callback=None, context=None)
    if protocol == ProtocolVersion.RESP3:
        listener = await connect(protocol, pubsub_subscriptions=subscriptions)
        # Those of the configuration are made in the background.
        async with asyncio.timeout(10):
            while await client.pubsub_numpat() < 1 or (await client.pubsub_numsub(["news"]))[b"news"] < 1:
                await asyncio.sleep(0.01)
        print(await client.publish("hello", "news"), await client.pubsub_channels())
        heard = [await asyncio.wait_for(listener.get_pubsub_message(), 5) for _ in range(2)]
        print(sorted((m.channel, m.message, m.pattern or b"") for m in heard))
        await listener.close()
    print(await client.select(3), await client.get("a"), await client.select(0), await client.info() != b"")
    await other.close()
    await client.close()
    try:
        await client.get("a")
    except ClosingError as error:
        print(type(error).__name__)


for protocol in (ProtocolVersion.RESP2, ProtocolVersion.RESP3):
    asyncio.run(run(protocol))
print("end")
