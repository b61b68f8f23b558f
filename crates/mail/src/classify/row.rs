//! One rule: as it is written, and ready to be compared.

use super::echo::Words;
use super::words::{Action, Certainty, Class, Fault, Permanence, Phase};
use super::{Judgement, RuleInfo};
use crate::outcome::Diagnostic;
use serde::Deserialize;
use smtp::EnhancedCode;
use std::sync::Arc;
use std::time::Duration;

/// A shorter text only helps its code; a longer one stands for itself.
const SPEAKS_FOR_ITSELF: usize = 8;
/// Longest `retry_after`, in seconds: 31 days. What waits longer waits for a person.
const LONGEST_WAIT: u64 = 31 * 24 * 3600;

/// A rule as it is written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Row {
    pub provider: String,
    phase: RowPhase,
    code: u16,
    #[serde(default)]
    enhanced: String,
    #[serde(default)]
    text_fragment: String,
    class: Class,
    scope: Fault,
    permanence: Permanence,
    action: Action,
    #[serde(default)]
    retry_after: u64,
    #[serde(default = "yes")]
    probe: bool,
    pub source: Option<String>,
    pub certainty: Option<Certainty>,
    #[serde(default)]
    note: String,
}

fn yes() -> bool {
    true
}

/// The phase a rule is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum RowPhase {
    Connect,
    Auth,
    Mail,
    Rcpt,
    Data,
    Api,
    Oauth,
    Ndr,
    Any,
}

impl RowPhase {
    /// `None` for any.
    fn phase(self) -> Option<Phase> {
        match self {
            Self::Connect => Some(Phase::Connect),
            Self::Auth => Some(Phase::Auth),
            Self::Mail => Some(Phase::Mail),
            Self::Rcpt => Some(Phase::Rcpt),
            Self::Data => Some(Phase::Data),
            Self::Api => Some(Phase::Api),
            Self::Oauth => Some(Phase::Oauth),
            Self::Ndr => Some(Phase::Ndr),
            Self::Any => None,
        }
    }
}

/// A rule ready to be compared.
#[derive(Debug)]
pub(super) struct Rule {
    /// `None`: in every phase.
    pub phase: Option<Phase>,
    pub code: u16,
    pub enhanced: Number,
    /// Folded as replies are.
    pub text: String,
    pub class: Class,
    pub scope: Fault,
    pub permanence: Permanence,
    pub action: Action,
    pub retry_after: Option<Duration>,
    pub info: RuleInfo,
}

/// The finer number beside a code.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Number {
    /// The rule asks for none.
    Any,
    /// RFC 3463.
    Enhanced(EnhancedCode),
    /// A number of the provider's own, folded, which stands in the text.
    Own(String),
}

/// How well a rule fits, the better the greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Fit {
    text: bool,
    phase: bool,
    code: bool,
    enhanced: bool,
    length: usize,
}

impl Row {
    /// Checks what the types do not. `row` is its number in its file.
    pub(super) fn into_rule(self, row: usize, operator: bool) -> Result<Rule, String> {
        if self.provider.is_empty() {
            return Err("'provider' is empty; name a provider, or \"*\" for all".into());
        }
        if !(300..600).contains(&self.code) {
            return Err(format!("'code' is {}; a reply that refuses has a code from 300 to 599", self.code));
        }
        if !self.action.scopes().contains(&self.scope) {
            let fit: Vec<_> = self.action.scopes().iter().map(|scope| scope.name()).collect();
            return Err(format!("action '{}' does not go with scope '{}'; it needs: {}", self.action, self.scope, fit.join(", ")));
        }
        if self.action.is_final() && self.permanence == Permanence::Temporary {
            return Err(format!("action '{}' is final, but permanence is 'temporary'", self.action));
        }
        if self.retry_after > LONGEST_WAIT {
            let given = self.retry_after;
            return Err(format!("'retry_after' is {given} seconds; the longest is {LONGEST_WAIT}, which is 31 days"));
        }
        let phase = self.phase.phase();
        if phase.is_some_and(Phase::is_before_mail) && matches!(self.scope, Fault::Recipient | Fault::Message) {
            return Err(format!("nothing before MAIL is about a {}; use scope 'channel' or 'connection'", self.scope));
        }
        Ok(Rule {
            phase,
            code: self.code,
            enhanced: number(&self.enhanced, phase)?,
            text: fold(&self.text_fragment),
            class: self.class,
            scope: self.scope,
            permanence: self.permanence,
            action: self.action,
            retry_after: (self.retry_after > 0).then(|| Duration::from_secs(self.retry_after)),
            info: RuleInfo {
                provider: Arc::from(self.provider),
                source: Arc::from(self.source.as_deref().unwrap_or("the operator's rules")),
                certainty: self.certainty.unwrap_or(Certainty::Observed),
                note: Arc::from(self.note),
                row,
                operator,
                probe: self.probe,
            },
        })
    }
}

