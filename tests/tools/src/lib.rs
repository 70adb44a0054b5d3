//! Finds, fetches and builds the programs that the demo, the tests and the benchmarks run against.
//!
//! Everything is kept in the user's cache folder and needs no root. What can't be fetched is reported in one sentence with
//! the command that installs it ([`fetch`]).
//!
//! | file | what is there |
//! | --- | --- |
//! | `fetch` | [`fetch`]: everything but the Go programs, at the start of a run |
//! | `control_plane` | etcd, kube-apiserver, kube-controller-manager, kubectl and helm, built with Go |
//! | `postgres`, `version` | servers of the supported versions |
//! | `pgbouncer` | the pooler |
//! | `go` | a Go toolchain |
//! | `pip`, `debian` | the two sources: Python wheels and Debian packages |
//! | `cache` | entries of the cache |
//! | `missing` | [`Missing`]: what this machine lacks, and the packages that provide it |
//! | `places` | [`Places`]: where programs are searched, and the cache |
//! | `progress` | lines about work that takes long |

mod cache;
mod control_plane;
mod debian;
mod fetch;
mod go;
mod missing;
mod pgbouncer;
mod pip;
mod places;
mod postgres;
mod progress;
mod version;

pub use control_plane::{ControlPlaneTools, control_plane};
pub use fetch::{Wanted, fetch, setpriv};
pub use missing::Missing;
pub use pgbouncer::pgbouncer;
pub use places::{Places, is_program, output_of, repository};
pub use postgres::{PostgresTools, postgres};
pub use version::PgVersion;

/// What a version command prints, cut down to `major.minor.patch`-like numbers.
fn version_numbers(text: &str) -> Option<Vec<u32>> {
    let start = text.find(|c: char| c.is_ascii_digit())?;
    let numbers = text.get(start..)?.split(|c: char| !c.is_ascii_digit() && c != '.').next()?;
    numbers.split('.').filter(|part| !part.is_empty()).map(|part| part.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::version_numbers;

    #[test]
    fn reads_the_numbers_of_the_usual_version_lines() {
        assert_eq!(version_numbers("postgres (PostgreSQL) 15.14 (Debian 15.14-0+deb12u1)"), Some(vec![15, 14]));
        assert_eq!(version_numbers("go version go1.26.8 linux/amd64"), Some(vec![1, 26, 8]));
        assert_eq!(version_numbers("go version go1.27rc1 linux/amd64"), Some(vec![1, 27]));
        assert_eq!(version_numbers("postgres (PostgreSQL) 19beta2"), Some(vec![19]));
        assert_eq!(version_numbers("no number"), None);
    }
}
