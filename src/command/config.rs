//! `CONFIG`: what can be set while the node runs.
//!
//! A parameter either acts here, or is one that clients and tools like to read and set though
//! nothing here depends on it; those are checked for their form and remembered.

use std::sync::atomic::Ordering;

use super::subcommand::{Subcommand, dispatch};
use super::{Args, Command, CommandError, Flags, Keys, Outcome, Reply, Run, glob};
use crate::config::{self, units};
use crate::durability::Fsync;
use crate::limits;
use crate::proxy::{Call, Policy, RoomSettings, Server};
use crate::shard::{Eviction, Shard};

pub(super) const COMMANDS: &[Command] = &[Command {
    name: "CONFIG",
    arity: -2,
    keys: Keys::None,
    // Not lockless: what is set of memory is for the shards to know.
    flags: Flags::CONTAINER,
    group: "server",
    summary: "Settings of the node.",
    conflict: "",
    run: Run::Node(config),
}];

const SETTINGS: Flags = Flags::ADMIN.and(Flags::LOADING);

pub(super) const SUBCOMMANDS: &[Subcommand] = &[
    Subcommand {
        name: "GET",
        arity: -3,
        flags: SETTINGS,
        syntax: "parameter [parameter ...]",
        summary: "Returns the settings that match patterns.",
        run: get,
    },
    Subcommand {
        name: "SET",
        arity: -4,
        flags: SETTINGS,
        syntax: "parameter value [parameter value ...]",
        summary: "Changes settings, all or none.",
        run: set,
    },
    Subcommand {
        name: "RESETSTAT",
        arity: 2,
        flags: SETTINGS,
        syntax: "",
        summary: "Starts the statistics of INFO over.",
        run: reset_stat,
    },
];

/// Reads a value and, if told so, applies it. Says what is wrong with it otherwise.
type Set = fn(&Server, &str, bool) -> Result<(), String>;

/// A parameter that acts here.
struct Parameter {
    name: &'static str,
    get: fn(&Server) -> String,
    set: Option<Set>,
}

