//! The model thread: it alone owns the sessions, and takes what is waiting as one batch.
//!
//! A [`Classifier`] is a handle to it. The thread ends when the last handle is dropped, and that drop waits for it.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot};

use crate::config::settings::RuntimeSettings;
use crate::decode::Radiograph;
use crate::domain::Prediction;
use crate::domain::decision::{HeaderView, ViewThresholds};
use crate::domain::instance::Description;

use super::cascade::{Cascade, Image};
use super::runtime::{Runtime, RuntimeError};
use super::store::StoreError;
use super::thresholds::ThresholdError;
use super::{Bundle, BundleError};

/// How many images may wait for the model thread before senders wait too.
const QUEUE: usize = 64;

/// The model cannot be loaded, or cannot classify an image.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ModelError {
    /// The bundle does not fit.
    #[error(transparent)]
    Bundle(Arc<BundleError>),
    /// Which bundle is in use cannot be told.
    #[error(transparent)]
    Store(Arc<StoreError>),
    /// ONNX Runtime or the GPU cannot be had.
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
    /// The site's thresholds do not fit the bundle.
    #[error(transparent)]
    Thresholds(#[from] ThresholdError),
    /// A network ran somewhere else than it should.
    #[error("bundle {}: classifier {classifier} was to run on {provider}, but did not: {what}", bundle.display())]
    Elsewhere {
        /// The bundle.
        bundle: PathBuf,
        /// The classifier.
        classifier: String,
        /// Where it should run.
        provider: String,
        /// What ran where.
        what: String,
    },
    /// The image was not rendered as the classifier wants it: a fault of the program, not of the file.
    #[error("classifier {classifier}: the image does not fit: {what}")]
    Image {
        /// The classifier.
        classifier: String,
        /// What does not fit.
        what: String,
    },
    /// A logit or feature is NaN or infinite: no decision can rest on it.
    #[error("classifier {classifier}: the network's output is not finite")]
    NotFinite {
        /// The classifier.
        classifier: String,
    },
    /// ONNX Runtime failed.
    #[error("classifier {classifier}: ONNX Runtime: {what}")]
    Running {
        /// The classifier.
        classifier: String,
        /// What it says.
        what: String,
    },
    /// The GPU is lost to this process until it is started again.
    #[error("classifier {classifier}: the GPU context is lost, radsort must be restarted: {what}")]
    Sticky {
        /// The classifier.
        classifier: String,
        /// What ONNX Runtime says.
        what: String,
    },
    /// The model thread has ended.
    #[error("the model thread has ended; radsort must be restarted")]
    Stopped,
}

impl From<StoreError> for ModelError {
    fn from(error: StoreError) -> Self {
        Self::Store(Arc::new(error))
    }
}

impl From<BundleError> for ModelError {
    fn from(error: BundleError) -> Self {
        Self::Bundle(Arc::new(error))
    }
}

/// CUDA errors after which every later call in the process fails too (CUDA Runtime API, `cudaError`).
const STICKY: [u32; 10] = [700, 702, 710, 714, 715, 716, 717, 718, 719, 999];

impl ModelError {
    /// Whether one image is to blame; other images can still be classified.
    pub fn is_about_one_image(&self) -> bool {
        matches!(self, Self::Image { .. } | Self::NotFinite { .. })
    }

    /// What ONNX Runtime says when running or loading a network.
    pub(super) fn running(classifier: &str, what: &str) -> Self {
        let (classifier, what) = (classifier.to_owned(), what.to_owned());
        let number = |text: &str| {
            text.chars()
                .take_while(char::is_ascii_digit)
                .collect::<String>()
                .parse()
                .ok()
        };
        let codes = ["CUDA failure ", "CUDNN failure ", "CUBLAS failure "];
        let code = codes
            .iter()
            .find_map(|prefix| number(what.split_once(prefix)?.1));
        if code.is_some_and(|code: u32| STICKY.contains(&code)) {
            Self::Sticky { classifier, what }
        } else {
            Self::Running { classifier, what }
        }
    }
}

/// Something that classifies radiographs: the model thread, or a fake in tests.
pub trait Classify: Clone + Send + Sync + 'static {
    /// Classifies one image: what its header says, and one radiograph for each of
    /// [`Bundle::render_specs`], in that order.
    fn classify(
        &self,
        header: &Description,
        radiographs: Vec<Radiograph>,
    ) -> impl Future<Output = Result<Classified, ModelError>> + Send;
}

