//! The cascade: the view classifier, the table of header and pixels, then the classifier of that view.
//!
//! It belongs to one thread. Given several images it runs each network over all that it applies to, in batches; the
//! result for an image does not depend on its company.

use crate::config::settings::RuntimeSettings;
use crate::decode::Radiograph;
use crate::domain::decision::{HeaderView, Score, ViewScores, ViewThresholds, resolve_view};
use crate::domain::{Prediction, Reason, View};
use crate::telemetry::Event;

use super::Bundle;
use super::classifier::ModelError;
use super::manifest::{Applies, Role};
use super::network::{Answer, Network};
use super::runtime::{Provider, Runtime, RuntimeError, Wish, machine_has_gpu};

/// Every network of a bundle, loaded.
pub struct Cascade {
    bundle: Bundle,
    thresholds: ViewThresholds,
    networks: Vec<Network>,
    provider: Provider,
    gpu_refused: Option<String>,
    batch: usize,
}

/// One image as it comes.
pub struct Image<'a> {
    /// What the header says about the view.
    pub header: HeaderView,
    /// One radiograph for each of the bundle's render specs.
    pub radiographs: &'a [Radiograph],
}

/// What is known about an image half-way.
struct Progress {
    view_scores: Option<ViewScores>,
    resolved: Result<View, Reason>,
    /// The view whose classifier is asked, also when the view is in doubt: a person who looks wants to see scores.
    asked: Option<View>,
    distance: Option<f32>,
    category: Option<(Answer, usize)>,
}

impl Cascade {
    /// Loads every network where the settings want it, or says why not.
    pub fn load(
        bundle: Bundle,
        settings: &RuntimeSettings,
        thresholds: ViewThresholds,
    ) -> Result<Self, ModelError> {
        let wish = Wish::of(settings)?;
        let runtime = Runtime::load(settings)?;
        let mut gpu_refused = None;
        if let Some(number) = wish.gpu() {
            let lacks = runtime.lacks_cuda();
            let lasting = lacks.is_some();
            let tried = match lacks
                .map_or(Ok(()), Err)
                .and_then(|()| runtime.preload_cuda())
            {
                Err(why) => Err(why),
                Ok(()) => match Self::networks(&bundle, &runtime, settings, Provider::Cuda(number))
                {
                    Ok(networks) => Ok(networks),
                    // The bundle itself is at fault: the CPU would not help.
                    Err(error @ ModelError::Bundle(_)) => return Err(error),
                    Err(error) => Err(error.to_string()),
                },
            };
            let why = match tried {
                Ok(networks) => return Ok(Self::new(bundle, settings, thresholds, networks, None)),
                Err(why) => why,
            };
            match wish {
                Wish::Require(_) => {
                    return Err(RuntimeError::GpuRequired { why, lasting }.into());
                }
                Wish::IfThere if !machine_has_gpu() => {
                    tracing::info!(event = %Event::Model, why, "no GPU on this machine: the model runs on the CPU");
                }
                _ => {
                    tracing::warn!(event = %Event::NotOnGpu, why, "THE MODEL RUNS ON THE CPU, NOT ON THE GPU");
                    gpu_refused = Some(why);
                }
            }
        }
        let networks = Self::networks(&bundle, &runtime, settings, Provider::Cpu)?;
        Ok(Self::new(
            bundle,
            settings,
            thresholds,
            networks,
            gpu_refused,
        ))
    }

    fn networks(
        bundle: &Bundle,
        runtime: &Runtime,
        settings: &RuntimeSettings,
        provider: Provider,
    ) -> Result<Vec<Network>, ModelError> {
        // Batching gains nothing on the CPU, and multiplies memory.
        let batch = if provider == Provider::Cpu {
            1
        } else {
            settings.batch
        };
        let specs = bundle.manifest().classifiers.iter();
        specs
            .map(|spec| Network::load(bundle, spec, runtime, settings, provider, batch))
            .collect()
    }

    fn new(
        bundle: Bundle,
        settings: &RuntimeSettings,
        thresholds: ViewThresholds,
        networks: Vec<Network>,
        gpu_refused: Option<String>,
    ) -> Self {
        let provider = networks.first().map_or(Provider::Cpu, Network::provider);
        let batch = if provider == Provider::Cpu {
            1
        } else {
            settings.batch.max(1)
        };
        Self {
            bundle,
            thresholds,
            networks,
            provider,
            gpu_refused,
            batch,
        }
    }

    /// Its bundle.
    pub fn bundle(&self) -> &Bundle {
        &self.bundle
    }

    /// Where it runs.
    pub fn provider(&self) -> Provider {
        self.provider
    }

    /// Why it does not run on the GPU that was wished for.
    pub fn gpu_refused(&self) -> Option<&str> {
        self.gpu_refused.as_deref()
    }

    /// How many images are worth waiting for.
    pub fn batch(&self) -> usize {
        self.batch
    }

