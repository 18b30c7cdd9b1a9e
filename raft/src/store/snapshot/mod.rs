//! Snapshots: a group's rows on their way to a replica whose log is too short.
//!
//! Owns: the handles that the consensus library passes around.
//! Must not know: the network.
//! Invariants: taking a snapshot costs nothing until a follower asks; then its frames come from one frozen view of the
//! database, at that view's own applied position, which may be newer than the one the consensus core asked for and is
//! what must be announced; a received snapshot is checked to the last row before it can be installed.

mod frame;
mod install;
mod receive;
mod send;
mod sequence;

pub(super) use install::install;
pub use receive::{ReceivedSnapshot, SnapshotSink};
pub use send::{LocalSnapshot, SnapshotProgress, SnapshotSource};

/// A snapshot in the consensus library's hands.
pub enum SnapshotData {
    /// One of this node's groups as it is.
    Local(LocalSnapshot),
    /// One that another node sent.
    Received(ReceivedSnapshot),
}

#[cfg(test)]
pub(crate) mod testing {
    //! Snapshots without a store, in frames as real ones are.

    use super::frame::{self, End, Frame, Header, Rows, push_row};
    use super::sequence::Sequence;
    use crate::entry::log_id;
    use crate::snapshot::SnapshotError;
    use crate::store::tables::RowHash;
    use crate::types::{GroupId, SnapshotMeta};
    use bytes::Bytes;

    /// The frames of a snapshot that has `rows`, one in each frame.
    pub(crate) fn framed(group: GroupId, rows: Vec<Bytes>) -> impl Iterator<Item = Bytes> + Send {
        let meta = SnapshotMeta { last_log_id: Some(log_id(1, 1, 1)), ..SnapshotMeta::default() };
        let header = Frame::Header(Box::new(Header { group: group.0, meta, digest: 0 }));
        let count = rows.len() as u32;
        let (mut rows, mut hash) = ((1..).zip(rows), RowHash::default());
        let middle = std::iter::from_fn(move || {
            let Some((number, row)) = rows.next() else { return Some((count + 1, hash.finish(), None)) };
            let key = u32::to_be_bytes(number);
            hash.add(&key, &row);
            Some((number, 0, Some((key, row))))
        });
        let frames = middle.take(count as usize + 1).map(move |(number, hash, row)| match row {
            None => frame::encode(&Frame::End(End { rows: count.into(), hash }), number),
            Some((key, row)) => {
                let mut buf = Vec::new();
                push_row(&key, &row, &mut buf);
                frame::encode(&Frame::Rows(Rows(buf.into())), number)
            }
        });
        std::iter::once(frame::encode(&header, 0)).chain(frames)
    }

    /// What came of a snapshot, held to the rules of a real one.
    pub(crate) struct Taken {
        sequence: Sequence,
        rows: Vec<Bytes>,
    }

    impl Taken {
        pub(crate) fn new(group: GroupId) -> Self {
            Self { sequence: Sequence::of(group), rows: Vec::new() }
        }

        pub(crate) fn take(&mut self, frame: &Bytes) -> Result<(), SnapshotError> {
            let rows = &mut self.rows;
            self.sequence.take(frame, |_, value| {
                rows.push(Bytes::copy_from_slice(value));
                Ok(())
            })
        }

        pub(crate) fn finish(self) -> Result<(SnapshotMeta, Vec<Bytes>), SnapshotError> {
            Ok((self.sequence.finish()?.meta, self.rows))
        }
    }
}
