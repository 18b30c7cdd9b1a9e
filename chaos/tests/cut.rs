//! What is left of files after a cut: what the shim saw synced, by name and by length, and nothing else.

use messenger_chaos::power::{self, Lost, cut};
use messenger_tests::cluster::Environment;
use messenger_tests::wait;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A directory whose files are written and synced by other programs.
struct Scratch {
    root: PathBuf,
    environment: Environment,
}

impl Scratch {
    fn new(test: &str) -> Self {
        let root = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("cut-{test}-{}", std::process::id()));
        fs::create_dir_all(root.join("data")).expect("the directory is writable");
        Self { environment: power::disks_in(&root), root }
    }

    /// Runs a script on the files; `sync` with a name is fsync, with `-d` fdatasync.
    #[track_caller]
    fn run(&self, script: &str) {
        let mut shell = Command::new("sh");
        shell.args(["-euc", script]).current_dir(self.root.join("data")).envs(self.environment.iter().cloned());
        let done = shell.output().expect("a shell starts");
        assert!(done.status.success(), "{done:?}");
    }

    fn cut(&self) -> Lost {
        cut::cut(&self.root.join("synced"), &self.root.join("data")).expect("the files can be changed")
    }

    /// The files, by name within the directory, with what they hold.
    fn left(&self) -> BTreeMap<String, String> {
        let (mut left, mut folders) = (BTreeMap::new(), vec![self.root.join("data")]);
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).expect("it is a directory") {
                let path = entry.expect("it can be read").path();
                if path.is_dir() {
                    folders.push(path);
                } else {
                    let name = path.strip_prefix(self.root.join("data")).expect("it lies there").display().to_string();
                    left.insert(name, fs::read_to_string(path).expect("it is text"));
                }
            }
        }
        left
    }

    #[track_caller]
    fn leaves<const N: usize>(&self, expected: [(&str, &str); N]) {
        self.cut();
        assert_eq!(self.left(), expected.map(|(name, text)| (name.to_owned(), text.to_owned())).into());
        assert_eq!(self.cut(), Lost::default(), "a cut takes everything at once");
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _gone = fs::remove_dir_all(&self.root);
    }
}

#[test]
fn a_file_ends_where_its_last_sync_did() {
    let scratch = Scratch::new("length");
    scratch.run("printf one >a; sync a; printf ' two' >>a; sync -d a; printf ' three' >>a; sync .");
    scratch.run("printf more >b; sync .");
    assert_eq!(scratch.cut(), Lost { tail_bytes: 6, files: 1, undone: 0 });
    scratch.leaves([("a", "one two"), ("b", "")]);
    scratch.run("printf ' four' >>a; sync a; printf ' five' >>a");
    scratch.leaves([("a", "one two four"), ("b", "")]);
}

#[test]
fn a_name_is_lost_until_its_directory_is_synced() {
    let scratch = Scratch::new("name");
    scratch.run("printf one >a; sync a; mkdir inner; printf two >inner/b; sync inner/b inner");
    scratch.leaves([]);
    scratch.run("mkdir inner; printf one >inner/a; sync . inner/a; printf two >inner/b; sync inner; sync inner/b");
    scratch.run("printf three >inner/c; sync inner/c");
    scratch.leaves([("inner/a", "one"), ("inner/b", "two")]);
}

#[test]
fn a_rename_or_removal_is_undone_until_its_directory_is_synced() {
    let scratch = Scratch::new("rename");
    scratch.run("printf old >current; printf gone >a; sync current a .; printf new >draft; sync draft");
    scratch.run("mv draft current; rm a");
    assert_eq!(scratch.cut(), Lost { tail_bytes: 0, files: 1, undone: 2 });
    scratch.leaves([("a", "gone"), ("current", "old")]);
    scratch.run("printf new >draft; sync draft; mv draft current; rm a; sync .");
    scratch.leaves([("current", "new")]);
}

#[test]
fn a_record_is_not_taken_over_by_the_next_file_of_the_same_number() {
    let scratch = Scratch::new("number");
    scratch.run("printf synced >a; sync a");
    let born = |name: &str| {
        let file = fs::metadata(scratch.root.join(name)).expect("it is there");
        file.created().expect("the file system tells when a file was born")
    };
    // Files of one tick of the file system's clock can't be told apart.
    wait::until("the clock ticks", wait::PATIENCE, || {
        fs::write(scratch.root.join("probe"), "").expect("the directory is writable");
        let ticked = born("probe") > born("data/a");
        fs::remove_file(scratch.root.join("probe")).expect("it is there");
        ticked.then_some(())
    });
    // Most file systems hand out the number that became free last.
    scratch.run("rm a; printf new >a; sync .");
    scratch.leaves([("a", "")]);
}

#[test]
fn a_disk_that_lies_keeps_nothing() {
    let scratch = Scratch::new("lie");
    scratch.run("printf one >a; sync a .");
    fs::write(scratch.root.join("synced/lying"), "").expect("the directory is writable");
    scratch.run("printf ' two' >>a; sync a; printf three >b; sync b .");
    scratch.leaves([("a", "one")]);
}