const PARAMETERS: &[Parameter] = &[
    Parameter {
        name: "appendfsync",
        get: |server| server.fsync().name().to_owned(),
        set: Some(|server, text, apply| {
            let fsync = Fsync::parse(text)
                .ok_or("argument(s) must be one of the following: everysec, always, no")?;
            if apply {
                server.set_fsync(fsync);
            }
            Ok(())
        }),
    },
    Parameter {
        name: "appendonly",
        get: |server| yes_no(server.durability.get().is_some()),
        set: Some(|server, text, _| {
            let (wanted, has) = (read_yes_no(text)?, server.durability.get().is_some());
            match (wanted, has) {
                (true, false) => Err("start the node with a `dir`".to_owned()),
                (false, true) => Err("start the node without a `dir`".to_owned()),
                _ => Ok(()),
            }
        }),
    },
    Parameter {
        name: "dir",
        get: |server| server.settings.read().dir.clone(),
        set: None,
    },
    Parameter {
        name: "active-active",
        get: |server| yes_no(server.settings.read().active_active),
        set: Some(|server, text, apply| {
            let value = read_yes_no(text)?;
            if apply {
                server.settings.write().active_active = value;
            }
            Ok(())
        }),
    },
    Parameter {
        name: "client-output-buffer-limit",
        get: |server| server.output.to_text(),
        set: Some(|server, text, apply| {
            let read_bytes = |bytes: &str| read_bytes(bytes).ok();
            Ok(server.output.set(text, apply, read_bytes)?)
        }),
    },
    Parameter {
        name: "client-query-buffer-limit",
        get: |server| server.request_bytes_max.load(Ordering::Relaxed).to_string(),
        set: Some(|server, text, apply| {
            let value = read_bytes(text)?;
            let range = 1024 * 1024..=limits::QUERY_BUFFER_BYTES_MAX as u64;
            if !range.contains(&value) {
                return Err(between(*range.start(), *range.end()));
            }
            if apply {
                server
                    .request_bytes_max
                    .store(value as usize, Ordering::Relaxed);
            }
            Ok(())
        }),
    },
    Parameter {
        name: "databases",
        get: |_| "1".into(),
        set: None,
    },
    Parameter {
        name: "latency-monitor-threshold",
        get: |server| {
            server
                .slow
                .latency_threshold_ms
                .load(Ordering::Relaxed)
                .to_string()
        },
        set: Some(|server, text, apply| {
            let value = read_int(text, 0, i64::MAX)?;
            if apply {
                server
                    .slow
                    .latency_threshold_ms
                    .store(value as u64, Ordering::Relaxed);
            }
            Ok(())
        }),
    },
    Parameter {
        name: "maxclients",
        get: |server| server.settings.read().clients_max.to_string(),
        set: Some(|server, text, apply| {
            let value = read_int(text, 1, u32::MAX.into())?;
            if apply {
                server.settings.write().clients_max = value as usize;
            }
            Ok(())
        }),
    },
    Parameter {
        name: "lfu-decay-time",
        get: |server| server.room.settings().frequency.decay_min.to_string(),
        set: Some(|server, text, apply| {
            let value = read_int(text, 0, i32::MAX.into())? as u32;
            let change = |room: &mut RoomSettings| room.frequency.decay_min = value;
            change_room(server, apply, change);
            Ok(())
        }),
    },
    Parameter {
        name: "lfu-log-factor",
        get: |server| server.room.settings().frequency.log_factor.to_string(),
        set: Some(|server, text, apply| {
            let value = read_int(text, 0, i32::MAX.into())? as u32;
            let change = |room: &mut RoomSettings| room.frequency.log_factor = value;
            change_room(server, apply, change);
            Ok(())
        }),
    },
    Parameter {
        name: "maxmemory",
        get: |server| server.room.settings().max_bytes.to_string(),
        set: Some(|server, text, apply| {
            let value = read_bytes(text)?;
            let change = |room: &mut RoomSettings| room.max_bytes = value;
            change_room(server, apply, change);
            Ok(())
        }),
    },
    Parameter {
        name: "maxmemory-policy",
        get: |server| server.room.settings().eviction.name().to_owned(),
        set: Some(|server, text, apply| {
            let names = Eviction::ALL.map(|(_, name)| name).join(", ");
            let value = Eviction::parse(text)
                .ok_or_else(|| format!("argument(s) must be one of the following: {names}"))?;
            let change = |room: &mut RoomSettings| room.eviction = value;
            change_room(server, apply, change);
            Ok(())
        }),
    },
    Parameter {
        name: "maxmemory-reserve",
        get: |server| server.room.settings().reserve_percent.to_string(),
        set: Some(|server, text, apply| {
            let value = read_int(text, 0, limits::MEMORY_RESERVE_PERCENT_MAX.into())? as u32;
            let change = |room: &mut RoomSettings| room.reserve_percent = value;
            change_room(server, apply, change);
            Ok(())
        }),
    },
    Parameter {
        name: "maxmemory-samples",
        get: |server| server.room.settings().samples.to_string(),
        set: Some(|server, text, apply| {
            let value = read_int(text, 1, limits::EVICTION_SAMPLES_MAX as i64)? as usize;
            let change = |room: &mut RoomSettings| room.samples = value;
            change_room(server, apply, change);
            Ok(())
        }),
    },
    Parameter {
        name: "policy",
        get: |server| match server.settings.read().policy {
            Policy::Enterprise => "enterprise".into(),
            Policy::NonClustered => "non-clustered".into(),
        },
        set: None,
    },
    Parameter {
        name: "port",
        get: |server| server.settings.read().port.to_string(),
        set: None,
    },
    Parameter {
        name: "proto-max-bulk-len",
        get: |server| server.bulk_bytes_max.load(Ordering::Relaxed).to_string(),
        set: Some(|server, text, apply| {
            let value = read_bytes(text)?;
            let range = 1024 * 1024..=limits::BULK_BYTES_MAX as u64;
            if !range.contains(&value) {
                return Err(between(*range.start(), *range.end()));
            }
            if apply {
                server
                    .bulk_bytes_max
                    .store(value as usize, Ordering::Relaxed);
            }
            Ok(())
        }),
    },
    Parameter {
        name: "region-horizon",
        get: |server| units::duration_text(server.silence.settings().horizon),
        set: Some(|server, text, apply| {
            let value = config::horizon(text)?;
            if apply {
                server.silence.change(|silence| silence.horizon = value);
            }
            Ok(())
        }),
    },
    Parameter {
        name: "requirepass",
        get: |server| {
            let settings = server.settings.read();
            let password = settings.password.as_deref().unwrap_or_default();
            String::from_utf8_lossy(password).into_owned()
        },
        set: Some(|server, text, apply| {
            if apply {
                let password = (!text.is_empty()).then(|| text.as_bytes().to_vec());
                server.settings.write().password = password;
            }
            Ok(())
        }),
    },
    Parameter {
        name: "slowlog-log-slower-than",
        get: |server| server.slow.threshold_us.load(Ordering::Relaxed).to_string(),
        set: Some(|server, text, apply| {
            let value = read_int(text, -1, i64::MAX)?;
            if apply {
                server.slow.threshold_us.store(value, Ordering::Relaxed);
            }
            Ok(())
        }),
    },
    Parameter {
        name: "slowlog-max-len",
        get: |server| server.slow.entries_max.load(Ordering::Relaxed).to_string(),
        set: Some(|server, text, apply| {
            let value = read_int(text, 0, limits::SLOW_LOG_ENTRIES_MAX as i64)?;
            if apply {
                server
                    .slow
                    .entries_max
                    .store(value as usize, Ordering::Relaxed);
            }
            Ok(())
        }),
    },
    Parameter {
        name: "unstable-memory",
        get: |server| server.silence.settings().unstable.to_string(),
        set: Some(|server, text, apply| {
            let value = config::share(text)?;
            if apply {
                server.silence.change(|silence| silence.unstable = value);
            }
            Ok(())
        }),
    },
    Parameter {
        name: "timeout",
        get: |server| server.idle_max_s.load(Ordering::Relaxed).to_string(),
        set: Some(|server, text, apply| {
            let value = read_int(text, 0, i32::MAX.into())?;
            if apply {
                server.idle_max_s.store(value as u64, Ordering::Relaxed);
            }
            Ok(())
        }),
    },
];

