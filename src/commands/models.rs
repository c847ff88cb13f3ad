//! `radsort models`: the bundles that are kept side by side, and which one is in use.

mod import;

use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use comfy_table::{Table, presets};

use self::import::ImportArgs;
use super::access::{self, ConfigArg};
use crate::config::Settings;
use crate::control::client::Client;
use crate::control::protocol::Request;
use crate::model::store::{Kept, Pruned, Store};
use crate::model::{Bundle, trial};

/// Keep bundle versions side by side, and choose which one is in use.
///
/// Bundles that `retrain` makes or `import` brings lie in the state directory. Promoting one tries it first (in a process
/// of its own, with its reference images), then points to it in one step; a running service takes it up at once and
/// finishes what is under way with the old one.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  radsort models list
  radsort models show spine-phantom-1.0.0
  radsort models import /media/usb/spine-2.1.0     keep a bundle's folder
  radsort models import net.onnx --classes pre:frontal,post:frontal
  radsort models promote 2.1.0                     use it from now on
  radsort models rollback                          the one before

Exit status: 0 done, 1 not done (the reason is on stderr), 2 wrong usage, 78 bad configuration.")]
pub struct ModelsArgs {
    /// What to do.
    #[command(subcommand)]
    pub what: What,
}

/// What to do with the bundles.
#[derive(Debug, clap::Subcommand)]
pub enum What {
    /// List the bundles with what they were found to be worth.
    #[command(after_help = "Examples:
  radsort models list
  radsort models list --json")]
    List {
        /// One JSON object a line.
        #[arg(long)]
        json: bool,
        /// Which configuration.
        #[command(flatten)]
        config: ConfigArg,
    },
    /// Show everything that a bundle says about itself.
    #[command(after_help = "Examples:
  radsort models show shipped
  radsort models show 2.1.0 --json")]
    Show {
        /// Folder name, version, or "name version"; `shipped` for the shipped one.
        version: String,
        /// As one JSON object.
        #[arg(long)]
        json: bool,
        /// Which configuration.
        #[command(flatten)]
        config: ConfigArg,
    },
    /// Try a bundle, then use it from now on.
    #[command(after_help = "Examples:
  radsort models promote 2.1.0
  radsort models promote shipped     the one that came with the program")]
    Promote {
        /// Folder name, version, or "name version"; `shipped` for the shipped one.
        version: String,
        /// As one JSON object.
        #[arg(long)]
        json: bool,
        /// Which configuration.
        #[command(flatten)]
        config: ConfigArg,
    },
    /// Go back to the bundle that was in use before.
    #[command(after_help = "Examples:
  radsort models rollback")]
    Rollback {
        /// As one JSON object.
        #[arg(long)]
        json: bool,
        /// Which configuration.
        #[command(flatten)]
        config: ConfigArg,
    },
    /// Keep a bundle that comes from elsewhere (its folder, or bare ONNX files); it is not used before it is promoted.
    #[command(after_help = "Examples:
  radsort models import /media/usb/spine-2.1.0
  radsort models import net.onnx --classes pre:frontal,post:frontal")]
    Import {
        /// What is brought in.
        #[command(flatten)]
        what: Box<ImportArgs>,
        /// As one JSON object.
        #[arg(long)]
        json: bool,
        /// Which configuration.
        #[command(flatten)]
        config: ConfigArg,
    },
    /// Remove bundles that nobody needs: what is in use stays, and what an interrupted training goes on from.
    #[command(after_help = "Examples:
  radsort models prune --dry-run     what would be removed?
  radsort models prune --keep 1")]
    Prune {
        /// How many of the last ones in use stay, and how many of the newest that never were.
        #[arg(long, value_name = "N", default_value_t = 3)]
        keep: usize,
        /// Only say what would be removed, and why the others stay.
        #[arg(long)]
        dry_run: bool,
        /// As one JSON object.
        #[arg(long)]
        json: bool,
        /// Which configuration.
        #[command(flatten)]
        config: ConfigArg,
    },
}

