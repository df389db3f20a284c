//! Snapshots, and the log under them, after a crash at any step, with any loss of what was not
//! synced: all scripts of a few things that a node does.
//!
//! A start must show what some prefix of the writes had come to, shard by shard, and say that it
//! holds just those; all that was synced must be among them, and after a kill all that was handed
//! to the system. And it must be one that can be gone on from.

use std::collections::{BTreeSet, HashSet};
use std::future::Future as _;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::LazyLock;
use std::task::{Context, Poll, Waker};

use crdt::{End, Number, Origin, Region, Seed, Time};

use super::*;
use crate::durability::Fsync;
use crate::oplog::Budget;
use crate::oplog::faulty::{Fate, FaultyDisk, Trouble};
use crate::shard::{Identity, Peers, Shard};
use crate::store::{Begun, Store};

const SHARDS: usize = 2;
/// Shards that the database might have: each has few slots then, and is soon made.
const DIVISIONS: u16 = 1_024;
const SEED: &[u8] = b"test";
const NOW: Moment = Moment {
    wall_ms: 1_000_000,
    monotonic_ns: 0,
};

/// Of each shard, the names of two keys.
static NAMES: LazyLock<[[[u8; 4]; 2]; SHARDS]> = LazyLock::new(|| {
    let seed = Seed::from_text(SEED);
    [0, 1].map(|shard| {
        let (first, count) = Shards::slots_of(shard, DIVISIONS);
        let slots = first.number()..first.number() + count;
        let names = (0_u32..).map(u32::to_le_bytes);
        let mut names = names.filter(|name| slots.contains(&seed.key(name).slot.number()));
        [(); 2].map(|()| names.next().expect("there are many"))
    })
});

/// What a node does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Act {
    /// A client writes, and its reply has not left.
    Note,
    /// A client writes, and gets its reply as under `everysec`.
    Write,
    /// What has gathered is written and synced.
    Sync,
    /// The same, and the sync fails.
    Fail,
    /// A snapshot is begun.
    Begin,
    /// A piece of it is written.
    Piece,
    /// What is left of it is written, and it is finished.
    Finish,
    /// Segments of the log before it are removed.
    Cut,
    /// The process is killed, and another starts.
    Kill,
}

const ACTS: [Act; 9] = [
    Act::Note,
    Act::Write,
    Act::Sync,
    Act::Fail,
    Act::Begin,
    Act::Piece,
    Act::Finish,
    Act::Cut,
    Act::Kill,
];

/// A life of a node.
struct Life {
    shards: Arc<Shards>,
    durability: Arc<Durability>,
    snapshots: Snapshots,
    saving: Option<Writing>,
}

/// The last op of each origin that has any.
type Held = Vec<(Origin, Time)>;

impl Life {
    fn begin(disk: &FaultyDisk) -> Self {
        let owner = Owner {
            database: "test".to_owned(),
            region: Region::new(1).expect("not 0"),
            shards: SHARDS as u16,
        };
        let region = owner.region;
        let store = Store::on(Arc::new(disk.clone()), owner, limits::SEGMENT_BYTES);
        let epoch = store.epoch(NOW).expect("the log can be read");
        let seed = Seed::from_text(SEED);
        let peers = Peers {
            // The other is never heard of, so nothing is ever closed.
            members: BTreeSet::from([region, Region::new(2).expect("not 0")]),
            clock_drift_max_ms: 0,
            budget: Arc::new(Budget::new(1 << 20)),
            on_disk: true,
        };
        let shard = |number| {
            let (first, slots) = Shards::slots_of(number, DIVISIONS);
            let identity = Identity {
                number,
                first,
                slots,
                origin: Origin::new(region, epoch),
                alone: false,
            };
            Shard::with_peers(identity, seed, 1, peers.clone())
        };
        let shards = (0..SHARDS as u16).map(shard).collect();
        let shards = Arc::new(Shards::new(seed, shards));
        let begun = store.go_on(&shards, epoch, Fsync::EverySecond, NOW);
        let Begun {
            durability,
            loaded,
            damaged,
            ..
        } = begun.unwrap_or_else(|error| panic!("it does not start: {error}"));
        assert!(damaged.is_empty(), "{damaged:?}");
        let durability = Arc::new(durability);
        let settings = Settings {
            loaded,
            geo_bytes: 0,
            piece_bytes: limits::PIECE_BYTES,
        };
        Self {
            snapshots: store.snapshots(Arc::clone(&shards), Arc::clone(&durability), settings),
            shards,
            durability,
            saving: None,
        }
    }

