//! Commands on strings.

use super::Row;
use crate::compare::Compare::Exact;
use crate::generator::Kind::{Decimal, Hash, Number, Text};
use crate::generator::{Generator, Words, words};

pub(super) fn rows() -> Vec<Row> {
    vec![
        Row::new("APPEND", Exact, |g| words![g.key(Text), g.text()]),
        Row::new("DECR", Exact, |g| words![g.key(Number)]),
        Row::new("DECRBY", Exact, |g| words![g.key(Number), g.int()]),
        Row::new("GET", Exact, |g| words![g.string_key()]),
        Row::new("GETDEL", Exact, |g| words![g.string_key()]),
        Row::new("GETEX", Exact, |g| {
            [words![g.string_key()], getex_option(g)].concat()
        }),
        Row::new("GETRANGE", Exact, |g| {
            words![g.string_key(), g.index(), g.index()]
        }),
        Row::new("GETSET", Exact, Generator::string_pair),
        Row::new("INCR", Exact, |g| words![g.key(Number)]),
        Row::new("INCRBY", Exact, |g| words![g.key(Number), g.int()]),
        Row::new("INCRBYFLOAT", Exact, |g| {
            let kind = if g.chance(0.05) { Hash } else { Decimal };
            words![g.exact_key(kind), g.decimal()]
        }),
        Row::new("LCS", Exact, lcs),
        Row::new("MGET", Exact, |g| g.some(5, |g| words![g.key_anywhere()])),
        Row::new("MSET", Exact, |g| g.some(3, Generator::string_pair)),
        Row::new("MSETNX", Exact, |g| g.some(2, Generator::string_pair)),
        Row::new("PSETEX", Exact, |g| {
            words![g.key(Text), ttl_or_none(g, 1000), g.text()]
        }),
        Row::new("SET", Exact, set).weight(12),
        Row::new("SETEX", Exact, |g| {
            words![g.key(Text), ttl_or_none(g, 1), g.text()]
        }),
        Row::new("SETNX", Exact, Generator::string_pair),
        Row::new("SETRANGE", Exact, |g| {
            words![g.key(Text), offset(g), g.text()]
        }),
        Row::new("STRLEN", Exact, |g| words![g.string_key()]),
        Row::new("SUBSTR", Exact, |g| {
            words![g.string_key(), g.index(), g.index()]
        }),
    ]
}

fn set(g: &mut Generator) -> Words {
    let mut words = g.string_pair();
    if g.chance(0.25) {
        words.extend(words![g.pick(&["NX", "XX", "xx"])]);
    }
    if g.chance(0.2) {
        words.extend(words!["GET"]);
    }
    if g.chance(0.3) {
        let deadline = match g.below(5) {
            0 => words!["KEEPTTL"],
            1 => words!["EX", ttl_or_none(g, 1)],
            2 => words!["PX", ttl_or_none(g, 1000)],
            3 => words!["EXAT", g.coming_time_s()],
            _ => words!["PXAT", g.coming_time_s() * 1000],
        };
        words.extend(deadline);
    }
    words
}

fn getex_option(g: &mut Generator) -> Words {
    match g.below(7) {
        0 => words!["EX", ttl_or_none(g, 1)],
        1 => words!["PX", ttl_or_none(g, 1000)],
        2 => words!["EXAT", g.time_s()],
        3 => words!["PXAT", g.time_s() * 1000],
        4 => words!["PERSIST"],
        _ => words![],
    }
}

fn lcs(g: &mut Generator) -> Words {
    let keys = words![g.key(Text), g.key(Text)];
    let options = match g.below(4) {
        0 => words!["LEN"],
        1 => words!["IDX", "MINMATCHLEN", g.count()],
        2 => words!["IDX", "WITHMATCHLEN"],
        _ => words![],
    };
    [keys, options].concat()
}

/// A time to live in units of which a second has so many, or something that is none.
fn ttl_or_none(g: &mut Generator, units: i64) -> Vec<u8> {
    match g.below(25) {
        0 => g.pick(&["0", "-1", "9223372036854775807", "x"]).into(),
        _ => (g.ttl_s() * units).to_string().into_bytes(),
    }
}

fn offset(g: &mut Generator) -> Vec<u8> {
    match g.below(25) {
        0 => g.pick(&["-1", "536870912", "x", "700"]).into(),
        _ => g.below(20).to_string().into_bytes(),
    }
}
