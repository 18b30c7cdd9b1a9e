//! Tests of messages that are sent in envelopes.

use super::properties::family;
use super::*;
use crate::machine::rows::envelopes::EnvelopesKey;
use messenger_proto::envelope::{DeviceMismatch, DeviceName, Envelope, EnvelopeKind, Envelopes, KindNumber};
use messenger_proto::event::ThreadEventBody;
use messenger_proto::ids::RegistrationId;
use messenger_proto::limits::CIPHERTEXT_MAX;
use messenger_proto::profile::{Profile, ProfileDevice, UpdateProfile};
use messenger_proto::query::{MessageQuery, SummariesQuery};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

/// What a user's shard tells: the devices it has, and their registrations.
fn told(name: &str, version: u64, devices: &[(&str, u64)]) -> Op {
    let device = |(name, registration): &(&str, u64)| ProfileDevice {
        device: device(name),
        registration: RegistrationId(*registration),
    };
    let devices = devices.iter().map(device).collect();
    let profile = Profile { version, devices_version: version, devices, blocks: Vec::new() };
    Op::UpdateProfile(UpdateProfile { user: user(name), profile, threads: vec![GROUP] })
}

/// An envelope whose ciphertext says whose it is.
fn envelope(name: &str, of: &str) -> Envelope {
    Envelope {
        user: user(name),
        device: device(of),
        registration: None,
        kind: Some(EnvelopeKind::Number(KindNumber { number: 3 })),
        ciphertext: Bytes::from(format!("for {name} {of}")),
    }
}

fn sealed(list: Vec<Envelope>, allow_mismatch: bool) -> Envelopes {
    Envelopes { list, allow_mismatch }
}

fn send_sealed(client_seq: u64, list: Vec<Envelope>, allow_mismatch: bool) -> Op {
    match send(GROUP, "ann", client_seq) {
        Op::SendMessage(send) => Op::SendMessage(SendMessage {
            ciphertext: Bytes::new(),
            envelopes: Some(sealed(list, allow_mismatch)),
            ..send
        }),
        other => panic!("{other:?}"),
    }
}

fn edit_sealed(id: MessageId, list: Vec<Envelope>) -> Op {
    let (actor, device) = (user("ann"), Some(device("phone")));
    Op::EditMessage(EditMessage { id, actor, ciphertext: Bytes::new(), envelopes: Some(sealed(list, false)), device })
}

/// Ann has a phone, which sends, and a tablet; Bob a phone and a computer; Cid nothing.
fn shard() -> Shard {
    let mut shard = Shard::with_group(&["ann", "bob", "cid"]);
    shard.run(told("ann", 1, &[("phone", 1), ("tablet", 2)])).unwrap();
    shard.run(told("bob", 1, &[("pc", 3), ("phone", 4)])).unwrap();
    shard
}

fn whole() -> Vec<Envelope> {
    vec![envelope("bob", "phone"), envelope("ann", "tablet"), envelope("bob", "pc")]
}

fn names(names: &[(&str, &str)]) -> Vec<DeviceName> {
    names.iter().map(|(name, of)| DeviceName { user: user(name), device: device(of) }).collect()
}

fn mismatch(result: CommandResult) -> DeviceMismatch {
    let refusal = result.unwrap_err();
    assert_eq!(refusal.code, ErrorCode::DeviceMismatch);
    *refusal.mismatch.unwrap()
}

const DEVICES: [(&str, &str); 6] =
    [("ann", "phone"), ("ann", "tablet"), ("bob", "pc"), ("bob", "phone"), ("bob", "new"), ("cid", "phone")];

impl Shard {
    fn get_seq(&self, id: MessageId) -> Seq {
        let query = MessageQuery { id, viewer: user("ann"), device: device("phone") };
        match self.ask(&Query::Message(query)) {
            Ok(Answer::Message(message)) => message.seq,
            other => panic!("{other:?}"),
        }
    }
}

