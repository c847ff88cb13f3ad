#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeMap;

use safetensors::tensor::TensorView;

use super::*;
use crate::retrain::efficientnet::VARIANTS;
use crate::retrain::initializer::{Literal, Values};

const TINY: Variant = Variant {
    width: 0.1,
    depth: 0.5,
    resolution: 32,
    dropout: 0.2,
    epsilon: 1e-5,
    same_upper: false,
};

type Tensors = BTreeMap<String, (Vec<usize>, Vec<f32>)>;

/// The tensors of a tiny EfficientNet under torchvision's names.
fn torchvision(channels: usize, classes: usize) -> Tensors {
    let model = TINY.build([channels, 32, 32], classes, 8);
    let graph = model.graph.unwrap();
    let tensors = graph
        .initializer
        .iter()
        .filter(|t| t.name != "dropout.ratio");
    tensors
        .enumerate()
        .map(|(k, tensor)| {
            let literal = Literal::read(tensor).unwrap();
            let Values::Floats(mut data) = literal.values else {
                panic!("{} holds integers", tensor.name)
            };
            // Constants, too, shall be seen to come from the file.
            data.iter_mut().for_each(|x| *x += 0.01 * k as f32);
            let name = tensor.name.replace("classifier.", "classifier.1.");
            (name, (literal.dims, data))
        })
        .collect()
}

/// The same under timm's names, with the counters that PyTorch keeps beside statistics.
fn as_timm(tensors: Tensors) -> Tensors {
    let mut renamed: Tensors = tensors
        .into_iter()
        .map(|(name, tensor)| {
            let new = name
                .replace("features.0.0.", "conv_stem.")
                .replace("features.0.1.", "bn1.")
                .replace("features.8.0.", "conv_head.")
                .replace("features.8.1.", "bn2.")
                .replace("classifier.1.", "classifier.");
            let Some(rest) = new.strip_prefix("features.") else {
                return (new, tensor);
            };
            let parts: Vec<&str> = rest.split('.').collect();
            let stage: usize = parts[0].parse().unwrap();
            let (block, place, number) = (parts[1], parts[3..5].join("."), parts[5]);
            let layer = match (stage == 1, place.as_str()) {
                (true, "0.0") | (false, "1.0") => "conv_dw",
                (true, "2.0") | (false, "0.0") => "conv_pw",
                (false, "3.0") => "conv_pwl",
                (_, "0.1") => "bn1",
                (true, "2.1") | (false, "1.1") => "bn2",
                (false, "3.1") => "bn3",
                (true, "1.fc1") | (false, "2.fc1") => "se.conv_reduce",
                (true, "1.fc2") | (false, "2.fc2") => "se.conv_expand",
                other => panic!("{other:?}"),
            };
            (
                format!("blocks.{}.{block}.{layer}.{number}", stage - 1),
                tensor,
            )
        })
        .collect();
    renamed.insert("bn1.num_batches_tracked".into(), (vec![1], vec![7.0]));
    renamed
}

fn save(tensors: &Tensors) -> tempfile::NamedTempFile {
    let bytes: Vec<(&String, &Vec<usize>, Vec<u8>)> = tensors
        .iter()
        .map(|(name, (dims, data))| {
            let bytes = data.iter().flat_map(|x| x.to_le_bytes()).collect();
            (name, dims, bytes)
        })
        .collect();
    let views = bytes.iter().map(|(name, dims, bytes)| {
        let view = TensorView::new(Dtype::F32, (*dims).clone(), bytes).unwrap();
        (name.as_str(), view)
    });
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), safetensors::serialize(views, None).unwrap()).unwrap();
    file
}

fn numbers(model: &ModelProto, name: &str) -> Vec<f32> {
    let graph = model.graph.as_ref().unwrap();
    let tensor = graph.initializer.iter().find(|t| t.name == name).unwrap();
    match Literal::read(tensor).unwrap().values {
        Values::Floats(data) => data,
        Values::Integers(_) => panic!("{name} holds integers"),
    }
}

