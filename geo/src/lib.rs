//! Replication between the regions of a Meridian database.

#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::panic))]
