//! Hearing from Sentinels that another primary was chosen, in the instant in which it is.
//!
//! Invariant: nothing is believed because of it. Whoever hears looks for the primary as at any other time, only
//! sooner; where nothing can be heard, the look of each second is late and no worse.

use std::io;
use std::time::Duration;

use futures_util::StreamExt;
use redis::aio::PubSub;
use tokio::task::JoinSet;

use super::primary::Sentinels;
use super::{Link, Place, Reach, UpstreamAddress, dial};
use crate::config::Endpoint;

/// What Sentinels publish when they have another primary: its name, old address, new address.
const CHANNEL: &str = "+switch-master";

/// A connection on which nothing comes for so long may lead nowhere any more: it is made anew.
const SILENT_MAX: Duration = Duration::from_secs(60);

/// Connecting to one Sentinel, login included.
const CONNECT_WITHIN: Duration = Duration::from_secs(2);

/// Between two tries at one Sentinel.
const RETRY: Duration = Duration::from_secs(1);

impl Link {
    /// Listens to all Sentinels, for ever; at once done where there are none. Each time that one tells of another
    /// primary the link looks for it anew, whatever it was waiting for, and `heard` is called.
    pub async fn hear_of_primaries(&self, heard: impl Fn() + Clone + Send + Sync + 'static) {
        let reach = self.reach();
        let Place::Told(sentinels, _) = &reach.place else {
            return;
        };
        let mut listeners = JoinSet::new();
        for sentinel in sentinels.addresses.clone() {
            let (link, sentinels, heard) = (self.clone(), sentinels.clone(), heard.clone());
            listeners.spawn(async move {
                loop {
                    let tell = || {
                        link.look_anew();
                        heard();
                    };
                    let ended = listen(link.reach(), &sentinels, &sentinel, tell).await;
                    if let Err(error) = ended {
                        tracing::debug!(%sentinel, %error, "a Sentinel tells nothing; it is asked each second");
                        tokio::time::sleep(RETRY).await;
                    }
                }
            });
        }
        // They end when this is dropped.
        while listeners.join_next().await.is_some() {}
    }
}

/// Listens to one Sentinel until nothing comes for a while.
async fn listen(
    reach: &Reach,
    sentinels: &Sentinels,
    sentinel: &Endpoint,
    tell: impl Fn(),
) -> io::Result<()> {
    let subscribed = async {
        let mut failure = io::Error::other("it has no address");
        for address in reach.resolve_with(sentinel, sentinels.tls).await? {
            match subscribe(&address, sentinels).await {
                Ok(messages) => return Ok(messages),
                Err(error) => failure = error,
            }
        }
        Err(failure)
    };
    let mut messages = tokio::time::timeout(CONNECT_WITHIN, subscribed).await??;
    while let Ok(message) = tokio::time::timeout(SILENT_MAX, messages.next()).await {
        let Some(message) = message else {
            return Err(io::ErrorKind::UnexpectedEof.into());
        };
        let text: String = message.get_payload().unwrap_or_default();
        if is_about(&text, &sentinels.master) {
            tracing::info!(%sentinel, "a Sentinel tells of another primary");
            tell();
        }
    }
    Ok(())
}

async fn subscribe(
    address: &UpstreamAddress,
    sentinels: &Sentinels,
) -> io::Result<redis::aio::PubSubStream> {
    let stream = dial(address).await?;
    let login = sentinels.login.to_redis();
    let subscribed = async {
        let mut connection = PubSub::new(&login, stream).await?;
        connection.subscribe(CHANNEL).await?;
        redis::RedisResult::Ok(connection.into_on_message())
    };
    subscribed.await.map_err(io::Error::other)
}

/// Whether a message tells of this primary: `NAME OLD-IP OLD-PORT NEW-IP NEW-PORT`.
fn is_about(message: &str, master: &str) -> bool {
    let mut words = message.split(' ');
    words.next() == Some(master) && words.count() == 4
}

#[cfg(test)]
mod tests {
    use super::is_about;

    #[test]
    fn messages_about_others_are_passed_over() {
        assert!(is_about("flect 10.0.0.1 6379 10.0.0.2 6379", "flect"));
        for other in [
            "",
            "flect",
            "flect2 10.0.0.1 6379 10.0.0.2 6379",
            "flect 1 2",
        ] {
            assert!(!is_about(other, "flect"), "{other}");
        }
    }
}
