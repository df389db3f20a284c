//! Backups over the admin port: the requests, and the command that sends them and waits.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use clap::Args;
use serde::Deserialize;
use serde_json::{Value, json};

use super::client::{CallError, Target};
use super::{Answer, refusal};
use crate::http::escaped;
use crate::proxy::Server;

/// How often it is asked how a backup is getting on.
const ASK_EVERY: Duration = Duration::from_millis(200);

/// Where a backup goes.
#[derive(Debug, Deserialize)]
pub(super) struct Into {
    dir: String,
}

/// Begins a backup.
pub(super) async fn begin(State(server): State<Arc<Server>>, Query(into): Query<Into>) -> Answer {
    let Some(backups) = server.backups.get() else {
        let text = "this node has no dir: there is nothing on disk to copy";
        return Err(refusal(StatusCode::CONFLICT, text));
    };
    match backups.begin(Path::new(&into.dir)) {
        Ok(()) => Ok(Json(json!({ "dir": into.dir }))),
        Err(error) => Err(refusal(StatusCode::CONFLICT, &error.to_string())),
    }
}

/// Says how the last one is getting on.
pub(super) async fn progress(State(server): State<Arc<Server>>) -> Json<Value> {
    let progress = server.backups.get().map(|backups| backups.progress());
    Json(json!(progress.unwrap_or_default()))
}

/// `meridian admin backup`
#[derive(Clone, Debug, Args)]
pub struct Backup {
    /// Folder for the backup, on the machine of the node: not there yet, or empty
    #[arg(value_name = "BACKUP")]
    into: PathBuf,
}

impl Backup {
    /// Asks the node, and waits until it is done. Returns what to print.
    pub fn run(&self, target: &Target) -> Result<String, CallError> {
        let into = std::path::absolute(&self.into).unwrap_or_else(|_| self.into.clone());
        let into = into.display().to_string();
        target.call(("POST", &format!("/v1/backup?dir={}", escaped(&into))))?;
        loop {
            let answer = target.call(("GET", "/v1/backup"))?;
            match answer["state"].as_str() {
                Some("running") => std::thread::sleep(ASK_EVERY),
                Some("done") => {
                    let bytes = &answer["bytes"];
                    return Ok(format!("{into}: {bytes} bytes"));
                }
                _ => {
                    let text = answer["error"].as_str();
                    let text = text.unwrap_or("the node knows of no backup").to_owned();
                    return Err(CallError::Failed { path: into, text });
                }
            }
        }
    }
}
