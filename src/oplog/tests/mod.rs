//! The log on disk against a storage that fails: what comes back after a crash (in `crashes`), and
//! what damage costs. What is taken in of other regions is in `intakes`.

mod crashes;
mod intakes;

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use crdt::{Change, Effect, Epoch, Frame, FrameWriter, Origin, Region, Time, Version};

use super::Entry;
use super::faulty::{Fate, FaultyDisk, Trouble};
use super::intake::Intake;
use super::journal::{Journal, Life};
use super::record::{self, Owner};
use super::recover::recover;
use super::recovered::{OpenError, Recovered, Replay};
use super::segment;
use super::storage::Storage as _;

const SHARDS: u16 = 2;

fn owner() -> Owner {
    Owner {
        database: "test".to_owned(),
        region: Region::new(1).expect("not 0"),
        shards: SHARDS,
    }
}

/// The frame of a shard with this number: one op.
fn frame(shard: u16, number: u64) -> Frame {
    let origin = Origin::new(owner().region, Epoch(1));
    let mut writer = FrameWriter::new(shard, origin);
    for time in 1..=number + 1 {
        if time == number + 1 {
            writer.seal();
        }
        writer.begin_op(Time(time), &Version::new());
        writer.push(&Effect {
            key: b"key",
            change: Change::MemberAdd { member: b"member" },
        });
        writer.end_op();
    }
    writer.seal().expect("it has an op")
}

/// Every third that has a number is no frame.
const fn is_intake(number: u64) -> bool {
    number % 3 == 1
}

/// What is taken in at this number: the op that would else be there, whose time comes next.
fn intake(number: u64) -> Intake {
    let origin = Origin::new(owner().region, Epoch(1));
    Intake::Held([(origin, Time(number + 1))].into_iter().collect())
}

/// What is found, and the numbers of the frames of each shard.
fn found(disk: &FaultyDisk) -> Result<(Recovered, Vec<Vec<u64>>), OpenError> {
    let mut frames = vec![Vec::new(); SHARDS.into()];
    let mut next = [0; SHARDS as usize];
    let recovered = recover(disk, &owner(), 0, &mut |what| match what {
        Replay::From(shard, stretch) => next[usize::from(shard)] = stretch.first,
        Replay::Frame(read) => {
            let shard = read.shard();
            let number = next[usize::from(shard)];
            assert!(!is_intake(number));
            assert_eq!(read, frame(shard, number), "a frame is as it was written");
            frames[usize::from(shard)].push(number);
            next[usize::from(shard)] += 1;
        }
        Replay::Intake(shard, read) => {
            let number = next[usize::from(shard)];
            assert!(is_intake(number));
            assert_eq!(read, intake(number), "an intake is as it was written");
            frames[usize::from(shard)].push(number);
            next[usize::from(shard)] += 1;
        }
    })?;
    Ok((recovered, frames))
}

fn begin(disk: &FaultyDisk, segment_bytes: u64) -> io::Result<Journal> {
    let recovered = recover(disk, &owner(), 0, &mut |_| {}).expect("it can be opened");
    let life = Life {
        epoch: Epoch(recovered.epoch.0 + 1),
        mark: Time(1),
        segment_bytes,
        snapshot: 0,
    };
    Journal::begin(Arc::new(disk.clone()), owner(), recovered, life)
}

fn push(journal: &mut Journal, shard: u16) {
    let number = journal.next(shard);
    if is_intake(number) {
        journal.push(shard, Entry::Intake(&intake(number)));
    } else {
        journal.push(shard, Entry::Frame(&frame(shard, number)));
    }
}

fn sync(journal: &mut Journal) {
    let sync = journal.sync();
    sync.run().expect("the disk syncs");
    journal.synced(&sync);
}

/// A log of two lives, all synced, and the name of the segment of the first.
fn two_lives() -> (FaultyDisk, String) {
    let disk = FaultyDisk::default();
    for _ in 0..2 {
        let mut journal = begin(&disk, 1 << 20).expect("there is room");
        for shard in [0, 1, 1, 0] {
            push(&mut journal, shard);
            journal.write().expect("there is room");
            sync(&mut journal);
        }
    }
    (disk, segment::name(1))
}

#[test]
fn a_bit_that_flips_costs_no_more_than_the_shard_that_it_was_in_and_never_goes_unnoticed() {
    let (disk, name) = two_lives();
    let bits = disk.content(&name).len() as u64 * 8;
    for bit in 0..bits {
        let copy = disk.after_crash(disk.steps(), |_| Fate::Happened);
        copy.flip(&name, bit);
        match found(&copy) {
            Ok((recovered, frames)) => {
                for (shard, numbers) in (0_u16..).zip(&frames) {
                    let is_damaged = recovered.damaged.contains_key(&shard);
                    assert_eq!(is_damaged, numbers.len() < 4, "bit {bit}, shard {shard}");
                    assert!((0..).zip(numbers).all(|(at, &number)| at == number));
                }
                assert!(recovered.damaged.len() < 2, "bit {bit}");
                assert_eq!(recovered.torn, None, "bit {bit}");
            }
            Err(OpenError::Head { offset: 0, .. } | OpenError::Foreign { .. }) => {}
            Err(error) => panic!("bit {bit}: {error}"),
        }
    }
}

