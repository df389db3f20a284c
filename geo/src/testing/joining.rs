//! Regions that join a net while it runs: each node's record of regions, and acting upon it.

use std::collections::BTreeSet;

use crdt::{Epoch, Region};

use super::{Connection, LEVEL, Net, Node, Replica, region};
use crate::proto::{Delivery, Link, Roster, Stage};

/// A node's record of regions, as if it were on its disk.
#[derive(Clone, Debug)]
pub(super) struct Record {
    pub(super) roster: Roster,
    revision: u64,
    /// What peers have told, and is not taken in.
    pub(super) heard: Vec<Roster>,
    /// Whether it is that of a life that has begun with nothing, and has written nothing.
    is_fresh: bool,
}

fn name(id: Region) -> String {
    format!("region-{}", id.id())
}

impl Record {
    fn new(roster: Roster) -> Self {
        Self {
            roster,
            revision: 1,
            heard: Vec::new(),
            is_fresh: false,
        }
    }

    /// It has been changed.
    pub(super) const fn touch(&mut self) {
        self.revision += 1;
    }

    /// Of regions that are there from the start.
    pub(super) fn founding(regions: impl IntoIterator<Item = Region>) -> Self {
        let mut roster = Roster::new();
        for id in regions {
            let noted = roster.note(id, &name(id), &[], Stage::Founding);
            noted.expect("a name of ours is one");
        }
        Self::new(roster)
    }

    /// What is left of it after a crash.
    pub(super) fn kept(&self) -> Self {
        Self::new(self.roster.clone())
    }

    /// Takes note of what a peer has. Returns whom that lets in.
    pub(super) fn hear(&mut self, roster: Roster) -> BTreeSet<Region> {
        self.heard.push(roster);
        let mut all = self.roster.clone();
        self.heard.iter().for_each(|heard| {
            all.merge(heard);
        });
        all.let_in()
    }

    /// Has a link refuse a peer that takes part no more, and no other.
    fn settle(&self, peer: Region, link: &mut Link) {
        link.refuse(self.roster.forgotten().contains_key(&peer));
        link.let_return(self.roster.is_excluded(peer));
    }

    pub(super) fn since(&self, known: u64) -> Option<(u64, Vec<u8>)> {
        (known != self.revision).then(|| (self.revision, self.roster.encode()))
    }
}

impl<R: Replica> Net<R> {
    /// Has a region let in another one, which does not run yet.
    pub fn let_in(&mut self, at: u8, id: u8) {
        self.claim(at, id, &name(region(id)));
    }

    /// The same under any name.
    pub fn claim(&mut self, at: u8, id: u8, name: &str) {
        let node = self
            .nodes
            .get_mut(&region(at))
            .expect("a region of the net");
        let added = node.record.roster.add(region(id), name, "nowhere:1");
        added.expect("nobody has the id or the name");
        node.record.revision += 1;
        self.follow_record(region(at));
    }

    /// Starts a region that is to join, and knows of one other.
    pub fn join(&mut self, id: u8, through: u8) {
        let mut record = Record::founding([region(through)]);
        let own = record
            .roster
            .note(region(id), &name(region(id)), &[], Stage::Joining);
        own.expect("a name of ours is one");
        let node = self.node(region(id), Epoch(1), 0, record, None);
        self.nodes.insert(region(id), node);
        self.link_up();
    }

    /// Has a region forget another.
    pub fn forget(&mut self, at: u8, id: u8) {
        let node = self
            .nodes
            .get_mut(&region(at))
            .expect("a region of the net");
        let newest = node
            .shards
            .iter_mut()
            .map(|shard| shard.ask(|delivery| delivery.newest_epoch(region(id))));
        let newest = newest.flatten().max().unwrap_or_default();
        let name = name(region(id));
        let forgotten = node
            .record
            .roster
            .forget(region(at), &name, Epoch(newest.0 + 1));
        forgotten.expect("it is another region of the net");
        node.record.revision += 1;
        self.follow_record(region(at));
    }

    /// Has a region let a forgotten one back in, which then starts with nothing under this epoch.
    /// Returns what it had.
    pub fn rejoin(&mut self, at: u8, id: u8, epoch: u64) -> Vec<R> {
        let node = self
            .nodes
            .get_mut(&region(at))
            .expect("a region of the net");
        let back = node.record.roster.rejoin(&name(region(id)));
        back.expect("it has been forgotten");
        node.record.revision += 1;
        self.follow_record(region(at));
        let mut record = Record::founding([region(at)]);
        let own = record
            .roster
            .note(region(id), &name(region(id)), &[], Stage::Joining);
        own.expect("a name of ours is one");
        self.replace(id, Epoch(epoch), record)
    }

    /// A region that has been let in and serves is a member from now on.
    pub fn promote(&mut self, id: u8) {
        let node = self.nodes.get_mut(&region(id));
        let record = &mut node.expect("a region of the net").record;
        let is_new = record.roster.promote(region(id), &name(region(id)));
        record.revision += u64::from(is_new);
    }

    /// The regions that run, by id.
    pub fn regions(&self) -> Vec<u8> {
        self.nodes.keys().map(|region| region.id()).collect()
    }

    /// Those that a region has links with, who are refused included.
    pub fn peers(&self, at: u8) -> Vec<u8> {
        let node = self.nodes.get(&region(at)).expect("a region of the net");
        node.links.keys().map(|region| region.id()).collect()
    }

    /// The level of features that a region's build knows.
    pub fn level(&self, at: u8) -> u32 {
        self.levels.get(&region(at)).copied().unwrap_or(LEVEL)
    }

    /// Whether a region is yet to be let in, by what it knows.
    pub fn joins(&self, id: u8) -> bool {
        self.stage(id, id) == Some(Stage::Joining)
    }

