//! One log, as its writer sees it.
//!
//! Owns: the chain and the numbers, when a segment ends, and which segments go.
//! Must not know: queues, what is recorded and what is not.
//! Invariants: numbers count up by one and times never go back along a log, over all its segments; what could not be
//! written is not counted as written: after a failure the log is taken up again from what its files hold.

use super::record::{Chain, Note, Place, Record, hex, write_note, write_record};
use super::segment::{self, Stream, Tail};
use messenger_proto::ids::Millis;
use std::fs::File;
use std::io::{self, Write};
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

/// Bytes of a segment at most, and a line.
const SEGMENT_MAX: u64 = 16 << 20;
/// And at least, however little room there is.
const SEGMENT_MIN: u64 = 64 << 10;
/// So many segments fill a log's room, about.
const SEGMENTS: u64 = 8;
/// A segment ends when it is so old, so that what is to go can.
const SEGMENT_AGE: Duration = Duration::from_hours(24);

/// How much of a log is kept.
#[derive(Debug, Clone, Copy)]
pub struct Retention {
    /// Bytes of all segments at most, and one segment's.
    pub bytes: u64,
    /// A segment goes when nothing in it is younger.
    pub age: Duration,
}

impl Retention {
    fn segment(&self) -> u64 {
        (self.bytes / SEGMENTS).clamp(SEGMENT_MIN, SEGMENT_MAX)
    }
}

/// Something to be written.
#[derive(Debug, Clone, Copy)]
pub enum Item<'a> {
    /// A write.
    Record(&'a Record),
    /// Something about the log itself, and when.
    Note(&'a Note, Millis),
}

impl Item<'_> {
    fn at(&self) -> Millis {
        match self {
            Self::Record(record) => record.at,
            Self::Note(_, at) => *at,
        }
    }
}

/// An open log.
#[derive(Debug)]
pub struct Log {
    dir: PathBuf,
    stream: Stream,
    node: u64,
    retention: Retention,
    file: File,
    segment: u64,
    /// Bytes of the segment, with what waits to be written.
    length: u64,
    made: SystemTime,
    buf: Vec<u8>,
    /// The last record's number, chain and time.
    last: u64,
    chain: Chain,
    at: Millis,
    dirty: bool,
}

impl Log {
    /// Takes a log up where it ended, in a segment of its own.
    ///
    /// # Errors
    /// When the directory can't be read or written.
    pub fn open(dir: PathBuf, stream: Stream, node: u64, retention: Retention, now: Millis) -> io::Result<Self> {
        segment::make_dir(&dir)?;
        let Tail { segment, last, chain, at, cut } = segment::recover(&dir, stream)?;
        let file = segment::make(&dir, stream, segment)?;
        let (made, buf) = (SystemTime::now(), Vec::new());
        let mut log =
            Self { dir, stream, node, retention, file, segment, length: 0, made, buf, last, chain, at, dirty: false };
        log.head(cut, now);
        log.flush()?;
        Ok(log)
    }

    /// The last record's number and chain.
    #[must_use]
    pub fn end(&self) -> (u64, Chain) {
        (self.last, self.chain)
    }

    fn head(&mut self, cut_bytes: u64, now: Millis) {
        let note = Note::Segment { segment: self.segment, prev: hex(&self.chain), cut_bytes };
        self.add(Item::Note(&note, now));
    }

    fn add(&mut self, item: Item<'_>) {
        self.last += 1;
        self.at = self.at.max(item.at());
        let (place, before) =
            (Place { n: self.last, at: self.at, node: self.node, log: self.stream.name() }, self.buf.len());
        self.chain = match item {
            Item::Record(record) => write_record(&mut self.buf, place, record, self.chain),
            Item::Note(note, _) => write_note(&mut self.buf, place, note, self.chain),
        };
        self.length += (self.buf.len() - before) as u64;
    }

    /// Appends; it is handed to the system by [`Log::flush`], at the latest.
    ///
    /// # Errors
    /// When it can't be written: then the log is of no more use.
    pub fn append(&mut self, item: Item<'_>) -> io::Result<()> {
        let age = self.made.elapsed().unwrap_or_default();
        if self.length >= self.retention.segment() || age >= SEGMENT_AGE {
            self.rotate(item.at())?;
        }
        self.add(item);
        Ok(())
    }

    /// Hands what was appended to the system.
    ///
    /// # Errors
    /// As [`Log::append`].
    pub fn flush(&mut self) -> io::Result<()> {
        if self.buf.is_empty() {
            return Ok(());
        }
        self.file.write_all(&self.buf)?;
        self.buf.clear();
        self.dirty = true;
        Ok(())
    }

    /// Has what was flushed brought to the disk.
    ///
    /// # Errors
    /// As [`Log::append`].
    pub fn sync(&mut self) -> io::Result<()> {
        if std::mem::take(&mut self.dirty) {
            self.file.sync_data()?;
        }
        Ok(())
    }