/// Runs the command.
pub fn run(args: &ModelsArgs) -> anyhow::Result<ExitCode> {
    match &args.what {
        What::List { json, config } => list(&config.load()?, *json),
        What::Show {
            version,
            json,
            config,
        } => show(&config.load()?, version, *json),
        What::Promote {
            version,
            json,
            config,
        } => promote(&config.load()?, version, *json),
        What::Rollback { json, config } => roll_back(&config.load()?, *json),
        What::Import { what, json, config } => import(&config.load()?, what, *json),
        What::Prune {
            keep,
            dry_run,
            json,
            config,
        } => prune(&config.load()?, *keep, *dry_run, *json),
    }?;
    Ok(ExitCode::SUCCESS)
}

fn list(settings: &Settings, json: bool) -> anyhow::Result<()> {
    let kept = own(settings)?.list()?;
    // A bundle that the configuration names is in use whatever was promoted.
    let named = settings.model.bundle.as_deref();
    if json {
        for kept in &kept {
            println!("{}", serde_json::to_string(&as_json(kept, named))?);
        }
        return Ok(());
    }
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    if !std::io::stdout().is_terminal() {
        table.force_no_tty();
    }
    table.set_header(["", "folder", "name and version", "categories", "accuracy"]);
    for kept in &kept {
        let mark = if kept.in_use && named.is_none() {
            "*"
        } else {
            ""
        };
        match &kept.bundle {
            Ok(bundle) => table.add_row([
                mark,
                &kept.name,
                &bundle.name_and_version(),
                &bundle.categories().len().to_string(),
                &accuracy(bundle).unwrap_or_default(),
            ]),
            Err(why) => table.add_row([mark, &kept.name, why, "", ""]),
        };
    }
    println!("{table}");
    match named {
        Some(named) => println!(
            "\nThe configuration names {}: that one is in use, and nothing here can be promoted.",
            named.display()
        ),
        None => println!("\n* in use"),
    }
    Ok(())
}

/// The one figure that people ask for first, where the bundle states one.
fn accuracy(bundle: &Bundle) -> Option<String> {
    let metrics = &bundle.manifest().metrics;
    let share = |table: &toml::Value| {
        let number = |key: &str| table.get(key)?.as_integer().map(|n| n as f64);
        Some(number("right")? / number("images")?)
    };
    // Other figures (what was filed rightly, validation) are of another kind: side by side they would mislead.
    let found = metrics.get("test").and_then(share)?;
    Some(format!("{:.1} %", 100.0 * found))
}

fn as_json(kept: &Kept, named: Option<&Path>) -> serde_json::Value {
    let (manifest, problem) = match &kept.bundle {
        Ok(bundle) => (Some(bundle.manifest()), None),
        Err(why) => (None, Some(why)),
    };
    serde_json::json!({
        "folder": kept.name,
        "in_use": kept.in_use && named.is_none(),
        "name": manifest.map(|it| &it.name),
        "version": manifest.map(|it| &it.version),
        "categories": manifest.map(|it| it.categories.iter().map(|category| category.id.as_str()).collect::<Vec<_>>()),
        "metrics": manifest.map(|it| &it.metrics),
        "problem": problem,
    })
}

fn show(settings: &Settings, version: &str, json: bool) -> anyhow::Result<()> {
    let kept = Store::new(&settings.state).find(version)?;
    let bundle = usable(&kept)?;
    if json {
        println!("{}", serde_json::to_string(bundle.manifest())?);
    } else {
        println!("# {}", bundle.dir().display());
        print!("{}", bundle.manifest().to_toml()?);
    }
    Ok(())
}

fn usable(kept: &Kept) -> anyhow::Result<&Bundle> {
    match &kept.bundle {
        Ok(bundle) => Ok(bundle),
        Err(why) => bail!("{} cannot be used: {why}", kept.name),
    }
}

fn promote(settings: &Settings, version: &str, json: bool) -> anyhow::Result<()> {
    let store = own(settings)?;
    let kept = store.find(version)?;
    let bundle = usable(&kept)?;
    trial::try_in_child(bundle.dir(), &settings.runtime).map_err(anyhow::Error::msg)?;
    store.promote(settings, &kept.name)?;
    take_into_use(settings, &bundle.name_and_version())?;
    if json {
        println!("{}", serde_json::json!({ "in_use": kept.name }));
    } else {
        println!("{} is in use from now on", bundle.name_and_version());
    }
    Ok(())
}

