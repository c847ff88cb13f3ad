#![allow(clippy::unwrap_used, clippy::expect_used)]

use super::*;
use proptest::prelude::*;
use settings::{Action, Device, GpuPolicy, TextFile};
use std::time::Duration;

const SMALLEST: &str = "[[watch]]\npath = \"/drop/incoming\"\n[library]\npath = \"/srv/library\"\n[state]\npath = \"/var/state\"\n";

fn read(text: &str) -> Result<Settings, ConfigError> {
    let path = PathBuf::from("/etc/radsort.toml");
    parse(&path, &[(path.clone(), text.to_owned())])
}

/// The problems of the smallest configuration with something added.
fn problems(addition: &str) -> String {
    problems_of(&format!("{SMALLEST}{addition}"))
}

fn problems_of(text: &str) -> String {
    read(text).expect_err(text).to_string()
}

#[test]
fn the_smallest_file_works_and_moves() {
    let settings = read(SMALLEST).unwrap();
    let watch = &settings.watches[0];
    assert_eq!(
        (watch.name.as_str(), watch.action, watch.settle),
        ("incoming", Action::Move, None)
    );
    assert_eq!(watch.truncated, Duration::from_hours(1));
    assert_eq!(
        settings.library.quarantine,
        Path::new("/srv/library/_quarantine")
    );
    assert_eq!(
        settings.library.duplicates,
        Path::new("/srv/library/_duplicates")
    );
    assert_eq!(
        (settings.library.file_mode, settings.library.directory_mode),
        (0o640, 0o2750)
    );
    assert_eq!(
        (settings.decoders.memory, settings.decoders.cpu_time),
        (1 << 30, Duration::from_secs(5))
    );
    assert_eq!(
        (settings.runtime.device, settings.runtime.gpu),
        (Device::Auto, GpuPolicy::Prefer)
    );
    assert_eq!(settings.metrics.textfile, TextFile::Auto);
    let metrics = |value: &str| {
        let text = format!("{SMALLEST}[metrics]\ntextfile = {value:?}\n");
        read(&text).unwrap().metrics.textfile
    };
    assert_eq!(metrics("auto"), TextFile::Auto);
    assert_eq!(metrics("off"), TextFile::Off);
    assert_eq!(metrics("/prom"), TextFile::In("/prom".into()));
}

#[test]
fn what_the_manuals_show_is_read() {
    let manuals = [
        include_str!("../../docs/configure.md"),
        include_str!("../../docs/monitoring.md"),
    ];
    let shown = manuals.iter().flat_map(|manual| {
        let blocks = manual.split("```toml\n").skip(1);
        blocks.map(|block| block.split("```").next().unwrap())
    });
    let mut count = 0;
    for block in shown {
        let mut text = block.to_owned();
        for needed in SMALLEST.split_inclusive("\"\n") {
            let section = needed.lines().next().unwrap();
            if !block.contains(section) {
                text += needed;
            }
        }
        read(&text).unwrap_or_else(|error| panic!("{text}\n{error}"));
        count += 1;
    }
    assert!(count > 8, "{count}");
}

#[test]
fn values_are_read_in_their_units() {
    let text = SMALLEST.replace(
        "[library]\n",
        "settle = \"90s\"\npoll-interval = \"5m\"\nmax-rate = 2.5\nignore = [\"*.log\"]\naction = \"copy\"\n\
         [decoders]\nmemory = \"512MiB\"\ncpu-time = \"7s\"\n[runtime]\ndevice = \"cuda:3\"\ngpu = \"require\"\n\
         [review]\nbelow = 0.9\n[review.categories]\nfrontal-fusion = 0.95\n[library]\nfile-mode = \"0600\"\n",
    );
    let settings = read(&text).unwrap();
    let watch = &settings.watches[0];
    assert_eq!(watch.settle, Some(Duration::from_secs(90)));
    assert_eq!(watch.poll_interval, Duration::from_mins(5));
    assert_eq!((watch.max_rate, watch.action), (Some(2.5), Action::Copy));
    assert_eq!(
        (settings.decoders.memory, settings.decoders.cpu_time),
        (512 << 20, Duration::from_secs(7))
    );
    assert_eq!(
        (settings.runtime.device, settings.runtime.gpu),
        (Device::Cuda(3), GpuPolicy::Require)
    );
    assert_eq!(
        settings.review.below_by_category,
        [("frontal-fusion".to_owned(), 0.95)]
    );
    assert_eq!(settings.library.file_mode, 0o600);
}

