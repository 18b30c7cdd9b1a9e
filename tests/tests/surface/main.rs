//! The whole contract over real processes: every row, frame, close code and error code, each through a node that does not
//! lead the shard in question, and a ledger that says what was forgotten.
//!
//! All threads and users are led by one node, and all clients talk to the other two. What the clients see is held against
//! the documents that the nodes serve, and at the end all that these name has been seen.

mod ends;
mod frames;
mod refusals;
mod rows;
mod scene;
mod sweep;
mod twice;

use messenger_tests::ledger::{Elsewhere, Item};
use scene::Scene;
use std::sync::Arc;

fn code(code: &str) -> Item {
    Item::Code(code.to_owned())
}

/// What takes longer than a test may, or cannot be brought about from outside.
const ELSEWHERE: [Elsewhere; 6] = [
    Elsewhere {
        item: || code("internal"),
        why: "no request is known that brings it about",
        file: "node/src/gateway/tests/edge.rs",
        test: "a_handler_that_panics_harms_nobody_else",
    },
    Elsewhere {
        item: || code("change_window_closed"),
        why: "fifteen minutes have to pass",
        file: "node/src/gateway/tests/changes.rs",
        test: "others_and_latecomers_change_nothing",
    },
    Elsewhere {
        item: || code("conflict"),
        why: "a user has to be in ten thousand threads",
        file: "node/src/gateway/tests/participants.rs",
        test: "whoever_is_in_as_many_threads_as_there_may_be_is_not_invited",
    },
    Elsewhere {
        item: || Item::Shown("gap".to_owned()),
        why: "ten thousand events have to be missed; that test sends them, over real processes",
        file: "tests/tests/resume.rs",
        test: "too_long_an_absence_is_a_gap_that_history_fills",
    },
    Elsewhere {
        item: || Item::Closed(4408),
        why: "75 seconds of silence have to pass",
        file: "node/src/realtime/tests/handshake.rs",
        test: "silence_ends_a_connection_and_pongs_keep_it",
    },
    Elsewhere {
        item: || Item::Closed(4429),
        why: "30 seconds of not reading have to pass, and the code reaches only who reads again in the next two",
        file: "node/src/realtime/tests/faults.rs",
        test: "a_reader_that_stands_still_is_closed_with_4429",
    },
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_row_frame_and_code_is_seen_through_a_node_that_leads_nothing_of_it() {
    let scene = Scene::start().await;
    // A ping takes half a minute, which passes beside everything else.
    let pinged = tokio::spawn(frames::pinged(scene.phone(2, "idle"), Arc::clone(&scene.ledger)));
    rows::threads(&scene).await;
    rows::messages(&scene).await;
    rows::devices(&scene).await;
    rows::people(&scene).await;
    rows::open(&scene).await;
    twice::sending(&scene).await;
    twice::every_post(&scene).await;
    frames::of_sends(&scene).await;
    frames::of_threads(&scene).await;
    frames::of_reception(&scene).await;
    frames::of_people(&scene).await;
    frames::authenticated_by_a_frame(&scene).await;
    frames::closed(&scene).await;
    sweep::every_route(&scene).await;
    sweep::lists(&scene).await;
    refusals::of_threads(&scene).await;
    refusals::of_messages(&scene).await;
    refusals::of_latecomers(&scene).await;
    refusals::of_handshakes(&scene).await;
    refusals::of_keys(&scene).await;
    refusals::of_tokens(&scene).await;
    refusals::of_too_much(&scene).await;
    ends::of_room(&scene).await;
    pinged.await.expect("a ping came");
    scene.still_leads();
    ends::of_a_node(&scene).await;
    ends::of_the_majority(&scene).await;
    scene.ledger.close(&ELSEWHERE);
}
