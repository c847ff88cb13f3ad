//! Where log lines go: the systemd journal with its structured fields, or stderr for people, or JSON lines.
//!
//! Events carry identifiers and reasons as fields; nothing that names a patient, nor a source path, is ever logged.

use std::io::IsTerminal;

use log::{Log, Record, kv};
use systemd_journal_logger::JournalLog;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::layer::{Context, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, fmt};

use crate::config::settings::{LogSettings, LogTarget};

/// Sets up logging for the whole process. `RUST_LOG` overrides the configured level.
pub fn start(settings: &LogSettings) -> anyhow::Result<()> {
    let filter = match EnvFilter::try_from_default_env() {
        Ok(filter) => filter,
        // ONNX Runtime's binding is talkative at info.
        Err(_) => EnvFilter::try_new(format!("ort=warn,{}", settings.level)).map_err(|error| {
            anyhow::anyhow!("[log] level {:?} is no filter: {error}", settings.level)
        })?,
    };
    // The watching library's own lines name files, and so patients, whatever the level.
    let filter = filter.add_directive("notify=off".parse()?);
    let registry = tracing_subscriber::registry().with(filter);
    let stderr = || {
        fmt::layer()
            .with_writer(std::io::stderr)
            .with_ansi(std::io::stderr().is_terminal())
    };
    match settings.target {
        LogTarget::Json => registry
            .with(fmt::layer().json().with_writer(std::io::stderr))
            .try_init()?,
        LogTarget::Stderr => registry.with(stderr().with_target(false)).try_init()?,
        LogTarget::Journal => registry.with(JournalLayer(journal()?)).try_init()?,
        LogTarget::Auto => match journal() {
            Ok(journal) if systemd_journal_logger::connected_to_journal() => {
                registry.with(JournalLayer(journal)).try_init()?;
            }
            _ => registry.with(stderr().with_target(false)).try_init()?,
        },
    }
    Ok(())
}

/// The same for a command at a terminal: only what went wrong, unless `RUST_LOG` or the configuration asks for more.
pub fn start_quiet(settings: &LogSettings) -> anyhow::Result<()> {
    let level = if settings.level == "info" {
        "warn".to_owned()
    } else {
        settings.level.clone()
    };
    start(&LogSettings {
        level,
        target: LogTarget::Stderr,
        identifiers: settings.identifiers,
    })
}

fn journal() -> std::io::Result<JournalLog> {
    Ok(JournalLog::new()?.with_syslog_identifier("radsort".into()))
}

/// Hands tracing events to the journal with their fields (and their spans') as journal fields.
struct JournalLayer(JournalLog);

/// The fields of an event or span, in order.
#[derive(Default, Clone)]
struct Fields {
    message: String,
    values: Vec<(&'static str, String)>,
}

impl Fields {
    fn put(&mut self, field: &Field, value: String) {
        if field.name() == "message" {
            self.message = value;
        } else {
            self.values.push((field.name(), value));
        }
    }
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, value.to_owned());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        self.put(field, format!("{value:?}"));
    }
}

impl kv::Source for Fields {
    fn visit<'kvs>(&'kvs self, visitor: &mut dyn kv::VisitSource<'kvs>) -> Result<(), kv::Error> {
        for (name, value) in &self.values {
            visitor.visit_pair(kv::Key::from_str(name), kv::Value::from(value.as_str()))?;
        }
        Ok(())
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for JournalLayer {
    fn on_new_span(
        &self,
        attributes: &tracing::span::Attributes<'_>,
        id: &tracing::Id,
        context: Context<'_, S>,
    ) {
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        if let Some(span) = context.span(id) {
            span.extensions_mut().insert(fields);
        }
    }

    fn on_record(
        &self,
        id: &tracing::Id,
        values: &tracing::span::Record<'_>,
        context: Context<'_, S>,
    ) {
        if let Some(span) = context.span(id)
            && let Some(fields) = span.extensions_mut().get_mut::<Fields>()
        {
            values.record(fields);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        for span in context.event_scope(event).into_iter().flatten() {
            if let Some(outer) = span.extensions().get::<Fields>() {
                let new = outer
                    .values
                    .iter()
                    .filter(|(name, _)| fields.values.iter().all(|(known, _)| known != name));
                let new: Vec<_> = new.cloned().collect();
                fields.values.extend(new);
            }
        }
        let metadata = event.metadata();
        let level = match *metadata.level() {
            Level::ERROR => log::Level::Error,
            Level::WARN => log::Level::Warn,
            Level::INFO => log::Level::Info,
            Level::DEBUG => log::Level::Debug,
            Level::TRACE => log::Level::Trace,
        };
        self.0.log(
            &Record::builder()
                .level(level)
                .target(metadata.target())
                .module_path(metadata.module_path())
                .file(metadata.file())
                .line(metadata.line())
                .key_values(&fields)
                .args(format_args!("{}", fields.message))
                .build(),
        );
    }
}
