//! `devkit`: starts a local environment for a command, or until Ctrl-C.

mod cli;

use std::process::ExitCode;

#[tokio::main]
async fn main() -> ExitCode {
    match cli::main().await {
        Ok(code) => code,
        Err(error) => {
            eprintln!("devkit: {error:#}");
            ExitCode::from(2)
        }
    }
}
