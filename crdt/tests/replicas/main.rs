//! Regions that write, exchange ops, fail and collect, against the reference model.

mod cluster;
mod ended;
mod laws;
mod merges;
mod model;
mod regressions;
mod small;
