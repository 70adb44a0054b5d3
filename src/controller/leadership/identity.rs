//! The identity of this operator, across restarts: the UID of its Pod, or a file that it locks while it runs.

use std::{
    fs::{File, OpenOptions, TryLockError},
    io::{Read, Seek, SeekFrom, Write},
    path::Path,
};

/// The Pod of this process, from the downward API. Empty variables count as missing.
#[derive(Clone, Debug, Default)]
pub struct PodIdentity {
    /// Its name (`POD_NAME`).
    pub name: Option<String>,
    /// Its UID (`POD_UID`).
    pub uid: Option<String>,
    /// Its namespace (`POD_NAMESPACE`).
    pub namespace: Option<String>,
}

impl PodIdentity {
    /// Reads the variables of the process.
    pub fn from_env() -> Self {
        let read = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        Self { name: read("POD_NAME"), uid: read("POD_UID"), namespace: read("POD_NAMESPACE") }
    }
}

/// An identity, and the lock on it.
#[derive(Debug)]
pub struct Identity {
    /// The holder in the Lease.
    pub name: String,
    /// Locked until this value is dropped.
    _file: Option<File>,
}

/// Why there is no identity.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The file can't be read, written or locked.
    #[error("leaderElection.identityFile '{file}' can't be used")]
    File {
        /// Its path.
        file: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Another process has locked the file.
    #[error("leaderElection.identityFile '{file}' is in use by another operator on this machine")]
    InUse {
        /// Its path.
        file: String,
    },
}

impl Identity {
    /// The Pod's UID if there is one, else the content of `file`, else a random text.
    ///
    /// # Errors
    /// When the file can't be read, written or locked.
    pub fn resolve(pod: &PodIdentity, file: Option<&Path>) -> Result<Self, IdentityError> {
        match (&pod.uid, file) {
            (Some(uid), _) => Ok(Self { name: uid.clone(), _file: None }),
            (None, Some(path)) => Self::of_file(path),
            (None, None) => Ok(Self { name: uuid::Uuid::new_v4().to_string(), _file: None }),
        }
    }

    fn of_file(path: &Path) -> Result<Self, IdentityError> {
        let shown = path.display().to_string();
        let unusable = |source| IdentityError::File { file: shown.clone(), source };
        let mut file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path).map_err(unusable)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(IdentityError::InUse { file: shown }),
            Err(TryLockError::Error(source)) => return Err(unusable(source)),
        }
        let mut name = String::new();
        file.read_to_string(&mut name).map_err(unusable)?;
        if name.trim().is_empty() {
            name = uuid::Uuid::new_v4().to_string();
            file.seek(SeekFrom::Start(0)).and_then(|_| file.write_all(name.as_bytes())).map_err(unusable)?;
            file.sync_all().map_err(unusable)?;
        }
        Ok(Self { name: name.trim().to_owned(), _file: Some(file) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_gives_the_same_identity_again_to_one_process() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("identity");
        let none = PodIdentity::default();
        let first = Identity::resolve(&none, Some(&path)).unwrap();
        assert!(matches!(Identity::resolve(&none, Some(&path)), Err(IdentityError::InUse { .. })));
        let name = first.name.clone();
        drop(first);
        assert_eq!(Identity::resolve(&none, Some(&path)).unwrap().name, name);
        let pod = PodIdentity { uid: Some("pod".to_owned()), ..none };
        assert_eq!(Identity::resolve(&pod, Some(&path)).unwrap().name, "pod");
    }
}
