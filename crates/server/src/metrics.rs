//! What the server counts, as Prometheus reads it (text format 0.0.4).
//!
//! Labels are bounded: routes as they are declared, names of served models, and words of this
//! program; never what a client wrote. A request is counted once, at its end, under one lock.
//!
//! <https://prometheus.io/docs/instrumenting/exposition_formats/>

use crate::Egress;
use crate::accounts::LimitGauges;
use crate::batches::BatchGauges;
use crate::models::ModelGauges;
use crate::traces::SpanCounts;
use std::collections::BTreeMap;
use std::fmt::{Display, Write as _};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// The content type of [`Metrics::text`].
pub(crate) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Upper bounds of the buckets in seconds: from a token of a small model to an hour of waiting.
const BOUNDS: [f64; 16] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0, 300.0,
    3600.0,
];

/// How often something took how long.
#[derive(Debug, Clone, Default)]
pub(crate) struct Histogram {
    /// Of each bucket alone, without those below; what is beyond all bounds is in `n_all` only.
    n: [u64; BOUNDS.len()],
    n_all: u64,
    sum: Duration,
}

impl Histogram {
    pub(crate) fn add(&mut self, duration: Duration) {
        let seconds = duration.as_secs_f64();
        if let Some(n) = BOUNDS.iter().position(|bound| seconds <= *bound) {
            self.n[n] += 1;
        }
        self.n_all += 1;
        self.sum += duration;
    }

    fn append(&mut self, other: &Self) {
        self.n.iter_mut().zip(other.n).for_each(|(n, other)| *n += other);
        self.n_all += other.n_all;
        self.sum += other.sum;
    }
}

/// What one request was.
#[derive(Debug, Clone, Default)]
pub(crate) struct Seen {
    /// How it ended, in one word.
    pub(crate) outcome: &'static str,
    /// What was wrong, in one word.
    pub(crate) error: Option<&'static str>,
    pub(crate) n_prompt: u64,
    /// Of the prompt, tokens that were in the prefix cache.
    pub(crate) n_reused: u64,
    pub(crate) n_generated: u64,
    /// From its submission to the first step that worked on it.
    pub(crate) queue: Option<Duration>,
    pub(crate) first_token: Option<Duration>,
    /// Between pieces of its answer.
    pub(crate) between: Histogram,
    pub(crate) duration: Duration,
}

/// What a copy of a request came to, beside the answer.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct ShadowSeen {
    /// In one word.
    pub(crate) outcome: &'static str,
    /// Tokens of the answer, and how long they took from the first on.
    pub(crate) n_usual: u64,
    pub(crate) time_usual: Duration,
    /// The same of the copy.
    pub(crate) n_shadow: u64,
    pub(crate) time_shadow: Duration,
}

/// Most pairs of a route and a model that are told apart: more than any owner serves.
const N_SERIES_MAX: usize = 4096;

/// Everything counted since the start.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    counted: Mutex<Counted>,
}

#[derive(Debug, Clone, Default)]
struct Counted {
    /// By route, method and status: every response, by its head.
    responses: BTreeMap<(String, &'static str, u16), u64>,
    /// By route and model, which is empty where none was found: requests to models, by their end.
    requests: BTreeMap<(String, String), Requests>,
    n_resumed: u64,
    /// By alias and the model that answered copies.
    shadows: BTreeMap<(String, String), Shadows>,
}

#[derive(Debug, Clone, Default)]
struct Shadows {
    outcomes: BTreeMap<&'static str, u64>,
    /// Of those that were answered.
    n_usual: u64,
    n_shadow: u64,
    time_usual: Duration,
    time_shadow: Duration,
}

#[derive(Debug, Clone, Default)]
struct Requests {
    outcomes: BTreeMap<&'static str, u64>,
    errors: BTreeMap<&'static str, u64>,
    n_prompt: u64,
    n_reused: u64,
    n_generated: u64,
    queue: Histogram,
    first_token: Histogram,
    between: Histogram,
    duration: Histogram,
}

impl Metrics {
    /// A response goes out.
    pub(crate) fn response(&self, route: &str, method: &'static str, status: u16) {
        let mut counted = self.lock();
        *counted.responses.entry((route.to_owned(), method, status)).or_default() += 1;
    }