#[test]
fn every_mistake_is_named_with_its_place_and_a_way_out() {
    for (addition, expected) in [
        (
            "[runtime]\nthread = 2\n",
            "/etc/radsort.toml:8:1: unknown key \"thread\" ([runtime]); did you mean \"threads\"?",
        ),
        (
            "[log]\n  threads = 2\n",
            "8:3: unknown key \"threads\" ([log]); it belongs into [runtime]",
        ),
        (
            "[runtme]\n",
            "7:2: unknown key \"runtme\" (at the top level); did you mean \"runtime\"?",
        ),
        (
            "[runtime]\nthreads = \"two\"\n",
            "8:11: threads: expected an integer from 0 to 1024, found a string",
        ),
        (
            "[runtime]\nbatch = 0\n",
            "8:9: batch: expected an integer from 1 to 1024, found 0",
        ),
        (
            "[runtime]\ndevice = \"gpu\"\n",
            "8:10: device: there is no device \"gpu\"",
        ),
        (
            "[runtime]\ndevice = \"cpu\"\ngpu = \"require\"\n",
            "9:7: gpu = \"require\" contradicts device = \"cpu\"",
        ),
        (
            "[runtime]\ngpu = \"prefers\"\n",
            "8:7: gpu: \"prefers\" is none of its values; did you mean \"prefer\"?",
        ),
        (
            "[review]\nbelow = 1.5\n",
            "8:9: below: expected a number from 0 to 1, found 1.5",
        ),
        (
            "[review]\nview-sure = 0.9\n",
            "8:13: view-sure and view-margin go together",
        ),
        (
            "[review.categories]\nFusion = 0.9\n",
            "8:1: \"Fusion\" is no category id",
        ),
        (
            "[decoders]\nmemory = \"1MiB\"\n",
            "8:10: memory: \"1MiB\" is less than 64MiB",
        ),
        (
            "[decoders]\nmemory = \"99999999999GiB\"\n",
            "8:10: memory: \"99999999999GiB\" is no size",
        ),
        (
            "[decoders]\ncpu-time = \"30s\"\nwall-time = \"10s\"\n",
            "9:13: wall-time must not be shorter than cpu-time (30s)",
        ),
        ("[log]\nlevel = \"a=b=c\"\n", "8:9: level: "),
        (
            "[quarantine]\npath = \"/drop/incoming/bad\"\n",
            "2:8: the drop directory \"incoming\" and the quarantine",
        ),
        (
            "[quarantine]\npath = \"/srv/library/bad\"\n",
            "8:8: the quarantine lies inside the library: its first folder there must start",
        ),
        (
            "[quarantine]\npath = \"/srv/library/_review/bad\"\n",
            "8:8: the quarantine lies inside the library",
        ),
        (
            "[quarantine]\npath = \"/srv\"\n",
            "8:8: the library lies inside the quarantine",
        ),
        (
            "[duplicates]\npath = \"/srv/library/_quarantine\"\n",
            "the quarantine and the duplicates",
        ),
        (
            "[metrics]\nlisten = \"0.0.0.0:9464\"\n",
            "8:10: listen: \"0.0.0.0:9464\" can be reached from other machines; expected \"off\" or a loopback address",
        ),
        (
            "[metrics]\nlisten = \"9464\"\n",
            "8:10: listen: \"9464\" is no address with a port",
        ),
        (
            "[metrics]\ntextfile = \"/drop/incoming/prom\"\n",
            "8:12: the directory of the metrics file lies inside the drop directory",
        ),
        (
            "[metrics]\nsocket = \"/drop/incoming/m\"\n",
            "8:10: the metrics socket lies inside the drop directory",
        ),
        (
            "[alert]\ncommand = [\"mail\", \"root\"]\n",
            "8:12: command: it is run without a shell",
        ),
        (
            "[alert]\nreview-rate = 2\n",
            "8:15: review-rate: expected a number from 0 to 1, found 2",
        ),
        (
            "[alert]\ndisk-below = \"much\"\n",
            "8:14: disk-below: \"much\" is no size",
        ),
        (
            "[control]\nsocket = \"/drop/incoming/s\"\n",
            "8:10: the control socket lies inside the drop directory",
        ),
        (
            "[[watch]]\npath = \"/drop/incoming/deeper\"\n",
            "8:8: the drop directory \"deeper\" and the drop directory \"incoming\" (at /etc/radsort.toml:2:8)",
        ),
        (
            "[[watch]]\npath = \"/other/../drop/incoming\"\n",
            "8:8: the drop directory",
        ),
        (
            "[[watch]]\npath = \"/elsewhere/incoming\"\n",
            "8:8: the name \"incoming\" is taken at /etc/radsort.toml:2:8",
        ),
        ("[[watch]]\npath = \"/\"\n", "8:8: name: give it a name"),
        (
            "[[watch]]\npath = \"/srv/library/in\"\n",
            "8:8: the drop directory \"in\" and the library",
        ),
        (
            "[[watch]]\npath = \"relative\"\n",
            "8:8: path: \"relative\" is not absolute",
        ),
        (
            "[[watch]]\nname = \"x\"\n",
            "7:1: [[watch]]: path is missing",
        ),
        (
            "[[watch]]\npath = \"/a\"\nsettle = \"2h\"\n",
            "9:10: settle must be shorter than truncated",
        ),
        (
            "[[watch]]\npath = \"/a\"\ntruncated = \"60s\"\n",
            "9:13: truncated must be longer than settle",
        ),
        (
            "[[watch]]\npath = \"/a\"\nsettle = \"soon\"\n",
            "9:10: settle: \"soon\" is no time span",
        ),
        (
            "[[watch]]\npath = \"/a\"\nignore = [\"a[\"]\n",
            "9:11: ignore: ",
        ),
        (
            "[[watch]]\npath = \"/a\"\nignore = [1]\n",
            "9:10: ignore: expected a list of strings",
        ),
        (
            "[[watch]]\npath = \"/a\"\naction = \"observe\"\ntrusted = true\n",
            "7:1: [[watch]]: trusted = true",
        ),
    ] {
        let message = problems(addition);
        assert!(message.contains(expected), "{addition}\n{message}");
    }
}

