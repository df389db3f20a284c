//! Ops of a region's first life that turn up when its second has begun and its first is closed.

use std::collections::BTreeSet;
use std::sync::Arc;

use crdt::{Attached, Deadline, Edit, End, Epoch, Key, Number, Origin, SLOTS, Seed, Slot};
use geo::proto::{Next, Offer};

use super::*;
use crate::oplog::Budget;
use crate::shard::testing::{NOW_MS, region};
use crate::shard::{Identity, Peers};

const PLAIN: Attached = Attached::Deadline(Deadline::Never);

fn shard(id: u8, epoch: u64) -> Shard {
    let identity = Identity {
        number: 0,
        first: Slot::new(0).expect("0 is a slot"),
        slots: SLOTS,
        origin: Origin::new(region(id), Epoch(epoch)),
        alone: false,
    };
    let peers = Peers {
        members: BTreeSet::from([1, 2, 3].map(region)),
        clock_drift_max_ms: 500,
        budget: Arc::new(Budget::new(1 << 20)),
        on_disk: false,
    };
    Shard::with_peers(identity, Seed::from_text(b"test"), 1, peers)
}

/// A command on the key.
type Write<'a> = &'a dyn Fn(&mut Txn<'_>, &Key<'_>);

/// Three regions.
struct World {
    shards: Vec<Shard>,
    now_ms: u64,
}

impl World {
    fn new() -> Self {
        let mut world = Self {
            shards: (1..=3).map(|id| shard(id, 1)).collect(),
            now_ms: NOW_MS,
        };
        world.sync();
        world
    }

    /// Runs a command in a region, numbered from 0. Returns the frame of its op.
    fn run(&mut self, at: usize, write: Write<'_>) -> Frame {
        self.now_ms += 1;
        run(&mut self.shards[at], self.now_ms, write)
    }

    /// Everybody tells everybody everything, a few times over, and settles.
    fn sync(&mut self) {
        for _ in 0..4 {
            self.now_ms += 1;
            for from in 0..3 {
                for to in (0..3).filter(|&to| to != from) {
                    self.tell(from, to);
                }
            }
            self.shards.iter_mut().for_each(|shard| {
                shard.settle(usize::MAX);
            });
        }
    }

    fn tell(&mut self, from: usize, to: usize) {
        let (sender, receiver) = (region(from as u8 + 1), region(to as u8 + 1));
        let mut frames = Vec::new();
        let source = &mut self.shards[from];
        let mut at = 0;
        while let Some(Next::Frame(frame, next)) = source.log_next(at, |_| true) {
            frames.push(frame);
            at = next;
        }
        frames.extend(source.delivery().late_of(receiver).cloned());
        let heartbeat = source.heartbeat(Time::from_ms(self.now_ms));
        for frame in frames {
            self.shards[to].offer(frame, sender, self.now_ms);
        }
        self.shards[to].heard(heartbeat, sender, self.now_ms);
    }

    /// The first region begins its next life. Returns the last one, with all that it holds.
    fn restart(&mut self) -> Shard {
        let epoch = self.shards[0].origin().epoch.0 + 1;
        let old = std::mem::replace(&mut self.shards[0], shard(1, epoch));
        self.sync();
        let closed = self
            .shards
            .iter()
            .map(|shard| shard.version().floor(region(1)));
        assert!(closed.into_iter().all(|below| below == Epoch(epoch)));
        old
    }

    /// A frame turns up at a region.
    fn turn_up(&mut self, at: usize, frame: &Frame) {
        let from = region(if at == 1 { 3 } else { 2 });
        let answer = self.shards[at].offer(frame.clone(), from, self.now_ms);
        assert_eq!(answer, Offer::Late(frame.clone()));
    }

    #[track_caller]
    fn check(&mut self, expected: &str) {
        self.sync();
        for shard in &mut self.shards {
            assert_eq!(look(shard), expected, "in {}", shard.origin());
            let held = shard.delivery().late().len();
            assert_eq!(held, 0, "in {}", shard.origin());
            assert_eq!(shard.late_ops().lost, 0);
        }
        let digests = self.shards.iter().map(|shard| shard.state().digest());
        assert_eq!(digests.collect::<BTreeSet<_>>().len(), 1, "digests agree");
    }
}

fn run(shard: &mut Shard, now_ms: u64, write: Write<'_>) -> Frame {
    shard.seal();
    let key = Seed::from_text(b"test").key(b"k");
    shard.transact(now_ms, None, |txn| write(txn, &key));
    shard.seal().expect("an op")
}

