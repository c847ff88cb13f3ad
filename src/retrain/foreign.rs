//! A bundle around ONNX classifiers from elsewhere: what their graphs say is read, the rest is asked for.

use std::path::{Path, PathBuf};

use prost::Message as _;

use super::bundle_writer::Fitted;
use super::task::category_spec;
use crate::decode::{PREPROCESSING_VERSION, RenderSpec};
use crate::domain::decision::ViewThresholds;
use crate::domain::{CategoryId, View};
use crate::model::ModelError;
use crate::model::bundle::ONE_OUTPUT;
use crate::model::extract::Extractor;
use crate::model::manifest::{
    Applies, Category, ClassifierSpec, FileRef, Laterality, Manifest, Normalisation, Outputs, Role,
    SCHEMA, VIEW_CLASSES,
};
use crate::model::onnx::{
    GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto, tensor_proto::DataLocation,
    tensor_shape_proto::dimension::Value as Size, type_proto,
};
use crate::model::runtime::Runtime;

/// No bundle can be made of a file.
#[derive(Debug, thiserror::Error)]
pub enum ForeignError {
    /// It cannot be read.
    #[error("{}: {source}", file.display())]
    Io {
        /// Which.
        file: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// It does not fit.
    #[error("{}: {problem}", file.display())]
    Unfit {
        /// Which.
        file: PathBuf,
        /// What is wrong, and what to do.
        problem: String,
    },
    /// ONNX Runtime cannot run it.
    #[error(transparent)]
    Model(#[from] ModelError),
}

/// What a network tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tells {
    /// The view, its classes in the order of the logits.
    View(Vec<String>),
    /// Categories, in the order of the logits.
    Categories(Vec<(CategoryId, View)>),
}

/// A network from elsewhere.
#[derive(Clone, Debug)]
pub struct Network {
    /// The ONNX file.
    pub file: PathBuf,
    /// What it tells.
    pub tells: Tells,
}

/// What no graph says.
#[derive(Clone, Debug)]
pub struct About {
    /// The bundle's name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// The licence of the weights.
    pub licence: String,
    /// Subtracted from grey values from 0 to 1, one for each channel or one for all.
    pub mean: Vec<f32>,
    /// Divided by.
    pub std: Vec<f32>,
    /// Rows and columns where the graph leaves them open.
    pub input: Option<[u32; 2]>,
    /// The least joint confidence at which a file is filed unseen, 0 to 1.
    pub threshold: f32,
}

/// The categories that a bundle of these networks knows, and its parts, ready to be written.
pub fn bundle(
    networks: &[Network],
    about: &About,
    runtime: &Runtime,
) -> Result<(Manifest, Vec<Fitted>), ForeignError> {
    let mut fitted = Vec::new();
    let mut categories: Vec<Category> = Vec::new();
    for network in networks {
        if let Tells::Categories(told) = &network.tells {
            for (id, view) in told {
                if categories.iter().any(|category| category.id == *id) {
                    return Err(unfit(&network.file, format!("category {id} is told twice")));
                }
                categories.push(Category {
                    name: id.to_string(),
                    folder: id.to_string(),
                    threshold: about.threshold,
                    id: id.clone(),
                    view: *view,
                    formerly: Vec::new(),
                });
            }
        }
        fitted.push(one(network, about, runtime)?);
    }
    let manifest = Manifest {
        schema: SCHEMA,
        name: about.name.clone(),
        version: about.version.clone(),
        preprocessing: PREPROCESSING_VERSION,
        laterality: Laterality::Matters,
        licence: about.licence.clone(),
        intended_use:
            "As whoever made the networks says; nothing was tested when they were imported.".into(),
        provenance: format!(
            "ONNX files from elsewhere, imported by radsort {}",
            env!("CARGO_PKG_VERSION")
        ),
        training_set: String::new(),
        view_thresholds: ViewThresholds::default(),
        categories,
        classifiers: Vec::new(),
        references: Vec::new(),
        promise: None,
        metrics: toml::Table::new(),
    };
    Ok((manifest, fitted))
}

fn unfit(file: &Path, problem: impl Into<String>) -> ForeignError {
    ForeignError::Unfit {
        file: file.to_owned(),
        problem: problem.into(),
    }
}

fn one(network: &Network, about: &About, runtime: &Runtime) -> Result<Fitted, ForeignError> {
    let file = &network.file;
    let bytes = std::fs::read(file).map_err(|source| ForeignError::Io {
        file: file.clone(),
        source,
    })?;
    let mut model = ModelProto::decode(&*bytes).map_err(|_| unfit(file, "it is no ONNX model"))?;
    let graph = model
        .graph
        .as_mut()
        .ok_or_else(|| unfit(file, "it holds no graph"))?;
    in_one_file(graph).map_err(|problem| unfit(file, problem))?;
    let (role, applies, id, classes) = match &network.tells {
        Tells::View(classes) => (Role::View, Applies::Any, "view", classes.clone()),
        Tells::Categories(told) => {
            let (applies, id) = applies(told);
            let classes = told.iter().map(|(id, _)| id.to_string()).collect();
            (Role::Category, applies, id, classes)
        }
    };
    let (input, [channels, height, width]) =
        image_input(graph, about.input).map_err(|problem| unfit(file, problem))?;
    let logits = logits(graph, classes.len()).map_err(|problem| unfit(file, problem))?;
    let for_channels = |values: &[f32]| match values {
        [one] => Ok(vec![*one; channels]),
        many if many.len() == channels => Ok(many.to_vec()),
        many => Err(unfit(
            file,
            format!(
                "it takes {channels} channels, but {} values were given for --mean or --std",
                many.len()
            ),
        )),
    };
    let spec = ClassifierSpec {
        id: id.to_owned(),
        role,
        applies,
        model: FileRef {
            file: String::new(),
            sha256: String::new(),
        },
        channels,
        input,
        outputs: Outputs {
            logits,
            features: None,
        },
        temperature: 1.0,
        classes,
        render: RenderSpec {
            height: height as u32,
            width: width as u32,
            ..category_spec()
        },
        normalisation: Normalisation {
            mean: for_channels(&about.mean)?,
            std: for_channels(&about.std)?,
        },
        out_of_distribution: None,
    };
    // One image whose logits are known from now on: another ONNX Runtime must give the same.
    let grey: Vec<u16> = (0..height * width)
        .map(|k| (k * usize::from(u16::MAX) / (height * width)) as u16)
        .collect();
    let values: Vec<f32> = grey
        .iter()
        .map(|p| f32::from(*p) / f32::from(u16::MAX))
        .collect();
    let mut extractor = Extractor::load(
        &model.encode_to_vec(),
        &spec,
        &[spec.outputs.logits.as_str()],
        runtime,
        1,
    )?;
    let answer = extractor
        .run(&[&values])?
        .into_iter()
        .flatten()
        .next()
        .unwrap_or_default();
    if answer.len() != spec.classes.len() {
        return Err(unfit(
            file,
            format!(
                "it gives {} logits, but {} classes were named",
                answer.len(),
                spec.classes.len()
            ),
        ));
    }
    Ok(Fitted {
        spec,
        network: model,
        parameters: None,
        references: vec![(grey, answer)],
    })
}

/// Which images a network for these categories is asked about, and what it is called.
fn applies(told: &[(CategoryId, View)]) -> (Applies, &'static str) {
    let all = |view| told.iter().all(|(_, it)| *it == view);
    if all(View::Frontal) {
        (Applies::Frontal, "frontal")
    } else if all(View::Lateral) {
        (Applies::Lateral, "lateral")
    } else {
        (Applies::Any, "category")
    }
}

fn dims(value: &ValueInfoProto) -> Vec<Option<usize>> {
    let Some(type_proto::Value::TensorType(tensor)) =
        value.r#type.as_ref().and_then(|it| it.value.as_ref())
    else {
        return Vec::new();
    };
    let shape = tensor.shape.iter().flat_map(|shape| &shape.dim);
    shape
        .map(|dim| match dim.value {
            Some(Size::DimValue(n)) => usize::try_from(n).ok().filter(|n| *n > 0),
            _ => None,
        })
        .collect()
}

/// The input's name, channels, rows and columns.
fn image_input(
    graph: &GraphProto,
    wanted: Option<[u32; 2]>,
) -> Result<(String, [usize; 3]), String> {
    let held = |name: &str| graph.initializer.iter().any(|tensor| tensor.name == name);
    let inputs: Vec<&ValueInfoProto> = graph.input.iter().filter(|it| !held(&it.name)).collect();
    let [input] = inputs[..] else {
        return Err(format!(
            "it has {} inputs; one image batch is wanted",
            inputs.len()
        ));
    };
    let [_, channels, height, width] = dims(input)[..] else {
        return Err(format!(
            "its input {} is no batch of images [N, C, H, W]",
            input.name
        ));
    };
    let channels = channels.filter(|n| matches!(n, 1 | 3));
    let channels = channels.ok_or("its input must have 1 or 3 channels")?;
    let side = |found: Option<usize>, asked: Option<u32>| match (found, asked) {
        (Some(found), Some(asked)) if found != asked as usize => Err(format!(
            "its input has {found} rows or columns, not {asked}"
        )),
        (Some(found), _) => Ok(found),
        (None, Some(asked)) => Ok(asked as usize),
        (None, None) => Err("its input's size is open: give --input-size ROWSxCOLUMNS".to_owned()),
    };
    let (rows, columns) = (wanted.map(|it| it[0]), wanted.map(|it| it[1]));
    Ok((
        input.name.clone(),
        [channels, side(height, rows)?, side(width, columns)?],
    ))
}

/// Large models are often saved as two files: a bundle keeps one for each network.
fn in_one_file(graph: &GraphProto) -> Result<(), String> {
    let outside = |tensor: &&TensorProto| tensor.data_location == DataLocation::External as i32;
    let Some(tensor) = graph.initializer.iter().find(outside) else {
        return Ok(());
    };
    let mut entries = tensor.external_data.iter();
    let place = entries.find(|entry| entry.key == "location");
    let place = place.map_or("another file", |entry| entry.value.as_str());
    Err(format!(
        "its weights lie in {place:?} (external data): save the model as one file, in Python with \
         onnx.save(onnx.load(\"model.onnx\"), \"one-file.onnx\")"
    ))
}

/// What makes probabilities of logits.
const SQUASHING: [&str; 3] = ["Softmax", "LogSoftmax", "Sigmoid"];

/// The name of the logits among the outputs. A softmax at the end is taken off, and whatever exporters put behind it:
/// probabilities cannot be calibrated.
fn logits(graph: &mut GraphProto, classes: usize) -> Result<String, String> {
    let fits = |value: &&ValueInfoProto| match dims(value)[..] {
        [_, last] => last.is_none_or(|n| n == classes),
        _ => false,
    };
    let is_one = |value: &ValueInfoProto| dims(value).last() == Some(&Some(1));
    if classes < 2 || (graph.output.iter().all(is_one) && !graph.output.is_empty()) {
        return Err(format!("its outputs: {ONE_OUTPUT}"));
    }
    let named = graph.output.iter().find(|it| it.name == "logits");
    let found = named.or_else(|| graph.output.iter().find(fits));
    let found = found.map(|it| it.name.clone()).ok_or_else(|| {
        format!(
            "none of its outputs is [N, {classes}]: name one class for each logit with --classes"
        )
    })?;
    let mut before = found.clone();
    let mut behind = Vec::new();
    loop {
        let mut nodes = graph.node.iter();
        let maker = nodes.find(|node| node.output.contains(&before));
        // A ring is no graph; ONNX Runtime says so.
        let Some(maker) = maker.filter(|_| !behind.contains(&before)) else {
            return Ok(found);
        };
        let squashes = SQUASHING.contains(&maker.op_type.as_str());
        if !squashes && maker.op_type != "Identity" {
            return Ok(found);
        }
        behind.push(before);
        before = maker.input.first().cloned().unwrap_or_default();
        if squashes {
            break;
        }
    }
    let is_behind = |node: &NodeProto| node.output.iter().any(|name| behind.contains(name));
    // What another node asks for, such as the likeliest class, stays.
    let asked_for = graph
        .node
        .iter()
        .any(|node| !is_behind(node) && node.input.iter().any(|name| behind.contains(name)));
    if !asked_for {
        graph.node.retain(|node| !is_behind(node));
        // Nobody makes these any more.
        graph
            .output
            .retain(|output| output.name == found || !behind.contains(&output.name));
    }
    // The logits may be an output of their own already, beside their probabilities.
    if graph.output.iter().any(|output| output.name == before) {
        graph.output.retain(|output| output.name != found);
    }
    for output in graph.output.iter_mut().filter(|it| it.name == found) {
        output.name.clone_from(&before);
    }
    Ok(before)
}

/// The classes of a view classifier, checked.
pub fn view_classes(words: &str) -> Result<Vec<String>, String> {
    let classes: Vec<String> = words
        .split(',')
        .map(|word| word.trim().to_owned())
        .collect();
    let mut sorted: Vec<&str> = classes.iter().map(String::as_str).collect();
    sorted.sort_unstable();
    let mut wanted = VIEW_CLASSES;
    wanted.sort_unstable();
    if sorted == wanted {
        Ok(classes)
    } else {
        Err(format!(
            "wanted are {} in the order of the logits",
            VIEW_CLASSES.join(", ")
        ))
    }
}

/// `id:view,id:view,…`, in the order of the logits.
pub fn categories(words: &str) -> Result<Vec<(CategoryId, View)>, String> {
    words
        .split(',')
        .map(|word| {
            let (id, view) = word
                .trim()
                .split_once(':')
                .ok_or_else(|| format!("{word:?}: wanted is id:frontal or id:lateral"))?;
            let view = [View::Frontal, View::Lateral]
                .into_iter()
                .find(|it| it.as_str() == view)
                .ok_or_else(|| format!("{view:?} is no view: frontal or lateral"))?;
            let id = CategoryId::parse(id).map_err(|problem| problem.to_string())?;
            Ok((id, view))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::retrain::head::float_rows;

    /// A graph of nodes, each an operator, its input and its output.
    fn graph_of(outputs: &[&str], nodes: &[[&str; 3]]) -> GraphProto {
        let node = |[op, input, output]: &[&str; 3]| NodeProto {
            op_type: (*op).into(),
            input: vec![(*input).into()],
            output: vec![(*output).into()],
            ..NodeProto::default()
        };
        let output = |name: &&str| ValueInfoProto {
            name: (*name).into(),
            ..ValueInfoProto::default()
        };
        GraphProto {
            node: nodes.iter().map(node).collect(),
            output: outputs.iter().map(output).collect(),
            ..GraphProto::default()
        }
    }

    /// The name of the logits, how many nodes are left, and the output's name.
    fn found(nodes: &[[&str; 3]]) -> (String, usize, String) {
        let mut graph = graph_of(&["logits"], nodes);
        let name = logits(&mut graph, 2).unwrap();
        (name, graph.node.len(), graph.output[0].name.clone())
    }

    #[test]
    fn weights_in_another_file_are_told_with_what_to_do() {
        let mut graph = graph_of(&[], &[]);
        assert!(in_one_file(&graph).is_ok());
        graph.initializer.push(TensorProto {
            data_location: DataLocation::External as i32,
            ..TensorProto::default()
        });
        let why = in_one_file(&graph).unwrap_err();
        assert!(why.contains("as one file"), "{why}");
    }

    #[test]
    fn a_single_output_is_refused_with_what_to_do() {
        let one = |classes| {
            let mut graph = graph_of(&["logits"], &[["Gemm", "features", "logits"]]);
            graph.output[0] = float_rows("logits", 1);
            logits(&mut graph, classes).unwrap_err()
        };
        for why in [one(1), one(2)] {
            assert!(why.contains("Export the network with two outputs"), "{why}");
        }
    }

    #[test]
    fn what_makes_probabilities_of_logits_is_taken_off() {
        let gemm = ["Gemm", "features", "l"];
        let taken_off = ("l".to_owned(), 1, "l".to_owned());
        assert_eq!(found(&[gemm, ["Softmax", "l", "logits"]]), taken_off);
        assert_eq!(found(&[gemm, ["Sigmoid", "l", "logits"]]), taken_off);
        let behind = ["Identity", "p", "logits"];
        assert_eq!(found(&[gemm, ["Softmax", "l", "p"], behind]), taken_off);

        // Both are given: as they are, in the middle of what is taken off, and the probabilities first.
        let both = |outputs: &[&str], nodes: &[[&str; 3]]| {
            let mut graph = graph_of(outputs, nodes);
            let name = logits(&mut graph, 2).unwrap();
            let left: Vec<String> = graph.output.iter().map(|it| it.name.clone()).collect();
            (name, graph.node.len(), left)
        };
        let taken_off = ("l".to_owned(), 1, vec!["l".to_owned()]);
        let softmax = ["Softmax", "l", "logits"];
        assert_eq!(both(&["logits", "l"], &[gemm, softmax]), taken_off);
        let nodes = [gemm, ["Softmax", "l", "p"], behind];
        assert_eq!(both(&["logits", "p"], &nodes), taken_off);
        let (_, left, outputs) = both(
            &["logits", "p"],
            &[["Gemm", "x", "logits"], ["Softmax", "logits", "p"]],
        );
        assert_eq!((left, outputs.len()), (2, 2));

        let likeliest = ["ArgMax", "logits", "class"];
        let (name, left, output) = found(&[gemm, ["Softmax", "l", "logits"], likeliest]);
        assert_eq!((name.as_str(), left, output.as_str()), ("l", 3, "l"));

        let (name, left, output) = found(&[gemm, ["Identity", "l", "logits"]]);
        assert_eq!(
            (name.as_str(), left, output.as_str()),
            ("logits", 2, "logits")
        );
    }
}
