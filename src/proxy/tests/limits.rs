//! What a client may send without an end, and leave unread.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crdt::{Deadline, Epoch, Origin, Region};

use super::{Client, node, serve, wait_until};
use crate::proxy::{RoomSettings, Server, Space};
use crate::shard::{Eviction, Shard};

/// A value that fills the buffers of a socket many times over when read a hundred times.
fn large(client: &mut Client) {
    let value = "x".repeat(1 << 20);
    client
        .stream
        .write_all(
            format!(
                "*3\r\n$3\r\nSET\r\n$1\r\nv\r\n${}\r\n{value}\r\n",
                value.len()
            )
            .as_bytes(),
        )
        .unwrap();
    client.check("STRLEN v", "+OK\r\n:1048576\r\n");
}

#[test]
fn a_client_that_does_not_read_waits_and_holds_nothing() {
    let (server, address) = node();
    let (mut a, mut b) = (Client::connect(address), Client::connect(address));
    large(&mut b);
    a.send(&["GET v"; 100].join("\r\n"));
    a.stream.peek(&mut [0]).unwrap();
    // It executes no more than what it can write: what it does later sees what came meanwhile.
    b.check("SET v later", "+OK\r\n");
    for number in 1..100 {
        b.check("INCR n", &format!(":{number}\r\n"));
    }
    a.send("ECHO that-was-all");
    let all = a.until("$12\r\nthat-was-all\r\n");
    let later = all.matches("$5\r\nlater\r\n").count();
    assert!(50 < later && later < 100, "{later} of 100");
    assert_eq!(server.output.exceeded.load(Ordering::Relaxed), 0);
}

#[test]
fn output_limits_disconnect_who_leaves_too_much_unread() {
    let (server, address) = node();
    let mut b = Client::connect(address);
    large(&mut b);
    for (limit, count) in [("normal 1mb 0 0", 1), ("normal 0 1mb 0", 2)] {
        b.check(
            &format!("CONFIG SET client-output-buffer-limit \"{limit}\""),
            "+OK\r\n",
        );
        let mut a = Client::connect(address);
        a.send(&["GET v"; 40].join("\r\n"));
        wait_until(|| server.output.exceeded.load(Ordering::Relaxed) == count);
        b.check("PING", "+PONG\r\n");
    }
    let get = b.ask("CONFIG GET client-output-buffer-limit");
    assert!(
        get.contains("normal 0 1048576 0 slave 268435456 67108864 60 pubsub"),
        "{get}"
    );
    b.check("CONFIG SET client-output-buffer-limit \"normal 1\"", "-ERR CONFIG SET failed (possibly related to argument 'client-output-buffer-limit') - Wrong number of arguments in buffer limit configuration.\r\n");
}

/// Each would take more memory than the machine has, were it put together before it is looked at.
#[test]
fn a_few_words_do_not_ask_for_more_than_there_is() {
    let (server, address) = node();
    let mut b = Client::connect(address);
    large(&mut b);
    b.check("SADD s a\r\nHSET h f v\r\nZADD z 1 m", ":1\r\n:1\r\n:1\r\n");
    b.check(
        "CONFIG SET client-output-buffer-limit \"normal 10mb 0 0\"",
        "+OK\r\n",
    );
    let many = "GET v\r\n".repeat(30_000);
    for (number, words) in (1..).zip([
        "SRANDMEMBER s -2000000000",
        "HRANDFIELD h -2000000000 WITHVALUES",
        "HELLO 3\r\nZRANDMEMBER z -2000000000 WITHSCORES",
        &format!("MGET{}", " v".repeat(30_000)),
        &format!("MULTI\r\n{many}EXEC"),
    ]) {
        let mut a = Client::connect(address);
        a.send(words);
        wait_until(|| server.output.exceeded.load(Ordering::Relaxed) == number);
        assert!(!a.until("never").contains("$1048576"), "it was sent away");
        b.check("PING", "+PONG\r\n");
    }
}

#[test]
fn a_request_has_a_size() {
    let (_, address) = node();
    let mut b = Client::connect(address);
    b.check("CONFIG SET client-query-buffer-limit 1mb", "+OK\r\n");
    b.check("CONFIG SET client-query-buffer-limit 1", "-ERR CONFIG SET failed (possibly related to argument 'client-query-buffer-limit') - argument must be between 1048576 and 1073741824 inclusive\r\n");
    let mut a = Client::connect(address);
    let half = "x".repeat(600_000);
    a.send(&format!("*3\r\n$600000\r\n{half}\r\n$600000"));
    let said = a.until("never");
    assert_eq!(
        said,
        "-ERR Protocol error: request exceeds the query buffer limit\r\n"
    );
    let info = b.ask("INFO stats");
    assert!(
        info.contains("client_query_buffer_limit_disconnections:1\r\n"),
        "{info}"
    );
}

