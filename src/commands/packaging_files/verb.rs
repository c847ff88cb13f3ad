//! radsort(1) and the page of each verb: clap's page, with what stands below the help put under the headings that manual
//! pages have.

use std::fmt::Write as _;

use super::roff::{Page, inline, plain};

/// Files that a verb has to do with; the configuration for every one.
const FILES: [(&str, &str, &str); 12] = [
    (
        "",
        "/etc/radsort/radsort.toml",
        "the configuration; `--config` or `$RADSORT_CONFIG` names another",
    ),
    (
        "radsort radsort-run radsort-setup",
        "/etc/radsort/conf.d/*.toml",
        "read after it, in the order of their names",
    ),
    (
        "radsort radsort-run",
        "/usr/lib/radsort/libonnxruntime.so",
        "ONNX Runtime, unless `[runtime] library` or `$ORT_DYLIB_PATH` names another",
    ),
    (
        "radsort radsort-run radsort-verify radsort-reindex",
        "/var/lib/radsort/ledger/",
        "the record of everything that was decided and done; to be backed up",
    ),
    (
        "radsort radsort-run",
        "/var/lib/radsort/key*",
        "the key of the pseudonyms; to be backed up",
    ),
    (
        "radsort radsort-run radsort-reindex",
        "/var/lib/radsort/index*",
        "the index, made anew from the ledger when it is missing",
    ),
    (
        "radsort radsort-models radsort-retrain",
        "/var/lib/radsort/models/",
        "the site's bundles",
    ),
    (
        "radsort radsort-models",
        "/usr/share/radsort/models/spine-phantom/",
        "the bundle that comes with radsort, trained on synthetic images",
    ),
    (
        "radsort-retrain",
        "/var/lib/radsort/retrain/",
        "which patient is on which side (to be backed up), a training under way, prepared images",
    ),
    (
        "radsort radsort-run radsort-status radsort-reload",
        "/run/radsort/control.sock",
        "how commands talk to the service; for members of the group radsort",
    ),
    (
        "radsort-setup",
        "/etc/systemd/system/UNIT.d/10-setup.conf",
        "what `radsort setup` lets the service into",
    ),
    (
        "radsort-setup",
        "/usr/share/radsort/systemd/gpu.conf",
        "what `radsort setup --gpu` puts beside it",
    ),
];

/// What holds for every verb that says nothing else.
const EXIT_STATUS: &str =
    "0 it was done, 1 it was not (the reason is on stderr), 2 wrong usage, 78 bad configuration.";

/// The page that clap has made, as `name`(1).
pub fn page(made: &str, name: &str) -> String {
    let (made, extra) = split(made);
    let line = |line: &str| {
        if line.starts_with(".TH ") {
            // Clap leaves the date out instead of empty, and the version becomes the date.
            Page::title(&name.to_uppercase(), 1)
        } else {
            bold(line.trim_end()) + "\n"
        }
    };
    let made = made.replace("\n.br\n\n.br\n", "\n.sp\n");
    let mut page = made.lines().map(line).collect::<String>();
    let below = Below::of(&extra);
    page += &below.exit_status();
    page += &files(name);
    page += &below.notes();
    page += &below.examples();
    page + &see_also(name)
}

/// Clap's page without what it puts at its end, and that.
fn split(made: &str) -> (String, String) {
    let made = made.split("\n.SH VERSION\n").next().unwrap_or(made);
    let (before, rest) = made.split_once("\n.SH EXTRA\n").unwrap_or((made, ""));
    // Back to the text as it was before clap escaped it.
    let text = rest
        .replace("\\*(Aq", "'")
        .replace("\\-", "-")
        .replace("\\\\", "\\")
        .replace("\\&", "");
    // Of the verbs, `help` has no page.
    let parts = before.trim_end().split("\n.TP\n");
    let parts: Vec<&str> = parts
        .filter(|part| {
            !part
                .lines()
                .next()
                .is_some_and(|it| it.ends_with("\\-help(1)"))
        })
        .collect();
    (parts.join("\n.TP\n") + "\n", text)
}

/// Words in backticks are bold.
fn bold(line: &str) -> String {
    let parts: Vec<&str> = line.split('`').collect();
    if parts.len().is_multiple_of(2) {
        return line.to_owned();
    }
    let bold = |(n, part): (usize, &&str)| match n % 2 {
        0 => (*part).to_owned(),
        _ => format!("\\fB{part}\\fR"),
    };
    parts.iter().enumerate().map(bold).collect()
}

/// What stands below a verb's help, by what it is about.
#[derive(Default)]
struct Below {
    examples: Vec<String>,
    exit_status: String,
    notes: Vec<String>,
}

impl Below {
    fn of(text: &str) -> Self {
        let mut below = Self::default();
        for block in text.split("\n\n").map(str::trim_end) {
            let rest = |start: &[&str]| {
                start
                    .iter()
                    .find_map(|it| block.trim_start().strip_prefix(it))
            };
            if let Some(lines) = rest(&["Examples:\n", "Start here:\n"]) {
                let lines = lines
                    .lines()
                    .map(|line| line.strip_prefix("  ").unwrap_or(line));
                below.examples.extend(lines.map(str::to_owned));
            } else if let Some(words) = rest(&["Exit status: ", "Exit codes: "]) {
                below.exit_status = words.replace('\n', " ");
            } else if !block.trim().is_empty() {
                below.notes.push(block.trim().replace('\n', " "));
            }
        }
        below
    }

