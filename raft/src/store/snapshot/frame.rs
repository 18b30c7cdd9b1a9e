//! The byte form of a snapshot on the wire.
//!
//! Owns: frames (a header, rows, an end), each numbered and checked on its own. Nothing on the way numbers, checks or ends
//! a snapshot besides.
//! Must not know: the database, the network.
//! Invariants: a frame that was cut, altered, repeated or moved is refused; decoding never panics and allocates no more
//! than its input.
//!
//! `kind u8 | number BE32 | payload | xxh3-64 of all before, BE64`

use crate::snapshot::SnapshotError;
use crate::store::SnapshotMeta;
use crate::wire::SnapshotMetaWire;
use bytes::Bytes;
use messenger_proto::wire::Wire;
use messenger_proto::wire_struct;
use prost::encoding::{decode_varint, encode_varint};
use xxhash_rust::xxh3::xxh3_64;

const HEADER: u8 = 1;
const ROWS: u8 = 2;
const END: u8 = 3;
const PREFIX: usize = 5;
const CHECKSUM: usize = 8;

/// What comes first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) group: u32,
    /// What the rows cover.
    pub(super) meta: SnapshotMeta,
    /// The digest chained up to there.
    pub(super) digest: u64,
}

/// The form of what follows a header.
const VERSION: u32 = 2;

wire_struct! {
    /// See [`Header`].
    struct HeaderWire { 1 => version: u32, 2 => group: u32, 3 => meta: SnapshotMetaWire, 4 => digest: u64 }
}

impl From<&Header> for HeaderWire {
    fn from(header: &Header) -> Self {
        let Header { group, ref meta, digest } = *header;
        Self { version: VERSION, group, meta: meta.into(), digest }
    }
}

/// What comes last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct End {
    pub(super) rows: u64,
    /// [`crate::store::GroupTables::full_hash`] of all of them.
    pub(super) hash: u64,
}

/// A frame's content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Frame {
    Header(Box<Header>),
    Rows(Rows),
    End(End),
}

/// Rows in key order, as [`push_row`] strings them together.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Rows(pub(super) Bytes);

/// Appends a row.
pub(super) fn push_row(key: &[u8], value: &[u8], buf: &mut Vec<u8>) {
    encode_varint(key.len() as u64, buf);
    buf.extend_from_slice(key);
    encode_varint(value.len() as u64, buf);
    buf.extend_from_slice(value);
}

fn take<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = usize::try_from(decode_varint(rest).ok()?).ok()?;
    let (bytes, after) = rest.split_at_checked(length)?;
    *rest = after;
    Some(bytes)
}

impl Rows {
    /// Calls `visit` for each row.
    pub(super) fn each(
        &self,
        mut visit: impl FnMut(&[u8], &[u8]) -> Result<(), SnapshotError>,
    ) -> Result<(), SnapshotError> {
        let mut rest = &self.0[..];
        while !rest.is_empty() {
            let row = take(&mut rest).and_then(|key| Some((key, take(&mut rest)?)));
            let (key, value) = row.ok_or(SnapshotError::Damaged("a row is cut"))?;
            visit(key, value)?;
        }
        Ok(())
    }
}

/// A frame's bytes.
pub(super) fn encode(frame: &Frame, number: u32) -> Bytes {
    let mut buf = Vec::with_capacity(64);
    buf.push(match frame {
        Frame::Header(_) => HEADER,
        Frame::Rows(_) => ROWS,
        Frame::End(_) => END,
    });
    buf.extend_from_slice(&number.to_be_bytes());
    match frame {
        Frame::Header(header) => {
            HeaderWire::from(&**header).encode_to(&mut buf);
        }
        Frame::Rows(rows) => buf.extend_from_slice(&rows.0),
        Frame::End(end) => {
            buf.extend_from_slice(&end.rows.to_be_bytes());
            buf.extend_from_slice(&end.hash.to_be_bytes());
        }
    }
    buf.extend_from_slice(&xxh3_64(&buf).to_be_bytes());
    buf.into()
}

