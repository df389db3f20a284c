//! Commands on sorted sets.

use super::Row;
use crate::compare::Compare::Exact;
use crate::generator::Kind::{Lex, Set, Sorted};
use crate::generator::{Generator, Words, words};

const TIMEOUT: &str = "0";

pub(super) fn rows() -> Vec<Row> {
    [adding(), reading(), ranging(), combining()]
        .into_iter()
        .flatten()
        .collect()
}

fn adding() -> Vec<Row> {
    vec![
        Row::new("ZADD", Exact, add).weight(16),
        Row::new("ZINCRBY", Exact, |g| {
            words![g.key(Sorted), g.score(), g.member()]
        }),
        Row::new("ZREM", Exact, |g| {
            [words![g.key(Sorted)], members(g)].concat()
        }),
        Row::new("ZREMRANGEBYLEX", Exact, |g| {
            [words![g.key(Lex)], lex_range(g)].concat()
        }),
        Row::new("ZREMRANGEBYRANK", Exact, |g| {
            words![g.key(Sorted), g.index(), g.between(-12, 0)]
        }),
        Row::new("ZREMRANGEBYSCORE", Exact, |g| {
            [words![g.key(Sorted)], score_range(g)].concat()
        }),
        Row::new("ZPOPMAX", Exact, pop),
        Row::new("ZPOPMIN", Exact, pop),
        Row::new("ZMPOP", Exact, pop_many),
        Row::new("BZMPOP", Exact, |g| [words![TIMEOUT], pop_many(g)].concat()).blocking(),
        Row::new("BZPOPMAX", Exact, |g| {
            [some_keys(g), words![TIMEOUT]].concat()
        })
        .blocking(),
        Row::new("BZPOPMIN", Exact, |g| {
            [some_keys(g), words![TIMEOUT]].concat()
        })
        .blocking(),
    ]
}

fn reading() -> Vec<Row> {
    vec![
        Row::new("ZCARD", Exact, |g| words![g.key(Sorted)]),
        Row::new("ZCOUNT", Exact, |g| {
            [words![g.key(Sorted)], score_range(g)].concat()
        }),
        Row::new("ZLEXCOUNT", Exact, |g| {
            [words![g.key(Lex)], lex_range(g)].concat()
        }),
        Row::new("ZMSCORE", Exact, |g| {
            [words![g.key(Sorted)], members(g)].concat()
        }),
        Row::new("ZRANK", Exact, |g| words![g.key(Sorted), g.member()]),
        Row::new("ZREVRANK", Exact, |g| words![g.key(Sorted), g.member()]),
        Row::new("ZSCORE", Exact, |g| words![g.key(Sorted), g.member()]),
    ]
}

fn ranging() -> Vec<Row> {
    vec![
        Row::new("ZRANGE", Exact, |g| {
            let by_lex = g.chance(0.2);
            [
                range(g, by_lex),
                g.maybe(if by_lex { 0.02 } else { 0.4 }, |_| words!["WITHSCORES"]),
            ]
            .concat()
        })
        .weight(8),
        Row::new("ZRANGEBYLEX", Exact, |g| {
            [words![g.key(Lex)], lex_range(g), limit(g)].concat()
        }),
        Row::new("ZREVRANGEBYLEX", Exact, |g| {
            let mut ends = lex_range(g);
            ends.reverse();
            [words![g.key(Lex)], ends, limit(g)].concat()
        }),
        Row::new("ZRANGEBYSCORE", Exact, |g| {
            [
                words![g.key(Sorted)],
                score_range(g),
                with_scores(g),
                limit(g),
            ]
            .concat()
        }),
        Row::new("ZREVRANGEBYSCORE", Exact, |g| {
            let mut ends = score_range(g);
            ends.reverse();
            [words![g.key(Sorted)], ends, with_scores(g), limit(g)].concat()
        }),
        Row::new("ZREVRANGE", Exact, |g| {
            [words![g.key(Sorted), g.index(), g.index()], with_scores(g)].concat()
        }),
        Row::new("ZRANGESTORE", Exact, |g| {
            [words![g.exact_key(Sorted)], range(g, false)].concat()
        }),
    ]
}

fn combining() -> Vec<Row> {
    vec![
        Row::new("ZDIFF", Exact, |g| [counted(g), with_scores(g)].concat()),
        Row::new("ZDIFFSTORE", Exact, |g| {
            [words![g.exact_key(Sorted)], counted(g)].concat()
        }),
        Row::new("ZINTER", Exact, |g| [weighted(g), with_scores(g)].concat()),
        Row::new("ZINTERCARD", Exact, |g| {
            [counted(g), g.maybe(0.4, |g| words!["LIMIT", g.count()])].concat()
        }),
        Row::new("ZINTERSTORE", Exact, |g| {
            [words![g.exact_key(Sorted)], weighted(g)].concat()
        }),
        Row::new("ZUNION", Exact, |g| [weighted(g), with_scores(g)].concat()),
        Row::new("ZUNIONSTORE", Exact, |g| {
            [words![g.exact_key(Sorted)], weighted(g)].concat()
        }),
    ]
}

