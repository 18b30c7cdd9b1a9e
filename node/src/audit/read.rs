//! Reading the logs.
//!
//! Owns: which records of a node's logs a question is answered with, and how the answers of several logs become one page.
//! Must not know: who asks, how nodes are reached.
//! Invariants: a question looks at no more than [`SCAN_MAX`] bytes of a log, and says how far it got. A page is in order of
//! time as far as it goes, and what it leaves out is on a later one: a place in each log stands for what was seen of it, so
//! that nothing is left out or shown twice, however late it is written.

use super::record::{Chain, hex};
use super::segment::{self, Head, Stream};
use messenger_proto::audit::{AuditLine, AuditPart, AuditQuery};
use messenger_proto::ids::{DeviceId, Millis, NodeId, UserId};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, ErrorKind};
use std::path::Path;

/// Bytes of a log that one question looks at, at most, and one line.
const SCAN_MAX: u64 = 8 << 20;
/// Records that one question is answered with, of each log.
pub const LIMIT_MAX: u32 = 200;

/// What is looked at of a record.
#[derive(Deserialize)]
struct Seen<'a> {
    #[serde(borrow)]
    user: Option<&'a str>,
    #[serde(borrow)]
    target_user: Option<&'a str>,
    #[serde(borrow)]
    device: Option<&'a str>,
    #[serde(borrow)]
    target_device: Option<&'a str>,
    #[serde(borrow)]
    thread_id: Option<&'a str>,
    #[serde(borrow)]
    message_id: Option<&'a str>,
    #[serde(borrow)]
    address: Option<&'a str>,
    #[serde(borrow)]
    trace_id: Option<&'a str>,
    status: Option<u32>,
}

fn fits(query: &AuditQuery, line: &[u8]) -> bool {
    let AuditQuery { user, device, thread, message, address, status, trace, .. } = query;
    let unasked = user.is_none() && device.is_none() && thread.is_none() && message.is_none();
    if unasked && address.is_none() && status.is_none() && trace.is_none() {
        return true;
    }
    let Ok(seen) = serde_json::from_slice::<Seen>(line) else { return false };
    let either = |asked: Option<&str>, one: Option<&str>, other: Option<&str>| {
        asked.is_none_or(|asked| one == Some(asked) || other == Some(asked))
    };
    let same = |asked: Option<&str>, one: Option<&str>| either(asked, one, None);
    either(user.as_ref().map(UserId::as_str), seen.user, seen.target_user)
        && either(device.as_ref().map(DeviceId::as_str), seen.device, seen.target_device)
        && same(thread.map(|it| it.to_string()).as_deref(), seen.thread_id)
        && same(message.map(|it| it.to_string()).as_deref(), seen.message_id)
        && same(address.as_deref(), seen.address)
        && same(trace.as_deref(), seen.trace_id)
        && status.is_none_or(|status| seen.status == Some(status))
}

/// Answers from one log.
///
/// # Errors
/// When its files can't be read.
pub fn part(dir: &Path, stream: Stream, query: &AuditQuery) -> io::Result<AuditPart> {
    let after = match stream {
        Stream::Writes => query.writes_after,
        Stream::Refused => query.refused_after,
    };
    let refused = stream == Stream::Refused;
    let part = AuditPart { refused, lines: Vec::new(), to: after, reached: None, head: 0, chain: String::new() };
    let mut scan = Scan { query, part, after, bytes: 0, limit: query.limit.clamp(1, LIMIT_MAX) as usize };
    for number in beginning(dir, stream, after, query.since)? {
        let file = match File::open(segment::path(dir, stream, number)) {
            // It went meanwhile.
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            file => file?,
        };
        if scan.segment(&mut BufReader::with_capacity(64 * 1024, file))? == Flow::Enough {
            break;
        }
    }
    Ok(scan.part)
}

/// The part with the end of its log.
pub(super) fn with_head(part: AuditPart, head: u64, chain: Chain) -> AuditPart {
    AuditPart { head, chain: hex(&chain), ..part }
}

