//! Builds small EfficientNet-like classifiers as ONNX graphs, with random weights to train from.
//!
//! Stages are fused (one dense 3×3 convolution instead of expand + depthwise) or MBConv with squeeze-and-excitation, as in
//! EfficientNetV2 (Tan & Le 2021): depthwise convolutions at full resolution cost more time on a CPU than they save. ReLU
//! instead of SiLU for the same reason. Devices are small beside large and bright anatomy, hence a fine first layer and
//! pooling that keeps a single answer. Outputs are `features` (pooled, before the last layer) and `logits` (before
//! softmax); input is `image`, `[N, 1, height, width]`.

use std::ops::Range;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha12Rng;

use crate::model::onnx::{
    AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto,
    TensorShapeProto, TypeProto, ValueInfoProto, attribute_proto::AttributeType,
    tensor_proto::DataType, tensor_shape_proto::Dimension,
    tensor_shape_proto::dimension::Value as Size, type_proto,
};

/// Name of the graph's input.
pub const INPUT: &str = "image";
/// Name of the output before the last layer.
pub const FEATURES: &str = "features";
/// Name of the output before softmax.
pub const LOGITS: &str = "logits";

const WEIGHT: &str = "classifier.weight";
const BIAS: &str = "classifier.bias";

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
        let mut builder = Builder {
            graph: GraphProto::default(),
            rng: ChaCha12Rng::seed_from_u64(seed),
        };
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
                x = builder.block(&format!("stages.{s}.{b}"), x, channels, *stage, stride);
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
        let weight = builder.random(WEIGHT, &[self.classes, self.features], deviation);
        let bias = builder.constant(BIAS, self.classes, 0.0);
        builder.node(
            "Gemm",
            LOGITS,
            vec![FEATURES.to_owned(), weight, bias],
            vec![int("transB", 1)],
        );

        let mut graph = builder.graph;
        graph.name = "radsort".into();
        graph
            .input
            .push(batch_of(INPUT, &[1, self.height, self.width]));
        graph.output.push(batch_of(FEATURES, &[self.features]));
        graph.output.push(batch_of(LOGITS, &[self.classes]));
        ModelProto {
            ir_version: 8,
            producer_name: "radsort".into(),
            producer_version: env!("CARGO_PKG_VERSION").into(),
            opset_import: vec![OperatorSetIdProto {
                domain: String::new(),
                version: 17,
            }],
            graph: Some(graph),
            ..Default::default()
        }
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

#[derive(Clone, Copy)]
struct Kernel {
    size: usize,
    stride: usize,
    groups: usize,
}

impl Kernel {
    fn dense(size: usize, stride: usize) -> Self {
        Self {
            size,
            stride,
            groups: 1,
        }
    }
}

struct Builder {
    graph: GraphProto,
    rng: ChaCha12Rng,
}

impl Builder {
    fn node(
        &mut self,
        operator: &str,
        output: &str,
        input: Vec<String>,
        attribute: Vec<AttributeProto>,
    ) -> String {
        self.graph.node.push(NodeProto {
            op_type: operator.to_owned(),
            name: output.to_owned(),
            input,
            output: vec![output.to_owned()],
            attribute,
            ..Default::default()
        });
        output.to_owned()
    }

    fn random(&mut self, name: &str, dims: &[usize], deviation: f32) -> String {
        let data = (0..dims.iter().product())
            .map(|_| normal(&mut self.rng) * deviation)
            .collect::<Vec<f32>>();
        self.initializer(name, dims, &data)
    }

    fn constant(&mut self, name: &str, length: usize, value: f32) -> String {
        self.initializer(name, &[length], &vec![value; length])
    }

    fn initializer(&mut self, name: &str, dims: &[usize], data: &[f32]) -> String {
        self.graph.initializer.push(TensorProto {
            name: name.to_owned(),
            dims: dims.iter().map(|d| *d as i64).collect(),
            data_type: DataType::Float as i32,
            raw_data: data.iter().flat_map(|x| x.to_le_bytes()).collect(),
            ..Default::default()
        });
        name.to_owned()
    }

    /// He initialisation by fan-out, "same" padding for odd kernels.
    fn conv(
        &mut self,
        name: &str,
        x: String,
        from: usize,
        to: usize,
        kernel: Kernel,
        bias: bool,
    ) -> String {
        let Kernel {
            size,
            stride,
            groups,
        } = kernel;
        let deviation = (2.0 / (to / groups * size * size) as f32).sqrt();
        let mut inputs = vec![
            x,
            self.random(
                &format!("{name}.weight"),
                &[to, from / groups, size, size],
                deviation,
            ),
        ];
        if bias {
            inputs.push(self.constant(&format!("{name}.bias"), to, 0.0));
        }
        let (size, stride, pad) = (size as i64, stride as i64, (size / 2) as i64);
        let attributes = vec![
            ints("kernel_shape", &[size, size]),
            ints("strides", &[stride, stride]),
            ints("pads", &[pad, pad, pad, pad]),
            ints("dilations", &[1, 1]),
            int("group", groups as i64),
        ];
        self.node("Conv", name, inputs, attributes)
    }

