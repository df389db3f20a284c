//! Regions that join a database while it runs.

use std::fs;
use std::net::UdpSocket;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rcgen::{CertificateParams, CertifiedIssuer, IsCa, KeyPair, SanType};
use testing::{Client, SingleNode, Value, wait_until};

use crate::BINARY;

const LIMIT: Duration = Duration::from_secs(40);

/// A database whose nodes are started one by one.
struct Database {
    authority: CertifiedIssuer<'static, KeyPair>,
    folder: tempfile::TempDir,
}

impl Database {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        Self {
            authority: CertifiedIssuer::self_signed(params, key).unwrap(),
            folder: tempfile::tempdir().unwrap(),
        }
    }

    /// Starts a region's node; `peers` are those that it is configured with.
    fn start(&self, own: Place, peers: &[Place], join: bool) -> SingleNode {
        let Place { id, name, port } = own;
        let mut params = CertificateParams::default();
        let uri = format!("meridian://test/{name}/{name}-1");
        params.subject_alt_names = vec![SanType::URI(uri.as_str().try_into().unwrap())];
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.authority).unwrap();
        let path = |what: &str| self.folder.path().join(format!("{name}-{what}.pem"));
        fs::write(path("ca"), self.authority.pem()).unwrap();
        fs::write(path("cert"), certificate.pem()).unwrap();
        fs::write(path("key"), key.serialize_pem()).unwrap();
        let mut settings = format!(
            "database = 'test'\nregion = '{name}'\nregion-id = {id}\ngeo-port = {port}\n\
             geo-ca = '{}'\ngeo-cert = '{}'\ngeo-key = '{}'\n\
             dir = 'data'\nadmin-port = 0\nshards = 4\nthreads = 1\njoin = {join}\n",
            path("ca").display(),
            path("cert").display(),
            path("key").display()
        );
        let peer = |Place { id, name, port }: &Place| {
            format!("[[peers]]\nid = {id}\nname = '{name}'\naddress = '127.0.0.1:{port}'\n")
        };
        settings.extend(peers.iter().map(peer));
        let started = SingleNode::start(BINARY, &settings);
        started.unwrap_or_else(|error| panic!("{name} does not start: {}", error.0))
    }
}

/// A region, and where its node listens for others.
#[derive(Clone, Copy)]
struct Place {
    id: u8,
    name: &'static str,
    port: u16,
}

/// A port below those that the system gives out by itself, free now.
fn place(id: u8, name: &'static str) -> Place {
    let free = |_: &u32| {
        let port = fastrand::u16(12_000..32_000);
        UdpSocket::bind(("127.0.0.1", port)).ok().map(|_| port)
    };
    let port = (0..1_000).find_map(|n| free(&n)).expect("a port is free");
    Place { id, name, port }
}

/// Runs `meridian admin region` at a node: what it prints, or why not.
fn admin(node: &SingleNode, words: &[&str]) -> Result<String, String> {
    let output = Command::new(BINARY)
        .args(["admin", "region"])
        .args(words)
        .arg("--dir")
        .arg(node.folder().join("data"))
        .output()
        .expect("the binary is there");
    let text = |bytes| String::from_utf8_lossy(bytes).trim_end().to_owned();
    if output.status.success() {
        Ok(text(&output.stdout))
    } else {
        Err(text(&output.stderr))
    }
}

fn client(node: &SingleNode) -> Client {
    Client::connect(node.address()).expect("the node accepts connections")
}

/// Counts up in a region until it is stopped.
struct Writer {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Writer {
    fn start(node: &SingleNode, acknowledged: &Arc<AtomicI64>) -> Self {
        let (stop, acknowledged) = (Arc::new(AtomicBool::new(false)), Arc::clone(acknowledged));
        let stopped = Arc::clone(&stop);
        let mut client = client(node);
        let thread = thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                let reply = client.run(&["INCR", "count"]);
                assert!(reply.int().is_some(), "{reply:?}");
                acknowledged.fetch_add(1, Ordering::Relaxed);
            }
        });
        Self { stop, thread }
    }

    fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("every write was acknowledged");
    }
}

