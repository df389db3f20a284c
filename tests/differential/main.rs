//! Random commands of every family, sent to a real `redis-server` and to Meridian; the replies must
//! be the same, but for the written list `accepted.toml`.
//!
//! Both get the same pipelined batches; between batches come those commands that take several calls
//! or have random replies, and now and then the whole contents are compared. After a difference
//! both are emptied, so that one mistake is not reported a thousand times.
//!
//! `cargo test` runs a fixed seed and a fresh one, which is printed. `MERIDIAN_DIFF_SEED` runs that
//! one only, `MERIDIAN_DIFF_COMMANDS` sets how many. An odd seed speaks RESP2, an even one RESP3.
//! `MERIDIAN_DIFF_FAMILIES=hash,set` keeps to some families, `MERIDIAN_DIFF_ADDRESS=127.0.0.1:6379`
//! compares a server that runs already.
//! The long run: `MERIDIAN_DIFF_COMMANDS=1000000 cargo test --release --test differential`.

mod accepted;
mod compare;
mod counts;
mod generator;
mod procedures;
mod rows;
mod state;
mod tally;

use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::net::SocketAddr;

use accepted::Accepted;
use compare::Compare;
use generator::{Generator, Words, words};
use procedures::{Procedure, Server};
use rows::Row;
use tally::Tally;
use testing::{Client, RedisServer, SingleNode, Stopwatch, Value, say};

const COMMANDS: usize = 15_000;
const FIXED_SEED: u64 = 1;
/// From so many commands on, each must occur often, and every so many the contents are compared.
const LONG_RUN: usize = 1_000_000;
const LEAST_IN_LONG_RUN: usize = 500;
const BATCH: usize = 100;
const PROCEDURES_A_BATCH: usize = 2;
const BATCHES_A_STATE: usize = 100;
/// Both databases are emptied about so often, several times in a row.
const BATCHES_A_FLUSH: usize = 60;

/// A command to send, and how its replies are compared.
struct Item {
    name: &'static str,
    family: &'static str,
    line: Words,
    compare: Compare,
}

#[test]
fn one_region_answers_as_redis_does() {
    let Some(redis) = RedisServer::start() else {
        say("skip: redis-server is not installed, nothing to compare with");
        return;
    };
    let running = env::var("MERIDIAN_DIFF_ADDRESS").ok();
    let running = running.map(|text| text.parse().expect("MERIDIAN_DIFF_ADDRESS is an address"));
    let node = running.is_none().then(|| {
        SingleNode::start(env!("CARGO_BIN_EXE_meridian"), "")
            .unwrap_or_else(|error| panic!("the node does not start: {}", error.0))
    });
    let ours = node.as_ref().map(SingleNode::address).or(running);
    let ours = ours.expect("one of the two is there");
    let commands = number("MERIDIAN_DIFF_COMMANDS").map_or(COMMANDS, |count| count as usize);
    let seeds = match number("MERIDIAN_DIFF_SEED") {
        Some(seed) => vec![seed],
        None => vec![FIXED_SEED, fastrand::u64(..)],
    };
    for seed in seeds {
        run(&redis, ours, seed, commands);
    }
}

/// The generator says nothing that Redis itself does not answer twice in the same way.
#[test]
fn redis_answers_as_redis_does() {
    let (Some(one), Some(two)) = (RedisServer::start(), RedisServer::start()) else {
        say("skip: redis-server is not installed, nothing to compare with");
        return;
    };
    for seed in [2, 3] {
        let commands = number("MERIDIAN_DIFF_COMMANDS").map_or(COMMANDS, |count| count as usize);
        run(&one, two.address(), seed, commands);
    }
}

/// Clients route and operators limit by these flags, and what refuses writes when memory is short
/// goes by them.
#[test]
fn commands_have_the_flags_of_redis() {
    const COMPARED: &[&str] = &["write", "readonly", "denyoom", "fast", "blocking"];
    let Some(redis) = RedisServer::start() else {
        say("skip: redis-server is not installed, nothing to compare with");
        return;
    };
    let node = SingleNode::start(env!("CARGO_BIN_EXE_meridian"), "")
        .unwrap_or_else(|error| panic!("the node does not start: {}", error.0));
    let flags = |address| {
        let mut client = Client::connect(address).expect("it accepts clients");
        let reply = client.run(&["COMMAND"]);
        let rows = reply.items().expect("COMMAND answers");
        let mut all = BTreeMap::new();
        for row in rows {
            let row = row.items().expect("a row");
            let flags = row[2].items().expect("flags");
            let flags = flags.iter().map(|flag| format!("{flag:?}"));
            let flags = flags.filter(|flag| COMPARED.iter().any(|wanted| flag.contains(wanted)));
            all.insert(format!("{:?}", row[0]), flags.collect::<BTreeSet<String>>());
        }
        all
    };
    let (theirs, ours) = (flags(redis.address()), flags(node.address()));
    let mut compared = 0;
    for (name, flags) in &ours {
        // The one is a container of reads with us, and none of Redis's flags are of those.
        if let Some(wanted) = theirs.get(name).filter(|_| !name.contains("object")) {
            assert_eq!(flags, wanted, "{name}");
            compared += 1;
        }
    }
    assert!(150 < compared, "{compared} commands are in both");
}

