//! The families of rows in a shard: their keys and values on disk.
//!
//! Owns: the key codec, the tag of every family, and typed access to rows.
//! Must not know: what a command means, RocksDB, groups.
//! Invariants: no two families share a tag; tags and layouts are pinned by golden tests; within a family keys are ordered by slot, then as the
//! key structs are; no encoded key is a prefix of another; a row's value is a protobuf message, so fields can
//! be added; bytes that are no row of their family are a [`TableError`], never a panic.
//!
//! A key is `tag u8`, then its parts: a thread is `slot BE16 | id 16`, a user at the head of a key `slot BE16 | name`,
//! so that a shard divides by ranges of slots; names end in a NUL, which no name holds; numbers are big-endian.
//!
//! | tag | family | key | rows |
//! |---|---|---|---|
//! | 01 | [`shard`] | | one |
//! | 02 | [`cluster`] | | one, in the meta group alone |
//! | 10 | [`thread`] | thread | one per thread |
//! | 11 | [`head`] | thread | one per thread |
//! | 12 | [`member`] | thread, user | one per member there ever was |
//! | 13 | [`message`] | thread, seq | one per message; it is also the message's event |
//! | 14 | [`event`] | thread, seq | one per event that is no message |
//! | 15 | [`message_id`] | slot, id | one per message |
//! | 16 | [`client_seq`] | thread, user, device, number | one per message |
//! | 17 | [`envelopes`] | thread, seq, user | one per message in envelopes and user with devices among them |
//! | 18 | [`watermark`] | thread, user | one per member that took a message |
//! | 19 | [`history`] | thread, kind, user, seq | one per step of a watermark |
//! | 1a | [`position`] | thread, user, device | one per device that acknowledged |
//! | 1b | [`member_devices`] | thread, user | one per member that has devices or had |
//! | 1c | [`member_blocks`] | user | one per user that was a member here and blocks someone or did |
//! | 1d | [`block`] | thread, user, user, seq | one per stretch in which one member blocked another |
//! | 1e | [`blocker`] | thread, user, user | one per pair of them |
//! | 1f | [`resent`] | thread, seq, user | one per recipient that a message was sent to again |
//! | 20 | [`dedupe`] | command | one per remembered command |
//! | 21 | [`expiry`] | time, command | one per remembered command |
//! | 22 | [`due`] | time, thread, seq | one per message that is to disappear |
//! | 28 | [`outbox`] | thread, seq, user | one per membership change not yet in the user's index |
//! | 29 | [`profile_due`] | user | one per user of whom threads are yet to be told something |
//! | 30 | [`user_thread`] | user, thread | one per thread a user is or was in |
//! | 31 | [`user`] | user | one per user in a thread |
//! | 32 | [`departure`] | user, time, thread | one per thread a user left of late, 1,000 at most |
//! | 33 | [`device`] | user, device | one per device that has keys published, 32 at most |
//! | 34 | [`prekey`] | user, device, kind, number | one per one-time key in store, 1,000 of a kind at most |
//! | 35 | [`bundles`] | command | one per remembered command that took keys |
//! | 36 | [`device_past`] | user, device | one per device that was deleted or began anew, 1,032 at most |
//! | 37 | [`devices`] | user | one per user with devices |
//! | 38 | [`privacy`] | user | one per user that does not show everything |
//! | 3a | [`blocks`] | user | one per user that blocks someone |
//! | 40 | [`unread_resent`] | thread, user, seq | one per message sent again to a member that has not read it |
//! | 60 | [`suspension`] | user | one per user that is suspended, or has devices that are |
//! | 61 | [`report`] | report | one per report that is kept |
//! | 62 | [`user_report`] | user, report | one per report that is kept, 100 of a user at most |
//!
//! One message under an Idempotency-Key writes seven rows: message, message id, client seq, dedupe and expiry are new,
//! head and shard are rewritten (once per pack). One receipt writes watermark, history (two when a read also delivers)
//! and head; a device's position is one row more.

pub mod block;
pub mod blocker;
pub mod blocks;
pub mod bundles;
pub mod client_seq;
pub mod cluster;
pub mod dedupe;
pub mod departure;
pub mod device;
pub mod device_past;
pub mod devices;
pub mod due;
pub mod envelopes;
pub mod event;
pub mod expiry;
pub mod head;
pub mod history;
pub mod key;
pub mod member;
pub mod member_blocks;
pub mod member_devices;
pub mod message;
pub mod message_id;
pub mod outbox;
pub mod position;
pub mod prekey;
pub mod privacy;
pub mod profile_due;
pub mod report;
pub mod resent;
pub mod shard;
pub mod suspension;
pub mod thread;
pub mod unread_resent;
pub mod user;
pub mod user_report;
pub mod user_thread;
pub mod watermark;

use super::tables::{Direction, Overlay, TableError, Tables};
use bytes::Bytes;
use key::{Key, KeyRange};
use messenger_proto::wire::Wire;
use std::ops::ControlFlow;

