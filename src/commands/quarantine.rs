//! `radsort quarantine`: what could not be read and why, and giving it back.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;

use super::access::{self, Access, ConfigArg};
use super::query::{self, write_json};
use super::row::Row;
use crate::config::Settings;
use crate::control::protocol::{Released, Reply, Request};
use crate::domain::placement::RootId;
use crate::filing::destinations::Destinations;
use crate::filing::filer::Filer;
use crate::filing::quarantine::{self, Item};
use crate::filing::record::{Fate, RecordId};
use crate::filing::replay;
use crate::filing::timing::Timing;
use crate::index::Index;
use crate::index::entry::Entry;
use crate::index::query::Query;
use crate::root::Root;
use crate::state::Roots;

/// List what is in the quarantine and why, or give files back to the drop directories that they came from.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  radsort quarantine list
  radsort quarantine release 1.2.826.0.1.3680043.10.1
  radsort quarantine release /srv/library/_quarantine/*.dcm

A file that was given back is not taken again until it changes: repair it, or drop it anew under another name.

Exit status: 0 when everything was listed or released, 1 otherwise.")]
pub struct QuarantineArgs {
    /// What to do.
    #[command(subcommand)]
    pub verb: Verb,
}

/// What to do with the quarantine.
#[derive(Debug, clap::Subcommand)]
pub enum Verb {
    /// List what is in the quarantine, the newest first, each with its reason.
    #[command(after_help = "Examples:
  radsort quarantine list
  radsort quarantine list --json")]
    List {
        /// One JSON object a line.
        #[arg(long)]
        json: bool,
        /// Which configuration.
        #[command(flatten)]
        config: ConfigArg,
    },
    /// Give files back to where they came from.
    #[command(after_help = "Examples:
  radsort quarantine release 1.2.826.0.1.3680043.10.1
  radsort quarantine release /srv/library/_quarantine/*.dcm")]
    Release {
        /// SOP Instance UIDs, paths in the quarantine, or record ids.
        #[arg(value_name = "UID-or-PATH", required = true)]
        what: Vec<OsString>,
        /// One JSON object a line.
        #[arg(long)]
        json: bool,
        /// Which configuration.
        #[command(flatten)]
        config: ConfigArg,
    },
}

/// Runs the command.
pub fn run(args: &QuarantineArgs) -> anyhow::Result<ExitCode> {
    match &args.verb {
        Verb::List { json, config } => list(&config.load()?, *json),
        Verb::Release { what, json, config } => {
            let what = what
                .iter()
                .map(|what| access::designation(what))
                .collect::<anyhow::Result<Vec<_>>>()?;
            release(&config.load()?, what, *json)
        }
    }
}

/// The query whose answer is the quarantine, but for what is only recorded: see [`lies_there`].
pub fn listing() -> Query {
    Query {
        fate: Some(Fate::Quarantined),
        ..Query::default()
    }
}

/// Whether an entry of [`listing`] lies in the quarantine (and would not only have gone there).
pub fn lies_there(entry: &Entry) -> bool {
    entry.placed && entry.fate == Fate::Quarantined
}

fn list(settings: &Settings, json: bool) -> anyhow::Result<ExitCode> {
    let roots = access::roots(settings);
    let mut entries = Vec::new();
    query::each(settings, &listing(), |entry| {
        entries.extend(Some(entry).filter(lies_there));
        Ok(())
    })?;
    if json {
        let mut out = std::io::stdout().lock();
        let printed = entries
            .iter()
            .try_for_each(|entry| write_json(&mut out, &Row::new(entry, &roots)));
        query::ignore_closed_pipe(printed)?;
    } else if entries.is_empty() {
        println!("the quarantine is empty");
    } else {
        println!("{}", query::table(&entries, &roots, access::table_width()));
        for entry in &entries {
            if let Some(reason) = entry.reason {
                let detail = entry.detail.as_deref().unwrap_or(reason.explanation());
                println!("{}: {detail}", entry.at.path);
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn release(settings: &Settings, what: Vec<String>, json: bool) -> anyhow::Result<ExitCode> {
    let released = match Access::open(settings)? {
        Access::Daemon(mut client) => {
            let mut released = Vec::new();
            for reply in client.request(&Request::QuarantineRelease { what })? {
                if let Reply::Released(one) = reply? {
                    released.push(one);
                }
            }
            released
        }
        Access::Direct(index) => release_directly(settings, *index, what)?,
    };
    for one in &released {
        match one {
            _ if json => println!("{}", serde_json::to_string(one)?),
            Released {
                what, to: Some(to), ..
            } => {
                println!("{what} is at {to}");
                if let Some(not_restored) = &one.not_restored {
                    eprintln!("{to}: {not_restored}");
                }
            }
            Released { what, error, .. } => {
                eprintln!("{what}: {}", error.as_deref().unwrap_or("not released"));
            }
        }
    }
    let all = released.iter().all(|one| one.error.is_none());
    Ok(if all {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Releases without a daemon: with a filer of our own, for as long as that takes.
fn release_directly(
    settings: &Settings,
    index: Index,
    what: Vec<String>,
) -> anyhow::Result<Vec<Released>> {
    let opened = replay::open(&settings.state)?;
    let destinations = Arc::new(Destinations::new(
        &settings.library,
        opened.replay.marker.clone(),
    )?);
    let index = Arc::new(index);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("no runtime")?;
    let released = runtime.block_on(async {
        let catalogue = Arc::clone(&index);
        let filer = Filer::start(
            opened,
            catalogue,
            Arc::clone(&destinations),
            Timing::default(),
        )?;
        let by = rustix::process::getuid().as_raw();
        let released = release_all(&filer, &index, &destinations, settings, what, Some(by)).await;
        filer.stop().await;
        released
    })?;
    index.close()?;
    Ok(released)
}

/// Gives files back, one after the other; what cannot be given back is told, each for itself. For the daemon, too.
pub async fn release_all(
    filer: &Filer,
    index: &Arc<Index>,
    destinations: &Arc<Destinations>,
    settings: &Settings,
    what: Vec<String>,
    by: Option<u32>,
) -> anyhow::Result<Vec<Released>> {
    let (index, destinations, settings) = (
        Arc::clone(index),
        Arc::clone(destinations),
        settings.clone(),
    );
    let roots = access::roots(&settings);
    let found =
        tokio::task::spawn_blocking(move || find(&index, &destinations, &settings, what)).await??;
    let mut released = Vec::new();
    for (what, found) in found {
        let result = match found {
            Ok((item, root)) => {
                let watch = RootId::Watch(item.intent.watch.clone());
                match filer.release(*item, root, by).await? {
                    Ok(back) => {
                        let at = crate::domain::Placement {
                            root: watch,
                            path: back.path,
                        };
                        Ok((access::absolute(&roots, &at), back.not_restored))
                    }
                    Err(err) => Err(err.to_string()),
                }
            }
            Err(why) => Err(why),
        };
        released.push(Released::new(what, result));
    }
    Ok(released)
}

type Found = Result<(Box<Item>, Arc<Root>), String>;

/// Finds what is meant, and where it goes back to.
fn find(
    index: &Index,
    destinations: &Destinations,
    settings: &Settings,
    what: Vec<String>,
) -> anyhow::Result<Vec<(String, Found)>> {
    let roots = access::roots(settings);
    let items = quarantine::list(&settings.state, destinations)?;
    let mut items: BTreeMap<RecordId, Item> = items
        .into_iter()
        .map(|item| (item.intent.id.clone(), item))
        .collect();
    let mut found = Vec::new();
    for what in what {
        let meant = index.resolve(&roots, &what)?;
        // The same UID can lie there more than once: all of them are meant.
        let meant: Vec<Item> = meant
            .iter()
            .filter_map(|entry| items.remove(&entry.id))
            .collect();
        if meant.is_empty() {
            found.push((
                what,
                Err("not in the quarantine; `radsort quarantine list` shows what is".to_owned()),
            ));
            continue;
        }
        for item in meant {
            let root = watch_root(settings, &item);
            found.push((what.clone(), root.map(|root| (Box::new(item), root))));
        }
    }
    Ok(found)
}

fn watch_root(settings: &Settings, item: &Item) -> Result<Arc<Root>, String> {
    let name = &item.intent.watch;
    let watch = settings.watches.iter().find(|watch| watch.name == *name);
    // Also directories that were sorted once, or are configured no more.
    let known = || Roots::open(&settings.state).ok()?.all().remove(name);
    let path: PathBuf = watch
        .map(|watch| watch.path.clone())
        .or_else(known)
        .ok_or_else(|| {
            format!(
                "it came through {name:?}, which is no drop directory any more: move it by hand"
            )
        })?;
    Root::open(&path)
        .map(Arc::new)
        .map_err(|err| format!("{}: {err}", path.display()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::path::Path;

    use super::*;
    use crate::config::settings::Action;
    use crate::domain::{Placement, RelPath};
    use crate::filing::record::Record;
    use crate::index::tests::intent;

    /// A site without a daemon: one quarantined file, dropped as `in/1.dcm`.
    fn site(dir: &Path) -> Settings {
        for name in ["drop", "drop/in", "library", "state"] {
            std::fs::create_dir(dir.join(name)).unwrap();
        }
        let file = dir.join("radsort.toml");
        let text = format!(
            "[[watch]]\nname = \"south\"\npath = \"{0}/drop\"\n[library]\npath = \"{0}/library\"\n[state]\npath = \"{0}/state\"\n",
            dir.display()
        );
        std::fs::write(&file, text).unwrap();
        let settings = crate::config::load(&file).unwrap();
        let mut opened = replay::open(&settings.state).unwrap();
        let destinations = Destinations::new(&settings.library, None).unwrap();
        let roots = destinations.current().unwrap();
        let quarantine = roots.get(&RootId::Quarantine).unwrap();
        std::fs::write(quarantine.path().join("1.dcm"), "damaged").unwrap();
        let mut intent = intent(1, Fate::Quarantined, Action::Move);
        intent.to = Placement {
            root: RootId::Quarantine,
            path: RelPath::new("1.dcm").unwrap(),
        };
        intent.digest = blake3::hash(b"damaged").into();
        intent.fingerprint.size = 7;
        let id = intent.id.clone();
        let marker = destinations.marker().to_owned();
        let records = [
            Record::Library { marker },
            Record::Intent(Box::new(intent)),
            Record::Quarantined { id, to: None },
        ];
        opened.ledger.append_group(&records).unwrap();
        settings
    }

    fn listed(settings: &Settings) -> usize {
        let mut count = 0;
        query::each(settings, &listing(), |entry| {
            count += usize::from(lies_there(&entry));
            Ok(())
        })
        .unwrap();
        count
    }

    #[test]
    fn without_a_daemon_the_quarantine_is_listed_and_given_back() {
        let dir = tempfile::tempdir().unwrap();
        let settings = site(dir.path());
        assert_eq!(listed(&settings), 1);
        let what = vec!["1.2.1".to_owned(), "9.9".to_owned()];
        let Access::Direct(index) = Access::open(&settings).unwrap() else {
            panic!("a daemon")
        };
        let released = release_directly(&settings, *index, what).unwrap();
        let back = dir.path().join("drop/in/1.dcm");
        assert_eq!(released[0].to.as_deref(), back.to_str(), "{released:?}");
        assert!(
            released[1]
                .error
                .as_deref()
                .unwrap()
                .contains("not in the quarantine")
        );
        assert_eq!(std::fs::read_to_string(back).unwrap(), "damaged");
        assert_eq!(listed(&settings), 0);
    }
}
