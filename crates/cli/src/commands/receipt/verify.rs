//! `freehold receipt verify`: asks the requests of receipts once more, and says whether the answers
//! are the same bits.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use engine::{Engine, EngineOptions, Fleet, FleetModel, Keep, Task};
use kernels::KvFormat;
use server::receipts::{AskedRequest, Difference, Receipt, ReceiptError, SignedReceipt, compare};
use server::{Alias, Config, InProcess, Limits};

use super::{read, text_of, whose};
use crate::commands::Subcommand;
use crate::commands::run::{say_info, warn_of_threads};
use crate::commands::serve::digest;
use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::ledger::LedgerArgs;
use crate::locate::{self, Missing};
use crate::locked;
use crate::terminal;

/// Requests that are asked at once: another batch than they were answered in is part of the proof.
const N_AT_ONCE: usize = 8;
/// Threads that read and render; the engine computes on its own.
const N_WORKERS: usize = 2;
/// Longest file of a request.
const N_REQUEST_BYTES: u64 = 256 << 20;

/// Ask the requests of receipts once more: are the answers the same bits?
///
/// Each receipt must be as it was signed, its request what was asked, and the model's bytes those
/// that answered. Then the request is answered anew, with the seeds of the receipt, and what
/// comes is compared. Ends with 0 only if all is equal; says what differs, and where first.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
A request's file is the body as it was sent, byte for byte. Without one the ledger is asked for it,
which has it where contents are kept. docs/receipts.md says more.

Examples:
  freehold receipt verify chatcmpl-0123456789abcdef --request body.json
  freehold receipt verify chatcmpl-0123456789abcdef        of which the contents are kept
  freehold receipt verify receipt.json --request body.json --model ./my.gguf --threads 1
  freehold receipt verify a.json b.json --request a.body --request b.body --node 3b6a27bc…")]
pub(crate) struct Verify {
    /// Files of receipts, or ids of answers in the ledger
    #[arg(value_name = "FILE|ID", required = true)]
    receipts: Vec<String>,
    /// The body of the request; of several receipts one each, in their order (default: as the
    /// ledger keeps it, where it does)
    #[arg(long, value_name = "FILE")]
    request: Vec<PathBuf>,
    /// The model, where it has another name here: installed name, or GGUF file
    #[arg(long, value_name = "NAME|FILE")]
    model: Option<String>,
    /// Hold the model to this lock, and the receipt's lock too
    #[arg(long, value_name = "FILE")]
    lock: Option<PathBuf>,
    /// The public key that must have signed, in hexadecimal digits
    #[arg(long, value_name = "KEY")]
    node: Option<String>,
    /// Threads that compute (default: the cores this process may use)
    #[arg(long, short, value_name = "N",
          value_parser = clap::value_parser!(u16).range(1..=engine::MAX_THREADS as i64))]
    threads: Option<u16>,
    #[command(flatten)]
    ledger: LedgerArgs,
}

/// One receipt on its way.
struct Case {
    /// What it was given as.
    name: String,
    body: Vec<u8>,
    /// `None` where it is not as it was signed.
    signed: Option<SignedReceipt>,
    /// Whether it was asked once more, or could not be.
    is_over: bool,
    /// What is wrong with it.
    problems: Vec<String>,
}

impl Subcommand for Verify {
    fn run(self, context: &Context) -> anyhow::Result<()> {
        let (n_receipts, n_requests) = (self.receipts.len(), self.request.len());
        if n_requests > 0 && n_receipts != n_requests {
            let problem = format!(
                "--request: {n_requests} given for {n_receipts} receipts, expected one for each"
            );
            return Err(Failure::new(Exit::Usage, problem).into());
        }
        warn_of_threads(context, self.threads);
        let requests = self.request.iter().map(|path| Some(path.as_path()));
        let given = self.receipts.iter().zip(requests.chain(std::iter::repeat(None)));
        let cases = given.map(|(name, request)| self.case(context, name, request));
        let mut cases: Vec<Case> = cases.collect::<anyhow::Result<_>>()?;
        self.ask_all(context, &mut cases)?;
        for case in &cases {
            terminal::print_answer(&case.verdict(context))?;
        }
        match cases.iter().all(|case| case.problems.is_empty()) {
            true => Ok(()),
            false => Err(Failure::silent(Exit::Refused).into()),
        }
    }
}

