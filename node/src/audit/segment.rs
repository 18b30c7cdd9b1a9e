//! The files of a log.
//!
//! Owns: their names, what there is in a directory, and how a log that ended somehow is taken up again.
//! Must not know: what records say.
//! Invariants: a segment is only ever added to by the process that made it; one that ends in the middle of a line, as after
//! a crash, is cut behind its last whole line before another begins, and the next one says so.

use super::record::{self, Chain};
use messenger_proto::ids::Millis;
use serde::Deserialize;
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// The two logs of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stream {
    /// What was carried out, or may have been.
    Writes,
    /// What was refused.
    Refused,
}

impl Stream {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Writes, Self::Refused];

    /// What its files' names begin with.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Writes => "writes",
            Self::Refused => "refused",
        }
    }
}

/// Where a segment lies.
#[must_use]
pub fn path(dir: &Path, stream: Stream, number: u64) -> PathBuf {
    dir.join(format!("{}-{number:010}.jsonl", stream.name()))
}

/// The numbers of a log's segments, in order.
///
/// # Errors
/// When the directory can't be read.
pub fn list(dir: &Path, stream: Stream) -> io::Result<Vec<u64>> {
    let mut numbers = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let name = entry?.file_name();
        let number = name.to_str().and_then(|name| {
            name.strip_prefix(stream.name())?.strip_prefix('-')?.strip_suffix(".jsonl")?.parse::<u64>().ok()
        });
        numbers.extend(number);
    }
    numbers.sort_unstable();
    Ok(numbers)
}

/// Makes the directory, for this user alone.
///
/// # Errors
/// When it can't be made.
pub fn make_dir(dir: &Path) -> io::Result<()> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    dir.parent().map_or(Ok(()), sync)
}

/// Brings the names in a directory to the disk.
fn sync(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// Makes a segment that is not there.
///
/// # Errors
/// When it is there, or can't be made.
pub fn make(dir: &Path, stream: Stream, number: u64) -> io::Result<File> {
    let file = OpenOptions::new().append(true).create_new(true).mode(0o600).open(path(dir, stream, number))?;
    sync(dir)?;
    Ok(file)
}

/// What every line says of its place.
#[derive(Debug, Clone, Deserialize)]
pub struct Head {
    /// Its number.
    pub n: u64,
    #[serde(rename = "at")]
    at_text: String,
}

impl Head {
    /// Reads it off a line.
    #[must_use]
    pub fn of(line: &[u8]) -> Option<Self> {
        serde_json::from_slice(line).ok()
    }

    /// Its time.
    #[must_use]
    pub fn at(&self) -> Millis {
        crate::api::time::parse(&self.at_text).unwrap_or_default()
    }
}

/// The first line of a segment, without its end.
///
/// # Errors
/// When it can't be read.
pub fn first_line(dir: &Path, stream: Stream, number: u64) -> io::Result<Vec<u8>> {
    let mut line = Vec::new();
    let file = io::Read::take(File::open(path(dir, stream, number))?, record::LINE_MAX as u64);
    BufReader::new(file).read_until(b'\n', &mut line)?;
    if line.last() == Some(&b'\n') {
        line.pop();
    }
    Ok(line)
}

/// Where a log goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tail {
    /// The number of the next segment.
    pub segment: u64,
    /// The number of the last record; 0 when there is none.
    pub last: u64,
    /// Its chain.
    pub chain: Chain,
    /// Its time.
    pub at: Millis,
    /// Bytes that were cut off.
    pub cut: u64,
}

/// Finds the end of a log, and cuts off what is no whole line.
///
/// # Errors
/// When the files can't be read or cut.
pub fn recover(dir: &Path, stream: Stream) -> io::Result<Tail> {
    let mut tail = Tail { segment: 1, last: 0, chain: Chain::default(), at: Millis(0), cut: 0 };
    let numbers = list(dir, stream)?;
    tail.segment = numbers.last().map_or(1, |last| last + 1);
    for number in numbers.into_iter().rev() {
        let path = path(dir, stream, number);
        let bytes = std::fs::read(&path)?;
        let mut whole = bytes.len();
        let found = loop {
            let Some(end) = bytes.get(..whole).and_then(|text| text.iter().rposition(|byte| *byte == b'\n')) else {
                break None;
            };
            let start = bytes[..end].iter().rposition(|byte| *byte == b'\n').map_or(0, |before| before + 1);
            let line = &bytes[start..end];
            if let (Some((_, chain)), Some(head)) = (record::split(line), Head::of(line)) {
                break Some((end + 1, head, chain));
            }
            whole = start;
        };
        let kept = found.as_ref().map_or(0, |(end, ..)| *end);
        if kept < bytes.len() {
            tail.cut += (bytes.len() - kept) as u64;
            let file = OpenOptions::new().write(true).open(&path)?;
            file.set_len(kept as u64)?;
            file.sync_all()?;
        }
        if let Some((_, head, chain)) = found {
            (tail.last, tail.at, tail.chain) = (head.n, head.at(), chain);
            return Ok(tail);
        }
    }
    Ok(tail)
}
