//! What `INFO` counts, command by command: keys that were found and that were missed, errors, and
//! how often commands ran, failed and were rejected.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use testing::{Client, RedisServer, SingleNode, say};

/// What is there at first.
const BEFORE: &[&str] = &[
    "SET s v",
    "SET n 5",
    "RPUSH l a b c",
    "SADD st a b c",
    "SADD st2 b c d",
    "ZADD z 1 a 2 b",
    "HSET h f v g w",
];

const COMMANDS: &[&str] = &[
    // Reads of keys that are there, that are not, and of another type.
    "GET s",
    "GET no",
    "GET l",
    "MGET s no s s n",
    "EXISTS s s no",
    "TOUCH s no",
    "STRLEN s",
    "GETRANGE s 0 -1",
    "SUBSTR no 0 1",
    "GETBIT s 1",
    "BITCOUNT s",
    "BITPOS no 1",
    "LCS s n",
    "TTL s",
    "TTL no",
    "PTTL n",
    "EXPIRETIME n",
    "TYPE s",
    "TYPE no",
    "DUMP s",
    "DUMP no",
    "OBJECT ENCODING s",
    "MEMORY USAGE s",
    "LLEN l",
    "LLEN no",
    "LRANGE l 0 -1",
    "LINDEX l 0",
    "LPOS l a",
    "SCARD st",
    "SMEMBERS st",
    "SISMEMBER st a",
    "SMISMEMBER st a b",
    "SSCAN st 0",
    "SRANDMEMBER st",
    "SRANDMEMBER no 3",
    "SINTER st st2",
    "SINTER no st",
    "SUNION st no",
    "SDIFF st st2",
    "SINTERCARD 2 st st2",
    "ZCARD z",
    "ZSCORE z a",
    "ZSCORE no a",
    "ZRANGE z 0 -1",
    "ZRANGEBYSCORE z 0 5",
    "ZCOUNT z 0 5",
    "ZRANK z a",
    "ZMSCORE z a b",
    "ZRANDMEMBER z",
    "ZINTER 2 z st",
    "ZUNION 2 z no",
    "ZDIFF 2 z st",
    "ZSCAN z 0",
    "ZLEXCOUNT z - +",
    "HGET h f",
    "HGET no f",
    "HGET s f",
    "HGETALL h",
    "HMGET h f g",
    "HLEN h",
    "HKEYS h",
    "HVALS h",
    "HEXISTS h f",
    "HSTRLEN h f",
    "HRANDFIELD h",
    "HSCAN h 0",
    "SORT_RO l ALPHA",
    "BITFIELD_RO s GET u8 0",
    "SCAN 0",
    "KEYS *",
    "RANDOMKEY",
    "DBSIZE",
    // Writes that read, too; but `COPY`, and what `SET` and `BITFIELD` read, do not count with us.
    "GETSET s v2",
    "GETSET no2 x",
    "GETEX s",
    "GETEX no",
    "GETDEL no",
    "GETDEL no2",
    "SINTERSTORE d st st2",
    "SUNIONSTORE d st no",
    "ZUNIONSTORE d 2 z no",
    "ZRANGESTORE d z 0 -1",
    "SORT l ALPHA",
    "SORT no",
    "SORT l ALPHA STORE d",
    "BITOP AND d s no",
    // Writes.
    "SET s v3",
    "SETNX s x",
    "SETNX s3 x",
    "APPEND s q",
    "INCR n",
    "SETRANGE s 0 a",
    "SET s a XX",
    "SET s a NX",
    "LPUSH l x",
    "LPUSHX no y",
    "LPOP l",
    "LPOP no",
    "RPOPLPUSH l l",
    "LMOVE l l LEFT RIGHT",
    "LSET l 0 a",
    "LREM l 0 zz",
    "LTRIM l 0 10",
    "LINSERT l BEFORE b q",
    "SADD st q",
    "SREM st q",
    "SMOVE st st2 a",
    "ZADD z 3 c",
    "ZINCRBY z 1 a",
    "ZREM z c",
    "ZPOPMIN z",
    "HSET h f 1",
    "HDEL h g",
    "HINCRBY h f 1",
    "HSETNX h f 2",
    "EXPIRE s 100",
    "PERSIST s",
    "RENAME s s4",
    "RENAMENX s4 s",
    "DEL s5",
    "UNLINK no",
    "BLPOP l 1",
    "LMPOP 1 l LEFT",
    "ZMPOP 1 z MIN",
    "WATCH s",
    "UNWATCH",
    // Errors.
    "GET",
    "NOSUCH a",
    "SET s v BADOPT",
    "LPUSH s x",
    "INCR l",
    "EXEC",
    "DISCARD",
    // Transactions.
    "MULTI",
    "GET s",
    "GET no",
    "LPUSH n x",
    "EXEC",
    "MULTI",
    "GET s",
    "GET",
    "EXEC",
];

