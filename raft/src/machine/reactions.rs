//! Reactions to messages.
//!
//! Owns: who put which emoji on a message, and how many there may be.
//! Must not know: which texts are emoji.
//! Invariants: a user has each emoji on a message once; what is put on again, or taken off when it is not there, is no
//! event; a deleted message has none.

use super::apply::Outcome;
use super::changes;
use super::envelopes::Viewer;
use super::query::message;
use super::step::{Step, Stop, refuse};
use super::tables::Tables;
use messenger_proto::command::React;
use messenger_proto::emoji::Emoji;
use messenger_proto::error::ErrorCode;
use messenger_proto::event::{Reacted, ThreadEventBody};
use messenger_proto::ids::UserId;
use messenger_proto::limits::{MESSAGE_REACTIONS_MAX, USER_REACTIONS_MAX};
use messenger_proto::model::Reaction;

/// Puts an emoji on a message, or takes it off.
pub(crate) fn react<T: Tables>(step: &mut Step<'_, T>, op: &React) -> Result<Outcome, Stop> {
    let (key, mut row) = message::find(&step.rows, op.id, &op.actor)?;
    let changed = if op.present {
        changes::check_present(step, &row)?;
        add(&mut row.reactions, &op.emoji, &op.actor)?
    } else {
        remove(&mut row.reactions, &op.emoji, &op.actor)
    };
    if changed {
        let React { actor, emoji, present, .. } = op.clone();
        let body = |of| ThreadEventBody::Reacted(Reacted { of, emoji, by: actor, present });
        changes::change(step, key, &mut row, body)?;
    }
    if op.present {
        changes::answer(step, key, row, Viewer { user: &op.actor, device: op.device.as_ref() })
    } else {
        Ok(Outcome::done(None))
    }
}

/// Whether it was not there yet.
fn add(reactions: &mut Vec<Reaction>, emoji: &Emoji, user: &UserId) -> Result<bool, Stop> {
    if has(reactions, emoji, user) {
        return Ok(false);
    }
    if reactions.iter().filter(|reaction| reaction.by.contains(user)).count() >= USER_REACTIONS_MAX {
        return refuse(ErrorCode::TooManyReactions, "a user has at most 20 reactions on a message");
    }
    if reactions.iter().map(|reaction| reaction.by.len()).sum::<usize>() >= MESSAGE_REACTIONS_MAX {
        return refuse(ErrorCode::TooManyReactions, "a message has at most 1000 reactions");
    }
    match reactions.iter_mut().find(|reaction| reaction.emoji == *emoji) {
        Some(reaction) => reaction.by.push(user.clone()),
        None => reactions.push(Reaction { emoji: emoji.clone(), by: vec![user.clone()] }),
    }
    Ok(true)
}

/// Whether it was there.
fn remove(reactions: &mut Vec<Reaction>, emoji: &Emoji, user: &UserId) -> bool {
    let there = has(reactions, emoji, user);
    for reaction in reactions.iter_mut().filter(|reaction| reaction.emoji == *emoji) {
        reaction.by.retain(|by| by != user);
    }
    reactions.retain(|reaction| !reaction.by.is_empty());
    there
}

fn has(reactions: &[Reaction], emoji: &Emoji, user: &UserId) -> bool {
    reactions.iter().any(|reaction| reaction.emoji == *emoji && reaction.by.contains(user))
}
