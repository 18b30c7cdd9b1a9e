//! The bodies of consensus calls.
//!
//! Owns: the byte form of appends, votes and their answers.
//! Must not know: frames, streams, sockets.
//! Invariants: decoding never panics, whatever the bytes; a decoded append's entries follow each other and what
//! precedes them, since the consensus core takes that for granted; entries are written without being moved again.

use crate::entry::{Entry, decode_entry, encode_entry, encoded_len};
use crate::types::{LogId, TypeConfig, Vote};
use crate::wire::{LogIdWire, VoteWire};
use bytes::Bytes;
use messenger_proto::ids::NodeId;
use messenger_proto::wire::{Field, Wire, WireError, read_delimited, read_key, read_varint, skip, write_varint};
use messenger_proto::{wire_enum, wire_struct};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, StreamAppendError, StreamAppendResult, TransferLeaderError,
    TransferLeaderRequest, TransferLeaderResponse, VoteRequest, VoteResponse,
};
use prost::encoding::{WireType, encode_key, encode_varint};

/// A request to append.
pub type Append = AppendEntriesRequest<TypeConfig>;
/// How an append of a stream ended.
pub type AppendResult = StreamAppendResult<TypeConfig>;
wire_struct! {
    /// A request for a vote.
    struct VoteRequestWire { 1 => vote: VoteWire, 2 => last_log: Option<LogIdWire>, 3 => transfer: bool }
}

wire_struct! {
    /// The answer to it.
    struct VoteResponseWire { 1 => vote: VoteWire, 2 => granted: bool, 3 => last_log: Option<LogIdWire> }
}

wire_struct! {
    /// The answer to an append. A vote stands for a higher one; without it, `log` matches or conflicts.
    struct AppendAnswerWire { 1 => conflict: bool, 2 => log: Option<LogIdWire>, 3 => higher: Option<VoteWire> }
}

wire_struct! {
    /// What a snapshot's stream begins with.
    pub(crate) struct SnapshotHeader {
        1 => group: u32,
        2 => vote: VoteWire,
    }
}

wire_struct! {
    /// A leader hands over.
    struct TransferWire { 1 => from: VoteWire, 2 => to: NodeId, 3 => last_log: Option<LogIdWire> }
}

wire_enum! {
    /// The answer to it.
    enum TransferAnswerWire { 1 => Done(TransferDone), 2 => VoteChanged(VoteChanged), 3 => LogNotFlushed(LogNotFlushed) }
}

wire_struct! {
    /// The node stands for election.
    struct TransferDone {}
}

wire_struct! {
    /// It knows of another vote.
    struct VoteChanged { 1 => expected: VoteWire, 2 => actual: VoteWire }
}

wire_struct! {
    /// It lacks entries.
    struct LogNotFlushed { 1 => expected: Option<LogIdWire>, 2 => actual: Option<LogIdWire> }
}

pub(crate) fn encode_vote_request(request: &VoteRequest<TypeConfig>) -> Bytes {
    let vote = VoteWire::from(&request.vote);
    let last_log = request.last_log_id.map(Into::into);
    VoteRequestWire { vote, last_log, transfer: request.leadership_transfer }.to_wire().into()
}

pub(crate) fn decode_vote_request(bytes: Bytes) -> Result<VoteRequest<TypeConfig>, WireError> {
    let wire = VoteRequestWire::decode_from(bytes)?;
    let mut request = VoteRequest::new(wire.vote.into(), wire.last_log.map(Into::into));
    request.leadership_transfer = wire.transfer;
    Ok(request)
}

pub(crate) fn encode_vote_response(response: &VoteResponse<TypeConfig>) -> Bytes {
    let vote = VoteWire::from(&response.vote);
    let last_log = response.last_log_id.map(Into::into);
    VoteResponseWire { vote, granted: response.vote_granted, last_log }.to_wire().into()
}

pub(crate) fn decode_vote_response(bytes: Bytes) -> Result<VoteResponse<TypeConfig>, WireError> {
    let wire = VoteResponseWire::decode_from(bytes)?;
    Ok(VoteResponse::new(Vote::from(wire.vote), wire.last_log.map(Into::into), wire.granted))
}

pub(crate) fn encode_vote(vote: &Vote) -> Bytes {
    VoteWire::from(vote).to_wire().into()
}

pub(crate) fn decode_vote(bytes: Bytes) -> Result<Vote, WireError> {
    VoteWire::decode_from(bytes).map(Into::into)
}

pub(crate) fn encode_append_result(result: &AppendResult) -> Bytes {
    let (conflict, log, higher) = match result {
        Ok(matched) => (false, *matched, None),
        Err(StreamAppendError::Conflict(at)) => (true, Some(*at), None),
        Err(StreamAppendError::HigherVote(vote)) => (false, None, Some(VoteWire::from(vote))),
    };
    AppendAnswerWire { conflict, log: log.map(Into::into), higher }.to_wire().into()
}