/// What a device is shown of a message, wherever it looks; `None` when there is nothing for it.
fn shown(shard: &Shard, id: MessageId, name: &str, of: &str) -> Option<String> {
    let (viewer, device) = (user(name), device(of));
    let Answer::Message(one) =
        shard.ask(&Query::Message(MessageQuery { id, viewer: viewer.clone(), device: device.clone() })).unwrap()
    else {
        panic!("a message was asked for")
    };
    for range in
        [HistoryRange::NewestBefore(SeqBound { seq: Seq(0) }), HistoryRange::ChangedAfter(SeqBound { seq: Seq(0) })]
    {
        let query = HistoryQuery { thread: GROUP, viewer: viewer.clone(), device: device.clone(), range, limit: 100 };
        let Answer::Messages(page) = shard.ask(&Query::History(query)).unwrap() else { panic!("a page was asked for") };
        assert!(page.messages.contains(&one), "{page:?}");
    }
    let query = SummariesQuery { viewer: viewer.clone(), device: device.clone(), threads: vec![GROUP] };
    let Answer::Summaries(list) = shard.ask(&Query::Summaries(query)).unwrap() else { panic!("a list was asked for") };
    let newest = list.summaries[0].last_message.clone().unwrap();
    assert!(newest.id != id || newest == one, "{newest:?}");
    let threads = vec![ResumeFrom { thread: GROUP, position: Some(Position::default()), unless_new: false }];
    let resumed = shard.resume(ResumeQuery { user: viewer, device, threads, last_seen: None, max_bytes: 1 << 30 });
    for event in &resumed[0].events {
        assert!(event.envelopes.is_empty());
        match &event.body {
            ThreadEventBody::Message(message) if message.id == id => assert_eq!(*message, one),
            ThreadEventBody::Edited(edited) if edited.of.id == id => {
                assert_eq!(edited.ciphertext, one.ciphertext);
                assert_eq!(edited.kind, one.enveloped.clone().and_then(|own| own.kind));
            }
            _ => {}
        }
    }
    let kind = one.enveloped.and_then(|own| own.kind);
    let text = one.ciphertext.map(|bytes| String::from_utf8(bytes.to_vec()).unwrap());
    assert!(kind.is_none() || text.is_some());
    text
}

fn shown_to_all(shard: &Shard, id: MessageId) -> Vec<Option<String>> {
    DEVICES.iter().map(|(name, of)| shown(shard, id, name, of)).collect()
}

fn own() -> Vec<Option<String>> {
    let given = whole();
    DEVICES
        .iter()
        .map(|(name, of)| {
            given
                .iter()
                .find(|one| one.user == user(name) && one.device == device(of))
                .map(|_| format!("for {name} {of}"))
        })
        .collect()
}

