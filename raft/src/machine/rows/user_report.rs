//! That a user filed a report.
//!
//! Layout: `62 | slot BE16 | user NUL | report 16`.
//! Owns: the order of a user's reports in time, so that their number is bounded without a look at others'.
//! Must not know: when the row is written or read.
//! Invariants: the tag and the layout never change; the value only gains fields.

use super::Nothing;
use super::key::{Key, KeyReader, KeyWriter};
use messenger_proto::ids::{ReportId, UserId};

/// The key.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct UserReportKey {
    /// The reporter.
    pub user: UserId,
    /// The report.
    pub report: ReportId,
}

impl Key for UserReportKey {
    const TAG: u8 = 0x62;
    type Row = Nothing;

    fn write(&self, key: &mut KeyWriter) {
        key.slotted_user(&self.user).report(self.report);
    }

    fn read(key: &mut KeyReader<'_>) -> Option<Self> {
        Some(Self { user: key.slotted_user()?, report: key.report()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::rows::key::tests::user;
    use crate::machine::rows::testing::{keys_keep_order, row_round_trips};
    use proptest::prelude::*;

    fn key() -> impl Strategy<Value = UserReportKey> {
        (user(), prop_oneof![0..3_u128, any::<u128>()])
            .prop_map(|(user, report)| UserReportKey { user, report: ReportId(report) })
    }

    proptest! {
        #[test]
        fn keys_round_trip_in_order(a in key(), b in key()) {
            keys_keep_order(&a, &b, |key| messenger_proto::slot::Slot::of_user(&key.user).get());
        }
    }

    #[test]
    fn rows_round_trip() {
        row_round_trips(&Nothing {});
    }

    #[test]
    fn the_layout_is_pinned() {
        let key = UserReportKey { user: UserId::new("alice").unwrap(), report: ReportId(5) };
        let bytes: [&[u8]; 3] = [&[0x62, 0x16, 0xb0], b"alice\0", &5_u128.to_be_bytes()];
        assert_eq!(key.encode(), bytes.concat());
    }
}
