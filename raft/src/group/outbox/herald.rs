//! Who tells threads of their members.
//!
//! Owns: the passes over the users of whom threads are yet to be told something, and noting what was told.
//! Must not know: what a profile says, how often one changes.
//! Invariants: the profile is read before the threads it is told to, so that whatever joins meanwhile was answered with
//! that one or a newer; what is noted is the version that was told, so a change meanwhile stays due; users are told a
//! few at a time, and one whose threads can't all be reached is tried again after a growing pause, with the others.

use super::rest::{PAUSE_MAX, PAUSE_MIN};
use super::{CrossShard, Outbox};
use crate::group::outcome::Proposed;
use crate::group::proposer::Proposer;
use crate::machine;
use futures_util::stream::{self, StreamExt};
use messenger_proto::command::{Command, Op, Retention};
use messenger_proto::ids::{CommandId, UserId};
use messenger_proto::profile::ProfileTold;
use std::time::Duration;
use tokio::time::sleep;

/// Users read at once.
const PAGE: usize = 64;
/// Users that are being told at once.
const CONCURRENCY: usize = 16;

/// Tells while its replica leads.
pub(super) struct Herald<'a> {
    outbox: &'a Outbox,
    proposer: &'a Proposer,
    cross: &'a dyn CrossShard,
}

impl<'a> Herald<'a> {
    pub(super) fn new(outbox: &'a Outbox, proposer: &'a Proposer, cross: &'a dyn CrossShard) -> Self {
        Self { outbox, proposer, cross }
    }

    /// Never ends.
    pub(super) async fn run(self, leads: &impl Fn() -> bool) {
        let mut pause = PAUSE_MIN;
        loop {
            let done = !leads() || self.pass(leads).await;
            if done {
                pause = PAUSE_MIN;
                self.outbox.heralds_wake().notified().await;
            } else {
                sleep(pause).await;
                pause = longer(pause);
            }
        }
    }

    /// Tells of everyone who is due; whether nobody was left.
    async fn pass(&self, leads: &impl Fn() -> bool) -> bool {
        let (mut after, mut all) = (None, true);
        while leads() {
            let users = match machine::profiles_due(&self.outbox.reader.view(), after, PAGE) {
                Ok(users) => users,
                Err(error) => {
                    self.outbox.reader.fail("reading the outbox", &error.to_string());
                    return false;
                }
            };
            let is_last = users.len() < PAGE;
            after = users.last().cloned();
            let told = stream::iter(users).map(|user| self.tell(user)).buffer_unordered(CONCURRENCY);
            all &= told.fold(true, async |all, told| all && told).await;
            if is_last {
                return all;
            }
        }
        true
    }

    /// Tells of one user; whether it is done.
    async fn tell(&self, user: UserId) -> bool {
        let view = self.outbox.reader.view();
        let read = machine::profile_of(&view, &user).and_then(|profile| {
            let threads = machine::threads_of(&view, &user)?;
            Ok((profile, threads))
        });
        drop(view);
        let (profile, threads) = match read {
            Ok(read) => read,
            Err(error) => {
                self.outbox.reader.fail("reading the outbox", &error.to_string());
                return false;
            }
        };
        let version = profile.version;
        if let Err(error) = self.cross.tell(user.clone(), profile, threads).await {
            if error.is_strange() {
                tracing::warn!(%user, %error, "threads refuse to be told of a user, and are told again");
            } else {
                tracing::debug!(%user, %error, "threads were not told of a user yet");
            }
            return false;
        }
        let op = Op::ProfileTold(ProfileTold { user, version });
        let command = Command { id: CommandId([0; 16]), retention: Retention::None, body_hash: 0, op };
        matches!(self.proposer.propose(&command).await, Ok(Proposed::Applied(Ok(_))))
    }
}

fn longer(pause: Duration) -> Duration {
    (pause * 2).min(PAUSE_MAX)
}