fn change_room(server: &Server, apply: bool, change: impl FnOnce(&mut RoomSettings)) {
    if apply {
        let mut settings = server.room.settings();
        change(&mut settings);
        server.set_room(settings);
    }
}

/// What a parameter that nothing depends on may be set to.
enum Form {
    Text,
    YesNo,
    Number,
    OneOf(&'static [&'static str]),
    /// Only what it is: anything else would promise what is not there, and why not.
    Only(&'static str),
}

const NO_SCHEDULE: &str = "a snapshot is made when the log has grown";

/// Parameters that nothing depends on, with what Redis has for them.
const FREE: &[(&str, &str, Form)] = &[
    ("activedefrag", "no", Form::YesNo),
    ("activerehashing", "yes", Form::YesNo),
    ("aof-use-rdb-preamble", "yes", Form::YesNo),
    ("cluster-enabled", "no", Form::Only("a region is one node")),
    ("dbfilename", "dump.rdb", Form::Text),
    ("hash-max-listpack-entries", "128", Form::Number),
    ("hash-max-listpack-value", "64", Form::Number),
    ("hash-max-ziplist-entries", "128", Form::Number),
    ("hash-max-ziplist-value", "64", Form::Number),
    ("hz", "10", Form::Number),
    ("latency-tracking", "yes", Form::YesNo),
    ("lazyfree-lazy-eviction", "no", Form::YesNo),
    ("lazyfree-lazy-expire", "no", Form::YesNo),
    ("lazyfree-lazy-server-del", "no", Form::YesNo),
    ("lazyfree-lazy-user-del", "no", Form::YesNo),
    ("lazyfree-lazy-user-flush", "no", Form::YesNo),
    ("list-compress-depth", "0", Form::Number),
    ("list-max-listpack-size", "-2", Form::Number),
    ("list-max-ziplist-size", "-2", Form::Number),
    (
        "loglevel",
        "notice",
        Form::OneOf(&["debug", "verbose", "notice", "warning", "nothing"]),
    ),
    ("notify-keyspace-events", "", Form::Text),
    ("replica-read-only", "yes", Form::YesNo),
    ("save", "", Form::Only(NO_SCHEDULE)),
    ("set-max-intset-entries", "512", Form::Number),
    ("set-max-listpack-entries", "128", Form::Number),
    ("set-max-listpack-value", "64", Form::Number),
    (
        "stream-id-mode",
        "strict",
        Form::OneOf(&["strict", "semi-strict", "liberal"]),
    ),
    ("tcp-keepalive", "300", Form::Number),
    ("zset-max-listpack-entries", "128", Form::Number),
    ("zset-max-listpack-value", "64", Form::Number),
    ("zset-max-ziplist-entries", "128", Form::Number),
    ("zset-max-ziplist-value", "64", Form::Number),
];

