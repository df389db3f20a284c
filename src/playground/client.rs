//! The commands that drive a running playground: one request to its control port each.

use std::io;
use std::net::Ipv4Addr;
use std::time::Duration;

use clap::Subcommand;

use crate::http::{escaped, exchange};

/// How long an answer may take: a node that starts has this long at most.
const ANSWER_LIMIT: Duration = Duration::from_secs(90);

/// What to ask a running playground for.
#[derive(Clone, Debug, PartialEq, Eq, Subcommand)]
pub enum Request {
    /// Prints regions, nodes and links as JSON
    Status,
    /// Cuts the link between two regions
    Cut {
        /// A region
        a: String,
        /// Another
        b: String,
        /// Only from the first to the second
        #[arg(long)]
        one_way: bool,
    },
    /// Heals the link between two regions, or all links
    Heal {
        /// The regions; none for all links
        #[arg(num_args = 2, value_names = ["A", "B"])]
        link: Vec<String>,
        /// Only from the first to the second
        #[arg(long, requires = "link")]
        one_way: bool,
    },
    /// Changes the link between two regions
    Shape {
        /// A region
        a: String,
        /// Another
        b: String,
        /// Round trip, such as 80ms
        #[arg(long, value_name = "TIME")]
        rtt: Option<String>,
        /// By how much each direction varies, such as 5ms
        #[arg(long, value_name = "TIME")]
        jitter: Option<String>,
        /// Share of datagrams that are lost, such as 0.01
        #[arg(long, value_name = "SHARE")]
        loss: Option<String>,
        /// Only from the first to the second
        #[arg(long)]
        one_way: bool,
    },
    /// Kills a node (SIGKILL)
    Kill {
        /// Such as us-east-1
        node: String,
    },
    /// Stops a node cleanly
    Stop {
        /// Such as us-east-1
        node: String,
    },
    /// Starts a node again
    Start {
        /// Such as us-east-1
        node: String,
    },
    /// Makes a node stand still (SIGSTOP)
    Pause {
        /// Such as us-east-1
        node: String,
    },
    /// Lets a paused node go on (SIGCONT)
    Resume {
        /// Such as us-east-1
        node: String,
    },
}

/// Why a request came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// Nothing listens there: no playground runs, or it has another control port.
    #[error("no playground answers on port {port}")]
    Unreachable {
        /// The control port.
        port: u16,
        /// What the system says.
        source: io::Error,
    },
    /// The playground says no, and why.
    #[error("{0}")]
    Refused(String),
}

impl Request {
    /// Sends the request and returns what to print.
    pub fn send(&self, port: u16) -> Result<String, RequestError> {
        let (method, path) = self.line();
        let answer = exchange(
            (Ipv4Addr::LOCALHOST, port),
            (method, &path),
            None,
            ANSWER_LIMIT,
        )
        .map_err(|source| RequestError::Unreachable { port, source })?;
        let body = answer.body.trim_end().to_owned();
        if (200..300).contains(&answer.status) {
            Ok(body)
        } else {
            Err(RequestError::Refused(format!("{body} ({})", answer.status)))
        }
    }

    /// The method and the path.
    fn line(&self) -> (&'static str, String) {
        let one_way = |is: bool| is.then_some(("one-way", "true"));
        let path = match self {
            Self::Status => return ("GET", "/status".to_owned()),
            Self::Cut { a, b, one_way: is } => link(a, b, "cut", one_way(*is)),
            Self::Heal {
                link: ends,
                one_way: is,
            } => match ends.as_slice() {
                [a, b] => link(a, b, "heal", one_way(*is)),
                _ => "/links/heal".to_owned(),
            },
            Self::Shape {
                a,
                b,
                rtt,
                jitter,
                loss,
                one_way: is,
            } => {
                let values = [("rtt", rtt), ("jitter", jitter), ("loss", loss)];
                let values = values
                    .into_iter()
                    .filter_map(|(name, value)| value.as_deref().map(|value| (name, value)));
                link(a, b, "shape", values.chain(one_way(*is)))
            }
            Self::Kill { node } => on_node(node, "kill"),
            Self::Stop { node } => on_node(node, "stop"),
            Self::Start { node } => on_node(node, "start"),
            Self::Pause { node } => on_node(node, "pause"),
            Self::Resume { node } => on_node(node, "resume"),
        };
        ("POST", path)
    }
}

fn link<'a>(
    a: &str,
    b: &str,
    action: &str,
    query: impl IntoIterator<Item = (&'a str, &'a str)>,
) -> String {
    let query: Vec<String> = query
        .into_iter()
        .map(|(name, value)| format!("{name}={}", escaped(value)))
        .collect();
    let mark = if query.is_empty() { "" } else { "?" };
    format!(
        "/links/{}/{}/{action}{mark}{}",
        escaped(a),
        escaped(b),
        query.join("&")
    )
}

fn on_node(node: &str, action: &str) -> String {
    format!("/nodes/{}/{action}", escaped(node))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(subcommand)]
        request: Request,
    }

    #[test]
    fn commands_are_requests() {
        for (words, expected) in [
            ("status", "GET /status"),
            ("cut a b", "POST /links/a/b/cut"),
            ("cut a b --one-way", "POST /links/a/b/cut?one-way=true"),
            ("heal", "POST /links/heal"),
            ("heal a b", "POST /links/a/b/heal"),
            (
                "shape a b --rtt 80ms --loss 0.01",
                "POST /links/a/b/shape?rtt=80ms&loss=0.01",
            ),
            (
                "shape a b/c --jitter 5&6",
                "POST /links/a/b%2Fc/shape?jitter=5%266",
            ),
            ("kill a-1", "POST /nodes/a-1/kill"),
            ("resume a-1", "POST /nodes/a-1/resume"),
        ] {
            let line = std::iter::once("playground").chain(words.split(' '));
            let (method, path) = Line::try_parse_from(line).unwrap().request.line();
            assert_eq!(format!("{method} {path}"), expected);
        }
    }

    #[test]
    fn a_link_has_two_ends() {
        for words in [
            &["playground", "heal", "a"][..],
            &["playground", "cut", "a"],
        ] {
            assert!(Line::try_parse_from(words).is_err(), "{words:?}");
        }
    }
}
