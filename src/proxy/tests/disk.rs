//! Replies and the disk: when they leave, and what is said when it fails.

use std::collections::BTreeSet;
use std::sync::Arc;

use crdt::{Origin, Region};

use super::*;
use crate::durability::{Fsync, Syncing};
use crate::limits;
use crate::oplog::Budget;
use crate::oplog::faulty::{Fate, FaultyDisk, Trouble};
use crate::oplog::record::Owner;
use crate::shard::Peers;
use crate::store::Store;

/// A node that keeps what it has on a disk, and its thread that syncs.
fn node_on(disk: &FaultyDisk, fsync: Fsync) -> (Arc<Server>, SocketAddr, Syncing) {
    let region = Region::new(1).unwrap();
    let owner = Owner {
        database: "test".to_owned(),
        region,
        shards: 4,
    };
    let store = Store::on(Arc::new(disk.clone()), owner);
    let epoch = store.epoch().unwrap();
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
            let durability = Arc::new(store.go_on(&server.shards, epoch, fsync).unwrap().0);
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
