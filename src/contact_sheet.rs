//! A page to look at what was filed where: one self-contained HTML file with thumbnails, no scripts, no requests.

use std::fmt::Write as _;
use std::io::{self, Write};
use std::path::Path;

/// One folder's worth of pictures.
#[derive(Clone, Debug, Default)]
pub struct Section {
    /// E.g. the category's name.
    pub title: String,
    /// E.g. how many there are, and how many match the known truth.
    pub subtitle: String,
    /// The pictures, in order.
    pub items: Vec<Item>,
}

/// One picture.
#[derive(Clone, Debug, Default)]
pub struct Item {
    /// A short text below it.
    pub caption: String,
    /// A PNG or JPEG file's bytes; empty for a file that has no picture.
    pub thumbnail: Vec<u8>,
    /// Draws attention to it (it is not where it should be).
    pub marked: bool,
}

const STYLE: &str = "
:root{color-scheme:light dark;--ink:#1b1f24;--soft:#667;--page:#f6f6f4;--card:#fff;--line:#dcdcd8;--mark:#b3261e}
@media(prefers-color-scheme:dark){:root{--ink:#e6e6e3;--soft:#9a9aa2;--page:#141517;--card:#1e2023;--line:#33363a;--mark:#ff8a80}}
*{box-sizing:border-box}
body{margin:0;padding:2rem clamp(1rem,4vw,4rem);background:var(--page);color:var(--ink);font:15px/1.5 system-ui,sans-serif}
h1{font-weight:600;font-size:1.6rem;margin:0 0 .25rem}
h2{font-weight:600;font-size:1.15rem;margin:2.5rem 0 0}
p{margin:0;color:var(--soft)}
nav{margin:1rem 0 0;display:flex;flex-wrap:wrap;gap:.4rem}
nav a{padding:.15rem .7rem;border:1px solid var(--line);border-radius:1rem;color:inherit;text-decoration:none;background:var(--card)}
nav a:hover,nav a:focus-visible{border-color:currentColor}
.sheet{display:grid;grid-template-columns:repeat(auto-fill,minmax(9rem,1fr));gap:.8rem;margin-top:.8rem}
figure{margin:0;background:var(--card);border:1px solid var(--line);border-radius:.5rem;overflow:hidden}
figure.marked{border:2px solid var(--mark)}
.picture{display:flex;height:14rem;background:#000;align-items:center;justify-content:center;color:#777;font-size:.85rem}
.picture img{max-width:100%;max-height:100%;display:block}
figcaption{padding:.4rem .55rem;font-size:.8rem;overflow-wrap:anywhere}
figure.marked figcaption{color:var(--mark)}
@media print{body{padding:0}figure{break-inside:avoid}}
";

/// Writes the page, replacing what is there.
pub fn write(path: &Path, title: &str, subtitle: &str, sections: &[Section]) -> io::Result<()> {
    let mut file = io::BufWriter::new(std::fs::File::create(path)?);
    file.write_all(page(title, subtitle, sections).as_bytes())?;
    file.flush()
}

/// The page.
pub fn page(title: &str, subtitle: &str, sections: &[Section]) -> String {
    let (title, subtitle) = (escape(title), escape(subtitle));
    let mut html = format!(
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\n\
         <title>{title}</title>\n<style>{STYLE}</style>\n<h1>{title}</h1>\n<p>{subtitle}</p>\n<nav>\n"
    );
    for (n, section) in sections.iter().enumerate() {
        let _ = writeln!(
            html,
            "<a href=\"#s{n}\">{} · {}</a>",
            escape(&section.title),
            section.items.len()
        );
    }
    html.push_str("</nav>\n");
    for (n, section) in sections.iter().enumerate() {
        let (title, subtitle) = (escape(&section.title), escape(&section.subtitle));
        let _ = writeln!(
            html,
            "<section>\n<h2 id=\"s{n}\">{title}</h2>\n<p>{subtitle}</p>\n<div class=\"sheet\">"
        );
        for item in &section.items {
            add(&mut html, item);
        }
        html.push_str("</div>\n</section>\n");
    }
    html.push_str("</html>\n");
    html
}

fn add(html: &mut String, item: &Item) {
    let caption = escape(&item.caption);
    let class = if item.marked { " class=\"marked\"" } else { "" };
    let picture = match mime(&item.thumbnail) {
        Some(mime) => {
            format!(
                "<img loading=\"lazy\" alt=\"{caption}\" src=\"data:{mime};base64,{}\">",
                base64(&item.thumbnail)
            )
        }
        None => "no picture".to_owned(),
    };
    let _ = writeln!(
        html,
        "<figure{class}><div class=\"picture\">{picture}</div><figcaption>{caption}</figcaption></figure>"
    );
}

/// What kind of picture the bytes are, by how they begin.
fn mime(bytes: &[u8]) -> Option<&'static str> {
    match bytes {
        [0x89, b'P', b'N', b'G', ..] => Some("image/png"),
        [0xff, 0xd8, 0xff, ..] => Some("image/jpeg"),
        _ => None,
    }
}

/// Text for HTML, inside and outside quoted attributes.
pub(crate) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            c => escaped.push(c),
        }
    }
    escaped
}

/// RFC 4648 §4: not worth a dependency.
pub(crate) fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let byte = |n: usize| u32::from(chunk.get(n).copied().unwrap_or(0));
        let group = byte(0) << 16 | byte(1) << 8 | byte(2);
        for n in 0..4 {
            if n <= chunk.len() {
                text.push(char::from(ALPHABET[(group >> (18 - 6 * n)) as usize & 63]));
            } else {
                text.push('=');
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn base64_is_that_of_the_rfc() {
        for (bytes, text) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(base64(bytes.as_bytes()), text);
        }
    }

    #[test]
    fn the_page_is_whole_in_itself_and_escapes_what_it_is_given() {
        let png = [0x89, b'P', b'N', b'G', 1, 2, 3];
        let section = Section {
            title: "Fusion <b>".into(),
            subtitle: "2 of 3 & more".into(),
            items: vec![
                Item {
                    caption: "\"quoted\"".into(),
                    thumbnail: png.to_vec(),
                    marked: true,
                },
                Item {
                    caption: "nothing".into(),
                    ..Item::default()
                },
            ],
        };
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sheet.html");
        write(&path, "radsort", "demo", &[section]).unwrap();
        let html = std::fs::read_to_string(path).unwrap();
        assert!(html.contains("Fusion &lt;b&gt;") && html.contains("2 of 3 &amp; more"));
        assert!(
            html.contains("alt=\"&quot;quoted&quot;\" src=\"data:image/png;base64,iVBORwECAw==\"")
        );
        assert!(html.contains("no picture") && html.contains("class=\"marked\""));
        assert!(!html.contains("<script") && !html.contains("http"));
    }
}
