//! What a `gap` frame left out.
//!
//! Owns: reading it, a page at a time, and going on where an earlier try stopped.
//! Must not know: what becomes of a message; how a connection is kept up.
//! Invariants: whoever takes every page until there is none has every message that was created or changed in the gap, as it
//! is now, in the order of changes, and those of the frames that follow too. It is as long as the gap; a connection that
//! breaks meanwhile brings the same gap again, of which only the rest is read then.

use crate::error::ClientError;
use crate::frames::Gap;
use crate::model::{HistoryQuery, Message};
use crate::rest::Rest;
use messenger_proto::ids::ThreadId;

/// Rows asked for at a time.
const PAGE: u32 = 100;

/// The reading of one gap.
#[derive(Debug, Clone)]
pub struct GapReader {
    thread: ThreadId,
    after_seq: u64,
    /// Of the page that is next, or was the last.
    cursor: Option<String>,
    is_over: bool,
}

impl GapReader {
    /// Begins with a gap.
    #[must_use]
    pub fn of(gap: &Gap) -> Self {
        Self { thread: gap.thread_id, after_seq: gap.after_seq, cursor: None, is_over: false }
    }

    /// Goes on, if `before` read of the same gap; begins otherwise. The last page is read again: there may be more by now.
    #[must_use]
    pub fn resume(before: Option<Self>, gap: &Gap) -> Self {
        let same = before.filter(|before| (before.thread, before.after_seq) == (gap.thread_id, gap.after_seq));
        same.map_or_else(|| Self::of(gap), |same| Self { is_over: false, ..same })
    }

    /// The next page; `None` when all was read. One that fails is read again by the next call.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn next(&mut self, rest: &Rest) -> Result<Option<Vec<Message>>, ClientError> {
        if self.is_over {
            return Ok(None);
        }
        let changed_since = self.cursor.is_none().then_some(self.after_seq);
        let query = HistoryQuery {
            page_size: Some(PAGE),
            changed_since,
            cursor: self.cursor.clone(),
            ..HistoryQuery::default()
        };
        let page = rest.messages(self.thread, &query).await?;
        match page.next_cursor {
            Some(next) => self.cursor = Some(next),
            None => self.is_over = true,
        }
        Ok(Some(page.messages))
    }
}
