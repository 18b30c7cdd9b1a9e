//! What a power cut leaves of a directory.
//!
//! Owns: reading the records that `synced.c` keeps, and making a directory what they vouch for.
//! Must not know: processes; what the files mean.
//! Invariants: no file is exempt. A name that no completed sync of its directory covered is gone, one that was removed
//! or replaced since that sync is back, and a file ends where its last completed sync began, an empty one if there was
//! none. Only a directory that was removed stays so: it could come back with nothing in it.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, File, Metadata};
use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::UNIX_EPOCH;

/// What was lost.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Lost {
    /// Bytes written behind what a sync had covered.
    pub tail_bytes: u64,
    /// Names that were new, and files that had never been synced.
    pub files: u64,
    /// Names that had been removed or given to another file, and are as they were.
    pub undone: u64,
}

impl std::ops::AddAssign for Lost {
    fn add_assign(&mut self, other: Self) {
        self.tail_bytes += other.tail_bytes;
        self.files += other.files;
        self.undone += other.undone;
    }
}

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { tail_bytes, files, undone } = self;
        write!(f, "{tail_bytes} bytes of tails, {files} files, {undone} removals")
    }
}

/// What a directory held when it was last synced: names, each with its file's key.
type Names = BTreeMap<String, (Kind, String)>;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    File,
    Directory,
}

/// Makes of `directory`, and all that is in it, what the records in `home` say was synced.
///
/// # Errors
/// What the file system says, or a record that makes no sense.
pub fn cut(home: &Path, directory: &Path) -> io::Result<Lost> {
    let mut lost = Lost::default();
    let names = names(home, &key(&fs::symlink_metadata(directory)?)?)?;
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let (name, seen) = (entry.file_name().to_string_lossy().into_owned(), fs::symlink_metadata(entry.path())?);
        let own = key(&seen)?;
        if names.get(&name).is_none_or(|(_, listed)| *listed != own) {
            lost.files += 1;
            if seen.is_dir() { fs::remove_dir_all(entry.path())? } else { fs::remove_file(entry.path())? }
        }
    }
    for (name, (kind, key)) in names {
        let path = directory.join(name);
        match kind {
            Kind::Directory if path.exists() => lost += cut(home, &path)?,
            Kind::Directory => {}
            Kind::File => {
                if !path.exists() {
                    fs::hard_link(home.join("files").join(&key), &path)?;
                    lost.undone += 1;
                }
                lost += shorten(&path, length(home, &key)?)?;
            }
        }
    }
    Ok(lost)
}

/// Bytes at the ends of files in `directory`, and all that is in it, that were not synced: of a node that runs, about.
///
/// # Errors
/// What the file system says.
pub fn unsynced(home: &Path, directory: &Path) -> io::Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let seen = match fs::symlink_metadata(entry.path()) {
            Ok(seen) => seen,
            // It was removed meanwhile.
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        bytes += if seen.is_dir() {
            unsynced(home, &entry.path())?
        } else {
            let synced = length(home, &key(&seen)?)?;
            if synced == 0 { 0 } else { seen.len().saturating_sub(synced) }
        };
    }
    Ok(bytes)
}

fn shorten(path: &Path, synced: u64) -> io::Result<Lost> {
    let file = File::options().write(true).open(path)?;
    let tail = file.metadata()?.len().saturating_sub(synced);
    if tail == 0 {
        return Ok(Lost::default());
    }
    file.set_len(synced)?;
    Ok(if synced == 0 { Lost { files: 1, ..Lost::default() } } else { Lost { tail_bytes: tail, ..Lost::default() } })
}

/// As `synced.c` names it.
fn key(seen: &Metadata) -> io::Result<String> {
    let born = seen.created()?.duration_since(UNIX_EPOCH).map_err(io::Error::other)?;
    Ok(format!("{}-{}.{:09}", seen.ino(), born.as_secs(), born.subsec_nanos()))
}

/// How much of a file was synced; nothing, if it never was.
fn length(home: &Path, key: &str) -> io::Result<u64> {
    match fs::read(home.join("lengths").join(key)) {
        // One that was made and not yet written covers nothing.
        Ok(bytes) => Ok(bytes.try_into().map_or(0, u64::from_ne_bytes)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(0),
        Err(error) => Err(error),
    }
}

/// Nothing, if the directory was never synced.
fn names(home: &Path, key: &str) -> io::Result<Names> {
    let text = match fs::read_to_string(home.join("names").join(key)) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Names::new()),
        Err(error) => return Err(error),
    };
    let parse = |line: &str| {
        let mut parts = line.splitn(3, ' ');
        let kind = match parts.next()? {
            "f" => Kind::File,
            "d" => Kind::Directory,
            _ => return None,
        };
        let (key, name) = (parts.next()?, parts.next()?);
        Some((name.to_owned(), (kind, key.to_owned())))
    };
    text.lines().map(|line| parse(line).ok_or_else(|| io::Error::other(format!("a listing says {line:?}")))).collect()
}
