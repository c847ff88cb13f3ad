//! The installation's key, and the pseudonyms made with it. Nothing else ever sees the key; it is never logged.
//!
//! A random key is made once, `<state>/key` (0600). Sub-keys come from it by HKDF-SHA256 (RFC 5869), one a purpose.
//! Without the key the same patient gets another pseudonym: back it up with the ledger.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use hkdf::Hkdf;
use hmac::{Hmac, Mac};
use serde::{Deserialize, Serialize};
use sha2::Sha256;

use super::ledger::{hex, random_hex};
use crate::domain::{Pseudonym, Uid};

/// What can go wrong with the key.
#[derive(Debug, thiserror::Error)]
pub enum SecretsError {
    /// It is not there although it was before.
    #[error(
        "the key {} is missing although this installation has records: restore it from a backup (without it, patients \
         would get other pseudonyms than before); to begin with a new one, run with a new [state] directory", .0.display()
    )]
    Missing(PathBuf),
    /// It cannot be read or written.
    #[error("{}: {error}", path.display())]
    Io {
        /// The key's file.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// It is damaged.
    #[error("{} is no key of radsort: restore it from a backup", .0.display())]
    Damaged(PathBuf),
}

/// As it is kept on disk.
#[derive(Serialize, Deserialize)]
struct KeyFile {
    version: u32,
    id: String,
    key: String,
}

fn failed(path: &Path, error: io::Error) -> SecretsError {
    match error.kind() {
        // No text at all.
        io::ErrorKind::InvalidData => SecretsError::Damaged(path.to_owned()),
        _ => SecretsError::Io {
            path: path.to_owned(),
            error,
        },
    }
}

/// The sub-keys.
pub struct Secrets {
    id: String,
    patients: [u8; 32],
    uids: [u8; 32],
}

impl Secrets {
    /// Opens the key of a state directory, or makes one when there is none and `may_create` says that none was ever
    /// used (the ledger is empty).
    pub fn open(state: &Path, may_create: bool) -> Result<Self, SecretsError> {
        let path = state.join("key");
        let failed = |error| failed(&path, error);
        let mut text = String::new();
        match File::open(&path) {
            Ok(mut file) => {
                let mode = file.metadata().map_err(failed)?.permissions().mode();
                if mode & 0o077 != 0 {
                    file.set_permissions(std::fs::Permissions::from_mode(0o600))
                        .map_err(failed)?;
                }
                file.read_to_string(&mut text).map_err(failed)?;
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                if !may_create {
                    return Err(SecretsError::Missing(path));
                }
                text = create(state, &path).map_err(failed)?;
            }
            Err(error) => return Err(failed(error)),
        }
        Self::read(&path, &text)
    }

    /// Whether the key of a state directory is there and can be used; nothing is made or changed.
    pub fn look(state: &Path) -> Result<(), SecretsError> {
        let path = state.join("key");
        let text = match std::fs::read_to_string(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(SecretsError::Missing(path));
            }
            read => read.map_err(|error| failed(&path, error))?,
        };
        Self::read(&path, &text).map(drop)
    }

    fn read(path: &Path, text: &str) -> Result<Self, SecretsError> {
        let damaged = || SecretsError::Damaged(path.to_owned());
        let stored: KeyFile = serde_json::from_str(text).map_err(|_| damaged())?;
        let key = unhex(&stored.key).ok_or_else(damaged)?;
        let hkdf = Hkdf::<Sha256>::new(Some(stored.id.as_bytes()), &key);
        let sub_key = |purpose: &str| {
            let mut out = [0; 32];
            hkdf.expand(purpose.as_bytes(), &mut out)
                .map_err(|_| damaged())?;
            Ok(out)
        };
        Ok(Self {
            patients: sub_key("radsort patient v1")?,
            uids: sub_key("radsort uid v1")?,
            id: stored.id,
        })
    }

    /// The key's id, which is no secret.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The pseudonym of a patient, from Patient ID (0010,0020) and Issuer of Patient ID (0010,0021).
    pub fn pseudonym(&self, patient_id: &str, issuer: &str) -> Pseudonym {
        Pseudonym(keyed(&self.patients, &[issuer, patient_id]))
    }

    /// A name for a UID in the log, where the site does not want UIDs there.
    pub fn uid_pseudonym(&self, uid: &Uid) -> String {
        keyed(&self.uids, &[uid.as_str()])[..16].to_owned()
    }
}

/// HMAC-SHA256 over the fields, each behind its length; 32 hexadecimal digits.
fn keyed(key: &[u8; 32], fields: &[&str]) -> String {
    // HMAC takes keys of any length: this cannot fail, and an empty pseudonym would be seen at once.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key) else {
        return String::new();
    };
    for field in fields {
        mac.update(&(field.len() as u64).to_le_bytes());
        mac.update(field.as_bytes());
    }
    hex(&mac.finalize().into_bytes()[..16])
}

/// Makes the key beside and renames it: it is there whole or not at all.
fn create(state: &Path, path: &Path) -> io::Result<String> {
    let random = |error: super::ledger::LedgerError| io::Error::other(error.to_string());
    let stored = KeyFile {
        version: 1,
        id: random_hex::<8>(path).map_err(random)?,
        key: random_hex::<32>(path).map_err(random)?,
    };
    let text = serde_json::to_string(&stored)?;
    let part = state.join(".key.part");
    let _ = std::fs::remove_file(&part);
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&part)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    std::fs::hard_link(&part, path)?; // never replaces a key
    std::fs::remove_file(&part)?;
    File::open(state)?.sync_all()?;
    Ok(text)
}

fn unhex(text: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    for (n, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[2 * n..2 * n + 2], 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_same_patient_keeps_a_pseudonym_over_restarts_and_nobody_else_has_it() {
        let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let first = Secrets::open(one.path(), true).unwrap();
        let again = Secrets::open(one.path(), false).unwrap();
        let other = Secrets::open(two.path(), true).unwrap();
        let pseudonym = first.pseudonym("4711", "HOSPITAL");
        assert_eq!(pseudonym.0.len(), 32);
        assert_eq!(pseudonym, again.pseudonym("4711", "HOSPITAL"));
        assert_ne!(pseudonym, other.pseudonym("4711", "HOSPITAL"));
        assert_ne!(pseudonym, first.pseudonym("4711", ""));
        assert_ne!(first.pseudonym("ab", "c"), first.pseudonym("b", "ca"));
        let uid = Uid::parse("1.2.3").unwrap();
        assert_eq!(first.uid_pseudonym(&uid), again.uid_pseudonym(&uid));
    }

    #[test]
    fn the_key_is_for_its_owner_only_and_is_never_made_anew_silently() {
        let state = tempfile::tempdir().unwrap();
        assert!(matches!(
            Secrets::open(state.path(), false),
            Err(SecretsError::Missing(_))
        ));
        Secrets::open(state.path(), true).unwrap();
        let path = state.path().join("key");
        let mode = || std::fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(), 0o600);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        Secrets::open(state.path(), false).unwrap();
        assert_eq!(mode(), 0o600);
        std::fs::write(&path, "{}").unwrap();
        assert!(matches!(
            Secrets::open(state.path(), true),
            Err(SecretsError::Damaged(_))
        ));
    }
}
