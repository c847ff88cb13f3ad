//! A site of its own for each test: drop directory, library, state and configuration in a temporary directory, and the
//! real program run on them. A daemon is killed when its test ends; its log is printed when the test fails.

// Debug formatting quotes and escapes paths as TOML wants them.
#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::unnecessary_debug_formatting
)]

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use dicom_core::{DataElement, PrimitiveValue, Tag, VR};
use dicom_dictionary_std::{tags, uids};
use dicom_object::{FileMetaTableBuilder, InMemDicomObject};
use radsort::control::client::Client;
use radsort::control::protocol::{Reply, Request};
use radsort::phantom::{self, Difficulty, Imbalance, Phantom, PlanOptions, Syntax};
use serde_json::Value;
use tempfile::TempDir;

/// How long anything may take before a test gives up on it: generous, because test machines are slow and shared.
pub const PATIENCE: Duration = Duration::from_mins(2);

/// How long one turn of waiting takes at most.
const TURN: Duration = Duration::from_millis(30);

/// The program under test.
pub const RADSORT: &str = env!("CARGO_BIN_EXE_radsort");

/// A site.
pub struct Site {
    pub dir: TempDir,
    pub drop: PathBuf,
    pub library: PathBuf,
    pub state: PathBuf,
    pub config: PathBuf,
}

impl Site {
    /// A site with one drop directory that settles fast, in `action = "move"`.
    pub fn new() -> Self {
        Self::with("", "")
    }

    /// The same with more lines in its `[[watch]]` section, and more sections.
    pub fn with(watch: &str, sections: &str) -> Self {
        let base = std::env::temp_dir();
        Self::at(&base, watch, sections)
    }

    /// One that leaves the choice of the bundle to `radsort models`.
    pub fn without_model() -> Self {
        let site = Self::new();
        let text = fs::read_to_string(&site.config).unwrap();
        let text: String = text
            .lines()
            .filter(|line| *line != "[model]" && !line.starts_with("bundle ="))
            .fold(String::new(), |text, line| text + line + "\n");
        fs::write(&site.config, text).unwrap();
        site
    }

    /// A site whose directories all lie below that one.
    pub fn in_directory(base: &Path) -> Self {
        Self::at(base, "", "")
    }

    fn at(base: &Path, watch: &str, sections: &str) -> Self {
        let dir = tempfile::Builder::new()
            .prefix("radsort-test-")
            .tempdir_in(base)
            .unwrap();
        let path = dir.path().canonicalize().unwrap();
        let site = Self {
            drop: path.join("drop"),
            library: path.join("library"),
            state: path.join("state"),
            config: path.join("radsort.toml"),
            dir,
        };
        fs::create_dir(&site.drop).unwrap();
        fs::create_dir(&site.library).unwrap();
        site.configure(watch, sections);
        site
    }

    /// Writes the configuration anew, at once: a daemon that starts or reloads now reads this one or the one before.
    pub fn configure(&self, watch: &str, sections: &str) {
        let settle = if watch.contains("settle") {
            ""
        } else {
            "settle = \"300ms\"\n"
        };
        let model = if sections.contains("[model]") {
            String::new()
        } else {
            format!("[model]\nbundle = {:?}\n", shipped_bundle())
        };
        // This machine's own monitoring does not hear of tests.
        let metrics = if sections.contains("[metrics]") {
            ""
        } else {
            "[metrics]\ntextfile = \"off\"\n"
        };
        let text = format!(
            "[[watch]]\npath = {:?}\n{settle}{watch}\n[library]\npath = {:?}\n[state]\npath = {:?}\n\
             {metrics}[runtime]\nthreads = 1\n{model}{sections}\n",
            self.drop, self.library, self.state
        );
        let new = self.config.with_extension("new");
        fs::write(&new, text).unwrap();
        fs::rename(new, &self.config).unwrap();
    }

