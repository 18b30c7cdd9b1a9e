//! The thread that writes the logs.
//!
//! Owns: what of the queues is recorded, what is said of the rest, and what is done when a disk fails or is short.
//! Must not know: how a line looks, where a segment ends.
//! Invariants: it is the only one that writes. Carried-out writes come before refused ones, and have room of their own, so
//! that whoever is refused pushes out nothing. With less disk free than the node keeps in reserve refused writes are only
//! counted, with less than half of that all are; a log that failed is tried again every [`RETRY`]. What is counted the log
//! says as soon as it can.

use super::log::{Item, Log, Retention};
use super::record::{Note, Record};
use super::refused::Sampler;
use super::segment::Stream;
use super::{AuditParts, Shared, directory};
use crate::metric_names as names;
use messenger_proto::ids::Millis;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// How long it waits for more while there is something to do: so nobody has to wake it for each record.
pub const GATHER: Duration = Duration::from_millis(2);
/// Between two syncs of a log that grew.
pub const SYNC_EVERY: Duration = Duration::from_secs(1);
/// Between two tries to write to a log that failed.
const RETRY: Duration = Duration::from_secs(1);
/// Between two looks at which segments are too old.
const RETAIN_EVERY: Duration = Duration::from_mins(10);
/// Records taken off a queue at a time.
const BATCH: usize = 4 * 1024;

/// What comes in.
pub(super) struct Queues {
    pub(super) writes: Receiver<Box<Record>>,
    pub(super) refused: Receiver<Box<Record>>,
}

/// How much of the disk there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Room {
    Enough,
    Short,
    None,
}

impl Room {
    fn of(free: Option<u64>, reserve: u64) -> Self {
        match free {
            Some(free) if free < reserve / 2 => Self::None,
            Some(free) if free < reserve => Self::Short,
            // Where it is not known it can't be acted on.
            _ => Self::Enough,
        }
    }
}

/// One of the two logs.
struct Book {
    stream: Stream,
    retention: Retention,
    log: Option<Log>,
    retry_at: Instant,
    /// Records that could not be written, and of which the log does not tell yet.
    untold: u64,
}

pub(super) struct Writer {
    shared: Arc<Shared>,
    queues: Queues,
    parts: AuditParts,
    books: Option<[Book; 2]>,
    sampler: Sampler,
    room: Room,
    synced_at: Instant,
    retained_at: Instant,
}

