//! Backups of a node that serves, and what is made of them.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use redis::Commands as _;
use testing::wait_until;

use crate::{BINARY, Node, Regions};

const LIMIT: Duration = Duration::from_mins(1);

/// Runs `meridian admin`: what it prints, or the line that says why not.
fn admin(words: &[&str]) -> Result<String, String> {
    let output = Command::new(BINARY).arg("admin").args(words).output();
    let output = output.expect("the binary is there");
    let text = |bytes| String::from_utf8_lossy(bytes).trim_end().to_owned();
    if output.status.success() {
        return Ok(text(&output.stdout));
    }
    let said = text(&output.stderr);
    assert_eq!(said.lines().count(), 1, "one line says why: {said}");
    Err(said)
}

fn path(path: &Path) -> &str {
    path.to_str().expect("a plain path")
}

fn restore(backup: &Path, dir: &Path) -> Result<String, String> {
    admin(&["restore", path(backup), "--dir", path(dir)])
}

fn digest(redis: &mut redis::Connection) -> String {
    redis::cmd("REGION").arg("DIGEST").query(redis).unwrap()
}

const ON_DISK: &str = "dir = \"data\"\nadmin-port = 0";

/// Whether it says whose it is, and what is in it.
fn check_manifest(backup: &Path) {
    let manifest = fs::read_to_string(backup.join("manifest.json")).unwrap();
    let manifest: serde_json::Value = serde_json::from_str(&manifest).unwrap();
    assert_eq!(manifest["database"], "meridian");
    assert_eq!(
        (&manifest["region"], &manifest["shards"]),
        (&1.into(), &16.into())
    );
    assert_eq!(manifest["build"], env!("CARGO_PKG_VERSION"));
    assert_eq!(manifest["version"].as_array().unwrap().len(), 16);
    let listed = manifest["files"].as_array().unwrap();
    assert!(
        listed
            .iter()
            .any(|file| file["name"].as_str().unwrap().starts_with("snapshot/"))
    );
}

#[test]
fn a_backup_has_all_that_was_acknowledged_before_it_and_the_node_serves_meanwhile() {
    let mut node = Node::with(ON_DISK);
    let data = node.0.folder().join("data");
    let backup = node.0.folder().join("backups/first");
    let mut redis = node.connect();
    for number in 0..1_000 {
        let () = redis.set(format!("before:{number}"), number).unwrap();
    }
    let () = redis::cmd("SAVE").query(&mut redis).unwrap();
    let () = redis.incr("counter", 5).unwrap();
    let () = redis.rpush("list", &["a", "b"]).unwrap();
    let stop = std::sync::atomic::AtomicBool::new(false);
    let mut other = node.connect();
    let said = std::thread::scope(|scope| {
        scope.spawn(|| {
            for number in 0.. {
                if stop.load(std::sync::atomic::Ordering::Relaxed) {
                    return;
                }
                let () = other.set(format!("meanwhile:{number}"), number).unwrap();
            }
        });
        let said = admin(&["backup", path(&backup), "--dir", path(&data)]);
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        said
    });
    let said = said.unwrap();
    assert!(
        said.starts_with(path(&backup)) && said.ends_with(" bytes"),
        "{said}"
    );
    check_manifest(&backup);

    let () = redis.del("before:0").unwrap();
    let () = redis.set("after", "v").unwrap();
    node.0.stop();
    fs::rename(&data, node.0.folder().join("lost")).unwrap();
    let said = restore(&backup, &data).unwrap();
    assert!(said.contains("database meridian, region 1"), "{said}");
    node.0.start_again().unwrap();
    let mut redis = node.connect();
    let get =
        |redis: &mut redis::Connection, key: &str| -> Option<String> { redis.get(key).unwrap() };
    assert_eq!(
        get(&mut redis, "before:0").as_deref(),
        Some("0"),
        "as it was then"
    );
    assert_eq!(get(&mut redis, "before:999").as_deref(), Some("999"));
    assert_eq!(get(&mut redis, "after"), None);
    assert_eq!(redis.incr::<_, _, i64>("counter", 1).unwrap(), 6);
    assert_eq!(
        redis.lrange::<_, Vec<String>>("list", 0, -1).unwrap(),
        ["a", "b"]
    );
    // What it took while it was backed up is a prefix of what was written.
    let keys: BTreeSet<String> = redis.keys("meanwhile:*").unwrap();
    assert!((0..keys.len()).all(|number| keys.contains(&format!("meanwhile:{number}"))));
    // And it goes on: what is written now is there after a crash.
    let () = redis.set("again", "v").unwrap();
    node.0.kill();
    node.0.start_again().unwrap();
    assert_eq!(get(&mut node.connect(), "again").as_deref(), Some("v"));
}

