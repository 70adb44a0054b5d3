//! The programs an environment is made of: found, fetched or built.

mod control_plane;
mod go;
mod pgbouncer;
mod pip;
mod postgres;

pub use control_plane::{ControlPlaneTools, control_plane};
pub use pgbouncer::pgbouncer;
pub use postgres::{PostgresTools, postgres};

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
