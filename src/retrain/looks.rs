//! What the images look like that this site's models were fitted on, kept in the state directory for good: a picture that comes
//! back under another name must neither judge nor certify what has learned from it. Of each image a hash and a thumbnail of 32 × 32
//! grey values are kept, about a kilobyte, readable by the owner only; a file for each way of rendering.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use super::alike::{self, Look};
use super::dataset::Dataset;
use crate::decode::{PREPROCESSING_VERSION, RenderSpec};

/// Why an image is left out that is like one of these.
pub const LIKE_ONE_LEARNED_FROM: &str =
    "a picture like one that a model of this site was trained on";

/// The bytes of a digest.
const DIGEST: usize = 32;

/// The looks of one way of rendering.
pub struct Looks {
    file: PathBuf,
    spec: RenderSpec,
    /// By the digest of the image's file.
    known: BTreeMap<[u8; DIGEST], Look>,
}

impl Looks {
    /// Where they lie.
    pub fn folder(state: &Path) -> PathBuf {
        state.join("retrain/looks")
    }

    /// Those of a state directory, as a bundle that renders in these ways sees them; none yet where there is no file.
    pub fn read(state: &Path, ways: &[RenderSpec]) -> io::Result<Option<Self>> {
        let Some(spec) = alike::smallest(ways) else {
            return Ok(None);
        };
        let way = serde_json::to_vec(&(PREPROCESSING_VERSION, spec))?;
        let name = format!("{}.looks", &blake3::hash(&way).to_hex()[..16]);
        let file = Self::folder(state).join(name);
        let bytes = match fs::read(&file) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            bytes => bytes?,
        };
        let records = bytes.chunks_exact(DIGEST + Look::BYTES);
        if !records.remainder().is_empty() {
            let what = format!(
                "{}: it is damaged: what models were trained on is not known any more; restore it from a backup, or remove it \
                 and every model that was trained here",
                file.display()
            );
            return Err(io::Error::new(io::ErrorKind::InvalidData, what));
        }
        let known = records.filter_map(|record| {
            let (digest, look) = record.split_first_chunk()?;
            Some((*digest, Look::from_bytes(look)?))
        });
        Ok(Some(Self {
            known: known.collect(),
            spec: spec.clone(),
            file,
        }))
    }

    /// Keeps what these examples look like, at once or not at all.
    pub fn learn(&mut self, dataset: &Dataset, examples: &[usize]) -> io::Result<()> {
        let before = self.known.len();
        for index in examples {
            let example = &dataset.examples[*index];
            if let (Some(digest), Some(picture)) =
                (bytes_of(&example.digest.0), self.picture(dataset, *index))
            {
                let look = || Look::of(picture, &self.spec);
                self.known.entry(digest).or_insert_with(look);
            }
        }
        if self.known.len() == before {
            return Ok(());
        }
        self.write()
    }

    /// Leaves those of the examples out, and counts them, that look like an image that was learned from.
    pub fn leave_out(&self, dataset: &mut Dataset, examples: &[usize]) {
        for index in self.copies(dataset, examples).into_iter().rev() {
            let copy = dataset.examples.remove(index);
            dataset.left_out.file(LIKE_ONE_LEARNED_FROM, &copy.path);
        }
    }

    /// Those of the examples that look like an image that was learned from, or are one: sides may be lost, this is not.
    fn copies(&self, dataset: &Dataset, examples: &[usize]) -> Vec<usize> {
        let is_copy = |index: &usize| {
            let picture = self.picture(dataset, *index);
            picture.is_some_and(|it| alike::is_like_any(it, &self.spec, self.known.values()))
        };
        examples.iter().copied().filter(is_copy).collect()
    }

    fn picture<'a>(&self, dataset: &'a Dataset, index: usize) -> Option<&'a [u16]> {
        let place = dataset.place(&self.spec)?;
        let picture = dataset.examples[index].pictures.get(place)?;
        Some(picture)
    }

    fn write(&self) -> io::Result<()> {
        if let Some(folder) = self.file.parent() {
            fs::create_dir_all(folder)?;
        }
        let mut bytes = Vec::with_capacity(self.known.len() * (DIGEST + Look::BYTES));
        for (digest, look) in &self.known {
            bytes.extend(digest);
            look.append_to(&mut bytes);
        }
        let part = self.file.with_extension("part");
        let mut options = File::options();
        let options = options.write(true).create(true).truncate(true);
        let mut file = options.mode(0o600).open(&part)?;
        file.write_all(&bytes)?;
        file.sync_all()?;
        fs::rename(&part, &self.file)
    }
}

/// The bytes of a digest in hexadecimal digits.
fn bytes_of(digest: &str) -> Option<[u8; DIGEST]> {
    blake3::Hash::from_hex(digest)
        .ok()
        .map(|hash| *hash.as_bytes())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::domain::decision::HeaderView;
    use crate::model::Bundle;
    use crate::retrain::dataset::Example;
    use crate::retrain::judging::outcome::{Circumstances, LabelOrigin};

    /// The n-th file with the k-th picture.
    fn example(n: usize, k: usize, spec: &RenderSpec) -> Example {
        let picture = (0..(spec.height * spec.width) as usize).map(|pixel| {
            let (row, column) = (pixel / spec.width as usize, pixel % spec.width as usize);
            let angle = ((k + 2) * row) as f32 / 40.0 + ((k % 3 + 1) * column) as f32 / 25.0;
            (30_000.0 + 25_000.0 * angle.sin()) as u16
        });
        Example {
            path: format!("{n}.dcm").into(),
            digest: blake3::hash(&n.to_le_bytes()).into(),
            category: Some(0),
            origin: LabelOrigin::Csv,
            patient: format!("P{n}"),
            study: None,
            nameless: false,
            by_header: None,
            reduced: false,
            header: HeaderView::Absent,
            circumstances: Circumstances::default(),
            pictures: vec![picture.collect()],
        }
    }

    #[test]
    fn a_picture_that_was_learned_from_is_recognised_under_another_name_by_the_next_run() {
        let bundle = Bundle::open_or_shipped(None).unwrap();
        let spec = alike::smallest(bundle.render_specs()).unwrap().clone();
        let specs = std::slice::from_ref(&spec);
        let state = tempfile::tempdir().unwrap();
        let dataset = |of: &[(usize, usize)]| Dataset {
            examples: of.iter().map(|(n, k)| example(*n, *k, &spec)).collect(),
            specs: specs.to_vec(),
            ..Dataset::default()
        };
        let mut looks = Looks::read(state.path(), specs).unwrap().unwrap();
        looks.learn(&dataset(&[(0, 0), (1, 1)]), &[0, 1]).unwrap();

        let looks = Looks::read(state.path(), specs).unwrap().unwrap();
        // Another file with the first picture, another one, and the first file itself.
        let judged = dataset(&[(10, 0), (11, 7), (0, 0)]);
        assert_eq!(looks.copies(&judged, &[0, 1, 2]), [0, 2]);
        let mode = fs::metadata(&looks.file).unwrap();
        let mode = std::os::unix::fs::PermissionsExt::mode(&mode.permissions());
        assert_eq!(mode & 0o777, 0o600);

        fs::write(&looks.file, "damaged").unwrap();
        let why = Looks::read(state.path(), specs).err().unwrap().to_string();
        assert!(why.contains(".looks") && why.contains("backup"), "{why}");
    }
}
