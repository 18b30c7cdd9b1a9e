//! One message.
//!
//! Owns: finding a message by its id, and its recipients.
//! Must not know: routing; the id names its slot.

use super::super::envelopes::{self, Viewer};
use super::super::rows::message::{MessageKey, MessageRow};
use super::super::rows::message_id::MessageIdKey;
use super::super::rows::{self};
use super::super::step::{Stop, refuse};
use super::super::tables::Tables;
use super::receipts;
use super::view::View;
use messenger_proto::error::ErrorCode;
use messenger_proto::ids::{MessageId, Millis, UserId};
use messenger_proto::model::Message;
use messenger_proto::query::{MessageQuery, RecipientsAnswer, RecipientsQuery};

/// A message in the viewer's sight.
pub(crate) fn find(tables: &impl Tables, id: MessageId, viewer: &UserId) -> Result<(MessageKey, MessageRow), Stop> {
    let Some(place) = rows::get(tables, &MessageIdKey { id })? else {
        return refuse(ErrorCode::NotFound, "there is no such message");
    };
    let view = View::open(tables, place.thread, viewer)?;
    if !view.member.sees(place.seq) {
        return refuse(ErrorCode::Forbidden, "the message was sent while the viewer was no participant");
    }
    let key = MessageKey { thread: place.thread, seq: place.seq };
    let row = rows::expect(tables, &key)?;
    if view.veil.hides(tables, &row.meta.sender, place.seq)? {
        return refuse(ErrorCode::NotFound, "there is no such message");
    }
    Ok((key, row))
}

/// One message.
pub(crate) fn message(tables: &impl Tables, query: &MessageQuery) -> Result<Message, Stop> {
    let (key, row) = find(tables, query.id, &query.viewer)?;
    let mut message = [row.into_message(key)];
    receipts::count_own(tables, &query.viewer, &mut message)?;
    envelopes::open(tables, Viewer { user: &query.viewer, device: Some(&query.device) }, &mut message)?;
    let [message] = message;
    Ok(message)
}

/// The recipients of one message.
pub(crate) fn recipients(tables: &impl Tables, query: &RecipientsQuery, now: Millis) -> Result<RecipientsAnswer, Stop> {
    let (key, row) = find(tables, query.id, &query.viewer)?;
    Ok(RecipientsAnswer { recipients: receipts::recipients(tables, &row.into_message(key), now)? })
}
