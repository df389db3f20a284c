//! Commands that wait, in the middle of others.

use super::{Client, Server, node, wait_until};
use crate::clock;

/// Until a client waits.
fn wait_for_one(server: &Server) {
    let waiting = |shard| server.shards.lock(shard).waiting();
    wait_until(|| (0..server.shards.count()).map(waiting).sum::<usize>() == 1);
}

/// A batch ends with a command that waits; what comes after it is of the time after it.
#[test]
fn time_has_passed_when_a_command_has_waited() {
    let (server, address) = node();
    let (mut a, mut b) = (Client::connect(address), Client::connect(address));
    let before = ["PING"; crate::limits::REQUESTS_AHEAD - 1].join("\r\n");
    a.send(&format!("{before}\r\nBLPOP q 0\r\nSET k v PX 100000"));
    wait_for_one(&server);
    let begun_ms = clock::now_ms();
    wait_until(|| begun_ms + 100 < clock::now_ms());
    let pushed_ms = clock::now_ms();
    b.check("RPUSH q v", ":1\r\n");
    a.until("+OK\r\n");
    let ends = b.ask("PEXPIRETIME k");
    let ends_ms: u64 = ends.trim().trim_start_matches(':').parse().unwrap();
    assert!(pushed_ms + 100_000 <= ends_ms, "{pushed_ms} {ends_ms}");
}

#[test]
fn a_client_that_wants_no_replies_gets_none_for_what_waited() {
    let (server, address) = node();
    let mut a = Client::connect(address);
    a.check(
        "CLIENT REPLY OFF\r\nBLPOP q 0.01\r\nCLIENT REPLY ON",
        "+OK\r\n",
    );
    a.check("CLIENT REPLY SKIP\r\nBLPOP q 0.01\r\nECHO a", "$1\r\na\r\n");
    a.check(
        "CLIENT REPLY OFF\r\nREGION WAIT 1 10\r\nCLIENT REPLY ON\r\nECHO a",
        "+OK\r\n$1\r\na\r\n",
    );
    let mut b = Client::connect(address);
    a.send("CLIENT REPLY SKIP\r\nBLPOP q 0\r\nECHO a");
    wait_for_one(&server);
    b.check("RPUSH q v", ":1\r\n");
    assert_eq!(a.until("a\r\n"), "$1\r\na\r\n");
}

/// What a client gets that waits while another one does something.
#[track_caller]
fn check_meanwhile(waits: &str, meanwhile: &str, expected: &str) {
    let (server, address) = node();
    let (mut a, mut b) = (Client::connect(address), Client::connect(address));
    a.send(waits);
    wait_for_one(&server);
    b.ask(meanwhile);
    assert_eq!(a.until(expected), expected, "{waits} while {meanwhile}");
}

#[test]
fn a_key_of_another_type_does_not_hide_the_others_that_are_waited_for() {
    let push = "SET {q}1 x\r\nRPUSH {q}2 v";
    let taken = "*2\r\n$4\r\n{q}2\r\n$1\r\nv\r\n";
    check_meanwhile("BLPOP {q}1 {q}2 0", push, taken);
    check_meanwhile("BRPOP {q}1 {q}2 {q}1 0", push, taken);
    let one = "*2\r\n$4\r\n{q}2\r\n*1\r\n$1\r\nv\r\n";
    check_meanwhile("BLMPOP 0 2 {q}1 {q}2 LEFT COUNT 2", push, one);
    let add = "SET {q}1 x\r\nZADD {q}2 1 v";
    let taken = "*3\r\n$4\r\n{q}2\r\n$1\r\nv\r\n$1\r\n1\r\n";
    check_meanwhile("BZPOPMIN {q}1 {q}2 0", add, taken);
    let one = "*2\r\n$4\r\n{q}2\r\n*1\r\n*2\r\n$1\r\nv\r\n$1\r\n1\r\n";
    check_meanwhile("BZMPOP 0 2 {q}1 {q}2 MAX", add, one);
}

#[test]
fn the_key_that_was_pushed_to_first_is_taken_from() {
    let both = "MULTI\r\nRPUSH {q}2 v\r\nRPUSH {q}1 u\r\nEXEC";
    let taken = "*2\r\n$4\r\n{q}2\r\n$1\r\nv\r\n";
    check_meanwhile("BLPOP {q}1 {q}2 0", both, taken);
}

#[test]
fn who_waits_to_move_an_element_is_told_that_it_cannot_go_there() {
    let refused = "-WRONGTYPE Operation against a key holding the wrong kind of value\r\n";
    let push = "SET {q}2 x\r\nRPUSH {q}1 v";
    check_meanwhile("BLMOVE {q}1 {q}2 LEFT LEFT 0", push, refused);
    check_meanwhile("BRPOPLPUSH {q}1 {q}2 0", push, refused);
    // What is waited for is not there yet.
    let later = "SET {q}1 x\r\nDEL {q}1\r\nRPUSH {q}1 v";
    check_meanwhile("BLMOVE {q}1 {q}2 LEFT LEFT 0", later, "$1\r\nv\r\n");
}
