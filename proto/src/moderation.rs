//! What is done about abuse: users and devices that are suspended, and what users report.
//!
//! Owns: the commands, questions, answers and events about both.
//! Must not know: who may suspend, tokens, sockets, HTTP.
//! Invariants: a report says nothing of what a message says, unless its reporter put that into the note.

use crate::ids::{DeviceId, MessageId, Millis, ReportId, Seq, ThreadId, UserId};

crate::wire_struct! {
    /// To a user's shard: the user, or one of its devices, may not use the cluster from now on, or may again.
    pub struct Suspend {
        1 => user: UserId,
        /// `None` for the user with all devices; lifting that leaves devices as they are that were suspended by themselves.
        2 => device: Option<DeviceId>,
        3 => suspended: bool,
    }
}

crate::wire_struct! {
    /// What of a user is suspended. Answer: [`SuspensionState`].
    pub struct SuspensionQuery { 1 => user: UserId }
}

crate::wire_struct! {
    /// What of a user is suspended, and since when.
    #[derive(Default)]
    pub struct SuspensionState {
        /// The user with all devices.
        1 => since: Option<Millis>,
        /// Devices by themselves, in order of name; at most [`crate::limits::SUSPENDED_DEVICES_MAX`].
        2 => devices: Vec<SuspendedDevice>,
    }
}

impl SuspensionState {
    /// Whether a device may not use the cluster.
    #[must_use]
    pub fn covers(&self, device: &DeviceId) -> bool {
        self.since.is_some() || self.devices.iter().any(|suspended| suspended.device == *device)
    }
}

crate::wire_struct! {
    /// A device that is suspended by itself.
    pub struct SuspendedDevice { 1 => device: DeviceId, 2 => since: Millis }
}

crate::wire_struct! {
    /// A user or one of its devices was suspended.
    pub struct SuspensionEvent { 1 => user: UserId, 2 => device: Option<DeviceId> }
}

crate::wire_code! {
    /// Why something is reported.
    pub enum ReportReason {
        1 => Spam = "spam",
        2 => Abuse = "abuse",
        3 => Illegal = "illegal",
        4 => Other = "other",
    }
}

crate::wire_enum! {
    /// What is reported.
    pub enum ReportSubject {
        1 => Message(ReportedMessage),
        2 => Thread(ReportedThread),
        3 => User(ReportedUser),
    }
}

crate::wire_struct! {
    /// A message, and what the cluster knows of it beside what it says.
    pub struct ReportedMessage {
        1 => message: MessageId,
        2 => thread: ThreadId,
        3 => seq: Seq,
        4 => sender: UserId,
        5 => sender_device: DeviceId,
        6 => sent_at: Millis,
    }
}

crate::wire_struct! {
    /// A thread.
    pub struct ReportedThread { 1 => thread: ThreadId, 2 => created_by: UserId }
}

crate::wire_struct! {
    /// A user.
    pub struct ReportedUser { 1 => user: UserId }
}

crate::wire_struct! {
    /// To the reporter's shard: keeps a report.
    pub struct FileReport {
        1 => reporter: UserId,
        2 => device: DeviceId,
        3 => reason: ReportReason,
        /// In the reporter's words; at most [`crate::limits::REPORT_NOTE_MAX`] bytes.
        4 => note: Option<String>,
        5 => subject: ReportSubject,
    }
}

crate::wire_struct! {
    /// The report is kept.
    pub struct ReportReply { 1 => id: ReportId }
}

crate::wire_struct! {
    /// A shard's reports in the order of their ids, which is that of time. Answer: [`ReportsAnswer`].
    pub struct ReportsQuery {
        /// Exclusive; also how a page goes on.
        1 => after: ReportId,
        /// Exclusive.
        2 => before: ReportId,
        3 => limit: u32,
    }
}

crate::wire_struct! {
    /// See [`ReportsQuery`].
    pub struct ReportsAnswer { 1 => reports: Vec<KeptReport> }
}

crate::wire_struct! {
    /// A report that is kept; its id says since when.
    pub struct KeptReport { 1 => id: ReportId, 2 => report: FileReport }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Wire;
    use proptest::prelude::*;

    fn user(name: &str) -> UserId {
        UserId::new(name).unwrap()
    }

    fn device(name: &str) -> DeviceId {
        DeviceId::new(name).unwrap()
    }

    #[test]
    fn the_tags_are_pinned() {
        let suspend = Suspend { user: user("al"), device: Some(device("d")), suspended: true };
        assert_eq!(suspend.to_wire(), [0x0a, 2, b'a', b'l', 0x12, 3, 0x0a, 1, b'd', 0x18, 1]);
        let state = SuspensionState {
            since: Some(Millis(5)),
            devices: vec![SuspendedDevice { device: device("d"), since: Millis(6) }],
        };
        assert_eq!(state.to_wire(), [0x0a, 2, 0x08, 5, 0x12, 7, 0x0a, 5, 0x0a, 1, b'd', 0x10, 6]);
        let report = FileReport {
            reporter: user("al"),
            device: device("d"),
            reason: ReportReason::Illegal,
            note: None,
            subject: ReportSubject::User(ReportedUser { user: user("bo") }),
        };
        let bytes: [&[u8]; 3] =
            [&[0x0a, 2, b'a', b'l', 0x12, 1, b'd'], &[0x18, 3], &[0x2a, 6, 0x1a, 4, 0x0a, 2, b'b', b'o']];
        assert_eq!(report.to_wire(), bytes.concat());
    }

    #[test]
    fn a_device_is_covered_by_itself_or_with_its_user() {
        let mut state = SuspensionState::default();
        assert!(!state.covers(&device("d")));
        state.devices.push(SuspendedDevice { device: device("d"), since: Millis(6) });
        assert!(state.covers(&device("d")) && !state.covers(&device("e")));
        state.since = Some(Millis(5));
        assert!(state.covers(&device("e")));
    }

    fn subject() -> impl Strategy<Value = ReportSubject> {
        let name = "u[a-z]{1,8}";
        prop_oneof![
            (any::<u128>(), any::<[u8; 16]>(), any::<u64>(), name, name, any::<u64>()).prop_map(
                |(message, thread, seq, sender, sender_device, at)| {
                    ReportSubject::Message(ReportedMessage {
                        message: MessageId(message),
                        thread: ThreadId(thread),
                        seq: Seq(seq),
                        sender: user(&sender),
                        sender_device: device(&sender_device),
                        sent_at: Millis(at),
                    })
                }
            ),
            (any::<[u8; 16]>(), name).prop_map(|(thread, by)| {
                ReportSubject::Thread(ReportedThread { thread: ThreadId(thread), created_by: user(&by) })
            }),
            name.prop_map(|name| ReportSubject::User(ReportedUser { user: user(&name) })),
        ]
    }

    proptest! {
        #[test]
        fn reports_come_back(
            id: u128,
            reason in prop::sample::select(ReportReason::ALL),
            note in prop::option::of(".{0,20}"),
            subject in subject(),
        ) {
            let report = FileReport { reporter: user("al"), device: device("d"), reason, note, subject };
            let answer = ReportsAnswer { reports: vec![KeptReport { id: ReportId(id), report }] };
            prop_assert_eq!(ReportsAnswer::from_wire(&answer.to_wire()).unwrap(), answer);
        }

        #[test]
        fn bytes_that_are_no_report_are_refused_or_read(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            let _ = (ReportsAnswer::from_wire(&bytes), Suspend::from_wire(&bytes), SuspensionState::from_wire(&bytes));
        }
    }
}