    /// How far one region is on its way in or out, by what another knows.
    pub fn stage(&self, at: u8, id: u8) -> Option<Stage> {
        let entry = self.roster(at).get(region(id), &name(region(id)));
        entry.map(|entry| entry.stage)
    }

    /// Whether a region that is asked to let in another under an id refuses to.
    pub fn refuses_id(&self, at: u8, id: u8) -> bool {
        let mut roster = self.roster(at).clone();
        roster.add(region(id), "other", "nowhere:1").is_err()
    }

    /// A region that was excluded starts with nothing, under this epoch, and knows where those are
    /// that it knew.
    pub fn come_back(&mut self, id: u8, epoch: u64) {
        let known = self.roster(id).ids();
        let mut record = Record::founding(known);
        let own = record
            .roster
            .note(region(id), &name(region(id)), &[], Stage::Joining);
        own.expect("a name of ours is one");
        record.is_fresh = true;
        self.replace(id, Epoch(epoch), record);
    }

    /// Whether a region has heard that it is excluded.
    pub fn knows_that_it_is_excluded(&self, id: u8) -> bool {
        self.roster(id).is_excluded(region(id))
    }

    /// Whether a region has heard that it was forgotten.
    pub fn knows_that_it_is_forgotten(&self, id: u8) -> bool {
        self.stage(id, id) == Some(Stage::Forgotten)
    }

    /// Whether a region that joins may write as soon as it holds what the others held.
    pub fn is_confirmed(&self, id: u8) -> bool {
        let roster = &self.nodes[&region(id)].record.roster;
        roster.is_confirmed(region(id), &name(region(id)))
    }

    /// The record of a region.
    pub fn roster(&self, at: u8) -> &Roster {
        &self.nodes[&region(at)].record.roster
    }

    /// Every node takes in what it was told.
    pub(super) fn follow_records(&mut self) {
        for at in self.nodes.keys().copied().collect::<Vec<_>>() {
            if self
                .nodes
                .get(&at)
                .is_some_and(|node| !node.record.heard.is_empty())
            {
                self.follow_record(at);
            }
        }
    }

    /// Takes in what was told, lets in who is new, and only then confirms it.
    pub(super) fn follow_record(&mut self, at: Region) {
        let Some(node) = self.nodes.get_mut(&at) else {
            return;
        };
        let before = node.record.roster.encode();
        for heard in std::mem::take(&mut node.record.heard) {
            node.record.roster.merge(&heard);
        }
        if node.record.is_fresh {
            node.record.roster.come_back(at, &name(at), node.epoch);
        }
        let others: BTreeSet<Region> = node.record.roster.ids();
        for &other in others.iter().filter(|&&other| other != at) {
            for shard in &mut node.shards {
                shard.delivery(&mut |delivery| {
                    delivery.admit(other);
                });
            }
            if !node.links.contains_key(&other) {
                node.reach.down(other, self.now);
            }
        }
        for (id, gone) in node.record.roster.forgotten() {
            if id == at {
                continue;
            }
            let exclude = |delivery: &mut Delivery| {
                let below = delivery.exclude(id, gone.ended);
                delivery.done_without(id, &gone.without);
                below
            };
            let shards = node.shards.iter_mut();
            let below = shards.map(|shard| shard.ask(exclude)).max();
            node.record.roster.end(id, below.unwrap_or(gone.ended));
        }
        for (id, link) in &mut node.links {
            node.record.settle(*id, link);
        }
        node.record.roster.confirm(at);
        node.record.revision += u64::from(before != node.record.roster.encode());
        self.link_up();
    }

    /// A node that is new has links with those of its record, who are forgotten included; who it
    /// does not know cannot connect with it.
    pub(super) fn relink(&mut self, own: Region) {
        let known: BTreeSet<Region> = {
            let record = &self.nodes[&own].record;
            record.roster.iter().map(|(id, _, _)| id).collect()
        };
        let others = |&(a, b): &(Region, Region)| {
            (a == own).then_some(b).or_else(|| (b == own).then_some(a))
        };
        self.connections
            .retain(|pair, _| others(pair).is_none_or(|other| known.contains(&other)));
        let peers: Vec<Region> = self.connections.keys().filter_map(others).collect();
        let has = |node: &Node<R>, peer| node.links.contains_key(peer);
        let lacking = peers.iter().filter(|peer| !has(&self.nodes[&own], peer));
        for peer in lacking.copied().collect::<Vec<_>>() {
            let link = self.new_link(own, peer);
            if let Some(node) = self.nodes.get_mut(&own) {
                node.links.entry(peer).or_insert(link);
            }
        }
    }

    /// Makes the links between nodes that run and know of each other. Who is forgotten by one of
    /// the two has one with it, too, to be told so.
    fn link_up(&mut self) {
        let nodes: Vec<Region> = self.nodes.keys().copied().collect();
        for &a in &nodes {
            for &b in nodes.iter().filter(|&&b| a < b) {
                let knows = |at: Region, other| {
                    let mut known = self.nodes[&at].record.roster.iter();
                    known.any(|(id, _, _)| id == other)
                };
                if self.connections.contains_key(&(a, b)) || !knows(a, b) || !knows(b, a) {
                    continue;
                }
                for (at, peer) in [(a, b), (b, a)] {
                    let link = self.new_link(at, peer);
                    if let Some(node) = self.nodes.get_mut(&at) {
                        let link = node.links.entry(peer).or_insert(link);
                        node.record.settle(peer, link);
                    }
                }
                self.connections
                    .insert((a, b), Connection::RetryAt(self.now));
            }
        }
    }
}
