//! What those who watch the service are told: by HTTP, by a file, by a command, by lines of the log, by `status --watch`.

#![allow(clippy::unwrap_used)]

mod common;

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::{Daemon, Mould, PATIENCE, Site, uid};
use dicom_core::VR;
use dicom_dictionary_std::tags;
use serde_json::Value;

/// Sends bytes, and reads until the other side closes.
fn exchange(mut stream: impl Read + Write, request: &[u8]) -> String {
    // Whoever is refused half-way may have been hung up on.
    let _ = stream.write_all(request);
    let mut answer = Vec::new();
    match stream.read_to_end(&mut answer) {
        Err(error) if error.kind() != ErrorKind::ConnectionReset => panic!("{error}"),
        _ => String::from_utf8(answer).unwrap(),
    }
}

fn socket(site: &Site) -> UnixStream {
    let stream = UnixStream::connect(site.state.join("metrics.sock")).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Status code and body.
fn get(site: &Site, path: &str) -> (u16, String) {
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    split(&exchange(socket(site), request.as_bytes()))
}

fn split(answer: &str) -> (u16, String) {
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((answer, ""));
    let code = head.split(' ').nth(1).unwrap_or("0");
    (code.parse().unwrap(), body.to_owned())
}

/// The value of the first sample whose line starts so.
fn sample(text: &str, start: &str) -> Option<f64> {
    let line = text.lines().find(|line| line.starts_with(start))?;
    line.rsplit(' ').next()?.parse().ok()
}

/// Sums samples whose lines hold all of these.
fn sum(text: &str, name: &str, parts: &[&str]) -> f64 {
    text.lines()
        .filter(|line| line.starts_with(name) && parts.iter().all(|part| line.contains(part)))
        .map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap())
        .sum()
}

/// The daemon opens the listener after it has said that it is ready.
fn wait_served(site: &Site, daemon: &mut Daemon) {
    let path = site.state.join("metrics.sock");
    daemon.wait_for("the metrics socket", || UnixStream::connect(&path).is_ok());
}

#[test]
fn the_socket_tells_what_happened_and_whether_files_are_taken() {
    let site = Site::new();
    let mut daemon = site.start();
    wait_served(&site, &mut daemon);
    let mould = Mould::new(81);
    for n in 0..3 {
        site.put(&format!("{n}.dcm"), &mould.bytes(&uid(n)));
    }
    site.put("letter.pdf", b"%PDF-1.4");
    daemon.wait_total(4);
    let (code, text) = get(&site, "/metrics");
    assert_eq!(code, 200);
    let files = "radsort_files_total";
    assert_eq!(sum(&text, files, &["watch=\"drop\""]), 4.0, "{text}");
    assert_eq!(
        sum(&text, files, &["decision=\"left\"", "reason=\"non-dicom\""]),
        1.0
    );
    let stages = [
        "settle", "read", "decode", "header", "render", "infer", "queue", "model", "decide",
        "file", "ledger", "carry", "fsync", "index",
    ];
    for stage in stages {
        let count = sample(
            &text,
            &format!("radsort_stage_duration_seconds_count{{site=\"radsort\",stage=\"{stage}\"}}"),
        );
        assert!(count.unwrap() >= 1.0, "{stage}\n{text}");
    }
    assert_eq!(
        sum(&text, "radsort_watch_state", &["state=\"online\""]),
        1.0
    );
    assert!(
        sample(
            &text,
            "radsort_disk_free_bytes{site=\"radsort\",disk=\"library\"}"
        )
        .unwrap()
            > 0.0
    );
    assert_eq!(get(&site, "/healthz"), (200, "alive\n".into()));
    assert_eq!(get(&site, "/readyz"), (200, "ready\n".into()));
    assert_eq!(get(&site, "/").0, 404);
    let post = exchange(
        socket(&site),
        b"POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n",
    );
    assert_eq!(split(&post).0, 405);

    // The library goes away: alive, but not ready.
    fs::rename(
        site.library.join(".radsort-library"),
        site.dir.path().join("marker"),
    )
    .unwrap();
    // Told before any file comes upon it.
    let held = |status: &Value| status["watches"][0]["state"] == "held";
    daemon.wait_until("held", held);
    assert_eq!(get(&site, "/readyz"), (503, "drop: held\n".into()));
    assert_eq!(get(&site, "/healthz").0, 200);
    site.put("late.dcm", &mould.bytes(&uid(9)));
    let retried = || {
        sum(
            &get(&site, "/metrics").1,
            "radsort_retries_total",
            &["held"],
        )
    };
    daemon.wait_for("the late file is tried", || retried() >= 1.0);
    daemon.stop();
    assert!(!site.state.join("metrics.sock").exists());
}

