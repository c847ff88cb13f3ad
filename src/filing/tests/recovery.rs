//! Every state that a crash can leave, made by hand, and what becomes of it.

use super::super::names;
use super::super::record::RecordId;
use super::super::recover::{Began, Claims, Resolution, resolve, sweep, tidy};
use super::*;

/// An Intent for the file that is in the drop directory now.
pub(super) fn intent(bench: &Bench, name: &str, bytes: &str, claimed: bool) -> Intent {
    let request = bench.request(name, "1.1");
    assert_eq!(request.digest, digest(bytes));
    let id = RecordId("00112233aabbccdd-7".into());
    Intent {
        claim: claimed.then(|| names::claim(&request.from, &id).unwrap()),
        id,
        watch: request.watch,
        action: request.action,
        from: request.from,
        to: request.placement,
        fate: request.fate,
        reason: None,
        detail: None,
        digest: request.digest,
        fingerprint: request.fingerprint,
        links: 1,
        ctime_ns: None,
        uid: 0,
        gid: 0,
        mode: 0o644,
        set_mode: None,
        dossier: request.dossier,
    }
}

/// What recovery makes of an Intent that nothing has completed.
pub(super) fn recovered(bench: &Bench, intent: &Intent) -> Resolution {
    let (roots, root) = (bench.roots(), bench.root());
    resolve(intent, &roots, &root, &Claims::default(), &*bench.catalogue)
}

struct Scene {
    bench: Bench,
    roots: Arc<Roots>,
    intent: Intent,
}

impl Scene {
    fn new() -> Self {
        let bench = Bench::new();
        let roots = bench.roots();
        bench.put("a", "a");
        let intent = intent(&bench, "a", "a", true);
        fs::create_dir_all(bench.library.join("Fusion")).unwrap();
        Self {
            bench,
            roots,
            intent,
        }
    }

    fn source(&self) -> PathBuf {
        self.bench.drop.join("a")
    }

    fn claim(&self) -> PathBuf {
        self.bench
            .drop
            .join(self.intent.claim.as_ref().unwrap().to_string())
    }

    fn target(&self) -> PathBuf {
        self.bench.library.join("Fusion/1.1.dcm")
    }

    fn part(&self) -> PathBuf {
        let part = names::part(&self.intent.to.path, &self.intent.id).unwrap();
        self.bench.library.join(part.to_string())
    }

    fn resolve(&self) -> Resolution {
        resolve(
            &self.intent,
            &self.roots,
            &self.bench.root(),
            &Claims::default(),
            &*self.bench.catalogue,
        )
    }

    /// Recovers twice (a crash during recovery is a crash, too): finished at the target, and exactly one copy.
    fn finishes(&self) {
        for _ in 0..2 {
            assert_eq!(self.resolve(), Resolution::Finished(self.intent.to.clone()));
        }
        self.holds(&[], &["Fusion/1.1.dcm"]);
    }

    fn abandons(&self) {
        for _ in 0..2 {
            assert!(matches!(self.resolve(), Resolution::Abandoned(_)));
        }
    }

    fn holds(&self, drop: &[&str], library: &[&str]) {
        assert_eq!(self.bench.in_drop(), drop);
        assert_eq!(self.bench.in_library(), library);
    }
}

#[test]
fn an_intent_that_was_never_begun_is_abandoned() {
    let scene = Scene::new();
    scene.abandons();
    scene.holds(&["a"], &[]);
}

#[test]
fn a_rename_that_was_not_recorded_is_finished() {
    let mut scene = Scene::new();
    fs::rename(scene.source(), scene.target()).unwrap();
    scene.intent.set_mode = Some(0o600);
    scene.finishes();
    assert_eq!(fs::metadata(scene.target()).unwrap().mode() & 0o7777, 0o600);
}

#[test]
fn a_link_whose_other_name_is_still_there_is_finished() {
    let scene = Scene::new();
    fs::hard_link(scene.source(), scene.target()).unwrap();
    scene.finishes();
}

