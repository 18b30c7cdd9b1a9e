//! What the node has for one session.
//!
//! Owns: a session's mail, bounded by bytes, and the marks that stand for what did not fit.
//! Must not know: shards, sockets, how losses are made good.
//! Invariants: it never holds more than [`MAILBOX_BYTES`] and one item; whatever is dropped leaves a mark, and marks are
//! taken before the mail that came after them. What is ephemeral lies beside the mail, at most [`EPHEMERAL_MAX`] of it,
//! is taken when there is no mail, and leaves no mark.

use super::event::{EphemeralFrame, EphemeralKind, LateReads, SharedEvent};
use messenger_proto::event::UserEvent;
use messenger_proto::ids::{DeviceId, Millis, ShardId, ThreadId, UserId};
use messenger_proto::keys::{DeviceEvent, MemberDevices, PrekeysLow};
use messenger_proto::moderation::SuspensionEvent;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

/// Bytes of mail that wait for one session at most.
pub const MAILBOX_BYTES: usize = 256 * 1024;
/// Ephemeral frames that wait for one session at most; typing goes first.
pub const EPHEMERAL_MAX: usize = 1_024;
/// Mail kept allocated when there is none.
const IDLE_CAPACITY: usize = 8;

/// One piece of mail.
#[derive(Debug, Clone)]
pub enum Mail {
    /// Something happened in a thread.
    Event(Arc<SharedEvent>),
    /// Reads that were held back.
    Late(Arc<LateReads>),
    /// The user's index changed.
    Index(UserEvent),
    /// One of the user's devices changed.
    Device(DeviceEvent),
    /// One of the user's devices has few keys left.
    Low(PrekeysLow),
    /// The user, or one of its devices, was suspended.
    Suspension(SuspensionEvent),
    /// The devices of another member of a thread changed.
    Member(MemberDevices),
}

impl Mail {
    fn weight(&self) -> usize {
        match self {
            Self::Event(event) => event.weight(),
            Self::Late(late) => late.reads.iter().map(|read| read.weight()).sum(),
            Self::Index(_) => size_of::<UserEvent>(),
            Self::Device(_) => size_of::<DeviceEvent>(),
            Self::Low(_) => size_of::<PrekeysLow>(),
            Self::Suspension(_) => size_of::<SuspensionEvent>(),
            Self::Member(_) => size_of::<MemberDevices>(),
        }
    }
}

/// Why a connection is to be closed from our side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CloseReason {
    /// The node is going away.
    Draining,
    /// A newer connection of the device took its place.
    Replaced,
    /// The device was deleted.
    Revoked,
    /// The user or the device was suspended.
    Suspended,
}

/// What was lost on the way to a session since it last looked.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Losses {
    /// Threads whose mail did not fit.
    pub threads: BTreeSet<ThreadId>,
    /// Shards whose stream was interrupted.
    pub shards: BTreeSet<ShardId>,
    /// A change of the user's index or devices did not fit.
    pub index: bool,
}

impl Losses {
    /// Whether nothing was lost.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.threads.is_empty() && self.shards.is_empty() && !self.index
    }
}

/// A session's mail.
#[derive(Debug, Default)]
pub struct Mailbox {
    inner: Mutex<Inner>,
    wake: Notify,
    owner: Option<Owner>,
}

/// Whose a mailbox is.
#[derive(Debug)]
pub struct Owner {
    /// The user.
    pub user: UserId,
    /// Its device.
    pub device: DeviceId,
    /// When its token was issued.
    pub issued_at: Millis,
}

#[derive(Debug, Default)]
struct Inner {
    mail: VecDeque<Mail>,
    bytes: usize,
    losses: Losses,
    ephemeral: BTreeMap<(EphemeralKind, UserId), Arc<EphemeralFrame>>,
    close: Option<CloseReason>,
}

impl Mailbox {
    /// The mailbox of a device with a token that was issued then; the device's deletion asks the session to close.
    #[must_use]
    pub fn of(user: UserId, device: DeviceId, issued_at: Millis) -> Self {
        Self { owner: Some(Owner { user, device, issued_at }), ..Self::default() }
    }

    /// Whose it is.
    #[must_use]
    pub fn owner(&self) -> Option<&Owner> {
        self.owner.as_ref()
    }

    /// Its owner's token counts no more if it was issued up to `at`.
    pub fn revoked(&self, at: Millis) {
        if self.owner.as_ref().is_some_and(|owner| owner.issued_at <= at) {
            self.close(CloseReason::Revoked);
        }
    }