#[test]
fn a_client_that_asks_for_too_much_or_says_nothing_keeps_nobody_else_waiting() {
    let site = Site::new();
    let mut daemon = site.start();
    wait_served(&site, &mut daemon);
    let mode = site
        .state
        .join("metrics.sock")
        .metadata()
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o660);
    // Some that say nothing, and one with endless headers.
    let silent: Vec<UnixStream> = (0..4).map(|_| socket(&site)).collect();
    let mut endless = b"GET /metrics HTTP/1.1\r\n".to_vec();
    endless.extend(b"X-Padding: ");
    endless.resize(100_000, b'x');
    let (code, _) = split(&exchange(socket(&site), &endless));
    assert!([0, 431].contains(&code), "{code}");
    let garbage = exchange(socket(&site), b"\0\x01\x02 nonsense\r\n\r\n");
    assert!(!garbage.contains("200 OK"), "{garbage}");
    assert_eq!(get(&site, "/healthz").0, 200);
    // All places taken: one more is hung up on, and the silent ones are, too, when their time is over.
    let many: Vec<UnixStream> = (0..16).map(|_| socket(&site)).collect();
    for mut stream in silent.into_iter().chain(many) {
        let mut rest = Vec::new();
        match stream.read_to_end(&mut rest) {
            Ok(_) => {}
            Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
        }
    }
    daemon.wait_for("a free place", || get(&site, "/healthz").0 == 200);
    daemon.stop();
}

#[test]
fn a_port_that_another_program_has_is_told_before_and_after_the_start() {
    let other = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = other.local_addr().unwrap();
    let site = Site::with("", &format!("[metrics]\nlisten = \"{address}\"\n"));
    let checked = site.run(&["check"]);
    let said = String::from_utf8_lossy(&checked.stdout);
    assert!(said.contains("choose a port"), "{said}");
    let mut daemon = site.start();
    daemon.wait_logged("another program has that port");
    daemon.stop();
}

#[test]
fn a_loopback_port_is_served_where_the_site_wants_it() {
    // Free a moment ago; a port cannot be asked for by "any".
    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let address = format!("127.0.0.1:{port}");
    let site = Site::with(
        "",
        &format!("[metrics]\nlisten = \"{address}\"\nsocket = \"off\"\n"),
    );
    let mut daemon = site.start();
    daemon.wait_for("the port", || TcpStream::connect(&address).is_ok());
    let stream = TcpStream::connect(&address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let (code, text) = split(&exchange(
        stream,
        b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n",
    ));
    assert!(
        code == 200 && text.contains("radsort_build_info"),
        "{code} {text}"
    );
    assert!(!site.state.join("metrics.sock").exists());
    daemon.stop();
}

#[test]
fn the_text_file_is_there_while_the_service_runs_and_no_longer() {
    let prom = tempfile::tempdir().unwrap();
    let metrics = format!(
        "[metrics]\ntextfile = {:?}\ninterval = \"1s\"\n",
        prom.path().to_str().unwrap()
    );
    let site = Site::with("", &metrics);
    let file = prom.path().join("radsort.prom");
    let mut daemon = site.start();
    site.put("1.dcm", &Mould::new(82).bytes(&uid(1)));
    daemon.wait_for("the file with its figure", || {
        let text = fs::read_to_string(&file).unwrap_or_default();
        assert!(text.is_empty() || text.ends_with('\n'), "half a file");
        sum(&text, "radsort_files_total", &[]) == 1.0
    });
    assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o644);
    daemon.stop();
    assert_eq!(fs::read_dir(prom.path()).unwrap().count(), 0);
}

