//! What keeps the clients of one store from taking the memory that the server needs for all.
//!
//! A server holds what a client has asked for and does not read, without a limit unless it is given one:
//! requests for large values, sent at once over some connections that nobody reads, would take all memory of
//! the machine. `maxmemory-clients` is Valkey's own answer: past it, clients are disconnected, those that hold
//! most first (`evictClients` in networking.c), which are an attacker's and never a neighbour's.

use redis::RedisResult;

use super::{Admin, AdminError, info_field};

/// The setting, as `CONFIG` knows it.
pub const CLIENT_MEMORY: &str = "maxmemory-clients";

/// The least that clients may hold together where nobody has said how much: twice the largest value, since
/// whoever writes one has it in the server once, and whoever reads it once more.
const CLIENT_BYTES_LEAST: u64 = 1 << 30;

/// What part of the server's memory clients may hold where nobody has said how much.
const CLIENT_SHARE: u64 = 4;

impl Admin {
    /// Gives the memory of all clients together a limit, if it has none: a quarter of what the server may use
    /// (`maxmemory`, or else the machine's memory), and 1 GiB at least. Answers the bytes if it was so.
    ///
    /// # Errors
    /// When the server refuses.
    pub async fn bound_clients(&mut self) -> Result<Option<u64>, AdminError> {
        let read: RedisResult<(Vec<String>, String)> = redis::pipe()
            .cmd("CONFIG")
            .arg("GET")
            .arg(CLIENT_MEMORY)
            .cmd("INFO")
            .arg("memory")
            .query_async(&mut self.connection)
            .await;
        let (shown, info) = read.map_err(|cause| self.server(cause))?;
        if shown.get(1).is_none_or(|bytes| bytes != "0") {
            return Ok(None);
        }
        let bytes = safe_bytes(&info);
        self.apply_settings(&[(CLIENT_MEMORY, bytes.to_string())])
            .await?;
        Ok(Some(bytes))
    }
}

/// By `INFO memory`.
fn safe_bytes(info: &str) -> u64 {
    let field = |name| info_field(info, name).and_then(|bytes| bytes.parse().ok());
    let has = [field("maxmemory"), field("total_system_memory")];
    let whole: u64 = has
        .into_iter()
        .flatten()
        .find(|&bytes| bytes > 0)
        .unwrap_or(0);
    (whole / CLIENT_SHARE).max(CLIENT_BYTES_LEAST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quarter_of_what_there_is_and_room_for_large_values() {
        const GIB: u64 = 1 << 30;
        let info = |limit: u64, machine: u64| {
            safe_bytes(&format!(
                "# Memory\r\ntotal_system_memory:{machine}\r\nmaxmemory:{limit}\r\n"
            ))
        };
        assert_eq!(info(0, 24 * GIB), 6 * GIB);
        assert_eq!(info(8 * GIB, 24 * GIB), 2 * GIB);
        assert_eq!(info(GIB, 24 * GIB), GIB);
        assert_eq!(safe_bytes(""), GIB);
    }
}
