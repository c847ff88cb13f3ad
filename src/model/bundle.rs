//! A bundle: a folder with `bundle.toml`, networks, parameters and reference images, checked before anything is loaded.
//!
//! What has been opened fits this program and itself: schema, preprocessing, classes, categories, and the SHA-256 of
//! every file. Files are read beneath the folder only, without following links, and never beyond a size limit.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::decode::{Intensity, PREPROCESSING_VERSION, RenderSpec};
use crate::domain::{RelPath, View};
use crate::root::Root;

use super::manifest::{
    Applies, Category, ClassifierSpec, FILE_NAME, FileRef, Manifest, Method, Reference, Role,
    SCHEMA, VIEW_CLASSES, sha256,
};

/// The bundle that radsort ships.
pub const SHIPPED: &str = "spine-phantom";

const MANIFEST_LIMIT: u64 = 1 << 20;
const FILE_LIMIT: u64 = 2 << 30;

/// A bundle cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// There is none.
    #[error(
        "no bundle was named, and the shipped one ({SHIPPED}) is in none of:{looked}\nName one: [model] bundle in the configuration, or --model DIR."
    )]
    NotFound {
        /// Where it was looked for, a line each.
        looked: String,
    },
    /// A file is missing or cannot be read.
    #[error("bundle {}: {file}: {problem}", bundle.display())]
    Read {
        /// The bundle.
        bundle: PathBuf,
        /// The file.
        file: String,
        /// Why not.
        problem: std::io::Error,
    },
    /// `bundle.toml` cannot be understood.
    #[error("bundle {}: {FILE_NAME}: {problem}", bundle.display())]
    Parse {
        /// The bundle.
        bundle: PathBuf,
        /// Where and why.
        problem: Box<toml::de::Error>,
    },
    /// A file has other bytes than `bundle.toml` says.
    #[error(
        "bundle {}: {file} is not the file that {FILE_NAME} names: its SHA-256 is {found}, not {expected}. \
         The bundle was damaged or altered; install it again.",
        bundle.display()
    )]
    Digest {
        /// The bundle.
        bundle: PathBuf,
        /// The file.
        file: String,
        /// What `bundle.toml` says.
        expected: String,
        /// What was found.
        found: String,
    },
    /// Something in it does not fit.
    #[error("bundle {}: {file}: {what}", bundle.display())]
    Unfit {
        /// The bundle.
        bundle: PathBuf,
        /// The file.
        file: String,
        /// What does not fit.
        what: String,
    },
}

/// A bundle whose parts fit each other and this program.
#[derive(Clone, Debug)]
pub struct Bundle {
    root: Arc<Root>,
    manifest: Arc<Manifest>,
    render_specs: Vec<RenderSpec>,
    render_index: Vec<usize>,
}

impl Bundle {
    /// Opens a bundle and checks everything that can be checked without ONNX Runtime.
    pub fn open(dir: &Path) -> Result<Self, BundleError> {
        let root = Root::open(dir).map_err(|problem| BundleError::Read {
            bundle: dir.to_owned(),
            file: ".".into(),
            problem,
        })?;
        let text = read(&root, FILE_NAME, MANIFEST_LIMIT)?;
        let manifest: Manifest = std::str::from_utf8(&text)
            .map_err(|error| unfit(&root, FILE_NAME, format!("not UTF-8: {error}")))
            .and_then(|text| {
                schema(text).map_err(|what| unfit(&root, FILE_NAME, what))?;
                toml::from_str(text).map_err(|problem| BundleError::Parse {
                    bundle: dir.to_owned(),
                    problem: Box::new(problem),
                })
            })?;
        check(&manifest).map_err(|what| unfit(&root, FILE_NAME, what))?;

        let mut render_specs: Vec<RenderSpec> = Vec::new();
        let mut render_index = Vec::new();
        for classifier in &manifest.classifiers {
            let known = render_specs
                .iter()
                .position(|spec| *spec == classifier.render);
            render_index.push(known.unwrap_or(render_specs.len()));
            if known.is_none() {
                render_specs.push(classifier.render.clone());
            }
        }
        let bundle = Self {
            root: Arc::new(root),
            manifest: Arc::new(manifest),
            render_specs,
            render_index,
        };
        bundle.check_files()?;
        Ok(bundle)
    }

