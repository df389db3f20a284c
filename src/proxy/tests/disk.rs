//! Replies and the disk: when they leave, and what is said when it fails.

use std::collections::BTreeSet;
use std::sync::Arc;

use crdt::{Attached, Epoch, Origin, Region, Time};

use super::*;
use crate::clock::{self, Moment};
use crate::durability::{Fsync, Syncing};
use crate::limits;
use crate::oplog::Budget;
use crate::oplog::faulty::{Fate, FaultyDisk, Trouble};
use crate::oplog::journal::{Journal, Life};
use crate::oplog::record::Owner;
use crate::oplog::recover::recover;
use crate::shard::Peers;
use crate::store::{Store, say_restored};

fn owner() -> Owner {
    Owner {
        database: "test".to_owned(),
        region: Region::new(1).unwrap(),
        shards: 4,
    }
}

/// The latest time of an op issued by a node.
fn latest(server: &Server) -> Time {
    let written = (0..4).map(|index| server.shards.with(index, |shard| shard.written()));
    written.max().unwrap()
}

/// A node that keeps what it has on a disk, and its thread that syncs.
fn node_on(disk: &FaultyDisk, fsync: Fsync) -> (Arc<Server>, SocketAddr, Syncing) {
    let owner = owner();
    let region = owner.region;
    let store = Store::on(Arc::new(disk.clone()), owner, limits::SEGMENT_BYTES);
    let now = Moment::now();
    let epoch = store.epoch(now).unwrap();
    let peers = Peers {
        members: BTreeSet::from([region]),
        clock_drift_max_ms: 0,
        budget: Arc::new(Budget::new(limits::MIB as u64)),
        on_disk: true,
    };
    let mut syncing = None;
    let (server, address) = serve(
        Origin::new(region, epoch),
        |identity, seed| Shard::with_peers(identity, seed, 1, peers.clone()),
        |server| {
            let begun = store.go_on(&server.shards, epoch, fsync, now).unwrap();
            let durability = Arc::new(begun.durability);
            syncing = Some(durability.start(Arc::clone(&server.shards)).unwrap());
            server.durability.set(durability).unwrap();
        },
    );
    (server, address, syncing.unwrap())
}

/// What a crash leaves now, if that is all that was written, or all that was synced.
fn after_crash(disk: &FaultyDisk, fate: Fate) -> FaultyDisk {
    disk.after_crash(disk.steps(), |_| fate)
}

#[test]
fn a_reply_leaves_when_its_write_is_as_safe_as_asked_for() {
    for (fsync, fate) in [
        (Fsync::Always, Fate::Lost),
        (Fsync::EverySecond, Fate::Happened),
        (Fsync::No, Fate::Happened),
    ] {
        let disk = FaultyDisk::default();
        let (_, address, _syncing) = node_on(&disk, fsync);
        let mut client = Client::connect(address);
        for count in 1..=20 {
            client.send("INCR n");
            client.until(&format!(":{count}\r\n"));
            let left = after_crash(&disk, fate);
            let (_, address, _syncing) = node_on(&left, fsync);
            let mut again = Client::connect(address);
            again.send("GET n");
            let digits = count.to_string();
            again.until(&format!("${}\r\n{digits}\r\n", digits.len()));
        }
    }
}

#[test]
fn what_is_written_is_synced_within_about_a_second() {
    let disk = FaultyDisk::default();
    let (_, address, _syncing) = node_on(&disk, Fsync::EverySecond);
    Client::connect(address).check("SET k v", "+OK\r\n");
    wait_until(|| {
        let (_, address, _syncing) = node_on(&after_crash(&disk, Fate::Lost), Fsync::No);
        Client::connect(address).ask("GET k") == "$1\r\nv\r\n"
    });
}

