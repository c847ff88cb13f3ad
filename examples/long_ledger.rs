//! A ledger as if COUNT files had been filed, for `make bench`: `long_ledger STATE COUNT`.
//!
//! STATE is a state directory that no service runs on. Five categories, every twentieth file in review, a study for two files.

use std::path::Path;

use anyhow::{Context as _, bail};
use radsort::domain::decision::Decision;
use radsort::domain::placement::RootId;
use radsort::domain::{CategoryId, Placement, Reason, RelPath, Uid};
use radsort::filing::ledger::Ledger;
use radsort::filing::record::{Fate, Intent, Record};

/// Files a group, as on a busy day.
const GROUP: u64 = 500;

fn main() -> anyhow::Result<()> {
    let usage = "usage: long_ledger STATE COUNT";
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [state, count] = words.as_slice() else {
        bail!(usage)
    };
    let count: u64 = count.parse().context(usage)?;
    let Record::Intent(pattern) =
        serde_json::from_str(include_str!("../benches/data/intent.json"))?
    else {
        bail!("benches/data/intent.json is no intent")
    };
    let (mut ledger, _) = Ledger::open(Path::new(state))?;
    let mut group = Vec::new();
    for n in 0..count {
        let mut intent = file(&pattern, n)?;
        intent.id = ledger.next_id();
        let id = intent.id.clone();
        group.push(Record::Intent(Box::new(intent)));
        group.push(Record::Filed { id, to: None });
        if (n + 1) % GROUP == 0 || n + 1 == count {
            ledger.append_group(&group)?;
            group.clear();
        }
    }
    Ok(())
}

/// As if file number `n` had been filed.
fn file(pattern: &Intent, n: u64) -> anyhow::Result<Intent> {
    let mut intent = pattern.clone();
    let folder = format!("category-{}", n % 5);
    intent.digest = blake3::hash(&n.to_le_bytes()).into();
    intent.fingerprint.ino = n;
    intent.from = RelPath::new(format!("{n:07}.dcm"))?;
    intent.to = Placement {
        root: RootId::Library,
        path: RelPath::new(format!("{folder}/{n}.dcm"))?,
    };
    intent.dossier.decision = Decision::File {
        category: CategoryId::parse(&folder)?,
    };
    if n.is_multiple_of(20) {
        let reason = Reason::LowConfidence;
        intent.fate = Fate::Review;
        intent.reason = Some(reason);
        intent.dossier.decision = Decision::Review { reason };
    }
    if let Some(instance) = &mut intent.dossier.instance {
        instance.sop_instance_uid = Uid::parse(&format!("1.2.826.0.1.3680043.10.9999.1.{n}"))?;
        instance.study_instance_uid = Some(Uid::parse(&format!(
            "1.2.826.0.1.3680043.10.9999.2.{}",
            n / 2
        ))?);
    }
    Ok(intent)
}
