//! Settings as they were written: in a file, as flags, or both; flags win.
//!
//! Nothing is checked here but that every key is known. What a value may be says `Config`, which
//! asks for it by key and complains with the place where it stands.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use clap::{Args, Command};
use serde::Serialize;
use toml::{Table, Value};

/// What a user wrote. Each field is a flag of `meridian serve`, and a key of the file (except
/// `config` and `exit_with_parent`).
#[derive(Clone, Debug, Default, Args, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct RawConfig {
    /// File of settings (TOML); a flag wins over the file
    #[arg(long, value_name = "FILE")]
    #[serde(skip)]
    pub config: Option<PathBuf>,
    /// End when the process with this id, our parent, has ended
    #[arg(long, value_name = "PID", hide = true)]
    #[serde(skip)]
    pub exit_with_parent: Option<u32>,
    /// Name of the database, equal in all its regions
    #[arg(long, value_name = "NAME")]
    pub database: Option<String>,
    /// Name of this region
    #[arg(long, value_name = "NAME")]
    pub region: Option<String>,
    /// Id of this region, 1 to 255, never used for another
    #[arg(long, value_name = "ID")]
    pub region_id: Option<String>,
    /// The other regions, such as `2:eu-west@eu.example.com:6390,3:ap-south@…`
    #[arg(long, value_name = "ID:NAME@HOST:PORT,…")]
    pub peers: Option<String>,
    /// Whether this region is to join a database that runs, yes or no: it takes writes when all
    /// regions have let it in [default: no]
    #[arg(long, value_name = "YES|NO")]
    pub join: Option<String>,
    /// Name of this node [default: the region's name, and -1]
    #[arg(long, value_name = "NAME")]
    pub node: Option<String>,
    /// Address for clients [default: 127.0.0.1]
    #[arg(long, value_name = "IP")]
    pub bind: Option<String>,
    /// TCP port for clients; 0 takes any that is free [default: 6379]
    #[arg(long, value_name = "PORT")]
    pub port: Option<String>,
    /// Shards of the database, a power of two from 1 to 1024, equal in all regions [default: 16]
    #[arg(long, value_name = "N")]
    pub shards: Option<String>,
    /// Which commands may span slots: enterprise or non-clustered [default: enterprise]
    #[arg(long, value_name = "POLICY")]
    pub policy: Option<String>,
    /// Whether the rules of several regions hold, yes or no [default: if there are peers]
    #[arg(long, value_name = "YES|NO")]
    pub active_active: Option<String>,
    /// Address for other regions [default: that for clients]
    #[arg(long, value_name = "IP")]
    pub geo_bind: Option<String>,
    /// UDP port for other regions; 0 takes any that is free [default: 6390]
    #[arg(long, value_name = "PORT")]
    pub geo_port: Option<String>,
    /// Network interface for traffic between regions [default: as routed]
    #[arg(long, value_name = "NAME")]
    pub geo_interface: Option<String>,
    /// This node's certificate (PEM)
    #[arg(long, value_name = "FILE")]
    pub geo_cert: Option<String>,
    /// The private key of this node's certificate (PEM)
    #[arg(long, value_name = "FILE")]
    pub geo_key: Option<String>,
    /// The authorities that sign the certificates of this database's nodes (PEM)
    #[arg(long, value_name = "FILE")]
    pub geo_ca: Option<String>,
    /// Bytes of memory from which on what adds data is refused, or evicts; 0 is no limit
    /// [default: 0]
    #[arg(long, value_name = "SIZE")]
    pub maxmemory: Option<String>,
    /// What goes when memory is short: noeviction, or allkeys- or volatile- with lru, lfu or
    /// random, or volatile-ttl [default: noeviction]
    #[arg(long, value_name = "POLICY")]
    pub maxmemory_policy: Option<String>,
    /// How far beyond maxmemory ops of other regions are taken, percent of it [default: 20]
    #[arg(long, value_name = "PERCENT")]
    pub maxmemory_reserve: Option<String>,
    /// Keys that are looked at for one that is evicted, 1 to 64 [default: 5]
    #[arg(long, value_name = "N")]
    pub maxmemory_samples: Option<String>,
    /// How many uses a step of the count of an LFU policy stands for [default: 10]
    #[arg(long, value_name = "N")]
    pub lfu_log_factor: Option<String>,
    /// Minutes after which the count of an LFU policy falls by one; 0 is never [default: 1]
    #[arg(long, value_name = "MINUTES")]
    pub lfu_decay_time: Option<String>,
    /// Memory for ops that other regions may still need, shared by all shards [default: 512MiB]
    #[arg(long, value_name = "SIZE")]
    pub geo_log_memory: Option<String>,
    /// Whether frames to other regions are compressed: off, apart (where the round trip is 5 ms or
    /// more) or on [default: apart]
    #[arg(long, value_name = "WHERE")]
    pub geo_compression: Option<String>,
    /// Where to keep data; without it everything is in memory and gone with the process
    #[arg(long, value_name = "DIR")]
    pub dir: Option<String>,
    /// How safe a write is before its reply: always, everysec or no [default: everysec]
    #[arg(long, value_name = "WHEN")]
    pub appendfsync: Option<String>,
    /// Disk for ops that regions which lag still need [default: 10GiB]
    #[arg(long, value_name = "SIZE")]
    pub geo_log_budget: Option<String>,
    /// TCP port on 127.0.0.1 for `meridian admin`; 0 takes any that is free [default: none]
    #[arg(long, value_name = "PORT")]
    pub admin_port: Option<String>,
    /// File with the token of that port, made if it is not there [default: admin-token in dir]
    #[arg(long, value_name = "FILE")]
    pub admin_token_file: Option<String>,
    /// Password of clients [default: none]
    #[arg(long, value_name = "PASSWORD")]
    pub requirepass: Option<String>,
    /// Client connections at a time [default: 10000]
    #[arg(long, value_name = "N")]
    pub maxclients: Option<String>,
    /// How far ahead of ours another region's clock may be [default: 500ms]
    #[arg(long, value_name = "TIME")]
    pub max_clock_drift: Option<String>,
    /// How long after its deadline a key of another region is removed [default: 10s]
    #[arg(long, value_name = "TIME")]
    pub expiry_grace: Option<String>,
    /// After how long a silence the others do without a region; 0 is never [default: 24h]
    #[arg(long, value_name = "TIME")]
    pub region_horizon: Option<String>,
    /// Memory that may be taken by what waits for a silent region before the others do without it,
    /// a size or percent of maxmemory; 0 is any [default: 10%]
    #[arg(long, value_name = "SIZE|PERCENT")]
    pub unstable_memory: Option<String>,
    /// Threads that serve clients [default: one a core]
    #[arg(long, value_name = "N")]
    pub threads: Option<String>,
    /// What to log: error, warn, info, debug, trace, or a filter a module [default: info]
    #[arg(long, value_name = "FILTER")]
    pub log: Option<String>,
}

