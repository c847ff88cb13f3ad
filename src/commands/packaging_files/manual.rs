//! radsort.toml(5) out of the commented configuration, and radsort-bundle(5) out of `docs/bundle.md`.

use super::roff::Page;

/// The smallest configuration.
const SMALLEST: &str = "\
[[watch]]
path = \"/srv/radsort/incoming\"

[library]
path = \"/srv/radsort/library\"

[state]
path = \"/var/lib/radsort\"";

/// More of one.
const WITH_GPU: &str = "\
[[watch]]
path = \"/mnt/xray1\"
action = \"observe\"
settle = \"5m\"

[runtime]
library = \"/usr/local/lib/radsort-gpu/libonnxruntime.so\"
device = \"cuda:0\"
gpu = \"require\"";

/// The page of the configuration: each comment stands above the keys that it explains.
pub fn configuration(text: &str) -> String {
    let mut page = Page::new(
        "radsort.toml",
        5,
        "configuration of radsort, which sorts radiographs",
    );
    page.heading("SYNOPSIS");
    page.verbatim("/etc/radsort/radsort.toml\n/etc/radsort/NAME.toml\n/etc/radsort/conf.d/*.toml");
    page.heading("DESCRIPTION");
    page.paragraph(
        "`radsort setup` gives the service what this file names, `radsort check` tries it, `systemctl reload radsort` puts \
         changes into use. The values in parentheses are those that hold when a key is absent, or that the packaged file sets.",
    );
    let (mut comment, mut first) = (String::new(), true);
    let mut keys: Vec<(String, String)> = Vec::new();
    // Its first line says what the file is; so does NAME.
    for line in text.lines().skip(1) {
        let bare = line.trim_start_matches('#');
        let key = key_of(bare).filter(|_| !line.starts_with("# "));
        if key.is_none() && !keys.is_empty() {
            page.terms(&keys, &std::mem::take(&mut comment));
            keys.clear();
        }
        if let Some(key) = key {
            keys.push(key);
        } else if bare.starts_with('[') && bare.ends_with(']') && !line.starts_with("# ") {
            if std::mem::take(&mut first) {
                page.heading("SECTIONS AND KEYS");
            }
            page.subheading(bare);
            paragraph(&mut page, &mut comment);
        } else if line.is_empty() || line == "#" || bare.starts_with(" ---") {
            paragraph(&mut page, &mut comment);
        } else if let Some(words) = line.strip_prefix("# ") {
            if !comment.is_empty() {
                comment.push(' ');
            }
            comment.push_str(words);
        }
    }
    if !keys.is_empty() {
        page.terms(&keys, &comment);
    }
    page.heading("EXAMPLES");
    page.paragraph("All that a file needs:");
    page.verbatim(SMALLEST);
    page.paragraph("A share that is only looked at for a while, and a GPU or nothing:");
    page.verbatim(WITH_GPU);
    page.files(&[
        ("/etc/radsort/radsort.toml", "of `radsort.service`"),
        (
            "/etc/radsort/NAME.toml",
            "of `radsort@NAME.service`; `[state]` and `[control]` name directories of its own",
        ),
        ("/etc/radsort/conf.d/*.toml", "read after any of them"),
    ]);
    page.heading("NOTES");
    page.paragraph(
        "A key or section that is not known is an error, with its line, so that no typing mistake is passed over. A reload \
         that finds one leaves the settings in force that were.",
    );
    page.heading("SEE ALSO");
    page.paragraph(&format!(
        "`radsort`(1), `radsort-setup`(1), `radsort-check`(1), `radsort-bundle`(5); the documents in {}",
        Page::DOCUMENTS
    ));
    page.finish()
}

fn paragraph(page: &mut Page, comment: &mut String) {
    if !comment.is_empty() {
        page.paragraph(&std::mem::take(comment));
    }
}

/// `key = value`.
fn key_of(line: &str) -> Option<(String, String)> {
    let (key, value) = line.split_once(" = ")?;
    let is_key = |key: &str| {
        !key.is_empty()
            && key
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte == b'-')
    };
    is_key(key).then(|| (key.to_owned(), value.to_owned()))
}

