//! Whether a log is as it was written.
//!
//! Owns: going over a directory's segments, and what is said of them.
//! Must not know: who asks, nodes that run.
//! Invariants: reads and changes nothing. A line that was changed, taken out, put in or moved shows, and so does a segment
//! that is missing between two others. That the end is missing shows only against an end that was noted elsewhere; that
//! the oldest segments are missing is as it must be.

use super::record::{self, Chain, hex};
use super::segment::{self, Head, Stream};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::Path;

/// Problems that are told at most.
const PROBLEMS_MAX: usize = 20;

/// What was found of a log.
#[derive(Debug, Clone, Serialize)]
pub struct Checked {
    /// `writes` or `refused`.
    pub log: &'static str,
    /// How many segments there are.
    pub segments: usize,
    /// The first record that is there, and the last.
    pub first: u64,
    /// The last record.
    pub last: u64,
    /// Its chain.
    pub chain: String,
}

/// What was found of a directory.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Found {
    /// Each log.
    pub logs: Vec<Checked>,
    /// What is wrong, the first of it.
    pub problems: Vec<String>,
    /// What need not be wrong: a line that is being written.
    pub remarks: Vec<String>,
    /// The ends that were looked for and found.
    #[serde(skip)]
    pub ends_seen: Vec<(Stream, u64, Chain)>,
}

impl Found {
    fn problem(&mut self, what: String) {
        if self.problems.len() < PROBLEMS_MAX {
            self.problems.push(what);
        }
    }
}

/// Goes over both logs of a directory.
///
/// # Errors
/// When it can't be read.
pub fn verify(dir: &Path) -> io::Result<Found> {
    verify_with(dir, &[])
}

/// The same, and looks for ends that were noted elsewhere: the record of that number had that chain.
///
/// # Errors
/// As [`verify`].
pub fn verify_with(dir: &Path, ends: &[(Stream, u64, Chain)]) -> io::Result<Found> {
    let mut found = Found::default();
    for stream in Stream::ALL {
        let numbers = segment::list(dir, stream)?;
        if numbers.is_empty() {
            continue;
        }
        let mut walk = Walk { stream, at: None, first: 0, found: &mut found, ends };
        for (index, number) in numbers.iter().enumerate() {
            let before = index.checked_sub(1).and_then(|before| numbers.get(before));
            if before.is_some_and(|before| before + 1 != *number) {
                walk.problem(*number, "the segment before it is missing");
                walk.at = None;
            }
            walk.segment(dir, *number, index + 1 == numbers.len())?;
        }
        let (first, (last, chain)) = (walk.first, walk.at.unwrap_or_default());
        let checked = Checked { log: stream.name(), segments: numbers.len(), first, last, chain: hex(&chain) };
        found.logs.push(checked);
    }
    for (stream, n, _) in ends.iter().filter(|end| !found.ends_seen.contains(end)).copied().collect::<Vec<_>>() {
        found
            .problem(format!("{}: record {n} does not have the chain that was noted of it, or is gone", stream.name()));
    }
    Ok(found)
}

#[derive(Deserialize)]
struct SegmentHead {
    kind: String,
    #[serde(default)]
    segment: u64,
    #[serde(default)]
    prev: String,
}

struct Walk<'a> {
    stream: Stream,
    /// The record before, if it is known: its number and chain.
    at: Option<(u64, Chain)>,
    first: u64,
    found: &'a mut Found,
    ends: &'a [(Stream, u64, Chain)],
}