    fn is_of(&self, device: &DeviceId) -> bool {
        self.owner.as_ref().is_some_and(|owner| owner.device == *device)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds mail, or a mark that it was lost. Whether it fitted.
    pub fn push(&self, mail: Mail) -> bool {
        // Whatever waits, and however slowly it is read.
        if let Mail::Device(event) = &mail
            && event.deleted
            && self.is_of(&event.device)
        {
            self.revoked(event.at);
        }
        // It closes whom it concerns, and tells the others nothing.
        if let Mail::Suspension(event) = &mail {
            if event.device.as_ref().is_none_or(|device| self.is_of(device)) {
                self.close(CloseReason::Suspended);
            }
            return true;
        }
        let weight = mail.weight();
        let mut inner = self.lock();
        let fits = inner.bytes == 0 || inner.bytes + weight <= MAILBOX_BYTES;
        match &mail {
            // Storage will tell it: more of a thread that lost something is of no use.
            Mail::Event(event) if !fits || inner.losses.threads.contains(&event.thread) => {
                inner.losses.threads.insert(event.thread);
            }
            Mail::Late(late) if !fits || inner.losses.threads.contains(&late.thread) => {
                inner.losses.threads.insert(late.thread);
            }
            Mail::Index(_) | Mail::Device(_) | Mail::Low(_) if !fits || inner.losses.index => {
                inner.losses.index = true;
            }
            // It is news for those who listen, and kept nowhere.
            Mail::Member(_) if !fits => {}
            _ => {
                inner.bytes += weight;
                inner.mail.push_back(mail);
            }
        }
        drop(inner);
        self.wake.notify_one();
        fits
    }

    /// Adds what is told once, in the place of what is out of date by it. Whether there was room.
    pub fn push_ephemeral(&self, frame: &Arc<EphemeralFrame>) -> bool {
        let mut inner = self.lock();
        if matches!(frame.kind, EphemeralKind::Blocked | EphemeralKind::Parted) {
            inner.ephemeral.remove(&(EphemeralKind::Presence, frame.from.clone()));
        }
        let key = (frame.kind, frame.from.clone());
        let mut fits = inner.ephemeral.len() < EPHEMERAL_MAX || inner.ephemeral.contains_key(&key);
        if !fits
            && !matches!(frame.kind, EphemeralKind::Typing(_))
            && let Some(last) = inner.ephemeral.last_entry()
            && last.key().0 > frame.kind
        {
            last.remove();
            fits = true;
        }
        if fits {
            inner.ephemeral.insert(key, Arc::clone(frame));
        }
        drop(inner);
        self.wake.notify_one();
        fits
    }

    /// Takes an ephemeral frame; to be asked when there is no mail.
    #[must_use]
    pub fn pop_ephemeral(&self) -> Option<Arc<EphemeralFrame>> {
        self.lock().ephemeral.pop_first().map(|(_, frame)| frame)
    }

    /// Marks that a shard's stream was interrupted.
    pub fn interrupted(&self, shard: ShardId) {
        self.lock().losses.shards.insert(shard);
        self.wake.notify_one();
    }

    /// Asks the session to close; the first reason counts.
    pub fn close(&self, reason: CloseReason) {
        self.lock().close.get_or_insert(reason);
        self.wake.notify_one();
    }

    /// Why the session is to close, if it is.
    #[must_use]
    pub fn closing(&self) -> Option<CloseReason> {
        self.lock().close
    }

    /// Takes the marks.
    #[must_use]
    pub fn take_losses(&self) -> Losses {
        std::mem::take(&mut self.lock().losses)
    }

    /// Takes the oldest mail; the marks are to be taken before.
    #[must_use]
    pub fn pop(&self) -> Option<Mail> {
        let mut inner = self.lock();
        let mail = inner.mail.pop_front()?;
        inner.bytes -= mail.weight();
        if inner.mail.is_empty() && inner.mail.capacity() > IDLE_CAPACITY {
            inner.mail.shrink_to(IDLE_CAPACITY);
        }
        Some(mail)
    }

    /// Returns when something came since the last return, once per waiting task. Cancel-safe.
    pub async fn woken(&self) {
        self.wake.notified().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::realtime::event::EventKind;
    use bytes::Bytes;
    use messenger_proto::ids::{Rev, Seq, UserId};

    fn event(thread: u8, rev: u64, size: usize) -> Mail {
        let kind = EventKind::Message { sender: UserId::new("u").unwrap(), hidden_from: Vec::new() };
        let body = Bytes::from(vec![b'x'; size]);
        let thread = ThreadId([thread; 16]);
        let for_sender = Bytes::new();
        Mail::Event(Arc::new(SharedEvent {
            thread,
            rev: Rev(rev),
            seq: Some(Seq(rev)),
            kind,
            body,
            for_sender,
            for_device: Bytes::new(),
        }))
    }

    fn rev(mail: Option<Mail>) -> Option<u64> {
        match mail? {
            Mail::Event(event) => Some(event.rev.0),
            _ => None,
        }
    }

    #[test]
    fn what_does_not_fit_leaves_a_mark_and_takes_its_thread_with_it() {
        let mailbox = Mailbox::default();
        assert!(mailbox.push(event(1, 1, MAILBOX_BYTES / 2)));
        assert!(!mailbox.push(event(2, 1, MAILBOX_BYTES)));
        assert!(mailbox.push(event(2, 2, 1)), "it would fit, but its thread has a hole already");
        assert!(mailbox.push(event(1, 2, 1)));
        let losses = mailbox.take_losses();
        assert_eq!(losses.threads, BTreeSet::from([ThreadId([2; 16])]));
        assert_eq!((rev(mailbox.pop()), rev(mailbox.pop()), rev(mailbox.pop())), (Some(1), Some(2), None));
        assert!(mailbox.take_losses().is_empty());
        assert!(mailbox.push(event(2, 3, MAILBOX_BYTES * 2)), "one item fits whatever its size");
    }

    fn ephemeral(kind: EphemeralKind, from: usize, body: &'static str) -> Arc<EphemeralFrame> {
        let from = UserId::new(&format!("u{from}")).unwrap();
        Arc::new(EphemeralFrame { from, kind, body: Bytes::from_static(body.as_bytes()), away: Vec::new(), version: 0 })
    }

    #[test]
    fn what_is_ephemeral_is_bounded_and_the_latest_counts() {
        let mailbox = Mailbox::default();
        let typing = EphemeralKind::Typing(ThreadId([1; 16]));
        for user in 0..EPHEMERAL_MAX {
            assert!(mailbox.push_ephemeral(&ephemeral(typing, user, "old")));
        }
        assert!(!mailbox.push_ephemeral(&ephemeral(typing, EPHEMERAL_MAX, "one too many")));
        assert!(mailbox.push_ephemeral(&ephemeral(typing, 0, "new")));
        assert!(mailbox.push_ephemeral(&ephemeral(EphemeralKind::Presence, 7, "in the place of a typing")));
        assert_eq!(mailbox.pop_ephemeral().unwrap().body, "in the place of a typing");
        assert_eq!(mailbox.pop_ephemeral().unwrap().body, "new");
        let left = std::iter::from_fn(|| mailbox.pop_ephemeral()).count();
        assert_eq!(left, EPHEMERAL_MAX - 2);
        assert!(mailbox.take_losses().is_empty() && mailbox.pop().is_none());
    }

    #[test]
    fn the_first_reason_to_close_counts() {
        let mailbox = Mailbox::default();
        assert_eq!(mailbox.closing(), None);
        mailbox.close(CloseReason::Replaced);
        mailbox.close(CloseReason::Draining);
        assert_eq!(mailbox.closing(), Some(CloseReason::Replaced));
    }

    fn deletion(device: &str, at: u64) -> Mail {
        let (user, device) = (UserId::new("u").unwrap(), DeviceId::new(device).unwrap());
        Mail::Device(DeviceEvent { user, device, at: Millis(at), deleted: true })
    }

    #[test]
    fn a_device_s_deletion_closes_it_even_when_its_mailbox_is_full() {
        let mailbox = Mailbox::of(UserId::new("u").unwrap(), DeviceId::new("d").unwrap(), Millis(5));
        assert!(mailbox.push(event(1, 1, MAILBOX_BYTES * 2)));
        assert!(!mailbox.push(deletion("e", 9)));
        assert!(mailbox.take_losses().index, "storage tells of it");
        assert!(!mailbox.push(deletion("d", 4)));
        assert_eq!(mailbox.closing(), None, "its token is newer");
        assert!(!mailbox.push(deletion("d", 5)));
        assert_eq!(mailbox.closing(), Some(CloseReason::Revoked));
    }

    #[test]
    fn a_suspension_closes_its_user_s_mailboxes_however_full_they_are() {
        let suspension = |device: Option<&str>| {
            let device = device.map(|name| DeviceId::new(name).unwrap());
            Mail::Suspension(SuspensionEvent { user: UserId::new("u").unwrap(), device })
        };
        let mailbox = Mailbox::of(UserId::new("u").unwrap(), DeviceId::new("d").unwrap(), Millis(5));
        assert!(mailbox.push(event(1, 1, MAILBOX_BYTES * 2)));
        assert!(mailbox.push(suspension(Some("e"))));
        assert_eq!(mailbox.closing(), None, "another device");
        assert!(mailbox.push(suspension(Some("d"))));
        assert_eq!(mailbox.closing(), Some(CloseReason::Suspended));
        let other = Mailbox::of(UserId::new("u").unwrap(), DeviceId::new("e").unwrap(), Millis(5));
        other.push(suspension(None));
        assert_eq!(other.closing(), Some(CloseReason::Suspended));
    }

    #[tokio::test]
    async fn a_wake_up_is_not_lost_when_nobody_waits() {
        let mailbox = Mailbox::default();
        mailbox.interrupted(ShardId(3));
        mailbox.woken().await;
        assert_eq!(mailbox.take_losses().shards, BTreeSet::from([ShardId(3)]));
    }
}
