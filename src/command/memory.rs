//! `MEMORY`, and the section of `INFO`: what takes up memory, for tools and for people.
//!
//! What there is of keys is found by looking at them, some under each hold of a lock, for as long
//! as a client should be kept waiting; where that does not do for all of them the rest is told from
//! those that were seen.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::time::Duration;

use crdt::{Key, Kind, Region, Stock};

use super::info::{human, line};
use super::subcommand::{Subcommand, dispatch};
use super::{Args, Command, CommandError, Flags, Keys, Outcome, Reply, node_row};
use crate::clock;
use crate::proxy::{Call, SilentRegion, memory, sample, waiting};
use crate::session::{Client, Session};
use crate::shard::Txn;

pub(super) const COMMANDS: &[Command] = &[Command {
    keys: Keys::Range {
        first: 2,
        last: 2,
        step: 1,
    },
    ..node_row(
        "MEMORY",
        -2,
        Flags::CONTAINER.and(Flags::ALL_SHARDS),
        "What takes up memory.",
        memory_of,
    )
}];

pub(super) const MEMORY: &[Subcommand] = &[
    sub(
        "USAGE",
        -3,
        "key [SAMPLES count]",
        "Estimates what a key takes up.",
        usage,
    ),
    sub(
        "STATS",
        2,
        "",
        "Returns what the node takes up, and for what.",
        stats,
    ),
    sub(
        "DOCTOR",
        2,
        "",
        "Says in words what takes up memory, and what to do.",
        doctor,
    ),
    sub(
        "PURGE",
        2,
        "",
        "Gives memory back: the allocator does so by itself.",
        purge,
    ),
    sub(
        "MALLOC-STATS",
        2,
        "",
        "Returns what the allocator says.",
        malloc_stats,
    ),
];

