//! What the frames of one snapshot must be together.
//!
//! Owns: the rule of their order, and of what is a whole snapshot.
//! Must not know: where rows go.
//! Invariants: a header, then rows, then an end, and nothing missing between them; a snapshot is whole only if its rows are,
//! in number and by their hash, those that were read.

use super::frame::{self, End, Frame, Header};
use crate::snapshot::SnapshotError;
use crate::store::tables::RowHash;
use crate::types::GroupId;
use bytes::Bytes;

/// What came so far.
pub(super) struct Sequence {
    group: GroupId,
    next: u32,
    header: Option<Header>,
    end: Option<End>,
    rows: u64,
    hash: RowHash,
}

impl Sequence {
    /// Nothing yet of a snapshot of `group`.
    pub(super) fn of(group: GroupId) -> Self {
        Self { group, next: 0, header: None, end: None, rows: 0, hash: RowHash::default() }
    }

    /// Takes the next frame, and calls `visit` for each row of it.
    pub(super) fn take(
        &mut self,
        bytes: &Bytes,
        mut visit: impl FnMut(&[u8], &[u8]) -> Result<(), SnapshotError>,
    ) -> Result<(), SnapshotError> {
        let frame = frame::decode(bytes, self.next)?;
        self.next += 1;
        match (frame, &self.header, &self.end) {
            (Frame::Header(header), None, None) if header.group != self.group.0 => Err(SnapshotError::WrongGroup),
            (Frame::Header(header), None, None) => {
                self.header = Some(*header);
                Ok(())
            }
            (Frame::Rows(rows), Some(_), None) => rows.each(|key, value| {
                self.hash.add(key, value);
                self.rows += 1;
                visit(key, value)
            }),
            (Frame::End(end), Some(_), None) => {
                self.end = Some(end);
                Ok(())
            }
            _ => Err(SnapshotError::Damaged("its frames are out of order")),
        }
    }

    /// The header, if all of it came.
    pub(super) fn finish(self) -> Result<Header, SnapshotError> {
        let (Some(header), Some(end)) = (self.header, self.end) else {
            return Err(SnapshotError::Damaged("it has no end"));
        };
        if end.rows != self.rows || end.hash != self.hash.finish() {
            return Err(SnapshotError::Damaged("its rows are not those that were read"));
        }
        if header.meta.last_log_id.is_none() {
            return Err(SnapshotError::Damaged("it covers nothing"));
        }
        Ok(header)
    }
}
