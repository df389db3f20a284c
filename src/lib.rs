//! Meridian: an active-active, geo-replicated database that speaks the Redis protocol.

#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::panic))]

pub mod command;
pub mod limits;
pub mod resp;
