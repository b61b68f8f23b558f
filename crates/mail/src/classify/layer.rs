//! The rules of one file, by provider.

use super::echo::Words;
use super::row::{Row, Rule};
use super::words::Phase;
use crate::outcome::Diagnostic;
use serde::Deserialize;
use std::collections::BTreeMap;

/// The form of the only rules there are.
const SCHEMA: u32 = 1;

/// Rules of one file.
#[derive(Debug, Default)]
pub(super) struct Layer {
    rules: BTreeMap<String, Vec<Rule>>,
    /// Whose rules follow a provider's own.
    order: BTreeMap<String, Vec<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    schema: Option<u32>,
    #[serde(default)]
    order: Vec<Order>,
    #[serde(default)]
    reply: Vec<Row>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Order {
    provider: String,
    then: Vec<String>,
}

/// What is wrong with a file, in words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum LayerError {
    #[error("{0}")]
    Toml(String),
    #[error("schema {0} is not known; write schema = {SCHEMA}")]
    Schema(u32),
    #[error("reply {row} (provider \"{provider}\"): {why}")]
    Row { row: usize, provider: String, why: String },
}

impl Layer {
    /// Reads rules in TOML.
    pub(super) fn parse(text: &str, operator: bool) -> Result<Self, LayerError> {
        let file: File = toml::from_str(text).map_err(|problem| LayerError::Toml(problem.to_string().trim_end().to_owned()))?;
        if let Some(other) = file.schema.filter(|schema| *schema != SCHEMA) {
            return Err(LayerError::Schema(other));
        }
        let mut layer = Self::default();
        for (index, row) in file.reply.into_iter().enumerate() {
            let (number, provider) = (index + 1, row.provider.clone());
            let rule = row.into_rule(number, operator);
            let rule = rule.map_err(|why| LayerError::Row { row: number, provider: provider.clone(), why })?;
            layer.rules.entry(provider).or_default().push(rule);
        }
        layer.order = file.order.into_iter().map(|order| (order.provider, order.then)).collect();
        Ok(layer)
    }

    /// The rule of this provider that fits best, the first of equals.
    pub(super) fn find(&self, provider: &str, phase: Phase, said: &Diagnostic, words: &Words<'_>) -> Option<&Rule> {
        let mut best = None;
        for rule in self.rules.get(provider)? {
            let Some(fit) = rule.fit(phase, said, words) else { continue };
            if best.is_none_or(|(other, _)| fit > other) {
                best = Some((fit, rule));
            }
        }
        best.map(|(_, rule)| rule)
    }

    pub(super) fn knows(&self, provider: &str) -> bool {
        self.rules.contains_key(provider) || self.order.contains_key(provider)
    }

    /// Every provider it names, `*` excepted; some twice.
    pub(super) fn providers(&self) -> impl Iterator<Item = &str> {
        self.rules.keys().chain(self.order.keys()).map(String::as_str).filter(|provider| *provider != "*")
    }

    pub(super) fn companions(&self, provider: &str) -> Option<&[String]> {
        self.order.get(provider).map(Vec::as_slice)
    }

    #[cfg(test)]
    pub(super) fn rules(&self) -> impl Iterator<Item = &Rule> {
        self.rules.values().flatten()
    }
}
