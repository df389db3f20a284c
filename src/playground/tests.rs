//! The control port and the files of a playground whose nodes do not run.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use clap::Parser;
use tokio::net::TcpListener;
use tokio::sync::oneshot;

use super::*;
use crate::config::{Config, RawConfig};

#[derive(Debug, Parser)]
struct Line {
    #[command(flatten)]
    setup: Setup,
}

#[derive(Debug, Parser)]
struct RequestLine {
    #[command(subcommand)]
    request: Request,
}

fn playground(words: &str) -> (tempfile::TempDir, Playground) {
    let folder = tempfile::tempdir().unwrap();
    let words = std::iter::once("playground").chain(words.split_whitespace());
    let mut setup = Line::try_parse_from(words).unwrap().setup;
    setup.dir = Some(folder.path().join("kept"));
    (folder, Playground::new(&setup).unwrap())
}

/// A playground's control port, served until dropped.
struct Controlled {
    playground: Arc<Playground>,
    port: u16,
    /// Ends the thread that serves when it is dropped.
    _serves: oneshot::Sender<()>,
    _folder: tempfile::TempDir,
}

impl Controlled {
    fn start() -> Self {
        let (folder, playground) = playground("--regions a,b,c --rtt 80ms");
        let playground = Arc::new(playground);
        let router = control::router(Arc::clone(&playground));
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        listener.set_nonblocking(true).unwrap();
        let port = listener.local_addr().unwrap().port();
        let (serves, dropped) = oneshot::channel::<()>();
        std::thread::spawn(move || {
            let runtime = runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                let listener = TcpListener::from_std(listener).unwrap();
                tokio::select! {
                    served = axum::serve(listener, router) => served.unwrap(),
                    _ = dropped => {}
                }
            });
        });
        Self {
            playground,
            port,
            _serves: serves,
            _folder: folder,
        }
    }

    fn send(&self, words: &str) -> Result<String, String> {
        let line = std::iter::once("playground").chain(words.split(' '));
        let request = RequestLine::try_parse_from(line).unwrap().request;
        request.send(self.port).map_err(|error| error.to_string())
    }

    /// The directions that are cut, such as `a→b`.
    fn cuts(&self) -> Vec<String> {
        let name = |region: usize| self.playground.regions[region].name.as_str();
        let directions = self.playground.relay.directions();
        let cut = directions.filter(|(_, direction)| direction.is_cut());
        cut.map(|((from, to), _)| format!("{}→{}", name(from), name(to)))
            .collect()
    }
}

#[test]
fn links_are_cut_and_healed_by_name() {
    let controlled = Controlled::start();
    controlled.send("cut a b").unwrap();
    assert_eq!(controlled.cuts(), ["a→b", "b→a"]);
    controlled.send("cut c a --one-way").unwrap();
    assert_eq!(controlled.cuts(), ["a→b", "b→a", "c→a"]);
    controlled.send("heal b a --one-way").unwrap();
    assert_eq!(controlled.cuts(), ["a→b", "c→a"]);
    controlled.send("heal a b").unwrap();
    assert_eq!(controlled.cuts(), ["c→a"]);
    controlled.send("cut a b").unwrap();
    controlled.send("heal").unwrap();
    assert!(controlled.cuts().is_empty());
}

