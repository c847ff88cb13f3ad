//! `radsort demo`: the whole main job on synthetic radiographs, in a scratch directory, with the real daemon.
//!
//! It does what a site would: starts the service, drops files the ways people do, among files that are not for it,
//! and looks at what became of them. It succeeds only if every file is accounted for and at least 95 % match.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::Value;

use crate::commands::demo_files;
use crate::commands::query::write_json;
use crate::phantom;

/// Show the whole main job on synthetic radiographs, in a scratch directory.
///
/// Writes phantom radiographs in mixed transfer syntaxes, starts the real daemon, drops them the ways people do
/// (slow copy, rename into place, a new sub-folder, a burst) among files that are not for it (a PDF, a CT slice, a
/// truncated copy, junk), waits until every file is accounted for and shows what became of them.
///
/// Exit codes: 0 every file accounted for and at least 95 % where they belong; 1 otherwise; 2 wrong usage.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  radsort demo
  radsort demo --count 200 --dir /tmp/demo         and look at what it leaves there

Exit status: 0 when every file is accounted for and at least 95 % are where they belong, 1 when not, 2 on wrong usage.")]
pub struct DemoArgs {
    /// How many phantoms to drop.
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u32).range(10..=5000))]
    pub count: u32,
    /// Another seed gives other phantoms.
    #[arg(long, default_value_t = 2024)]
    pub seed: u64,
    /// Work in this directory (made if missing, must be empty) instead of a new one below the temporary directory.
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// The bundle to classify with, instead of the shipped one.
    #[arg(long, value_name = "DIR")]
    pub model: Option<PathBuf>,
    /// The outcome as one JSON object on standard output; the story goes to standard error.
    #[arg(long)]
    pub json: bool,
}

/// The outcome as `--json` tells it: the fields are what scripts rely on.
#[derive(Debug, serde::Serialize)]
struct Outcome<'a> {
    /// Files dropped, those that are not for it included.
    dropped: usize,
    phantoms: u32,
    /// Phantoms that were filed where they belong.
    matching: u32,
    /// Whether every file is in exactly one place, with its bytes as they were.
    accounted_for: bool,
    library: &'a Path,
    drop_directory: &'a Path,
    configuration: &'a Path,
    log: &'a Path,
    contact_sheet: &'a Path,
}

/// How long the demo waits for the daemon at most.
const PATIENCE: Duration = Duration::from_secs(110);

