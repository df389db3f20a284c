//! What clients send in a simulation: commands of every family that writes, on few keys, so that
//! they meet, run by the handlers that real clients get.

use crdt::{Kind, Slot};
use meridian::command::{self, Args, Reply, Run};
use meridian::resp::Protocol;
use meridian::shard::{Shard, Txn};

/// Keys of a shard: few, so that writes collide.
const KEYS: usize = 4;
/// Fields, members and elements, for the same reason.
const PARTS: u32 = 4;

/// The keys of a shard.
pub(super) fn key_names(slots: impl Fn(Slot) -> bool) -> Vec<Vec<u8>> {
    let names = (0_u32..).map(|number| format!("key{number}").into_bytes());
    names
        .filter(|name| slots(Slot::of(name)))
        .take(KEYS)
        .collect()
}

/// What a client sends: one command or, in a `MULTI`, several.
pub(super) fn lines(
    shard: &Shard,
    names: &[Vec<u8>],
    now_ms: u64,
    random: &mut fastrand::Rng,
) -> Vec<String> {
    let count = if random.u32(0..12) == 0 {
        random.usize(2..5)
    } else {
        1
    };
    let pick = |random: &mut fastrand::Rng| &names[random.usize(0..names.len())];
    (0..count)
        .map(|_| {
            let (name, other) = (pick(random), pick(random));
            let kind = shard.state().kind(&shard.state().seed().key(name), now_ms);
            let show = |name: &[u8]| String::from_utf8_lossy(name).into_owned();
            line(kind, &show(name), &show(other), random)
        })
        .collect()
}

/// Runs what a client sent as one op. Returns the replies.
pub(super) fn run(shard: &mut Shard, lines: &[String], now_ms: u64) -> Vec<u8> {
    let mut out = Vec::new();
    shard.transact(now_ms, None, |txn| {
        for line in lines {
            let arguments: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
            one(txn, &arguments, &mut out);
        }
    });
    out
}

fn one(txn: &mut Txn<'_>, arguments: &[&[u8]], out: &mut Vec<u8>) {
    if arguments == [b"FLUSHALL"] {
        // About all shards of a node, so not a handler of one: this is what it does to each.
        if txn.is_ahead() {
            out.extend_from_slice(b"TRYAGAIN");
        } else {
            txn.flush();
        }
        return;
    }
    let command = command::find(arguments[0]).expect("a command of the table");
    assert!(command.takes(arguments.len()), "arity of {arguments:?}");
    let mut reply = Reply::new(out, Protocol::Resp2);
    let mark = reply.mark();
    let args = &mut Args::new(arguments);
    let refused = command::check_ahead(txn, command, arguments);
    let outcome = refused.and_then(|()| match command.run {
        Run::Shard(handler) => handler(txn, args, &mut reply),
        Run::Sum(handler) => {
            reply.int(args.rest().iter().map(|name| handler(txn, name)).sum());
            Ok(())
        }
        Run::Wait(_) | Run::Each(_) | Run::Pairs(_) | Run::Node(_) => {
            panic!("{arguments:?} does not write one shard at once")
        }
    });
    if let Err(error) = outcome {
        reply.rollback(mark);
        reply.error(&error);
    }
}

/// A command: mostly one that fits what is at the key.
fn line(kind: Option<Kind>, key: &str, other: &str, random: &mut fastrand::Rng) -> String {
    let kinds = [
        Kind::String,
        Kind::String,
        Kind::Hash,
        Kind::Set,
        Kind::SortedSet,
        Kind::List,
    ];
    let any = kinds[random.usize(0..kinds.len())];
    let kind = kind.filter(|_| 0 < random.u32(0..5)).unwrap_or(any);
    if random.u32(0..6) == 0 {
        return whole(key, other, random);
    }
    match kind {
        Kind::String => string(key, random),
        Kind::Hash => hash(key, random),
        Kind::Set => set(key, other, random),
        Kind::SortedSet => zset(key, other, random),
        Kind::List => list(key, other, random),
    }
}

fn value(random: &mut fastrand::Rng) -> String {
    format!("v{}", random.u32(0..1_000))
}

fn part(random: &mut fastrand::Rng) -> String {
    format!("p{}", random.u32(0..PARTS))
}

/// Some milliseconds from now: soon over, or not.
fn ms(random: &mut fastrand::Rng) -> u64 {
    let most = if random.bool() { 400 } else { 8_000 };
    random.u64(1..most)
}

