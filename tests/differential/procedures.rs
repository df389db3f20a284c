//! Commands that cannot be compared reply by reply in a pipeline: scans, which take several calls;
//! random ones, whose replies are judged by what they promise; `WATCH`, which takes two
//! connections; and blocking ones that really block.

use std::collections::BTreeSet;

use testing::{Client, Value};

use crate::compare::Compare;
use crate::generator::{Generator, Kind, Words, words};

/// A scan that takes more calls never ends.
const CALLS_MAX: usize = 10_000;

/// One server, with a connection more for those that take two.
pub(crate) struct Server {
    pub(crate) main: Client,
    pub(crate) other: Client,
}

/// What a procedure found.
pub(crate) struct Finding {
    /// The command that it is about.
    pub(crate) name: &'static str,
    /// Whether Redis answered without an error.
    pub(crate) succeeded: bool,
    /// Command and replies, if they differ.
    pub(crate) difference: Option<(Words, Value, Value)>,
}

pub(crate) type Procedure = fn(&mut Generator, &mut Server, &mut Server) -> Finding;

/// All procedures with their families; the test draws among them.
pub(crate) const ALL: &[(&str, Procedure)] = &[
    ("generic", |g, r, o| scan(g, r, o, "SCAN")),
    ("hash", |g, r, o| scan(g, r, o, "HSCAN")),
    ("set", |g, r, o| scan(g, r, o, "SSCAN")),
    ("sorted-set", |g, r, o| scan(g, r, o, "ZSCAN")),
    ("set", spop),
    ("set", |g, r, o| random_members(g, r, o, "SRANDMEMBER")),
    ("hash", |g, r, o| random_members(g, r, o, "HRANDFIELD")),
    ("sorted-set", |g, r, o| {
        random_members(g, r, o, "ZRANDMEMBER")
    }),
    ("generic", random_key),
    ("generic", carry),
    ("transactions", watch),
    ("transactions", unwatch),
    ("transactions", discard),
    ("generic", short_of_memory),
    ("generic", uses),
    ("list", block),
];

/// The commands that they are about.
pub(crate) const NAMES: &[&str] = &[
    "SCAN",
    "HSCAN",
    "SSCAN",
    "ZSCAN",
    "SPOP",
    "SRANDMEMBER",
    "HRANDFIELD",
    "ZRANDMEMBER",
    "RANDOMKEY",
    "DUMP",
    "WATCH",
    "UNWATCH",
    "DISCARD",
    "OBJECT FREQ",
    "OBJECT IDLETIME",
];

fn finding(name: &'static str, command: &Words, redis: Value, ours: Value, same: bool) -> Finding {
    let succeeded = redis.error().is_none();
    let difference = (!same).then(|| (command.clone(), redis, ours));
    Finding {
        name,
        succeeded,
        difference,
    }
}

fn scan(g: &mut Generator, redis: &mut Server, ours: &mut Server, name: &'static str) -> Finding {
    let mut command = words![name];
    match name {
        "HSCAN" => command.push(g.key(Kind::Hash)),
        "SSCAN" => command.push(g.set_key()),
        "ZSCAN" => command.push(g.key(Kind::Sorted)),
        _ => {}
    }
    let at = command.len();
    command.push(b"0".to_vec());
    command.extend(g.maybe(0.3, |g| {
        words!["MATCH", g.pick(&["*", "m*", "{a}*", "*[0-4]", "f?"])]
    }));
    if name == "SCAN" {
        command.extend(g.maybe(0.3, |g| {
            words!["TYPE", g.pick(&["string", "hash", "zset", "nosuch"])]
        }));
    }
    command.extend(g.maybe(0.5, |g| words!["COUNT", 1 + g.below(30)]));
    let group = if name == "HSCAN" || name == "ZSCAN" {
        2
    } else {
        1
    };
    let (a, b) = (
        scan_all(&mut redis.main, &command, at, group),
        scan_all(&mut ours.main, &command, at, group),
    );
    let same = a == b;
    finding(name, &command, a, b, same)
}

