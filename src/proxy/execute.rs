//! From arguments to a reply: finding the command, checking what the client may, finding the shard.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crdt::{Key, Slot};
use smallvec::SmallVec;

use super::blocking::Blocking;
use super::held::Held;
use super::{Call, Server, Waits};
use crate::command::{
    self, Args, Command, CommandError, Flags, Handler, Keys, Outcome, Reply, Run, Wait, transaction,
};
use crate::limits;
use crate::session::{Queued, Session};
use crate::shard::{Shard, Txn};

/// What is to happen after a command.
#[derive(Debug)]
pub(super) enum Step {
    /// The next one.
    Next,
    /// It waits for a key. Apart, for every command returns a step.
    Block(Box<Blocking>),
    /// Clients are paused: it is to be tried again after so many milliseconds, or sooner.
    Pause(u64),
}

/// What a client asks for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked<'a> {
    /// The words, the name first.
    pub(super) arguments: &'a [&'a [u8]],
    /// The command of this name, if there is one.
    pub(super) command: Option<&'static Command>,
    /// The first key, if there is one.
    pub(super) first: Option<Key<'a>>,
}

impl<'a> Asked<'a> {
    /// What these words ask of a command.
    pub(super) fn new(
        command: &'static Command,
        arguments: &'a [&'a [u8]],
        seed: &crdt::Seed,
    ) -> Self {
        let first = command.keys.first(arguments);
        Self {
            arguments,
            command: Some(command),
            first: first.map(|place| seed.key(arguments[place])),
        }
    }
}

/// Runs one request and writes its reply. `held` is its shard, if that is locked already: it runs
/// there then, and on nothing else.
#[inline]
pub(super) fn execute(
    server: &Arc<Server>,
    session: &mut Session,
    now_ms: u64,
    asked: Asked<'_>,
    held: Option<&mut Shard>,
    out: &mut Vec<u8>,
) -> Step {
    let arguments = asked.arguments;
    let bytes_max = server.output.bytes_max() as usize;
    let mut reply = Reply::within(out, session.protocol, bytes_max);
    let mark = reply.mark();
    let step = admit(server, session, asked).and_then(|command| {
        if let Some(command) = command {
            if let Some(ms) = paused_for_ms(server, session, command) {
                return Ok(Step::Pause(ms));
            }
            // The commands of a transaction are shown as they run, so `EXEC` comes after them.
            if command.name != "EXEC" {
                server.slow.show(&session.client, arguments);
            }
            let mut call = Call {
                server,
                session,
                in_transaction: false,
                held: None,
                now_ms,
            };
            if let (Some(shard), Run::Shard(handler)) = (held, command.run) {
                run_held(&mut call, asked, shard, handler, &mut reply)?;
                return Ok(Step::Next);
            }
            return run(&mut call, command, asked, &mut reply);
        }
        reply.simple("QUEUED");
        Ok(Step::Next)
    });
    let step = step.unwrap_or_else(|error| {
        note_error(server, session, asked.command, &error);
        reply.rollback(mark);
        reply.error(&error);
        Step::Next
    });
    // What is there of it is never sent (`Patience::None`).
    session.closing |= reply.is_full();
    step
}

/// Counts an error that a client is told; of a command, if there is one of that name, that ran or
/// did not.
#[cold]
fn note_error(server: &Server, session: &Session, command: Option<&Command>, error: &CommandError) {
    server.errors.note(error);
    if let Some(command) = command {
        let has_run = !session.command.is_empty();
        server.stats.note_error(command.name, has_run);
    }
}

/// How long a command has to wait now, if clients are paused. `CLIENT` never does: it ends the
/// pause.
fn paused_for_ms(server: &Server, session: &Session, command: &Command) -> Option<u64> {
    if server.paused_until_ms.load(Ordering::Relaxed) == 0 || command.name == "CLIENT" {
        return None;
    }
    let queue = session.queue.as_deref().unwrap_or_default();
    let writes = command.writes()
        || (command.name == "EXEC" && queue.iter().any(|queued| queued.command.writes()));
    server.paused_for_ms(writes)
}

