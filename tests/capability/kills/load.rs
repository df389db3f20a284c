//! Who writes while nodes are killed, what they were told, and whether that is there.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use fastrand::Rng;
use testing::{Client, Value, wait_for, wait_until};

/// How many sets, lists and counters all share.
const SHARED: usize = 4;
const CONNECT_LIMIT: Duration = Duration::from_mins(2);
/// Between two looks whether more may be written; far longer than a round takes.
const ROUND_LIMIT: Duration = Duration::from_mins(5);

/// What writers and who kills share.
#[derive(Debug, Default)]
pub(super) struct Load {
    stops: AtomicBool,
    /// How much each writer may have written so far.
    allowed: AtomicU64,
    /// What all have been told that it is written.
    acknowledged: AtomicU64,
}

impl Load {
    /// Lets every writer write so much more.
    pub(super) fn begin_round(&self, writes_each: u64) {
        self.allowed.fetch_add(writes_each, Ordering::Relaxed);
    }

    /// Waits until so many more writes are acknowledged, or all have written what they may.
    pub(super) fn wait_for_writes(&self, more: u64, limit: Duration) {
        let wanted = self.acknowledged.load(Ordering::Relaxed) + more;
        // Writers of a node that is down do not get further, so this may not come.
        let mut last = (0, testing::Stopwatch::start());
        let done = wait_until(limit, || {
            let now = self.acknowledged.load(Ordering::Relaxed);
            if last.0 != now {
                last = (now, testing::Stopwatch::start());
            }
            wanted <= now || Duration::from_millis(300) < last.1.elapsed()
        });
        assert!(done, "nothing is written any more");
    }

    /// Ends the writers.
    pub(super) fn stop(&self) {
        self.stops.store(true, Ordering::Relaxed);
    }

    fn stops(&self) -> bool {
        self.stops.load(Ordering::Relaxed)
    }
}

/// What became of something that one writer alone writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    There,
    Gone,
    Either,
}

/// What writers were told.
#[derive(Debug, Default)]
pub(super) struct Told {
    /// Keys; the two of a transaction are one, by what their names begin with.
    keys: BTreeMap<String, Fate>,
    pairs: BTreeMap<String, Fate>,
    members: BTreeMap<String, Fate>,
    elements: BTreeMap<String, Fate>,
    /// By counter: what was added at least, and at most.
    counts: BTreeMap<usize, (i64, i64)>,
    pub(super) acknowledged: u64,
    pub(super) unknown: u64,
}

/// What a write was.
#[derive(Clone, Debug)]
enum Write {
    Set(String),
    Del(String),
    Pair(String),
    Add(String),
    Remove(String),
    Push(String),
    Count(usize, i64),
}

/// The one of those that all share for something of this name.
fn shared(name: &str) -> usize {
    name.bytes().map(usize::from).sum::<usize>() % SHARED
}

impl Write {
    /// One at random. What is deleted is known to be there.
    fn random(name: String, told: &Told, random: &mut Rng) -> Self {
        let known = |of: &BTreeMap<String, Fate>| {
            let last = of.iter().rev().find(|(_, fate)| **fate == Fate::There);
            last.map(|(name, _)| name.clone())
        };
        match random.u8(0..10) {
            0 | 1 => Self::Set(name),
            2 => known(&told.keys).map_or(Self::Set(name), Self::Del),
            3 | 4 => Self::Pair(name),
            5 => Self::Add(name),
            6 => known(&told.members).map_or(Self::Add(name), Self::Remove),
            7 | 8 => Self::Push(name),
            _ => Self::Count(random.usize(0..SHARED), random.i64(-3..10)),
        }
    }

