//! A region that takes in another's state piece by piece, while both go on.

use crdt::{Cursor, Version};

use super::pieces::parse;
use super::{Cluster, Replica};
use crate::model::Model;

/// A catch-up under way.
#[derive(Debug)]
pub(crate) struct CatchUp {
    from: usize,
    /// What the other held at the first piece.
    first: Version,
    model: Model,
    cursor: Cursor,
    budget: usize,
}

impl Replica {
    /// Whether its state is not what its version says.
    pub(crate) fn is_ahead(&self) -> bool {
        self.state.is_ahead()
    }
}

impl Cluster {
    /// A region begins to take in the state of another.
    pub(crate) fn begin_catch_up(&mut self, region: usize, from: usize, budget: usize) {
        let other = &self.replicas[from];
        if region == from || other.is_ahead() {
            return;
        }
        let catch_up = CatchUp {
            from,
            first: other.version.clone(),
            model: other.model.clone(),
            cursor: other.state.walk(),
            budget,
        };
        let replica = &mut self.replicas[region];
        replica.snapshot = None;
        replica.catch_up = Some(catch_up);
    }

    /// One more piece for each region that catches up. One that has them all has what the other had
    /// at the first, and is given the ops since then in the usual way.
    pub(crate) fn catch_up(&mut self) {
        for region in 0..self.replicas.len() {
            let Some(mut catch_up) = self.replicas[region].catch_up.take() else {
                continue;
            };
            let other = &self.replicas[catch_up.from];
            // It has failed, and lacks some of that itself; or catches up, too.
            if !other.version.includes(&catch_up.first) || other.is_ahead() {
                continue;
            }
            let CatchUp { cursor, budget, .. } = catch_up;
            let (bytes, rest) = other.state.piece(&other.version, cursor, budget);
            let latest = other.clock.latest();
            let replica = &mut self.replicas[region];
            let merged = replica.state.merge(&parse(bytes), &replica.version);
            merged.expect("a piece of this shard");
            replica.clock.observe(latest);
            if let Some(cursor) = rest {
                catch_up.cursor = cursor;
                replica.catch_up = Some(catch_up);
                continue;
            }
            let (model, first) = (&catch_up.model, &catch_up.first);
            replica.model.merge(&replica.version, model, first);
            replica.version.join(first);
            replica.state.caught_up(&replica.version);
        }
    }

    /// No catch-up goes on; what is ahead is made up for by ops.
    pub(crate) fn end_catch_ups(&mut self) {
        for replica in &mut self.replicas {
            replica.catch_up = None;
        }
    }
}