fn number(text: &str, phase: Option<Phase>) -> Result<Number, String> {
    if text.is_empty() {
        return Ok(Number::Any);
    }
    if matches!(phase, Some(Phase::Api | Phase::Oauth)) {
        return Ok(Number::Own(fold(text)));
    }
    let code = EnhancedCode::parse(text).ok_or_else(|| format!("'enhanced' is '{text}'; it looks like 5.7.1"))?;
    Ok(Number::Enhanced(code))
}

impl Rule {
    /// How well the rule fits a reply; `None` if it does not.
    pub(super) fn fit(&self, phase: Phase, said: &Diagnostic, words: &Words<'_>) -> Option<Fit> {
        let about_mail = matches!(self.scope, Fault::Recipient | Fault::Message);
        if about_mail && phase.is_before_mail() {
            return None;
        }
        // An HTTP API quotes whatever it says.
        let strictly = self.reaches_others() && !matches!(phase, Phase::Api | Phase::Oauth);
        if !words.say(&self.text, strictly) {
            return None;
        }
        let speaks = self.text.len() >= SPEAKS_FOR_ITSELF;
        let same_phase = self.phase.is_none_or(|own| own == phase);
        if !same_phase && !self.may_move_to(phase, speaks) {
            return None;
        }
        let same_code = self.code == said.code;
        // A 4xx that reads like a final refusal is not one: Postfix says "450 User unknown" while it is being set up.
        if !same_code && (!speaks || self.action.is_final() && said.code < 500) {
            return None;
        }
        let same_number = match self.compare_number(said, &words.text) {
            Some(same) => same,
            None if self.text.is_empty() => return None,
            None => false,
        };
        if !same_number && !speaks && self.contradicts(said) {
            return None;
        }
        // Whose code names the recipient speaks of the recipient, whatever its words.
        if !same_number && self.scope == Fault::Channel && phase == Phase::Rcpt && names_recipient(said) {
            return None;
        }
        Some(Fit {
            text: !self.text.is_empty(),
            phase: same_phase,
            code: same_code,
            enhanced: same_number,
            length: self.text.len(),
        })
    }

    /// True when mail of others bears the consequence too.
    fn reaches_others(&self) -> bool {
        matches!(self.scope, Fault::Channel | Fault::Connection) || self.action == Action::HoldMessageFixSender
    }

    /// Servers move their refusals about within a transaction, and a bounce repeats them. But a recipient's row stays
    /// at RCPT: in another phase it would hit every recipient.
    fn may_move_to(&self, phase: Phase, speaks: bool) -> bool {
        match self.phase {
            Some(Phase::Rcpt | Phase::Data) if phase == Phase::Ndr => true,
            Some(own) if own.is_in_transaction() && phase.is_in_transaction() => speaks && self.scope != Fault::Recipient,
            _ => false,
        }
    }

    /// `Some(true)` for the number asked for, `Some(false)` where none is asked for, `None` for another or none.
    fn compare_number(&self, said: &Diagnostic, text: &str) -> Option<bool> {
        match &self.enhanced {
            Number::Any => Some(false),
            Number::Enhanced(code) => (said.enhanced == Some(*code)).then_some(true),
            Number::Own(number) => text.split(|c: char| !c.is_ascii_alphanumeric()).any(|word| word == number).then_some(true),
        }
    }

    /// True when the reply has an enhanced code, and another one than the rule's.
    fn contradicts(&self, said: &Diagnostic) -> bool {
        matches!((&self.enhanced, said.enhanced), (Number::Enhanced(own), Some(other)) if *own != other)
    }

    /// The judgement, with a time read from the reply.
    pub(super) fn judgement(&self, told: Option<Duration>) -> Judgement {
        Judgement {
            class: self.class,
            scope: self.scope,
            permanence: self.permanence,
            action: self.action,
            retry_after: if self.action.waits() { told.or(self.retry_after) } else { None },
            told: told.is_some() && self.action.waits(),
            rule: Some(self.info.clone()),
        }
    }
}

/// True for the codes about the address of a recipient (RFC 3463 §3.2).
fn names_recipient(said: &Diagnostic) -> bool {
    said.enhanced.is_some_and(|code| matches!((code.subject, code.detail), (1, 1..=4 | 6 | 10)))
}

/// Lower case, runs of white space folded to one space, none at the ends.
pub(super) fn fold(text: &str) -> String {
    let mut folded = String::with_capacity(text.len());
    for word in text.split_whitespace() {
        if !folded.is_empty() {
            folded.push(' ');
        }
        folded.extend(word.chars().flat_map(char::to_lowercase));
    }
    folded
}
