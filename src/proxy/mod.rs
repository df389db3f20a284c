//! Clients: the only module with their sockets.
//!
//! A few threads, each with its own single-threaded runtime and its own connections. A connection
//! reads all it can, executes every complete command in turn, yields once so that the other ready
//! connections run in the same wake-up, and writes all replies at once.

mod buffers;
mod connection;
mod execute;
mod listener;
pub(crate) mod memory;
mod server;
mod slow;
mod stats;
#[cfg(test)]
mod tests;

pub(crate) use execute::transaction;
pub use listener::{BindError, Listener, Thread};
pub use server::{Policy, RegionState, Regions, Server, Settings};
pub use slow::{Slow, SlowCommand, Spike};
pub use stats::CommandStats;

use std::sync::Arc;

use crate::command::{CommandError, Reply};
use crate::session::{Pending, Poll, Session};
use crate::shard::Txn;
use crdt::Key;

/// What a command that is not about one shard works with.
#[derive(Debug)]
pub struct Call<'a> {
    /// What connections share.
    pub server: &'a Arc<Server>,
    /// Whose command it is.
    pub session: &'a mut Session,
    /// Whether it is one of a transaction, in which nothing waits.
    pub in_transaction: bool,
    /// Now, milliseconds since 1970.
    pub now_ms: u64,
}

impl Call<'_> {
    /// Replies now if possible, else as soon as it is, at the latest when the time is over (0: for
    /// ever).
    pub fn reply_later(&mut self, reply: &mut Reply<'_>, timeout_ms: u64, mut poll: Poll) {
        if !poll(self.server, reply, self.in_transaction) && !self.in_transaction {
            let until_ms = (timeout_ms != 0).then(|| self.now_ms.saturating_add(timeout_ms));
            self.session.pending = Some(Pending { until_ms, poll });
        }
    }

    /// Runs on a shard; what it writes becomes one op, which the session remembers. Refused if the
    /// shard is out of service.
    pub fn transact<R>(
        &mut self,
        index: usize,
        first: Option<Key<'_>>,
        run: impl FnOnce(&mut Txn<'_>) -> R,
    ) -> Result<R, CommandError> {
        let mut shard = self.server.shards.serve(index)?;
        let before = shard.written();
        let result = shard.transact(self.now_ms, first, run);
        let wrote = before != shard.written();
        drop(shard);
        self.session.note(index, wrote);
        if wrote {
            self.server.wrote();
        }
        Ok(result)
    }
}
