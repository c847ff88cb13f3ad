//! `radsort packaging-files`: what the package carries and nobody writes by hand, made from its one source each.
//!
//! Man pages and completions come from the command line's own help, radsort.toml(5) and the packaged configuration from
//! `config/radsort.toml`, radsort-bundle(5) from `docs/bundle.md`. They lie in `packaging/`, which mirrors the install
//! tree; a test holds that they are what this program writes.

mod manual;
mod roff;
mod verb;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, ensure};
use clap::CommandFactory as _;
use clap_complete::shells::{Bash, Fish, Zsh};

use crate::cli::Cli;

/// The commented configuration: every key with its default.
const CONFIGURATION: &str = include_str!("../../config/radsort.toml");
/// The bundle format.
const BUNDLE: &str = include_str!("../../docs/bundle.md");

/// Write the generated files of the package: man pages, completions, configuration.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The tree to write into, as `packaging/` of the source.
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
}

/// Runs the command.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    for (path, content) in generated()? {
        let path = args.out.join(path);
        let folder = path.parent().unwrap_or(Path::new("/"));
        fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
        fs::write(&path, content).with_context(|| path.display().to_string())?;
        println!("{}", path.display());
    }
    Ok(ExitCode::SUCCESS)
}

/// Every generated file: its path below the tree, and its text.
fn generated() -> anyhow::Result<Vec<(PathBuf, String)>> {
    let mut files = vec![
        (
            "usr/share/radsort/radsort.toml".into(),
            packaged_configuration(CONFIGURATION)?,
        ),
        (
            "usr/share/man/man5/radsort.toml.5".into(),
            manual::configuration(CONFIGURATION),
        ),
        (
            "usr/share/man/man5/radsort-bundle.5".into(),
            manual::bundle(BUNDLE),
        ),
    ];
    let mut command = Cli::command();
    // Help is wrapped to the terminal; a manual is wrapped by its reader.
    command = command.name("radsort").bin_name("radsort");
    command.build();
    pages(&command, "radsort", &mut files)?;
    for (path, shell) in [
        ("usr/share/bash-completion/completions/radsort", Shell::Bash),
        ("usr/share/zsh/vendor-completions/_radsort", Shell::Zsh),
        (
            "usr/share/fish/vendor_completions.d/radsort.fish",
            Shell::Fish,
        ),
    ] {
        files.push((path.into(), completions(shell)?));
    }
    Ok(files)
}

#[derive(Clone, Copy)]
enum Shell {
    Bash,
    Zsh,
    Fish,
}

fn completions(shell: Shell) -> anyhow::Result<String> {
    let (mut text, mut command) = (Vec::new(), shown(Cli::command()));
    match shell {
        Shell::Bash => clap_complete::generate(Bash, &mut command, "radsort", &mut text),
        Shell::Zsh => clap_complete::generate(Zsh, &mut command, "radsort", &mut text),
        Shell::Fish => clap_complete::generate(Fish, &mut command, "radsort", &mut text),
    }
    Ok(String::from_utf8(text)?)
}

/// The command without what is hidden: completions would offer that.
fn shown(command: clap::Command) -> clap::Command {
    let verbs: Vec<clap::Command> = command
        .get_subcommands()
        .filter(|verb| !verb.is_hide_set())
        .cloned()
        .collect();
    let bare = clap::Command::new("radsort").version(env!("CARGO_PKG_VERSION"));
    bare.args(command.get_arguments().cloned())
        .subcommands(verbs)
}

/// The pages of a command and of its verbs: radsort(1), radsort-run(1), radsort-models(1), radsort-models-list(1)…
fn pages(
    command: &clap::Command,
    name: &str,
    files: &mut Vec<(PathBuf, String)>,
) -> anyhow::Result<()> {
    for verb in command.get_subcommands() {
        if !verb.is_hide_set() && verb.get_name() != "help" {
            pages(verb, &format!("{name}-{}", verb.get_name()), files)?;
        }
    }
    let mut page = Vec::new();
    let spoken = name.replace('-', " ");
    let named = command
        .clone()
        .bin_name(spoken)
        .disable_help_subcommand(true);
    clap_mangen::Man::new(named)
        .title(name.to_uppercase())
        .source(concat!("radsort ", env!("CARGO_PKG_VERSION")))
        .manual("radsort")
        .render(&mut page)?;
    files.push((
        format!("usr/share/man/man1/{name}.1").into(),
        verb::page(&String::from_utf8(page)?, name),
    ));
    Ok(())
}

/// The commented configuration with what a packaged service needs beside its defaults: the control socket where every
/// user of the machine finds it, too.
fn packaged_configuration(text: &str) -> anyhow::Result<String> {
    let (comment, packaged) = (
        "#[control]\n#socket = \"auto\"\n",
        "[control]\nsocket = \"/run/radsort/control.sock\"\n",
    );
    ensure!(
        text.matches(comment).count() == 1,
        "config/radsort.toml has no commented [control] socket any more"
    );
    Ok(text.replace(comment, packaged))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn every_verb_has_its_page_and_no_hidden_one_is_offered() {
        let files = generated().unwrap();
        let text = |path: &str| {
            let found = files.iter().find(|(at, _)| at == Path::new(path));
            found.unwrap_or_else(|| panic!("no {path}")).1.clone()
        };
        assert!(text("usr/share/man/man1/radsort-query.1").contains("radsort query"));
        assert!(text("usr/share/man/man1/radsort-models-list.1").contains("radsort models list"));
        for (path, text) in &files {
            for hidden in ["decode-worker", "try-bundle", "packaging-files"] {
                assert!(!text.contains(hidden), "{}: {hidden}", path.display());
            }
        }
    }

    #[test]
    fn the_packaged_configuration_is_good() {
        let path = Path::new("/etc/radsort/radsort.toml");
        let text = packaged_configuration(CONFIGURATION).unwrap();
        let settings = crate::config::parse(path, &[(path.to_owned(), text)]).unwrap();
        assert_eq!(
            settings.control.socket,
            Path::new("/run/radsort/control.sock")
        );
    }
}