#[test]
fn later_lives_know_of_damage_that_they_have_not_seen_happen() {
    let disk = FaultyDisk::default();
    let mut journal = begin(&disk, 1 << 20).expect("there is room");
    for shard in [0, 1, 1, 0, 0] {
        push(&mut journal, shard);
        journal.write().expect("there is room");
        sync(&mut journal);
    }
    let name = segment::name(1);
    let mut unproven = 0;
    for bit in 0..disk.content(&name).len() as u64 * 8 {
        let copy = disk.after_crash(disk.steps(), |_| Fate::Happened);
        copy.flip(&name, bit);
        let Ok((first, _)) = found(&copy) else {
            continue;
        };
        for _ in 0..2 {
            let mut journal = begin(&copy, 1 << 20).expect("there is room");
            for shard in (0..SHARDS).filter(|shard| !first.damaged.contains_key(shard)) {
                push(&mut journal, shard);
            }
            journal.write().expect("there is room");
            sync(&mut journal);
        }
        let (again, _) = found(&copy).expect("it can be opened");
        assert_eq!(first.damaged, again.damaged, "bit {bit}");
        unproven += usize::from(first.damaged.contains_key(&1));
    }
    assert!(0 < unproven, "the second shard has lost frames at times");
}

#[test]
fn a_segment_that_was_cut_short_or_is_missing_is_noticed() {
    let (disk, name) = two_lives();
    let bytes = disk.content(&name).len() as u64;
    for left in 1..bytes {
        let copy = disk.after_crash(disk.steps(), |_| Fate::Happened);
        let file = super::storage::Storage::open(&copy, &name).expect("it is there");
        file.truncate(left).expect("it can be");
        match found(&copy) {
            Ok((recovered, frames)) => {
                let lost = frames.iter().filter(|numbers| numbers.len() < 4).count();
                assert_eq!(
                    (recovered.damaged.len(), recovered.torn),
                    (lost, None),
                    "{left}"
                );
                assert!(0 < lost || bytes - left < record_batch(), "{left}");
            }
            Err(OpenError::Head { .. }) => {}
            Err(error) => panic!("{left}: {error}"),
        }
    }
    let mut journal = begin(&disk, 1).expect("there is room");
    push(&mut journal, 0);
    journal.write().expect("there is room");
    super::storage::Storage::remove(&disk, &segment::name(2)).expect("it is there");
    let error = found(&disk).expect_err("a segment is missing");
    assert!(matches!(error, OpenError::Missing { .. }), "{error}");
}

/// What can be cut off unnoticed: the record of a batch without frames.
const fn record_batch() -> u64 {
    record::BATCH as u64
}

#[test]
fn a_log_of_something_else_is_left_alone() {
    let (disk, name) = two_lives();
    let before = disk.content(&name);
    let other = Owner {
        shards: 4,
        ..owner()
    };
    let error = recover(&disk, &other, 0, &mut |_| {}).expect_err("it is foreign");
    let text = error.to_string();
    assert!(
        text.contains("2 shards") && text.contains("4 shards"),
        "{text}"
    );
    assert!(text.contains(&name), "{text}");
    assert_eq!(disk.content(&name), before);
}

#[test]
fn a_full_disk_is_told_and_what_waits_is_written_when_there_is_room() {
    let disk = FaultyDisk::default();
    let mut journal = begin(&disk, 1 << 20).expect("there is room");
    push(&mut journal, 0);
    journal.write().expect("there is room");
    disk.trouble(Trouble {
        room: Some(0),
        ..Trouble::default()
    });
    push(&mut journal, 1);
    let error = journal.write().expect_err("there is none");
    assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    disk.trouble(Trouble::default());
    push(&mut journal, 0);
    journal.write().expect("there is room again");
    sync(&mut journal);
    let (recovered, frames) = found(&disk).expect("it can be opened");
    assert_eq!((recovered.torn, frames), (None, vec![vec![0, 1], vec![0]]));
}

