//! The admin port of a node: HTTP on loopback, for whoever runs it.
//!
//! Every request must carry the node's token. Answers are JSON; what is refused is
//! answered with `{"error": "…"}`, one line that says what, and what to do. Connections are
//! bounded, and so are requests: none has a body worth more than a few bytes. It knows nothing of
//! shards and links: it asks what the server knows of regions.

mod backup;
mod client;
mod door;
mod repair;
mod token;

#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::extract::rejection::QueryRejection;
use axum::extract::{ConnectInfo, DefaultBodyLimit, Path as Segments, Query, Request, State};
use axum::http::StatusCode;
use axum::http::header::AUTHORIZATION;
use axum::middleware::{self, Next};
use axum::response::Response;
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::{Value, json};

pub use self::backup::Backup;
pub use self::client::{CallError, Region, Target};
use self::door::{Door, Seat};
pub use self::repair::Repair;
use self::token::Token;
pub use self::token::TokenError;
use crate::clock;
use crate::config;
use crate::limits;
use crate::proxy::{RegionState, Regions, Server};

/// The file beside the token in which a node says where its admin port is.
pub(crate) const ADDRESS_FILE: &str = "admin-address";

/// Why there is no admin port.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// The port is taken, or not ours.
    #[error("admin-port {port}: {error}")]
    Bind {
        /// Which.
        port: u16,
        /// What the system says.
        error: std::io::Error,
    },
    /// There is no token.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// Nobody can be told where it is.
    #[error("{path}: {error}", path = path.display())]
    Address {
        /// The file that should say it.
        path: PathBuf,
        /// What the system says.
        error: std::io::Error,
    },
}

/// What a request that is refused is answered with.
type Refusal = (StatusCode, Json<Value>);
type Answer = Result<Json<Value>, Refusal>;

/// An admin port that is bound and not served yet.
#[derive(Debug)]
pub struct Admin {
    door: Door,
    token: Token,
}

impl Admin {
    /// Binds a port of loopback, 0 for any that is free, and makes the token's file if it is not
    /// there. Must be called within a runtime.
    pub async fn bind(port: u16, token_file: &Path) -> Result<Self, AdminError> {
        let token = Token::at(token_file)?;
        let failed = |error| AdminError::Bind { port, error };
        let door = Door::open(port).await.map_err(failed)?;
        let address = door.address().map_err(failed)?;
        let path = token_file.with_file_name(ADDRESS_FILE);
        std::fs::write(&path, format!("{address}\n"))
            .map_err(|error| AdminError::Address { path, error })?;
        tracing::info!(%address, token_file = %token_file.display(), "admin port");
        Ok(Self { door, token })
    }

    /// Serves until dropped.
    pub async fn serve(self, server: Arc<Server>) {
        let app = router(server, self.token);
        // It has no end but ours.
        let app = app.into_make_service_with_connect_info::<Seat>();
        if let Err(error) = axum::serve(self.door, app).await {
            tracing::error!(%error, "the admin port is gone");
        }
    }
}

/// The routes, behind the token.
fn router(server: Arc<Server>, token: Token) -> Router {
    Router::new()
        .route("/v1/regions", get(regions).post(add))
        .route("/v1/backup", get(backup::progress).post(backup::begin))
        .route("/v1/repair", post(repair::repair))
        .route("/v1/regions/{name}/accept-clock", post(accept_clock))
        .route("/v1/regions/{name}/forget", post(forget))
        .route("/v1/regions/{name}/rejoin", post(rejoin))
        .fallback(async || no_such_thing())
        .method_not_allowed_fallback(async || {
            refusal(StatusCode::METHOD_NOT_ALLOWED, "not by this method")
        })
        .layer(DefaultBodyLimit::max(limits::ADMIN_BODY_BYTES_MAX))
        .layer(middleware::from_fn_with_state(Arc::new(token), authorize))
        .with_state(server)
}