#[test]
fn figures_of_a_service_that_has_died_tell_their_age() {
    let prom = tempfile::tempdir().unwrap();
    let metrics = format!(
        "[metrics]\ntextfile = {:?}\n",
        prom.path().to_str().unwrap()
    );
    let site = Site::with("", &metrics);
    let file = prom.path().join("radsort.prom");
    let updated = || {
        let text = fs::read_to_string(&file).unwrap_or_default();
        sample(&text, "radsort_last_update_timestamp_seconds{")
    };
    let before = jiff::Timestamp::now().as_millisecond() as f64 / 1e3;
    let mut daemon = site.start();
    daemon.wait_for("the file", || updated().is_some());
    daemon.kill();
    let died = jiff::Timestamp::now().as_millisecond() as f64 / 1e3;
    // Neither the crash nor a start that fails makes its last figures younger, or lets them vanish without an alarm.
    fs::write(&site.config, "nonsense = 1\n").unwrap();
    assert_eq!(site.run(&["run"]).status.code(), Some(78));
    assert!((before..=died).contains(&updated().unwrap()));
    let rules = include_str!("../packaging/prometheus/radsort.rules.yml");
    let gone = rules.split("- alert: ").nth(1).unwrap();
    assert!(gone.starts_with("RadsortGone\n"), "{gone}");
    for part in [
        "time() - radsort_last_update_timestamp_seconds > 120",
        "absent(",
    ] {
        assert!(gone.contains(part), "{gone}");
    }
}

#[test]
fn figures_that_cannot_be_given_out_keep_nothing_from_being_sorted() {
    let metrics = "[metrics]\ntextfile = \"/nowhere/at/all\"\nlisten = \"127.0.0.1:1\"\n";
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let metrics = metrics.replace("127.0.0.1:1", &taken.local_addr().unwrap().to_string());
    let site = Site::with("", &metrics);
    let mut daemon = site.start();
    site.put("1.dcm", &Mould::new(83).bytes(&uid(1)));
    daemon.wait_total(1);
    daemon.wait_until("both are told", |status| {
        let errors = status["errors"].to_string();
        errors.contains("/nowhere/at/all/radsort.prom") && errors.contains("docs/monitoring.md")
    });
    daemon.stop();
}

#[test]
fn the_doctor_says_where_figures_for_node_exporter_go_and_why_they_do_not() {
    let prom = tempfile::tempdir().unwrap();
    for (directory, level) in [
        (prom.path().to_str().unwrap(), "ok"),
        ("/nowhere/at/all", "warning"),
    ] {
        let site = Site::with("", &format!("[metrics]\ntextfile = {directory:?}\n"));
        let text = site.ok(&["check", "--json"]);
        let finding = text
            .lines()
            .find(|line| line.contains("\"metrics file\""))
            .unwrap();
        let finding: Value = serde_json::from_str(finding).unwrap();
        assert_eq!(finding["level"], level, "{finding}");
        assert!(
            finding["message"].as_str().unwrap().starts_with(directory),
            "{finding}"
        );
    }
    assert_eq!(fs::read_dir(prom.path()).unwrap().count(), 0);
}

/// A script that adds what it is told to a file.
fn teller(dir: &Path) -> (PathBuf, PathBuf) {
    let (script, heard) = (dir.join("tell"), dir.join("heard"));
    let text = format!(
        "#!/bin/sh\necho \"$RADSORT_EVENT $RADSORT_STATE $RADSORT_SUBJECT\" >> {}\n",
        heard.display()
    );
    fs::write(&script, text).unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    (script, heard)
}