    /// The bundle that the site names, or the shipped one where packages (or a checkout of the source) have it.
    pub fn open_or_shipped(named: Option<&Path>) -> Result<Self, BundleError> {
        Self::open(&Self::find(named)?)
    }

    /// Where [`open_or_shipped`](Self::open_or_shipped) finds it.
    pub fn find(named: Option<&Path>) -> Result<PathBuf, BundleError> {
        if let Some(dir) = named {
            return Ok(dir.to_owned());
        }
        let mut candidates = Vec::new();
        if let Some(bin) = std::env::current_exe()
            .ok()
            .as_deref()
            .and_then(Path::parent)
        {
            candidates.push(bin.join("../share/radsort/models").join(SHIPPED));
        }
        candidates.push(Path::new("/usr/share/radsort/models").join(SHIPPED));
        candidates
            .extend(super::runtime::source_tree().map(|tree| tree.join("models").join(SHIPPED)));
        let found = candidates.iter().find(|dir| dir.join(FILE_NAME).is_file());
        found.cloned().ok_or_else(|| BundleError::NotFound {
            looked: candidates.iter().fold(String::new(), |mut text, dir| {
                let _ = write!(text, "\n  {}", dir.display());
                text
            }),
        })
    }

    /// Its folder.
    pub fn dir(&self) -> &Path {
        self.root.path()
    }

    /// The regular files in its folder: those that the manifest names, itself, and what lies beside them.
    pub fn files(&self) -> std::io::Result<Vec<PathBuf>> {
        let mut files = Vec::new();
        for file in std::fs::read_dir(self.dir())? {
            let file = file?;
            if file.file_type()?.is_file() {
                files.push(file.path());
            }
        }
        Ok(files)
    }

    /// What `bundle.toml` says.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// `name version`, as it stands in every record.
    pub fn name_and_version(&self) -> String {
        self.manifest.name_and_version()
    }

    /// The categories, in the bundle's order.
    pub fn categories(&self) -> &[Category] {
        &self.manifest.categories
    }

    /// The distinct ways in which its networks want a file rendered: what a decoder is asked for, in this order.
    pub fn render_specs(&self) -> &[RenderSpec] {
        &self.render_specs
    }

    /// Which of [`render_specs`](Self::render_specs) the classifier at `index` (in the manifest's order) takes.
    pub fn render_index(&self, index: usize) -> usize {
        self.render_index.get(index).copied().unwrap_or(0)
    }

    /// A file's bytes, which are those that `bundle.toml` names.
    pub fn read(&self, file: &FileRef) -> Result<Vec<u8>, BundleError> {
        let bytes = read(&self.root, &file.file, FILE_LIMIT)?;
        let found = sha256(&bytes);
        if found == file.sha256.to_ascii_lowercase() {
            Ok(bytes)
        } else {
            Err(BundleError::Digest {
                bundle: self.dir().to_owned(),
                file: file.file.clone(),
                expected: file.sha256.clone(),
                found,
            })
        }
    }

    /// An error about one of its files.
    pub fn unfit(&self, file: &str, what: impl Into<String>) -> BundleError {
        unfit(&self.root, file, what)
    }

    /// The references of one classifier with their grey values.
    pub fn references(
        &self,
        classifier: &ClassifierSpec,
    ) -> Result<Vec<(&Reference, Vec<f32>)>, BundleError> {
        let meant = self
            .manifest
            .references
            .iter()
            .filter(|reference| reference.classifier == classifier.id);
        meant
            .map(|reference| Ok((reference, self.grey(classifier, reference)?)))
            .collect()
    }

