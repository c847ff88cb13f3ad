//! The little of roff(7) that manual pages need.

use std::fmt::Write as _;

/// A manual page that is being written.
pub struct Page(String);

impl Page {
    /// Where the package puts the longer documents.
    pub const DOCUMENTS: &'static str = "/usr/share/doc/radsort/";

    /// Begins a page: its name in capitals, section, and one line on what it is about.
    pub fn new(name: &str, section: u8, about: &str) -> Self {
        let mut page = Self(Self::title(&name.to_uppercase(), section));
        page.heading("NAME");
        let _ = writeln!(page.0, "{} \\- {}", plain(name), plain(about));
        page
    }

    /// The line that a page begins with. Without a date: the same source gives the same page.
    pub fn title(name: &str, section: u8) -> String {
        let version = env!("CARGO_PKG_VERSION");
        let name = plain(name);
        format!(".TH \"{name}\" {section} \"\" \"radsort {version}\" \"radsort\"\n")
    }

    /// A section.
    pub fn heading(&mut self, text: &str) {
        let _ = writeln!(self.0, ".SH \"{}\"", plain(text));
    }

    /// A section within a section.
    pub fn subheading(&mut self, text: &str) {
        let _ = writeln!(self.0, ".SS \"{}\"", plain(text));
    }

    /// A paragraph; `code` in backticks is bold.
    pub fn paragraph(&mut self, text: &str) {
        self.apart();
        let _ = writeln!(self.0, "{}", inline(text));
    }

    /// A paragraph begins; the first below a heading does so by itself.
    fn apart(&mut self) {
        let last = self.0.lines().next_back().unwrap_or_default();
        if !last.starts_with(".SH ") && !last.starts_with(".SS ") {
            self.0 += ".PP\n";
        }
    }

    /// One or more terms (each with what follows it on its line) and their explanation.
    pub fn terms(&mut self, terms: &[(String, String)], explanation: &str) {
        for (n, (term, aside)) in terms.iter().enumerate() {
            let macro_name = if n == 0 { ".TP" } else { ".TQ" };
            let aside = if aside.is_empty() {
                String::new()
            } else {
                format!(" ({})", plain(aside))
            };
            let _ = writeln!(self.0, "{macro_name}\n\\fB{}\\fR{aside}", plain(term));
        }
        if !explanation.is_empty() {
            let _ = writeln!(self.0, "{}", inline(explanation));
        }
    }

    /// Files, and what each is.
    pub fn files(&mut self, files: &[(&str, &str)]) {
        self.heading("FILES");
        for (path, what) in files {
            let _ = writeln!(self.0, ".TP\n\\fI{}\\fR\n{}", plain(path), inline(what));
        }
    }

    /// Lines as they are.
    pub fn verbatim(&mut self, text: &str) {
        self.apart();
        let _ = writeln!(self.0, ".nf\n{}\n.fi", lines(text));
    }

    /// The text.
    pub fn finish(self) -> String {
        self.0
    }
}

/// Text without any meaning for roff, in a line of its own or within one.
pub fn plain(text: &str) -> String {
    let text = text.replace('\\', "\\e").replace('-', "\\-");
    if text.starts_with(['.', '\'']) {
        format!("\\&{text}")
    } else {
        text
    }
}

fn lines(text: &str) -> String {
    text.lines().map(plain).collect::<Vec<_>>().join("\n")
}

/// Text with `code` in backticks.
pub fn inline(text: &str) -> String {
    let parts = text.split('`').enumerate().map(|(n, part)| {
        if n % 2 == 0 {
            plain(part)
        } else {
            format!("\\fB{}\\fR", plain(part))
        }
    });
    parts.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_cannot_become_a_request() {
        assert_eq!(plain(".so /etc/passwd"), "\\&.so /etc/passwd");
        assert_eq!(plain("a\\fB-b"), "a\\efB\\-b");
        assert_eq!(inline("say `a-b` twice"), "say \\fBa\\-b\\fR twice");
    }
}
