//! What a file and flags become, and what is wrong with them. Variables need a process of their
//! own: `tests/it/config.rs` has them.

use clap::Args as _;

use super::*;

#[derive(Debug, clap::Args)]
struct Few {
    #[arg(value_name = "NAME|FILE")]
    models: Vec<String>,
    #[arg(long, short)]
    model: Vec<String>,
    #[arg(long)]
    config: Option<PathBuf>,
    #[arg(long)]
    deep: bool,
    #[arg(long, default_value = "5", value_parser = clap::value_parser!(u16).range(1..=9))]
    count: u16,
    #[arg(long, default_value = "red", value_parser = ["red", "blue"])]
    colour: String,
    #[arg(long)]
    folder: Option<PathBuf>,
    #[arg(long, value_name = "NAME=VALUE")]
    pair: Vec<String>,
    #[arg(long)]
    site: Vec<String>,
    #[arg(long, value_parser = ["right"])]
    api_token: Option<String>,
}

/// What `file` and `flags` are, the folder of the file in messages and paths told as `F`.
fn resolve(file: &str, flags: &[&str]) -> Result<(Few, Resolved), Vec<String>> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s.toml");
    std::fs::write(&path, file).unwrap();
    let short = |text: String| text.replace(folder.path().to_str().unwrap(), "F");
    let command = overridable(Few::augment_args(Command::new("t").no_binary_name(true)));
    let settings = Settings::of::<Few>();
    let flags = settings.flags(&command.get_matches_from(flags)).with_file(Some(path));
    let resolved = settings.resolve(&flags, Path::new("/nonexistent"));
    let resolved = resolved.map_err(|all| all.into_iter().map(short).collect::<Vec<_>>())?;
    let mut few: Few = resolved.read().unwrap();
    few.folder = few.folder.map(|path| short(path.to_str().unwrap().to_owned()).into());
    few.models = few.models.into_iter().map(short).collect();
    Ok((few, resolved))
}

fn check_wrong(file: &str, expected: &[&str]) {
    let found = resolve(file, &[]).err().unwrap_or_default();
    assert_eq!(found, expected, "{file}");
}

#[test]
fn a_flag_outranks_the_file_and_the_file_the_default() {
    let file = "count = 7\ndeep = true\nmodels = [\"a\", \"b/c.gguf\"]\nfolder = \"x\"\n\
                site = []\n[pair]\n\"z*\" = \"1\"\na = \"2\"\n";
    let (few, resolved) = resolve(file, &[]).unwrap();
    assert_eq!((few.count, few.deep, &*few.colour), (7, true, "red"));
    assert_eq!(few.models, ["a", "F/b/c.gguf"]);
    assert_eq!(few.folder.as_deref(), Some(Path::new("F/x")));
    assert_eq!(few.pair, ["z*=1", "a=2"], "in the order of the file");
    let origin = |resolved: &Resolved, name: &str| {
        let value = resolved.values().iter().find(|value| value.name() == name).unwrap();
        (value.to_toml(), value.origin().to_string())
    };
    let (line, place) = origin(&resolved, "count");
    assert!(line == "count = 7" && place.ends_with("s.toml:1:1"), "{place}");
    assert_eq!(origin(&resolved, "pair").0, "pair = { \"z*\" = \"1\", \"a\" = \"2\" }");
    assert_eq!(origin(&resolved, "colour"), ("colour = \"red\"".into(), "default".into()));
    assert_eq!(origin(&resolved, "api-token"), ("# api-token".into(), "default".into()));

    let flags = ["--count", "2", "--deep=false", "--model", "m", "n", "--folder", "y"];
    let (few, resolved) = resolve(file, &flags).unwrap();
    assert_eq!((few.count, few.deep), (2, false));
    assert_eq!(few.models, ["n", "m"], "none of the file's");
    assert_eq!(few.folder.as_deref(), Some(Path::new("y")), "as seen from where it was typed");
    assert_eq!(origin(&resolved, "deep"), ("deep = false".into(), "flag".into()));
    assert!(resolve("", &["--deep"]).unwrap().0.deep);
}

#[test]
fn what_is_wrong_in_the_file_is_told_where_a_flag_outranks_it_too() {
    let found = resolve("count = 10\ncolour = \"blue\"", &["--count", "2"]).unwrap_err();
    assert_eq!(found, ["F/s.toml:1:9: count: \"10\": 10 is not in 1..=9"]);
}

