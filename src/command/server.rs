//! The node and the database as a whole.

use super::{Args, Command, Flags, Keys, Outcome, Reply, Run};
use crate::proxy::Call;

/// The release of Redis whose commands these are.
pub(super) const REDIS_VERSION: &str = "7.4.0";

pub(super) const COMMANDS: &[Command] = &[
    row(
        "TIME",
        1,
        Flags::FAST.and(Flags::LOCKLESS),
        "The time.",
        time,
    ),
    row(
        "SHUTDOWN",
        -1,
        Flags::ADMIN.and(Flags::NO_MULTI),
        "Stops the node.",
        shutdown,
    ),
];

const fn row(
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

fn time(_: &mut Call<'_>, _: &mut Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let us = crate::clock::now_us();
    reply.array(2);
    reply.bulk_int((us / 1_000_000) as i64);
    reply.bulk_int((us % 1_000_000) as i64);
    Ok(())
}

fn shutdown(call: &mut Call<'_>, _: &mut Args<'_>, _: &mut Reply<'_>) -> Outcome {
    call.session.closing = true;
    call.server.stop.notify_one();
    Ok(())
}
