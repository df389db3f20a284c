//! Disks that are lost, damaged, or older than they should be.

use std::rc::Rc;

use crdt::Epoch;
use meridian::oplog::faulty::FaultyDisk;

use super::World;
use super::lives::{Dead, End, check_firm, check_shown};
use crate::disk::Life;

impl World {
    /// An old copy of the disk is put back, and said to be one. Returns whether it was.
    pub(super) fn put_back(&mut self, at: u8) -> bool {
        let Some(copy) = self.disks.get_mut(&at).and_then(|disk| disk.copies.pop()) else {
            return false;
        };
        let probe = copy.after_kill(copy.steps());
        let life = self.begin_again(at, &probe);
        if life.origin.epoch <= self.net.epoch(at) {
            // The clock was set back, and the copy does not know what its region had.
            return false;
        }
        self.bury(at);
        meridian::store::say_restored(&copy).expect("the disk works");
        self.disks.get_mut(&at).expect("it has one").copies.clear();
        self.start(at, copy, &Dead::forgotten());
        true
    }

    /// A disk is lost as a whole, and the node starts with an empty one. Returns whether it was.
    pub(super) fn wipe(&mut self, at: u8) -> bool {
        if self.cuts_logs {
            return false;
        }
        self.bury(at);
        let storage = FaultyDisk::default();
        let build = Rc::clone(&self.disks[&at].build);
        // A clock that was set back is no excuse here: nobody is left who knows better.
        let least = Epoch(self.net.epoch(at).0 + 1);
        let life = self.begin(at, &storage, &build, least);
        self.disks.get_mut(&at).expect("it has one").copies.clear();
        self.install(at, storage, life, &Dead::forgotten());
        true
    }

    /// A bit flips in what an earlier life has left, or in a snapshot, while the node is down. It
    /// is told, or harms nothing. Returns whether there was such a file.
    pub(super) fn flip(&mut self, at: u8) -> bool {
        let steps = self.disks[&at].storage.steps();
        let left = self.left(at, steps, End::Killed);
        let Some(name) = old_file(&left, self.disks[&at].life.first_segment, &mut self.random)
        else {
            return false;
        };
        let dead = self.dead(at, End::Killed);
        let copy = left.after_kill(left.steps());
        let bits = copy.content(&name).len() as u64 * 8;
        copy.flip(&name, self.random.u64(0..bits));
        let start = self.start_of(at, Epoch(0));
        let build = Rc::clone(&self.disks[&at].build);
        let told = match Life::begin(&copy, &build, start) {
            Err(error) => Some(error.to_string()),
            Ok(life) if !life.damaged.is_empty() => {
                let out: Vec<_> = life.damaged.values().map(ToString::to_string).collect();
                for &shard in life.damaged.keys() {
                    let is_served = life
                        .shards
                        .with(shard.into(), |shard| shard.is_in_service());
                    assert!(!is_served, "a shard that lacks ops is not served");
                }
                Some(out.join("; "))
            }
            Ok(life) => {
                check_firm(at, &life, &dead);
                check_shown(&life, &dead, &self.names);
                None
            }
        };
        let Some(told) = told else {
            self.tally.count("disk: flipped bit does no harm");
            self.start(at, left, &dead);
            return true;
        };
        assert!(told.contains(&name), "a bit of {name} has flipped: {told}");
        self.tally.count(if name.starts_with("log") {
            "disk: flipped bit found in the log"
        } else {
            "disk: flipped bit found in a snapshot"
        });
        // The node gets another disk, or this one is repaired.
        if !self.random.bool() || !self.wipe(at) {
            self.start(at, left, &dead);
        }
        true
    }
}

/// A file that nobody writes to any more: a segment of an earlier life, or a snapshot.
fn old_file(storage: &FaultyDisk, below: u64, random: &mut fastrand::Rng) -> Option<String> {
    use meridian::oplog::{segment, storage::Storage};
    let logs = storage.list("log").ok()?.into_iter();
    let logs = logs.filter(|name| segment::number(name).is_some_and(|number| number < below));
    let logs = logs.map(|name| format!("log/{name}"));
    let snapshots = storage.list("snapshot").ok()?.into_iter();
    let snapshots = snapshots.filter(|name| !name.ends_with("part"));
    let mut files: Vec<String> = snapshots.map(|name| format!("snapshot/{name}")).collect();
    if files.is_empty() || random.bool() {
        files = logs.collect();
    }
    let at = random.usize(..).checked_rem(files.len())?;
    Some(files.swap_remove(at))
}

/// Removes all snapshots. Returns whether there were any.
pub(super) fn remove_snapshots(storage: &FaultyDisk) -> bool {
    use meridian::oplog::storage::Storage;
    let names = storage.list("snapshot").expect("it can be listed");
    for name in &names {
        let removed = storage.remove(&format!("snapshot/{name}"));
        removed.expect("it is there");
    }
    !names.is_empty()
}
