//! A hidden layer between frozen features and the last one: for classes that no plane separates.

use burn::module::{Module, Param};
use burn::tensor::{Tensor, TensorData, activation};
use rand::SeedableRng as _;
use rand_chacha::ChaCha12Rng;

use super::builder::{int, normal};
use super::graph::read_back;
use super::head::{Fit, Head, Place, Prepared, descend};
use super::train::TrainError;
use crate::model::onnx::{ModelProto, NodeProto, TensorProto, tensor_proto::DataType};

/// Two layers: `last(relu(first(features)))`.
#[derive(Clone, Debug, PartialEq)]
pub struct TwoLayers {
    /// From features to neurons.
    pub first: Head,
    /// From neurons to logits.
    pub last: Head,
}

#[derive(Module, Debug)]
struct Numbers {
    first: Param<Tensor<2>>,
    first_bias: Param<Tensor<2>>,
    last: Param<Tensor<2>>,
    last_bias: Param<Tensor<2>>,
}

impl TwoLayers {
    /// Logits for a feature vector.
    pub fn logits(&self, features: &[f32]) -> Vec<f32> {
        let hidden: Vec<f32> = self
            .first
            .logits(features)
            .into_iter()
            .map(|x| x.max(0.0))
            .collect();
        self.last.logits(&hidden)
    }

    /// Fits both layers to features `[image][feature]` and classes, as [`head::fit`](super::head::fit) fits one.
    pub fn fit(
        features: &[Vec<f32>],
        classes: &[usize],
        class_weights: &[f32],
        neurons: usize,
        how: Fit,
        seed: u64,
        progress: impl FnMut(usize, f32),
    ) -> Result<Self, TrainError> {
        let prepared = Prepared::new(features, classes, class_weights)?;
        let (length, count, device) = (prepared.length, prepared.count, &prepared.device);
        let mut rng = ChaCha12Rng::seed_from_u64(seed);
        let mut drawn = |rows: usize, columns: usize| {
            let deviation = (2.0 / rows as f32).sqrt();
            let numbers: Vec<f32> = (0..rows * columns)
                .map(|_| normal(&mut rng) * deviation)
                .collect();
            let tensor = Tensor::<2>::from_data(TensorData::new(numbers, [rows, columns]), device);
            Param::from_tensor(tensor.require_grad())
        };
        let zeros =
            |columns| Param::from_tensor(Tensor::zeros([1, columns], device).require_grad());
        let numbers = Numbers {
            first: drawn(length, neurons),
            first_bias: zeros(neurons),
            last: drawn(neurons, count),
            last_bias: zeros(count),
        };
        let loss = |numbers: &Numbers| {
            let inputs = prepared.inputs.clone();
            let hidden = inputs.matmul(numbers.first.val()) + numbers.first_bias.val();
            let logits =
                activation::relu(hidden).matmul(numbers.last.val()) + numbers.last_bias.val();
            let squares =
                numbers.first.val().powi_scalar(2).sum() + numbers.last.val().powi_scalar(2).sum();
            squares * (how.penalty / 2.0) - prepared.likelihood(logits)
        };
        let rate = |step: usize| 0.01 / (1.0 + step as f64 / 200.0);
        let numbers = descend(numbers, how, rate, loss, progress)?;
        let rows = |weight: Vec<f32>, from: usize, to: usize| -> Vec<Vec<f32>> {
            (0..to)
                .map(|row| (0..from).map(|k| weight[k * to + row]).collect())
                .collect()
        };
        let read = |tensor: &Param<Tensor<2>>| read_back(tensor.val().inner());
        let mut first = Head {
            weight: rows(read(&numbers.first)?, length, neurons),
            bias: read(&numbers.first_bias)?,
        };
        // Back to the features as they come.
        let (means, deviations) = (&prepared.means, &prepared.deviations);
        for (row, bias) in first.weight.iter_mut().zip(&mut first.bias) {
            for ((weight, mean), deviation) in row.iter_mut().zip(means).zip(deviations) {
                *weight /= deviation;
                *bias -= *weight * mean;
            }
        }
        Ok(Self {
            first,
            last: Head {
                weight: rows(read(&numbers.last)?, neurons, count),
                bias: read(&numbers.last_bias)?,
            },
        })
    }

