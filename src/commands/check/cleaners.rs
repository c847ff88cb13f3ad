//! Schedules that clean up a directory above a drop directory, or one that a pattern names: `find … -delete`, `rm -r`,
//! systemd-tmpfiles with an age. A line that only names such a directory is nobody's business.

use std::path::Path;

use globset::Glob;

/// Programs that take files away from the very paths that they are given.
const TAKERS: [&str; 4] = ["rm", "mv", "unlink", "shred"];
/// Programs whose purpose is to delete what is old below a directory.
const SWEEPERS: [&str; 2] = ["tmpwatch", "tmpreaper"];

/// How a path of a line has to do with a drop directory.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reach {
    /// It means the directory, or what is in it.
    Into,
    /// It means a directory so many steps above it.
    Above(usize),
}

/// Whether a line of a schedule takes files out of the drop directory by a directory above it, or by a pattern.
pub(super) fn takes(line: &str, drop: &Path) -> bool {
    // Each command by itself: what another one deletes is something else. A pipe hands paths on.
    let mut here = None;
    line.split([';', '&']).any(|command| {
        let mut words = command.split_whitespace().skip_while(|word| *word != "cd");
        if let (Some(_), Some(directory)) = (words.next(), words.next()) {
            here = Some(directory.trim_matches(['"', '\'']));
        }
        takes_by(command, here, drop)
    })
}

/// The same of one command, that works in a directory `here`.
fn takes_by(command: &str, here: Option<&str>, drop: &Path) -> bool {
    let words: Vec<&str> = command
        .split(|c: char| c.is_whitespace() || "'\"()=|`".contains(c))
        .filter(|word| !word.is_empty())
        .collect();
    let runs = |names: &[&str]| {
        let name = |word: &&str| {
            word.rsplit('/')
                .next()
                .is_some_and(|it| names.contains(&it))
        };
        words.iter().any(name)
    };
    let has_option = |long: &str, letters: &[char]| {
        let is_it = |word: &&str| {
            let short = word.strip_prefix('-').filter(|rest| !rest.starts_with('-'));
            *word == long || short.is_some_and(|short| short.contains(letters))
        };
        words.iter().any(is_it)
    };
    let finds = runs(&["find"]) && (words.contains(&"-delete") || runs(&TAKERS));
    let below = finds
        || runs(&SWEEPERS)
        || words.contains(&"--remove-source-files")
        || (runs(&["rm"]) && has_option("--recursive", &['r', 'R']));
    if !below && !runs(&TAKERS) {
        return false;
    }
    let deepest = words
        .windows(2)
        .find(|pair| finds && pair[0] == "-maxdepth")
        .and_then(|pair| pair[1].parse::<usize>().ok());
    // What is moved or copied goes to the last path, and nothing is taken from there.
    let goes_somewhere = !finds && (runs(&["mv"]) || words.contains(&"--remove-source-files"));
    let sources = words.len() - usize::from(goes_somewhere);
    let reaches = |word: &str| match reach(word, drop) {
        Some(Reach::Into) => true,
        // A file lies one step below the drop directory.
        Some(Reach::Above(steps)) => below && deepest.is_none_or(|deepest| deepest > steps),
        None => false,
    };
    words[..sources].iter().any(|word| match here {
        // What is neither a path of its own nor an option may be one below that directory.
        Some(here) if !word.starts_with(['/', '-']) => {
            let word = word.strip_prefix("./").unwrap_or(word);
            reaches(&format!("{here}/{word}"))
        }
        _ => reaches(word),
    })
}