#[test]
fn every_tensor_is_found_under_the_names_of_torchvision_and_of_timm() {
    let tensors = torchvision(3, 4);
    let of_timm = as_timm(tensors.clone());
    for (kind, renamed) in [(Kind::Torchvision, tensors.clone()), (Kind::Timm, of_timm)] {
        let mut model = TINY.build([3, 32, 32], 4, 1);
        let loaded = load(&mut model, save(&renamed).path(), false, kind).unwrap();
        assert_eq!(loaded.tensors, tensors.len());
        assert!(!loaded.head_skipped && !loaded.folded && loaded.unused.is_empty());
        for (name, (_, data)) in &tensors {
            let own = name.replace("classifier.1.", "classifier.");
            assert_eq!(&numbers(&model, &own), data, "{name}");
        }
    }
}

#[test]
fn whose_weights_they_are_is_not_guessed() {
    let file = save(&as_timm(torchvision(3, 4)));
    let mut model = TINY.build([3, 32, 32], 4, 1);
    let error = load(&mut model, file.path(), false, Kind::Torchvision).unwrap_err();
    assert!(
        error.to_string().contains("--weights-kind timm-tf"),
        "{error}"
    );
    let file = save(&torchvision(3, 4));
    let error = load(&mut model, file.path(), false, Kind::TimmTf).unwrap_err();
    assert!(matches!(error, WeightsError::Kind { .. }), "{error}");

    let b5 = VARIANTS[5];
    let epsilons = [Kind::Torchvision, Kind::Timm, Kind::TimmTf].map(|it| it.of(b5).epsilon);
    assert_eq!(epsilons, [1e-3, 1e-5, 1e-3]);
    assert!(Kind::TimmTf.of(b5).same_upper && !Kind::Timm.of(b5).same_upper);
}

#[test]
fn three_channels_become_their_sum_where_that_is_asked_for() {
    let tensors = torchvision(3, 4);
    let file = save(&tensors);
    let mut model = TINY.build([1, 32, 32], 4, 1);
    let error = load(&mut model, file.path(), false, Kind::Torchvision).unwrap_err();
    let message = error.to_string();
    assert!(
        message.contains("features.0.0.weight")
            && message.contains("[8, 3, 3, 3]")
            && message.contains("[8, 1, 3, 3]"),
        "{message}"
    );
    assert!(
        load(&mut model, file.path(), true, Kind::Torchvision)
            .unwrap()
            .folded
    );
    let (sums, data) = (
        numbers(&model, "features.0.0.weight"),
        &tensors["features.0.0.weight"].1,
    );
    for (k, sum) in sums.iter().enumerate() {
        let (kernel, pixel) = (k / 9, k % 9);
        let expected: f32 = (0..3).map(|c| data[(kernel * 3 + c) * 9 + pixel]).sum();
        assert!((sum - expected).abs() < 1e-6);
    }
}

#[test]
fn a_head_for_other_classes_is_left_as_it_was_drawn() {
    let file = save(&torchvision(1, 1000));
    let mut model = TINY.build([1, 32, 32], 4, 1);
    let drawn = numbers(&model, "classifier.weight");
    let loaded = load(&mut model, file.path(), false, Kind::Torchvision).unwrap();
    assert!(
        loaded.head_skipped && loaded.unused.is_empty(),
        "{loaded:?}"
    );
    assert_eq!(numbers(&model, "classifier.weight"), drawn);
}

#[test]
fn missing_tensors_other_sizes_and_other_files_are_named() {
    let mut model = TINY.build([1, 32, 32], 4, 1);
    let mut tensors = torchvision(1, 4);
    tensors.remove("features.2.0.block.1.0.weight");
    let error = load(&mut model, save(&tensors).path(), false, Kind::Torchvision).unwrap_err();
    assert!(
        error.to_string().contains("features.2.0.block.1.0.weight"),
        "{error}"
    );
    let mut tensors = torchvision(1, 4);
    tensors.get_mut("features.2.0.block.1.1.bias").unwrap().0 = vec![1, 48];
    let error = load(&mut model, save(&tensors).path(), false, Kind::Torchvision).unwrap_err();
    assert!(matches!(error, WeightsError::Shape { .. }), "{error}");
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), b"a pickle").unwrap();
    let error = load(&mut model, file.path(), false, Kind::Torchvision).unwrap_err();
    assert!(matches!(error, WeightsError::Format { .. }), "{error}");
}
