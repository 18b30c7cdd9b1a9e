//! The hybrid clock: wall time that follows the cluster's, within bounds.
//!
//! Owns: this node's notion of now, and how far each peer's clock is from its own.
//! Must not know: sockets, frames, or who leads what.
//! Invariants: `wall <= now <= wall + CLOCK_SKEW_MAX`, whatever peers claim; `now` never goes back while the wall clock
//! does not; offsets are judged by peers' own wall clocks, so a clock that one mad peer pulled ahead accuses nobody.

use messenger_proto::ids::{Millis, NodeId};
use messenger_proto::limits::CLOCK_SKEW_MAX;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// `CLOCK_SKEW_MAX` in milliseconds: 500.
const SKEW_MS: u64 = CLOCK_SKEW_MAX.as_millis() as u64;
/// An offset is the best sample of this long, and of as long before it.
const WINDOW_MS: u64 = 10_000;
/// A peer that was not heard of for this long has no say.
const EXPIRY_MS: u64 = 600_000;

/// What the two clocks of the machine show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reading {
    /// Milliseconds since the Unix epoch; may step.
    pub wall_ms: u64,
    /// Milliseconds since some fixed instant; never steps.
    pub mono_ms: u64,
}

/// Where readings come from.
pub trait TimeSource: Send + Sync + 'static {
    /// Both clocks, now.
    fn read(&self) -> Reading;
}

/// The machine's clocks.
#[derive(Debug)]
pub struct SystemSource {
    started: Instant,
}

impl Default for SystemSource {
    fn default() -> Self {
        Self { started: Instant::now() }
    }
}

impl TimeSource for SystemSource {
    fn read(&self) -> Reading {
        let millis = |duration: std::time::Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        // A wall clock before 1970 reads as 1970; peers will find it mad.
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Reading { wall_ms: millis(wall), mono_ms: millis(self.started.elapsed()) }
    }
}

/// How far a peer's wall clock is from a monotonic reading here.
///
/// A stamp travels forward in time, so each sample is at most the true distance: the largest is the best. Kept against
/// the monotonic clock, so that a step of the wall clock here shows at once.
#[derive(Debug, Clone, Copy)]
struct Distance {
    window_began: u64,
    current: i64,
    previous: Option<i64>,
    heard: u64,
}

impl Distance {
    fn first(sample: i64, mono: u64) -> Self {
        Self { window_began: mono, current: sample, previous: None, heard: mono }
    }

    fn add(&mut self, sample: i64, mono: u64) {
        self.heard = mono;
        if mono.saturating_sub(self.window_began) >= WINDOW_MS {
            self.previous = Some(self.current);
            self.current = sample;
            self.window_began = mono;
        } else {
            self.current = self.current.max(sample);
        }
    }

    fn best(&self) -> i64 {
        self.previous.map_or(self.current, |previous| previous.max(self.current))
    }
}

/// The clock's rules, without a clock.
#[derive(Debug, Default)]
pub struct ClockCore {
    highest: u64,
    peers: BTreeMap<NodeId, Distance>,
}

impl ClockCore {
    /// The hybrid time at a reading.
    pub fn now(&mut self, at: Reading) -> u64 {
        // The upper bound bites only after the wall clock stepped back.
        self.highest = self.highest.clamp(at.wall_ms, at.wall_ms.saturating_add(SKEW_MS));
        self.highest
    }

    /// Takes note of a peer's stamp: its hybrid clock and its wall clock. A zero stands for no stamp.
    pub fn observe(&mut self, at: Reading, peer: NodeId, clock_ms: u64, wall_ms: u64) {
        if clock_ms <= at.wall_ms.saturating_add(SKEW_MS) {
            self.highest = self.highest.max(clock_ms);
        }
        if wall_ms == 0 {
            return;
        }
        let sample = signed(wall_ms).saturating_sub(signed(at.mono_ms));
        self.peers
            .entry(peer)
            .and_modify(|distance| distance.add(sample, at.mono_ms))
            .or_insert_with(|| Distance::first(sample, at.mono_ms));
    }

    /// Milliseconds by which each peer heard of lately is ahead of this node's wall clock.
    pub fn offsets(&self, at: Reading) -> impl Iterator<Item = (NodeId, i64)> {
        let own = signed(at.wall_ms).saturating_sub(signed(at.mono_ms));
        self.peers
            .iter()
            .filter(move |(_, distance)| at.mono_ms.saturating_sub(distance.heard) < EXPIRY_MS)
            .map(move |(peer, distance)| (*peer, distance.best().saturating_sub(own)))
    }

