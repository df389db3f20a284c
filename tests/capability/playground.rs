//! `meridian playground`: its nodes are processes that come, go and never stay behind.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use testing::{Playground, Setup, wait_until};

use crate::{BINARY, Regions};

const LIMIT: Duration = Duration::from_secs(15);

fn runs(pid: u32) -> bool {
    Path::new(&format!("/proc/{pid}")).exists()
}

/// The process of a region's node, if it has one.
fn pid(playground: &Playground, region: usize) -> Option<u32> {
    playground.status().nodes[region - 1].pid
}

#[test]
fn every_region_is_a_process_that_ends_with_it() {
    let server = Regions::start(3);
    let pids: Vec<u32> = (1..=3)
        .map(|region| pid(&server.0, region).unwrap())
        .collect();
    assert!(pids.iter().all(|pid| runs(*pid)), "{pids:?}");
    for region in 1..=3 {
        assert_eq!(
            redis::cmd("PING").query(&mut server.connect(region)),
            Ok("PONG".to_owned())
        );
    }
    // One that stands still is stopped as well.
    server.0.node(2, "pause");
    drop(server);
    assert!(!pids.iter().any(|pid| runs(*pid)), "{pids:?}");
}

#[test]
fn nodes_are_killed_stopped_and_started_again() {
    let server = Regions::start(2);
    for end in ["kill", "stop"] {
        let before = pid(&server.0, 1).unwrap();
        server.0.node(1, end);
        let status = server.0.status();
        assert!(
            !status.nodes[0].alive && status.nodes[0].pid.is_none(),
            "{status:?}"
        );
        assert!(status.nodes[1].alive && !runs(before), "{status:?}");
        server.0.node(1, "start");
        assert_ne!(pid(&server.0, 1), Some(before));
        assert_eq!(
            redis::cmd("PING").query(&mut server.connect(1)),
            Ok("PONG".to_owned())
        );
    }
}

#[test]
fn a_killed_playground_takes_its_nodes_along() {
    let server = Regions::start(1);
    let node = pid(&server.0, 1).unwrap();
    let status = std::fs::read_to_string(format!("/proc/{node}/stat")).unwrap();
    let parent = status
        .rsplit(')')
        .next()
        .and_then(|rest| rest.split_whitespace().nth(1))
        .unwrap();
    assert!(
        Command::new("kill")
            .args(["-KILL", parent])
            .status()
            .unwrap()
            .success()
    );
    assert!(wait_until(LIMIT, || !runs(node) || is_zombie(node)));
}

/// Whether it has ended and only init has yet to notice.
fn is_zombie(pid: u32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    status.contains(") Z ")
}

#[test]
fn a_port_that_is_taken_is_named() {
    let server = Playground::start(BINARY, &Setup::regions(1)).unwrap();
    let taken = server.address(1).port().to_string();
    let started = Command::new(BINARY)
        .args([
            "playground",
            "--regions",
            "a",
            "--port",
            &taken,
            "--control-port",
            "0",
        ])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&started.stderr).into_owned();
    assert_eq!(started.status.code(), Some(1), "{said}");
    assert!(
        said.starts_with(&format!("a-1 cannot have port {taken}: ")),
        "{said}"
    );
    assert_eq!(said.lines().count(), 1, "{said}");
}
