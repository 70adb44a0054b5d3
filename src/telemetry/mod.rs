//! Logs, metrics and health of the two servers.
//!
//! | file | what is there |
//! | --- | --- |
//! | `health` | the HTTP server with /livez, /readyz and /metrics |
//! | `server` | an HTTP server with connections that are bounded in number and in time |
//! | `metrics` | the registry of metrics |
//! | `signals` | SIGTERM and SIGINT |

pub mod health;
pub mod metrics;
pub mod server;
pub mod signals;

use crate::settings::{LogFormat, LogSettings};
use std::{error::Error, fmt};
use tracing_subscriber::{EnvFilter, fmt as lines, layer::SubscriberExt, util::SubscriberInitExt};

/// Why the log can't be started.
#[derive(Debug, thiserror::Error)]
#[error("log.level: '{level}' is neither a level nor a list of directives")]
pub struct LogError {
    level: String,
}

/// No setting enables this log: for a reply of the API server that can't be decoded, kube logs the whole reply, which may
/// hold Secrets. The error is returned all the same.
const SILENCED: &str = "kube_client::client=off";

/// Starts the log of this process, on standard error. A second call in one process changes nothing.
///
/// # Errors
/// When the level can't be parsed.
pub fn start_log(settings: &LogSettings) -> Result<(), LogError> {
    let filter = EnvFilter::try_new(format!("{},{SILENCED}", settings.level));
    let filter = filter.map_err(|_| LogError { level: settings.level.clone() })?;
    let started = match settings.format {
        LogFormat::Json => tracing_subscriber::registry()
            .with(filter)
            .with(lines::layer().json().flatten_event(true).with_writer(std::io::stderr))
            .try_init(),
        LogFormat::Human => {
            tracing_subscriber::registry().with(filter).with(lines::layer().with_writer(std::io::stderr)).try_init()
        }
    };
    // Tests start several servers in one process; they share the first one's log.
    drop(started);
    Ok(())
}

/// An error with its causes, in one line.
pub struct Chain<'e>(pub &'e dyn Error);

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut next = self.0.source();
        while let Some(error) = next {
            write!(f, ": {error}")?;
            next = error.source();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("the outer")]
    struct Outer(#[source] std::fmt::Error);

    #[test]
    fn a_chain_names_every_cause_once() {
        let shown = Chain(&Outer(std::fmt::Error)).to_string();
        assert!(shown.starts_with("the outer: "), "{shown}");
    }

    #[test]
    fn a_wrong_level_is_refused() {
        let settings = LogSettings { format: LogFormat::Json, level: "a=b=c".to_owned() };
        assert!(start_log(&settings).is_err());
    }
}
