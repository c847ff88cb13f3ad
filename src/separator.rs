//! Lists from elsewhere, as CSV: spreadsheets of many countries separate by semicolons.

/// Reads a list; blanks around the names of columns mean nothing.
pub fn reader() -> csv::ReaderBuilder {
    let mut reader = csv::ReaderBuilder::new();
    reader.trim(csv::Trim::Headers);
    reader
}

/// What a list's first line is separated by, when it is something else than commas.
pub fn other(first_line: &csv::StringRecord) -> Option<&'static str> {
    let [line] = first_line.iter().collect::<Vec<_>>()[..] else {
        return None;
    };
    [(';', "semicolons"), ('\t', "tabs"), ('|', "vertical bars")]
        .into_iter()
        .find(|(separator, _)| line.contains(*separator))
        .map(|(_, word)| word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_without_commas_tells_what_it_is_separated_by() {
        let line = |cells: &[&str]| csv::StringRecord::from(cells.to_vec());
        assert_eq!(other(&line(&["path;category"])), Some("semicolons"));
        assert_eq!(other(&line(&["path\tcategory"])), Some("tabs"));
        assert_eq!(other(&line(&["category"])), None);
        assert_eq!(other(&line(&["path", "a;b"])), None);
    }
}
