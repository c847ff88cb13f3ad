//! Builds small EfficientNet-like classifiers as ONNX graphs, with random weights to train from.
//!
//! Stages are fused (one dense 3×3 convolution instead of expand + depthwise) or MBConv with squeeze-and-excitation, as in
//! EfficientNetV2 (Tan & Le 2021): depthwise convolutions at full resolution cost more time on a CPU than they save. ReLU
//! instead of SiLU for the same reason. Devices are small beside large and bright anatomy, hence a fine first layer and
//! pooling that keeps a single answer. Outputs are `features` (pooled, before the last layer) and `logits` (before
//! softmax); input is `image`, `[N, 1, height, width]`.

use std::ops::Range;

pub(crate) use super::builder::normal;
use super::builder::{BIAS, Builder, Kernel, WEIGHT, batch_of, int};
use crate::model::onnx::ModelProto;

/// Name of the graph's input.
pub const INPUT: &str = "image";
/// Name of the output before the last layer.
pub const FEATURES: &str = "features";
/// Name of the output before softmax.
pub const LOGITS: &str = "logits";

/// One stage of the network: blocks of the same width, the first with the stride.
#[derive(Clone, Copy, Debug)]
pub struct Stage {
    /// Dense 3×3 convolution in place of expansion and depthwise convolution.
    pub fused: bool,
    /// How many times wider the inside of a block is than its input.
    pub expansion: usize,
    /// Output channels.
    pub channels: usize,
    /// Number of blocks.
    pub blocks: usize,
    /// Stride of the first block.
    pub stride: usize,
    /// Kernel size of depthwise convolutions.
    pub kernel: usize,
}

/// What the classifier looks like.
#[derive(Clone, Debug)]
pub struct Architecture {
    /// Rows of the input.
    pub height: usize,
    /// Columns of the input.
    pub width: usize,
    /// The first convolution: channels, kernel size, stride.
    pub stem: [usize; 3],
    /// The stages in order.
    pub stages: Vec<Stage>,
    /// Length of the feature vector.
    pub features: usize,
    /// Number of classes.
    pub classes: usize,
}

impl Architecture {
    /// The network of the shipped bundle: fine in front, because a screw is two pixels wide.
    pub fn small(height: usize, width: usize, classes: usize) -> Self {
        let dense = |channels, blocks| Stage {
            fused: true,
            expansion: 1,
            channels,
            blocks,
            stride: 2,
            kernel: 3,
        };
        Self {
            height,
            width,
            stem: [12, 3, 2],
            stages: vec![dense(24, 1), dense(48, 1), dense(96, 2)],
            features: 128,
            classes,
        }
    }

    /// The ONNX model (opset 17) with weights drawn from `seed`.
    pub fn build(&self, seed: u64) -> ModelProto {
        let mut builder = Builder::new(seed);
        let [mut channels, size, stride] = self.stem;
        let mut x = builder.conv_norm_relu(
            "stem",
            INPUT.to_owned(),
            1,
            channels,
            Kernel::dense(size, stride),
        );
        for (s, stage) in self.stages.iter().enumerate() {
            for b in 0..stage.blocks {
                let stride = if b == 0 { stage.stride } else { 1 };
                x = block(
                    &mut builder,
                    &format!("stages.{s}.{b}"),
                    x,
                    channels,
                    *stage,
                    stride,
                );
                channels = stage.channels;
            }
        }
        x = builder.conv_norm_relu("head", x, channels, self.features, Kernel::dense(1, 1));
        // The mean says how much of something there is, the maximum whether it is there at all: a single screw must count.
        let mean = builder.node("GlobalAveragePool", "pool.mean", vec![x.clone()], vec![]);
        let most = builder.node("GlobalMaxPool", "pool.most", vec![x], vec![]);
        x = builder.node("Add", "pool", vec![mean, most], vec![]);
        x = builder.norm("neck", x, self.features);
        builder.node("Flatten", FEATURES, vec![x], vec![int("axis", 1)]);
        let deviation = 0.3 / (self.features as f32).sqrt();
        builder.classifier(FEATURES, self.features, self.classes, deviation);
        builder.finish([1, self.height, self.width], self.features, self.classes)
    }
}

