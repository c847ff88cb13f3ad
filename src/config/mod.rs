//! The configuration: what a site writes ([`fragment`]), checked once ([`read`]), becomes what the program uses
//! ([`settings`]).
//!
//! One TOML file plus `conf.d/*.toml` beside it, in the order of their names: later values win, `[[watch]]` sections are
//! added. All problems are reported together, each with file, line and column.

pub mod fragment;
mod library;
mod monitoring;
mod overlap;
mod read;
pub mod settings;
mod units;
mod watches;

use std::io;
use std::path::{Path, PathBuf};

pub use fragment::{Place, Problem};
pub use read::KEYS;
pub use settings::Settings;

use fragment::Problems;

/// A configuration that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A file could not be read.
    #[error("cannot read the configuration {}: {source}", path.display())]
    Read {
        /// The file or directory.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Files could be read, but not used.
    #[error("the configuration cannot be used:\n{}", lines(.0))]
    Invalid(Vec<Problem>),
}

fn lines(problems: &[Problem]) -> String {
    problems
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join("\n")
}

/// Reads and checks the configuration.
///
/// ```no_run
/// let settings = radsort::config::load("/etc/radsort/radsort.toml".as_ref())?;
/// println!("{} drop directories", settings.watches.len());
/// # Ok::<(), radsort::config::ConfigError>(())
/// ```
pub fn load(path: &Path) -> Result<Settings, ConfigError> {
    parse(path, &texts(path)?)
}

/// Where the running service's control socket is, also by a configuration that cannot be used (any more): the service
/// itself goes on with the last good one, and can be asked why.
pub fn control_socket(path: &Path) -> Result<PathBuf, ConfigError> {
    let texts = match texts(path) {
        Ok(texts) => texts,
        // The service can still be asked, and is the one to say on `status` why a reload failed.
        Err(error) => {
            let folder = read::runtime_directory(path).ok_or(error)?;
            return Ok(folder.join("control.sock"));
        }
    };
    let tree = tree(path, &texts, &Problems::default());
    match read::socket(path, tree) {
        Some(socket) => Ok(socket),
        None => parse(path, &texts).map(|settings| settings.control.socket),
    }
}

/// The file and its drop-ins.
fn texts(path: &Path) -> Result<Vec<(PathBuf, String)>, ConfigError> {
    let mut files = vec![path.to_owned()];
    files.extend(drop_ins(path)?);
    let mut texts = Vec::new();
    for file in files {
        match text(&file) {
            Ok(text) => texts.push((file, text)),
            Err(source) => return Err(ConfigError::Read { path: file, source }),
        }
    }
    Ok(texts)
}

/// One file's text; the error says what a person can do.
fn text(file: &Path) -> io::Result<String> {
    let bytes = std::fs::read(file).map_err(|error| match error.kind() {
        io::ErrorKind::PermissionDenied => io::Error::new(
            error.kind(),
            format!(
                "{error}; the service's user must be able to read it (chmod o+r, and o+x above it)"
            ),
        ),
        _ => error,
    })?;
    String::from_utf8(bytes).map_err(|error| {
        let good = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = good.split(|byte| *byte == b'\n').count();
        let message = format!("line {line} is not UTF-8: save the file in that encoding");
        io::Error::new(io::ErrorKind::InvalidData, message)
    })
}

fn tree(path: &Path, texts: &[(PathBuf, String)], problems: &Problems) -> fragment::Node {
    let mut tree = fragment::parse(path, "", problems);
    for (file, text) in texts {
        fragment::merge(&mut tree, fragment::parse(file, text, problems));
    }
    tree
}

/// The same from texts: the main file first, then its drop-ins.
pub fn parse(path: &Path, texts: &[(PathBuf, String)]) -> Result<Settings, ConfigError> {
    let problems = Problems::default();
    let settings = read::settings(path, tree(path, texts, &problems), &problems);
    match (settings, problems.into_sorted()) {
        (Some(settings), problems) if problems.is_empty() => Ok(settings),
        (_, problems) => Err(ConfigError::Invalid(problems)),
    }
}

/// `conf.d/*.toml` beside the file, by name; hidden files are not read.
fn drop_ins(path: &Path) -> Result<Vec<PathBuf>, ConfigError> {
    let folder = path.parent().unwrap_or(Path::new("")).join("conf.d");
    let failed = |source| ConfigError::Read {
        path: folder.clone(),
        source,
    };
    let entries = match std::fs::read_dir(&folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed(error)),
    };
    let mut files = Vec::new();
    for entry in entries {
        let file = entry.map_err(failed)?.path();
        let hidden = file
            .file_name()
            .is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        if !hidden
            && file
                .extension()
                .is_some_and(|extension| extension == "toml")
        {
            files.push(file);
        }
    }
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests;