    fn grey(
        &self,
        classifier: &ClassifierSpec,
        reference: &Reference,
    ) -> Result<Vec<f32>, BundleError> {
        let bytes = self.read(&reference.image)?;
        let pixels = classifier.render.height as usize * classifier.render.width as usize;
        let expected = pixels * reference.format.bytes();
        if bytes.len() != expected {
            let what = format!(
                "{} bytes, but the classifier {} takes {expected}",
                bytes.len(),
                classifier.id
            );
            return Err(self.unfit(&reference.image.file, what));
        }
        let grey = reference.format.decode(&bytes);
        if grey.iter().all(|value| (0.0..=1.0).contains(value)) {
            Ok(grey)
        } else {
            Err(self.unfit(
                &reference.image.file,
                "holds values that are not between 0 and 1",
            ))
        }
    }

    /// Every file is there with its digest; parameters and reference images have the right size.
    fn check_files(&self) -> Result<(), BundleError> {
        for classifier in &self.manifest.classifiers {
            self.read(&classifier.model)?;
            if let Some(parameters) = classifier
                .out_of_distribution
                .as_ref()
                .and_then(|ood| ood.parameters.as_ref())
            {
                self.read(parameters)?;
            }
            self.references(classifier)?;
        }
        Ok(())
    }
}

fn unfit(root: &Root, file: &str, what: impl Into<String>) -> BundleError {
    BundleError::Unfit {
        bundle: root.path().to_owned(),
        file: file.to_owned(),
        what: what.into(),
    }
}

/// Reads a file beneath the bundle's folder, at most `limit` bytes.
fn read(root: &Root, file: &str, limit: u64) -> Result<Vec<u8>, BundleError> {
    let failed = |problem| BundleError::Read {
        bundle: root.path().to_owned(),
        file: file.to_owned(),
        problem,
    };
    let path = RelPath::new(file).map_err(|error| unfit(root, file, error.to_string()))?;
    let (file_in, stat) = root.open_file(&path).map_err(failed)?;
    if stat.size > limit {
        return Err(unfit(
            root,
            file,
            format!("{} bytes, more than the limit of {limit}", stat.size),
        ));
    }
    let mut bytes = Vec::with_capacity(stat.size as usize);
    file_in
        .take(limit)
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    Ok(bytes)
}

/// Says that a bundle is too new before unknown keys would be complained about.
fn schema(text: &str) -> Result<(), String> {
    match toml::from_str::<toml::Table>(text)
        .ok()
        .as_ref()
        .and_then(|table| table.get("schema"))
    {
        Some(toml::Value::Integer(found)) if *found != i64::from(SCHEMA) => Err(format!(
            "schema version {found}, but this program reads {SCHEMA}"
        )),
        _ => Ok(()),
    }
}

/// What a version may be written with: it is a part of a folder's name.
pub fn check_version(version: &str) -> Result<(), String> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || ".-+".contains(c);
    if (1..=64).contains(&version.len()) && version.chars().all(allowed) {
        Ok(())
    } else {
        Err(format!(
            "version: {version:?} is not 1 to 64 of letters, digits, '.', '-' and '+'"
        ))
    }
}

/// The rules that `bundle.toml` must keep. The error says which key breaks which.
fn check(manifest: &Manifest) -> Result<(), String> {
    if !is_id(&manifest.name) {
        return Err(format!(
            "name: {:?} is not 1 to 64 of a-z, 0-9 and '-'",
            manifest.name
        ));
    }
    check_version(&manifest.version)?;
    if manifest.preprocessing != PREPROCESSING_VERSION {
        return Err(format!(
            "preprocessing: trained with version {}, but this program prepares images as version {PREPROCESSING_VERSION}",
            manifest.preprocessing
        ));
    }
    let view = manifest.view_thresholds;
    fraction("view-thresholds.sure", view.sure)?;
    fraction("view-thresholds.margin", view.margin)?;
    check_categories(&manifest.categories)?;
    for classifier in &manifest.classifiers {
        check_classifier(manifest, classifier)
            .map_err(|what| format!("classifier {}: {what}", classifier.id))?;
    }
    check_cascade(manifest)?;
    for reference in &manifest.references {
        let classifier = manifest
            .classifiers
            .iter()
            .find(|classifier| classifier.id == reference.classifier);
        let Some(classifier) = classifier else {
            return Err(format!(
                "references: there is no classifier {:?}",
                reference.classifier
            ));
        };
        if reference.logits.len() != classifier.classes.len()
            || !reference.logits.iter().all(|l| l.is_finite())
        {
            return Err(format!(
                "references: {} needs {} finite logits",
                reference.image.file,
                classifier.classes.len()
            ));
        }
        positive(
            &format!("references: {}: tolerance", reference.image.file),
            reference.tolerance,
        )?;
    }
    Ok(())
}