#[test]
fn a_full_disk_refuses_writes_and_says_why_until_there_is_room() {
    let disk = FaultyDisk::default();
    let (_, address, _syncing) = node_on(&disk, Fsync::EverySecond);
    let mut client = Client::connect(address);
    client.check("SET k v", "+OK\r\n");
    disk.trouble(Trouble {
        room: Some(0),
        ..Trouble::default()
    });
    client.send("SET k w");
    let last = client.until("never");
    assert!(
        last.starts_with("-MISCONF Errors writing to the op log"),
        "{last}"
    );
    let mut client = Client::connect(address);
    client.check("GET k", "$1\r\nw\r\n");
    let refused = client.ask("SET k x");
    assert!(refused.starts_with("-MISCONF"), "{refused}");
    let facts = client.ask("INFO persistence");
    assert!(facts.contains("aof_last_write_status:err"), "{facts}");
    disk.trouble(Trouble::default());
    wait_until(|| client.ask("SET k x") == "+OK\r\n");
    let (_, address, _syncing) = node_on(&after_crash(&disk, Fate::Happened), Fsync::No);
    Client::connect(address).check("GET k", "$1\r\nx\r\n");
}

#[test]
fn while_nothing_can_be_written_what_was_written_before_is_synced() {
    let disk = FaultyDisk::default();
    let (_, address, _syncing) = node_on(&disk, Fsync::EverySecond);
    Client::connect(address).check("SET k v", "+OK\r\n");
    disk.trouble(Trouble {
        append_fails: true,
        ..Trouble::default()
    });
    Client::connect(address).send("SET k w");
    wait_until(|| {
        let (_, address, _syncing) = node_on(&after_crash(&disk, Fate::Lost), Fsync::No);
        Client::connect(address).ask("GET k") == "$1\r\nv\r\n"
    });
}

#[test]
fn a_disk_that_refuses_writes_has_no_more_of_other_regions_taken_than_may_wait() {
    let disk = FaultyDisk::default();
    let (server, address, _syncing) = node_on(&disk, Fsync::EverySecond);
    let large = vec![b'x'; limits::LOG_UNWRITTEN_BYTES_MAX as usize];
    for (value, takes_frames) in [(&b"small"[..], true), (&large, false)] {
        disk.trouble(Trouble {
            append_fails: true,
            ..Trouble::default()
        });
        let key = server.shards.seed().key(b"k");
        let index = server.shards.index_of(key.slot);
        server.shards.with(index, |shard| {
            shard.transact(clock::now_ms(), None, |txn| {
                txn.string_set(&key, value, Attached::Nothing);
            });
        });
        let mut client = Client::connect(address);
        client.send("SET other v");
        let refused = client.until("never");
        assert!(refused.starts_with("-MISCONF Errors writing"), "{refused}");
        assert_eq!(server.takes_frames(0), takes_frames);
        disk.trouble(Trouble::default());
        wait_until(|| {
            server.takes_frames(0) && Client::connect(address).ask("SET k v") == "+OK\r\n"
        });
    }
}

#[test]
fn after_a_failed_sync_nothing_is_written_any_more() {
    let disk = FaultyDisk::default();
    let (_, address, _syncing) = node_on(&disk, Fsync::Always);
    let mut client = Client::connect(address);
    client.check("SET k v", "+OK\r\n");
    disk.trouble(Trouble {
        sync_fails: true,
        ..Trouble::default()
    });
    client.send("SET k w");
    let last = client.until("never");
    assert!(
        last.starts_with("-MISCONF Errors syncing the op log"),
        "{last}"
    );
    disk.trouble(Trouble::default());
    let steps = disk.steps();
    let mut client = Client::connect(address);
    for _ in 0..20 {
        let refused = client.ask("SET k x");
        assert!(refused.starts_with("-MISCONF Errors syncing"), "{refused}");
    }
    assert_eq!(disk.steps(), steps, "nothing was tried again");
    client.check("GET k", "$1\r\nw\r\n");
}

