//! Which lane a message goes by, and why: the reason is shown wherever the lane is.

use crate::envelope::Lane;
use crate::header::{Header, has_prefix};
use std::fmt;

/// A message to more recipients than this is bulk, unless somebody says otherwise.
pub const MANY_RECIPIENTS: usize = 50;
/// Longest field name kept with a reason, in characters.
const MAX_NAME: usize = 64;

impl Lane {
    /// All of them, most urgent first.
    pub const ALL: [Self; 3] = [Self::Now, Self::Normal, Self::Bulk];

    /// The word for it: `now`, `normal` or `bulk`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Now => "now",
            Self::Normal => "normal",
            Self::Bulk => "bulk",
        }
    }

    /// Reads [`Lane::name`], in any case.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|lane| word.eq_ignore_ascii_case(lane.name()))
    }
}

/// What decided the lane of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LaneReason {
    /// The request or the message's own field asked for it.
    Asked,
    /// The token that was signed in with has a lane, and nothing less urgent was asked for.
    Token,
    /// The message has this field of a mailing list (RFC 2369, RFC 2919).
    ListHeader(String),
    /// The message has `Precedence: bulk`, `list` or `junk`.
    Precedence,
    /// It has so many recipients, more than [`MANY_RECIPIENTS`].
    ManyRecipients(usize),
    /// Nothing said otherwise.
    Default,
}

impl LaneReason {
    /// The reason as it is stored; [`LaneReason::parse`] reads it.
    #[must_use]
    pub fn as_text(&self) -> String {
        match self {
            Self::Asked => "asked".into(),
            Self::Token => "token".into(),
            Self::ListHeader(name) => format!("list:{name}"),
            Self::Precedence => "precedence".into(),
            Self::ManyRecipients(count) => format!("recipients:{count}"),
            Self::Default => "default".into(),
        }
    }

    /// Reads what [`LaneReason::as_text`] wrote; `None` for anything else.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        match text.split_once(':') {
            Some(("list", name)) if is_name(name) => Some(Self::ListHeader(name.to_owned())),
            Some(("recipients", count)) => count.parse().ok().map(Self::ManyRecipients),
            Some(_) => None,
            None => match text {
                "asked" => Some(Self::Asked),
                "token" => Some(Self::Token),
                "precedence" => Some(Self::Precedence),
                "default" => Some(Self::Default),
                _ => None,
            },
        }
    }

    /// The reason in words, for people.
    #[must_use]
    pub fn to_text(&self) -> String {
        self.to_string()
    }
}

impl fmt::Display for LaneReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Asked => f.write_str("asked for with the message"),
            Self::Token => f.write_str("set on the token"),
            Self::ListHeader(name) => write!(f, "the message has the field {name}"),
            Self::Precedence => f.write_str("the message has the field Precedence"),
            Self::ManyRecipients(count) => write!(f, "{count} recipients, more than {MANY_RECIPIENTS}"),
            Self::Default => f.write_str("nothing asks for another lane"),
        }
    }
}

/// Chooses the lane: what was asked for with the message, else the token's, else `bulk` for mail that
/// shows itself written to many (`sign`, see [`sign_of`], or its number of recipients), else `normal`.
/// The token's lane is the most urgent that may be asked for with it.
#[must_use]
pub fn decide(asked: Option<Lane>, token: Option<Lane>, recipients: usize, sign: Option<LaneReason>) -> (Lane, LaneReason) {
    if let Some(lane) = asked.filter(|asked| token.is_none_or(|most| *asked >= most)) {
        return (lane, LaneReason::Asked);
    }
    if let Some(lane) = token {
        return (lane, LaneReason::Token);
    }
    if let Some(sign) = sign {
        return (Lane::Bulk, sign);
    }
    if recipients > MANY_RECIPIENTS {
        return (Lane::Bulk, LaneReason::ManyRecipients(recipients));
    }
    (Lane::Normal, LaneReason::Default)
}

