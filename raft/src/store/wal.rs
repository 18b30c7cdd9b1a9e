//! A look at the write-ahead log before the database reads it.
//!
//! The database's log reader takes a header of zeroes for padding, drops the rest of its block and goes on with the next;
//! and a record type that it does not expect can keep it busy for ever. Either would leave a hole, and only a prefix of
//! the log is a valid state. At a wrong checksum it ends, and drops the rest for good. So the log is made to end where the
//! first such place is, and the rest is kept; whether that end is one that a power loss may leave, or damage, is for
//! [`super::mark`] to say.
//!
//! Owns: finding the place, and taking away what is behind it.
//! Must not know: what records hold.
//! Invariants: a log without such a place is left alone; what is taken away is kept aside, until the next time.
//!
//! The format: blocks of 32 KiB; in each, records of checksum `LE32`, length `LE16`, type and payload, none across a
//! block's end, and up to six bytes of padding (RocksDB, "Write Ahead Log File Format"). The checksum is the CRC32C of
//! type and payload, masked.

use super::error::OpenError;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

/// Where what was taken away is kept, beside the database.
const ASIDE: &str = "damaged";

const BLOCK: usize = 32 * 1024;
const HEADER: usize = 7;
/// Full, first, middle, last: this store makes no others.
const TYPES: std::ops::RangeInclusive<u8> = 1..=4;

/// Ends the log at the first place that its reader would stumble over.
pub(crate) fn settle(root: &Path, db: &Path) -> Result<(), OpenError> {
    settle_logs(root, db).map_err(|error| OpenError::Io { path: db.to_owned(), reason: error.to_string() })?;
    match manifest_is_odd(db) {
        Ok(false) => Ok(()),
        Ok(true) => {
            let reason = "the database's manifest is damaged".into();
            Err(OpenError::Corrupt { path: root.to_owned(), reason })
        }
        Err(error) => Err(OpenError::Io { path: db.to_owned(), reason: error.to_string() }),
    }
}

fn settle_logs(root: &Path, db: &Path) -> io::Result<()> {
    let logs = logs(db)?;
    for (number, log) in logs.iter().enumerate() {
        let Some(Odd { at, .. }) = first_odd(&mut File::open(log)?)? else { continue };
        // Found again should the process die before the cut.
        let name = log.file_stem().unwrap_or_default().to_string_lossy();
        let aside = root.join(ASIDE).join(format!("{name}-{at}"));
        fs::create_dir_all(&aside)?;
        tracing::warn!(log = %log.display(), at, aside = %aside.display(), "the write-ahead log is cut where it is damaged");
        keep_end(log, at, &aside)?;
        // The later ones first: should the process die in between, the gap is found again.
        for later in logs[number + 1..].iter().rev() {
            fs::rename(later, aside.join(later.file_name().unwrap_or_default()))?;
        }
        // What is cut off is safe by then.
        File::open(&aside)?.sync_all()?;
        let file = File::options().write(true).open(log)?;
        file.set_len(at)?;
        file.sync_all()?;
        File::open(db)?.sync_all()?;
        return forget_earlier(root, &aside);
    }
    Ok(())
}

/// Deletes what was kept of earlier times.
fn forget_earlier(root: &Path, latest: &Path) -> io::Result<()> {
    for entry in fs::read_dir(root.join(ASIDE))? {
        let path = entry?.path();
        if path != latest {
            fs::remove_dir_all(path)?;
        }
    }
    Ok(())
}

/// Keeps what is in a file from `at` on.
fn keep_end(log: &Path, at: u64, aside: &Path) -> io::Result<()> {
    let mut from = File::open(log)?;
    from.seek(SeekFrom::Start(at))?;
    let mut to = File::create(aside.join(log.file_name().unwrap_or_default()))?;
    io::copy(&mut from, &mut to)?;
    to.sync_all()
}

/// The files of the log, oldest first; none when there is no database yet.
fn logs(db: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(db) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut logs = Vec::new();
    for entry in entries {
        let path = entry?.path();
        let number = path.file_stem().and_then(|stem| stem.to_str()?.parse::<u64>().ok());
        if let (Some(number), Some("log")) = (number, path.extension().and_then(|extension| extension.to_str())) {
            logs.push((number, path));
        }
    }
    logs.sort();
    Ok(logs.into_iter().map(|(_, path)| path).collect())
}

/// Whether the manifest in force, which has the same format, holds a record type that it can't.
fn manifest_is_odd(db: &Path) -> io::Result<bool> {
    let Ok(current) = fs::read_to_string(db.join("CURRENT")) else { return Ok(false) };
    match File::open(db.join(current.trim())) {
        // A torn end is the database's matter.
        Ok(mut file) => Ok(first_odd(&mut file)?.is_some_and(|odd| odd.what == What::UnknownType)),
        Err(_) => Ok(false),
    }
}

/// A place where there is no record, though the file goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Odd {
    at: u64,
    what: What,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    Zeroes,
    UnknownType,
    WrongChecksum,
}

/// What a record is stored with: a log may hold other logs, whose checksums would else collide (RocksDB, `crc32c::Mask`).
fn masked(checksum: u32) -> u32 {
    checksum.rotate_right(15).wrapping_add(0xa282_ead8)
}