#[test]
fn a_claim_without_a_copy_is_put_back() {
    let scene = Scene::new();
    fs::rename(scene.source(), scene.claim()).unwrap();
    scene.abandons();
    scene.holds(&["a"], &[]);
}

#[test]
fn a_claim_with_an_unfinished_copy_is_put_back_and_the_copy_removed() {
    let scene = Scene::new();
    fs::rename(scene.source(), scene.claim()).unwrap();
    fs::write(scene.part(), "").unwrap();
    scene.abandons();
    scene.holds(&["a"], &[]);
}

#[test]
fn a_claim_whose_name_was_taken_meanwhile_comes_back_beside_it() {
    let scene = Scene::new();
    fs::rename(scene.source(), scene.claim()).unwrap();
    scene.bench.put("a", "another");
    scene.abandons();
    assert_eq!(
        scene.bench.census(),
        BTreeMap::from([("a".into(), 1), ("another".into(), 1)])
    );
    scene.holds(&["a", "a~7"], &[]);
}

#[test]
fn a_copy_whose_claim_is_still_there_is_verified_and_finished() {
    let scene = Scene::new();
    fs::copy(scene.source(), scene.target()).unwrap();
    fs::rename(scene.source(), scene.claim()).unwrap();
    scene.finishes();
}

#[test]
fn a_claim_that_was_written_to_after_it_was_copied_is_not_lost() {
    let scene = Scene::new();
    fs::copy(scene.source(), scene.target()).unwrap();
    fs::rename(scene.source(), scene.claim()).unwrap();
    fs::write(scene.claim(), "more").unwrap();
    assert_eq!(
        scene.resolve(),
        Resolution::Finished(scene.intent.to.clone())
    );
    scene.holds(&["a"], &["Fusion/1.1.dcm"]);
    assert_eq!(
        scene.bench.census(),
        BTreeMap::from([("a".into(), 1), ("more".into(), 1)])
    );
}

#[test]
fn a_copy_whose_claim_is_gone_is_finished() {
    let scene = Scene::new();
    fs::copy(scene.source(), scene.target()).unwrap();
    fs::remove_file(scene.source()).unwrap();
    scene.finishes();
}

#[test]
fn an_untouched_source_is_never_removed_for_an_equal_file_of_someone_else() {
    let scene = Scene::new();
    fs::write(scene.target(), "a").unwrap();
    scene.abandons();
    assert_eq!(scene.bench.census()["a"], 2);
}

#[test]
fn a_file_that_was_dropped_again_after_the_rename_stays() {
    let scene = Scene::new();
    fs::rename(scene.source(), scene.target()).unwrap();
    scene.bench.put("a", "a");
    assert_eq!(
        scene.resolve(),
        Resolution::Finished(scene.intent.to.clone())
    );
    assert_eq!(scene.bench.census()["a"], 2);
}

#[test]
fn a_copy_in_copy_mode_is_finished_and_its_source_stays() {
    let mut scene = Scene::new();
    (scene.intent.action, scene.intent.claim) = (Action::Copy, None);
    fs::copy(scene.source(), scene.target()).unwrap();
    assert_eq!(
        scene.resolve(),
        Resolution::Finished(scene.intent.to.clone())
    );
    scene.holds(&["a"], &["Fusion/1.1.dcm"]);
}

#[test]
fn an_unfinished_copy_in_copy_mode_is_removed() {
    let mut scene = Scene::new();
    (scene.intent.action, scene.intent.claim) = (Action::Copy, None);
    fs::write(scene.part(), "").unwrap();
    scene.abandons();
    scene.holds(&["a"], &[]);
}

#[test]
fn a_target_with_other_bytes_is_left_alone_and_the_source_found_again() {
    let scene = Scene::new();
    fs::write(scene.target(), "b").unwrap();
    scene.abandons();
    scene.holds(&["a"], &["Fusion/1.1.dcm"]);
    assert_eq!(fs::read_to_string(scene.target()).unwrap(), "b");
}

