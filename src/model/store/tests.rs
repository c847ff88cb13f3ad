//! Bundles side by side in a temporary state directory.

#![allow(clippy::unwrap_used)]
use super::*;

fn settings(state: &Path, pinned: Option<&Path>) -> Settings {
    let model = pinned.map_or(String::new(), |dir| format!("[model]\nbundle = {dir:?}\n"));
    let text = format!(
        "[[watch]]\npath = \"/data/drop\"\n[library]\npath = \"/data/library\"\n[state]\npath = {state:?}\n{model}"
    );
    let path = PathBuf::from("radsort.toml");
    crate::config::parse(&path, &[(path.clone(), text)]).unwrap()
}

/// The shipped bundle under another version.
fn copy(dir: &Path, version: &str) -> Bundle {
    let shipped = Bundle::open_or_shipped(None).unwrap();
    let copy = dir.join(version);
    fs::create_dir(&copy).unwrap();
    for file in fs::read_dir(shipped.dir()).unwrap() {
        let file = file.unwrap();
        fs::copy(file.path(), copy.join(file.file_name())).unwrap();
    }
    let mut manifest = shipped.manifest().clone();
    manifest.version = version.into();
    fs::write(copy.join(FILE_NAME), manifest.to_toml().unwrap()).unwrap();
    Bundle::open(&copy).unwrap()
}

#[test]
fn promotion_and_rollback_choose_what_the_service_takes() {
    let dir = tempfile::tempdir().unwrap();
    let settings = settings(dir.path(), None);
    let store = Store::new(&settings.state);
    let shipped = Bundle::find(None).unwrap();
    assert_eq!(Store::in_use(&settings).unwrap(), shipped);
    assert!(matches!(
        store.roll_back(&settings),
        Err(StoreError::NothingBefore)
    ));

    let mut names = Vec::new();
    for version in ["9.1.0", "9.2.0"] {
        let name = store.keep(&copy(dir.path(), version)).unwrap();
        store.promote(&settings, &name).unwrap();
        assert_eq!(Store::in_use(&settings).unwrap(), store.dir().join(&name));
        names.push(name);
    }
    assert_eq!(store.find("9.2.0").unwrap().name, names[1]);
    assert!(store.find("9.2.0").unwrap().in_use);
    assert_eq!(store.roll_back(&settings).unwrap(), names[0]);
    assert_eq!(store.roll_back(&settings).unwrap(), SHIPPED);
    assert_eq!(Store::in_use(&settings).unwrap(), shipped);
    assert!(matches!(
        store.find("10"),
        Err(StoreError::Unknown { known, .. }) if known.len() == 3
    ));
}

#[test]
fn a_version_is_kept_once_and_pruned_only_when_it_is_not_needed() {
    let dir = tempfile::tempdir().unwrap();
    let settings = settings(dir.path(), None);
    let store = Store::new(&settings.state);
    let first = copy(dir.path(), "9.1.0");
    let name = store.keep(&first).unwrap();
    assert!(matches!(store.keep(&first), Err(StoreError::Taken(it)) if it == name));
    let manifest = first.manifest();
    assert!(store.may_keep(&manifest.name, &manifest.version).is_err());
    assert!(store.may_keep(&manifest.name, "9.2.0").is_ok());
    let second = store.keep(&copy(dir.path(), "9.2.0")).unwrap();
    store.promote(&settings, &second).unwrap();
    assert_eq!(removed(&store, &settings, 2), Vec::<String>::new());
    let would = store.prune(&settings, 0, None, true).unwrap();
    let gone = |all: &[Pruned]| all.iter().filter(|it| it.stays.is_none()).count();
    assert_eq!(gone(&would), 1);
    assert_eq!(removed(&store, &settings, 0), vec![name]);
    assert_eq!(removed(&store, &settings, 0), Vec::<String>::new());
    assert_eq!(Store::in_use(&settings).unwrap(), store.dir().join(second));
}

#[test]
fn one_that_was_gone_back_from_was_in_use_all_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let settings = settings(dir.path(), None);
    let store = Store::new(&settings.state);
    let [a, b, c] =
        ["9.1.0", "9.2.0", "9.3.0"].map(|it| store.keep(&copy(dir.path(), it)).unwrap());
    for name in [&a, &b, &c] {
        store.promote(&settings, name).unwrap();
    }
    store.roll_back(&settings).unwrap();
    let became = store.prune(&settings, 2, None, true).unwrap();
    let stays: Vec<Option<Stays>> = became.into_iter().map(|it| it.stays).collect();
    assert_eq!(stays, [None, Some(Stays::InUse), Some(Stays::WasInUse)]);
    assert_eq!(removed(&store, &settings, 2), vec![a]);
    assert_eq!(removed(&store, &settings, 1), vec![c]);
    assert_eq!(store.before().unwrap(), SHIPPED);
}

