//! The node and the database as a whole.

use std::fmt::Write;
use std::sync::atomic::Ordering;

use crdt::Slot;

use super::{Args, Command, CommandError, Flags, Keys, Outcome, Reply, Run};
use crate::proxy::Call;

/// The release of Redis whose commands these are.
pub(super) const REDIS_VERSION: &str = "7.4.0";

pub(super) const COMMANDS: &[Command] = &[
    row("INFO", -1, Flags(0), "Facts about the node.", info),
    row("TIME", 1, Flags::FAST, "The time.", time),
    row(
        "SHUTDOWN",
        -1,
        Flags::ADMIN.and(Flags::NO_MULTI),
        "Stops the node.",
        shutdown,
    ),
    row(
        "REGION",
        -2,
        Flags(0),
        "What regions know of each other.",
        region,
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

fn info(call: &mut Call<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let wanted = args.rest();
    let asked = |name: &str| {
        wanted.is_empty()
            || wanted.iter().any(|w| {
                [name, "all", "default", "everything"]
                    .iter()
                    .any(|known| w.eq_ignore_ascii_case(known.as_bytes()))
            })
    };
    let mut text = String::new();
    for (name, write) in SECTIONS {
        if asked(name) {
            if !text.is_empty() {
                text.push_str("\r\n");
            }
            let _ = write!(text, "# {name}\r\n");
            write(call, &mut text);
        }
    }
    reply.verbatim(&text);
    Ok(())
}

/// A section of `INFO`: its name, and what writes it.
type Section = (&'static str, fn(&Call<'_>, &mut String));

const SECTIONS: &[Section] = &[
    ("Server", info_server),
    ("Clients", info_clients),
    ("Stats", info_stats),
    ("Replication", info_replication),
    ("Keyspace", info_keyspace),
    ("Regions", info_regions),
];

fn line(text: &mut String, name: &str, value: impl std::fmt::Display) {
    let _ = write!(text, "{name}:{value}\r\n");
}

fn info_server(call: &Call<'_>, text: &mut String) {
    line(text, "redis_version", REDIS_VERSION);
    line(text, "meridian_version", env!("CARGO_PKG_VERSION"));
    line(text, "redis_mode", "standalone");
    line(text, "process_id", std::process::id());
    line(text, "run_id", &call.server.run_id);
    line(text, "tcp_port", call.server.settings.read().port);
    let uptime_s = call.now_ms.saturating_sub(call.server.started_ms) / 1_000;
    line(text, "uptime_in_seconds", uptime_s);
    line(text, "uptime_in_days", uptime_s / 86_400);
}

fn info_clients(call: &Call<'_>, text: &mut String) {
    line(text, "connected_clients", call.server.clients.len());
    let shards = &call.server.shards;
    let blocked: usize = (0..shards.count())
        .map(|i| shards.with(i, |s| s.waiting()))
        .sum();
    line(text, "blocked_clients", blocked);
    line(text, "maxclients", call.server.settings.read().clients_max);
}

fn info_stats(call: &Call<'_>, text: &mut String) {
    line(
        text,
        "total_connections_received",
        call.server.accepted.load(Ordering::Relaxed),
    );
    line(
        text,
        "total_commands_processed",
        call.server.commands.load(Ordering::Relaxed),
    );
    line(
        text,
        "rejected_connections",
        call.server.refused.load(Ordering::Relaxed),
    );
}

fn info_replication(_: &Call<'_>, text: &mut String) {
    line(text, "role", "master");
    line(text, "connected_slaves", 0);
}

fn info_keyspace(call: &Call<'_>, text: &mut String) {
    let shards = &call.server.shards;
    let counts = (0..shards.count()).map(|index| {
        shards.with(index, |shard| {
            (shard.len(call.now_ms), shard.state().volatile())
        })
    });
    let (keys, expires) = counts.fold((0, 0), |sum, count| (sum.0 + count.0, sum.1 + count.1));
    if 0 < keys {
        line(
            text,
            "db0",
            format_args!("keys={keys},expires={expires},avg_ttl=0"),
        );
    }
}

fn info_regions(call: &Call<'_>, text: &mut String) {
    let Some(regions) = call.server.regions.get() else {
        return;
    };
    for region in regions.list(call.now_ms) {
        let crate::proxy::RegionState {
            name,
            id,
            state,
            lag_ms,
            pending_ops,
            ..
        } = region;
        line(
            text,
            &format!("region_{name}"),
            format_args!("id={id},state={state},lag_ms={lag_ms},pending_ops={pending_ops}"),
        );
    }
}

fn region(call: &mut Call<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    if args.token_is("LIST") {
        args.done()?;
        let regions = call
            .server
            .regions
            .get()
            .map(|regions| regions.list(call.now_ms));
        let regions = regions.unwrap_or_default();
        reply.array(regions.len());
        for region in regions {
            reply.map(6);
            reply.bulk(b"name");
            reply.bulk_text(&region.name);
            reply.bulk(b"id");
            reply.int(region.id.into());
            reply.bulk(b"self");
            reply.int(region.is_self.into());
            reply.bulk(b"state");
            reply.bulk_text(region.state);
            reply.bulk(b"lag-ms");
            reply.int(region.lag_ms as i64);
            reply.bulk(b"pending-ops");
            reply.int(region.pending_ops as i64);
        }
        return Ok(());
    }
    if args.token_is("DIGEST") {
        let digest = if args.is_empty() {
            let shards = &call.server.shards;
            (0..shards.count()).fold(0, |all, i| all ^ shards.with(i, |s| s.state().digest()))
        } else {
            let slot = u16::try_from(args.int()?).ok().and_then(Slot::new);
            let slot = slot.ok_or(CommandError::text("ERR a slot is a number from 0 to 16383"))?;
            let index = call.server.shards.index_of(slot);
            call.server
                .shards
                .with(index, |shard| shard.state().slot_digest(slot))
        };
        args.done()?;
        reply.bulk_text(&format!("{digest:016x}"));
        return Ok(());
    }
    Err(CommandError::unknown_subcommand("REGION", args.next()?))
}
