//! What the cascade says about images, on which device, alone and in company.

use super::*;

#[test]
fn the_cascade_asks_the_classifier_of_the_view() {
    let mut cascade = Draft::full().load().unwrap();
    let sure = one(&mut cascade, HeaderView::Pa, frontal_top()).unwrap();
    assert_eq!((sure.view, sure.view_problem), (Some(View::Frontal), None));
    assert_eq!(sure.category().unwrap().as_str(), "frontal-top");
    assert_eq!(sure.scores.len(), 2);
    assert!(sure.confidence > 0.99, "{sure:?}");
    assert_eq!(
        (sure.model.as_str(), sure.provider.as_str()),
        ("tiny 1.0.0", "cpu")
    );

    let lateral = one(&mut cascade, HeaderView::Absent, lateral_bottom()).unwrap();
    assert_eq!(lateral.category().unwrap().as_str(), "lateral-bottom");

    let conflict = one(&mut cascade, HeaderView::Ll, frontal_top()).unwrap();
    assert_eq!(
        (conflict.view, conflict.view_problem),
        (None, Some(Reason::ViewConflict))
    );
    assert_eq!(
        conflict.category().unwrap().as_str(),
        "frontal-top",
        "scores of the pixels' favourite are shown"
    );

    let dark = one(&mut cascade, HeaderView::Ap, quadrants([0.0; 4])).unwrap();
    assert_eq!(dark.view_problem, Some(Reason::OutOfScope));
    assert!(dark.scores.is_empty() && dark.confidence.abs() < f32::EPSILON);
}

#[test]
fn the_confidence_covers_view_and_category() {
    let mut cascade = Draft::full().load().unwrap();
    // Left 0.50, right 0.48: p(frontal) = 1 / (1 + exp(-1.2)); top is far brighter.
    let unsure = one(
        &mut cascade,
        HeaderView::Ap,
        quadrants([0.8, 0.76, 0.2, 0.2]),
    )
    .unwrap();
    let p_view = unsure.view_scores.unwrap().frontal;
    assert!(
        (p_view - 1.0 / (1.0 + (-1.2f32).exp())).abs() < 1e-3,
        "{p_view}"
    );
    assert!((unsure.confidence - p_view * unsure.scores[0].probability).abs() < 1e-6);
    assert!(unsure.confidence < 0.8);
}

#[test]
fn without_a_view_classifier_the_header_decides() {
    let mut draft = Draft::full();
    draft.manifest.classifiers.remove(0);
    draft.manifest.references.remove(0);
    let mut cascade = draft.load().unwrap();
    let by_header = one(&mut cascade, HeaderView::Rl, frontal_top()).unwrap();
    assert_eq!(
        (by_header.view, by_header.view_scores),
        (Some(View::Lateral), None)
    );
    assert!((by_header.confidence - by_header.scores[0].probability).abs() < 1e-6);
    let absent = one(&mut cascade, HeaderView::Absent, frontal_top()).unwrap();
    assert_eq!(absent.view_problem, Some(Reason::ViewUnsure));
}

#[test]
fn a_single_classifier_of_all_categories_tells_the_view_too() {
    let mut draft = Draft::empty();
    let ids = [
        "frontal-top",
        "frontal-bottom",
        "lateral-top",
        "lateral-bottom",
    ];
    draft.add("all", Role::Category, Applies::Any, "all", 1, &ids);
    let mut cascade = draft.load().unwrap();
    let told = one(&mut cascade, HeaderView::Absent, lateral_bottom()).unwrap();
    assert_eq!(
        (told.view, told.category().unwrap().as_str()),
        (Some(View::Lateral), "lateral-bottom")
    );
    let conflict = one(&mut cascade, HeaderView::Ap, lateral_bottom()).unwrap();
    assert_eq!(conflict.view_problem, Some(Reason::ViewConflict));
}

#[test]
fn a_view_that_the_bundle_does_not_know_is_out_of_scope() {
    let mut draft = Draft::full();
    draft.manifest.classifiers.pop();
    draft.manifest.references.pop();
    draft.manifest.categories.truncate(2);
    let mut cascade = draft.load().unwrap();
    let lateral = one(&mut cascade, HeaderView::Ll, lateral_bottom()).unwrap();
    assert_eq!(
        (lateral.view, lateral.view_problem),
        (None, Some(Reason::OutOfScope))
    );
}

