//! What this machine lacks, and the Debian packages that provide it.

use std::{collections::BTreeSet, error::Error, fmt};

/// A program that is neither on this machine nor can be fetched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing {
    reason: String,
    packages: &'static [&'static str],
}

impl Missing {
    pub(crate) fn new(reason: impl Into<String>, packages: &'static [&'static str]) -> Missing {
        Missing { reason: reason.into(), packages }
    }

    /// One error for all of them: the reasons and one command.
    pub(crate) fn summary(all: &[Missing], root: bool) -> anyhow::Error {
        let reasons: BTreeSet<&str> = all.iter().map(|missing| missing.reason.as_str()).collect();
        let reasons: Vec<&str> = reasons.into_iter().collect();
        anyhow::anyhow!("{}; {}", reasons.join("; "), advice(all, root))
    }
}

/// The command to type. The names are Debian's.
fn advice(all: &[Missing], root: bool) -> String {
    let packages: BTreeSet<&str> = all.iter().flat_map(|missing| missing.packages).copied().collect();
    let packages: Vec<&str> = packages.into_iter().collect();
    let sudo = if root { "" } else { "sudo " };
    format!("type: {sudo}apt-get install {} (or what your distribution has for it)", packages.join(" "))
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let root = rustix::process::getuid().is_root();
        write!(f, "{}; {}", self.reason, advice(std::slice::from_ref(self), root))
    }
}

impl Error for Missing {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_are_one_sentence_with_one_command() {
        let pip = Missing::new("python3 is missing", &["python3-pip"]);
        let all = [Missing::new("b is missing", &["b", "c"]), pip.clone(), pip];
        assert_eq!(
            Missing::summary(&all, false).to_string(),
            "b is missing; python3 is missing; type: sudo apt-get install b c python3-pip \
             (or what your distribution has for it)"
        );
        assert!(Missing::summary(&all, true).to_string().contains("type: apt-get install b c"));
    }
}
