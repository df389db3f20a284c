//! A node whose links send what a test puts in, and keep what comes.

use std::collections::{BTreeMap, VecDeque};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use geo::net::{
    Accept, Config, Credentials, Directory, Ended, Handler, Net, PeerConfig, Reject, Transmit,
    Waker,
};

use super::certificates::{Authority, directory, region};

pub(super) const DEADLINE: Duration = Duration::from_secs(20);

/// One side of a link, as a test sees it.
#[derive(Default)]
pub(super) struct Side {
    pub(super) waker: Waker,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    outgoing: VecDeque<Transmit>,
    messages: Vec<Vec<u8>>,
    frames: Vec<Bytes>,
    connections: usize,
    endings: Vec<Ended>,
    /// Frames with this content are answered with "later".
    full: Option<u8>,
    laters: usize,
    /// Whether its peer's build knows nothing of compression.
    is_old: bool,
    due: Option<Instant>,
    timeouts: usize,
}

impl Side {
    pub(super) fn send(&self, transmit: Transmit) {
        self.state.lock().unwrap().outgoing.push_back(transmit);
        self.waker.wake();
    }

    pub(super) fn send_message(&self, message: &[u8]) {
        self.send(Transmit::Control(message.to_vec()));
    }

    pub(super) fn send_frame(&self, lane: u16, frame: Bytes) {
        self.send(Transmit::Frame { lane, bytes: frame });
    }

    pub(super) fn set_full(&self, content: Option<u8>) {
        self.state.lock().unwrap().full = content;
    }

    pub(super) fn set_due(&self, due: Instant) {
        self.state.lock().unwrap().due = Some(due);
        self.waker.wake();
    }

    pub(super) fn takes_nothing_compressed(&self) {
        self.state.lock().unwrap().is_old = true;
    }

    pub(super) fn timeouts(&self) -> usize {
        self.state.lock().unwrap().timeouts
    }

    pub(super) fn messages(&self) -> Vec<Vec<u8>> {
        self.state.lock().unwrap().messages.clone()
    }

    pub(super) fn frames(&self) -> Vec<Bytes> {
        self.state.lock().unwrap().frames.clone()
    }

    pub(super) fn unsent(&self) -> usize {
        self.state.lock().unwrap().outgoing.len()
    }

    pub(super) fn laters(&self) -> usize {
        self.state.lock().unwrap().laters
    }

    pub(super) fn endings(&self) -> Vec<Ended> {
        self.state.lock().unwrap().endings.clone()
    }

    pub(super) fn connections(&self) -> usize {
        self.state.lock().unwrap().connections
    }

    pub(super) fn is_up(&self) -> bool {
        let state = self.state.lock().unwrap();
        state.endings.len() < state.connections
    }
}

impl Handler for Side {
    fn connected(&self, _now: Instant) {
        let mut state = self.state.lock().unwrap();
        assert_eq!(
            state.connections,
            state.endings.len(),
            "one connection at a time"
        );
        state.connections += 1;
    }

    fn disconnected(&self, _now: Instant, why: &Ended) {
        self.state.lock().unwrap().endings.push(why.clone());
    }

    fn control(&self, _now: Instant, message: &[u8]) -> Result<(), Reject> {
        if message == b"nonsense" {
            return Err(Reject {
                reason: "that is nonsense".to_owned(),
                needs_operator: false,
            });
        }
        self.state.lock().unwrap().messages.push(message.to_vec());
        Ok(())
    }

    fn frame(&self, _now: Instant, frame: Bytes) -> Result<Accept, Reject> {
        let mut state = self.state.lock().unwrap();
        if state.full.is_some() && frame.get(4).copied() == state.full {
            state.laters += 1;
            return Ok(Accept::Later);
        }
        state.frames.push(frame);
        Ok(Accept::Taken)
    }

