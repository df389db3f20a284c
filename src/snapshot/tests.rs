//! Snapshots that are written while the node is written to, and what a start makes of them.

use std::collections::BTreeSet;
use std::sync::Arc;

use crdt::{Attached, End, Number, Origin, Region, Seed};

use super::*;
use crate::durability::{Fsync, Syncing};
use crate::oplog::Budget;
use crate::oplog::faulty::{Fate, FaultyDisk};
use crate::oplog::storage::Storage as _;
use crate::shard::{Identity, Peers, Shard};
use crate::store::{Store, StoreError};

const SHARDS: u16 = 2;
const NOW_MS: u64 = 1_000_000;

/// A node without clients.
struct Node {
    shards: Arc<Shards>,
    durability: Arc<Durability>,
    snapshots: Arc<Snapshots>,
    syncing: Option<Syncing>,
}

fn start(disk: &FaultyDisk) -> Result<Node, StoreError> {
    let region = Region::new(1).expect("not 0");
    let owner = Owner {
        database: "test".to_owned(),
        region,
        shards: SHARDS,
    };
    let store = Store::on(Arc::new(disk.clone()), owner, limits::SEGMENT_BYTES);
    let now = Moment::now();
    let epoch = store.epoch(now)?;
    let seed = Seed::from_text(b"test");
    let peers = Peers {
        members: BTreeSet::from([region]),
        clock_drift_max_ms: 0,
        budget: Arc::new(Budget::new(1 << 20)),
        on_disk: true,
    };
    let shard = |number| {
        let (first, slots) = Shards::slots_of(number, SHARDS);
        let identity = Identity {
            number,
            first,
            slots,
            origin: Origin::new(region, epoch),
            alone: true,
        };
        Shard::with_peers(identity, seed, 1, peers.clone())
    };
    let shards = Arc::new(Shards::new(seed, (0..SHARDS).map(shard).collect()));
    let begun = store.go_on(&shards, epoch, Fsync::EverySecond, now)?;
    let durability = Arc::new(begun.durability);
    let settings = Settings {
        loaded: begun.loaded,
        geo_bytes: 0,
        piece_bytes: limits::PIECE_BYTES,
    };
    let snapshots = store.snapshots(Arc::clone(&shards), Arc::clone(&durability), settings);
    let syncing = durability.start(Arc::clone(&shards)).expect("threads");
    Ok(Node {
        shards,
        durability,
        snapshots: Arc::new(snapshots),
        syncing: Some(syncing),
    })
}

impl Node {
    /// Writes to some keys of every kind; `round` makes it differ from other rounds.
    fn write(&self, round: u64) {
        for number in 0..200_u64 {
            let name = format!("key:{}", (number + 7 * round) % 300);
            self.on(&name, |txn, key| match (number + round) % 6 {
                0 => txn.string_set(key, name.as_bytes(), Attached::Nothing),
                1 if txn.kind(key).is_none() => txn.string_add(key, Number::int(round.into())),
                2 => drop(txn.remove(key)),
                3 => drop(txn.hash_set(key, &round.to_le_bytes(), b"value", Attached::Nothing)),
                4 => drop(txn.set_add(key, &[round.to_le_bytes()])),
                _ => drop(txn.zset_set(key, &round.to_le_bytes(), round as f64)),
            });
        }
        self.on("list", |txn, key| {
            let values = [round.to_le_bytes(); 50];
            txn.list_push(key, End::Tail, &values)
                .expect("it is a list");
            txn.list_remove(key, 0..10);
        });
        let synced = self.durability.sync_now(&self.shards, Moment::now());
        synced.expect("the disk works");
    }

    fn on(&self, name: &str, run: impl FnOnce(&mut crate::shard::Txn<'_>, &crdt::Key<'_>)) {
        let key = self.shards.seed().key(name.as_bytes());
        let index = self.shards.index_of(key.slot);
        self.shards.with(index, |shard| {
            shard.transact(NOW_MS, None, |txn| run(txn, &key));
        });
    }

    fn digests(&self) -> Vec<u64> {
        let digest = |index| {
            self.shards.with(index, |shard| {
                let state = shard.state();
                state
                    .slots()
                    .map(|slot| state.slot_digest(slot))
                    .fold(0, u64::wrapping_add)
            })
        };
        (0..self.shards.count()).map(digest).collect()
    }

    fn stop(mut self) {
        drop(self.syncing.take());
    }
}

/// What a crash leaves that comes now, of what was synced.
fn crash(disk: &FaultyDisk) -> FaultyDisk {
    disk.after_crash(disk.steps(), |_| Fate::Lost)
}

#[test]
fn a_start_from_a_snapshot_and_the_log_since_is_as_one_from_the_log() {
    let disk = FaultyDisk::default();
    let node = start(&disk).expect("it starts");
    node.write(0);
    let mut writing = node.snapshots.begin().expect("there is room");
    // Writes between any two pieces.
    let mut round = 1;
    while let Some(bytes) = node.snapshots.piece(&mut writing).expect("there is room") {
        assert!(0 < bytes);
        node.write(round);
        round += 1;
    }
    assert!(3 < round, "there were several pieces");
    node.write(round);
    let finished = node.snapshots.finish(writing, Moment::now());
    finished.expect("there is room");
    node.write(round + 1);
    let wanted = node.digests();
    let left = crash(&disk);
    let again = start(&left).expect("it starts");
    assert_eq!(again.digests(), wanted);
    // And it can be lived on, and the log of that life follows.
    again.write(99);
    let wanted = again.digests();
    again.stop();
    assert_eq!(start(&left).expect("it starts").digests(), wanted);
    node.stop();
}

