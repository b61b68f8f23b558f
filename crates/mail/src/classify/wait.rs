//! Times in the text of a reply: "try again in 30 minutes".

use std::time::Duration;

/// A longer wait is cut to this: a day, and an hour against rounding and clocks.
const LONGEST: Duration = Duration::from_secs(25 * 3600);

/// How long the reply asks to wait. The text is folded.
///
/// Only a length of time behind a word that asks to wait counts. A number alone is a limit ("100 messages in 60
/// minutes"), a date or a clock time cannot be told without a clock and a zone.
pub(super) fn told(text: &str) -> Option<Duration> {
    let mut asked = Asked::No;
    let mut words = text.split([' ', ':', '=', '(', '[']).filter(|word| !word.is_empty()).peekable();
    while let Some(word) = words.next() {
        let bare = word.trim_matches(PUNCTUATION);
        if asked != Asked::No
            && let Some(first) = quantity(bare, words.peek().copied(), asked, word)
        {
            if first.with_next {
                words.next();
            }
            let rest = more(&mut words, first.complete);
            return Some(first.length.saturating_add(rest).min(LONGEST)).filter(|wait| !wait.is_zero());
        }
        asked = asked.after(bare);
    }
    None
}

const PUNCTUATION: [char; 8] = ['.', ',', ';', '"', '\'', ')', ']', '!'];

/// Whether the words so far ask to wait.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Asked {
    No,
    /// "again", "wait": a number needs its unit.
    Yes,
    /// "retry", which becomes `Seconds` with "after".
    Retry,
    /// "retry-after": a number without a unit is seconds (RFC 9110 §10.2.3).
    Seconds,
}

impl Asked {
    fn after(self, word: &str) -> Self {
        match word {
            "again" | "wait" | "retrying" | "resend" | "enabled" | "available" | "resume" | "reset" | "resets" => Self::Yes,
            "retry" => Self::Retry,
            "retry-after" | "retry_after" | "retryafter" => Self::Seconds,
            "after" if self == Self::Retry => Self::Seconds,
            "later" | "in" | "after" | "for" | "about" | "at" | "least" | "another" | "approximately" | "and" | "please" => self,
            _ => Self::No,
        }
    }
}

/// A length of time that was read.
struct Read {
    length: Duration,
    /// The unit was the next word.
    with_next: bool,
    /// The sentence ends here: nothing more belongs to it.
    complete: bool,
}

/// "30 minutes", "30min", "1h30m", "an hour"; `300` alone where seconds are meant.
fn quantity(bare: &str, next: Option<&str>, asked: Asked, raw: &str) -> Option<Read> {
    if let Some(length) = compact(bare) {
        return Some(Read { length, with_next: false, complete: ends(raw) });
    }
    let count = match bare {
        "a" | "an" | "one" => 1,
        digits => number(digits)?,
    };
    let unit = next.filter(|_| !ends(raw)).and_then(|word| unit(word.trim_matches(PUNCTUATION)));
    match (unit, next) {
        (Some(unit), Some(next)) => Some(Read { length: times(count, unit)?, with_next: true, complete: ends(next) }),
        _ if asked == Asked::Seconds && bare.as_bytes()[0].is_ascii_digit() && (next.is_none() || ends(raw)) => {
            Some(Read { length: times(count, 1)?, with_next: false, complete: true })
        }
        _ => None,
    }
}

/// What follows the first length and belongs to it: "1 hour and 30 minutes".
fn more<'a>(words: &mut std::iter::Peekable<impl Iterator<Item = &'a str>>, complete: bool) -> Duration {
    if complete {
        return Duration::ZERO;
    }
    words.next_if_eq(&"and");
    let Some(word) = words.next() else { return Duration::ZERO };
    let rest = quantity(word.trim_matches(PUNCTUATION), words.peek().copied(), Asked::Yes, word);
    rest.map_or(Duration::ZERO, |rest| rest.length)
}

/// "30s", "5min", "1h30m".
fn compact(word: &str) -> Option<Duration> {
    let (mut rest, mut sum) = (word, Duration::ZERO);
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let letters = rest[digits..].find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(rest.len() - digits);
        let (this, after) = rest.split_at(digits + letters);
        sum = sum.saturating_add(times(number(&this[..digits])?, unit(&this[digits..])?)?);
        rest = after;
    }
    (!word.is_empty()).then_some(sum)
}

/// Up to six digits: more is no time anybody means.
fn number(digits: &str) -> Option<u64> {
    let plausible = (1..=6).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit());
    if plausible { digits.parse().ok() } else { None }
}

/// Seconds in a unit.
fn unit(word: &str) -> Option<u64> {
    match word {
        "s" | "sec" | "secs" | "second" | "seconds" => Some(1),
        "m" | "min" | "mins" | "minute" | "minutes" => Some(60),
        "h" | "hr" | "hrs" | "hour" | "hours" => Some(3600),
        "d" | "day" | "days" => Some(86_400),
        _ => None,
    }
}

fn times(count: u64, unit: u64) -> Option<Duration> {
    count.checked_mul(unit).map(Duration::from_secs)
}

/// True when punctuation ends the word's sentence or clause.
fn ends(word: &str) -> bool {
    word.ends_with(['.', ';', ')', ']', '!', ','])
}
