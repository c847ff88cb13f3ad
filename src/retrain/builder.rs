//! Builds ONNX graphs node by node: convolutions, normalisations, squeeze-and-excitation, with random weights by seed.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha12Rng;

use super::network::{FEATURES, INPUT, LOGITS};
use crate::model::onnx::{
    AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto,
    TensorShapeProto, TypeProto, ValueInfoProto, attribute_proto::AttributeType,
    tensor_proto::DataType, tensor_shape_proto::Dimension,
    tensor_shape_proto::dimension::Value as Size, type_proto,
};

/// Name of the last layer's weight.
pub(super) const WEIGHT: &str = "classifier.weight";
/// Name of the last layer's bias.
pub(super) const BIAS: &str = "classifier.bias";

/// A square kernel.
#[derive(Clone, Copy)]
pub(super) struct Kernel {
    pub(super) size: usize,
    pub(super) stride: usize,
    pub(super) groups: usize,
}

impl Kernel {
    pub(super) fn dense(size: usize, stride: usize) -> Self {
        Self {
            size,
            stride,
            groups: 1,
        }
    }
}

/// An ONNX graph (operator set 17) that grows.
pub(super) struct Builder {
    graph: GraphProto,
    rng: Option<ChaCha12Rng>,
    same_upper: bool,
}

impl Builder {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            graph: GraphProto::default(),
            rng: Some(ChaCha12Rng::seed_from_u64(seed)),
            same_upper: false,
        }
    }

    /// Without random numbers: weights are 0, to be replaced or only counted.
    #[cfg(test)]
    pub(super) fn blank() -> Self {
        Self {
            graph: GraphProto::default(),
            rng: None,
            same_upper: false,
        }
    }

    /// Whether convolutions pad as TensorFlow does.
    pub(super) fn padded(self, same_upper: bool) -> Self {
        Self { same_upper, ..self }
    }

    pub(super) fn node(
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

    pub(super) fn random(&mut self, name: &str, dims: &[usize], deviation: f32) -> String {
        let numbers = 0..dims.iter().product();
        let data: Vec<f32> = match &mut self.rng {
            Some(rng) => numbers.map(|_| normal(rng) * deviation).collect(),
            None => vec![0.0; numbers.len()],
        };
        self.initializer(name, dims, &data)
    }

    pub(super) fn constant(&mut self, name: &str, length: usize, value: f32) -> String {
        self.initializer(name, &[length], &vec![value; length])
    }

    pub(super) fn initializer(&mut self, name: &str, dims: &[usize], data: &[f32]) -> String {
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
    pub(super) fn conv(
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
            if self.same_upper {
                text("auto_pad", "SAME_UPPER")
            } else {
                ints("pads", &[pad, pad, pad, pad])
            },
            ints("dilations", &[1, 1]),
            int("group", groups as i64),
        ];
        self.node("Conv", name, inputs, attributes)
    }

    pub(super) fn norm(&mut self, name: &str, x: String, channels: usize) -> String {
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

    pub(super) fn conv_norm(
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

    pub(super) fn conv_norm_relu(
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

    /// x · sigmoid(x) (Swish, SiLU).
    pub(super) fn swish(&mut self, name: &str, x: String) -> String {
        let gate = self.node(
            "Sigmoid",
            &format!("{name}.sigmoid"),
            vec![x.clone()],
            vec![],
        );
        self.node("Mul", name, vec![x, gate], vec![])
    }

    /// The model with the input `image` and the outputs `features` and `logits`.
    pub(super) fn finish(
        mut self,
        input: [usize; 3],
        features: usize,
        classes: usize,
    ) -> ModelProto {
        self.graph.name = "radsort".into();
        self.graph.input.push(batch_of(INPUT, &input));
        self.graph.output.push(batch_of(FEATURES, &[features]));
        self.graph.output.push(batch_of(LOGITS, &[classes]));
        ModelProto {
            ir_version: 8,
            producer_name: "radsort".into(),
            producer_version: env!("CARGO_PKG_VERSION").into(),
            opset_import: vec![OperatorSetIdProto {
                domain: String::new(),
                version: 17,
            }],
            graph: Some(self.graph),
            ..Default::default()
        }
    }

    /// The last layer, from `features` to `logits`.
    pub(super) fn classifier(
        &mut self,
        input: &str,
        features: usize,
        classes: usize,
        deviation: f32,
    ) {
        let weight = self.random(WEIGHT, &[classes, features], deviation);
        let bias = self.constant(BIAS, classes, 0.0);
        let inputs = vec![input.to_owned(), weight, bias];
        self.node("Gemm", LOGITS, inputs, vec![int("transB", 1)]);
    }
}

/// A standard normal number (Box–Muller).
pub(crate) fn normal(rng: &mut impl Rng) -> f32 {
    let u: f32 = 1.0 - rng.random::<f32>();
    let v: f32 = rng.random();
    (-2.0 * u.ln()).sqrt() * (std::f32::consts::TAU * v).cos()
}

pub(super) fn batch_of(name: &str, dims: &[usize]) -> ValueInfoProto {
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

pub(super) fn ints(name: &str, values: &[i64]) -> AttributeProto {
    let r#type = AttributeType::Ints as i32;
    AttributeProto {
        name: name.into(),
        ints: values.to_vec(),
        r#type,
        ..Default::default()
    }
}

pub(super) fn int(name: &str, value: i64) -> AttributeProto {
    AttributeProto {
        name: name.into(),
        i: value,
        r#type: AttributeType::Int as i32,
        ..Default::default()
    }
}

pub(super) fn text(name: &str, value: &str) -> AttributeProto {
    AttributeProto {
        name: name.into(),
        s: value.as_bytes().to_vec(),
        r#type: AttributeType::String as i32,
        ..Default::default()
    }
}

pub(super) fn float(name: &str, value: f32) -> AttributeProto {
    AttributeProto {
        name: name.into(),
        f: value,
        r#type: AttributeType::Float as i32,
        ..Default::default()
    }
}