#[test]
fn a_snapshot_that_was_not_finished_is_as_if_it_had_never_been() {
    let disk = FaultyDisk::default();
    let node = start(&disk).expect("it starts");
    for round in 0..3 {
        node.write(round);
    }
    let before = disk.steps();
    node.snapshots.save();
    let wanted = node.digests();
    let names = disk.list(format::FOLDER).expect("it can be listed");
    assert_eq!(names.len(), 1, "{names:?}");
    for steps in before..=disk.steps() {
        for fate in [Fate::Happened, Fate::Lost] {
            let left = disk.after_crash(steps, |_| fate);
            let again = start(&left).expect("it starts");
            assert_eq!(again.digests(), wanted, "at {steps}, {fate:?}");
            again.stop();
        }
    }
    node.stop();
}

#[test]
fn the_log_before_a_snapshot_goes_and_a_start_does_without() {
    let disk = FaultyDisk::default();
    let node = start(&disk).expect("it starts");
    for round in 0..3 {
        node.write(round);
        node.snapshots.save();
        node.snapshots.cut();
    }
    let facts = node.snapshots.facts();
    assert!(facts.failure.is_none() && facts.done == 3, "{facts:?}");
    let segments = disk
        .list(crate::oplog::segment::FOLDER)
        .expect("it can be listed");
    assert_eq!(segments.len(), 1, "{segments:?}");
    node.write(3);
    let wanted = node.digests();
    node.stop();
    assert_eq!(start(&crash(&disk)).expect("it starts").digests(), wanted);
}

#[test]
fn a_damaged_snapshot_is_an_error_with_file_and_offset_and_nothing_is_changed() {
    let disk = FaultyDisk::default();
    let node = start(&disk).expect("it starts");
    node.write(0);
    node.snapshots.save();
    node.stop();
    let name = format!(
        "{}/{}",
        format::FOLDER,
        disk.list(format::FOLDER).expect("there")[0]
    );
    let bits = disk.content(&name).len() as u64 * 8;
    for bit in (0..bits).step_by(bits as usize / 200 + 1) {
        let copy = crash(&disk);
        copy.flip(&name, bit);
        let before = copy.steps();
        let Err(error) = start(&copy) else {
            panic!("bit {bit} goes unnoticed");
        };
        let text = error.to_string();
        assert!(
            text.contains(&name) && text.contains("byte"),
            "bit {bit}: {text}"
        );
        assert_eq!(copy.steps(), before, "bit {bit}");
    }
}

/// What this build writes is what it wrote before; pieces have a fixture of their own.
#[test]
fn the_stored_records_are_read_and_written_alike() {
    use format::Record;
    let owner = Owner {
        database: "test".to_owned(),
        region: Region::new(1).expect("not 0"),
        shards: SHARDS,
    };
    let records = [
        Record::Head(owner, 7),
        Record::Piece(1, bytes::Bytes::from_static(b"piece")),
        Record::End(1),
    ];
    let mut written = Vec::new();
    for record in &records {
        format::put(&mut written, record);
    }
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/src/snapshot/fixtures/records-v1.snap"
    );
    if std::env::var_os("UPDATE_FIXTURES").is_some() {
        std::fs::write(path, &written).unwrap();
    }
    let mut stored = bytes::Bytes::from(std::fs::read(path).unwrap());
    assert_eq!(written, stored);
    for record in records {
        let (kind, body, length) = crate::oplog::record::open(&stored).expect("it is one");
        assert_eq!(format::read((kind, body)), Ok(record));
        stored = stored.slice(length..);
    }
    assert!(stored.is_empty());
}

/// A region that is away may be done without, and what this one then writes again goes on from what
/// all have.
#[test]
fn while_the_log_is_kept_for_a_region_that_is_away_so_is_the_snapshot_before_it() {
    let disk = FaultyDisk::default();
    let make = |name: String| drop(disk.create(&name).expect("it can be made"));
    for segment in [3, 5, 7, 9] {
        make(name(segment));
    }
    let left = || {
        write::remove_older(&disk).expect("they can be removed");
        let mut names = disk.list(format::FOLDER).expect("it can be listed");
        names.sort();
        names
    };
    let left_name = |segment| {
        let name = name(segment);
        name.rsplit('/').next().expect("a name").to_owned()
    };
    for number in 6..=9 {
        make(crate::oplog::segment::name(number));
    }
    assert_eq!(left(), [left_name(5), left_name(9)]);
    for number in 6..9 {
        disk.remove(&crate::oplog::segment::name(number))
            .expect("it is there");
    }
    assert_eq!(left(), [left_name(9)]);
}