fn check_categories(categories: &[Category]) -> Result<(), String> {
    let (mut ids, mut folders) = (BTreeSet::new(), BTreeSet::new());
    for category in categories {
        crate::domain::placement::check_folder(&category.id, &category.folder)?;
        fraction(
            &format!("category {}: threshold", category.id),
            category.threshold,
        )?;
        if category.name.trim().is_empty() {
            return Err(format!("category {}: name is empty", category.id));
        }
        let others = || categories.iter().filter(|other| other.id != category.id);
        let taken = |name: &&String| others().any(|other| other.is_meant_by(name));
        if let Some(name) = category.formerly.iter().find(taken) {
            return Err(format!(
                "category {}: formerly {name:?}, which is said of another one too",
                category.id
            ));
        }
        if !ids.insert(&category.id) {
            return Err(format!("category {} is there twice", category.id));
        }
        // Shares that ignore case would mix the two.
        if !folders.insert(category.folder.to_lowercase()) {
            return Err(format!(
                "category {}: another one has the folder {:?} too",
                category.id, category.folder
            ));
        }
    }
    if categories.is_empty() {
        Err("there are no categories".into())
    } else {
        Ok(())
    }
}

/// At most one view classifier; each view is asked of one category classifier at most; each category of one exactly.
fn check_cascade(manifest: &Manifest) -> Result<(), String> {
    let classifiers = &manifest.classifiers;
    let mut ids = BTreeSet::new();
    if let Some(twice) = classifiers
        .iter()
        .find(|classifier| !ids.insert(&classifier.id))
    {
        return Err(format!("classifier {} is there twice", twice.id));
    }
    if classifiers
        .iter()
        .filter(|classifier| classifier.role == Role::View)
        .count()
        > 1
    {
        return Err("there is more than one view classifier".into());
    }
    for view in [View::Frontal, View::Lateral] {
        let asked = classifiers
            .iter()
            .filter(|it| it.role == Role::Category && it.applies.to(view));
        if asked.count() > 1 {
            return Err(format!(
                "more than one category classifier applies to {view} views"
            ));
        }
    }
    for category in &manifest.categories {
        let told = |it: &&ClassifierSpec| {
            it.role == Role::Category && it.classes.iter().any(|c| c == category.id.as_str())
        };
        let by = classifiers.iter().filter(told).count();
        if by != 1 {
            return Err(format!(
                "category {} is told by {by} classifiers, not by one",
                category.id
            ));
        }
    }
    Ok(())
}