fn digest(node: &SingleNode) -> Value {
    client(node).run(&["REGION", "DIGEST"])
}

fn get(node: &SingleNode, key: &str) -> Option<String> {
    let reply = client(node).run(&["GET", key]);
    reply
        .bytes()
        .map(|bytes| String::from_utf8_lossy(bytes).into_owned())
}

fn is_written(reply: &Value) -> bool {
    *reply == Value::Simple(b"OK".to_vec())
}

#[track_caller]
fn wait_same(nodes: &[&SingleNode]) {
    let same = wait_until(LIMIT, || {
        let first = digest(nodes[0]);
        nodes[1..].iter().all(|node| digest(node) == first)
    });
    assert!(same, "they do not agree\n{}", nodes[0].log());
}

/// Whether a node shows a region as a member with a link that is alive.
fn is_member(node: &SingleNode, name: &str) -> bool {
    let list = admin(node, &["list"]).unwrap_or_default();
    list.lines().any(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        words.get(1) == Some(&name) && words[2] == "member" && words[3] != "down"
    })
}

fn record(folder: &Path) -> Vec<u8> {
    fs::read(folder.join("data/regions/record")).unwrap_or_default()
}

#[test]
fn a_third_region_joins_two_that_write() {
    let database = Database::new();
    let [one, two, three] = [place(1, "one"), place(2, "two"), place(3, "three")];
    let a = database.start(one, &[two], false);
    let mut b = database.start(two, &[one], false);
    let mut redis = client(&a);
    for number in 0..300 {
        let key = format!("key:{number}");
        assert!(is_written(&redis.run(&["SET", &key, "before"])));
    }
    let acknowledged = Arc::new(AtomicI64::new(0));
    let writers = [&a, &b].map(|node| Writer::start(node, &acknowledged));

    // It knows of one region only, and no region knows of it.
    let mut c = database.start(three, &[one], true);
    let refused = client(&c).run(&["SET", "k", "v"]);
    let text = refused.error().expect("refused").to_owned();
    assert!(
        text.starts_with("JOINING ") && text.contains("let in by one"),
        "{text}"
    );
    let accepted = client(&c).run(&["REGION", "ACCEPT-LOSS"]);
    let text = accepted.error().expect("that is no loss").to_owned();
    assert!(text.contains("yet to be let in by one"), "{text}");
    assert_eq!(
        get(&c, "key:1"),
        None,
        "reads are answered with what is there"
    );

    let address = format!("127.0.0.1:{}", three.port);
    let add = ["add", "three", "--id", "3", "--address", &address];
    admin(&b, &add).unwrap();
    assert!(
        wait_until(LIMIT, || is_written(
            &client(&c).run(&["SET", "from", "three"])
        )),
        "{}\n{}",
        admin(&c, &["list"]).unwrap_or_else(|error| error),
        c.log()
    );
    for number in 0..300 {
        assert_eq!(get(&c, &format!("key:{number}")).as_deref(), Some("before"));
    }
    writers.into_iter().for_each(Writer::stop);
    wait_same(&[&a, &b, &c]);
    let count = get(&c, "count").expect("it is there");
    assert_eq!(count, acknowledged.load(Ordering::Relaxed).to_string());
    assert_eq!(get(&a, "from").as_deref(), Some("three"));
    for node in [&a, &b, &c] {
        for name in ["one", "two", "three"] {
            assert!(
                wait_until(LIMIT, || is_member(node, name)),
                "{}",
                node.log()
            );
        }
    }

    // What is known of regions outlives crashes, of those whose settings do not name it too.
    b.kill();
    c.kill();
    c.start_again().unwrap();
    b.start_again().unwrap();
    let writes = |node: &SingleNode| is_written(&client(node).run(&["SET", "again", "v"]));
    assert!(wait_until(LIMIT, || writes(&c)), "{}", c.log());
    assert!(wait_until(LIMIT, || is_member(&b, "three")), "{}", b.log());
    wait_same(&[&a, &b, &c]);
    assert!(!record(c.folder()).is_empty() && record(c.folder()) == record(b.folder()));
}

