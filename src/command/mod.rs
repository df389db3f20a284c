//! What a client can ask for, and the words in which it is answered.
//!
//! A [`Command`] is one row of the table, and the table is the only place that knows that a command
//! exists: dispatch, routing by keys, `COMMAND` and the documentation derive from it. Handlers are
//! plain functions; they never wait and never name a socket.

pub mod args;
pub mod error;
pub mod number;
pub mod reply;

mod bitfield;
mod bitmap;
mod client;
mod config;
pub(crate) mod connection;
mod counter;
mod dump;
mod expiry;
mod explain;
mod glob;
mod hash;
mod hash_expiry;
mod info;
mod introspect;
mod keys;
mod keyspace;
mod list;
mod list_wait;
#[cfg(test)]
mod manual;
mod memory;
mod observe;
mod persistence;
mod pick;
mod region;
mod scan;
mod server;
mod set;
mod since;
mod sort;
mod string;
pub mod subcommand;
mod syntax;
mod table;
#[cfg(test)]
mod testing;
pub(crate) mod transaction;
mod whole;
mod zset;

pub use args::Args;
pub use error::CommandError;
pub use reply::{Deferred, Mark, Reply};
pub use table::{COMMANDS, check_subcommand, find, number_of, runs_while_loading};

use crate::proxy::Call;
use crate::shard::Txn;

/// What a handler says.
pub type Outcome = Result<(), CommandError>;

/// Whether a blocking command found something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// It did, and has replied.
    Done,
    /// There is nothing yet; nothing was written or replied.
    Block,
}

