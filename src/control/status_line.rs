//! How the service is, in one line: what `systemctl status` shows, and `radsort status --watch` where there is no terminal.

use std::fmt::Write as _;

use super::status::{OBSERVED, Status, WatchState, WatchStatus, age};

impl Status {
    /// One line: what is wrong first, then what waits, what has been done, and what classifies.
    pub fn line(&self) -> String {
        let mut parts = Vec::new();
        for watch in &self.watches {
            match watch.state {
                WatchState::Online => {}
                WatchState::Offline => parts.push(format!("{} OFFLINE", watch.name)),
                WatchState::Held => parts.push(format!("{} HELD", watch.name)),
            }
        }
        if self
            .model
            .as_ref()
            .is_some_and(|model| model.gpu_refused.is_some())
        {
            parts.push("NOT ON THE GPU".to_owned());
        }
        if self.reload_error.is_some() {
            parts.push("LAST RELOAD FAILED".to_owned());
        }
        if self.altered > 0 {
            parts.push("FILED FILES ALTERED".to_owned());
        }
        let sum = |of: fn(&WatchStatus) -> u64| self.watches.iter().map(of).sum::<u64>();
        for (what, count) in [
            ("FILES THAT MAY NOT BE TAKEN", sum(|it| it.cannot_take)),
            ("UNREADABLE ENTRIES", sum(|it| it.unreadable)),
        ] {
            if count > 0 {
                parts.push(format!("{what}: {count}"));
            }
        }
        let online = self
            .watches
            .iter()
            .filter(|watch| watch.state == WatchState::Online);
        let (online, all) = (online.count(), self.watches.len());
        parts.push(format!("{online} of {all} drop directories online"));
        parts.push(self.waiting());
        let of = |fate: &str| self.totals.get(fate).copied().unwrap_or(0);
        let mut done = format!(
            "{} filed, {} for review, {} quarantined",
            of("filed"),
            of("review") + of("conflict"),
            of("quarantined")
        );
        if of(OBSERVED) > 0 {
            let _ = write!(done, ", {} only observed", of(OBSERVED));
        }
        parts.push(done);
        if let Some(model) = &self.model {
            parts.push(format!("{} on {}", model.name, model.provider));
        }
        parts.join("; ")
    }

    fn waiting(&self) -> String {
        let waiting: u64 = self.watches.iter().map(|watch| watch.waiting).sum();
        let oldest = self
            .watches
            .iter()
            .filter_map(|watch| watch.oldest_waiting_us)
            .min();
        match oldest.filter(|_| waiting > 0) {
            Some(since) => format!("{waiting} waiting (oldest {})", age(self.now_us - since)),
            None => "nothing waiting".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::control::status::{ModelStatus, tests::watch};

    #[test]
    fn the_line_says_what_is_wrong_before_what_is_well() {
        let mut status = Status {
            now_us: 100_000_000,
            model: Some(ModelStatus {
                name: "spine 1".into(),
                provider: "cpu".into(),
                gpu_refused: None,
                promise: None,
            }),
            totals: BTreeMap::from([
                ("filed".into(), 12),
                ("review".into(), 2),
                ("conflict".into(), 1),
            ]),
            watches: vec![watch("north"), watch("south")],
            ..Status::default()
        };
        for it in &mut status.watches {
            (it.state, it.waiting, it.oldest_waiting_us) = (WatchState::Online, 0, None);
        }
        assert_eq!(
            status.line(),
            "2 of 2 drop directories online; nothing waiting; 12 filed, 3 for review, 0 quarantined; spine 1 on cpu"
        );
        status.totals.insert(OBSERVED.into(), 7);
        assert!(
            status.line().contains("0 quarantined, 7 only observed; "),
            "{}",
            status.line()
        );
        (
            status.watches[0].cannot_take,
            status.watches[1].cannot_take,
            status.watches[1].unreadable,
        ) = (2, 1, 1);
        assert!(
            status.line().starts_with(
                "FILES THAT MAY NOT BE TAKEN: 3; UNREADABLE ENTRIES: 1; 2 of 2 drop directories online; nothing waiting; "
            ),
            "{}",
            status.line()
        );
        for it in &mut status.watches {
            (it.cannot_take, it.unreadable) = (0, 0);
        }
        let north = &mut status.watches[0];
        (north.state, north.waiting, north.oldest_waiting_us) =
            (WatchState::Offline, 4, Some(40_000_000));
        assert!(
            status.line().starts_with(
                "north OFFLINE; 1 of 2 drop directories online; 4 waiting (oldest 1 min); "
            ),
            "{}",
            status.line()
        );
    }
}
