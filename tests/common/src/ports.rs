//! Free ports on loopback.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};

/// Below the range that the kernel gives to outgoing connections, so that none takes one of them
/// between our look and the server's bind.
const RANGE: std::ops::Range<u16> = 12_000..32_000;

/// A first port such that all of `first + offset` are free now. Another process may still be
/// faster, so the caller tries again when the server says that a port is in use.
pub(crate) fn free(offsets: &[u16]) -> u16 {
    loop {
        let first = fastrand::u16(RANGE);
        let are_free = offsets
            .iter()
            .all(|offset| TcpListener::bind(local(first + offset)).is_ok());
        if are_free {
            return first;
        }
    }
}

pub(crate) fn local(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}
