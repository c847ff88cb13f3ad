//! Which of the databases in the index's directory is the one: `current` names it.
//!
//! A rebuild goes into a new generation while the old one is still read; the file `current` is then replaced at
//! once. (sled writes snapshots and blobs by path, so an open database must never be renamed.)

use std::fs::File;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc::sync_channel;

use super::fold::Changes;
use super::store::{OpenFault, Trees};
use super::{IndexError, REBUILD_BATCH, Result};
use crate::filing::record::{Position, Record};

const CURRENT: &str = "current";

/// What reading a ledger gives: where the record ends, when it was written, microseconds since the Unix epoch, and what it is.
pub(super) type Line<E> = std::result::Result<(Position, i64, Record), E>;

/// The generation that counts; the inner error says why there is none that could be believed.
pub(super) fn current(dir: &Path) -> Result<std::result::Result<PathBuf, String>> {
    let path = dir.join(CURRENT);
    match std::fs::read_to_string(&path) {
        Ok(name) if number(&name).is_some_and(|_| dir.join(&name).is_dir()) => {
            Ok(Ok(dir.join(name)))
        }
        Ok(_) => Ok(Err(format!("{} names no database", path.display()))),
        Err(err)
            if matches!(
                err.kind(),
                ErrorKind::InvalidData | ErrorKind::IsADirectory | ErrorKind::NotADirectory
            ) =>
        {
            Ok(Err(format!("{} is damaged", path.display())))
        }
        Err(err) if err.kind() == ErrorKind::NotFound => {
            // Nothing there yet; whatever lies about belongs to a rebuild that did not finish.
            let first = next(dir)?;
            super::create(&first)?;
            make_current(dir, &first)?;
            Ok(Ok(first))
        }
        Err(err) => Err(IndexError::io(&path, err)),
    }
}

/// A generation that does not exist yet.
pub(super) fn next(dir: &Path) -> Result<PathBuf> {
    let highest = all(dir)?
        .into_iter()
        .map(|(number, _)| number)
        .max()
        .unwrap_or(0);
    Ok(dir.join(format!("db-{}", highest + 1)))
}

/// Makes a generation the one that counts, durably.
pub(super) fn make_current(dir: &Path, generation: &Path) -> Result<()> {
    let (path, temporary) = (dir.join(CURRENT), dir.join("current.new"));
    let name = generation.file_name().unwrap_or_default();
    let write = || -> std::io::Result<()> {
        let mut file = File::create(&temporary)?;
        file.write_all(name.as_encoded_bytes())?;
        file.sync_all()?;
        std::fs::rename(&temporary, &path)?;
        File::open(dir)?.sync_all()
    };
    write().map_err(|err| IndexError::io(&path, err))
}

/// Removes every generation but one.
pub(super) fn remove_others(dir: &Path, keep: &Path) -> Result<()> {
    for (_, path) in all(dir)? {
        if path != keep {
            std::fs::remove_dir_all(&path).map_err(|err| IndexError::io(&path, err))?;
        }
    }
    Ok(())
}

/// Folds the whole ledger into a new generation and waits until it is on the disk.
pub(super) fn build<E>(
    dir: &Path,
    ledger: impl IntoIterator<Item = Line<E>, IntoIter: Send>,
    mut progress: impl FnMut(u64),
) -> Result<Trees>
where
    E: Into<Box<dyn std::error::Error + Send + Sync>> + Send,
{
    super::create(dir)?;
    let trees = Trees::open(dir).map_err(|fault| match fault {
        OpenFault::Locked => IndexError::Locked(dir.to_owned()),
        OpenFault::Io(source) => IndexError::io(dir, source),
        OpenFault::Unusable(why) => IndexError::io(dir, std::io::Error::other(why)),
    })?;
    fold_all(&trees, ledger, &mut progress)?;
    super::begin_session(&trees, super::boot_id()?)?;
    trees.sync(dir)?;
    Ok(trees)
}

/// The ledger is read on a thread of its own, one or two groups ahead.
fn fold_all<E>(
    trees: &Trees,
    ledger: impl IntoIterator<Item = Line<E>, IntoIter: Send>,
    progress: &mut impl FnMut(u64),
) -> Result<()>
where
    E: Into<Box<dyn std::error::Error + Send + Sync>> + Send,
{
    let mut ledger = ledger.into_iter();
    let mut folded = 0;
    std::thread::scope(|scope| {
        let (sender, groups) = sync_channel(2);
        scope.spawn(move || {
            loop {
                let group: Vec<Line<E>> = ledger.by_ref().take(REBUILD_BATCH).collect();
                // Whoever waits for no more has failed, and says so.
                if group.is_empty() || sender.send(group).is_err() {
                    return;
                }
            }
        });
        for group in groups {
            let mut changes = Changes::new(trees);
            folded += group.len() as u64;
            for line in group {
                let (position, time_us, record) = line.map_err(IndexError::ledger)?;
                changes.fold(time_us, record)?;
                changes.reached(&position)?;
            }
            changes.seal()?;
            trees.write(&changes)?;
            progress(folded);
        }
        Ok(())
    })
}

fn all(dir: &Path) -> Result<Vec<(u64, PathBuf)>> {
    let mut found = Vec::new();
    for item in std::fs::read_dir(dir).map_err(|err| IndexError::io(dir, err))? {
        let path = item.map_err(|err| IndexError::io(dir, err))?.path();
        if let Some(number) = path.file_name().and_then(|name| number(name.to_str()?)) {
            found.push((number, path));
        }
    }
    Ok(found)
}

fn number(name: &str) -> Option<u64> {
    name.strip_prefix("db-")?.parse().ok()
}