/// The model's answer for one image.
#[derive(Clone, Debug)]
pub struct Classified {
    /// What it said.
    pub prediction: Prediction,
    /// Its share of the time that the networks ran for its batch; waiting is not in it.
    pub took: Duration,
}

/// What runs, for `status` and `check`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelInfo {
    /// The bundle's name.
    pub name: String,
    /// The bundle's version.
    pub version: String,
    /// The bundle's folder.
    pub bundle: PathBuf,
    /// Where it runs, proven: `cpu` or `cuda:0`.
    pub provider: String,
    /// Why it does not run on the GPU that was asked for.
    pub gpu_refused: Option<String>,
    /// ONNX Runtime's library.
    pub library: PathBuf,
    /// ONNX Runtime's version, e.g. `1.32`.
    pub onnx_runtime: String,
    /// The classifiers' ids, in the bundle's order.
    pub classifiers: Vec<String>,
    /// The largest batch.
    pub batch: usize,
}

/// A handle to the model thread.
#[derive(Clone)]
pub struct Classifier(Arc<Handle>);

struct Handle {
    bundle: Bundle,
    info: ModelInfo,
    beats: Arc<AtomicU64>,
    /// `None` only while dropping.
    queue: Option<mpsc::Sender<Job>>,
    thread: Option<JoinHandle<()>>,
}

enum Job {
    Classify {
        header: HeaderView,
        radiographs: Vec<Radiograph>,
        reply: oneshot::Sender<Result<Classified, ModelError>>,
    },
    Ping {
        reply: oneshot::Sender<()>,
    },
}

impl Classifier {
    /// Loads a bundle, warms it up, proves it (reference images, provider), and starts the thread. Blocks meanwhile.
    ///
    /// `thresholds` are those in force: [`Thresholds::view`](super::Thresholds::view).
    pub fn start(
        bundle: Bundle,
        settings: &RuntimeSettings,
        thresholds: ViewThresholds,
    ) -> Result<Self, ModelError> {
        let (queue, jobs) = mpsc::channel(QUEUE);
        let (loaded, is_loaded) = std::sync::mpsc::sync_channel(1);
        let beats = Arc::new(AtomicU64::new(0));
        let (settings, counter, for_thread) = (settings.clone(), beats.clone(), bundle.clone());
        let work = move || match Cascade::load(for_thread, &settings, thresholds)
            .and_then(|c| Ok((info(&c, &settings)?, c)))
        {
            Ok((info, mut cascade)) => {
                if loaded.send(Ok(info)).is_ok() {
                    serve(&mut cascade, jobs, &counter, settings.batch_wait);
                }
            }
            Err(error) => {
                let _ = loaded.send(Err(error));
            }
        };
        let thread = std::thread::Builder::new()
            .name("model".into())
            .spawn(work)
            .map_err(|_| ModelError::Stopped)?;
        let info = is_loaded.recv().map_err(|_| ModelError::Stopped)??;
        Ok(Self(Arc::new(Handle {
            bundle,
            info,
            beats,
            queue: Some(queue),
            thread: Some(thread),
        })))
    }

    /// The bundle.
    pub fn bundle(&self) -> &Bundle {
        &self.0.bundle
    }

    /// What runs.
    pub fn info(&self) -> &ModelInfo {
        &self.0.info
    }

    /// How often the thread has taken something from its queue: a number that stands still while images wait is a
    /// thread that hangs.
    pub fn beats(&self) -> u64 {
        self.0.beats.load(Ordering::Relaxed)
    }

    /// Waits until the thread has answered: for the watchdog.
    pub async fn ping(&self) -> Result<(), ModelError> {
        let (reply, answer) = oneshot::channel();
        self.send(Job::Ping { reply }).await?;
        answer.await.map_err(|_| ModelError::Stopped)
    }

    async fn send(&self, job: Job) -> Result<(), ModelError> {
        let queue = self.0.queue.as_ref().ok_or(ModelError::Stopped)?;
        queue.send(job).await.map_err(|_| ModelError::Stopped)
    }
}