/// The first place where there should be a record and is none.
fn first_odd(log: &mut impl Read) -> io::Result<Option<Odd>> {
    let mut block = Vec::with_capacity(BLOCK);
    let mut start = 0;
    loop {
        block.clear();
        log.by_ref().take(BLOCK as u64).read_to_end(&mut block)?;
        let mut at = 0;
        while BLOCK - at >= HEADER {
            let Some(&[a, b, c, d, low, high, kind]) = block[at..].first_chunk::<HEADER>() else { return Ok(None) };
            let odd = |what| Ok(Some(Odd { at: start + at as u64, what }));
            if !TYPES.contains(&kind) {
                return odd(if kind == 0 { What::Zeroes } else { What::UnknownType });
            }
            let end = at + HEADER + usize::from(u16::from_le_bytes([low, high]));
            // The type is a part of what the checksum is of.
            let Some(record) = block.get(at + HEADER - 1..end) else {
                // Longer than what is there: the reader ends here, too.
                return Ok(None);
            };
            if masked(crc32c::crc32c(record)) != u32::from_le_bytes([a, b, c, d]) {
                return odd(What::WrongChecksum);
            }
            at = end;
        }
        start += BLOCK as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Records of the given lengths, as the database writes them.
    fn log(lengths: &[usize]) -> (Vec<u8>, Vec<usize>) {
        let (mut log, mut starts) = (Vec::new(), Vec::new());
        for length in lengths {
            let (mut left, mut first) = (*length, true);
            starts.push(log.len());
            loop {
                let room = BLOCK - log.len() % BLOCK;
                if room < HEADER {
                    log.extend(vec![0; room]);
                    continue;
                }
                let part = left.min(room - HEADER);
                left -= part;
                let kind = match (first, left == 0) {
                    (true, true) => 1,
                    (true, false) => 2,
                    (false, false) => 3,
                    (false, true) => 4,
                };
                let record: Vec<u8> = std::iter::once(kind).chain(std::iter::repeat_n(7, part)).collect();
                log.extend(masked(crc32c::crc32c(&record)).to_le_bytes());
                log.extend(u16::try_from(part).expect("a part is shorter than a block").to_le_bytes());
                log.extend(record);
                first = false;
                if left == 0 {
                    break;
                }
            }
        }
        (log, starts)
    }

    fn odd(log: &[u8]) -> Option<Odd> {
        first_odd(&mut &*log).expect("memory can be read")
    }

    const LENGTHS: [usize; 6] = [10, 32_000, 735, 100_000, 0, 32_768];

    #[test]
    fn a_log_that_is_whole_or_torn_is_left_alone() {
        let (log, _) = log(&LENGTHS);
        for end in 0..log.len() {
            if end % 997 == 0 || end % BLOCK < 20 || end % BLOCK > BLOCK - 20 {
                assert_eq!(odd(&log[..end]), None, "cut at {end}");
            }
        }
        assert_eq!(odd(&log), None);
    }

    #[test]
    fn zeroes_and_unknown_types_are_found_where_they_begin() {
        let (whole, starts) = log(&LENGTHS);
        for start in starts {
            let at = start as u64;
            let mut log = whole.clone();
            log[start..].fill(0);
            let found = odd(&log);
            if BLOCK - start % BLOCK >= HEADER {
                assert_eq!(found, Some(Odd { at, what: What::Zeroes }));
                let mut log = whole.clone();
                log[start + 6] |= 8;
                assert_eq!(odd(&log), Some(Odd { at, what: What::UnknownType }));
            }
        }
    }

    #[test]
    fn any_flipped_bit_of_a_record_is_found_where_it_begins() {
        let (whole, starts) = log(&[10, 20, 30]);
        for bit in starts[1] * 8..starts[2] * 8 {
            let mut log = whole.clone();
            log[bit / 8] ^= 1 << (bit % 8);
            // One that became longer than what is there is the end, as a torn one is.
            let length = u16::from_le_bytes([log[starts[1] + 4], log[starts[1] + 5]]);
            let torn = starts[1] + HEADER + usize::from(length) > log.len();
            assert_eq!(odd(&log).map(|odd| odd.at), (!torn).then_some(starts[1] as u64), "bit {bit}");
        }
    }

    #[test]
    fn what_is_behind_a_gap_is_kept_aside() {
        let directory = tempfile::tempdir().expect("a directory can be made");
        let db = directory.path().join("db");
        fs::create_dir(&db).expect("it is empty");
        let (whole, starts) = log(&LENGTHS);
        let mut gap = whole.clone();
        gap[starts[2]..starts[3]].fill(0);
        for (name, content) in [("000009.log", &whole), ("000010.log", &gap), ("000011.log", &whole), ("LOG", &whole)] {
            fs::write(db.join(name), content).expect("it can be written");
        }
        settle(directory.path(), &db).expect("the files can be changed");
        let left = |name: &str| fs::read(db.join(name)).ok();
        assert_eq!(left("000009.log"), Some(whole.clone()));
        assert_eq!(left("000010.log"), Some(whole[..starts[2]].to_vec()));
        assert_eq!((left("000011.log"), left("LOG")), (None, Some(whole.clone())));
        let place = format!("000010-{}", starts[2]);
        let aside = |name: &str| fs::read(directory.path().join(ASIDE).join(&place).join(name)).ok();
        assert_eq!((aside("000010.log"), aside("000011.log")), (Some(gap[starts[2]..].to_vec()), Some(whole.clone())));
        settle(directory.path(), &db).expect("again");
        assert_eq!(left("000010.log"), Some(whole[..starts[2]].to_vec()));
        assert!(aside("000010.log").is_some());
        fs::write(db.join("000012.log"), &gap).expect("it can be written");
        settle(directory.path(), &db).expect("the files can be changed");
        let kept: Vec<_> = fs::read_dir(directory.path().join(ASIDE)).expect("it is there").collect();
        assert_eq!(kept.len(), 1, "the latest only");
    }
}