    /// Writes to a shard: a list, whose elements show what is there twice, and a counter.
    fn note(&self, index: usize) {
        let [list, counter] = NAMES[index]
            .each_ref()
            .map(|name| self.shards.seed().key(name));
        self.shards.with(index, |shard| {
            shard.transact(NOW.wall_ms, None, |txn| {
                let pushed = txn.list_push(&list, End::Tail, &[b"element"]);
                pushed.expect("it is a list");
                txn.string_add(&counter, Number::int(1));
            });
        });
    }

    /// Whether a reply may leave.
    fn is_answered(&self) -> bool {
        let receipt = pin!(self.durability.receipt(&self.shards));
        let polled = receipt.poll(&mut Context::from_waker(Waker::noop()));
        matches!(polled, Poll::Ready(Ok(())))
    }

    /// What a shard says that it holds, and the digest of what it shows.
    fn look(&self, index: usize) -> (Held, u64) {
        self.shards.with(index, |shard| {
            let held = shard.delivery().applied_ops();
            let held = held.iter().filter(|(_, time)| Time::ZERO < *time);
            (held.collect(), shard.state().digest())
        })
    }
}

/// What is known of a shard.
#[derive(Clone, Debug, Hash)]
struct Known {
    /// After each write: what it held, and the digest. The first is from before them.
    looks: Vec<(Held, u64)>,
    /// How many writes were handed to the system, and synced.
    written: usize,
    synced: usize,
}

impl Known {
    /// Which of its writes a shard of another life holds: those up to this.
    fn find(&self, look: &(Held, u64)) -> usize {
        let found = self.looks.iter().position(|known| known == look);
        found.unwrap_or_else(|| panic!("no prefix explains {look:?}; {self:?}"))
    }
}

/// A node, in one life after the other.
struct Node {
    disk: FaultyDisk,
    life: Life,
    known: Vec<Known>,
    /// How many writes there were.
    writes: usize,
}

impl Node {
    fn new() -> Self {
        let disk = FaultyDisk::default();
        let life = Life::begin(&disk);
        let known = |index| Known {
            looks: vec![life.look(index)],
            written: 0,
            synced: 0,
        };
        Self {
            known: (0..SHARDS).map(known).collect(),
            disk,
            life,
            writes: 0,
        }
    }

    fn note(&mut self) {
        let index = self.writes % SHARDS;
        self.writes += 1;
        self.life.note(index);
        self.known[index].looks.push(self.life.look(index));
    }

    fn all_written(&mut self) {
        for known in &mut self.known {
            known.written = known.looks.len() - 1;
        }
    }

    fn all_synced(&mut self) {
        self.all_written();
        for known in &mut self.known {
            known.synced = known.written;
        }
    }

    /// Does it. Returns whether it can be done.
    fn act(&mut self, act: Act) -> bool {
        match act {
            Act::Note => self.note(),
            Act::Write => {
                self.note();
                if self.life.is_answered() {
                    self.all_written();
                }
            }
            Act::Sync => {
                let synced = self.life.durability.sync_now(&self.life.shards, NOW);
                if synced.is_ok() {
                    self.all_synced();
                }
            }
            Act::Fail => {
                self.disk.trouble(Trouble {
                    sync_fails: true,
                    ..Trouble::default()
                });
                let before = self.disk.steps();
                let synced = self.life.durability.sync_now(&self.life.shards, NOW);
                self.disk.trouble(Trouble::default());
                if synced.is_err() && before < self.disk.steps() {
                    self.all_written();
                }
            }
            Act::Begin => {
                if self.life.saving.is_some() {
                    return false;
                }
                self.life.saving = self.life.snapshots.begin().ok();
                if self.life.saving.is_some() {
                    self.all_written();
                }
            }
            Act::Piece => {
                let Some(mut saving) = self.life.saving.take() else {
                    return false;
                };
                let has_more = self.piece(&mut saving);
                self.life.saving = Some(saving);
                return has_more;
            }
            Act::Finish => {
                let Some(mut saving) = self.life.saving.take() else {
                    return false;
                };
                while self.piece(&mut saving) {}
                if self.life.snapshots.finish(saving, NOW).is_ok() {
                    self.all_synced();
                }
            }
            Act::Cut => self.life.snapshots.cut(),
            Act::Kill => self.kill(),
        }
        true
    }