impl Classify for Classifier {
    async fn classify(
        &self,
        header: &Description,
        radiographs: Vec<Radiograph>,
    ) -> Result<Classified, ModelError> {
        let (reply, answer) = oneshot::channel();
        let header = HeaderView::of(header);
        self.send(Job::Classify {
            header,
            radiographs,
            reply,
        })
        .await?;
        answer.await.map_err(|_| ModelError::Stopped)?
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        // Closing the queue ends the thread; whoever waits for a reply holds a handle, so nobody does.
        self.queue = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn info(cascade: &Cascade, settings: &RuntimeSettings) -> Result<ModelInfo, ModelError> {
    let runtime = Runtime::load(settings)?;
    let manifest = cascade.bundle().manifest();
    Ok(ModelInfo {
        name: manifest.name.clone(),
        version: manifest.version.clone(),
        bundle: cascade.bundle().dir().to_owned(),
        provider: cascade.provider().to_string(),
        gpu_refused: cascade.gpu_refused().map(str::to_owned),
        library: runtime.library().to_owned(),
        onnx_runtime: format!("1.{}", runtime.minor_version()),
        classifiers: manifest
            .classifiers
            .iter()
            .map(|classifier| classifier.id.clone())
            .collect(),
        batch: cascade.batch(),
    })
}

/// The thread: one batch after the other until the last handle is gone.
fn serve(cascade: &mut Cascade, mut jobs: mpsc::Receiver<Job>, beats: &AtomicU64, wait: Duration) {
    let clock = match tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
    {
        Ok(clock) => clock,
        Err(error) => return tracing::error!(%error, "the model thread cannot start"),
    };
    while let Some(batch) = clock.block_on(next_batch(&mut jobs, cascade.batch(), wait)) {
        beats.fetch_add(1, Ordering::Relaxed);
        answer(cascade, batch);
    }
}

/// What waits, at most `largest` images, at most `wait` after the first; `None` when no more can come.
async fn next_batch(
    jobs: &mut mpsc::Receiver<Job>,
    largest: usize,
    wait: Duration,
) -> Option<Vec<Job>> {
    let mut batch = vec![jobs.recv().await?];
    let deadline = tokio::time::Instant::now() + wait;
    while batch.len() < largest {
        match tokio::time::timeout_at(deadline, jobs.recv()).await {
            Ok(Some(job)) => batch.push(job),
            Ok(None) | Err(_) => break,
        }
    }
    Some(batch)
}

fn answer(cascade: &mut Cascade, batch: Vec<Job>) {
    let mut waiting = Vec::with_capacity(batch.len());
    for job in batch {
        match job {
            Job::Ping { reply } => {
                let _ = reply.send(());
            }
            // Nobody waits any more: a shutdown, or a share that went away.
            Job::Classify { reply, .. } if reply.is_closed() => {}
            Job::Classify {
                header,
                radiographs,
                reply,
            } => waiting.push((header, radiographs, reply)),
        }
    }
    let images: Vec<Image<'_>> = waiting
        .iter()
        .map(|(header, radiographs, _)| Image {
            header: *header,
            radiographs,
        })
        .collect();
    let started = Instant::now();
    let predictions = cascade.classify(&images);
    let took = started.elapsed() / images.len().max(1) as u32;
    for ((_, _, reply), prediction) in waiting.into_iter().zip(predictions) {
        let _ = reply.send(prediction.map(|prediction| Classified { prediction, took }));
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_lost_gpu_context_is_told_from_an_ordinary_failure() {
        let sticky = "CUDA failure 719: unspecified launch failure ; GPU=0";
        assert!(matches!(
            ModelError::running("view", sticky),
            ModelError::Sticky { .. }
        ));
        for ordinary in [
            "CUDA failure 2: out of memory ; GPU=0",
            "Non-zero status code",
            "CUDA failure x",
        ] {
            assert!(
                matches!(
                    ModelError::running("view", ordinary),
                    ModelError::Running { .. }
                ),
                "{ordinary}"
            );
        }
    }

    #[test]
    fn a_batch_takes_what_waits_but_no_more_than_fits() {
        let clock = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .unwrap();
        clock.block_on(async {
            let (queue, mut jobs) = mpsc::channel(8);
            for _ in 0..5 {
                queue
                    .send(Job::Ping {
                        reply: oneshot::channel().0,
                    })
                    .await
                    .unwrap();
            }
            let wait = Duration::from_mins(10);
            assert_eq!(next_batch(&mut jobs, 4, wait).await.unwrap().len(), 4);
            drop(queue);
            assert_eq!(
                next_batch(&mut jobs, 4, wait).await.unwrap().len(),
                1,
                "the rest, without waiting for the deadline"
            );
            assert!(next_batch(&mut jobs, 4, wait).await.is_none());
        });
    }
}
