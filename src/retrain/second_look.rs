//! What `run` does with a decision that hangs by a thread: the file is decoded again, from every pixel.

use std::cell::OnceCell;

use super::dataset::{self, Example};
use crate::config::settings::DecoderSettings;
use crate::decode::pool::Pool;
use crate::decode::{Radiograph, RenderSpec};

/// Decoders that are started when the first file is looked at again.
pub(super) struct SecondLook<'a> {
    decoders: &'a DecoderSettings,
    pool: OnceCell<Option<Pool>>,
}

impl<'a> SecondLook<'a> {
    pub(super) fn new(decoders: &'a DecoderSettings) -> Self {
        Self {
            decoders,
            pool: OnceCell::new(),
        }
    }

    /// The image from every pixel of its file; `None` where that is not at its place any more.
    pub(super) fn at(&self, example: &Example, specs: &[RenderSpec]) -> Option<Vec<Radiograph>> {
        let pool = self.pool.get_or_init(|| Pool::start(self.decoders).ok());
        let (file, digest) = dataset::read(&example.path).ok()?;
        if digest != example.digest {
            return None;
        }
        let size = file.metadata().ok()?.len();
        let decoded = pool.as_ref()?.decode_in_full(&file, size, specs).ok()?;
        (decoded.radiographs.len() == specs.len()).then_some(decoded.radiographs)
    }
}