/// Whether lines of tmpfiles.d(5) delete what lies in the drop directory: by an age, or by their type.
pub(super) fn takes_by_age(text: &str, drop: &Path) -> bool {
    let entries: Vec<Vec<&str>> = text
        .lines()
        .map(|line| line.split_whitespace().collect())
        .filter(|fields: &Vec<&str>| fields.len() > 1 && !fields[0].starts_with('#'))
        .collect();
    let means = |fields: &[&str]| reach(fields[1].trim_matches('"'), drop);
    let spares = |fields: &Vec<&str>| {
        fields[0].starts_with(['x', 'X']) && means(fields) == Some(Reach::Into)
    };
    if entries.iter().any(spares) {
        return false;
    }
    entries.iter().any(|fields| {
        let kind = fields[0].chars().next().unwrap_or('#');
        let ages = fields.get(5).is_some_and(|age| *age != "-");
        let takes = match kind {
            'R' | 'D' => true,
            'd' | 'e' | 'v' | 'q' | 'Q' | 'C' => ages,
            _ => false,
        };
        takes && means(fields).is_some()
    })
}

/// What a path, with or without a pattern, means for a drop directory. The root, and what is no absolute path, mean nothing.
fn reach(word: &str, drop: &Path) -> Option<Reach> {
    let parts = |path: &str| -> Vec<String> {
        let parts = path.split('/').filter(|part| !part.is_empty());
        parts.map(str::to_owned).collect()
    };
    let named = parts(word.strip_prefix('/')?);
    let dropped = parts(drop.to_str()?);
    let mut pairs = named.iter().zip(&dropped);
    let is_way = pairs.all(|(pattern, part)| {
        Glob::new(pattern).is_ok_and(|pattern| pattern.compile_matcher().is_match(part))
    });
    if named.is_empty() || !is_way {
        return None;
    }
    Some(match dropped.len().checked_sub(named.len()) {
        None | Some(0) => Reach::Into,
        Some(steps) => Reach::Above(steps),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const DROP: &str = "/srv/radsort/incoming";

    #[test]
    fn who_deletes_or_moves_below_a_directory_above_is_found() {
        for line in [
            "5 3 * * * root find /srv/radsort -name \"*.dcm\" -mtime +1 -delete",
            "find /srv/radsort/ -type f -exec rm {} +",
            "/usr/bin/find /srv -maxdepth 3 -delete",
            "find /srv/radsort -mtime +7 | xargs rm",
            "ExecStart=/bin/rm -rf /srv/radsort",
            "cd / && rm --recursive '/srv/radsort'",
            "cd /srv/radsort && rm -f incoming/*.tmp",
            "cd '/srv/radsort/incoming'; rm -f ./*.dcm",
            "rm /srv/*/incoming/*.dcm",
            "mv /srv/*/incoming/*.dcm /archive/",
            "rsync -a --remove-source-files /srv/radsort/ archive:/x/",
            "tmpreaper 7d /srv/radsort",
        ] {
            assert!(takes(line, Path::new(DROP)), "{line}");
        }
    }

    #[test]
    fn who_only_names_a_directory_above_is_not() {
        for line in [
            "find / -xdev -name core -delete",
            "find /srv/radsort -maxdepth 1 -name '*.log' -delete",
            "find /srv/radsort -name '*.dcm' -ls",
            "find /srv/other -delete",
            "find /srv -ls; rm /tmp/lock",
            "rm -f /srv/radsort/lock",
            "cd /srv/radsort && rm -f lock",
            "cd /srv/other && rm -f incoming/*.tmp",
            "rm -f /srv/radsort",
            "mv /data/new.dcm /srv/radsort",
            "rsync -a --delete /srv/ backup:/srv/",
            "WorkingDirectory=/srv",
            "RequiresMountsFor=/srv/radsort",
        ] {
            assert!(!takes(line, Path::new(DROP)), "{line}");
        }
    }

    #[test]
    fn temporary_files_are_deleted_by_their_age() {
        for (text, expected) in [
            ("d /srv/radsort 0755 root root 7d", true),
            ("e /srv/*/incoming - - - 1d", true),
            ("R! /srv/radsort", true),
            ("d /srv/radsort 0755 root root -", false),
            ("d /srv/radsort/incoming 2770 radsort radsort", false),
            ("# d /srv/radsort 0755 root root 7d", false),
            ("q /tmp 1777 root root 10d", false),
            ("d /srv 0755 root root 7d\nx /srv/radsort/incoming", false),
        ] {
            assert_eq!(takes_by_age(text, Path::new(DROP)), expected, "{text}");
        }
    }
}
