//! `radsort correct` and `radsort confirm`: a person says what a file is. And how any judgement reaches the records:
//! through the service when one runs, otherwise directly.

use std::ffi::OsString;
use std::process::ExitCode;

use super::access::{self, ConfigArg};
use crate::config::Settings;
use crate::control::client::Client;
use crate::control::protocol::{Judged, Judgement, Reply, Request};
use crate::judgement::Desk;
use crate::state::State;

/// Say that a file is of another category than its record says.
///
/// The label is recorded, with who said so and what the model had said, and the file goes into that category's folder.
/// Moving the file there by hand says the same.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  radsort correct 1.2.826.0.1.3680043.10.1 frontal-fusion
  radsort correct /srv/library/_review/low-confidence/1.2.3.dcm lateral-brace --note \"brace hardly visible\"
  radsort correct 1.2.826.0.1.3680043.10.1 frontal-halo --new-category
  radsort correct 1.2.826.0.1.3680043.10.1 neither          it belongs under no category

Exit status: 0 when the label was recorded and the file is in its folder, 1 otherwise.")]
pub struct CorrectArgs {
    /// A SOP Instance UID, a path, or a record id.
    #[arg(value_name = "UID|PATH")]
    pub what: OsString,
    /// One of the bundle's categories, by its id or its folder's name; `neither`: it belongs under none.
    pub category: String,
    /// Also a category that the model has yet to learn (`radsort retrain --add-category`).
    #[arg(long)]
    pub new_category: bool,
    /// Anything to be kept with the label.
    #[arg(long, value_name = "TEXT")]
    pub note: Option<String>,
    /// One JSON object.
    #[arg(long)]
    pub json: bool,
    /// Which configuration.
    #[command(flatten)]
    pub config: ConfigArg,
}

/// Say that files are what their records say.
///
/// That is a label too: without it nobody knows how often the model is right. A file in review that is confirmed goes
/// into the folder of the category that the model had thought most likely.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  radsort confirm 1.2.826.0.1.3680043.10.1
  radsort confirm /srv/library/Fusion/20260101/*.dcm

Exit status: 0 when all labels were recorded, 1 otherwise.")]
pub struct ConfirmArgs {
    /// SOP Instance UIDs, paths, or record ids.
    #[arg(value_name = "UID|PATH", required = true)]
    pub what: Vec<OsString>,
    /// One JSON object a line.
    #[arg(long)]
    pub json: bool,
    /// Which configuration.
    #[command(flatten)]
    pub config: ConfigArg,
}

/// Runs `radsort correct`.
pub fn correct(args: &CorrectArgs) -> anyhow::Result<ExitCode> {
    let judgement = Judgement::Correct {
        what: access::designation(&args.what)?,
        category: args.category.clone(),
        note: args.note.clone(),
        new_category: args.new_category,
    };
    print(&ask(&args.config.load()?, vec![judgement])?, args.json)
}

/// Runs `radsort confirm`.
pub fn confirm(args: &ConfirmArgs) -> anyhow::Result<ExitCode> {
    let what = designations(&args.what)?;
    let judgement = Judgement::Confirm { what };
    print(&ask(&args.config.load()?, vec![judgement])?, args.json)
}

/// What a person means by UIDs, records or paths.
pub fn designations(what: &[OsString]) -> anyhow::Result<Vec<String>> {
    what.iter().map(|what| access::designation(what)).collect()
}

/// Whoever keeps the records now.
pub enum Office {
    /// The running service.
    Service(Client),
    /// This process.
    Alone(Alone),
}

/// This process keeps the records.
pub struct Alone {
    settings: Box<Settings>,
    /// Who asks: found out before stepping down to the state's owner.
    by: u32,
}

impl Office {
    /// Finds the service; without one this process becomes the state directory's owner. To be called before any thread
    /// is started.
    pub fn open(settings: &Settings) -> anyhow::Result<Self> {
        if let Some(client) = Client::connect(&settings.control.socket)? {
            return Ok(Self::Service(client));
        }
        let by = rustix::process::getuid().as_raw();
        access::become_owner_of(&settings.state)?;
        Ok(Self::Alone(Alone {
            settings: Box::new(settings.clone()),
            by,
        }))
    }
}

impl Alone {
    /// Opens the records, does something with them, and closes them. The job is told who asks.
    pub fn run<T>(
        self,
        job: impl AsyncFnOnce(Desk, Option<u32>) -> anyhow::Result<T>,
    ) -> anyhow::Result<T> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        runtime.block_on(async {
            let state = State::open(&self.settings, &|_| {})?;
            let result = match Desk::of_state(&state, &self.settings) {
                Ok(desk) => job(desk, Some(self.by)).await,
                Err(error) => Err(error),
            };
            state.close().await;
            result
        })
    }
}

/// Has judgements recorded.
pub fn ask(settings: &Settings, judgements: Vec<Judgement>) -> anyhow::Result<Vec<Judged>> {
    match Office::open(settings)? {
        Office::Service(mut client) => {
            let mut judged = Vec::new();
            for judgement in judgements {
                for reply in client.request(&Request::Judge { judgement })? {
                    if let Reply::Judged(one) = reply? {
                        judged.push(one);
                    }
                }
            }
            Ok(judged)
        }
        Office::Alone(office) => office.run(async |desk, by| {
            let mut judged = Vec::new();
            for judgement in judgements {
                judged.extend(desk.judge(judgement, by).await?);
            }
            Ok(judged)
        }),
    }
}

/// Tells what became of each file.
pub fn print(judged: &[Judged], json: bool) -> anyhow::Result<ExitCode> {
    for one in judged {
        if json {
            println!("{}", serde_json::to_string(one)?);
            continue;
        }
        let what = &one.what;
        match (&one.category, &one.to, &one.error) {
            (Some(category), Some(to), _) => println!("{what}: {category}, at {to}"),
            (Some(category), None, Some(why)) => {
                eprintln!("{what}: {category} is recorded, but the file was not moved: {why}");
            }
            (Some(category), None, None) => println!("{what}: {category}"),
            (None, _, why) => eprintln!("{what}: {}", why.as_deref().unwrap_or("nothing recorded")),
        }
    }
    Ok(if judged.iter().all(|one| one.error.is_none()) {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