/// Has a running service take what has just been chosen.
fn take_into_use(settings: &Settings, name: &str) -> anyhow::Result<()> {
    reload(settings).with_context(|| {
        format!("{name} is chosen, but the service goes on with what it had until it is reloaded")
    })
}

fn roll_back(settings: &Settings, json: bool) -> anyhow::Result<()> {
    let store = own(settings)?;
    let before = store.find(&store.before()?)?;
    trial::try_in_child(usable(&before)?.dir(), &settings.runtime).map_err(anyhow::Error::msg)?;
    let name = store.roll_back(settings)?;
    take_into_use(settings, &name)?;
    if json {
        println!("{}", serde_json::json!({ "in_use": name }));
    } else {
        println!("{name} is in use again");
    }
    Ok(())
}

fn import(settings: &Settings, args: &ImportArgs, json: bool) -> anyhow::Result<()> {
    let (bundle, name) = import::run(settings, args)?;
    if json {
        let kept = serde_json::json!({ "folder": name, "bundle": bundle });
        println!("{kept}");
    } else {
        println!("{bundle} is kept as {name}; `radsort models promote {name}` puts it to use");
    }
    Ok(())
}

fn prune(settings: &Settings, keep: usize, dry_run: bool, json: bool) -> anyhow::Result<()> {
    let store = own(settings)?;
    let training = interrupted(&settings.state)?;
    let pruned = store.prune(settings, keep, training.as_deref(), dry_run)?;
    let gone = || pruned.iter().filter(|it| it.stays.is_none());
    if json {
        let removed: Vec<&str> = gone().map(|it| it.folder.as_str()).collect();
        let stays: serde_json::Map<String, serde_json::Value> = pruned
            .iter()
            .filter_map(|it| Some((it.folder.clone(), serde_json::to_value(it.stays?).ok()?)))
            .collect();
        let said = serde_json::json!({ "removed": removed, "stays": stays, "dry_run": dry_run });
        println!("{said}");
        return Ok(());
    }
    if gone().next().is_none() {
        println!("nothing to remove");
    }
    for Pruned { folder, stays } in &pruned {
        match stays {
            Some(why) => println!("{folder} stays: {}", why.explanation()),
            None if dry_run => println!("{folder} would be removed"),
            None => println!("removed {folder}"),
        }
    }
    Ok(())
}

/// Where a training under way, or an interrupted one, keeps what is its own, below the state directory.
pub const TRAINING: &str = "retrain/run";
/// What it was told, in there.
pub const TOLD: &str = "run.json";

/// The folder of the bundle that an interrupted training (or one under way) goes on from.
fn interrupted(state: &Path) -> anyhow::Result<Option<PathBuf>> {
    #[derive(serde::Deserialize)]
    struct Run {
        bundle: PathBuf,
    }
    let file = state.join(TRAINING).join(TOLD);
    let text = match std::fs::read(&file) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        text => text.with_context(|| file.display().to_string())?,
    };
    let run: Run = serde_json::from_slice(&text).with_context(|| {
        format!(
            "{}: which bundle this training goes on from cannot be read; remove the file if it is given up",
            file.display()
        )
    })?;
    Ok(Some(run.bundle))
}

/// The store, as the user that the service runs as.
fn own(settings: &Settings) -> anyhow::Result<Store> {
    if settings.state.exists() {
        access::become_owner_of(&settings.state)?;
    }
    Ok(Store::new(&settings.state))
}

/// Lets a running service take it up.
fn reload(settings: &Settings) -> anyhow::Result<()> {
    let Some(mut client) = Client::connect(&settings.control.socket)? else {
        eprintln!("no service runs: it takes it up when it starts");
        return Ok(());
    };
    for reply in client.request(&Request::Reload {})? {
        reply.context("the service did not take it up, and goes on with the one before")?;
    }
    eprintln!("the service has taken it up");
    Ok(())
}