    /// Whether this node's wall clock is neither ahead of the majority of its peers' clocks by more than the bound, nor
    /// behind it. Whatever clocks show, somebody may lead: where there is no majority, one that is behind, whose stamps
    /// can't harm, since a shard's time never goes back.
    #[must_use]
    pub fn leads_ok(&self, at: Reading) -> bool {
        let sides = self.sides(at);
        !sides.is_ahead() && !sides.is_behind()
    }

    /// Hybrid time, unless this node is ahead of the majority of its peers: what would be stamped with it could never be
    /// undone.
    pub fn stamp(&mut self, at: Reading) -> Option<u64> {
        (!self.sides(at).is_ahead()).then(|| self.now(at))
    }

    fn sides(&self, at: Reading) -> Sides {
        let bound = signed(SKEW_MS);
        let mut sides = Sides::default();
        for (_, offset) in self.offsets(at) {
            sides.known += 1;
            sides.before += usize::from(offset < -bound);
            sides.after += usize::from(offset > bound);
        }
        sides
    }

    /// Drops what is known of a peer.
    pub fn forget(&mut self, peer: NodeId) {
        self.peers.remove(&peer);
    }
}

/// Peers by where their clocks are.
#[derive(Debug, Default)]
struct Sides {
    known: usize,
    /// Those whose clocks are too far behind this node's.
    before: usize,
    /// Those whose clocks are too far ahead of it.
    after: usize,
}

impl Sides {
    fn is_ahead(&self) -> bool {
        self.before * 2 > self.known
    }

    /// This node counts as well, so that of two halves one may lead.
    fn is_behind(&self) -> bool {
        self.after * 2 > self.known + 1
    }
}

/// Times beyond i64 are as good as the end of time.
fn signed(ms: u64) -> i64 {
    i64::try_from(ms).unwrap_or(i64::MAX)
}

/// The node's clock; clones are one clock.
#[derive(Clone)]
pub struct HybridClock {
    source: Arc<dyn TimeSource>,
    core: Arc<Mutex<ClockCore>>,
}

impl fmt::Debug for HybridClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HybridClock").finish_non_exhaustive()
    }
}

impl HybridClock {
    /// A clock on the machine's own.
    #[must_use]
    pub fn system() -> Self {
        Self::with_source(Arc::new(SystemSource::default()))
    }

    /// A clock on any source of readings.
    #[must_use]
    pub fn with_source(source: Arc<dyn TimeSource>) -> Self {
        Self { source, core: Arc::default() }
    }

    /// The hybrid time.
    #[must_use]
    pub fn now(&self) -> Millis {
        let at = self.source.read();
        Millis(self.core().now(at))
    }

    /// The hybrid time to stamp a pack with; `None` while this node's clock is ahead of the majority's. A stamp is judged
    /// here, where it is made: what is in the log must be taken by every replica, whatever its clock shows.
    #[must_use]
    pub fn stamp(&self) -> Option<Millis> {
        let at = self.source.read();
        self.core().stamp(at).map(Millis)
    }

    /// This node's own wall clock.
    #[must_use]
    pub fn wall(&self) -> Millis {
        Millis(self.source.read().wall_ms)
    }

    /// Takes note of a peer's stamp; see [`ClockCore::observe`].
    pub fn observe(&self, peer: NodeId, clock: Millis, wall: Millis) {
        let at = self.source.read();
        self.core().observe(at, peer, clock.0, wall.0);
    }

    /// False while this node is more than [`CLOCK_SKEW_MAX`] off the majority of its peers' clocks: it leads nothing.
    #[must_use]
    pub fn leads_ok(&self) -> bool {
        let at = self.source.read();
        self.core().leads_ok(at)
    }

    /// Milliseconds by which each peer heard of lately is ahead of this node's wall clock.
    #[must_use]
    pub fn offsets(&self) -> Vec<(NodeId, i64)> {
        let at = self.source.read();
        self.core().offsets(at).collect()
    }

    /// Drops what is known of a node that left the cluster.
    pub fn forget(&self, peer: NodeId) {
        self.core().forget(peer);
    }

