//! `freehold adopt`: take over models that other programs have on this machine.

use std::path::Path;

use serde_json::{Value, json};
use store::{Found, Installed, Program, Store, Terms};

use crate::commands::Subcommand;
use crate::commands::list::to_json;
use crate::context::Context;
use crate::exit::{self, Exit, Failure};
use crate::locked::SignedArgs;
use crate::numbers;
use crate::progress::Shown;
use crate::terminal;

/// Adopt the models of other programs in place, without copying them
///
/// A model's files become hard links where the system permits it on the store's own file system,
/// else they are used where they lie. Nothing of the other program's is changed; its files are
/// hashed once, and from then on a change of them is noticed. `freehold rm` forgets an adopted
/// model. A ./freehold.lock with [licences] says which licences are allowed, one with [signers] who
/// must have signed them.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  freehold adopt --list                  what Ollama, LM Studio and the Hugging Face cache have
  freehold adopt ollama
  freehold adopt ~/models                every GGUF file in a folder")]
pub(crate) struct Adopt {
    /// ollama, lmstudio, huggingface, or a folder of GGUF files (default: the three programs)
    #[arg(value_name = "PROGRAM|FOLDER")]
    places: Vec<String>,
    #[command(flatten)]
    signed: SignedArgs,
    /// Only list what is there
    #[arg(long)]
    list: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Subcommand for Adopt {
    fn run(self, context: &Context) -> anyhow::Result<()> {
        let found = self.find(context)?;
        if found.is_empty() {
            context.note("no models were found");
        }
        if self.list { self.print(&found) } else { self.adopt(context, &found) }
    }
}

impl Adopt {
    /// What is there, place by place.
    fn find(&self, context: &Context) -> anyhow::Result<Vec<Found>> {
        let mut found = Vec::new();
        if self.places.is_empty() {
            for program in Program::ALL {
                // What cannot be read of one does not keep the others from being found.
                match program.find() {
                    Ok(models) => {
                        context.note(&format!("{}: {} models", program.title, models.len()));
                        found.extend(models);
                    }
                    Err(error) => context.note(&format!("{}: {error}", program.title)),
                }
            }
        }
        for place in &self.places {
            let program = Program::ALL.iter().find(|program| program.word == place);
            found.extend(match program {
                Some(program) => program.find()?,
                None if Path::new(place).is_dir() => Found::in_folder(Path::new(place))?,
                None => {
                    let words: Vec<&str> = Program::ALL.iter().map(|of| of.word).collect();
                    let message = format!("{place}: expected {}, or a folder", words.join(", "));
                    return Err(Failure::new(Exit::NotFound, message).into());
                }
            });
        }
        Ok(found)
    }

    fn print(&self, found: &[Found]) -> anyhow::Result<()> {
        if self.json {
            return terminal::print_json(&found.iter().map(found_to_json).collect());
        }
        found.iter().try_for_each(|model| {
            let size = numbers::bytes(model.n_bytes());
            let why = model.refused.as_ref().map(|why| format!(", cannot be adopted: {why}"));
            let why = why.unwrap_or_default();
            terminal::print_line(&format!("{size:>10}  {} ({}){why}", model.name, model.owner))
        })
    }

    /// Adopts all that can be; what fails does not keep the others from it.
    fn adopt(&self, context: &Context, found: &[Found]) -> anyhow::Result<()> {
        let (store, terms) = (context.store()?, self.signed.terms()?);
        let (mut adopted, mut failed) = (Vec::new(), Vec::new());
        for model in found {
            match &model.refused {
                Some(why) => context.note(&format!("{}: left out: {why}", model.name)),
                None => match self.adopt_one(context, &store, (model, &terms)) {
                    Ok(model) => adopted.push(model),
                    Err(error) => failed.push(error.context(model.name.clone())),
                },
            }
        }
        if self.json {
            terminal::print_json(&Value::from(adopted))?;
        }
        let mut failed = failed.into_iter();
        let first = failed.next();
        failed.for_each(|error| exit::report(&error));
        first.map_or(Ok(()), Err)
    }

    fn adopt_one(
        &self,
        context: &Context,
        store: &Store,
        (model, terms): (&Found, &Terms),
    ) -> anyhow::Result<Value> {
        let installed = store.adopt(model, terms, &Shown::new(context))?;
        for note in &model.notes {
            context.note(&format!("{}: {note}", model.name));
        }
        if !self.json {
            terminal::print_line(&installed.full_name())?;
            context.note(&told(model, &installed));
        }
        Ok(to_json(&installed))
    }
}

/// What became of a model's files, in words.
pub(in crate::commands) fn told(model: &Found, installed: &Installed) -> String {
    let how = match installed.adopted {
        true => "is used where it lies, since it could not be linked",
        false => "is one file with ours now: no byte was copied",
    };
    let path = model.files.first().map(|file| file.path.display().to_string());
    format!("{} {how}", path.unwrap_or_default())
}

fn found_to_json(model: &Found) -> Value {
    let files: Vec<Value> = model
        .files
        .iter()
        .map(|file| {
            json!({
                "path": file.path.display().to_string(),
                "bytes": file.n_bytes,
                "sha256": file.sha256.map(|sha256| sha256.to_string()),
            })
        })
        .collect();
    json!({
        "name": model.name,
        "owner": model.owner,
        "source": model.source,
        "revision": model.revision,
        "files": files,
        "notes": model.notes,
        "refused": model.refused,
    })
}
