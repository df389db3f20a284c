//! A path between two nodes with a delay, loss and a largest packet, like one across an ocean.

use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};
use tokio::net::UdpSocket;
use tokio::sync::oneshot;
use tokio::time::timeout_at;

use super::node::now;

/// What a path does to packets.
#[derive(Clone, Copy, Debug)]
pub(super) struct Path {
    /// One way.
    pub(super) delay: Duration,
    /// Share of packets that vanish, each way.
    pub(super) loss: f64,
    /// Larger packets vanish: 1,500 bytes without the headers of IP and UDP.
    pub(super) packet_bytes_max: usize,
}

/// A relay on a thread of its own, until it is dropped.
#[derive(Debug)]
pub(super) struct Relay {
    pub(super) address: SocketAddr,
    is_cut: Arc<AtomicBool>,
    _stop: oneshot::Sender<()>,
}

impl Relay {
    /// Passes packets on between whoever sends to its address and `to`.
    pub(super) fn start(path: Path, to: SocketAddr) -> Self {
        let front = bind();
        let back = bind();
        back.connect(&to.into()).unwrap();
        let address = front.local_addr().unwrap().as_socket().unwrap();
        let (stop, stopped) = oneshot::channel();
        let is_cut = Arc::new(AtomicBool::new(false));
        let cut = Arc::clone(&is_cut);
        #[expect(
            clippy::disallowed_methods,
            reason = "a path is no part of the nodes it joins"
        )]
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build();
            runtime.unwrap().block_on(async {
                let front = UdpSocket::from_std(front.into()).unwrap();
                let back = UdpSocket::from_std(back.into()).unwrap();
                tokio::select! {
                    _ = stopped => {}
                    () = relay(path, &cut, front, back) => {}
                }
            });
        });
        Self {
            address,
            is_cut,
            _stop: stop,
        }
    }

    /// Whether all packets vanish.
    pub(super) fn set_cut(&self, is_cut: bool) {
        self.is_cut.store(is_cut, Ordering::SeqCst);
    }
}

fn bind() -> Socket {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, None).unwrap();
    socket.set_recv_buffer_size(8 << 20).unwrap();
    socket.set_nonblocking(true).unwrap();
    socket
        .bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into())
        .unwrap();
    socket
}

/// Packets on their way in one direction.
#[derive(Debug, Default)]
struct Way(VecDeque<(Instant, Vec<u8>)>);

impl Way {
    fn enter(&mut self, path: Path, packet: &[u8], random: &mut fastrand::Rng) {
        if packet.len() <= path.packet_bytes_max && path.loss <= random.f64() {
            self.0.push_back((now() + path.delay, packet.to_vec()));
        }
    }

    fn leave(&mut self) -> Option<Vec<u8>> {
        if now() < self.0.front()?.0 {
            None
        } else {
            Some(self.0.pop_front()?.1)
        }
    }
}

async fn relay(path: Path, is_cut: &AtomicBool, front: UdpSocket, back: UdpSocket) {
    let mut random = fastrand::Rng::with_seed(7);
    let mut caller = None;
    let (mut there, mut here) = (Way::default(), Way::default());
    let mut packet = vec![0; 1 << 16];
    loop {
        while let Ok((bytes, from)) = front.try_recv_from(&mut packet) {
            caller = Some(from);
            there.enter(path, &packet[..bytes], &mut random);
        }
        while let Ok(bytes) = back.try_recv(&mut packet) {
            here.enter(path, &packet[..bytes], &mut random);
        }
        if is_cut.load(Ordering::SeqCst) {
            (there, here) = (Way::default(), Way::default());
        }
        while let Some(packet) = there.leave() {
            let _ = back.try_send(&packet);
        }
        while let (Some(packet), Some(caller)) = (here.leave(), caller) {
            let _ = front.try_send_to(&packet, caller);
        }
        let due = [&there, &here]
            .into_iter()
            .filter_map(|way| way.0.front())
            .map(|p| p.0)
            .min();
        let due = due.unwrap_or_else(|| now() + Duration::from_millis(10));
        let arrival = async {
            tokio::select! {
                _ = front.readable() => {}
                _ = back.readable() => {}
            }
        };
        let _ = timeout_at(due.into(), arrival).await;
    }
}
