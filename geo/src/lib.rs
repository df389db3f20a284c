//! Replication between the regions of a Meridian database.
//!
//! [`proto`] is the link between two regions as a state machine without I/O: what it promises is
//! said there. [`net`] drives links over QUIC.

#![forbid(unsafe_code)]
#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::panic))]

#[cfg(feature = "net")]
pub mod net;
pub mod proto;
#[cfg(feature = "testing")]
pub mod testing;
