//! EfficientNet B0 to B7 (Tan & Le 2019) as ONNX graphs with random weights.
//!
//! Channels and repetitions of B0 are scaled by the variant's width and depth. Tensors are named as torchvision names
//! them (`features.0.0.weight`), so that weights from there go in by name. Input is `image`, `[N, channels, rows,
//! columns]`; outputs are `features` (pooled, before dropout and the last layer) and `logits`.

use super::builder::{Builder, Kernel, float, int};
use super::network::{FEATURES, INPUT};
use crate::model::onnx::ModelProto;

/// One of the published sizes, or any other scaled the same way.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Variant {
    /// Multiplies channels.
    pub width: f64,
    /// Multiplies the number of blocks of a stage.
    pub depth: f64,
    /// Rows and columns of the input that it was published for.
    pub resolution: usize,
    /// The part of the features that training drops before the last layer.
    pub dropout: f32,
    /// Added to the variance in batch normalisation; torchvision's value for the size.
    pub epsilon: f32,
    /// Pads as TensorFlow does: as much as the size needs, and the odd row and column at the end.
    pub same_upper: bool,
}

const fn variant(width: f64, depth: f64, resolution: usize, dropout: f32) -> Variant {
    Variant {
        width,
        depth,
        resolution,
        dropout,
        epsilon: if resolution < 456 { 1e-5 } else { 1e-3 },
        same_upper: false,
    }
}

/// B0 to B7 as published.
pub const VARIANTS: [Variant; 8] = [
    variant(1.0, 1.0, 224, 0.2),
    variant(1.0, 1.1, 240, 0.2),
    variant(1.1, 1.2, 260, 0.3),
    variant(1.2, 1.4, 300, 0.3),
    variant(1.4, 1.8, 380, 0.4),
    variant(1.6, 2.2, 456, 0.4),
    variant(1.8, 2.6, 528, 0.5),
    variant(2.0, 3.1, 600, 0.5),
];

impl Variant {
    /// `b0` to `b7`, with or without `efficientnet-` in front.
    pub fn named(name: &str) -> Option<Self> {
        let short = name.strip_prefix("efficientnet-").unwrap_or(name);
        let number: usize = short.strip_prefix('b')?.parse().ok()?;
        VARIANTS.get(number).copied()
    }

    /// Channels after scaling: a multiple of 8, and not less than nine tenths of what was asked for.
    pub fn channels(&self, channels: usize) -> usize {
        let scaled = channels as f64 * self.width;
        let rounded = (((scaled + 4.0) / 8.0).floor() as usize * 8).max(8);
        if (rounded as f64) < 0.9 * scaled {
            rounded + 8
        } else {
            rounded
        }
    }

    /// Blocks of a stage after scaling.
    pub fn repeats(&self, blocks: usize) -> usize {
        (blocks as f64 * self.depth).ceil() as usize
    }

    /// Length of the feature vector.
    pub fn features(&self) -> usize {
        self.channels(1280)
    }

    /// The ONNX model (operator set 17) for an input of `[channels, rows, columns]`, with weights drawn from `seed`.
    pub fn build(&self, input: [usize; 3], classes: usize, seed: u64) -> ModelProto {
        self.fill(Builder::new(seed), input, classes)
    }

    fn fill(&self, builder: Builder, input: [usize; 3], classes: usize) -> ModelProto {
        let mut layers = Layers {
            builder: builder.padded(self.same_upper),
            epsilon: self.epsilon,
        };
        let mut channels = self.channels(STEM);
        let first = Kernel::dense(3, 2);
        let mut x =
            layers.conv_norm_swish("features.0", INPUT.to_owned(), [input[0], channels], first);
        for (s, stage) in STAGES.iter().enumerate() {
            for b in 0..self.repeats(stage.blocks) {
                let name = format!("features.{}.{b}", s + 1);
                let to = self.channels(stage.channels);
                let stride = if b == 0 { stage.stride } else { 1 };
                x = layers.inverted_bottleneck(&name, x, [channels, to], *stage, stride);
                channels = to;
            }
        }
        let last = format!("features.{}", STAGES.len() + 1);
        let features = self.features();
        x = layers.conv_norm_swish(&last, x, [channels, features], Kernel::dense(1, 1));
        let mut builder = layers.builder;
        x = builder.node("GlobalAveragePool", "pool", vec![x], vec![]);
        builder.node("Flatten", FEATURES, vec![x], vec![int("axis", 1)]);
        let ratio = builder.initializer("dropout.ratio", &[], &[self.dropout]);
        let inputs = vec![FEATURES.to_owned(), ratio];
        let x = builder.node("Dropout", "dropout", inputs, vec![]);
        // torchvision draws the last layer from a uniform distribution of this deviation.
        let deviation = 1.0 / (3.0 * classes as f32).sqrt();
        builder.classifier(&x, features, classes, deviation);
        builder.finish(input, features, classes)
    }
}

