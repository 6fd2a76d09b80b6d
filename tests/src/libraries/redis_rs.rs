//! The crate `redis`: blocking, multiplexed on tokio, reconnecting, publishing and listening.

use std::env;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use futures_util::StreamExt;
use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use redis::streams::{StreamId, StreamReadOptions, StreamReadReply};
use redis::{
    AsyncCommands, AsyncIter, Client, Commands, Connection, FromRedisValue, Pipeline,
    ProtocolVersion, PushKind, Script, Value, transaction,
};

/// What the role is called.
pub const ROLE: &str = "library-redis";

/// Runs the programs in RESP2 and RESP3 and prints what they see.
///
/// # Errors
/// When a call fails that must not.
pub fn role(_: &[String]) -> Result<()> {
    let url = env::var("CACHE_URL").context("CACHE_URL")?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let resp2 = Client::open(url.as_str())?;
    let resp3 = Client::open(format!("{url}?protocol=resp3"))?;
    redis::cmd("FLUSHALL").exec(&mut resp2.get_connection()?)?;
    for client in [&resp2, &resp3] {
        let protocol = client.get_connection_info().redis_settings().protocol();
        println!("{protocol:?}");
        let mut connection = client.get_connection()?;
        commands(&mut connection)?;
        transactions(client, &mut connection)?;
        scripts(&mut connection)?;
        listening(client, &mut connection)?;
        runtime.block_on(multiplexed(client))?;
        runtime.block_on(managed(client))?;
        if protocol == ProtocolVersion::RESP3 {
            runtime.block_on(pushes(client))?;
        }
        connection.flushdb::<()>()?;
    }
    println!("end");
    Ok(())
}

fn commands(connection: &mut Connection) -> Result<()> {
    let () = connection.set_ex("a", "ä", 100)?;
    let text: Option<String> = connection.get("a")?;
    let none: Option<String> = connection.get("none")?;
    let left: i64 = connection.ttl("a")?;
    println!("{text:?} {none:?} {}", left > 90);
    let () = connection.hset_multiple("h", &[("x", 1), ("y", 2)])?;
    let hash: std::collections::BTreeMap<String, i64> = connection.hgetall("h")?;
    let pushed: i64 = connection.rpush("l", &["one", "two"])?;
    let list: Vec<String> = connection.lrange("l", 0, -1)?;
    println!("{hash:?} {pushed} {list:?}");
    let added: i64 = connection.zadd_multiple("z", &[(1.5, "m"), (2.0, "n")])?;
    let scores: Vec<(String, f64)> = connection.zrange_withscores("z", 0, -1)?;
    println!("{added} {scores:?}");
    let mut pipeline = redis::pipe();
    for n in 0..500 {
        pipeline.set(format!("k:{n}"), n).ignore();
        pipeline.get(format!("k:{n}"));
    }
    let all: Vec<i64> = pipeline.query(connection)?;
    println!("{} {}", all.len(), all.iter().sum::<i64>());
    let mut found: Vec<String> = connection
        .scan_match("k:49*")?
        .collect::<redis::RedisResult<_>>()?;
    found.sort();
    found.dedup();
    let fields: Vec<(String, i64)> = connection.hscan("h")?.collect::<redis::RedisResult<_>>()?;
    println!("{found:?} {fields:?}");
    for line in ["GET", "NOSUCH x", "LPUSH a x", "SELECT 99"] {
        let words: Vec<&str> = line.split(' ').collect();
        let mut command = redis::cmd(words[0]);
        let said = command.arg(&words[1..]).query::<Value>(connection);
        let error = said.err().context("an error is due")?;
        println!("{line}: {:?} {error}", error.kind());
    }
    let id: String = connection.xadd("x", "1-1", &[("f", "v")])?;
    let () = connection.xgroup_create("x", "g", "0")?;
    let options = StreamReadOptions::default().group("g", "c").count(5);
    let read: Option<StreamReadReply> = connection.xread_options(&["x"], &[">"], &options)?;
    let read = read.context("a stream")?;
    let ids: Vec<&StreamId> = read.keys.iter().flat_map(|key| &key.ids).collect();
    let acknowledged: i64 = connection.xack("x", "g", &[&id])?;
    println!("{id} {} {} {acknowledged}", read.keys[0].key, ids[0].id);
    let info: redis::InfoDict = redis::cmd("INFO").query(connection)?;
    let kept: Option<String> = info.get("maxmemory_policy");
    println!("{:?} {kept:?}", info.get::<String>("server_mode"));
    Ok(())
}

fn transactions(client: &Client, connection: &mut Connection) -> Result<()> {
    let (a, b): (i64, Option<String>) = redis::pipe()
        .atomic()
        .incr("t", 5)
        .get("none")
        .query(connection)?;
    println!("{a} {b:?}");
    let mut tries = 0;
    let (sum,): (i64,) = transaction(connection, &["t"], |connection, pipeline: &mut Pipeline| {
        tries += 1;
        let before: i64 = connection.get("t")?;
        if tries == 1 {
            client.get_connection()?.incr::<_, _, ()>("t", 100)?;
        }
        pipeline.incr("t", before).query(connection)
    })?;
    println!("{sum} after {tries}");
    let failed = redis::pipe()
        .atomic()
        .set("s", "text")
        .incr("s", 1)
        .get("s")
        .query::<Value>(connection);
    println!("{failed:?}");
    let aborted = redis::pipe()
        .atomic()
        .set("s", "text")
        .cmd("NOSUCH")
        .query::<Value>(connection);
    println!("{:?}", aborted.err().map(|error| error.to_string()));
    Ok(())
}