#[test]
fn a_blocked_client_and_who_serves_it_are_answered_when_both_writes_are_synced() {
    for waits_for_pusher in [true, false] {
        let disk = FaultyDisk::default();
        let (_, address, _syncing) = node_on(&disk, Fsync::Always);
        let (mut blocked, mut pusher) = (Client::connect(address), Client::connect(address));
        blocked.send("BLPOP l 0");
        wait_until(|| pusher.ask("INFO clients").contains("blocked_clients:1"));
        pusher.send("RPUSH l a b");
        if waits_for_pusher {
            pusher.until(":2\r\n");
        } else {
            blocked.until("$1\r\na\r\n");
        }
        let left = after_crash(&disk, Fate::Lost);
        let (_, address, _syncing) = node_on(&left, Fsync::Always);
        Client::connect(address).check("LRANGE l 0 -1", "*1\r\n$1\r\nb\r\n");
    }
}

#[test]
fn a_blocked_client_whose_element_cannot_be_synced_is_told() {
    let disk = FaultyDisk::default();
    let (_, address, _syncing) = node_on(&disk, Fsync::Always);
    let (mut blocked, mut pusher) = (Client::connect(address), Client::connect(address));
    blocked.send("BLPOP l 0");
    wait_until(|| pusher.ask("INFO clients").contains("blocked_clients:1"));
    disk.trouble(Trouble {
        sync_fails: true,
        ..Trouble::default()
    });
    pusher.send("RPUSH l a");
    for client in [&mut pusher, &mut blocked] {
        let told = client.until("never");
        assert!(told.starts_with("-MISCONF Errors syncing"), "{told}");
    }
}

#[test]
fn when_syncs_get_seldom_or_frequent_under_load_nothing_acknowledged_is_lost_and_nobody_hangs() {
    let disk = FaultyDisk::default();
    let (_, address, _syncing) = node_on(&disk, Fsync::No);
    let (mut client, mut other) = (Client::connect(address), Client::connect(address));
    for round in 0..30 {
        let fsync = ["always", "everysec", "no"][round % 3];
        for writer in [&mut client, &mut other] {
            writer.send(&format!("SADD s {round}"));
        }
        client.until("\r\n");
        other.until("\r\n");
        client.check(&format!("CONFIG SET appendfsync {fsync}"), "+OK\r\n");
        client.send(&format!("RPUSH l {round}"));
        client.until(&format!(":{}\r\n", round + 1));
        let fate = if fsync == "always" {
            Fate::Lost
        } else {
            Fate::Happened
        };
        let (_, address, _syncing) = node_on(&after_crash(&disk, fate), Fsync::No);
        let mut again = Client::connect(address);
        for count in ["LLEN l", "SCARD s"] {
            again.check(count, &format!(":{}\r\n", round + 1));
        }
    }
}

#[test]
fn a_node_that_crashes_again_and_again_does_not_run_ahead_of_its_clock() {
    let mut disk = FaultyDisk::default();
    for life in 1..=10 {
        let (server, address, _syncing) = node_on(&disk, Fsync::Always);
        Client::connect(address).check("INCR n", &format!(":{life}\r\n"));
        let ahead_ms = latest(&server).ms().saturating_sub(clock::now_ms());
        assert!(ahead_ms <= 3_000, "life {life} is {ahead_ms} ms ahead");
        disk = after_crash(&disk, Fate::Happened);
    }
}

#[test]
fn a_stamp_far_ahead_of_the_clock_is_not_given_again_though_its_op_is_lost() {
    let disk = FaultyDisk::default();
    let (server, address, _syncing) = node_on(&disk, Fsync::EverySecond);
    let ahead = Time::from_ms(clock::now_ms() + 20_000);
    for index in 0..4 {
        server.shards.with(index, |shard| shard.heartbeat(ahead));
    }
    Client::connect(address).check("SET k v", "+OK\r\n");
    let before = latest(&server);
    let left = after_crash(&disk, Fate::Lost);
    let (server, address, _syncing) = node_on(&left, Fsync::EverySecond);
    Client::connect(address).check("SET k w", "+OK\r\n");
    assert!(
        before < latest(&server),
        "a later write is not an earlier one"
    );
}

