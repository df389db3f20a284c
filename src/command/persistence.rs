//! What clients ask about the disk: snapshots, and waiting until writes are on it.

use super::{Args, Command, CommandError, Flags, Outcome, Reply, node_row};
use crate::proxy::Call;
use crate::snapshot::Snapshots;

pub(super) const COMMANDS: &[Command] = &[
    node_row("BGSAVE", -1, SAVES, "Begins a snapshot.", bgsave),
    node_row(
        "SAVE",
        1,
        SAVES.and(Flags::NO_MULTI),
        "Makes a snapshot, and waits for it. Others do not wait.",
        save,
    ),
    node_row(
        "BGREWRITEAOF",
        1,
        SAVES,
        "Begins a snapshot, after which the log before it can go.",
        rewrite,
    ),
    node_row(
        "LASTSAVE",
        1,
        Flags::FAST.and(Flags::LOADING).and(Flags::LOCKLESS),
        "When the last snapshot was finished, seconds since 1970.",
        last_save,
    ),
    Command {
        group: "generic",
        ..node_row(
            "WAIT",
            3,
            Flags::LOCKLESS,
            "Waits for standbys in this region, of which there are none; see REGION WAIT.",
            wait,
        )
    },
    Command {
        group: "generic",
        ..node_row(
            "WAITAOF",
            4,
            Flags::BLOCKING.and(Flags::LOCKLESS),
            "Waits until the writes of this connection are synced to disk.",
            wait_aof,
        )
    },
];

const SAVES: Flags = Flags::ADMIN.and(Flags::LOCKLESS);

const NO_DISK: CommandError =
    CommandError::text("ERR nothing is kept on disk: start the node with a `dir`");

fn snapshots<'a>(call: &'a Call<'_>) -> Result<&'a Snapshots, CommandError> {
    call.server
        .snapshots
        .get()
        .map(AsRef::as_ref)
        .ok_or(NO_DISK)
}

fn bgsave(call: &mut Call<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let _scheduled = args.token_is("SCHEDULE");
    args.done()?;
    if !snapshots(call)?.ask() {
        return Err(IN_PROGRESS);
    }
    reply.simple("Background saving started");
    Ok(())
}

const IN_PROGRESS: CommandError = CommandError::text("ERR Background save already in progress");

fn save(call: &mut Call<'_>, _: &mut Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    call.check_no_transaction()?;
    let snapshots = snapshots(call)?;
    let before = snapshots.facts().done;
    if !snapshots.ask() {
        return Err(IN_PROGRESS);
    }
    call.reply_later(
        reply,
        0,
        Box::new(move |server, reply, _| {
            let facts = server.snapshots.get().map(|snapshots| snapshots.facts());
            let facts = facts.unwrap_or_default();
            let is_done = before < facts.done;
            if is_done {
                match facts.failure {
                    None => reply.ok(),
                    Some(why) => reply.error(&CommandError::line(format!("ERR {why}"))),
                }
            }
            is_done
        }),
    );
    Ok(())
}

fn rewrite(call: &mut Call<'_>, _: &mut Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    if !snapshots(call)?.ask() {
        return Err(CommandError::text(
            "ERR Background append only file rewriting already in progress",
        ));
    }
    reply.simple("Background append only file rewriting started");
    Ok(())
}

fn last_save(call: &mut Call<'_>, _: &mut Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let saved_ms = call
        .server
        .snapshots
        .get()
        .map(|snapshots| snapshots.facts().saved_ms);
    // Before the first of this life it is the time of the start, as in Redis.
    let saved_ms = saved_ms
        .filter(|&ms| ms != 0)
        .unwrap_or(call.server.started_ms);
    reply.int((saved_ms / 1_000) as i64);
    Ok(())
}

fn wait(call: &mut Call<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let count = args.int()?;
    let timeout_ms = timeout_ms(args)?;
    call.reply_later(
        reply,
        timeout_ms,
        Box::new(move |_, reply, is_over| {
            let is_done = count <= 0 || is_over;
            if is_done {
                reply.int(0);
            }
            is_done
        }),
    );
    Ok(())
}

fn wait_aof(call: &mut Call<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let (local, standbys) = (args.int()?, args.int()?);
    let timeout_ms = timeout_ms(args)?;
    if !(0..=1).contains(&local) || standbys < 0 {
        return Err(CommandError::text(
            "ERR value is out of range, must be positive",
        ));
    }
    let disk = call.server.durability.get();
    if local == 1 && disk.is_none() {
        return Err(CommandError::text(
            "ERR WAITAOF cannot be used when numlocal is set but appendonly is disabled.",
        ));
    }
    let number = disk.map(|disk| disk.want_sync());
    call.reply_later(
        reply,
        timeout_ms,
        Box::new(move |server, reply, is_over| {
            let disk = server.durability.get().zip(number);
            let synced = i64::from(disk.is_some_and(|(disk, number)| disk.is_synced(number)));
            let is_done = local <= synced && standbys == 0 || is_over;
            if is_done {
                reply.array(2);
                reply.int(synced);
                reply.int(0);
            }
            is_done
        }),
    );
    Ok(())
}

/// A timeout in milliseconds, 0 for ever.
fn timeout_ms(args: &mut Args<'_>) -> Result<u64, CommandError> {
    let ms = crdt::parse_integer(args.next()?).ok_or(CommandError::TimeoutNotAnInteger)?;
    u64::try_from(ms).map_err(|_| CommandError::TimeoutNegative)
}
