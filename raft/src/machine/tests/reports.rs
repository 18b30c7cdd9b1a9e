//! Tests of what users report.

use super::properties::family;
use super::*;
use crate::machine::rows::report::ReportKey;
use crate::machine::rows::user_report::UserReportKey;
use messenger_proto::ids::ReportId;
use messenger_proto::limits::{REPORT_NOTE_MAX, REPORT_RETENTION, USER_REPORTS_MAX};
use messenger_proto::moderation::{FileReport, KeptReport, ReportReason, ReportSubject, ReportedUser, ReportsQuery};
use proptest::prelude::*;

fn report(by: &str, note: &str) -> Op {
    Op::FileReport(FileReport {
        reporter: user(by),
        device: device("phone"),
        reason: ReportReason::Spam,
        note: Some(note.into()),
        subject: ReportSubject::User(ReportedUser { user: user("eve") }),
    })
}

fn filed(result: CommandResult) -> (ReportId, bool) {
    let reply = result.unwrap();
    match reply.body {
        ReplyBody::Report(report) => (report.id, reply.replayed),
        other => panic!("{other:?}"),
    }
}

fn list(shard: &Shard, after: ReportId, before: ReportId, limit: u32) -> Vec<KeptReport> {
    match shard.ask(&Query::Reports(ReportsQuery { after, before, limit })).unwrap() {
        Answer::Reports(answer) => answer.reports,
        other => panic!("{other:?}"),
    }
}

fn notes(shard: &Shard) -> Vec<String> {
    let all = list(shard, ReportId(0), ReportId(u128::MAX), 200);
    all.into_iter().filter_map(|kept| kept.report.note).collect()
}

#[test]
fn a_report_is_kept_once_and_listed_by_time() {
    let mut shard = Shard::new();
    let (first, _) = filed(shard.run(report("ann", "1")));
    shard.now += 10;
    let command = Command { id: CommandId([9; 16]), retention: Retention::Keyed, body_hash: 1, op: report("bob", "2") };
    let second = filed(shard.command(command.clone()));
    shard.now += 10;
    assert_eq!(filed(shard.command(command)), (second.0, true));
    assert_eq!(second.0.filed_at(), Millis(shard.now - 10));
    assert_eq!(notes(&shard), ["1", "2"]);
    assert_eq!(list(&shard, first, ReportId(u128::MAX), 200)[0].id, second.0);
    assert_eq!(list(&shard, ReportId(0), second.0, 200)[0].id, first);
    assert_eq!(list(&shard, second.0, first, 200), []);
    assert!(shard.events.is_empty(), "nobody is told");
}

#[test]
fn a_reporter_pushes_out_its_own_reports_and_nobody_else_s() {
    let mut shard = Shard::new();
    shard.run(report("bob", "the only one")).unwrap();
    for n in 0..USER_REPORTS_MAX + 3 {
        shard.now += 1;
        shard.run(report("ann", &n.to_string())).unwrap();
    }
    let notes = notes(&shard);
    assert_eq!((notes.len(), notes[0].as_str(), notes[1].as_str()), (USER_REPORTS_MAX + 1, "the only one", "3"));
    assert_eq!(family::<UserReportKey>(&shard.tables).len(), USER_REPORTS_MAX + 1);
}

#[test]
fn an_old_report_is_shown_to_nobody_and_goes_with_the_next() {
    let mut shard = Shard::new();
    shard.run(report("ann", "old")).unwrap();
    shard.now += u64::try_from(REPORT_RETENTION.as_millis()).unwrap() + 1;
    assert_eq!(notes(&shard), Vec::<String>::new());
    assert_eq!(family::<ReportKey>(&shard.tables).len(), 1);
    shard.run(report("bob", "new")).unwrap();
    assert_eq!(notes(&shard), ["new"]);
    assert_eq!((family::<ReportKey>(&shard.tables).len(), family::<UserReportKey>(&shard.tables).len()), (1, 1));
}

#[test]
fn a_note_beyond_its_bound_is_refused() {
    assert_eq!(Shard::new().refused(report("ann", &"x".repeat(REPORT_NOTE_MAX + 1))), ErrorCode::InvalidRequest);
}

proptest! {
    #[test]
    fn pages_hold_every_report_once(count in 0_usize..20, limit in 1_u32..6) {
        let mut shard = Shard::new();
        for n in 0..count {
            shard.now += u64::from(n % 3 == 0);
            shard.run(report(["ann", "bob"][n % 2], &n.to_string())).unwrap();
        }
        let (mut seen, mut after) = (Vec::new(), ReportId(0));
        loop {
            let page = list(&shard, after, ReportId(u128::MAX), limit);
            let Some(last) = page.last() else { break };
            after = last.id;
            seen.extend(page.iter().map(|kept| kept.id));
        }
        let all: Vec<_> = list(&shard, ReportId(0), ReportId(u128::MAX), 200).iter().map(|kept| kept.id).collect();
        prop_assert_eq!((seen.len(), &seen), (count, &all));
    }
}