#[test]
fn what_cannot_be_added_is_refused_with_the_reason() {
    let database = Database::new();
    let [one, two] = [place(1, "one"), place(2, "two")];
    let a = database.start(one, &[two], false);
    let _b = database.start(two, &[one], false);
    for (words, reason) in [
        (
            ["mars", "--id", "2", "--address", "h:1"],
            "an id is never used again",
        ),
        (
            ["two", "--id", "9", "--address", "h:1"],
            "region two is there already, with id 2",
        ),
        (
            ["mars", "--id", "0", "--address", "h:1"],
            "id 0 must be a number from 1 to 255",
        ),
        (
            ["mars", "--id", "3", "--address", "h"],
            "address h must be HOST:PORT",
        ),
        (
            ["a b", "--id", "3", "--address", "h:1"],
            "must be 1 to 63 letters",
        ),
    ] {
        let error = admin(&a, &[&["add"], &words[..]].concat()).unwrap_err();
        assert!(error.contains(reason), "{words:?}: {error}");
        assert_eq!(error.lines().count(), 1, "{error}");
    }
    let single = crate::Node::with("dir = 'data'\nadmin-port = 0");
    let words = ["add", "two", "--id", "2", "--address", "h:1"];
    let error = admin(&single.0, &words).unwrap_err();
    assert!(error.contains("a database of one region"), "{error}");
}

fn write(node: &SingleNode, key: &str) -> Value {
    client(node).run(&["SET", key, "v"])
}

/// Waits until writes are refused with such a text. Returns whether one was taken before.
#[track_caller]
fn wait_refused(node: &SingleNode, text: &str) -> bool {
    let mut was_taken = false;
    let refused = wait_until(LIMIT, || {
        let reply = write(node, "refused");
        was_taken |= is_written(&reply);
        let said = reply.error().unwrap_or_default();
        said.starts_with("FORGOTTEN ") && said.contains(text)
    });
    assert!(refused, "{}", node.log());
    was_taken
}

#[test]
fn a_region_that_died_is_forgotten_refused_and_let_back_in() {
    let database = Database::new();
    let [one, two, three] = [place(1, "one"), place(2, "two"), place(3, "three")];
    let a = database.start(one, &[two, three], false);
    let b = database.start(two, &[one, three], false);
    let mut c = database.start(three, &[one, two], false);
    for (node, name) in [(&a, "one"), (&b, "two"), (&c, "three")] {
        for number in 0..50 {
            assert!(is_written(&write(node, &format!("{name}:{number}"))));
        }
    }
    wait_same(&[&a, &b, &c]);
    c.kill();
    for words in [["forget", "mars"], ["forget", "one"], ["rejoin", "three"]] {
        let error = admin(&a, &words).unwrap_err();
        assert_eq!(error.lines().count(), 1, "{words:?}: {error}");
    }
    admin(&a, &["forget", "three"]).unwrap();
    let is_forgotten = |node: &SingleNode| {
        let list = admin(node, &["list"]).unwrap_or_default();
        let mut lines = list.lines();
        lines.any(|line| line.contains("three") && line.contains("forgotten"))
    };
    for node in [&a, &b] {
        assert!(wait_until(LIMIT, || is_forgotten(node)), "{}", node.log());
        assert!(is_written(&write(node, "after")));
    }

    // It does not know yet, and is told; it goes on answering readers.
    c.start_again().unwrap();
    let was_taken = wait_refused(&c, "meridian admin region rejoin");
    assert_eq!(get(&c, "one:1").as_deref(), Some("v"));
    assert_eq!(get(&c, "after"), None, "it gets nothing");
    assert!(is_forgotten(&a) && is_forgotten(&c));
    // Nor after a restart, when it has it on disk.
    c.stop();
    c.start_again().unwrap();
    assert!(!wait_refused(&c, "meridian admin region rejoin"));

    // Let back in, it must not come with what it held before: that is put aside at its next start.
    admin(&b, &["rejoin", "three"]).unwrap();
    assert!(!wait_refused(&c, "start it again"));
    c.kill();
    c.start_again().unwrap();
    let back = wait_until(LIMIT, || is_written(&write(&c, "back")));
    assert!(back, "{}\n{}", c.log(), a.log());
    assert!(c.folder().join("data/excluded-1/log").exists());
    wait_same(&[&a, &b, &c]);
    for name in ["one", "two", "three"] {
        for number in 0..50 {
            assert_eq!(get(&c, &format!("{name}:{number}")).as_deref(), Some("v"));
        }
        assert!(wait_until(LIMIT, || is_member(&a, name)), "{}", a.log());
    }
    assert_eq!(get(&a, "back").as_deref(), Some("v"));
    let is_everywhere = || get(&b, "refused").is_some() == was_taken;
    assert!(
        wait_until(LIMIT, is_everywhere),
        "what was refused is nowhere, and what was taken is not lost"
    );
}