    /// Sends it. Returns whether it is written; an error if that is not known.
    fn send(&self, client: &mut Client) -> io::Result<bool> {
        let reply = match self {
            Self::Set(name) => run(client, &["SET", &format!("key:{name}"), name]),
            Self::Del(name) => run(client, &["DEL", &format!("key:{name}")]),
            Self::Add(name) => run(client, &["SADD", &format!("set:{}", shared(name)), name]),
            Self::Remove(name) => run(client, &["SREM", &format!("set:{}", shared(name)), name]),
            Self::Push(name) => run(client, &["RPUSH", &format!("list:{}", shared(name)), name]),
            Self::Count(counter, by) => run(
                client,
                &["INCRBY", &format!("counter:{counter}"), &by.to_string()],
            ),
            Self::Pair(name) => {
                if run(client, &["MULTI"])?.error().is_some() {
                    return Ok(false);
                }
                for half in ["a", "b"] {
                    run(client, &["SET", &format!("{{pair:{name}}}{half}"), name])?;
                }
                run(client, &["EXEC"])
            }
        }?;
        match reply.error() {
            None => Ok(true),
            // On a machine that is late with everything, clocks seem to differ for a moment.
            Some(text)
                if ["LOADING", "EXECABORT", "CLOCKSKEW"]
                    .iter()
                    .any(|refused| text.starts_with(refused)) =>
            {
                Ok(false)
            }
            Some(text) => panic!("{self:?}: {text}"),
        }
    }
}

/// Runs a command on a connection that may break. That it hangs is no way to break.
fn run(client: &mut Client, command: &[&str]) -> io::Result<Value> {
    client.send(&[command])?;
    client.receive().inspect_err(|error| {
        let hangs = matches!(
            error.kind(),
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
        );
        assert!(!hangs, "{command:?} gets no reply");
    })
}

/// Writes until it is told to stop, over one connection after the other.
pub(super) fn write(number: usize, address: SocketAddr, mut random: Rng, load: &Load) -> Told {
    let mut told = Told::default();
    let mut written = 0;
    let mut client = None;
    loop {
        let is_next = wait_until(ROUND_LIMIT, || {
            load.stops() || written < load.allowed.load(Ordering::Relaxed)
        });
        assert!(is_next, "nobody lets writer {number} go on");
        if client.is_none() {
            let connected = wait_for(CONNECT_LIMIT, || {
                if load.stops() {
                    return Some(None);
                }
                Client::connect(address).ok().map(Some)
            });
            client = connected.expect("the node is started again");
        }
        let Some(open) = client.as_mut().filter(|_| !load.stops()) else {
            return told;
        };
        written += 1;
        let name = format!("{number}:{written}");
        let write = Write::random(name, &told, &mut random);
        match write.send(open) {
            Ok(false) => {}
            Ok(true) => {
                told.note(&write, true);
                load.acknowledged.fetch_add(1, Ordering::Relaxed);
            }
            Err(_) => {
                told.note(&write, false);
                client = None;
            }
        }
    }
}

impl Told {
    fn note(&mut self, write: &Write, is_known: bool) {
        let or_either = |fate| if is_known { fate } else { Fate::Either };
        let (into, name, fate) = match write {
            Write::Set(name) => (&mut self.keys, name, Fate::There),
            Write::Del(name) => (&mut self.keys, name, Fate::Gone),
            Write::Pair(name) => (&mut self.pairs, name, Fate::There),
            Write::Add(name) => (&mut self.members, name, Fate::There),
            Write::Remove(name) => (&mut self.members, name, Fate::Gone),
            Write::Push(name) => (&mut self.elements, name, Fate::There),
            Write::Count(counter, by) => {
                let (least, most) = self.counts.entry(*counter).or_default();
                if is_known || *by < 0 {
                    *least += by;
                }
                if is_known || 0 < *by {
                    *most += by;
                }
                self.tally(is_known);
                return;
            }
        };
        into.insert(name.clone(), or_either(fate));
        self.tally(is_known);
    }

    fn tally(&mut self, is_known: bool) {
        if is_known {
            self.acknowledged += 1;
        } else {
            self.unknown += 1;
        }
    }

    /// What two writers were told.
    pub(super) fn join(mut self, other: Self) -> Self {
        self.keys.extend(other.keys);
        self.pairs.extend(other.pairs);
        self.members.extend(other.members);
        self.elements.extend(other.elements);
        for (counter, (least, most)) in other.counts {
            let count = self.counts.entry(counter).or_default();
            *count = (count.0 + least, count.1 + most);
        }
        self.acknowledged += other.acknowledged;
        self.unknown += other.unknown;
        self
    }

