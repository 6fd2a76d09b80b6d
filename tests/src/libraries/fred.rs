//! The crate `fred`: a pool, pipelines, transactions, scripts, pub/sub and tracking.

use std::collections::BTreeMap;
use std::env;
use std::time::Duration;

use anyhow::{Context, Result};
use fred::clients::SubscriberClient;
use fred::prelude::*;
use fred::types::RespVersion;
use fred::types::client::Toggle;
use fred::types::scan::Scanner;
use fred::types::scripts::Script;
use futures_util::TryStreamExt;
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

/// What the role is called.
pub const ROLE: &str = "library-fred";

/// Long enough for a message on a loaded machine.
const WAIT_MAX: Duration = Duration::from_secs(5);

/// Runs the programs in RESP2 and RESP3 and prints what they see.
///
/// # Errors
/// When a call fails that must not.
pub fn role(_: &[String]) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        for version in [RespVersion::RESP2, RespVersion::RESP3] {
            println!("{version:?}");
            run(version).await?;
        }
        println!("end");
        Ok(())
    })
}

async fn run(version: RespVersion) -> Result<()> {
    let mut config = Config::from_url(&env::var("CACHE_URL").context("CACHE_URL")?)?;
    config.version = version.clone();
    let builder = Builder::from_config(config);
    let pool = builder.build_pool(3)?;
    pool.init().await?;
    let client = pool.next().clone();
    let () = client.flushall(false).await?;
    commands(&client).await?;
    pooled(&pool).await?;
    transactions(&client).await?;
    scripts(&client).await?;
    listening(&builder, &client).await?;
    blocking(&builder, &client).await?;
    if version == RespVersion::RESP3 {
        tracking(&builder, &client).await?;
    }
    pool.quit().await?;
    Ok(())
}

async fn commands(client: &Client) -> Result<()> {
    let () = client
        .set("a", "ä", Some(Expiration::EX(100)), None, false)
        .await?;
    let text: Option<String> = client.get("a").await?;
    let none: Option<String> = client.get("none").await?;
    let left: i64 = client.ttl("a").await?;
    println!("{text:?} {none:?} {}", left > 90);
    let () = client.hset("h", vec![("x", "1"), ("y", "2")]).await?;
    let hash: BTreeMap<String, i64> = client.hgetall("h").await?;
    let pushed: i64 = client.rpush("l", vec!["one", "two"]).await?;
    let list: Vec<String> = client.lrange("l", 0, -1).await?;
    println!("{hash:?} {pushed} {list:?}");
    let added: i64 = client
        .zadd("z", None, None, false, false, vec![(1.5, "m"), (2.0, "n")])
        .await?;
    let scores: Vec<(String, f64)> = client.zrange("z", 0, -1, None, false, None, true).await?;
    println!("{added} {scores:?}");
    let id: String = client.xadd("x", false, None, "1-1", ("f", "v")).await?;
    let () = client.xgroup_create("x", "g", "0", false).await?;
    let read: Value = client
        .xreadgroup("g", "c", Some(5), None, false, "x", ">")
        .await?;
    let acknowledged: i64 = client.xack("x", "g", &id).await?;
    println!("{id} {read:?} {acknowledged}");
    for line in ["GET", "NOSUCH x", "LPUSH a x", "SELECT 99"] {
        let mut words = line.split(' ');
        let command = fred::cmd!(words.next().unwrap_or_default());
        let arguments: Vec<&str> = words.collect();
        let said = client.custom::<Value, _>(command, arguments).await;
        println!("{line}: {}", said.err().context("an error is due")?);
    }
    let () = client.select(3).await?;
    let elsewhere: Option<String> = client.get("a").await?;
    let () = client.select(0).await?;
    let size: i64 = client.dbsize().await?;
    println!("{elsewhere:?} {size}");
    Ok(())
}

async fn pooled(pool: &Pool) -> Result<()> {
    let all = (0..300_i64).map(|n| async move {
        let () = pool.set(format!("k:{n}"), n, None, None, false).await?;
        pool.get::<i64, _>(format!("k:{n}")).await
    });
    let all = futures_util::future::try_join_all(all).await?;
    println!("{} {}", all.len(), all.iter().sum::<i64>());
    let client = pool.next();
    let pipeline = client.pipeline();
    for n in 0..300 {
        let () = pipeline.get(format!("k:{n}")).await?;
    }
    let all: Vec<i64> = pipeline.all().await?;
    println!("{} {}", all.len(), all.iter().sum::<i64>());
    let mut names = Vec::new();
    let mut pages = client.scan("k:29*", Some(50), None);
    while let Some(mut page) = pages.try_next().await? {
        names.extend(page.take_results().unwrap_or_default());
        page.next();
    }
    names.sort();
    names.dedup();
    let names: Vec<&str> = names.iter().filter_map(Key::as_str).collect();
    println!("{names:?}");
    Ok(())
}

