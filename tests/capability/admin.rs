//! `meridian admin region …` against nodes that run.

use std::process::Command;
use std::time::Duration;

use testing::wait_until;

use crate::{BINARY, Regions};

const LIMIT: Duration = Duration::from_secs(15);

/// Runs `meridian admin region` at a region's node: what it prints, or the line that says why not.
fn admin(server: &Regions, region: usize, words: &[&str]) -> Result<String, String> {
    let status = server.0.status();
    let node = &status.nodes[region - 1];
    let port = node.admin_port.map(|port| port.to_string());
    let output = Command::new(BINARY)
        .args(["admin", "region"])
        .args(words)
        .arg("--dir")
        .arg(&node.admin_dir)
        .args(port.iter().flat_map(|port| ["--node", port]))
        .output()
        .expect("the binary is there");
    let text = |bytes| String::from_utf8_lossy(bytes).trim_end().to_owned();
    if output.status.success() {
        Ok(text(&output.stdout))
    } else {
        let said = text(&output.stderr);
        assert_eq!(said.lines().count(), 1, "one line says why: {said}");
        Err(said)
    }
}

#[test]
fn the_regions_are_listed_for_people_and_for_programs() {
    let server = Regions::start(2);
    assert!(wait_until(LIMIT, || {
        let list = admin(&server, 1, &["list"]).unwrap();
        let lines: Vec<Vec<&str>> = list
            .lines()
            .map(|line| line.split_whitespace().collect())
            .collect();
        assert_eq!(lines[0][..2], ["ID", "NAME"], "{list}");
        assert_eq!(lines[1][..4], ["1", "one", "member", "self"], "{list}");
        lines[2][..4] == ["2", "two", "member", "live"]
    }));
    let json = admin(&server, 2, &["list", "--json"]).unwrap();
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["node"], "two-1");
    assert_eq!(json["regions"][0]["name"], "one");
}

#[test]
fn a_clock_is_accepted_by_name() {
    let server = Regions::start(2);
    let done = admin(&server, 1, &["accept-clock", "two"]).unwrap();
    assert!(done.starts_with("two: "), "{done}");
    let error = admin(&server, 1, &["accept-clock", "mars"]).unwrap_err();
    assert!(error.ends_with("regions: one, two"), "{error}");
}

#[test]
fn a_node_that_is_down_is_said_to_be() {
    let server = Regions::start(1);
    server.0.node(1, "stop");
    let error = admin(&server, 1, &["list"]).unwrap_err();
    assert!(error.contains("is the node up"), "{error}");
}
