//! What a log keeps in memory, and what it knows of what it does not.

use crdt::{Change, Effect, Epoch, FrameWriter, Time};

use super::*;

fn region(id: u8) -> Region {
    Region::new(id).expect("not 0")
}

fn origin(id: u8) -> Origin {
    Origin::new(region(id), Epoch(1))
}

/// Frames of an origin, one for each slice of op times.
fn frames(id: u8, times: &[&[u64]]) -> Vec<Frame> {
    let mut writer = FrameWriter::new(0, origin(id));
    let mut frame = |times: &&[u64]| {
        for &time in *times {
            writer.begin_op(Time(time), &Version::new());
            writer.push(&Effect {
                key: b"k",
                change: Change::MemberAdd { member: b"m" },
            });
            writer.end_op();
        }
        writer.seal().expect("there are ops")
    };
    times.iter().map(&mut frame).collect()
}

fn log(bytes_max: u64, keep: Keep) -> (Log, Arc<Budget>) {
    let budget = Arc::new(Budget::new(bytes_max));
    (Log::new(keep, Arc::clone(&budget)), budget)
}

fn has(id: u8, time: u64) -> Version {
    [(origin(id), Time(time))].into_iter().collect()
}

#[test]
fn a_cursor_sees_every_frame_that_it_wants_once() {
    let (mut log, _) = log(1 << 20, Keep::WithinBudget);
    let (ours, theirs) = (frames(1, &[&[1], &[2], &[3]]), frames(2, &[&[1], &[2]]));
    for (one, other) in ours.iter().zip(&theirs) {
        log.append(one.clone());
        log.append(other.clone());
    }
    let mut read = Vec::new();
    let mut cursor = log
        .start(region(1), &Version::new())
        .expect("nothing is dropped");
    while let Read::Frame(frame, next) = log.read(cursor, |f| f.origin() == origin(1)) {
        read.push(frame.clone());
        cursor = next;
    }
    assert_eq!(read, ours[..2]);
    assert_eq!(log.read(cursor, |_| false), Read::End(log.end()));
    log.append(ours[2].clone());
    assert_eq!(
        log.read(Cursor(4), |_| true),
        Read::Frame(&ours[2], Cursor(5))
    );
}

#[test]
fn over_budget_the_oldest_go_and_the_log_knows_what_it_lacks() {
    let all = frames(1, &[&[1], &[2], &[3]]);
    let each = cost(Some(&all[0]));
    // An eighth is for what is kept ready.
    let (mut log, budget) = log((2 * each + 2) * 8 / 7 + 1, Keep::WithinBudget);
    for frame in &all {
        log.append(frame.clone());
    }
    assert_eq!(log.len(), 2);
    assert_eq!(budget.used(), log.bytes());
    assert_eq!(log.read(Cursor(0), |_| true), Read::Behind);
    assert_eq!(log.start(region(1), &Version::new()), None, "op 1 is gone");
    assert_eq!(log.start(region(1), &has(1, 1)), Some(Cursor(1)));
    assert_eq!(
        log.start(region(2), &Version::new()),
        Some(Cursor(1)),
        "nothing was dropped"
    );
    drop(log);
    assert_eq!(budget.used(), 0);
}

#[test]
fn the_newest_frame_stays_however_large_unless_nothing_is_to_be_kept() {
    let all = frames(1, &[&[1], &[2]]);
    let (mut kept, _) = log(1, Keep::WithinBudget);
    let (mut none, budget) = log(1 << 20, Keep::Nothing);
    for frame in &all {
        kept.append(frame.clone());
        none.append(frame.clone());
    }
    assert_eq!(kept.len(), 1);
    assert_eq!(
        kept.read(Cursor(1), |_| true),
        Read::Frame(&all[1], Cursor(2))
    );
    assert!(none.is_empty());
    assert_eq!((budget.used(), none.end()), (0, Cursor(2)));
    assert_eq!(none.start(region(1), &has(1, 1)), None);
}

#[test]
fn ops_before_the_first_frame_of_an_origin_are_known_to_be_missing() {
    let (mut log, _) = log(1 << 20, Keep::WithinBudget);
    log.append(frames(1, &[&[1], &[2]]).pop().expect("two"));
    assert_eq!(log.start(region(1), &Version::new()), None);
    assert_eq!(log.start(region(1), &has(1, 1)), Some(Cursor(0)));
}

#[test]
fn what_came_as_state_is_known_to_be_missing() {
    let (mut log, _) = log(1 << 20, Keep::WithinBudget);
    let all = frames(2, &[&[1], &[5], &[9]]);
    log.append(all[0].clone());
    log.join(&has(2, 5));
    log.append(all[2].clone());
    assert_eq!(log.start(region(2), &has(2, 1)), None, "op 5 is not in it");
    assert_eq!(log.start(region(2), &has(2, 5)), Some(Cursor(0)));
    assert_eq!(*log.ends(), has(2, 9));
    log.join(&has(2, 7));
    assert_eq!(*log.ends(), has(2, 9));
    assert_eq!(log.start(region(2), &has(2, 5)), Some(Cursor(0)));
}

#[test]
fn pending_counts_ops_that_are_lacking() {
    let (mut log, _) = log(1 << 20, Keep::WithinBudget);
    for frame in frames(1, &[&[1, 2, 3], &[4, 5]])
        .into_iter()
        .chain(frames(2, &[&[1], &[9]]))
    {
        log.append(frame);
    }
    assert_eq!(log.pending(region(3), &Version::new()), 7);
    assert_eq!(log.pending(region(2), &Version::new()), 5, "its own it has");
    assert_eq!(log.pending(region(2), &has(1, 2)), 3);
    assert_eq!(log.pending(region(2), &has(1, 5)), 0);
}

#[test]
fn a_frame_from_elsewhere_is_kept_in_memory_of_the_log() {
    let (mut log, budget) = log(1 << 20, Keep::WithinBudget);
    let all = frames(1, &[&[1], &[2, 3]]);
    assert!(!budget.lacks_room());
    for frame in &all {
        log.append_copy(frame.clone());
    }
    assert!(log.frames().eq(&all));
    let places: Vec<_> = log.frames().map(|frame| frame.bytes().as_ptr()).collect();
    let behind_the_first = places[0].wrapping_add(all[0].bytes().len());
    assert_eq!(places[1], behind_the_first, "of one block");
    assert!(budget.lacks_room());
    budget.make_room();
    assert!(!budget.lacks_room());
}
