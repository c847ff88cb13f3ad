//! The service towards those who run it: start and stop, answers under load, reloads, commands beside it, exit codes.

#![allow(clippy::unwrap_used)]

mod common;
#[path = "common/mount.rs"]
mod mount;

use std::fs;
use std::time::{Duration, Instant};

use common::{Mould, Site, total, uid};
use mount::Mount;
use rustix::process::Signal;

#[test]
fn the_service_manager_is_told_of_readiness_and_of_stopping_in_this_order() {
    let site = Site::new();
    let mut daemon = site.start();
    // READY means that it can be asked, and that files are taken.
    assert_eq!(daemon.status()["watches"][0]["state"], "online");
    site.put("1.dcm", &Mould::new(71).bytes(&uid(1)));
    daemon.wait_total(1);
    daemon.signal(Signal::TERM);
    let end = daemon.wait();
    assert!(end.success(), "{end}\n{}", daemon.log());
    let heard = daemon.heard();
    let at = |line: &str| heard.iter().position(|heard| heard == line);
    let (ready, stopping) = (at("READY=1").unwrap(), at("STOPPING=1").unwrap());
    assert!(ready < stopping, "{heard:?}");
    let extended = |line: &String| line.starts_with("EXTEND_TIMEOUT_USEC=");
    assert!(heard[..ready].iter().any(extended), "{heard:?}");
    assert!(
        heard[ready..]
            .iter()
            .any(|line| line.starts_with("STATUS="))
    );
    assert!(
        !site.state.join("control.sock").exists() || site.run(&["status"]).status.code() == Some(3)
    );
}

#[test]
fn what_is_under_way_when_it_is_told_to_stop_is_filed_or_stays_for_the_next_start() {
    let site = Site::new();
    let mould = Mould::new(72);
    for n in 0..20 {
        site.put(&format!("{n}.dcm"), &mould.bytes(&uid(n)));
    }
    let before = site.digests();
    let mut daemon = site.start();
    daemon.wait_total(1);
    daemon.stop();
    assert_eq!(site.digests(), before);
    assert!(site.remains().is_empty(), "{:?}", site.remains());
    site.assert_verified();
    let mut daemon = site.start();
    daemon.wait_total(20);
    daemon.stop();
    assert_eq!(site.records().len(), 20);
}

#[test]
fn status_and_query_are_answered_while_a_burst_is_worked_off() {
    const COUNT: u64 = 300;
    let site = Site::new();
    let mould = Mould::new(73);
    let burst = site.dir.path().join("burst");
    fs::create_dir(&burst).unwrap();
    for n in 0..COUNT {
        let bytes = mould.bytes(&uid(n as usize));
        fs::write(burst.join(format!("{n}.dcm")), bytes).unwrap();
    }
    let mut daemon = site.start();
    fs::rename(&burst, site.drop.join("burst")).unwrap();
    let (mut within, mut longest) = (0, Duration::ZERO);
    loop {
        let asked = Instant::now();
        let done = total(&daemon.status());
        let counted: u64 = site.ok(&["query", "--count"]).trim().parse().unwrap();
        longest = longest.max(asked.elapsed());
        assert!(counted >= done);
        if done == COUNT {
            break;
        }
        within += usize::from(done > 0);
        assert!(daemon.child.try_wait().unwrap().is_none());
    }
    assert!(within > 0, "the burst was over before anything was asked");
    // Two commands; on an idle machine they take some milliseconds.
    assert!(longest < Duration::from_secs(10), "{longest:?}");
    daemon.wait_until("nothing waits", |status| {
        status["watches"][0]["waiting"] == 0
    });
    daemon.stop();
    assert_eq!(site.records().len(), COUNT as usize);
}