fn check_classifier(manifest: &Manifest, classifier: &ClassifierSpec) -> Result<(), String> {
    if !is_id(&classifier.id) {
        return Err("the id is not 1 to 64 of a-z, 0-9 and '-'".into());
    }
    positive("temperature", classifier.temperature)?;
    check_classes(manifest, classifier)?;
    if !matches!(classifier.channels, 1 | 3) {
        return Err(format!(
            "channels: {}, but only 1 and 3 are possible",
            classifier.channels
        ));
    }
    let render = &classifier.render;
    for (key, pixels) in [("height", render.height), ("width", render.width)] {
        if !(8..=4096).contains(&pixels) {
            return Err(format!("render.{key}: {pixels} is not between 8 and 4096"));
        }
    }
    fraction("render.pad", render.pad)?;
    if let Intensity::Percentile { lo, hi } = render.intensity
        && !(0.0 <= lo && lo < hi && hi <= 100.0)
    {
        return Err(format!(
            "render.intensity: percentiles {lo} and {hi} are not 0 <= lo < hi <= 100"
        ));
    }
    let (mean, std) = (
        &classifier.normalisation.mean,
        &classifier.normalisation.std,
    );
    if mean.len() != classifier.channels || std.len() != classifier.channels {
        return Err(format!(
            "normalisation: mean and std need {} values each",
            classifier.channels
        ));
    }
    if !mean.iter().all(|m| m.is_finite()) || !std.iter().all(|s| s.is_finite() && *s > 0.0) {
        return Err("normalisation: mean must be finite, std above 0".into());
    }
    check_out_of_distribution(classifier)?;
    if manifest
        .references
        .iter()
        .any(|reference| reference.classifier == classifier.id)
    {
        Ok(())
    } else {
        Err(
            "it has no reference image, so nothing would show that it runs as it was trained"
                .into(),
        )
    }
}

/// What is wrong with a network that has a single output, and what to do.
pub const ONE_OUTPUT: &str = "there is one alone, of which the softmax is always 1: everything would be filed with a confidence of 1. \
    Export the network with two outputs or more, one for each category (a sigmoid's output z is the pair 0, z)";

fn check_classes(manifest: &Manifest, classifier: &ClassifierSpec) -> Result<(), String> {
    let classes: BTreeSet<&str> = classifier.classes.iter().map(String::as_str).collect();
    if classes.len() != classifier.classes.len() {
        return Err("classes: one is there twice".into());
    }
    match classifier.role {
        Role::View if classes != BTreeSet::from(VIEW_CLASSES) => Err(format!(
            "classes: a view classifier tells {}",
            VIEW_CLASSES.join(", ")
        )),
        Role::View if classifier.applies != Applies::Any => {
            Err("applies: a view classifier is asked about any image".into())
        }
        Role::View => Ok(()),
        Role::Category => {
            for class in &classifier.classes {
                let category = manifest
                    .categories
                    .iter()
                    .find(|category| category.id.as_str() == class);
                let category =
                    category.ok_or_else(|| format!("classes: there is no category {class:?}"))?;
                if !classifier.applies.to(category.view) {
                    return Err(format!("classes: {class} is a {} category", category.view));
                }
            }
            match classes.len() {
                0 => Err("classes: there are none".into()),
                1 => Err(format!("classes: {ONE_OUTPUT}")),
                _ => Ok(()),
            }
        }
    }
}

fn check_out_of_distribution(classifier: &ClassifierSpec) -> Result<(), String> {
    let Some(ood) = &classifier.out_of_distribution else {
        return Ok(());
    };
    fraction(
        "out-of-distribution.false-review-rate",
        ood.false_review_rate,
    )?;
    if !(ood.threshold.is_finite() && ood.centre.is_finite() && ood.threshold > ood.centre) {
        return Err("out-of-distribution: threshold must be above centre".into());
    }
    match (ood.method, &ood.parameters, &classifier.outputs.features) {
        (Method::Energy, None, _)
        | (Method::FeatureMahalanobisDiagonal | Method::FeatureCentroid, Some(_), Some(_)) => {
            Ok(())
        }
        (Method::Energy, Some(_), _) => Err("out-of-distribution: energy has no parameters".into()),
        (_, None, _) => Err("out-of-distribution: the method needs parameters".into()),
        (_, _, None) => Err("out-of-distribution: the method needs outputs.features".into()),
    }
}

fn is_id(text: &str) -> bool {
    crate::domain::CategoryId::parse(text).is_ok()
}

fn fraction(key: &str, value: f32) -> Result<(), String> {
    if (0.0..=1.0).contains(&value) {
        Ok(())
    } else {
        Err(format!("{key}: {value} is not between 0 and 1"))
    }
}

fn positive(key: &str, value: f32) -> Result<(), String> {
    if value.is_finite() && value > 0.0 {
        Ok(())
    } else {
        Err(format!("{key}: {value} is not above 0"))
    }
}
