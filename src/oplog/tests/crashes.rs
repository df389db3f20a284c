//! What comes back of a log after a crash at any step, with any loss of what was not synced: all
//! scripts of a few acts of its journal.

use std::collections::HashSet;

use parking_lot::Mutex;

use super::*;

#[derive(Clone, Copy, Debug)]
enum Act {
    Push(u16),
    Write,
    Sync,
}

/// What was pushed, written and synced, by shard.
#[derive(Clone, Debug, Default)]
struct Count {
    pushed: [u64; 2],
    written: [u64; 2],
    synced: [u64; 2],
}

impl Count {
    fn act(&mut self, journal: &mut Journal, act: Act) {
        match act {
            Act::Push(shard) => {
                push(journal, shard);
                self.pushed[usize::from(shard)] += 1;
            }
            Act::Write => {
                journal.write().expect("there is room");
                self.written = self.pushed;
            }
            Act::Sync => {
                sync(journal);
                self.synced = self.written;
            }
        }
    }
}

/// What was looked at: what a crash had left, and what was to be found there.
type Looked = Mutex<HashSet<(u64, [u64; 2], [u64; 2])>>;

/// Looks at what is found after a crash in the course of the last act of a script.
fn check_crashes(script: &[Act], segment_bytes: u64, looked: &Looked) {
    let disk = FaultyDisk::default();
    let mut journal = begin(&disk, segment_bytes).expect("there is room");
    let mut count = Count::default();
    let (last, before) = script.split_last().expect("not empty");
    for &act in before {
        count.act(&mut journal, act);
    }
    let safe = count.synced;
    let start = disk.steps();
    count.act(&mut journal, *last);
    for steps in start..=disk.steps() {
        let safe = if steps == disk.steps() {
            count.synced
        } else {
            safe
        };
        for left in disk.crashes(steps) {
            let known = (left.fingerprint(|_| true), safe, count.pushed);
            if looked.lock().insert(known) {
                check_left(&left, safe, count.pushed, &format!("{script:?} at {steps}"));
            }
        }
    }
}

/// What is left begins with what was synced, has nothing that was not pushed, and can be lived on.
fn check_left(left: &FaultyDisk, synced: [u64; 2], pushed: [u64; 2], what: &str) {
    let (recovered, frames) = found(left).unwrap_or_else(|error| panic!("{what}: {error}"));
    assert!(recovered.damaged.is_empty(), "{what}: {recovered:?}");
    for shard in 0..2 {
        let count = frames[shard].len() as u64;
        assert!(
            synced[shard] <= count && count <= pushed[shard],
            "{what}: {count} frames of shard {shard}, {synced:?} synced"
        );
        assert!((0..count).eq(frames[shard].iter().copied()), "{what}");
    }
    let mut journal = begin(left, 1 << 20).expect("there is room");
    push(&mut journal, 0);
    journal.write().expect("there is room");
    sync(&mut journal);
    let (again, _) = found(left).unwrap_or_else(|error| panic!("{what}, then: {error}"));
    assert_eq!(again.torn, None, "{what}");
    assert_eq!(again.shards[0].first, frames[0].len() as u64 + 1, "{what}");
    assert!(
        recovered.epoch < again.epoch,
        "{what}: a life has its own epoch"
    );
}

#[test]
fn after_a_crash_at_any_step_what_was_synced_is_there_and_the_rest_is_a_prefix() {
    let acts = [Act::Push(0), Act::Push(1), Act::Write, Act::Sync];
    let longest = std::env::var("MERIDIAN_CRASH_ACTS").map_or(4, |acts| acts.parse().unwrap());
    let mut scripts = Vec::new();
    for length in 1..=longest {
        for mut number in 0..4_usize.pow(length) {
            let mut script = Vec::new();
            for _ in 0..length {
                script.push(acts[number % 4]);
                number /= 4;
            }
            // What is not written yet is as if it had never been.
            if !matches!(script.last(), Some(Act::Push(_))) {
                scripts.push(script);
            }
        }
    }
    let looked = Looked::default();
    testing::on_all_cores(&scripts, |script| {
        for segment_bytes in [1, 1 << 20] {
            check_crashes(script, segment_bytes, &looked);
        }
    });
    let (scripts, looked) = (scripts.len(), looked.lock().len());
    testing::say(&format!(
        "{scripts} scripts, {looked} different things left by crashes"
    ));
}

#[test]
fn what_a_killed_life_has_left_to_the_system_is_synced_before_the_next_builds_on_it() {
    let disk = FaultyDisk::default();
    let mut killed = begin(&disk, 1).expect("there is room");
    for shard in [0, 1] {
        push(&mut killed, shard);
        killed.write().expect("there is room");
    }
    let start = disk.steps();
    let mut next = begin(&disk, 1 << 20).expect("there is room");
    let begun = disk.steps();
    push(&mut next, 0);
    next.write().expect("there is room");
    for steps in start..=disk.steps() {
        let open = disk.unsynced(steps);
        for choice in 0..1_u32 << open.len() {
            let happened = |at| {
                let place = open.iter().position(|&(step, _)| step == at);
                choice >> place.expect("it was open") & 1 == 1
            };
            let left = disk.after_crash(steps, |at| {
                if happened(at) {
                    Fate::Happened
                } else {
                    Fate::Lost
                }
            });
            let (recovered, frames) = found(&left).expect("it can be opened");
            assert!(recovered.damaged.is_empty(), "{steps}: {recovered:?}");
            let kept = frames.iter().all(|numbers| !numbers.is_empty());
            assert!(steps < begun || kept, "{steps}: {frames:?}");
        }
    }
}

#[test]
fn what_a_failed_sync_was_about_is_written_once_more_before_the_next_life_builds_on_it() {
    for segment_bytes in [1, 1 << 20] {
        let disk = FaultyDisk::default();
        let mut journal = begin(&disk, segment_bytes).expect("there is room");
        push(&mut journal, 0);
        journal.write().expect("there is room");
        sync(&mut journal);
        push(&mut journal, 1);
        journal.write().expect("there is room");
        disk.trouble(Trouble {
            sync_fails: true,
            ..Trouble::default()
        });
        journal.sync().run().expect_err("the disk does not sync");
        // Another process in the same system, which still has all of it in memory.
        let same = disk.after_kill(disk.steps());
        begin(&same, segment_bytes).expect("there is room");
        for left in same.crashes(same.steps()) {
            let (recovered, frames) = found(&left).expect("it can be opened");
            assert!(recovered.damaged.is_empty(), "{recovered:?}");
            assert_eq!(frames, [[0], [0]]);
        }
    }
}