#[test]
fn a_reload_with_a_bad_configuration_fails_with_the_reason_and_the_old_one_stays() {
    let site = Site::new();
    let mut daemon = site.start();
    let good = fs::read_to_string(&site.config).unwrap();

    // A key that does not exist, and a model that does not.
    let bad_model = good.replace("models/spine-phantom", "models/nowhere");
    for (bad, word) in [
        (format!("{good}\n[libary]\npath = \"/x\"\n"), "libary"),
        (bad_model, "nowhere"),
        (good.clone() + "\nthis is = not [ TOML\n", "radsort.toml:"),
    ] {
        fs::write(&site.config, bad).unwrap();
        let output = site.run(&["reload"]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success(), "{word}");
        assert!(said.contains(word), "{word}: {said}");
        // The status can be asked for all the same, and says why.
        let status = daemon.status();
        let why = status["reload_error"]["message"].as_str().unwrap();
        assert!(why.contains(word), "{word}: {why}");
    }

    // SIGHUP likewise; it is told by status alone.
    fs::write(&site.config, &good).unwrap();
    site.ok(&["reload"]);
    assert!(daemon.status()["reload_error"].is_null());
    fs::write(&site.config, format!("{good}\n[[wacht]]\n")).unwrap();
    daemon.signal(Signal::HUP);
    daemon.wait_until("the failed reload", |status| {
        status["reload_error"]["message"]
            .as_str()
            .is_some_and(|why| why.contains("wacht"))
    });

    // The old settings work on.
    site.put("1.dcm", &Mould::new(74).bytes(&uid(1)));
    daemon.wait_total(1);
    fs::write(&site.config, good).unwrap();
    daemon.signal(Signal::HUP);
    daemon.wait_until("the reload", |status| status["reload_error"].is_null());
    daemon.stop();
}

#[test]
fn a_reload_takes_up_a_new_drop_directory_and_lets_go_of_one() {
    let site = Site::new();
    let mould = Mould::new(75);
    let mut daemon = site.start();
    let second = site.dir.path().canonicalize().unwrap().join("second");
    fs::create_dir(&second).unwrap();
    let good = fs::read_to_string(&site.config).unwrap();
    let more = format!("{good}\n[[watch]]\npath = {second:?}\nsettle = \"300ms\"\n");
    fs::write(&site.config, &more).unwrap();
    site.ok(&["reload"]);
    let status = daemon.status();
    assert_eq!(status["watches"].as_array().unwrap().len(), 2, "{status}");
    fs::write(second.join("1.dcm"), mould.bytes(&uid(1))).unwrap();
    site.put("2.dcm", &mould.bytes(&uid(2)));
    daemon.wait_total(2);
    assert_eq!(
        site.records()
            .iter()
            .filter(|it| it["source"] == "second")
            .count(),
        1
    );

    fs::write(&site.config, good).unwrap();
    site.ok(&["reload"]);
    assert_eq!(daemon.status()["watches"].as_array().unwrap().len(), 1);
    fs::write(second.join("3.dcm"), mould.bytes(&uid(3))).unwrap();
    site.put("4.dcm", &mould.bytes(&uid(4)));
    daemon.wait_total(3);
    daemon.stop();
    assert!(second.join("3.dcm").is_file());
    site.assert_verified();
}

#[test]
fn a_setting_that_needs_a_restart_is_refused_by_a_reload() {
    let site = Site::new();
    let daemon = site.start();
    let good = fs::read_to_string(&site.config).unwrap();
    let other = good.replace("/library\"", "/another\"");
    assert_ne!(other, good);
    fs::write(&site.config, other).unwrap();
    let output = site.run(&["reload"]);
    assert!(!output.status.success());
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("restart"), "{said}");
    daemon.stop();
}

#[test]
fn sorting_beside_a_running_service_hands_the_directory_over() {
    let site = Site::new();
    let mould = Mould::new(76);
    let archive = site.dir.path().join("archive");
    fs::create_dir(&archive).unwrap();
    for n in 0..3 {
        fs::write(archive.join(format!("{n}.dcm")), mould.bytes(&uid(n))).unwrap();
    }
    fs::write(archive.join("letter.pdf"), "%PDF-1.4").unwrap();
    let daemon = site.start();
    let summary = site.json(&["sort", archive.to_str().unwrap(), "--json"]);
    let count = |key: &str| summary[key].as_u64().unwrap();
    assert_eq!(count("filed") + count("review"), 3, "{summary}");
    assert_eq!((count("left"), count("waiting")), (1, 0), "{summary}");
    assert_eq!(total(&daemon.status()), 4);
    assert!(daemon.log().contains("sort-"), "the service did not do it");
    daemon.stop();
    assert_eq!(site.filed().len(), 3);
    site.assert_verified();
}

#[test]
fn a_directory_that_the_service_may_not_take_files_out_of_is_told_at_once() {
    let site = Site::new();
    let archive = site.dir.path().join("archive");
    fs::create_dir(&archive).unwrap();
    let Some(mount) = Mount::tmpfs(&archive, "4m") else {
        return;
    };
    fs::write(archive.join("0.dcm"), Mould::new(76).bytes(&uid(0))).unwrap();
    mount.remount("ro");
    let daemon = site.start();
    for words in [&["--json"][..], &["--dry-run"]] {
        let output = site.run(&[&["sort", archive.to_str().unwrap()], words].concat());
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success(), "{output:?}");
        assert!(
            said.contains("mounted read-only") && said.contains("radsort setup"),
            "{said}"
        );
    }
    daemon.stop();
}