/// The command, if it may run now; `None` if it was queued.
fn admit(
    server: &Arc<Server>,
    session: &mut Session,
    asked: Asked<'_>,
) -> Result<Option<&'static Command>, CommandError> {
    let arguments = asked.arguments;
    let refuse = |session: &mut Session, error| {
        session.queue_broken |= session.queue.is_some();
        Err(error)
    };
    session.command = "";
    let Some(command) = asked.command else {
        if is_http(arguments) {
            server.note_http(&session.client);
            session.closing = true;
        }
        return refuse(session, CommandError::unknown_command(arguments));
    };
    if !command.takes(arguments.len()) {
        let error = CommandError::WrongArity(command.name.into());
        if command.name == "EXEC" {
            return Err(transaction::abort(server, session, &error));
        }
        return refuse(session, error);
    }
    if command.flags.has(Flags::CONTAINER)
        && let Err(error) = command::check_subcommand(command, arguments)
    {
        return refuse(session, error);
    }
    if !session.authenticated && !command.flags.has(Flags::NO_AUTH) {
        return refuse(session, CommandError::NoAuth);
    }
    if command.flags.has(Flags::WRITE) && server.clock_ahead.load(Ordering::Relaxed) {
        return refuse(session, CommandError::ClockSkew);
    }
    if server.loading.is_loading()
        && !command::runs_while_loading(command, arguments)
        && let Some(error) = loading(server, command)
    {
        return refuse(session, error);
    }
    if session.is_short {
        check_room(server, session, command)?;
    }
    if command.flags.has(Flags::WRITE)
        && let Some(why) = server.durability.get().and_then(|disk| disk.refusal())
    {
        return refuse(session, CommandError::not_kept(&why));
    }
    if session.queue.is_some() && !command.flags.has(Flags::NO_MULTI) {
        queue(session, command, arguments)?;
        return Ok(None);
    }
    session.command = command.name;
    Ok(Some(command))
}

/// Why a command does not run on a node that does not serve yet. A region that joins lets read what
/// it has.
#[cold]
fn loading(server: &Server, command: &Command) -> Option<CommandError> {
    if !server.loading.joins() {
        return Some(CommandError::Loading);
    }
    if !command.flags.has(Flags::WRITE) {
        return None;
    }
    Some(match server.loading.waits() {
        Some(waits @ Waits::Excluded) => CommandError::Excluded {
            why: waits.to_string().into(),
        },
        Some(waits @ Waits::Forgotten { .. }) => CommandError::Forgotten {
            why: waits.to_string().into(),
        },
        Some(waits) => CommandError::Joining {
            waits: format!("it {waits}").into(),
        },
        None => CommandError::Joining {
            waits: "it has just started".into(),
        },
    })
}

/// Refuses what may add data, for there is no room in memory.
#[cold]
fn check_room(server: &Server, session: &mut Session, command: &Command) -> Outcome {
    if !grows(session, command) {
        return Ok(());
    }
    let refusal = CommandError::OutOfMemory;
    if command.name == "EXEC" {
        return Err(transaction::abort(server, session, &refusal));
    }
    session.queue_broken |= session.queue.is_some();
    Err(refusal)
}

/// Whether a command may add data: it, or what is queued for it; or queueing it.
fn grows(session: &Session, command: &Command) -> bool {
    let Some(queue) = &session.queue else {
        return command.flags.has(Flags::DENY_OOM);
    };
    let mut queued = queue.iter().map(|queued| queued.command);
    !command.flags.has(Flags::NO_MULTI)
        || (command.name == "EXEC" && queued.any(|queued| queued.flags.has(Flags::DENY_OOM)))
}

/// Notes what a command has found, and that it has used its keys, if it `touches` them and that is
/// noted.
#[inline]
pub(super) fn note_run(txn: &mut Txn<'_>, command: &Command, arguments: &[&[u8]], touches: bool) {
    if command.counts_looks() {
        txn.count_looks();
    }
    if touches && txn.notes_uses() {
        note_uses_of(txn, command, arguments);
    }
}

#[cold]
fn note_uses_of(txn: &mut Txn<'_>, command: &Command, arguments: &[&[u8]]) {
    if !command.flags.has(Flags::NO_TOUCH) {
        let keys = command.keys;
        keys.places(arguments, |place| txn.note_use(arguments[place]));
    }
}

