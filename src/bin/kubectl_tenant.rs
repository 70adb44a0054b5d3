//! `kubectl-tenant`: the kubectl plugin.

use std::process::ExitCode;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    agent_tenancy::kubectl_tenant::run(std::env::args_os().collect()).await
}