/// Every command that Redis 7.0 has in these groups is drawn, or left out for a written reason.
#[test]
fn no_command_is_forgotten() {
    const GROUPS: &[&str] = &[
        "string",
        "hash",
        "list",
        "set",
        "sortedset",
        "bitmap",
        "keyspace",
        "transaction",
    ];
    const LEFT_OUT: &[(&str, &[&str])] = &[
        (
            "not part of Meridian",
            &["RESTORE-ASKING", "MIGRATE", "MOVE", "SWAPDB"],
        ),
        (
            "tells of the time of the last access",
            &["OBJECT IDLETIME", "OBJECT FREQ"],
        ),
        ("its text is ours", &["OBJECT HELP"]),
        ("a container of subcommands", &["OBJECT"]),
    ];
    let Some(redis) = RedisServer::start() else {
        say("skip: redis-server is not installed, nothing to compare with");
        return;
    };
    let mut client = Client::connect(redis.address()).expect("it accepts clients");
    let rows = rows::all();
    let procedures = ["MULTI", "EXEC", "FLUSHALL", "FLUSHDB"]
        .iter()
        .chain(procedures::NAMES);
    let drawn: Vec<&str> = rows
        .iter()
        .map(|row| row.name)
        .chain(procedures.copied())
        .collect();
    let left_out: Vec<&str> = LEFT_OUT
        .iter()
        .flat_map(|(_, names)| *names)
        .copied()
        .collect();
    for group in GROUPS {
        let list = client.run(&["COMMAND", "LIST", "FILTERBY", "ACLCAT", group]);
        let names = list.items().expect("COMMAND LIST answers");
        assert!(!names.is_empty(), "{group}");
        for name in names {
            let name = String::from_utf8_lossy(name.bytes().expect("a name")).to_uppercase();
            let name = name.replace('|', " ");
            let known = drawn.contains(&name.as_str()) || left_out.contains(&name.as_str());
            assert!(known, "{name} of {group} is neither drawn nor left out");
        }
    }
}

fn run(redis: &RedisServer, ours: SocketAddr, seed: u64, commands: usize) {
    let protocol = if seed.is_multiple_of(2) { "3" } else { "2" };
    say(&format!(
        "seed {seed}: {commands} commands against Redis {}, RESP{protocol}",
        redis.version()
    ));
    let started = Stopwatch::start();
    let mut redis = connect(redis.address(), protocol);
    let mut ours = connect(ours, protocol);
    let now = redis.main.run(&["TIME"]);
    let now_s = now
        .items()
        .and_then(|time| time[0].number())
        .expect("TIME answers");
    let mut generator = Generator::new(seed, now_s as i64);
    let mut accepted = Accepted::read();
    let mut tally = Tally::default();
    let families = env::var("MERIDIAN_DIFF_FAMILIES").unwrap_or_default();
    let chosen = |family: &str| families.is_empty() || families.split(',').any(|f| f == family);
    let rows: Vec<Row> = rows::all()
        .into_iter()
        .filter(|row| chosen(row.family))
        .collect();
    let procedures: Vec<(&str, Procedure)> = procedures::ALL
        .iter()
        .copied()
        .filter(|(family, _)| chosen(family))
        .collect();
    let draws = weighted(&rows);
    flush(&mut redis, &mut ours);
    let batches = commands / (BATCH + PROCEDURES_A_BATCH);
    for batch in 1..=batches {
        let items = batch_of(&mut generator, &rows, &draws, batch);
        let mut same = compare_batch(&items, &mut redis, &mut ours, &mut accepted, &mut tally);
        for _ in 0..PROCEDURES_A_BATCH.min(procedures.len()) {
            same = same
                && run_procedure(
                    &procedures,
                    &mut generator,
                    &mut redis,
                    &mut ours,
                    &mut tally,
                );
        }
        if same && (batch.is_multiple_of(BATCHES_A_STATE) || batch == batches) {
            let found = state::differences(&mut redis.main, &mut ours.main, &mut accepted);
            same = found.is_empty();
            if !same {
                tally.state_differs(&found);
            }
        }
        if !same {
            flush(&mut redis, &mut ours);
        }
        if tally.is_hopeless() {
            say("  too many differences, the rest is left out");
            break;
        }
    }
    tally.report();
    accepted
        .report()
        .iter()
        .for_each(|line| say(&format!("  {line}")));
    say(&format!("  seed {seed} took {:.1?}", started.elapsed()));
    tally.check(if LONG_RUN <= commands {
        LEAST_IN_LONG_RUN
    } else {
        0
    });
}