/// Reads [`encode`]; `number` is the one that must come next.
pub(super) fn decode(bytes: &Bytes, number: u32) -> Result<Frame, SnapshotError> {
    let damaged = SnapshotError::Damaged;
    let body = bytes.len().checked_sub(CHECKSUM).filter(|body| *body >= PREFIX).ok_or(damaged("a frame is cut"))?;
    if bytes[body..] != xxh3_64(&bytes[..body]).to_be_bytes() {
        return Err(damaged("a frame's checksum is wrong"));
    }
    if bytes[1..PREFIX] != number.to_be_bytes() {
        return Err(damaged("a frame is missing or repeated"));
    }
    let payload = bytes.slice(PREFIX..body);
    match bytes[0] {
        HEADER => {
            let unreadable = |_| damaged("the header can't be read");
            let HeaderWire { version, group, meta, digest } = HeaderWire::decode_from(payload).map_err(unreadable)?;
            if version != VERSION {
                return Err(damaged("its version is unknown"));
            }
            let meta = meta.try_into().map_err(unreadable)?;
            Ok(Frame::Header(Box::new(Header { group, meta, digest })))
        }
        ROWS => Ok(Frame::Rows(Rows(payload))),
        END => {
            let (rows, hash) = payload.split_first_chunk::<8>().ok_or(damaged("the end is cut"))?;
            let hash = hash.try_into().map_err(|_| damaged("the end is cut"))?;
            Ok(Frame::End(End { rows: u64::from_be_bytes(*rows), hash: u64::from_be_bytes(hash) }))
        }
        _ => Err(damaged("a frame's kind is unknown")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::tests::metas;
    use proptest::prelude::*;

    fn frames() -> impl Strategy<Value = Frame> {
        let rows = proptest::collection::vec(any::<(Vec<u8>, Vec<u8>)>(), 0..4).prop_map(|rows| {
            let mut buf = Vec::new();
            for (key, value) in rows {
                push_row(&key, &value, &mut buf);
            }
            Frame::Rows(Rows(buf.into()))
        });
        let header = (any::<u32>(), metas(), any::<u64>())
            .prop_map(|(group, meta, digest)| Frame::Header(Box::new(Header { group, meta, digest })));
        let end = any::<(u64, u64)>().prop_map(|(rows, hash)| Frame::End(End { rows, hash }));
        prop_oneof![rows, header, end]
    }

    proptest! {
        #[test]
        fn frames_survive_the_round_trip(frame in frames(), number in any::<u32>()) {
            prop_assert_eq!(decode(&encode(&frame, number), number).unwrap(), frame);
        }

        #[test]
        fn an_altered_frame_is_refused(frame in frames(), number in any::<u32>(), at in any::<proptest::sample::Index>()) {
            let mut bytes = encode(&frame, number).to_vec();
            let at = at.index(bytes.len());
            bytes[at] ^= 1;
            prop_assert!(decode(&bytes.clone().into(), number).is_err());
            bytes[at] ^= 1;
            bytes.truncate(at);
            prop_assert!(decode(&bytes.into(), number).is_err());
        }

        #[test]
        fn a_frame_out_of_turn_is_refused(frame in frames(), number in 0u32..100, other in 0u32..100) {
            prop_assume!(number != other);
            prop_assert!(decode(&encode(&frame, number), other).is_err());
        }

        #[test]
        fn rows_survive_the_round_trip(rows in proptest::collection::vec(any::<(Vec<u8>, Vec<u8>)>(), 0..9)) {
            let mut buf = Vec::new();
            for (key, value) in &rows {
                push_row(key, value, &mut buf);
            }
            let mut seen = Vec::new();
            Rows(buf.into()).each(|key, value| {
                seen.push((key.to_vec(), value.to_vec()));
                Ok(())
            }).unwrap();
            prop_assert_eq!(seen, rows);
        }

        #[test]
        fn random_rows_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            let _ = Rows(bytes.into()).each(|_, _| Ok(()));
        }
    }
}
