#![allow(clippy::unwrap_used)]
use super::*;
use crate::retrain::rows;

fn shipped() -> Bundle {
    Bundle::open_or_shipped(None).unwrap()
}

/// The last layer of the classifier that tells a category.
fn head_of(bundle: &Bundle, category: &str) -> (ClassifierSpec, Head) {
    let specs = &bundle.manifest().classifiers;
    let spec = specs
        .iter()
        .find(|spec| spec.classes.iter().any(|class| class == category))
        .unwrap();
    let network = Fitted::of(bundle, spec).unwrap().network;
    let place = Place::find(&network, &spec.outputs.logits).unwrap();
    (spec.clone(), place.read(&network).unwrap())
}

fn changed(change: &Change) -> (tempfile::TempDir, Bundle, Vec<String>) {
    let dir = tempfile::tempdir().unwrap();
    let mut start = Start::of(&shipped()).unwrap();
    let must = start.change(change).unwrap();
    let bundle = start.write(&dir.path().join("start")).unwrap();
    (dir, bundle, must)
}

fn add(id: &str) -> Change {
    Change::Add {
        id: id.to_owned(),
        view: View::Lateral,
    }
}

#[test]
fn an_added_category_leaves_what_is_known_of_the_others_as_it_is() {
    let (_dir, bundle, must) = changed(&add("lateral-halo"));
    let (before, old) = head_of(&shipped(), "lateral-fusion");
    let (after, new) = head_of(&bundle, "lateral-halo");
    assert_eq!(must, std::slice::from_ref(&after.id));
    assert_eq!(new.weight[..old.weight.len()], old.weight);
    assert_eq!(new.bias[..old.bias.len()], old.bias);
    assert_eq!(after.classes.len(), before.classes.len() + 1);
    assert!(
        bundle
            .categories()
            .iter()
            .any(|it| it.folder == "lateral-halo")
    );
    assert!(
        after.out_of_distribution.is_none(),
        "its class means are of other classes"
    );
}

#[test]
fn a_removed_category_takes_its_row_along_and_no_other() {
    let (_dir, bundle, _) = changed(&Change::Remove {
        id: "lateral-fusion".into(),
    });
    let (before, old) = head_of(&shipped(), "lateral-fusion");
    let row = before
        .classes
        .iter()
        .position(|it| it == "lateral-fusion")
        .unwrap();
    let (after, new) = head_of(&bundle, "lateral-tether");
    let mut wanted = old.weight.clone();
    wanted.remove(row);
    assert_eq!(new.weight, wanted);
    assert!(!after.classes.contains(&"lateral-fusion".to_owned()));
    assert!(
        bundle
            .categories()
            .iter()
            .all(|it| it.id.as_str() != "lateral-fusion")
    );
}

#[test]
fn a_renamed_category_keeps_its_row_and_nothing_has_to_be_trained() {
    let (_dir, bundle, must) = changed(&Change::Rename {
        from: "lateral-fusion".into(),
        to: "lateral-spondylodesis".into(),
    });
    assert!(must.is_empty());
    let (_, old) = head_of(&shipped(), "lateral-fusion");
    let (_, new) = head_of(&bundle, "lateral-spondylodesis");
    assert_eq!(old, new);
}

#[test]
fn a_renamed_category_is_still_meant_by_labels_with_its_old_id_and_by_no_other() {
    let dir = tempfile::tempdir().unwrap();
    let mut start = Start::of(&shipped()).unwrap();
    let rename = |from: &str, to: &str| Change::Rename {
        from: from.into(),
        to: to.into(),
    };
    start
        .change(&rename("lateral-fusion", "lateral-a"))
        .unwrap();
    let taken = [
        add("lateral-fusion"),
        rename("lateral-tether", "lateral-fusion"),
    ];
    for change in taken {
        let why = start.change(&change).unwrap_err().to_string();
        assert!(why.contains("lateral-a was called lateral-fusion"), "{why}");
    }
    start.change(&rename("lateral-a", "lateral-b")).unwrap();
    let bundle = start.write(&dir.path().join("start")).unwrap();

    let images = dir.path().join("images");
    for name in ["lateral-fusion", "lateral-a", "lateral-b"] {
        std::fs::create_dir_all(images.join(name)).unwrap();
        std::fs::write(images.join(name).join("1.dcm"), "x").unwrap();
    }
    let found = rows::from_folders(&images, bundle.categories()).unwrap();
    let ids: Vec<&str> = found
        .rows
        .iter()
        .map(|row| bundle.categories()[row.category.unwrap()].id.as_str())
        .collect();
    assert_eq!(ids, ["lateral-b"; 3]);

    let mut start = Start::of(&bundle).unwrap();
    start
        .change(&rename("lateral-b", "lateral-fusion"))
        .unwrap();
    let back = start.write(&dir.path().join("back")).unwrap();
    let ids = |bundle: &Bundle| {
        let categories = bundle.categories().iter();
        categories.map(|it| it.id.clone()).collect::<Vec<_>>()
    };
    assert_eq!(ids(&back), ids(&shipped()));
}

#[test]
fn what_was_promised_of_a_bundle_is_not_promised_of_what_it_becomes() {
    let dir = tempfile::tempdir().unwrap();
    let mut start = Start::of(&shipped()).unwrap();
    start.manifest.promise = Some(manifest::Promised {
        target: 0.01,
        kept: true,
        why: "0 of 700".into(),
        bound: 0.004,
        filed: 700,
        errors: 0,
        uncertified: Vec::new(),
    });
    let promising = start.write(&dir.path().join("promising")).unwrap();
    assert!(promising.manifest().promise.is_some());
    assert!(Start::of(&promising).unwrap().manifest.promise.is_none());
}

#[test]
fn what_does_not_fit_the_bundle_is_refused_with_the_reason() {
    let mut start = Start::of(&shipped()).unwrap();
    let mut why = |change: Change| start.change(&change).unwrap_err().to_string();
    assert!(why(add("lateral-fusion")).contains("already"));
    assert!(why(add("Lateral Halo")).contains("Lateral Halo"));
    let unknown = why(Change::Remove {
        id: "nonsense".into(),
    });
    assert!(
        unknown.contains("nonsense") && unknown.contains("lateral-fusion"),
        "{unknown}"
    );
}

#[test]
fn networks_from_nothing_take_the_place_of_the_old_ones_and_make_a_bundle_that_opens() {
    let dir = tempfile::tempdir().unwrap();
    let mut start = Start::of(&shipped()).unwrap();
    let ids: Vec<String> = start.fitted.iter().map(|it| it.spec.id.clone()).collect();
    let tiny = Variant {
        width: 0.1,
        depth: 0.1,
        resolution: 32,
        dropout: 0.0,
        epsilon: 1e-3,
        same_upper: false,
    };
    let init = Init {
        variant: tiny,
        channels: 3,
        input: Some([64, 32]),
        weights: None,
        kind: Kind::Torchvision,
        seed: 1,
    };
    start.initialise(&ids[..1], &init).unwrap();
    let bundle = start.write(&dir.path().join("start")).unwrap();
    let spec = &bundle.manifest().classifiers[0];
    assert_eq!(
        (spec.channels, spec.render.height, spec.render.width),
        (3, 64, 32)
    );
    assert_eq!(bundle.references(spec).unwrap().len(), 1);
    let others = &shipped().manifest().classifiers[1..].to_vec();
    assert_eq!(
        bundle.manifest().classifiers[1].model.sha256,
        others[0].model.sha256
    );
}