    fn rotate(&mut self, now: Millis) -> io::Result<()> {
        self.flush()?;
        self.sync()?;
        self.segment += 1;
        self.file = segment::make(&self.dir, self.stream, self.segment)?;
        (self.length, self.made) = (0, SystemTime::now());
        self.head(0, now);
        self.flush()?;
        self.retain()
    }

    /// Deletes the oldest segments beyond what is kept.
    ///
    /// # Errors
    /// When the directory can't be read, or one can't be deleted.
    pub fn retain(&mut self) -> io::Result<()> {
        let mut segments = Vec::new();
        for number in segment::list(&self.dir, self.stream)?.into_iter().filter(|number| *number < self.segment) {
            let path = segment::path(&self.dir, self.stream, number);
            let metadata = std::fs::metadata(&path)?;
            let age = metadata.modified()?.elapsed().unwrap_or_default();
            segments.push((path, metadata.len(), age));
        }
        let mut bytes = self.length + segments.iter().map(|(_, length, _)| length).sum::<u64>();
        for (path, length, age) in segments {
            if bytes <= self.retention.bytes && age < self.retention.age {
                break;
            }
            std::fs::remove_file(path)?;
            bytes -= length;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::record::tests::record;
    use super::super::verify::verify;
    use super::*;
    use proptest::prelude::*;
    use std::fs::OpenOptions;
    use std::path::Path;

    const NOW: Millis = Millis(1_780_162_931_000);
    const KEPT: Retention = Retention { bytes: 1 << 30, age: Duration::from_hours(24 * 30) };

    fn open(dir: &Path, retention: Retention) -> Log {
        Log::open(dir.to_owned(), Stream::Writes, 2, retention, NOW).unwrap()
    }

    fn write(log: &mut Log, count: usize) {
        for _ in 0..count {
            log.append(Item::Record(&record("alice"))).unwrap();
        }
        log.flush().unwrap();
    }

    fn tear(dir: &Path, segment: u64, bytes: u64) {
        let file = OpenOptions::new().write(true).open(segment::path(dir, Stream::Writes, segment)).unwrap();
        let length = file.metadata().unwrap().len();
        file.set_len(length.saturating_sub(bytes)).unwrap();
    }

    #[test]
    fn segments_follow_each_other_and_the_oldest_go() {
        let dir = tempfile::tempdir().unwrap();
        let small = Retention { bytes: 256 << 10, ..KEPT };
        let mut log = open(dir.path(), small);
        write(&mut log, 3_000);
        let numbers = segment::list(dir.path(), Stream::Writes).unwrap();
        let bytes: u64 = numbers
            .iter()
            .map(|number| std::fs::metadata(segment::path(dir.path(), Stream::Writes, *number)).unwrap().len())
            .sum();
        assert!(numbers[0] > 1 && bytes <= small.bytes + SEGMENT_MIN + 4096, "{numbers:?} {bytes}");
        let found = verify(dir.path()).unwrap();
        assert!(found.problems.is_empty(), "{:?}", found.problems);
    }

    #[test]
    fn what_is_too_old_goes_and_the_newest_segment_stays() {
        let dir = tempfile::tempdir().unwrap();
        write(&mut open(dir.path(), KEPT), 3);
        let mut log = open(dir.path(), Retention { age: Duration::ZERO, ..KEPT });
        log.retain().unwrap();
        assert_eq!(segment::list(dir.path(), Stream::Writes).unwrap(), [2]);
    }

    #[test]
    fn a_node_that_starts_again_goes_on_with_the_chain() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = open(dir.path(), KEPT);
        write(&mut log, 5);
        let before = log.end();
        drop(log);
        let log = open(dir.path(), KEPT);
        assert_eq!((before.0, log.end().0), (6, 7));
        let head = String::from_utf8(segment::first_line(dir.path(), Stream::Writes, 2).unwrap()).unwrap();
        assert!(head.contains(&format!(r#""prev":"{}""#, hex(&before.1))), "{head}");
        assert!(verify(dir.path()).unwrap().problems.is_empty());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn a_log_that_ended_anywhere_is_taken_up_again(cuts in prop::collection::vec((0_usize..6, 0_u64..2_500), 1..5)) {
            let dir = tempfile::tempdir().unwrap();
            let mut cut = 0;
            for (segment, (count, bytes)) in (1..).zip(cuts) {
                let mut log = open(dir.path(), KEPT);
                cut = log.end().0;
                write(&mut log, count);
                drop(log);
                tear(dir.path(), segment, bytes);
            }
            let log = open(dir.path(), KEPT);
            let found = verify(dir.path()).unwrap();
            prop_assert!(found.problems.is_empty(), "{:?}", found.problems);
            prop_assert!(log.end().0 + 1 >= cut, "no more went than was torn");
        }
    }
}
