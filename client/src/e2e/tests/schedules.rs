//! Any order of writing, hearing, losing, repeating and being restarted: what is read is what was written, once.

use super::super::RecordKind;
use super::THREAD;
use super::world::{Sent, World};
use proptest::prelude::*;

#[derive(Debug, Clone)]
enum Step {
    Write {
        by: usize,
    },
    /// One of the messages that the device has not heard, the one so many places after the first.
    Hear {
        by: usize,
        skip: usize,
    },
    HearAgain {
        by: usize,
        which: usize,
    },
    Restart {
        who: usize,
    },
}

const DEVICES: usize = 3;
/// Fewer than a session keeps keys of skipped messages for.
const BEHIND_MAX: usize = 30;

fn step() -> impl Strategy<Value = Step> {
    let device = 0..DEVICES;
    prop_oneof![
        3 => device.clone().prop_map(|by| Step::Write { by }),
        5 => (device.clone(), 0..4usize).prop_map(|(by, skip)| Step::Hear { by, skip }),
        1 => (device.clone(), 0..50usize).prop_map(|(by, which)| Step::HearAgain { by, which }),
        2 => device.prop_map(|who| Step::Restart { who }),
    ]
}

struct Trial {
    world: World,
    sent: Vec<(Sent, String)>,
    unheard: Vec<Vec<usize>>,
    heard: Vec<Vec<usize>>,
}

impl Trial {
    fn hear(&mut self, by: usize, which: usize) {
        let (sent, text) = &self.sent[which];
        let received = self.world.deliver(by, sent);
        assert!(received.is_new, "message {which} was new to device {by}");
        assert_eq!((received.record.kind, &received.record.text), (RecordKind::Encrypted, text));
        self.heard[by].push(which);
    }

    fn take(&mut self, step: &Step) {
        match *step {
            Step::Write { by } => {
                let text = format!("{} by {by}", self.sent.len());
                let sent = self.world.send(by, THREAD, &text);
                self.sent.push((sent, text));
                for (device, unheard) in self.unheard.iter_mut().enumerate() {
                    unheard.push(self.sent.len() - 1);
                    // One that is too far behind loses the oldest for good.
                    if unheard.len() > BEHIND_MAX && device != by {
                        unheard.remove(0);
                    }
                }
            }
            Step::Hear { by, skip } => {
                if self.unheard[by].is_empty() {
                    return;
                }
                let at = skip.min(self.unheard[by].len() - 1);
                let which = self.unheard[by].remove(at);
                self.hear(by, which);
            }
            Step::HearAgain { by, which } => {
                let Some(which) = self.heard[by].get(which % self.heard[by].len().max(1)).copied() else { return };
                let (sent, text) = &self.sent[which];
                let received = self.world.deliver(by, sent);
                assert!(!received.is_new && received.record.text == *text);
            }
            Step::Restart { who } => self.world.restart(who),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn what_is_read_is_what_was_written(steps in proptest::collection::vec(step(), 1..70)) {
        let world = World::new(&[("alice", "phone"), ("alice", "laptop"), ("bob", "phone")]);
        let empty = || vec![Vec::new(); DEVICES];
        let mut trial = Trial { world, sent: Vec::new(), unheard: empty(), heard: empty() };
        for step in steps {
            trial.take(&step);
        }
        for by in 0..DEVICES {
            for which in std::mem::take(&mut trial.unheard[by]) {
                trial.hear(by, which);
            }
            let kept = trial.world.vaults[by].history(THREAD, 1000).unwrap();
            prop_assert_eq!(kept.len(), trial.heard[by].len());
        }
    }
}