    /// A request has ended.
    pub(crate) fn request(&self, route: &str, model: &str, seen: &Seen) {
        let mut counted = self.lock();
        // Of upstreams' models clients choose the names.
        let is_full = counted.requests.len() >= N_SERIES_MAX;
        let key = match (route.to_owned(), model.to_owned()) {
            key if is_full && !counted.requests.contains_key(&key) => (key.0, "other".to_owned()),
            key => key,
        };
        let of = counted.requests.entry(key).or_default();
        *of.outcomes.entry(seen.outcome).or_default() += 1;
        if let Some(error) = seen.error {
            *of.errors.entry(error).or_default() += 1;
        }
        of.n_prompt += seen.n_prompt;
        of.n_reused += seen.n_reused;
        of.n_generated += seen.n_generated;
        seen.queue.into_iter().for_each(|duration| of.queue.add(duration));
        seen.first_token.into_iter().for_each(|duration| of.first_token.add(duration));
        of.between.append(&seen.between);
        of.duration.add(seen.duration);
    }

    /// A copy of a request to `alias` has been answered by `model`, or has not.
    pub(crate) fn shadow(&self, alias: &str, model: &str, seen: &ShadowSeen) {
        let mut counted = self.lock();
        let of = counted.shadows.entry((alias.to_owned(), model.to_owned())).or_default();
        *of.outcomes.entry(seen.outcome).or_default() += 1;
        if matches!(seen.outcome, "equal" | "differs") {
            of.n_usual += seen.n_usual;
            of.n_shadow += seen.n_shadow;
            of.time_usual += seen.time_usual;
            of.time_shadow += seen.time_shadow;
        }
    }

    /// A stream is gone on with.
    pub(crate) fn resumed(&self) {
        self.lock().n_resumed += 1;
    }

    /// The page, with the gauges of this moment.
    pub(crate) fn text(&self, now: &Now) -> String {
        let mut page = Page::default();
        page.now(now);
        page.limits(&now.limits);
        // Written down once nobody waits for it.
        let counted = self.lock().clone();
        let name = "freehold_http_responses_total";
        page.family(name, "counter", "Responses, by their head.");
        for ((route, method, status), n) in &counted.responses {
            let status = status.to_string();
            page.line(name, &[("route", route), ("method", method), ("status", &status)], n);
        }
        let name = "freehold_streams_resumed_total";
        page.family(name, "counter", "Streams that were gone on with behind a lost connection.");
        page.line(name, &[], counted.n_resumed);
        page.requests(&counted.requests);
        page.shadows(&counted.shadows);
        page.0
    }

