//! The state of one client, without its socket.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::Waker;

use parking_lot::Mutex;
use tokio::sync::mpsc;

use crate::command::{Command, Reply};
use crate::limits;
use crate::proxy::Server;
use crate::resp::Protocol;
use crate::shard::{Shard, Watch};

/// What other connections may see and do of a client: `CLIENT LIST`, `CLIENT KILL`.
#[derive(Debug)]
pub struct Client {
    /// Its id.
    pub id: u64,
    /// Where it connects from.
    pub address: String,
    /// Where it connects to.
    pub local: String,
    /// When it came, milliseconds since 1970.
    pub since_ms: u64,
    /// What changes while it is connected.
    pub facts: Mutex<Facts>,
    /// When it last sent something, milliseconds since 1970.
    pub active_ms: AtomicU64,
    /// Whether it is to be disconnected.
    pub killed: AtomicBool,
    /// Wakes its connection when it has stopped waiting.
    pub wake: tokio::sync::Notify,
    /// Wakes its connection to end.
    pub waker: OnceLock<Waker>,
}

impl Client {
    /// A client without a connection.
    #[cfg(test)]
    pub(crate) fn for_tests() -> Self {
        Self {
            id: 1,
            address: "127.0.0.1:1".into(),
            local: "127.0.0.1:2".into(),
            since_ms: 0,
            facts: Mutex::new(Facts::default()),
            active_ms: AtomicU64::new(0),
            killed: AtomicBool::new(false),
            wake: tokio::sync::Notify::new(),
            waker: OnceLock::new(),
        }
    }

    /// Ends its connection, as soon as its thread gets to it.
    pub fn kill(&self) {
        self.killed.store(true, Ordering::SeqCst);
        if let Some(waker) = self.waker.get() {
            waker.wake_by_ref();
        }
    }

    /// Ends its waiting in a blocking command. Returns whether it was in one.
    pub fn unblock(&self, how: Unblock) -> bool {
        let mut facts = self.facts.lock();
        if facts.blocked {
            facts.unblocked = Some(how);
            self.wake.notify_waiters();
        }
        facts.blocked
    }
}

/// What changes of a client while it is connected.
#[derive(Clone, Debug, Default)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a flag of CLIENT LIST, and any of them may be set"
)]
pub struct Facts {
    /// `CLIENT SETNAME`.
    pub name: Vec<u8>,
    /// The last command.
    pub command: &'static str,
    /// `CLIENT SETINFO lib-name`.
    pub library: Vec<u8>,
    /// `CLIENT SETINFO lib-ver`.
    pub library_version: Vec<u8>,
    /// 2 or 3.
    pub protocol: i64,
    /// Commands queued in a `MULTI`, or -1.
    pub queued: i64,
    /// Keys watched.
    pub watched: usize,
    /// `CLIENT NO-EVICT`.
    pub no_evict: bool,
    /// `CLIENT NO-TOUCH`.
    pub no_touch: bool,
    /// Whether it is a `MONITOR`.
    pub monitors: bool,
    /// Whether it waits in a blocking command.
    pub blocked: bool,
    /// How `CLIENT UNBLOCK` ended the waiting, if it did.
    pub unblocked: Option<Unblock>,
}

/// How a client is told that it waits no longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unblock {
    /// As if its time were over.
    Timeout,
    /// With an error.
    Error,
}

/// What `CLIENT REPLY` asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Replies {
    /// Every reply.
    #[default]
    On,
    /// None.
    Off,
    /// None to the next command.
    SkipNext,
    /// None to this command.
    Skip,
}

/// A command that waits for `EXEC`.
#[derive(Debug)]
pub struct Queued {
    /// Its row.
    pub command: &'static Command,
    /// Its arguments, the name first.
    pub arguments: Vec<Box<[u8]>>,
}

/// A key that `EXEC` depends on.
#[derive(Debug)]
pub struct Watched {
    /// Its shard.
    pub shard: usize,
    /// Its name.
    pub name: Box<[u8]>,
    /// Its state at the `WATCH`.
    pub watch: Watch,
}

impl Watched {
    /// Whether it has changed, or has ended, since the `WATCH`. `shard` is its shard.
    pub fn has_changed(&self, shard: &Shard, now_ms: u64) -> bool {
        shard.has_changed(&self.name, self.watch, now_ms)
    }
}

/// Words of a bit a shard.
const SHARD_WORDS: usize = limits::SHARDS_MAX as usize / 64;

