//! What must hold meanwhile, and in the end.

use std::collections::{BTreeMap, BTreeSet};

use crdt::Version;
use geo::testing::region;

use super::{NUMBERS, PATIENCE_MS, TIDY_EVERY_MS, World};
use crate::model::look::Look;
use crate::replica::{Replica, looks};

/// For so long nothing gets through until connections have ended.
const SILENCE_MS: u64 = 4_000;

/// A digest, and what readers see of some keys.
pub(super) type Seen = (u64, Vec<Look>);

impl World {
    /// Replicas that hold the same ops show the same.
    pub(super) fn check_equal_versions(&mut self, number: u16) {
        let mut all = Vec::new();
        for at in self.running() {
            let (replica, _) = self.net.shard(at, number);
            if replica.observe() && !replica.shard().is_ahead() {
                all.push((at, replica.held().clone()));
            }
        }
        for (index, (at, held)) in all.iter().enumerate() {
            for (other, _) in all[index + 1..].iter().filter(|other| other.1 == *held) {
                if self.has_parts_of(*at, *other, number) || self.has_parts_of(*other, *at, number)
                {
                    continue;
                }
                let names = &self.names[usize::from(number)];
                let one = seen(self.net.shard(*at, number).0, names, 0);
                let two = seen(self.net.shard(*other, number).0, names, 0);
                assert_eq!(one, two, "equal versions in regions {at} and {other}");
            }
        }
    }

    /// Whether a region has forgotten another, and has parts of ops that this one may have whole:
    /// what a forgotten region alone had goes with it, and parts of that which others have taken in
    /// are all that there is of it for them. Of those that stay nobody has such an op whole.
    fn has_parts_of(&mut self, at: u8, other: u8, number: u16) -> bool {
        let has_forgotten = self.net.roster(at).forgotten();
        has_forgotten.contains_key(&region(other)) && self.net.shard(at, number).0.has_adopted
    }

    /// All shards of all regions.
    fn replicas(&self) -> Vec<(u8, u16)> {
        let all = self.running().into_iter();
        all.flat_map(|at| (0..NUMBERS).map(move |number| (at, number)))
            .collect()
    }

    /// Everything that any of some regions holds of a shard.
    pub(super) fn held_anywhere(&mut self, regions: &[u8], number: u16) -> Version {
        let mut all = Version::new();
        for &at in regions {
            all.join(self.net.shard(at, number).0.held());
        }
        all
    }

    /// Nothing goes wrong any more, and clients stop: the regions that take part end up level, with
    /// nothing left to settle and nothing lost that any of them held. Those that have forgotten the
    /// rest, and go on apart, do so among themselves.
    pub(crate) fn finish(&mut self) {
        self.end_changes();
        self.rooms.clear();
        self.limit_memory();
        self.end_connections();
        self.net.heal();
        // A node whose disk has failed ends by it, with what it alone held and could not write.
        self.mend_disks();
        let mut held = BTreeMap::new();
        for (at, number) in self.replicas() {
            held.insert((at, number), self.net.shard(at, number).0.held().clone());
        }
        let groups = self.groups();
        for number in 0..NUMBERS {
            // What comes after a lost frame shows that it is missing.
            for &at in groups.iter().flatten() {
                // A disk that was full counts as such until it has taken something.
                self.wait_for("it serves, and takes writes", |world| {
                    world.serves(at) && !world.refuses(at)
                });
                let name = String::from_utf8_lossy(&self.names[usize::from(number)][0]);
                let last = format!("SET {name} {at}");
                self.send(at, number, &[last]);
            }
        }
        for group in &groups {
            self.wait_for("all are level", |world| world.is_level(group));
        }
        for number in 0..NUMBERS {
            self.check_equal_versions(number);
            for group in &groups {
                let mut of_group = Version::new();
                for &at in group {
                    of_group.join(&held[&(at, number)]);
                }
                self.check_end(group, number, &of_group);
            }
        }
        self.check_members(&groups);
        // Since then keys may have been removed that were past their deadline.
        for group in &groups {
            self.wait_for("all are level, and on disk", |world| world.is_level(group));
            self.check_disks(group);
        }
        self.count_the_rest();
    }

    /// Where frames got lost that were passed on for another region, nothing need come behind them
    /// that shows it: a transport that loses any ends, which is owed.
    fn end_connections(&mut self) {
        if self.net.mishaps().lost == 0 {
            return;
        }
        for at in self.running() {
            let others = self.running().into_iter().filter(|&other| at < other);
            self.cut_off(at, &others.collect::<Vec<u8>>());
        }
        self.pass(SILENCE_MS);
    }

    /// Lets time pass until something holds.
    pub(super) fn wait_for(&mut self, what: &str, mut holds: impl FnMut(&mut Self) -> bool) {
        let mut waited_ms = 0;
        while !holds(self) {
            let is_late = PATIENCE_MS <= waited_ms;
            assert!(!is_late, "not in a minute: {what}\n{}", self.describe());
            self.pass(TIDY_EVERY_MS);
            waited_ms += TIDY_EVERY_MS;
        }
    }

