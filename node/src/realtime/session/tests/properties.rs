//! What holds whatever happens, in whichever order.

use super::super::*;
use super::world::*;
use proptest::prelude::*;
use std::collections::{HashMap, HashSet};

fn op() -> impl Strategy<Value = Op> {
    let t = || 0..THREADS;
    prop_oneof![
        4 => (t(), any::<bool>()).prop_map(|(thread, mine)| Op::Message { thread, mine }),
        3 => (t(), 0u8..3).prop_map(|(thread, by)| Op::Read { thread, by }),
        2 => (t(), 0u8..3, any::<bool>()).prop_map(|(thread, by, for_me)| Op::Delivered { thread, by, for_me }),
        1 => t().prop_map(Op::Leave),
        1 => t().prop_map(Op::Join),
        4 => (t(), 1u8..4).prop_map(|(thread, count)| Op::Emit { thread, count }),
        1 => Just(Op::EmitUser),
        1 => (0u8..4, 0u8..4).prop_map(|(back, ahead)| Op::Switch { back, ahead }),
        1 => t().prop_map(Op::Flush),
        1 => Just(Op::Overflow),
        4 => (1u8..5).prop_map(Op::Mail),
        2 => (0u8..4).prop_map(|back| Op::Listening { back }),
        3 => (1u8..4).prop_map(Op::Ask),
        3 => prop::bool::weighted(0.2).prop_map(|fails| Op::Answer { fails }),
        2 => any::<u8>().prop_map(Op::Ack),
        1 => Just(Op::AskIndex),
        1 => Just(Op::AnswerIndex),
    ]
}

fn narrowing_op() -> impl Strategy<Value = Op> {
    prop_oneof![
        12 => op(),
        1 => prop::collection::vec(0..THREADS, 0..3).prop_map(Op::Narrow),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn every_event_is_told_once_and_in_order(ops in prop::collection::vec(op(), 0..120)) {
        let mut world = World::new();
        world.connect();
        for op in &ops {
            world.run(op);
            world.check_order();
        }
        world.settle();
        world.check_order();
        prop_assert_eq!(world.caught_up, 1);
        world.check_complete(&HashMap::new());
    }

    #[test]
    fn what_was_not_acknowledged_is_told_again(
        first in prop::collection::vec(op(), 0..80),
        second in prop::collection::vec(op(), 0..60),
    ) {
        let mut world = World::new();
        world.connect();
        for op in &first {
            world.run(op);
        }
        for (thread, delivered) in &world.device.delivered {
            let acked: HashSet<_> = world.device.acked[thread].iter().filter_map(|event| event.seq).collect();
            for event in world.threads[thread].after(&world.me, None) {
                let foreign = matches!(&event.kind, EventKind::Message { sender, .. } if *sender != world.me);
                let claimed = event.seq.filter(|seq| foreign && seq.0 <= *delivered);
                prop_assert!(claimed.is_none_or(|seq| acked.contains(&seq)), "claims more than the device took");
            }
        }
        let departures = world.departures();
        world.connect();
        for op in &second {
            world.run(op);
            world.check_order();
        }
        world.settle();
        prop_assert_eq!(world.caught_up, 1);
        let acked = world.device.acked.clone();
        world.check_complete(&acked);
        world.check_departures(&departures, &acked);
        // What was acknowledged to the end does not come again.
        world.ack(world.frames);
        let gone: Vec<ThreadId> = world.departures().into_iter().map(|(thread, _)| thread).collect();
        world.connect();
        world.settle();
        for thread in gone {
            // A coming and going that the mailbox lost altogether is heard only now.
            let acked = world.device.acked.get(&thread).map(Vec::as_slice).unwrap_or_default();
            let acked: HashSet<Rev> = acked.iter().map(|event| event.rev).collect();
            let told = world.told.get(&thread).map(Vec::as_slice).unwrap_or_default();
            let again = told.iter().find(|(_, event)| acked.contains(&event.rev));
            prop_assert!(again.is_none(), "{} {:?} {:?}", thread, world.device.stored.get(&thread), told);
        }
    }

    #[test]
    fn narrowing_never_disturbs_order_and_widening_brings_everything(
        ops in prop::collection::vec(narrowing_op(), 0..120),
    ) {
        let mut world = World::new();
        world.connect();
        for op in &ops {
            world.run(op);
            world.check_order();
        }
        world.run(&Op::Narrow((0..THREADS).collect()));
        world.settle();
        world.check_order();
        prop_assert_eq!(world.caught_up, 1);
        world.check_complete(&HashMap::new());
    }
}
