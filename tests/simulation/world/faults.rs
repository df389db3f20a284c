//! What goes wrong between regions, and nodes that end and start again.

use std::collections::BTreeSet;

use crdt::{Epoch, Origin, Region};
use geo::proto::{Lack, Refill};
use geo::testing::region;

use super::{NUMBERS, World};

/// A life of a shard that has ended.
pub(super) struct Grave {
    pub(super) number: u16,
    pub(super) origin: Origin,
    /// Which restart it was.
    restart: usize,
    /// The regions that it had links with when it ended.
    linked: BTreeSet<u8>,
}

impl World {
    pub(super) fn fault(&mut self) {
        self.faults += 1;
        let at = self.any_region();
        let others: Vec<u8> = self.running();
        let others: Vec<u8> = others.into_iter().filter(|&other| other != at).collect();
        let other = others[self.random.usize(0..others.len())];
        let what = match self.random.u32(0..24) {
            0..2 => {
                self.net.cut(at, other);
                "cut: between two"
            }
            2..4 => {
                self.net.cut_one_way(at, other);
                "cut: one way only"
            }
            4 | 5 => {
                self.cut_off(at, &others);
                "cut: a region alone"
            }
            10..13 => self.restart(at),
            13..15 => {
                let skew_ms = self.random.i64(-700..700);
                self.net.set_skew(at, skew_ms);
                if skew_ms < 0 {
                    "clock: set back"
                } else {
                    "clock: set forward"
                }
            }
            // With a small window nothing might follow that shows the gap: a transport owes it.
            15..18 if !self.is_narrow => {
                self.net.drop_next_frame(at, other);
                return; // Counted when one got lost.
            }
            18 | 19 => self.bring_back(at),
            20..24 if self.disks.contains_key(&at) => self.harm(at),
            _ => self.heal(),
        };
        self.tally.count(what);
        self.note(what.as_bytes());
    }

    /// Nothing gets through any more between a region and others.
    pub(super) fn cut_off(&mut self, at: u8, others: &[u8]) {
        for &other in others {
            self.net.cut(at, other);
        }
    }

    /// A node ends, in one way or another, and starts again with what is left.
    fn restart(&mut self, at: u8) -> &'static str {
        if self.disks.contains_key(&at) {
            return self.end_life(at);
        }
        let since = self.since_restart;
        self.bury(at);
        // As by a clock: an exclusion names the epoch after the last one as that which ends it.
        let epoch = Epoch(self.net.epoch(at).0 + 10);
        for old in self.net.restart_with(at, epoch, None) {
            self.tally.join(&old.tally);
        }
        if since < 30 {
            "restart: twice within seconds"
        } else {
            "restart: empty, new epoch"
        }
    }

    /// Notes that a life of a region has ended, and what it had issued.
    pub(super) fn bury(&mut self, at: u8) {
        self.upgrade(at);
        self.since_restart = 0;
        self.restarts += 1;
        self.born.insert(at, self.restarts);
        self.refills.insert(at, Refill::default());
        let what = "members: restart of one that joins";
        self.tally.add(what, self.net.joins(at).into());
        let linked = self.linked_with(at);
        for number in 0..NUMBERS {
            let (replica, _) = self.net.shard(at, number);
            replica.observe();
            let origin = replica.shard().origin();
            self.graves.push(Grave {
                number,
                origin,
                restart: self.restarts,
                linked: linked.clone(),
            });
        }
    }

    /// The regions that a region has links with, up or down: neither has forgotten the other.
    fn linked_with(&self, at: u8) -> BTreeSet<u8> {
        let knows = |one: u8, other: u8| self.net.roster(one).ids().contains(&region(other));
        let others = self.running().into_iter().filter(|&other| other != at);
        others
            .filter(|&other| knows(at, other) && knows(other, at))
            .collect()
    }

    fn heal(&mut self) -> &'static str {
        self.net.heal();
        "cut: healed"
    }

    /// Whether a region serves clients: the rule of a node, but for one that reaches nobody who
    /// serves. After a while that begins alone, and what it writes then can differ for good.
    pub(super) fn serves(&mut self, at: u8) -> bool {
        if self.net.knows_that_it_is_forgotten(at) {
            return false;
        }
        let Some(mut refill) = self.refills.remove(&at) else {
            return true;
        };
        let joins = self.net.joins(at);
        let lost = self.lost_to(at, joins);
        let may = !joins || self.net.is_confirmed(at);
        let has_all = self.net.with_shards(at, |_, shards| {
            may && refill.look_without(lost.clone(), shards) == Lack::Nothing
        });
        let is_filled = if has_all { self.fill(at) } else { Some(false) };
        match is_filled {
            Some(true) => {}
            Some(false) => {
                self.refills.insert(at, refill);
                return false;
            }
            None => return false,
        }
        if joins {
            self.begin_to_serve(at);
            return true;
        }
        self.tally.count(if lost.is_empty() {
            "refill: all regions gave their word"
        } else {
            "refill: done without a lost region"
        });
        true
    }

    /// The regions that one which starts does not wait for.
    fn lost_to(&mut self, at: u8, joins: bool) -> BTreeSet<Region> {
        let mut lost = BTreeSet::new();
        if joins {
            // All know of it by now, so none can do without: it may have collected what it lacks.
            return lost;
        }
        let members = self.net.roster(at).ids();
        let running = self.running().into_iter();
        let serving = running.filter(|other| !self.refills.contains_key(other) && *other != at);
        let serving = serving.map(region).filter(|other| members.contains(other));
        let serving: Vec<Region> = serving.collect();
        self.net.with_shards(at, |now, shards| {
            shards.reach(&mut |reach| lost.extend(reach.lost(now)));
        });
        if serving.iter().all(|region| lost.contains(region)) {
            lost.clear();
        }
        lost
    }

    /// What a crashed shard had written turns up in a region: from its disk after its origin was
    /// closed there, or before, as what was still under way to this life of the region.
    fn bring_back(&mut self, at: u8) -> &'static str {
        let born = self.born.get(&at).copied().unwrap_or_default();
        let members = self.net.roster(at).ids();
        let mut graves = self.graves.iter();
        let last = graves.rfind(|grave| grave.origin.region != region(at));
        // The last to crash, or any before.
        let any = self.random.usize(..).checked_rem(self.graves.len());
        let any = any.map(|any| &self.graves[any]);
        let grave = if self.random.bool() { last } else { any };
        // Who does not know a region, or has forgotten it, has no link to it.
        let grave = grave.filter(|grave| members.contains(&grave.origin.region));
        if let Some(grave) = grave {
            let (replica, now_ms) = self.net.shard(at, grave.number);
            let (from, below) = (grave.origin.region, grave.origin.epoch);
            let is_closed = below < replica.shard().version().floor(from);
            let is_under_way = born < grave.restart && grave.linked.contains(&at);
            if is_closed || is_under_way {
                for frame in self.history.borrow().of(grave.number, grave.origin) {
                    geo::testing::Replica::offer(replica, frame, from, now_ms);
                }
                return if is_closed {
                    "disk: log of an old life returns"
                } else {
                    "traffic: of a life that has ended"
                };
            }
        }
        self.net.heal();
        "cut: healed"
    }
}
