//! The writers: files that come in all the ways in which files come, and what has been put in by them.

use std::fs;
use std::io::{Seek as _, Write as _};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use rand::Rng as _;
use rand_chacha::ChaCha12Rng;

use crate::common::digest;
use crate::conserved::Digests;
use crate::lane::Lane;
use crate::tiny;

/// One file that is going to be written.
pub type Writing = Box<dyn FnOnce() + Send>;

const WAYS: [&str; 12] = [
    "copy",
    "slow copy",
    "rename in",
    "hard link",
    "rewrite",
    "deep directory",
    "copy",
    "duplicate",
    "conflict",
    "junk",
    "unreadable",
    "two names of one file",
];

/// What has been put in: how often each digest, and how many of the files are DICOM.
#[derive(Default)]
pub struct Given {
    pub digests: Digests,
    pub instances: Digests,
}

impl Given {
    fn add(&mut self, bytes: &[u8], is_instance: bool) {
        *self.digests.entry(digest(bytes)).or_default() += 1;
        if is_instance {
            *self.instances.entry(digest(bytes)).or_default() += 1;
        }
    }

    /// How many files.
    pub fn files(&self) -> usize {
        self.digests.values().sum()
    }

    /// What has to lie in the drop directory in the end.
    pub fn in_drop(&self, lane: Lane) -> Digests {
        let stays = |digest: &String| !lane.moves() || !self.instances.contains_key(digest);
        let all = self.digests.clone().into_iter();
        all.filter(|(digest, _)| stays(digest)).collect()
    }

    /// What has to lie in the library in the end. Where files are copied, it is each once, as a duplicate is only
    /// recorded; but a conflict is put before people as often as it comes.
    pub fn in_library(&self, lane: Lane, conflicts: &Digests) -> Digests {
        let copies = |(digest, given): (&String, &usize)| {
            let conflicts = conflicts.get(digest).copied().unwrap_or(0);
            let copies = conflicts + usize::from(*given > conflicts);
            (digest.clone(), copies)
        };
        match lane {
            Lane::Rename | Lane::AcrossFilesystems => self.instances.clone(),
            Lane::Copy => self.instances.iter().map(copies).collect(),
            Lane::Observe => Digests::new(),
        }
    }
}

/// Where files are put and what about.
pub struct Writers {
    pub given: Given,
    /// How many files there have been.
    pub count: usize,
    lane: Lane,
    drop: PathBuf,
    /// A place of the writers' own on the filesystem of the drop directory.
    aside: PathBuf,
}

impl Writers {
    pub fn new(lane: Lane, drop: &Path, aside: PathBuf) -> Self {
        Self {
            given: Given::default(),
            count: 0,
            lane,
            drop: drop.to_owned(),
            aside,
        }
    }

    /// Some files by one writer, each finished before the next, and what they are.
    pub fn next(&mut self, rng: &mut ChaCha12Rng) -> Vec<(&'static str, Writing)> {
        (0..rng.random_range(2..6))
            .map(|_| self.file(rng))
            .collect()
    }

    /// One file in one of the ways in which files come; it counts from now on.
    fn file(&mut self, rng: &mut ChaCha12Rng) -> (&'static str, Writing) {
        self.count += 1;
        let n = self.count;
        let (drop, aside) = (self.drop.clone(), self.aside.clone());
        let name = format!("{n}.dcm");
        // Under copy and observe two names of one inode are one file.
        let ways = if self.lane.moves() { 12 } else { 11 };
        let way = rng.random_range(0..ways);
        // A repeat is of the same bytes; a conflict has another's UID.
        let earlier = rng.random_range(1..=n);
        let bytes = match way {
            7 => tiny::image(earlier),
            8 => tiny::image_of(earlier, earlier + 1, |_| ()),
            9 => format!("notes {n}").into_bytes(),
            10 => tiny::unreadable(n),
            _ => tiny::image(n),
        };
        self.given.add(&bytes, way != 9);
        if way == 11 {
            self.given.add(&bytes, true);
        }
        let pause = Duration::from_millis(rng.random_range(10..450));
        let writing = Box::new(move || match way {
            1 => {
                let mut file = fs::File::create(drop.join(name)).unwrap();
                for piece in bytes.chunks(bytes.len() / 3 + 1) {
                    file.write_all(piece).unwrap();
                    file.flush().unwrap();
                    thread::sleep(pause);
                }
            }
            2 => {
                fs::write(aside.join(&name), &bytes).unwrap();
                fs::rename(aside.join(&name), drop.join(&name)).unwrap();
            }
            3 => {
                fs::write(aside.join(&name), &bytes).unwrap();
                fs::hard_link(aside.join(&name), drop.join(&name)).unwrap();
            }
            4 => {
                let mut file = fs::File::create(drop.join(name)).unwrap();
                file.write_all(&bytes[..bytes.len() / 2]).unwrap();
                thread::sleep(pause);
                file.set_len(0).unwrap();
                file.rewind().unwrap();
                file.write_all(&bytes).unwrap();
            }
            5 => {
                let deep = drop.join(format!("{}/{}/x", n % 3, n % 7));
                fs::create_dir_all(&deep).unwrap();
                fs::write(deep.join(name), &bytes).unwrap();
            }
            9 => fs::write(drop.join(format!("{n}.txt")), &bytes).unwrap(),
            11 => {
                // Both lie in the drop directory, and the file has no other name.
                fs::write(aside.join(&name), &bytes).unwrap();
                fs::hard_link(aside.join(&name), drop.join(&name)).unwrap();
                fs::rename(aside.join(&name), drop.join(format!("{n}-again.dcm"))).unwrap();
            }
            _ => fs::write(drop.join(name), &bytes).unwrap(),
        });
        (WAYS[way], writing)
    }
}