#[test]
fn library_keys_are_checked() {
    for (key, expected) in [
        (
            "template = \"{category}/x.dcm\"",
            "5:12: template: two files could get the same path",
        ),
        (
            "template = \"{category}/{date}/{sop_instance_uid}\"",
            "the template's field {date} does not exist",
        ),
        (
            "file-mode = 640",
            "5:13: file-mode: expected an octal number in quotes, e.g. \"0640\", found an integer",
        ),
        ("file-mode = \"0755\"", "\"0755\" has bits outside 0666"),
        ("file-mode = \"0440\"", "\"0440\" lacks 0600"),
        (
            "file-mode = \"64\"",
            "is no octal number of three or four digits",
        ),
    ] {
        let message = problems_of(&SMALLEST.replace("[state]", &format!("{key}\n[state]")));
        assert!(message.contains(expected), "{key}\n{message}");
    }
}

#[test]
fn all_problems_are_told_at_once() {
    let message = problems("[runtime]\nbatch = 0\nthread = 1\n[log]\nlevel = 3\n");
    assert_eq!(message.lines().count(), 4, "{message}");
}

#[test]
fn broken_syntax_is_placed() {
    let message = problems("[runtime\nbatch = 1");
    assert!(message.contains("/etc/radsort.toml:7:"), "{message}");
}

#[test]
fn a_file_that_says_nothing_names_what_is_missing() {
    let message = problems_of("");
    assert!(message.contains("there is no drop directory"), "{message}");
    assert!(message.contains("[library]: path is missing"), "{message}");
    assert!(message.contains("[state]: path is missing"), "{message}");
}

