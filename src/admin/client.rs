//! `meridian admin region …`: asks a node over its admin port, and prints for people.

use std::fmt::Write as _;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};
use serde_json::Value;

use super::{ADDRESS_FILE, token};
use crate::http::{self, escaped};

/// How long an answer may take.
const ANSWER_LIMIT: Duration = Duration::from_secs(30);
/// Silence after which it is worth telling.
const SILENT_MS: u64 = 3_000;
/// The token's file in a data directory.
const TOKEN_FILE: &str = "admin-token";

/// Which node to ask.
#[derive(Clone, Debug, Args)]
pub struct Target {
    /// Folder with the node's token, as a rule its data directory; it says where the node is, too
    #[arg(long, value_name = "DIR", global = true)]
    dir: Option<PathBuf>,
    /// Where the admin port of the node is; a port alone is one of this machine
    #[arg(long, value_name = "HOST:PORT", global = true)]
    node: Option<String>,
    /// File with the node's token
    #[arg(long, value_name = "FILE", global = true)]
    token_file: Option<PathBuf>,
}

/// What to do about regions.
#[derive(Clone, Debug, PartialEq, Eq, Subcommand)]
pub enum Region {
    /// Lists the regions, as the node sees them
    List {
        /// Prints the JSON that the node answers with
        #[arg(long)]
        json: bool,
    },
    /// Lets a new region in
    Add {
        /// Its name
        name: String,
        /// Its id, 1 to 255, that no region of the database has ever had
        #[arg(long)]
        id: String,
        /// Where its node listens for other regions (UDP)
        #[arg(long, value_name = "HOST:PORT")]
        address: String,
    },
    /// Forgets a region: it is refused, and holds up nothing any more
    Forget {
        /// Its name, or # and its id
        name: String,
    },
    /// Lets a forgotten region back in, once its node is started again
    Rejoin {
        /// Its name, or # and its id
        name: String,
    },
    /// Admits the times of a region whose clock is ahead, until the node restarts
    AcceptClock {
        /// Its name
        name: String,
    },
}

