//! One QUIC endpoint per node: its socket and how its connections are tuned.
//!
//! Windows fit a path of 100 ms at 1 Gbit/s (12.5 MB under way) for one busy shard; together the
//! lanes cannot use up the connection's window, so that control messages always get through.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crdt::Region;
use quinn::congestion::{BbrConfig, ControllerFactory, CubicConfig};
use quinn::{
    ClientConfig, Endpoint, EndpointConfig, IdleTimeout, MtuDiscoveryConfig, ServerConfig,
    TokioRuntime, TransportConfig, VarInt,
};
use socket2::{Domain, Protocol, Socket, Type};

use super::tls::{Identity, TlsError};

/// Lanes that a peer may open.
pub(super) const LANES_MAX: u32 = 64;
const STREAM_WINDOW: u32 = 16 << 20;
/// Of all lanes of our own frames together.
const LANES_WINDOW: u32 = 64 << 20;
/// Beyond what the lanes can use up.
const CONTROL_WINDOW: u32 = 4 << 20;
const SOCKET_BUFFER: usize = 8 << 20;
/// A sealed batch of packets beyond 64 KiB is an error to the system, which quinn takes for loss:
/// ten packets of this size stay below.
const MTU_MAX: u16 = 6_500;
/// Nothing heard for so long: the peer is gone. Less than the 3 s after which a link is down.
const IDLE: Duration = Duration::from_millis(2_500);
/// Three in a row may be lost.
const KEEP_ALIVE: Duration = Duration::from_millis(700);
/// Handshakes under way.
pub(super) const HANDSHAKES_MAX: usize = 64;

/// How a connection finds out how fast it may send. Measured in docs/decisions/0003-geo-lanes.md.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Congestion {
    /// By bandwidth and round trip: some loss does not slow it down.
    #[default]
    Bbr,
    /// By loss (RFC 9438).
    Cubic,
}

/// How connections are tuned.
#[derive(Clone, Copy, Debug)]
pub struct Tuning {
    /// Streams for frames of our own, up to 60. One more is for those of other regions, and one for
    /// state.
    pub lanes: u16,
    /// How to find the sending rate.
    pub congestion: Congestion,
    /// The round trip to assume before one has been measured.
    pub initial_rtt: Duration,
}

impl Default for Tuning {
    fn default() -> Self {
        Self {
            lanes: 16,
            congestion: Congestion::default(),
            initial_rtt: Duration::from_millis(100),
        }
    }
}

impl Tuning {
    /// Streams of frames that each side opens.
    pub(super) fn streams(self) -> u16 {
        self.lanes.clamp(1, LANES_MAX as u16 - 2) + 2
    }

    fn transport(self) -> Arc<TransportConfig> {
        let mut mtu = MtuDiscoveryConfig::default();
        mtu.upper_bound(MTU_MAX);
        let lanes = u32::from(self.streams() - 2);
        let stream_window = STREAM_WINDOW.min(LANES_WINDOW / lanes);
        let connection_window = (lanes + 2) * stream_window + CONTROL_WINDOW;
        let mut transport = TransportConfig::default();
        transport
            .max_concurrent_bidi_streams(VarInt::from_u32(1))
            .max_concurrent_uni_streams(VarInt::from_u32(LANES_MAX))
            .stream_receive_window(VarInt::from_u32(stream_window))
            .receive_window(VarInt::from_u32(connection_window))
            .send_window(u64::from(connection_window))
            .datagram_receive_buffer_size(None)
            .mtu_discovery_config(Some(mtu))
            .max_idle_timeout(Some(IdleTimeout::from(VarInt::from_u32(
                IDLE.as_millis() as u32
            ))))
            .keep_alive_interval(Some(KEEP_ALIVE))
            .initial_rtt(self.initial_rtt)
            .enable_segmentation_offload(true)
            .congestion_controller_factory(self.controller());
        Arc::new(transport)
    }

    fn controller(self) -> Arc<dyn ControllerFactory + Send + Sync> {
        match self.congestion {
            Congestion::Cubic => Arc::new(CubicConfig::default()),
            Congestion::Bbr => Arc::new(BbrConfig::default()),
        }
    }
}

/// Binds `address`, and the network interface if one is named, and gets ready to answer. Must be
/// called within a tokio runtime, which then drives it.
pub(super) fn open(
    address: SocketAddr,
    interface: Option<&str>,
    identity: &Identity,
    tuning: Tuning,
) -> Result<Endpoint, OpenError> {
    let socket = bind(address, interface).map_err(|error| OpenError::Bind { address, error })?;
    let mut server = ServerConfig::with_crypto(Arc::new(identity.server()?));
    server
        .transport_config(tuning.transport())
        .max_incoming(2 * HANDSHAKES_MAX);
    Endpoint::new(
        EndpointConfig::default(),
        Some(server),
        socket,
        Arc::new(TokioRuntime),
    )
    .map_err(|error| OpenError::Bind { address, error })
}

/// How to call region `peer`.
pub(super) fn client(
    identity: &Identity,
    tuning: Tuning,
    peer: Region,
) -> Result<ClientConfig, TlsError> {
    let mut client = ClientConfig::new(Arc::new(identity.client(peer)?));
    client.transport_config(tuning.transport());
    Ok(client)
}

/// Why there is no endpoint.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The address is in use, or not ours.
    #[error("cannot listen on UDP {address}: {error}")]
    Bind {
        /// Where we wanted to listen.
        address: SocketAddr,
        /// Why we cannot.
        error: io::Error,
    },
    /// The certificates cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

fn bind(address: SocketAddr, interface: Option<&str>) -> io::Result<std::net::UdpSocket> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::DGRAM,
        Some(Protocol::UDP),
    )?;
    if address.is_ipv6() {
        // One socket for both, where the system lets it.
        let _ = socket.set_only_v6(false);
    }
    // The system may grant less; more loss under bursts is all that follows.
    let _ = socket.set_recv_buffer_size(SOCKET_BUFFER);
    let _ = socket.set_send_buffer_size(SOCKET_BUFFER);
    socket.set_nonblocking(true)?;
    if let Some(interface) = interface {
        socket
            .bind_device(Some(interface.as_bytes()))
            .map_err(|error| io::Error::new(error.kind(), format!("{interface}: {error}")))?;
    }
    socket.bind(&address.into())?;
    tracing::debug!(
        %address,
        receive_buffer = socket.recv_buffer_size().unwrap_or(0),
        send_buffer = socket.send_buffer_size().unwrap_or(0),
        "listening for regions"
    );
    Ok(socket.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interface_is_bound_or_named_in_the_error() {
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        bind(address, Some("lo")).unwrap();
        let error = bind(address, Some("nowhere7")).unwrap_err().to_string();
        assert!(error.starts_with("nowhere7: "), "{error}");
    }
}
