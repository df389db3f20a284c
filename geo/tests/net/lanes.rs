//! How many lanes, and which congestion control: measured over a path of 80 ms and 1 % loss.
//! The figures are in docs/decisions/0003-geo-lanes.md.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

use bytes::Bytes;
use geo::net::{
    Accept, Config, Congestion, Ended, Handler, Net, PeerConfig, Reject, Transmit, Tuning, Waker,
};

use super::certificates::{Authority, directory, region};
use super::node::{config, eventually, frame, now, nowhere};
use super::relay::{Path, Relay};

const SHARDS: u16 = 16;
const WARM_UP: Duration = Duration::from_secs(3);
const MEASURED: Duration = Duration::from_secs(8);
/// Across an ocean.
const PATH: Path = Path {
    delay: Duration::from_millis(40),
    loss: 0.01,
    packet_bytes_max: 1_472,
};

/// What a sender does.
#[derive(Clone, Copy, Debug)]
enum Load {
    /// Every millisecond so many frames of 150 bytes, over all shards.
    Steady(u16),
    /// As much as it can, in frames of 16 KiB.
    Bulk,
}

/// Sends a load, or measures one.
#[derive(Debug)]
struct Meter {
    load: Option<Load>,
    lanes: u16,
    began: Instant,
    waker: Waker,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    is_up: bool,
    sent: u64,
    /// When it came, how long it took, how large it was.
    came: Vec<(Instant, Duration, usize)>,
}

impl Meter {
    fn new(load: Option<Load>, lanes: u16, began: Instant) -> Arc<Self> {
        let (waker, state) = (Waker::default(), Mutex::default());
        let meter = Arc::new(Self {
            load,
            lanes,
            began,
            waker,
            state,
        });
        if matches!(load, Some(Load::Steady(_))) {
            write_now_and_then(Arc::downgrade(&meter));
        }
        meter
    }

    /// A frame with the time at which its ops were issued.
    fn stamped(&self, issued: Instant, bytes: usize) -> Bytes {
        let mut content = vec![0; bytes];
        let ns = issued.duration_since(self.began).as_nanos() as u64;
        content[..8].copy_from_slice(&ns.to_le_bytes());
        frame(&content)
    }
}

/// Wakes the sender as writes of clients would, until the meter is gone.
#[expect(
    clippy::disallowed_methods,
    reason = "clients have threads of their own"
)]
fn write_now_and_then(meter: Weak<Meter>) {
    std::thread::spawn(move || {
        while let Some(meter) = meter.upgrade() {
            meter.waker.wake();
            drop(meter);
            std::thread::park_timeout(Duration::from_micros(50));
        }
    });
}

impl Handler for Meter {
    fn connected(&self, _now: Instant) {
        self.state.lock().unwrap().is_up = true;
    }

    fn disconnected(&self, _now: Instant, why: &Ended) {
        assert!(matches!(why, Ended::Stopped | Ended::PeerStopped), "{why}");
    }

    fn control(&self, _now: Instant, _message: &[u8]) -> Result<(), Reject> {
        Ok(())
    }

    fn frame(&self, now: Instant, frame: Bytes) -> Result<Accept, Reject> {
        let ns = u64::from_le_bytes(frame[4..12].try_into().unwrap());
        let took = now.duration_since(self.began + Duration::from_nanos(ns));
        self.state
            .lock()
            .unwrap()
            .came
            .push((now, took, frame.len()));
        Ok(Accept::Taken)
    }

    fn timeout(&self, _now: Instant) -> Result<(), Reject> {
        Ok(())
    }

    fn next_timeout(&self) -> Option<Instant> {
        None
    }

