//! How a conversation looks.
//!
//! Owns: the text of messages, receipts and notices. Pure: state and event in, lines out.
//! Must not know: terminals, but for whether colours are wanted.
//! Invariants: control characters in what others wrote are shown as such, never passed on.

use super::clock::{LocalTime, day};
use jiff::civil::Date;
use messenger_client::{
    Message, Participant, ReceiptFrame, Recipient, Thread, ThreadChange, ThreadFrame, ThreadSummary,
};
use messenger_proto::ids::{MessageId, UserId};
use messenger_proto::model::ReceiptKind;
use std::collections::{HashMap, VecDeque};
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
}

/// Text that cannot do anything to a terminal.
#[must_use]
pub(super) fn printable(text: &str) -> String {
    let hidden =
        |c: char| (c.is_control() && c != '\n') || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    text.chars().map(|c| if hidden(c) { '\u{fffd}' } else { c }).collect()
}

fn content(message: &Message) -> String {
    match &message.ciphertext {
        _ if message.deleted => "(deleted)".into(),
        None => "(nothing for this device)".into(),
        Some(bytes) => match std::str::from_utf8(bytes) {
            Ok(text) => printable(text),
            Err(_) => format!("({} bytes that are no text)", bytes.len()),
        },
    }
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
        Self { me, style, clock, day: None, own: VecDeque::new(), marks: HashMap::new() }
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
            self.notice(
                "messages are sent as they are, NOT encrypted, until end-to-end encryption arrives; /help for commands"
            )
        )
    }

    /// A message, and the day before it if that is a new one.
    pub fn message(&mut self, message: &Message) -> String {
        let mut text = String::new();
        let (date, minute) = match self.clock.read(&message.created_at) {
            Some((date, minute)) => (Some(date), minute),
            None => (None, "--:--".into()),
        };
        if let Some(date) = date.filter(|_| date != self.day) {
            self.day = Some(date);
            let _ = writeln!(text, "{}", self.notice(&day(date)));
        }
        let content = content(message);
        let own = message.sender_id == self.me;
        let who = if own { self.style.own("you") } else { self.style.name(message.sender_id.as_str()) };
        let body = content.trim_end().replace('\n', INDENT);
        let _ = write!(text, "{} {who}: {body}", self.style.dim(&minute));
        if own {
            if let Some(mark) = message.receipts.and_then(|r| tick(r.of, r.delivered, r.read)) {
                let _ = write!(text, " {}", self.style.dim(&mark));
            }
            // What is shown again is known already.
            if self.last_own() < Some(message.id) {
                self.own.push_back((message.id, content));
            }
            if self.own.len() > OWN_MAX {
                self.own.pop_front();
            }
        }
        text
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
            format!("  {}{you}, {}{state}", self.style.name(name), printable(&participant.role))
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

/// How far a message got.
fn tick(of: u32, delivered: u32, read: u32) -> Option<String> {
    match (of, delivered, read) {
        (0, ..) => None,
        (of, _, read) if read >= of => Some("✓✓".into()),
        (1, 1.., _) => Some("✓".into()),
        (of, delivered, 0) if delivered >= of => Some("✓".into()),
        (_, 0, _) => None,
        (of, delivered, read) => Some(format!("✓ {delivered}/{of} ✓✓ {read}/{of}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use messenger_client::ReceiptCounts;
    use messenger_proto::ids::{DeviceId, ThreadId};
    use proptest::prelude::*;

    fn user(name: &str) -> UserId {
        UserId::new(name).unwrap()
    }

    fn view() -> View {
        View::new(user("alice"), Style { colours: false }, LocalTime::utc())
    }

    fn message(id: u128, sender: &str, text: &str) -> Message {
        Message {
            id: MessageId(id),
            thread_id: ThreadId([1; 16]),
            seq: 1,
            sender_id: user(sender),
            sender_device_id: DeviceId::new("d").unwrap(),
            client_seq: 1,
            ciphertext: Some(text.as_bytes().to_vec().into()),
            content_type: "text".into(),
            reply_to_msg_id: None,
            created_at: "2030-01-01T10:30:00.000Z".into(),
            deleted: false,
            edited_at: None,
            reactions: Vec::new(),
            receipts: None,
        }
    }

    fn receipt(kind: ReceiptKind, by: &str, up_to: u128) -> ReceiptFrame {
        let up_to = MessageId(up_to);
        ReceiptFrame { kind, thread_id: ThreadId([1; 16]), up_to, by: user(by), at: "2030-01-01T10:31:00Z".into() }
    }

    #[test]
    fn messages_show_time_sender_and_the_day_once() {
        let mut view = view();
        assert_eq!(view.message(&message(1, "bob", "hi")), "-- Tuesday, 1 January 2030\n10:30 bob: hi");
        assert_eq!(view.message(&message(2, "alice", "one\ntwo\n")), "10:30 you: one\n        two");
        let counted =
            Message { receipts: Some(ReceiptCounts { of: 1, delivered: 1, read: 1 }), ..message(3, "alice", "x") };
        assert_eq!(view.message(&counted), "10:30 you: x ✓✓");
    }

    #[test]
    fn what_others_wrote_does_nothing_to_the_terminal() {
        let mut view = view();
        view.message(&message(1, "bob", ""));
        let shown = view.message(&message(2, "bob", "\x1b[2Jx\u{202e}\r\x07y"));
        assert_eq!(shown, "10:30 bob: \u{fffd}[2Jx\u{fffd}\u{fffd}\u{fffd}y");
        let binary = Message { ciphertext: Some(vec![0xff, 0xfe].into()), ..message(3, "bob", "") };
        assert_eq!(view.message(&binary), "10:30 bob: (2 bytes that are no text)");
        let deleted = Message { ciphertext: None, deleted: true, ..message(4, "bob", "") };
        assert_eq!(view.message(&deleted), "10:30 bob: (deleted)");
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
        view.message(&message(10, "alice", "hello"));
        view.message(&message(11, "bob", "hey"));
        let delivered = view.receipt(&receipt(ReceiptKind::Delivered, "bob", 10)).unwrap();
        assert_eq!(delivered, "10:31   ✓ delivered to bob: “hello”");
        assert_eq!(view.receipt(&receipt(ReceiptKind::Delivered, "bob", 10)), None);
        let read = view.receipt(&receipt(ReceiptKind::Read, "bob", 11)).unwrap();
        assert_eq!(read, "10:31   ✓✓ read by bob: “hello”");
        assert_eq!(view.receipt(&receipt(ReceiptKind::Read, "bob", 5)), None);
        assert_eq!(view.receipt(&receipt(ReceiptKind::Read, "alice", 20)), None);
    }

    #[test]
    fn ticks_count_groups() {
        assert_eq!(tick(1, 0, 0), None);
        assert_eq!(tick(1, 1, 0).as_deref(), Some("✓"));
        assert_eq!(tick(3, 3, 0).as_deref(), Some("✓"));
        assert_eq!(tick(3, 2, 1).as_deref(), Some("✓ 2/3 ✓✓ 1/3"));
        assert_eq!(tick(3, 3, 3).as_deref(), Some("✓✓"));
        assert_eq!(tick(0, 0, 0), None);
    }

    #[test]
    fn colours_come_only_when_wanted() {
        let mut plain = view();
        assert!(!plain.message(&message(1, "bob", "hi")).contains('\x1b'));
        let mut coloured = View::new(user("alice"), Style { colours: true }, LocalTime::utc());
        assert!(coloured.message(&message(1, "bob", "hi")).contains("\x1b[1;"));
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
