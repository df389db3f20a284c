//! Clients: the only module with their sockets.
//!
//! A few threads, each with its own single-threaded runtime and its own connections. A connection
//! reads all it can, executes every complete command in turn, yields once so that the other ready
//! connections run in the same wake-up, and writes all replies at once.

mod connection;
mod execute;
mod listener;
mod server;
mod slow;
#[cfg(test)]
mod tests;

pub(crate) use execute::transaction;
pub use listener::{BindError, Listener, Thread};
pub use server::{Policy, RegionState, Regions, Server, Settings};
pub use slow::{Slow, SlowCommand, Spike};

use std::sync::Arc;

use crate::session::Session;
use crate::shard::Txn;
use crdt::Key;

/// What a command that is not about one shard works with.
#[derive(Debug)]
pub struct Call<'a> {
    /// What connections share.
    pub server: &'a Arc<Server>,
    /// Whose command it is.
    pub session: &'a mut Session,
    /// Now, milliseconds since 1970.
    pub now_ms: u64,
}

impl Call<'_> {
    /// Runs on a shard; what it writes becomes one op, which the session remembers.
    pub fn transact<R>(
        &mut self,
        index: usize,
        first: Option<Key<'_>>,
        run: impl FnOnce(&mut Txn<'_>) -> R,
    ) -> R {
        let mut shard = self.server.shards.lock(index);
        let before = shard.written();
        let result = shard.transact(self.now_ms, first, run);
        let wrote = before != shard.written();
        drop(shard);
        if wrote {
            self.server.wrote();
            self.session.note_write(index);
        }
        result
    }
}
