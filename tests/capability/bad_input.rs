//! Bad input gets an error or a closed connection, and disturbs nobody else.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use rustix::process::{Resource, getrlimit, setrlimit};
use testing::{Client, Stopwatch, Value, wait_until};

use crate::Node;

/// Sends bytes and returns all that comes until the server closes.
#[track_caller]
fn answer_before_closing(node: &Node, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(node.address()).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(10)))
        .unwrap();
    stream.write_all(bytes).unwrap();
    let mut answer = Vec::new();
    stream
        .read_to_end(&mut answer)
        .expect("the server closes the connection");
    String::from_utf8(answer).unwrap()
}

#[test]
fn what_is_not_the_protocol_is_answered_and_closed() {
    let node = Node::start();
    let mut other = node.raw();
    for (bytes, error) in [
        (&b"*1\r\n:5\r\n"[..], "expected '$', got ':'"),
        (b"*x\r\n", "invalid multibulk length"),
        (b"*2147483648\r\n", "invalid multibulk length"),
        (b"*1\r\n$-5\r\n", "invalid bulk length"),
        (b"*1\r\n$x\r\n", "invalid bulk length"),
        (b"*1\r\n$536870913\r\n", "invalid bulk length"),
    ] {
        let answer = answer_before_closing(&node, bytes);
        assert!(answer.starts_with("-ERR Protocol error"), "{answer}");
        assert!(
            answer.contains(error),
            "{answer} to {}",
            bytes.escape_ascii()
        );
        assert_eq!(other.run(&["PING"]), Value::Simple(b"PONG".to_vec()));
    }
}

/// As many open files as the system lets us have. Returns how many.
fn raise_file_limit() -> usize {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).expect("a process may use its own maximum");
    limit.maximum.map_or(usize::MAX, |files| files as usize)
}

fn memory_used(redis: &mut Client) -> u64 {
    let info = redis.run(&["INFO", "memory"]);
    let text = String::from_utf8_lossy(info.bytes().expect("INFO is text")).into_owned();
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("used_memory:"));
    line.and_then(|number| number.parse().ok())
        .expect("a number of bytes")
}

/// With the 10,000 that `maxclients` allows, the last of them and one more.
#[test]
fn ten_thousand_who_say_nothing_or_half_a_command_disturb_nobody() {
    const CLIENTS_MAX: usize = 10_000;
    const BYTES_EACH: u64 = 8 * 1024;
    const OURS: usize = 2;
    // Some files are open for other reasons, in this process for other tests, too.
    let count = CLIENTS_MAX.min(raise_file_limit().saturating_sub(1_000)) - OURS;
    let node = Node::start();
    let (mut redis, mut other) = (node.raw(), node.raw());
    // The connection by which the start was noticed may not have ended yet.
    let is_alone = || {
        let info = other.run(&["INFO", "clients"]);
        let text = String::from_utf8_lossy(info.bytes().unwrap_or_default()).into_owned();
        text.contains("connected_clients:2\r\n")
    };
    assert!(wait_until(Duration::from_secs(10), is_alone));
    let before = memory_used(&mut redis);
    let mut open = Vec::new();
    for number in 0..count {
        let mut stream = TcpStream::connect(node.address()).expect("one more is taken");
        if number % 2 == 0 {
            stream
                .write_all(b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$100\r\nhalf")
                .expect("half a command is taken");
        }
        open.push(stream);
    }
    let slowest = (0..1_000_i64)
        .map(|number| {
            let start = Stopwatch::start();
            assert_eq!(redis.run(&["INCR", "n"]), Value::Int(number + 1));
            start.elapsed()
        })
        .max();
    assert!(
        slowest < Some(Duration::from_secs(1)),
        "one waited {slowest:?}"
    );
    assert_eq!(redis.run(&["EXISTS", "k"]), Value::Int(0));
    let each = memory_used(&mut redis).saturating_sub(before) / count as u64;
    assert!(each < BYTES_EACH, "{each} bytes a connection");
    if count + OURS == CLIENTS_MAX {
        let refused = answer_before_closing(&node, b"");
        assert_eq!(refused, "-ERR max number of clients reached\r\n");
    } else {
        testing::say(&format!(
            "only {count} connections: the limit of open files"
        ));
    }
    // They leave, and there is room again.
    open.truncate(count / 2);
    assert!(wait_until(Duration::from_secs(30), || {
        Client::connect(node.address())
            .is_ok_and(|mut one| one.run(&["PING"]) == Value::Simple(b"PONG".to_vec()))
    }));
    // The other half of a command is still taken.
    let mut first = open.swap_remove(0);
    first.write_all(&[b'x'; 96]).unwrap();
    first.write_all(b"\r\n").unwrap();
    let mut reply = [0; 5];
    first.read_exact(&mut reply).unwrap();
    assert_eq!(&reply, b"+OK\r\n");
}

#[test]
fn a_large_value_is_taken_whole() {
    let node = Node::start();
    let mut redis = node.raw();
    let value = vec![b'x'; 20 * 1024 * 1024];
    assert_eq!(
        redis.run(&[&b"SET"[..], b"large", &value]),
        Value::Simple(b"OK".to_vec())
    );
    assert_eq!(
        redis.run(&["STRLEN", "large"]),
        Value::Int(value.len() as i64)
    );
    assert_eq!(redis.run(&["GET", "large"]).bytes(), Some(&value[..]));
}