#[test]
fn the_sites_command_is_run_when_intake_is_paused_and_a_full_disk_threatens() {
    let dir = tempfile::tempdir().unwrap();
    let (script, heard) = teller(dir.path());
    // No disk has so much left.
    let alert = format!(
        "[alert]\ncommand = [{:?}]\ndisk-below = \"9000000000GiB\"\n",
        script.to_str().unwrap()
    );
    let site = Site::with("", &alert);
    let mut daemon = site.start();
    let said = |line: &str| {
        fs::read_to_string(&heard)
            .unwrap_or_default()
            .lines()
            .filter(|it| *it == line)
            .count()
    };
    daemon.wait_for("the disks", || {
        said("disk-low begins library") == 1 && said("disk-low begins state") == 1
    });
    fs::rename(
        site.library.join(".radsort-library"),
        site.dir.path().join("marker"),
    )
    .unwrap();
    site.put("late.dcm", &Mould::new(84).bytes(&uid(9)));
    daemon.wait_for("the pause", || said("intake-paused begins drop") == 1);
    let log = daemon.stop();
    assert!(
        log.contains("disk-low") && log.contains("intake-paused"),
        "{log}"
    );
    assert_eq!(said("disk-low begins state"), 1, "said once while it lasts");
}

#[test]
fn the_sites_command_hears_of_filed_files_that_are_altered_or_gone() {
    let dir = tempfile::tempdir().unwrap();
    let (script, heard) = teller(dir.path());
    let alert = format!("[alert]\ncommand = [{:?}]\n", script.to_str().unwrap());
    let site = Site::with("", &alert);
    let mut daemon = site.start();
    let mould = Mould::new(88);
    for n in 1..=2 {
        site.put(&format!("{n}.dcm"), &mould.bytes(&uid(n)));
    }
    daemon.wait_total(2);
    let filed = |n| {
        let found = site.filed().into_iter().find(|path| path.contains(&uid(n)));
        site.library.join(found.unwrap())
    };
    fs::write(filed(1), "other bytes").unwrap();
    // The same instance comes again, a little different: then it is looked at.
    let again = mould.bytes_with(|header| {
        common::put(header, tags::SOP_INSTANCE_UID, VR::UI, &uid(1));
        common::put(header, tags::STUDY_DESCRIPTION, VR::LO, "again");
    });
    site.put("again.dcm", &again);
    daemon.wait_until("the altered one", |status| status["altered"] == 1);
    fs::remove_file(filed(2)).unwrap();
    for _ in 0..2 {
        site.ok(&["labels", "look"]);
    }
    daemon.wait_until("the missing one", |status| status["missing"] == 1);
    daemon.wait_for("both are told", || {
        let heard = fs::read_to_string(&heard).unwrap_or_default();
        let told = |line: &str| heard.lines().filter(|it| *it == line).count() == 1;
        told("altered begins library") && told("missing begins library")
    });
    assert!(site.ok(&["status"]).contains("FILED FILES ALTERED: 1;"));
    daemon.stop();
}

/// In the unit's sandbox nothing is to be had but the state directory: no spool, no rights of another group.
#[test]
fn the_manuals_alert_command_leaves_one_whole_message_for_the_mailing_unit() {
    let manual = include_str!("../docs/monitoring.md");
    let script = manual
        .split("```sh\n")
        .find(|block| block.contains("# /usr/local/sbin/tell-the-operators"))
        .unwrap();
    let script = script.split("```").next().unwrap();
    let state = tempfile::tempdir().unwrap();
    let script = script.replace("/var/lib/radsort", state.path().to_str().unwrap());
    for turn in ["begins", "over"] {
        let output = Command::new("sh")
            .args(["-c", &script])
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("RADSORT_EVENT", "altered")
            .env("RADSORT_STATE", turn)
            .env("RADSORT_MESSAGE", "1 filed file; \"$(id)\" %s")
            .output()
            .unwrap();
        assert!(
            output.status.success() && output.stderr.is_empty(),
            "{output:?}"
        );
    }
    let messages = common::files(state.path());
    let text = fs::read_to_string(&messages[0]).unwrap();
    assert_eq!(
        text,
        "Subject: radsort: altered\n\n1 filed file; \"$(id)\" %s\n"
    );
    assert!(messages.len() == 1 && messages[0].starts_with(state.path().join("alerts")));
}

/// The log's lines as JSON objects.
fn lines(log: &str) -> Vec<Value> {
    let parse =
        |line: &str| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
    log.lines().map(parse).collect()
}

