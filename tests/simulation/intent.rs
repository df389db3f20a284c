//! What clients do in a simulation: writes of every kind, on few keys, so that they meet.

use crdt::{Attached, Deadline, Edit, End, Key, Kind, Number, Slot, parse_integer};
use meridian::shard::Txn;

/// Keys of a simulation: few, so that writes collide.
const KEYS: usize = 4;
/// Fields and members, for the same reason.
const PARTS: u32 = 4;

/// Writes something at random.
pub(super) fn write(txn: &mut Txn<'_>, key: &Key<'_>, random: &mut fastrand::Rng) -> String {
    let kind = random.u32(0..30);
    let part = format!("p{}", random.u32(0..PARTS));
    let (part, value) = (part.as_bytes(), format!("v{}", random.u32(0..1_000)));
    let value = value.as_bytes();
    let by = i64::from(random.i32(-5..10));
    let done = match kind {
        0..8 => string(txn, key, (value, by), random),
        8..13 => hash(txn, key, (part, value, by), random),
        13..17 => set(txn, key, part, random),
        17..21 => zset(txn, key, (part, by), random),
        21..27 => list(txn, key, value, random),
        _ => whole(txn, key, random),
    };
    format!("{kind} {done}")
}

/// The keys of a shard of a simulation: few, so that writes collide.
pub(super) fn key_names(slots: impl Fn(Slot) -> bool) -> Vec<Vec<u8>> {
    let names = (0_u32..).map(|number| format!("key{number}").into_bytes());
    names
        .filter(|name| slots(Slot::of(name)))
        .take(KEYS)
        .collect()
}

/// Whether a key is free for a write of this kind.
fn free(txn: &Txn<'_>, key: &Key<'_>, kind: Kind) -> bool {
    txn.kind(key).is_none_or(|found| found == kind)
}

fn string(
    txn: &mut Txn<'_>,
    key: &Key<'_>,
    (value, by): (&[u8], i64),
    random: &mut fastrand::Rng,
) -> &'static str {
    let number = || match txn.string(key) {
        Ok(Some(text)) => parse_integer(&text).is_some_and(|n| n.checked_add(by).is_some()),
        Ok(None) => true,
        Err(_) => false,
    };
    let is_number = number();
    match random.u32(0..9) {
        0 => txn.string_set(key, value, Attached::Deadline(Deadline::Never)),
        1 => txn.string_set(key, b"10", Attached::Deadline(Deadline::Never)),
        2 => {
            let ms = txn.now_ms() + random.u64(1..400);
            txn.string_set(key, value, Attached::Deadline(Deadline::At(ms)));
        }
        3 => txn.string_set(key, value, Attached::Nothing),
        4 if free(txn, key, Kind::String) => txn.string_edit(key, Edit::Append(value)),
        5 if free(txn, key, Kind::String) => {
            txn.string_edit(
                key,
                Edit::Overwrite {
                    offset: random.u64(0..4),
                    bytes: b"zz",
                },
            );
        }
        6 if free(txn, key, Kind::String) => {
            let (width, value) = (random.u8(1..9), 1);
            txn.string_edit(
                key,
                Edit::Bits {
                    offset: random.u64(0..40),
                    width,
                    value,
                },
            );
        }
        _ if is_number => txn.string_add(key, Number::int(by.into())),
        _ => return "nothing",
    }
    "string"
}

fn hash(
    txn: &mut Txn<'_>,
    key: &Key<'_>,
    (field, value, by): (&[u8], &[u8], i64),
    random: &mut fastrand::Rng,
) -> &'static str {
    if !free(txn, key, Kind::Hash) {
        return "other type";
    }
    let hash = txn.hash(key).ok().flatten();
    let found = hash.and_then(|hash| hash.get(field));
    let is_number = found
        .as_ref()
        .is_none_or(|text| parse_integer(text).is_some());
    let exists = found.is_some();
    match random.u32(0..6) {
        0 => {
            txn.hash_set(key, field, value, Attached::Deadline(Deadline::Never));
        }
        1 => {
            txn.hash_set(key, field, b"7", Attached::Nothing);
        }
        2 | 3 if is_number => txn.hash_add(key, field, Number::int(by.into())),
        4 if exists => {
            let ms = txn.now_ms() + random.u64(1..400);
            let deadline = if random.bool() {
                Deadline::At(ms)
            } else {
                Deadline::Never
            };
            txn.hash_deadline(key, field, deadline);
        }
        _ => {
            txn.hash_remove(key, field);
        }
    }
    "hash"
}

fn set(
    txn: &mut Txn<'_>,
    key: &Key<'_>,
    member: &[u8],
    random: &mut fastrand::Rng,
) -> &'static str {
    if !free(txn, key, Kind::Set) {
        return "other type";
    }
    if random.u32(0..3) < 2 {
        txn.set_add(key, member);
    } else {
        txn.set_remove(key, member);
    }
    "set"
}

fn zset(
    txn: &mut Txn<'_>,
    key: &Key<'_>,
    (member, by): (&[u8], i64),
    random: &mut fastrand::Rng,
) -> &'static str {
    if !free(txn, key, Kind::SortedSet) {
        return "other type";
    }
    let score = by as f64 + 0.1;
    match random.u32(0..4) {
        0 => {
            txn.zset_set(key, member, score);
        }
        1 | 2 => {
            let before = txn
                .sorted_set(key)
                .ok()
                .flatten()
                .and_then(|z| z.score(member));
            let after = txn.zset_add(key, member, score);
            let others = (before.unwrap_or(0.0) + score - after).abs();
            assert!(others < 1e-9, "an increment adds what it says");
        }
        _ => {
            txn.zset_remove(key, member);
        }
    }
    "zset"
}

fn list(
    txn: &mut Txn<'_>,
    key: &Key<'_>,
    value: &[u8],
    random: &mut fastrand::Rng,
) -> &'static str {
    if !free(txn, key, Kind::List) {
        return "other type";
    }
    let length = txn.list(key).ok().flatten().map_or(0, |list| list.len());
    match random.u32(0..9) {
        0..2 => txn.list_push(key, End::Head, &[value]),
        2..4 => txn.list_push(key, End::Tail, &[value]),
        4..6 if 0 < length => txn.list_insert(key, random.usize(0..=length), value),
        6 if 0 < length => txn.list_set(key, random.usize(0..length), value),
        7 if 0 < length => txn.list_remove(key, 0..1),
        _ if 0 < length => {
            let start = random.usize(0..length);
            txn.list_remove(key, start..random.usize(start..length) + 1);
        }
        _ => return "nothing",
    }
    "list"
}

fn whole(txn: &mut Txn<'_>, key: &Key<'_>, random: &mut fastrand::Rng) -> &'static str {
    match random.u32(0..12) {
        0..5 => {
            txn.remove(key);
        }
        5..8 if txn.exists(key) => {
            let ms = txn.now_ms() + random.u64(1..400);
            txn.set_deadline(key, Deadline::At(ms));
        }
        8..10 if txn.exists(key) => txn.set_deadline(key, Deadline::Never),
        10 => {
            // Several effects of one op on one key.
            txn.remove(key);
            txn.string_add(key, Number::int(1));
            txn.remove(key);
            txn.string_add(key, Number::int(2));
        }
        11 if random.u32(0..4) == 0 => txn.flush(),
        _ => return "nothing",
    }
    "whole"
}
