//! Commands on keys of any type.

use super::Row;
use crate::compare::Compare::{Exact, Millis, Seconds, Unordered};
use crate::generator::Kind::{Ints, List, Numbers, Sorted};
use crate::generator::{Generator, Words, words};

const PATTERNS: &[&str] = &[
    "*",
    "{a}*",
    "{b}?0",
    "*s?",
    "*[hl]0",
    "*[^s]1",
    "*[a-m]2",
    "nothing*",
    "\\{a\\}s*",
    "",
    "{?}z[0-1]",
];

pub(super) fn rows() -> Vec<Row> {
    vec![
        Row::new("COPY", Exact, |g| {
            let [from, to] = g.two_keys();
            [words![from, to], g.maybe(0.4, |_| words!["REPLACE"])].concat()
        }),
        Row::new("DEL", Exact, |g| g.some(2, |g| words![g.key_anywhere()])),
        Row::new("EXISTS", Exact, |g| g.some(4, |g| words![g.key_anywhere()])),
        Row::new("EXPIRE", Exact, |g| expire(g, 1)),
        Row::new("PEXPIRE", Exact, |g| expire(g, 1000)),
        Row::new("EXPIREAT", Exact, |g| expire_at(g, 1)),
        Row::new("PEXPIREAT", Exact, |g| expire_at(g, 1000)),
        Row::new("TTL", Seconds, |g| words![g.any_key()]),
        Row::new("PTTL", Millis, |g| words![g.any_key()]),
        Row::new("EXPIRETIME", Seconds, |g| words![g.any_key()]),
        Row::new("PEXPIRETIME", Millis, |g| words![g.any_key()]),
        Row::new("PERSIST", Exact, |g| words![g.any_key()]),
        Row::new("KEYS", Unordered, |g| words![g.pick(PATTERNS)]).weight(1),
        Row::new("OBJECT ENCODING", Exact, |g| words![g.any_key()]).weight(2),
        Row::new("OBJECT REFCOUNT", Exact, |g| words![g.any_key()]).weight(1),
        Row::new("RENAME", Exact, two),
        Row::new("RENAMENX", Exact, two),
        Row::new("RESTORE", Exact, restore).weight(2),
        Row::new("SORT", Exact, |g| {
            [
                sort(g),
                g.maybe(0.3, |g| words!["STORE", g.exact_key(Numbers)]),
            ]
            .concat()
        }),
        Row::new("SORT", Unordered, |g| words![g.any_key(), "BY", "nosort"]).weight(1),
        Row::new("SORT_RO", Exact, sort),
        Row::new("TOUCH", Exact, |g| g.some(3, |g| words![g.key_anywhere()])),
        Row::new("TYPE", Exact, |g| words![g.any_key()]),
        Row::new("UNLINK", Exact, |g| g.some(2, |g| words![g.key_anywhere()])),
    ]
}

/// Of a payload that no server takes; procedures restore what another one has dumped.
fn restore(g: &mut Generator) -> Words {
    let ttl = g.pick(&["0", "100000", "-1", "x"]);
    let payload = g.pick(&[
        "",
        "short",
        "nothing that a server gave",
        "\0\u{1}v\n\0 of the length",
    ]);
    let options: &[&str] = &[
        "REPLACE",
        "ABSTTL",
        "IDLETIME 5",
        "FREQ 5",
        "IDLETIME -1",
        "FREQ 256",
    ];
    let mut command = words![g.any_key(), ttl, payload];
    for _ in 0..g.below(3) {
        let option = g.pick(options);
        command.extend(option.split(' ').map(|word| word.as_bytes().to_vec()));
    }
    command
}

fn two(g: &mut Generator) -> Words {
    g.two_keys().to_vec()
}

/// In units of which a second has so many. Deadlines that are compared with one another are far
/// apart, so that it does not matter which millisecond a server takes for now.
fn expire(g: &mut Generator, units: i64) -> Words {
    let key = g.any_key();
    match g.below(12) {
        0 => words![
            key,
            g.pick(&[
                "-1",
                "0",
                "9223372036854775807",
                "x",
                "-9223372036854775808"
            ])
        ],
        1 | 2 => words![key, g.odd_ttl_s() * units, g.pick(&["GT", "LT"])],
        3 | 4 => words![key, g.ttl_s() * units, g.pick(&["NX", "XX", "nx"])],
        5 => words![
            key,
            g.ttl_s() * units,
            g.pick(&["NX", "XX"]),
            g.pick(&["GT", "XX"])
        ],
        _ => words![key, g.ttl_s() * units],
    }
}

fn expire_at(g: &mut Generator, units: i64) -> Words {
    let key = g.any_key();
    [
        words![key, g.time_s() * units],
        g.maybe(0.2, |g| words![g.pick(&["NX", "XX"])]),
    ]
    .concat()
}

/// Elements of these keys sort in one way only, ties included.
fn sort(g: &mut Generator) -> Words {
    let tag_of = |key: &[u8]| String::from_utf8_lossy(&key[..3]).into_owned();
    let mut words = match g.below(5) {
        0 => words![g.key(Ints)],
        1 => words![g.key(List), "ALPHA"],
        2 => words![g.key(Sorted), "ALPHA"],
        _ => words![g.key(Numbers)],
    };
    let tag = tag_of(&words[0]);
    if words.len() == 1 && g.chance(0.2) {
        // Weights that never hold a zero byte, at which Redis would stop to read.
        words.extend(words!["BY", format!("{tag}d*").as_str()]);
    }
    words.extend(g.maybe(0.3, |g| words!["LIMIT", g.below(4), g.between(-1, 5)]));
    words.extend(g.maybe(0.3, |g| words![g.pick(&["ASC", "DESC", "desc"])]));
    if g.chance(0.2) {
        words.extend(words!["GET", format!("{tag}n*").as_str(), "GET", "#"]);
    } else if g.chance(0.1) {
        words.extend(words!["GET", format!("{tag}h*->f0").as_str()]);
    }
    words
}
