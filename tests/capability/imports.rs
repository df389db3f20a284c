//! Moving from Redis: files, and values one by one.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use testing::{Client, RedisServer, Value, say, wait_until};

use crate::{BINARY, Node, Regions};

/// What the format's own tests have: a file of a real server, and what that said is in it.
fn fixture(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/rdb/fixtures");
    folder.join(name)
}

fn import(file: &Path, address: &str, more: &[&str]) -> Output {
    let mut command = Command::new(BINARY);
    command.args(["admin", "import"]).arg(file);
    command.args(["--address", address]).args(more);
    command.output().expect("the binary runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[track_caller]
fn check_refused(output: &Output, wanted: &str) {
    let error = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(
        error.contains(wanted) && error.lines().count() == 1,
        "{error}"
    );
}

#[test]
fn a_file_of_redis_is_imported() {
    let node = Node::start();
    let mut client = node.raw();
    let address = node.address().to_string();
    let file = fixture("redis-7.0-packed.rdb");
    check_refused(&import(&file, &address, &[]), "has keys in databases 0, 3");
    check_refused(
        &import(&file, &address, &["--db", "1"]),
        "no keys in database 1",
    );
    assert_eq!(client.run(&["DBSIZE"]), Value::Int(0));
    let output = import(&file, &address, &["--db", "0"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let wanted = "imported 28 keys: 3 hash, 2 list, 4 set, 18 string, 1 zset\n\
         left out 1 in other databases\n\
         left out 1 stream: no type of ours\n\
         left out 1 libraries of functions\n";
    assert_eq!(text(&output.stdout), wanted);
    assert!(
        text(&output.stderr).contains("x:stream"),
        "{}",
        text(&output.stderr)
    );
    assert_eq!(client.run(&["DBSIZE"]), Value::Int(28));
    assert_eq!(
        client.run(&["PEXPIRETIME", "d:hash"]),
        Value::Int(4_102_444_800_124)
    );
    assert_eq!(client.run(&["STRLEN", "s:lzf"]), Value::Int(900));
    assert_eq!(client.run(&["LLEN", "l:small"]), Value::Int(31));
    // What is there stays, unless it is to be replaced.
    client.run(&["SET", "s:text", "changed"]);
    let again = text(&import(&file, &address, &["--db", "0"]).stdout);
    assert!(
        again.starts_with("imported 0 keys\nleft out 28 there already"),
        "{again}"
    );
    assert_eq!(
        client.run(&["GET", "s:text"]).bytes(),
        Some(&b"changed"[..])
    );
    let again = text(&import(&file, &address, &["--db", "0", "--replace"]).stdout);
    assert!(again.starts_with("imported 28 keys"), "{again}");
    assert_eq!(client.run(&["GET", "s:text"]).bytes(), Some(&b"hello"[..]));
}

#[test]
fn a_file_that_is_damaged_changes_nothing() {
    let node = Node::start();
    let address = node.address().to_string();
    let folder = tempfile::tempdir().expect("there is room");
    let file = folder.path().join("damaged.rdb");
    let mut bytes = fs::read(fixture("redis-6.2.rdb")).expect("the fixture is there");
    let last = bytes.len() - 20;
    bytes[last] ^= 1;
    fs::write(&file, &bytes).expect("there is room");
    let checked = import(&file, &address, &[]);
    check_refused(&checked, "damaged.rdb: byte ");
    bytes.truncate(100);
    fs::write(&file, &bytes).expect("there is room");
    check_refused(
        &import(&file, &address, &[]),
        "damaged.rdb: byte 100: ends too early",
    );
    check_refused(
        &import(&folder.path().join("none"), &address, &[]),
        "none: ",
    );
    assert_eq!(node.raw().run(&["DBSIZE"]), Value::Int(0));
}

/// Every kind of value in sizes that Redis keeps in different ways, with deadlines.
fn fill(client: &mut Client) {
    for size in [1_usize, 20, 700] {
        let key = |kind: &str| format!("{kind}:{size}");
        let value = |n: usize| format!("{n}:{}", "x".repeat(n % 100));
        let mut commands = vec![
            vec!["SET".into(), key("string"), "ab".repeat(size * 40)],
            vec!["SET".into(), key("number"), (size * 7_000).to_string()],
        ];
        for (command, kind) in [
            ("RPUSH", "list"),
            ("SADD", "set"),
            ("HSET", "hash"),
            ("ZADD", "zset"),
        ] {
            let mut words = vec![command.to_owned(), key(kind)];
            for n in 0..size {
                words.extend((kind == "zset").then(|| format!("{}.5", n * 3)));
                words.push(value(n));
                words.extend((kind == "hash").then(|| value(n * 2)));
            }
            commands.push(words);
        }
        let integers = (0..size).map(|n| (n * n).to_string());
        let head = ["SADD".to_owned(), key("ints")].into_iter();
        commands.push(head.chain(integers).collect());
        commands.push(vec![
            "PEXPIREAT".into(),
            key("hash"),
            "4102444800123".into(),
        ]);
        for command in commands {
            assert_eq!(client.run(&command).error(), None, "{}", command[1]);
        }
    }
}

/// All keys with what they hold, in an order of their own.
fn content(client: &mut Client) -> Vec<String> {
    let keys = client.run(&["KEYS", "*"]);
    let keys = keys.items().expect("an array");
    let mut all = Vec::new();
    for key in keys {
        let key = text(key.bytes().expect("a key"));
        let key = key.as_str();
        let kind = format!("{:?}", client.run(&["TYPE", key]));
        let ends = format!("{:?}", client.run(&["PEXPIRETIME", key]));
        let value = match key.split(':').next().expect("a kind") {
            "string" | "number" => client.run(&["GET", key]),
            "list" => client.run(&["LRANGE", key, "0", "-1"]),
            "zset" => client.run(&["ZRANGE", key, "0", "-1", "WITHSCORES"]),
            "hash" => client.run(&["HGETALL", key]),
            _ => client.run(&["SMEMBERS", key]),
        };
        let ordered = key.starts_with("list") || key.starts_with("zset");
        let mut value: Vec<String> = match value.items() {
            Some(items) => items.iter().map(|item| format!("{item:?}")).collect(),
            None => vec![format!("{value:?}")],
        };
        if !ordered {
            value.sort();
        }
        all.push(format!("{key} {kind} {ends} {}", value.join(" ")));
    }
    all.sort();
    all
}

fn carry(from: &mut Client, to: &mut Client) {
    let keys = from.run(&["KEYS", "*"]);
    for key in keys.items().expect("an array") {
        let key = key.bytes().expect("a key");
        let ends = from
            .run(&[b"PEXPIRETIME", key])
            .int()
            .expect("a time")
            .max(0);
        let dumped = from.run(&[b"DUMP", key]);
        let dumped = dumped.bytes().expect("a payload");
        let ends = ends.to_string();
        let restore = [b"RESTORE", key, ends.as_bytes(), dumped, b"ABSTTL"];
        let reply = to.run(&restore);
        assert_eq!(reply, Value::Simple(b"OK".to_vec()), "{}", text(key));
    }
}

#[test]
fn values_go_to_redis_and_back() {
    let Some(redis) = RedisServer::start() else {
        say("skip: redis-server is not installed, nothing to exchange values with");
        return;
    };
    let (node, back) = (Node::start(), Node::start());
    let mut redis = Client::connect(redis.address()).expect("it accepts clients");
    let (mut ours, mut back) = (node.raw(), back.raw());
    fill(&mut ours);
    let wanted = content(&mut ours);
    assert_eq!(wanted.len(), 21);
    carry(&mut ours, &mut redis);
    assert_eq!(content(&mut redis), wanted);
    carry(&mut redis, &mut back);
    assert_eq!(content(&mut back), wanted);
}

/// What is imported in one region is there in the others, large values too, which come in pieces.
#[test]
fn what_is_imported_reaches_other_regions() {
    let folder = tempfile::tempdir().expect("there is room");
    let path = folder.path().to_str().expect("a path of text");
    let options = ["--dir", path, "--rdbcompression", "no"];
    let Some(redis) = RedisServer::start_with(&options) else {
        say("skip: redis-server is not installed, nothing writes a file");
        return;
    };
    let mut client = Client::connect(redis.address()).expect("it accepts clients");
    fill(&mut client);
    for first in (0..40_000).step_by(1_000) {
        for (command, key) in [("SADD", "large:set"), ("RPUSH", "list:large")] {
            let mut words = vec![command.to_owned(), key.to_owned()];
            words.extend((first..first + 1_000).map(|n| format!("{n} {}", "y".repeat(40))));
            assert_eq!(client.run(&words).error(), None);
        }
    }
    client.run(&["PEXPIREAT", "large:set", "4102444800123"]);
    assert_eq!(client.run(&["SAVE"]), Value::Simple(b"OK".to_vec()));
    let wanted = content(&mut client);
    let regions = Regions::start(2);
    let address = regions.0.address(1).to_string();
    let output = import(&folder.path().join("dump.rdb"), &address, &[]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(
        text(&output.stdout).starts_with("imported 23 keys: "),
        "{}",
        text(&output.stdout)
    );
    for region in [1, 2] {
        let mut client = Client::connect(regions.0.address(region)).expect("it accepts clients");
        let arrived = wait_until(Duration::from_secs(30), || content(&mut client) == wanted);
        assert!(arrived, "region {region}");
    }
}
