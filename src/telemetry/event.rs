//! The kinds of log lines that a site may wait for. Each has a stable code (the field `event`) and a journal `MESSAGE_ID`,
//! which `packaging/journal/radsort.catalog` explains.

macro_rules! events {
    ($($name:ident = $code:literal, $id:literal, $what:literal;)*) => {
        /// A kind of log line.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Event {
            $(#[doc = $what] $name,)*
        }

        impl Event {
            /// Every kind.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// The stable code, e.g. `share-offline`.
            pub fn code(self) -> &'static str {
                match self { $(Self::$name => $code,)* }
            }

            /// The journal's `MESSAGE_ID`: 128 random bits, chosen once (sd-id128).
            pub fn message_id(self) -> &'static str {
                match self { $(Self::$name => $id,)* }
            }
        }

        impl std::str::FromStr for Event {
            type Err = ();

            fn from_str(text: &str) -> Result<Self, ()> {
                match text {
                    $($code => Ok(Self::$name),)*
                    _ => Err(()),
                }
            }
        }
    };
}

events! {
    Starting = "starting", "4d2e4bc105a04f03a509f24c6c13176c", "The service is starting.";
    Ready = "ready", "2cb59f752158496f986cbc355b253f60", "The service is ready.";
    Stopping = "stopping", "8d3dd444d8984279924655b6967a36f2", "The service is stopping.";
    Stopped = "stopped", "d2e83b7980e64c5bafd72c12375a6213", "The service has stopped.";
    Fatal = "fatal", "f6838b4100bc44b8967e52e364aea178", "The service stops so that a new process can start afresh.";
    Failed = "failed", "2ef8d914da64539bab859ea452cbb76a", "The service cannot start, or cannot go on.";
    ConfigReloaded = "config-reloaded", "3b56fbe34e364a5a93459003d64562c2", "A changed configuration is in force.";
    ConfigRefused = "config-refused", "71d032b2009f4ed2aeb386581a3a9b02", "A changed configuration was refused.";
    ModelChanged = "model-changed", "7977b2adae4f43b28744c8ea45d159d3", "Another model is in force.";
    NotOnGpu = "not-on-gpu", "0247fd62ce964189bb2afa7ea08242a4", "The model runs on the CPU, not on the GPU.";
    Filed = "filed", "fbabb28da7984312ae3d9fafc5fe7bda", "A file was filed.";
    Review = "review", "57d7d63ad4094a4bbf2371607b4e00f5", "A file waits for a person.";
    Other = "other", "9692dac575934e8abe147e424e48c45f", "DICOM that is no radiograph was moved to _other.";
    Quarantined = "quarantined", "068ff189bf9b4b62a87637bf78190b59", "A file was quarantined.";
    Duplicate = "duplicate", "ed40416a50ee4b129faba47d4007871b", "The same file is already in the library.";
    Conflict = "conflict", "420d2dcecc7f4ae3a693134c502a9a9a", "Two different files claim the same SOP Instance UID.";
    Left = "left", "b2628067f5984157afe53981e9a35838", "A file was left where it is.";
    Observed = "observed", "5bd37c59040a4dc2852560c6b4cdf3e8", "A file was only decided on, and not touched.";
    CannotTake = "cannot-take", "aaeb843abea44e92bb53b1df3a0a2e27", "A file cannot be taken.";
    IntakePaused = "intake-paused", "7d0ec2c9ff024b3ca9800f11cc123300", "Intake is paused.";
    IntakeResumed = "intake-resumed", "700b1ccb70404336bc0e6b60075a3252", "Intake goes on.";
    ShareOnline = "share-online", "a451cde141244b7ca5bbbb61bc752aa4", "A drop directory is there.";
    ShareOffline = "share-offline", "0a3b29e062c440ccbc31f8921ffac781", "A drop directory is gone.";
    ShareNotAnswering = "share-not-answering", "ee6bcf91499a48c6a54d11eb6b053b8e", "A drop directory does not answer.";
    ShareUnreadable = "share-unreadable", "bb21ff5ed08965f1582b0a852498773e", "Not all of a drop directory can be read.";
    EventsLost = "events-lost", "f8468c3e909e48f09295120442fb09c0", "The kernel lost events of a drop directory.";
    DiskLow = "disk-low", "42f1da2dd5134539a09442a4ea79203c", "A disk is getting full.";
    DiskEnough = "disk-enough", "b820facc0c10446293f7b030526f1185", "A disk has room again.";
    FilesWait = "files-wait", "05d71ecccb2d43f381e7e1903d639a0f", "A file has waited for long.";
    ReviewRateHigh = "review-rate-high", "f745a50f1c2b4a67a9681d76ac49ff32", "Unusually many files go to review.";
    QuarantineRateHigh = "quarantine-rate-high", "027c2df540e746c782eaff7bd8077ae1", "Unusually many files are quarantined.";
    Drift = "drift", "1bf65eed0b2a4b8ea118b1676c5fc8a0", "The model's confidence is distributed differently than before.";
    DecoderRestarted = "decoder-restarted", "86571e391284422ba2326535aba815f1", "A decoder was replaced.";
    LedgerUnwritable = "ledger-unwritable", "f73e12d1772e4542b2808534c830f360", "The ledger cannot be written.";
    LedgerTorn = "ledger-torn", "9f0962978cb24d8aa7caa41eab79a0d6", "The ledger had an unfinished end.";
    LedgerGone = "ledger-gone", "2d1f6f6c3a7e4b0c9d51e8a4c7b90f36", "The ledger is gone.";
    IndexRebuilt = "index-rebuilt", "536c23b193644f2292ea38a0e929b2b3", "The index was built anew.";
    Recovered = "recovered", "5a688c0c2a3f4bf0b9163947d169b982", "Work that an interruption left open was looked after.";
    Missing = "missing", "15785184d6c74fffb721e3098cc4b19b", "A file is nowhere to be found.";
    Altered = "altered", "49a4daa618074e01a6b61821cdb74838", "A filed file has been altered.";
    LibraryChanged = "library-changed", "4ba833a619cf48daaad73052cb413028", "People have changed the library.";
    Model = "model", "c1f0f7e2a5d94b6f8f3d6a0e1b7c4d95", "What the model runs on, and what it promises.";
    ControlSocket = "control-socket", "7a9e3d1c52b84f0d96e1c8b4f2a06d37", "The control socket was made again.";
    AlertFailed = "alert-failed", "56d29d34470f4f51a493db8200709735", "The alert command failed.";
    MetricsFailed = "metrics-failed", "48614e119ea440b5a16b6b5c41fa6e78", "Metrics cannot be given out.";
}

