//! Phantoms as training pictures: drawn, written as DICOM files and decoded by the code that `run` uses, so that nothing
//! between file and network differs from what a site's own files go through.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;

use super::dataset::pictures;
use crate::decode::{Decoded, Fault, RenderSpec, decode_bytes};
use crate::phantom::{CATEGORIES, PhantomError, Plan, Syntax, Truth};

/// A phantom could not become a picture.
#[derive(Debug, thiserror::Error)]
pub enum PhantomsError {
    /// It could not be written.
    #[error(transparent)]
    Write(#[from] PhantomError),
    /// It could not be read back.
    #[error("phantom {}: {source}", file.display())]
    Read {
        /// The scratch file.
        file: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// It could not be decoded.
    #[error("phantom {sop_instance_uid}: {fault}")]
    Decode {
        /// Which.
        sop_instance_uid: String,
        /// Why not.
        fault: Fault,
    },
}

/// At which size phantoms are drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drawn {
    /// The detector's own, 2000–3000 × 3000–4300.
    Full,
    /// Within so many columns and rows: much faster, the same picture at a small network's resolution.
    Within(u32, u32),
}

/// A phantom that is to become pictures.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// What it shows.
    pub plan: Plan,
    /// The patient, by a name that is unique over all sets in use.
    pub patient: String,
    /// The size that it is drawn at.
    pub drawn: Drawn,
    /// The transfer syntax that it is written in.
    pub syntax: Syntax,
    /// Not one of the hard ones.
    pub normal: bool,
}

/// One phantom, rendered.
#[derive(Clone, Debug)]
pub struct Labelled {
    /// What it shows.
    pub truth: Truth,
    /// The patient, by a name that is unique over all sets in use.
    pub patient: String,
    /// Not one of the hard ones.
    pub normal: bool,
    /// One picture for each specification, row by row; 65535 is white.
    pub pictures: Vec<Vec<u16>>,
}

impl Labelled {
    /// The place of its category in [`CATEGORIES`]; one more for neither view.
    pub fn class_of_all(&self) -> usize {
        CATEGORIES
            .iter()
            .position(|(id, _)| Some(*id) == self.truth.category)
            .unwrap_or(CATEGORIES.len())
    }
}

/// Draws, writes and decodes each phantom, in order, on `threads` threads, through files in the folder `scratch`; `keep`
/// makes of each what is wanted, `done` hears how many are finished.
pub fn decode_each<T: Send>(
    wanted: &[Wanted],
    specs: &[RenderSpec],
    threads: usize,
    scratch: &Path,
    keep: impl Fn(&Wanted, Decoded) -> T + Sync,
    mut done: impl FnMut(usize),
) -> Result<Vec<T>, PhantomsError> {
    let next = AtomicUsize::new(0);
    let mut kept: Vec<Option<T>> = wanted.iter().map(|_| None).collect();
    std::thread::scope(|scope| {
        let (sender, receiver) = channel();
        for _ in 0..threads.max(1) {
            let (sender, next, keep) = (sender.clone(), &next, &keep);
            scope.spawn(move || {
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    let Some(one) = wanted.get(index) else { return };
                    let decoded = decode_one(one, specs, scratch.join(format!("{index}.dcm")));
                    if sender
                        .send((index, decoded.map(|decoded| keep(one, decoded))))
                        .is_err()
                    {
                        return; // another one failed
                    }
                }
            });
        }
        drop(sender);
        for (count, (index, result)) in receiver.into_iter().enumerate() {
            kept[index] = Some(result?);
            done(count + 1);
        }
        Ok(kept.into_iter().flatten().collect())
    })
}

/// Training pictures: [`decode_each`], kept at 16 bits.
pub fn render(
    wanted: &[Wanted],
    specs: &[RenderSpec],
    threads: usize,
    scratch: &Path,
    done: impl FnMut(usize),
) -> Result<Vec<Labelled>, PhantomsError> {
    let keep = |wanted: &Wanted, decoded: Decoded| Labelled {
        truth: wanted.plan.truth.clone(),
        patient: wanted.patient.clone(),
        normal: wanted.normal,
        pictures: pictures(&decoded),
    };
    decode_each(wanted, specs, threads, scratch, keep, done)
}

fn decode_one(
    wanted: &Wanted,
    specs: &[RenderSpec],
    file: PathBuf,
) -> Result<Decoded, PhantomsError> {
    let Wanted {
        plan,
        drawn,
        syntax,
        ..
    } = wanted;
    let phantom = match drawn {
        Drawn::Full => plan.draw(),
        Drawn::Within(columns, rows) => plan.draw_within(*columns, *rows),
    };
    phantom.write(&file, *syntax)?;
    let bytes = std::fs::read(&file).and_then(|bytes| std::fs::remove_file(&file).map(|()| bytes));
    let bytes = bytes.map_err(|source| PhantomsError::Read { file, source })?;
    decode_bytes(&bytes, specs).map_err(|fault| PhantomsError::Decode {
        sop_instance_uid: plan.sop_instance_uid.clone(),
        fault,
    })
}