#[test]
fn everything_that_is_wrong_is_told_with_its_place() {
    check_wrong(
        "count = 10\ncolour = \"green\"\n\n  deep = 1\nsite = [\"a\", 1]\n",
        &[
            "F/s.toml:4:10: deep: integer, expected true or false",
            "F/s.toml:5:8: site: array, expected a list of strings",
            "F/s.toml:1:9: count: \"10\": 10 is not in 1..=9",
            "F/s.toml:2:10: colour: \"green\": expected one of red, blue",
        ],
    );
    check_wrong("count = [1]", &["F/s.toml:1:9: count: array, expected one value"]);
    check_wrong(
        "pair = [\"a=b\"]",
        &["F/s.toml:1:8: pair: array, expected a table of strings, with no \"=\" in a name"],
    );
    let unknown = |key: &str, hint: &str| {
        let expected = format!("F/s.toml:1:1: {key:?}: no setting has this name{hint}");
        check_wrong(&format!("{key} = 1"), &[&expected]);
    };
    unknown("cuont", ", did you mean \"count\"?");
    unknown("api_token", ", did you mean \"api-token\"?");
    unknown("modles", ", did you mean \"models\"?");
    unknown("model", ", did you mean \"models\"?");
    unknown("config", ", which is for the command line");
    unknown("zzzzzzzz", "");
    check_wrong("[table]\nx = 1", &["F/s.toml:1:2: \"table\": no setting has this name"]);
    // Two lines that are no TOML, and one beside them that is, and is wrong.
    let found = resolve("count = \n\ncolour = 'blue\ndeep = 3\n", &[]).unwrap_err();
    assert!(found.len() >= 3 && found[0].starts_with("F/s.toml:1:"), "{found:?}");
    assert!(found.iter().any(|line| line.starts_with("F/s.toml:3:")), "{found:?}");
    assert!(found.iter().any(|line| line.starts_with("F/s.toml:4:8: deep: ")), "{found:?}");
    let found = resolve("count = 1\ncount = 2\n", &[]).unwrap_err();
    assert!(found[0].starts_with("F/s.toml:2:1: duplicate key"), "{found:?}");
}

#[test]
fn whatever_the_file_holds_it_is_read_or_told_where_it_is_wrong() {
    let whole = "count = 0x7\ndeep = true\nmodels = [\"ä\", \"b\"]\n# é\n[pair]\na = \"2\"\n";
    let pieces = ["", "\"", "'''", "[", "]", "=", "\n", "é", "\u{0}", "1979-05-27", "{", ".", "_"];
    // The same changes each time.
    let choose =
        |seed: u64, n: usize| (seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 33) as usize % n;
    for seed in 0..600 {
        let at = whole.floor_char_boundary(choose(seed, whole.len()));
        let end = whole.ceil_char_boundary((at + choose(seed + 1, 4)).min(whole.len()));
        let piece = pieces[choose(seed + 2, pieces.len())];
        let file = format!("{}{piece}{}", &whole[..at], &whole[end..]);
        if let Err(problems) = resolve(&file, &[]) {
            let is_placed = |problem: &String| problem.starts_with("F/s.toml:");
            assert!(!problems.is_empty() && problems.iter().all(is_placed), "{file}: {problems:?}");
        }
    }
}

#[test]
fn no_secret_is_told() {
    let (_, resolved) = resolve("api-token = \"right\"", &[]).unwrap();
    let shown: String = resolved.values().iter().map(Value::to_toml).collect();
    assert!(shown.contains("api-token = \"(set)\"") && !shown.contains("right"), "{shown}");
    for file in ["api-token = \"hush-1\"", "api_tokne = \"hush-1\"", "api-token = \"hush-1"] {
        let told = resolve(file, &[]).unwrap_err().join("\n");
        assert!(!told.contains("hush"), "{told}");
    }
}

#[test]
fn addresses_are_told_without_what_is_secret() {
    let check = |address: &str, expected: &str| {
        let (_, resolved) = resolve(&format!("site = [{address:?}]"), &[]).unwrap();
        let value = resolved.values().iter().find(|value| value.name() == "site").unwrap();
        assert_eq!(value.to_json(), serde_json::json!([expected]));
        assert_eq!(value.to_toml(), format!("site = [{expected:?}]"));
    };
    check("postgres://me:hush@host:1/db", "postgres://me:(set)@host:1/db");
    check("postgres://me:h@u?s/h#@host/db", "postgres://me:(set)@host/db");
    check("postgres://host/db?password=hush&user=a@b", "postgres://host/db:(set)@b");
    check("postgres://me@host/db?password=hush", "postgres://me@host/db?password=(set)");
    check("https://host/v1?key=a&hush", "https://host/v1?key=(set)&hush=(set)");
    for plain in ["postgres://me@host/db", "https://host/a@b", "http://[::1]:1/", "a:b@c?d"] {
        check(plain, plain);
    }
}

#[test]
fn only_settings_that_are_asked_for_are_taken_over() {
    let old = resolve("count = 1\ncolour = \"red\"", &[]).unwrap().1;
    let new = resolve("count = 2\ncolour = \"blue\"", &[]).unwrap().1;
    assert_eq!(old.differing(&new), ["count", "colour"]);
    let merged: Few = old.with(&new, |name| name == "colour").read().unwrap();
    assert_eq!((merged.count, &*merged.colour), (1, "blue"));
}

#[test]
fn no_setting_has_a_variable_that_means_something_else() {
    use crate::commands::serve::Serve;
    for name in Settings::of::<Serve>().names() {
        let taken = ["home", "isa", "offline", "kit", "test-models", "test-gemma"];
        assert!(!taken.contains(&&*name), "{name}");
    }
}