/// Whether a browser was made to speak to us: what follows may be commands in the body of its
/// request. As Redis, that is the end of the connection.
fn is_http(arguments: &[&[u8]]) -> bool {
    let name = arguments.first().copied().unwrap_or_default();
    name.eq_ignore_ascii_case(b"POST") || name.eq_ignore_ascii_case(b"Host:")
}

fn queue(session: &mut Session, command: &'static Command, arguments: &[&[u8]]) -> Outcome {
    let Some(queue) = &mut session.queue else {
        return Ok(());
    };
    session.queued_bytes += arguments
        .iter()
        .map(|argument| argument.len())
        .sum::<usize>();
    if limits::QUEUED_COMMANDS_MAX <= queue.len() || limits::QUEUED_BYTES_MAX < session.queued_bytes
    {
        session.queue_broken = true;
        return Err(CommandError::text(
            "ERR too many commands in one transaction",
        ));
    }
    let arguments = arguments.iter().map(|&argument| argument.into()).collect();
    queue.push(Queued { command, arguments });
    Ok(())
}

/// The keys of a request, with the shard that all of them are on.
pub(super) struct Route<'a> {
    pub(super) shard: usize,
    pub(super) first: Option<Key<'a>>,
    /// Whether they are in several slots.
    pub(super) spread: bool,
}

pub(super) fn route<'a>(server: &Server, command: &Command, asked: Asked<'a>) -> Route<'a> {
    let first = asked.first;
    let mut spread = false;
    // Most commands have one key, which is known.
    if let (Some(first), true) = (first, command.keys != Keys::FIRST) {
        command.keys.places(asked.arguments, |place| {
            spread |= Slot::of(asked.arguments[place]) != first.slot;
        });
    }
    Route {
        shard: first.map_or(0, |key| server.shards.index_of(key.slot)),
        first,
        spread,
    }
}

/// Runs a command on its shard, which is held.
fn run_held(
    call: &mut Call<'_>,
    asked: Asked<'_>,
    shard: &mut Shard,
    handler: Handler,
    reply: &mut Reply<'_>,
) -> Outcome {
    let command = asked.command.expect("it has been found");
    let route = route(call.server, command, asked);
    if route.spread && 1 < call.server.shards.count() {
        return Err(CommandError::CrossSlot);
    }
    shard.check_in_service()?;
    let touches = call.touches(command);
    let (outcome, wrote) = call.transact_on(shard, route.first, |txn| {
        command::check_ahead(txn, command, asked.arguments)?;
        let outcome = handler(txn, &mut Args::new(asked.arguments), reply);
        note_run(txn, command, asked.arguments, touches);
        outcome
    });
    call.note(route.shard, wrote);
    outcome
}

fn run(
    call: &mut Call<'_>,
    command: &'static Command,
    asked: Asked<'_>,
    reply: &mut Reply<'_>,
) -> Result<Step, CommandError> {
    let arguments = asked.arguments;
    let mut args = Args::new(arguments);
    if let Run::Node(handler) = command.run {
        handler(call, &mut args, reply)?;
        return Ok(Step::Next);
    }
    let route = route(call.server, command, asked);
    let apart = route.spread && 1 < call.server.shards.count();
    let touches = call.touches(command);
    match command.run {
        Run::Shard(_) | Run::Wait(_) if apart => Err(CommandError::CrossSlot),
        Run::Shard(handler) => {
            call.transact(route.shard, route.first, |txn| {
                command::check_ahead(txn, command, arguments)?;
                let outcome = handler(txn, &mut args, reply);
                note_run(txn, command, arguments, touches);
                outcome
            })??;
            Ok(Step::Next)
        }
        Run::Wait(handler) => {
            let timeout_s = timeout(command, arguments)?;
            let done = call.transact(route.shard, route.first, |txn| {
                command::check_ahead(txn, command, arguments)?;
                let outcome = handler(txn, &mut args, reply);
                note_run(txn, command, arguments, touches);
                outcome
            })??;
            if done == Wait::Done {
                return Ok(Step::Next);
            }
            let blocking = Blocking::new(command, arguments, route.shard, timeout_s);
            Ok(Step::Block(Box::new(blocking)))
        }
        Run::Sum(_) | Run::Each(_) | Run::Pairs(_) => {
            if apart && command.writes() && call.server.settings.read().active_active {
                return Err(CommandError::CrossSlot);
            }
            each_key(call, command, arguments, reply)?;
            Ok(Step::Next)
        }
        Run::Node(_) => Ok(Step::Next),
    }
}