    /// Writes a piece. Returns whether there was one.
    fn piece(&self, saving: &mut Writing) -> bool {
        let piece = self.life.snapshots.piece(saving);
        piece.expect("there is room").is_some()
    }

    fn kill(&mut self) {
        self.disk = self.disk.after_kill(self.disk.steps());
        self.life = Life::begin(&self.disk);
        for (index, known) in self.known.iter_mut().enumerate() {
            let found = known.find(&self.life.look(index));
            assert!(
                known.written <= found,
                "a kill loses nothing that is written"
            );
            known.looks.truncate(found + 1);
        }
        self.all_synced();
    }
}

/// Looks whether what a crash has left is what it may be, and can be lived on.
fn check_left(left: &FaultyDisk, known: &[Known]) {
    let life = Life::begin(left);
    for (index, known) in known.iter().enumerate() {
        let found = known.find(&life.look(index));
        assert!(known.synced <= found, "{found} are left: {known:?}");
        life.note(index);
    }
    let synced = life.durability.sync_now(&life.shards, NOW);
    synced.expect("the disk works");
    let again = left.after_crash(left.steps(), |_| Fate::Lost);
    let again = Life::begin(&again);
    for index in 0..SHARDS {
        assert_eq!(again.look(index), life.look(index));
    }
}

/// What was looked at: what a crash had left, and what was to be found there.
type Looked = Mutex<HashSet<u64>>;

/// Plays a script, and looks at what is left by a crash in the course of its last act. Returns
/// whether that is one which matters.
fn play(script: &[Act], looked: &Looked) -> bool {
    let mut node = Node::new();
    let (&last, before) = script.split_last().expect("not empty");
    for &act in before {
        node.act(act);
    }
    let (known, start) = (node.known.clone(), node.disk.steps());
    if !node.act(last) {
        return false;
    }
    let end = node.disk.steps();
    for steps in start + 1..=end {
        // What it was to be found before, of the writes that there are now.
        let (firm, looks) = (if steps == end { &node.known } else { &known }, &node.known);
        let expected = firm.iter().zip(looks).map(|(firm, now)| Known {
            looks: now.looks.clone(),
            ..firm.clone()
        });
        let expected: Vec<Known> = expected.collect();
        for left in node.disk.crashes(steps) {
            let mut hasher = DefaultHasher::new();
            // What has no name of its own yet is never read.
            let files = left.fingerprint(|name| format::kind_of(name) != format::Kind::Part);
            (files, &expected).hash(&mut hasher);
            if looked.lock().insert(hasher.finish()) {
                let checked = catch_unwind(AssertUnwindSafe(|| {
                    check_left(&left, &expected);
                }));
                assert!(checked.is_ok(), "{script:?}, at {steps}");
            }
        }
    }
    start < end || last == Act::Note
}

/// Plays all scripts that begin so. Returns how many.
fn explore(script: &mut Vec<Act>, longest: usize, looked: &Looked) -> usize {
    if !play(script, looked) {
        return 0;
    }
    let mut played = 1;
    if script.len() < longest {
        for act in ACTS {
            script.push(act);
            played += explore(script, longest, looked);
            script.pop();
        }
    }
    played
}

#[test]
fn after_a_crash_at_any_step_a_start_shows_a_prefix_with_all_that_was_synced() {
    let longest = std::env::var("MERIDIAN_CRASH_ACTS").map_or(3, |acts| acts.parse().unwrap());
    let looked = Looked::default();
    let played = AtomicU64::new(0);
    testing::on_all_cores(&ACTS, |&first| {
        let more = explore(&mut vec![first], longest, &looked);
        played.fetch_add(more as u64, Ordering::Relaxed);
    });
    let (played, looked) = (played.into_inner(), looked.lock().len());
    testing::say(&format!(
        "{played} scripts, {looked} different things left by crashes"
    ));
}

/// The log before it is gone, so a start needs it.
#[test]
fn a_snapshot_stays_until_the_next_has_its_name() {
    use Act::{Begin, Cut, Finish, Write};
    let script = [Write, Begin, Finish, Cut, Write, Begin, Finish];
    assert!(play(&script, &Looked::default()));
}
