//! The admin port without a node behind it, and the commands that call it.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use clap::Parser;
use tokio::sync::oneshot;

use super::*;
use crate::proxy::{Policy, Settings};
use crate::shard::{Identity, Shard};
use crate::shards::Shards;

#[derive(Debug, Parser)]
struct Line {
    #[command(flatten)]
    target: Target,
    #[command(subcommand)]
    region: Region,
}

/// A server of one shard that nobody connects to.
fn server() -> Server {
    let seed = crdt::Seed::from_text(b"test");
    let (first, slots) = Shards::slots_of(0, 1);
    let identity = Identity {
        number: 0,
        first,
        slots,
        origin: crdt::Origin::new(crdt::Region::new(1).unwrap(), crdt::Epoch(1)),
        alone: true,
    };
    let settings = Settings {
        node: "test".into(),
        password: None,
        clients_max: 100,
        policy: Policy::Enterprise,
        dir: ".".to_owned(),
        fsync: crate::durability::Fsync::EverySecond,
        active_active: false,
        port: 0,
        free: std::collections::BTreeMap::new(),
    };
    Server::new(
        Shards::new(seed, vec![Shard::new(identity, seed, 1)]),
        settings,
    )
}

/// An admin port, served until dropped.
struct Served {
    folder: tempfile::TempDir,
    address: SocketAddr,
    _serves: oneshot::Sender<()>,
}

impl Served {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let token = folder.path().join("admin-token");
        let (serves, dropped) = oneshot::channel::<()>();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                let admin = Admin::bind(0, &token).await.unwrap();
                let server = Arc::new(server());
                tokio::select! {
                    () = admin.serve(server) => {}
                    _ = dropped => {}
                }
            });
        });
        let file = folder.path().join(ADDRESS_FILE);
        let address = testing::wait_for(std::time::Duration::from_secs(10), || {
            fs::read_to_string(&file).ok()?.trim_end().parse().ok()
        });
        Self {
            address: address.expect("it says where it is"),
            folder,
            _serves: serves,
        }
    }

    fn run(&self, words: &str) -> Result<String, String> {
        run(&format!("--dir {} {words}", self.folder.path().display()))
    }

    /// Sends raw bytes, and gives what comes back until the end.
    fn raw(&self, bytes: &str) -> String {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.write_all(bytes.as_bytes()).unwrap();
        let mut answer = String::new();
        let _ = stream.read_to_string(&mut answer);
        answer
    }

    fn token(&self) -> String {
        fs::read_to_string(self.folder.path().join("admin-token")).unwrap()
    }
}

fn run(words: &str) -> Result<String, String> {
    let words = std::iter::once("region").chain(words.split(' '));
    let line = Line::try_parse_from(words).map_err(|error| error.to_string())?;
    line.region
        .run(&line.target)
        .map_err(|error| error.to_string())
}

#[test]
fn the_token_is_made_once_and_for_its_owner_alone() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("admin-token");
    let first = Token::at(&file).unwrap();
    assert_eq!(
        fs::metadata(&file).unwrap().permissions().mode() & 0o777,
        0o600
    );
    let text = fs::read_to_string(&file).unwrap();
    assert_eq!(text.trim_end().len(), 64);
    assert!(first.is(text.trim_end().as_bytes()));
    assert!(!first.is(b"") && !first.is(&text.as_bytes()[..63]));
    let again = Token::at(&file).unwrap();
    assert!(again.is(text.trim_end().as_bytes()), "it stays");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
    let error = Token::at(&file).unwrap_err().to_string();
    assert!(error.contains("chmod 600"), "{error}");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    fs::write(&file, "too short").unwrap();
    assert!(matches!(
        Token::at(&file),
        Err(TokenError::Content { path }) if path == file
    ));
}

#[test]
fn who_does_not_know_the_token_is_told_where_it_is() {
    let served = Served::start();
    let file = served.folder.path().join("admin-token");
    let file = file.to_string_lossy();
    let none = served.raw("GET /v1/regions HTTP/1.0\r\n\r\n");
    assert!(none.starts_with("HTTP/1.0 401 "), "{none}");
    assert!(
        none.contains("the token is missing") && none.contains(&*file),
        "{none}"
    );
    let other = served.folder.path().join("other");
    fs::write(&other, "0123456789abcdef0123").unwrap();
    let error = served
        .run(&format!("--token-file {} list", other.display()))
        .unwrap_err();
    assert!(
        error.contains("the token is wrong") && error.contains(&*file),
        "{error}"
    );
    assert!(!error.contains(served.token().trim_end()), "{error}");
    // Not even what there is.
    let nowhere = served.raw("GET /nowhere HTTP/1.0\r\n\r\n");
    assert!(nowhere.starts_with("HTTP/1.0 401 "), "{nowhere}");
}