#[test]
fn unusual_features_are_told_in_units_of_the_threshold() {
    let mut draft = Draft::full();
    // Both class means at the features of `frontal_top`.
    let means = GreyFormat::F32.encode(&[0.8, 0.1, 0.6, 0.3, 0.8, 0.1, 0.6, 0.3]);
    std::fs::write(draft.dir.path().join("means.f32"), &means).unwrap();
    draft.manifest.classifiers[1].out_of_distribution = Some(OutOfDistribution {
        method: Method::FeatureCentroid,
        threshold: 0.1,
        centre: 0.0,
        false_review_rate: 0.01,
        parameters: Some(FileRef::of("means.f32", &means)),
    });
    let mut cascade = draft.load().unwrap();
    let usual = one(&mut cascade, HeaderView::Pa, frontal_top()).unwrap();
    assert!(usual.out_of_distribution.unwrap() < 0.01, "{usual:?}");
    // Its right half brighter by 0.2, with top and bottom as they were: 0.2 / 0.1 = 2, plus what top and bottom gain.
    let unusual = one(
        &mut cascade,
        HeaderView::Pa,
        quadrants([1.0, 0.4, 0.6, 0.2]),
    )
    .unwrap();
    let expected = (0.2f32.powi(2) + 2.0 * 0.1f32.powi(2)).sqrt() / 0.1;
    assert!(
        (unusual.out_of_distribution.unwrap() - expected).abs() < 1e-3,
        "{unusual:?}"
    );
    // The lateral classifier has no measure.
    assert_eq!(
        one(&mut cascade, HeaderView::Ll, lateral_bottom())
            .unwrap()
            .out_of_distribution,
        None
    );
}

#[test]
fn what_is_not_a_number_is_an_error_and_not_a_decision() {
    let mut draft = Draft::empty();
    draft.manifest.categories.truncate(2);
    draft.add(
        "poisoned",
        Role::Category,
        Applies::Frontal,
        "poisoned",
        1,
        &["frontal-top", "frontal-bottom"],
    );
    let mut cascade = draft.load().unwrap();
    let images = [
        frontal_top(),
        quadrants([1.0, 1.0, 0.0, 0.0]),
        frontal_top(),
    ];
    let images: Vec<[Radiograph; 1]> = images.into_iter().map(|image| [image]).collect();
    let images: Vec<Image<'_>> = images
        .iter()
        .map(|it| Image {
            header: HeaderView::Ap,
            radiographs: it,
        })
        .collect();
    let results = cascade.classify(&images);
    assert!(
        results[0].is_ok() && results[2].is_ok(),
        "only the image itself is concerned"
    );
    assert!(
        matches!(&results[1], Err(ModelError::NotFinite { classifier }) if classifier == "poisoned")
    );
}

#[test]
fn an_image_that_was_not_rendered_as_asked_is_an_error() {
    let mut cascade = Draft::full().load().unwrap();
    let narrow = Radiograph {
        height: 8,
        width: 4,
        pixels: vec![0.0; 32],
    };
    let none: &[Radiograph] = &[];
    let results = cascade.classify(&[
        Image {
            header: HeaderView::Ap,
            radiographs: none,
        },
        Image {
            header: HeaderView::Ap,
            radiographs: &[frontal_top()],
        },
    ]);
    assert!(matches!(&results[0], Err(ModelError::Image { .. })));
    assert!(results[1].is_ok());
    assert!(matches!(
        one(&mut cascade, HeaderView::Ap, narrow),
        Err(ModelError::Image { .. })
    ));
}

#[test]
fn an_image_gets_the_same_answer_in_any_batch() {
    let images: Vec<Radiograph> = (0u8..7)
        .map(|i| {
            quadrants([
                f32::from(i) / 7.0,
                0.3,
                0.9 - f32::from(i) / 10.0,
                f32::from(i % 3) / 4.0,
            ])
        })
        .collect();
    let bundle = Draft::full();
    let bundle = bundle.open().unwrap();
    let spec = &bundle.manifest().classifiers[1];
    let load = |batch| {
        Network::load(
            &bundle,
            spec,
            &runtime(),
            &runtime_settings(),
            Provider::Cpu,
            batch,
        )
        .unwrap()
    };
    let refs: Vec<&Radiograph> = images.iter().collect();
    let alone: Vec<_> = load(1)
        .run(&refs)
        .unwrap()
        .into_iter()
        .map(Result::unwrap)
        .collect();
    for batch in [2, 3, 4, 16] {
        let together: Vec<_> = load(batch)
            .run(&refs)
            .unwrap()
            .into_iter()
            .map(Result::unwrap)
            .collect();
        for (a, b) in alone.iter().zip(&together) {
            assert!(
                a.logits
                    .iter()
                    .zip(&b.logits)
                    .all(|(a, b)| (a - b).abs() < 1e-4),
                "batch {batch}: {a:?} {b:?}"
            );
        }
    }
}

