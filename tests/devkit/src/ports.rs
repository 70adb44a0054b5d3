//! Free TCP ports on the loopback interface that stay free for a server which is stopped and started again.
//!
//! Ports come from below the range that the kernel hands to outgoing connections: otherwise any client could take
//! the port of a server while a test has that server down. A lock file per port keeps two test processes apart.

use std::{
    collections::BTreeMap,
    env,
    fs::{self, File},
    hash::{BuildHasher as _, RandomState},
    net::{Ipv4Addr, TcpListener},
    sync::{Mutex, PoisonError},
};

use anyhow::Context as _;

/// Linux gives outgoing connections 32768 and up by default (`ip_local_port_range`), other systems 49152 and up.
const FIRST: u16 = 20_000;
const COUNT: u16 = 12_000;

/// The ports that this process has claimed; the open file holds the lock until the process ends.
static CLAIMED: Mutex<BTreeMap<u16, Option<File>>> = Mutex::new(BTreeMap::new());

/// A port on 127.0.0.1 on which nothing listens, claimed for this process until it ends.
pub fn free_port() -> anyhow::Result<u16> {
    // A random start, so that parallel processes seldom try the same one.
    let start = (RandomState::new().hash_one(std::process::id()) % u64::from(COUNT)) as u16;
    let mut claimed = CLAIMED.lock().unwrap_or_else(PoisonError::into_inner);
    for step in 0..COUNT {
        let port = FIRST + (start + step) % COUNT;
        if claimed.contains_key(&port) || !is_free(port) {
            continue;
        }
        match lock(port) {
            Lock::Taken => {}
            Lock::Ours(file) => {
                claimed.insert(port, file);
                return Ok(port);
            }
        }
    }
    anyhow::bail!("no free port between {FIRST} and {}", FIRST + COUNT)
}

/// Fails with one sentence when something listens on that port of 127.0.0.1 already.
pub fn check_port(port: u16, program: &str) -> anyhow::Result<()> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).map(drop).with_context(|| {
        format!("port {port} on 127.0.0.1 can't be used by {program}, probably because another process listens on it")
    })
}

fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}

enum Lock {
    Taken,
    Ours(Option<File>),
}

fn lock(port: u16) -> Lock {
    let uid = rustix::process::getuid().as_raw();
    let dir = env::temp_dir().join(format!("agent-tenancy-ports-{uid}"));
    // Without a folder for lock files, the check that the port is free has to be enough.
    let Ok(file) = fs::create_dir_all(&dir).and_then(|()| File::create(dir.join(port.to_string()))) else {
        return Lock::Ours(None);
    };
    match file.try_lock() {
        Ok(()) => Lock::Ours(Some(file)),
        Err(fs::TryLockError::WouldBlock) => Lock::Taken,
        Err(fs::TryLockError::Error(_)) => Lock::Ours(None),
    }
}