impl Walk<'_> {
    fn problem(&mut self, segment: u64, what: &str) {
        self.found.problem(format!("{}-{segment:010}: {what}", self.stream.name()));
    }

    fn segment(&mut self, dir: &Path, number: u64, is_last: bool) -> io::Result<()> {
        let mut reader = BufReader::new(File::open(segment::path(dir, self.stream, number))?);
        let (mut line, mut lines) = (Vec::new(), 0_u64);
        loop {
            line.clear();
            // A line that never ends is none.
            let read = io::Read::take(&mut reader, record::LINE_MAX as u64).read_until(b'\n', &mut line)?;
            if read == 0 {
                return Ok(());
            }
            lines += 1;
            if line.pop() != Some(b'\n') {
                let what = format!("line {lines} is not whole");
                if is_last && read < record::LINE_MAX {
                    self.found.remarks.push(format!("{}-{number:010}: {what}", self.stream.name()));
                } else {
                    self.problem(number, &what);
                }
                return Ok(());
            }
            self.line(number, lines, &line);
        }
    }

    fn line(&mut self, segment: u64, line_number: u64, line: &[u8]) {
        if line_number == 1 {
            self.head(segment, line);
        }
        let (Some((_, claimed)), Some(head)) = (record::split(line), Head::of(line)) else {
            self.problem(segment, &format!("line {line_number} is no record"));
            return;
        };
        let before = self.at.unwrap_or((head.n.saturating_sub(1), Chain::default()));
        if record::follows(before.1, line).is_none() {
            self.problem(segment, &format!("line {line_number}, record {}: its chain does not follow", head.n));
        }
        if head.n != before.0 + 1 {
            self.problem(segment, &format!("line {line_number}: record {} comes after {}", head.n, before.0));
        }
        if self.first == 0 {
            self.first = head.n;
        }
        let end = (self.stream, head.n, claimed);
        if self.ends.contains(&end) {
            self.found.ends_seen.push(end);
        }
        // What follows is judged by itself.
        self.at = Some((head.n, claimed));
    }

    fn head(&mut self, segment: u64, line: &[u8]) {
        let head = serde_json::from_slice::<SegmentHead>(line).ok().filter(|head| head.kind == "segment");
        let Some((head, prev)) = head.and_then(|head| record::parse_chain(&head.prev).map(|prev| (head, prev))) else {
            self.problem(segment, "it does not begin as a segment does");
            return;
        };
        if head.segment != segment {
            self.problem(segment, &format!("it was written as segment {}", head.segment));
        }
        match self.at {
            Some((_, chain)) if chain != prev => {
                self.problem(segment, "it does not go on from the end of the segment before it");
            }
            Some(_) => {}
            // The oldest that is there is taken at its word.
            None => self.at = Head::of(line).map(|head| (head.n.saturating_sub(1), prev)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::log::{Item, Log, Retention};
    use super::super::record::tests::record;
    use super::*;
    use messenger_proto::ids::Millis;
    use std::time::Duration;

    /// Three segments of six lines.
    fn logged(dir: &Path) {
        for _ in 0..3 {
            let retention = Retention { bytes: 1 << 30, age: Duration::from_hours(24) };
            let mut log = Log::open(dir.to_owned(), Stream::Writes, 1, retention, Millis(1_780_162_931_000)).unwrap();
            for user in ["ann", "bob", "cat", "dan", "eve"] {
                log.append(Item::Record(&record(user))).unwrap();
            }
            log.flush().unwrap();
        }
    }

    /// Changes a segment's lines.
    fn change(dir: &Path, segment: u64, change: impl FnOnce(&mut Vec<String>)) {
        let path = segment::path(dir, Stream::Writes, segment);
        let text = std::fs::read_to_string(&path).unwrap();
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        change(&mut lines);
        std::fs::write(path, lines.join("\n") + "\n").unwrap();
    }

    fn problems_after(doctor: impl FnOnce(&Path)) -> Vec<String> {
        let dir = tempfile::tempdir().unwrap();
        logged(dir.path());
        doctor(dir.path());
        verify(dir.path()).unwrap().problems
    }

    #[test]
    fn what_was_done_to_a_log_shows() {
        type Doctor = fn(&mut Vec<String>);
        assert_eq!(problems_after(|_| {}), Vec::<String>::new());
        let doctors: [(&str, Doctor); 6] = [
            ("changed", |lines| lines[2] = lines[2].replace("bob", "eve")),
            ("taken out", |lines| drop(lines.remove(3))),
            ("put in", |lines| lines.insert(3, lines[3].clone())),
            ("moved", |lines| lines.swap(2, 3)),
            ("cut", |lines| lines.truncate(4)),
            ("without its head", |lines| drop(lines.remove(0))),
        ];
        for (what, doctor) in doctors {
            assert!(!problems_after(|dir| change(dir, 2, doctor)).is_empty(), "{what}");
        }
        let gone = problems_after(|dir| std::fs::remove_file(segment::path(dir, Stream::Writes, 2)).unwrap());
        assert!(gone[0].contains("is missing"), "{gone:?}");
    }

    #[test]
    fn that_the_oldest_segment_is_gone_is_as_it_must_be() {
        let problems = problems_after(|dir| std::fs::remove_file(segment::path(dir, Stream::Writes, 1)).unwrap());
        assert_eq!(problems, Vec::<String>::new());
    }

    #[test]
    fn that_the_end_is_gone_shows_against_an_end_that_was_noted() {
        let dir = tempfile::tempdir().unwrap();
        logged(dir.path());
        let end = verify(dir.path()).unwrap().logs.remove(0);
        let noted = [(Stream::Writes, end.last, record::parse_chain(&end.chain).unwrap())];
        assert!(verify_with(dir.path(), &noted).unwrap().problems.is_empty());
        change(dir.path(), 3, |lines| lines.truncate(3));
        assert!(verify(dir.path()).unwrap().problems.is_empty());
        assert_eq!(verify_with(dir.path(), &noted).unwrap().problems.len(), 1);
    }

    #[test]
    fn a_line_that_is_being_written_is_no_problem() {
        let dir = tempfile::tempdir().unwrap();
        logged(dir.path());
        let path = segment::path(dir.path(), Stream::Writes, 3);
        let text = std::fs::read(&path).unwrap();
        std::fs::write(&path, &text[..text.len() - 9]).unwrap();
        let found = verify(dir.path()).unwrap();
        assert_eq!((found.problems.len(), found.remarks.len()), (0, 1));
        let lost = problems_after(|dir| {
            let path = segment::path(dir, Stream::Writes, 2);
            let text = std::fs::read(&path).unwrap();
            std::fs::write(&path, &text[..text.len() - 9]).unwrap();
        });
        assert!(!lost.is_empty(), "but in the middle it is");
    }
}