    fn core(&self) -> MutexGuard<'_, ClockCore> {
        // The core is a few integers, each valid by itself: a panic elsewhere cannot have broken it.
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NOON: u64 = 1_700_000_000_000;

    fn at(wall_ms: u64, mono_ms: u64) -> Reading {
        Reading { wall_ms, mono_ms }
    }

    /// What happens to a clock: time passes, the wall clock steps, a peer's stamp arrives.
    #[derive(Debug, Clone)]
    enum Step {
        Pass(u64),
        Jump(i64),
        Stamp(u64, i64),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            (0_u64..400).prop_map(Step::Pass),
            (-5_000_i64..5_000).prop_map(Step::Jump),
            (1_u64..4, -3_000_i64..3_000).prop_map(|(peer, ahead)| Step::Stamp(peer, ahead)),
        ];
        proptest::collection::vec(step, 0..60)
    }

    proptest! {
        #[test]
        fn now_stays_within_the_bound_of_the_wall_clock(steps in steps()) {
            let mut core = ClockCore::default();
            let (mut wall, mut mono) = (NOON, 0);
            let mut before = 0;
            for step in steps {
                let mut back = false;
                match step {
                    Step::Pass(ms) => { wall += ms; mono += ms; }
                    Step::Jump(ms) => { wall = wall.saturating_add_signed(ms); back = ms < 0; }
                    Step::Stamp(peer, ahead) => {
                        let stamp = wall.saturating_add_signed(ahead);
                        let held = core.now(at(wall, mono));
                        core.observe(at(wall, mono), NodeId(peer), stamp, stamp);
                        if ahead > 500 {
                            prop_assert_eq!(core.now(at(wall, mono)), held, "a mad stamp moved the clock");
                        } else {
                            prop_assert!(core.now(at(wall, mono)) >= stamp);
                        }
                    }
                }
                let now = core.now(at(wall, mono));
                prop_assert!((wall..=wall + 500).contains(&now));
                prop_assert!(back || now >= before, "the clock went back");
                before = now;
            }
        }

        /// Nodes with clocks off by up to 200 ms and one mad one, stamping each other's messages with random delays.
        #[test]
        fn one_mad_clock_disqualifies_itself_alone(
            nodes in 3_usize..8,
            madness in prop_oneof![900_i64..100_000_000, -100_000_000_i64..-900],
            errors in proptest::collection::vec(-100_i64..100, 8),
            messages in proptest::collection::vec((0_usize..8, 0_usize..8, 0_u64..100), 300..400),
        ) {
            let mut cores: Vec<ClockCore> = (0..nodes).map(|_| ClockCore::default()).collect();
            let wall = |node: usize, time: u64| {
                let off = if node == 0 { madness } else { errors[node] };
                (NOON + time).saturating_add_signed(off)
            };
            let mut time = 0;
            for (from, to, delay) in messages {
                let (from, to) = (from % nodes, to % nodes);
                time += 20;
                if from == to {
                    continue;
                }
                let stamp = cores[from].now(at(wall(from, time), time));
                let arrival = time + delay;
                cores[to].observe(at(wall(to, arrival), arrival), NodeId(from as u64), stamp, wall(from, time));
            }
            let heard = |node: usize| cores[node].offsets(at(wall(node, time), time)).count();
            let heard: Vec<usize> = (0..nodes).map(heard).collect();
            let heard = |node: usize| heard[node];
            for (node, core) in cores.iter_mut().enumerate() {
                // Who has heard of nobody but the mad one cannot tell which of them it is.
                let reading = at(wall(node, time), time);
                if node == 0 && heard(0) > usize::from(madness < 0) {
                    prop_assert!(!core.leads_ok(reading));
                    prop_assert!(madness < 0 || core.stamp(reading).is_none());
                } else if node > 0 && heard(node) > 1 {
                    prop_assert!(core.leads_ok(reading), "node {} of {}", node, nodes);
                }
            }
        }
    }

    #[test]
    fn the_offset_is_the_sample_that_travelled_fastest() {
        let mut core = ClockCore::default();
        for (mono, delay) in [(100, 80), (200, 3), (300, 700)] {
            // The peer's clock is 40 ms ahead.
            core.observe(at(NOON + mono, mono), NodeId(2), 0, NOON + mono + 40 - delay);
        }
        assert_eq!(core.offsets(at(NOON + 300, 300)).collect::<Vec<_>>(), [(NodeId(2), 37)]);
    }

    #[test]
    fn a_step_of_the_own_clock_shows_at_once_and_heals_at_once() {
        let mut core = ClockCore::default();
        for peer in [2, 3] {
            core.observe(at(NOON, 0), NodeId(peer), NOON, NOON);
        }
        assert!(core.leads_ok(at(NOON + 1_000, 1_000)));
        assert!(!core.leads_ok(at(NOON + 61_000, 1_000)));
        assert!(!core.leads_ok(at(NOON - 59_000, 1_000)));
        assert!(core.leads_ok(at(NOON + 1_000, 1_000)));
    }

    proptest! {
        /// However far apart clocks are, somebody may lead once all have heard of all.
        #[test]
        fn there_is_always_one_that_may_lead(walls in proptest::collection::vec(0_u64..5_000, 1..6)) {
            let may_lead = |node: usize| {
                let mut core = ClockCore::default();
                let own = at(NOON + walls[node], 0);
                for (peer, wall) in walls.iter().enumerate().filter(|(peer, _)| *peer != node) {
                    core.observe(own, NodeId(peer as u64), NOON + wall, NOON + wall);
                }
                core.leads_ok(own) && core.stamp(own).is_some()
            };
            prop_assert!((0..walls.len()).any(may_lead));
        }
    }

    #[test]
    fn of_two_that_disagree_the_one_behind_leads() {
        let mut core = ClockCore::default();
        core.observe(at(NOON, 0), NodeId(2), 0, NOON + 60_000);
        assert!(core.leads_ok(at(NOON, 0)));
        core.forget(NodeId(2));
        core.observe(at(NOON, 0), NodeId(2), 0, NOON - 60_000);
        assert!(!core.leads_ok(at(NOON, 0)));
        assert_eq!(core.stamp(at(NOON, 0)), None);
    }

    #[test]
    fn a_step_ahead_ends_stamping_at_once_and_a_step_back_does_not() {
        let mut core = ClockCore::default();
        for peer in [2, 3] {
            core.observe(at(NOON, 0), NodeId(peer), NOON, NOON);
        }
        assert_eq!(core.stamp(at(NOON + 1_000, 1_000)), Some(NOON + 1_000));
        assert_eq!(core.stamp(at(NOON + 61_000, 1_000)), None);
        assert!(core.stamp(at(NOON - 59_000, 1_000)).is_some());
    }

    #[test]
    fn a_peer_that_mends_its_clock_is_believed_after_two_windows() {
        let mut core = ClockCore::default();
        core.observe(at(NOON, 0), NodeId(2), 0, NOON + 60_000);
        core.observe(at(NOON, 0), NodeId(3), 0, NOON + 60_000);
        assert!(!core.leads_ok(at(NOON, 0)));
        for mono in (1_000..=2 * WINDOW_MS).step_by(1_000) {
            core.observe(at(NOON + mono, mono), NodeId(2), 0, NOON + mono);
        }
        assert!(core.leads_ok(at(NOON + 2 * WINDOW_MS, 2 * WINDOW_MS)));
    }

    #[test]
    fn silent_peers_lose_their_say() {
        let mut core = ClockCore::default();
        core.observe(at(NOON, 0), NodeId(2), 0, NOON - 60_000);
        assert!(!core.leads_ok(at(NOON, 0)));
        assert!(core.leads_ok(at(NOON + EXPIRY_MS, EXPIRY_MS)));
        core.forget(NodeId(2));
        assert!(core.leads_ok(at(NOON, 0)));
    }

    #[test]
    fn the_shell_follows_a_peer_and_refuses_mad_stamps() {
        struct Fixed;
        impl TimeSource for Fixed {
            fn read(&self) -> Reading {
                at(NOON, 0)
            }
        }
        let clock = HybridClock::with_source(Arc::new(Fixed));
        assert_eq!(clock.now(), Millis(NOON));
        clock.observe(NodeId(2), Millis(NOON + 400), Millis(NOON + 400));
        assert_eq!((clock.now(), clock.wall()), (Millis(NOON + 400), Millis(NOON)));
        clock.observe(NodeId(3), Millis(NOON + 501), Millis(NOON + 400));
        assert_eq!(clock.stamp(), Some(Millis(NOON + 400)));
        assert_eq!(clock.offsets(), [(NodeId(2), 400), (NodeId(3), 400)]);
        assert!(clock.leads_ok());
    }
}
