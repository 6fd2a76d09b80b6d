//! SCAN, page by page.

use super::{Connection, position};

/// Names that one SCAN looks at: a few hundred microseconds of the server's time.
const LOOKED_AT: usize = 1000;

/// A walk over the names of the whole server that match a pattern.
///
/// What is there from beginning to end is seen; a name may be seen twice.
#[derive(Clone, Debug)]
pub struct Walk {
    cursor: u64,
    pattern: Vec<u8>,
    slots: bool,
    over: bool,
}

/// What one question brought.
#[derive(Debug, Default)]
pub struct Page {
    /// Names that match, as stored.
    pub names: Vec<Vec<u8>>,
}

impl Walk {
    /// A walk from the beginning. `slots`: the server has slots and the pattern fixes one of them.
    #[must_use]
    pub fn new(pattern: Vec<u8>, slots: bool) -> Self {
        Self::from(0, pattern, slots)
    }

    /// A walk that goes on where an earlier one was, on the same server process.
    #[must_use]
    pub fn from(cursor: u64, pattern: Vec<u8>, slots: bool) -> Self {
        Self {
            cursor,
            pattern,
            slots,
            over: false,
        }
    }

    /// Where the next question begins; 0 when everything was looked at.
    #[must_use]
    pub fn cursor(&self) -> u64 {
        self.cursor
    }

    /// The part of all names that was looked at, from 0 to 1.
    #[must_use]
    pub fn fraction(&self) -> f64 {
        if self.over {
            1.0
        } else {
            position(self.cursor, self.slots)
        }
    }

    /// The next names; `None` when everything was looked at.
    ///
    /// # Errors
    /// When the server refuses.
    pub async fn next<C: Connection>(
        &mut self,
        connection: &mut C,
    ) -> redis::RedisResult<Option<Page>> {
        if self.over {
            return Ok(None);
        }
        let (cursor, names): (u64, Vec<Vec<u8>>) = redis::cmd("SCAN")
            .arg(self.cursor)
            .arg("MATCH")
            .arg(&self.pattern)
            .arg("COUNT")
            .arg(LOOKED_AT)
            .query_async(connection)
            .await?;
        self.cursor = cursor;
        self.over = cursor == 0;
        Ok(Some(Page { names }))
    }
}