/// Lets through who knows the token.
async fn authorize(
    State(token): State<Arc<Token>>,
    ConnectInfo(seat): ConnectInfo<Seat>,
    request: Request,
    next: Next,
) -> Result<Response, Refusal> {
    let _asking = seat.ask();
    let given = request.headers().get(AUTHORIZATION);
    let given = given.and_then(|value| value.as_bytes().strip_prefix(b"Bearer "));
    if given.is_some_and(|given| token.is(given)) {
        return Ok(next.run(request).await);
    }
    let what = if given.is_some() { "wrong" } else { "missing" };
    let text = format!(
        "the token is {what}: it is in {} on the machine of the node",
        token.file().display()
    );
    Err(refusal(StatusCode::UNAUTHORIZED, &text))
}

fn refusal(status: StatusCode, text: &str) -> Refusal {
    (status, Json(json!({ "error": text })))
}

fn no_such_thing() -> Refusal {
    refusal(
        StatusCode::NOT_FOUND,
        "there are /v1/regions, /v1/backup and /v1/repair here",
    )
}

async fn regions(State(server): State<Arc<Server>>) -> Json<Value> {
    let all = server.regions.get().map(|all| all.list(clock::now_ms()));
    let all: Vec<Value> = all.unwrap_or_default().iter().map(row).collect();
    Json(json!({ "node": server.settings.read().node, "regions": all }))
}

fn row(region: &RegionState) -> Value {
    json!({
        "name": region.name,
        "id": region.id,
        "self": region.is_self,
        "state": region.state,
        "lag_ms": region.lag_ms,
        "pending_ops": region.pending_ops,
        "stage": region.stage,
        "waits_for": region.waits_for,
        "silent_ms": region.silent_ms,
        "must_decide": region.must_decide,
    })
}

/// What names a region that is to join.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Joiner {
    name: String,
    id: String,
    address: String,
}

async fn add(
    State(server): State<Arc<Server>>,
    joiner: Result<Query<Joiner>, QueryRejection>,
) -> Answer {
    let bad = |text: String| refusal(StatusCode::BAD_REQUEST, &text);
    let Query(joiner) = joiner.map_err(|error| bad(error.body_text()))?;
    let peer = config::peer(&joiner.id, &joiner.name, &joiner.address).map_err(bad)?;
    change(server, joiner.name, move |regions, _| {
        regions.add_region(peer.region.id, &peer.region.name, &peer.address)
    })
    .await
}

async fn forget(State(server): State<Arc<Server>>, Segments(name): Segments<String>) -> Answer {
    change(server, name, |regions, name| regions.forget_region(name)).await
}

async fn rejoin(State(server): State<Arc<Server>>, Segments(name): Segments<String>) -> Answer {
    change(server, name, |regions, name| regions.rejoin_region(name)).await
}

/// Changes which regions there are.
async fn change(
    server: Arc<Server>,
    name: String,
    change: impl FnOnce(&dyn Regions, &str) -> Result<(), String> + Send + 'static,
) -> Answer {
    let of = name.clone();
    // It waits for the disk.
    let changed = tokio::task::spawn_blocking(move || match server.regions.get() {
        Some(regions) => change(&**regions, &of),
        None => Err(
            "this node has no peers: a database of one region keeps no log for another; \
                     start it with at least one peer"
                .to_owned(),
        ),
    });
    match changed.await {
        Ok(Ok(())) => Ok(Json(json!({ "region": name }))),
        Ok(Err(text)) => Err(refusal(StatusCode::CONFLICT, &text)),
        Err(error) => Err(refusal(
            StatusCode::INTERNAL_SERVER_ERROR,
            &error.to_string(),
        )),
    }
}

async fn accept_clock(
    State(server): State<Arc<Server>>,
    Segments(name): Segments<String>,
) -> Answer {
    let regions = server.regions.get();
    if regions.is_some_and(|regions| regions.accept_clock(&name)) {
        return Ok(Json(json!({ "region": name })));
    }
    let known = regions.map(|regions| regions.list(clock::now_ms()));
    let known: Vec<String> = known.into_iter().flatten().map(|row| row.name).collect();
    let text = if known.is_empty() {
        "this database has no other region".to_owned()
    } else {
        format!("there is no region {name}; regions: {}", known.join(", "))
    };
    Err(refusal(StatusCode::NOT_FOUND, &text))
}
