//! Commands on hashes; field deadlines came after Redis 7.0, so there is nothing to compare with.

use super::Row;
use crate::compare::Compare::{Exact, Pairs, Unordered};
use crate::generator::Kind::Hash;
use crate::generator::{Generator, Words, words};

pub(super) fn rows() -> Vec<Row> {
    vec![
        Row::new("HDEL", Exact, |g| {
            [words![g.key(Hash)], g.some(3, |g| words![any_field(g)])].concat()
        }),
        Row::new("HEXISTS", Exact, |g| words![g.key(Hash), any_field(g)]),
        Row::new("HGET", Exact, |g| words![g.key(Hash), any_field(g)]),
        Row::new("HGETALL", Pairs, |g| words![g.key(Hash)]),
        Row::new("HINCRBY", Exact, |g| {
            words![g.key(Hash), g.int_field(), g.int()]
        }),
        Row::new("HINCRBYFLOAT", Exact, |g| {
            words![g.key(Hash), g.decimal_field(), g.decimal()]
        }),
        Row::new("HKEYS", Unordered, |g| words![g.key(Hash)]),
        Row::new("HLEN", Exact, |g| words![g.key(Hash)]),
        Row::new("HMGET", Exact, |g| {
            [words![g.key(Hash)], g.some(4, |g| words![any_field(g)])].concat()
        }),
        Row::new("HMSET", Exact, set),
        Row::new("HSET", Exact, set).weight(12),
        Row::new("HSETNX", Exact, |g| {
            [words![g.key(Hash)], g.field_pair()].concat()
        }),
        Row::new("HSTRLEN", Exact, |g| words![g.key(Hash), any_field(g)]),
        Row::new("HVALS", Unordered, |g| words![g.key(Hash)]),
    ]
}

fn set(g: &mut Generator) -> Words {
    [words![g.key(Hash)], g.some(4, Generator::field_pair)].concat()
}

fn any_field(g: &mut Generator) -> Vec<u8> {
    match g.below(5) {
        0 => g.int_field(),
        1 => g.decimal_field(),
        2 => g.text(),
        _ => g.field(),
    }
}
