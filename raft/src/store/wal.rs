//! A look at the write-ahead log before the database reads it.
//!
//! The database's log reader takes a header of zeroes for padding, drops the rest of its block and goes on with the next;
//! and a record type that it does not expect can keep it busy for ever. Either would leave a hole, and only a prefix of
//! the log is a valid state. So the log is made to end where the first such place is; whether that end is one that a power
//! loss may leave, or damage, is for [`super::mark`] to say.
//!
//! Owns: finding the place, and taking away what is behind it.
//! Must not know: what records hold. Their checksums are the database's matter: it ends the log at a wrong one.
//! Invariants: a log without such a place is left alone; what is taken away is kept aside.
//!
//! The format: blocks of 32 KiB; in each, records of checksum `LE32`, length `LE16`, type and payload, none across a
//! block's end, and up to six bytes of padding (RocksDB, "Write Ahead Log File Format").

use super::error::OpenError;
use std::fs::{self, File};
use std::io::{self, Read};
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
        let aside = root.join(ASIDE);
        fs::create_dir_all(&aside)?;
        tracing::warn!(log = %log.display(), at, aside = %aside.display(), "the write-ahead log ends at a gap");
        let copy = aside.join(log.file_name().unwrap_or_default());
        fs::copy(log, &copy)?;
        File::open(&copy)?.sync_all()?;
        // The later ones first: should the process die in between, the gap is found again.
        for later in logs[number + 1..].iter().rev() {
            fs::rename(later, aside.join(later.file_name().unwrap_or_default()))?;
        }
        // What is cut off is safe by then.
        File::open(&aside)?.sync_all()?;
        let file = File::options().write(true).open(log)?;
        file.set_len(at)?;
        file.sync_all()?;
        return File::open(db)?.sync_all();
    }
    Ok(())
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
        Ok(mut file) => Ok(first_odd(&mut file)?.is_some_and(|odd| odd.kind != 0)),
        Err(_) => Ok(false),
    }
}

/// A place where the reader would not stop though there is no record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Odd {
    at: u64,
    kind: u8,
}

/// The first record that is padding where there should be none, or of an unknown type.
fn first_odd(log: &mut impl Read) -> io::Result<Option<Odd>> {
    let mut block = Vec::with_capacity(BLOCK);
    let mut start = 0;
    loop {
        block.clear();
        log.by_ref().take(BLOCK as u64).read_to_end(&mut block)?;
        let mut at = 0;
        while BLOCK - at >= HEADER {
            let Some(&[_, _, _, _, low, high, kind]) = block[at..].first_chunk::<HEADER>() else { return Ok(None) };
            let length = usize::from(u16::from_le_bytes([low, high]));
            if !TYPES.contains(&kind) {
                return Ok(Some(Odd { at: start + at as u64, kind }));
            }
            at += HEADER + length;
            if at > block.len() {
                // Longer than what is there: the reader ends here, too.
                return Ok(None);
            }
        }
        start += BLOCK as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Records of the given lengths, as the database writes them but for their checksums.
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
                log.extend([9, 9, 9, 9]);
                log.extend(u16::try_from(part).expect("a part is shorter than a block").to_le_bytes());
                log.push(kind);
                log.extend(vec![7; part]);
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
                assert_eq!(found, Some(Odd { at, kind: 0 }));
                let mut log = whole.clone();
                log[start + 6] |= 4;
                let kind = log[start + 6];
                assert_eq!(odd(&log), (!TYPES.contains(&kind)).then_some(Odd { at, kind }));
            }
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
        let aside = |name: &str| fs::read(directory.path().join(ASIDE).join(name)).ok();
        assert_eq!((aside("000010.log"), aside("000011.log")), (Some(gap), Some(whole.clone())));
        settle(directory.path(), &db).expect("again");
        assert_eq!(left("000010.log"), Some(whole[..starts[2]].to_vec()));
    }
}