/// The field by which a message shows itself written to many. `Auto-Submitted` is none: a one-time
/// code is written by a program too.
#[must_use]
pub fn sign_of(header: &Header<'_>) -> Option<LaneReason> {
    if let Some(field) = header.fields.iter().find(|field| has_prefix(field.name, "List-")) {
        return Some(LaneReason::ListHeader(field.name.chars().take(MAX_NAME).collect()));
    }
    let says_so = |value: String| ["bulk", "list", "junk"].iter().any(|word| value.eq_ignore_ascii_case(word));
    header.named("Precedence").any(|field| says_so(field.unfolded())).then_some(LaneReason::Precedence)
}

fn is_name(name: &str) -> bool {
    (1..=MAX_NAME).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_graphic())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn lane_of(header: &str, recipients: usize) -> (Lane, LaneReason) {
        let message = header.replace('\n', "\r\n") + "\r\n\r\n";
        decide(None, None, recipients, sign_of(&Header::parse(message.as_bytes()).unwrap()))
    }

    #[test]
    fn mail_written_to_many_is_bulk_and_the_reason_says_by_which_sign() {
        let list = |name: &str| (Lane::Bulk, LaneReason::ListHeader(name.into()));
        for (header, recipients, expected) in [
            ("Subject: hi", 1, (Lane::Normal, LaneReason::Default)),
            ("Subject: hi", 50, (Lane::Normal, LaneReason::Default)),
            ("Subject: hi", 51, (Lane::Bulk, LaneReason::ManyRecipients(51))),
            ("List-Unsubscribe: <https://example.com/u>", 1, list("List-Unsubscribe")),
            ("Precedence: bulk\nlist-id: news", 1, list("list-id")),
            ("Precedence: Junk", 1, (Lane::Bulk, LaneReason::Precedence)),
            ("Precedence:\n list", 1, (Lane::Bulk, LaneReason::Precedence)),
            ("Precedence: first-class", 1, (Lane::Normal, LaneReason::Default)),
            ("Listing: x", 1, (Lane::Normal, LaneReason::Default)),
        ] {
            assert_eq!(lane_of(header, recipients), expected, "{header}");
        }
    }

    #[test]
    fn mail_of_programs_alone_is_not_bulk() {
        assert_eq!(lane_of("Auto-Submitted: auto-generated", 1), (Lane::Normal, LaneReason::Default));
    }

    #[test]
    fn what_was_asked_for_comes_before_the_token_and_the_token_before_every_sign() {
        let sign = || Some(LaneReason::Precedence);
        assert_eq!(decide(Some(Lane::Now), None, 99, sign()), (Lane::Now, LaneReason::Asked));
        assert_eq!(decide(Some(Lane::Bulk), Some(Lane::Now), 1, None), (Lane::Bulk, LaneReason::Asked));
        assert_eq!(decide(None, Some(Lane::Normal), 99, sign()), (Lane::Normal, LaneReason::Token));
        assert_eq!(decide(None, None, 99, sign()), (Lane::Bulk, LaneReason::Precedence));
    }

    #[test]
    fn nothing_more_urgent_than_the_lane_of_the_token_may_be_asked_for() {
        for asked in [Lane::Now, Lane::Normal] {
            assert_eq!(decide(Some(asked), Some(Lane::Bulk), 1, None), (Lane::Bulk, LaneReason::Token));
        }
        assert_eq!(decide(Some(Lane::Now), Some(Lane::Normal), 1, None), (Lane::Normal, LaneReason::Token));
    }

    #[test]
    fn a_stored_reason_reads_back_and_anything_else_is_none() {
        for reason in [
            LaneReason::Asked,
            LaneReason::Token,
            LaneReason::ListHeader("List-Id".into()),
            LaneReason::Precedence,
            LaneReason::ManyRecipients(51),
            LaneReason::Default,
        ] {
            assert_eq!(LaneReason::parse(&reason.as_text()), Some(reason.clone()));
            assert!(!reason.to_text().is_empty());
        }
        for text in ["", "list:", "list:a b", "recipients:", "recipients:x", "asked:x", "whim"] {
            assert_eq!(LaneReason::parse(text), None, "{text}");
        }
    }

    #[test]
    fn the_words_of_lanes_are_read_in_any_case() {
        assert_eq!(Lane::parse("BULK"), Some(Lane::Bulk));
        assert_eq!(Lane::parse("fast"), None);
    }
}