    fn exit_status(&self) -> String {
        let said = if self.exit_status.is_empty() {
            EXIT_STATUS
        } else {
            &self.exit_status
        };
        let mut text = ".SH \"EXIT STATUS\"\n".to_owned();
        for (status, meaning) in statuses(said) {
            let _ = writeln!(text, ".TP\n\\fB{status}\\fR\n{}", inline(meaning));
        }
        text
    }

    fn notes(&self) -> String {
        let mut text = String::new();
        for (n, note) in self.notes.iter().enumerate() {
            text += if n == 0 { ".SH NOTES\n" } else { ".PP\n" };
            let _ = writeln!(text, "{}", inline(note));
        }
        text
    }

    fn examples(&self) -> String {
        if self.examples.is_empty() {
            return String::new();
        }
        let lines = self.examples.iter().map(|line| inline(line) + "\n");
        format!(".SH EXAMPLES\n.nf\n{}.fi\n", lines.collect::<String>())
    }
}

/// `0 when …, 1 when …` in its parts.
fn statuses(text: &str) -> Vec<(&str, &str)> {
    let text = text.trim_end_matches('.');
    let digits = |at: usize| text[at..].chars().take_while(char::is_ascii_digit).count();
    let begins = |at: &usize| {
        let (before, many) = (&text[..*at], digits(*at));
        let apart = before.is_empty() || [", ", "; "].iter().any(|it| before.ends_with(it));
        let aside = before.matches('(').count() > before.matches(')').count();
        apart && !aside && many > 0 && text[*at + many..].starts_with(' ')
    };
    let starts: Vec<usize> = text
        .char_indices()
        .map(|(at, _)| at)
        .filter(begins)
        .collect();
    let ends = starts.iter().skip(1).copied().chain([text.len()]);
    let part = |(start, end): (&usize, usize)| {
        let part = text[*start..end].trim_end_matches([' ', ',', ';']);
        part.split_once(' ').unwrap_or((part, ""))
    };
    starts.iter().zip(ends).map(part).collect()
}

fn files(name: &str) -> String {
    // They read no configuration.
    if ["radsort-phantom", "radsort-demo"].contains(&name) {
        return String::new();
    }
    let mut text = ".SH FILES\n".to_owned();
    let ours = |verbs: &str| verbs.is_empty() || verbs.split(' ').any(|verb| verb == name);
    for (_, path, what) in FILES.iter().filter(|(verbs, ..)| ours(verbs)) {
        let _ = writeln!(text, ".TP\n\\fI{}\\fR\n{}", plain(path), inline(what));
    }
    text
}

fn see_also(name: &str) -> String {
    let mut pages = vec!["radsort.toml(5)".to_owned()];
    // radsort-models-list: radsort(1), radsort-models(1).
    for (at, _) in name.match_indices('-') {
        pages.insert(pages.len() - 1, format!("{}(1)", &name[..at]));
    }
    if ["radsort", "models", "retrain", "evaluate", "classify"]
        .iter()
        .any(|verb| name.ends_with(verb))
    {
        pages.push("radsort-bundle(5)".to_owned());
    }
    let pages: Vec<String> = pages
        .iter()
        .filter_map(|page| {
            let (name, section) = page.split_once('(')?;
            Some(format!("\\fB{}\\fR({section}", plain(name)))
        })
        .collect();
    format!(
        ".SH \"SEE ALSO\"\n{}; the documents in \\fI{}\\fR\n",
        pages.join(", "),
        plain(Page::DOCUMENTS)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_below_the_help_finds_its_heading() {
        let made = ".TH X 1  \"radsort 1\" radsort\n.SH OPTIONS\nsay `x` \n.SH EXTRA\nMind the gap.\n\nExamples:\n  radsort x \\-\\-y \\*(Aqz\\*(Aq\n\
                    \nExit status: 0 when it went well (1 or 2, say), 1 when not,\n78 bad configuration.\n.SH VERSION\nv1\n";
        let page = page(made, "radsort-models-list");
        assert!(
            page.contains("say \\fBx\\fR\n.SH \"EXIT STATUS\"\n"),
            "{page}"
        );
        assert!(
            page.contains(
                ".TP\n\\fB1\\fR\nwhen not\n.TP\n\\fB78\\fR\nbad configuration\n.SH FILES\n"
            ),
            "{page}"
        );
        assert!(
            page.contains(
                ".SH NOTES\nMind the gap.\n.SH EXAMPLES\n.nf\nradsort x \\-\\-y 'z'\n.fi\n"
            ),
            "{page}"
        );
        assert!(
            page.contains(
                "\\fBradsort\\fR(1), \\fBradsort\\-models\\fR(1), \\fBradsort.toml\\fR(5);"
            ),
            "{page}"
        );
        assert!(
            page.starts_with(".TH \"RADSORT\\-MODELS\\-LIST\" 1 \"\" \"radsort "),
            "{page}"
        );
        assert!(!page.contains("VERSION"), "{page}");
    }

    #[test]
    fn an_exit_status_is_a_number_of_its_own() {
        assert_eq!(
            statuses("0 done (2, 3 or 4 files); 1 not. More."),
            [("0", "done (2, 3 or 4 files)"), ("1", "not. More")]
        );
        assert_eq!(statuses(EXIT_STATUS).len(), 4);
    }
}
