//! What a bundle must keep to be opened and loaded, and that a refusal names what does not fit.

use super::*;

#[test]
fn a_bundle_reads_back_as_it_was_written() {
    let mut draft = Draft::full();
    draft
        .manifest
        .metrics
        .insert("accuracy".into(), toml::Value::Float(0.97));
    draft.manifest.classifiers[0].temperature = 0.1;
    let bundle = draft.open().unwrap();
    assert_eq!(*bundle.manifest(), draft.manifest);
    assert_eq!(bundle.name_and_version(), "tiny 1.0.0");
    assert_eq!(
        bundle.render_specs(),
        [render()],
        "three classifiers that want the same picture share it"
    );
    let text = std::fs::read_to_string(bundle.dir().join("bundle.toml")).unwrap();
    assert!(
        text.contains("temperature = 0.1\n"),
        "floats are written as they were meant: {text}"
    );
}

#[test]
fn classifiers_that_want_other_pictures_get_them() {
    let mut draft = Draft::full();
    draft.manifest.classifiers[1].render.pad = 0.5;
    let bundle = draft.open().unwrap();
    assert_eq!(bundle.render_specs().len(), 2);
    assert_eq!([0, 1, 2].map(|index| bundle.render_index(index)), [0, 1, 0]);
}

#[test]
fn an_altered_or_missing_file_is_refused_by_name() {
    let error = Draft::refusal(|draft| {
        std::fs::write(draft.dir.path().join("lateral.onnx"), network_file("view")).unwrap();
    });
    assert!(
        error.contains("lateral.onnx") && error.contains("SHA-256"),
        "{error}"
    );
    let error = Draft::refusal(|draft| {
        std::fs::remove_file(draft.dir.path().join("frontal.onnx")).unwrap();
    });
    assert!(error.contains("frontal.onnx"), "{error}");
    let error =
        Draft::refusal(|draft| draft.manifest.classifiers[0].model.file = "../view.onnx".into());
    assert!(error.contains("../view.onnx"), "{error}");
    let error = Draft::refusal(|draft| {
        std::os::unix::fs::symlink("view.onnx", draft.dir.path().join("link.onnx")).unwrap();
        draft.manifest.classifiers[0].model.file = "link.onnx".into();
    });
    assert!(error.contains("link.onnx"), "{error}");
}

#[test]
fn a_graph_that_does_not_fit_is_refused_by_name() {
    type Change = fn(&mut ClassifierSpec);
    let changes: [(Change, &str); 6] = [
        (|spec| spec.input = "pixels".into(), "image, not pixels"),
        (
            |spec| spec.outputs.logits = "scores".into(),
            "no output scores",
        ),
        (
            |spec| spec.outputs.features = Some("embedding".into()),
            "no output embedding",
        ),
        (|spec| spec.render.width = 16, "float32[N, 1, 8, 16]"),
        (
            |spec| {
                spec.model = FileRef::of(
                    "lateral.grey",
                    &GreyFormat::F32.encode(&frontal_top().pixels),
                );
            },
            "lateral.grey",
        ),
        (
            |spec| {
                spec.channels = 3;
                spec.normalisation = Normalisation {
                    mean: vec![0.0; 3],
                    std: vec![1.0; 3],
                };
            },
            "float32[N, 3, 8, 8]",
        ),
    ];
    for (change, why) in changes {
        let error = Draft::refusal(|draft| {
            change(&mut draft.manifest.classifiers[2]);
            // The reference image has to keep up with the size, or it is what gets refused.
            if draft.manifest.classifiers[2].render.width == 16 {
                let bytes = vec![0; 8 * 16 * 4];
                std::fs::write(draft.dir.path().join("wide.grey"), &bytes).unwrap();
                draft.manifest.references[2].image = FileRef::of("wide.grey", &bytes);
            }
        });
        assert!(
            error.contains(why) && error.contains("lateral"),
            "{why}: {error}"
        );
    }
    // Two classes where the graph has three.
    let error = Draft::refusal(|draft| {
        let bytes = network_file("view");
        std::fs::write(draft.dir.path().join("lateral.onnx"), &bytes).unwrap();
        draft.manifest.classifiers[2].model = FileRef::of("lateral.onnx", &bytes);
    });
    assert!(error.contains("float32[N, 2]"), "{error}");
}

#[test]
fn a_reference_image_that_disagrees_is_refused_by_name() {
    let error = Draft::refusal(|draft| draft.manifest.references[1].logits[0] += 0.01);
    assert!(
        error.contains("frontal.grey") && error.contains("tolerance"),
        "{error}"
    );
    let error =
        Draft::refusal(|draft| draft.manifest.classifiers[1].normalisation.std = vec![2.0; 3]);
    assert!(
        error.contains("frontal.grey") && error.contains("tolerance"),
        "a normalisation that is not the training's: {error}"
    );
    let error = Draft::refusal(|draft| draft.manifest.references[1].format = GreyFormat::U8);
    assert!(
        error.contains("frontal.grey") && error.contains("64"),
        "{error}"
    );
    let error = Draft::refusal(|draft| drop(draft.manifest.references.remove(1)));
    assert!(
        error.contains("frontal") && error.contains("no reference image"),
        "{error}"
    );
}