    /// A `radsort` command with this site's configuration.
    pub fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(RADSORT);
        command.args(words).arg("--config").arg(&self.config);
        command
            .env_remove("RUST_LOG")
            .env_remove("NOTIFY_SOCKET")
            .env_remove("RUNTIME_DIRECTORY");
        command
    }

    /// Runs a command to its end.
    pub fn run(&self, words: &[&str]) -> Output {
        self.command(words).stdin(Stdio::null()).output().unwrap()
    }

    /// Runs a command that must succeed; gives what it printed.
    pub fn ok(&self, words: &[&str]) -> String {
        let output = self.run(words);
        assert!(
            output.status.success(),
            "radsort {words:?}: {}\n{}\n{}",
            output.status,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs a command that must succeed and print one JSON value.
    pub fn json(&self, words: &[&str]) -> Value {
        serde_json::from_str(&self.ok(words)).unwrap()
    }

    /// What the index says of every file.
    pub fn records(&self) -> Vec<Value> {
        let text = self.ok(&["query", "--json", "--limit", "1000000"]);
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    /// Counts of records by fate.
    pub fn fates(&self) -> BTreeMap<String, usize> {
        let mut fates = BTreeMap::new();
        for record in self.records() {
            *fates
                .entry(record["fate"].as_str().unwrap().to_owned())
                .or_default() += 1;
        }
        fates
    }

    /// One pass over the drop directory; gives its summary.
    pub fn sort(&self) -> Value {
        self.json(&["sort", self.drop.to_str().unwrap(), "--json"])
    }

    /// Starts the daemon and waits until it says READY.
    pub fn start(&self) -> Daemon {
        self.start_with(&[])
    }

    /// The same with environment variables, e.g. failpoints.
    pub fn start_with(&self, environment: &[(&str, &str)]) -> Daemon {
        let mut daemon = self.spawn(environment);
        daemon.wait_ready();
        daemon
    }

    /// Starts the daemon without waiting for anything.
    pub fn spawn(&self, environment: &[(&str, &str)]) -> Daemon {
        let mut command = self.command(&["run"]);
        command.envs(environment.iter().copied());
        self.spawn_command(command)
    }

    /// The same with its log in another directory: on a disk that works.
    pub fn spawn_logging_to(&self, logs: &Path) -> Daemon {
        self.spawn_with_log(self.command(&["run"]), logs)
    }

    /// The same by a command that ends up as the daemon.
    pub fn spawn_command(&self, command: Command) -> Daemon {
        self.spawn_with_log(command, self.dir.path())
    }

    fn spawn_with_log(&self, mut command: Command, logs: &Path) -> Daemon {
        let notify = tempfile::Builder::new()
            .prefix("notify-")
            .tempdir()
            .unwrap();
        let socket = UnixDatagram::bind(notify.path().join("socket")).unwrap();
        socket.set_read_timeout(Some(TURN)).unwrap();
        let log = logs.join(format!(
            "daemon-{}.log",
            fs::read_dir(logs).unwrap().count()
        ));
        let file = fs::File::create(&log).unwrap();
        let child = command
            .env("NOTIFY_SOCKET", notify.path().join("socket"))
            .stdin(Stdio::null())
            .stdout(file.try_clone().unwrap())
            .stderr(file)
            .spawn()
            .unwrap();
        Daemon {
            child,
            log,
            socket,
            notify,
            heard: Vec::new(),
            config: self.config.clone(),
            control: self.state.join("control.sock"),
        }
    }

    /// The digests of everything that was dropped and now lies anywhere in the site's directories, as a multiset.
    pub fn digests(&self) -> Vec<String> {
        digests(&[&self.drop, &self.library])
    }

    /// Files below the library, relative, without radsort's own.
    pub fn filed(&self) -> Vec<String> {
        let mut found: Vec<String> = files(&self.library)
            .iter()
            .map(|path| {
                path.strip_prefix(&self.library)
                    .unwrap()
                    .to_string_lossy()
                    .into_owned()
            })
            .filter(|path| !own(path))
            .collect();
        found.sort();
        found
    }

    /// Lets a complete file appear in the drop directory at once, as by a rename.
    pub fn put(&self, name: &str, bytes: &[u8]) {
        let staged = self.dir.path().join("staged");
        fs::write(&staged, bytes).unwrap();
        fs::rename(staged, self.drop.join(name)).unwrap();
    }

    /// What a crash may leave behind for a while and never for good: hidden claims and unfinished copies.
    pub fn remains(&self) -> Vec<PathBuf> {
        let mut found = files(&self.drop);
        found.extend(files(&self.library));
        found.retain(|path| {
            let name = path.file_name().unwrap().to_string_lossy();
            name.ends_with(".part") || (name.starts_with('.') && name != ".radsort-library")
        });
        found
    }

    /// `radsort verify --digests` finds nothing to say.
    pub fn assert_verified(&self) {
        let text = self.ok(&["verify", "--digests", "--json"]);
        let summary: Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
        let differences = summary["differences"].as_object().unwrap();
        assert!(differences.values().all(|count| *count == 0), "{text}");
    }

    /// The ledger's text, all segments.
    pub fn ledger(&self) -> String {
        let mut segments = files(&self.state.join("ledger"));
        segments.sort();
        segments
            .iter()
            .filter(|path| {
                path.extension()
                    .is_some_and(|extension| extension == "jsonl")
            })
            .map(|path| fs::read_to_string(path).unwrap())
            .collect()
    }
}

/// A running daemon.
pub struct Daemon {
    pub child: Child,
    pub log: PathBuf,
    socket: UnixDatagram,
    notify: TempDir,
    heard: Vec<String>,
    config: PathBuf,
    control: PathBuf,
}

impl Daemon {
    /// Waits for `READY=1`.
    pub fn wait_ready(&mut self) {
        self.wait_notified("READY=1");
    }

    /// What it tells the service manager until a moment from now; paces loops that wait.
    fn listen(&mut self) {
        let mut buffer = [0; 4096];
        match self.socket.recv(&mut buffer) {
            Ok(length) => {
                let text = String::from_utf8_lossy(&buffer[..length]);
                self.heard.extend(text.lines().map(ToOwned::to_owned));
            }
            Err(error) => assert!(
                matches!(
                    error.kind(),
                    ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted
                ),
                "{error}"
            ),
        }
    }

    /// A short turn of waiting.
    pub fn breathe(&mut self) {
        self.listen();
    }

    /// What the service manager has been told so far, line by line.
    pub fn heard(&self) -> &[String] {
        &self.heard
    }

    /// Waits until the daemon has told the service manager a line, now or before.
    pub fn wait_notified(&mut self, wanted: &str) {
        self.wait_heard(wanted, |heard| heard.iter().any(|line| line == wanted));
    }

    /// Waits until what the service manager has been told fulfils a condition.
    pub fn wait_heard(&mut self, what: &str, condition: impl Fn(&[String]) -> bool) {
        let started = Instant::now();
        while !condition(&self.heard) {
            self.listen();
            if let Some(status) = self.child.try_wait().unwrap() {
                self.listen();
                assert!(
                    condition(&self.heard),
                    "the daemon ended before {what}: {status}\n{}",
                    self.log()
                );
            }
            assert!(
                started.elapsed() < PATIENCE,
                "not in time: {what}\n{}",
                self.log()
            );
        }
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// What `radsort status --json` says.
    pub fn status(&self) -> Value {
        let output = Command::new(RADSORT)
            .args(["status", "--json", "--config"])
            .arg(&self.config)
            .output()
            .unwrap();
        serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|error| panic!("{error}: {output:?}\n{}", self.log()))
    }

    /// The same asked for at its socket, which costs less; `None` while it does not answer.
    pub fn ask_status(&self) -> Option<Value> {
        let mut client = Client::connect(&self.control).ok()??;
        let status = client.ask(&Request::Status {}, |reply| match reply {
            Reply::Status(status) => Some(status),
            _ => None,
        });
        Some(serde_json::to_value(status.ok()?).unwrap())
    }

    /// From now on its status is asked for at this socket: it has been configured to be elsewhere.
    pub fn is_asked_at(&mut self, socket: &Path) {
        socket.clone_into(&mut self.control);
    }

    /// Waits until `condition` holds of its status, which is asked for again and again.
    pub fn wait_until(&mut self, what: &str, condition: impl Fn(&Value) -> bool) -> Value {
        let started = Instant::now();
        loop {
            let status = self.ask_status();
            if let Some(status) = status.clone().filter(|status| condition(status)) {
                return status;
            }
            if let Some(code) = self.child.try_wait().unwrap() {
                panic!("the daemon ended ({code}) before {what}:\n{}", self.log());
            }
            assert!(
                started.elapsed() < PATIENCE,
                "not in time: {what}\n{status:#?}"
            );
            self.listen();
        }
    }

    /// Waits until `condition` holds of its status, for a while; whether it did.
    pub fn comes_to(&mut self, condition: impl Fn(&Value) -> bool) -> bool {
        let started = Instant::now();
        while started.elapsed() < PATIENCE {
            if self.ask_status().is_some_and(|status| condition(&status)) {
                return true;
            }
            self.listen();
        }
        false
    }

    /// Waits until something holds that the daemon brings about.
    pub fn wait_for(&mut self, what: &str, condition: impl Fn() -> bool) {
        self.wait_until(what, |_| condition());
    }

    /// Waits until its log has a text.
    pub fn wait_logged(&mut self, text: &str) {
        let log = self.log.clone();
        let has = |log: String| log.contains(text);
        self.wait_for(text, || fs::read_to_string(&log).is_ok_and(has));
    }

    /// Waits until so many files have a fate.
    pub fn wait_total(&mut self, count: u64) -> Value {
        self.wait_until(&format!("{count} files with a fate"), |status| {
            total(status) >= count
        })
    }

    /// SIGTERM, and a clean end.
    pub fn stop(mut self) -> String {
        self.signal(rustix::process::Signal::TERM);
        let status = self.wait();
        assert!(status.success(), "{status}\n{}", self.log());
        self.log()
    }

    /// kill -9.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Sends a signal.
    pub fn signal(&self, signal: rustix::process::Signal) {
        rustix::process::kill_process(rustix::process::Pid::from_child(&self.child), signal)
            .unwrap();
    }

    /// Waits for its end, whichever.
    pub fn wait(&mut self) -> std::process::ExitStatus {
        let started = Instant::now();
        loop {
            self.listen();
            if let Some(status) = self.child.try_wait().unwrap() {
                self.listen();
                return status;
            }
            assert!(
                started.elapsed() < PATIENCE,
                "the daemon did not end:\n{}",
                self.log()
            );
        }
    }

    /// Waits until it has been stopped by a signal (as failpoints do).
    pub fn wait_stopped(&mut self) {
        let started = Instant::now();
        let stat = format!("/proc/{}/stat", self.child.id());
        loop {
            let text = fs::read_to_string(&stat).unwrap();
            if text.rsplit(") ").next().unwrap().starts_with('T') {
                return;
            }
            assert!(started.elapsed() < PATIENCE, "{text}\n{}", self.log());
            self.listen();
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- the daemon's log\n{}---", self.log());
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// How many files have a fate.
pub fn total(status: &Value) -> u64 {
    status["totals"]
        .as_object()
        .map_or(0, |totals| totals.values().filter_map(Value::as_u64).sum())
}

/// The bundle in this checkout.
pub fn shipped_bundle() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("models/spine-phantom")
}

/// Real radiographs, where this checkout has them beside it; says loudly when it has not.
pub fn radiographs() -> Option<PathBuf> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data/radiographs");
    if dir.is_dir() {
        return Some(dir);
    }
    eprintln!("SKIPPED: no real radiographs at {}", dir.display());
    None
}

/// Writes small phantoms as explicit little endian, `<name>.dcm` each; gives their paths and true categories.
pub fn phantoms(dir: &Path, count: usize, seed: u64) -> Vec<(PathBuf, Option<&'static str>)> {
    let options = PlanOptions {
        count,
        seed,
        imbalance: Imbalance::Even,
        difficulty: Difficulty::Normal,
        size: Some((500, 900)),
        outside: 0.0,
    };
    fs::create_dir_all(dir).unwrap();
    let plans = phantom::plan(&options);
    plans
        .iter()
        .map(|plan| {
            let path = dir.join(format!("{}.dcm", plan.sop_instance_uid));
            plan.draw().write(&path, Syntax::ExplicitLe).unwrap();
            (path, plan.truth.category)
        })
        .collect()
}

/// A small phantom that is written again and again under other identities: what is drawn once costs little.
pub struct Mould(Phantom);

impl Mould {
    /// A frontal or lateral one, as the seed wants it, of 240 × 400 pixels.
    pub fn new(seed: u64) -> Self {
        let options = PlanOptions {
            count: 1,
            seed,
            imbalance: Imbalance::Even,
            difficulty: Difficulty::Normal,
            size: Some((240, 400)),
            outside: 0.0,
        };
        Self(phantom::plan(&options)[0].draw())
    }

    /// A DICOM file's bytes (explicit little endian), with another SOP Instance UID.
    pub fn bytes(&self, uid: &str) -> Vec<u8> {
        self.bytes_with(|header| put(header, tags::SOP_INSTANCE_UID, VR::UI, uid))
    }

    /// The same with any change of the header.
    pub fn bytes_with(&self, change: impl FnOnce(&mut InMemDicomObject)) -> Vec<u8> {
        let mut object = self.0.header.clone();
        for (tag, value) in [
            (tags::ROWS, self.0.rows as u16),
            (tags::COLUMNS, self.0.columns as u16),
        ] {
            object.put(DataElement::new(tag, VR::US, PrimitiveValue::from(value)));
        }
        object.put(DataElement::new(
            tags::PIXEL_DATA,
            VR::OW,
            PrimitiveValue::U16(self.0.pixels.as_slice().into()),
        ));
        change(&mut object);
        let meta = FileMetaTableBuilder::new()
            .transfer_syntax(uids::EXPLICIT_VR_LITTLE_ENDIAN)
            .media_storage_sop_class_uid(uids::COMPUTED_RADIOGRAPHY_IMAGE_STORAGE)
            .media_storage_sop_instance_uid("1.2.826.0.1.3680043.10.9999");
        let mut bytes = Vec::new();
        let file = object.with_meta(meta).unwrap();
        file.write_all(&mut bytes).unwrap();
        bytes
    }
}

/// Sets a text attribute.
pub fn put(header: &mut InMemDicomObject, tag: Tag, vr: VR, value: &str) {
    header.put(DataElement::new(tag, vr, PrimitiveValue::from(value)));
}

/// A valid UID for a test's n-th file.
pub fn uid(n: usize) -> String {
    format!("1.2.826.0.1.3680043.10.777.{n}")
}

/// BLAKE3 of bytes, as `query` writes it.
pub fn digest(bytes: &[u8]) -> String {
    blake3::hash(bytes).to_hex().to_string()
}

/// Every regular file below a directory.
pub fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![dir.to_owned()];
    while let Some(dir) = open.pop() {
        let Ok(entries) = fs::read_dir(&dir) else {
            continue;
        };
        for entry in entries {
            let entry = entry.unwrap();
            let kind = entry.file_type().unwrap();
            if kind.is_dir() {
                open.push(entry.path());
            } else if kind.is_file() {
                found.push(entry.path());
            }
        }
    }
    found
}

/// Files that radsort adds to the library by itself.
fn own(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    name.starts_with(".radsort-library") || name.ends_with(".reason.txt")
}

/// The digests of all files below some directories, sorted, radsort's own marker and reason files left out.
pub fn digests(dirs: &[&Path]) -> Vec<String> {
    let mut found: Vec<String> = dirs
        .iter()
        .flat_map(|dir| files(dir))
        .filter(|path| !own(&path.to_string_lossy()))
        .map(|path| blake3::hash(&fs::read(path).unwrap()).to_hex().to_string())
        .collect();
    found.sort();
    found
}