/// Everything that a scan returns, once each and in order; or its error.
fn scan_all(client: &mut Client, command: &Words, cursor: usize, group: usize) -> Value {
    let mut command = command.clone();
    let mut found = BTreeSet::new();
    for _ in 0..CALLS_MAX {
        let reply = client.run(&command);
        let Some([next, items]) = reply
            .items()
            .and_then(|items| <[&Value; 2]>::try_from(items).ok())
        else {
            return reply;
        };
        for item in items.items().unwrap_or_default().chunks(group) {
            // Scores are compared as numbers: Redis 7.0 writes more digits, and a sign of zero.
            let number = item
                .get(1)
                .and_then(|score| score.number())
                .map(|n| (n + 0.0).to_string());
            let value = number.or_else(|| item.get(1).map(|value| format!("{value:?}")));
            found.insert(format!("{:?} {}", item[0], value.unwrap_or_default()));
        }
        command[cursor] = next.bytes().unwrap_or_default().to_vec();
        if command[cursor] == b"0" {
            return Value::Array(
                found
                    .into_iter()
                    .map(|item| Value::Simple(item.into_bytes()))
                    .collect(),
            );
        }
    }
    Value::Error(format!("no end after {CALLS_MAX} calls"))
}

/// What ours popped must have been there in Redis, as many as asked; then it goes there too.
fn spop(g: &mut Generator, redis: &mut Server, ours: &mut Server) -> Finding {
    let key = g.set_key();
    let command = [
        words!["SPOP", key.clone()],
        g.maybe(0.5, |g| words![g.count()]),
    ]
    .concat();
    let size = redis.main.run(&["SCARD".as_bytes(), &key]).int();
    let own = ours.main.run(&command);
    let asked = command.get(2).map(|count| {
        let text = String::from_utf8_lossy(count);
        // `+1` is a number to Rust, and none to Redis.
        text.parse().ok().filter(|n: &i64| n.to_string() == text)
    });
    let judged = match (size, &asked) {
        (Some(size), None) => Some(size.min(1)),
        (Some(size), Some(Some(count))) if 0 <= *count => Some(size.min(*count)),
        _ => None,
    };
    let Some(expected) = judged else {
        let theirs = redis.main.run(&command);
        let same = Compare::Exact.same(&theirs, &own);
        return finding("SPOP", &command, theirs, own, same);
    };
    let members = own.items().unwrap_or_else(|| vec![&own]);
    let popped: Vec<Vec<u8>> = members
        .iter()
        .filter_map(|member| member.bytes())
        .map(<[u8]>::to_vec)
        .collect();
    let removed = if popped.is_empty() {
        Some(0)
    } else {
        redis
            .main
            .run(&[words!["SREM", key], popped.clone()].concat())
            .int()
    };
    let empty_form = expected > 0 || (own == Value::Nil) == asked.is_none();
    let same = own.error().is_none()
        && popped.len() as i64 == expected
        && removed == Some(expected)
        && empty_form;
    finding("SPOP", &command, Value::Int(expected), own, same)
}

