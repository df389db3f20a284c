//! Commands on sets.

use super::Row;
use crate::compare::Compare::{Exact, Unordered};
use crate::generator::Kind::{Ints, Set};
use crate::generator::{Generator, Words, words};

pub(super) fn rows() -> Vec<Row> {
    vec![
        Row::new("SADD", Exact, |g| {
            if g.chance(0.3) {
                return [words![g.key(Ints)], g.some(4, |g| words![g.between(0, 9)])].concat();
            }
            [words![g.key(Set)], members(g)].concat()
        })
        .weight(12),
        Row::new("SCARD", Exact, |g| words![g.set_key()]),
        Row::new("SDIFF", Unordered, some_sets),
        Row::new("SDIFFSTORE", Exact, store),
        Row::new("SINTER", Unordered, some_sets),
        Row::new("SINTERCARD", Exact, |g| {
            let keys = some_sets(g);
            [
                words![keys.len()],
                keys,
                g.maybe(0.4, |g| words!["LIMIT", g.count()]),
            ]
            .concat()
        }),
        Row::new("SINTERSTORE", Exact, store),
        Row::new("SISMEMBER", Exact, |g| words![g.set_key(), g.member()]),
        Row::new("SMEMBERS", Unordered, |g| words![g.set_key()]),
        Row::new("SMISMEMBER", Exact, |g| {
            [words![g.set_key()], members(g)].concat()
        }),
        Row::new("SMOVE", Exact, |g| {
            words![g.set_key(), g.key(Set), g.member()]
        }),
        Row::new("SREM", Exact, |g| {
            [words![g.set_key()], members(g)].concat()
        }),
        Row::new("SUNION", Unordered, some_sets),
        Row::new("SUNIONSTORE", Exact, store),
    ]
}

fn members(g: &mut Generator) -> Words {
    g.some(4, |g| words![g.member()])
}

fn some_sets(g: &mut Generator) -> Words {
    g.some(3, |g| words![g.set_key()])
}

fn store(g: &mut Generator) -> Words {
    [words![g.exact_key(Set)], some_sets(g)].concat()
}
