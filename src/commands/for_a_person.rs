//! Which errors only a person can cure: the service that ends with one is not started again. What may pass by itself (a
//! share that is not mounted yet, a GPU that is not ready yet) is not among them.

use std::error::Error;
use std::io::ErrorKind;
use std::path::Path;

use super::access::StateOfAnother;
use super::setup::unit::Mounts;
use crate::config::ConfigError;
use crate::control::ControlError;
use crate::filing::ledger::LedgerError;
use crate::filing::secrets::SecretsError;
use crate::model::runtime::RuntimeError;
use crate::model::store::StoreError;
use crate::model::{BundleError, ModelError};
use crate::state::NotOurs;

/// Whether trying again changes nothing, until a person has changed the configuration, or what it names.
pub fn is_for_a_person(cause: &(dyn Error + 'static)) -> bool {
    cause.is::<ConfigError>()
        || cause.is::<NotOurs>()
        || cause.is::<StateOfAnother>()
        || matches!(
            cause.downcast_ref(),
            Some(LedgerError::Newer { .. } | LedgerError::Corrupt { .. })
        )
        || matches!(
            cause.downcast_ref(),
            Some(SecretsError::Missing(_) | SecretsError::Damaged(_))
        )
        || cause.downcast_ref().is_some_and(of_the_model)
        || cause.downcast_ref().is_some_and(of_the_socket)
}

fn of_the_model(error: &ModelError) -> bool {
    match error {
        ModelError::Bundle(error) => of_the_bundle(error),
        ModelError::Store(error) => match &**error {
            StoreError::Bundle(error) => of_the_bundle(error),
            StoreError::Pointer { .. } => true,
            _ => false,
        },
        ModelError::Runtime(error) => of_the_runtime(error),
        ModelError::Thresholds(_) => true,
        _ => false,
    }
}

fn of_the_bundle(error: &BundleError) -> bool {
    match error {
        BundleError::Read {
            bundle,
            file,
            problem,
        } => is_missing(problem.kind()) && !may_come(&bundle.join(file)),
        BundleError::NotFound { .. }
        | BundleError::Parse { .. }
        | BundleError::Digest { .. }
        | BundleError::Unfit { .. } => true,
    }
}

fn of_the_runtime(error: &RuntimeError) -> bool {
    match error {
        RuntimeError::NotFound { .. } => true,
        RuntimeError::Unusable { library, .. } => library.exists() || !may_come(library),
        RuntimeError::GpuRequired { lasting, .. } => *lasting,
        RuntimeError::AlreadyLoaded { .. } => false,
    }
}

fn of_the_socket(error: &ControlError) -> bool {
    match error {
        ControlError::NotASocket(_) | ControlError::PathTooLong(_) => true,
        ControlError::Bind { path, problem } => {
            problem.kind() == ErrorKind::PermissionDenied
                || (is_missing(problem.kind()) && !may_come(path))
        }
        _ => false,
    }
}

fn is_missing(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::NotFound | ErrorKind::NotADirectory)
}

/// Whether what is not there may be mounted later: `/etc/fstab` promises it, or the way there ends in an empty directory,
/// as a mount point is while nothing is mounted. What the system itself brings is no mount point.
fn may_come(path: &Path) -> bool {
    let nearest = path.ancestors().find(|dir| dir.exists());
    let nearest = nearest.filter(|dir| !dir.starts_with("/usr"));
    let is_empty =
        |dir: &Path| std::fs::read_dir(dir).is_ok_and(|mut entries| entries.next().is_none());
    Mounts::of_this_machine().missing_for(path).is_some() || nearest.is_some_and(is_empty)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_is_missing_from_a_full_directory_is_a_wrong_name_and_from_an_empty_one_may_come() {
        let dir = tempfile::tempdir().unwrap();
        let wanted = dir.path().join("models/spine/bundle.toml");
        assert!(may_come(&wanted), "as a mount point is");
        std::fs::create_dir(dir.path().join("other")).unwrap();
        assert!(!may_come(&wanted));
        assert!(!may_come(Path::new("/nonexistent/bundle")));
    }

    #[test]
    fn a_key_that_is_gone_comes_back_by_a_persons_hand_only() {
        assert!(is_for_a_person(&SecretsError::Missing("key".into())));
        assert!(is_for_a_person(&SecretsError::Damaged("key".into())));
    }

    #[test]
    fn a_gpu_that_fails_may_work_later_and_a_library_without_cuda_never_does() {
        let required = |lasting| {
            let why = String::new();
            is_for_a_person(&ModelError::from(RuntimeError::GpuRequired {
                why,
                lasting,
            }))
        };
        assert!(required(true) && !required(false));
        let sticky = ModelError::Sticky {
            classifier: "frontal".into(),
            what: "CUDA failure 700".into(),
        };
        assert!(!is_for_a_person(&sticky) && !is_for_a_person(&ModelError::Stopped));
    }
}