#[test]
fn a_graph_for_one_image_at_a_time_is_never_given_more() {
    let mut draft = Draft::full();
    let bytes = network_file("view-one-at-a-time");
    std::fs::write(draft.dir.path().join("view.onnx"), &bytes).unwrap();
    draft.manifest.classifiers[0].model = FileRef::of("view.onnx", &bytes);
    let bundle = draft.open().unwrap();
    let spec = &bundle.manifest().classifiers[0];
    let mut network = Network::load(
        &bundle,
        spec,
        &runtime(),
        &runtime_settings(),
        Provider::Cpu,
        8,
    )
    .unwrap();
    let (a, b) = (frontal_top(), lateral_bottom());
    let answers = network.run(&[&a, &b]).unwrap();
    assert!(
        answers[0].as_ref().unwrap().probabilities[0] > 0.9
            && answers[1].as_ref().unwrap().probabilities[1] > 0.9
    );
}

#[test]
fn requiring_a_gpu_without_one_is_refused_with_the_reason() {
    let draft = Draft::full();
    for device in [Device::Auto, Device::Cuda(0)] {
        let settings = RuntimeSettings {
            device,
            gpu: GpuPolicy::Require,
            ..runtime_settings()
        };
        if runtime().lacks_cuda().is_none() {
            eprintln!("SKIPPED: this ONNX Runtime has CUDA");
            return;
        }
        let error = Cascade::load(draft.open().unwrap(), &settings, ViewThresholds::default())
            .err()
            .unwrap();
        assert!(
            matches!(
                &error,
                ModelError::Runtime(runtime::RuntimeError::GpuRequired { .. })
            ),
            "{error}"
        );
        assert!(error.to_string().contains("without CUDA"), "{error}");
    }
}

#[test]
fn a_cuda_session_on_a_library_without_cuda_fails_instead_of_running_on_the_cpu() {
    if runtime().lacks_cuda().is_none() {
        eprintln!("SKIPPED: this ONNX Runtime has CUDA");
        return;
    }
    let bundle = Draft::full();
    let bundle = bundle.open().unwrap();
    let spec = &bundle.manifest().classifiers[0];
    let loaded = Network::load(
        &bundle,
        spec,
        &runtime(),
        &runtime_settings(),
        Provider::Cuda(0),
        4,
    );
    let error = loaded.err().expect("refused").to_string();
    assert!(error.contains("CUDA"), "{error}");
}

#[tokio::test]
async fn preferring_a_gpu_runs_on_the_cpu_and_says_so() {
    let draft = Draft::full();
    let settings = RuntimeSettings {
        device: Device::Cuda(0),
        gpu: GpuPolicy::Prefer,
        ..runtime_settings()
    };
    let bundle = draft.open().unwrap();
    let classifier = tokio::task::spawn_blocking(move || {
        Classifier::start(bundle, &settings, ViewThresholds::default())
    });
    let classifier = classifier.await.unwrap().unwrap();
    let header = Description {
        view_position: "AP".into(),
        ..Description::default()
    };
    let prediction = classifier
        .classify(&header, vec![frontal_top()])
        .await
        .unwrap()
        .prediction;
    if classifier.info().provider == "cpu" {
        assert!(classifier.info().gpu_refused.is_some());
        assert_eq!(
            (prediction.provider.as_str(), classifier.info().batch),
            ("cpu", 1)
        );
    }
    assert_eq!(prediction.category().unwrap().as_str(), "frontal-top");
}

#[tokio::test]
async fn many_ask_the_one_thread_at_the_same_time() {
    let draft = Draft::full();
    let bundle = draft.open().unwrap();
    let start = move || Classifier::start(bundle, &runtime_settings(), ViewThresholds::default());
    let classifier = tokio::task::spawn_blocking(start).await.unwrap().unwrap();
    let mut asked = tokio::task::JoinSet::new();
    for i in 0..200 {
        let classifier = classifier.clone();
        asked.spawn(async move {
            let image = if i % 2 == 0 {
                frontal_top()
            } else {
                lateral_bottom()
            };
            let prediction = classifier
                .classify(&Description::default(), vec![image])
                .await
                .unwrap()
                .prediction;
            (i, prediction.view)
        });
    }
    while let Some(done) = asked.join_next().await {
        let (i, view) = done.unwrap();
        assert_eq!(
            view,
            Some(if i % 2 == 0 {
                View::Frontal
            } else {
                View::Lateral
            })
        );
    }
    classifier.ping().await.unwrap();
    assert!(classifier.beats() >= 201);
}

#[tokio::test]
async fn a_bundle_that_does_not_load_leaves_no_thread_behind() {
    let mut draft = Draft::full();
    draft.manifest.references[0].logits[0] += 1.0;
    let bundle = draft.open().unwrap();
    let start = move || Classifier::start(bundle, &runtime_settings(), ViewThresholds::default());
    let error = tokio::task::spawn_blocking(start)
        .await
        .unwrap()
        .err()
        .unwrap();
    assert!(error.to_string().contains("view.grey"), "{error}");
}