/// A set of shards, by number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShardSet([u64; SHARD_WORDS]);

impl ShardSet {
    /// No shard.
    pub const NONE: Self = Self([0; SHARD_WORDS]);

    /// Adds a shard.
    #[inline]
    pub const fn insert(&mut self, shard: usize) {
        self.0[shard / 64] |= 1 << (shard % 64);
    }

    /// The shards, ascending.
    pub fn iter(&self) -> impl Iterator<Item = usize> + '_ {
        (0..64 * SHARD_WORDS).filter(|shard| self.0[shard / 64] >> (shard % 64) & 1 == 1)
    }
}

/// Replies if it can; at the latest when told that the time is over. Returns whether it did.
pub type Poll = Box<dyn FnMut(&Server, &mut Reply<'_>, bool) -> bool>;

/// A reply that is not there yet: `REGION WAIT`, `REGION READY`, `DEBUG SLEEP`.
pub struct Pending {
    /// When it has to be given, milliseconds since 1970; never if `None`.
    pub until_ms: Option<u64>,
    /// Asked again whenever something has happened that it may wait for.
    pub poll: Poll,
}

impl std::fmt::Debug for Pending {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "a reply by {:?}", self.until_ms)
    }
}

/// See the module.
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is about something else"
)]
#[derive(Debug)]
pub struct Session {
    /// What others may see of it.
    pub client: Arc<Client>,
    /// What it speaks.
    pub protocol: Protocol,
    /// Whether it may do more than authenticate.
    pub authenticated: bool,
    /// What it wants to be replied.
    pub replies: Replies,
    /// The commands of a `MULTI`, if one is open.
    pub queue: Option<Vec<Queued>>,
    /// What the commands of the `MULTI` weigh, bytes.
    pub queued_bytes: usize,
    /// Whether a command of the `MULTI` was refused.
    pub queue_broken: bool,
    /// What `EXEC` depends on.
    pub watched: Vec<Watched>,
    /// The shards that it has read or written: for `REGION TOKEN`.
    pub used: ShardSet,
    /// The shards that it has written to: for `REGION WAIT`.
    pub written: ShardSet,
    /// Whether a reply waits that must not leave before what was written is as safe as asked for.
    pub unkept: bool,
    /// The name of the last command.
    pub command: &'static str,
    /// The last command and the length of the queue that others see.
    shown: (&'static str, i64),
    /// A reply that the last command left to be waited for.
    pub pending: Option<Pending>,
    /// What others do, if it is a `MONITOR`.
    pub monitor: Option<mpsc::Receiver<Arc<[u8]>>>,
    /// Whether the connection ends after this reply.
    pub closing: bool,
    /// Whether there is no room in memory for what its next command may add.
    pub is_short: bool,
    /// `CLIENT NO-TOUCH`.
    pub no_touch: bool,
}

impl Session {
    /// A session that has just begun.
    pub const fn new(client: Arc<Client>, authenticated: bool) -> Self {
        Self {
            client,
            protocol: Protocol::Resp2,
            authenticated,
            replies: Replies::On,
            queue: None,
            queued_bytes: 0,
            queue_broken: false,
            watched: Vec::new(),
            used: ShardSet::NONE,
            written: ShardSet::NONE,
            unkept: false,
            command: "",
            shown: ("", -1),
            pending: None,
            monitor: None,
            closing: false,
            is_short: false,
            no_touch: false,
        }
    }

    /// Shows others what it did last. Costs nothing if that is what it did before.
    pub fn show(&mut self) {
        let queued = self.queue.as_ref().map_or(-1, |queue| queue.len() as i64);
        let now = (self.command, queued);
        if !std::ptr::eq(now.0, self.shown.0) || now.1 != self.shown.1 {
            let mut facts = self.client.facts.lock();
            (facts.command, facts.queued) = now;
            self.shown = now;
        }
    }

    /// Remembers that it has used a shard, and whether it wrote.
    #[inline]
    pub const fn note(&mut self, shard: usize, wrote: bool) {
        self.used.insert(shard);
        if wrote {
            self.unkept = true;
            self.written.insert(shard);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_of_shards_holds_what_was_put_in() {
        let mut set = ShardSet::NONE;
        for shard in [1023, 0, 64, 63, 64] {
            set.insert(shard);
        }
        assert_eq!(set.iter().collect::<Vec<_>>(), [0, 63, 64, 1023]);
    }
}
