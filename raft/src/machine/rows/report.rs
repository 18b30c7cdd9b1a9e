//! A report.
//!
//! Layout: `61 | report 16`.
//! Owns: the order of a shard's reports in time; what a row holds is said in [`FileReport`].
//! Must not know: when the row is written or read.
//! Invariants: the tag and the layout never change; the value only gains fields.

use super::key::{Key, KeyRange, KeyReader, KeyWriter};
use messenger_proto::ids::ReportId;
use messenger_proto::moderation::FileReport;

/// The key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ReportKey {
    /// The report.
    pub report: ReportId,
}

impl ReportKey {
    /// The keys of the reports after one and before another, both exclusive.
    #[must_use]
    pub fn between(after: ReportId, before: ReportId) -> KeyRange {
        let (after, before) = (Self { report: after }, Self { report: before });
        if after >= before {
            let nothing = after.encode();
            return KeyRange { from: nothing.clone(), to: nothing };
        }
        KeyRange { from: Vec::new(), to: before.encode() }.after(&after)
    }
}

impl Key for ReportKey {
    const TAG: u8 = 0x61;
    type Row = FileReport;

    fn write(&self, key: &mut KeyWriter) {
        key.report(self.report);
    }

    fn read(key: &mut KeyReader<'_>) -> Option<Self> {
        Some(Self { report: key.report()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::rows::testing::{keys_keep_order, row_round_trips};
    use messenger_proto::ids::{DeviceId, UserId};
    use messenger_proto::moderation::{ReportReason, ReportSubject, ReportedUser};
    use proptest::prelude::*;

    fn key() -> impl Strategy<Value = ReportKey> {
        prop_oneof![0..3_u128, any::<u128>()].prop_map(|id| ReportKey { report: ReportId(id) })
    }

    proptest! {
        #[test]
        fn keys_round_trip_in_order(a in key(), b in key()) {
            keys_keep_order(&a, &b, |_| 0);
        }

        #[test]
        fn rows_round_trip(note in prop::option::of(".{0,20}"), reason in prop::sample::select(ReportReason::ALL)) {
            let user = UserId::new("alice").unwrap();
            let subject = ReportSubject::User(ReportedUser { user: user.clone() });
            row_round_trips(&FileReport { reporter: user, device: DeviceId::new("d").unwrap(), reason, note, subject });
        }

        #[test]
        fn a_range_holds_what_lies_between(key in key(), after in key(), before in key()) {
            let range = ReportKey::between(after.report, before.report);
            let bytes = key.encode();
            let within = range.from <= bytes && bytes < range.to;
            prop_assert_eq!(within, after < key && key < before);
        }
    }

    #[test]
    fn the_layout_is_pinned() {
        let key = ReportKey { report: ReportId(5) };
        assert_eq!(key.encode(), [[0x61].as_slice(), &5_u128.to_be_bytes()].concat());
    }
}
