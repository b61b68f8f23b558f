//! All rules, and the function that asks them.

use super::echo::{Brought, Words};
use super::layer::{Layer, LayerError};
use super::words::Phase;
use super::{Judgement, fallback, wait};
use crate::nearest::nearest;
use crate::outcome::Diagnostic;
use std::sync::LazyLock;

/// Holds for every provider; asked last.
const EVERYWHERE: &str = "*";

static BUILTIN: LazyLock<Layer> = LazyLock::new(|| {
    Layer::parse(include_str!("replies.toml"), false)
        .expect("the built-in rules are the same in every build, and a test reads them")
});

/// The rules: the operator's, where there are any, then the built-in ones.
#[derive(Debug, Default)]
pub struct Rules {
    operator: Layer,
}

/// Why rules cannot be used, in words: which row, what is wrong with it, what would be right.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct RuleError(String);

impl From<LayerError> for RuleError {
    fn from(problem: LayerError) -> Self {
        Self(problem.to_string())
    }
}

impl Rules {
    /// The built-in rules alone.
    #[must_use]
    pub fn builtin() -> &'static Self {
        static ALONE: LazyLock<Rules> = LazyLock::new(Rules::default);
        &ALONE
    }

    /// The operator's rules, in the form of the built-in ones (`[[reply]]`, and `order` where needed), in front of those.
    ///
    /// A reply that any rule of the operator's fits is judged by it, also where a built-in one fits better.
    /// `source` and `certainty` may be left out.
    ///
    /// # Errors
    /// No TOML, an unknown key or word, an action that does not go with its scope.
    pub fn with_operator(text: &str) -> Result<Self, RuleError> {
        Ok(Self { operator: Layer::parse(text, true)? })
    }

    /// True for a provider that a channel may name.
    #[must_use]
    pub fn knows(&self, provider: &str) -> bool {
        provider != EVERYWHERE && self.layers().iter().any(|layer| layer.knows(provider))
    }

    /// Every provider that a channel may name, sorted.
    pub fn providers(&self) -> impl Iterator<Item = &str> {
        let mut all: Vec<&str> = self.layers().into_iter().flat_map(Layer::providers).collect();
        all.sort_unstable();
        all.dedup();
        all.into_iter()
    }

    /// What to tell somebody who named a provider that is not known: the nearest, or all there are.
    #[must_use]
    pub fn unknown(&self, provider: &str) -> String {
        let known: Vec<&str> = self.providers().collect();
        let remedy = match nearest(provider, &known) {
            Some(near) => format!("did you mean '{near}'?"),
            None => format!("leave it out, or add rules for it; known are: {}", known.join(", ")),
        };
        format!("provider '{}' is not known; {remedy}", provider.escape_debug())
    }

    /// Whose rules are asked about a reply to a channel of this provider, in order: its own, then its companions'.
    /// `*` follows by itself.
    #[must_use]
    pub fn order<'a>(&'a self, provider: Option<&'a str>) -> Vec<&'a str> {
        let Some(provider) = provider else { return Vec::new() };
        let companions = self.layers().into_iter().find_map(|layer| layer.companions(provider));
        std::iter::once(provider).chain(companions.into_iter().flatten().map(String::as_str)).collect()
    }

    /// What a reply that refuses means. `providers` as [`Rules::order`] gives them; `*` is always asked last.
    ///
    /// A 2xx is no refusal, and is not asked about.
    #[must_use]
    pub fn classify(&self, providers: &[&str], phase: Phase, said: &Diagnostic) -> Judgement {
        self.classify_for(providers, phase, said, &Brought::default())
    }

    /// As [`Rules::classify`], for a reply to a message: what that brought along and the reply only repeats decides nothing.
    #[must_use]
    pub fn classify_for(&self, providers: &[&str], phase: Phase, said: &Diagnostic, brought: &Brought) -> Judgement {
        let words = Words::new(&said.text, brought);
        let told = wait::told(&words.own(|repeated| wait::told(repeated).is_some()));
        for layer in self.layers() {
            for provider in providers.iter().copied().filter(|provider| *provider != EVERYWHERE).chain([EVERYWHERE]) {
                if let Some(rule) = layer.find(provider, phase, said, &words) {
                    return rule.judgement(told);
                }
            }
        }
        fallback::judge(phase, said, told)
    }

    fn layers(&self) -> [&Layer; 2] {
        [&self.operator, &BUILTIN]
    }

    #[cfg(test)]
    pub(super) fn builtin_rules() -> impl Iterator<Item = &'static super::row::Rule> {
        BUILTIN.rules()
    }
}
