//! What operators look at: the slow log, latency, `MONITOR`; and what they play with.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::subcommand::{Subcommand, dispatch};
use super::{Args, Command, CommandError, Flags, Outcome, Reply, node_row};
use crate::proxy::{Call, Ran, Server, Spike};

const LOCKLESS_ADMIN: Flags = Flags::LOCKLESS.and(Flags::ADMIN);

pub(super) const COMMANDS: &[Command] = &[
    node_row(
        "SLOWLOG",
        -2,
        Flags::CONTAINER.and(Flags::LOCKLESS),
        "Commands that took long.",
        slowlog,
    ),
    node_row(
        "LATENCY",
        -2,
        Flags::CONTAINER.and(Flags::LOCKLESS),
        "Spikes of latency.",
        latency,
    ),
    node_row(
        "MONITOR",
        1,
        LOCKLESS_ADMIN.and(Flags::LOADING),
        "Shows every command that is executed.",
        monitor,
    ),
    node_row(
        "DEBUG",
        -2,
        LOCKLESS_ADMIN.and(Flags::CONTAINER).and(Flags::LOADING),
        "For tests.",
        debug,
    ),
    node_row(
        "LOLWUT",
        -1,
        Flags::READ.and(Flags::FAST).and(Flags::LOCKLESS),
        "Shows a picture.",
        lolwut,
    ),
];

pub(super) const SLOWLOG: &[Subcommand] = &[
    sub(
        "GET",
        -2,
        "[count]",
        "Returns the latest entries, 10 unless told.",
        slow_get,
    ),
    sub(
        "LEN",
        2,
        "",
        "Returns how many entries there are.",
        slow_len,
    ),
    sub("RESET", 2, "", "Forgets all entries.", slow_reset),
];

pub(super) const LATENCY: &[Subcommand] = &[
    sub(
        "LATEST",
        2,
        "",
        "Returns the latest spike of each event.",
        latest,
    ),
    sub(
        "HISTORY",
        3,
        "event",
        "Returns the spikes of an event.",
        history,
    ),
    sub(
        "RESET",
        -2,
        "[event [event ...]]",
        "Forgets spikes.",
        latency_reset,
    ),
    sub(
        "DOCTOR",
        2,
        "",
        "Says in words what was slow.",
        latency_doctor,
    ),
    sub(
        "HISTOGRAM",
        -2,
        "[command [command ...]]",
        "How long commands took: microseconds, and how many calls took that at most.",
        histogram,
    ),
];

pub(super) const DEBUG: &[Subcommand] = &[
    sub(
        "PANIC",
        2,
        "",
        "Panics as a bug would: after a write of the same `MULTI`, that takes its shard out of service.",
        debug_panic,
    ),
    sub(
        "SLEEP",
        3,
        "seconds",
        "Lets this connection wait; others go on.",
        debug_sleep,
    ),
];

