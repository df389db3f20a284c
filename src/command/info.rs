//! `INFO`: facts about the node, in the lines that monitoring tools read.

use std::fmt::{Display, Write};
use std::sync::atomic::Ordering;

use super::server::REDIS_VERSION;
use super::{Args, Command, Flags, Keys, Outcome, Reply, Run};
use crate::proxy::{Call, Ran, RegionState, memory};
use crate::shard::{LateOps, Looks, Shard};

pub(super) const COMMANDS: &[Command] = &[Command {
    name: "INFO",
    arity: -1,
    keys: Keys::None,
    flags: Flags::LOADING,
    group: "server",
    summary: "Facts about the node.",
    conflict: "",
    run: Run::Node(info),
}];

/// A section: its name, whether it is there unasked, and what writes it.
type Section = (&'static str, bool, fn(&Call<'_>, &mut String));

/// In the order of Redis, ours last.
const SECTIONS: &[Section] = &[
    ("Server", true, server),
    ("Clients", true, clients),
    ("Memory", true, super::memory::facts),
    ("Persistence", true, persistence),
    ("Stats", true, stats),
    ("Replication", true, replication),
    ("CPU", true, cpu),
    ("Modules", true, nothing),
    ("Commandstats", false, command_stats),
    ("Errorstats", true, error_stats),
    ("Latencystats", false, latency_stats),
    ("Cluster", true, cluster),
    ("Keyspace", true, keyspace),
    ("Regions", true, regions),
];