    /// Whether what is there is what writers were told.
    #[track_caller]
    pub(super) fn check(&self, found: &Contents) {
        check_fates("key", &self.keys, &found.keys);
        check_fates("first half of a transaction", &self.pairs, &found.pairs.0);
        assert!(found.pairs.0 == found.pairs.1, "transactions are whole");
        check_fates("member", &self.members, &found.members);
        let elements: BTreeSet<String> = found.lists.iter().flatten().cloned().collect();
        check_fates("element", &self.elements, &elements);
        let count = found.lists.iter().map(Vec::len).sum::<usize>();
        assert_eq!(count, elements.len(), "no element is there twice");
        for (counter, (least, most)) in &self.counts {
            let count = found.counts[*counter];
            assert!(
                (least..=most).contains(&&count),
                "counter {counter}: {count} is not from {least} to {most}"
            );
        }
    }
}

#[track_caller]
fn check_fates(what: &str, told: &BTreeMap<String, Fate>, found: &BTreeSet<String>) {
    let wrong = |(name, fate): &(&String, &Fate)| match fate {
        Fate::There => !found.contains(*name),
        Fate::Gone => found.contains(*name),
        Fate::Either => false,
    };
    let wrong: Vec<_> = told.iter().filter(wrong).collect();
    assert!(wrong.is_empty(), "{what}: not as told: {wrong:?}");
    let strange: Vec<_> = found
        .iter()
        .filter(|name| !told.contains_key(*name))
        .collect();
    assert!(strange.is_empty(), "{what}: nobody wrote {strange:?}");
}

/// What a region holds.
#[derive(Debug, PartialEq)]
pub(super) struct Contents {
    size: i64,
    keys: BTreeSet<String>,
    /// The first and the second keys of transactions.
    pairs: (BTreeSet<String>, BTreeSet<String>),
    members: BTreeSet<String>,
    lists: Vec<Vec<String>>,
    counts: Vec<i64>,
}

impl Contents {
    /// Reads all that anybody has written.
    pub(super) fn read(client: &mut Client, told: &Told) -> Self {
        let mut there = |names: &BTreeMap<String, Fate>, before: &str, after: &str| {
            let names: Vec<_> = names.keys().collect();
            let mut found = BTreeSet::new();
            for some in names.chunks(100) {
                let get = |name: &&String| ["GET".to_owned(), format!("{before}{name}{after}")];
                let gets: Vec<_> = some.iter().map(get).collect();
                let replies = client.pipeline(&gets).expect("the node replies");
                for (name, reply) in some.iter().zip(replies) {
                    if reply != Value::Nil {
                        assert_eq!(reply.bytes(), Some(name.as_bytes()));
                        found.insert((*name).clone());
                    }
                }
            }
            found
        };
        let keys = there(&told.keys, "key:", "");
        let first = there(&told.pairs, "{pair:", "}a");
        let second = there(&told.pairs, "{pair:", "}b");
        let mut strings = |command: &[String]| {
            let reply = client.run(command);
            let items = reply.items().expect("it is a list");
            let text = |item: &&Value| String::from_utf8(item.bytes().unwrap().to_vec()).unwrap();
            items.iter().map(text).collect::<Vec<_>>()
        };
        let members = (0..SHARED)
            .flat_map(|set| strings(&["SMEMBERS".to_owned(), format!("set:{set}")]))
            .collect();
        let lists = (0..SHARED)
            .map(|list| {
                let range = ["LRANGE", &format!("list:{list}"), "0", "-1"];
                strings(&range.map(ToOwned::to_owned))
            })
            .collect();
        let counts = (0..SHARED).map(|counter| {
            let count = client.run(&["GET", &format!("counter:{counter}")]);
            count.number().unwrap_or_default() as i64
        });
        Self {
            keys,
            pairs: (first, second),
            members,
            lists,
            counts: counts.collect(),
            size: client.run(&["DBSIZE"]).int().expect("it is a number"),
        }
    }
}
