//! Asks a model many things at once, so that its batches are full, on the path that requests of
//! applications take.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use engine::{Engine, EngineOptions, FinishReason, Fleet, FleetModel, Keep, Task};
use gate::{Answer, Ask, Call, Candidate, CaseSet, Facts, Outcome, Prompt};
use serde_json::{Map, Value, json};
use server::{Config, InProcess, Limits, ServerError, Told};

use super::progress::Progress;
use crate::commands::run::say_info;
use crate::commands::serve::quantization;
use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::interrupt::Interrupt;
use crate::locate::Chosen;
use crate::terminal;

/// How often a silent engine is left to look for Ctrl-C.
const INTERRUPT_POLL: Duration = Duration::from_millis(50);
/// Threads that read and render; the engine computes on its own.
const N_WORKERS: usize = 2;

/// What all models of a run are opened and asked with.
pub(super) struct Runner<'a> {
    pub(super) context: &'a Context,
    pub(super) interrupt: Interrupt,
    pub(super) options: EngineOptions,
}

/// A request, ready to be asked.
pub(super) struct Job {
    body: String,
    is_chat: bool,
}

impl Job {
    /// The request of `ask` with this seed.
    pub(super) fn new(ask: &Ask, seed: u64) -> Self {
        let mut body: Map<String, Value> = ask.parameters.clone();
        let (field, prompt, is_chat) = match &ask.prompt {
            Prompt::Messages(messages) => ("messages", messages.clone(), true),
            Prompt::Text(text) => ("prompt", json!(text), false),
        };
        body.insert(field.to_owned(), prompt);
        body.insert("seed".to_owned(), json!(seed));
        if let Some(tools) = &ask.tools {
            body.insert("tools".to_owned(), tools.clone());
        }
        Self { body: Value::Object(body).to_string(), is_chat }
    }
}

