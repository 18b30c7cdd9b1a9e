//! What a run amounted to.
//!
//! Owns: printing it, and failing when a promise was broken or when the run proved nothing.
//! Must not know: how the record came about; what is right, the oracle says.

use crate::actors::LOAD_MIN;
use crate::history::keys::Answer;
use crate::history::{Fate, Outcome, Record};
use crate::oracle;

/// Violations of each invariant that are shown.
const SHOWN: usize = 5;

/// Prints what a run amounted to and fails on any violation, or when it proved nothing.
///
/// # Panics
/// When an invariant was broken, or too little happened for the run to mean anything.
pub fn conclude(record: &Record) {
    print_sends(record);
    print_changes(record);
    print_keys(record);
    print_groups(record);
    let violations = oracle::judge(record);
    let of_each = violations.chunk_by(|one, next| one.invariant == next.invariant);
    let shown: Vec<String> = of_each.flat_map(|of| of.iter().take(SHOWN)).map(ToString::to_string).collect();
    assert!(violations.is_empty(), "{} violations:\n{}", violations.len(), shown.join("\n"));
    let compared = oracle::replicas::compared(record);
    println!("replicas of {compared} shards were compared");
    assert!(compared > 0, "no two replicas of any shard were ever at the same entry");
    let idle = idle(record);
    assert!(idle.is_empty(), "the load never got going: {idle:?}");
}

/// Parts of the load of which nothing came.
fn idle(record: &Record) -> Vec<&'static str> {
    let Record { changes, keys, receipts, blocks, members, envelopes, .. } = record;
    let frames: usize = record.heard.values().map(Vec::len).sum();
    let accepted = accepted(record);
    let parts = [
        ("sending", accepted >= LOAD_MIN),
        ("listening", frames > accepted),
        ("looking at threads", !record.glances.is_empty()),
        ("editing and deleting", changes.changes.iter().any(|change| change.fate == Fate::Acknowledged)),
        ("reacting", changes.reactions.iter().any(|reacting| reacting.fate == Fate::Acknowledged)),
        ("taking keys", !keys.repeats.is_empty()),
        ("reading", receipts.markings.iter().any(|marking| marking.fate == Fate::Acknowledged)),
        ("looking at recipients", !receipts.looks.is_empty()),
        ("blocking", blocks.turns.iter().any(|turn| turn.fate == Fate::Acknowledged) && !blocks.states.is_empty()),
        ("coming and going", members.turns.iter().any(|turn| turn.fate == Fate::Acknowledged)),
        ("looking at lists", !members.sights.is_empty()),
        ("sending in envelopes", envelopes.sends.iter().any(|send| matches!(send.outcome, Outcome::Accepted { .. }))),
        ("registering", !envelopes.registrations.is_empty()),
    ];
    parts.into_iter().filter(|(_, happened)| !happened).map(|(part, _)| part).collect()
}

fn accepted(record: &Record) -> usize {
    record.sends.iter().filter(|send| matches!(send.outcome, Outcome::Accepted { .. })).count()
}

fn print_sends(record: &Record) {
    let count = |wanted: &Outcome| record.sends.iter().filter(|send| send.outcome == *wanted).count();
    println!(
        "{} acknowledged, {} unknown, {} refused, {} reads, {} frames",
        accepted(record),
        count(&Outcome::Unknown),
        count(&Outcome::Refused),
        record.glances.len(),
        record.heard.values().map(Vec::len).sum::<usize>(),
    );
}

fn print_changes(record: &Record) {
    let changes = &record.changes;
    let acknowledged =
        |fates: &mut dyn Iterator<Item = &Fate>| fates.filter(|fate| **fate == Fate::Acknowledged).count();
    println!(
        "{} of {} edits and deletions, {} of {} reactions acknowledged; {} events",
        acknowledged(&mut changes.changes.iter().map(|change| &change.fate)),
        changes.changes.len(),
        acknowledged(&mut changes.reactions.iter().map(|reacting| &reacting.fate)),
        changes.reactions.len(),
        changes.heard.values().map(Vec::len).sum::<usize>(),
    );
    println!(
        "{} read marks, {} looks at recipients, {} receipts",
        record.receipts.markings.len(),
        record.receipts.looks.len(),
        record.receipts.heard.values().map(Vec::len).sum::<usize>(),
    );
}

fn print_keys(record: &Record) {
    let keys = &record.keys;
    let count = |wanted: fn(&Answer) -> bool| keys.takings.iter().filter(|taking| wanted(&taking.answer)).count();
    println!(
        "keys: {} publications, {} requests ({} all exhausted, {} a device exhausted, {} unknown), {} repeats",
        keys.publications.len(),
        keys.takings.len(),
        count(|answer| *answer == Answer::Exhausted),
        count(|answer| matches!(answer, Answer::Given { exhausted, .. } if !exhausted.is_empty())),
        count(|answer| *answer == Answer::Unknown),
        keys.repeats.len(),
    );
}

fn print_groups(record: &Record) {
    let Record { blocks, members, envelopes, .. } = record;
    let failed = blocks.states.values().filter(|state| *state == "FAILED").count();
    let (turns, of) = (blocks.turns.len(), blocks.states.len());
    println!("{turns} blocks set and lifted, {failed} messages of {of} failed for the blocker");
    let (turns, sights, sends) = (members.turns.len(), members.sights.len(), members.sends.len());
    println!("{turns} members added and removed, {sights} looks at their lists, {sends} messages");
    let (sends, registrations) = (envelopes.sends.len(), envelopes.registrations.len());
    let mismatched = envelopes.sends.iter().filter(|send| send.outcome == Outcome::Refused).count();
    println!("{sends} messages in envelopes, {mismatched} refused for one of {registrations} registrations");
}
