//! Query parameters, all problems at once.

use crate::problem::Problem;
use crate::view::FieldError;

/// The parameters of a request, taken out one by one.
pub(crate) struct Params {
    pairs: Vec<(String, String)>,
    known: Vec<&'static str>,
    errors: Vec<FieldError>,
}

impl Params {
    pub(crate) fn new(pairs: Vec<(String, String)>) -> Self {
        Self { pairs, known: Vec::new(), errors: Vec::new() }
    }

    /// Every value of a parameter that may stand more than once.
    pub(crate) fn all(&mut self, name: &'static str) -> Vec<String> {
        self.known.push(name);
        let (taken, rest) = std::mem::take(&mut self.pairs).into_iter().partition(|(key, _)| key == name);
        self.pairs = rest;
        let taken: Vec<(String, String)> = taken;
        if taken.iter().any(|(_, value)| value.contains('\u{fffd}')) {
            self.wrong(name, "invalid", format!("'{name}' is not UTF-8"));
        }
        taken.into_iter().map(|(_, value)| value).collect()
    }

    /// The value of a parameter that may stand once.
    pub(crate) fn one(&mut self, name: &'static str) -> Option<String> {
        let mut values = self.all(name);
        if values.len() > 1 {
            self.wrong(name, "repeated", format!("'{name}' may stand once"));
        }
        values.pop()
    }

    /// The same, read by `read`; what it answers instead is the problem in words.
    pub(crate) fn read<T>(&mut self, name: &'static str, read: impl Fn(&str) -> Result<T, String>) -> Option<T> {
        let value = self.one(name)?;
        self.checked(name, &value, read)
    }

    /// Every value, each read by `read`.
    pub(crate) fn read_all<T>(&mut self, name: &'static str, read: impl Fn(&str) -> Result<T, String>) -> Vec<T> {
        let values = self.all(name);
        values.iter().filter_map(|value| self.checked(name, value, &read)).collect()
    }

    /// Every parameter whose name begins so, with the rest of its name. `shown` stands for them where names are listed.
    pub(crate) fn beginning(&mut self, start: &str, shown: &'static str) -> Vec<(String, String)> {
        self.known.push(shown);
        let (taken, rest) = std::mem::take(&mut self.pairs).into_iter().partition(|(key, _)| key.starts_with(start));
        self.pairs = rest;
        let taken: Vec<(String, String)> = taken;
        for (name, _) in taken.iter().filter(|(name, value)| name.len() == start.len() || value.contains('\u{fffd}')) {
            self.wrong(name, "invalid", format!("'{name}' is written {shown}, in UTF-8"));
        }
        taken.into_iter().map(|(name, value)| (name[start.len()..].to_owned(), value)).collect()
    }

    /// A parameter that is true or false; false when absent.
    pub(crate) fn flag(&mut self, name: &'static str) -> bool {
        let read = |text: &str| match text {
            "" | "true" | "1" => Ok(true),
            "false" | "0" => Ok(false),
            _ => Err(format!("'{name}' is true or false")),
        };
        self.read(name, read).unwrap_or(false)
    }

    fn checked<T>(&mut self, name: &'static str, value: &str, read: impl Fn(&str) -> Result<T, String>) -> Option<T> {
        match read(value) {
            Ok(value) => Some(value),
            Err(detail) => {
                self.wrong(name, "invalid", detail);
                None
            }
        }
    }

    /// Notes a problem of a parameter.
    pub(crate) fn wrong(&mut self, name: &str, code: &str, detail: impl Into<String>) {
        self.errors.push(FieldError { pointer: format!("/query/{name}"), code: code.to_owned(), detail: detail.into() });
    }

    /// Ends the reading: whatever was not asked for is unknown.
    pub(crate) fn finish(mut self) -> Result<(), Problem> {
        let names: Vec<String> = self.pairs.iter().map(|(name, _)| name.clone()).collect();
        for name in names {
            let known = self.known.join(", ");
            let known = if known.is_empty() { "none".to_owned() } else { known };
            self.wrong(&name, "unknown", format!("there is no parameter '{name}' here; there are: {known}"));
        }
        if self.errors.is_empty() { Ok(()) } else { Err(Problem::invalid(self.errors)) }
    }
}