/// What is wrong with a setting, in one line: where it stands, and what to do.
#[derive(Debug, thiserror::Error)]
#[error("{place}: {advice}")]
pub struct ConfigError {
    /// The file, key and value, or the flag and value.
    place: String,
    /// What the value must be.
    advice: String,
}

impl ConfigError {
    /// An error at a place that the caller names.
    pub(super) fn new(place: impl Into<String>, advice: impl Into<String>) -> Self {
        Self {
            place: place.into(),
            advice: advice.into(),
        }
    }
}

/// Settings of file and flags, merged.
#[derive(Debug)]
pub(super) struct Written {
    file: Option<PathBuf>,
    values: Table,
    flags: BTreeSet<String>,
}

impl Written {
    /// Reads the file, if one is named, and lays the flags over it.
    pub(super) fn read(raw: &RawConfig) -> Result<Self, ConfigError> {
        let flags = Table::try_from(raw).expect("a struct of optional strings is a table");
        let mut values = Table::new();
        if let Some(file) = &raw.config {
            let name = file.display().to_string();
            let text = fs::read_to_string(file)
                .map_err(|error| ConfigError::new(&name, format!("cannot be read: {error}")))?;
            values = parse(&name, &text)?;
        }
        let names = flags.keys().cloned().collect();
        values.extend(flags);
        Ok(Self {
            file: raw.config.clone(),
            values,
            flags: names,
        })
    }