/// Channels of B0's first convolution.
const STEM: usize = 32;

#[derive(Clone, Copy)]
struct Stage {
    expansion: usize,
    channels: usize,
    blocks: usize,
    stride: usize,
    kernel: usize,
}

const fn stage(
    expansion: usize,
    channels: usize,
    blocks: usize,
    stride: usize,
    kernel: usize,
) -> Stage {
    Stage {
        expansion,
        channels,
        blocks,
        stride,
        kernel,
    }
}

/// B0, table 1 of the paper.
const STAGES: [Stage; 7] = [
    stage(1, 16, 1, 1, 3),
    stage(6, 24, 2, 2, 3),
    stage(6, 40, 2, 2, 5),
    stage(6, 80, 3, 2, 3),
    stage(6, 112, 3, 1, 5),
    stage(6, 192, 4, 2, 5),
    stage(6, 320, 1, 1, 3),
];

struct Layers {
    builder: Builder,
    epsilon: f32,
}

impl Layers {
    /// `{name}.0` is the convolution and `{name}.1` its normalisation.
    fn conv_norm(
        &mut self,
        name: &str,
        x: String,
        [from, to]: [usize; 2],
        kernel: Kernel,
    ) -> String {
        let builder = &mut self.builder;
        let x = builder.conv(&format!("{name}.0"), x, from, to, kernel, false);
        let norm = format!("{name}.1");
        let inputs = vec![
            x,
            builder.constant(&format!("{norm}.weight"), to, 1.0),
            builder.constant(&format!("{norm}.bias"), to, 0.0),
            builder.constant(&format!("{norm}.running_mean"), to, 0.0),
            builder.constant(&format!("{norm}.running_var"), to, 1.0),
        ];
        let attributes = vec![float("epsilon", self.epsilon), float("momentum", 0.9)];
        builder.node("BatchNormalization", &norm, inputs, attributes)
    }

    fn conv_norm_swish(
        &mut self,
        name: &str,
        x: String,
        channels: [usize; 2],
        kernel: Kernel,
    ) -> String {
        let x = self.conv_norm(name, x, channels, kernel);
        self.builder.swish(&format!("{name}.swish"), x)
    }

    /// MBConv: widen, depthwise convolution, squeeze-and-excitation, narrow; parts are numbered as in torchvision.
    fn inverted_bottleneck(
        &mut self,
        name: &str,
        input: String,
        [from, to]: [usize; 2],
        stage: Stage,
        stride: usize,
    ) -> String {
        let inside = from * stage.expansion;
        let first = usize::from(stage.expansion != 1);
        let part = |k: usize| format!("{name}.block.{k}");
        let one = Kernel::dense(1, 1);
        let mut x = input.clone();
        if stage.expansion != 1 {
            x = self.conv_norm_swish(&part(0), x, [from, inside], one);
        }
        let depthwise = Kernel {
            size: stage.kernel,
            stride,
            groups: inside,
        };
        x = self.conv_norm_swish(&part(first), x, [inside, inside], depthwise);
        x = self.squeeze_and_excite(&part(first + 1), x, inside, (from / 4).max(1));
        x = self.conv_norm(&part(first + 2), x, [inside, to], one);
        if stride == 1 && from == to {
            let inputs = vec![x, input];
            x = self
                .builder
                .node("Add", &format!("{name}.add"), inputs, vec![]);
        }
        x
    }

    /// Squeeze-and-excitation (Hu et al. 2018); its width goes by the channels before the block was widened.
    fn squeeze_and_excite(
        &mut self,
        name: &str,
        input: String,
        channels: usize,
        squeezed: usize,
    ) -> String {
        let (builder, one) = (&mut self.builder, Kernel::dense(1, 1));
        let pool = format!("{name}.avgpool");
        let x = builder.node("GlobalAveragePool", &pool, vec![input.clone()], vec![]);
        let x = builder.conv(&format!("{name}.fc1"), x, channels, squeezed, one, true);
        let x = builder.swish(&format!("{name}.activation"), x);
        let x = builder.conv(&format!("{name}.fc2"), x, squeezed, channels, one, true);
        let gate = builder.node("Sigmoid", &format!("{name}.gate"), vec![x], vec![]);
        builder.node("Mul", &format!("{name}.scale"), vec![input, gate], vec![])
    }
}

#[cfg(test)]
#[path = "efficientnet_tests.rs"]
mod tests;