/// What runs a command on the shard of its keys.
pub type Handler = fn(&mut Txn<'_>, &mut Args<'_>, &mut Reply<'_>) -> Outcome;

/// How a command runs.
#[derive(Clone, Copy, Debug)]
pub enum Run {
    /// Under the lock of the shard of its keys.
    Shard(Handler),
    /// As [`Run::Shard`], and again when a key changes, until it has something to give.
    Wait(fn(&mut Txn<'_>, &mut Args<'_>, &mut Reply<'_>) -> Result<Wait, CommandError>),
    /// On each key by itself, wherever it is, and the integer replies are added up.
    Sum(fn(&mut Txn<'_>, &[u8]) -> i64),
    /// `MGET`: on each key by itself, and the replies are put in one array.
    Each(fn(&mut Txn<'_>, &[u8], &mut Reply<'_>)),
    /// `MSET`: on each key with the argument after it, and the reply is `OK`.
    Pairs(fn(&mut Txn<'_>, &[u8], &[u8])),
    /// Without a shard's lock: about the connection, the node or all shards.
    Node(fn(&mut Call<'_>, &mut Args<'_>, &mut Reply<'_>) -> Outcome),
}

/// Where the keys are among the arguments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keys {
    /// There are none.
    None,
    /// From the first to the last (counted from the end if negative), every `step`th.
    Range {
        /// The first.
        first: usize,
        /// The last.
        last: i32,
        /// From one to the next.
        step: usize,
    },
    /// As many as the argument at `count` says, after it; and perhaps one more before it.
    Counted {
        /// Where the number of keys is.
        count: usize,
        /// Where a key to store the result in is.
        target: Option<usize>,
    },
    /// `SORT`: the first, and the one after `STORE`.
    Sort,
}

impl Keys {
    /// Only the first argument.
    pub const FIRST: Self = Self::Range {
        first: 1,
        last: 1,
        step: 1,
    };
    /// All arguments.
    pub const ALL: Self = Self::Range {
        first: 1,
        last: -1,
        step: 1,
    };
    /// The first two arguments.
    pub const TWO: Self = Self::Range {
        first: 1,
        last: 2,
        step: 1,
    };

    /// The place of the first key among `arguments`, if it is there.
    pub fn first(self, arguments: &[&[u8]]) -> Option<usize> {
        if let Self::Range { first, .. } = self {
            return (first < arguments.len()).then_some(first);
        }
        let mut found = None;
        self.places(arguments, |place| found = found.or(Some(place)));
        found
    }

    /// The places of the keys among `arguments`, of which the first is the command's name. Places
    /// that are not there are left out: the handler tells the client what is wrong.
    pub fn places(self, arguments: &[&[u8]], mut visit: impl FnMut(usize)) {
        let count = arguments.len();
        match self {
            Self::None => {}
            Self::Range { first, last, step } => {
                let end = if last < 0 {
                    count as i64 + i64::from(last)
                } else {
                    i64::from(last)
                };
                let end = usize::try_from(end + 1).unwrap_or(0).min(count);
                (first..end).step_by(step).for_each(visit);
            }
            Self::Counted { count: at, target } => {
                let keys = arguments
                    .get(at)
                    .and_then(|text| crdt::parse_integer(text))
                    .and_then(|keys| usize::try_from(keys).ok())
                    .unwrap_or(0);
                // More than there are is a syntax error: what stands there are no keys.
                if at.saturating_add(keys) < count {
                    target.into_iter().for_each(&mut visit);
                    (at + 1..=at + keys).for_each(visit);
                }
            }
            Self::Sort => {
                if 1 < count {
                    visit(1);
                }
                let store = (2..count)
                    .rev()
                    .find(|&at| arguments[at].eq_ignore_ascii_case(b"STORE"));
                store
                    .map(|at| at + 1)
                    .filter(|&at| at < count)
                    .into_iter()
                    .for_each(visit);
            }
        }
    }
}

/// What is true of a command, as bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flags(pub u16);

impl Flags {
    /// Nothing.
    pub const NONE: Self = Self(0);
    /// Only reads.
    pub const READ: Self = Self(1);
    /// May write.
    pub const WRITE: Self = Self(2);
    /// Costs O(1) or O(log n).
    pub const FAST: Self = Self(4);
    /// Is refused when memory is short.
    pub const DENY_OOM: Self = Self(8);
    /// Is for operators.
    pub const ADMIN: Self = Self(16);
    /// May wait.
    pub const BLOCKING: Self = Self(32);
    /// Is not taken in a `MULTI`.
    pub const NO_MULTI: Self = Self(64);
    /// May be sent before `AUTH`.
    pub const NO_AUTH: Self = Self(128);
    /// Has keys whose places depend on the arguments.
    pub const MOVABLE: Self = Self(256);

    /// Is only the first word of subcommands.
    pub const CONTAINER: Self = Self(512);
    /// Is about the connection or the node, and takes no lock of a shard.
    pub const LOCKLESS: Self = Self(1024);
    /// Is about the keys of all shards.
    pub const ALL_SHARDS: Self = Self(2048);
    /// Runs on a node that does not serve yet. Of a container its subcommands say that.
    pub const LOADING: Self = Self(4096);
    /// Is no use of its keys: it looks at them from outside.
    pub const NO_TOUCH: Self = Self(8192);
    /// Reads besides what it writes: what it looks for was found or not.
    pub const LOOKS: Self = Self(16384);

    /// Both.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether all of `other` are set.
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

/// One row of the table.
#[derive(Clone, Copy, Debug)]
pub struct Command {
    /// Upper case.
    pub name: &'static str,
    /// How many arguments, the name included; at least so many if negative.
    pub arity: i32,
    /// Where the keys are.
    pub keys: Keys,
    /// What is true of it.
    pub flags: Flags,
    /// The group in Redis's documentation.
    pub group: &'static str,
    /// What it does, in a sentence.
    pub summary: &'static str,
    /// What two regions get that do this at once; for writes.
    pub conflict: &'static str,
    /// How it runs.
    pub run: Run,
}

/// A row of a command that is about the node, of the group "server".
const fn node_row(
    name: &'static str,
    arity: i32,
    flags: Flags,
    summary: &'static str,
    run: fn(&mut Call<'_>, &mut Args<'_>, &mut Reply<'_>) -> Outcome,
) -> Command {
    let (keys, group, run) = (Keys::None, "server", Run::Node(run));
    Command {
        name,
        arity,
        keys,
        flags,
        group,
        summary,
        conflict: "",
        run,
    }
}

impl Command {
    /// Whether so many arguments, the name included, may be right.
    pub const fn takes(&self, count: usize) -> bool {
        if self.arity < 0 {
            self.arity.unsigned_abs() as usize <= count
        } else {
            self.arity as usize == count
        }
    }

    /// Where the name of a field or member stands as a rule, for those about one. Nothing but time
    /// depends on it.
    pub(crate) fn part(&self) -> Option<usize> {
        match self.group {
            "sorted-set" if self.flags.has(Flags::FAST) && self.writes() => Some(3),
            "hash" | "set" | "sorted-set" if self.flags.has(Flags::FAST) => Some(2),
            _ => None,
        }
    }

    /// Whether it runs after the transaction that it is in: it takes locks itself, and not only of
    /// shards.
    pub const fn runs_after(&self) -> bool {
        matches!(self.run, Run::Node(_))
            && !self.flags.has(Flags::LOCKLESS)
            && !self.flags.has(Flags::ALL_SHARDS)
    }

    /// Whether it counts that it has found a key, or not.
    pub const fn counts_looks(&self) -> bool {
        self.flags.0 & (Flags::READ.0 | Flags::LOOKS.0) != 0
    }

    /// Whether it may write.
    pub const fn writes(&self) -> bool {
        self.flags.has(Flags::WRITE)
    }
}
/// Refuses to write to keys of which more is here than the version of their shard says.
pub fn check_ahead(txn: &Txn<'_>, command: &Command, arguments: &[&[u8]]) -> Outcome {
    let mut is_ahead = false;
    if txn.is_ahead() && command.writes() {
        command.keys.places(arguments, |place| {
            is_ahead |= txn.is_ahead_at(arguments[place]);
        });
    }
    if is_ahead {
        return Err(CommandError::TryAgain);
    }
    Ok(())
}
