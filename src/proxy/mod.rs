//! Clients: the only module with their sockets.
//!
//! A few threads, each with its own single-threaded runtime and its own connections. A connection
//! reads all it can, executes every complete command in turn, yields once so that the other ready
//! connections run in the same wake-up, and writes all replies at once.

mod ahead;
mod blocking;
mod buffers;
mod connection;
mod errors;
mod execute;
mod held;
mod listener;
mod loading;
pub(crate) mod memory;
mod output;
mod room;
mod server;
mod silence;
mod slow;
mod stats;
mod stay;
#[cfg(test)]
mod tests;
mod traffic;
mod transaction;

pub use errors::ErrorStats;
pub use listener::{BindError, Listener, Thread};
pub use loading::{Loading, Waits};
pub use output::OutputLimits;
pub use room::{Room, RoomSettings, Space};
pub use server::{Policy, RegionState, Regions, Server, Settings, SilentRegion};
pub use silence::{Share, Silence, SilenceSettings};
pub(crate) use silence::{sample, waiting};
pub use slow::{Slow, SlowCommand, Spike};
pub use stats::{CommandStats, Ran};
pub use traffic::{Totals, Traffic};
pub(crate) use transaction::transaction;

use std::sync::Arc;

use crate::command::{Command, CommandError, Outcome, Reply};
use crate::session::{Pending, Poll, Session};
use crate::shard::{Shard, Txn};
use crdt::Key;
use held::Held;

/// What a command that is not about one shard works with.
#[derive(Debug)]
pub struct Call<'a> {
    /// What connections share.
    pub server: &'a Arc<Server>,
    /// Whose command it is.
    pub session: &'a mut Session,
    /// Whether it is one of a transaction, in which nothing waits.
    pub in_transaction: bool,
    /// The shards that are held for several steps, if any are.
    held: Option<Box<Held<'a>>>,
    /// Now, milliseconds since 1970.
    pub now_ms: u64,
}

impl<'a> Call<'a> {
    /// Refuses what would have to wait, or ends the node, where a transaction is being queued; that
    /// comes to nothing then.
    pub fn check_no_transaction(&mut self) -> Outcome {
        if self.session.queue.is_some() {
            self.session.queue_broken = true;
            return Err(CommandError::text(
                "ERR Command not allowed inside a transaction",
            ));
        }
        Ok(())
    }

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
        if let Some(held) = &mut self.held {
            return Ok(held.get(index).step(first, run));
        }
        let mut shard = self.server.shards.serve(index)?;
        let (result, wrote) = self.transact_on(&mut shard, first, run);
        drop(shard);
        self.note(index, wrote);
        Ok(result)
    }

    /// Runs on a shard that is held already. Returns whether it wrote, besides.
    fn transact_on<R>(
        &self,
        shard: &mut Shard,
        first: Option<Key<'_>>,
        run: impl FnOnce(&mut Txn<'_>) -> R,
    ) -> (R, bool) {
        let before = shard.written();
        let result = shard.transact(self.now_ms, first, run);
        (result, before != shard.written())
    }

    /// Whether a command makes its keys look used: not that of a client that asked for that.
    fn touches(&self, command: &Command) -> bool {
        !self.session.no_touch || command.name == "TOUCH"
    }

    /// The session has used a shard, and perhaps written to it.
    fn note(&mut self, index: usize, wrote: bool) {
        self.session.note(index, wrote);
        if wrote {
            self.server.wrote();
        }
    }

    /// Looks at a shard. Refused if it is out of service.
    pub fn look<R>(
        &mut self,
        index: usize,
        look: impl FnOnce(&mut Shard) -> R,
    ) -> Result<R, CommandError> {
        if let Some(held) = &mut self.held {
            return Ok(look(held.get(index).shard()));
        }
        Ok(look(&mut *self.server.shards.serve(index)?))
    }

    /// Runs with all shards held, so that what is written to each is there at once.
    pub fn with_all_held(&mut self, run: impl FnOnce(&mut Self) -> Outcome) -> Outcome {
        if self.held.is_some() {
            return run(self);
        }
        self.hold(Held::lock_all(self.server, self.now_ms)?);
        let outcome = run(self);
        self.let_go();
        outcome
    }

    /// Works on these shards from now on, until [`Call::let_go`].
    fn hold(&mut self, held: Held<'a>) {
        self.held = Some(Box::new(held));
    }

    /// Lets go of the shards that are held, if any are: what was written to each is one op.
    fn let_go(&mut self) {
        if let Some(held) = self.held.take() {
            held.finish(self.server, self.session);
        }
    }
}
