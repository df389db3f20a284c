//! Regions that come, are forgotten, and come back, at any moment and whatever else goes wrong.
//!
//! Whoever runs the database does what the admin commands are for: lets a region in and starts it,
//! forgets one, lets a forgotten one back in with nothing; and where two sides hear nothing of each
//! other, has each forget the other. What is asked for is asked of regions that take part and are
//! not forgotten themselves. Left out is what leaves nobody: to forget in two regions that hear
//! each other, each the other; or the only region that one which joins knows.
//!
//! What must hold besides the other laws: a region that joins takes writes once all that its record
//! names have let it in, and it holds what is stable at any of them; an id that somebody has is
//! given to nobody else; in the end those that take part know the same regions, and whoever is
//! forgotten and can be told has been. What a forgotten region alone held may be lost, what one
//! that stays held is not.

use std::collections::{BTreeMap, BTreeSet};

use crdt::{Epoch, Region};
use geo::proto::{Refill, Stage};
use geo::testing::region;

use super::{NUMBERS, REGIONS, World};

/// Regions that there ever are, those that are forgotten included.
const REGIONS_MAX: u8 = 5;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Members {
    /// Whether nobody comes or goes.
    pub(super) is_fixed: bool,
    /// How many have come.
    came: u8,
    /// Those that are let in and do not run yet.
    expected: BTreeSet<u8>,
    /// Those that were to come and are forgotten: by whom, and in which incarnation of that one.
    unwanted: BTreeMap<u8, (u8, u32)>,
    /// Those that run and are forgotten.
    out: BTreeSet<u8>,
    /// A side that goes on by itself: it and the rest have forgotten each other.
    apart: BTreeSet<u8>,
    /// Those that are out and listen to nobody: they were apart.
    deaf: BTreeSet<u8>,
}

impl World {
    /// The regions that take part or are about to.
    fn taking_part(&self) -> Vec<u8> {
        let Members { out, apart, .. } = &self.members;
        let running = self.running().into_iter();
        running
            .filter(|at| !out.contains(at) && !apart.contains(at))
            .collect()
    }

    /// One that takes part, and so can be asked for changes, by chance.
    fn asked(&mut self, may_be: impl Fn(&Self, u8) -> bool) -> Option<u8> {
        let all = self.taking_part().into_iter();
        let all = all.filter(|&at| !self.net.joins(at) && may_be(self, at));
        let all: Vec<u8> = all.collect();
        self.pick(&all)
    }

    fn pick(&mut self, all: &[u8]) -> Option<u8> {
        let at = self.random.usize(..).checked_rem(all.len())?;
        Some(all[at])
    }

    /// Something that changes who takes part.
    pub(super) fn change_members(&mut self) {
        let what = match self.random.u32(0..12) {
            0..3 => self.let_in(),
            3..5 => self.start_expected(),
            5..8 => self.forget_region(),
            8 => self.part(),
            _ => self.let_back_in(),
        };
        if let Some(what) = what {
            self.note(what.as_bytes());
        }
    }

    fn changed(&mut self, what: &'static str) -> Option<&'static str> {
        self.tally.count(what);
        Some(what)
    }

    /// A region is let in, and started at once or later.
    fn let_in(&mut self) -> Option<&'static str> {
        let id = REGIONS + 1 + self.members.came;
        // Where logs are cut, what one that comes needs may be gone, and nothing heals that yet.
        if self.cuts_logs || REGIONS_MAX < id {
            return None;
        }
        let at = self.asked(|_, _| true)?;
        let known: Vec<u8> = self.net.roster(at).iter().map(|it| it.0.id()).collect();
        let taken = self.pick(&known)?;
        assert!(self.net.refuses_id(at, taken), "id {taken} is given twice");
        self.changed("members: id refused that another has");
        self.net.let_in(at, id);
        self.members.came += 1;
        self.members.expected.insert(id);
        self.changed("members: let in");
        if self.random.bool() {
            self.start_region(id);
        }
        Some("members: let in")
    }