#[test]
fn a_file_costs_one_line_of_the_log_which_says_everything_but_who_it_is() {
    let site = Site::with("", "[log]\ntarget = \"json\"\n");
    let mould = Mould::new(85);
    let mut daemon = site.start();
    for n in 0..5 {
        site.put(&format!("{n}.dcm"), &mould.bytes(&uid(n)));
    }
    site.put("bad.dcm", &mould.bytes("bad.uid"));
    site.put("letter.pdf", b"%PDF-1.4");
    daemon.wait_total(7);
    let log = daemon.stop();
    let lines = lines(&log);
    let of = |event: &str| -> Vec<&Value> {
        let fields = lines.iter().map(|line| &line["fields"]);
        fields.filter(|fields| fields["event"] == event).collect()
    };
    let files: usize = ["filed", "review", "quarantined", "left"]
        .map(|event| of(event).len())
        .iter()
        .sum();
    assert_eq!(files, 7, "{log}");
    let life = ["starting", "ready", "share-online", "stopping", "stopped"];
    for event in life {
        assert_eq!(of(event).len(), 1, "{event}: {log}");
    }
    // Whether there is a GPU and room on its disks is the machine's affair, and what it promises the bundle's.
    let of_files_and_life = lines.iter().filter(|line| {
        let message = line["fields"]["message"].as_str().unwrap();
        line["target"] != "radsort::model::cascade"
            && line["fields"]["event"] != "disk-low"
            && !message.starts_with("the model's promise")
    });
    assert_eq!(
        of_files_and_life.count(),
        files + life.len(),
        "a line too many: {log}"
    );
    let quarantined = of("quarantined")[0];
    assert_eq!(
        quarantined["reason"], "invalid-sop-instance-uid",
        "{quarantined}"
    );
    assert!(quarantined["category"].is_null() && quarantined["model"].is_null());
    // A pseudonym unless the site says otherwise; the record leads to the file.
    let classified = of("filed").into_iter().chain(of("review")).next().unwrap();
    assert!(!log.contains(&uid(0)), "{log}");
    assert!(
        classified["sop_instance_uid"].as_str().unwrap().len() > 8,
        "{classified}"
    );
    for field in ["watch", "category", "confidence", "model", "duration_ms"] {
        assert!(!classified[field].is_null(), "{field}: {classified}");
    }
    let record = classified["record"].as_str().unwrap();
    let shown = site.ok(&["show", record]);
    assert!(shown.contains("1.2.826.0.1.3680043.10.777."), "{shown}");
}