#[test]
fn segments_are_cut_from_the_oldest_on_and_the_rest_can_be_read() {
    let disk = FaultyDisk::default();
    let mut journal = begin(&disk, 1).expect("there is room");
    for _ in 0..3 {
        push(&mut journal, 0);
        let rolled = journal.write().expect("there is room");
        assert!(rolled.is_some(), "a batch fills a segment");
    }
    assert!(journal.cut_oldest().expect("it is removed"));
    let located = journal.locate(0, 2).expect("it is kept");
    let mut reader = segment::Reader::new(Arc::clone(&located.file), 0);
    let read = reader.next_of(0, located.end).expect("it can be read");
    assert_eq!(read.map(|(number, _)| number), Some(2));
    assert!(journal.locate(0, 0).is_none(), "it was cut");
    sync(&mut journal);
    let (recovered, frames) = found(&disk).expect("it can be opened");
    assert_eq!(frames[0], [1, 2]);
    assert_eq!(recovered.shards[0].first, 3);
    while journal.cut_oldest().expect("it is removed") {}
    push(&mut journal, 0);
    journal.write().expect("the newest is kept");
}

#[test]
fn what_was_cut_and_comes_back_is_dropped() {
    let disk = FaultyDisk::default();
    let mut journal = begin(&disk, 1).expect("there is room");
    for _ in 0..4 {
        push(&mut journal, 0);
        journal.write().expect("there is room");
        sync(&mut journal);
    }
    let before = disk.steps();
    while journal.cut_oldest().expect("it is removed") {}
    let cuts = disk.unsynced(disk.steps()).len();
    assert_eq!((before + cuts, cuts), (disk.steps(), 4));
    for choice in 0..1 << cuts {
        let fate = |at| {
            if choice >> (at - before) & 1 == 1 {
                Fate::Happened
            } else {
                Fate::Lost
            }
        };
        let left = disk.after_crash(disk.steps(), fate);
        let recovered = recover(&left, &owner(), 5, &mut |_| {});
        let recovered = recovered.unwrap_or_else(|error| panic!("{choice:b}: {error}"));
        assert!(recovered.damaged.is_empty(), "{choice:b}");
        assert_eq!(recovered.shards[0].first, 4, "{choice:b}");
        let numbers: Vec<u64> = recovered
            .segments
            .iter()
            .map(|found| found.number)
            .collect();
        assert!(
            numbers.windows(2).all(|pair| pair[0] + 1 == pair[1]),
            "{choice:b}"
        );
        assert_eq!(numbers.last(), Some(&5), "{choice:b}");
    }
}

#[test]
fn a_snapshot_whose_log_is_gone_is_not_gone_on_from() {
    let (disk, _) = two_lives();
    let error = recover(&disk, &owner(), 3, &mut |_| {}).expect_err("there are two segments");
    let text = error.to_string();
    assert!(text.contains(&segment::name(3)), "{text}");
}

/// What the first build has written: its heads do not say what a log lacks.
#[test]
fn a_segment_of_the_first_format_is_read() {
    let disk = FaultyDisk::default();
    let file = disk.create(&segment::name(2)).expect("there is room");
    let bytes = include_bytes!("../fixtures/segment-v1.log");
    file.append(0, bytes).expect("there is room");
    let mut frames = 0;
    let recovered = recover(&disk, &owner(), 2, &mut |what| {
        frames += u64::from(matches!(what, Replay::Frame(_)));
    });
    let recovered = recovered.expect("it can be opened");
    assert!(recovered.damaged.is_empty() && recovered.torn.is_none());
    assert_eq!((frames, recovered.shards[0].first), (4, 4));
    assert_eq!(recovered.shards[0].lacks, Version::new());
}

#[test]
fn a_head_is_made_one_of_another_region_in_the_format_that_it_has() {
    let other = Region::new(9).expect("not 0");
    for stored in [
        &include_bytes!("../fixtures/segment-v1.log")[..],
        include_bytes!("../fixtures/segment-v2.log"),
    ] {
        let stored = Bytes::from_static(stored);
        let (head, length) = record::head_of_region(&stored, other).expect("it begins with one");
        assert_eq!(head.len(), length);
        let differing = stored.iter().zip(&head).filter(|(old, new)| old != new);
        assert!(
            differing.count() <= 1 + size_of::<u32>(),
            "the region, and the checksum"
        );
        let (kind, body, _) = record::open(&head.into()).expect("a record");
        let Ok(record::Record::Head(head)) = record::read((kind, body)) else {
            panic!("it is no head");
        };
        assert_eq!(head.owner.region, other);
        let frame = stored.slice(length..);
        assert!(record::head_of_region(&frame, other).is_err());
    }
}

/// What this build writes is what it wrote before.
#[test]
fn the_stored_segment_is_read_and_written_alike() {
    let (disk, _) = two_lives();
    let written = disk.content(&segment::name(2));
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/src/oplog/fixtures/segment-v2.log"
    );
    if std::env::var_os("UPDATE_FIXTURES").is_some() {
        std::fs::write(path, &written).unwrap();
    }
    assert_eq!(written, std::fs::read(path).unwrap());
}
