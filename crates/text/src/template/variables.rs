//! Which variables a template looks up that it does not set itself.

use std::collections::HashSet;

use minijinja::Template;

/// The names that `template`, compiled from `source`, may look up in its context.
///
/// The engine's own analysis counts a variable as set before it looks at the value, and so misses
/// the common `{% set x = x if x is defined else true %}`: those are added from the source.
pub(super) fn of(template: &Template<'_, '_>, source: &str) -> HashSet<String> {
    let mut names = template.undeclared_variables(false);
    let mut set = HashSet::new();
    for statement in source.split("{%").skip(1) {
        let statement = statement.split("%}").next().unwrap_or_default();
        let Some((name, value)) = statement
            .trim_start_matches(['-', '+'])
            .trim_start()
            .strip_prefix("set ")
            .and_then(|assignment| assignment.split_once('='))
        else {
            continue;
        };
        let name = name.trim();
        let mut words = value.split(|c: char| !c.is_alphanumeric() && c != '_');
        // Only the first: a later one reads what the template has set.
        if set.insert(name) && words.any(|word| word == name) {
            names.insert(name.to_owned());
        }
    }
    names
}
