//! What other people's programs make of what is shipped: shells of the completions, Prometheus of the rules and figures.

#![allow(clippy::unwrap_used)]

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use common::{Mould, RADSORT, Site, uid};

fn packaged(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("packaging")
        .join(path)
}

/// What a shell prints to a script, in which `$1` is the completions' file and `radsort` is the program; `None`, and said so,
/// where there is no such shell.
fn told_by(shell: &str, script: &[&str], completions: &str) -> Option<String> {
    let program = Path::new(RADSORT).parent().unwrap().display();
    let path = std::env::var("PATH").unwrap();
    let output = Command::new(shell)
        .args(script)
        .arg(packaged(completions))
        .env("PATH", format!("{program}:{path}"))
        .stdin(Stdio::null())
        .output();
    let Ok(output) = output else {
        eprintln!("SKIPPED: there is no {shell} here");
        return None;
    };
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() && said.is_empty(),
        "{shell}: {said}"
    );
    Some(String::from_utf8(output.stdout).unwrap())
}

#[test]
fn bash_offers_the_verbs_and_their_options() {
    let script = "source \"$1\"
        offer() { COMP_WORDS=(radsort \"$@\" \"\"); COMP_CWORD=$(($# + 1)); _radsort radsort \"\" \"${@: -1}\"; echo \"${COMPREPLY[@]}\"; }
        offer; offer models";
    let completions = "usr/share/bash-completion/completions/radsort";
    let Some(offered) = told_by("bash", &["-c", script, "bash"], completions) else {
        return;
    };
    let (verbs, of_models) = offered.trim().split_once('\n').unwrap();
    assert!(verbs.contains("quarantine"), "{verbs}");
    assert!(of_models.contains("rollback"), "{of_models}");
}

#[test]
fn zsh_takes_the_completions_for_its_own() {
    let script = "fpath=(${1:h} $fpath); autoload -U compinit; compinit -D -u
        print $_comps[radsort]; autoload +X _radsort; functions _radsort | grep -c rollback";
    let completions = "usr/share/zsh/vendor-completions/_radsort";
    let Some(said) = told_by("zsh", &["-fc", script, "zsh"], completions) else {
        return;
    };
    let (function, mentions) = said.trim().split_once('\n').unwrap();
    assert_eq!(function, "_radsort");
    assert_ne!(mentions, "0");
}

#[test]
fn fish_offers_the_verbs_and_their_options() {
    let script =
        "source $argv[1]; complete -C 'radsort models '; complete -C 'radsort labels export --'";
    let completions = "usr/share/fish/vendor_completions.d/radsort.fish";
    let Some(offered) = told_by("fish", &["--no-config", "-c", script], completions) else {
        return;
    };
    assert!(offered.contains("rollback\t"), "{offered}");
    assert!(offered.contains("--untouched\t"), "{offered}");
}

/// Runs promtool in a directory of its own; `None`, and said so, where there is none.
fn promtool(dir: &Path, words: &[&str], input: Option<&str>) -> Option<(bool, String)> {
    let given = dir.join("given");
    fs::write(&given, input.unwrap_or_default()).unwrap();
    let output = Command::new("promtool")
        .args(words)
        .current_dir(dir)
        .stdin(fs::File::open(given).unwrap())
        .output();
    let Ok(output) = output else {
        eprintln!("SKIPPED: there is no promtool here");
        return None;
    };
    let said = [output.stdout, output.stderr].concat();
    Some((
        output.status.success(),
        String::from_utf8_lossy(&said).into_owned(),
    ))
}

#[test]
fn prometheus_takes_the_rules_and_each_fires_when_it_should() {
    let dir = tempfile::tempdir().unwrap();
    let rules = dir.path().join("radsort.rules.yml");
    fs::copy(packaged("prometheus/radsort.rules.yml"), rules).unwrap();
    let cases = include_str!("data/prometheus/alerts.yml");
    fs::write(dir.path().join("alerts.yml"), cases).unwrap();
    for words in [
        ["check", "rules", "radsort.rules.yml"],
        ["test", "rules", "alerts.yml"],
    ] {
        let Some((good, said)) = promtool(dir.path(), &words, None) else {
            return;
        };
        assert!(good, "{said}");
    }
}

#[test]
fn prometheus_reads_the_figures_without_a_complaint() {
    let (dir, prom) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let metrics = format!(
        "[metrics]\ntextfile = {:?}\ninterval = \"1s\"\n",
        prom.path()
    );
    let site = Site::with("", &metrics);
    site.put("1.dcm", &Mould::new(82).bytes(&uid(1)));
    let mut daemon = site.start();
    let figures = || fs::read_to_string(prom.path().join("radsort.prom")).unwrap_or_default();
    daemon.wait_for("a figure of a file", || {
        figures().contains("radsort_files_total{")
    });
    let figures = figures();
    daemon.stop();
    assert!(figures.contains("radsort_given_back_files{"), "{figures}");
    let Some((good, said)) = promtool(dir.path(), &["check", "metrics"], Some(&figures)) else {
        return;
    };
    assert!(good && said.trim().is_empty(), "{said}");
}