/// A backup, and the folder that it is in.
fn small_backup() -> (Node, PathBuf) {
    let node = Node::with(ON_DISK);
    let () = node.connect().set("k", "v").unwrap();
    let () = redis::cmd("SAVE").query(&mut node.connect()).unwrap();
    let backup = node.0.folder().join("backup");
    let data = node.0.folder().join("data");
    admin(&["backup", path(&backup), "--dir", path(&data)]).unwrap();
    (node, backup)
}

#[test]
fn what_is_not_whole_or_not_asked_for_is_refused_and_nothing_is_left_behind() {
    let (node, backup) = small_backup();
    let data = node.0.folder().join("data");
    let dir = node.0.folder().join("new");
    let refused = |wanted: &str| {
        let error = restore(&backup, &dir).unwrap_err();
        assert!(error.contains(wanted), "{wanted:?} in {error}");
        assert!(!dir.exists() && !node.0.folder().join("new.restoring").exists());
    };
    // The node's own directory, while it runs and ever.
    let error = restore(&backup, &data).unwrap_err();
    assert!(error.contains("is not empty"), "{error}");
    let error = admin(&["backup", path(&backup), "--dir", path(&data)]).unwrap_err();
    assert!(error.contains("is not empty"), "{error}");
    let other = [
        "restore",
        path(&backup),
        "--dir",
        path(&dir),
        "--database",
        "other",
    ];
    let error = admin(&other).unwrap_err();
    assert!(
        error.contains("of the database meridian, and other"),
        "{error}"
    );

    let manifest = backup.join("manifest.json");
    let text = fs::read_to_string(&manifest).unwrap();
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    for file in json["files"].as_array().unwrap() {
        let name = file["name"].as_str().unwrap();
        let file = backup.join(name);
        let whole = fs::read(&file).unwrap();
        for at in [3, 20, whole.len() / 2, whole.len() - 1] {
            let mut flipped = whole.clone();
            flipped[at] ^= 4;
            fs::write(&file, flipped).unwrap();
            refused(name);
        }
        fs::write(&file, &whole[..whole.len() - 1]).unwrap();
        refused("bytes of");
        fs::remove_file(&file).unwrap();
        refused(name);
        fs::write(&file, whole).unwrap();
    }
    for (from, to, wanted) in [
        ("\"format\": 1", "\"format\": 2", "format 2 is newer than 1"),
        ("\"format\": 1", "\"format\": 0", "is 0"),
        ("\"log/", "\"../", "is no file of a backup"),
        ("{", "[", "manifest.json"),
    ] {
        fs::write(&manifest, text.replacen(from, to, 1)).unwrap();
        refused(wanted);
    }
    fs::remove_file(&manifest).unwrap();
    refused("was not finished");
    fs::write(&manifest, text).unwrap();
    let left = node.0.folder().join("new.restoring");
    fs::create_dir(&left).unwrap();
    let error = restore(&backup, &dir).unwrap_err();
    assert!(error.contains("broken off") && left.exists(), "{error}");
    fs::remove_dir(&left).unwrap();
    restore(&backup, &dir).unwrap();
    assert!(dir.join("log").is_dir());
}

#[test]
fn a_node_without_a_directory_has_nothing_to_back_up() {
    let server = Regions::in_memory(1);
    let node = &server.0.status().nodes[0];
    let (dir, port) = (path(&node.admin_dir), node.admin_port.unwrap().to_string());
    let into = node.admin_dir.join("backup");
    let words = ["backup", path(&into), "--dir", dir, "--node", &port];
    let error = admin(&words).unwrap_err();
    assert!(error.contains("has no dir"), "{error}");
}

/// Backs up a region of a playground.
fn backup_of(server: &Regions, region: usize, into: &Path) {
    let node = &server.0.status().nodes[region - 1];
    let (dir, port) = (path(&node.admin_dir), node.admin_port.unwrap().to_string());
    admin(&["backup", path(into), "--dir", dir, "--node", &port]).unwrap();
}

fn data_of(server: &Regions, region: usize) -> PathBuf {
    server.0.status().nodes[region - 1].admin_dir.join("data")
}

fn are_alike(redis: &mut [redis::Connection]) -> bool {
    let digests: BTreeSet<String> = redis.iter_mut().map(digest).collect();
    digests.len() == 1
}

/// Waits until a region serves, and connects to it.
fn connect_to_served(server: &Regions, region: usize) -> redis::Connection {
    let serves = || {
        let mut ping = redis::cmd("PING");
        ping.arg("serves");
        ping.query::<String>(&mut server.connect(region)).is_ok()
    };
    assert!(wait_until(LIMIT, serves), "{}", server.0.log());
    server.connect(region)
}

