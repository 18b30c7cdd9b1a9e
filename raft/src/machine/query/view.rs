//! A thread as one of its members sees it.
//!
//! Owns: who may look, and what of the thread is in sight.
//! Must not know: which query asks.
//! Invariants: a view exists for members present only, and shows no message from outside their stays, nor one that a
//! block hides from them.

use super::super::blocks::veil::Veil;
use super::super::membership::members;
use super::super::rows::head::{HeadKey, HeadRow, LastMessage};
use super::super::rows::member::{MemberKey, MemberRow};
use super::super::rows::message::{self, MessageKey};
use super::super::rows::thread::ThreadKey;
use super::super::rows::{self};
use super::super::step::{Stop, refuse};
use super::super::tables::{Direction, TableError, Tables};
use messenger_proto::error::ErrorCode;
use messenger_proto::ids::{Seq, ThreadId, UserId};
use messenger_proto::model::{Participant, Pin, Thread};
use std::ops::ControlFlow;

/// Hidden messages that a search steps over.
const HIDDEN_MAX: usize = 2_000;

/// A member's look at a thread.
pub(crate) struct View<'a, T: Tables> {
    pub(crate) tables: &'a T,
    pub(crate) id: ThreadId,
    pub(crate) head: HeadRow,
    pub(crate) member: MemberRow,
    pub(crate) veil: Veil,
}

impl<'a, T: Tables> View<'a, T> {
    /// A view for `viewer`; refused with `not_found` or `not_a_member`.
    pub(crate) fn open(tables: &'a T, thread: ThreadId, viewer: &UserId) -> Result<Self, Stop> {
        let Some(head) = rows::get(tables, &HeadKey { thread })? else {
            return refuse(ErrorCode::NotFound, "there is no such thread");
        };
        match rows::get(tables, &MemberKey { thread, user: viewer.clone() })? {
            Some(member) if member.present() => {
                let veil = Veil::of(tables, thread, &head, viewer)?;
                Ok(Self { tables, id: thread, head, member, veil })
            }
            _ => refuse(ErrorCode::NotAMember, "only participants see the thread"),
        }
    }

    /// The view of a member, or nothing where it would be refused.
    pub(crate) fn find(tables: &'a T, thread: ThreadId, viewer: &UserId) -> Result<Option<Self>, TableError> {
        match Self::open(tables, thread, viewer) {
            Ok(view) => Ok(Some(view)),
            Err(Stop::Refused(_)) => Ok(None),
            Err(Stop::Failed(error)) => Err(error),
        }
    }

    /// The newest message in sight.
    pub(crate) fn last_message(&self) -> Result<Option<LastMessage>, TableError> {
        let Some(last) = &self.head.last else { return Ok(None) };
        if self.sees(last.seq)? {
            return Ok(Some(last.clone()));
        }
        self.last_message_up_to(last.seq)
    }

    /// Whether a message is in sight.
    pub(crate) fn sees(&self, message: Seq) -> Result<bool, TableError> {
        Ok(self.member.sees(message) && !self.veil.hides_at(self.tables, message)?)
    }

    /// The newest message in sight up to an event; none if those before it are hidden by the thousand.
    pub(crate) fn last_message_up_to(&self, up_to: Seq) -> Result<Option<LastMessage>, TableError> {
        let (mut found, mut hidden) = (None, 0);
        for range in self.member.visible(Seq(0), up_to).into_iter().rev() {
            let range = message::messages(self.id, range);
            rows::scan::<MessageKey>(self.tables, &range, Direction::Backward, |key, row| {
                let meta = message::meta_of(row)?;
                if self.veil.hides(self.tables, &meta.sender, key.seq)? {
                    hidden += 1;
                    return Ok(if hidden < HIDDEN_MAX { ControlFlow::Continue(()) } else { ControlFlow::Break(()) });
                }
                found = Some(LastMessage { id: meta.id, seq: key.seq });
                Ok(ControlFlow::Break(()))
            })?;
            if found.is_some() || hidden >= HIDDEN_MAX {
                break;
            }
        }
        Ok(found)
    }

    /// The thread's pins in sight, in the order in which they were made.
    pub(crate) fn pins(&self) -> Result<Vec<Pin>, TableError> {
        let pins = rows::expect(self.tables, &ThreadKey { thread: self.id })?.pins;
        let mut seen = Vec::new();
        for pinned in pins {
            if self.sees(pinned.seq)? {
                seen.push(pinned.pin);
            }
        }
        Ok(seen)
    }

    /// The thread, with those present in order of joining, then of name.
    pub(crate) fn thread(&self) -> Result<Thread, TableError> {
        let row = rows::expect(self.tables, &ThreadKey { thread: self.id })?;
        let last = self.last_message()?;
        let mut present = Vec::new();
        for (user, member) in members(self.tables, self.id)? {
            if let Some(span) = member.current() {
                let participant = Participant { user, role: member.role, joined_at: span.joined_at };
                present.push((span.joined_seq, participant));
            }
        }
        // Member rows are in order of name, and the sort is stable.
        present.sort_by_key(|(joined, _)| *joined);
        let active = last.as_ref().map_or(row.updated_at, |last| last.id.created_at());
        Ok(Thread {
            id: self.id,
            kind: row.kind,
            title: row.title,
            description: row.description,
            created_at: row.created_at,
            updated_at: row.updated_at.max(active),
            created_by: row.created_by,
            participants: present.into_iter().map(|(_, participant)| participant).collect(),
            last_message: last.map(|last| last.id),
            last_seq: self.head.seq,
            rev: self.head.rev,
        })
    }
}
