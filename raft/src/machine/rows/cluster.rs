//! The cluster's record, in the meta group.
//!
//! Layout: `02`.
//! Owns: where it is kept.
//! Must not know: when the row is written or read.
//! Invariants: the tag and the layout never change; the value only gains fields.

use super::key::{Key, KeyReader, KeyWriter};
use messenger_proto::meta::ClusterState;

/// The key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ClusterKey;

impl Key for ClusterKey {
    const TAG: u8 = 0x02;
    type Row = ClusterState;

    fn write(&self, _: &mut KeyWriter) {}

    fn read(_: &mut KeyReader<'_>) -> Option<Self> {
        Some(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_layout_is_pinned() {
        assert_eq!(ClusterKey.encode(), [0x02]);
        assert_eq!(ClusterKey::decode(&[0x02]).unwrap(), ClusterKey);
        assert!(ClusterKey::decode(&[0x02, 0]).is_err());
    }
}