#[test]
fn a_region_restored_from_an_old_backup_agrees_with_the_others_and_brings_nothing_back() {
    let folder = tempfile::tempdir().unwrap();
    let backup = folder.path().join("backup");
    let server = Regions::start(3);
    let mut all: Vec<_> = (1..=3).map(|region| server.connect(region)).collect();
    for number in 0..200 {
        let redis = &mut all[number % 3];
        let () = redis.set(format!("old:{number}"), number).unwrap();
        let () = redis.incr(format!("counter:{number}"), 1).unwrap();
        let () = redis.sadd("set", number).unwrap();
    }
    assert!(wait_until(LIMIT, || are_alike(&mut all)));
    backup_of(&server, 1, &backup);
    for number in 0..200 {
        let redis = &mut all[number % 3];
        if number % 2 == 0 {
            let () = redis.del(format!("old:{number}")).unwrap();
            let () = redis.del(format!("counter:{number}")).unwrap();
            let () = redis.srem("set", number).unwrap();
        }
        let () = redis.set(format!("new:{number}"), number).unwrap();
        let () = redis.incr("total", 1).unwrap();
    }
    assert!(wait_until(LIMIT, || are_alike(&mut all)));
    let before = digest(&mut all[0]);
    drop(all);
    server.0.node(1, "kill");
    let data = data_of(&server, 1);
    fs::remove_dir_all(&data).unwrap();
    restore(&backup, &data).unwrap();
    // The others go on meanwhile.
    let () = server.connect(2).del("old:1").unwrap();
    server.0.node(1, "start");
    let mut one = connect_to_served(&server, 1);
    // Nothing is served that others had deleted before.
    assert_eq!(one.get::<_, Option<String>>("old:0").unwrap(), None);
    assert_eq!(one.get::<_, Option<String>>("counter:0").unwrap(), None);
    assert_eq!(one.get::<_, i64>("total").unwrap(), 200);
    let () = one.incr("total", 1).unwrap();
    let () = one.set("own", "v").unwrap();
    let mut all = vec![one, server.connect(2), server.connect(3)];
    assert!(wait_until(LIMIT, || are_alike(&mut all)));
    assert_ne!(digest(&mut all[0]), before);
    for redis in &mut all {
        for number in 0..200 {
            let old: Option<usize> = redis.get(format!("old:{number}")).unwrap();
            let is_there = number % 2 == 1 && number != 1;
            assert_eq!(old, is_there.then_some(number));
            let counter: Option<usize> = redis.get(format!("counter:{number}")).unwrap();
            assert_eq!(counter, (number % 2 == 1).then_some(1));
            assert_eq!(
                redis.get::<_, usize>(format!("new:{number}")).unwrap(),
                number
            );
        }
        assert_eq!(redis.scard::<_, usize>("set").unwrap(), 100);
        assert_eq!(redis.get::<_, i64>("total").unwrap(), 201);
        assert_eq!(redis.get::<_, String>("own").unwrap(), "v");
    }
}

#[test]
fn all_regions_begin_again_from_the_backup_of_one() {
    let folder = tempfile::tempdir().unwrap();
    let backup = folder.path().join("backup");
    let server = Regions::start(3);
    let mut all: Vec<_> = (1..=3).map(|region| server.connect(region)).collect();
    for number in 0..200 {
        let redis = &mut all[number % 3];
        let () = redis.set(format!("old:{number}"), number).unwrap();
        let () = redis.incr("total", 1).unwrap();
    }
    assert!(wait_until(LIMIT, || are_alike(&mut all)));
    let before = digest(&mut all[0]);
    backup_of(&server, 2, &backup);
    let () = all[0].set("lost", "v").unwrap();
    drop(all);
    for region in 1..=3 {
        server.0.node(region, "kill");
    }
    for region in 1..=3 {
        let data = data_of(&server, region);
        fs::remove_dir_all(&data).unwrap();
        let (dir, id) = (path(&data), region.to_string());
        admin(&["restore", path(&backup), "--dir", dir, "--region", &id]).unwrap();
    }
    for region in 1..=3 {
        server.0.node(region, "start");
    }
    let mut all: Vec<_> = (1..=3)
        .map(|region| connect_to_served(&server, region))
        .collect();
    for redis in &mut all {
        assert_eq!(digest(redis), before);
        assert_eq!(redis.get::<_, Option<String>>("lost").unwrap(), None);
        assert_eq!(redis.get::<_, i64>("total").unwrap(), 200);
    }
    for (region, redis) in all.iter_mut().enumerate() {
        let () = redis.set(format!("again:{region}"), "v").unwrap();
        let () = redis.del(format!("old:{region}")).unwrap();
        let () = redis.incr("total", 1).unwrap();
    }
    assert!(wait_until(LIMIT, || are_alike(&mut all)));
    for redis in &mut all {
        assert_eq!(redis.get::<_, i64>("total").unwrap(), 203);
        assert_eq!(
            redis
                .exists::<_, u32>(&["old:0", "old:1", "old:2"])
                .unwrap(),
            0
        );
        assert_eq!(
            redis
                .exists::<_, u32>(&["again:0", "again:1", "again:2"])
                .unwrap(),
            3
        );
    }
}