/// What readers see at the key.
fn look(shard: &Shard) -> String {
    let state = shard.state();
    let key = state.seed().key(b"k");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let mut parts: Vec<String> = match state.kind(&key, NOW_MS) {
        None => return "-".into(),
        Some(Kind::String) => vec![text(&state.string(&key, NOW_MS).unwrap_or_default())],
        Some(Kind::Hash) => {
            let fields = state.hash(&key, NOW_MS).into_iter();
            let fields = fields.flat_map(|hash| hash.iter());
            fields
                .map(|(f, v)| format!("{}={}", text(f), text(&v)))
                .collect()
        }
        Some(Kind::Set) => {
            let set = state.set(&key).into_iter();
            set.flat_map(|set| set.iter()).map(text).collect()
        }
        Some(Kind::SortedSet) => {
            let zset = state.sorted_set(&key).into_iter();
            let members = zset.flat_map(|zset| zset.range(0..zset.len()));
            members.map(|(m, s)| format!("{}={s}", text(m))).collect()
        }
        Some(Kind::List) => {
            let list = state.list(&key).into_iter();
            let elements = list.flat_map(|list| list.range(0..list.len()));
            return elements.map(text).collect::<Vec<_>>().join(" ");
        }
    };
    parts.sort();
    parts.join(" ")
}

fn add(by: i128) -> impl Fn(&mut Txn<'_>, &Key<'_>) {
    move |txn, key| txn.string_add(key, Number::int(by))
}

fn set(value: &'static str) -> impl Fn(&mut Txn<'_>, &Key<'_>) {
    move |txn, key| txn.string_set(key, value.as_bytes(), PLAIN)
}

fn append(bytes: &'static str) -> impl Fn(&mut Txn<'_>, &Key<'_>) {
    move |txn, key| txn.string_edit(key, Edit::Append(bytes.as_bytes()))
}

fn delete(txn: &mut Txn<'_>, key: &Key<'_>) {
    txn.remove(key);
}

fn member(name: &'static str) -> impl Fn(&mut Txn<'_>, &Key<'_>) {
    move |txn, key| {
        txn.set_add(key, &[name.as_bytes()]).unwrap();
    }
}

fn push(value: &'static str) -> impl Fn(&mut Txn<'_>, &Key<'_>) {
    move |txn, key| {
        txn.list_push(key, End::Tail, &[value.as_bytes()]).unwrap();
    }
}

