//! The bundle that a training starts from: categories added, removed or renamed, networks built from nothing.

use std::path::Path;

use burn::tensor::Device;

use super::bundle_writer::{self, Fitted, WriteError};
use super::efficientnet::Variant;
use super::graph::{Graph, GraphError};
use super::head::{Head, HeadError, Place};
use super::network::{FEATURES, INPUT, LOGITS};
use super::own_head::with_own_head;
use super::train::{self, Normalisation, Pictures, TrainError};
use super::weights::{self, Kind, Loaded, WeightsError};
use crate::domain::category::NEITHER;
use crate::domain::{CategoryId, View};
use crate::model::manifest::{self, Category, ClassifierSpec, Manifest, Outputs, Role};
use crate::model::{Bundle, BundleError};

/// The bundle to start from cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// What was asked for does not fit the bundle.
    #[error("{0}")]
    Wish(String),
    /// The last layer cannot be found, so that its rows cannot be changed.
    #[error("classifier {classifier}: {source}")]
    Head {
        /// Which.
        classifier: String,
        /// Why not.
        source: HeadError,
    },
    /// Weights from elsewhere.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// A built network cannot be run.
    #[error(transparent)]
    Graph(#[from] GraphError),
    /// A built network cannot be asked.
    #[error(transparent)]
    Train(#[from] TrainError),
    /// The bundle cannot be written.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// The bundle cannot be read.
    #[error(transparent)]
    Bundle(#[from] BundleError),
}

/// A change of the categories that a bundle knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// One more, without any knowledge of it yet.
    Add {
        /// Its id, also its folder's name.
        id: String,
        /// Its view.
        view: View,
    },
    /// One less.
    Remove {
        /// Its id.
        id: String,
    },
    /// Another id, and a folder of that name, for what was known as another.
    Rename {
        /// The id until now.
        from: String,
        /// The id from now on.
        to: String,
    },
}

/// The logit that a category has of which nothing is known yet: less than any that the network believes in.
const UNKNOWN: f32 = -4.0;

/// A bundle as it is, ready to be changed.
pub struct Start {
    manifest: Manifest,
    fitted: Vec<Fitted>,
}

impl Start {
    /// Reads the bundle. What was promised about it is not promised about what it becomes.
    pub fn of(bundle: &Bundle) -> Result<Self, StartError> {
        let specs = bundle.manifest().classifiers.iter();
        let fitted = specs.map(|spec| Fitted::of(bundle, spec));
        Ok(Self {
            manifest: Manifest {
                promise: None,
                ..bundle.manifest().clone()
            },
            fitted: fitted.collect::<Result<_, _>>()?,
        })
    }

    /// Writes it as a bundle that can be opened.
    pub fn write(self, dir: &Path) -> Result<Bundle, StartError> {
        bundle_writer::write(dir, self.manifest, &self.fitted)?;
        Ok(Bundle::open(dir)?)
    }

    /// Changes the categories; the rows of the last layer of those that stay are kept. Gives the ids of the classifiers
    /// that have to be trained for it.
    pub fn change(&mut self, change: &Change) -> Result<Vec<String>, StartError> {
        match change {
            Change::Add { id, view } => self.add(id, *view),
            Change::Remove { id } => self.remove(id),
            Change::Rename { from, to } => self.rename(from, to),
        }
    }

    fn add(&mut self, id: &str, view: View) -> Result<Vec<String>, StartError> {
        let id = self.new_id(id, None)?;
        let category = Category {
            formerly: Vec::new(),
            name: id.as_str().to_owned(),
            folder: id.as_str().to_owned(),
            threshold: self.strictest(),
            id,
            view,
        };
        let concerned =
            |spec: &ClassifierSpec| spec.role == Role::Category && spec.applies.to(view);
        let mut changed = Vec::new();
        for fitted in self.fitted.iter_mut().filter(|it| concerned(&it.spec)) {
            replace_head(fitted, |mut head| {
                let length = head.weight.first().map_or(0, Vec::len);
                head.weight.push(vec![0.0; length]);
                head.bias.push(UNKNOWN);
                head
            })?;
            for (_, logits) in &mut fitted.references {
                logits.push(UNKNOWN);
            }
            fitted.spec.classes.push(category.id.as_str().to_owned());
            changed.push(fitted.spec.id.clone());
        }
        if changed.is_empty() {
            return Err(StartError::Wish(format!(
                "no classifier of the bundle tells categories of {} images apart: {} cannot be added",
                view.as_str(),
                category.id
            )));
        }
        self.manifest.categories.push(category);
        Ok(changed)
    }

    fn remove(&mut self, id: &str) -> Result<Vec<String>, StartError> {
        let place = self.place(id)?;
        let mut changed = Vec::new();
        for fitted in &mut self.fitted {
            let Some(class) = fitted.spec.classes.iter().position(|it| it == id) else {
                continue;
            };
            if fitted.spec.classes.len() <= 2 {
                return Err(StartError::Wish(format!(
                    "classifier {} would have nothing left to tell apart without {id}",
                    fitted.spec.id
                )));
            }
            replace_head(fitted, |mut head| {
                head.weight.remove(class);
                head.bias.remove(class);
                head
            })?;
            for (_, logits) in &mut fitted.references {
                logits.remove(class);
            }
            fitted.spec.classes.remove(class);
            changed.push(fitted.spec.id.clone());
        }
        self.manifest.categories.remove(place);
        Ok(changed)
    }

    fn rename(&mut self, from: &str, to: &str) -> Result<Vec<String>, StartError> {
        let place = self.place(from)?;
        let id = self.new_id(to, Some(place))?;
        for fitted in &mut self.fitted {
            if fitted.spec.role == Role::Category {
                for class in fitted.spec.classes.iter_mut().filter(|it| *it == from) {
                    to.clone_into(class);
                }
            }
        }
        let category = &mut self.manifest.categories[place];
        let before = [from.to_owned(), category.folder.clone()];
        category.formerly.extend(before);
        category.formerly.retain(|name| name != to);
        category.formerly.sort();
        category.formerly.dedup();
        (category.id, category.folder, category.name) = (id, to.to_owned(), to.to_owned());
        Ok(Vec::new())
    }

    fn place(&self, id: &str) -> Result<usize, StartError> {
        let known = &self.manifest.categories;
        known
            .iter()
            .position(|category| category.id.as_str() == id)
            .ok_or_else(|| {
                let ids: Vec<&str> = known.iter().map(|category| category.id.as_str()).collect();
                StartError::Wish(format!(
                    "the bundle has no category {id}; it has {}",
                    ids.join(", ")
                ))
            })
    }

    /// An id that no category has, nor had before unless it is the one at `place`: labels outlive a renaming.
    fn new_id(&self, id: &str, place: Option<usize>) -> Result<CategoryId, StartError> {
        if id == NEITHER {
            return Err(StartError::Wish(format!(
                "{id} is what people call images that belong under no category: choose another id"
            )));
        }
        if self.place(id).is_ok() {
            return Err(StartError::Wish(format!(
                "the bundle has a category {id} already"
            )));
        }
        let mut all = self.manifest.categories.iter().enumerate();
        if let Some((_, other)) = all.find(|(k, it)| Some(*k) != place && it.was_called(id)) {
            return Err(StartError::Wish(format!(
                "category {} was called {id} before, and labels that say {id} mean it: choose another id",
                other.id
            )));
        }
        CategoryId::parse(id)
            .map_err(|problem| StartError::Wish(format!("category {id}: {problem}")))
    }

    /// Of something new, as much certainty is demanded as of what is demanded most.
    fn strictest(&self) -> f32 {
        let thresholds = self.manifest.categories.iter().map(|it| it.threshold);
        thresholds.fold(0.5, f32::max)
    }

    /// Puts networks built from nothing, or from published weights, in the place of the classifiers called `ids`.
    pub fn initialise(
        &mut self,
        ids: &[String],
        network: &Init<'_>,
    ) -> Result<Vec<Loaded>, StartError> {
        let mut loaded = Vec::new();
        for (k, fitted) in self.fitted.iter_mut().enumerate() {
            if ids.contains(&fitted.spec.id) {
                let (built, report) = network.build(&fitted.spec, k as u64)?;
                *fitted = built;
                loaded.extend(report);
            }
        }
        Ok(loaded)
    }
}

fn replace_head(fitted: &mut Fitted, with: impl FnOnce(Head) -> Head) -> Result<(), StartError> {
    let failed = |source| StartError::Head {
        classifier: fitted.spec.id.clone(),
        source,
    };
    let logits = &fitted.spec.outputs.logits;
    let network = with_own_head(fitted.network.clone(), logits);
    let place = Place::find(&network, logits).map_err(failed)?;
    let head = place.read(&network).ok_or_else(|| {
        failed(HeadError::NotFound {
            logits: logits.clone(),
            why: "its numbers are no float32".into(),
        })
    })?;
    fitted.network = place.replace(network, &with(head));
    // Distances are measured to class means, which do not fit any more; training finds new ones.
    fitted.spec.out_of_distribution = None;
    fitted.parameters = None;
    Ok(())
}

/// A network to build.
#[derive(Clone, Copy, Debug)]
pub struct Init<'a> {
    /// Its size.
    pub variant: Variant,
    /// Channels of its input, 1 or 3.
    pub channels: usize,
    /// Rows and columns of its input; `None`: those that the size was published for.
    pub input: Option<[usize; 2]>,
    /// Weights to begin with; `None`: random ones.
    pub weights: Option<&'a Path>,
    /// Whose they are.
    pub kind: Kind,
    /// Of random weights.
    pub seed: u64,
}