#[test]
fn one_that_the_configuration_names_is_not_pruned_and_going_back_never_leads_to_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let free = settings(dir.path(), None);
    let store = Store::new(&free.state);
    let [a, b, c] =
        ["9.1.0", "9.2.0", "9.3.0"].map(|it| store.keep(&copy(dir.path(), it)).unwrap());
    for name in [&a, &b, &a] {
        store.promote(&free, name).unwrap();
    }
    let named = settings(dir.path(), Some(&store.dir().join(&c)));
    assert_eq!(removed(&store, &named, 2), Vec::<String>::new());
    assert_eq!(removed(&store, &named, 1), vec![b]);
    assert_eq!(store.before().unwrap(), SHIPPED);
    assert_eq!(removed(&store, &free, 0), vec![c]);
}

fn removed(store: &Store, settings: &Settings, keep: usize) -> Vec<String> {
    let pruned = store.prune(settings, keep, None, false).unwrap();
    let gone = pruned.into_iter().filter(|it| it.stays.is_none());
    gone.map(|it| it.folder).collect()
}

#[test]
fn what_nobody_has_decided_on_and_what_a_training_goes_on_from_stays() {
    let dir = tempfile::tempdir().unwrap();
    let settings = settings(dir.path(), None);
    let store = Store::new(&settings.state);
    let versions = ["9.1.0", "9.2.0", "9.3.0", "9.4.0", "9.5.0"];
    let names = versions.map(|it| store.keep(&copy(dir.path(), it)).unwrap());
    for (k, name) in names.iter().enumerate() {
        let came = std::time::UNIX_EPOCH + std::time::Duration::from_secs(k as u64);
        let manifest = fs::File::open(store.dir().join(name).join(FILE_NAME)).unwrap();
        manifest.set_modified(came).unwrap();
    }
    store.promote(&settings, &names[0]).unwrap();
    let training = store.dir().join(&names[1]);
    let became = store.prune(&settings, 1, Some(&training), false).unwrap();
    let stays: Vec<Option<Stays>> = became.into_iter().map(|it| it.stays).collect();
    let (in_use, training, newest) = (Stays::InUse, Stays::Training, Stays::Newest);
    assert_eq!(
        stays,
        [Some(in_use), Some(training), None, None, Some(newest)]
    );
    assert!(!store.dir().join(&names[3]).exists());
}

#[test]
fn a_version_that_two_bundles_have_is_not_guessed() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::new(dir.path());
    let first = store.keep(&copy(dir.path(), "9.1.0")).unwrap();
    let other = copy(dir.path(), "other");
    let mut manifest = other.manifest().clone();
    (manifest.name, manifest.version) = ("other".into(), "9.1.0".into());
    fs::write(other.dir().join(FILE_NAME), manifest.to_toml().unwrap()).unwrap();
    let second = store.keep(&Bundle::open(other.dir()).unwrap()).unwrap();
    assert!(matches!(
        store.find("9.1.0"),
        Err(StoreError::Ambiguous { found, .. }) if found.len() == 2
    ));
    for name in [first, second] {
        assert_eq!(store.find(&name).unwrap().name, name);
    }
}

#[test]
fn a_bundle_that_the_configuration_names_cannot_be_promoted_away() {
    let dir = tempfile::tempdir().unwrap();
    let named = dir.path().join("mine");
    let settings = settings(dir.path(), Some(&named));
    assert_eq!(Store::in_use(&settings).unwrap(), named);
    let store = Store::new(&settings.state);
    assert!(matches!(
        store.promote(&settings, "other"),
        Err(StoreError::Pinned(_))
    ));
}

#[test]
fn nobody_else_changes_what_is_in_use_while_it_is_held() {
    let dir = tempfile::tempdir().unwrap();
    let settings = settings(dir.path(), None);
    let store = Store::new(&settings.state);
    let [a, b] = ["9.1.0", "9.2.0"].map(|it| store.keep(&copy(dir.path(), it)).unwrap());
    let held = store.hold().unwrap();
    std::thread::scope(|scope| {
        let other = scope.spawn(|| store.promote(&settings, &b));
        held.promote(&settings, &a).unwrap();
        assert_eq!(Store::in_use(&settings).unwrap(), store.dir().join(&a));
        drop(held);
        other.join().unwrap().unwrap();
    });
    assert_eq!(Store::in_use(&settings).unwrap(), store.dir().join(&b));
    assert_eq!(store.before().unwrap(), a);
}
