//! The `meridian` binary: arguments in, exit code out.

use std::process::ExitCode;

use meridian::node::{self, Plan};
use meridian::proxy::Policy;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let plan = Plan {
        database: "local".into(),
        region: crdt::Region::new(1).expect("1 is a region"),
        clients: (
            [127, 0, 0, 1],
            std::env::args()
                .nth(2)
                .and_then(|p| p.parse().ok())
                .unwrap_or(6379),
        )
            .into(),
        shards: 16,
        policy: Policy::Enterprise,
        active_active: false,
        alone: true,
        password: None,
        clients_max: 10_000,
        threads: 2,
    };
    match node::run(&plan) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}