/// Nobody is left who knew the forgotten region before: who has heard of it since tells it.
#[test]
fn a_forgotten_region_is_told_by_one_that_never_knew_it_otherwise() {
    let database = Database::new();
    let [one, two, three] = [place(1, "one"), place(2, "two"), place(3, "three")];
    let mut a = database.start(one, &[two], false);
    let mut b = database.start(two, &[one], false);
    let address = format!("127.0.0.1:{}", three.port);
    admin(&a, &["add", "three", "--id", "3", "--address", &address]).unwrap();
    let has_heard = || admin(&b, &["list"]).is_ok_and(|list| list.contains("three"));
    assert!(wait_until(LIMIT, has_heard), "{}", b.log());
    b.kill();
    admin(&a, &["forget", "two"]).unwrap();
    // Its settings do not name the second.
    let c = database.start(three, &[one], true);
    let joins = wait_until(LIMIT, || is_written(&write(&c, "three")));
    assert!(joins, "{}", c.log());
    a.kill();

    b.start_again().unwrap();
    wait_refused(&b, "meridian admin region rejoin");
    assert_eq!(get(&b, "three"), None, "it gets nothing");
}

/// What it holds of the time before is announced before it hears that it has to start anew.
#[test]
fn a_region_that_is_let_back_in_writes_again_what_it_alone_had() {
    let database = Database::new();
    let [one, two] = [place(1, "one"), place(2, "two")];
    let mut a = database.start(one, &[two], false);
    let mut b = database.start(two, &[one], false);
    assert!(wait_until(LIMIT, || is_written(&write(&a, "a"))));
    assert!(wait_until(LIMIT, || get(&b, "a").is_some()), "{}", b.log());
    a.kill();
    assert!(is_written(&write(&b, "alone")), "{}", b.log());
    b.kill();
    a.start_again().unwrap();
    admin(&a, &["forget", "two"]).unwrap();
    b.start_again().unwrap();
    wait_refused(&b, "meridian admin region rejoin");
    admin(&a, &["rejoin", "two"]).unwrap();
    wait_refused(&b, "start it again");
    b.stop();
    b.start_again().unwrap();
    let back = wait_until(LIMIT, || is_written(&write(&b, "back")));
    assert!(back, "{}\n{}", b.log(), a.log());
    assert!(
        wait_until(LIMIT, || get(&a, "alone").is_some()),
        "{}",
        b.log()
    );
    wait_same(&[&a, &b]);
}