    fn timeout(&self, now: Instant) -> Result<(), Reject> {
        let mut state = self.state.lock().unwrap();
        assert!(state.due.take().is_some_and(|due| due <= now), "not due");
        state.timeouts += 1;
        Ok(())
    }

    fn next_timeout(&self) -> Option<Instant> {
        self.state.lock().unwrap().due
    }

    fn poll(&self, _now: Instant) -> Option<Transmit> {
        self.state.lock().unwrap().outgoing.pop_front()
    }

    fn takes_compressed(&self) -> bool {
        !self.state.lock().unwrap().is_old
    }
}

/// A driver and its sides by peer.
pub(super) struct Node {
    pub(super) net: Net,
    pub(super) peers: BTreeMap<u8, Arc<Side>>,
}

pub(super) fn config(own: u8, credentials: Credentials, directory: Directory) -> Config {
    Config::new(
        region(own),
        SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
        credentials,
        directory,
    )
}

impl Node {
    pub(super) fn start(config: Config, peers: &[(u8, SocketAddr)]) -> Self {
        let sides: BTreeMap<u8, Arc<Side>> =
            peers.iter().map(|(id, _)| (*id, Arc::default())).collect();
        let configs = peers.iter().map(|(id, address)| PeerConfig {
            region: region(*id),
            address: address.to_string(),
            handler: Arc::clone(&sides[id]) as Arc<dyn Handler>,
            waker: sides[id].waker.clone(),
        });
        Self {
            net: Net::start(config, configs.collect()).unwrap(),
            peers: sides,
        }
    }

    /// Region 2, `us`, which waits to be called by 1.
    pub(super) fn us(authority: &Authority) -> Self {
        Self::start(
            config(2, authority.node("us"), directory("db")),
            &[(1, nowhere())],
        )
    }

    /// The same where another has been, whose socket may take a moment to close, and with region 1
    /// at `caller`.
    pub(super) async fn us_at(
        authority: &Authority,
        address: SocketAddr,
        caller: SocketAddr,
    ) -> Self {
        eventually("the address is free", || {
            std::net::UdpSocket::bind(address).is_ok()
        })
        .await;
        let mut config = config(2, authority.node("us"), directory("db"));
        config.listen = address;
        Self::start(config, &[(1, caller)])
    }

    /// Region 1, `eu`, which calls region 2.
    pub(super) fn eu(authority: &Authority, us: &Self) -> Self {
        Self::eu_calling(authority, us.address())
    }

    /// The same through a relay at `address`.
    pub(super) fn eu_calling(authority: &Authority, address: SocketAddr) -> Self {
        let peers = [(2, address)];
        Self::start(config(1, authority.node("eu"), directory("db")), &peers)
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.net.local_addr().unwrap()
    }

    pub(super) fn side(&self, peer: u8) -> &Side {
        &self.peers[&peer]
    }
}

/// The address of a peer that calls us.
pub(super) fn nowhere() -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, 9))
}

/// Two linked nodes, 1 and 2.
pub(super) async fn pair() -> (Node, Node) {
    let authority = Authority::new();
    let us = Node::us(&authority);
    let eu = Node::eu(&authority, &us);
    eventually("both are linked", || {
        eu.side(2).is_up() && us.side(1).is_up()
    })
    .await;
    (eu, us)
}

/// Waits until `condition` holds.
#[track_caller]
pub(super) fn eventually(what: &str, condition: impl Fn() -> bool) -> impl Future<Output = ()> {
    let caller = std::panic::Location::caller();
    async move {
        let due = now() + DEADLINE;
        let mut looks = tokio::time::interval(Duration::from_millis(1));
        while !condition() {
            assert!(now() < due, "not within {DEADLINE:?}: {what} ({caller})");
            looks.tick().await;
        }
    }
}

/// A frame with this content: its length in front.
pub(super) fn frame(content: &[u8]) -> Bytes {
    [&(content.len() as u32).to_le_bytes(), content]
        .concat()
        .into()
}

/// The clock that the driver goes by.
pub(super) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}