impl Verify {
    /// A receipt with all that is known before it is asked again. Without a file, `request` is as
    /// the ledger keeps it.
    fn case(&self, context: &Context, name: &str, request: Option<&Path>) -> anyhow::Result<Case> {
        let text = text_of(context, &self.ledger, name)?;
        let body = request.map(|path| read(path, N_REQUEST_BYTES)).transpose()?.unwrap_or_default();
        let name = name.to_owned();
        let mut case = Case { name, body, signed: None, is_over: false, problems: Vec::new() };
        let signed = match SignedReceipt::read(&text) {
            Ok(signed) => signed,
            Err(error @ ReceiptError::Changed { .. }) => {
                case.problems.push(error.to_string());
                return Ok(case);
            }
            Err(error) => {
                let problem = format!("{}: {error}", case.name);
                return Err(Failure::new(Exit::Usage, problem).into());
            }
        };
        if let Some(node) = self.node.as_deref().filter(|node| *node != signed.node) {
            case.problems.push(format!("node: expected {node}, found {}", signed.node));
        }
        if request.is_none() {
            case.body = self.ledger.asked(context, &signed.receipt.id)?;
        }
        let expected = &signed.receipt.request;
        let found = AskedRequest::new(&expected.route, &case.body);
        if found != *expected {
            let (expected, found) = (&expected.sha256, &found.sha256);
            let place = request.map_or("the ledger".to_owned(), |path| path.display().to_string());
            let problem = format!("request.sha256: expected {expected}, found {found} ({place})");
            case.problems.push(problem);
        }
        if let Some(there) = signed.receipt.route.as_ref().and_then(|route| route.there.as_ref()) {
            let problem =
                format!("upstream {:?} answered: it cannot be asked again", there.upstream);
            case.problems.push(problem);
        }
        case.signed = Some(signed);
        Ok(case)
    }

    /// Asks what may still be equal, model by model.
    fn ask_all(&self, context: &Context, cases: &mut [Case]) -> anyhow::Result<()> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(N_WORKERS)
            .enable_time()
            .build()
            .context("start threads")?;
        while let Some(first) = cases.iter().find_map(Case::waiting).cloned() {
            let opened = Arc::new(self.open(context, &first)?);
            let is_alike = |receipt: &Receipt| is_of_one_opening(receipt, &first);
            let mut alike: Vec<&mut Case> =
                cases.iter_mut().filter(|case| case.waiting().is_some_and(is_alike)).collect();
            if opened.digest != first.model.digest {
                alike.iter_mut().for_each(|case| case.end(Err(opened.other_than(&first))));
                continue;
            }
            for some in alike.chunks_mut(N_AT_ONCE) {
                let asked = some.iter_mut().filter_map(|case| {
                    let (receipt, body) = (case.waiting()?.clone(), std::mem::take(&mut case.body));
                    Some((runtime.spawn(again(Arc::clone(&opened), receipt, body)), case))
                });
                let asked: Vec<_> = asked.collect();
                for (answer, case) in asked {
                    case.end(runtime.block_on(answer).context("ask once more")?);
                }
            }
        }
        Ok(())
    }

    /// The model of a receipt, opened as it was then, and the path of requests to it.
    fn open(&self, context: &Context, receipt: &Receipt) -> anyhow::Result<Opened> {
        let name = self.model.as_deref().unwrap_or(&receipt.model.name);
        let lock = match &self.lock {
            Some(path) => locked::at(path)?,
            None => None,
        };
        let chosen = locate::find(context, name, Missing::Fail)?.held_to(lock.as_ref());
        let kv_format = KvFormat::ALL.into_iter().find(|of| of.name() == receipt.engine.kv);
        let kv_format = kv_format.ok_or_else(|| {
            let problem = format!("engine.kv: {:?}: not known here", receipt.engine.kv);
            Failure::new(Exit::Usage, problem)
        })?;
        let options = EngineOptions {
            n_threads: self.threads.map(usize::from),
            n_ctx: Some(receipt.engine.n_ctx),
            max_sequences: N_AT_ONCE,
            kv_format,
            model_digest: digest(&chosen),
            is_hashed: true,
            // What is asked at once is bounded here.
            max_waiting_tokens: Some(usize::MAX),
            ..EngineOptions::default()
        };
        let engine = chosen.open_engine(context, &options)?;
        say_info(context, &chosen.name, engine.info());
        let lock = lock.and_then(|lock| lock.digest(&chosen.name));
        Ok(Opened {
            digest: engine.info().digest.clone(),
            server: in_process(engine, &receipt.model.name, lock)?,
        })
    }
}