/// Seconds that a blocking command waits: its last argument, or the first of those with counted
/// keys.
pub(super) fn timeout(command: &Command, arguments: &[&[u8]]) -> Result<f64, CommandError> {
    let counted = matches!(command.keys, Keys::Counted { .. });
    let at = if counted { 1 } else { arguments.len() - 1 };
    let text = arguments.get(at).copied().unwrap_or_default();
    let seconds = command::number::parse_f64(text).ok_or(CommandError::TimeoutNotAFloat)?;
    if seconds < 0.0 {
        return Err(CommandError::TimeoutNegative);
    }
    if !seconds.is_finite() || 1e15 < seconds {
        return Err(CommandError::text("ERR timeout is out of range"));
    }
    Ok(seconds)
}

/// Commands that treat each key by itself, replies in the order of the keys. Others see what is
/// written to all keys or to none, and what is read is of one moment.
fn each_key(
    call: &mut Call<'_>,
    command: &Command,
    arguments: &[&[u8]],
    reply: &mut Reply<'_>,
) -> Outcome {
    if matches!(command.run, Run::Pairs(_)) && arguments.len().is_multiple_of(2) {
        return Err(CommandError::WrongArity(command.name.into()));
    }
    let mut places: SmallVec<[(usize, usize); 16]> = SmallVec::new();
    command.keys.places(arguments, |place| {
        let shard = call.server.shards.index_of(Slot::of(arguments[place]));
        places.push((shard, place));
    });
    let shards = places.iter().map(|&(shard, _)| shard);
    if shards.clone().any(|shard| shard != places[0].0) {
        call.hold(Held::lock(call.server, shards, call.now_ms)?);
    }
    let touches = call.touches(command) && !command.flags.has(Flags::NO_TOUCH);
    let note = |txn: &mut Txn<'_>, group: &[(usize, usize)]| {
        if touches && txn.notes_uses() {
            for &(_, place) in group {
                txn.note_use(arguments[place]);
            }
        }
    };
    if call.held.is_some() {
        // All of it or nothing.
        for group in places.chunk_by(|a, b| a.0 == b.0) {
            call.transact(group[0].0, None, |txn| {
                command::check_ahead(txn, command, arguments)
            })??;
        }
    }
    match command.run {
        Run::Sum(handler) => {
            let mut total = 0;
            for group in places.chunk_by(|a, b| a.0 == b.0) {
                total += call.transact(group[0].0, None, |txn| {
                    command::check_ahead(txn, command, arguments)?;
                    let keys = group.iter().map(|&(_, place)| arguments[place]);
                    let sum = keys.map(|name| handler(txn, name)).sum::<i64>();
                    note(txn, group);
                    Ok::<i64, CommandError>(sum)
                })??;
            }
            reply.int(total);
        }
        Run::Pairs(handler) => {
            for group in places.chunk_by(|a, b| a.0 == b.0) {
                call.transact(group[0].0, None, |txn| {
                    command::check_ahead(txn, command, arguments)?;
                    for &(_, place) in group {
                        handler(txn, arguments[place], arguments[place + 1]);
                    }
                    note(txn, group);
                    Ok::<(), CommandError>(())
                })??;
            }
            reply.ok();
        }
        Run::Each(handler) => {
            reply.array(places.len());
            for group in places.chunk_by(|a, b| a.0 == b.0) {
                call.transact(group[0].0, None, |txn| {
                    for &(_, place) in group {
                        handler(txn, arguments[place], reply);
                        txn.count_looks();
                    }
                    note(txn, group);
                })?;
            }
        }
        Run::Shard(_) | Run::Wait(_) | Run::Node(_) => {}
    }
    call.let_go();
    Ok(())
}