#[test]
fn what_may_not_be_read_is_told_everywhere_and_its_end_too() {
    if !rustix::process::geteuid().is_root() {
        return eprintln!("SKIPPED: this wants root");
    }
    let site = Site::with("", "[log]\ntarget = \"json\"\n");
    let open = |path: &Path, mode| {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    };
    let somebody = |path: &Path, mode| {
        std::os::unix::fs::chown(path, Some(65_534), Some(65_534)).unwrap();
        open(path, mode);
    };
    let mould = Mould::new(89);
    let closed = site.drop.join("Kwiatkowska");
    fs::create_dir(&closed).unwrap();
    fs::write(closed.join("1.dcm"), mould.bytes(&uid(1))).unwrap();
    somebody(&closed, 0o700);
    let unreadable = site.drop.join("Zbyslawa.dcm");
    fs::write(&unreadable, mould.bytes(&uid(2))).unwrap();
    somebody(&unreadable, 0o000);

    // Root's leave to read everything is taken from it.
    let run = site.command(&["run"]);
    let mut command = Command::new("setpriv");
    command
        .arg("--bounding-set=-dac_override,-dac_read_search")
        .arg(run.get_program())
        .args(run.get_args());
    for (name, value) in run.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    if Command::new("setpriv").arg("--version").output().is_err() {
        return eprintln!("SKIPPED: there is no setpriv here");
    }
    let mut daemon = site.spawn_command(command);
    daemon.wait_ready();
    let status = daemon.wait_until("both are told", |status| {
        let watch = &status["watches"][0];
        watch["cannot_take"] == 1 && watch["unreadable"] == 1
    });
    let why = status["watches"][0]["why"].as_str().unwrap();
    assert!(
        why.contains("1 files: radsort may not read it")
            && why.contains("1 of its entries cannot be read"),
        "{why}"
    );
    wait_served(&site, &mut daemon);
    let figures = get(&site, "/metrics").1;
    let gauge = |name: &str| sum(&figures, name, &["watch=\"drop\""]);
    assert_eq!(gauge("radsort_unreadable_entries{"), 1.0);
    assert_eq!(gauge("radsort_untakeable_files{"), 1.0);
    // Seen with 0 before anything happens.
    for counter in [
        "radsort_vanished_files_total{",
        "radsort_retries_total{",
        "radsort_alert_runs_total{",
    ] {
        assert!(figures.contains(counter), "{counter}: {figures}");
    }
    daemon.wait_heard("the line for the service manager", |heard| {
        heard
            .iter()
            .any(|line| line.contains("FILES THAT MAY NOT BE TAKEN: 1; UNREADABLE ENTRIES: 1;"))
    });
    for event in ["share-unreadable", "cannot-take"] {
        daemon.wait_logged(event);
    }
    open(&closed, 0o777);
    open(&unreadable, 0o666);
    daemon.wait_total(2);
    daemon.wait_logged("no longer: drop: 1 of its entries");
    daemon.wait_logged("no longer: drop: files cannot be taken");
    let log = daemon.stop();
    let begun = lines(&log)
        .iter()
        .filter(|line| line["fields"]["state"] == "begins")
        .count();
    assert_eq!(begun, 2, "once each: {log}");
    assert!(
        !log.contains("Kwiatkowska") && !log.contains("Zbyslawa"),
        "{log}"
    );
}

#[test]
fn a_trouble_that_lasts_is_logged_once_and_its_end_too() {
    let site = Site::with("", "[log]\ntarget = \"json\"\n");
    let mut daemon = site.start();
    let (marker, aside) = (
        site.library.join(".radsort-library"),
        site.dir.path().join("marker"),
    );
    fs::rename(&marker, &aside).unwrap();
    site.put("1.dcm", &Mould::new(86).bytes(&uid(1)));
    // Tried twice at least.
    daemon.wait_until("two tries", |status| {
        let errors = status["errors"].as_array().unwrap();
        errors
            .iter()
            .any(|error| error["times"].as_u64() >= Some(2))
    });
    fs::rename(&aside, &marker).unwrap();
    daemon.wait_total(1);
    let log = daemon.stop();
    let count = |event: &str| {
        lines(&log)
            .iter()
            .filter(|line| line["fields"]["event"] == event)
            .count()
    };
    assert_eq!(
        (count("intake-paused"), count("intake-resumed")),
        (1, 1),
        "{log}"
    );
}

#[test]
fn the_line_for_the_service_manager_is_alive() {
    let site = Site::new();
    let mut daemon = site.start();
    site.put("1.dcm", &Mould::new(87).bytes(&uid(1)));
    daemon.wait_total(1);
    daemon.wait_heard("a line with the file in it", |heard| {
        heard.iter().any(|line| {
            line.starts_with("STATUS=1 of 1 drop directories online; nothing waiting;")
                && (line.contains("1 filed") || line.contains("1 for review"))
        })
    });
    daemon.stop();
}

#[test]
fn the_doctor_says_what_to_do_about_each_warning_and_leaves_nothing_behind() {
    let site = Site::new();
    let text = site.ok(&["check", "--json"]);
    let findings: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert!(findings.iter().all(|it| it["level"] != "error"), "{text}");
    // Every warning says what to do.
    for finding in findings.iter().filter(|it| it["level"] == "warning") {
        assert!(!finding["advice"].as_str().unwrap().is_empty(), "{finding}");
    }
    assert_eq!(fs::read_dir(&site.drop).unwrap().count(), 0);
    assert_eq!(fs::read_dir(&site.library).unwrap().count(), 0);
}