    /// Nothing that can panic runs under the lock.
    fn lock(&self) -> std::sync::MutexGuard<'_, Counted> {
        self.counted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is so at this moment.
pub(crate) struct Now {
    pub(crate) version: &'static str,
    pub(crate) numerics: u32,
    /// Seconds since 1970 at which the server began.
    pub(crate) started: u64,
    pub(crate) egress: Egress,
    /// Where there are upstreams, whether somebody is there who can ask them.
    pub(crate) has_broker: Option<bool>,
    pub(crate) n_at_work: usize,
    /// Bytes of streams that can be resumed.
    pub(crate) n_stream_bytes: usize,
    pub(crate) rss_bytes: Option<u64>,
    pub(crate) models: Vec<ModelGauges>,
    /// Where clients may have batches.
    pub(crate) batches: Option<BatchGauges>,
    /// Where they are exported.
    pub(crate) spans: Option<SpanCounts>,
    /// What the owner has set.
    pub(crate) limits: Vec<LimitGauges>,
}

/// The text so far.
#[derive(Default)]
struct Page(String);

/// A family of lines: its name, its type, what it means, and what it is of a model.
type OfModel = (&'static str, &'static str, &'static str, fn(&ModelGauges) -> Option<f64>);

const OF_MODELS: &[OfModel] = &[
    ("freehold_model_open", "gauge", "Whether the model is in memory.", |m| {
        Some(f64::from(u8::from(m.is_open)))
    }),
    ("freehold_model_opened_total", "counter", "How often it was opened.", |m| {
        Some(m.n_opened as f64)
    }),
    ("freehold_model_planned_bytes", "gauge", "Memory that it has, caches included.", |m| {
        m.planned_bytes.map(|n| n as f64)
    }),
    ("freehold_sequences_running", "gauge", "Sequences that are worked on.", |m| {
        m.stats.map(|s| s.n_running as f64)
    }),
    ("freehold_requests_waiting", "gauge", "Requests that wait for a seat.", |m| {
        m.stats.map(|s| s.n_waiting as f64)
    }),
    ("freehold_kv_pages", "gauge", "Pages of its KV cache, 64 tokens each.", |m| {
        m.stats.map(|s| s.n_pages as f64)
    }),
    ("freehold_kv_pages_used", "gauge", "Pages that sequences hold.", |m| {
        m.stats.map(|s| s.n_pages_used as f64)
    }),
    ("freehold_kv_pages_cached", "gauge", "Pages kept for prompts that begin alike.", |m| {
        m.stats.map(|s| s.n_pages_cached as f64)
    }),
    ("freehold_steps_total", "counter", "Passes over the model since it was opened.", |m| {
        m.stats.map(|s| s.n_steps as f64)
    }),
    ("freehold_step_seconds_total", "counter", "How long they took together.", |m| {
        m.stats.map(|s| s.busy.as_secs_f64())
    }),
    ("freehold_step_prefill_tokens_total", "counter", "Tokens of prompts in them.", |m| {
        m.stats.map(|s| s.n_prefill as f64)
    }),
    ("freehold_step_decode_tokens_total", "counter", "Tokens of answers, guesses too.", |m| {
        m.stats.map(|s| s.n_decode as f64)
    }),
    ("freehold_preemptions_total", "counter", "Sequences that gave up their seat.", |m| {
        m.stats.map(|s| s.n_preempted as f64)
    }),
];

/// A family of lines: its name, what it means, and what it counts of requests.
type Sum = (&'static str, &'static str, fn(&Requests) -> u64);
type Times = (&'static str, &'static str, fn(&Requests) -> &Histogram);

const SUMS: &[Sum] = &[
    ("freehold_prompt_tokens_total", "Tokens of prompts.", |r| r.n_prompt),
    ("freehold_cached_tokens_total", "Of them, those of the prefix cache.", |r| r.n_reused),
    ("freehold_generated_tokens_total", "Tokens generated.", |r| r.n_generated),
];

const TIMES: &[Times] = &[
    ("freehold_queue_seconds", "From submission to the first step.", |r| &r.queue),
    ("freehold_time_to_first_token_seconds", "From arrival to the first piece.", |r| {
        &r.first_token
    }),
    ("freehold_between_tokens_seconds", "Between pieces of an answer.", |r| &r.between),
    ("freehold_request_seconds", "From arrival to the end.", |r| &r.duration),
];

impl Page {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn line(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) {
        self.0.push_str(name);
        for (label_idx, (label, text)) in labels.iter().enumerate() {
            self.0.push(if label_idx == 0 { '{' } else { ',' });
            let _ = write!(self.0, "{label}=\"{}\"", escaped(text));
        }
        self.0.push_str(if labels.is_empty() { " " } else { "} " });
        let _ = writeln!(self.0, "{value}");
    }

    fn now(&mut self, now: &Now) {
        let name = "freehold_build_info";
        self.family(name, "gauge", "1; the program is in the labels.");
        let numerics = now.numerics.to_string();
        self.line(name, &[("version", now.version), ("numerics", &numerics)], 1);
        let name = "process_start_time_seconds";
        self.family(name, "gauge", "When the server began, in seconds since 1970.");
        self.line(name, &[], now.started);
        if let Some(n_bytes) = now.rss_bytes {
            let name = "process_resident_memory_bytes";
            self.family(name, "gauge", "Memory of this process.");
            self.line(name, &[], n_bytes);
        }
        let name = "freehold_egress_locked";
        self.family(name, "gauge", "Whether the process can open no connection.");
        self.line(name, &[], u8::from(now.egress == Egress::Locked));
        if let Some(is_there) = now.has_broker {
            let name = "freehold_broker_up";
            self.family(name, "gauge", "Whether the process is there that asks upstreams.");
            self.line(name, &[], u8::from(is_there));
        }
        let name = "freehold_requests_at_work";
        self.family(name, "gauge", "Requests that have come and not ended.");
        self.line(name, &[], now.n_at_work);
        if let Some(BatchGauges { n_bytes, n_unfinished }) = now.batches {
            let name = "freehold_batches_unfinished";
            self.family(name, "gauge", "Batches that are not over.");
            self.line(name, &[], n_unfinished);
            let name = "freehold_file_bytes";
            self.family(name, "gauge", "Files of clients, with what came of their batches.");
            self.line(name, &[], n_bytes);
        }
        if let Some(SpanCounts { n_taken, n_dropped }) = now.spans {
            let name = "freehold_spans_exported_total";
            self.family(name, "counter", "Spans that the collector has taken.");
            self.line(name, &[], n_taken);
            let name = "freehold_spans_dropped_total";
            self.family(name, "counter", "Spans that nobody got, for want of room or a collector.");
            self.line(name, &[], n_dropped);
        }
        let name = "freehold_streams_kept_bytes";
        self.family(name, "gauge", "Events of streams that can be resumed.");
        self.line(name, &[], now.n_stream_bytes);
        for (name, kind, help, value) in OF_MODELS {
            self.family(name, kind, help);
            for model in &now.models {
                if let Some(value) = value(model) {
                    self.line(name, &[("model", &model.name)], value);
                }
            }
        }
    }

    /// In the units in which the ledger counts: millionths of the currency, thousandths of a joule.
    fn limits(&mut self, limits: &[LimitGauges]) {
        type OfLimit = (&'static str, &'static str, fn(&LimitGauges) -> u64);
        const OF_LIMITS: [OfLimit; 3] = [
            ("freehold_limit_amount", "What the limit allows in its time.", |l| l.amount),
            ("freehold_limit_used", "What was used of it.", |l| l.standing.used),
            ("freehold_limit_reserved", "What requests at work hold.", |l| l.standing.reserved),
        ];
        if limits.is_empty() {
            return;
        }
        for (name, help, value) in OF_LIMITS {
            self.family(name, "gauge", help);
            for limit in limits {
                self.line(name, &[("limit", &limit.id)], value(limit));
            }
        }
        let name = "freehold_limit_reached_total";
        self.family(name, "counter", "Requests that did not fit it, by what became of them.");
        for limit in limits {
            for (outcome, n) in &limit.n_reached {
                self.line(name, &[("limit", &limit.id), ("outcome", outcome)], n);
            }
        }
    }

    fn requests(&mut self, requests: &BTreeMap<(String, String), Requests>) {
        let name = "freehold_requests_total";
        self.family(name, "counter", "Requests to models, by how they ended.");
        for ((route, model), of) in requests {
            for (outcome, n) in &of.outcomes {
                self.line(name, &[("route", route), ("model", model), ("outcome", outcome)], n);
            }
        }
        let name = "freehold_errors_total";
        self.family(name, "counter", "Of them, those that were refused or broke off, by why.");
        for ((route, model), of) in requests {
            for (error, n) in &of.errors {
                self.line(name, &[("route", route), ("model", model), ("error", error)], n);
            }
        }
        for (name, help, sum) in SUMS {
            self.family(name, "counter", help);
            for ((route, model), of) in requests {
                self.line(name, &[("route", route), ("model", model)], sum(of));
            }
        }
        for (name, help, times) in TIMES {
            self.family(name, "histogram", help);
            for ((route, model), of) in requests {
                self.histogram(name, [("route", route), ("model", model)], times(of));
            }
        }
    }

    fn shadows(&mut self, shadows: &BTreeMap<(String, String), Shadows>) {
        if shadows.is_empty() {
            return;
        }
        let name = "freehold_shadow_requests_total";
        self.family(name, "counter", "Copies of requests to an alias, by what came of them.");
        for ((alias, model), of) in shadows {
            for (outcome, n) in &of.outcomes {
                self.line(name, &[("alias", alias), ("model", model), ("outcome", outcome)], n);
            }
        }
        let name = "freehold_shadow_generated_tokens_total";
        self.family(name, "counter", "Tokens of answers that had a copy, and of the copies.");
        for ((alias, model), of) in shadows {
            for (side, n) in [("usual", of.n_usual), ("shadow", of.n_shadow)] {
                self.line(name, &[("alias", alias), ("model", model), ("side", side)], n);
            }
        }
        let name = "freehold_shadow_decode_seconds_total";
        self.family(name, "counter", "How long these took from the first token on.");
        for ((alias, model), of) in shadows {
            for (side, time) in [("usual", of.time_usual), ("shadow", of.time_shadow)] {
                let labels = [("alias", &**alias), ("model", &**model), ("side", side)];
                self.line(name, &labels, time.as_secs_f64());
            }
        }
    }

    fn histogram(&mut self, name: &str, labels: [(&str, &str); 2], of: &Histogram) {
        let [route, model] = labels;
        let bucket = format!("{name}_bucket");
        let mut n_up_to = 0;
        for (n, bound) in of.n.iter().zip(BOUNDS) {
            n_up_to += n;
            self.line(&bucket, &[route, model, ("le", &bound.to_string())], n_up_to);
        }
        self.line(&bucket, &[route, model, ("le", "+Inf")], of.n_all);
        self.line(&format!("{name}_sum"), &labels, of.sum.as_secs_f64());
        self.line(&format!("{name}_count"), &labels, of.n_all);
    }
}

/// The value of a label, in which three characters have a meaning.
fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use engine::EngineStats;
    use ledger::{Limit, Per, Standing, What};

    fn now() -> Now {
        let stats = EngineStats { n_running: 2, n_pages: 7, ..EngineStats::default() };
        let model = |name: &str, stats: Option<EngineStats>| ModelGauges {
            name: name.to_owned(),
            is_open: stats.is_some(),
            n_opened: 3,
            planned_bytes: stats.map(|_| 4096),
            stats,
        };
        Now {
            version: "1.2.3",
            numerics: 2,
            started: 1000,
            egress: Egress::Locked,
            has_broker: Some(true),
            n_at_work: 5,
            n_stream_bytes: 300,
            rss_bytes: Some(1 << 20),
            models: vec![model("a", Some(stats)), model("b", None)],
            batches: Some(BatchGauges { n_bytes: 7, n_unfinished: 3 }),
            spans: Some(SpanCounts { n_taken: 8, n_dropped: 2 }),
            limits: vec![limit()],
        }
    }

    fn limit() -> LimitGauges {
        let limit = Limit::new("key:a", What::Tokens, 100, Some(Per::Day)).unwrap();
        let standing =
            Standing { limit: limit.clone(), used: 40, reserved: 9, renews_at_us: Some(1) };
        let n_reached = vec![("queued", 1), ("refused", 6)];
        LimitGauges { id: limit.id(), amount: limit.amount, standing, n_reached }
    }

    #[test]
    fn requests_are_counted_by_route_and_model() {
        let metrics = Metrics::default();
        let ms = Duration::from_millis;
        let mut between = Histogram::default();
        [ms(1), ms(40), Duration::from_secs(4000)].into_iter().for_each(|gap| between.add(gap));
        let done = Seen {
            outcome: "done",
            n_prompt: 10,
            n_reused: 4,
            n_generated: 7,
            first_token: Some(ms(30)),
            between,
            duration: ms(500),
            ..Seen::default()
        };
        metrics.request("/v1/x", "a", &done);
        metrics.request("/v1/x", "a", &done);
        let refused = Seen { outcome: "refused", error: Some("overloaded"), ..Seen::default() };
        metrics.request("/v1/x", "", &refused);
        metrics.response("/v1/x", "POST", 200);
        metrics.resumed();
        let text = metrics.text(&now());
        for line in [
            "freehold_build_info{version=\"1.2.3\",numerics=\"2\"} 1",
            "freehold_requests_at_work 5",
            "freehold_batches_unfinished 3",
            "freehold_file_bytes 7",
            "freehold_spans_exported_total 8",
            "freehold_spans_dropped_total 2",
            "freehold_limit_amount{limit=\"key:a tokens/day\"} 100",
            "freehold_limit_used{limit=\"key:a tokens/day\"} 40",
            "freehold_limit_reserved{limit=\"key:a tokens/day\"} 9",
            "freehold_limit_reached_total{limit=\"key:a tokens/day\",outcome=\"refused\"} 6",
            "freehold_streams_kept_bytes 300",
            "freehold_streams_resumed_total 1",
            "freehold_model_open{model=\"a\"} 1",
            "freehold_model_open{model=\"b\"} 0",
            "freehold_sequences_running{model=\"a\"} 2",
            "freehold_http_responses_total{route=\"/v1/x\",method=\"POST\",status=\"200\"} 1",
            "freehold_requests_total{route=\"/v1/x\",model=\"a\",outcome=\"done\"} 2",
            "freehold_errors_total{route=\"/v1/x\",model=\"\",error=\"overloaded\"} 1",
            "freehold_prompt_tokens_total{route=\"/v1/x\",model=\"a\"} 20",
            "freehold_between_tokens_seconds_bucket{route=\"/v1/x\",model=\"a\",le=\"0.001\"} 2",
            "freehold_between_tokens_seconds_bucket{route=\"/v1/x\",model=\"a\",le=\"0.05\"} 4",
            "freehold_between_tokens_seconds_bucket{route=\"/v1/x\",model=\"a\",le=\"3600\"} 4",
            "freehold_between_tokens_seconds_bucket{route=\"/v1/x\",model=\"a\",le=\"+Inf\"} 6",
            "freehold_between_tokens_seconds_count{route=\"/v1/x\",model=\"a\"} 6",
            "freehold_request_seconds_sum{route=\"/v1/x\",model=\"a\"} 1",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
        assert!(!text.contains("freehold_sequences_running{model=\"b\"}"));
    }

    /// As a reader takes it apart: a family's lines follow its head, and no line comes twice.
    #[test]
    fn the_page_is_well_formed() {
        let metrics = Metrics::default();
        metrics.request("/v1/x", "a\"b\\\n", &Seen { outcome: "done", ..Seen::default() });
        let text = metrics.text(&now());
        assert!(text.ends_with('\n'));
        let (mut family, mut families, mut lines) = ("", Vec::new(), Vec::new());
        for line in text.lines() {
            if let Some(head) = line.strip_prefix("# TYPE ") {
                family = head.split(' ').next().unwrap();
                assert!(!families.contains(&family), "{family} twice");
                families.push(family);
            } else if !line.starts_with('#') {
                assert!(line.starts_with(family), "{line} under {family}");
                let (name, value) = line.rsplit_once(' ').unwrap();
                assert!(value.parse::<f64>().is_ok(), "{line}");
                assert!(!lines.contains(&name), "{name} twice");
                lines.push(name);
            }
        }
        assert!(text.contains(r#"model="a\"b\\\n""#));
    }
}