    fn norm(&mut self, name: &str, x: String, channels: usize) -> String {
        let inputs = vec![
            x,
            self.constant(&format!("{name}.weight"), channels, 1.0),
            self.constant(&format!("{name}.bias"), channels, 0.0),
            self.constant(&format!("{name}.mean"), channels, 0.0),
            self.constant(&format!("{name}.variance"), channels, 1.0),
        ];
        self.node(
            "BatchNormalization",
            name,
            inputs,
            vec![float("epsilon", 1e-3), float("momentum", 0.9)],
        )
    }

    fn conv_norm(
        &mut self,
        name: &str,
        x: String,
        from: usize,
        to: usize,
        kernel: Kernel,
    ) -> String {
        let x = self.conv(&format!("{name}.conv"), x, from, to, kernel, false);
        self.norm(&format!("{name}.norm"), x, to)
    }

    fn conv_norm_relu(
        &mut self,
        name: &str,
        x: String,
        from: usize,
        to: usize,
        kernel: Kernel,
    ) -> String {
        let x = self.conv_norm(name, x, from, to, kernel);
        self.node("Relu", &format!("{name}.relu"), vec![x], vec![])
    }

    fn block(
        &mut self,
        name: &str,
        input: String,
        from: usize,
        stage: Stage,
        stride: usize,
    ) -> String {
        if stage.fused && stage.expansion == 1 {
            return self.conv_norm_relu(
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
            x = self.conv_norm_relu(
                &format!("{name}.fused"),
                x,
                from,
                inside,
                Kernel::dense(3, stride),
            );
        } else {
            x = self.conv_norm_relu(
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
            x = self.conv_norm_relu(&format!("{name}.depthwise"), x, inside, inside, depthwise);
            x = self.squeeze_and_excite(&format!("{name}.se"), x, inside, (from / 4).max(4));
        }
        x = self.conv_norm(
            &format!("{name}.project"),
            x,
            inside,
            stage.channels,
            Kernel::dense(1, 1),
        );
        if stride == 1 && from == stage.channels {
            x = self.node("Add", &format!("{name}.add"), vec![x, input], vec![]);
        }
        x
    }

    fn squeeze_and_excite(
        &mut self,
        name: &str,
        input: String,
        channels: usize,
        squeezed: usize,
    ) -> String {
        let one = Kernel::dense(1, 1);
        let x = self.node(
            "GlobalAveragePool",
            &format!("{name}.squeeze"),
            vec![input.clone()],
            vec![],
        );
        let x = self.conv(&format!("{name}.reduce"), x, channels, squeezed, one, true);
        let x = self.node("Relu", &format!("{name}.relu"), vec![x], vec![]);
        let x = self.conv(&format!("{name}.widen"), x, squeezed, channels, one, true);
        let gate = self.node("Sigmoid", &format!("{name}.gate"), vec![x], vec![]);
        self.node("Mul", &format!("{name}.scale"), vec![input, gate], vec![])
    }
}

/// A standard normal number (Box–Muller).
pub(crate) fn normal(rng: &mut impl Rng) -> f32 {
    let u: f32 = 1.0 - rng.random::<f32>();
    let v: f32 = rng.random();
    (-2.0 * u.ln()).sqrt() * (std::f32::consts::TAU * v).cos()
}

fn batch_of(name: &str, dims: &[usize]) -> ValueInfoProto {
    let batch = Dimension {
        value: Some(Size::DimParam("N".into())),
        ..Default::default()
    };
    let fixed = dims.iter().map(|d| Dimension {
        value: Some(Size::DimValue(*d as i64)),
        ..Default::default()
    });
    let shape = TensorShapeProto {
        dim: std::iter::once(batch).chain(fixed).collect(),
    };
    let tensor = type_proto::Tensor {
        elem_type: DataType::Float as i32,
        shape: Some(shape),
    };
    let value = Some(type_proto::Value::TensorType(tensor));
    ValueInfoProto {
        name: name.into(),
        r#type: Some(TypeProto {
            value,
            ..Default::default()
        }),
        ..Default::default()
    }
}

fn ints(name: &str, values: &[i64]) -> AttributeProto {
    let r#type = AttributeType::Ints as i32;
    AttributeProto {
        name: name.into(),
        ints: values.to_vec(),
        r#type,
        ..Default::default()
    }
}

fn int(name: &str, value: i64) -> AttributeProto {
    AttributeProto {
        name: name.into(),
        i: value,
        r#type: AttributeType::Int as i32,
        ..Default::default()
    }
}

fn float(name: &str, value: f32) -> AttributeProto {
    AttributeProto {
        name: name.into(),
        f: value,
        r#type: AttributeType::Float as i32,
        ..Default::default()
    }
}
