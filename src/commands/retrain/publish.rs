//! The end of a training: the new bundle is kept beside the others, put to use where that was asked for, and told of.

use std::path::Path;

use anyhow::Context as _;

use super::PromoteArg;
use super::run_folder::RunFolder;
use crate::config::Settings;
use crate::control::client::Client;
use crate::control::protocol::Request;
use crate::model::Bundle;
use crate::model::store::{Held, Store};
use crate::retrain::judging::report::{Report, summary};

/// What a training came to.
pub(super) struct Ending<'a> {
    pub(super) settings: &'a Settings,
    pub(super) store: &'a Store,
    pub(super) folder: &'a RunFolder,
    pub(super) candidate: &'a Bundle,
    pub(super) report: &'a Report,
    /// Than the bundle that was in use when it began.
    pub(super) better: bool,
    /// Where the candidate was written.
    pub(super) out: &'a Path,
}

/// What people have put to use since, in the place of `before`.
pub(super) fn put_to_use_since(
    settings: &Settings,
    before: &Bundle,
) -> anyhow::Result<Option<String>> {
    let now = Store::in_use(settings)?;
    // What cannot be opened is another one all the same.
    let name = || {
        Bundle::open(&now).map_or_else(|_| now.display().to_string(), |it| it.name_and_version())
    };
    Ok((now != before.dir()).then(name))
}

impl Ending<'_> {
    /// Keeps, promotes and tells.
    pub(super) fn publish(&self, held: Held<'_>, json: bool) -> anyhow::Result<()> {
        let Self {
            settings,
            store,
            candidate,
            report,
            ..
        } = self;
        let plan = self.folder.plan();
        let kept = match &plan.out {
            Some(_) => None,
            None => Some(store.keep(candidate)?),
        };
        // Nobody has compared it with what people have put to use meanwhile.
        let promote =
            plan.promote == PromoteArg::IfBetter && self.better && report.in_use_since.is_none();
        self.folder.finish()?;
        // Whatever becomes of it, people get the report.
        let promotion = match &kept {
            Some(name) if promote => Some(held.promote(settings, name)),
            _ => None,
        };
        drop(held);
        let promoted = matches!(promotion, Some(Ok(())));
        let place = kept
            .as_ref()
            .map_or_else(|| self.out.to_owned(), |name| store.dir().join(name));
        if json {
            let said = serde_json::json!({
                "bundle": candidate.name_and_version(),
                "folder": kept,
                "place": place,
                "promoted": promoted,
                "in_use_since": report.in_use_since,
                "report": report,
            });
            println!("{said}");
        } else {
            print!("{}", summary(report));
            println!(
                "\nThe whole report: {}",
                place.join("report.html").display()
            );
            match kept {
                Some(name) if promoted => println!("{name} is in use from now on."),
                Some(name) => println!("`radsort models promote {name}` puts it to use."),
                None => {}
            }
        }
        promotion.transpose()?;
        if promoted {
            reload(settings)?;
        }
        Ok(())
    }
}

fn reload(settings: &Settings) -> anyhow::Result<()> {
    if let Some(mut client) = Client::connect(&settings.control.socket)? {
        for reply in client.request(&Request::Reload {})? {
            reply.context("the service did not take the new bundle up")?;
        }
    }
    Ok(())
}
