//! Sessions with one other device.
//!
//! Owns: which session a message is read or written with, and their form at rest.
//! Must not know: stores, and what is inside a message.
//! Invariants: a message that a session has read is not read by it again; a failure changes nothing; there are at most
//! [`SESSIONS_MAX`], and the one that was used last is the one that writes.

use super::identity::Believed;
use super::rows::SessionRow;
use crate::store::StoreError;
use bytes::Bytes;
use vodozemac::olm::{Account, AccountPickle, OlmMessage, PreKeyMessage, Session, SessionConfig, SessionPickle};

/// Sessions with one device that are kept: two begin at once when both sides write first.
const SESSIONS_MAX: usize = 4;

fn config() -> SessionConfig {
    SessionConfig::version_1()
}

fn restore(row: &SessionRow) -> Result<Session, StoreError> {
    let pickle: SessionPickle =
        serde_json::from_slice(&row.pickle).map_err(|_| StoreError::Damaged("a session cannot be read"))?;
    Ok(Session::from_pickle(pickle))
}

fn keep(session: &Session) -> Result<SessionRow, StoreError> {
    let pickle = serde_json::to_vec(&session.pickle()).map_err(StoreError::database)?;
    Ok(SessionRow { id: session.session_id(), pickle: Bytes::from(pickle) })
}

pub(super) fn restore_account(pickle: &[u8]) -> Result<Account, StoreError> {
    let pickle: AccountPickle =
        serde_json::from_slice(pickle).map_err(|_| StoreError::Damaged("the keys cannot be read"))?;
    Ok(Account::from_pickle(pickle))
}

pub(super) fn keep_account(account: &Account) -> Result<Bytes, StoreError> {
    serde_json::to_vec(&account.pickle()).map(Bytes::from).map_err(StoreError::database)
}

/// A session becomes the one that writes.
pub(super) fn add(sessions: &mut Vec<SessionRow>, row: SessionRow) {
    sessions.retain(|known| known.id != row.id);
    sessions.insert(0, row);
    sessions.truncate(SESSIONS_MAX);
}

/// Begins a session with a device whose bundle is believed; `None` when its keys are no good.
pub(super) fn begin(account: &Account, with: &Believed) -> Result<Option<SessionRow>, StoreError> {
    match account.create_outbound_session(config(), with.identity.agreement(), with.prekey) {
        Ok(session) => keep(&session).map(Some),
        Err(_) => Ok(None),
    }
}

/// Writes with the session that was used last; `None` when there is none.
pub(super) fn encrypt(sessions: &mut [SessionRow], plaintext: &[u8]) -> Result<Option<OlmMessage>, StoreError> {
    let Some(first) = sessions.first_mut() else { return Ok(None) };
    let mut session = restore(first)?;
    let message = session.encrypt(plaintext).map_err(StoreError::database)?;
    *first = keep(&session)?;
    Ok(Some(message))
}

/// Reads with any of the sessions; `None` when none of them can. The one that could is the one that writes from now on.
pub(super) fn decrypt(sessions: &mut Vec<SessionRow>, message: &OlmMessage) -> Result<Option<Vec<u8>>, StoreError> {
    let wanted = session_of(message);
    for row in sessions.iter() {
        if wanted.as_ref().is_some_and(|id| *id != row.id) {
            continue;
        }
        let mut session = restore(row)?;
        if let Ok(plaintext) = session.decrypt(message) {
            let row = keep(&session)?;
            add(sessions, row);
            return Ok(Some(plaintext));
        }
    }
    Ok(None)
}

/// Which session a message begins, if it is one of the first.
fn session_of(message: &OlmMessage) -> Option<String> {
    match message {
        OlmMessage::PreKey(message) => Some(message.session_id()),
        OlmMessage::Normal(_) => None,
    }
}

pub(super) fn knows(sessions: &[SessionRow], message: &PreKeyMessage) -> bool {
    let id = message.session_id();
    sessions.iter().any(|row| row.id == id)
}

/// Takes up the session that another device began; its one-time key is used up with it. `None` when it cannot be.
pub(super) fn accept(
    account: &mut Account,
    message: &PreKeyMessage,
) -> Result<Option<(SessionRow, Vec<u8>)>, StoreError> {
    match account.create_inbound_session(config(), message.identity_key(), message) {
        Ok(created) => Ok(Some((keep(&created.session)?, created.plaintext))),
        Err(_) => Ok(None),
    }
}
