//! What a region held that the others do without, put aside, and written again once it is back.
//!
//! A region that was excluded, or forgotten and let back in, comes back as a life that holds
//! nothing. When its node starts, what its directory holds is moved into a folder beside
//! (`excluded-1`, then `excluded-2` …), and a record of regions is written by which it joins. A
//! crash anywhere in that is gone on from at the next start: the new record comes last.
//!
//! What of that nobody else has is written again once the node serves: [`write_again`].

mod again;

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

pub use again::write_again;

use crate::membership::{self, MembershipError};
use crate::oplog::record::Owner;
use crate::oplog::recover::newest_epoch;
use crate::oplog::recovered::OpenError;
use crate::oplog::segment;
use crate::oplog::storage::{Disk, Storage};
use crate::snapshot::SnapshotError;

/// Begins the names of folders of what was put aside.
const PREFIX: &str = "excluded-";
/// One into which things are being moved.
const PART: &str = "excluded.part";
/// What is moved. Tokens, the lock and the record stay where they are.
const MOVED: [&str; 4] = [segment::FOLDER, "snapshot", "restored", "repair"];

/// Why things cannot be put aside, or not be written again.
#[derive(Debug, thiserror::Error)]
pub enum AsideError {
    /// The system says so.
    #[error("{}: {error}", path.display())]
    Io {
        /// Which file or folder.
        path: PathBuf,
        /// What it says.
        error: io::Error,
    },
    /// The record of regions cannot be read or written.
    #[error(transparent)]
    Membership(#[from] MembershipError),
    /// The log cannot be read.
    #[error(transparent)]
    Log(#[from] OpenError),
    /// The snapshot cannot be read.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
}

fn failed(path: &Path) -> impl FnOnce(io::Error) -> AsideError {
    let path = path.to_owned();
    |error| AsideError::Io { path, error }
}

fn sync(folder: &Path) -> Result<(), AsideError> {
    let synced = File::open(folder).and_then(|folder| folder.sync_all());
    synced.map_err(failed(folder))
}

/// Puts aside what a data directory holds, if the others do without that. Returns the folder.
pub fn put(dir: &Path, owner: &Owner, name: &str) -> Result<Option<PathBuf>, AsideError> {
    let storage = Disk::new(dir);
    let before = membership::read(&storage)?;
    let own = before.get(owner.region, name);
    let is_excluded = own.is_some() && before.is_excluded(owner.region);
    let is_let_in = own.is_some_and(|own| !own.is_current()) && membership::is_back(&storage)?;
    if !is_excluded && !is_let_in {
        return Ok(None);
    }
    let newest = newest_epoch(&storage, owner)?;
    let moved = move_aside(dir)?;
    let mut after = before.returning(owner.region, name);
    after.begin_after(owner.region, name, newest);
    membership::write(&storage, &after)?;
    if membership::is_back(&storage)? {
        storage
            .remove(membership::BACK)
            .and_then(|()| storage.sync_folder(membership::FOLDER))
            .map_err(failed(&dir.join(membership::BACK)))?;
    }
    tracing::warn!(
        folder = moved.as_ref().map(|path| path.display().to_string()),
        "the other regions do without what this one held: it is put aside, and the region joins \
         with nothing"
    );
    Ok(moved)
}

/// Moves what there is, with what a crash may have left of an earlier try.
fn move_aside(dir: &Path) -> Result<Option<PathBuf>, AsideError> {
    let part = dir.join(PART);
    let is_there = |name: &str| dir.join(name).exists();
    if !part.exists() && !MOVED.iter().any(|name| is_there(name)) {
        return Ok(None);
    }
    fs::create_dir_all(&part).map_err(failed(&part))?;
    for name in MOVED.iter().filter(|name| is_there(name)) {
        let from = dir.join(name);
        fs::rename(&from, part.join(name)).map_err(failed(&from))?;
    }
    sync(&part)?;
    let numbers = folders(dir)?.into_iter().map(|(number, _)| number);
    let number = numbers.max().unwrap_or(0) + 1;
    let folder = dir.join(format!("{PREFIX}{number}"));
    fs::rename(&part, &folder).map_err(failed(&part))?;
    sync(dir)?;
    Ok(Some(folder))
}

/// The folders of what was put aside, in order.
fn folders(dir: &Path) -> Result<Vec<(u32, PathBuf)>, AsideError> {
    let mut folders = Vec::new();
    for entry in fs::read_dir(dir).map_err(failed(dir))? {
        let entry = entry.map_err(failed(dir))?;
        let name = entry.file_name();
        let number = name.to_str().and_then(|name| name.strip_prefix(PREFIX));
        if let Some(number) = number.and_then(|number| number.parse().ok()) {
            folders.push((number, entry.path()));
        }
    }
    folders.sort();
    Ok(folders)
}

#[cfg(test)]
mod tests {
    use crdt::{Epoch, Region};
    use geo::proto::{Roster, Stage};

    use super::*;

    fn region(id: u8) -> Region {
        Region::new(id).expect("not 0")
    }

    fn owner() -> Owner {
        Owner {
            database: "test".to_owned(),
            region: region(2),
            shards: 1,
        }
    }

    /// A directory with files in its place, and a record of two regions.
    fn directory() -> (tempfile::TempDir, Roster) {
        let folder = tempfile::tempdir().expect("a folder");
        for name in ["log", "snapshot", "regions"] {
            fs::create_dir(folder.path().join(name)).expect("it is empty");
        }
        for name in ["snapshot/1.snap", "admin-token"] {
            fs::write(folder.path().join(name), "x").expect("it can be written");
        }
        let mut roster = Roster::new();
        for (id, name) in [(1, "one"), (2, "two")] {
            let addresses = [format!("{name}:6390")];
            let noted = roster.note(region(id), name, &addresses, Stage::Founding);
            noted.expect("a name");
        }
        (folder, roster)
    }

    fn write(folder: &Path, roster: &Roster) {
        membership::write(&Disk::new(folder), roster).expect("it is written");
    }

    #[test]
    fn what_an_excluded_region_held_is_put_aside_once_and_it_joins() {
        let (folder, mut roster) = directory();
        let dir = folder.path();
        write(dir, &roster);
        assert_eq!(put(dir, &owner(), "two").expect("readable"), None);
        assert!(dir.join("log").exists(), "it takes part");
        assert!(roster.exclude(region(2), Epoch(70)));
        write(dir, &roster);
        let aside = put(dir, &owner(), "two").expect("it can be moved");
        let aside = aside.expect("there was something");
        assert_eq!(aside, dir.join("excluded-1"));
        assert!(aside.join("snapshot/1.snap").exists() && !dir.join("snapshot").exists());
        assert!(dir.join("admin-token").exists(), "that stays");
        let after = membership::read(&Disk::new(dir)).expect("a record");
        let own = after.get(region(2), "two").expect("its own");
        assert_eq!((own.stage, own.ended), (Stage::Joining, Epoch(70)));
        let one = after.get(region(1), "one").expect("the other");
        assert_eq!(one.addresses, ["one:6390"], "it knows where to go");
        assert_eq!(put(dir, &owner(), "two").expect("readable"), None);
    }

    #[test]
    fn a_crash_while_things_are_moved_is_gone_on_from() {
        let (folder, mut roster) = directory();
        let dir = folder.path();
        assert!(roster.exclude(region(2), Epoch(70)));
        write(dir, &roster);
        fs::create_dir(dir.join(PART)).expect("free");
        fs::rename(dir.join("snapshot"), dir.join(PART).join("snapshot")).expect("there");
        let aside = put(dir, &owner(), "two").expect("it can be moved");
        let aside = aside.expect("there was something");
        assert!(aside.join("snapshot/1.snap").exists() && aside.join("log").exists());
        // After the move, and before the record.
        write(dir, &roster);
        assert_eq!(put(dir, &owner(), "two").expect("readable"), None);
        let after = membership::read(&Disk::new(dir)).expect("a record");
        assert!(after.ids().contains(&region(2)) && !dir.join("excluded-2").exists());
    }

    #[test]
    fn one_that_was_forgotten_is_put_aside_when_it_was_let_back_in() {
        let (folder, mut roster) = directory();
        let dir = folder.path();
        roster
            .forget(region(1), "two", Epoch(5))
            .expect("another region");
        write(dir, &roster);
        assert_eq!(put(dir, &owner(), "two").expect("readable"), None);
        fs::write(dir.join(membership::BACK), "").expect("it can be written");
        assert!(
            put(dir, &owner(), "two")
                .expect("it can be moved")
                .is_some()
        );
        assert!(!dir.join(membership::BACK).exists());
    }
}