/// As many as Redis returns, all of them members, and distinct unless the count is negative.
fn random_members(
    g: &mut Generator,
    redis: &mut Server,
    ours: &mut Server,
    name: &'static str,
) -> Finding {
    let (key, with, all) = match name {
        "SRANDMEMBER" => (g.set_key(), None, words!["SMEMBERS"]),
        "HRANDFIELD" => (g.key(Kind::Hash), Some("WITHVALUES"), words!["HGETALL"]),
        _ => (g.key(Kind::Sorted), Some("WITHSCORES"), words!["ZRANGE"]),
    };
    let mut command = words![name, key.clone()];
    let mut group = 1;
    if g.chance(0.7) {
        command.extend(words![g.between(-6, 6)]);
        if let Some(with) = with.filter(|_| g.chance(0.4)) {
            command.extend(words![with]);
            group = 2;
        }
    }
    let (theirs, own) = (redis.main.run(&command), ours.main.run(&command));
    let range = if name == "ZRANDMEMBER" {
        words!["0", "-1", "WITHSCORES"]
    } else {
        words![]
    };
    let members = redis.main.run(&[all, words![key], range].concat());
    let members = flat(&members);
    let pairs = if with.is_some() { 2 } else { 1 };
    let is_there = |item: &[&Value]| {
        members.chunks(pairs).any(|member| {
            let value = item.get(1).is_none_or(|value| {
                **value == *member[1]
                    || (value.number().is_some() && value.number() == member[1].number())
            });
            *member[0] == *item[0] && value
        })
    };
    let (Some(their_count), Some(count)) = (len(&theirs), len(&own)) else {
        let same = match (&theirs, &own) {
            (Value::Bulk(_), Value::Bulk(_)) => is_there(&[&own]),
            _ => theirs == own,
        };
        return finding(name, &command, theirs, own, same);
    };
    let items = flat(&own);
    let distinct: BTreeSet<String> = items
        .chunks(group)
        .map(|item| format!("{:?}", item[0]))
        .collect();
    let negative = command.get(2).is_some_and(|count| count.starts_with(b"-"));
    let same = count == their_count
        && items.chunks(group).all(is_there)
        && (negative || distinct.len() * group == items.len());
    finding(name, &command, theirs, own, same)
}

fn len(reply: &Value) -> Option<usize> {
    reply.items().map(|items| items.len())
}

/// Elements one after the other: RESP3 nests pairs where RESP2 does not.
fn flat(reply: &Value) -> Vec<&Value> {
    let items = reply.items().unwrap_or_default();
    items
        .into_iter()
        .flat_map(|item| item.items().unwrap_or_else(|| vec![item]))
        .collect()
}

fn ask(client: &mut Client, command: Words) -> Value {
    client.run(&command)
}

fn random_key(_: &mut Generator, redis: &mut Server, ours: &mut Server) -> Finding {
    let command = words!["RANDOMKEY"];
    let (theirs, own) = (redis.main.run(&command), ours.main.run(&command));
    let same = match own.bytes() {
        Some(key) => redis.main.run(&["EXISTS".as_bytes(), key]) == Value::Int(1),
        None => theirs == own,
    };
    finding("RANDOMKEY", &command, theirs, own, same)
}

/// What each of them dumps, the other one restores; that the values are the same is seen where
/// whole states are compared. Payloads may differ: Redis packs and compresses.
fn carry(g: &mut Generator, redis: &mut Server, ours: &mut Server) -> Finding {
    let [from, to] = g.two_keys();
    let dump = words!["DUMP", from];
    let (theirs, own) = (redis.main.run(&dump), ours.main.run(&dump));
    let (Some(their_payload), Some(own_payload)) = (theirs.bytes(), own.bytes()) else {
        let same = theirs == own;
        return finding("DUMP", &dump, theirs, own, same);
    };
    let ttl = g.pick(&["0", "10000000"]);
    let replace = g.maybe(0.7, |_| words!["REPLACE"]);
    let restore = |payload: &[u8]| {
        let restore = words!["RESTORE", to.clone(), ttl, payload.to_vec()];
        [restore, replace.clone()].concat()
    };
    let restored = redis.main.run(&restore(own_payload));
    let command = restore(their_payload);
    let own_restored = ours.main.run(&command);
    let same = restored == own_restored;
    finding("DUMP", &command, restored, own_restored, same)
}