fn config(call: &mut Call<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    dispatch("CONFIG", SUBCOMMANDS, call, args, reply)
}

fn get(call: &mut Call<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let patterns: Vec<Vec<u8>> = args.rest().iter().map(|p| p.to_ascii_lowercase()).collect();
    let wanted = |name: &str| patterns.iter().any(|p| glob::matches(p, name.as_bytes()));
    let acting = PARAMETERS.iter().filter(|parameter| wanted(parameter.name));
    // Before the lock is taken: these take it, too.
    let acting: Vec<(&str, String)> = acting
        .map(|parameter| (parameter.name, (parameter.get)(call.server)))
        .collect();
    let settings = call.server.settings.read();
    let free: Vec<(&str, &str)> = FREE
        .iter()
        .filter(|(name, ..)| wanted(name))
        .map(|&(name, default, _)| {
            (
                name,
                settings.free.get(name).map_or(default, String::as_str),
            )
        })
        .collect();
    reply.map(acting.len() + free.len());
    for (name, value) in acting
        .iter()
        .map(|(name, value)| (*name, value.as_str()))
        .chain(free)
    {
        reply.bulk_text(name);
        reply.bulk_text(value);
    }
    Ok(())
}

fn set(call: &mut Call<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let pairs = args.rest();
    if !pairs.len().is_multiple_of(2) {
        return Err(CommandError::WrongArity("config|set".into()));
    }
    let mut seen: Vec<String> = Vec::new();
    for apply in [false, true] {
        for pair in pairs.chunks_exact(2) {
            let name = String::from_utf8_lossy(pair[0]).to_ascii_lowercase();
            if !apply && seen.contains(&name) {
                return Err(refused(&name, "duplicate parameter"));
            }
            set_one(call.server, &name, &String::from_utf8_lossy(pair[1]), apply)?;
            seen.push(name);
        }
    }
    reply.ok();
    Ok(())
}

fn refused(name: &str, why: &str) -> CommandError {
    CommandError::line(format!(
        "ERR CONFIG SET failed (possibly related to argument '{name}') - {why}"
    ))
}