/// The segments from the one on that holds what comes after a record and a time.
fn beginning(dir: &Path, stream: Stream, after: u64, since: Millis) -> io::Result<Vec<u64>> {
    let mut numbers = match segment::list(dir, stream) {
        Err(error) if error.kind() == ErrorKind::NotFound => Vec::new(),
        numbers => numbers?,
    };
    let comes_later = |number: &u64| {
        let line = segment::first_line(dir, stream, *number).unwrap_or_default();
        Head::of(&line).is_some_and(|head| head.n > after.saturating_add(1) && head.at() >= since)
    };
    // Segments are in order, but for those without a line, which come in as if they began early.
    let first = numbers.partition_point(|number| !comes_later(number)).saturating_sub(1);
    Ok(numbers.split_off(first.min(numbers.len())))
}

#[derive(PartialEq, Eq)]
enum Flow {
    More,
    Enough,
}

struct Scan<'a> {
    query: &'a AuditQuery,
    part: AuditPart,
    after: u64,
    bytes: u64,
    limit: usize,
}

impl Scan<'_> {
    fn segment(&mut self, reader: &mut impl BufRead) -> io::Result<Flow> {
        let mut line = Vec::new();
        loop {
            line.clear();
            reader.read_until(b'\n', &mut line)?;
            // The last one may be on its way.
            if line.pop() != Some(b'\n') {
                return Ok(Flow::More);
            }
            if self.line(&line) == Flow::Enough {
                return Ok(Flow::Enough);
            }
        }
    }

    fn line(&mut self, line: &[u8]) -> Flow {
        let Some(head) = Head::of(line) else { return Flow::More };
        if head.n <= self.after {
            return Flow::More;
        }
        self.bytes += line.len() as u64;
        let at = head.at();
        if at >= self.query.until {
            return Flow::Enough;
        }
        // There is more, and this is the first of it.
        if self.part.lines.len() >= self.limit || self.bytes > SCAN_MAX {
            self.part.reached = Some(self.part.reached.unwrap_or(at).min(at));
            return Flow::Enough;
        }
        self.part.to = head.n;
        if at >= self.query.since
            && fits(self.query, line)
            && let Ok(json) = std::str::from_utf8(line)
        {
            self.part.lines.push(AuditLine { n: head.n, at, json: json.to_owned() });
        }
        Flow::More
    }
}

/// How far each node's logs were seen: carried out, refused.
pub type Position = BTreeMap<NodeId, [u64; 2]>;

/// Makes one page of the answers of several logs, of at most `limit` records in order of time: the records with their
/// nodes, how far all logs are seen with them, and whether there is more.
#[must_use]
pub fn merge(
    parts: Vec<(NodeId, AuditPart)>,
    mut seen: Position,
    limit: usize,
) -> (Vec<(NodeId, bool, AuditLine)>, Position, bool) {
    let horizon = parts.iter().filter_map(|(_, part)| part.reached).min();
    let mut more = horizon.is_some();
    let mut all = Vec::new();
    for (node, part) in parts {
        let place = &mut seen.entry(node).or_default()[usize::from(part.refused)];
        *place = part.to.max(*place);
        all.extend(part.lines.into_iter().map(|line| (line.at, node, part.refused, line)));
    }
    all.sort_by_key(|(at, node, refused, line)| (*at, *node, *refused, line.n));
    let within = all.iter().take_while(|(at, ..)| horizon.is_none_or(|horizon| *at <= horizon)).count().min(limit);
    // Whatever is left is seen later, and all behind it in its log.
    for (_, node, refused, line) in all.split_off(within) {
        more = true;
        let place = &mut seen.entry(node).or_default()[usize::from(refused)];
        *place = (*place).min(line.n.saturating_sub(1));
    }
    (all.into_iter().map(|(_, node, refused, line)| (node, refused, line)).collect(), seen, more)
}