/// About what there is, so not before all of it is there.
const fn sub(
    name: &'static str,
    arity: i32,
    syntax: &'static str,
    summary: &'static str,
    run: fn(&mut Call<'_>, &mut Args<'_>, &mut Reply<'_>) -> Outcome,
) -> Subcommand {
    Subcommand {
        name,
        arity,
        flags: Flags::ADMIN,
        syntax,
        summary,
        run,
    }
}

/// For how long keys are looked at.
const LOOK_FOR: Duration = Duration::from_millis(25);

fn memory_of(call: &mut Call<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    dispatch("MEMORY", MEMORY, call, args, reply)
}

fn usage(call: &mut Call<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let name = args.next()?;
    let mut samples = 5;
    if !args.is_empty() {
        if !args.token_is("SAMPLES") {
            return Err(CommandError::Syntax);
        }
        samples = args.int()?;
        args.done()?;
    }
    let samples = usize::try_from(samples).map_err(|_| CommandError::Syntax)?;
    // 0 means all of them.
    let samples = if samples == 0 { usize::MAX } else { samples };
    let key = call.server.shards.seed().key(name);
    let index = call.server.shards.index_of(key.slot);
    let bytes = call.transact(index, Some(key), |txn| bytes_of(txn, &key, samples))??;
    match bytes {
        Some(bytes) => reply.count(bytes),
        None => reply.null(),
    }
    Ok(())
}

/// Bytes that an entry takes up besides its name and value: its place in the table, its stamp, what
/// the allocator rounds up.
const ENTRY_BYTES: usize = 40;

/// What a key takes up, estimated from its first `samples` elements.
fn bytes_of(txn: &Txn<'_>, key: &Key<'_>, samples: usize) -> Result<Option<usize>, CommandError> {
    let (elements, sampled): (usize, Vec<usize>) = match txn.kind(key) {
        None => return Ok(None),
        Some(Kind::String) => (1, vec![txn.string(key)?.map_or(0, |value| value.len())]),
        Some(Kind::Hash) => match txn.hash(key)? {
            None => return Ok(None),
            Some(hash) => {
                let fields = hash.iter().take(samples);
                (
                    hash.len(),
                    fields
                        .map(|(f, v)| f.len() + v.len() + ENTRY_BYTES)
                        .collect(),
                )
            }
        },
        Some(Kind::Set) => match txn.set(key)? {
            None => return Ok(None),
            Some(set) => (
                set.len(),
                set.iter()
                    .take(samples)
                    .map(|m| m.len() + ENTRY_BYTES)
                    .collect(),
            ),
        },
        Some(Kind::SortedSet) => match txn.sorted_set(key)? {
            None => return Ok(None),
            Some(set) => {
                let members = set.range(0..set.len()).take(samples);
                (
                    set.len(),
                    members.map(|(m, _)| m.len() + 2 * ENTRY_BYTES).collect(),
                )
            }
        },
        Some(Kind::List) => match txn.list(key)? {
            None => return Ok(None),
            Some(list) => {
                let values = list.range(0..list.len()).take(samples);
                (list.len(), values.map(|v| v.len() + ENTRY_BYTES).collect())
            }
        },
    };
    let total: usize = sampled.iter().sum();
    let values = total * elements / sampled.len().max(1);
    Ok(Some(ENTRY_BYTES + key.name.len() + values))
}

/// What is known of what takes up memory, bytes.
struct Explained {
    used: u64,
    resident: u64,
    keys: u64,
    /// Of the keys that were looked at.
    seen: u64,
    stock: Stock,
    log: u64,
    frames: u64,
    clients: u64,
    /// Things that wait to become stable.
    unstable: u64,
    /// The regions that have not said that they keep what these wait for.
    waits_for: BTreeSet<Region>,
}

impl Explained {
    fn find(call: &mut Call<'_>) -> Result<Self, CommandError> {
        let keys = super::keyspace::sizes(call)?.iter().sum::<usize>() as u64;
        let count = call.server.shards.count();
        let (mut frames, mut unstable, mut waits_for) = (0, 0, BTreeSet::new());
        for index in 0..count {
            call.look(index, |shard| {
                frames += shard.delivery().waiting_bytes() as u64;
                unstable += shard.state().unsettled() as u64;
                waits_for.extend(shard.waits_for());
            })?;
        }
        let until = clock::monotonic() + LOOK_FOR;
        let mut stock = Stock::default();
        sample(count, until, &mut stock, |index, from, keys, stock| {
            call.look(index, |shard| shard.take_stock(from, keys, stock))
        })?;
        let seen = stock.keys.values().map(|heap| heap.count).sum();
        let room = &call.server.room;
        Ok(Self {
            used: room.used_bytes(),
            resident: memory::resident_bytes(),
            keys,
            seen,
            stock,
            log: room.log_bytes(),
            frames,
            clients: clients_bytes(call),
            unstable,
            waits_for,
        })
    }

    /// What there would be if all keys were as those that were seen.
    fn of_all(&self, seen: u64) -> u64 {
        if self.seen < self.keys {
            (u128::from(seen) * u128::from(self.keys) / u128::from(self.seen.max(1))) as u64
        } else {
            seen
        }
    }

    fn of_kind(&self, kind: Kind) -> crdt::Heap {
        let found = self.stock.keys.get(&kind).copied().unwrap_or_default();
        crdt::Heap {
            count: self.of_all(found.count),
            bytes: self.of_all(found.bytes),
        }
    }

    fn of_data(&self) -> u64 {
        KINDS
            .iter()
            .map(|(kind, _)| self.of_kind(*kind).bytes)
            .sum()
    }

    /// What of the data is only there until it is stable: what, how many, and how many bytes.
    fn waiting(&self) -> [(&'static str, u64, u64); 5] {
        waiting(&self.stock)
            .map(|(name, heap)| (name, self.of_all(heap.count), self.of_all(heap.bytes)))
    }

    fn fragmentation(&self) -> f64 {
        self.resident as f64 / self.used.max(1) as f64
    }
}

const KINDS: [(Kind, &str); 5] = [
    (Kind::String, "strings"),
    (Kind::List, "lists"),
    (Kind::Set, "sets"),
    (Kind::SortedSet, "sorted-sets"),
    (Kind::Hash, "hashes"),
];

/// What connections take up besides their buffers, of which idle ones have none: an estimate.
fn clients_bytes(call: &Call<'_>) -> u64 {
    const TASK_BYTES: usize = 2 << 10;
    let each = size_of::<Session>() + size_of::<Client>() + TASK_BYTES;
    (call.server.clients.len() * each) as u64
}

/// The section of `INFO`.
pub(super) fn facts(call: &Call<'_>, text: &mut String) {
    let (resident, room) = (memory::resident_bytes(), &call.server.room);
    let (used, settings) = (room.used_bytes(), room.settings());
    line(text, "used_memory", used);
    line(text, "used_memory_human", human(used));
    line(text, "used_memory_rss", resident);
    line(text, "used_memory_rss_human", human(resident));
    line(text, "used_memory_peak", room.peak_bytes());
    line(text, "used_memory_peak_human", human(room.peak_bytes()));
    line(text, "used_memory_startup", room.started_bytes());
    let total = memory::total();
    line(text, "total_system_memory", total);
    line(text, "total_system_memory_human", human(total));
    line(text, "maxmemory", settings.max_bytes);
    line(text, "maxmemory_human", human(settings.max_bytes));
    line(text, "maxmemory_policy", settings.eviction.name());
    line(text, "maxmemory_reserve_percent", settings.reserve_percent);
    let ratio = resident as f64 / used.max(1) as f64;
    line(text, "mem_fragmentation_ratio", format_args!("{ratio:.2}"));
    let apart = resident as i64 - used as i64;
    line(text, "mem_fragmentation_bytes", apart);
    // That is what the op log has in memory, for regions that lack something of it.
    line(text, "mem_not_counted_for_evict", room.log_bytes());
    line(text, "mem_replication_backlog", room.log_bytes());
    line(text, "mem_clients_normal", clients_bytes(call));
    let shards = &call.server.shards;
    let unstable = |index| shards.with(index, |shard| shard.state().unsettled());
    let unstable: usize = (0..shards.count()).map(unstable).sum();
    line(text, "mem_unstable_things", unstable);
    line(text, "mem_allocator", "mimalloc");
}

fn stats(call: &mut Call<'_>, _: &mut Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let found = Explained::find(call)?;
    let room = &call.server.room;
    let started = room.started_bytes();
    let dataset = found.used.saturating_sub(started + found.log);
    let percent = |part: u64, whole: u64| part as f64 * 100.0 / whole.max(1) as f64;
    let mut numbers: Vec<(String, u64)> = [
        ("peak.allocated", room.peak_bytes()),
        ("total.allocated", found.used),
        ("startup.allocated", started),
        ("replication.backlog", found.log),
        ("clients.normal", found.clients),
        ("keys.count", found.keys),
        (
            "keys.bytes-per-key",
            dataset.checked_div(found.keys).unwrap_or(0),
        ),
        ("dataset.bytes", dataset),
        ("keys.looked-at", found.seen),
        ("frames.waiting", found.frames),
        ("unstable.things", found.unstable),
    ]
    .map(|(name, number)| (name.to_owned(), number))
    .into();
    for (kind, name) in KINDS {
        numbers.push((format!("data.{name}"), found.of_kind(kind).bytes));
    }
    for (name, _, bytes) in found.waiting() {
        numbers.push((format!("unstable.{name}"), bytes));
    }
    let ratios = [
        (
            "dataset.percentage",
            percent(dataset, found.used - started.min(found.used)),
        ),
        ("peak.percentage", percent(found.used, room.peak_bytes())),
        ("fragmentation", found.fragmentation()),
    ];
    reply.map(numbers.len() + ratios.len() + 1);
    for (name, number) in numbers {
        reply.bulk_text(&name);
        reply.int(number as i64);
    }
    for (name, ratio) in ratios {
        reply.bulk_text(name);
        reply.double(ratio);
    }
    reply.bulk(b"unstable.waits-for");
    reply.array(found.waits_for.len());
    for region in found.waits_for {
        reply.bulk_text(&name_of(call, region));
    }
    Ok(())
}

fn name_of(call: &Call<'_>, region: Region) -> String {
    let regions = call.server.regions.get();
    let name = regions.and_then(|regions| regions.name_of(region));
    name.unwrap_or_else(|| format!("region {}", region.id()))
}

fn doctor(call: &mut Call<'_>, _: &mut Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let found = Explained::find(call)?;
    let mut text = String::new();
    write_report(call, &found, &mut text);
    write_advice(call, &found, &mut text);
    reply.verbatim(&text);
    Ok(())
}

fn write_report(call: &Call<'_>, found: &Explained, text: &mut String) {
    let settings = call.server.room.settings();
    let limit = match settings.max_bytes {
        0 => "no limit".to_owned(),
        max => format!("maxmemory {}, {}", human(max), settings.eviction.name()),
    };
    let mut say = |line: String| {
        text.push_str(&line);
        text.push('\n');
    };
    say(format!("{} in use ({limit}):", human(found.used)));
    for (kind, name) in KINDS {
        let crdt::Heap { count, bytes } = found.of_kind(kind);
        if 0 < count {
            say(format!("- {name}: about {}, {count} keys", human(bytes)));
        }
    }
    if found.seen < found.keys {
        let (seen, keys) = (found.seen, found.keys);
        say(format!(
            "  (told from {seen} of {keys} keys, values large and small)"
        ));
    }
    let log = human(found.log);
    say(format!(
        "- op log in memory, for other regions: {log}, not counted against maxmemory"
    ));
    if 0 < found.frames {
        let frames = human(found.frames);
        say(format!(
            "- ops of other regions that wait for what they had seen: {frames}"
        ));
    }
    let (clients, count) = (human(found.clients), call.server.clients.len());
    say(format!(
        "- clients: about {clients}, {count} connections, their buffers aside"
    ));
    let known = found.of_data() + found.log + found.frames + found.clients;
    let rest = human(found.used.saturating_sub(known));
    say(format!(
        "- all else (tables, buffers, what is being freed): {rest}"
    ));
    let (resident, ratio) = (human(found.resident), found.fragmentation());
    say(format!(
        "The process takes up {resident} in the system, {ratio:.2} times that."
    ));
    let (mut waiting, mut bytes) = (String::new(), 0);
    for (name, count, all) in found
        .waiting()
        .into_iter()
        .filter(|(_, count, _)| 0 < *count)
    {
        bytes += all;
        let _ = write!(waiting, ", {count} {}", name.replace('-', " "));
    }
    if !waiting.is_empty() {
        let waiting = waiting.trim_start_matches(", ");
        let bytes = human(bytes);
        say(format!(
            "Of the data, about {bytes} goes once it is stable: {waiting}."
        ));
    }
}

fn write_advice(call: &Call<'_>, found: &Explained, text: &mut String) {
    let room = &call.server.room;
    let settings = room.settings();
    let mut advice = Vec::new();
    if room.has_stopped() {
        advice.push(
            "No ops of other regions are taken: memory is used up beyond maxmemory and its \
             reserve. Remove data here, or raise maxmemory."
                .to_owned(),
        );
    } else if room.is_short() {
        advice.push(
            "Memory is used up: what adds data is refused, or evicts. Remove data, or raise \
             maxmemory."
                .to_owned(),
        );
    }
    if 0 < found.unstable && !found.waits_for.is_empty() {
        let names = found.waits_for.iter();
        let names: Vec<String> = names.map(|region| name_of(call, *region)).collect();
        advice.push(format!(
            "{} things wait for {} to say that it keeps what they wait for: see REGION LIST.",
            found.unstable,
            names.join(", ")
        ));
        let silent = found.waits_for.iter();
        advice.extend(silent.filter_map(|&region| about_silence(call, region)));
    }
    if 1.5 < found.fragmentation() && 64 << 20 < found.resident {
        advice.push(
            "Much of what the process takes up is not in use: it was used before, or is in \
             pieces. The allocator gives it back, or uses it again."
                .to_owned(),
        );
    }
    if settings.max_bytes == 0 {
        advice.push(
            "There is no limit: set maxmemory, so that the system never ends this \
             process for want of memory."
                .to_owned(),
        );
    }
    for line in advice {
        let _ = writeln!(text, "{line}");
    }
}

/// Silence after which it is worth telling.
const SILENT_MS: u64 = 3_000;

/// What becomes of what waits for a region that is silent.
fn about_silence(call: &Call<'_>, region: Region) -> Option<String> {
    let regions = call.server.regions.get()?;
    let SilentRegion {
        silent_ms,
        must_decide,
    } = regions.silence_of(region);
    if silent_ms < SILENT_MS {
        return None;
    }
    let (name, silent_s) = (name_of(call, region), silent_ms / 1_000);
    if must_decide {
        return Some(format!(
            "{name} has been silent for {silent_s} s. It is not excluded, for this region and those \
             that it hears do not outweigh the rest: if {name} is gone, see `meridian admin region \
             forget`."
        ));
    }
    let horizon_s = call.server.silence.settings().horizon.as_secs();
    let after = match horizon_s {
        0 => "never (region-horizon)".to_owned(),
        _ => format!("after {horizon_s} s (region-horizon)"),
    };
    let earlier = call.server.unstable_bytes_max().map(|max| {
        let max = human(max);
        format!(", or after a minute once what waits takes more than {max} (unstable-memory)")
    });
    Some(format!(
        "{name} has been silent for {silent_s} s. The others do without it {after}{}: what waits \
         for it goes then.",
        earlier.unwrap_or_default()
    ))
}

fn purge(_: &mut Call<'_>, _: &mut Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    reply.ok();
    Ok(())
}

fn malloc_stats(_: &mut Call<'_>, _: &mut Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    reply.bulk(b"Stats not supported for the current allocator");
    Ok(())
}
