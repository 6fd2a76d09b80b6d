//! Copying a store's libraries of functions to another store of the same server.
//!
//! Invariant: what is loaded is made anew of the app's own text, so it bears the new store's names and no
//! others.

use std::collections::HashMap;

use redis::{RedisResult, Value, from_redis_value};

use crate::keyspace::Connection;
use crate::scripts::{FunctionNames, Library};
use crate::store::Prefix;

/// Loads the libraries of `from` for `to`, in the place of those of the same names; how many there are.
///
/// # Errors
/// When the server refuses; calling it again does all of it again.
pub async fn copy_functions<C: Connection>(
    connection: &mut C,
    from: &Prefix,
    to: &Prefix,
    databases: u32,
) -> RedisResult<u64> {
    let names = FunctionNames::of(from);
    let libraries: Vec<HashMap<String, Value>> = redis::cmd("FUNCTION")
        .arg("LIST")
        .arg("LIBRARYNAME")
        .arg(names.of_server(b"*"))
        .arg("WITHCODE")
        .query_async(connection)
        .await?;
    let mut copied = 0;
    for mut library in libraries {
        let mut text = |field: &str| -> Option<Vec<u8>> {
            let value = library.remove(field)?;
            from_redis_value(value).ok()
        };
        let (name, code) = (text("library_name"), text("library_code"));
        // A pattern's letters have no case; another store's name is none of this one's.
        if name.is_none_or(|name| names.of_app(&name).is_none()) {
            continue;
        }
        let own = code.and_then(|code| Library::app_text(&code));
        let Some(library) = own.and_then(|own| Library::parse(&own).ok()) else {
            continue;
        };
        let () = redis::cmd("FUNCTION")
            .arg("LOAD")
            .arg("REPLACE")
            .arg(library.server_text(to, databases))
            .query_async::<Value>(connection)
            .await
            .map(|_| ())?;
        copied += 1;
    }
    Ok(copied)
}