/// Mean and deviation of `ImageNet`'s channels, which published weights were trained with.
const IMAGENET: Normalisation = Normalisation {
    mean: [0.485, 0.456, 0.406],
    deviation: [0.229, 0.224, 0.225],
};

impl Init<'_> {
    fn normalisation(&self) -> Normalisation {
        match (self.weights, self.channels) {
            (Some(_), 3) => IMAGENET,
            // One channel gets the sum of the three filters: the mean of what they were used to.
            (Some(_), _) => Normalisation::same(0.449, 0.226),
            (None, _) => Normalisation::same(0.5, 0.25),
        }
    }

    fn build(&self, old: &ClassifierSpec, k: u64) -> Result<(Fitted, Option<Loaded>), StartError> {
        let published = [self.variant.resolution; 2];
        let [height, width] = self.input.unwrap_or(published);
        let input = [self.channels, height, width];
        let seed = self.seed.wrapping_add(k);
        let variant = match self.weights {
            Some(_) => self.kind.of(self.variant),
            None => self.variant,
        };
        let mut network = variant.build(input, old.classes.len(), seed);
        let loaded = self
            .weights
            .map(|file| weights::load(&mut network, file, self.channels == 1, self.kind))
            .transpose()?;
        let normalisation = self.normalisation();
        let spec = ClassifierSpec {
            channels: self.channels,
            input: INPUT.to_owned(),
            outputs: Outputs {
                logits: LOGITS.to_owned(),
                features: Some(FEATURES.to_owned()),
            },
            temperature: 1.0,
            render: crate::decode::RenderSpec {
                height: height as u32,
                width: width as u32,
                ..old.render.clone()
            },
            normalisation: manifest::Normalisation {
                mean: normalisation.mean[..self.channels].to_vec(),
                std: normalisation.deviation[..self.channels].to_vec(),
            },
            out_of_distribution: None,
            ..old.clone()
        };
        let reference = reference(height, width);
        let graph = Graph::new(network.clone())?;
        let device = Device::flex();
        let pictures = Pictures {
            height,
            width,
            samples: vec![(reference.clone(), 0)],
            groups: Vec::new(),
        };
        let answers = train::answer(
            &graph,
            &graph.weights(&device),
            &pictures,
            normalisation,
            1,
            &device,
        )?;
        let logits = answers.into_iter().map(|answer| answer.logits);
        let fitted = Fitted {
            spec,
            network,
            parameters: None,
            references: logits.map(|logits| (reference.clone(), logits)).collect(),
        };
        Ok((fitted, loaded))
    }
}

/// A picture that shows nothing: grey that rises to the right and falls to the bottom.
fn reference(height: usize, width: usize) -> Vec<u16> {
    let at = |row: usize, column: usize| {
        let (down, right) = (row * 32_768 / height, column * 32_767 / width);
        (32_768 - down + right) as u16
    };
    (0..height)
        .flat_map(|row| (0..width).map(move |column| at(row, column)))
        .collect()
}

#[cfg(test)]
#[path = "start_tests.rs"]
mod tests;