#[test]
fn a_pass_ends_with_who_asked_for_it() {
    let site = Site::with("settle = \"600 s\"", "");
    let archive = site.dir.path().join("archive");
    fs::create_dir(&archive).unwrap();
    fs::write(archive.join("0.dcm"), Mould::new(76).bytes(&uid(0))).unwrap();
    let mut daemon = site.start();
    let mut asks = site
        .command(&["sort", archive.to_str().unwrap()])
        .spawn()
        .unwrap();
    daemon.wait_logged("sort-");
    asks.kill().unwrap();
    asks.wait().unwrap();
    daemon.wait_for("another may begin", || {
        site.run(&["reindex"]).status.success()
    });
    daemon.stop();
}

#[test]
fn a_control_socket_that_somebody_removes_is_made_again() {
    let site = Site::new();
    let mut daemon = site.start();
    let socket = fs::read_dir(&site.state).unwrap().flatten();
    let mut socket = socket.map(|entry| entry.path());
    let socket = socket.find(|path| path.ends_with("control.sock")).unwrap();
    fs::remove_file(&socket).unwrap();
    daemon.wait_logged("has been made again");
    assert!(site.run(&["status"]).status.success());
    daemon.stop();
    assert!(!socket.exists());
}

#[test]
fn the_quarantine_is_listed_and_given_back_with_and_without_a_service() {
    let site = Site::new();
    let mould = Mould::new(77);
    let (first, second) = (mould.bytes("bad.uid"), mould.bytes("worse/uid"));
    let mut daemon = site.start();
    site.put("first.dcm", &first);
    site.put("second.dcm", &second);
    daemon.wait_total(2);
    let list = || -> Vec<serde_json::Value> {
        let text = site.ok(&["quarantine", "list", "--json"]);
        let lines = text.lines().map(|line| serde_json::from_str(line).unwrap());
        lines.collect()
    };
    let listed = list();
    assert_eq!(listed.len(), 2, "{listed:#?}");
    assert!(
        site.ok(&["quarantine", "list"])
            .contains("invalid-sop-instance-uid")
    );
    let path_of = |name: &str| {
        let row = listed.iter().find(|row| row["from"] == name).unwrap();
        row["path"].as_str().unwrap().to_owned()
    };
    site.ok(&["quarantine", "release", &path_of("first.dcm")]);
    assert_eq!(fs::read(site.drop.join("first.dcm")).unwrap(), first);
    assert_eq!(list().len(), 1);
    assert!(
        !site
            .run(&["quarantine", "release", "1.2.3"])
            .status
            .success()
    );
    // It is not taken again, for as long as it stays as it is.
    site.put("third.dcm", &mould.bytes(&uid(3)));
    daemon.wait_for("the third", || {
        site.filed().iter().any(|path| path.contains(&uid(3)))
    });
    assert!(site.drop.join("first.dcm").is_file());
    daemon.stop();

    site.ok(&["quarantine", "release", &path_of("second.dcm")]);
    assert_eq!(fs::read(site.drop.join("second.dcm")).unwrap(), second);
    assert!(list().is_empty());
    let reasons = common::files(&site.library);
    let reasons = reasons
        .iter()
        .filter(|path| path.to_string_lossy().ends_with(".reason.txt"));
    assert_eq!(reasons.count(), 0);
    let summary = site.sort();
    assert_eq!(summary["quarantined"], 0, "{summary}");
}

#[test]
fn exit_codes_say_what_is_wrong() {
    let site = Site::new();
    let code = |words: &[&str]| site.run(words).status.code().unwrap();
    assert_eq!(code(&["status"]), 3, "no service runs");
    assert_eq!(code(&["reload"]), 1, "no service runs");
    assert_eq!(code(&["query", "--nonsense"]), 2, "wrong usage");
    let good = fs::read_to_string(&site.config).unwrap();
    fs::write(&site.config, format!("{good}\n[nonsense]\n")).unwrap();
    for words in [
        &["run"] as &[&str],
        &["sort", site.drop.to_str().unwrap()],
        &["query"],
        &["check"],
    ] {
        let output = site.run(words);
        let said = String::from_utf8_lossy(&output.stderr).into_owned()
            + &String::from_utf8_lossy(&output.stdout);
        let expected = if words[0] == "check" { 1 } else { 78 };
        assert_eq!(output.status.code(), Some(expected), "{words:?}: {said}");
        assert!(
            said.contains("nonsense") && said.contains("radsort.toml:"),
            "{said}"
        );
    }
    fs::remove_file(&site.config).unwrap();
    assert_eq!(code(&["run"]), 78, "no configuration");
}