fn scripts(connection: &mut Connection) -> Result<()> {
    let script = Script::new("return {KEYS[1], redis.call('INCRBY', KEYS[1], ARGV[1])}");
    let one: (String, i64) = script.key("count").arg(5).invoke(connection)?;
    redis::cmd("SCRIPT").arg("FLUSH").exec(connection)?;
    let two: (String, i64) = script.key("count").arg(6).invoke(connection)?;
    let loaded = script.prepare_invoke().load(connection)?;
    let exists: Vec<bool> = redis::cmd("SCRIPT")
        .arg("EXISTS")
        .arg(&loaded)
        .query(connection)?;
    println!("{one:?} {two:?} {loaded} {exists:?}");
    let error = Script::new("error('no')").invoke::<()>(connection);
    println!("{}", error.err().context("an error is due")?);
    Ok(())
}

fn listening(client: &Client, publisher: &mut Connection) -> Result<()> {
    let mut connection = client.get_connection()?;
    connection.set_read_timeout(Some(Duration::from_secs(5)))?;
    let mut subscriber = connection.as_pubsub();
    subscriber.subscribe(&["news", "more"])?;
    subscriber.psubscribe("n*")?;
    // The crate reads one answer per call, and the call before had two: this one's may be due still.
    while redis::cmd("PUBSUB").arg("NUMPAT").query::<i64>(publisher)? == 0 {
        thread::sleep(Duration::from_millis(5));
    }
    let heard: i64 = publisher.publish("news", "hello")?;
    let mut messages = Vec::new();
    for _ in 0..2 {
        let message = subscriber.get_message()?;
        messages.push(format!(
            "{} {} {:?}",
            message.get_channel_name(),
            message.get_payload::<String>()?,
            message.get_pattern::<Option<String>>()?
        ));
    }
    messages.sort();
    println!("{heard} {messages:?}");
    drop(subscriber);
    let kept: Option<String> = connection.get("a")?;
    println!("{kept:?}");
    // Another connection pushes while this one waits.
    let mut waiting = client.get_connection()?;
    let waiter = thread::spawn(move || waiting.blpop::<_, Value>(&["queue", "others"], 5.0));
    thread::sleep(Duration::from_millis(50));
    let () = publisher.rpush("queue", "job")?;
    let Ok(popped) = waiter.join() else {
        bail!("the thread that waits panicked");
    };
    println!("{:?}", <(String, String)>::from_redis_value(popped?)?);
    Ok(())
}

async fn multiplexed(client: &Client) -> Result<()> {
    let connection = client.get_multiplexed_async_connection().await?;
    let all = (0..300_i64).map(|n| {
        let mut connection = connection.clone();
        async move {
            let () = connection.set(format!("m:{n}"), n).await?;
            connection.get::<_, i64>(format!("m:{n}")).await
        }
    });
    let all: Vec<i64> = futures_util::future::try_join_all(all).await?;
    println!("{} {}", all.len(), all.iter().sum::<i64>());
    let mut connection = connection;
    let mut names: Vec<String> = Vec::new();
    let mut walk: AsyncIter<'_, String> = connection.scan_match("m:29?").await?;
    while let Some(name) = walk.next_item().await {
        names.push(name?);
    }
    names.sort();
    names.dedup();
    println!("{names:?}");
    drop(walk);
    let mut subscriber = client.get_async_pubsub().await?;
    subscriber.subscribe("news").await?;
    let heard: i64 = connection.publish("news", b"\x00\xff".as_slice()).await?;
    let message = subscriber.on_message().next().await.context("a message")?;
    println!("{heard} {:?}", message.get_payload_bytes());
    Ok(())
}

/// The connection is killed from outside and comes back by itself.
async fn managed(client: &Client) -> Result<()> {
    let mut other = client.get_multiplexed_async_connection().await?;
    let config = ConnectionManagerConfig::new().set_number_of_retries(5);
    let mut manager = ConnectionManager::new_with_config(client.clone(), config).await?;
    let () = manager.set("managed", 1).await?;
    let id: i64 = redis::cmd("CLIENT")
        .arg("ID")
        .query_async(&mut manager)
        .await?;
    let killed: i64 = redis::cmd("CLIENT")
        .arg(&["KILL", "ID", &id.to_string()])
        .query_async(&mut other)
        .await?;
    for _ in 0..100 {
        if let Ok(value) = manager.incr::<_, _, i64>("managed", 1).await {
            let anew: i64 = redis::cmd("CLIENT")
                .arg("ID")
                .query_async(&mut manager)
                .await?;
            println!("{killed} {value} {}", anew != id);
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    bail!("the manager did not connect again")
}

/// RESP3: messages and invalidations come over the connection that sends commands.
async fn pushes(client: &Client) -> Result<()> {
    let (sender, mut receiver) = tokio::sync::mpsc::unbounded_channel();
    let config = redis::AsyncConnectionConfig::new().set_push_sender(sender);
    let mut connection = client
        .get_multiplexed_async_connection_with_config(&config)
        .await?;
    let mut other = client.get_multiplexed_async_connection().await?;
    connection.subscribe("news").await?;
    redis::cmd("CLIENT")
        .arg(&["TRACKING", "ON"])
        .exec_async(&mut connection)
        .await?;
    let _: Option<String> = connection.get("tracked").await?;
    let () = other.set("tracked", 1).await?;
    let () = other.publish("news", "pushed").await?;
    let mut seen = Vec::new();
    while seen.len() < 3 {
        let push = tokio::time::timeout(Duration::from_secs(5), receiver.recv()).await?;
        let push = push.context("the connection ended")?;
        ensure!(push.kind != PushKind::Disconnection, "disconnected");
        seen.push(format!("{:?} {:?}", push.kind, push.data));
    }
    seen.sort();
    println!("{seen:#?}");
    Ok(())
}
