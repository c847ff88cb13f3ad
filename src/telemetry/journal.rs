//! From tracing's events to journal entries: every field of an event and of the spans around it becomes `RADSORT_<FIELD>`,
//! and the field `event` gives the entry its `MESSAGE_ID` as well.
//!
//! `systemd-journal-logger` writes the entry; `log`'s own bridge would flatten the fields into the message.

use log::{Log, Record, kv};
use tracing::field::{Field, Visit};
use tracing::{Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

use super::Event;

/// Before every field of radsort's own, so that `journalctl RADSORT_REASON=truncated` cannot mean anybody else's.
const PREFIX: &str = "radsort_";
/// The field that says which [`Event`] it is.
const EVENT: &str = "radsort_event";

/// Hands tracing events to the journal (or to what stands for it in tests) with their fields and their spans'.
pub(super) struct JournalLayer<L>(pub L);

/// The fields of an event or span, in order.
#[derive(Default, Clone)]
struct Fields {
    message: String,
    values: Vec<(String, String)>,
}

impl Fields {
    fn put(&mut self, field: &Field, value: String) {
        if field.name() == "message" {
            self.message = value;
        } else {
            self.values
                .push((format!("{PREFIX}{}", field.name()), value));
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
        for (name, value) in self.values.iter().filter(|(_, value)| !value.is_empty()) {
            visitor.visit_pair(kv::Key::from_str(name), value.as_str().into())?;
            let event = (name == EVENT).then(|| value.parse::<Event>());
            if let Some(Ok(event)) = event {
                visitor.visit_pair(kv::Key::from("message_id"), event.message_id().into())?;
            }
        }
        Ok(())
    }
}

impl<S, L> Layer<S> for JournalLayer<L>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    L: Log + 'static,
{
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

    fn on_event(&self, event: &tracing::Event<'_>, context: Context<'_, S>) {
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::collections::BTreeMap;
    use std::sync::{Arc, Mutex};

    use tracing_subscriber::layer::SubscriberExt;

    use super::*;

    /// What the journal would be given: the message, and each field under the name that it gets there.
    #[derive(Clone, Default)]
    struct Heard(Arc<Mutex<Vec<BTreeMap<String, String>>>>);

    struct Entry<'a>(&'a mut BTreeMap<String, String>);

    impl<'kvs> kv::VisitSource<'kvs> for Entry<'_> {
        fn visit_pair(
            &mut self,
            key: kv::Key<'kvs>,
            value: kv::Value<'kvs>,
        ) -> Result<(), kv::Error> {
            // As systemd-journal-logger mangles it.
            let before = self
                .0
                .insert(key.as_str().to_ascii_uppercase(), value.to_string());
            assert!(before.is_none(), "{key} twice");
            Ok(())
        }
    }

    impl Log for Heard {
        fn enabled(&self, _: &log::Metadata<'_>) -> bool {
            true
        }

        fn log(&self, record: &Record<'_>) {
            let mut entry = BTreeMap::from([("MESSAGE".to_owned(), record.args().to_string())]);
            record.key_values().visit(&mut Entry(&mut entry)).unwrap();
            self.0.lock().unwrap().push(entry);
        }

        fn flush(&self) {}
    }

    fn heard(say: impl FnOnce()) -> BTreeMap<String, String> {
        let heard = Heard::default();
        let subscriber = tracing_subscriber::registry().with(JournalLayer(heard.clone()));
        tracing::subscriber::with_default(subscriber, say);
        let mut entries = heard.0.lock().unwrap();
        assert_eq!(entries.len(), 1);
        entries.remove(0)
    }

    fn fields(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        let owned = pairs
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        owned.collect()
    }

    #[test]
    fn a_files_line_has_the_fields_that_a_site_selects_by_and_the_id_of_its_kind() {
        let entry = heard(|| {
            tracing::info!(
                event = %Event::Quarantined,
                sop_instance_uid = "p-17",
                watch = "north",
                reason = "truncated",
                category = None::<&str>,
                confidence = 0.5,
                model = "",
                duration_ms = 12_u64,
                "quarantined (truncated)",
            );
        });
        let expected = fields(&[
            ("MESSAGE", "quarantined (truncated)"),
            ("MESSAGE_ID", Event::Quarantined.message_id()),
            ("RADSORT_EVENT", "quarantined"),
            ("RADSORT_SOP_INSTANCE_UID", "p-17"),
            ("RADSORT_WATCH", "north"),
            ("RADSORT_REASON", "truncated"),
            ("RADSORT_CONFIDENCE", "0.5"),
            ("RADSORT_DURATION_MS", "12"),
        ]);
        assert_eq!(entry, expected);
    }

    #[test]
    fn fields_of_the_spans_around_are_added_and_the_innermost_wins() {
        let entry = heard(|| {
            let _outer = tracing::info_span!("outer", watch = "outer", model = "a 1").entered();
            let _inner = tracing::info_span!("inner", watch = "inner").entered();
            tracing::warn!(what = "it", "said");
        });
        let expected = fields(&[
            ("MESSAGE", "said"),
            ("RADSORT_WHAT", "it"),
            ("RADSORT_WATCH", "inner"),
            ("RADSORT_MODEL", "a 1"),
        ]);
        assert_eq!(entry, expected);
    }
}
