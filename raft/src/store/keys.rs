//! Where things are in the database.
//!
//! Owns: the layout of every key.
//! Must not know: values.
//! Invariants: keys of one group are adjacent and ordered (log by index, state by generation and row key); tags are
//! never used again for something else.
//!
//! | column family | key | value |
//! |---|---|---|
//! | `log` | group `BE32`, index `BE64` | [`crate::entry`] |
//! | `meta` | `00` | format, `BE32` |
//! | `meta` | `01` | [`crate::types::Identity`] |
//! | `meta` | `03` | the directory's own id, drawn before it is anyone's |
//! | `meta`; `log` | `02`; all ones, `BE32` | the log writer's last batch, `BE64` |
//! | `meta` | `10`, group `BE32`, [`Kind`] | [`super::codec`] |
//! | `state` | group `BE32`, 0 `BE32`, [`Standing`] | [`super::codec`] |
//! | `state` | group `BE32`, generation `BE32` from 1, row key | the machine's |
//!
//! How far a machine is stands with its rows, so that a damaged database can't lose the one and keep the other.

use crate::types::GroupId;

/// The column family of log entries.
pub(crate) const LOG: &str = "log";
/// The column family of everything that is one row per group or node.
pub(crate) const META: &str = "meta";
/// The column family of the machines' rows.
pub(crate) const STATE: &str = "state";

/// The format of the whole data directory.
pub(crate) const FORMAT: &[u8] = &[0x00];
/// Whose data this is.
pub(crate) const IDENTITY: &[u8] = &[0x01];
/// The number of the log writer's last batch: in each family that it alone writes to, so that none can lose its end
/// unnoticed.
pub(crate) const BATCH: [(&str, &[u8]); 2] = [(META, &[0x02]), (LOG, GROUPS_END)];
/// After every group's log and rows: no group has the last number.
pub(crate) const GROUPS_END: &[u8] = &[u8::MAX; 4];
/// What the directory will be called once it is a node's; see [`super::Store::draw_id`].
pub(crate) const DRAWN: &[u8] = &[0x03];
const GROUP: u8 = 0x10;

/// Bytes before the row key of a state key.
pub(crate) const STATE_PREFIX: usize = 8;

/// Which copy of a group's rows; a snapshot is installed into the next one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Generation(pub u32);

impl Generation {
    /// That of the rows that say how far the machine is.
    pub(crate) const STANDING: Self = Self(0);
    /// That of a group that never installed a snapshot.
    pub(crate) const FIRST: Self = Self(1);
}

/// The rows a group's machine has one of, beside the commands' own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// The applied position, its generation and digest.
    Applied = 1,
    /// The membership as applied.
    Membership = 2,
}

/// The rows a group's log has one of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// The vote; outlives the group.
    Vote = 1,
    /// The last log position known to be committed.
    Committed = 2,
    /// The last log position purged.
    Purged = 3,
    /// The last log position that the group had here when it was destroyed; outlives it, too.
    Forgotten = 4,
}

impl Kind {
    /// All, for loops over what a group has.
    pub(crate) const ALL: [Self; 4] = [Self::Vote, Self::Committed, Self::Purged, Self::Forgotten];

    /// Whether it is kept when the group is destroyed.
    pub(crate) fn outlives_the_group(self) -> bool {
        matches!(self, Self::Vote | Self::Forgotten)
    }

    fn from_byte(byte: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| *kind as u8 == byte)
    }
}

/// The key of a group's `meta` row.
pub(crate) fn meta(group: GroupId, kind: Kind) -> [u8; 6] {
    let [a, b, c, d] = group.0.to_be_bytes();
    [GROUP, a, b, c, d, kind as u8]
}

/// Where all groups' `meta` rows begin and end.
pub(crate) fn meta_range() -> ([u8; 1], [u8; 1]) {
    ([GROUP], [GROUP + 1])
}

/// Reads [`meta`].
pub(crate) fn parse_meta(key: &[u8]) -> Option<(GroupId, Kind)> {
    let [GROUP, a, b, c, d, kind] = *key else { return None };
    Some((GroupId(u32::from_be_bytes([a, b, c, d])), Kind::from_byte(kind)?))
}