fn info(call: &mut Call<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let wanted = args.rest();
    let named = |name: &str| {
        wanted
            .iter()
            .any(|w| w.eq_ignore_ascii_case(name.as_bytes()))
    };
    let (all, default) = (
        named("all") || named("everything"),
        wanted.is_empty() || named("default"),
    );
    let mut text = String::new();
    for &(name, unasked, write) in SECTIONS {
        if all || (default && unasked) || named(name) {
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

pub(super) fn line(text: &mut String, name: &str, value: impl Display) {
    let _ = write!(text, "{name}:{value}\r\n");
}

fn nothing(_: &Call<'_>, _: &mut String) {}

fn server(call: &Call<'_>, text: &mut String) {
    line(text, "redis_version", REDIS_VERSION);
    line(text, "meridian_version", env!("CARGO_PKG_VERSION"));
    line(text, "node", &call.server.settings.read().node);
    line(text, "redis_mode", "standalone");
    line(text, "os", memory::system_name());
    line(text, "arch_bits", usize::BITS);
    line(text, "process_id", std::process::id());
    line(text, "run_id", &call.server.run_id);
    line(text, "tcp_port", call.server.settings.read().port);
    line(text, "server_time_usec", crate::clock::now_us());
    let uptime_s = call.now_ms.saturating_sub(call.server.started_ms) / 1_000;
    line(text, "uptime_in_seconds", uptime_s);
    line(text, "uptime_in_days", uptime_s / 86_400);
    let shards = &call.server.shards;
    let is_out = |&index: &usize| !shards.lock(index).is_in_service();
    line(
        text,
        "shards_out_of_service",
        (0..shards.count()).filter(is_out).count(),
    );
}

fn clients(call: &Call<'_>, text: &mut String) {
    line(text, "connected_clients", call.server.clients.len());
    line(text, "maxclients", call.server.settings.read().clients_max);
    let shards = &call.server.shards;
    let blocked: usize = (0..shards.count())
        .map(|i| shards.with(i, |s| s.waiting()))
        .sum();
    let paused = call.server.paused_clients.load(Ordering::Relaxed);
    line(text, "blocked_clients", blocked + paused);
}

/// Bytes with a unit, as Redis writes them.
pub(super) fn human(bytes: u64) -> String {
    const UNITS: [(u64, &str); 3] = [(1 << 30, "G"), (1 << 20, "M"), (1 << 10, "K")];
    let unit = UNITS.iter().find(|(unit, _)| *unit <= bytes);
    unit.map_or_else(
        || format!("{bytes}B"),
        |(unit, name)| format!("{:.2}{name}", bytes as f64 / *unit as f64),
    )
}

fn persistence(call: &Call<'_>, text: &mut String) {
    let loading = &call.server.loading;
    let is_loading = loading.is_loading();
    let joins = is_loading && loading.joins();
    // What joins answers readers: drivers must not take it for one that loads.
    line(text, "loading", u8::from(is_loading && !joins));
    line(text, "joining", u8::from(joins));
    if is_loading {
        line(text, "loading_start_time", loading.since_ms() / 1_000);
        if let Some(waits) = loading.waits() {
            line(text, "loading_reason", waits);
        }
    }
    let disk = call.server.durability.get();
    let is_well = disk.is_none_or(|disk| disk.refusal().is_none());
    line(text, "async_loading", 0);
    let snapshots = call
        .server
        .snapshots
        .get()
        .map(|snapshots| snapshots.facts());
    let saved = snapshots.unwrap_or_default();
    let now_ms = crate::clock::now_ms();
    let running_s = saved
        .is_running
        .then(|| now_ms.saturating_sub(saved.since_ms) / 1_000);
    let running_s = running_s.map_or(-1, |seconds| seconds as i64);
    let status = |is_well: bool| if is_well { "ok" } else { "err" };
    let since_ms = [saved.saved_ms, call.server.started_ms];
    let since_ms = since_ms.into_iter().find(|&ms| ms != 0).unwrap_or_default();
    let changes = call.server.shards.changes();
    line(
        text,
        "rdb_changes_since_last_save",
        changes.saturating_sub(saved.changes),
    );
    line(text, "rdb_bgsave_in_progress", u8::from(saved.is_running));
    line(text, "rdb_last_save_time", since_ms / 1_000);
    line(
        text,
        "rdb_last_bgsave_status",
        status(saved.failure.is_none()),
    );
    let took_s = if saved.saved_ms == 0 {
        -1
    } else {
        (saved.took_ms / 1_000) as i64
    };
    line(text, "rdb_last_bgsave_time_sec", took_s);
    line(text, "rdb_current_bgsave_time_sec", running_s);
    line(text, "aof_enabled", u8::from(disk.is_some()));
    line(text, "aof_rewrite_in_progress", u8::from(saved.is_running));
    line(text, "aof_rewrite_scheduled", 0);
    line(
        text,
        "aof_last_bgrewrite_status",
        status(saved.failure.is_none()),
    );
    line(text, "aof_last_write_status", status(is_well));
    if let Some(disk) = disk {
        let (all, since_snapshot) = {
            let journal = disk.journal();
            (journal.bytes(), journal.bytes_since_snapshot())
        };
        line(text, "aof_current_size", saved.bytes + since_snapshot);
        line(text, "aof_base_size", saved.bytes);
        line(text, "oplog_bytes", all);
    }
}

fn stats(call: &Call<'_>, text: &mut String) {
    let server = call.server;
    line(
        text,
        "total_connections_received",
        server.accepted.load(Ordering::Relaxed),
    );
    line(text, "total_commands_processed", server.stats.total());
    let traffic = &server.traffic;
    let kib = |bytes: u64| format!("{:.2}", bytes as f64 / 1024.0);
    let totals = traffic.totals(server.stats.total());
    line(
        text,
        "instantaneous_ops_per_sec",
        traffic.per_second(|totals| totals.commands),
    );
    line(text, "total_net_input_bytes", totals.read_bytes);
    line(text, "total_net_output_bytes", totals.written_bytes);
    line(
        text,
        "instantaneous_input_kbps",
        kib(traffic.per_second(|totals| totals.read_bytes)),
    );
    line(
        text,
        "instantaneous_output_kbps",
        kib(traffic.per_second(|totals| totals.written_bytes)),
    );
    line(text, "total_reads_processed", totals.reads);
    line(text, "total_writes_processed", totals.writes);
    line(
        text,
        "rejected_connections",
        server.refused.load(Ordering::Relaxed),
    );
    line(
        text,
        "client_query_buffer_limit_disconnections",
        server.request_exceeded.load(Ordering::Relaxed),
    );
    line(
        text,
        "client_output_buffer_limit_disconnections",
        server.output.exceeded.load(Ordering::Relaxed),
    );
    line(
        text,
        "malformed_requests",
        server.malformed.load(Ordering::Relaxed),
    );
    let of_shard = |shard: &mut Shard| (shard.expired(), shard.looks());
    let (mut keys, mut fields, mut looks) = (0, 0, Looks::default());
    for index in 0..server.shards.count() {
        let (expired, found) = server.shards.with(index, of_shard);
        keys += expired.keys;
        fields += expired.fields;
        looks.hits += found.hits;
        looks.misses += found.misses;
    }
    line(text, "expired_keys", keys);
    line(text, "expired_subkeys", fields);
    line(text, "evicted_keys", server.room.evicted());
    line(text, "keyspace_hits", looks.hits);
    line(text, "keyspace_misses", looks.misses);
    let errors = server.errors.list().into_iter().map(|(_, count)| count);
    line(text, "total_error_replies", errors.sum::<u64>());
    line(text, "pubsub_channels", 0);
    line(text, "pubsub_patterns", 0);
}

fn replication(call: &Call<'_>, text: &mut String) {
    line(text, "role", "master");
    line(text, "connected_slaves", 0);
    line(text, "master_failover_state", "no-failover");
    line(text, "master_replid", &call.server.run_id);
    line(text, "master_repl_offset", 0);
    line(text, "repl_backlog_active", 0);
}

fn cpu(_: &Call<'_>, text: &mut String) {
    let (user, system) = memory::cpu_s();
    line(text, "used_cpu_sys", format_args!("{system:.6}"));
    line(text, "used_cpu_user", format_args!("{user:.6}"));
}

fn command_stats(call: &Call<'_>, text: &mut String) {
    for ran in call.server.stats.list() {
        let Ran {
            name,
            calls,
            took_ns,
            rejected,
            failed,
        } = ran;
        let (us, each_us) = (
            took_ns / 1_000,
            took_ns as f64 / 1_000.0 / calls.max(1) as f64,
        );
        line(
            text,
            &format!("cmdstat_{}", name.to_ascii_lowercase()),
            format_args!(
                "calls={calls},usec={us},usec_per_call={each_us:.2},rejected_calls={rejected},\
                 failed_calls={failed}"
            ),
        );
    }
}

fn error_stats(call: &Call<'_>, text: &mut String) {
    for (kind, count) in call.server.errors.list() {
        line(
            text,
            &format!("errorstat_{kind}"),
            format_args!("count={count}"),
        );
    }
}

/// Of what each command took: as far as histograms tell, in steps of twice as long.
fn latency_stats(call: &Call<'_>, text: &mut String) {
    let stats = &call.server.stats;
    for ran in stats.list().into_iter().filter(|ran| 0 < ran.calls) {
        let name = ran.name;
        let [p50, p99, p999] = [50.0, 99.0, 99.9].map(|percent| stats.percentile_us(name, percent));
        line(
            text,
            &format!("latency_percentiles_usec_{}", name.to_ascii_lowercase()),
            format_args!("p50={p50}.000,p99={p99}.000,p99.9={p999}.000"),
        );
    }
}

fn cluster(_: &Call<'_>, text: &mut String) {
    line(text, "cluster_enabled", 0);
}

fn keyspace(call: &Call<'_>, text: &mut String) {
    let shards = &call.server.shards;
    let (mut keys, mut expires, mut ttl_ms) = (0, 0, 0);
    for index in 0..shards.count() {
        let Ok(mut shard) = shards.serve(index) else {
            continue;
        };
        let (volatile, average_ms) = shard.volatile(call.now_ms);
        keys += shard.len(call.now_ms);
        expires += volatile;
        ttl_ms += u128::from(average_ms) * volatile as u128;
    }
    if 0 < keys {
        let average_ms = ttl_ms.checked_div(expires as u128).unwrap_or(0);
        line(
            text,
            "db0",
            format_args!("keys={keys},expires={expires},avg_ttl={average_ms}"),
        );
    }
}

fn regions(call: &Call<'_>, text: &mut String) {
    let Some(regions) = call.server.regions.get() else {
        return;
    };
    let regions = regions.list(call.now_ms);
    let excluded = regions.iter().filter(|row| row.stage == "excluded");
    line(text, "regions_excluded", excluded.count());
    for region in regions {
        let RegionState {
            name,
            id,
            state,
            stage,
            silent_ms,
            lag_ms,
            pending_ops,
            catching_up,
            caught_up,
            state_bytes: (sent, received),
            ..
        } = region;
        line(
            text,
            &format!("region_{name}"),
            format_args!(
                "id={id},state={state},stage={stage},silent_ms={silent_ms},lag_ms={lag_ms},\
                 pending_ops={pending_ops},\
                 caught_up_shards={caught_up},state_bytes_sent={sent},\
                 state_bytes_received={received}"
            ),
        );
        if let Some((shard, percent)) = catching_up {
            line(
                text,
                &format!("catch_up_from_{name}"),
                format_args!("shard={shard},percent={percent}"),
            );
        }
    }
    if let Some(figures) = call.server.geo_figures.get() {
        let geo::net::Counts {
            lost,
            refused,
            turned_away,
            malformed,
            rejected,
            squeezed,
            squeezed_to,
            ..
        } = figures.total();
        line(text, "geo_connections_lost", lost);
        line(text, "geo_connections_refused", refused);
        line(text, "geo_connections_turned_away", turned_away);
        line(text, "geo_malformed", malformed);
        line(text, "geo_rejected", rejected);
        line(text, "geo_compressed_bytes", squeezed);
        line(text, "geo_compressed_to_bytes", squeezed_to);
    }
    let shards = &call.server.shards;
    let mut late = LateOps::default();
    for index in 0..shards.count() {
        late.add(shards.with(index, |shard| shard.late_ops()));
    }
    let room = &call.server.room;
    let has_stopped = u8::from(room.has_stopped());
    line(text, "geo_stopped_for_memory", has_stopped);
    line(text, "geo_frames_not_taken_for_memory", room.not_taken());
    line(text, "late_ops_reissued", late.reissued);
    line(text, "late_effects_skipped", late.skipped);
    line(text, "late_increments_lost", late.lost);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_written_as_in_redis() {
        assert_eq!(human(0), "0B");
        assert_eq!(human(1536), "1.50K");
        assert_eq!(human(1 << 20), "1.00M");
        assert_eq!(human(5 << 30), "5.00G");
    }
}