/// A model that is open.
struct Opened {
    digest: Option<String>,
    server: InProcess,
}

/// Whether one opening of one model serves both.
fn is_of_one_opening(one: &Receipt, other: &Receipt) -> bool {
    let of = |receipt: &Receipt| {
        let (kv, n_ctx) = (receipt.engine.kv.clone(), receipt.engine.n_ctx);
        (receipt.model.name.clone(), receipt.model.digest.clone(), kv, n_ctx)
    };
    of(one) == of(other)
}

/// The path of requests to this one model, whatever name they ask for: they were answered by it.
fn in_process(engine: Engine, name: &str, lock: Option<String>) -> anyhow::Result<InProcess> {
    let fleet = Fleet::new(None);
    let open = Arc::new(move |_: &EngineOptions| Ok(engine.clone().into()));
    fleet.set(name, FleetModel { open, options: EngineOptions::default(), keep: Keep::Pinned });
    fleet.get(name)?;
    let (model, task) = (name.to_owned(), Task::Generate);
    let model = server::Model { name: model, task, digest: None, lock };
    // What was let through by the server that answered is let through.
    let limits = Limits {
        n_body_bytes: usize::MAX / 4,
        n_requests: 4 * N_AT_ONCE,
        n_choices_per_prompt: 1 << 20,
        n_choices: 1 << 20,
        keep_responses: Some(Duration::from_secs(3600)),
        ..Limits::default()
    };
    let all = Alias { name: "*".to_owned(), model: name.to_owned() };
    let config = Config { limits, aliases: vec![all], ..Config::new(fleet, vec![model]) };
    Ok(InProcess::new(config)?)
}

/// The receipt of the same request, asked once more; else why there is none.
async fn again(opened: Arc<Opened>, receipt: Receipt, body: Vec<u8>) -> Result<Receipt, String> {
    let answered = opened.server.again(&receipt, body).await;
    answered.map_err(|error| format!("it is not answered now: {error}"))
}

impl Opened {
    /// That other bytes answered.
    fn other_than(&self, receipt: &Receipt) -> String {
        let known = |digest: &Option<String>| digest.clone().unwrap_or_else(|| "none".to_owned());
        let (expected, found) = (known(&receipt.model.digest), known(&self.digest));
        format!("model.digest: expected {expected}, found {found}")
    }
}

impl Case {
    /// The receipt, where it is still to be asked.
    fn waiting(&self) -> Option<&Receipt> {
        let signed = self.signed.as_ref().filter(|_| self.problems.is_empty() && !self.is_over);
        signed.map(|signed| &signed.receipt)
    }

    /// Takes what came of asking once more.
    fn end(&mut self, again: Result<Receipt, String>) {
        self.is_over = true;
        match (&self.signed, again) {
            (Some(signed), Ok(again)) => {
                let differences = compare(&signed.receipt, &again);
                self.problems.extend(differences.iter().map(Difference::to_string));
            }
            (_, Err(problem)) => self.problems.push(problem),
            (None, Ok(_)) => {}
        }
    }

    /// What is told of it.
    fn verdict(&self, context: &Context) -> String {
        let name = &self.name;
        let signed = self.signed.as_ref();
        let signer = signed
            .map_or_else(String::new, |of| format!("; signed by {}", whose(context, &of.node)));
        if self.problems.is_empty() {
            let choices = signed.map_or(&[][..], |signed| signed.receipt.choices.as_slice());
            let n_tokens: u64 = choices.iter().map(|choice| choice.n_tokens).sum();
            return format!("{name}: bit-equal, {n_tokens} tokens{signer}\n");
        }
        let problems = self.problems.iter().map(|problem| format!("  {problem}\n"));
        let route = signed.and_then(|signed| signed.receipt.route.as_ref());
        let is_there = route.is_some_and(|route| route.there.is_some());
        let verdict = if is_there { "NOT asked again" } else { "NOT equal" };
        format!("{name}: {verdict}{signer}\n{}", problems.collect::<String>())
    }
}
