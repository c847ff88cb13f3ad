//! Writes what has been trained as a bundle: networks, parameters and reference images first, `bundle.toml` last and by
//! rename, so that a folder never holds a manifest whose files are not there.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use prost::Message as _;

use super::dataset::at_16_bits;
use crate::model::manifest::{
    ClassifierSpec, FILE_NAME, FileRef, GreyFormat, Manifest, OutOfDistribution, Reference,
};
use crate::model::onnx::ModelProto;
use crate::model::{Bundle, BundleError};

/// A bundle could not be written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// A file could not be written.
    #[error("{}: {source}", file.display())]
    File {
        /// Which.
        file: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// The bundle that is to be written anew cannot be read.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// The manifest cannot be put in words.
    #[error("{FILE_NAME}: {0}")]
    Manifest(#[from] toml::ser::Error),
}

/// A classifier ready to be written; file names and digests in its `spec` are filled in here.
#[derive(Clone, Debug)]
pub struct Fitted {
    /// What the manifest will say; `model` and the parameters' file are replaced.
    pub spec: ClassifierSpec,
    /// The network.
    pub network: ModelProto,
    /// Parameters of the out-of-distribution measure, for the methods that have any.
    pub parameters: Option<Vec<f32>>,
    /// Rendered images (65535 is white) and the logits that the network gives for them.
    pub references: Vec<(Vec<u16>, Vec<f32>)>,
}

impl Fitted {
    /// A classifier of a bundle as it is.
    pub fn of(bundle: &Bundle, spec: &ClassifierSpec) -> Result<Self, WriteError> {
        let network = ModelProto::decode(&*bundle.read(&spec.model)?)
            .map_err(|_| bundle.unfit(&spec.model.file, "it is no ONNX model"))?;
        let numbers = |file: &FileRef| -> Result<Vec<f32>, WriteError> {
            let bytes = bundle.read(file)?;
            let number =
                |bytes: &[u8]| f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
            Ok(bytes.chunks_exact(4).map(number).collect())
        };
        let file = spec
            .out_of_distribution
            .as_ref()
            .and_then(|measure| measure.parameters.as_ref());
        let references = bundle.references(spec)?;
        Ok(Self {
            network,
            parameters: file.map(numbers).transpose()?,
            references: references
                .into_iter()
                .map(|(reference, grey)| (at_16_bits(&grey), reference.logits.clone()))
                .collect(),
            spec: spec.clone(),
        })
    }
}

/// How far logits may be from the reference's on another machine; GPUs compute convolutions with 10 bits of mantissa.
const TOLERANCE: f32 = 0.05;

/// Writes the bundle into `dir`, which is made if need be; what the manifest says about classifiers and references is
/// replaced by `fitted`. Gives the manifest as written.
pub fn write(dir: &Path, manifest: Manifest, fitted: &[Fitted]) -> Result<Manifest, WriteError> {
    std::fs::create_dir_all(dir).map_err(|source| WriteError::File {
        file: dir.to_owned(),
        source,
    })?;
    let put = |name: String, bytes: &[u8]| -> Result<FileRef, WriteError> {
        replace(&dir.join(&name), bytes)?;
        Ok(FileRef::of(name, bytes))
    };
    let mut manifest = Manifest {
        classifiers: Vec::new(),
        references: Vec::new(),
        ..manifest
    };
    for Fitted {
        spec,
        network,
        parameters,
        references,
    } in fitted
    {
        let id = &spec.id;
        let mut spec = spec.clone();
        spec.model = put(format!("{id}.onnx"), &network.encode_to_vec())?;
        if let Some(OutOfDistribution {
            parameters: file, ..
        }) = &mut spec.out_of_distribution
        {
            *file = match parameters {
                Some(numbers) => Some(put(
                    format!("{id}-distance.f32"),
                    &GreyFormat::F32.encode(numbers),
                )?),
                None => None,
            };
        }
        for (k, (pixels, logits)) in references.iter().enumerate() {
            let bytes: Vec<u8> = pixels
                .iter()
                .flat_map(|pixel| pixel.to_le_bytes())
                .collect();
            manifest.references.push(Reference {
                classifier: id.clone(),
                image: put(format!("{id}-reference-{k}.u16"), &bytes)?,
                format: GreyFormat::U16,
                logits: logits.clone(),
                tolerance: TOLERANCE,
            });
        }
        manifest.classifiers.push(spec);
    }
    write_manifest(dir, &manifest)?;
    Ok(manifest)
}

/// The next version of a bundle: the one it comes from, and the time.
pub fn next_version(bundle: &Bundle) -> String {
    let base = &bundle.manifest().version;
    let base = base.split_once('+').map_or(base.as_str(), |(base, _)| base);
    let now = jiff::Timestamp::now().strftime("%Y%m%d.%H%M%S");
    format!("{base}+{now}")
}

/// Writes the manifest alone, in the place of the one that is there.
pub fn write_manifest(dir: &Path, manifest: &Manifest) -> Result<(), WriteError> {
    replace(&dir.join(FILE_NAME), manifest.to_toml()?.as_bytes())
}

/// Writes a file under a hidden name and renames it into its place.
fn replace(path: &Path, bytes: &[u8]) -> Result<(), WriteError> {
    let failed = |source| WriteError::File {
        file: path.to_owned(),
        source,
    };
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let hidden = path.with_file_name(format!(".{name}.part"));
    let mut file = std::fs::File::create(&hidden).map_err(failed)?;
    file.write_all(bytes).map_err(failed)?;
    file.sync_all().map_err(failed)?;
    std::fs::rename(&hidden, path).map_err(failed)
}

#[cfg(test)]
#[path = "bundle_writer_tests.rs"]
mod tests;