type Handler = fn(&mut Call<'_>, &mut Args<'_>, &mut Reply<'_>) -> Outcome;

const fn sub(
    name: &'static str,
    arity: i32,
    syntax: &'static str,
    summary: &'static str,
    run: Handler,
) -> Subcommand {
    let flags = Flags::ADMIN.and(Flags::LOADING);
    Subcommand {
        name,
        arity,
        flags,
        syntax,
        summary,
        run,
    }
}

fn slowlog(call: &mut Call<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    dispatch("SLOWLOG", SLOWLOG, call, args, reply)
}

fn slow_get(call: &mut Call<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let count = if args.is_empty() {
        10
    } else {
        let count = args.int().ok().filter(|&count| -1 <= count);
        count.ok_or(CommandError::text(
            "ERR count should be greater than or equal to -1",
        ))?
    };
    args.done()?;
    let entries = call
        .server
        .slow
        .latest(usize::try_from(count).unwrap_or(usize::MAX));
    reply.array(entries.len());
    for entry in entries {
        reply.array(6);
        reply.int(entry.id as i64);
        reply.int(entry.at_s as i64);
        reply.int(entry.took_us as i64);
        reply.array(entry.arguments.len());
        entry
            .arguments
            .iter()
            .for_each(|argument| reply.bulk(argument));
        reply.bulk_text(&entry.address);
        reply.bulk(&entry.name);
    }
    Ok(())
}

fn slow_len(call: &mut Call<'_>, _: &mut Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    reply.count(call.server.slow.logged());
    Ok(())
}

fn slow_reset(call: &mut Call<'_>, _: &mut Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    call.server.slow.reset_log();
    reply.ok();
    Ok(())
}

fn latency(call: &mut Call<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    dispatch("LATENCY", LATENCY, call, args, reply)
}

fn worst(spikes: &[Spike]) -> u64 {
    spikes.iter().map(|spike| spike.took_ms).max().unwrap_or(0)
}

fn latest(call: &mut Call<'_>, _: &mut Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let events = call.server.slow.events();
    reply.array(events.len());
    for (name, spikes) in events {
        let last = spikes.last().copied().unwrap_or(Spike {
            at_s: 0,
            took_ms: 0,
        });
        reply.array(4);
        reply.bulk_text(name);
        reply.int(last.at_s as i64);
        reply.int(last.took_ms as i64);
        reply.int(worst(&spikes) as i64);
    }
    Ok(())
}

fn history(call: &mut Call<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let wanted = args.next()?;
    let events = call.server.slow.events();
    let found = events
        .iter()
        .find(|(name, _)| wanted.eq_ignore_ascii_case(name.as_bytes()));
    let spikes = found.map_or(&[][..], |(_, spikes)| spikes);
    reply.array(spikes.len());
    for spike in spikes {
        reply.array(2);
        reply.int(spike.at_s as i64);
        reply.int(spike.took_ms as i64);
    }
    Ok(())
}

fn latency_reset(call: &mut Call<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    reply.count(call.server.slow.reset_events(args.rest()));
    Ok(())
}

fn latency_doctor(call: &mut Call<'_>, _: &mut Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let slow = &call.server.slow;
    let events = slow.events();
    let text = match (
        slow.latency_threshold_ms.load(Ordering::Relaxed),
        events.as_slice(),
    ) {
        (0, _) => {
            "Latency monitoring is off: `CONFIG SET latency-monitor-threshold <ms>`.\n".into()
        }
        (_, []) => "Nothing took longer than the threshold.\n".into(),
        (_, events) => {
            let line = |(name, spikes): &(&str, Vec<Spike>)| {
                format!(
                    "{name}: {} spikes, the worst {} ms\n",
                    spikes.len(),
                    worst(spikes)
                )
            };
            events.iter().map(line).collect::<String>()
        }
    };
    reply.verbatim(&text);
    Ok(())
}

/// Of the commands that are named, or of all; those that have not run are left out.
fn histogram(call: &mut Call<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let wanted = args.rest();
    let mut ran = call.server.stats.list();
    ran.retain(|ran| {
        let is_it = |wanted: &&[u8]| wanted.eq_ignore_ascii_case(ran.name.as_bytes());
        0 < ran.calls && (wanted.is_empty() || wanted.iter().any(is_it))
    });
    reply.map(ran.len());
    for Ran { name, calls, .. } in ran {
        reply.bulk(name.to_ascii_lowercase().as_bytes());
        reply.map(2);
        reply.bulk(b"calls");
        reply.int(calls as i64);
        reply.bulk(b"histogram_usec");
        let steps = call.server.stats.histogram(name);
        reply.map(steps.len());
        for (us, below) in steps {
            reply.int(us as i64);
            reply.int(below as i64);
        }
    }
    Ok(())
}

fn monitor(call: &mut Call<'_>, _: &mut Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    if call.in_transaction {
        return Err(CommandError::text(
            "ERR MONITOR isn't allowed for DENY BLOCKING client",
        ));
    }
    if call.session.monitor.is_none() {
        call.session.monitor = Some(call.server.slow.monitor());
        call.session.client.facts.lock().monitors = true;
    }
    reply.ok();
    Ok(())
}

fn debug(call: &mut Call<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    dispatch("DEBUG", DEBUG, call, args, reply)
}

#[expect(clippy::panic, reason = "it is what the command is for")]
fn debug_panic(_: &mut Call<'_>, _: &mut Args<'_>, _: &mut Reply<'_>) -> Outcome {
    panic!("DEBUG PANIC")
}

fn debug_sleep(call: &mut Call<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let seconds = args.float()?;
    let wait =
        Duration::try_from_secs_f64(seconds.max(0.0)).map_err(|_| CommandError::NotAFloat)?;
    let poll = |_: &Server, reply: &mut Reply<'_>, is_over: bool| {
        if is_over {
            reply.ok();
        }
        is_over
    };
    call.reply_later(reply, (wait.as_millis() as u64).max(1), Box::new(poll));
    Ok(())
}

const PICTURE: &str = "\
           .-'''''-.
        .'    |    '.
       /------|------\\
      |       |       |
      |-------+-------|
      |       |       |
       \\------|------/
        '.    |    .'
           '-.....-'
";

fn lolwut(_: &mut Call<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    args.rest();
    let version = env!("CARGO_PKG_VERSION");
    reply.verbatim(&format!(
        "{PICTURE}\nEvery meridian is noon somewhere. Meridian ver. {version}\n"
    ));
    Ok(())
}