pub(crate) fn decode_append_result(bytes: Bytes) -> Result<AppendResult, WireError> {
    let wire = AppendAnswerWire::decode_from(bytes)?;
    Ok(match (wire.higher, wire.conflict, wire.log) {
        (Some(vote), _, _) => Err(StreamAppendError::HigherVote(vote.into())),
        (None, true, Some(at)) => Err(StreamAppendError::Conflict(at.into())),
        (None, true, None) => return Err(WireError::Missing("conflict position")),
        (None, false, matched) => Ok(matched.map(Into::into)),
    })
}

/// The result of a lone append, as that of a stream would be.
pub(crate) fn lone_result(
    response: &AppendEntriesResponse<TypeConfig>,
    prev: Option<LogId>,
    last: Option<LogId>,
) -> Result<AppendResult, WireError> {
    Ok(match response {
        AppendEntriesResponse::Success => Ok(last),
        AppendEntriesResponse::PartialSuccess(matched) => Ok(*matched),
        AppendEntriesResponse::Conflict => {
            Err(StreamAppendError::Conflict(prev.ok_or(WireError::Invalid("conflict with nothing"))?))
        }
        AppendEntriesResponse::HigherVote(vote) => Err(StreamAppendError::HigherVote(*vote)),
    })
}

pub(crate) fn encode_transfer(request: &TransferLeaderRequest<TypeConfig>) -> Bytes {
    let last_log = request.last_log_id().copied().map(Into::into);
    TransferWire { from: request.from_leader().into(), to: NodeId(*request.to_node_id()), last_log }.to_wire().into()
}

pub(crate) fn decode_transfer(bytes: Bytes) -> Result<TransferLeaderRequest<TypeConfig>, WireError> {
    let TransferWire { from, to, last_log } = TransferWire::decode_from(bytes)?;
    Ok(TransferLeaderRequest::new(from.into(), to.0, last_log.map(Into::into)))
}

pub(crate) fn encode_transfer_answer(answer: &TransferLeaderResponse<TypeConfig>) -> Bytes {
    let wire = match answer {
        Ok(()) => TransferAnswerWire::Done(TransferDone {}),
        Err(TransferLeaderError::VoteChanged { expected, actual }) => {
            TransferAnswerWire::VoteChanged(VoteChanged { expected: expected.into(), actual: actual.into() })
        }
        Err(TransferLeaderError::LogNotFlushed { expected, actual }) => {
            let [expected, actual] = [expected, actual].map(|at| at.map(Into::into));
            TransferAnswerWire::LogNotFlushed(LogNotFlushed { expected, actual })
        }
    };
    wire.to_wire().into()
}

pub(crate) fn decode_transfer_answer(bytes: Bytes) -> Result<TransferLeaderResponse<TypeConfig>, WireError> {
    Ok(match TransferAnswerWire::decode_from(bytes)? {
        TransferAnswerWire::Done(TransferDone {}) => Ok(()),
        TransferAnswerWire::VoteChanged(VoteChanged { expected, actual }) => {
            Err(TransferLeaderError::VoteChanged { expected: expected.into(), actual: actual.into() })
        }
        TransferAnswerWire::LogNotFlushed(LogNotFlushed { expected, actual }) => {
            let [expected, actual] = [expected, actual].map(|at| at.map(Into::into));
            Err(TransferLeaderError::LogNotFlushed { expected, actual })
        }
    })
}

// Tags of an append; never reused.
const SESSION: u32 = 1;
const VOTE: u32 = 2;
const PREV: u32 = 3;
const COMMIT: u32 = 4;
const ENTRY: u32 = 5;

/// Writes an append, or the part of one that `entries` is, on the session of its stream.
pub(crate) fn encode_append(
    session: u64,
    vote: &Vote,
    prev: Option<LogId>,
    commit: Option<LogId>,
    entries: &[Entry],
) -> Bytes {
    let mut buf = Vec::with_capacity(96 + entries.iter().map(|entry| encoded_len(entry) + 8).sum::<usize>());
    write_varint(session, SESSION, &mut buf);
    VoteWire::from(vote).write(VOTE, &mut buf);
    prev.map(LogIdWire::from).write(PREV, &mut buf);
    commit.map(LogIdWire::from).write(COMMIT, &mut buf);
    for entry in entries {
        encode_key(ENTRY, WireType::LengthDelimited, &mut buf);
        encode_varint(encoded_len(entry) as u64, &mut buf);
        encode_entry(entry, &mut buf);
    }
    buf.into()
}