/// Why a request came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// It is not said which node is meant.
    #[error("which node? give --dir with its data directory, or --node and --token-file")]
    NoTarget,
    /// The folder does not say where the node is.
    #[error("{path}: {error}; does the node have an admin-port?", path = path.display())]
    Address {
        /// The file that should.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// The token cannot be read.
    #[error(transparent)]
    Token(#[from] token::TokenError),
    /// Nobody answers there.
    #[error("{node}: {error}; is the node up, and is this its admin-port?")]
    Unreachable {
        /// Where.
        node: String,
        /// What the system says.
        error: io::Error,
    },
    /// What answers is something else.
    #[error("{node}: what answers there is no node of Meridian (status {status})")]
    Stranger {
        /// Where.
        node: String,
        /// What it said.
        status: u16,
    },
    /// A backup was begun and has failed.
    #[error("{path}: {text}")]
    Failed {
        /// Where it should go.
        path: String,
        /// What the node says.
        text: String,
    },
    /// The node says no, and why.
    #[error("{node}: {text}")]
    Refused {
        /// Which.
        node: String,
        /// What it said.
        text: String,
    },
}

impl Target {
    /// Where the node is, and its token.
    fn find(&self) -> Result<(String, String), CallError> {
        let in_dir = |name| self.dir.as_ref().map(|dir| dir.join(name));
        let token_file = self.token_file.clone().or_else(|| in_dir(TOKEN_FILE));
        let token_file = token_file.ok_or(CallError::NoTarget)?;
        let node = match (&self.node, in_dir(ADDRESS_FILE)) {
            (Some(node), _) => node.clone(),
            (None, Some(path)) => {
                let text = std::fs::read_to_string(&path);
                let text = text.map_err(|error| CallError::Address { path, error })?;
                text.trim_end().to_owned()
            }
            (None, None) => return Err(CallError::NoTarget),
        };
        let node = if node.contains(':') {
            node
        } else {
            format!("127.0.0.1:{node}")
        };
        Ok((node, token::read(&token_file)?))
    }

    pub(super) fn call(&self, line: (&str, &str)) -> Result<Value, CallError> {
        let (node, token) = self.find()?;
        let answer = http::exchange(node.as_str(), line, Some(&token), ANSWER_LIMIT);
        let answer = match answer {
            Ok(answer) => answer,
            Err(error) => return Err(CallError::Unreachable { node, error }),
        };
        let status = answer.status;
        let body: Option<Value> = serde_json::from_str(&answer.body).ok();
        let refusal = body.as_ref().and_then(|body| body["error"].as_str());
        match (&body, refusal) {
            (_, Some(text)) => {
                let text = text.to_owned();
                Err(CallError::Refused { node, text })
            }
            (Some(body), None) if status == 200 => Ok(body.clone()),
            _ => Err(CallError::Stranger { node, status }),
        }
    }
}

impl Region {
    /// Asks the node, and returns what to print.
    pub fn run(&self, target: &Target) -> Result<String, CallError> {
        match self {
            Self::List { json } => {
                let answer = target.call(("GET", "/v1/regions"))?;
                if *json {
                    return Ok(format!("{answer:#}"));
                }
                Ok(table(&answer))
            }
            Self::Add { name, id, address } => {
                let fields = [("name", name), ("id", id), ("address", address)];
                let fields = fields.map(|(key, value)| format!("{key}={}", escaped(value)));
                let path = format!("/v1/regions?{}", fields.join("&"));
                target.call(("POST", &path))?;
                Ok(format!(
                    "{name} is to join: start it with `join` set; `list` shows who has let it in"
                ))
            }
            Self::Forget { name } => {
                target.call(("POST", &format!("/v1/regions/{}/forget", escaped(name))))?;
                Ok(format!(
                    "{name} is forgotten: it is refused, and the others do without it"
                ))
            }
            Self::Rejoin { name } => {
                target.call(("POST", &format!("/v1/regions/{}/rejoin", escaped(name))))?;
                Ok(format!("{name} may come back: start its node again"))
            }
            Self::AcceptClock { name } => {
                let path = format!("/v1/regions/{}/accept-clock", escaped(name));
                target.call(("POST", &path))?;
                Ok(format!(
                    "{name}: its times are admitted here until this node restarts"
                ))
            }
        }
    }
}

/// A row a region, in columns.
fn table(answer: &Value) -> String {
    let none = Vec::new();
    let regions = answer["regions"].as_array().unwrap_or(&none);
    if regions.is_empty() {
        return "this database has no other region".to_owned();
    }
    let text = |row: &Value, key: &str| {
        let value = &row[key];
        value
            .as_str()
            .map_or_else(|| value.to_string(), str::to_owned)
    };
    let columns = ["id", "name", "stage", "state", "lag_ms", "pending_ops"];
    let titles = ["ID", "NAME", "STAGE", "LINK", "LAG-MS", "PENDING-OPS"];
    let mut rows = vec![titles.map(ToOwned::to_owned)];
    rows.extend(regions.iter().map(|row| columns.map(|key| text(row, key))));
    let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns.len()).map(width).collect();
    let mut out = String::new();
    for row in &rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            let _ = write!(line, "{cell:width$}  ");
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
    for row in regions {
        let (name, silent_ms) = (text(row, "name"), row["silent_ms"].as_u64().unwrap_or(0));
        if row["must_decide"] == true {
            let _ = writeln!(
                out,
                "{name} has been silent for {} s, and is not excluded: the regions that are heard \
                 here do not outweigh the rest; if it is gone, forget it",
                silent_ms / 1_000
            );
        } else if SILENT_MS <= silent_ms {
            let _ = writeln!(out, "{name} has been silent for {} s", silent_ms / 1_000);
        }
        let names = row["waits_for"].as_array().unwrap_or(&none);
        let names: Vec<&str> = names.iter().filter_map(Value::as_str).collect();
        if !names.is_empty() {
            let _ = writeln!(out, "{} waits for: {}", text(row, "name"), names.join(", "));
        }
    }
    out.trim_end().to_owned()
}