    /// Whether some regions hold the same, know so, and have nothing left to do.
    fn is_level(&mut self, regions: &[u8]) -> bool {
        (0..NUMBERS).all(|number| {
            let all = self.held_anywhere(regions, number);
            regions.iter().all(|&at| {
                let (replica, now_ms) = self.net.shard(at, number);
                if *replica.held() != all {
                    return false;
                }
                let mut shard = replica.shard();
                let live = shard.len(now_ms);
                let stable = shard.delivery().stable();
                all.iter().all(|(origin, time)| time <= stable.get(origin))
                    && !shard.is_ahead()
                    && shard.delivery().open_endings().is_empty()
                    && shard.state().unsettled() == 0
                    && shard.state().len() == live
            })
        })
    }

    fn check_end(&mut self, regions: &[u8], number: u16, held: &Version) {
        let names = self.names[usize::from(number)].clone();
        for &at in regions {
            let (replica, now_ms) = self.net.shard(at, number);
            let has = replica.held();
            for (origin, time) in held.iter() {
                assert!(
                    time <= has.get(origin),
                    "a region held {origin} up to {time:?}, and region {at} does not"
                );
            }
            {
                let mut shard = replica.shard();
                let state = shard.state();
                assert_eq!(
                    state.is_void(),
                    state.is_empty(),
                    "nothing is left of what does not exist"
                );
                assert_eq!(shard.delivery().waiting_bytes(), 0, "nothing waits");
            }
            replica.check_model(&names, now_ms);
            let (digest, seen) = seen(replica, &names, 0);
            if !self.disks.contains_key(&at) && self.log_bytes.is_none() {
                let anew = replica.replay();
                assert_eq!(looks(&anew, &names, 0), seen, "replay: values");
                assert_eq!(anew.digest(), digest, "replay: digests");
            }
            self.note(&digest.to_le_bytes());
        }
        self.tally.count("state: drained to nothing");
    }

    fn count_the_rest(&mut self) {
        let running = self.running();
        let levels: BTreeSet<u32> = running.iter().map(|&at| self.net.level(at)).collect();
        self.tally.add(
            "builds: of several levels to the end",
            (1 < levels.len()).into(),
        );
        for number in 0..NUMBERS {
            let held = self.held_anywhere(&running, number);
            let graves = self.graves.iter().filter(|grave| grave.number == number);
            let history = self.history.borrow();
            let lost = graves.flat_map(|grave| history.of(number, grave.origin));
            let lost = lost.filter(|frame| held.get(frame.origin()) < frame.last());
            let ops = lost.map(|frame| u64::from(frame.ops())).sum();
            drop(history);
            self.tally.add("origin: op lost with its node", ops);
            for &at in &running {
                let tally = self.net.shard(at, number).0.tally.clone();
                self.tally.join(&tally);
            }
        }
        let mishaps = self.net.mishaps();
        self.tally.add("traffic: delayed by loss", mishaps.late);
        let what = "traffic: overtaken on another stream";
        self.tally.add(what, mishaps.overtaking);
        self.tally.add("traffic: frame lost", mishaps.lost);
        self.tally.add("traffic: frame doubled", mishaps.doubled);
    }

    /// What every shard holds, for a person who wants to know why they differ.
    pub(super) fn describe(&mut self) -> String {
        let mut lines = Vec::new();
        for number in 0..NUMBERS {
            for at in self.running() {
                let (replica, now_ms) = self.net.shard(at, number);
                let held = replica.held().clone();
                let mut shard = replica.shard();
                let unsettled = shard.state().unsettled();
                let delivery = shard.delivery();
                lines.push(format!(
                    "region {at} shard {number} at {now_ms}: {unsettled} unsettled, waiting {}, \
                     endings {:?}\n  holds {held:?}\n  stable {:?}",
                    delivery.waiting_bytes(),
                    delivery.open_endings(),
                    delivery.stable(),
                ));
            }
        }
        lines.push(format!("{:?}", self.members));
        for at in self.running() {
            for peer in self.net.peers(at) {
                let stats = self
                    .net
                    .with_link(at, peer, |link, now, shards| link.stats(now, shards));
                let level = self.net.level(at);
                lines.push(format!("region {at} of level {level} to {peer}: {stats:?}"));
            }
        }
        for at in self.running() {
            lines.push(format!("region {at} knows {:?}", self.net.roster(at)));
        }
        lines.join("\n")
    }
}

/// What readers see of a replica, and its digest.
pub(super) fn seen(replica: &Replica, names: &[Vec<u8>], now_ms: u64) -> Seen {
    let digest = replica.shard().state().digest();
    (digest, replica.looks(names, now_ms))
}

/// Collects what a replica knows to be stable, which changes nothing that is read.
pub(super) fn settle_seen(replica: &mut Replica, names: &[Vec<u8>], now_ms: u64) {
    let before = seen(replica, names, now_ms);
    while replica.shard().settle(1_000) {}
    let after = seen(replica, names, now_ms);
    assert_eq!(before, after, "collecting changes nothing that is read");
}