/// The page of the bundle format: headings, paragraphs, and tables whose first column is what is explained.
pub fn bundle(text: &str) -> String {
    let mut page = Page::new("radsort-bundle", 5, "the model folders of radsort");
    page.heading("DESCRIPTION");
    let mut words = String::new();
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        let table_head = lines.peek().is_some_and(|next| next.starts_with("|---"));
        if line.starts_with("# ")
            || line.starts_with("|---")
            || (line.starts_with('|') && table_head)
        {
            continue;
        }
        if line.starts_with("```") {
            paragraph(&mut page, &mut words);
            let lines = lines.by_ref().take_while(|line| !line.starts_with("```"));
            page.verbatim(&lines.collect::<Vec<_>>().join("\n"));
        } else if let Some(title) = line.strip_prefix("## ") {
            paragraph(&mut page, &mut words);
            page.heading(&title.to_uppercase());
        } else if line.starts_with('|') {
            paragraph(&mut page, &mut words);
            let mut cells = line.trim_matches('|').split('|').map(str::trim);
            let term = cells.next().unwrap_or_default().replace('`', "");
            page.terms(
                &[(term, String::new())],
                &without_links(&cells.collect::<Vec<_>>().join(" ")),
            );
        } else if line.is_empty() {
            paragraph(&mut page, &mut words);
        } else {
            if !words.is_empty() {
                words.push(' ');
            }
            words.push_str(&without_links(line));
        }
    }
    paragraph(&mut page, &mut words);
    page.files(&[
        (
            "/usr/share/radsort/models/spine-phantom/",
            "the bundle that comes with radsort",
        ),
        ("/var/lib/radsort/models/", "the site's own, side by side"),
        ("/var/lib/radsort/in-use.json", "which of them is in use"),
    ]);
    page.heading("SEE ALSO");
    page.paragraph(&format!(
        "`radsort`(1), `radsort-models`(1), `radsort-retrain`(1), `radsort.toml`(5); reasons.md and retraining.md in {}",
        Page::DOCUMENTS
    ));
    page.finish()
}

/// `[text](address)` becomes its text.
fn without_links(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(open) = rest.find('[') {
        let (before, link) = rest.split_at(open);
        let parts = link
            .find("](")
            .and_then(|middle| Some((middle, middle + link[middle..].find(')')?)));
        let Some((middle, end)) = parts.filter(|(middle, _)| !link[..*middle].contains('`')) else {
            out.push_str(before);
            out.push('[');
            rest = &link[1..];
            continue;
        };
        out.push_str(before);
        out.push_str(&link[1..middle]);
        rest = &link[end + 1..];
    }
    out + rest
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn every_key_of_the_configuration_is_a_term_with_its_default() {
        let page = configuration(super::super::CONFIGURATION);
        for (section, keys) in crate::config::KEYS {
            let named = format!(".SS \"{}\"", section.replace('-', "\\-"));
            assert!(page.contains(&named), "{section}");
            for key in *keys {
                let key = key.replace('-', "\\-");
                assert!(
                    page.contains(&format!("\n\\fB{key}\\fR (")) || *section == "[review]",
                    "{section} {key}"
                );
            }
        }
        assert!(page.contains(".TP\n\\fBview\\-sure\\fR (\"bundle\")\n.TQ\n\\fBview\\-margin\\fR"));
    }

    #[test]
    fn the_examples_are_good_configurations() {
        let path = std::path::Path::new("/etc/radsort/radsort.toml");
        for text in [SMALLEST.to_owned(), format!("{SMALLEST}\n{WITH_GPU}")] {
            let parsed = crate::config::parse(path, &[(path.to_owned(), text)]);
            assert!(parsed.is_ok(), "{parsed:?}");
        }
    }

    #[test]
    fn the_example_of_a_bundle_is_one() {
        let text = super::super::BUNDLE;
        let (_, rest) = text.split_once("```toml\n").unwrap();
        let (example, _) = rest.split_once("```").unwrap();
        let manifest: crate::model::Manifest = toml::from_str(example).unwrap();
        assert_eq!(manifest.classifiers[0].classes, ["pre", "post"]);
    }

    #[test]
    fn tables_become_terms_and_links_their_text() {
        let page = bundle(
            "# T\n\nSee [that](x.md).\n\n## An example\n\n```toml\n# a\n| b\n```\n\n## At the top\n\n| key | what |\n|---|---|\n| `a` | [b](c.md) `d` |\n",
        );
        assert!(page.contains(".SH \"DESCRIPTION\"\nSee that.\n"), "{page}");
        assert!(
            page.contains(".SH \"AT THE TOP\"\n.TP\n\\fBa\\fR\nb \\fBd\\fR\n"),
            "{page}"
        );
        assert!(
            page.contains(".SH \"AN EXAMPLE\"\n.nf\n# a\n| b\n.fi\n"),
            "{page}"
        );
        assert!(!page.contains("key"), "{page}");
    }
}