#[test]
fn a_file_that_landed_under_its_other_name_is_finished_there() {
    let scene = Scene::new();
    fs::write(scene.target(), "b").unwrap();
    let other = names::alternative(
        &scene.intent.to.path,
        &scene.intent.digest,
        &scene.intent.id,
    )
    .unwrap();
    fs::rename(scene.source(), scene.bench.library.join(other.to_string())).unwrap();
    assert_eq!(
        scene.resolve(),
        Resolution::Finished(Placement {
            root: RootId::Library,
            path: other
        })
    );
}

#[test]
fn a_file_that_was_written_to_while_it_was_renamed_is_put_back() {
    let scene = Scene::new();
    fs::rename(scene.source(), scene.target()).unwrap();
    fs::write(scene.target(), "more").unwrap();
    scene.abandons();
    scene.holds(&["a"], &[]);
    assert_eq!(scene.bench.census(), BTreeMap::from([("more".into(), 1)]));
}

#[test]
fn a_file_that_a_person_moved_within_the_library_is_found_by_its_bytes() {
    let scene = Scene::new();
    fs::create_dir(scene.bench.library.join("Brace")).unwrap();
    fs::rename(scene.source(), scene.bench.library.join("Brace/x.dcm")).unwrap();
    assert_eq!(
        scene.resolve(),
        Resolution::Finished(in_library("Brace/x.dcm"))
    );
}

#[test]
fn a_file_that_a_person_renamed_in_the_drop_directory_is_left_to_the_scan() {
    let scene = Scene::new();
    fs::rename(scene.source(), scene.bench.drop.join("b")).unwrap();
    scene.abandons();
    scene.holds(&["b"], &[]);
}

/// A crash between a rename that took another file than the one looked at and its undoing.
#[test]
fn another_file_that_was_moved_in_its_stead_is_put_back() {
    let scene = Scene::new();
    fs::remove_file(scene.source()).unwrap();
    fs::write(scene.target(), "another").unwrap();
    scene.abandons();
    scene.holds(&["a"], &[]);
    assert_eq!(fs::read_to_string(scene.source()).unwrap(), "another");
}

#[test]
fn a_second_name_of_a_file_that_was_written_to_meanwhile_goes() {
    let scene = Scene::new();
    fs::hard_link(scene.source(), scene.target()).unwrap();
    fs::write(scene.source(), "more").unwrap();
    scene.abandons();
    scene.holds(&["a"], &[]);
    assert_eq!(scene.bench.census(), BTreeMap::from([("more".into(), 1)]));
}

#[test]
fn a_file_whose_folder_has_gone_is_put_back_to_the_top() {
    let mut scene = Scene::new();
    scene.intent.from = RelPath::new("sub/a").unwrap();
    scene.intent.claim = None;
    fs::rename(scene.source(), scene.target()).unwrap();
    fs::write(scene.target(), "more").unwrap();
    scene.abandons();
    scene.holds(&["a"], &[]);
    // Also when somebody has put a link there, and taken the name at the top.
    fs::rename(scene.source(), scene.target()).unwrap();
    scene.bench.put("a", "other");
    scene.bench.put("a~7", "guessed");
    std::os::unix::fs::symlink(&scene.bench.state, scene.bench.drop.join("sub")).unwrap();
    assert!(matches!(scene.resolve(), Resolution::Abandoned(_)));
    assert_eq!(scene.bench.census()["more"], 1);
    assert!(scene.bench.in_library().is_empty());
    assert!(scene.bench.in_drop().iter().any(|name| {
        fs::read_to_string(scene.bench.drop.join(name)).is_ok_and(|text| text == "more")
    }));
}

