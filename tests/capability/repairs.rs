//! A shard whose log is damaged is filled up by other regions when somebody says so.

use std::fs;
use std::process::Command;
use std::time::Duration;

use redis::Commands as _;
use testing::wait_until;

use crate::{BINARY, Node, Regions};

const LIMIT: Duration = Duration::from_mins(1);
const KEYS: usize = 200;

/// Runs `meridian admin repair` on the node of a region. Returns whether it agreed, and the text.
fn repair(server: &Regions, region: usize) -> (bool, String) {
    let node = &server.0.status().nodes[region - 1];
    let port = node.admin_port.expect("it has one").to_string();
    let dir = node.admin_dir.to_str().expect("a plain path");
    let command = ["admin", "repair", "--dir", dir, "--node", &port];
    let output = Command::new(BINARY).args(command).output();
    let output = output.expect("the binary is there");
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text).trim_end().to_owned();
    (output.status.success(), text)
}

/// How many keys are there, and what the others answer.
fn look(redis: &mut redis::Connection) -> (usize, Vec<String>) {
    let (mut there, mut refused) = (0, Vec::new());
    for key in 0..KEYS {
        match redis.get::<_, Option<String>>(format!("k{key}")) {
            Ok(value) => there += usize::from(value.is_some_and(|value| value.ends_with("found"))),
            Err(error) => refused.push(error.to_string()),
        }
    }
    (there, refused)
}

#[test]
fn a_damaged_shard_goes_on_from_what_is_whole_and_is_filled_up_by_others() {
    let server = Regions::with(2, &["--", "--appendfsync", "always"]);
    let mut two = server.connect(2);
    for key in 0..KEYS {
        let () = two.set(format!("k{key}"), "a value that is found").unwrap();
    }
    let () = two.incr("counter", 5).unwrap();
    let mut kept = redis::cmd("REGION");
    kept.arg("WAIT").arg(1).arg(10_000).arg("KEPT");
    assert_eq!(kept.query::<usize>(&mut two).unwrap(), 1);
    let (agreed, text) = repair(&server, 2);
    assert!(
        !agreed && text.ends_with("no log of a shard of this node is damaged"),
        "{text}"
    );

    server.0.node(2, "kill");
    let data = server.0.status().nodes[1].admin_dir.join("data");
    let path = data.join("log/00000000000000000001.log");
    let mut bytes = fs::read(&path).unwrap();
    let needle = b"k100";
    let at = bytes
        .windows(needle.len())
        .position(|window| window == needle);
    bytes[at.expect("it was written")] ^= 1;
    fs::write(&path, &bytes).unwrap();
    server.0.node(2, "start");
    let mut two = server.connect(2);
    let served = || redis::cmd("PING").query::<String>(&mut two).is_ok();
    assert!(wait_until(LIMIT, served));
    let (there, refused) = look(&mut two);
    assert!(
        !refused.is_empty() && there + refused.len() == KEYS,
        "{there} {refused:?}"
    );
    assert!(
        refused[0].contains("00000000000000000001.log, byte"),
        "{}",
        refused[0]
    );

    let (agreed, text) = repair(&server, 2);
    assert!(agreed && text.contains("start the node again"), "{text}");
    assert!(text.contains("00000000000000000001.log, byte"), "{text}");
    // Later starts go on from it, too.
    for round in 0..3 {
        server.0.node(2, "kill");
        server.0.node(2, "start");
        let mut two = server.connect(2);
        assert!(wait_until(LIMIT, || two
            .incr::<_, _, usize>("counter", 1)
            .is_ok()));
        assert_eq!(two.get::<_, usize>("counter").unwrap(), 6 + round);
        assert_eq!(look(&mut two), (KEYS, Vec::new()));
        let mut clients: Vec<_> = (1..=2)
            .map(|region| (region, server.0.client(region)))
            .collect();
        let in_sync = wait_until(LIMIT, || server.0.in_sync(&mut clients, |_, _| true));
        assert!(in_sync, "not in sync; it said:\n{}", server.0.log());
    }
    assert!(!data.join("repair").exists());
    assert_eq!(
        fs::read(&path).unwrap(),
        bytes,
        "what is damaged is left as it is"
    );
}

#[test]
fn nothing_is_repaired_where_there_is_nobody_to_fill_it_up() {
    let node = Node::with("dir = 'data'\nadmin-port = 0");
    let dir = node.0.folder().join("data");
    let output = Command::new(BINARY)
        .args(["admin", "repair", "--dir"])
        .arg(&dir)
        .output();
    let text = output.expect("the binary is there").stderr;
    let text = String::from_utf8_lossy(&text);
    assert!(
        text.contains("no log of a shard of this node is damaged"),
        "{text}"
    );
    assert!(!dir.join("repair").exists());
}