    fn poll(&self, now: Instant) -> Option<Transmit> {
        let mut state = self.state.lock().unwrap();
        let n = state.sent;
        let bytes = match self.load? {
            Load::Bulk => self.stamped(now, 16 << 10),
            Load::Steady(frames_per_ms) => {
                let issued = self.began + Duration::from_millis(n / u64::from(frames_per_ms));
                if now < issued {
                    return None;
                }
                self.stamped(issued, 150)
            }
        };
        state.sent += 1;
        Some(Transmit::Frame {
            lane: (n % u64::from(SHARDS)) as u16 % self.lanes,
            bytes,
        })
    }
}

fn start(own: u8, config: Config, address: SocketAddr, meter: &Arc<Meter>) -> Net {
    let peer = PeerConfig {
        region: region(3 - own),
        address: address.to_string(),
        handler: Arc::clone(meter) as Arc<dyn Handler>,
        waker: meter.waker.clone(),
    };
    Net::start(config, vec![peer]).unwrap()
}

/// Prints what one setting gives under one load.
#[expect(clippy::print_stdout, reason = "the figures are what it is for")]
async fn measure(path: Path, lanes: u16, congestion: Congestion, load: Load) {
    let authority = Authority::new();
    let began = now();
    let (sender, receiver) = (
        Meter::new(Some(load), lanes, began),
        Meter::new(None, lanes, began),
    );
    let tuned = |own, name| {
        let mut config = config(own, authority.node(name), directory("db"));
        config.tuning = Tuning {
            lanes,
            congestion,
            ..Tuning::default()
        };
        config
    };
    let us = start(2, tuned(2, "us"), nowhere(), &receiver);
    let relay = Relay::start(path, us.local_addr().unwrap());
    let eu = start(1, tuned(1, "eu"), relay.address, &sender);
    eventually("it is linked", || receiver.state.lock().unwrap().is_up).await;
    let from = now() + WARM_UP;
    let until = from + MEASURED;
    eventually("it is over", || until < now()).await;
    let (mut took, mut bytes) = (Vec::new(), 0);
    for (at, lag, size) in &receiver.state.lock().unwrap().came {
        if (from..until).contains(at) {
            took.push(lag.saturating_sub(path.delay).as_secs_f64() * 1e3);
            bytes += size;
        }
    }
    took.sort_unstable_by(f64::total_cmp);
    let at = |share: usize| {
        took.get(took.len() * share / 1_000)
            .copied()
            .unwrap_or_default()
    };
    let rate = bytes as f64 / MEASURED.as_secs_f64() / 1e6;
    let sent = eu.peer(region(2)).and_then(|peer| peer.path);
    let (packets, lost) = sent.map_or((0, 0), |path| (path.packets_sent, path.packets_lost));
    println!(
        "{} ms {} % {congestion:?} {lanes} lanes, {load:?}: {rate:.2} MB/s, \
         p50 {:.1} p99 {:.1} p99.9 {:.1} ms above the path, {lost} of {packets} packets lost",
        2 * path.delay.as_millis(),
        path.loss * 100.0,
        at(500),
        at(990),
        at(999),
    );
    eu.stop().await;
    us.stop().await;
}

#[tokio::test]
#[ignore = "a measurement of minutes, not a test; docs/decisions/0003-geo-lanes.md has the command"]
async fn lanes_over_a_lossy_path() {
    for load in [Load::Steady(1), Load::Steady(16), Load::Bulk] {
        for congestion in [Congestion::Cubic, Congestion::Bbr] {
            for lanes in [1, 4, 16] {
                measure(PATH, lanes, congestion, load).await;
            }
        }
    }
}

#[tokio::test]
#[ignore = "a measurement of minutes, not a test; docs/decisions/0003-geo-lanes.md has the command"]
async fn congestion_control_over_clean_paths() {
    for delay in [Duration::ZERO, PATH.delay] {
        let path = Path {
            delay,
            loss: 0.0,
            ..PATH
        };
        for congestion in [Congestion::Cubic, Congestion::Bbr] {
            for load in [Load::Steady(16), Load::Bulk] {
                measure(path, 16, congestion, load).await;
            }
        }
    }
}
