//! The log on stderr: what is in it and how it is written, both of which may change while it runs.

use std::fmt;
use std::io::{self, IsTerminal};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::{Format, Writer};
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use super::takes_colour;
use crate::context::{Context, Verbosity};

/// Whether each line is a JSON object.
static IS_JSON: AtomicBool = AtomicBool::new(false);
/// Takes another filter.
type SetFilter = Box<dyn Fn(&str) + Send + Sync>;
static FILTER: OnceLock<SetFilter> = OnceLock::new();
/// The filter of `--quiet` and `-v`.
static DEFAULT: OnceLock<&str> = OnceLock::new();

/// Starts the log. `FREEHOLD_LOG` (for example `debug` or `server=debug`) overrides what `--quiet`
/// and `-v` choose.
pub(crate) fn start_log(context: &Context) {
    let default = DEFAULT.get_or_init(|| match context.verbosity() {
        Verbosity::Quiet => "error",
        Verbosity::Normal => "warn,server=info,freehold_server=info",
        Verbosity::Verbose => "info",
        Verbosity::Debug => "debug",
    });
    let filter = std::env::var("FREEHOLD_LOG")
        .ok()
        .and_then(|text| EnvFilter::try_new(text).ok())
        .unwrap_or_else(|| EnvFilter::new(default));
    let ansi = takes_colour(io::stderr().is_terminal(), |name| std::env::var(name).ok());
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(ansi)
        .event_format(Line)
        .with_filter_reloading();
    let handle = subscriber.reload_handle();
    // A second start would be our bug, but not one worth ending a run for.
    if subscriber.try_init().is_ok() {
        let _ = FILTER.set(Box::new(move |text| {
            let _ = handle.reload(EnvFilter::new(text));
        }));
    }
}

/// From now on what `filter` lets through is logged, where it says nothing what `--quiet` and `-v`
/// choose, and as JSON or not.
pub(crate) fn set_log(filter: Option<&str>, is_json: bool) {
    IS_JSON.store(is_json, Ordering::Relaxed);
    if let (Some(set), Some(default)) = (FILTER.get(), DEFAULT.get()) {
        set(filter.unwrap_or(default));
    }
}

/// Reads a filter, which stays a text.
pub(crate) fn log_filter(text: &str) -> Result<String, String> {
    match EnvFilter::try_new(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(_) => Err("expected a level (error, warn, info, debug, trace, off) or levels by part \
                       such as warn,freehold_server=debug"
            .to_owned()),
    }
}

/// A line of the log.
struct Line;

impl<S, N> FormatEvent<S, N> for Line
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        if !IS_JSON.load(Ordering::Relaxed) {
            let text = Format::default().with_ansi(writer.has_ansi_escapes());
            return text.format_event(context, writer, event);
        }
        let mut time = String::new();
        SystemTime.format_time(&mut Writer::new(&mut time))?;
        let metadata = event.metadata();
        let mut fields = Fields(Map::new());
        event.record(&mut fields);
        let mut line = Map::new();
        line.insert("time".to_owned(), time.into());
        line.insert("level".to_owned(), metadata.level().as_str().into());
        line.insert("target".to_owned(), metadata.target().into());
        line.extend(fields.0);
        writeln!(writer, "{}", Value::Object(line))
    }
}

/// The fields of an event, the message among them.
struct Fields(Map<String, Value>);

impl Fields {
    fn note(&mut self, field: &Field, value: impl Into<Value>) {
        self.0.insert(field.name().to_owned(), value.into());
    }
}

impl Visit for Fields {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.note(field, value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.note(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.note(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.note(field, value);
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.note(field, value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.note(field, format!("{value:?}"));
    }
}
