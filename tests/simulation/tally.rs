//! How often things happened, by name: a fault or a rare path that never occurs is not tested.

use std::collections::BTreeMap;
use std::fmt;

use super::has_more;

/// What is done to the database. A run of many seeds in which one of these never happens fails.
pub(super) const FAULTS: &[&str] = &[
    "cut: between two",
    "cut: one way only",
    "cut: a region alone",
    "cut: healed",
    "restart: empty, new epoch",
    "restart: twice within seconds",
    "clock: set forward",
    "clock: set back",
    "traffic: delayed by loss",
    "traffic: overtaken on another stream",
    "traffic: frame lost",
    "traffic: frame doubled",
    "traffic: of a life that has ended",
    "disk: log of an old life returns",
    "disk: node killed",
    "disk: node stopped in order",
    "disk: power lost",
    "disk: power lost, and all that was not synced",
    "disk: all regions at once",
    "disk: crash while it is written",
    "disk: crash in a snapshot",
    "disk: crash in a start",
    "disk: old copy put back",
    "disk: lost as a whole",
    "disk: bit flipped",
    "disk: writes fail",
    "disk: syncs fail",
    "disk: full",
    "link: log does not reach back",
    "builds: newer after a restart",
    "members: let in",
    "members: joins",
    "members: two join at once",
    "members: forgotten",
    "members: forgotten before it came",
    "members: forgotten while it joins",
    "members: two sides forget each other",
    "members: let back in",
    "members: let back in from the other side",
];

/// What is rarely met. The same holds for these.
pub(super) const PATHS: &[&str] = &[
    "catch-up: begun",
    "catch-up: peer busy",
    "catch-up: keys found equal",
    "catch-up: keys found to differ",
    "catch-up: done",
    "catch-up: ops since then are awaited",
    "catch-up: done, and on disk",
    "disk: start in the midst of a catch-up",
    "refill: all regions gave their word",
    "refill: done without a lost region",
    "link: peer silent",
    "link: connection ended",
    "delivery: waits for its deps",
    "delivery: waits for our clock",
    "delivery: gap, asked again",
    "delivery: duplicate dropped",
    "delivery: ended origin refused",
    "delivery: from a third region",
    "origin: closed",
    "origin: op turns up after that",
    "origin: op issued again",
    "origin: op lost with its node",
    "string: sibling uncovered",
    "string: edit outlives a SET",
    "string: edit outlives a DEL",
    "string: edits and parts meet",
    "string: edit folded",
    "string: stable sibling dropped",
    "counter: part outlives a SET",
    "counter: part outlives a DEL",
    "counter: removed twice",
    "counter: part reborn",
    "counter: part folded",
    "hash: sibling uncovered",
    "hash: part outlives an HSET",
    "set: add outlives a remove",
    "zset: part outlives a ZADD",
    "zset: part outlives a ZREM",
    "list: element set, but gone",
    "key: several types",
    "key: survives a flush",
    "key: concurrent deadlines",
    "key: deadline dropped",
    "key: removed when past its deadline",
    "state: drained to nothing",
    "builds: of several levels to the end",
    "memory: write refused",
    "memory: key evicted",
    "memory: frame left with its sender",
    "members: id refused that another has",
    "members: joiner refuses writes",
    "members: joiner serves",
    "members: restart of one that joins",
    "members: told and sent away",
    "members: forgotten one refuses writes",
    "members: forgotten to the end, and told",
    "members: ops lost with a forgotten region",
    "members: decision lost with its region",
    "members: a side goes on apart",
    "disk: reply waits for a sync",
    "disk: reply waits for the mark of the clock",
    "disk: write refused",
    "disk: unsynced ops lost",
    "disk: torn tail cut",
    "disk: lost op comes from others",
    "disk: snapshot finished",
    "disk: start from a snapshot",
    "disk: start from the log, in spite of a snapshot",
    "disk: start shows what the last life did",
    "disk: segment of the log cut",
    "disk: link reads old frames",
    "disk: flipped bit found in the log",
    "disk: flipped bit found in a snapshot",
    "disk: flipped bit does no harm",
];

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally(BTreeMap<&'static str, u64>);

impl Tally {
    /// Something happened.
    pub(super) fn count(&mut self, what: &'static str) {
        self.add(what, 1);
    }

    /// Something happened so many times.
    pub(super) fn add(&mut self, what: &'static str, times: u64) {
        debug_assert!(FAULTS.contains(&what) || PATHS.contains(&what), "{what}");
        *self.0.entry(what).or_default() += times;
    }

    /// All of another.
    pub(super) fn join(&mut self, other: &Self) {
        for (what, times) in &other.0 {
            self.add(what, *times);
        }
    }

    /// What never happened.
    pub(super) fn missing(&self) -> Vec<&'static str> {
        counted().filter(|what| self.get(what) == 0).collect()
    }

    fn get(&self, what: &str) -> u64 {
        self.0.get(what).copied().unwrap_or_default()
    }
}

/// What can happen.
fn counted() -> impl Iterator<Item = &'static str> {
    const MORE: [&str; 3] = ["builds: ", "members: ", "memory: "];
    let has_more = has_more();
    let all = FAULTS.iter().chain(PATHS).copied();
    all.filter(move |what| has_more || !MORE.iter().any(|start| what.starts_with(start)))
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for what in counted() {
            writeln!(f, "{:>12}  {what}", self.get(what))?;
        }
        Ok(())
    }
}