fn now() -> Millis {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Millis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

impl Writer {
    pub(super) fn open(shared: Arc<Shared>, queues: Queues, parts: AuditParts, now: Millis) -> io::Result<Self> {
        let open = |stream| {
            let share = match stream {
                Stream::Writes => parts.config.max_bytes / 4 * 3,
                Stream::Refused => parts.config.max_bytes / 4,
            };
            let days = u64::from(parts.config.keep_days);
            let retention = Retention { bytes: share, age: Duration::from_hours(24 * days) };
            let mut log = Log::open(directory(&parts.data), stream, parts.node, retention, now)?;
            log.retain()?;
            io::Result::Ok(Book { stream, retention, log: Some(log), retry_at: Instant::now(), untold: 0 })
        };
        let books = if parts.config.enabled {
            let [writes, refused] = Stream::ALL;
            Some([open(writes)?, open(refused)?])
        } else {
            None
        };
        let (at, sampler) = (Instant::now(), Sampler::default());
        let mut writer =
            Self { shared, queues, parts, books, sampler, room: Room::Enough, synced_at: at, retained_at: at };
        writer.look();
        writer.tell_ends();
        Ok(writer)
    }

    /// Writes until it is told to end.
    pub(super) fn run(mut self) {
        loop {
            let closing = self.shared.closing.load(Ordering::SeqCst);
            if self.round() {
                if !closing {
                    std::thread::sleep(GATHER);
                }
                continue;
            }
            if closing {
                break;
            }
            self.chores();
            self.shared.asleep.store(true, Ordering::Relaxed);
            fence(Ordering::SeqCst);
            if !self.round() && !self.shared.closing.load(Ordering::SeqCst) {
                std::thread::park_timeout(SYNC_EVERY);
            }
            self.shared.asleep.store(false, Ordering::Relaxed);
        }
        self.sync();
    }

    /// Takes what waits; whether there was anything.
    fn round(&mut self) -> bool {
        let writes: Vec<_> = self.queues.writes.try_iter().take(BATCH).collect();
        let refused: Vec<_> = self.queues.refused.try_iter().take(BATCH / 4).collect();
        let lost = self.shared.lost.swap(0, Ordering::Relaxed);
        let beyond = self.shared.beyond.swap(0, Ordering::Relaxed);
        let now = now();
        let summaries = self.sampler.turn(now.0 / 1_000);
        self.sampler.beyond(beyond);
        {
            let mut senders = self.shared.senders();
            writes.iter().chain(&refused).for_each(|record| senders.note(record));
        }
        let some = !writes.is_empty() || !refused.is_empty();
        if self.synced_at.elapsed() >= SYNC_EVERY {
            self.chores();
        }
        let (room, sampler) = (self.room, &mut self.sampler);
        let Some([carried_out, turned_away]) = &mut self.books else { return some };
        carried_out.untold += lost;
        carried_out.write(&self.parts, room < Room::None, now, writes.iter().map(|record| Item::Record(record)));
        if room != Room::Enough {
            sampler.beyond(refused.len() as u64);
        }
        let mut chosen = Vec::new();
        for record in refused.iter().filter(|_| room == Room::Enough) {
            if sampler.admit(record.address) {
                chosen.push(Item::Record(record));
            }
        }
        let told = summaries.iter().map(|note| Item::Note(note, now));
        turned_away.write(&self.parts, room < Room::None, now, told.chain(chosen));
        self.tell_ends();
        some
    }

    fn tell_ends(&self) {
        let Some(books) = &self.books else { return };
        let mut ends = self.shared.ends();
        for (end, book) in ends.iter_mut().zip(books) {
            if let Some(log) = &book.log {
                *end = log.end();
            }
        }
    }

    /// What is done from time to time.
    fn chores(&mut self) {
        if self.synced_at.elapsed() < SYNC_EVERY {
            return;
        }
        self.synced_at = Instant::now();
        self.look();
        self.sync();
        if self.retained_at.elapsed() >= RETAIN_EVERY {
            self.retained_at = Instant::now();
            self.for_each_log(Log::retain);
        }
    }

    fn sync(&mut self) {
        self.for_each_log(Log::sync);
    }

    fn for_each_log(&mut self, act: fn(&mut Log) -> io::Result<()>) {
        for book in self.books.iter_mut().flatten() {
            if let Some(log) = &mut book.log
                && let Err(error) = act(log)
            {
                book.fail(&error, 0);
            }
        }
    }

    fn look(&mut self) {
        if self.books.is_none() {
            return;
        }
        let stat = nix::sys::statvfs::statvfs(&self.parts.data).ok();
        let free = stat.map(|stat| stat.blocks_available() * stat.fragment_size());
        let room = Room::of(free, self.parts.disk_reserve_bytes);
        if room != self.room {
            tracing::warn!(?room, "the disk has another amount of room for the audit log");
        }
        self.room = room;
    }
}

impl Book {
    /// Writes what there is, and before it what could not be written so far; or counts it.
    fn write<'a>(&mut self, parts: &AuditParts, may: bool, now: Millis, items: impl Iterator<Item = Item<'a>>) {
        let mut items = items.peekable();
        if items.peek().is_none() && self.untold == 0 {
            return;
        }
        if !may || !self.is_open(parts, now) {
            self.untold += items.count() as u64;
            return;
        }
        let Some(log) = &mut self.log else { return };
        let (note, mut count) = (Note::Lost { count: self.untold }, 0);
        let mut written = if self.untold > 0 { log.append(Item::Note(&note, now)) } else { Ok(()) };
        while written.is_ok()
            && let Some(item) = items.next()
        {
            count += 1;
            written = log.append(item);
        }
        match written.and_then(|()| log.flush()) {
            Ok(()) => self.untold = 0,
            Err(error) => self.fail(&error, count + items.count() as u64),
        }
    }

    /// Whether the log can be written to, having tried if it is time.
    fn is_open(&mut self, parts: &AuditParts, now: Millis) -> bool {
        if self.log.is_some() {
            return true;
        }
        if Instant::now() < self.retry_at {
            return false;
        }
        match Log::open(directory(&parts.data), self.stream, parts.node, self.retention, now) {
            Ok(log) => {
                tracing::info!(log = self.stream.name(), "the audit log is written again");
                self.log = Some(log);
            }
            Err(error) => self.fail(&error, 0),
        }
        self.log.is_some()
    }

    /// Some of `count` may have been written, and count as lost all the same.
    fn fail(&mut self, error: &io::Error, count: u64) {
        if self.log.take().is_some() {
            tracing::error!(%error, log = self.stream.name(), "the audit log can't be written; writes go on, and are counted");
        }
        self.untold += count;
        self.retry_at = Instant::now() + RETRY;
        metrics::counter!(names::AUDIT_LOST).increment(count);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_disk_takes_first_no_refused_writes_and_then_none() {
        assert_eq!(Room::of(None, 100), Room::Enough);
        assert_eq!(Room::of(Some(100), 100), Room::Enough);
        assert_eq!(Room::of(Some(99), 100), Room::Short);
        assert_eq!(Room::of(Some(50), 100), Room::Short);
        assert_eq!(Room::of(Some(49), 100), Room::None);
        assert_eq!(Room::of(Some(0), 0), Room::Enough, "nothing is kept free");
    }

    #[test]
    fn a_log_that_can_not_be_written_is_tried_again_and_tells_what_is_missing() {
        use super::super::{record::tests::record, segment, verify::verify};
        let data = tempfile::tempdir().unwrap();
        let parts = AuditParts {
            config: crate::config::AuditConfig::default(),
            data: data.path().to_owned(),
            node: 1,
            disk_reserve_bytes: 0,
        };
        let (dir, retention) = (directory(&parts.data), Retention { bytes: 512 << 10, age: Duration::from_hours(24) });
        let log = Log::open(dir.clone(), Stream::Writes, 1, retention, Millis(5)).unwrap();
        let mut book = Book { stream: Stream::Writes, retention, log: Some(log), retry_at: Instant::now(), untold: 0 };
        let records: Vec<_> = (0..500).map(|_| record("alice")).collect();
        let write = |book: &mut Book, may| book.write(&parts, may, Millis(5), records.iter().map(Item::Record));
        // The next segment can't be made, and the one in use is full at some 64 KiB.
        let in_the_way = segment::path(&dir, Stream::Writes, 2);
        std::fs::create_dir(&in_the_way).unwrap();
        write(&mut book, true);
        assert!(book.log.is_none() && book.untold == 500, "{}", book.untold);
        write(&mut book, true);
        assert_eq!(book.untold, 1_000, "it is not tried again at once");
        std::fs::remove_dir(&in_the_way).unwrap();
        book.retry_at = Instant::now();
        write(&mut book, false);
        assert_eq!(book.untold, 1_500, "and not without room");
        write(&mut book, true);
        assert_eq!(book.untold, 0);
        let found = verify(&dir).unwrap();
        assert!(found.problems.is_empty(), "{:?}", found.problems);
        let numbers = segment::list(&dir, Stream::Writes).unwrap();
        let read = |number| std::fs::read_to_string(segment::path(&dir, Stream::Writes, number)).unwrap();
        let all: String = numbers.into_iter().map(read).collect();
        assert!(all.contains(r#""kind":"lost","count":1500"#), "it says how many, as far as it is sure");
    }
}