#[test]
fn a_bundle_for_another_program_is_refused() {
    let error = Draft::refusal(|draft| draft.manifest.preprocessing += 1);
    assert!(error.contains("preprocessing"), "{error}");
    let error = Draft::refusal(|draft| draft.manifest.schema = 2);
    assert!(error.contains("schema version 2"), "{error}");
    let draft = Draft::full();
    let text = format!("{}\n[extra]\nkey = 1\n", draft.manifest.to_toml().unwrap());
    std::fs::write(draft.dir.path().join("bundle.toml"), text).unwrap();
    let error = Bundle::open(draft.dir.path()).unwrap_err().to_string();
    assert!(error.contains("extra"), "{error}");
}

#[test]
fn rules_between_categories_and_classifiers_are_kept() {
    type Change = fn(&mut Manifest);
    let changes: [(Change, &str); 11] = [
        (|it| it.categories[0].folder = "a/b".into(), "folder name"),
        (
            |it| it.categories[0].folder = "FRONTAL-BOTTOM".into(),
            "has the folder",
        ),
        (|it| it.categories[0].threshold = f32::NAN, "threshold"),
        (|it| it.classifiers[0].temperature = 0.0, "temperature"),
        (
            |it| it.classifiers[1].classes[0] = "lateral-top".into(),
            "lateral category",
        ),
        (
            |it| it.classifiers[1].applies = Applies::Any,
            "more than one category classifier",
        ),
        (
            |it| it.classifiers[2].classes.truncate(1),
            "Export the network with two outputs",
        ),
        (
            |it| {
                let mut untold = it.categories[0].clone();
                untold.id = CategoryId::parse("frontal-other").unwrap();
                untold.folder = "frontal-other".into();
                it.categories.push(untold);
            },
            "told by 0 classifiers",
        ),
        (
            |it| it.classifiers[0].classes[2] = "other".into(),
            "frontal, lateral, neither",
        ),
        (
            |it| it.classifiers[0].normalisation.std = vec![0.0],
            "std above 0",
        ),
        (
            |it| {
                let mut reference = it.references[0].clone();
                reference.classifier = "nobody".into();
                it.references.push(reference);
            },
            "nobody",
        ),
    ];
    for (change, why) in changes {
        let error = Draft::refusal(|draft| change(&mut draft.manifest));
        assert!(error.contains(why), "{why}: {error}");
    }
}

#[test]
fn a_site_may_only_tighten() {
    let bundle = Draft::full();
    let bundle = bundle.open().unwrap();
    let id = |text: &str| CategoryId::parse(text).unwrap();
    let with = |review: ReviewSettings| Thresholds::new(&bundle, &review);
    let raised = ReviewSettings {
        below: Some(0.85),
        below_by_category: vec![("frontal-top".into(), 0.95)],
        view: Some(ViewThresholds {
            sure: 0.95,
            margin: 0.1,
        }),
        may_loosen: false,
        files_uncertified: false,
    };
    let raised = with(raised).unwrap();
    assert_eq!(raised.threshold(&id("lateral-top")).to_string(), "0.85");
    assert_eq!(raised.threshold(&id("frontal-top")).to_string(), "0.95");
    assert_eq!(
        raised.view(),
        ViewThresholds {
            sure: 0.95,
            margin: 0.1
        }
    );
    assert!(
        raised.threshold(&id("of-another-bundle")) > 1.0,
        "what the bundle does not know is never filed"
    );

    for (review, key) in [
        (
            ReviewSettings {
                below: Some(0.5),
                ..ReviewSettings::default()
            },
            "below",
        ),
        (
            ReviewSettings {
                below_by_category: vec![("lateral-top".into(), 0.7)],
                ..ReviewSettings::default()
            },
            "lateral-top",
        ),
        (
            ReviewSettings {
                view: Some(ViewThresholds {
                    sure: 0.5,
                    margin: 0.2,
                }),
                ..ReviewSettings::default()
            },
            "view-sure",
        ),
        (
            ReviewSettings {
                view: Some(ViewThresholds {
                    sure: 0.9,
                    margin: 0.5,
                }),
                ..ReviewSettings::default()
            },
            "view-margin",
        ),
    ] {
        let error = with(review.clone()).unwrap_err().to_string();
        assert!(
            error.contains(key) && error.contains("may-loosen") && error.contains("tiny 1.0.0"),
            "{error}"
        );
        assert!(
            with(ReviewSettings {
                may_loosen: true,
                files_uncertified: false,
                ..review
            })
            .is_ok()
        );
    }
    let typo = ReviewSettings {
        below_by_category: vec![("frontal-topp".into(), 0.9)],
        ..ReviewSettings::default()
    };
    assert!(
        with(typo)
            .unwrap_err()
            .to_string()
            .contains("did you mean frontal-top?")
    );
    let nonsense = ReviewSettings {
        below: Some(f32::NAN),
        may_loosen: true,
        files_uncertified: false,
        ..ReviewSettings::default()
    };
    assert!(with(nonsense).is_err());
}