/// The key of a log entry.
pub(crate) fn log(group: GroupId, index: u64) -> [u8; 12] {
    let mut key = [0; 12];
    key[..4].copy_from_slice(&group.0.to_be_bytes());
    key[4..].copy_from_slice(&index.to_be_bytes());
    key
}

/// Reads [`log`].
pub(crate) fn parse_log(key: &[u8]) -> Option<(GroupId, u64)> {
    let (group, index) = key.split_at_checked(4)?;
    let group = u32::from_be_bytes(group.try_into().ok()?);
    Some((GroupId(group), u64::from_be_bytes(index.try_into().ok()?)))
}

/// Reads the group of a log or state key.
pub(crate) fn group_of(key: &[u8]) -> Option<GroupId> {
    let (group, _) = key.split_first_chunk()?;
    Some(GroupId(u32::from_be_bytes(*group)))
}

/// The first key after all of a group's log; also where the next group's begins.
pub(crate) fn log_end(group: GroupId) -> Vec<u8> {
    successor(&group.0.to_be_bytes())
}

/// The key of a row about a group's machine.
pub(crate) fn standing(group: GroupId, row: Standing) -> [u8; STATE_PREFIX + 1] {
    let mut key = [row as u8; STATE_PREFIX + 1];
    key[..STATE_PREFIX].copy_from_slice(&state_prefix(group, Generation::STANDING));
    key
}

/// What every state key of a group's generation begins with.
pub(crate) fn state_prefix(group: GroupId, generation: Generation) -> [u8; STATE_PREFIX] {
    let mut key = [0; STATE_PREFIX];
    key[..4].copy_from_slice(&group.0.to_be_bytes());
    key[4..].copy_from_slice(&generation.0.to_be_bytes());
    key
}

/// Reads the group and generation of a state key.
pub(crate) fn parse_state(key: &[u8]) -> Option<(GroupId, Generation)> {
    let (prefix, _) = key.split_at_checked(STATE_PREFIX)?;
    let (group, generation) = prefix.split_at(4);
    Some((
        GroupId(u32::from_be_bytes(group.try_into().ok()?)),
        Generation(u32::from_be_bytes(generation.try_into().ok()?)),
    ))
}

/// The first key after every key that begins with `prefix`.
pub(crate) fn successor(prefix: &[u8]) -> Vec<u8> {
    let mut key = prefix.to_vec();
    while let Some(last) = key.pop() {
        if last < u8::MAX {
            key.push(last + 1);
            return key;
        }
    }
    // Beyond any key this module makes: the longest fixed part is all ones.
    vec![u8::MAX; 2 * STATE_PREFIX]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn kinds() -> impl Strategy<Value = Kind> {
        proptest::sample::select(Kind::ALL.to_vec())
    }

    proptest! {
        #[test]
        fn keys_survive_the_round_trip(
            group in any::<u32>(),
            index in any::<u64>(),
            generation in any::<u32>(),
            kind in kinds(),
            row in proptest::collection::vec(any::<u8>(), 0..20),
        ) {
            let (group, generation) = (GroupId(group), Generation(generation));
            prop_assert_eq!(parse_log(&log(group, index)), Some((group, index)));
            prop_assert_eq!(parse_meta(&meta(group, kind)), Some((group, kind)));
            let mut key = state_prefix(group, generation).to_vec();
            key.extend(row);
            prop_assert_eq!(parse_state(&key), Some((group, generation)));
        }

        #[test]
        fn log_keys_sort_by_group_and_index(a in any::<(u32, u64)>(), b in any::<(u32, u64)>()) {
            prop_assert_eq!(log(GroupId(a.0), a.1).cmp(&log(GroupId(b.0), b.1)), a.cmp(&b));
        }

        #[test]
        fn a_successor_bounds_its_prefix_and_nothing_else(
            prefix in proptest::collection::vec(any::<u8>(), 4..=8),
            rest in proptest::collection::vec(any::<u8>(), 0..5),
            other in proptest::collection::vec(any::<u8>(), 4..=8),
        ) {
            let end = successor(&prefix);
            let mut key = prefix.clone();
            key.extend(rest);
            prop_assert!(key < end);
            if other > prefix && !other.starts_with(&prefix) {
                prop_assert!(other >= end);
            }
        }

        #[test]
        fn foreign_keys_are_refused(key in proptest::collection::vec(any::<u8>(), 0..8)) {
            prop_assert_eq!(parse_log(&key), None);
        }
    }
}
