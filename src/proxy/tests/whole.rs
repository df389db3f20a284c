//! What is done to several shards is seen as a whole.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::{Client, node};

#[test]
fn a_transaction_is_whole_whatever_is_in_it() {
    let (_, address) = node();
    let mut a = Client::connect(address);
    a.check("MSET a 1 b 2 c 3 d 4", "+OK\r\n");
    a.check(
        "MULTI\r\nSET k 1\r\nDBSIZE\r\nFLUSHALL\r\nDBSIZE\r\nSET k 2\r\nKEYS *\r\nRANDOMKEY\r\nEXEC",
        "+OK\r\n+QUEUED\r\n+QUEUED\r\n+QUEUED\r\n+QUEUED\r\n+QUEUED\r\n+QUEUED\r\n+QUEUED\r\n\
         *7\r\n+OK\r\n:5\r\n+OK\r\n:0\r\n+OK\r\n*1\r\n$1\r\nk\r\n$1\r\nk\r\n",
    );
    // What looks at more than the shards runs after it, and its reply is in its place.
    let text = a.ask("MULTI\r\nSET k 3\r\nREGION TOKEN\r\nINFO keyspace\r\nGET k\r\nREGION WAIT 0 0\r\nMEMORY USAGE k\r\nEXEC");
    let (_, replies) = text.split_once("*6\r\n+OK\r\n$").unwrap();
    assert!(replies.contains("\r\na;"), "a token: {replies}");
    assert!(
        replies.contains("db0:keys=1,expires=0,avg_ttl=0\r\n\r\n$1\r\n3\r\n:0\r\n:"),
        "{replies}"
    );
}

/// Asks the same again and again until the test is over.
fn keep_asking(address: SocketAddr, over: &Arc<AtomicBool>, line: &str, says: &str) {
    let mut client = Client::connect(address);
    while !over.load(Ordering::Relaxed) {
        client.check(line, says);
    }
}

#[test]
fn nobody_sees_half_of_what_is_written_to_several_shards() {
    let (_, address) = node();
    let over = Arc::default();
    let mut a = Client::connect(address);
    a.check("MSET a 1 b 1 c 1 d 1 e 1", "+OK\r\n");
    let asking = std::thread::scope(|scope| {
        let writers = [
            "MULTI\r\nSET k 1\r\nFLUSHALL\r\nSET k 2\r\nEXEC",
            "MSET a 1 b 1 c 1 d 1 e 1",
        ];
        let replies = [
            "+OK\r\n+QUEUED\r\n+QUEUED\r\n+QUEUED\r\n*3\r\n+OK\r\n+OK\r\n+OK\r\n",
            "+OK\r\n",
        ];
        for (line, says) in writers.into_iter().zip(replies) {
            let over = &over;
            scope.spawn(move || keep_asking(address, over, line, says));
        }
        let mut wrong = None;
        for _ in 0..2_000 {
            let all = a.ask("EXISTS a b c d e");
            let values = a.ask("MGET e d c b a");
            let whole = [
                "*5\r\n$-1\r\n$-1\r\n$-1\r\n$-1\r\n$-1\r\n",
                "*5\r\n$1\r\n1\r\n$1\r\n1\r\n$1\r\n1\r\n$1\r\n1\r\n$1\r\n1\r\n",
            ];
            if !whole.contains(&&*values) || ![":0\r\n", ":5\r\n"].contains(&&*all) {
                wrong = Some((all, values));
                break;
            }
        }
        over.store(true, Ordering::Relaxed);
        wrong
    });
    assert_eq!(asking, None);
}

#[test]
fn a_flush_is_a_change_of_what_was_there() {
    let (_, address) = node();
    let (mut a, mut b) = (Client::connect(address), Client::connect(address));
    a.check("SET k 1", "+OK\r\n");
    for (before, flush, exec) in [
        ("WATCH k", "FLUSHALL", "*-1\r\n"),
        ("WATCH k", "FLUSHALL", "*1\r\n+PONG\r\n"),
        ("WATCH k", "SET k 2\r\nFLUSHDB", "*-1\r\n"),
        ("SET k 3\r\nWATCH k", "FLUSHALL\r\nSET k 3", "*-1\r\n"),
    ] {
        a.ask(before);
        b.ask(flush);
        a.check(
            "MULTI\r\nPING\r\nEXEC",
            &format!("+OK\r\n+QUEUED\r\n{exec}"),
        );
    }
}

#[test]
fn what_is_large_is_gone_at_once_and_freed_elsewhere() {
    let (server, address) = node();
    let mut a = Client::connect(address);
    let freed = |server: &crate::proxy::Server| -> usize {
        (0..4)
            .map(|i| server.shards.with(i, |shard| shard.take_removed().len()))
            .sum()
    };
    let fields: Vec<String> = (0..1_000).map(|n| format!("f{n} v")).collect();
    let hset = format!("HSET h {}\r\nHINCRBY h n 1", fields.join(" "));
    a.check(&hset, ":1000\r\n:1\r\n");
    a.check("DEL h\r\nEXISTS h\r\nHLEN h", ":1\r\n:0\r\n:0\r\n");
    assert_eq!(freed(&server), 1_001);
    a.check(&hset, ":1000\r\n:1\r\n");
    a.check(
        "SET h x\r\nINCR n\r\nPEXPIRE n 100000",
        "+OK\r\n:1\r\n:1\r\n",
    );
    assert_eq!(freed(&server), 1_001);
    a.check(
        "FLUSHALL\r\nDBSIZE\r\nGET n\r\nTTL n",
        "+OK\r\n:0\r\n$-1\r\n:-2\r\n",
    );
    assert_eq!(freed(&server), 3, "two keys and a deadline");
    assert_eq!(a.ask("REGION DIGEST"), "$16\r\n0000000000000000\r\n");
}
