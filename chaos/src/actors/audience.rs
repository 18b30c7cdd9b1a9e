//! Listening devices of one part of a run, who are told by themselves when there is nothing more to hear.
//!
//! Owns: one listener per user, until each has heard as far as it is told.
//! Must not know: what there is to hear.

use super::Stage;
use crate::history::Thread;
use crate::listener::{Ends, Hearing, Listener};
use crate::workload::Actor;
use std::collections::BTreeMap;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// The listeners.
pub struct Audience(Vec<(String, watch::Sender<Ends>, JoinHandle<Hearing>)>);

impl Audience {
    /// One listener per user, each known by that name.
    #[must_use]
    pub fn start(stage: &Stage, users: &[&str], actor: Actor) -> Self {
        let listen = |(n, user): (usize, &&str)| {
            let random = stage.seed.actor(actor, n);
            Self::listen((*user).to_owned(), Listener::new(&stage.cluster, user, random))
        };
        Self(users.iter().enumerate().map(listen).collect())
    }

    /// One listener per device, each known as `user/device`.
    #[must_use]
    pub fn of(stage: &Stage, devices: &[(&str, &str)], actor: Actor) -> Self {
        let listen = |(n, (user, device)): (usize, &(&str, &str))| {
            let random = stage.seed.actor(actor, n);
            Self::listen(format!("{user}/{device}"), Listener::of(&stage.cluster, user, device, random))
        };
        Self(devices.iter().enumerate().map(listen).collect())
    }

    fn listen(name: String, listener: Listener) -> (String, watch::Sender<Ends>, JoinHandle<Hearing>) {
        let (tell_ends, ends) = watch::channel(None);
        (name, tell_ends, tokio::spawn(listener.run(ends)))
    }

    /// Lets each device, by the name it is known by, hear its threads up to those numbers; what each heard.
    ///
    /// # Panics
    /// When a listener fails.
    pub async fn finish(self, mut ends: BTreeMap<String, BTreeMap<Thread, u64>>) -> BTreeMap<String, Hearing> {
        for (user, tell_ends, _) in &self.0 {
            tell_ends.send_replace(Some(ends.remove(user).unwrap_or_default()));
        }
        let mut heard = BTreeMap::new();
        for (user, _, listener) in self.0 {
            heard.insert(user, listener.await.expect("a listener comes to its end"));
        }
        heard
    }
}
