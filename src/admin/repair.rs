//! Repairing shards whose logs are damaged: the request, and the command that sends it.
//!
//! A shard that lacks frames cannot go on by itself. At the next start it does, from what is whole
//! of its log, and the node is filled up by other regions before it serves, as one whose directory
//! was put back from a copy. That is asked for here, and costs what only this node had of the
//! shard behind the damage.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use clap::Args;
use serde_json::{Value, json};

use super::client::{CallError, Target};
use super::{Answer, refusal};
use crate::proxy::Server;
use crate::store::Repairs;

/// Says on the disk that it is to be done.
pub(super) async fn repair(State(server): State<Arc<Server>>) -> Answer {
    let no = |text: &str| Err(refusal(StatusCode::CONFLICT, text));
    let Some(repairs) = server.repairs.get() else {
        return no("this node has no dir: there is nothing on disk that could be damaged");
    };
    if repairs.damaged.is_empty() {
        return no("no log of a shard of this node is damaged");
    }
    if server.regions.get().is_none() {
        return no(
            "there is no other region that a shard could be filled up from: restore a backup",
        );
    }
    let found = repairs.damaged.iter();
    let found: Vec<Value> = found
        .map(|(shard, damage)| json!({ "shard": shard, "damage": damage.to_string() }))
        .collect();
    // It waits for the disk.
    let said = tokio::task::spawn_blocking(move || {
        let repairs = server.repairs.get();
        repairs.map_or(Ok(()), Repairs::say)
    });
    match said.await {
        Ok(Ok(())) => Ok(Json(json!({ "shards": found }))),
        Ok(Err(error)) => no(&format!("it cannot be said on the disk: {error}")),
        Err(error) => no(&error.to_string()),
    }
}

/// `meridian admin repair`
#[derive(Clone, Copy, Debug, Args)]
pub struct Repair {}

impl Repair {
    /// Asks the node. Returns what to print.
    pub fn run(self, target: &Target) -> Result<String, CallError> {
        let answer = target.call(("POST", "/v1/repair"))?;
        let none = Vec::new();
        let mut lines = Vec::new();
        for row in answer["shards"].as_array().unwrap_or(&none) {
            let damage = row["damage"].as_str().unwrap_or_default();
            lines.push(format!("shard {}: {damage}", row["shard"]));
        }
        lines.push(
            "start the node again: these shards go on from what is whole, and are filled up by \
             other regions before it serves"
                .to_owned(),
        );
        Ok(lines.join("\n"))
    }
}
