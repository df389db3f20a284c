//! What each reply looks like to both kinds of client.

#![expect(
    clippy::redundant_closure_for_method_calls,
    reason = "a method of `Reply<'_>` is not one function of every lifetime"
)]

use super::*;

/// What `write` writes for a client of `protocol`.
fn written(protocol: Protocol, write: impl Fn(&mut Reply<'_>)) -> String {
    let mut out = Vec::new();
    write(&mut Reply::new(&mut out, protocol));
    String::from_utf8(out).unwrap()
}

#[track_caller]
fn check(write: impl Fn(&mut Reply<'_>), resp2: &str, resp3: &str) {
    assert_eq!(written(Protocol::Resp2, &write), resp2);
    assert_eq!(written(Protocol::Resp3, &write), resp3);
}

#[test]
fn types_of_resp2_are_the_same_for_all() {
    let same = |write: fn(&mut Reply<'_>), text| check(write, text, text);
    same(|reply| reply.ok(), "+OK\r\n");
    same(|reply| reply.simple("QUEUED"), "+QUEUED\r\n");
    same(|reply| reply.int(-12), ":-12\r\n");
    same(|reply| reply.count(100), ":100\r\n");
    same(|reply| reply.bulk(b"a\r\nb"), "$4\r\na\r\nb\r\n");
    same(|reply| reply.bulk_text(""), "$0\r\n\r\n");
    same(|reply| reply.bulk_int(-1), "$2\r\n-1\r\n");
    same(|reply| reply.array(2), "*2\r\n");
    same(|reply| reply.raw(b":1\r\n"), ":1\r\n");
    same(
        |reply| reply.error(&CommandError::Syntax),
        "-ERR syntax error\r\n",
    );
}

#[test]
fn types_of_resp3_come_down() {
    check(|reply| reply.null(), "$-1\r\n", "_\r\n");
    check(|reply| reply.null_array(), "*-1\r\n", "_\r\n");
    check(|reply| reply.bulk_or_null(None), "$-1\r\n", "_\r\n");
    check(
        |reply| reply.bulk_or_null(Some(b"x")),
        "$1\r\nx\r\n",
        "$1\r\nx\r\n",
    );
    check(|reply| reply.double(3.1), "$3\r\n3.1\r\n", ",3.1\r\n");
    check(|reply| reply.boolean(true), ":1\r\n", "#t\r\n");
    check(|reply| reply.boolean(false), ":0\r\n", "#f\r\n");
    check(|reply| reply.big_number("12"), "$2\r\n12\r\n", "(12\r\n");
    check(
        |reply| reply.verbatim("hi"),
        "$2\r\nhi\r\n",
        "=6\r\ntxt:hi\r\n",
    );
    check(|reply| reply.map(3), "*6\r\n", "%3\r\n");
    check(|reply| reply.set(3), "*3\r\n", "~3\r\n");
    check(|reply| reply.push(3), "*3\r\n", ">3\r\n");
}

#[test]
fn an_error_cannot_end_its_line() {
    let error = CommandError::line("ERR a\r\n+OK".to_owned());
    let text = "-ERR a  +OK\r\n";
    check(|reply| reply.error(&error), text, text);
}

#[test]
fn a_length_can_come_after_its_elements() {
    let write = |reply: &mut Reply<'_>| {
        reply.int(7);
        let outer = reply.array_deferred();
        reply.int(1);
        let inner = reply.map_deferred();
        reply.bulk(b"k");
        reply.int(2);
        reply.set_len(inner, 1);
        let empty = reply.set_deferred();
        reply.set_len(empty, 0);
        reply.set_len(outer, 3);
        reply.int(8);
    };
    check(
        write,
        ":7\r\n*3\r\n:1\r\n*2\r\n$1\r\nk\r\n:2\r\n*0\r\n:8\r\n",
        ":7\r\n*3\r\n:1\r\n%1\r\n$1\r\nk\r\n:2\r\n~0\r\n:8\r\n",
    );
}

#[test]
fn a_failed_handler_leaves_only_its_error() {
    let write = |reply: &mut Reply<'_>| {
        reply.int(7);
        let mark = reply.mark();
        assert!(!reply.has_written_since(mark));
        reply.array(3);
        reply.int(1);
        assert!(reply.has_written_since(mark));
        reply.rollback(mark);
        reply.error(&CommandError::WrongType);
    };
    let text = ":7\r\n-WRONGTYPE Operation against a key holding the wrong kind of value\r\n";
    check(write, text, text);
}

#[test]
fn hello_changes_what_follows() {
    let write = |reply: &mut Reply<'_>| {
        reply.set_protocol(Protocol::Resp3);
        assert_eq!(reply.protocol().number(), 3);
        reply.null();
    };
    check(write, "_\r\n", "_\r\n");
}