#[test]
fn a_claim_is_found_where_its_folder_has_been_moved_to() {
    for copied in [false, true] {
        let bench = Bench::new();
        bench.put("sub/a", "a");
        let mut intent = intent(&bench, "sub/a", "a", true);
        let claim = bench.drop.join(intent.claim.as_ref().unwrap().to_string());
        fs::rename(bench.drop.join("sub/a"), claim).unwrap();
        fs::create_dir(bench.drop.join("other")).unwrap();
        fs::rename(bench.drop.join("sub"), bench.drop.join("other/sub")).unwrap();
        if copied {
            let landed = bench.library.join(intent.to.path.to_string());
            fs::create_dir_all(landed.parent().unwrap()).unwrap();
            fs::write(landed, "a").unwrap();
        }
        intent.action = Action::Move;
        let resolution = recovered(&bench, &intent);
        if copied {
            assert!(
                matches!(resolution, Resolution::Finished(_)),
                "{resolution:?}"
            );
            assert!(bench.in_drop().is_empty(), "{:?}", bench.in_drop());
        } else {
            assert!(
                matches!(resolution, Resolution::Abandoned(_)),
                "{resolution:?}"
            );
            assert_eq!(bench.in_drop(), ["a"]);
        }
        assert_eq!(bench.census(), BTreeMap::from([("a".into(), 1)]));
    }
}

#[test]
fn a_claim_that_was_interrupted_between_two_names_leaves_the_one_that_scans_find() {
    for (folder, name) in [
        ("sub", "a"),
        ("moved", "a"),
        ("sub", "renamed"),
        ("moved/deep", "b"),
    ] {
        let bench = Bench::new();
        bench.put("sub/a", "a");
        let intent = intent(&bench, "sub/a", "a", true);
        let claim = intent.claim.as_ref().unwrap().to_string();
        let at = bench.drop.join(folder);
        fs::create_dir_all(&at).unwrap();
        let (own, hidden) = (
            at.join(name),
            at.join(Path::new(&claim).file_name().unwrap()),
        );
        fs::rename(bench.drop.join("sub/a"), &own).unwrap();
        fs::hard_link(&own, &hidden).unwrap();
        for _ in 0..2 {
            let resolution = recovered(&bench, &intent);
            assert!(
                matches!(resolution, Resolution::Abandoned(_)),
                "{folder}/{name}: {resolution:?}"
            );
            assert_eq!(fs::read(&own).unwrap(), b"a");
            assert!(!hidden.exists(), "{folder}/{name}");
        }
        assert_eq!(names(&bench.drop).len(), 1, "{folder}/{name}");
    }
}

#[test]
fn a_hidden_name_that_another_program_keeps_is_not_taken_for_the_file_s_own() {
    let bench = Bench::new();
    bench.put("sub/a", "a");
    let intent = intent(&bench, "sub/a", "a", true);
    let claim = bench.drop.join(intent.claim.as_ref().unwrap().to_string());
    fs::rename(bench.drop.join("sub/a"), &claim).unwrap();
    // As NFS names a file that was removed while it is open; it goes when it is closed.
    let passing = bench.drop.join("sub/.nfs0001");
    fs::hard_link(&claim, &passing).unwrap();
    let resolution = recovered(&bench, &intent);
    assert!(
        matches!(resolution, Resolution::Abandoned(_)),
        "{resolution:?}"
    );
    fs::remove_file(passing).unwrap();
    assert_eq!(fs::read(bench.drop.join("sub/a")).unwrap(), b"a");
}

#[test]
fn somebody_elses_files_of_a_claims_name_do_not_hide_it() {
    let bench = Bench::new();
    bench.put("sub/a", "a");
    let intent = intent(&bench, "sub/a", "a", true);
    let name = intent.claim.as_ref().unwrap().to_string();
    let name = name.rsplit('/').next().unwrap();
    for (folder, bytes) in [("before", "x"), ("moved", "a"), ("zz", "y")] {
        bench.put(&format!("{folder}/{name}"), bytes);
    }
    fs::remove_file(bench.drop.join("sub/a")).unwrap();
    let resolution = recovered(&bench, &intent);
    assert!(
        matches!(resolution, Resolution::Abandoned(_)),
        "{resolution:?}"
    );
    assert_eq!(fs::read(bench.drop.join("sub/a")).unwrap(), b"a");
    for folder in ["before", "zz"] {
        assert!(bench.drop.join(folder).join(name).exists(), "{folder}");
    }
}

