//! What a playground is to be: the command line, checked.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::relay::Shape;
use crate::config::{self, units};

/// Regions of a playground: their ports are ten apart, and each pair costs two threads.
const REGIONS_MAX: usize = 9;
/// Between the ports of two regions.
const PORT_STEP: usize = 10;
/// Longest round trip: past it, nothing would ever connect.
const RTT_MAX: Duration = Duration::from_mins(1);

/// What to start.
#[derive(Clone, Debug, Args)]
pub struct Setup {
    /// Names of the regions
    #[arg(
        long,
        value_name = "NAME,…",
        value_delimiter = ',',
        default_value = "us-east,eu-west,ap-south"
    )]
    pub regions: Vec<String>,
    /// Nodes a region; only 1 is supported so far
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub nodes: usize,
    /// Shards of the database [default: 16; 1 under the policy non-clustered]
    #[arg(long, value_name = "N")]
    pub shards: Option<u16>,
    /// Which commands may span slots: enterprise or non-clustered
    #[arg(long, value_name = "POLICY", default_value = "enterprise")]
    pub policy: String,
    /// Client port of the first region; that of the next is 10 higher
    #[arg(long, value_name = "PORT", default_value_t = 7001)]
    pub port: u16,
    /// Where to keep data; without it, in a temporary directory that is removed at the end
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// Round trip between any two regions
    #[arg(long, value_name = "TIME", default_value = "0ms")]
    pub rtt: String,
    /// What the chance of lost datagrams follows from
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
    /// Flags of `meridian serve` for every node
    #[arg(last = true, value_name = "FLAGS")]
    pub serve_flags: Vec<String>,
}

/// Why there is no such playground.
#[derive(Debug, thiserror::Error)]
#[error("--{flag} {value}: {advice}")]
pub struct PlanError {
    flag: &'static str,
    value: String,
    advice: String,
}

/// A region of a plan, which has one node.
#[derive(Clone, Debug)]
pub(super) struct Region {
    /// From 1.
    pub(super) id: u8,
    pub(super) name: String,
    /// Such as `us-east-1`.
    pub(super) node: String,
    pub(super) client_port: u16,
}

impl Setup {
    /// The regions, in order.
    pub(super) fn plan(&self) -> Result<Vec<Region>, PlanError> {
        let count = self.regions.len();
        if self.nodes != 1 {
            let advice = "only 1 node a region is supported so far";
            return Err(wrong("nodes", self.nodes, advice));
        }
        if !(1..=REGIONS_MAX).contains(&count) {
            let advice = format!("must be 1 to {REGIONS_MAX} names");
            return Err(wrong("regions", self.regions.join(","), advice));
        }
        for (index, name) in self.regions.iter().enumerate() {
            config::name(name).map_err(|advice| wrong("regions", name, advice))?;
            if self.regions[..index].contains(name) {
                return Err(wrong("regions", name, "is there twice"));
            }
        }
        let port = |index: usize| u16::try_from(usize::from(self.port) + PORT_STEP * index);
        if self.port == 0 || port(count - 1).is_err() {
            let advice = format!("must leave room for {count} ports, {PORT_STEP} apart");
            return Err(wrong("port", self.port, advice));
        }
        let region = |(index, name): (usize, &String)| Region {
            id: index as u8 + 1,
            name: name.clone(),
            node: format!("{name}-1"),
            client_port: port(index).expect("the last port is one, so all are"),
        };
        Ok(self.regions.iter().enumerate().map(region).collect())
    }

    /// How every direction is shaped at the start.
    pub(super) fn shape(&self) -> Result<Shape, PlanError> {
        let rtt = rtt(&self.rtt).map_err(|advice| wrong("rtt", &self.rtt, advice))?;
        Ok(Shape {
            delay: rtt / 2,
            ..Shape::default()
        })
    }
}

/// Reads a round trip.
pub(super) fn rtt(text: &str) -> Result<Duration, String> {
    let rtt = units::duration(text).filter(|rtt| *rtt <= RTT_MAX);
    rtt.ok_or_else(|| "must be a time up to 1m with its unit, such as 80ms".to_owned())
}

/// Reads the share of datagrams that get lost.
pub(super) fn loss(text: &str) -> Result<f64, String> {
    let loss = text.parse().ok().filter(|loss| (0.0..=1.0).contains(loss));
    loss.ok_or_else(|| "must be a share from 0 to 1, such as 0.01".to_owned())
}

fn wrong(flag: &'static str, value: impl ToString, advice: impl Into<String>) -> PlanError {
    PlanError {
        flag,
        value: value.to_string(),
        advice: advice.into(),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        setup: Setup,
    }

    fn setup(words: &str) -> Setup {
        let words = std::iter::once("playground").chain(words.split_whitespace());
        Line::try_parse_from(words).unwrap().setup
    }

    #[test]
    fn the_default_is_three_regions() {
        let plan = setup("").plan().unwrap();
        let ports: Vec<(u8, &str, u16)> = plan
            .iter()
            .map(|region| (region.id, region.node.as_str(), region.client_port))
            .collect();
        assert_eq!(
            ports,
            [
                (1, "us-east-1", 7001),
                (2, "eu-west-1", 7011),
                (3, "ap-south-1", 7021)
            ]
        );
        assert_eq!(setup("").shape().unwrap(), Shape::default());
    }

    #[test]
    fn each_direction_gets_half_a_round_trip() {
        let shape = setup("--rtt 80ms -- --threads 1").shape().unwrap();
        assert_eq!(shape.delay, Duration::from_millis(40));
    }

    #[test]
    fn what_cannot_be_is_refused() {
        for (words, expected) in [
            ("--nodes 3", "--nodes 3: only 1 node a region"),
            ("--regions a,b,a", "--regions a: is there twice"),
            ("--regions a,b/c", "--regions b/c: must be 1 to 63 letters"),
            ("--regions 1,2,3,4,5,6,7,8,9,0", "must be 1 to 9 names"),
            ("--port 65520", "--port 65520: must leave room for 3 ports"),
            ("--port 0", "--port 0: must leave room"),
        ] {
            let error = setup(words).plan().unwrap_err().to_string();
            assert!(error.contains(expected), "{words}: {error}");
        }
        let error = setup("--rtt 80").shape().unwrap_err().to_string();
        assert!(error.starts_with("--rtt 80: must be a time"), "{error}");
    }
}