async fn transactions(client: &Client) -> Result<()> {
    let transaction = client.multi();
    let () = transaction.incr("t").await?;
    let () = transaction.get("none").await?;
    let () = transaction.hgetall("h").await?;
    let all: (i64, Option<String>, BTreeMap<String, i64>) = transaction.exec(true).await?;
    println!("{all:?}");
    let transaction = client.multi();
    let () = transaction.set("s", "text", None, None, false).await?;
    let () = transaction.incr("s").await?;
    let failed = transaction.exec::<Value>(true).await;
    println!("{failed:?}");
    Ok(())
}

async fn scripts(client: &Client) -> Result<()> {
    let script = Script::from_lua("return {KEYS[1], redis.call('INCRBY', KEYS[1], ARGV[1])}");
    let () = script.load(client).await?;
    let one: (String, i64) = script.evalsha(client, "count", 5).await?;
    let () = client.script_flush(false).await?;
    let gone = script.evalsha::<Value, _, _, _>(client, "count", 6).await;
    let two: (String, i64) = script.evalsha_with_reload(client, "count", 6).await?;
    println!("{one:?} {two:?} {} {:?}", script.sha1(), gone.err());
    let wrong = client
        .eval::<Value, _, _, _>("return nope", "key", "value")
        .await;
    println!("{}", wrong.err().context("an error is due")?);
    Ok(())
}

async fn listening(builder: &Builder, client: &Client) -> Result<()> {
    let subscriber: SubscriberClient = builder.build_subscriber_client()?;
    subscriber.init().await?;
    let (sender, mut heard) = mpsc::unbounded_channel();
    let listener = subscriber.on_message(move |message| {
        let line = format!("{:?} {} {:?}", message.kind, message.channel, message.value);
        let sent = sender.send(line);
        async move { sent.map_err(|_| Error::new(ErrorKind::Canceled, "nobody listens")) }
    });
    let () = subscriber.subscribe(vec!["news", "more"]).await?;
    let () = subscriber.psubscribe("n*").await?;
    let () = subscriber.ssubscribe("shard").await?;
    let one: i64 = client.publish("news", "hello").await?;
    let two: i64 = client.spublish("shard", "there").await?;
    let channels: i64 = client.pubsub_numpat().await?;
    let mut lines = Vec::new();
    while lines.len() < 3 {
        lines.push(
            timeout(WAIT_MAX, heard.recv())
                .await?
                .context("a message")?,
        );
    }
    lines.sort();
    println!("{one} {two} {channels} {lines:?}");
    println!("{:?}", subscriber.tracked_channels());
    let () = subscriber.unsubscribe_all().await?;
    subscriber.quit().await?;
    listener.abort();
    Ok(())
}

async fn blocking(builder: &Builder, client: &Client) -> Result<()> {
    let waiting = builder.build()?;
    waiting.init().await?;
    let push = async {
        sleep(Duration::from_millis(50)).await;
        client.rpush::<i64, _, _>("queue", "job").await
    };
    let pop = waiting.blpop::<(String, String), _>(vec!["queue", "others"], 5.0);
    let (popped, pushed) = tokio::try_join!(pop, push)?;
    println!("{popped:?} {pushed}");
    waiting.quit().await?;
    Ok(())
}

async fn tracking(builder: &Builder, other: &Client) -> Result<()> {
    let client = builder.build()?;
    client.init().await?;
    let (sender, mut invalid) = mpsc::unbounded_channel();
    let listener = client.on_invalidation(move |invalidation| {
        let sent = sender.send(format!("{:?}", invalidation.keys));
        sent.map_err(|_| Error::new(ErrorKind::Canceled, "nobody listens"))
    });
    let () = client
        .client_tracking(
            Toggle::On,
            None,
            Vec::<&str>::new(),
            false,
            false,
            false,
            false,
        )
        .await?;
    let _: Option<String> = client.get("tracked").await?;
    let () = other.set("tracked", 1, None, None, false).await?;
    println!("{:?}", timeout(WAIT_MAX, invalid.recv()).await?);
    client.quit().await?;
    listener.abort();
    Ok(())
}