/// What is known to all, what turns up late, what region 2 does before it does, and what is left.
#[track_caller]
fn check(known: &[Write<'_>], late: &[Write<'_>], meanwhile: &[Write<'_>], expected: &str) {
    for holder in 0..3 {
        let mut world = World::new();
        for write in known {
            world.run(0, write);
        }
        world.sync();
        let mut old = world.restart();
        let mut frames = Vec::new();
        for write in late {
            frames.push(run(&mut old, NOW_MS + 500, write));
        }
        for write in meanwhile {
            world.run(1, write);
        }
        world.sync();
        for frame in &frames {
            world.turn_up(holder, frame);
        }
        world.check(expected);
        // Once more, at somebody else, and in the region's next life.
        world.restart();
        for frame in &frames {
            world.turn_up((holder + 1) % 3, frame);
        }
        world.check(expected);
    }
}

/// An increment reaches nobody in time, the region fails over, both increment and delete.
#[test]
fn lost_op_returns() {
    let mut world = World::new();
    world.run(0, &add(5));
    world.sync();
    let mut old = world.restart();
    let late = run(&mut old, NOW_MS + 500, &add(1));
    world.run(0, &add(1));
    world.run(1, &delete);
    world.turn_up(2, &late);
    world.check("2");
    assert_eq!(world.shards[0].late_ops().reissued, 1);
    for holder in 0..3 {
        world.turn_up(holder, &late);
        world.check("2");
    }
}

#[test]
fn increments_count_once_whatever_has_become_of_their_part() {
    check(&[&add(5)], &[&add(1), &add(2)], &[], "8");
    check(&[&add(5)], &[&add(1), &add(2)], &[&delete], "3");
    check(&[&add(5)], &[&add(1), &add(2)], &[&set("10")], "13");
    check(&[], &[&add(1), &add(2)], &[&add(4)], "7");
    check(&[&add(5)], &[&delete, &add(2)], &[&add(4)], "6");
    let field =
        |by| move |txn: &mut Txn<'_>, key: &Key<'_>| txn.hash_add(key, b"f", Number::int(by));
    check(&[&field(5)], &[&field(1)], &[&delete], "f=1");
    let score = |by| {
        move |txn: &mut Txn<'_>, key: &Key<'_>| {
            txn.zset_add(key, b"m", by);
        }
    };
    check(&[&score(5.0)], &[&score(1.0)], &[&delete], "m=1");
    check(&[&score(5.0)], &[&score(1.5)], &[&score(1.0)], "m=7.5");
}

#[test]
fn a_removal_takes_what_it_had_seen_and_no_more() {
    check(&[&set("a")], &[&delete], &[], "-");
    check(&[&set("a")], &[&delete], &[&set("b")], "b");
    check(&[&add(5)], &[&delete], &[&add(1)], "1");
    check(
        &[&member("a"), &member("b")],
        &[&delete],
        &[&member("b")],
        "b",
    );
    check(&[&push("a"), &push("b")], &[&delete], &[&push("c")], "c");
    let flush = |txn: &mut Txn<'_>, _: &Key<'_>| txn.flush();
    check(&[&add(5)], &[&flush], &[&add(1)], "1");
}

#[test]
fn a_plain_write_yields_to_a_newer_one() {
    check(&[], &[&set("late")], &[], "late");
    let write = |txn: &mut Txn<'_>, key: &Key<'_>| {
        txn.hash_set(key, b"f", b"late", PLAIN);
    };
    check(&[], &[&write], &[], "f=late");
    let newer = |txn: &mut Txn<'_>, key: &Key<'_>| {
        txn.string_set(key, b"newer", PLAIN);
    };
    let mut world = World::new();
    let mut old = world.restart();
    let late = run(&mut old, NOW_MS + 1, &set("late"));
    world.now_ms = NOW_MS + 600;
    world.run(1, &newer);
    world.sync();
    world.turn_up(2, &late);
    world.check("newer");
    assert_eq!(world.shards[0].late_ops().skipped, 1);
}

#[test]
fn adds_and_edits_are_made_again() {
    check(&[&member("a")], &[&member("b")], &[&delete], "b");
    check(&[&set("a")], &[&append("b")], &[], "ab");
    check(&[&set("a")], &[&append("b")], &[&delete], "b");
}

#[test]
fn elements_go_to_their_old_places() {
    let pop = |txn: &mut Txn<'_>, key: &Key<'_>| txn.list_remove(key, 0..1);
    let insert = |txn: &mut Txn<'_>, key: &Key<'_>| {
        let inserted = txn.list_insert(key, 1, b"i");
        assert!(inserted.is_ok());
    };
    let write = |txn: &mut Txn<'_>, key: &Key<'_>| txn.list_set(key, 0, b"w");
    check(&[&push("a")], &[&push("b")], &[], "a b");
    check(&[&push("a"), &push("b")], &[&insert], &[], "a i b");
    check(&[&push("a"), &push("b")], &[&pop], &[&push("c")], "b c");
    check(
        &[&push("a"), &push("b")],
        &[&push("x"), &pop, &pop],
        &[&push("c")],
        "c x",
    );
    check(&[&push("a")], &[&write], &[], "w");
}

/// A deadline that stands alone is dropped by each region in its own time, so a late write that
/// begins a new life ends it where it still is.
#[test]
fn a_new_life_ends_deadlines_that_only_others_still_keep() {
    let mut world = World::new();
    let late = {
        let old = &mut world.shards[0];
        run(old, NOW_MS + 1, &|txn, key| {
            txn.set_add(key, &[b"late"]).unwrap();
        })
    };
    world.restart();
    world.run(1, &|txn, key| {
        txn.set_add(key, &[b"m"]).unwrap();
    });
    world.sync();
    // A deadline and a removal that have not seen each other: the deadline is left alone.
    world.run(1, &|txn, key| {
        txn.set_deadline(key, Deadline::At(NOW_MS + 60_000));
    });
    world.run(2, &|txn, key| {
        txn.remove(key);
    });
    for _ in 0..4 {
        world.now_ms += 1;
        // The first hears of all, and nobody hears of it.
        for (from, to) in [(1, 2), (2, 1), (1, 0), (2, 0)] {
            world.tell(from, to);
        }
        world.shards[0].settle(usize::MAX);
    }
    let key = Seed::from_text(b"test").key(b"k");
    let keeps = world.shards.iter().map(|s| s.state().deadline(&key));
    let keeps: Vec<bool> = keeps.map(|deadline| deadline.is_some()).collect();
    assert_eq!(keeps, [false, true, true]);
    world.turn_up(0, &late);
    world.sync();
    let digests = world.shards.iter().map(|shard| shard.state().digest());
    let digests: BTreeSet<u64> = digests.collect();
    assert_eq!(digests.len(), 1, "all regions show the same");
}
