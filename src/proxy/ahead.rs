//! Looking ahead: all requests that have arrived are found before the first of them runs.
//!
//! With many keys, those of a request are nearly never in the processor's caches, and a lookup
//! waits for memory several times over. So the keys of a batch are approached together, a step of
//! each before the next step of any, and the waits overlap. A lone request steps aside in between,
//! so that they overlap with what other connections do.
//!
//! Nothing here decides anything: a step may find that the key is gone, and nothing is kept of it.

use std::task::Poll;

use crdt::{Key, Near, Slot};
use parking_lot::MutexGuard;
use smallvec::SmallVec;

use super::execute::Asked;
use crate::command::{self, Command};
use crate::limits;
use crate::resp::Request;
use crate::shard::Shard;
use crate::shards::Shards;

/// Steps to the value of a key: index, place, entry.
const STEPS: usize = 3;

/// Up to so many keys, there is not enough to do between two steps.
const FEW: usize = 3;

/// Requests that are to run one after the other.
#[derive(Debug, Default)]
pub(super) struct Batch {
    requests: SmallVec<[Ahead; 1]>,
    consumed: usize,
}

/// A request that is to run.
#[derive(Debug)]
pub(super) struct Ahead {
    /// Bytes of the input before it.
    start: usize,
    request: Request,
    command: Option<&'static Command>,
    /// Of the first key.
    first: Option<(usize, Slot, u64)>,
}

/// The arguments of a request.
pub(super) type Arguments<'a> = SmallVec<[&'a [u8]; 8]>;

impl Ahead {
    pub(super) fn arguments<'a>(&self, input: &'a [u8]) -> Arguments<'a> {
        self.request.arguments(&input[self.start..])
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
struct Sought<'a> {
    shard: usize,
    key: Key<'a>,
    near: Near,
    part: Option<u64>,
}

impl Batch {
    pub(super) fn len(&self) -> usize {
        self.requests.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.requests.is_empty()
    }

    /// Bytes of the input that its requests take up.
    pub(super) const fn consumed(&self) -> usize {
        self.consumed
    }

    pub(super) fn requests(&self) -> impl Iterator<Item = &Ahead> {
        self.requests.iter()
    }

    /// Adds the request that follows the last one in the input.
    pub(super) fn push(&mut self, request: Request, input: &[u8], shards: &Shards) {
        let start = self.consumed;
        self.consumed += request.consumed;
        let arguments = request.arguments(&input[start..]);
        let command = arguments.first().and_then(|name| command::find(name));
        let place = command.and_then(|command| command.keys.first(&arguments));
        let first = place.map(|place| {
            let key = shards.seed().key(arguments[place]);
            shards.approach(key.slot);
            (place, key.slot, key.hash)
        });
        self.requests.push(Ahead {
            start,
            request,
            command,
            first,
        });
    }

    /// Has the processor load what the requests will look up.
    pub(super) async fn approach(&self, input: &[u8], shards: &Shards) {
        let mut sought = self.sought(input, shards);
        if sought.is_empty() {
            return;
        }
        let few = sought.len() <= FEW;
        if few {
            step_aside().await;
            (0..STEPS).for_each(|_| step(shards, &mut sought));
            step_aside().await;
        } else {
            (0..STEPS).for_each(|_| step(shards, &mut sought));
        }
    }

    /// The keys of the requests.
    fn sought<'a>(&self, input: &'a [u8], shards: &Shards) -> SmallVec<[Sought<'a>; 1]> {
        let mut sought = SmallVec::new();
        for ahead in &self.requests {
            let Some(command) = ahead.command else {
                continue;
            };
            let arguments = ahead.arguments(input);
            let part = command.part().and_then(|place| arguments.get(place));
            let part = part.map(|name| shards.seed().hash(name));
            let first = ahead.first;
            command.keys.places(&arguments, |place| {
                if limits::KEYS_AHEAD <= sought.len() {
                    return;
                }
                let name = arguments[place];
                let key = match first {
                    Some((first, slot, hash)) if first == place => Key { name, slot, hash },
                    _ => shards.seed().key(name),
                };
                shards.approach(key.slot);
                sought.push(Sought {
                    shard: shards.index_of(key.slot),
                    key,
                    near: Near::Nothing,
                    part,
                });
            });
        }
        sought
    }
}

/// Brings all of them one step nearer.
fn step(shards: &Shards, sought: &mut [Sought<'_>]) {
    let mut held: Option<(usize, MutexGuard<'_, Shard>)> = None;
    for one in sought {
        if held.as_ref().is_none_or(|(shard, _)| *shard != one.shard) {
            drop(held.take());
            held = Some((one.shard, shards.lock(one.shard)));
        }
        let Some((_, shard)) = &held else { return };
        let state = shard.state();
        one.near = match one.part {
            Some(part) => state.approach_part(&one.key, part, one.near),
            None => state.approach(&one.key, one.near),
        };
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
