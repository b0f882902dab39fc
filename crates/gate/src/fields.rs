//! Reads the fields of a table one by one; what nobody has read is refused by name.

use serde_json::{Map, Value};

use crate::error::{GateError, Place, quoted, shown};

/// The fields of one table.
pub(crate) struct Fields {
    place: Place,
    /// What is in front of a field's name in messages.
    owner: String,
    map: Map<String, Value>,
    /// Names that were asked for.
    known: Vec<&'static str>,
}

impl Fields {
    pub(crate) fn new(place: Place, owner: impl Into<String>, map: Map<String, Value>) -> Self {
        Self { place, owner: owner.into(), map, known: Vec::new() }
    }

    /// Where the table stands.
    pub(crate) fn place(&self) -> &Place {
        &self.place
    }

    /// That the field `name` is wrong.
    pub(crate) fn wrong(&self, name: &str, problem: impl AsRef<str>) -> GateError {
        self.place.wrong(format!("{}{name}: {}", self.owner, problem.as_ref()))
    }

    fn unfit(&self, name: &str, value: &Value, expected: &str) -> GateError {
        self.wrong(name, format!("{}, expected {expected}", shown(value)))
    }

    pub(crate) fn value(&mut self, name: &'static str) -> Option<Value> {
        self.known.push(name);
        // In the order of the file: what is left is told from its beginning.
        self.map.shift_remove(name)
    }

    pub(crate) fn text(&mut self, name: &'static str) -> Result<Option<String>, GateError> {
        match self.value(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(other) => Err(self.unfit(name, &other, "a text")),
        }
    }

    pub(crate) fn must_text(&mut self, name: &'static str) -> Result<String, GateError> {
        self.text(name)?.ok_or_else(|| self.wrong(name, "absent, expected a text"))
    }

    /// A text that is not empty, or several.
    pub(crate) fn texts(&mut self, name: &'static str) -> Result<Vec<String>, GateError> {
        let expected = "a text, or a list of texts, none of them empty";
        let list = match self.value(name) {
            Some(Value::Array(list)) => list,
            Some(other) => vec![other],
            None => Vec::new(),
        };
        let text = |value: &Value| match value {
            Value::String(text) if !text.is_empty() => Ok(text.clone()),
            other => Err(self.unfit(name, other, expected)),
        };
        let texts: Vec<String> = list.iter().map(text).collect::<Result<_, _>>()?;
        if texts.is_empty() {
            return Err(self.wrong(name, format!("empty, expected {expected}")));
        }
        Ok(texts)
    }

    pub(crate) fn flag(&mut self, name: &'static str) -> Result<Option<bool>, GateError> {
        match self.value(name) {
            None => Ok(None),
            Some(Value::Bool(flag)) => Ok(Some(flag)),
            Some(other) => Err(self.unfit(name, &other, "true or false")),
        }
    }

    /// A finite number from `min` to `max`.
    pub(crate) fn number(
        &mut self,
        name: &'static str,
        [min, max]: [f64; 2],
    ) -> Result<Option<f64>, GateError> {
        let Some(value) = self.value(name) else { return Ok(None) };
        match value.as_f64() {
            Some(number) if (min..=max).contains(&number) => Ok(Some(number)),
            _ => Err(self.unfit(name, &value, &format!("a number from {min} to {max}"))),
        }
    }

    /// A whole number from `min` to `max`.
    pub(crate) fn count(
        &mut self,
        name: &'static str,
        [min, max]: [u64; 2],
    ) -> Result<Option<u64>, GateError> {
        let Some(value) = self.value(name) else { return Ok(None) };
        match value.as_u64() {
            Some(count) if (min..=max).contains(&count) => Ok(Some(count)),
            _ => Err(self.unfit(name, &value, &format!("a whole number from {min} to {max}"))),
        }
    }

    pub(crate) fn object(
        &mut self,
        name: &'static str,
    ) -> Result<Option<Map<String, Value>>, GateError> {
        match self.value(name) {
            None => Ok(None),
            Some(Value::Object(map)) => Ok(Some(map)),
            Some(other) => Err(self.unfit(name, &other, "a table")),
        }
    }

    pub(crate) fn list(&mut self, name: &'static str) -> Result<Option<Vec<Value>>, GateError> {
        match self.value(name) {
            None => Ok(None),
            Some(Value::Array(list)) => Ok(Some(list)),
            Some(other) => Err(self.unfit(name, &other, "a list")),
        }
    }

    /// One of `words`.
    pub(crate) fn word(
        &mut self,
        name: &'static str,
        words: &[&'static str],
    ) -> Result<Option<&'static str>, GateError> {
        let Some(text) = self.text(name)? else { return Ok(None) };
        let found = words.iter().find(|word| **word == text);
        found.copied().map(Some).ok_or_else(|| {
            let expected: Vec<String> = words.iter().map(|word| quoted(word)).collect();
            self.wrong(name, format!("{}, expected {}", quoted(&text), expected.join(" or ")))
        })
    }

    /// A table of whole numbers under `name`, of which at least one is there.
    pub(crate) fn bounds<const N: usize>(
        &mut self,
        name: &'static str,
        names: [&'static str; N],
    ) -> Result<[Option<u64>; N], GateError> {
        let map = self.object(name)?.unwrap_or_default();
        let mut inner = Self::new(self.place.clone(), format!("{}{name}.", self.owner), map);
        let mut bounds = [None; N];
        for (bound, name) in bounds.iter_mut().zip(names) {
            *bound = inner.count(name, [0, u64::from(u32::MAX)])?;
        }
        inner.finish()?;
        if bounds.iter().all(Option::is_none) {
            return Err(self.wrong(name, format!("empty, expected some of {}", names.join(", "))));
        }
        Ok(bounds)
    }

    /// What was not read yet.
    pub(crate) fn rest(self) -> Map<String, Value> {
        self.map
    }

    /// Refuses what was not asked for.
    pub(crate) fn finish(self) -> Result<(), GateError> {
        match self.map.keys().next() {
            None => Ok(()),
            Some(name) => {
                let known = self.known.join(", ");
                let owner = self.owner.trim_end_matches([' ', '.', ':']);
                let of = if owner.is_empty() { String::new() } else { format!("{owner}: ") };
                Err(self
                    .place
                    .wrong(format!("{of}unknown field {}, expected one of {known}", quoted(name))))
            }
        }
    }
}