/// Checks a value and, if told so, applies it.
fn set_one(server: &Server, name: &str, value: &str, apply: bool) -> Outcome {
    if let Some(parameter) = PARAMETERS.iter().find(|parameter| parameter.name == name) {
        let set = parameter
            .set
            .ok_or_else(|| refused(name, "can't set immutable config"))?;
        return set(server, value, apply).map_err(|why| refused(name, &why));
    }
    let Some((name, default, form)) = FREE.iter().find(|(free, ..)| *free == name) else {
        return Err(CommandError::line(format!(
            "ERR Unknown option or number of arguments for CONFIG SET - '{name}'"
        )));
    };
    let checked = match form {
        Form::Text => Ok(()),
        Form::YesNo => read_yes_no(value).map(|_| ()),
        Form::Number => read_int(value, i64::MIN, i64::MAX).map(|_| ()),
        Form::Only(_) if value.eq_ignore_ascii_case(default) => Ok(()),
        Form::Only(why) => Err((*why).to_owned()),
        Form::OneOf(choices) if choices.contains(&value) => Ok(()),
        Form::OneOf(choices) => Err(format!(
            "argument(s) must be one of the following: {}",
            choices.join(", ")
        )),
    };
    checked.map_err(|why| refused(name, &why))?;
    if apply {
        server
            .settings
            .write()
            .free
            .insert((*name).to_owned(), value.to_owned());
    }
    Ok(())
}

fn reset_stat(call: &mut Call<'_>, _: &mut Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let server = call.server;
    for counter in [&server.accepted, &server.refused] {
        counter.store(0, Ordering::Relaxed);
    }
    server.stats.reset();
    server.errors.reset();
    server.traffic.reset();
    for index in 0..server.shards.count() {
        server.shards.with(index, Shard::reset_looks);
    }
    server.room.reset_evicted();
    reply.ok();
    Ok(())
}

fn yes_no(value: bool) -> String {
    if value { "yes" } else { "no" }.into()
}

fn read_yes_no(text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "yes" => Ok(true),
        "no" => Ok(false),
        _ => Err("argument must be 'yes' or 'no'".into()),
    }
}

fn read_int(text: &str, min: i64, max: i64) -> Result<i64, String> {
    let value = crdt::parse_integer(text.as_bytes());
    let value = value.ok_or("argument couldn't be parsed into an integer")?;
    if (min..=max).contains(&value) {
        return Ok(value);
    }
    Err(between(min, max))
}

fn between(min: impl std::fmt::Display, max: impl std::fmt::Display) -> String {
    format!("argument must be between {min} and {max} inclusive")
}

/// Bytes, with or without a unit: `k` is 1,000, `kb` 1,024.
///
/// Source: `memtoull` of Redis.
fn read_bytes(text: &str) -> Result<u64, String> {
    let lower = text.to_ascii_lowercase();
    let digits = lower.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit: u64 = match &lower[digits.len()..] {
        "" | "b" => 1,
        "k" => 1_000,
        "kb" => 1 << 10,
        "m" => 1_000_000,
        "mb" => 1 << 20,
        "g" => 1_000_000_000,
        "gb" => 1 << 30,
        _ => return Err("argument must be a memory value".into()),
    };
    let value = digits
        .parse::<u64>()
        .ok()
        .and_then(|value| value.checked_mul(unit));
    value.ok_or_else(|| "argument must be a memory value".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_have_units() {
        assert_eq!(read_bytes("100"), Ok(100));
        assert_eq!(read_bytes("1k"), Ok(1_000));
        assert_eq!(read_bytes("2KB"), Ok(2_048));
        assert_eq!(read_bytes("1gb"), Ok(1 << 30));
        for text in ["", "x", "-1", "1tb", "99999999999gb"] {
            assert!(read_bytes(text).is_err(), "{text}");
        }
    }

    #[test]
    fn parameters_are_named_once() {
        let names = PARAMETERS.iter().map(|parameter| parameter.name);
        let names: Vec<&str> = names.chain(FREE.iter().map(|free| free.0)).collect();
        let unique: std::collections::BTreeSet<&str> = names.iter().copied().collect();
        assert_eq!(names.len(), unique.len());
    }
}