/// The same network for some of its classes only: the rows of the last layer that it was built with are cut to `classes`.
pub fn keep_classes(mut model: ModelProto, classes: Range<usize>) -> ModelProto {
    if let Some(graph) = &mut model.graph {
        for tensor in graph
            .initializer
            .iter_mut()
            .filter(|t| t.name == WEIGHT || t.name == BIAS)
        {
            let row = tensor.raw_data.len() / tensor.dims[0].max(1) as usize;
            tensor.raw_data = tensor.raw_data[classes.start * row..classes.end * row].to_vec();
            tensor.dims[0] = classes.len() as i64;
        }
        for output in graph
            .output
            .iter_mut()
            .filter(|output| output.name == LOGITS)
        {
            *output = batch_of(LOGITS, &[classes.len()]);
        }
    }
    model
}

/// The reverse of [`keep_classes`]: one network for the classes of both, the first's before the second's. `None` when the
/// two are not the same network but for the last layer.
pub fn join_classes(first: &ModelProto, second: &ModelProto) -> Option<ModelProto> {
    let mut joined = first.clone();
    let (graph, other) = (joined.graph.as_mut()?, second.graph.as_ref()?);
    let mut classes = 0;
    for tensor in &mut graph.initializer {
        let same = other.initializer.iter().find(|it| it.name == tensor.name)?;
        if tensor.name == WEIGHT || tensor.name == BIAS {
            tensor.raw_data.extend_from_slice(&same.raw_data);
            tensor.dims[0] += same.dims.first()?;
            classes = tensor.dims[0] as usize;
        } else if tensor.raw_data != same.raw_data {
            return None;
        }
    }
    for output in graph.output.iter_mut().filter(|it| it.name == LOGITS) {
        *output = batch_of(LOGITS, &[classes]);
    }
    Some(joined)
}

/// One block of a stage, after EfficientNetV2.
fn block(
    builder: &mut Builder,
    name: &str,
    input: String,
    from: usize,
    stage: Stage,
    stride: usize,
) -> String {
    if stage.fused && stage.expansion == 1 {
        return builder.conv_norm_relu(
            &format!("{name}.fused"),
            input,
            from,
            stage.channels,
            Kernel::dense(3, stride),
        );
    }
    let inside = from * stage.expansion;
    let mut x = input.clone();
    if stage.fused {
        x = builder.conv_norm_relu(
            &format!("{name}.fused"),
            x,
            from,
            inside,
            Kernel::dense(3, stride),
        );
    } else {
        x = builder.conv_norm_relu(
            &format!("{name}.expand"),
            x,
            from,
            inside,
            Kernel::dense(1, 1),
        );
        let depthwise = Kernel {
            size: stage.kernel,
            stride,
            groups: inside,
        };
        x = builder.conv_norm_relu(&format!("{name}.depthwise"), x, inside, inside, depthwise);
        x = squeeze_and_excite(builder, &format!("{name}.se"), x, inside, (from / 4).max(4));
    }
    x = builder.conv_norm(
        &format!("{name}.project"),
        x,
        inside,
        stage.channels,
        Kernel::dense(1, 1),
    );
    if stride == 1 && from == stage.channels {
        x = builder.node("Add", &format!("{name}.add"), vec![x, input], vec![]);
    }
    x
}

/// Squeeze-and-excitation (Hu et al. 2018).
fn squeeze_and_excite(
    builder: &mut Builder,
    name: &str,
    input: String,
    channels: usize,
    squeezed: usize,
) -> String {
    let one = Kernel::dense(1, 1);
    let x = builder.node(
        "GlobalAveragePool",
        &format!("{name}.squeeze"),
        vec![input.clone()],
        vec![],
    );
    let x = builder.conv(&format!("{name}.reduce"), x, channels, squeezed, one, true);
    let x = builder.node("Relu", &format!("{name}.relu"), vec![x], vec![]);
    let x = builder.conv(&format!("{name}.widen"), x, squeezed, channels, one, true);
    let gate = builder.node("Sigmoid", &format!("{name}.gate"), vec![x], vec![]);
    builder.node("Mul", &format!("{name}.scale"), vec![input, gate], vec![])
}