    fn start_expected(&mut self) -> Option<&'static str> {
        let expected: Vec<u8> = self.members.expected.iter().copied().collect();
        let id = self.pick(&expected)?;
        self.start_region(id)
    }

    /// A region that has been let in starts, and knows one of the others.
    fn start_region(&mut self, id: u8) -> Option<&'static str> {
        let guide = self.asked(|world, at| world.net.stage(at, id) == Some(Stage::Joining))?;
        let others = self.taking_part();
        if others.iter().any(|&other| self.net.joins(other)) {
            self.changed("members: two join at once");
        }
        self.net.join(id, guide);
        self.members.expected.remove(&id);
        self.refills.insert(id, Refill::default());
        if !self.disks.is_empty() && self.random.bool() {
            self.give_disk(id, Epoch(0));
        }
        self.changed("members: joins")
    }

    /// A region that joins serves from now on.
    pub(super) fn begin_to_serve(&mut self, at: u8) {
        let known = self.net.roster(at).ids();
        for other in self.running() {
            if other == at || !known.contains(&region(other)) {
                continue;
            }
            // One that comes back with nothing may know nobody yet, and does nothing either.
            let lets_in = self.net.roster(other).ids().contains(&region(at));
            let has_left = self.has_forgotten_again(other, at);
            assert!(
                lets_in || has_left || self.net.joins(other),
                "{at} serves, and {other} has not let it in"
            );
            if has_left {
                continue;
            }
            for number in 0..NUMBERS {
                let stable = self.net.shard(other, number).0.stable();
                let replica = &*self.net.shard(at, number).0;
                let held = replica.shard().delivery().applied_ops();
                let history = self.history.borrow();
                for (origin, time) in stable.iter() {
                    let last = history.last_up_to(number, origin, time);
                    assert!(
                        last <= held.get(origin),
                        "{at} serves without ops of {origin} that are stable in region {other}"
                    );
                }
            }
        }
        self.net.promote(at);
        self.tally.count("members: joiner serves");
    }

    /// Whether a region had let another in, and has forgotten it since, though that may not know.
    fn has_forgotten_again(&self, at: u8, id: u8) -> bool {
        let mut entries = self.net.roster(at).iter();
        let entry = entries.find(|(other, ..)| *other == region(id));
        entry.is_some_and(|(.., entry)| {
            !entry.is_current()
                && entry.confirmed.contains(&region(at))
                && entry.incarnation == self.incarnation(id, id)
        })
    }

    /// A region is forgotten: one that takes part, or was to.
    fn forget_region(&mut self) -> Option<&'static str> {
        let at = self.asked(|_, _| true)?;
        let taking_part = self.taking_part();
        let expected = self.members.expected.iter();
        let all = taking_part.iter().chain(expected).copied();
        let all = all.filter(|&id| id != at && self.takes_for(at, id, true));
        let all = all.filter(|&id| !self.is_only_guide(id));
        let all: Vec<u8> = all.collect();
        let id = self.pick(&all)?;
        if self.members.expected.remove(&id) {
            self.forget_expected(at, id);
            return Some("members: forgotten before it came");
        }
        if taking_part.len() < 3 && 0 < self.random.u32(0..4) {
            return None;
        }
        if self.random.bool() {
            // As it is as a rule: nobody has heard of it for a while.
            let others = taking_part.iter().copied().filter(|&other| other != id);
            let others: Vec<u8> = others.collect();
            self.cut_off(id, &others);
        }
        let joins = self.net.joins(id);
        self.net.forget(at, id);
        self.members.out.insert(id);
        if joins {
            self.changed("members: forgotten while it joins");
        }
        self.changed("members: forgotten")
    }

    /// A region is forgotten that was to come.
    fn forget_expected(&mut self, at: u8, id: u8) {
        let incarnation = self.incarnation(at, at);
        self.members.unwanted.insert(id, (at, incarnation));
        self.net.forget(at, id);
        self.tally.count("members: forgotten before it came");
    }

    /// The same once more, as it was lost: whoever decided it has been forgotten before it could
    /// tell, and knows no more of it either. What one that stays has decided is never lost.
    /// Where nobody could be asked before, it is decided now.
    fn forget_again(&mut self, group: &[u8], id: u8) {
        if let Some(&(by, incarnation)) = self.members.unwanted.get(&id) {
            let stays = group.contains(&by) && self.incarnation(by, by) == incarnation;
            assert!(!stays, "{by} has forgotten {id}, and nobody knows of it");
        } else {
            let is_undecided = self.members.expected.contains(&id);
            assert!(is_undecided, "{id} does not run, and is waited for");
        }
        let mut all = group.iter().copied().filter(|at| *at != id);
        let at = all.find(|&at| self.running().contains(&at) && !self.net.joins(at));
        if let Some(at) = at {
            self.forget_expected(at, id);
            self.tally.count("members: decision lost with its region");
        }
    }

    /// Where nobody serves, for all wait for a region that is not to come, and the decision that it
    /// is not was lost, it is taken again at once: no command would get through any more.
    pub(super) fn decide_again(&mut self) {
        let running = self.running();
        let serves =
            |at: &u8| !self.refills.contains_key(at) && !self.net.knows_that_it_is_forgotten(*at);
        if running.iter().any(serves) {
            return;
        }
        let all = self.taking_part();
        let is_known = |id| {
            let mut stages = all.iter().map(|&at| self.net.stage(at, id));
            stages.any(|stage| stage == Some(Stage::Forgotten))
        };
        let mut unwanted = self.members.unwanted.keys().copied();
        let lost = unwanted.find(|&id| !running.contains(&id) && !is_known(id));
        let Some(id) = lost else {
            return;
        };
        if let Some(at) = self.asked(|world, at| world.takes_for(at, id, true)) {
            self.forget_expected(at, id);
            self.tally.count("members: decision lost with its region");
        }
    }

    /// How often a region has come back, by what another knows.
    fn incarnation(&self, at: u8, id: u8) -> u32 {
        let mut entries = self.net.roster(at).iter();
        let entry = entries.find(|(other, ..)| *other == region(id));
        entry.map_or(0, |(.., entry)| entry.incarnation)
    }

    /// Whether a region takes another for one that takes part, or one that is forgotten, and knows
    /// the latest of it: what is said of an earlier time changes nothing.
    fn takes_for(&self, at: u8, id: u8, is_current: bool) -> bool {
        let incarnation = |at: u8| {
            let mut entries = self.net.roster(at).iter();
            let entry = entries.find(|(other, ..)| *other == region(id));
            entry.map(|(.., entry)| (entry.incarnation, entry.is_current()))
        };
        let latest = self.taking_part().into_iter().filter_map(incarnation);
        let latest = latest.map(|(incarnation, _)| incarnation).max();
        incarnation(at).is_some_and(|known| latest == Some(known.0) && known.1 == is_current)
    }

    /// Whether a region that joins knows nobody else.
    fn is_only_guide(&self, id: u8) -> bool {
        self.taking_part().into_iter().any(|joining| {
            let known = self.net.roster(joining).ids();
            let mut known = known.into_iter().map(Region::id);
            self.net.joins(joining) && known.all(|other| other == joining || other == id)
        })
    }

    /// Two sides hear nothing of each other, and each forgets the other.
    fn part(&mut self) -> Option<&'static str> {
        let mut all = self.taking_part();
        let first = self.net.roster(*all.first()?);
        let ids: BTreeSet<Region> = all.iter().map(|&id| region(id)).collect();
        let agree = first.ids() == ids && all.iter().all(|&at| self.net.roster(at) == first);
        let joins = all.iter().any(|&at| self.net.joins(at));
        let Members {
            apart, expected, ..
        } = &self.members;
        if all.len() < 2 || !agree || joins || !apart.is_empty() || !expected.is_empty() {
            return None;
        }
        self.random.shuffle(&mut all);
        let (one, other) = all.split_at(self.random.usize(1..all.len()));
        for &at in one {
            self.cut_off(at, other);
        }
        for (&at, &id) in one
            .iter()
            .flat_map(|at| other.iter().map(move |id| (at, id)))
        {
            self.net.forget(at, id);
            self.net.forget(id, at);
        }
        self.members.apart.extend(other);
        self.changed("members: two sides forget each other")
    }

    /// A forgotten region is let back in, and starts with nothing.
    fn let_back_in(&mut self) -> Option<&'static str> {
        if self.cuts_logs {
            return None;
        }
        let Members { out, apart, .. } = &self.members;
        let all: Vec<u8> = out.union(apart).copied().collect();
        let id = self.pick(&all)?;
        let at = self.asked(|world, at| world.takes_for(at, id, false))?;
        let was_apart = self.members.apart.contains(&id);
        if was_apart {
            // That side is given up.
            let apart = std::mem::take(&mut self.members.apart);
            self.members.deaf.extend(&apart);
            self.members.out.extend(apart);
        }
        self.members.out.remove(&id);
        self.members.deaf.remove(&id);
        let epoch = Epoch(self.epoch_above(id).0 + 1);
        self.bury(id);
        for old in self.net.rejoin(at, id, epoch.0) {
            self.tally.join(&old.tally);
        }
        if self.disks.remove(&id).is_some() {
            self.give_disk(id, Epoch(epoch.0 + 1));
        }
        if was_apart {
            self.changed("members: let back in from the other side");
        }
        self.changed("members: let back in")
    }

    /// The latest epoch that a region has had, or is said to have.
    fn epoch_above(&self, id: u8) -> Epoch {
        let all = self.taking_part().into_iter();
        let of_record = |at: u8| {
            let mut entries = self.net.roster(at).iter();
            let entry = entries.find(|(other, ..)| *other == region(id));
            entry.map(|(_, _, entry)| entry.ended)
        };
        let ended = all.filter_map(of_record).max().unwrap_or_default();
        ended.max(self.net.epoch(id))
    }

    /// A region refuses what a client has sent it.
    pub(super) fn count_refusal(&mut self, at: u8) {
        if self.net.knows_that_it_is_forgotten(at) {
            self.tally.count("members: forgotten one refuses writes");
        } else if self.net.joins(at) {
            self.tally.count("members: joiner refuses writes");
        }
    }

    // --- In the end ---

    /// Nobody comes or goes any more: who was to come has come or is forgotten, and who is
    /// forgotten is let back in or is not.
    pub(super) fn end_changes(&mut self) {
        for id in self.members.expected.clone() {
            if self.random.bool() {
                self.start_region(id);
            }
            let knows = |world: &Self, at| world.takes_for(at, id, true);
            if self.members.expected.contains(&id)
                && let Some(at) = self.asked(knows)
            {
                self.members.expected.remove(&id);
                self.forget_expected(at, id);
            }
        }
        for _ in 0..REGIONS_MAX {
            if self.random.u32(0..3) == 0 {
                self.let_back_in();
            }
        }
    }

    /// Waits until everybody knows who takes part. Returns those who do, by who they do so with.
    ///
    /// What was decided by a region that was forgotten before it could tell is lost, so that is not
    /// always what was asked for; where somebody is waited for who will not come, it is decided
    /// again.
    pub(super) fn groups(&mut self) -> Vec<Vec<u8>> {
        let mut groups = None;
        self.wait_for("all know who takes part", |world| {
            groups = world.settled_groups();
            groups.is_some()
        });
        groups.expect("that was waited for")
    }

    fn settled_groups(&mut self) -> Option<Vec<Vec<u8>>> {
        let ids = |at: u8| {
            let ids = self.net.roster(at).ids().into_iter();
            ids.map(Region::id).collect::<Vec<u8>>()
        };
        let running = self.running();
        let is_in = |at: &u8| {
            let is_known = |&other: &u8| {
                let is_out = self.net.knows_that_it_is_forgotten(other);
                !self.net.joins(other) && !is_out && ids(other).contains(at)
            };
            let is_stray = self.net.joins(*at) && !running.iter().any(is_known);
            !self.members.deaf.contains(at)
                && !self.net.knows_that_it_is_forgotten(*at)
                && !is_stray
        };
        let mut groups: Vec<Vec<u8>> = Vec::new();
        for at in running.iter().copied().filter(is_in) {
            let group = ids(at);
            let (run, absent): (Vec<u8>, Vec<u8>) =
                group.iter().partition(|other| running.contains(other));
            if run.iter().any(|&other| ids(other) != group) {
                return None;
            }
            if let Some(&id) = absent.first() {
                self.forget_again(&group, id);
                return None;
            }
            if !groups.contains(&group) {
                groups.push(group);
            }
        }
        Some(groups)
    }

    /// Who takes part has been let in, and nobody else serves who knows that it does not.
    pub(super) fn check_members(&mut self, groups: &[Vec<u8>]) {
        assert!(!groups.is_empty(), "nobody takes part");
        for at in self.running() {
            let roster = self.net.roster(at);
            let clashes = |(id, name, _)| roster.clash(id, name).is_some();
            assert!(!roster.iter().any(clashes), "an id was given twice");
            if self.net.knows_that_it_is_forgotten(at) {
                self.tally.count("members: forgotten to the end, and told");
                assert!(!self.serves(at), "{at} is forgotten, and takes writes");
            }
        }
        let goes_on = 1 < groups.len();
        self.tally
            .add("members: a side goes on apart", goes_on.into());
        for group in groups {
            self.wait_for("all know that all are in", |world| {
                let are_in = |&at: &u8| {
                    let mut current = world.net.roster(at).current();
                    current.all(|(.., entry)| entry.stage != Stage::Joining)
                };
                group.iter().all(are_in)
            });
            self.count_lost(group);
        }
    }

    /// What was lost with who is forgotten.
    fn count_lost(&mut self, group: &[u8]) {
        let out = self.running().into_iter();
        let out = out.filter(|&at| self.net.knows_that_it_is_forgotten(at));
        let out: Vec<u8> = out.collect();
        for number in 0..NUMBERS {
            let held = self.held_anywhere(group, number);
            let alone = self.held_anywhere(&out, number);
            let lost = alone
                .iter()
                .filter(|&(origin, time)| held.get(origin) < time);
            let what = "members: ops lost with a forgotten region";
            self.tally.add(what, lost.count() as u64);
        }
    }
}