#[test]
fn hidden_files_that_no_record_knows_are_found_again() {
    let bench = Bench::new();
    for name in [
        "aa-3.claim",
        "aa-4.claim",
        "aa-9.claim",
        "bb-3.claim",
        "aa-3.part",
        "aa-9.part",
    ] {
        bench.put(&format!("sub/.radsort-{name}"), name);
    }
    let began = Began {
        instance: "aa".into(),
        before: 9,
        open: [RecordId("aa-4".into())].into(),
    };
    // The claim of an open Intent is recovery's, those of this run and of another installation are theirs.
    assert_eq!(tidy(&bench.root(), &began).unwrap(), 2);
    assert_eq!(
        bench.in_drop(),
        [
            "sub/.radsort-aa-4.claim",
            "sub/.radsort-aa-9.claim",
            "sub/.radsort-aa-9.part",
            "sub/.radsort-bb-3.claim",
            "sub/returned-aa-3.dcm",
        ]
    );
}

#[test]
fn a_file_that_is_nowhere_is_missing() {
    let scene = Scene::new();
    fs::remove_file(scene.source()).unwrap();
    assert_eq!(scene.resolve(), Resolution::Missing);
}

#[test]
fn a_file_that_is_nowhere_waits_where_the_share_that_it_was_on_seems_not_to_be_mounted() {
    let mut scene = Scene::new();
    fs::remove_file(scene.source()).unwrap();
    scene.intent.fingerprint.dev += 1;
    let Resolution::Wait(why) = scene.resolve() else {
        panic!("it does not wait");
    };
    assert!(why.contains("mounted?"), "{why}");
}

#[test]
fn what_is_on_an_offline_share_waits() {
    let scene = Scene::new();
    let root = scene.bench.root();
    fs::rename(scene.source(), scene.claim()).unwrap();
    fs::rename(&scene.bench.drop, scene.bench.state.join("away")).unwrap();
    assert!(matches!(
        resolve(
            &scene.intent,
            &scene.roots,
            &root,
            &Claims::default(),
            &*scene.bench.catalogue
        ),
        Resolution::Wait(_)
    ));
    fs::rename(scene.bench.state.join("away"), &scene.bench.drop).unwrap();
    scene.abandons();
    scene.holds(&["a"], &[]);
}

#[test]
fn a_quarantined_file_gets_its_reason_also_by_recovery() {
    let mut scene = Scene::new();
    let request = quarantined(scene.bench.request("a", ""));
    scene.intent.to = request.placement;
    scene.intent.fate = Fate::Quarantined;
    scene.intent.dossier = request.dossier;
    let target = scene
        .bench
        .library
        .join("_quarantine")
        .join(scene.intent.to.path.to_string());
    fs::create_dir_all(target.parent().unwrap()).unwrap();
    fs::rename(scene.source(), &target).unwrap();
    assert_eq!(
        scene.resolve(),
        Resolution::Finished(scene.intent.to.clone())
    );
    assert!(
        fs::read_to_string(format!("{}.reason.txt", target.display()))
            .unwrap()
            .contains("malformed")
    );
}

#[test]
fn only_old_copies_of_this_installation_are_swept() {
    let scene = Scene::new();
    for name in [
        ".radsort-aa-3.part",
        ".radsort-aa-9.part",
        ".radsort-bb-3.part",
        "x.part",
    ] {
        fs::write(scene.bench.library.join("Fusion").join(name), "").unwrap();
    }
    assert_eq!(sweep(&scene.roots.library, "aa", 9).unwrap(), 1);
    assert_eq!(
        names(&scene.bench.library.join("Fusion")),
        [".radsort-aa-9.part", ".radsort-bb-3.part", "x.part"]
    );
}
