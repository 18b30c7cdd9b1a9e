//! What a run does, decided by one seed.
//!
//! Owns: how many users, threads, senders and listeners there are, who talks where, and each actor's own randomness.
//! Must not know: sockets, processes, or what comes of it.
//! Invariants: the same seed plans the same run; only the machine's timing differs.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// The size of a run.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    /// Threads, each a group of all users.
    pub threads: usize,
    /// Users; each has one sending device and one listening one.
    pub users: usize,
    /// Devices that look at threads during the run.
    pub readers: usize,
}

impl Default for Shape {
    fn default() -> Self {
        Self { threads: 6, users: 6, readers: 2 }
    }
}

/// A run's seed, printed so that the run can be planned again.
#[derive(Debug, Clone, Copy)]
pub struct Seed(pub u64);

impl Seed {
    /// The one in `CHAOS_SEED`, or a new one; says which, with the command that plans the same run.
    ///
    /// # Panics
    /// When `CHAOS_SEED` is no number.
    #[must_use]
    pub fn choose(test: &str) -> Self {
        let seed = match std::env::var("CHAOS_SEED") {
            Ok(given) => given.parse().expect("CHAOS_SEED is a number"),
            Err(_) => rand::rng().random(),
        };
        println!("again with: CHAOS_SEED={seed} cargo test -p messenger-chaos --test {test}");
        Self(seed)
    }

    /// The randomness of one actor.
    #[must_use]
    pub fn actor(self, kind: Actor, number: usize) -> StdRng {
        let mixed = [self.0, kind as u64, number as u64]
            .into_iter()
            .fold(0xcbf2_9ce4_8422_2325_u64, |hash, part| (hash ^ part).wrapping_mul(0x0100_0000_01b3).rotate_left(23));
        StdRng::seed_from_u64(mixed)
    }
}

/// Who acts.
#[derive(Debug, Clone, Copy)]
pub enum Actor {
    /// A sending device.
    Sender,
    /// A listening device.
    Listener,
    /// A device that looks at threads.
    Reader,
    /// Whoever breaks things.
    Fault,
    /// Whoever edits and deletes what it said.
    Editor,
    /// The sending half of an editor.
    EditorSends,
    /// Whoever reacts.
    Reactor,
    /// A device that publishes keys.
    Publisher,
    /// Whoever takes them.
    Taker,
    /// Whoever moves a read mark.
    Marker,
    /// Whoever looks how far messages got.
    Watcher,
    /// Whoever sends where one keeps another away.
    Talker,
    /// Whoever keeps another away.
    Blocker,
    /// Whoever listens there.
    BlockEar,
    /// Whoever adds and removes members.
    Chair,
    /// The sending half of the chair.
    ChairSends,
    /// A member that comes and goes, listening.
    MemberEar,
    /// Whoever sends in envelopes.
    Sealer,
    /// A device that registers itself.
    Registrar,
    /// A device that is sent envelopes, listening.
    EnvelopeEar,
}

/// How many rounds of faults: `CHAOS_ROUNDS`, or `default`.
///
/// # Panics
/// When `CHAOS_ROUNDS` is no number.
#[must_use]
pub fn rounds(default: usize) -> usize {
    std::env::var("CHAOS_ROUNDS").map_or(default, |text| text.parse().expect("CHAOS_ROUNDS is a number"))
}