    /// Classifies images; one result for each, in order.
    pub fn classify(&mut self, images: &[Image<'_>]) -> Vec<Result<Prediction, ModelError>> {
        let mut progress = self.views(images);
        for (index, network) in self.networks.iter_mut().enumerate() {
            if network.spec().role != Role::Category {
                continue;
            }
            let applies = network.spec().applies;
            let concerns = |it: &Result<Progress, ModelError>| match it {
                Ok(progress) => match progress.asked {
                    Some(view) => applies.to(view),
                    // Without a view classifier, a classifier of all categories tells the view too.
                    None => progress.view_scores.is_none() && applies == Applies::Any,
                },
                Err(_) => false,
            };
            let chosen: Vec<usize> = (0..images.len())
                .filter(|i| progress.get(*i).is_some_and(concerns))
                .collect();
            let render = self.bundle.render_index(index);
            for (i, answer) in chosen.iter().zip(run(network, images, &chosen, render)) {
                let Some(slot) = progress.get_mut(*i) else {
                    continue;
                };
                match (slot.as_mut(), answer) {
                    (Ok(progress), Ok(answer)) => progress.category = Some((answer, index)),
                    (_, Err(error)) => *slot = Err(error),
                    (Err(_), Ok(_)) => {}
                }
            }
        }
        let done = images.iter().zip(progress);
        done.map(|(image, progress)| Ok(self.prediction(image.header, progress?)))
            .collect()
    }

    /// The first step: what pixels and header say about the view.
    fn views(&mut self, images: &[Image<'_>]) -> Vec<Result<Progress, ModelError>> {
        let all: Vec<usize> = (0..images.len()).collect();
        let thresholds = self.thresholds;
        let Some(index) = self
            .networks
            .iter()
            .position(|network| network.spec().role == Role::View)
        else {
            let start = |image: &Image<'_>| {
                let resolved = resolve_view(image.header, None, thresholds);
                Ok(Progress {
                    view_scores: None,
                    resolved,
                    asked: resolved.ok(),
                    distance: None,
                    category: None,
                })
            };
            return images.iter().map(start).collect();
        };
        let network = &mut self.networks[index];
        let answers = run(network, images, &all, self.bundle.render_index(index));
        let classes = network.spec().classes.clone();
        let first_step = |(image, answer): (&Image<'_>, Result<Answer, ModelError>)| {
            let answer = answer?;
            let of = |name: &str| {
                let position = classes.iter().position(|class| class == name);
                position
                    .and_then(|position| answer.probabilities.get(position))
                    .copied()
                    .unwrap_or(0.0)
            };
            let scores = ViewScores {
                frontal: of("frontal"),
                lateral: of("lateral"),
                neither: of("neither"),
            };
            let resolved = resolve_view(image.header, Some(&scores), thresholds);
            let asked = match resolved {
                Ok(view) => Some(view),
                Err(Reason::OutOfScope) => None,
                Err(_) => Some(scores.favourite()),
            };
            let distance = answer.out_of_distribution;
            Ok(Progress {
                view_scores: Some(scores),
                resolved,
                asked,
                distance,
                category: None,
            })
        };
        images.iter().zip(answers).map(first_step).collect()
    }

    /// The last step: everything that was said, as one prediction.
    fn prediction(&self, header_view: HeaderView, progress: Progress) -> Prediction {
        let Progress {
            mut view_scores,
            mut resolved,
            asked,
            mut distance,
            category,
        } = progress;
        let (mut scores, mut confidence) = (Vec::new(), 0.0);
        if let Some((answer, index)) = category {
            let spec = self.networks[index].spec();
            let known = |class: &String| {
                self.bundle
                    .categories()
                    .iter()
                    .find(|category| category.id.as_str() == class)
            };
            let pairs = spec.classes.iter().zip(&answer.probabilities);
            let mut by_category: Vec<_> = pairs
                .filter_map(|(class, p)| Some((known(class)?, *p)))
                .collect();
            by_category.sort_by(|a, b| b.1.total_cmp(&a.1));
            let mut certainty_of_view = asked
                .zip(view_scores)
                .map_or(1.0, |(view, scores)| scores.of(view));
            if spec.applies == Applies::Any && view_scores.is_none() {
                let sum = |view| {
                    by_category
                        .iter()
                        .filter(|(category, _)| category.view == view)
                        .map(|(_, p)| *p)
                        .sum()
                };
                let summed = ViewScores {
                    frontal: sum(View::Frontal),
                    lateral: sum(View::Lateral),
                    neither: 0.0,
                };
                view_scores = Some(summed);
                resolved = resolve_view(header_view, Some(&summed), self.thresholds);
                certainty_of_view = 1.0;
            }
            if let Some((best, probability)) = by_category.first() {
                confidence = (certainty_of_view * probability).clamp(0.0, 1.0);
                if resolved.is_ok_and(|view| view != best.view) {
                    resolved = Err(Reason::ViewConflict);
                }
            }
            let score = |(category, p): &(&super::manifest::Category, f32)| Score {
                category: category.id.clone(),
                probability: *p,
            };
            scores = by_category.iter().map(score).collect();
            distance = distance
                .into_iter()
                .chain(answer.out_of_distribution)
                .reduce(f32::max);
        } else if resolved.is_ok() {
            // The bundle knows nothing about this view.
            resolved = Err(Reason::OutOfScope);
        }
        Prediction {
            header_view,
            view_scores,
            view: resolved.ok(),
            view_problem: resolved.err(),
            scores,
            confidence,
            out_of_distribution: distance,
            model: self.bundle.name_and_version(),
            provider: self.provider.to_string(),
        }
    }
}

/// Runs a network over the chosen images; one result for each of them.
fn run(
    network: &mut Network,
    images: &[Image<'_>],
    chosen: &[usize],
    render: usize,
) -> Vec<Result<Answer, ModelError>> {
    let radiographs: Vec<Option<&Radiograph>> = chosen
        .iter()
        .map(|i| images[*i].radiographs.get(render))
        .collect();
    let there: Vec<&Radiograph> = radiographs.iter().copied().flatten().collect();
    let missing = || ModelError::Image {
        classifier: network.spec().id.clone(),
        what: "no radiograph was rendered".into(),
    };
    let missing: Vec<Option<ModelError>> = radiographs
        .iter()
        .map(|it| it.is_none().then(missing))
        .collect();
    let mut answers = match network.run(&there) {
        Ok(answers) => answers,
        Err(error) => vec![Err(error); there.len()],
    }
    .into_iter();
    missing
        .into_iter()
        .filter_map(|missing| missing.map(Err).or_else(|| answers.next()))
        .collect()
}
