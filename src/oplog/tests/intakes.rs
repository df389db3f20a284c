//! State that is taken in, among the frames of a log on disk; and shards that go on behind damage.

use std::sync::Arc;

use bytes::Bytes;
use crdt::{Epoch, Frame, Origin, Time, Version};

use super::{SHARDS, begin, found, frame, intake, is_intake, owner, push, sync, two_lives};
use crate::oplog::backlog::{Backlog, Old};
use crate::oplog::faulty::{Fate, FaultyDisk};
use crate::oplog::intake::Intake;
use crate::oplog::record::Stretch;
use crate::oplog::recover::recover;
use crate::oplog::recovered::Replay;
use crate::oplog::{Budget, Cursor, Entry, Keep, Log, Read};

#[test]
fn a_shard_that_was_resumed_goes_on_behind_its_damage_and_others_are_as_before() {
    let (disk, name) = two_lives();
    let bits = disk.content(&name).len() as u64 * 8;
    let mut resumed = 0;
    for bit in 0..bits {
        let copy = disk.after_crash(disk.steps(), |_| Fate::Happened);
        copy.flip(&name, bit);
        let Ok((damaged, before)) = found(&copy) else {
            continue;
        };
        let mut journal = begin(&copy, 1 << 20).expect("there is room");
        for &shard in damaged.damaged.keys() {
            journal.push(shard, Entry::Intake(&Intake::Resumed));
            resumed += 1;
        }
        // Something of each comes behind it.
        for shard in 0..SHARDS {
            journal.push(shard, Entry::Intake(&Intake::Piece(Bytes::new())));
        }
        journal.write().expect("there is room");
        sync(&mut journal);
        begin(&copy, 1 << 20).expect("there is room");
        let (mut frames, mut intakes) = ([0; 2], [0; 2]);
        let again = recover(&copy, &owner(), 0, &mut |what| match what {
            Replay::Frame(frame) => frames[usize::from(frame.shard())] += 1,
            Replay::Intake(shard, Intake::Piece(_)) => intakes[usize::from(shard)] += 1,
            Replay::From(..) | Replay::Intake(..) => {}
        });
        let again = again.expect("it can be opened");
        assert!(again.damaged.is_empty(), "bit {bit}: {:?}", again.damaged);
        assert_eq!(intakes, [1, 1], "bit {bit}");
        let whole = before
            .iter()
            .map(|numbers| numbers.iter().filter(|&&n| !is_intake(n)));
        assert!(whole.map(Iterator::count).eq(frames), "bit {bit}");
    }
    assert!(0 < resumed);
}

#[test]
fn a_log_knows_after_a_start_what_came_as_state_and_links_read_over_it() {
    let disk = FaultyDisk::default();
    let mut journal = begin(&disk, 1 << 20).expect("there is room");
    for _ in 0..3 {
        push(&mut journal, 0);
    }
    journal.write().expect("there is room");
    sync(&mut journal);
    let journal = parking_lot::Mutex::new(journal);
    let mut backlog = Backlog::default();
    let mut read = |from| {
        backlog
            .next(|| journal.lock(), 0, from, &mut |_| true)
            .expect("whole")
    };
    assert_eq!(read(0), Old::Frame(frame(0, 0), 1));
    assert_eq!(read(1), Old::Frame(frame(0, 2), 3), "1 is none");
    assert_eq!(read(3), Old::End(3));
    drop(journal);
    // Of the life after the next it is said by the head alone.
    for _ in 0..2 {
        let (recovered, _) = found(&disk).expect("it can be opened");
        let origin = Origin::new(owner().region, Epoch(1));
        let upto = |time| Version::from_iter([(origin, Time(time))]);
        assert_eq!(recovered.shards[0].ends, upto(3));
        assert_eq!(recovered.shards[0].lacks, upto(2));
        let mut log = Log::new(Keep::WithinBudget, Arc::new(Budget::new(1 << 20)));
        let last = recovered.shards[0].clone();
        log.go_on([Stretch::default(), last].into_iter().collect());
        assert_eq!(
            log.start(owner().region, &upto(1)),
            None,
            "op 2 is not in it"
        );
        assert_eq!(log.start(owner().region, &upto(2)), Some(Cursor(0)));
        begin(&disk, 1 << 20).expect("there is room");
    }
}

#[test]
fn the_journal_takes_what_came_as_state_between_the_frames_that_it_came_between() {
    let (mut log, budget) = {
        let budget = Arc::new(Budget::new(1 << 20));
        (Log::new(Keep::WithinBudget, Arc::clone(&budget)), budget)
    };
    log.note(Intake::Piece(Bytes::from_static(b"lost")));
    log.go_on([Stretch::default()].into_iter().collect());
    let piece = Intake::Piece(Bytes::from(vec![7; 5_000]));
    log.append(frame(0, 0));
    log.note(piece.clone());
    log.join(&Version::from_iter([(
        Origin::new(owner().region, Epoch(1)),
        Time(2),
    )]));
    log.append(frame(0, 2));
    assert!(5_000 < log.intake_bytes() && 5_000 < budget.used());
    let mut taken = Vec::new();
    log.take(|entry| taken.push(format!("{entry:?}")));
    let wanted = [
        format!("{:?}", Entry::Frame(&frame(0, 0))),
        format!("{:?}", Entry::Intake(&piece)),
        format!("{:?}", Entry::Intake(&intake(1))),
        format!("{:?}", Entry::Frame(&frame(0, 2))),
    ];
    assert_eq!(taken, wanted);
    assert!(log.intake_bytes() == 0 && budget.used() < 5_000);
    log.take(|entry| panic!("{entry:?} again"));
    let wanted = |_: &Frame| true;
    assert_eq!(
        log.read(Cursor(1), wanted),
        Read::Frame(&frame(0, 2), Cursor(4))
    );
    drop(log);
    assert_eq!(budget.used(), 0);
}