#[test]
fn the_status_tells_how_it_stands() {
    let controlled = Controlled::start();
    controlled
        .send("shape b a --jitter 5ms --loss 0.01")
        .unwrap();
    controlled.send("cut a c").unwrap();
    let status = controlled.send("status").unwrap();
    let status: serde_json::Value = serde_json::from_str(&status).unwrap();
    assert_eq!(
        status["regions"][1],
        serde_json::json!({"name": "b", "id": 2})
    );
    let node = serde_json::json!({
        "id": "c-1", "region": "c", "pid": null, "client_port": 7021, "alive": false,
        "admin_port": null, "admin_dir": controlled.playground.nodes[2].folder(),
    });
    assert_eq!(status["nodes"][2], node);
    let links = status["links"].as_array().unwrap();
    assert_eq!(links.len(), 6);
    let link = |from: &str, to: &str| {
        let mut found = links
            .iter()
            .find(|link| link["from"] == from && link["to"] == to);
        let link = found.take().unwrap();
        let number = |field: &str| link[field].as_f64().unwrap();
        (
            link["cut"].as_bool().unwrap(),
            number("rtt_ms"),
            number("jitter_ms"),
            number("loss"),
        )
    };
    assert_eq!(link("a", "b"), (false, 80.0, 5.0, 0.01));
    assert_eq!(link("b", "a"), (false, 80.0, 5.0, 0.01));
    assert_eq!(link("c", "a"), (true, 80.0, 0.0, 0.0));
    assert_eq!(link("c", "b"), (false, 80.0, 0.0, 0.0));
    assert!(status.to_string().contains("\"rtt_ms\":80,"));
}

#[test]
fn what_is_unknown_or_wrong_is_said() {
    let controlled = Controlled::start();
    for (words, expected) in [
        (
            "cut a mars",
            "there is no link a mars; links: a b, a c, b c (404)",
        ),
        (
            "cut a a",
            "there is no link a a; links: a b, a c, b c (404)",
        ),
        (
            "kill mars-1",
            "there is no node mars-1; nodes: a-1, b-1, c-1 (404)",
        ),
        ("kill a-1", "a-1 does not run (409)"),
        ("pause a-1", "a-1 does not run (409)"),
        ("shape a b", "give rtt, jitter or loss (400)"),
        (
            "shape a b --rtt 80",
            "rtt=80: must be a time up to 1m with its unit, such as 80ms (400)",
        ),
        (
            "shape a b --loss 2",
            "loss=2: must be a share from 0 to 1, such as 0.01 (400)",
        ),
        ("shape a b --jitter long", "jitter=long: must be a time"),
    ] {
        let error = controlled.send(words).unwrap_err();
        assert!(error.contains(expected), "{words}: {error}");
    }
    assert!(controlled.cuts().is_empty());
}

#[test]
fn a_control_port_that_nobody_has_is_named() {
    let socket = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = socket.local_addr().unwrap().port();
    drop(socket);
    let error = Request::Status.send(port).unwrap_err().to_string();
    assert_eq!(error, format!("no playground answers on port {port}"));
}

/// Every node gets settings that it takes, and reaches the others through the relay only.
#[test]
fn nodes_get_settings_that_they_take() {
    let (folder, playground) = playground("--regions a,b,c --shards 4");
    let load = |node: &str| {
        let config = folder.path().join("kept").join(node).join("meridian.toml");
        Config::load(&RawConfig {
            config: Some(config),
            ..RawConfig::default()
        })
        .unwrap()
    };
    let config = load("b-1");
    assert_eq!(
        (config.region.id.id(), config.region.name.as_str()),
        (2, "b")
    );
    assert_eq!((config.shards, config.clients.listen.port()), (4, 7011));
    assert!(config.active_active);
    let addresses: Vec<SocketAddr> = config
        .peers
        .iter()
        .map(|peer| peer.address.parse().unwrap())
        .collect();
    let entrances = [0, 2].map(|to| playground.relay.entrance(1, to).unwrap());
    assert_eq!(addresses, entrances);
    let geo = config.geo.unwrap();
    assert_ne!(geo.listen.port(), load("a-1").geo.unwrap().listen.port());
    let pem = fs::read_to_string(geo.cert).unwrap();
    assert!(pem.starts_with("-----BEGIN CERTIFICATE-----"));
}

#[test]
fn one_region_needs_no_links() {
    let (folder, playground) = playground("--regions a --policy non-clustered");
    let config = folder.path().join("kept/a-1/meridian.toml");
    let raw = RawConfig {
        config: Some(config),
        ..RawConfig::default()
    };
    let config = Config::load(&raw).unwrap();
    assert!(config.geo.is_none() && !config.active_active && config.shards == 1);
    assert_eq!(playground.relay.directions().count(), 0);
}