/// What those that run count, with the name and what it adds.
fn counts(client: &mut Client) -> Vec<(String, i64)> {
    let stats = section(client, "stats");
    let wanted = ["keyspace_hits", "keyspace_misses", "total_error_replies"];
    let counts = wanted.map(|name| {
        let count = stats.get(name).and_then(|text| text.parse().ok());
        (
            name.to_owned(),
            count.unwrap_or_else(|| panic!("{name} in {stats:?}")),
        )
    });
    counts.into()
}

/// The lines of a section of `INFO`.
fn section(client: &mut Client, name: &str) -> BTreeMap<String, String> {
    let reply = client.run(&["INFO", name]);
    let text = String::from_utf8_lossy(reply.bytes().expect("INFO is text")).into_owned();
    let lines = text.lines().filter_map(|line| line.split_once(':'));
    lines
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

/// Of each command but `INFO` and such with subcommands: calls, rejected and failed.
fn calls(client: &mut Client) -> BTreeMap<String, Vec<String>> {
    const APART: &[&str] = &["info", "config", "client", "object", "memory", "hello"];
    let stats = section(client, "commandstats");
    let of_one = |(name, figures): (String, String)| {
        let name = name.trim_start_matches("cmdstat_").to_owned();
        let is_apart = APART.iter().any(|apart| name.starts_with(apart));
        let wanted = |figure: &&str| !figure.starts_with("usec");
        let figures = figures.split(',').filter(wanted).map(str::to_owned);
        (!is_apart).then(|| (name, figures.collect()))
    };
    stats.into_iter().filter_map(of_one).collect()
}

#[test]
fn info_counts_as_redis_does() {
    let Some(redis) = RedisServer::start() else {
        say("skip: redis-server is not installed, nothing to compare with");
        return;
    };
    let node = SingleNode::start(
        env!("CARGO_BIN_EXE_meridian"),
        "policy = \"non-clustered\"\n",
    )
    .unwrap_or_else(|error| panic!("the node does not start: {}", error.0));
    let mut clients = [redis.address(), node.address()]
        .map(|address| Client::connect(address).expect("it accepts clients"));
    for client in &mut clients {
        for line in BEFORE {
            client.run(&line.split(' ').collect::<Vec<_>>());
        }
        client.run(&["CONFIG", "RESETSTAT"]);
        assert!(counts(client).iter().all(|(_, count)| *count == 0));
    }
    let mut differences = String::new();
    let mut in_transaction = false;
    let mut before = [vec![0; 3], vec![0; 3]];
    for line in COMMANDS {
        let words: Vec<&str> = line.split(' ').collect();
        in_transaction = (in_transaction || words[0] == "MULTI") && words[0] != "EXEC";
        let mut added = Vec::new();
        for (client, before) in clients.iter_mut().zip(&mut before) {
            client.run(&words);
            if in_transaction {
                continue; // `INFO` would be queued.
            }
            let now = counts(client);
            let pairs = now.iter().zip(&mut *before);
            added.push(
                pairs
                    .map(|((_, now), before)| now - *before)
                    .collect::<Vec<_>>(),
            );
            *before = now.into_iter().map(|(_, count)| count).collect();
        }
        if added.first() != added.last() {
            let _ = writeln!(differences, "{line}: Redis and we add {added:?}");
        }
    }
    let [theirs, ours] = &mut clients;
    assert_eq!(calls(ours), calls(theirs), "{differences}");
    assert_eq!(section(ours, "errorstats"), section(theirs, "errorstats"));
    assert_eq!(differences, "", "hits, misses and errors");
}
