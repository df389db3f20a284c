//! Commands on the connection and the server, and what is no command at all.

use super::Row;
use crate::compare::Compare::{Exact, Ignore};
use crate::generator::words;

pub(super) fn rows() -> Vec<Row> {
    vec![
        Row::new("DBSIZE", Exact, |_| words![]).weight(2),
        Row::new("ECHO", Exact, |g| words![g.text()]).weight(1),
        Row::new("PING", Exact, |g| g.maybe(0.5, |g| words![g.text()])).weight(1),
        Row::new("SELECT", Exact, |g| words![g.pick(&["0", "0", "0", "x"])]).weight(1),
        Row::new("TIME", Ignore, |_| words![]).weight(1),
        Row::new("NOSUCHCOMMAND", Exact, |g| g.some(3, |g| words![g.field()])).weight(1),
    ]
}
