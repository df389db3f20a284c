//! Who is no peer, and which certificates cannot be used.

use std::net::SocketAddr;

use geo::net::{Credentials, Directory, Net, OpenError, TlsError};

use super::certificates::{Authority, directory, region};
use super::node::{Node, config, eventually, nowhere};

/// Starts region 1 with these credentials and waits until region 2 has refused it.
async fn check_refused(us: &Node, credentials: Credentials, directory: Directory) {
    let caller = Node::start(config(1, credentials, directory), &[(2, us.address())]);
    eventually("it is refused", || 0 < us.net.strangers().refused).await;
    assert_eq!(caller.side(2).connections(), 0);
    assert_eq!(us.side(1).connections(), 0);
}

#[tokio::test]
async fn another_authority_is_refused() {
    let us = Node::us(&Authority::new());
    check_refused(&us, Authority::new().node("eu"), directory("db")).await;
}

#[tokio::test]
async fn another_database_is_refused() {
    let authority = Authority::new();
    let us = Node::us(&authority);
    let credentials = authority.credentials(&["meridian://other/eu/node-1"]);
    check_refused(&us, credentials, directory("other")).await;
}

#[tokio::test]
async fn an_unknown_region_is_refused() {
    let authority = Authority::new();
    let us = Node::us(&authority);
    let mut theirs = directory("db");
    theirs.regions.insert("mars".to_owned(), region(9));
    theirs.regions.remove("eu");
    theirs.regions.insert("venus".to_owned(), region(1));
    check_refused(&us, authority.node("venus"), theirs).await;
}

#[tokio::test]
async fn a_region_that_should_be_called_is_told() {
    let authority = Authority::new();
    let peers = [(1, nowhere()), (3, nowhere())];
    let us = Node::start(config(2, authority.node("us"), directory("db")), &peers);
    let mut theirs = directory("db");
    theirs.regions.insert("us".to_owned(), region(4)); // So that 3 believes that it should call.
    let ap = Node::start(
        config(3, authority.node("ap"), theirs),
        &[(4, us.address())],
    );
    eventually("it is refused", || {
        0 < ap.net.peer(region(4)).unwrap().counts.refused
    })
    .await;
    assert_eq!(us.side(3).connections(), 0);
}

#[tokio::test]
async fn a_certificate_that_has_expired_is_refused_at_start() {
    let authority = Authority::new();
    let pem = authority.issue(&["meridian://db/eu/node-1"], 2001);
    let credentials = load(&authority.pem(), &pem.chain, &pem.key).unwrap();
    let error = start(credentials).unwrap_err().to_string();
    assert!(error.contains("our certificate cannot be used"), "{error}");
    assert!(error.contains("Expired"), "{error}");
}

#[tokio::test]
async fn refused_callers_do_not_disturb_a_link() {
    let authority = Authority::new();
    let us = Node::us(&authority);
    let eu = Node::eu(&authority, &us);
    eventually("both are linked", || {
        eu.side(2).is_up() && us.side(1).is_up()
    })
    .await;
    let peers = [(2, us.address())];
    let _stranger = Node::start(
        config(1, Authority::new().node("eu"), directory("db")),
        &peers,
    );
    eventually("it is refused", || 0 < us.net.strangers().refused).await;
    eu.side(2).send_message(b"hello");
    eventually("it hears", || us.side(1).messages().len() == 1).await;
    assert_eq!((eu.side(2).connections(), us.side(1).connections()), (1, 1));
}

fn load(authority: &str, chain: &str, key: &str) -> Result<Credentials, TlsError> {
    Credentials::from_pem(authority.as_bytes(), chain.as_bytes(), key.as_bytes())
}

fn start(credentials: Credentials) -> Result<Net, OpenError> {
    Net::start(config(1, credentials, directory("db")), Vec::new())
}

#[tokio::test]
async fn errors_say_what_to_mend() {
    let authority = Authority::new();
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let pem = authority.issue(&["meridian://db/eu/node-1"], 2100);
    let other = authority.issue(&["meridian://db/eu/node-1"], 2100);
    std::fs::write(path("ca.pem"), authority.pem()).unwrap();
    std::fs::write(path("node.pem"), &pem.chain).unwrap();
    std::fs::write(path("node.key"), &pem.key).unwrap();
    std::fs::write(path("other.key"), &other.key).unwrap();
    std::fs::write(path("empty.pem"), "nothing here").unwrap();
    let load = |ca: &str, chain: &str, key: &str| {
        Credentials::load(&path(ca), &path(chain), &path(key)).map_err(|error| error.to_string())
    };
    assert!(load("ca.pem", "node.pem", "node.key").is_ok());
    let error = load("ca.pem", "missing.pem", "node.key").unwrap_err();
    assert!(error.contains("cannot read the certificate"), "{error}");
    assert!(error.contains("missing.pem"), "{error}");
    let error = load("empty.pem", "node.pem", "node.key").unwrap_err();
    assert!(error.contains("empty.pem holds no usable PEM"), "{error}");
    let error = load("ca.pem", "node.pem", "other.key").unwrap_err();
    assert!(error.contains("the private key does not fit"), "{error}");
}

#[tokio::test]
async fn our_own_certificate_must_be_one_that_peers_take() {
    let authority = Authority::new();
    let check = |uris: &[&str], expected: &str| {
        let error = start(authority.credentials(uris)).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    };
    check(&[], "carries no single name");
    check(&["https://example.com"], "carries no single name");
    check(&["meridian://db/eu"], "carries no single name");
    check(
        &["meridian://db/eu/a", "meridian://db/eu/b"],
        "carries no single name",
    );
    check(
        &["meridian://other/eu/a"],
        "of database \"other\", ours is \"db\"",
    );
    check(
        &["meridian://db/mars/a"],
        "of region \"mars\", which is not configured",
    );
    check(
        &["meridian://db/us/a"],
        "of region 2, the configuration says 1",
    );
    start(authority.credentials(&["meridian://db/1/a"])).unwrap(); // A number does as well.
}

#[tokio::test]
async fn an_address_in_use_is_said() {
    let authority = Authority::new();
    let us = Node::us(&authority);
    let mut second = config(1, authority.node("eu"), directory("db"));
    second.listen = us.address();
    let error = Net::start(second, Vec::new()).unwrap_err().to_string();
    let address: SocketAddr = us.address();
    assert!(
        error.contains(&format!("cannot listen on UDP {address}")),
        "{error}"
    );
    assert_ne!(address, nowhere());
}