/// Sends a batch to both, and compares up to the first difference: what follows may be its
/// consequence. Whether there was none.
fn compare_batch(
    items: &[Item],
    redis: &mut Server,
    ours: &mut Server,
    accepted: &mut Accepted,
    tally: &mut Tally,
) -> bool {
    let lines: Vec<&Words> = items.iter().map(|item| &item.line).collect();
    redis.main.send(&lines).expect("redis takes commands");
    ours.main.send(&lines).expect("the server takes commands");
    let mut same = true;
    for item in items {
        let theirs = redis.main.receive().expect("redis answers");
        let own = ours.main.receive().unwrap_or_else(|error| {
            tally.report();
            panic!("{error} at {} {:?}", item.name, item.line)
        });
        tally.ran(item.name, item.family, theirs.error().is_none());
        if same && !item.compare.same(&theirs, &own) {
            let inner = item.compare.first_difference(&theirs, &own);
            let (name, theirs, own) = inner.unwrap_or((item.name, theirs, own));
            if !accepted.allows(name, &theirs, &own) {
                tally.differs(name, &item.line, &theirs, &own);
                same = false;
            }
        }
        tally.remember(&item.line);
    }
    same
}

fn run_procedure(
    procedures: &[(&'static str, Procedure)],
    generator: &mut Generator,
    redis: &mut Server,
    ours: &mut Server,
    tally: &mut Tally,
) -> bool {
    generator.new_tag();
    let (family, procedure) = generator.pick(procedures);
    let found = procedure(generator, redis, ours);
    tally.ran(found.name, family, found.succeeded);
    if let Some((command, theirs, own)) = &found.difference {
        tally.differs(found.name, command, theirs, own);
    }
    found.difference.is_none()
}

/// Single commands, transactions, and now and then a flush.
fn batch_of(generator: &mut Generator, rows: &[Row], draws: &[usize], batch: usize) -> Vec<Item> {
    let mut items = Vec::with_capacity(BATCH + 8);
    if batch.is_multiple_of(BATCHES_A_FLUSH) {
        for name in ["FLUSHALL", "FLUSHDB"].repeat(4) {
            let key = generator.any_key();
            items.push(item(
                "SET",
                "string",
                words!["SET", key, "gone"],
                Compare::Exact,
            ));
            let line = [
                words![name],
                generator.maybe(0.5, |g| words![g.pick(&["SYNC", "ASYNC", "sync"])]),
            ]
            .concat();
            items.push(item(name, "server", line, Compare::Exact));
        }
    }
    while items.len() < BATCH {
        generator.new_tag();
        let row = &rows[generator.pick(draws)];
        if row.blocks || generator.chance(0.01) {
            items.extend(transaction(generator, rows, draws, row));
            continue;
        }
        let mut line = row.line(generator);
        generator.spoil(&mut line);
        items.push(item(row.name, row.family, line, row.compare.clone()));
    }
    items
}

/// `MULTI`, this command and perhaps others, `EXEC`. Commands that cross slots have no place here.
fn transaction(generator: &mut Generator, rows: &[Row], draws: &[usize], first: &Row) -> Vec<Item> {
    const ANYWHERE: &[&str] = &[
        "MGET",
        "DEL",
        "UNLINK",
        "EXISTS",
        "TOUCH",
        "KEYS",
        "DBSIZE",
        "NOSUCHCOMMAND",
    ];
    let mut queued = vec![first];
    for _ in 0..generator.below(3) {
        queued.push(&rows[generator.pick(draws)]);
    }
    queued.retain(|row| !ANYWHERE.contains(&row.name));
    let mut items = vec![item(
        "MULTI",
        "transactions",
        words!["MULTI"],
        Compare::Exact,
    )];
    let mut inner = Vec::new();
    for row in queued {
        let line = row.line(generator);
        items.push(item(row.name, "transactions", line, Compare::Exact));
        inner.push((row.name, row.compare.clone()));
    }
    items.push(item(
        "EXEC",
        "transactions",
        words!["EXEC"],
        Compare::Transaction(inner),
    ));
    items
}

fn item(name: &'static str, family: &'static str, line: Words, compare: Compare) -> Item {
    Item {
        name,
        family,
        line,
        compare,
    }
}

/// Indices of the rows, each as often as it weighs.
fn weighted(rows: &[Row]) -> Vec<usize> {
    rows.iter()
        .enumerate()
        .flat_map(|(at, row)| std::iter::repeat_n(at, row.weight))
        .collect()
}

fn connect(address: SocketAddr, protocol: &str) -> Server {
    let mut connections = [(); 2].map(|()| Client::connect(address).expect("it accepts clients"));
    for client in &mut connections {
        let hello = client.run(&["HELLO", protocol]);
        assert!(hello.error().is_none(), "{hello:?}");
    }
    let [main, other] = connections;
    Server { main, other }
}

fn flush(redis: &mut Server, ours: &mut Server) {
    for server in [redis, ours] {
        let reply = server.main.run(&["FLUSHALL"]);
        assert_eq!(reply, Value::Simple(b"OK".to_vec()), "FLUSHALL");
    }
}

fn number(variable: &str) -> Option<u64> {
    let text = env::var(variable).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{variable}={text} is not a number")),
    )
}