    /// The value of a key, if there is one.
    pub(super) fn value(&self, key: &str) -> Option<&Value> {
        self.values.get(key)
    }

    /// The value of a key that has a plain one: a string, a number or a boolean, as text.
    pub(super) fn text(&self, key: &str) -> Result<Option<String>, ConfigError> {
        self.value(key)
            .map(|value| plain(value).ok_or_else(|| self.error(key, "must be a single value")))
            .transpose()
    }

    /// The value of a key as `parse` reads it, whose error says what it must be; else `default`.
    pub(super) fn parsed<T>(
        &self,
        key: &str,
        default: T,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Result<T, ConfigError> {
        match self.text(key)? {
            None => Ok(default),
            Some(text) => parse(&text).map_err(|advice| self.error(key, &advice)),
        }
    }

    /// A complaint about the value of a key, or about its absence.
    pub(super) fn error(&self, key: &str, advice: &str) -> ConfigError {
        let place = match (self.values.get(key), &self.file) {
            (Some(value), _) if self.flags.contains(key) => {
                format!("--{key} {}", plain(value).unwrap_or_default())
            }
            (Some(value), Some(file)) if plain(value).is_some() => {
                format!("{}: {key} = {value}", file.display())
            }
            (_, Some(file)) => format!("{}: {key}", file.display()),
            (_, None) => format!("--{key}"),
        };
        ConfigError::new(place, advice)
    }

    /// A file that is there.
    pub(super) fn file(&self, key: &str) -> Result<Option<PathBuf>, ConfigError> {
        match self.path(key)? {
            Some(path) if !path.is_file() => Err(self.error(key, "there is no such file")),
            path => Ok(path),
        }
    }

    /// A path; one in the file is relative to the file's folder. An empty one is none.
    pub(super) fn path(&self, key: &str) -> Result<Option<PathBuf>, ConfigError> {
        let Some(text) = self.text(key)?.filter(|text| !text.is_empty()) else {
            return Ok(None);
        };
        Ok(Some(match self.file.as_deref().and_then(Path::parent) {
            Some(folder) if !self.flags.contains(key) => folder.join(text),
            _ => PathBuf::from(text),
        }))
    }
}

/// A string, number or boolean as text.
pub(super) fn plain(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Integer(number) => Some(number.to_string()),
        Value::Float(number) => Some(number.to_string()),
        Value::Boolean(yes) => Some(yes.to_string()),
        Value::Datetime(_) | Value::Array(_) | Value::Table(_) => None,
    }
}

/// Every key that there is, in the order of the flags.
pub(super) fn keys() -> Vec<String> {
    RawConfig::augment_args(Command::new("keys"))
        .get_arguments()
        .filter_map(|flag| flag.get_long().map(ToOwned::to_owned))
        .filter(|key| key != "config" && key != "exit-with-parent")
        .collect()
}

fn parse(file: &str, text: &str) -> Result<Table, ConfigError> {
    let table: Table = text.parse().map_err(|error: toml::de::Error| {
        let before = error.span().map_or(0, |span| span.start);
        let line = 1 + text
            .bytes()
            .take(before)
            .filter(|byte| *byte == b'\n')
            .count();
        ConfigError::new(
            format!("{file}:{line}"),
            error.message().replace('\n', "; "),
        )
    })?;
    let known = keys();
    match table.keys().find(|key| !known.contains(key)) {
        None => Ok(table),
        Some(key) => {
            let advice = match nearest(key, &known) {
                Some(close) => format!("there is no such setting; did you mean `{close}`?"),
                None => "there is no such setting; `meridian serve --help` lists them".to_owned(),
            };
            Err(ConfigError::new(format!("{file}: {key}"), advice))
        }
    }
}

/// The known word that is a few typing errors away, if one is.
fn nearest<'a>(word: &str, known: &'a [String]) -> Option<&'a str> {
    let word = word.replace('_', "-");
    let (distance, close) = known
        .iter()
        .map(|other| (distance(&word, other), other.as_str()))
        .min()?;
    (distance <= 1 + word.len() / 4).then_some(close)
}

/// Characters to add, drop or change to get from one word to the other (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.bytes().enumerate() {
            let change = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = change.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}