#[test]
fn each_device_is_shown_its_own() {
    let mut shard = shard();
    let before = shard.events.len();
    let sent = message(shard.run(send_sealed(1, whole(), false)));
    assert_eq!((sent.ciphertext.clone(), sent.enveloped.is_some()), (None, true), "the sending device has none");
    assert_eq!(shown_to_all(&shard, sent.id), own());
    let events = thread_events(&shard.events[before..], GROUP);
    let given: Vec<_> = events[0].envelopes.iter().map(Envelope::name).collect();
    assert_eq!(given, names(&[("ann", "tablet"), ("bob", "pc"), ("bob", "phone")]));
    match &events[0].body {
        ThreadEventBody::Message(message) => assert_eq!(message.ciphertext, None, "nobody hears another's"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_row_of_a_message_holds_none_of_them() {
    let mut shard = shard();
    message(shard.run(send_sealed(1, whole(), false)));
    let rows = family::<EnvelopesKey>(&shard.tables);
    let users: Vec<_> = rows.iter().map(|(key, row)| (key.user.as_str(), row.devices.len())).collect();
    assert_eq!(users, [("ann", 1), ("bob", 2)]);
    let holding = shard.tables.0.iter().filter(|(_, value)| value.windows(4).any(|bytes| bytes == b"for "));
    assert!(holding.into_iter().all(|(key, _)| key[0] == 0x17));
}

#[test]
fn envelopes_that_do_not_fit_change_nothing_and_the_number_stays_free() {
    let mut shard = shard();
    let before = shard.tables.clone();
    let mut stale = envelope("bob", "pc");
    stale.registration = Some(RegistrationId(2));
    let list = vec![envelope("ann", "phone"), stale.clone(), envelope("dan", "phone"), envelope("bob", "old")];
    let found = mismatch(shard.run(send_sealed(1, list, false)));
    let expected = DeviceMismatch {
        missing: names(&[("ann", "tablet"), ("bob", "phone")]),
        extra: names(&[("ann", "phone"), ("bob", "old"), ("dan", "phone")]),
        stale: names(&[("bob", "pc")]),
    };
    assert_eq!((found, &shard.tables), (expected, &before));
    // A device that comes between two sends is missed by the first, and by no other.
    message(shard.run(send_sealed(1, whole(), false)));
    shard.run(told("bob", 2, &[("new", 5), ("pc", 3), ("phone", 4)])).unwrap();
    assert_eq!(mismatch(shard.run(send_sealed(2, whole(), false))).missing, names(&[("bob", "new")]));
    let mut all = whole();
    all.push(Envelope { registration: Some(RegistrationId(5)), ..envelope("bob", "new") });
    let sent = message(shard.run(send_sealed(2, all.clone(), false)));
    assert_eq!(shown(&shard, sent.id, "bob", "new").as_deref(), Some("for bob new"));
    // Whoever is gone has no devices here.
    shard.run(remove("ann", "bob")).unwrap();
    let extra = names(&[("bob", "new"), ("bob", "pc"), ("bob", "phone")]);
    assert_eq!(mismatch(shard.run(send_sealed(3, all, false))).extra, extra);
}

#[test]
fn a_mismatch_that_is_allowed_drops_what_is_for_nobody() {
    let mut shard = shard();
    let list = vec![envelope("bob", "pc"), envelope("bob", "old"), envelope("dan", "phone"), envelope("ann", "phone")];
    let sent = message(shard.run(send_sealed(1, list, true)));
    assert_eq!(shown(&shard, sent.id, "bob", "pc").as_deref(), Some("for bob pc"));
    assert_eq!(shown(&shard, sent.id, "bob", "phone"), None);
    let kept: Vec<_> = family::<EnvelopesKey>(&shard.tables).into_iter().flat_map(|(_, row)| row.devices).collect();
    assert_eq!(kept.len(), 1);
    let nobody = message(shard.run(send_sealed(2, Vec::new(), true)));
    assert_eq!(shown_to_all(&shard, nobody.id), vec![None; DEVICES.len()]);
}

#[test]
fn an_edit_replaces_one_form_by_the_other() {
    let mut shard = shard();
    let sent = shard.send(GROUP, "ann", 1);
    let all_alike = |text: &str| vec![Some(text.to_owned()); DEVICES.len()];
    assert_eq!(shown_to_all(&shard, sent.id), all_alike("ann 1"));
    let edited = message(shard.run(edit_sealed(sent.id, whole())));
    assert_eq!((edited.ciphertext, edited.enveloped.is_some()), (None, true));
    assert_eq!(shown_to_all(&shard, sent.id), own());
    let events = shard.thread_events(GROUP);
    assert_eq!(events.last().unwrap().envelopes.len(), 3);
    // Again is the same, and no other event; another list of devices is refused.
    message(shard.run(edit_sealed(sent.id, whole())));
    assert_eq!(shard.thread_events(GROUP).len(), events.len());
    assert_eq!(mismatch(shard.run(edit_sealed(sent.id, Vec::new()))).missing.len(), 3);
    shard.run(told("bob", 2, &[("phone", 4)])).unwrap();
    message(shard.run(edit_sealed(sent.id, vec![envelope("ann", "tablet"), envelope("bob", "phone")])));
    assert_eq!(shown(&shard, sent.id, "bob", "pc"), None, "nothing is left of what it had");
    message(shard.run(edit("ann", sent.id, "to all")));
    assert_eq!(shown_to_all(&shard, sent.id), all_alike("to all"));
    assert!(family::<EnvelopesKey>(&shard.tables).is_empty());
}

#[test]
fn what_is_taken_away_leaves_no_envelope() {
    let mut shard = shard();
    let sent = message(shard.run(send_sealed(1, whole(), false)));
    shard.run(delete("ann", sent.id)).unwrap();
    assert_eq!(shown_to_all(&shard, sent.id), vec![None; DEVICES.len()]);
    assert!(family::<EnvelopesKey>(&shard.tables).is_empty());
    let Op::SendMessage(brief) = send_sealed(2, whole(), false) else { panic!("a send") };
    let brief = message(shard.run(Op::SendMessage(SendMessage { ttl_s: Some(1), ..brief })));
    shard.now = brief.expires_at.unwrap().0;
    assert_eq!(shown_to_all(&shard, brief.id), vec![None; DEVICES.len()], "from its time on, not from the command on");
    let due = crate::machine::due_messages(&shard.tables, 10).unwrap();
    shard.run(expire(due)).unwrap();
    assert!(family::<EnvelopesKey>(&shard.tables).is_empty());
}

#[test]
fn repeats_are_answered_with_what_the_sender_has() {
    let mut shard = shard();
    let id = CommandId([1; 16]);
    let command = |op| Command { id, retention: Retention::Keyed, body_hash: 5, op };
    mismatch(shard.command(command(send_sealed(1, Vec::new(), false))));
    let first = message(shard.command(command(send_sealed(1, whole(), false))));
    let again = shard.command(command(send_sealed(1, whole(), false))).unwrap();
    assert!(again.replayed);
    assert_eq!(message(Ok(again)), first);
    let refusal = shard.run(send_sealed(1, Vec::new(), false)).unwrap_err();
    assert_eq!(refusal.code, ErrorCode::DuplicateClientSeq, "a number that is taken is not checked again");
    assert_eq!(refusal.existing.as_deref(), Some(&first));
    let reacted = message(shard.run(Op::React(React {
        id: first.id,
        actor: user("bob"),
        emoji: Emoji::new("+").unwrap(),
        present: true,
        device: Some(device("pc")),
    })));
    assert_eq!(reacted.ciphertext.as_deref(), Some(&b"for bob pc"[..]));
}

#[test]
fn envelopes_are_bounded_here_too() {
    let mut shard = shard();
    let large = |bytes: usize| Envelope { ciphertext: vec![0; bytes].into(), ..envelope("bob", "pc") };
    assert_eq!(shard.refused(send_sealed(1, vec![large(CIPHERTEXT_MAX + 1)], true)), ErrorCode::CiphertextTooLarge);
    let many = (0..17).map(|n| Envelope { device: device(&format!("d{n}")), ..large(CIPHERTEXT_MAX) }).collect();
    assert_eq!(shard.refused(send_sealed(1, many, true)), ErrorCode::CiphertextTooLarge);
    let twice = vec![envelope("bob", "pc"), envelope("bob", "pc")];
    let refusal = shard.run(send_sealed(1, twice, true)).unwrap_err();
    assert_eq!((refusal.code, refusal.field.as_deref()), (ErrorCode::InvalidRequest, Some("envelopes")));
}

const NAMES: [&str; 3] = ["ann", "bob", "cid"];
const KINDS: [&str; 3] = ["pc", "phone", "tablet"];

#[derive(Debug, Clone)]
enum Action {
    /// A user's devices are these from now on, under these registrations.
    Devices(usize, BTreeMap<usize, u64>),
    /// Cid comes, or goes.
    Cid(bool),
    /// Envelopes for these, with the registrations that are meant.
    Send(BTreeMap<(usize, usize), Option<u64>>, bool),
    /// The last message is edited, or deleted.
    Edit(BTreeMap<(usize, usize), Option<u64>>),
    Delete,
}

fn action() -> impl Strategy<Value = Action> {
    let given =
        || proptest::collection::btree_map((0..3usize, 0..3usize), proptest::option::weighted(0.3, 0..2u64), 0..7);
    prop_oneof![
        3 => (0..3usize, proptest::collection::btree_map(0..3usize, 0..2u64, 0..3)).prop_map(|(user, devices)| Action::Devices(user, devices)),
        1 => any::<bool>().prop_map(Action::Cid),
        4 => (given(), any::<bool>()).prop_map(|(given, allow)| Action::Send(given, allow)),
        1 => given().prop_map(Action::Edit),
        1 => Just(Action::Delete),
    ]
}

#[derive(Default)]
struct Naive {
    devices: BTreeMap<(usize, usize), u64>,
    /// The last message, and who has what of it.
    last: Option<(MessageId, BTreeSet<(usize, usize)>)>,
}

impl Naive {
    /// What is wrong with envelopes, said the slow way.
    fn check(&self, given: &BTreeMap<(usize, usize), Option<u64>>) -> DeviceMismatch {
        let all = || (0..3).flat_map(|user| (0..3).map(move |of| (user, of)));
        let expected = |at: &(usize, usize)| self.devices.contains_key(at) && *at != (0, 1);
        let named = |wanted: &dyn Fn(&(usize, usize)) -> bool| {
            all()
                .filter(|at| wanted(at))
                .map(|(name, of)| DeviceName { user: user(NAMES[name]), device: device(KINDS[of]) })
                .collect()
        };
        DeviceMismatch {
            missing: named(&|at| expected(at) && !given.contains_key(at)),
            extra: named(&|at| given.contains_key(at) && !expected(at)),
            stale: named(&|at| {
                expected(at) && given.get(at).is_some_and(|meant| meant.is_some_and(|meant| meant != self.devices[at]))
            }),
        }
    }
}

fn given(given: &BTreeMap<(usize, usize), Option<u64>>) -> Vec<Envelope> {
    let one = |(&(name, of), meant): (&(usize, usize), &Option<u64>)| Envelope {
        registration: meant.map(RegistrationId),
        ..envelope(NAMES[name], KINDS[of])
    };
    given.iter().rev().map(one).collect()
}

proptest! {
    #[test]
    fn envelopes_are_held_against_the_devices_of_the_moment(actions in proptest::collection::vec(action(), 1..25)) {
        let (mut shard, mut naive, mut version) = (Shard::with_group(&NAMES), Naive::default(), 0);
        let mut cid = true;
        for (number, action) in actions.iter().enumerate() {
            version += 1;
            let (list, allowed, result) = match action {
                Action::Devices(name, devices) => {
                    let list: Vec<_> = devices.iter().map(|(of, registration)| (KINDS[*of], *registration)).collect();
                    shard.run(told(NAMES[*name], version, &list)).unwrap();
                    if *name < 2 || cid {
                        naive.devices.retain(|(user, _), _| user != name);
                        naive.devices.extend(devices.iter().map(|(of, registration)| ((*name, *of), *registration)));
                    }
                    continue;
                }
                Action::Cid(present) if *present == cid => continue,
                Action::Cid(present) => {
                    cid = *present;
                    shard.run(if cid { add("ann", &["cid"]) } else { remove("ann", "cid") }).unwrap();
                    naive.devices.retain(|(user, _), _| *user < 2);
                    continue;
                }
                Action::Delete => {
                    if let Some((id, has)) = &mut naive.last {
                        shard.run(delete("ann", *id)).unwrap();
                        has.clear();
                        let seq = shard.get_seq(*id);
                        prop_assert!(family::<EnvelopesKey>(&shard.tables).iter().all(|(key, _)| key.seq != seq));
                    }
                    continue;
                }
                Action::Send(list, allowed) => (list, *allowed, shard.run(send_sealed(number as u64, given(list), *allowed))),
                Action::Edit(list) => {
                    let Some((id, _)) = naive.last else { continue };
                    (list, false, shard.run(edit_sealed(id, given(list))))
                }
            };
            let expected = naive.check(list);
            match result {
                Ok(reply) => {
                    let sent = message(Ok(reply));
                    let is_edit = matches!(action, Action::Edit(_));
                    prop_assert!(allowed || expected.is_none() || is_edit, "{expected:?}");
                    let has = list.keys().filter(|at| naive.devices.contains_key(at) && **at != (0, 1)).copied().collect();
                    if allowed || expected.is_none() {
                        naive.last = Some((sent.id, has));
                    }
                }
                Err(refusal) if refusal.code == ErrorCode::DeviceMismatch => {
                    prop_assert!(!allowed);
                    prop_assert_eq!(*refusal.mismatch.unwrap(), expected);
                }
                Err(refusal) => prop_assert_eq!(refusal.code, ErrorCode::MessageDeleted),
            }
            if let Some((id, has)) = &naive.last {
                for (name, of) in (0..if cid { 3 } else { 2 }).flat_map(|name| (0..3).map(move |of| (name, of))) {
                    let viewer = MessageQuery { id: *id, viewer: user(NAMES[name]), device: device(KINDS[of]) };
                    let Ok(Answer::Message(seen)) = shard.ask(&Query::Message(viewer)) else { continue };
                    let expected = has.contains(&(name, of)).then(|| Bytes::from(format!("for {} {}", NAMES[name], KINDS[of])));
                    prop_assert_eq!(seen.ciphertext, expected);
                }
            }
        }
    }
}
