//! A user's own list.
//!
//! Owns: adding to it and taking from it, its bound, and reading it.
//! Must not know: threads; the profile tells them.
//! Invariants: the list is in order, without repeats, and never names the user itself; a change that changes nothing waits
//! for what was changed before it, as that change did.

use crate::machine::apply::Outcome;
use crate::machine::profile;
use crate::machine::rows::blocks::{BlocksKey, BlocksRow};
use crate::machine::rows::user::UserKey;
use crate::machine::rows::{self};
use crate::machine::step::{Step, Stop, refuse, refuse_field};
use crate::machine::tables::{TableError, Tables};
use messenger_proto::command::SetBlock;
use messenger_proto::error::ErrorCode;
use messenger_proto::ids::UserId;
use messenger_proto::limits::USER_BLOCKS_MAX;
use messenger_proto::query::{BlocksAnswer, BlocksQuery};

/// Keeps another user away, or ends that.
pub(crate) fn set<T: Tables>(step: &mut Step<'_, T>, op: &SetBlock) -> Result<Outcome, Stop> {
    if op.user == op.other {
        return refuse_field("user_id", "nobody keeps oneself away");
    }
    let key = BlocksKey { user: op.user.clone() };
    let mut row = step.get(&key)?.unwrap_or_default();
    match (row.users.binary_search(&op.other), op.present) {
        (Err(_), true) if row.users.len() >= USER_BLOCKS_MAX => {
            return refuse(ErrorCode::TooManyBlocks, "a user blocks at most 1000 others");
        }
        (Err(at), true) => row.users.insert(at, op.other.clone()),
        (Ok(at), false) => {
            row.users.remove(at);
        }
        (Ok(_), true) | (Err(_), false) => return Ok(Outcome::done(profile::outstanding(step, &op.user)?)),
    }
    if row.users.is_empty() {
        step.delete(&key);
    } else {
        step.put(&key, &row);
    }
    Ok(Outcome::done(profile::changed(step, &op.user, profile::Change::Blocks)?))
}

/// Whom a user keeps away, in order of name.
pub(crate) fn of(tables: &impl Tables, user: &UserId) -> Result<Vec<UserId>, TableError> {
    let row = rows::get(tables, &BlocksKey { user: user.clone() })?;
    Ok(row.map_or_else(Vec::new, |BlocksRow { users }| users))
}

/// Answers with it.
pub(crate) fn list(tables: &impl Tables, query: &BlocksQuery) -> Result<BlocksAnswer, Stop> {
    let version = rows::get(tables, &UserKey { user: query.user.clone() })?.map_or(0, |row| row.profile);
    Ok(BlocksAnswer { users: of(tables, &query.user)?, version })
}