impl Runner<'_> {
    /// The answers of a model to all cases.
    pub(super) fn candidate(&self, chosen: Chosen, set: &CaseSet) -> anyhow::Result<Candidate> {
        let engine = chosen.open_engine(self.context, &self.options)?;
        say_info(self.context, &chosen.name, engine.info());
        let seeds = |case: &gate::Case| case.seed..case.seed + u64::from(case.n_samples);
        let job = |case| seeds(case).map(|seed| Job::new(&case.ask, seed));
        let jobs: Vec<Job> = set.cases.iter().flat_map(job).collect();
        let before = engine.stats();
        let began = Instant::now();
        let mut outcomes = self.ask(&engine, &chosen.name, jobs)?.into_iter();
        let wall = began.elapsed();
        let after = engine.stats();
        let n_steps = (after.n_steps - before.n_steps).max(1) as f64;
        let installed = chosen.installed.as_ref();
        let info = engine.info();
        let facts = Facts {
            digest: installed.map(|installed| {
                installed.files.iter().map(|file| file.sha256.to_string()).collect()
            }),
            numerics: engine::NUMERICS_VERSION,
            quantization: gguf::Gguf::open(&chosen.path).ok().map(|file| quantization(&file)),
            file_bytes: installed.map_or_else(
                || std::fs::metadata(&chosen.path).map_or(0, |metadata| metadata.len()),
                store::Installed::n_bytes,
            ),
            weight_bytes: info.weight_bytes,
            kv_bytes: info.kv_bytes,
            wall_s: wall.as_secs_f64(),
            mean_batch: (after.n_decode - before.n_decode) as f64 / n_steps,
            busy: (after.busy - before.busy).as_secs_f64() / wall.as_secs_f64().max(1e-9),
            record: None,
        };
        let of_case = |case: &gate::Case| {
            let outcomes = outcomes.by_ref();
            outcomes.take(case.n_samples as usize).collect()
        };
        let outcomes = set.cases.iter().map(of_case).collect();
        Ok(Candidate { name: chosen.name, facts, outcomes })
    }

    /// The outcomes of `jobs`, in their order.
    ///
    /// # Errors
    /// Ctrl-C, or an engine that has ended. What is wrong with a request is its outcome.
    pub(super) fn ask(
        &self,
        engine: &Engine,
        name: &str,
        jobs: Vec<Job>,
    ) -> anyhow::Result<Vec<Outcome>> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(N_WORKERS)
            .enable_time()
            .build()
            .context("start threads")?;
        // Those that have no seat yet are read and rendered while others generate.
        let n_at_once = 2 * self.options.max_sequences;
        let server = Arc::new(in_process(engine, name, n_at_once)?);
        let n_jobs = jobs.len();
        let jobs: Arc<[Job]> = jobs.into();
        let next = Arc::new(AtomicUsize::new(0));
        let (sender, answered) = mpsc::channel();
        for _ in 0..n_at_once.min(n_jobs) {
            let (server, jobs, next) = (server.clone(), jobs.clone(), next.clone());
            let sender = sender.clone();
            runtime.spawn(async move {
                while let Some((job_idx, job)) = take(&next, &jobs) {
                    let outcome = answer(&server, job).await;
                    // Nobody listens any more: the run was interrupted.
                    if sender.send((job_idx, outcome)).is_err() {
                        return;
                    }
                }
            });
        }
        drop(sender);
        let outcomes = self.gather(name, n_jobs, &answered);
        // What still runs is cancelled with its task.
        runtime.shutdown_background();
        if outcomes.is_ok() && engine.is_stopped() {
            anyhow::bail!("{name}: its engine has stopped: nothing was decided");
        }
        outcomes
    }

    fn gather(
        &self,
        name: &str,
        n_jobs: usize,
        answered: &mpsc::Receiver<(usize, Outcome)>,
    ) -> anyhow::Result<Vec<Outcome>> {
        let mut outcomes: Vec<Option<Outcome>> = vec![None; n_jobs];
        let mut progress = Progress::start(self.context, name, n_jobs);
        loop {
            if self.interrupt.is_pressed() {
                progress.end();
                terminal::say("stopped: nothing was decided");
                return Err(Failure::silent(Exit::Interrupted).into());
            }
            match answered.recv_timeout(INTERRUPT_POLL) {
                Ok((job_idx, outcome)) => {
                    let n_tokens = match &outcome {
                        Outcome::Answered(answer) => answer.n_generated,
                        Outcome::Failed(_) => 0,
                    };
                    outcomes[job_idx] = Some(outcome);
                    progress.advance(n_tokens);
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        progress.end();
        let outcomes: Option<Vec<Outcome>> = outcomes.into_iter().collect();
        outcomes.context("some requests ended without an answer")
    }
}

fn take<'a>(next: &AtomicUsize, jobs: &'a [Job]) -> Option<(usize, &'a Job)> {
    let job_idx = next.fetch_add(1, Ordering::Relaxed);
    jobs.get(job_idx).map(|job| (job_idx, job))
}

/// The path of requests to this one model.
fn in_process(engine: &Engine, name: &str, n_at_once: usize) -> anyhow::Result<InProcess> {
    let fleet = Fleet::new(None);
    let own = engine.clone();
    let open = Arc::new(move |_: &EngineOptions| Ok(own.clone().into()));
    fleet.set(name, FleetModel { open, options: EngineOptions::default(), keep: Keep::Pinned });
    fleet.get(name)?;
    let (name, task) = (name.to_owned(), Task::Generate);
    let model = server::Model { name, task, digest: None, lock: None };
    // A quarter of the places are for other clients, of whom there are none here.
    let limits = Limits { n_requests: 2 * n_at_once + 2, ..Limits::default() };
    Ok(InProcess::new(Config { limits, ..Config::new(fleet, vec![model]) })?)
}

async fn answer(server: &InProcess, job: &Job) -> Outcome {
    let body = job.body.clone();
    let told = if job.is_chat { server.chat(body).await } else { server.complete(body).await };
    told.map_or_else(|error: ServerError| Outcome::Failed(error.to_string()), answered)
}

fn answered(told: Told) -> Outcome {
    let call = |call: server::ToldCall| Call {
        name: call.name,
        arguments: call.arguments,
        is_complete: call.is_complete,
    };
    let finish = match told.reason {
        FinishReason::Stop => "stop",
        FinishReason::StopString(_) => "stop_string",
        FinishReason::Length => "length",
        _ => "failed",
    };
    Outcome::Answered(Answer {
        text: told.text,
        reasoning: told.reasoning,
        calls: told.calls.into_iter().map(call).collect(),
        finish: finish.to_owned(),
        n_prompt: told.n_prompt,
        n_generated: told.n_generated,
        prefill_ms: 1e3 * told.prefill.as_secs_f64(),
        decode_ms: 1e3 * told.decode.as_secs_f64(),
        notes: told.notes,
    })
}