/// Reads an append and the session it belongs to.
pub(crate) fn decode_append(mut bytes: Bytes) -> Result<(u64, Append), WireError> {
    let mut session = 0;
    let mut vote: Option<VoteWire> = None;
    let mut prev: Option<Option<LogIdWire>> = None;
    let mut commit: Option<Option<LogIdWire>> = None;
    let mut entries = Vec::new();
    while let Some((tag, wire_type)) = read_key(&mut bytes)? {
        match tag {
            SESSION => session = read_varint(wire_type, &mut bytes)?,
            VOTE => VoteWire::merge(&mut vote, wire_type, &mut bytes)?,
            PREV => Option::merge(&mut prev, wire_type, &mut bytes)?,
            COMMIT => Option::merge(&mut commit, wire_type, &mut bytes)?,
            ENTRY => entries.push(decode_entry(read_delimited(wire_type, &mut bytes)?)?),
            _ => skip(tag, wire_type, &mut bytes)?,
        }
    }
    let vote = vote.ok_or(WireError::Missing("append vote"))?.into();
    let prev_log_id = prev.flatten().map(Into::into);
    consecutive(prev_log_id, &entries)?;
    let leader_commit = commit.flatten().map(Into::into);
    Ok((session, AppendEntriesRequest { vote, prev_log_id, entries, leader_commit }))
}

fn consecutive(prev: Option<LogId>, entries: &[Entry]) -> Result<(), WireError> {
    let mut last = prev;
    for entry in entries {
        let next = last.map_or(Some(0), |id| id.index.checked_add(1));
        if next != Some(entry.log_id.index) || last.is_some_and(|id| id.leader_id > entry.log_id.leader_id) {
            return Err(WireError::Invalid("order of entries"));
        }
        last = Some(entry.log_id);
    }
    Ok(())
}