/// Runs the demo.
pub fn run(args: &DemoArgs) -> anyhow::Result<ExitCode> {
    let scratch = scratch(args.dir.as_deref())?;
    let stage = Stage::set(&scratch, args)?;
    let story = &stage.story;
    story.tell(format_args!("Scratch directory: {}\n", scratch.display()));

    story.tell(format_args!(
        "1. Writing {} phantom radiographs in mixed transfer syntaxes",
        args.count
    ));
    let phantoms = stage.write_phantoms(args)?;
    story.tell(format_args!(
        "2. Starting the daemon (radsort run --config {})",
        stage.config.display()
    ));
    let mut daemon = Daemon::start(&stage)?;
    story.tell(format_args!("3. Dropping files: a slow copy, renames into place, a new sub-folder, a burst, and what is not for it"));
    let dropped = drop_all(&stage, &phantoms)?;
    story.tell(format_args!("4. Waiting until every file is accounted for"));
    let waited = daemon.wait_until_done(&stage, dropped);
    let status = stage.radsort(&["status"]);
    daemon.stop()?;
    waited?;

    story.tell(format_args!("\n{}", status?));
    let records = stage.records()?;
    let accounted = stage.accounted_for(dropped)?;
    print_tree(story, &stage.library, &records);
    let matching = matching(&records, &stage.truth()?);
    story.tell(format_args!("\n{matching} of {} phantoms are where they belong ({:.1} %; review counts as not matching)",
        args.count,
        100.0 * f64::from(matching) / f64::from(args.count)));
    stage.show_queries(&records)?;
    let sheet = scratch.join("contact-sheet.html");
    demo_files::write_contact_sheet(&sheet, &stage.library, &records)?;
    story.tell(format_args!("\nWhere everything lies:"));
    for (what, place) in [
        ("library", &stage.library),
        ("drop directory", &stage.drop),
        ("configuration", &stage.config),
        ("daemon's log", &stage.log),
        ("contact sheet (open it in a browser)", &sheet),
    ] {
        story.tell(format_args!("  {what:38} {}", place.display()));
    }

    if args.json {
        let outcome = Outcome {
            dropped,
            phantoms: args.count,
            matching,
            accounted_for: accounted,
            library: &stage.library,
            drop_directory: &stage.drop,
            configuration: &stage.config,
            log: &stage.log,
            contact_sheet: &sheet,
        };
        write_json(&mut io::stdout(), &outcome)?;
    }
    let enough = f64::from(matching) >= 0.95 * f64::from(args.count);
    if !accounted {
        eprintln!("\nThe demo failed: not every file is accounted for.");
    } else if !enough {
        eprintln!("\nThe demo failed: fewer than 95 % of the phantoms are where they belong.");
    } else {
        story.tell(format_args!("\nEvery file is accounted for."));
    }
    Ok(if accounted && enough {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn scratch(dir: Option<&Path>) -> anyhow::Result<PathBuf> {
    let dir = match dir {
        Some(dir) => dir.to_owned(),
        None => std::env::temp_dir().join(format!("radsort-demo-{}", std::process::id())),
    };
    fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
    ensure!(
        fs::read_dir(&dir)?.next().is_none(),
        "{} is not empty: give another --dir",
        dir.display()
    );
    Ok(fs::canonicalize(&dir)?)
}

/// Where the story is told: standard output, unless `--json` needs that.
struct Story {
    on_stderr: bool,
}

impl Story {
    fn tell(&self, line: std::fmt::Arguments) {
        if self.on_stderr {
            eprintln!("{line}");
        } else {
            println!("{line}");
        }
    }
}

/// The directories and files of one demo.
struct Stage {
    story: Story,
    phantoms: PathBuf,
    drop: PathBuf,
    library: PathBuf,
    config: PathBuf,
    log: PathBuf,
    exe: PathBuf,
}

impl Stage {
    fn set(scratch: &Path, args: &DemoArgs) -> anyhow::Result<Self> {
        let stage = Self {
            story: Story {
                on_stderr: args.json,
            },
            phantoms: scratch.join("phantoms"),
            drop: scratch.join("drop"),
            library: scratch.join("library"),
            config: scratch.join("radsort.toml"),
            log: scratch.join("daemon.log"),
            exe: std::env::current_exe()?,
        };
        for dir in [&stage.phantoms, &stage.drop, &stage.library] {
            fs::create_dir(dir)?;
        }
        let quoted = |path: &Path| Value::from(path.to_string_lossy()).to_string();
        let model = match &args.model {
            Some(dir) => format!("\n[model]\nbundle = {}\n", quoted(&fs::canonicalize(dir)?)),
            None => String::new(),
        };
        fs::write(
            &stage.config,
            format!(
                "# Made by `radsort demo`.\n[[watch]]\npath = {}\n# A cut-off copy is normally waited for much longer.\n\
                 settle = \"3s\"\ntruncated = \"10s\"\n\n[library]\npath = {}\n\n[state]\npath = {}\n{model}",
                quoted(&stage.drop),
                quoted(&stage.library),
                quoted(&scratch.join("state")),
            ),
        )?;
        Ok(stage)
    }

    fn write_phantoms(&self, args: &DemoArgs) -> anyhow::Result<Vec<PathBuf>> {
        let bar = bar(u64::from(args.count), "phantoms");
        let plans = phantom::plan(&phantom::PlanOptions {
            count: args.count as usize,
            seed: args.seed,
            imbalance: phantom::Imbalance::Even,
            difficulty: phantom::Difficulty::Normal,
            size: None,
            outside: 0.0,
        });
        let layout = phantom::Layout::Flat;
        phantom::write_set(
            &self.phantoms,
            &plans,
            phantom::SyntaxChoice::Mixed,
            layout,
            |_| bar.inc(1),
        )?;
        bar.finish_and_clear();
        let mut files: Vec<PathBuf> = fs::read_dir(&self.phantoms)?
            .map(|entry| entry.map(|entry| entry.path()))
            .collect::<Result<_, _>>()?;
        files.retain(|path| path.extension().is_some_and(|extension| extension == "dcm"));
        files.sort();
        ensure!(
            files.len() == args.count as usize,
            "{} phantoms were written",
            files.len()
        );
        Ok(files)
    }

    /// Calls this very program, as a person would.
    fn radsort(&self, words: &[&str]) -> anyhow::Result<String> {
        let output = Command::new(&self.exe)
            .args(words)
            .arg("--config")
            .arg(&self.config)
            .output()?;
        if !output.status.success() {
            bail!(
                "radsort {}: {}",
                words.join(" "),
                String::from_utf8_lossy(&output.stderr).trim()
            );
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// What the index says of every file.
    fn records(&self) -> anyhow::Result<Vec<Value>> {
        let lines = self.radsort(&["query", "--json", "--limit", "100000"])?;
        lines
            .lines()
            .map(|line| Ok(serde_json::from_str(line)?))
            .collect()
    }

    fn truth(&self) -> anyhow::Result<BTreeMap<String, String>> {
        let mut truth = BTreeMap::new();
        for row in csv::Reader::from_path(self.phantoms.join("labels.csv"))?.deserialize() {
            let (uid, category, _patient, _view): (String, String, String, String) = row?;
            truth.insert(uid, category);
        }
        Ok(truth)
    }

    /// Every file that was dropped is in exactly one place, with its bytes as they were.
    fn accounted_for(&self, dropped: usize) -> anyhow::Result<bool> {
        let expected = demo_files::digests(&[
            self.phantoms.as_path(),
            &demo_files::extras_dir(&self.phantoms),
        ])?;
        let found = demo_files::digests(&[&self.drop, &self.library])?;
        self.story.tell(format_args!(
            "{} files were dropped; {} are in the drop directory and the library now",
            dropped,
            found.len()
        ));
        Ok(expected == found && found.len() == dropped)
    }

    fn show_queries(&self, records: &[Value]) -> anyhow::Result<()> {
        let query = ["query", "--view", "lateral", "--limit", "5"];
        self.story.tell(format_args!(
            "\n$ radsort {}\n{}",
            query.join(" "),
            self.radsort(&query)?
        ));
        let filed = records.iter().find(|record| record["fate"] == "filed");
        if let Some(uid) = filed.and_then(|record| record["sop_instance_uid"].as_str()) {
            self.story.tell(format_args!(
                "$ radsort show {uid}\n{}",
                self.radsort(&["show", uid])?
            ));
        }
        Ok(())
    }
}

/// The daemon, stopped when the demo ends whichever way.
struct Daemon {
    child: Child,
}

impl Daemon {
    fn start(stage: &Stage) -> anyhow::Result<Self> {
        let log = fs::File::create(&stage.log)?;
        let child = Command::new(&stage.exe)
            .args(["run", "--config"])
            .arg(&stage.config)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()?;
        let mut daemon = Self { child };
        let started = Instant::now();
        while stage.radsort(&["status", "--json"]).is_err() {
            if let Some(status) = daemon.child.try_wait()? {
                bail!(
                    "the daemon ended at once ({status}):\n{}",
                    fs::read_to_string(&stage.log)?
                );
            }
            ensure!(
                started.elapsed() < PATIENCE,
                "the daemon did not start; see {}",
                stage.log.display()
            );
            std::thread::sleep(Duration::from_millis(100));
        }
        Ok(daemon)
    }

    fn wait_until_done(&mut self, stage: &Stage, dropped: usize) -> anyhow::Result<()> {
        let bar = bar(dropped as u64, "accounted for");
        let started = Instant::now();
        loop {
            let status: Value = serde_json::from_str(&stage.radsort(&["status", "--json"])?)?;
            let totals = status["totals"]
                .as_object()
                .context("status without totals")?;
            let done: u64 = totals.values().filter_map(Value::as_u64).sum();
            bar.set_position(done);
            if done >= dropped as u64 {
                bar.finish_and_clear();
                return Ok(());
            }
            if let Some(status) = self.child.try_wait()? {
                bail!("the daemon ended ({status}); see {}", stage.log.display());
            }
            ensure!(
                started.elapsed() < PATIENCE,
                "{done} of {dropped} files were accounted for in time"
            );
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    fn stop(&mut self) -> anyhow::Result<()> {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM)?;
        let status = self.child.wait()?;
        ensure!(status.success(), "the daemon ended with {status}");
        Ok(())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // Already gone after `stop`; otherwise the demo is failing anyway.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Drops everything, each part in another way. Gives the number of files.
fn drop_all(stage: &Stage, phantoms: &[PathBuf]) -> anyhow::Result<usize> {
    let quarter = phantoms.len() / 4;
    let (renamed, rest) = phantoms.split_at(quarter);
    let (nested, rest) = rest.split_at(quarter);
    let (slow, burst) = rest.split_at(quarter.min(4));
    let bar = bar(phantoms.len() as u64, "dropped");
    let name = |path: &Path| path.file_name().unwrap_or_default().to_owned();
    let extras = demo_files::write_extras(&demo_files::extras_dir(&stage.phantoms), &phantoms[0])?;

    std::thread::scope(|scope| -> anyhow::Result<()> {
        let slowly = scope.spawn(|| {
            slow.iter().try_for_each(|path| {
                slow_copy(path, &stage.drop.join(name(path)))?;
                bar.inc(1);
                anyhow::Ok(())
            })
        });
        // Rename into place: written elsewhere on the same filesystem, then moved in.
        let staging = stage.phantoms.join("staging");
        fs::create_dir(&staging)?;
        for path in renamed {
            fs::copy(path, staging.join(name(path)))?;
            fs::rename(staging.join(name(path)), stage.drop.join(name(path)))?;
            bar.inc(1);
        }
        fs::remove_dir(&staging)?;
        let folder = stage.drop.join("ward 7").join("monday");
        fs::create_dir_all(&folder)?;
        for path in nested {
            fs::copy(path, folder.join(name(path)))?;
            bar.inc(1);
        }
        for path in burst.iter().chain(&extras) {
            fs::copy(path, stage.drop.join(name(path)))?;
            bar.inc(1);
        }
        slowly
            .join()
            .map_err(|_| anyhow::anyhow!("the slow copy died"))?
    })?;
    bar.finish_and_clear();
    Ok(phantoms.len() + extras.len())
}

/// Copies in pieces, with pauses, as over a slow network.
fn slow_copy(from: &Path, to: &Path) -> anyhow::Result<()> {
    let bytes = fs::read(from)?;
    let mut target = fs::File::create(to)?;
    for piece in bytes.chunks(bytes.len() / 8 + 1) {
        target.write_all(piece)?;
        target.flush()?;
        std::thread::sleep(Duration::from_millis(250));
    }
    Ok(())
}

/// How many phantoms lie in the category that they were made for.
fn matching(records: &[Value], truth: &BTreeMap<String, String>) -> u32 {
    let right = records.iter().filter(|record| {
        record["fate"] == "filed"
            && record["sop_instance_uid"]
                .as_str()
                .and_then(|uid| truth.get(uid))
                .is_some_and(|category| record["category"] == category.as_str())
    });
    right.count() as u32
}

fn print_tree(story: &Story, library: &Path, records: &[Value]) {
    let mut folders: BTreeMap<String, usize> = BTreeMap::new();
    for record in records {
        *folders
            .entry(demo_files::folder_of(library, record))
            .or_default() += 1;
    }
    story.tell(format_args!("What lies where:"));
    for (folder, count) in folders {
        story.tell(format_args!("  {count:5}  {folder}"));
    }
}

fn bar(length: u64, what: &str) -> ProgressBar {
    let bar = ProgressBar::new(length);
    let style = ProgressStyle::with_template("   {bar:40} {pos}/{len} {msg} ({elapsed})");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar.set_message(what.to_owned());
    bar
}