#[test]
fn drop_ins_add_watches_and_override_values_in_the_order_of_their_names() {
    let dir = tempfile::tempdir().unwrap();
    let main = dir.path().join("radsort.toml");
    std::fs::write(
        &main,
        format!("{SMALLEST}[runtime]\nbatch = 2\nthreads = 3\n"),
    )
    .unwrap();
    std::fs::create_dir(dir.path().join("conf.d")).unwrap();
    let drop_in = |name: &str, text: &str| {
        std::fs::write(dir.path().join("conf.d").join(name), text).unwrap();
    };
    drop_in("20-b.toml", "[runtime]\nbatch = 5\n");
    drop_in(
        "10-a.toml",
        "[runtime]\nbatch = 4\n[[watch]]\npath = \"/drop/second\"\n",
    );
    drop_in(".hidden.toml", "nonsense");
    drop_in("notes.txt", "nonsense");
    let settings = load(&main).unwrap();
    assert_eq!((settings.runtime.batch, settings.runtime.threads), (5, 3));
    let names: Vec<_> = settings
        .watches
        .iter()
        .map(|watch| watch.name.as_str())
        .collect();
    assert_eq!(names, ["incoming", "second"]);

    drop_in("30-c.toml", "\n[runtime]\nbatch = \"x\"\n");
    let message = load(&main).unwrap_err().to_string();
    assert!(message.contains("conf.d/30-c.toml:3:9: batch"), "{message}");
    assert!(matches!(
        load(&dir.path().join("missing.toml")),
        Err(ConfigError::Read { .. })
    ));
}

#[test]
fn a_symbolic_link_hides_no_overlap() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("drop")).unwrap();
    std::os::unix::fs::symlink(dir.path().join("drop"), dir.path().join("alias")).unwrap();
    let text = SMALLEST
        .replace("/drop/incoming", dir.path().join("drop").to_str().unwrap())
        .replace(
            "/srv/library",
            dir.path().join("alias/library").to_str().unwrap(),
        );
    assert!(problems_of(&text).contains("and the library"));
}

/// `#key = value` and `#[section]` are defaults; `# ` starts prose.
fn uncommented(text: &str) -> String {
    let bare = |line: &str| match line.strip_prefix('#') {
        Some(rest) if rest.starts_with(|c: char| c.is_ascii_lowercase() || c == '[') => {
            rest.to_owned()
        }
        _ => line.to_owned(),
    };
    text.lines().map(bare).collect::<Vec<_>>().join("\n")
}

#[test]
fn the_commented_file_shows_every_key_with_its_default() {
    let text =
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("config/radsort.toml"))
            .unwrap();
    let shipped = read(&text).unwrap();
    assert_eq!(
        shipped.watches[0].action,
        Action::Observe,
        "the packaged example only observes"
    );
    assert_eq!(
        read(&uncommented(&text)).unwrap(),
        shipped,
        "what the comments show are the defaults"
    );
    let shown = uncommented(&text);
    for (section, keys) in read::KEYS {
        let from = shown.find(&format!("\n{section}")).expect(section) + 1;
        let body = &shown[from..];
        let body = &body[..body[1..].find("\n[").map_or(body.len(), |end| end + 1)];
        for key in keys.iter().filter(|key| **key != "categories") {
            assert!(
                body.contains(&format!("\n{key} = ")),
                "{section} does not show {key}"
            );
        }
    }
}

#[test]
fn the_list_of_keys_is_what_is_read() {
    for (section, keys) in read::KEYS {
        let text = format!("{section}\nnonsense-nonsense = 1\n");
        let message = problems_of(&text);
        let known = message
            .lines()
            .find(|line| line.contains("nonsense-nonsense"))
            .unwrap();
        for key in *keys {
            assert!(known.contains(key), "{section} {key}: {known}");
        }
        assert_eq!(
            known
                .split("known here: ")
                .nth(1)
                .unwrap()
                .split(", ")
                .count(),
            keys.len(),
            "{known}"
        );
    }
}

proptest! {
    #[test]
    fn arbitrary_text_never_panics(text in "\\PC{0,200}|([\\[\\]a-z=\"0-9.\\-\n ]{0,200})") {
        let _ = read(&text);
    }

    #[test]
    fn arbitrary_values_never_panic(key in 0usize..60, value in "\"[^\"\\\\]{0,20}\"|-?[0-9]{1,25}|[0-9]\\.[0-9]e[0-9]{1,4}|true|\\[\\[1\\]\\]|\\{a=1\\}|inf|nan") {
        let all: Vec<_> = read::KEYS.iter().flat_map(|(section, keys)| keys.iter().map(move |key| (*section, *key))).collect();
        let (section, key) = all[key % all.len()];
        let _ = read(&format!("{section}\n{key} = {value}\n"));
    }
}
