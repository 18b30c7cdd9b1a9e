//! What holds for every log.

use super::model::{Attempt, EMOJI, Model, ModelMessage, NAMES, World, attempts};
use super::*;
use crate::machine::rows;
use crate::machine::rows::dedupe::DedupeKey;
use crate::machine::rows::expiry::ExpiryKey;
use crate::machine::rows::key::{Key, KeyWriter};
use crate::machine::tables::Direction;
use messenger_proto::event::{Receipt, ThreadEventBody};
use messenger_proto::ids::{LogIndex, Rev};
use messenger_proto::model::{DeliveryState, ReceiptKind, Role};
use messenger_proto::query::SummariesQuery;
use messenger_proto::slot::Slot;
use proptest::prelude::*;
use std::collections::BTreeMap;

pub(super) fn run_packs(packs: &[Pack]) -> (MemoryTables, Vec<CommandResult>, Vec<Event>) {
    let (mut tables, mut results, mut events) = (MemoryTables::default(), Vec::new(), Vec::new());
    for (index, pack) in packs.iter().enumerate() {
        let mut overlay = Overlay::new(&tables);
        let applied = apply(&mut overlay, LogIndex(index as u64), pack).unwrap();
        let writes = overlay.into_writes();
        tables.absorb(writes);
        results.extend(applied.results);
        events.extend(applied.events);
    }
    (tables, results, events)
}

pub(super) fn family<K: Key>(tables: &MemoryTables) -> Vec<(K, K::Row)> {
    rows::collect::<K>(tables, &KeyWriter::of::<K>().range(), Direction::Forward, usize::MAX).unwrap()
}

fn check_recipients(shard: &Shard, model: &Model) {
    for message in &model.messages {
        let viewer = model.members.keys().find(|user| model.sees(**user, message.seq));
        let Some(viewer) = viewer else { continue };
        let expected: Vec<Recipient> = message
            .recipients
            .iter()
            .map(|(index, (delivered, read))| Recipient {
                user: user(NAMES[*index]),
                state: match (delivered, read) {
                    (_, Some(_)) => DeliveryState::Read,
                    (Some(_), None) => DeliveryState::Delivered,
                    (None, None) => DeliveryState::Sent,
                },
                delivered_at: delivered.map(Millis),
                read_at: read.map(Millis),
            })
            .collect();
        assert_eq!(shard.recipients(message.id, NAMES[*viewer]).unwrap(), expected);
    }
}

/// What a message says of itself, and what the model says of it.
type Said = (MessageId, u64, Option<Bytes>, Option<u64>, bool, Vec<Vec<String>>);

fn said(message: &Message) -> Said {
    let edited_at = message.edited_at.map(|at| at.0);
    let mut reactions = vec![Vec::new(); EMOJI.len()];
    for reaction in &message.reactions {
        let at = EMOJI.iter().position(|emoji| *emoji == reaction.emoji.as_str()).unwrap();
        assert!(!reaction.by.is_empty());
        reactions[at] = reaction.by.iter().map(ToString::to_string).collect();
    }
    (message.id, message.seq.0, message.ciphertext.clone(), edited_at, message.deleted, reactions)
}

fn should_say(message: &ModelMessage) -> Said {
    let text = message.text.clone().map(Bytes::from);
    let mut reactions = vec![Vec::new(); EMOJI.len()];
    for (emoji, user) in &message.reactions {
        reactions[*emoji].push(NAMES[*user].to_owned());
    }
    (message.id, message.seq, text, message.edited_at, message.text.is_none(), reactions)
}