#[test]
fn a_life_after_the_clock_was_set_back_has_a_later_epoch_and_later_stamps() {
    let disk = FaultyDisk::default();
    let recovered = recover(&disk, &owner(), 0, &mut |_| {}).unwrap();
    let future_ms = clock::now_ms() + 3_600_000;
    let life = Life {
        epoch: Epoch(future_ms),
        mark: Time::from_ms(future_ms),
        segment_bytes: 1 << 20,
        snapshot: 0,
    };
    drop(Journal::begin(Arc::new(disk.clone()), owner(), recovered, life).unwrap());
    for (life, fsync) in (1..).zip([Fsync::Always, Fsync::EverySecond, Fsync::No]) {
        let (server, address, _syncing) = node_on(&disk, fsync);
        let epoch = server.shards.with(0, |shard| shard.origin().epoch);
        assert_eq!(epoch, Epoch(future_ms + life));
        for _ in 0..3 {
            Client::connect(address).check("SET k v", "+OK\r\n");
        }
        assert!(Time::from_ms(future_ms) < latest(&server));
    }
}

/// A life that others were to fill up first has not had what its region had acknowledged.
#[test]
fn only_a_life_that_has_served_leaves_a_log_that_the_next_serves_from_at_once() {
    let disk = FaultyDisk::default();
    let is_filled = |server: &Server| server.durability.get().unwrap().is_filled();
    for _ in 0..2 {
        let (server, _, _syncing) = node_on(&disk, Fsync::EverySecond);
        assert!(!is_filled(&server), "whoever came before has not served");
    }
    let (server, _, _syncing) = node_on(&disk, Fsync::EverySecond);
    server
        .durability
        .get()
        .unwrap()
        .fill(&server.shards, Moment::now())
        .unwrap();
    // It is synced before anybody is served.
    let left = after_crash(&disk, Fate::Lost);
    for _ in 0..2 {
        let (server, _, _syncing) = node_on(&left, Fsync::EverySecond);
        assert!(is_filled(&server));
    }
}

/// What fills a life up may be torn off though the batch that it comes in has begun.
#[test]
fn a_life_is_not_taken_for_filled_without_what_has_filled_it() {
    let disk = FaultyDisk::default();
    let (server, _, _syncing) = node_on(&disk, Fsync::EverySecond);
    for number in 0..40 {
        let name = format!("k{number}");
        let key = server.shards.seed().key(name.as_bytes());
        server
            .shards
            .with(server.shards.index_of(key.slot), |shard| {
                shard.transact(1, None, |txn| {
                    txn.string_set(&key, b"filled", Attached::Nothing);
                });
            });
    }
    let before = disk.steps();
    let durability = server.durability.get().unwrap();
    durability.fill(&server.shards, Moment::now()).unwrap();
    let mut unfilled = 0;
    for steps in before..=disk.steps() {
        for bytes in (0..3_000).step_by(100) {
            let left = disk.after_crash(steps, |_| Fate::Torn(bytes));
            let (server, _, _syncing) = node_on(&left, Fsync::EverySecond);
            if server.durability.get().unwrap().is_filled() {
                let keys = |index| server.shards.with(index, |shard| shard.len(1));
                assert_eq!(
                    (0..4).map(keys).sum::<usize>(),
                    40,
                    "{bytes} bytes of {steps}"
                );
            } else {
                unfilled += 1;
            }
        }
    }
    assert!(0 < unfilled);
}

#[test]
fn a_copy_that_is_said_to_be_one_is_filled_up_by_others_first() {
    let disk = FaultyDisk::default();
    let is_filled = |server: &Server| server.durability.get().unwrap().is_filled();
    let (server, _, _syncing) = node_on(&disk, Fsync::EverySecond);
    let durability = server.durability.get().unwrap();
    durability.fill(&server.shards, Moment::now()).unwrap();
    let copy = after_crash(&disk, Fate::Lost);
    say_restored(&copy).unwrap();
    // Also where the power fails at once, and the file is back or not.
    for fate in [Fate::Happened, Fate::Lost, Fate::Happened] {
        let (server, _, _syncing) = node_on(&copy, Fsync::EverySecond);
        assert!(!is_filled(&server));
        let (server, _, _syncing) = node_on(&after_crash(&copy, fate), Fsync::EverySecond);
        assert!(!is_filled(&server));
    }
}
