//! Meridian: an active-active, geo-replicated database that speaks the Redis protocol.
//!
//! The life of a write: `proxy` reads a request in place (`resp`), finds its row (`command`) and
//! its shard (`shards`), whose lock it takes. The handler reads and decides; what it writes becomes
//! effects of one op (`shard`), applied at once (`crdt`) and put into the shard's log, from which
//! the links to other regions read.

#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::panic))]

pub mod admin;
pub mod aside;
pub mod backup;
pub mod clock;
pub mod command;
pub mod config;
pub mod datadir;
pub mod durability;
pub mod heap;
mod http;
pub mod import;
pub mod limits;
pub mod links;
pub mod membership;
pub mod node;
pub mod oplog;
pub mod playground;
pub mod process;
pub mod proxy;
pub mod rdb;
pub mod resp;
pub mod session;
pub mod shard;
pub mod shards;
pub mod snapshot;
pub mod store;
pub mod telemetry;