/// Each found by sending the same to Redis 7.0.15.
#[test]
fn odd_requests_are_answered_as_by_redis() {
    let (server, address) = node();
    let mut a = Client::connect(address);
    a.check(
        "MULTI\r\nSET k 1\r\nEXEC 1\r\nEXEC\r\nGET k",
        "+OK\r\n+QUEUED\r\n-EXECABORT Transaction discarded because of: wrong number of arguments \
         for 'exec' command\r\n-ERR EXEC without MULTI\r\n$-1\r\n",
    );
    a.check(
        "MULTI\r\nMONITOR\r\nEXEC",
        "+OK\r\n+QUEUED\r\n*1\r\n-ERR MONITOR isn't allowed for DENY BLOCKING client\r\n",
    );
    a.check(
        "CLIENT REPLY SKIP\r\nCLIENT REPLY SKIP\r\nPING\r\nGET k",
        "$-1\r\n",
    );
    a.check("*0\r\n*-1\r\n\r\n   \r\nPING", "+PONG\r\n");
    // A browser that was made to send commands in the body of its request.
    for head in ["POST / HTTP/1.1", "host: localhost"] {
        let mut browser = Client::connect(address);
        browser.send(&format!("{head}\r\nSET k 1"));
        assert!(browser.until("never").starts_with("-ERR unknown command"));
    }
    a.check("GET k", "$-1\r\n");
    assert_eq!(server.malformed.load(Ordering::Relaxed), 2);
    let mut silent = Client::connect(address);
    silent.send("CLIENT REPLY OFF\r\nFOO\r\n*x");
    assert_eq!(silent.until("never"), "");
}

/// Elements that are always put between the two that came last.
#[test]
fn a_list_does_not_grow_without_end_by_how_it_is_inserted_into() {
    let (_, address) = node();
    let mut a = Client::connect(address);
    a.check("RPUSH l 0 1", ":2\r\n");
    let mut refused = None;
    for number in 2..4_000 {
        let side = ["BEFORE", "AFTER"][number % 2];
        let reply = a.ask(&format!("LINSERT l {side} {} {number}", number - 1));
        if reply != format!(":{}\r\n", number + 1) {
            refused = Some((number, reply));
            break;
        }
    }
    let (number, reply) = refused.unwrap();
    assert_eq!(
        reply,
        "-ERR elements were inserted between each other too often here\r\n"
    );
    assert!(500 < number, "refused at {number}");
    a.check("LINSERT l AFTER 0 x", &format!(":{}\r\n", number + 1));
    a.check("LLEN l", &format!(":{}\r\n", number + 1));
}

/// Evictions are writes: a node that is loading has not seen what its last life had acknowledged.
#[test]
fn a_node_that_may_not_write_evicts_nothing() {
    let (server, address) = node();
    let mut client = Client::connect(address);
    client.check("SET k v", "+OK\r\n");
    let look = || server.make_room(crate::clock::now_ms());
    server.loading.begin();
    server.set_room(RoomSettings {
        max_bytes: 1,
        eviction: Eviction::AllKeysRandom,
        ..RoomSettings::default()
    });
    assert_eq!((look(), server.room.evicted()), (Space::Full, 0));
    server.clock_ahead.store(true, Ordering::Relaxed);
    server.loading.end();
    assert_eq!((look(), server.room.evicted()), (Space::Full, 0));
    client.check("EXISTS k", ":1\r\n");
    server.clock_ahead.store(false, Ordering::Relaxed);
    // The node's own threads may be at it, too, and each turn has a limited time.
    wait_until(|| {
        assert_ne!(look(), Space::Fits);
        server.room.evicted() != 0
    });
    client.check("EXISTS k", ":0\r\n");
    assert_eq!(server.room.evicted(), 1);
}

/// A thread that is short of memory does not wait for another that frees what it has evicted.
#[test]
fn a_large_value_that_is_evicted_is_freed_while_others_go_on() {
    let prepare = |server: &Arc<Server>| {
        for (name, members) in [("large", 20_000_u32), ("small", 1)] {
            let key = server.shards.seed().key(name.as_bytes());
            let index = server.shards.index_of(key.slot);
            server.shards.with(index, |shard| {
                shard.transact(crate::clock::now_ms(), None, |txn| {
                    let key = txn.key(name.as_bytes());
                    let members: Vec<[u8; 4]> = (0..members).map(u32::to_le_bytes).collect();
                    txn.set_add(&key, &members).unwrap();
                    if name == "large" {
                        txn.set_deadline(&key, Deadline::At(1 << 50));
                    }
                });
            });
        }
        server.set_room(RoomSettings {
            max_bytes: 1,
            eviction: Eviction::VolatileTtl,
            ..RoomSettings::default()
        });
        // The only thread that could free it is at something else.
        let runtime = tokio::runtime::Builder::new_current_thread()
            .max_blocking_threads(1)
            .build()
            .unwrap();
        let (go_on, waits) = std::sync::mpsc::channel::<()>();
        runtime.spawn_blocking(move || waits.recv());
        let guard = runtime.enter();
        let look = || {
            (
                server.make_room(crate::clock::now_ms()),
                server.room.evicted(),
            )
        };
        assert_eq!(
            look(),
            (Space::Evicting, 1),
            "it goes, and nobody waits for that"
        );
        assert_eq!(look(), (Space::Evicting, 1), "there will be room");
        go_on.send(()).unwrap();
        wait_until(|| look() == (Space::Full, 1));
        drop(guard);
    };
    let origin = Origin::new(Region::new(1).unwrap(), Epoch(1));
    let build = |identity, seed| Shard::new(identity, seed, 1);
    serve(origin, build, prepare);
}
