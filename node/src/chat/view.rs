//! How a conversation looks.
//!
//! Owns: the text of messages, receipts and notices. Pure: state and event in, lines out.
//! Must not know: terminals, but for whether colours are wanted.
//! Invariants: control characters in what others wrote are shown as such, never passed on.

use super::clock::{LocalTime, day};
use jiff::civil::Date;
use messenger_client::e2e::{Identity, News, Record, RecordKind};
use messenger_client::{
    Device, Participant, PresenceFrame, ReactionFrame, ReceiptFrame, Recipient, Thread, ThreadChange, ThreadFrame,
    ThreadSummary, TypingFrame,
};
use messenger_proto::ids::{DeviceId, MessageId, UserId};
use messenger_proto::model::ReceiptKind;
use std::collections::{HashMap, HashSet, VecDeque};
use std::fmt::Write;

/// Own messages remembered for receipts.
const OWN_MAX: usize = 1000;
/// Characters of a message that a receipt quotes.
const QUOTE_MAX: usize = 30;
/// Lines after the first stand under its text.
const INDENT: &str = "\n        ";

/// Whether to colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Style {
    /// ANSI colours.
    pub colours: bool,
}

impl Style {
    fn paint(self, code: &str, text: &str) -> String {
        if self.colours { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    fn dim(self, text: &str) -> String {
        self.paint("2", text)
    }

    fn own(self, text: &str) -> String {
        self.paint("1;32", text)
    }

    /// A colour of its own for each name.
    fn name(self, name: &str) -> String {
        const COLOURS: [&str; 5] = ["1;36", "1;35", "1;33", "1;34", "1;31"];
        let sum: usize = name.bytes().map(usize::from).sum();
        self.paint(COLOURS[sum % COLOURS.len()], name)
    }
}

#[derive(Debug, Clone, Copy, Default)]
struct Marks {
    delivered: MessageId,
    read: MessageId,
}

/// A conversation as one user sees it.
#[derive(Debug)]
pub struct View {
    me: UserId,
    style: Style,
    clock: LocalTime,
    day: Option<Date>,
    own: VecDeque<(MessageId, String)>,
    marks: HashMap<UserId, Marks>,
    /// Who was shown to be typing, until they wrote or stopped.
    typing: HashSet<UserId>,
    there: HashMap<UserId, String>,
}

/// Text that cannot do anything to a terminal.
#[must_use]
pub(super) fn printable(text: &str) -> String {
    let hidden =
        |c: char| (c.is_control() && c != '\n') || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    text.chars().map(|c| if hidden(c) { '\u{fffd}' } else { c }).collect()
}

fn content(record: &Record) -> String {
    match record.kind {
        RecordKind::Encrypted | RecordKind::Plain => printable(&record.text),
        RecordKind::Unreadable => format!("(cannot be decrypted: {})", printable(&record.text)),
        RecordKind::Absent => "(nothing for this device)".into(),
        RecordKind::Deleted => "(deleted)".into(),
        RecordKind::Expired => "(disappeared)".into(),
    }
}

/// What is said about a message behind it.
fn remarks(record: &Record) -> String {
    let mut text = String::new();
    if record.kind == RecordKind::Plain {
        text.push_str(" (not encrypted)");
    }
    let is_gone = matches!(record.kind, RecordKind::Deleted | RecordKind::Expired);
    if !record.edited_at.is_empty() && !is_gone {
        text.push_str(" (edited)");
    }
    for reaction in &record.reactions {
        // Writing to a String cannot fail.
        let _ = write!(text, " [{} {}]", printable(&reaction.emoji), reaction.by);
    }
    text
}

fn quote(text: &str) -> String {
    let line = text.lines().next().unwrap_or("");
    let short: String = line.chars().take(QUOTE_MAX).collect();
    if short.len() < text.len() { format!("“{short}…”") } else { format!("“{short}”") }
}

impl View {
    /// An empty view.
    #[must_use]
    pub fn new(me: UserId, style: Style, clock: LocalTime) -> Self {
        Self {
            me,
            style,
            clock,
            day: None,
            own: VecDeque::new(),
            marks: HashMap::new(),
            typing: HashSet::new(),
            there: HashMap::new(),
        }
    }

    /// A dimmed line of the program's own.
    #[must_use]
    pub fn notice(&self, text: &str) -> String {
        self.style.dim(&format!("-- {text}"))
    }

    /// An own message that is not yet in the thread.
    #[must_use]
    pub fn waiting(&self, text: &str) -> String {
        let body = printable(text).trim_end().replace('\n', INDENT);
        self.style.dim(&format!("  ... you: {body} (waiting to be sent)"))
    }

    /// An own message that will not be in the thread, or perhaps not.
    #[must_use]
    pub fn unsent(&self, text: &str, perhaps: bool, why: &str) -> String {
        let perhaps = if perhaps { "perhaps " } else { "" };
        self.notice(&format!("{perhaps}not sent: {}: {why}", quote(&printable(text))))
    }

    /// An own message that is sent another time.
    #[must_use]
    pub fn kept(&self, text: &str) -> String {
        self.notice(&format!("kept, and sent when you chat again: {}", quote(&printable(text))))
    }

    /// What stands above a conversation.
    #[must_use]
    pub fn header(&self, thread: &Thread) -> String {
        let others: Vec<_> = thread.participants.iter().map(|p| p.user_id.to_string()).collect();
        let names = match &thread.title {
            Some(title) => format!("{} ({})", printable(title), others.join(", ")),
            None => others.join(", "),
        };
        format!(
            "{}\n{}\n{}",
            self.style.paint("1", &names),
            self.notice(&format!("thread {}", thread.id)),
            self.notice("what you write is end-to-end encrypted; /verify to be sure with whom, /help for more")
        )
    }

    /// A message, and the day before it if that is a new one.
    pub fn record(&mut self, record: &Record) -> String {
        let mut text = String::new();
        let (date, minute) = match self.clock.read(&record.created_at) {
            Some((date, minute)) => (Some(date), minute),
            None => (None, "--:--".into()),
        };
        if let Some(date) = date.filter(|_| date != self.day) {
            self.day = Some(date);
            let _ = writeln!(text, "{}", self.notice(&day(date)));
        }
        let content = content(record);
        let own = record.sender == self.me;
        let who = if own { self.style.own("you") } else { self.style.name(record.sender.as_str()) };
        let body = content.trim_end().replace('\n', INDENT);
        let _ = write!(text, "{} {who}: {body}", self.style.dim(&minute));
        let remarks = remarks(record);
        if !remarks.is_empty() {
            text.push_str(&self.style.dim(&remarks));
        }
        self.typing.remove(&record.sender);
        if own {
            // What is shown again is known already.
            if self.last_own() < Some(record.id) {
                self.own.push_back((record.id, content));
            }
            if self.own.len() > OWN_MAX {
                self.own.pop_front();
            }
        }
        text
    }

    fn name_of(&self, user: &UserId) -> String {
        if *user == self.me { "you".into() } else { user.to_string() }
    }

    /// A message says something else now.
    #[must_use]
    pub fn edited(&self, before: &Record, after: &Record) -> String {
        let plain = if after.kind == RecordKind::Plain { ", not encrypted" } else { "" };
        let (who, was, is) = (self.name_of(&after.sender), quote(&content(before)), printable(&content(after)));
        self.notice(&format!("{who} changed {was} to “{}”{plain}", is.trim_end()))
    }

    /// A message says nothing any more.
    #[must_use]
    pub fn gone(&self, before: &Record, after: &Record) -> String {
        let (who, at) = (self.name_of(&after.sender), self.clock.minute(&before.created_at));
        self.notice(&match after.kind {
            RecordKind::Expired => format!("a message of {who}, of {at}, has disappeared"),
            _ => format!("{who} deleted the message of {at}"),
        })
    }

    /// An emoji came or went.
    #[must_use]
    pub fn reaction(&self, record: &Record, reaction: &ReactionFrame) -> String {
        let (who, emoji, what) = (self.name_of(&reaction.by), printable(&reaction.emoji), quote(&content(record)));
        self.notice(&match reaction.op.as_str() {
            "added" => format!("{who}: {emoji} on {what}"),
            _ => format!("{who} took {emoji} off {what}"),
        })
    }

    /// Somebody begins to type; once, until they write or stop.
    pub fn typing(&mut self, typing: &TypingFrame) -> Option<String> {
        if typing.ttl_s == 0 {
            self.typing.remove(&typing.user_id);
            return None;
        }
        let is_news = typing.user_id != self.me && self.typing.insert(typing.user_id.clone());
        is_news.then(|| self.notice(&format!("{} is typing…", typing.user_id)))
    }

    /// Somebody came, is away or went, if that was not known.
    pub fn presence(&mut self, there: &PresenceFrame) -> Option<String> {
        if there.user_id == self.me {
            return None;
        }
        let before = self.there.insert(there.user_id.clone(), there.status.clone());
        if before.as_ref() == Some(&there.status) || (before.is_none() && there.status == "offline") {
            return None;
        }
        let user = &there.user_id;
        let text = match (there.status.as_str(), &there.last_seen) {
            ("online", _) => format!("{user} is here"),
            ("away", _) => format!("{user} is away"),
            (_, Some(at)) => format!("{user} has gone, last seen {}", self.clock.minute(at)),
            (_, None) => format!("{user} has gone"),
        };
        Some(self.notice(&text))
    }

    /// What there is to know about somebody's devices.
    #[must_use]
    pub fn news(&self, news: &News) -> String {
        let whose = |user: &UserId| if *user == self.me { "your".into() } else { format!("{user}'s") };
        self.notice(&match news {
            News::NewDevice(device) if device.user_id == self.me => {
                format!("you have a new device, {}: if it is not yours, delete it", device.device_id)
            }
            News::NewDevice(device) => {
                format!("{} has a new device, {}; /verify shows the new number", device.user_id, device.device_id)
            }
            News::NewKeys(device) => format!(
                "{} device {} has new keys: it began anew, or it is somebody else's; /verify shows the new number",
                whose(&device.user_id),
                device.device_id
            ),
            News::Gone(device) => format!("{} device {} is gone", whose(&device.user_id), device.device_id),
            News::NotBelieved(device, why) => {
                format!("{} device {} is sent nothing: {why}", whose(&device.user_id), device.device_id)
            }
        })
    }

    /// The safety number with somebody.
    #[must_use]
    pub fn safety(&self, user: &UserId, devices: usize, number: Option<&str>) -> String {
        let name = self.style.name(user.as_str());
        let Some(number) = number else { return format!("  {name} has no device yet") };
        let devices = if devices == 1 { "1 device".to_owned() } else { format!("{devices} devices") };
        let groups: Vec<&str> = number.split(' ').collect();
        let rows: Vec<String> = groups.chunks(6).map(|row| format!("    {}", row.join(" "))).collect();
        format!("  {name}, {devices}: {user} sees the same number if nobody sits between you\n{}", rows.join("\n"))
    }

    /// Somebody's devices.
    #[must_use]
    pub fn devices(
        &self,
        user: &UserId,
        devices: &[Device],
        known: &[(DeviceId, Identity)],
        own: Option<&DeviceId>,
    ) -> String {
        let mut lines = vec![format!("  {}:", self.style.name(user.as_str()))];
        for device in devices {
            let id = &device.device_id;
            let what = match known.iter().find(|(known, _)| known == id) {
                _ if own == Some(id) => ", this one",
                Some(_) => "",
                None => ", not met yet",
            };
            let since =
                self.clock.read(&device.updated_at).map_or(String::new(), |(date, _)| format!(", since {}", day(date)));
            lines.push(format!("    {id}{what}{since}"));
        }
        if devices.is_empty() {
            lines.push("    none yet".into());
        }
        lines.join("\n")
    }

    /// A receipt, if it says something new about a message of the user's own.
    pub fn receipt(&mut self, receipt: &ReceiptFrame) -> Option<String> {
        if receipt.by == self.me {
            return None;
        }
        let marks = self.marks.entry(receipt.by.clone()).or_default();
        let mark = match receipt.kind {
            ReceiptKind::Delivered => &mut marks.delivered,
            ReceiptKind::Read => &mut marks.read,
        };
        let before = std::mem::replace(mark, receipt.up_to.max(*mark));
        let covered = self.own.iter().rev().find(|(id, _)| *id <= receipt.up_to && *id > before)?;
        let (tick, verb) = match receipt.kind {
            ReceiptKind::Delivered => ("✓", "delivered to"),
            ReceiptKind::Read => ("✓✓", "read by"),
        };
        let at = self.clock.minute(&receipt.at);
        Some(self.style.dim(&format!("{at}   {tick} {verb} {}: {}", receipt.by, quote(&covered.1))))
    }

    /// A change of the thread.
    #[must_use]
    pub fn change(&self, frame: &ThreadFrame) -> Option<String> {
        let text = match frame.change() {
            ThreadChange::Created => return None,
            ThreadChange::Added(user) => format!("{} joined", printable(user)),
            ThreadChange::Removed(user) if user == self.me.as_str() => "you are no longer in this thread".into(),
            ThreadChange::Removed(user) => format!("{} left", printable(user)),
            ThreadChange::Other(op) => format!("the thread changed: {}", printable(op)),
        };
        Some(self.notice(&text))
    }

    /// Who is in the thread, and how far each got with the user's newest message.
    #[must_use]
    pub fn who(&self, participants: &[Participant], recipients: &[Recipient]) -> String {
        let lines = participants.iter().map(|participant| {
            let name = participant.user_id.as_str();
            let you = if participant.user_id == self.me { " (you)" } else { "" };
            let state = recipients.iter().find(|r| r.recipient_id == participant.user_id);
            let state = state.map_or(String::new(), |recipient| self.state(recipient));
            let there =
                self.there.get(&participant.user_id).map_or(String::new(), |status| format!(", {}", printable(status)));
            format!("  {}{you}, {}{there}{state}", self.style.name(name), printable(&participant.role))
        });
        lines.collect::<Vec<_>>().join("\n")
    }

    fn state(&self, recipient: &Recipient) -> String {
        let at =
            |time: &Option<String>| time.as_deref().map_or(String::new(), |t| format!(" at {}", self.clock.minute(t)));
        match recipient.state.as_str() {
            "READ" => format!("; ✓✓ read your last message{}", at(&recipient.read_at)),
            "DELIVERED" => format!("; ✓ has your last message{}", at(&recipient.delivered_at)),
            "FAILED" => "; ✗ your last message did not reach them".into(),
            _ => "; · your last message is on its way".into(),
        }
    }

    /// The user's newest message on screen.
    #[must_use]
    pub fn last_own(&self) -> Option<MessageId> {
        self.own.back().map(|(id, _)| *id)
    }

    /// One line per thread.
    #[must_use]
    pub fn threads(&self, threads: &[ThreadSummary]) -> String {
        let lines = threads.iter().map(|summary| {
            let others = summary.thread.participants.iter().map(|p| &p.user_id).filter(|user| **user != self.me);
            let names = others.map(ToString::to_string).collect::<Vec<_>>().join(", ");
            let title = summary.thread.title.as_deref().map_or(String::new(), |t| format!("{}: ", printable(t)));
            let unread =
                if summary.unread_count > 0 { format!(", {} unread", summary.unread_count) } else { String::new() };
            format!("  {title}{names}{unread}  {}", self.style.dim(&summary.thread.id.to_string()))
        });
        lines.collect::<Vec<_>>().join("\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use messenger_client::e2e::RecordReaction;
    use messenger_proto::ids::{ClientSeq, ThreadId};
    use proptest::prelude::*;

    fn user(name: &str) -> UserId {
        UserId::new(name).unwrap()
    }

    fn view() -> View {
        View::new(user("alice"), Style { colours: false }, LocalTime::utc())
    }

    fn message(id: u128, sender: &str, text: &str) -> Record {
        Record {
            id: MessageId(id),
            thread: ThreadId([1; 16]),
            seq: 1,
            sender: user(sender),
            sender_device: DeviceId::new("d").unwrap(),
            number: ClientSeq(1),
            created_at: "2030-01-01T10:30:00.000Z".into(),
            kind: RecordKind::Encrypted,
            text: text.into(),
            edited_at: String::new(),
            reactions: Vec::new(),
            hash: Vec::new().into(),
        }
    }

    fn receipt(kind: ReceiptKind, by: &str, up_to: u128) -> ReceiptFrame {
        let up_to = MessageId(up_to);
        ReceiptFrame { kind, thread_id: ThreadId([1; 16]), up_to, by: user(by), at: "2030-01-01T10:31:00Z".into() }
    }

    #[test]
    fn messages_show_time_sender_and_the_day_once() {
        let mut view = view();
        assert_eq!(view.record(&message(1, "bob", "hi")), "-- Tuesday, 1 January 2030\n10:30 bob: hi");
        assert_eq!(view.record(&message(2, "alice", "one\ntwo\n")), "10:30 you: one\n        two");
    }

    #[test]
    fn what_others_wrote_does_nothing_to_the_terminal() {
        let mut view = view();
        view.record(&message(1, "bob", ""));
        let shown = view.record(&message(2, "bob", "\x1b[2Jx\u{202e}\r\x07y"));
        assert_eq!(shown, "10:30 bob: \u{fffd}[2Jx\u{fffd}\u{fffd}\u{fffd}y");
    }

    #[test]
    fn what_waits_or_was_not_sent_is_told_from_messages() {
        let view = view();
        assert_eq!(view.waiting("hi\nthere"), "  ... you: hi\n        there (waiting to be sent)");
        assert_eq!(view.unsent("hi", false, "no"), "-- not sent: “hi”: no");
        assert_eq!(view.unsent("\x1b[2J", true, "who knows"), "-- perhaps not sent: “\u{fffd}[2J”: who knows");
    }

    #[test]
    fn receipts_speak_of_own_messages_and_only_of_news() {
        let mut view = view();
        assert_eq!(view.receipt(&receipt(ReceiptKind::Read, "bob", 9)), None);
        view.record(&message(10, "alice", "hello"));
        view.record(&message(11, "bob", "hey"));
        let delivered = view.receipt(&receipt(ReceiptKind::Delivered, "bob", 10)).unwrap();
        assert_eq!(delivered, "10:31   ✓ delivered to bob: “hello”");
        assert_eq!(view.receipt(&receipt(ReceiptKind::Delivered, "bob", 10)), None);
        let read = view.receipt(&receipt(ReceiptKind::Read, "bob", 11)).unwrap();
        assert_eq!(read, "10:31   ✓✓ read by bob: “hello”");
        assert_eq!(view.receipt(&receipt(ReceiptKind::Read, "bob", 5)), None);
        assert_eq!(view.receipt(&receipt(ReceiptKind::Read, "alice", 20)), None);
    }

    #[test]
    fn what_is_not_a_readable_encrypted_message_says_so() {
        let mut view = view();
        view.record(&message(1, "bob", ""));
        let mut shown = |kind, text: &str| view.record(&Record { kind, ..message(2, "bob", text) });
        assert_eq!(shown(RecordKind::Plain, "hi"), "10:30 bob: hi (not encrypted)");
        assert_eq!(shown(RecordKind::Unreadable, "no\x07 key"), "10:30 bob: (cannot be decrypted: no\u{fffd} key)");
        assert_eq!(shown(RecordKind::Absent, ""), "10:30 bob: (nothing for this device)");
        assert_eq!(shown(RecordKind::Deleted, ""), "10:30 bob: (deleted)");
        assert_eq!(shown(RecordKind::Expired, ""), "10:30 bob: (disappeared)");
        let reactions = vec![RecordReaction { emoji: "+".into(), by: user("alice") }];
        let edited = Record { edited_at: "x".into(), reactions, ..message(3, "bob", "hi") };
        assert_eq!(view.record(&edited), "10:30 bob: hi (edited) [+ alice]");
    }

    #[test]
    fn changes_to_messages_are_told_briefly() {
        let view = view();
        let (before, after) = (message(1, "bob", "helo"), message(1, "bob", "hello"));
        assert_eq!(view.edited(&before, &after), "-- bob changed “helo” to “hello”");
        let plain = Record { kind: RecordKind::Plain, ..after.clone() };
        assert_eq!(view.edited(&before, &plain), "-- bob changed “helo” to “hello”, not encrypted");
        let gone = |kind| view.gone(&before, &Record { kind, ..after.clone() });
        assert_eq!(gone(RecordKind::Deleted), "-- bob deleted the message of 10:30");
        assert_eq!(gone(RecordKind::Expired), "-- a message of bob, of 10:30, has disappeared");
        let reaction = |op: &str| ReactionFrame {
            thread_id: ThreadId([1; 16]),
            id: MessageId(1),
            emoji: "\x1b+".into(),
            by: user("alice"),
            op: op.into(),
        };
        assert_eq!(view.reaction(&after, &reaction("added")), "-- you: \u{fffd}+ on “hello”");
        assert_eq!(view.reaction(&after, &reaction("removed")), "-- you took \u{fffd}+ off “hello”");
    }

    #[test]
    fn who_types_and_who_is_there_is_said_once() {
        let mut view = view();
        let typing = |ttl_s| TypingFrame { thread_id: ThreadId([1; 16]), user_id: user("bob"), ttl_s };
        assert_eq!(view.typing(&typing(5)).as_deref(), Some("-- bob is typing…"));
        assert_eq!(view.typing(&typing(5)), None);
        assert_eq!(view.typing(&typing(0)), None);
        assert!(view.typing(&typing(5)).is_some());
        view.record(&message(1, "bob", "hi"));
        assert!(view.typing(&typing(5)).is_some(), "after a message they begin anew");

        let there = |status: &str, last_seen: Option<&str>| PresenceFrame {
            user_id: user("bob"),
            status: status.into(),
            last_seen: last_seen.map(str::to_owned),
        };
        assert_eq!(view.presence(&there("offline", None)), None, "nobody missed them");
        assert_eq!(view.presence(&there("online", None)).as_deref(), Some("-- bob is here"));
        assert_eq!(view.presence(&there("online", None)), None);
        let at = Some("2030-01-01T10:31:00Z");
        assert_eq!(view.presence(&there("offline", at)).as_deref(), Some("-- bob has gone, last seen 10:31"));
    }

    #[test]
    fn colours_come_only_when_wanted() {
        let mut plain = view();
        assert!(!plain.record(&message(1, "bob", "hi")).contains('\x1b'));
        let mut coloured = View::new(user("alice"), Style { colours: true }, LocalTime::utc());
        assert!(coloured.record(&message(1, "bob", "hi")).contains("\x1b[1;"));
    }

    #[test]
    fn long_messages_are_quoted_short() {
        assert_eq!(quote("short"), "“short”");
        assert_eq!(quote("first\nsecond"), "“first…”");
        assert_eq!(quote(&"é".repeat(40)), format!("“{}…”", "é".repeat(30)));
    }

    proptest! {
        #[test]
        fn nothing_printable_holds_a_control_character(text in ".*") {
            prop_assert!(printable(&text).chars().all(|c| !c.is_control() || c == '\n'));
        }
    }
}
