//! Hearing of changes in the registry the moment they happen. This is the fast way only: the keeper
//! looks at the registry's version all the time, so nothing depends on a notification.

use std::sync::Arc;
use std::time::Duration;

use flect_agent::reach::Link;
use flect_agent::registry::CHANGES;
use futures_util::StreamExt;
use tokio::sync::Notify;

/// Between two tries to subscribe: polling serves meanwhile.
const RETRY: Duration = Duration::from_secs(1);

/// Wakes `changed` after every change that is heard of, for ever. The connection is its own, since
/// one that subscribes can do nothing else.
pub async fn listen(link: Link, changed: Arc<Notify>) {
    let mut complained = false;
    loop {
        match subscribe(&link).await {
            Ok(mut messages) => {
                complained = false;
                // What happened before the subscription was not heard.
                changed.notify_one();
                while messages.next().await.is_some() {
                    changed.notify_one();
                }
            }
            Err(error) if !complained => {
                complained = true;
                tracing::warn!(%error, "changes in the registry are not announced; they are polled for");
            }
            Err(_) => {}
        }
        tokio::time::sleep(RETRY).await;
    }
}

async fn subscribe(link: &Link) -> anyhow::Result<redis::aio::PubSubStream> {
    let mut connection = link.listener().await?;
    connection.subscribe(CHANGES).await?;
    Ok(connection.into_on_message())
}