fn add(g: &mut Generator) -> Words {
    if g.chance(0.2) {
        return [words![g.key(Lex)], g.some(4, |g| words!["0", g.member()])].concat();
    }
    let mut words = words![g.key(Sorted)];
    if g.chance(0.3) {
        words.extend(words![g.pick(&["NX", "XX", "GT", "LT"])]);
    }
    words.extend(g.maybe(0.05, |g| words![g.pick(&["XX", "GT", "NX"])]));
    words.extend(g.maybe(0.2, |_| words!["CH"]));
    if g.chance(0.1) {
        words.extend(words!["INCR", g.score(), g.member()]);
        return words;
    }
    words.extend(g.some(4, |g| words![g.score(), g.member()]));
    words
}

fn members(g: &mut Generator) -> Words {
    g.some(3, |g| words![g.member()])
}

fn some_keys(g: &mut Generator) -> Words {
    g.some(3, |g| words![g.key(Sorted)])
}

fn pop(g: &mut Generator) -> Words {
    [words![g.key(Sorted)], g.maybe(0.4, |g| words![g.count()])].concat()
}

fn pop_many(g: &mut Generator) -> Words {
    let keys = some_keys(g);
    let end = g.pick(&["MIN", "MAX"]);
    [
        words![keys.len()],
        keys,
        words![end],
        g.maybe(0.4, |g| words!["COUNT", g.count()]),
    ]
    .concat()
}

fn score_end(g: &mut Generator) -> Vec<u8> {
    match g.below(10) {
        0 => g.pick(&["-inf", "+inf", "(inf", "x", "(1"]).into(),
        1 | 2 => [b"(".to_vec(), g.score()].concat(),
        _ => g.score(),
    }
}

fn score_range(g: &mut Generator) -> Words {
    match g.below(3) {
        0 => words!["-inf", score_end(g)],
        1 => words![score_end(g), "+inf"],
        _ => words![score_end(g), score_end(g)],
    }
}

fn lex_end(g: &mut Generator) -> Vec<u8> {
    match g.below(20) {
        0 => g.pick(&["-", "+", "x", ""]).into(),
        1..=8 => [b"(".to_vec(), g.member()].concat(),
        _ => [b"[".to_vec(), g.member()].concat(),
    }
}

fn lex_range(g: &mut Generator) -> Words {
    match g.below(3) {
        0 => words!["-", lex_end(g)],
        1 => words![lex_end(g), "+"],
        _ => words![lex_end(g), lex_end(g)],
    }
}

fn limit(g: &mut Generator) -> Words {
    g.maybe(0.3, |g| words!["LIMIT", g.between(-1, 4), g.between(-1, 6)])
}

fn with_scores(g: &mut Generator) -> Words {
    g.maybe(0.4, |g| words![g.pick(&["WITHSCORES", "withscores"])])
}

/// The key and range of `ZRANGE`.
fn range(g: &mut Generator, by_lex: bool) -> Words {
    let rev = g.chance(0.3);
    let (key, mut ends, by) = if by_lex {
        (g.key(Lex), lex_range(g), words!["BYLEX"])
    } else if g.chance(0.5) {
        (g.key(Sorted), score_range(g), words!["BYSCORE"])
    } else {
        (g.key(Sorted), words![g.index(), g.index()], words![])
    };
    if rev && !by.is_empty() {
        ends.reverse();
    }
    let limit = if by.is_empty() {
        g.maybe(0.02, |_| words!["LIMIT", "0", "1"])
    } else {
        limit(g)
    };
    let rev = if rev { words!["REV"] } else { words![] };
    [words![key], ends, by, rev, limit].concat()
}

fn counted(g: &mut Generator) -> Words {
    let keys = g.some(3, |g| {
        if g.chance(0.1) {
            words![g.key(Set)]
        } else {
            words![g.key(Sorted)]
        }
    });
    // A count that is only a little too large makes keys of other words, in other slots.
    let count = match g.below(50) {
        0 => g.pick(&["0", "-1", "100", "x"]).into(),
        _ => keys.len().to_string().into_bytes(),
    };
    [words![count], keys].concat()
}

fn weighted(g: &mut Generator) -> Words {
    let mut words = counted(g);
    if g.chance(0.3) {
        let keys = words.len() - 1;
        words.extend(words!["WEIGHTS"]);
        for _ in 0..keys {
            words.extend(words![
                g.pick(&["1", "2", "0.5", "-1", "0", "x", "3", "-0.25", "4"])
            ]);
        }
    }
    if g.chance(0.3) {
        words.extend(words!["AGGREGATE", g.pick(&["SUM", "MIN", "MAX", "max"])]);
    }
    words
}