fn string(key: &str, random: &mut fastrand::Rng) -> String {
    let (value, ms, by) = (value(random), ms(random), random.i32(-5..10));
    let offset = random.u32(0..40);
    match random.u32(0..18) {
        0 | 1 => format!("SET {key} {value}"),
        2 => format!("SET {key} 10"),
        3 => format!("SET {key} {value} PX {ms}"),
        4 => format!("SET {key} {by} KEEPTTL"),
        5 => format!("SET {key} {value} NX GET"),
        6 | 7 => format!("APPEND {key} {value}"),
        8 => format!("SETRANGE {key} {} zz", offset / 8),
        9 => format!("SETBIT {key} {offset} {}", random.u32(0..2)),
        10 => format!("BITFIELD {key} SET u{} {offset} 1", random.u32(1..9)),
        11 => format!("BITFIELD {key} INCRBY u5 {offset} {by}"),
        12 => format!("INCRBYFLOAT {key} {by}.25"),
        13 => format!("GETEX {key} PX {ms}"),
        _ => format!("INCRBY {key} {by}"),
    }
}

fn hash(key: &str, random: &mut fastrand::Rng) -> String {
    let (field, value, by) = (part(random), value(random), random.i32(-5..10));
    match random.u32(0..12) {
        0 | 1 => format!("HSET {key} {field} {value}"),
        2 => format!("HSET {key} {field} 7 {} {value}", part(random)),
        3 => format!("HSETNX {key} {field} {value}"),
        4..7 => format!("HINCRBY {key} {field} {by}"),
        7 => format!("HINCRBYFLOAT {key} {field} {by}.5"),
        8 => format!("HPEXPIRE {key} {} FIELDS 1 {field}", ms(random)),
        9 => format!("HPERSIST {key} FIELDS 1 {field}"),
        _ => format!("HDEL {key} {field} {}", part(random)),
    }
}

fn set(key: &str, other: &str, random: &mut fastrand::Rng) -> String {
    let (member, second) = (part(random), part(random));
    match random.u32(0..12) {
        0..4 => format!("SADD {key} {member}"),
        4 => format!("SADD {key} {member} {second}"),
        5..8 => format!("SREM {key} {member} {second}"),
        8 => format!("SPOP {key}"),
        9 => format!("SMOVE {key} {other} {member}"),
        10 => format!("SUNIONSTORE {other} {key} {other}"),
        _ => format!("SDIFFSTORE {key} {key} {other}"),
    }
}

fn zset(key: &str, other: &str, random: &mut fastrand::Rng) -> String {
    let (member, by) = (part(random), random.i32(-5..10));
    match random.u32(0..14) {
        0..3 => format!("ZADD {key} {by}.1 {member}"),
        3 => format!("ZADD {key} GT CH {by} {member}"),
        4 => format!("ZADD {key} NX {by} {member} {by} {}", part(random)),
        5..9 => format!("ZINCRBY {key} {by}.1 {member}"),
        9 | 10 => format!("ZREM {key} {member}"),
        11 => format!("ZPOPMIN {key}"),
        12 => format!("ZREMRANGEBYRANK {key} 1 2"),
        _ => format!("ZUNIONSTORE {other} 2 {key} {other}"),
    }
}

fn list(key: &str, other: &str, random: &mut fastrand::Rng) -> String {
    let (element, pivot, at) = (part(random), part(random), random.i32(-3..4));
    match random.u32(0..18) {
        0..3 => format!("LPUSH {key} {element}"),
        3..6 => format!("RPUSH {key} {element} {pivot}"),
        6 | 7 => format!("LINSERT {key} BEFORE {pivot} {element}"),
        8 | 9 => format!("LINSERT {key} AFTER {pivot} {element}"),
        10..12 => format!("LSET {key} {at} {element}"),
        12 => format!("LPOP {key}"),
        13 => format!("RPOP {key} 2"),
        14 => format!("LREM {key} {at} {element}"),
        15 => format!("LTRIM {key} 1 -2"),
        16 => format!("LMOVE {key} {other} LEFT RIGHT"),
        _ => format!("LPUSHX {key} {element}"),
    }
}

fn whole(key: &str, other: &str, random: &mut fastrand::Rng) -> String {
    match random.u32(0..16) {
        0..5 => format!("DEL {key}"),
        5 => format!("UNLINK {key} {other}"),
        6..10 => format!("PEXPIRE {key} {}", ms(random)),
        10 => format!("PEXPIRE {key} {} GT", ms(random)),
        11 | 12 => format!("PERSIST {key}"),
        13 => format!("RENAME {key} {other}"),
        14 => format!("COPY {key} {other} REPLACE"),
        _ if random.u32(0..4) == 0 => "FLUSHALL".to_owned(),
        _ => format!("GETDEL {key}"),
    }
}