    /// Puts both layers in the place of the last one of a model.
    pub fn put(&self, place: &Place, model: ModelProto) -> ModelProto {
        let mut model = place.replace(model, &self.last);
        let Some(graph) = &mut model.graph else {
            return model;
        };
        let name = |part: &str| format!("{}.hidden.{part}", place.logits);
        let Some(at) = graph.node.iter().position(|node| {
            node.input.contains(&place.features) && node.input.contains(&place.weight)
        }) else {
            return model;
        };
        for input in &mut graph.node[at].input {
            if *input == place.features {
                *input = name("relu");
            }
        }
        let tensor = |part: &str, dims: [usize; 2], numbers: Vec<f32>| TensorProto {
            name: name(part),
            dims: dims[dims.iter().take_while(|d| **d == 0).count()..]
                .iter()
                .map(|d| *d as i64)
                .collect(),
            data_type: DataType::Float as i32,
            raw_data: numbers.iter().flat_map(|x| x.to_le_bytes()).collect(),
            ..Default::default()
        };
        let (neurons, length) = (self.first.bias.len(), place.length);
        graph.initializer.push(tensor(
            "weight",
            [neurons, length],
            self.first.weight.concat(),
        ));
        graph
            .initializer
            .push(tensor("bias", [0, neurons], self.first.bias.clone()));
        let node = |operator: &str, input: Vec<String>, output: &str| NodeProto {
            op_type: operator.to_owned(),
            name: name(output),
            input,
            output: vec![name(output)],
            ..Default::default()
        };
        let mut product = node(
            "Gemm",
            vec![place.features.clone(), name("weight"), name("bias")],
            "product",
        );
        product.attribute.push(int("transB", 1));
        graph.node.splice(
            at..at,
            [product, node("Relu", vec![name("product")], "relu")],
        );
        model
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::retrain::evaluate::argmax;
    use crate::retrain::graph::Graph;
    use crate::retrain::network::{Architecture, LOGITS};

    #[test]
    fn what_no_plane_separates_is_separated() {
        // Exclusive or, in 40 copies with a little noise.
        let mut rng = ChaCha12Rng::seed_from_u64(3);
        let (mut features, mut classes) = (Vec::new(), Vec::new());
        for k in 0..160 {
            let (a, b) = (k % 2, k / 2 % 2);
            features.push(vec![
                a as f32 + 0.1 * normal(&mut rng),
                100.0 * (b as f32 + 0.1 * normal(&mut rng)),
            ]);
            classes.push(a ^ b);
        }
        let how = Fit::default();
        let layers =
            TwoLayers::fit(&features, &classes, &[1.0, 1.0], 16, how, 1, |_, _| {}).unwrap();
        let right = features
            .iter()
            .zip(&classes)
            .filter(|(row, class)| argmax(&layers.logits(row)) == **class)
            .count();
        assert!(right >= 158, "{right} of 160");
    }

    #[test]
    fn a_network_with_a_hidden_layer_put_in_computes_what_was_fitted() {
        let model = Architecture::small(32, 32, 3).build(1);
        let place = Place::find(&model, LOGITS).unwrap();
        let mut rng = ChaCha12Rng::seed_from_u64(5);
        let mut drawn = |rows: usize, columns: usize| Head {
            weight: (0..rows)
                .map(|_| (0..columns).map(|_| normal(&mut rng)).collect())
                .collect(),
            bias: (0..rows).map(|_| normal(&mut rng)).collect(),
        };
        let layers = TwoLayers {
            first: drawn(5, place.length),
            last: drawn(4, 5),
        };
        let graph = Graph::new(layers.put(&place, model)).unwrap();
        let device = burn::tensor::Device::flex();
        let image =
            Tensor::<4>::random([1, 1, 32, 32], burn::tensor::Distribution::Default, &device);
        let outputs = graph.run(&graph.weights(&device), image);
        let features = read_back(outputs[graph.features()].clone()).unwrap();
        let logits = read_back(outputs[graph.logits()].clone()).unwrap();
        for (a, b) in logits.iter().zip(layers.logits(&features)) {
            assert!((a - b).abs() < 1e-3 * b.abs().max(1.0), "{logits:?}");
        }
    }
}
