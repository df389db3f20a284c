//! `EXEC`: the commands of a `MULTI`, as one op of each shard that they write to.
//!
//! The shards of the keys and of what is watched are held from the look at the watched keys to the
//! last command; all shards are, where a command is about all keys. Others see all of it or
//! nothing. Commands about the node or about other regions look at more than the shards: they run
//! when these have been let go of, and so tell how things are after the transaction.

use std::sync::Arc;

use crdt::Key;
use smallvec::SmallVec;

use super::execute::{Asked, note_run, route, timeout};
use super::held::Held;
use super::stats::Tally;
use super::{Call, Server};
use crate::clock;
use crate::command::{self, Args, Command, CommandError, Flags, Keys, Outcome, Reply, Run, Wait};
use crate::session::{Client, Queued, Watched};
use crate::shard::Txn;

/// Runs the commands of a `MULTI`, unless a watched key has changed: the reply is then null. Their
/// keys are in one slot, or on a node of one shard.
pub(crate) fn transaction(
    call: &mut Call<'_>,
    queue: &[Queued],
    watched: &[Watched],
    reply: &mut Reply<'_>,
) -> Outcome {
    let lists = queue
        .iter()
        .map(|queued| queued.arguments.iter().map(AsRef::as_ref).collect());
    let lists: Vec<Vec<&[u8]>> = lists.collect();
    let server = call.server;
    let home = home(server, queue, &lists)?;
    let is_about_all = |queued: &Queued| queued.command.flags.has(Flags::ALL_SHARDS);
    let mut held = if queue.iter().any(is_about_all) {
        Held::lock_all(server, call.now_ms)?
    } else {
        let shards = watched.iter().map(|watched| watched.shard).chain([home]);
        Held::lock(server, shards, call.now_ms)?
    };
    if watched
        .iter()
        .any(|w| w.has_changed(held.get(w.shard).shard(), call.now_ms))
    {
        reply.null_array();
        return Ok(());
    }
    call.in_transaction = true;
    call.hold(held);
    reply.array(queue.len());
    let mut each = Each::new(call);
    let mut later = Vec::new();
    for (queued, arguments) in queue.iter().zip(&lists) {
        let command = queued.command;
        server.slow.show(&call.session.client, arguments);
        match command.run {
            Run::Node(_) if command.runs_after() => later.push((reply.mark(), command, arguments)),
            Run::Node(handler) => {
                each.run(command, arguments, reply, |reply| {
                    handler(call, &mut Args::new(arguments), reply)
                });
            }
            Run::Shard(_) | Run::Wait(_) | Run::Sum(_) | Run::Each(_) | Run::Pairs(_) => {
                each.run(command, arguments, reply, |reply| {
                    let touches = call.touches(command);
                    call.transact(home, None, |txn| {
                        let outcome = run_in(txn, command, arguments, reply);
                        note_run(txn, command, arguments, touches);
                        outcome
                    })?
                });
            }
        }
    }
    call.let_go();
    let mut replies = Vec::new();
    for (at, command, arguments) in later {
        let mut out = Vec::new();
        if let Run::Node(handler) = command.run {
            let mut reply = Reply::new(&mut out, reply.protocol());
            each.run(command, arguments, &mut reply, |reply| {
                handler(call, &mut Args::new(arguments), reply)
            });
        }
        replies.push((at, out));
    }
    each.tally.add_up(&server.stats);
    // From the last on, so that the places of the others stay what they are.
    for (at, out) in replies.into_iter().rev() {
        reply.insert(at, &out);
    }
    Ok(())
}

/// The shard of all keys of a transaction.
fn home(server: &Server, queue: &[Queued], lists: &[Vec<&[u8]>]) -> Result<usize, CommandError> {
    let mut first: Option<Key<'_>> = None;
    for (queued, arguments) in queue.iter().zip(lists) {
        let asked = Asked::new(queued.command, arguments, server.shards.seed());
        let route = route(server, queued.command, asked);
        let elsewhere = first
            .zip(route.first)
            .is_some_and(|(a, b)| a.slot != b.slot);
        if (route.spread || elsewhere) && 1 < server.shards.count() {
            return Err(CommandError::CrossSlot);
        }
        first = first.or(route.first);
    }
    Ok(first.map_or(0, |key| server.shards.index_of(key.slot)))
}

/// Runs the commands of a transaction one by one: the error of one is its reply, and each counts.
struct Each<'a> {
    server: &'a Server,
    client: Arc<Client>,
    tally: Tally,
}

impl<'a> Each<'a> {
    fn new(call: &Call<'a>) -> Self {
        Self {
            server: call.server,
            client: Arc::clone(&call.session.client),
            tally: Tally::default(),
        }
    }

    fn run(
        &mut self,
        command: &Command,
        arguments: &[&[u8]],
        reply: &mut Reply<'_>,
        run: impl FnOnce(&mut Reply<'_>) -> Outcome,
    ) {
        let started_ns = clock::monotonic_ns();
        let mark = reply.mark();
        if let Err(error) = run(reply) {
            self.server.errors.note(&error);
            self.server.stats.note_error(command.name, true);
            reply.rollback(mark);
            reply.error(&error);
        }
        let took_ns = clock::monotonic_ns() - started_ns;
        self.server.slow.note(took_ns, &self.client, arguments);
        self.tally.count(&self.server.stats, command.name, took_ns);
    }
}

/// Runs a command inside a transaction that holds the lock.
fn run_in(
    txn: &mut Txn<'_>,
    command: &Command,
    arguments: &[&[u8]],
    reply: &mut Reply<'_>,
) -> Outcome {
    command::check_ahead(txn, command, arguments)?;
    let mut args = Args::new(arguments);
    let mut places: SmallVec<[usize; 16]> = SmallVec::new();
    command.keys.places(arguments, |place| places.push(place));
    match command.run {
        Run::Shard(handler) => handler(txn, &mut args, reply)?,
        Run::Wait(handler) => {
            timeout(command, arguments)?;
            if handler(txn, &mut args, reply)? == Wait::Block {
                // As Redis: what moves an element replies an element, the others an array.
                if matches!(command.keys, Keys::Range { last: 2, .. }) {
                    reply.null();
                } else {
                    reply.null_array();
                }
            }
        }
        Run::Sum(handler) => {
            let total = places
                .iter()
                .map(|&place| handler(txn, arguments[place]))
                .sum();
            reply.int(total);
        }
        Run::Each(handler) => {
            reply.array(places.len());
            places
                .iter()
                .for_each(|&place| handler(txn, arguments[place], reply));
        }
        Run::Pairs(handler) => {
            if arguments.len().is_multiple_of(2) {
                return Err(CommandError::WrongArity(command.name.into()));
            }
            places
                .iter()
                .for_each(|&place| handler(txn, arguments[place], arguments[place + 1]));
            reply.ok();
        }
        Run::Node(_) => {}
    }
    Ok(())
}