impl std::fmt::Display for Event {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.code())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::collections::{BTreeMap, BTreeSet};
    use std::path::{Path, PathBuf};

    use super::*;

    const CATALOG: &str = include_str!("../../packaging/journal/radsort.catalog");

    /// The catalog's entries: id → headers and text.
    fn entries() -> BTreeMap<&'static str, &'static str> {
        let mut entries = BTreeMap::new();
        for entry in CATALOG.split("\n-- ").skip(1) {
            let (id, rest) = entry.split_once('\n').unwrap();
            assert!(entries.insert(id, rest).is_none(), "{id} twice");
        }
        entries
    }

    #[test]
    fn the_catalog_explains_every_kind_of_event_and_nothing_else() {
        let ids: BTreeSet<_> = Event::ALL.iter().map(|event| event.message_id()).collect();
        assert_eq!(ids.len(), Event::ALL.len());
        for id in &ids {
            assert!(
                id.len() == 32 && id.bytes().all(|c| matches!(c, b'0'..=b'9' | b'a'..=b'f')),
                "{id}"
            );
        }
        assert_eq!(entries().into_keys().collect::<BTreeSet<_>>(), ids);
        for (id, entry) in entries() {
            let (headers, text) = entry.split_once("\n\n").unwrap();
            assert!(
                headers.starts_with("Subject: ") && headers.contains("\nDefined-By: radsort"),
                "{id}"
            );
            assert!(!text.trim().is_empty(), "{id} explains nothing");
        }
    }

    #[test]
    fn a_code_reads_back() {
        for event in Event::ALL {
            assert_eq!(event.to_string().parse(), Ok(*event));
        }
    }

    /// The crate's source, without this file.
    fn source() -> String {
        let mut open: Vec<PathBuf> = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src")];
        let mut text = String::new();
        while let Some(path) = open.pop() {
            if path.is_dir() {
                open.extend(
                    std::fs::read_dir(&path)
                        .unwrap()
                        .map(|entry| entry.unwrap().path()),
                );
            } else if !path.ends_with("telemetry/event.rs")
                && path.extension().is_some_and(|it| it == "rs")
            {
                text += &std::fs::read_to_string(&path).unwrap();
            }
        }
        text
    }

    #[test]
    fn every_kind_is_said_somewhere_and_the_catalogs_fields_exist() {
        let source = source();
        for event in Event::ALL {
            assert!(
                source.contains(&format!("Event::{event:?}")),
                "{event:?} is never said"
            );
        }
        for (id, entry) in entries() {
            for field in entry.split('@').skip(1).step_by(2) {
                let name = field.strip_prefix("RADSORT_").unwrap().to_lowercase();
                // A field is written `name = value`, or `name` where a variable has its name.
                let said = [" = ", ",", " %", "\n"]
                    .iter()
                    .any(|after| source.contains(&format!(" {name}{after}")));
                assert!(said, "{id} names {field}, which is never said");
            }
        }
    }

    #[test]
    fn journalctl_takes_the_catalog() {
        let root = tempfile::tempdir().unwrap();
        let catalog = root.path().join("usr/lib/systemd/catalog");
        std::fs::create_dir_all(&catalog).unwrap();
        std::fs::create_dir_all(root.path().join("var/lib/systemd/catalog")).unwrap();
        std::fs::write(catalog.join("radsort.catalog"), CATALOG).unwrap();
        let journalctl = |word: &str| {
            let mut command = std::process::Command::new("journalctl");
            command.arg("--root").arg(root.path()).arg(word).output()
        };
        let Ok(updated) = journalctl("--update-catalog") else {
            return eprintln!("SKIPPED: needs journalctl");
        };
        let said = String::from_utf8_lossy(&updated.stderr).into_owned();
        assert!(updated.status.success() && said.is_empty(), "{said}");
        let listed = journalctl("--list-catalog").unwrap();
        let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
        for event in Event::ALL {
            assert!(listed.contains(event.message_id()), "{event}: {listed}");
        }
    }
}
