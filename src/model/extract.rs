//! What a frozen network makes of images: any of its values by name, through ONNX Runtime.
//!
//! `retrain` fits a new head on the features before the last layer this way; the network is the caller's, nothing about
//! it is proven here.

use ort::session::Session;
use ort::session::builder::GraphOptimizationLevel;
use ort::value::{Outlet, TensorRef, ValueType};

use super::classifier::ModelError;
use super::manifest::ClassifierSpec;
use super::network::normalised;
use super::runtime::Runtime;

/// A network on the CPU, asked for some of its outputs.
pub struct Extractor {
    session: Session,
    spec: ClassifierSpec,
    outputs: Vec<String>,
    /// The graph takes one image at a time.
    one_at_a_time: bool,
}

impl Extractor {
    /// Loads an ONNX model whose input is as `spec` says; `outputs` are values of shape `[N, length]` that the graph
    /// declares as outputs.
    pub fn load(
        model: &[u8],
        spec: &ClassifierSpec,
        outputs: &[&str],
        runtime: &Runtime,
        threads: usize,
    ) -> Result<Self, ModelError> {
        let session = || -> Result<Session, ort::Error> {
            Session::builder(runtime.environment())?
                .with_optimization_level(GraphOptimizationLevel::Level3)?
                .with_intra_threads(threads.max(1))?
                .with_inter_threads(1)?
                .with_intra_op_spinning(false)?
                .commit_from_memory(model)
        };
        let session =
            session().map_err(|error| ModelError::running(&spec.id, &error.to_string()))?;
        let first_dimension = |outlet: &Outlet| match outlet.dtype() {
            ValueType::Tensor { shape, .. } => shape.first().copied(),
            _ => None,
        };
        Ok(Self {
            one_at_a_time: session.inputs().first().and_then(first_dimension) == Some(1),
            session,
            spec: spec.clone(),
            outputs: outputs.iter().map(|&name| name.to_owned()).collect(),
        })
    }

    /// The outputs for images of grey values 0 to 1, row by row: one vector for each output, for each image.
    pub fn run(&mut self, images: &[&[f32]]) -> Result<Vec<Vec<Vec<f32>>>, ModelError> {
        let most = if self.one_at_a_time { 1 } else { images.len() };
        let mut all = Vec::with_capacity(images.len());
        for batch in images.chunks(most.max(1)) {
            all.extend(self.run_batch(batch)?);
        }
        Ok(all)
    }

    fn run_batch(&mut self, images: &[&[f32]]) -> Result<Vec<Vec<Vec<f32>>>, ModelError> {
        let spec = &self.spec;
        let failed = |what: String| ModelError::running(&spec.id, &what);
        let values = normalised(images.iter().copied(), spec);
        let shape = [
            images.len(),
            spec.channels,
            spec.render.height as usize,
            spec.render.width as usize,
        ];
        let input = TensorRef::from_array_view((shape, values.as_slice()))
            .map_err(|error| failed(error.to_string()))?;
        let answer = self
            .session
            .run(ort::inputs![spec.input.as_str() => input])
            .map_err(|error| failed(error.to_string()))?;
        let mut each: Vec<Vec<Vec<f32>>> = images.iter().map(|_| Vec::new()).collect();
        for name in &self.outputs {
            let value = answer
                .get(name.as_str())
                .ok_or_else(|| failed(format!("there is no output {name}")))?;
            let (_, data) = value
                .try_extract_tensor::<f32>()
                .map_err(|error| failed(format!("output {name}: {error}")))?;
            let length = data.len() / images.len().max(1);
            if length == 0 || !data.iter().all(|value| value.is_finite()) {
                return Err(failed(format!("output {name} is empty or not finite")));
            }
            for (vectors, row) in each.iter_mut().zip(data.chunks_exact(length)) {
                vectors.push(row.to_vec());
            }
        }
        Ok(each)
    }
}
