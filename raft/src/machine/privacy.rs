//! What a user shows of itself to others.
//!
//! Owns: the user's choice, and telling who made which.
//! Must not know: whether a user is there; whoever asks acts on the answer.
//! Invariants: a user without a row shows everything; a choice that changes nothing writes nothing.

use super::apply::Outcome;
use super::blocks;
use super::rows::privacy::{PrivacyKey, PrivacyRow};
use super::rows::{self};
use super::step::{Step, Stop};
use super::tables::{TableError, Tables};
use messenger_proto::command::SetPrivacy;
use messenger_proto::model::PresenceAudience;
use messenger_proto::query::{PrivacyAnswer, PrivacyQuery};

/// Takes a choice.
pub(crate) fn set<T: Tables>(step: &mut Step<'_, T>, op: &SetPrivacy) -> Result<Outcome, Stop> {
    let key = PrivacyKey { user: op.user.clone() };
    let stored = step.get(&key)?.map_or(PresenceAudience::Everyone, |row| row.presence);
    if op.presence != stored {
        match op.presence {
            PresenceAudience::Everyone => step.delete(&key),
            PresenceAudience::Nobody => step.put(&key, &PrivacyRow { presence: op.presence }),
        }
    }
    Ok(Outcome::done(None))
}

/// Which of the users show their presence to nobody, or not to the viewer, whom they keep away.
pub(crate) fn hidden(tables: &impl Tables, query: &PrivacyQuery) -> Result<PrivacyAnswer, Stop> {
    let mut hidden = Vec::new();
    for user in &query.users {
        let row = rows::get(tables, &PrivacyKey { user: user.clone() })?;
        let nobody = row.is_some_and(|row| row.presence == PresenceAudience::Nobody);
        let away = |viewer| Ok::<_, TableError>(blocks::own::of(tables, user)?.binary_search(viewer).is_ok());
        if nobody || query.viewer.as_ref().map_or(Ok(false), away)? {
            hidden.push(user.clone());
        }
    }
    Ok(PrivacyAnswer { hidden })
}
