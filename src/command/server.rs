//! The node and the database as a whole.

use super::{Args, Command, CommandError, Flags, Outcome, Reply, node_row};
use crate::proxy::Call;

/// The release of Redis whose commands these are.
pub(super) const REDIS_VERSION: &str = "7.4.0";

pub(super) const COMMANDS: &[Command] = &[
    node_row(
        "TIME",
        1,
        Flags::FAST.and(Flags::LOCKLESS).and(Flags::LOADING),
        "The time.",
        time,
    ),
    node_row(
        "SHUTDOWN",
        -1,
        Flags::ADMIN.and(Flags::NO_MULTI).and(Flags::LOADING),
        "Stops the node.",
        shutdown,
    ),
];

fn time(_: &mut Call<'_>, _: &mut Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let us = crate::clock::now_us();
    reply.array(2);
    reply.bulk_int((us / 1_000_000) as i64);
    reply.bulk_int((us % 1_000_000) as i64);
    Ok(())
}

fn shutdown(call: &mut Call<'_>, args: &mut Args<'_>, _: &mut Reply<'_>) -> Outcome {
    call.check_no_transaction()?;
    let mut abort = false;
    while !args.is_empty() {
        let known = ["NOSAVE", "SAVE", "NOW", "FORCE"]
            .iter()
            .any(|option| args.token_is(option));
        if !known && !args.token_is("ABORT") {
            return Err(CommandError::Syntax);
        }
        abort |= !known;
    }
    if abort {
        // It stops at once, or not at all.
        return Err(CommandError::text("ERR No shutdown in progress."));
    }
    call.session.closing = true;
    call.server.stop.notify_one();
    Ok(())
}