#[test]
fn commands_say_what_is_wrong() {
    let served = Served::start();
    assert_eq!(
        served.run("list").unwrap(),
        "this database has no other region"
    );
    assert!(served.run("list --json").unwrap().contains("\"regions\""));
    let error = served.run("accept-clock mars").unwrap_err();
    assert!(error.contains("no other region"), "{error}");
    let error = run("list").unwrap_err();
    assert!(error.contains("--dir"), "{error}");
    let empty = tempfile::tempdir().unwrap();
    let error = run(&format!("--dir {} list", empty.path().display())).unwrap_err();
    assert!(error.contains(ADDRESS_FILE), "{error}");
    let file = served.folder.path().join("admin-token");
    let free = {
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        socket.local_addr().unwrap().port()
    };
    let error = run(&format!(
        "--node {free} --token-file {} list",
        file.display()
    ));
    let error = error.unwrap_err();
    assert!(
        error.starts_with(&format!("127.0.0.1:{free}: ")) && error.contains("is the node up"),
        "{error}"
    );
}

/// Answers once with these bytes.
fn stranger(answer: &'static str) -> u16 {
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = socket.local_addr().unwrap().port();
    std::thread::spawn(move || {
        let (mut stream, _) = socket.accept().unwrap();
        let mut request = [0; 1024];
        let _ = stream.read(&mut request);
        let _ = stream.write_all(answer.as_bytes());
    });
    port
}

fn ask(port: u16, token: &Path) -> String {
    let words = format!("--node {port} --token-file {} list", token.display());
    run(&words).unwrap_err()
}

#[test]
fn whoever_asks_nothing_is_sent_away_and_keeps_nobody_out() {
    let served = Served::start();
    let connect = || TcpStream::connect(served.address).unwrap();
    // Half a head is none, and more than there is room for come.
    let idle: Vec<TcpStream> = (0..2 * limits::ADMIN_CONNECTIONS_MAX)
        .map(|_| {
            let mut stream = connect();
            stream.write_all(b"GET /v1/reg").unwrap();
            stream
        })
        .collect();
    let begun = clock::monotonic();
    assert_eq!(
        served.run("list").unwrap(),
        "this database has no other region"
    );
    assert!(begun.elapsed() < limits::ADMIN_HEAD_WITHIN);
    for mut stream in idle {
        let limit = 2 * limits::ADMIN_HEAD_WITHIN;
        stream.set_read_timeout(Some(limit)).unwrap();
        let mut rest = Vec::new();
        let read = stream.read_to_end(&mut rest);
        // A time that is up here means that it was not closed there.
        let is_closed = read.is_ok()
            || read.is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionReset);
        assert!(is_closed, "it is still there");
    }
}

#[test]
fn what_is_no_node_is_not_taken_for_one() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("admin-token");
    let _ = Token::at(&file).unwrap();
    let error = ask(stranger("-ERR unknown command\r\n"), &file);
    assert!(error.contains("no HTTP server"), "{error}");
    let error = ask(stranger("HTTP/1.1 200 OK\r\n\r\n<html>"), &file);
    assert!(error.contains("no node of Meridian"), "{error}");
}

#[test]
fn what_is_not_there_is_said_in_json() {
    let served = Served::start();
    let with = |line: &str| {
        let token = served.token();
        let token = token.trim_end();
        served.raw(&format!(
            "{line} HTTP/1.0\r\nAuthorization: Bearer {token}\r\n\r\n"
        ))
    };
    let answer = with("GET /v2");
    assert!(
        answer.starts_with("HTTP/1.0 404 ") && answer.contains("{\"error\":"),
        "{answer}"
    );
    let answer = with("DELETE /v1/regions");
    assert!(
        answer.starts_with("HTTP/1.0 405 ") && answer.contains("{\"error\":"),
        "{answer}"
    );
    assert!(served.raw("nonsense\r\n\r\n").contains(" 400 "));
}
