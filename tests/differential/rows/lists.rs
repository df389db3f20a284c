//! Commands on lists.

use super::Row;
use crate::compare::Compare::Exact;
use crate::generator::Kind::List;
use crate::generator::{Generator, Words, words};

/// Never waited for: these stand in transactions.
const TIMEOUT: &str = "0";

pub(super) fn rows() -> Vec<Row> {
    vec![
        Row::new("BLMOVE", Exact, |g| {
            [move_between(g), words![TIMEOUT]].concat()
        })
        .blocking(),
        Row::new("BLMPOP", Exact, |g| [words![TIMEOUT], pop_many(g)].concat()).blocking(),
        Row::new("BLPOP", Exact, |g| {
            [some_lists(g), words![TIMEOUT]].concat()
        })
        .blocking(),
        Row::new("BRPOP", Exact, |g| {
            [some_lists(g), words![TIMEOUT]].concat()
        })
        .blocking(),
        Row::new("BRPOPLPUSH", Exact, |g| {
            words![g.list_key(), g.key(List), TIMEOUT]
        })
        .blocking(),
        Row::new("LINDEX", Exact, |g| words![g.list_key(), g.index()]),
        Row::new("LINSERT", Exact, |g| {
            let (pair, at) = (g.list_pair(), g.pick(&["BEFORE", "AFTER", "after"]));
            words![pair[0].clone(), at, g.member(), pair[1].clone()]
        }),
        Row::new("LLEN", Exact, |g| words![g.list_key()]),
        Row::new("LMOVE", Exact, move_between),
        Row::new("LMPOP", Exact, pop_many),
        Row::new("LPOP", Exact, pop),
        Row::new("LPOS", Exact, position),
        Row::new("LPUSH", Exact, push).weight(8),
        Row::new("LPUSHX", Exact, push),
        Row::new("LRANGE", Exact, |g| {
            words![g.list_key(), g.index(), g.index()]
        }),
        Row::new("LREM", Exact, |g| {
            let pair = g.list_pair();
            words![pair[0].clone(), g.between(-3, 3), pair[1].clone()]
        }),
        Row::new("LSET", Exact, |g| {
            let pair = g.list_pair();
            words![pair[0].clone(), g.between(-5, 4), pair[1].clone()]
        }),
        Row::new("LTRIM", Exact, |g| {
            words![g.list_key(), g.between(-9, 2), g.between(-3, 20)]
        }),
        Row::new("RPOP", Exact, pop),
        Row::new("RPOPLPUSH", Exact, |g| words![g.list_key(), g.key(List)]),
        Row::new("RPUSH", Exact, push).weight(8),
        Row::new("RPUSHX", Exact, push),
    ]
}

fn push(g: &mut Generator) -> Words {
    let mut words = g.list_pair();
    if g.chance(0.4) {
        words.extend(g.some(3, |g| words![g.between(0, 9)]));
    }
    words
}

fn pop(g: &mut Generator) -> Words {
    [words![g.list_key()], g.maybe(0.3, |g| words![g.count()])].concat()
}

fn position(g: &mut Generator) -> Words {
    let mut words = g.list_pair();
    words.extend(g.maybe(0.4, |g| words!["RANK", g.between(-3, 3)]));
    words.extend(g.maybe(0.4, |g| words!["COUNT", g.count()]));
    words.extend(g.maybe(0.3, |g| words!["MAXLEN", g.between(0, 8)]));
    words
}

fn move_between(g: &mut Generator) -> Words {
    let ends = ["LEFT", "RIGHT", "left"];
    words![g.list_key(), g.key(List), g.pick(&ends), g.pick(&ends)]
}

fn pop_many(g: &mut Generator) -> Words {
    let keys = some_lists(g);
    let end = g.pick(&["LEFT", "RIGHT"]);
    [
        words![keys.len()],
        keys,
        words![end],
        g.maybe(0.4, |g| words!["COUNT", g.count()]),
    ]
    .concat()
}

fn some_lists(g: &mut Generator) -> Words {
    g.some(3, |g| words![g.list_key()])
}