messenger_proto::wire_struct! {
    /// The value of rows whose key says everything.
    pub struct Nothing {}
}

/// Reads a value of family `K`.
///
/// # Errors
/// [`TableError`] when the bytes are not one.
pub fn decode<K: Key>(value: Bytes) -> Result<K::Row, TableError> {
    K::Row::decode_from(value).map_err(|error| TableError(format!("corrupt row of family {:02x}: {error}", K::TAG)))
}

/// The row at a key.
///
/// # Errors
/// [`TableError`] when storage fails or the row is corrupt.
pub fn get<K: Key>(tables: &impl Tables, key: &K) -> Result<Option<K::Row>, TableError> {
    tables.get(&key.encode())?.map(decode::<K>).transpose()
}

/// The row at a key that another row says is there.
///
/// # Errors
/// [`TableError`] as [`get`], and when it is not.
pub fn expect<K: Key>(tables: &impl Tables, key: &K) -> Result<K::Row, TableError> {
    get(tables, key)?.ok_or_else(|| TableError(format!("a row of family {:02x} is missing", K::TAG)))
}

/// Puts a row.
pub fn put<K: Key, T: Tables>(overlay: &mut Overlay<'_, T>, key: &K, row: &K::Row) {
    overlay.put(key.encode(), row.to_wire());
}

/// Calls `visit` for the rows of a range until it breaks or fails; the value is yet to be decoded.
///
/// # Errors
/// [`TableError`] when storage fails, a key is corrupt, or `visit` says so.
pub fn scan<K: Key>(
    tables: &impl Tables,
    range: &KeyRange,
    direction: Direction,
    mut visit: impl FnMut(K, &[u8]) -> Result<ControlFlow<()>, TableError>,
) -> Result<(), TableError> {
    let mut failure = None;
    tables.scan(&range.from, &range.to, direction, &mut |key, value| match K::decode(key)
        .and_then(|key| visit(key, value))
    {
        Ok(flow) => flow,
        Err(error) => {
            failure = Some(error);
            ControlFlow::Break(())
        }
    })?;
    failure.map_or(Ok(()), Err)
}

/// The first `limit` rows of a range.
///
/// # Errors
/// [`TableError`] when storage fails or a row is corrupt.
pub fn collect<K: Key>(
    tables: &impl Tables,
    range: &KeyRange,
    direction: Direction,
    limit: usize,
) -> Result<Vec<(K, K::Row)>, TableError> {
    let mut rows = Vec::new();
    if limit == 0 {
        return Ok(rows);
    }
    scan::<K>(tables, range, direction, |key, value| {
        rows.push((key, decode::<K>(Bytes::copy_from_slice(value))?));
        Ok(if rows.len() < limit { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
    })?;
    Ok(rows)
}

/// Whether a range holds any row.
///
/// # Errors
/// [`TableError`] when storage fails.
pub fn any(tables: &impl Tables, range: &KeyRange) -> Result<bool, TableError> {
    let mut found = false;
    tables.scan(&range.from, &range.to, Direction::Forward, &mut |_, _| {
        found = true;
        ControlFlow::Break(())
    })?;
    Ok(found)
}

#[cfg(test)]
mod families;

#[cfg(test)]
pub(crate) mod testing {
    //! Checks that every family's tests share.

    use super::key::Key;
    use messenger_proto::wire::Wire;
    use std::fmt::Debug;

    /// Both keys come back from their bytes, which are ordered by slot, then as the keys are, and no prefixes of each
    /// other; bytes that are no key are refused.
    pub(crate) fn keys_keep_order<K: Key + Ord + Debug>(a: &K, b: &K, slot: impl Fn(&K) -> u16) {
        let (bytes_a, bytes_b) = (a.encode(), b.encode());
        assert_eq!(&K::decode(&bytes_a).unwrap(), a);
        assert_eq!(&K::decode(&bytes_b).unwrap(), b);
        assert_eq!(bytes_a[0], K::TAG);
        assert_eq!((slot(a), a).cmp(&(slot(b), b)), bytes_a.cmp(&bytes_b), "{a:?} {b:?}");
        assert!(a == b || !(bytes_a.starts_with(&bytes_b) || bytes_b.starts_with(&bytes_a)), "{a:?} {b:?}");
        assert!(K::decode(&bytes_a[..bytes_a.len() - 1]).is_err(), "cut short");
        assert!(K::decode(&[bytes_a.as_slice(), &[0]].concat()).is_err(), "too long");
        let mut other = bytes_a;
        other[0] ^= 0x80;
        assert!(K::decode(&other).is_err(), "another family");
    }

    /// A row comes back from its bytes.
    pub(crate) fn row_round_trips<R: Wire + PartialEq + Debug>(row: &R) {
        assert_eq!(&R::from_wire(&row.to_wire()).unwrap(), row);
    }
}
