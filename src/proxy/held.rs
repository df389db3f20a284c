//! The shards that one command or one `EXEC` holds at once, so that others see all of it or none.

use std::sync::Arc;

use smallvec::SmallVec;

use super::Server;
use crate::command::CommandError;
use crate::session::Session;
use crate::shard::Hold;

/// Locked in the order of their numbers; from two on in one allocation.
#[derive(Debug)]
pub(crate) struct Held<'a> {
    holds: SmallVec<[(usize, Hold<'a>); 1]>,
}

impl<'a> Held<'a> {
    /// Locks these, in any order and named as often as they like. Refused if one of them is out of
    /// service.
    pub(super) fn lock(
        server: &'a Server,
        shards: impl Iterator<Item = usize>,
        now_ms: u64,
    ) -> Result<Self, CommandError> {
        let mut shards: SmallVec<[usize; 16]> = shards.collect();
        shards.sort_unstable();
        shards.dedup();
        let mut holds = SmallVec::new();
        for index in shards {
            holds.push((index, Hold::new(server.shards.serve(index)?, now_ms)));
        }
        Ok(Self { holds })
    }

    /// Locks all.
    pub(super) fn lock_all(server: &'a Server, now_ms: u64) -> Result<Self, CommandError> {
        Self::lock(server, 0..server.shards.count(), now_ms)
    }

    /// One of them.
    pub(super) fn get(&mut self, index: usize) -> &mut Hold<'a> {
        let found = self.holds.binary_search_by_key(&index, |(held, _)| *held);
        &mut self.holds[found.expect("a shard that is used is held")].1
    }

    /// Lets go of all: what was written to each is one op.
    pub(super) fn finish(self, server: &Arc<Server>, session: &mut Session) {
        let mut any = false;
        for (index, hold) in self.holds {
            let wrote = hold.finish();
            session.note(index, wrote);
            any |= wrote;
        }
        if any {
            server.wrote();
        }
    }
}