fn check_views(shard: &Shard, model: &Model) {
    for (index, name) in NAMES.iter().enumerate() {
        let history = shard.history(GROUP, name);
        let Some((_, admin)) = model.members.get(&index) else {
            assert_eq!(history.unwrap_err().code, ErrorCode::NotAMember);
            continue;
        };
        let visible = model.messages.iter().filter(|message| model.sees(index, message.seq));
        let history = history.unwrap();
        let (told, expected) = (history.iter().map(said), visible.clone().map(should_say));
        assert_eq!(told.collect::<Vec<_>>(), expected.collect::<Vec<_>>());
        let mut by_change: Vec<_> = visible.clone().collect();
        by_change.sort_by_key(|message| message.changed);
        for after in [0, model.seen.len() as u64 / 2, (model.seen.len() as u64).saturating_sub(2)] {
            let changed = by_change.iter().filter(|message| message.changed > after).map(|message| should_say(message));
            let told = shard.changed(GROUP, name, after).unwrap();
            assert_eq!(told.iter().map(said).collect::<Vec<_>>(), changed.collect::<Vec<_>>());
        }
        let thread = shard.thread(GROUP, name).unwrap();
        let role = thread.participants.iter().find(|one| one.user == user(name)).map(|one| one.role);
        assert_eq!(role, Some(if *admin { Role::Admin } else { Role::Member }));
        assert_eq!(thread.participants.len(), model.members.len());
        assert_eq!((thread.title.as_deref(), thread.last_seq), (model.title, Seq(model.seen.len() as u64)));
        assert_eq!(thread.last_message, history.last().map(|message| message.id));
        let pins = model.pins.iter().filter(|(pinned, ..)| model.sees(index, model.messages[*pinned].seq));
        let pins = pins.map(|(pinned, by, at)| Pin {
            message: model.messages[*pinned].id,
            by: user(NAMES[*by]),
            at: Millis(*at),
        });
        assert_eq!(shard.pins(GROUP, name).unwrap(), pins.collect::<Vec<_>>());
        let query = SummariesQuery { viewer: user(name), device: device("phone"), threads: vec![GROUP] };
        let Answer::Summaries(answer) = shard.ask(&Query::Summaries(query)).unwrap() else { panic!() };
        let read = model.read.get(&index).copied();
        let unread = visible
            .filter(|message| message.sender != index && message.seq > read.unwrap_or(0) && message.text.is_some());
        assert_eq!(answer.summaries[0].unread as usize, unread.count());
        let last_read = model.messages.iter().find(|message| Some(message.seq) == read).map(|message| message.id);
        assert_eq!(answer.summaries[0].last_read, last_read);
    }
}

fn check_stream(shard: &Shard) {
    let events = shard.thread_events(GROUP);
    let (mut seq, mut last) = (0, None);
    for (rev, event) in (1..).zip(&events) {
        assert_eq!(event.rev, Rev(rev), "rev has no gaps");
        if let Some(number) = event.seq {
            seq += 1;
            assert_eq!(number, Seq(seq), "seq has no gaps");
        }
        if let ThreadEventBody::Message(message) = &event.body {
            assert!(Some(message.id) > last, "ids grow");
            assert_eq!((message.id.slot(), message.id.created_at()), (Slot::of_thread(GROUP), event.at));
            last = Some(message.id);
        }
    }
    assert!(events.is_sorted_by_key(|event| event.at), "time never goes back");
    let mut marks: BTreeMap<(ReceiptKind, UserId), Seq> = BTreeMap::new();
    for event in events {
        if let ThreadEventBody::Receipt(Receipt { kind, by, up_to_seq, .. }) = event.body {
            assert!(marks.insert((kind, by), up_to_seq) < Some(up_to_seq), "marks move forward");
        }
    }
}

/// An event less what is counted or filled in when it is read.
fn bare(mut event: ThreadEvent) -> ThreadEvent {
    event.hidden_from.clear();
    match &mut event.body {
        ThreadEventBody::Message(message) => {
            (message.ciphertext, message.edited_at, message.receipts) = (None, None, None);
            message.deleted = false;
            message.reactions.clear();
        }
        ThreadEventBody::Edited(edited) => edited.ciphertext = None,
        _ => {}
    }
    event
}

