//! Looking ahead: all requests that have arrived are found before the first of them runs.
//!
//! With many keys, those of a request are nearly never in the processor's caches, and a lookup
//! waits for memory several times over. So the keys of a batch are approached together, a step of
//! each before the next step of any, and the waits overlap. A lone request steps aside in between,
//! so that they overlap with what other connections do.
//!
//! Nothing here decides anything: a step may find that the key is gone, and nothing is kept of it.

use std::cell::RefCell;
use std::task::Poll;

use crdt::{APPROACH_STEPS, Key, Near, Slot};
use smallvec::SmallVec;

use super::execute::Asked;
use crate::command::{self, Command, Run};
use crate::limits;
use crate::resp::{Request, Span};
use crate::shards::Shards;

/// Up to so many keys, there is not enough to do between two steps.
const FEW: usize = 3;

thread_local! {
    /// Batches to use again.
    static FREE: RefCell<Vec<Batch>> = const { RefCell::new(Vec::new()) };
}

/// Requests that are to run one after the other.
#[derive(Debug, Default)]
pub(super) struct Batch {
    requests: Vec<Ahead>,
    sought: Vec<Sought>,
    consumed: usize,
}

/// A request that is to run.
#[derive(Debug)]
pub(super) struct Ahead {
    /// Bytes of the input before it.
    start: usize,
    request: Request,
    command: Option<&'static Command>,
    /// Which argument is the first key, and its slot and hash.
    first: Option<(usize, Slot, u64)>,
}

/// The arguments of a request.
pub(super) type Arguments<'a> = SmallVec<[&'a [u8]; 8]>;

impl Ahead {
    pub(super) fn arguments<'a>(&self, input: &'a [u8]) -> Arguments<'a> {
        self.request.arguments(&input[self.start..])
    }

    /// The shard that it runs on, if it runs on one and on nothing else.
    pub(super) fn shard(&self, shards: &Shards) -> Option<usize> {
        let is_plain = matches!(self.command?.run, Run::Shard(_));
        let (_, slot, _) = self.first.filter(|_| is_plain)?;
        Some(shards.index_of(slot))
    }

    /// What it asks for, of its arguments.
    pub(super) fn asked<'a>(&self, arguments: &'a [&'a [u8]]) -> Asked<'a> {
        let first = self.first.map(|(place, slot, hash)| Key {
            name: arguments[place],
            slot,
            hash,
        });
        Asked {
            arguments,
            command: self.command,
            first,
        }
    }
}

/// A key that will be looked up, and perhaps a field or member of it.
#[derive(Debug)]
struct Sought {
    shard: usize,
    slot: Slot,
    hash: u64,
    near: Near,
    part: Option<Part>,
}

/// A field or member of a key.
#[derive(Debug)]
struct Part {
    hash: u64,
    /// Bytes of the input before the request.
    start: usize,
    /// The key.
    name: Span,
}

impl Batch {
    /// An empty one.
    pub(super) fn take() -> Self {
        FREE.with_borrow_mut(Vec::pop).unwrap_or_default()
    }

    /// Gives it back when its requests have run.
    pub(super) fn give_back(mut self) {
        self.requests.clear();
        self.sought.clear();
        self.consumed = 0;
        FREE.with_borrow_mut(|free| {
            if free.len() < limits::FREE_BUFFERS {
                free.push(self);
            }
        });
    }

    pub(super) const fn len(&self) -> usize {
        self.requests.len()
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.requests.is_empty()
    }

    /// Bytes of the input that its requests take up.
    pub(super) const fn consumed(&self) -> usize {
        self.consumed
    }

    pub(super) fn requests(&self) -> &[Ahead] {
        &self.requests
    }

    /// Adds the request that follows the last one in the input.
    pub(super) fn push(&mut self, request: Request, input: &[u8], shards: &Shards) {
        let start = self.consumed;
        self.consumed += request.consumed;
        let arguments = request.arguments(&input[start..]);
        let command = arguments.first().and_then(|name| self.command(name));
        let mut first = None;
        if let Some(command) = command {
            let part = command.part().and_then(|place| arguments.get(place));
            let part = part.map(|name| shards.seed().hash(name));
            command.keys.places(&arguments, |place| {
                let is_first = first.is_none();
                if limits::KEYS_AHEAD <= self.sought.len() && !is_first {
                    return;
                }
                let key = shards.seed().key(arguments[place]);
                first.get_or_insert((place, key.slot, key.hash));
                let part = part.filter(|_| is_first).map(|hash| Part {
                    hash,
                    start,
                    name: request.spans[place],
                });
                self.seek(&key, part, shards);
            });
        }
        self.requests.push(Ahead {
            start,
            request,
            command,
            first,
        });
    }

    /// The command of a name, which most often is that of the request before.
    fn command(&self, name: &[u8]) -> Option<&'static Command> {
        let last = self.requests.last().and_then(|last| last.command);
        let same = last.filter(|last| last.name.as_bytes() == name);
        same.or_else(|| command::find(name))
    }

    fn seek(&mut self, key: &Key<'_>, part: Option<Part>, shards: &Shards) {
        let last = self.sought.last();
        if part.is_none() && last.is_some_and(|last| last.hash == key.hash) {
            return;
        }
        shards.approach(key.slot);
        self.sought.push(Sought {
            shard: shards.index_of(key.slot),
            slot: key.slot,
            hash: key.hash,
            near: Near::Nothing,
            part,
        });
    }

    /// Has the processor load what the requests will look up.
    pub(super) async fn approach(&mut self, input: &[u8], shards: &Shards) {
        if self.sought.is_empty() {
            return;
        }
        let few = self.sought.len() <= FEW;
        if few {
            step_aside().await;
        }
        (0..APPROACH_STEPS).for_each(|_| self.step(input, shards));
        if few {
            step_aside().await;
        }
    }

    /// Brings all that is sought one step nearer.
    fn step(&mut self, input: &[u8], shards: &Shards) {
        for of_shard in self.sought.chunk_by_mut(|a, b| a.shard == b.shard) {
            let shard = shards.lock(of_shard[0].shard);
            let state = shard.state();
            // Those of one key are mostly about parts of it: it is looked up once for them.
            for of_key in of_shard.chunk_by_mut(|a, b| a.hash == b.hash) {
                let (slot, hash) = (of_key[0].slot, of_key[0].hash);
                let mut parts = None;
                for one in of_key {
                    one.near = match &one.part {
                        Some(part) => {
                            let name = part.name.of(&input[part.start..]);
                            let parts =
                                parts.get_or_insert_with(|| state.parts(&Key { name, slot, hash }));
                            parts.approach(part.hash, one.near)
                        }
                        None => state.approach(slot, hash, one.near),
                    };
                }
            }
        }
    }
}

/// Lets the other connections run that are ready, without asking the system for more of them.
async fn step_aside() {
    let mut aside = false;
    std::future::poll_fn(|context| {
        if std::mem::replace(&mut aside, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}
