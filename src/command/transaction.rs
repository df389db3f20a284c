//! Transactions: `MULTI` queues, `EXEC` runs all as one op unless a watched key has changed.

use super::{Args, Command, CommandError, Flags, Keys, Outcome, Reply, node_row};
use crate::limits;
use crate::proxy::{self, Call, Server};
use crate::session::{Session, Watched};

const SLOW: Flags = Flags::NO_MULTI.and(Flags::LOADING);
const FAST: Flags = SLOW.and(Flags::FAST);

pub(super) const COMMANDS: &[Command] = &[
    row(FAST, "MULTI", 1, Keys::None, "Begins a transaction.", multi),
    row(SLOW, "EXEC", 1, Keys::None, "Runs a transaction.", exec),
    row(
        FAST,
        "DISCARD",
        1,
        Keys::None,
        "Drops a transaction.",
        discard,
    ),
    row(
        FAST,
        "WATCH",
        -2,
        Keys::ALL,
        "Makes the next transaction depend on keys.",
        watch,
    ),
    Command {
        // In a transaction it is queued, and finds nothing: `EXEC` has taken what was watched.
        flags: Flags::FAST.and(Flags::LOCKLESS).and(Flags::LOADING),
        ..row(
            FAST,
            "UNWATCH",
            1,
            Keys::None,
            "Makes the next transaction depend on nothing.",
            unwatch_all,
        )
    },
];

const fn row(
    flags: Flags,
    name: &'static str,
    arity: i32,
    keys: Keys,
    summary: &'static str,
    run: fn(&mut Call<'_>, &mut Args<'_>, &mut Reply<'_>) -> Outcome,
) -> Command {
    Command {
        keys,
        group: "transactions",
        ..node_row(name, arity, flags, summary, run)
    }
}

fn multi(call: &mut Call<'_>, _: &mut Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    if call.session.queue.is_some() {
        return Err(CommandError::text("ERR MULTI calls can not be nested"));
    }
    call.session.queue = Some(Vec::new());
    call.session.queue_broken = false;
    call.session.queued_bytes = 0;
    reply.ok();
    Ok(())
}

fn discard(call: &mut Call<'_>, _: &mut Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    if call.session.queue.take().is_none() {
        return Err(CommandError::text("ERR DISCARD without MULTI"));
    }
    unwatch(call.server, call.session);
    reply.ok();
    Ok(())
}

fn exec(call: &mut Call<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let Some(queue) = call.session.queue.take() else {
        return Err(CommandError::text("ERR EXEC without MULTI"));
    };
    let watched = std::mem::take(&mut call.session.watched);
    let outcome = if std::mem::take(&mut call.session.queue_broken) {
        Err(CommandError::ExecAbort)
    } else {
        proxy::transaction(call, &queue, &watched, reply)
    };
    call.session.watched = watched;
    unwatch(call.server, call.session);
    call.server.slow.show(&call.session.client, args.all());
    outcome
}

fn watch(call: &mut Call<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    if call.session.queue.is_some() {
        return Err(CommandError::text("ERR WATCH inside MULTI is not allowed"));
    }
    for &name in args.rest() {
        if call
            .session
            .watched
            .iter()
            .any(|watched| *watched.name == *name)
        {
            continue;
        }
        if limits::WATCHED_KEYS_MAX <= call.session.watched.len() {
            return Err(CommandError::text("ERR too many watched keys"));
        }
        let key = call.server.shards.seed().key(name);
        let index = call.server.shards.index_of(key.slot);
        let mut shard = call.server.shards.serve(index)?;
        let watched = Watched {
            shard: index,
            name: name.into(),
            watch: shard.watch(&key, call.now_ms),
        };
        drop(shard);
        call.session.watched.push(watched);
    }
    call.session.client.facts.lock().watched = call.session.watched.len();
    reply.ok();
    Ok(())
}

fn unwatch_all(call: &mut Call<'_>, _: &mut Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    unwatch(call.server, call.session);
    reply.ok();
    Ok(())
}

/// Ends a transaction whose `EXEC` is refused, for this reason.
pub(crate) fn abort(server: &Server, session: &mut Session, why: &CommandError) -> CommandError {
    session.queue = None;
    session.queue_broken = false;
    unwatch(server, session);
    // As Redis: without the `ERR` that errors begin with as a rule.
    let why = why.to_string();
    let why = why.strip_prefix("ERR ").unwrap_or(&why);
    CommandError::line(format!("EXECABORT Transaction discarded because of: {why}"))
}

/// Forgets what the next transaction depends on.
pub(crate) fn unwatch(server: &Server, session: &mut Session) {
    for watched in session.watched.drain(..) {
        server
            .shards
            .with(watched.shard, |shard| shard.unwatch(&watched.name));
    }
    session.client.facts.lock().watched = 0;
}
