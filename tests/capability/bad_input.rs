//! Bad input gets an error or a closed connection, and disturbs nobody else.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use testing::Value;

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

#[test]
fn many_who_say_nothing_or_half_a_command_disturb_nobody() {
    // The test's own limit of open files is often 1,024.
    const SILENT: usize = 400;
    let node = Node::start();
    let mut open = Vec::new();
    for number in 0..SILENT {
        let mut stream = TcpStream::connect(node.address()).unwrap();
        if number % 2 == 0 {
            stream
                .write_all(b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$100\r\nhalf")
                .unwrap();
        }
        open.push(stream);
    }
    let mut redis = node.raw();
    for number in 0..200_i64 {
        assert_eq!(redis.run(&["INCR", "n"]), Value::Int(number + 1));
    }
    assert_eq!(redis.run(&["EXISTS", "k"]), Value::Int(0));
    assert_eq!(open.len(), SILENT);
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