/// Writes an append as one or more parts whose entries take up to about `bytes_max` each, unless one entry is larger.
pub(crate) fn encode_parts(session: u64, request: &Append, bytes_max: usize) -> Vec<Bytes> {
    let mut parts = Vec::new();
    let mut prev = request.prev_log_id;
    let mut rest = request.entries.as_slice();
    loop {
        let mut bytes = 0;
        let fitting = rest.iter().take_while(|entry| {
            bytes += encoded_len(entry);
            bytes <= bytes_max
        });
        let (entries, after) = rest.split_at(fitting.count().max(1).min(rest.len()));
        let last = entries.last().map(|entry| entry.log_id).or(prev);
        let body = encode_append(session, &request.vote, prev, request.leader_commit, entries);
        parts.push(body);
        (prev, rest) = (last, after);
        if rest.is_empty() {
            return parts;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::log_id;
    use crate::entry::tests::entries;
    use crate::wire::tests::{log_ids, votes};
    use openraft::EntryPayload;
    use proptest::prelude::*;

    fn appends() -> impl Strategy<Value = Append> {
        let prev =
            proptest::option::of((0_u64..9, 0_u64..9, 0_u64..u64::MAX - 99).prop_map(|(t, n, i)| log_id(t, n, i)));
        (votes(), prev, proptest::option::of(log_ids()), proptest::collection::vec(entries(), 0..6)).prop_map(
            |(vote, prev_log_id, leader_commit, mut entries)| {
                let first = prev_log_id.map_or(0, |id| id.index + 1);
                for (entry, index) in entries.iter_mut().zip(first..) {
                    entry.log_id = log_id(9, 9, index);
                }
                AppendEntriesRequest { vote, prev_log_id, entries, leader_commit }
            },
        )
    }

    fn encoded(session: u64, append: &Append) -> Bytes {
        encode_append(session, &append.vote, append.prev_log_id, append.leader_commit, &append.entries)
    }

    fn same(a: &Append, b: &Append) -> bool {
        (a.vote, a.prev_log_id, a.leader_commit) == (b.vote, b.prev_log_id, b.leader_commit) && a.entries == b.entries
    }

    proptest! {
        #[test]
        fn an_append_survives_the_round_trip(session in any::<u64>(), append in appends()) {
            let (got_session, got) = decode_append(encoded(session, &append)).unwrap();
            prop_assert_eq!(got_session, session);
            prop_assert!(same(&got, &append));
        }

        #[test]
        fn the_parts_of_an_append_are_the_append(append in appends(), bytes_max in 0_usize..400) {
            let parts = encode_parts(7, &append, bytes_max);
            let mut prev = append.prev_log_id;
            let mut entries = Vec::new();
            for part in parts {
                let (_, got) = decode_append(part).unwrap();
                prop_assert_eq!(got.prev_log_id, prev);
                let bytes: usize = got.entries.iter().map(encoded_len).sum();
                prop_assert!(got.entries.len() <= 1 || bytes <= bytes_max);
                prev = got.entries.last().map(|entry| entry.log_id).or(prev);
                entries.extend(got.entries);
            }
            prop_assert_eq!(&entries, &append.entries);
            prop_assert_eq!(prev, append.entries.last().map(|entry| entry.log_id).or(append.prev_log_id));
        }

        #[test]
        fn votes_survive_the_round_trip(
            vote in votes(), last in proptest::option::of(log_ids()), flag in any::<bool>()
        ) {
            let mut request = VoteRequest::new(vote, last);
            request.leadership_transfer = flag;
            prop_assert_eq!(decode_vote_request(encode_vote_request(&request)).unwrap(), request);
            let response = VoteResponse::new(vote, last, flag);
            prop_assert_eq!(decode_vote_response(encode_vote_response(&response)).unwrap(), response);
            prop_assert_eq!(decode_vote(encode_vote(&vote)).unwrap(), vote);
        }

        #[test]
        fn append_results_survive_the_round_trip(
            matched in proptest::option::of(log_ids()), at in log_ids(), vote in votes()
        ) {
            for result in [Ok(matched), Err(StreamAppendError::Conflict(at)), Err(StreamAppendError::HigherVote(vote))] {
                prop_assert_eq!(decode_append_result(encode_append_result(&result)).unwrap(), result);
            }
        }

        #[test]
        fn transfers_survive_the_round_trip(
            vote in votes(), to in any::<u64>(), last in proptest::option::of(log_ids())
        ) {
            let request = TransferLeaderRequest::new(vote, to, last);
            prop_assert_eq!(decode_transfer(encode_transfer(&request)).unwrap(), request);
            for answer in [
                Ok(()),
                Err(TransferLeaderError::VoteChanged { expected: vote, actual: vote }),
                Err(TransferLeaderError::LogNotFlushed { expected: last, actual: last }),
            ] {
                prop_assert_eq!(decode_transfer_answer(encode_transfer_answer(&answer)).unwrap(), answer);
            }
        }

        #[test]
        fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let bytes = Bytes::from(bytes);
            let _ = decode_append(bytes.clone());
            let _ = decode_append_result(bytes.clone());
            let _ = decode_vote_request(bytes.clone());
            let _ = decode_vote_response(bytes.clone());
            let _ = SnapshotHeader::decode_from(bytes.clone());
            let _ = (decode_transfer(bytes.clone()), decode_transfer_answer(bytes));
        }

        #[test]
        fn a_damaged_append_never_panics(
            append in appends(), at in any::<proptest::sample::Index>(), byte in any::<u8>(), cut in any::<bool>()
        ) {
            let mut bytes = encoded(1, &append).to_vec();
            let at = at.index(bytes.len());
            bytes[at] = byte;
            if cut {
                bytes.truncate(at);
            }
            if let Ok((_, got)) = decode_append(bytes.into()) {
                prop_assert!(consecutive(got.prev_log_id, &got.entries).is_ok());
            }
        }
    }

    #[test]
    fn the_forms_of_a_transfer_are_pinned() {
        let (vote, at) = (Vote::new(2, 3), log_id(2, 3, 4));
        let from = [10, 4, 8, 2, 16, 3];
        let position = [10, 6, 8, 2, 16, 3, 24, 4];
        let request = TransferLeaderRequest::new(vote, 5, Some(at));
        assert_eq!(encode_transfer(&request)[..], [&from[..], &[16, 5, 26, 8], &position].concat());
        assert_eq!(encode_transfer_answer(&Ok(()))[..], [10, 0]);
        let changed = TransferLeaderError::VoteChanged { expected: vote, actual: vote };
        let expected = [&[18, 12][..], &from, &[18, 4, 8, 2, 16, 3]].concat();
        assert_eq!(encode_transfer_answer(&Err(changed))[..], expected);
        let behind = TransferLeaderError::LogNotFlushed { expected: Some(at), actual: None };
        assert_eq!(encode_transfer_answer(&Err(behind))[..], [&[26, 10, 10, 8][..], &position].concat());
    }

    #[test]
    fn entries_out_of_order_are_refused() {
        let blank = |index| Entry { log_id: log_id(1, 1, index), payload: EntryPayload::Blank };
        let vote = Vote::new_committed(1, 1);
        for (prev, entries) in [
            (None, vec![blank(1)]),
            (Some(log_id(1, 1, 4)), vec![blank(4)]),
            (Some(log_id(1, 1, 4)), vec![blank(5), blank(7)]),
            (Some(log_id(2, 1, 4)), vec![blank(5)]),
            (Some(log_id(1, 1, u64::MAX)), vec![blank(0)]),
        ] {
            assert!(decode_append(encode_append(1, &vote, prev, None, &entries)).is_err());
        }
    }
}
