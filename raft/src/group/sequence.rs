//! The order of a device's sends that wait together.
//!
//! Owns: putting them in order of the device's own numbers.
//! Must not know: queues, packs, consensus.
//! Invariants: only a device's sends to one thread change places, and only among the places that they have; everything
//! else stays where it is, and so do sends under one number.

use messenger_proto::command::{Command, Op};
use std::hash::{DefaultHasher, Hash, Hasher};

/// Where a send belongs among others of its device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    /// Of the thread and the device. Two that are alike by chance are put in order too, which harms neither.
    device: u64,
    number: u64,
}

impl Place {
    /// The place of a send; anything else has none.
    pub(super) fn of(command: &Command) -> Option<Self> {
        let Op::SendMessage(send) = &command.op else { return None };
        let mut hasher = DefaultHasher::new();
        (&send.thread.0, send.sender.as_str(), send.device.as_str()).hash(&mut hasher);
        Some(Self { device: hasher.finish(), number: send.client_seq.0 })
    }
}

#[cfg(test)]
impl Place {
    /// The place of a send of one device.
    pub(super) fn of_number(number: u64) -> Self {
        Self { device: 1, number }
    }
}

/// Puts each device's sends in order of their numbers.
pub(super) fn by_number<T>(items: &mut Vec<T>, place: impl Fn(&T) -> Option<Place>) {
    let place = |(at, item): (usize, &T)| place(item).map(|Place { device, number }| (device, at, number));
    let mut sends: Vec<_> = items.iter().enumerate().filter_map(place).collect();
    sends.sort_unstable();
    let mut moves = Vec::new();
    for of_one in sends.chunk_by(|(one, ..), (other, ..)| one == other) {
        if of_one.is_sorted_by_key(|(_, _, number)| number) {
            continue;
        }
        let mut ordered: Vec<_> = of_one.iter().map(|(_, at, number)| (*number, *at)).collect();
        ordered.sort_unstable();
        moves.extend(of_one.iter().zip(ordered).map(|((_, to, _), (_, from))| (*to, from)));
    }
    if moves.is_empty() {
        return;
    }
    let mut from: Vec<usize> = (0..items.len()).collect();
    for (to, source) in moves {
        from[to] = source;
    }
    let mut taken: Vec<Option<T>> = items.drain(..).map(Some).collect();
    items.extend(from.into_iter().filter_map(|at| taken[at].take()));
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// `(device, number, name)`; device 0 stands for commands that are no sends.
    type Item = (u64, u64, usize);

    fn place((device, number, _): &Item) -> Option<Place> {
        (*device > 0).then_some(Place { device: *device, number: *number })
    }

    proptest! {
        #[test]
        fn each_device_is_in_order_and_keeps_its_places(given in prop::collection::vec((0u64..4, 0u64..6), 0..40)) {
            let before: Vec<Item> = given.into_iter().enumerate().map(|(name, (d, n))| (d, n, name)).collect();
            let mut after = before.clone();
            by_number(&mut after, place);
            let devices = |items: &[Item]| items.iter().map(|item| item.0).collect::<Vec<_>>();
            prop_assert_eq!(devices(&before), devices(&after));
            for device in 0..4 {
                let of_one = |items: &[Item]| items.iter().copied().filter(|item| item.0 == device).collect::<Vec<_>>();
                let mut expected = of_one(&before);
                if device > 0 {
                    expected.sort_by_key(|(_, number, _)| *number);
                }
                prop_assert_eq!(of_one(&after), expected);
            }
        }
    }
}