/// A transaction on a watched key, which another connection may touch in between.
fn watch(g: &mut Generator, redis: &mut Server, ours: &mut Server) -> Finding {
    let key = g.exact_key(Kind::Number);
    let touched = if g.chance(0.5) {
        key.clone()
    } else {
        g.exact_key(Kind::Text)
    };
    let touch = match g.below(4) {
        0 => words!["SET", touched, "5"],
        1 => words!["DEL", touched],
        2 => words!["GET", touched],
        _ => words!["EXPIRE", touched, "10000"],
    };
    let exec = words!["EXEC"];
    let run = |server: &mut Server| {
        ask(&mut server.main, words!["WATCH", key.clone()]);
        server.other.run(&touch);
        ask(&mut server.main, words!["MULTI"]);
        ask(&mut server.main, words!["SET", key.clone(), "7"]);
        ask(&mut server.main, words!["INCR", key.clone()]);
        server.main.run(&exec)
    };
    let (theirs, own) = (run(redis), run(ours));
    let same = theirs == own;
    finding("WATCH", &touch, theirs, own, same)
}

/// After `UNWATCH` nothing is watched.
fn unwatch(g: &mut Generator, redis: &mut Server, ours: &mut Server) -> Finding {
    let key = g.exact_key(Kind::Number);
    let exec = words!["EXEC"];
    let run = |server: &mut Server| {
        ask(&mut server.main, words!["WATCH", key.clone()]);
        ask(&mut server.other, words!["SET", key.clone(), "1"]);
        ask(&mut server.main, words!["UNWATCH"]);
        ask(&mut server.main, words!["MULTI"]);
        ask(&mut server.main, words!["GET", key.clone()]);
        server.main.run(&exec)
    };
    let (theirs, own) = (run(redis), run(ours));
    let same = theirs == own;
    finding("UNWATCH", &exec, theirs, own, same)
}

/// After `DISCARD` nothing has happened, and nothing is queued.
fn discard(g: &mut Generator, redis: &mut Server, ours: &mut Server) -> Finding {
    let key = g.exact_key(Kind::Text);
    let nested = g.chance(0.3);
    let run = |server: &mut Server| {
        let mut replies = vec![ask(&mut server.main, words!["MULTI"])];
        if nested {
            replies.push(ask(&mut server.main, words!["MULTI"]));
        }
        replies.push(ask(
            &mut server.main,
            words!["APPEND", key.clone(), "discarded"],
        ));
        replies.push(ask(&mut server.main, words!["DISCARD"]));
        replies.push(ask(&mut server.main, words!["DISCARD"]));
        replies.push(ask(&mut server.main, words!["EXEC"]));
        replies.push(ask(
            &mut server.main,
            words!["GETRANGE", key.clone(), "0", "-1"],
        ));
        Value::Array(replies)
    };
    let (theirs, own) = (run(redis), run(ours));
    let same = theirs == own;
    finding("DISCARD", &words!["DISCARD"], theirs, own, same)
}

/// What is refused without room in memory, in transactions too, and what is not.
fn short_of_memory(g: &mut Generator, redis: &mut Server, ours: &mut Server) -> Finding {
    let key = g.exact_key(Kind::Text);
    let queued = g.pick(&["SET", "GET", "DEL"]);
    let run = |server: &mut Server| {
        let set = |server: &mut Server, max: &str| {
            ask(&mut server.other, words!["CONFIG", "SET", "maxmemory", max])
        };
        let mut command = words![queued, key.clone()];
        if queued == "SET" {
            command.extend(words!["v"]);
        }
        let mut replies = vec![set(server, "1")];
        for command in [
            words!["SET", key.clone(), "v"],
            words!["APPEND", key.clone(), "v"],
            words!["LPUSH", key.clone()],
            words!["STRLEN", key.clone()],
            words!["EXPIRE", key.clone(), "100"],
            words!["MULTI"],
            words!["STRLEN", key.clone()],
            words!["EXEC"],
            words!["MULTI"],
            words!["DISCARD"],
        ] {
            replies.push(ask(&mut server.main, command));
        }
        replies.push(set(server, "0"));
        replies.push(ask(&mut server.main, words!["MULTI"]));
        replies.push(ask(&mut server.main, command));
        replies.push(set(server, "1"));
        replies.push(ask(&mut server.main, words!["EXEC"]));
        replies.push(ask(&mut server.main, words!["DEL", key.clone()]));
        replies.push(set(server, "0"));
        Value::Array(replies)
    };
    let (theirs, own) = (run(redis), run(ours));
    let same = theirs == own;
    finding(
        "MULTI",
        &words!["CONFIG", "SET", "maxmemory", "1"],
        theirs,
        own,
        same,
    )
}

