//! A file with every setting in it, as it is where nobody says anything. `docs/freehold.toml` is
//! what comes of it; a test holds it to the declarations.

use clap::Arg;

use super::{Settings, Shape, Value, name_of, shape, upstreams, value_name};

/// Columns of a comment.
const N_COLUMNS: usize = 100;

const HEAD: &str = "\
# Every setting of `freehold serve`, as it is where nobody says anything. A key is a flag without
# its dashes, and in capitals behind FREEHOLD_ an environment variable (lists with commas between
# their parts). A flag outranks a variable, a variable this file, this file what stands here.
#
# Read from --config FILE, else ./freehold.toml, else freehold.toml in FREEHOLD_HOME. Paths are
# relative to the file. `freehold config check` finds mistakes, `freehold config show --origin`
# tells what is in effect, and why. SIGHUP or `POST /admin/reload` has the file read anew; what is
# marked [reload] then takes effect, the rest when the server is started again.
";

/// The file; `is_reloadable` tells which settings a running server takes over.
pub(crate) fn example(settings: &Settings, is_reloadable: impl Fn(&str) -> bool) -> String {
    // Tables come last: what follows one is in it.
    let (tables, others): (Vec<&Arg>, Vec<&Arg>) =
        settings.args().partition(|arg| shape(arg) == Shape::Table);
    let entries = others.into_iter().chain(tables).map(|arg| {
        let mark = if is_reloadable(&name_of(arg)) { " [reload]" } else { "" };
        let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
        format!("\n{}{}\n", comment(&format!("{help}{mark}")), line(arg))
    });
    [HEAD.to_owned()].into_iter().chain(entries).chain([upstreams::example(comment)]).collect()
}

/// The line that sets it to its default, or a comment that shows how to set it.
fn line(arg: &Arg) -> String {
    let (name, value) = (name_of(arg), value_name(arg).unwrap_or("VALUE"));
    let default =
        arg.get_default_values().iter().map(|text| (**text).to_owned()).collect::<Vec<_>>();
    match shape(arg) {
        Shape::Table => {
            let (key, value) = value.split_once('=').unwrap_or((value, value));
            format!("[{name}]\n# \"{key}\" = \"{value}\"")
        }
        Shape::One if default.is_empty() => format!("# {name} = \"{value}\""),
        shape => {
            let origin = super::Origin::Default;
            Value { name, shape, texts: default.clone(), default, origin }.to_toml()
        }
    }
}

/// `text` in lines that begin with `#`.
fn comment(text: &str) -> String {
    let mut lines = vec![String::from("#")];
    for word in text.split_whitespace() {
        let line = lines.last_mut().expect("there is always a line");
        if line.chars().count() + 1 + word.chars().count() > N_COLUMNS {
            lines.push(format!("# {word}"));
        } else {
            line.push(' ');
            line.push_str(word);
        }
    }
    lines.iter().map(|line| format!("{line}\n")).collect()
}