#[test]
fn what_keeps_the_service_from_starting_is_one_line_for_programs_with_its_event() {
    let site = Site::with(
        "",
        "[log]\ntarget = \"json\"\n[model]\nbundle = \"/nonexistent/bundle\"\n",
    );
    let output = site.run(&["run"]);
    assert_eq!(output.status.code(), Some(78));
    let said = String::from_utf8(output.stderr).unwrap();
    let lines = said.lines().map(|line| {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        line["fields"].clone()
    });
    let failed: Vec<_> = lines.filter(|line| line["event"] == "failed").collect();
    let [failed] = failed.as_slice() else {
        panic!("{said}");
    };
    assert_eq!(failed["exit_status"], 78, "{failed}");
    let why = failed["message"].as_str().unwrap();
    assert!(why.contains("/nonexistent/bundle"), "{why}");
}

/// There was nothing in it, so nothing is lost.
#[test]
fn a_first_start_that_fails_leaves_no_ledger_that_could_be_missed() {
    let site = Site::with("", "[model]\nbundle = \"/nonexistent/bundle\"\n");
    assert_eq!(site.run(&["run"]).status.code(), Some(78));
    assert!(site.state.join("key").exists(), "it did not come that far");
    site.configure("", "");
    let mut daemon = site.start();
    site.put("1.dcm", &common::Mould::new(88).bytes(&common::uid(1)));
    let status = daemon.wait_total(1);
    assert_eq!(status["errors"].as_array().unwrap().len(), 0, "{status}");
    let log = daemon.stop();
    assert!(!log.contains("ledger-gone"), "{log}");
}

#[test]
fn what_the_configuration_names_wrongly_is_for_a_person_and_what_may_be_mounted_later_is_not() {
    let site = Site::new();
    let not_mounted = site.dir.path().canonicalize().unwrap().join("not-mounted");
    fs::create_dir(&not_mounted).unwrap();
    let bundle = |path: &str| format!("[model]\nbundle = {path:?}\n");
    let library = |path: &str| format!("library = {path:?}\n");
    let (waiting, shipped) = (
        not_mounted.join("bundle"),
        bundle(common::shipped_bundle().to_str().unwrap()),
    );
    for (lines, word, expected) in [
        (bundle("/nonexistent/bundle"), "/nonexistent/bundle", 78),
        (bundle(waiting.to_str().unwrap()), "not-mounted", 1),
        (bundle(site.dir.path().to_str().unwrap()), "bundle.toml", 78),
        ("[review]\nbelow = 0.01\n".into(), "[review]", 78),
        (
            "[review.categories]\nno-such = 0.99\n".into(),
            "no-such",
            78,
        ),
        (format!("gpu = \"require\"\n{shipped}"), "without CUDA", 78),
        (
            library("/nonexistent/lib.so") + &shipped,
            "/nonexistent/lib.so",
            78,
        ),
        (
            "[control]\nsocket = \"/nonexistent/x/control.sock\"\n".into(),
            "[control] socket",
            78,
        ),
    ] {
        // `[runtime]` is the last section before these lines, unless they bring one of their own.
        site.configure("", &lines);
        let output = site.run(&["run"]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(expected), "{lines}: {said}");
        assert!(said.contains(word), "{word}: {said}");
        let twice = "No such file or directory (os error 2): No such file";
        assert!(!said.contains(twice), "{said}");
    }
}

#[test]
fn an_idle_service_answers_its_watchdog() {
    let site = Site::new();
    let mut daemon = site.start_with(&[("WATCHDOG_USEC", "300000")]);
    daemon.wait_heard("three pings", |heard| {
        heard.iter().filter(|line| *line == "WATCHDOG=1").count() >= 3
    });
    daemon.stop();
}

#[test]
fn a_ledger_of_a_later_program_is_for_a_person() {
    let site = Site::new();
    let daemon = site.start();
    daemon.stop();
    let segment = site.state.join("ledger/00000001.jsonl");
    let later = fs::read_to_string(&segment)
        .unwrap()
        .replace("{\"v\":1,", "{\"v\":9,");
    fs::write(&segment, &later).unwrap();
    let output = site.run(&["run"]);
    assert_eq!(output.status.code(), Some(78), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("later radsort"));
    assert_eq!(fs::read_to_string(&segment).unwrap(), later);
}