/// What is noted of uses, by policy.
fn uses(g: &mut Generator, redis: &mut Server, ours: &mut Server) -> Finding {
    let key = g.exact_key(Kind::Text);
    let policy = g.pick(&[
        "noeviction",
        "allkeys-lru",
        "allkeys-lfu",
        "allkeys-random",
        "volatile-lru",
        "volatile-lfu",
        "volatile-random",
        "volatile-ttl",
        "lru",
    ]);
    let wanted = g.pick(&["FREQ", "IDLETIME"]);
    let command = words!["OBJECT", wanted, key.clone()];
    let run = |server: &mut Server| {
        let commands = [
            words!["CONFIG", "SET", "maxmemory-policy", policy],
            words!["CONFIG", "GET", "maxmemory-policy"],
            words!["DEL", key.clone()],
            command.clone(),
            words!["SET", key.clone(), "v"],
            command.clone(),
            words!["TTL", key.clone()],
            words!["EXISTS", key.clone()],
            words!["TYPE", key.clone()],
            command.clone(),
            words!["GET", key.clone()],
            command.clone(),
            words!["DEL", key.clone()],
            words!["CONFIG", "SET", "maxmemory-policy", "noeviction"],
        ];
        let commands = commands.into_iter();
        Value::Array(commands.map(|c| ask(&mut server.main, c)).collect())
    };
    let (theirs, own) = (run(redis), run(ours));
    // A use is counted by chance, and a second may end between two commands.
    let alike = |pair: (&Value, &Value)| match pair {
        (Value::Int(a), Value::Int(b)) => a.abs_diff(*b) <= 1,
        (a, b) => a == b,
    };
    let same = match (&theirs, &own) {
        (Value::Array(theirs), Value::Array(own)) => {
            theirs.len() == own.len() && theirs.iter().zip(own).all(alike)
        }
        (theirs, own) => theirs == own,
    };
    let name = if wanted == "FREQ" {
        "OBJECT FREQ"
    } else {
        "OBJECT IDLETIME"
    };
    finding(name, &command, theirs, own, same)
}

/// A client that waits is served by the push that comes, or gives up when its time is over.
fn block(g: &mut Generator, redis: &mut Server, ours: &mut Server) -> Finding {
    let (key, to) = (g.exact_key(Kind::List), g.exact_key(Kind::List));
    let comes = g.chance(0.8);
    let timeout = if comes { "10" } else { "0.01" };
    let command = match g.below(4) {
        0 => words!["BRPOP", key.clone(), timeout],
        1 => words!["BLMOVE", key.clone(), to.clone(), "LEFT", "RIGHT", timeout],
        2 => words!["BLMPOP", timeout, "1", key.clone(), "RIGHT", "COUNT", "2"],
        _ => words!["BLPOP", key.clone(), to.clone(), timeout],
    };
    let run = |server: &mut Server| {
        ask(&mut server.main, words!["DEL", key.clone(), to.clone()]);
        server
            .other
            .send(&[&command])
            .expect("the connection is open");
        if comes {
            ask(&mut server.main, words!["RPUSH", key.clone(), "only"]);
        }
        let reply = server
            .other
            .receive()
            .expect("a blocked client is answered");
        let left = ask(&mut server.main, words!["LRANGE", to.clone(), "0", "-1"]);
        Value::Array(vec![reply, left])
    };
    let (theirs, own) = (run(redis), run(ours));
    let same = theirs == own;
    finding("BLPOP", &command, theirs, own, same)
}
