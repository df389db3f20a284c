//! The control port of a playground: HTTP on loopback, for tests, scripts and our own commands.
//!
//! 404 names what there is instead, 400 says what a value must be, 409 that a node is not in a
//! state for it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::{Value, json};

use super::nodes::{Node, NodeError};
use super::relay::Shape;
use super::{Playground, plan};

type Answer = Result<String, (StatusCode, String)>;

/// The routes, over a playground.
pub(super) fn router(playground: Arc<Playground>) -> Router {
    Router::new()
        .route("/status", get(status))
        .route("/links/heal", post(heal_all))
        .route("/links/{from}/{to}/{action}", post(link))
        .route("/nodes/{id}/{action}", post(node))
        .fallback(async || not_found("there is /status, /links/… and /nodes/…"))
        .with_state(playground)
}

/// What may follow the `?` of a link.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Options {
    one_way: Option<bool>,
    rtt: Option<String>,
    jitter: Option<String>,
    loss: Option<String>,
}

async fn status(State(playground): State<Arc<Playground>>) -> Json<Value> {
    let regions = playground.regions.iter();
    let regions = regions.map(|region| json!({"name": region.name, "id": region.id}));
    let nodes = playground.nodes.iter().map(|node| {
        let pid = node.pid();
        json!({
            "id": node.id,
            "region": node.region,
            "pid": pid,
            "client_port": node.client_port,
            "admin_port": node.admin_port(),
            "admin_dir": node.folder(),
            "alive": pid.is_some(),
        })
    });
    let links = playground
        .relay
        .directions()
        .map(|((from, to), direction)| {
            let (shape, counts) = (direction.shape(), direction.counts());
            json!({
                "from": playground.regions[from].name,
                "to": playground.regions[to].name,
                "cut": direction.is_cut(),
                "rtt_ms": milliseconds(shape.delay * 2),
                "jitter_ms": milliseconds(shape.jitter),
                "loss": shape.loss,
                "datagrams": {
                    "passed": counts.passed,
                    "lost": counts.lost,
                    "cut": counts.cut,
                    "overflowed": counts.overflowed,
                },
            })
        });
    Json(json!({
        "regions": regions.collect::<Vec<_>>(),
        "nodes": nodes.collect::<Vec<_>>(),
        "links": links.collect::<Vec<_>>(),
    }))
}

async fn heal_all(State(playground): State<Arc<Playground>>) -> Answer {
    for (_, direction) in playground.relay.directions() {
        direction.set_cut(false);
    }
    Ok("all links are healed\n".to_owned())
}

async fn link(
    State(playground): State<Arc<Playground>>,
    Path((from, to, action)): Path<(String, String, String)>,
    Query(options): Query<Options>,
) -> Answer {
    let there = playground.direction(&from, &to);
    let (Some(there), Some(back)) = (there, playground.direction(&to, &from)) else {
        return not_found(no_link(&playground, &from, &to));
    };
    let is_one_way = options.one_way.unwrap_or(false);
    let directions = if is_one_way {
        vec![there]
    } else {
        vec![there, back]
    };
    let has_shape = options.rtt.is_some() || options.jitter.is_some() || options.loss.is_some();
    match action.as_str() {
        "cut" | "heal" if has_shape => return bad_request("one-way is all that may follow"),
        "cut" | "heal" => {
            for direction in directions {
                direction.set_cut(action == "cut");
            }
        }
        "shape" if !has_shape => return bad_request("give rtt, jitter or loss"),
        "shape" => {
            for direction in directions {
                direction.set_shape(reshaped(direction.shape(), &options)?);
            }
        }
        _ => return not_found(format!("{action} is none of cut, heal, shape")),
    }
    let arrow = if is_one_way { "→" } else { "↔" };
    Ok(format!("{from} {arrow} {to}: {action}\n"))
}

/// The shape with what the options change.
fn reshaped(mut shape: Shape, options: &Options) -> Result<Shape, (StatusCode, String)> {
    let wrong = |name: &str, value: &str, advice: String| {
        (
            StatusCode::BAD_REQUEST,
            format!("{name}={value}: {advice}\n"),
        )
    };
    if let Some(rtt) = &options.rtt {
        shape.delay = plan::rtt(rtt).map_err(|advice| wrong("rtt", rtt, advice))? / 2;
    }
    if let Some(jitter) = &options.jitter {
        shape.jitter = plan::rtt(jitter).map_err(|advice| wrong("jitter", jitter, advice))?;
    }
    if let Some(loss) = &options.loss {
        shape.loss = plan::loss(loss).map_err(|advice| wrong("loss", loss, advice))?;
    }
    Ok(shape)
}

async fn node(
    State(playground): State<Arc<Playground>>,
    Path((id, action)): Path<(String, String)>,
) -> Answer {
    let Some(node) = playground.nodes.iter().find(|node| node.id == id) else {
        let ids: Vec<&str> = playground
            .nodes
            .iter()
            .map(|node| node.id.as_str())
            .collect();
        return not_found(format!("there is no node {id}; nodes: {}", ids.join(", ")));
    };
    let node: &Node = node;
    let done = match action.as_str() {
        "kill" => node.kill().await,
        "stop" => node.stop().await,
        "start" => node.start().await,
        "pause" => node.pause(),
        "resume" => node.resume(),
        _ => {
            return not_found(format!(
                "{action} is none of kill, stop, start, pause, resume"
            ));
        }
    };
    match done {
        Ok(()) => Ok(format!("{id}: {action}\n")),
        Err(error @ NodeError::State { .. }) => Err((StatusCode::CONFLICT, format!("{error}\n"))),
        Err(error) => Err((StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n"))),
    }
}

fn no_link(playground: &Playground, from: &str, to: &str) -> String {
    let links: Vec<String> = playground
        .relay
        .directions()
        .filter(|((from, to), _)| from < to)
        .map(|((from, to), _)| {
            format!(
                "{} {}",
                playground.regions[from].name, playground.regions[to].name
            )
        })
        .collect();
    format!("there is no link {from} {to}; links: {}", links.join(", "))
}

fn not_found(text: impl fmt::Display) -> Answer {
    Err((StatusCode::NOT_FOUND, format!("{text}\n")))
}

fn bad_request(text: &str) -> Answer {
    Err((StatusCode::BAD_REQUEST, format!("{text}\n")))
}

/// Milliseconds, whole if they are.
fn milliseconds(time: Duration) -> Value {
    if time.subsec_nanos().is_multiple_of(1_000_000) {
        json!(time.as_millis() as u64)
    } else {
        json!(time.as_secs_f64() * 1000.0)
    }
}