/// Like a device: resumes in small steps from where it is until nothing is left.
fn catch_up(shard: &Shard, name: &str, mut from: Option<Position>, got: &mut Vec<ThreadEvent>) -> (Position, bool) {
    loop {
        let query = ResumeQuery {
            user: user(name),
            device: device("tablet"),
            threads: vec![ResumeFrom { thread: GROUP, position: from, unless_new: false }],
            last_seen: None,
            max_bytes: 300,
        };
        let one = shard.resume(query).remove(0);
        got.extend(one.events);
        from = Some(one.position);
        if !one.more {
            return (one.position, one.left);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn a_shard_does_what_the_model_does(attempts in attempts(120)) {
        let World { shard, model, .. } = World::after(&attempts);
        check_stream(&shard);
        check_views(&shard, &model);
        check_recipients(&shard, &model);
    }

    #[test]
    fn results_do_not_depend_on_packs(
        attempts in attempts(60),
        cuts in proptest::collection::vec((1usize..8, -3i64..2_000_000), 60),
    ) {
        let mut commands = World::after(&attempts).tried.into_iter().peekable();
        let (mut packed, mut single, mut stamp) = (Vec::new(), Vec::new(), Millis(1_000_000));
        for (length, pause) in cuts {
            stamp = Millis(stamp.0.saturating_add_signed(pause));
            let commands: Vec<_> = commands.by_ref().take(length).collect();
            single.extend(commands.iter().map(|command| Pack { stamp, commands: vec![command.clone()] }));
            packed.push(Pack { stamp, commands });
        }
        prop_assert!(commands.peek().is_none());
        let in_packs = run_packs(&packed);
        prop_assert_eq!(&in_packs, &run_packs(&single));
        prop_assert_eq!(&in_packs, &run_packs(&packed), "and the same log gives the same again");
    }

    #[test]
    fn a_repeated_command_has_one_effect(
        attempts in attempts(50),
        repeats in proptest::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>()), 0..40),
    ) {
        let stamp = Millis(1_000_000);
        let commands = World::after(&attempts).tried;
        let single = |commands: &[Command]| {
            commands.iter().map(|command| Pack { stamp, commands: vec![command.clone()] }).collect::<Vec<_>>()
        };
        let once = run_packs(&single(&commands));
        let granted = |index: usize| match &once.1[index] {
            Ok(Reply { replayed: false, body: ReplyBody::Message(reply), .. }) => !reply.duplicate,
            Ok(reply) => !reply.replayed,
            Err(_) => false,
        };
        let mut log: Vec<(usize, Command)> = commands.iter().cloned().enumerate().collect();
        for (which, place) in repeats {
            let index = which.index(commands.len());
            if granted(index) {
                // Anywhere after its first time, in the log as it is by now.
                let first = log.iter().position(|(at, _)| *at == index).unwrap();
                let place = first + 1 + place.index(log.len() - first);
                log.insert(place, (usize::MAX, commands[index].clone()));
            }
        }
        let commands: Vec<_> = log.iter().map(|(_, command)| command.clone()).collect();
        let often = run_packs(&[Pack { stamp, commands }]);
        prop_assert_eq!(&once.0, &often.0);
        prop_assert_eq!(&once.2, &often.2);
        for ((at, command), result) in log.iter().zip(&often.1) {
            match result {
                Ok(reply) if *at == usize::MAX => prop_assert!(reply.replayed),
                Err(refusal) if *at == usize::MAX => {
                    let silent = matches!(command.op, Op::SendMessage(_) | Op::DeleteMessage(_) | Op::RemoveParticipant(_));
                    prop_assert!(!silent, "only what shows something is refused: {command:?}");
                    prop_assert_eq!(refusal.code, ErrorCode::NotAMember);
                }
                _ => {}
            }
        }
    }

    #[test]
    fn resuming_and_then_listening_misses_nothing(
        first in attempts(60),
        second in attempts(60),
        who in 0..NAMES.len(),
    ) {
        let mut world = World::after(&first);
        let second: &[Attempt] = &second[1..];
        let (name, mut got) = (NAMES[who], Vec::new());
        let (mut cursor, mut left) = catch_up(&world.shard, name, None, &mut got);
        let before = world.shard.events.len();
        world.run(second);
        for event in thread_events(&world.shard.events[before..], GROUP) {
            if left {
                break;
            }
            prop_assert_eq!(event.rev, cursor.rev.next(), "the stream goes on where resume ended");
            cursor = Position { seq: event.seq.unwrap_or(cursor.seq), rev: event.rev };
            left = matches!(&event.body, ThreadEventBody::ParticipantRemoved(event) if event.user == user(name));
            if event.concerns(&user(name)) {
                got.push(event);
            }
        }
        if left {
            // It may have come back since.
            catch_up(&world.shard, name, Some(cursor), &mut got);
        }
        let told: Vec<_> = got.into_iter().filter(|event| event.seq.is_some()).map(bare).collect();
        let all = world.shard.thread_events(GROUP).into_iter().filter(|event| event.seq.is_some());
        let sees = |event: &ThreadEvent| {
            let of = event.body.subject().map_or(event.seq.unwrap(), |of| of.seq);
            world.model.sees(who, event.seq.unwrap().0) && world.model.sees(who, of.0)
        };
        let seen: Vec<_> = all.filter(sees).map(bare).collect();
        prop_assert_eq!(told, seen, "every event once, in order, as it was");
    }

    #[test]
    fn resumed_receipts_are_the_latest_of_those_missed(attempts in attempts(100), cut in 0u64..60, who in 0..NAMES.len()) {
        let World { shard, model, .. } = World::after(&attempts);
        prop_assume!(model.members.contains_key(&who));
        let events = shard.thread_events(GROUP);
        let behind = events.iter().filter(|event| event.rev.0 <= cut);
        let seq = behind.filter_map(|event| event.seq).max().unwrap_or(Seq(0));
        let from = Position { seq, rev: Rev(cut) };
        let resumed = shard.resume_one(GROUP, NAMES[who], Some(from), None).events;
        let receipts = |events: &[ThreadEvent]| {
            let mut latest = BTreeMap::new();
            for event in events {
                if let ThreadEventBody::Receipt(Receipt { kind, by, up_to_seq, .. }) = &event.body {
                    latest.insert((by.clone(), *kind), (event.rev, *up_to_seq));
                }
            }
            latest
        };
        let resumed = receipts(&resumed);
        let joined = events.iter().find(|event| event.seq.is_some_and(|seq| model.sees(who, seq.0)));
        let joined = joined.map_or(Rev(0), |event| event.rev);
        let viewer = user(NAMES[who]);
        let missed: Vec<_> = events
            .iter()
            .filter(|event| event.rev.0 > cut && event.rev >= joined && event.concerns(&viewer))
            .cloned()
            .collect();
        for ((by, kind), (rev, seq)) in receipts(&missed) {
            let same = resumed.get(&(by.clone(), kind));
            let read = resumed.get(&(by.clone(), ReceiptKind::Read));
            let told = match kind {
                ReceiptKind::Read => same == Some(&(rev, seq)),
                ReceiptKind::Delivered => same.into_iter().chain(read).any(|(_, covered)| *covered >= seq),
            };
            prop_assert!(told, "{by} {kind:?} up to {seq}: {resumed:?}");
        }
        prop_assert!(!resumed.keys().any(|(by, _)| *by == viewer));
    }

    #[test]
    fn only_what_expired_is_forgotten(attempts in attempts(120)) {
        let World { mut shard, model, .. } = World::after(&attempts);
        let check = |shard: &Shard| {
            let mut rows: Vec<_> =
                family::<DedupeKey>(&shard.tables).into_iter().map(|(key, row)| (row.expires, key.command)).collect();
            rows.sort_unstable();
            let queue: Vec<_> = family::<ExpiryKey>(&shard.tables)
                .into_iter()
                .map(|(key, _)| (key.expires, key.command))
                .collect();
            assert_eq!(rows, queue, "one expiry row for every remembered command");
            rows
        };
        let rows = check(&shard);
        for (command, (_, end)) in &model.keys {
            prop_assert!(*end <= model.now || rows.contains(&(Millis(*end), *command)), "{command} is forgotten");
        }
        // Commands that go on forget what is due, a few rows each.
        shard.now += 100_000_000;
        for _ in 0..rows.len() + 2 {
            shard.run(ack("ann", 0, None)).unwrap();
        }
        prop_assert_eq!(check(&shard).len(), rows.len() + 2);
    }
}
