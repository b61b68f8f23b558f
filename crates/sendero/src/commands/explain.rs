//! `sendero explain`: what a reply means, by the rules of these settings.

use super::CommandError;
use crate::cli::{Explain, Output};
use crate::settings::Replies;
use crate::show;
use mail::Diagnostic;
use mail::classify::{Phase, react};
use mail::nearest::nearest;
use smtp::Reply;
use smtp::reply::ReplyReader;
use std::process::ExitCode;

pub(super) fn explain(what: &Explain, replies: &Replies, output: Output) -> Result<ExitCode, CommandError> {
    let rules = replies.load()?;
    if let Some(provider) = what.provider.as_deref().filter(|provider| !rules.knows(provider)) {
        let known: Vec<&str> = rules.providers().collect();
        return Err(CommandError::Other(not_known("provider", provider, &known)));
    }
    let phase = phase(&what.phase).map_err(CommandError::Other)?;
    let reply = read(&what.reply).map_err(CommandError::Other)?;
    if reply.is_positive() || reply.code() == 354 {
        return Err(CommandError::Other(format!("{} is no refusal: the next hop agrees, and the session goes on", reply.code())));
    }
    let judgement = rules.classify(&rules.order(what.provider.as_deref()), phase, &Diagnostic::from(&reply));
    show::explained(&reply, phase, &judgement, react(&judgement), output);
    Ok(ExitCode::SUCCESS)
}

fn phase(word: &str) -> Result<Phase, String> {
    if let Some(phase) = Phase::ALL.iter().find(|phase| phase.name() == word) {
        return Ok(*phase);
    }
    let known: Vec<&str> = Phase::ALL.iter().map(|phase| phase.name()).collect();
    Err(not_known("phase", word, &known))
}

fn not_known(what: &str, word: &str, known: &[&str]) -> String {
    let near = nearest(word, known).map_or(String::new(), |near| format!("did you mean '{near}'? "));
    format!("{what} '{}' is not known; {near}there are: {}", word.escape_debug(), known.join(", "))
}

/// Reads a reply as it is pasted: every line with its code, or the first alone, with `-` or without.
fn read(text: &str) -> Result<Reply, String> {
    let text = text.replace("\\r", "").replace("\\n", "\n");
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let code = lines.first().and_then(|line| line.get(..3)).unwrap_or_default();
    let mut reader = ReplyReader::new();
    for (number, line) in lines.iter().enumerate() {
        let mark = if number + 1 < lines.len() { '-' } else { ' ' };
        let rest = line.strip_prefix(code).filter(|rest| rest.is_empty() || rest.starts_with([' ', '-']));
        let rest = rest.map_or(*line, |rest| rest.get(1..).unwrap_or_default());
        reader.receive(format!("{code}{mark}{rest}\r\n").as_bytes());
    }
    let help = "write it as the next hop said it, as in \"550 5.1.1 no such user\"";
    match reader.next_reply() {
        Ok(Some(reply)) => Ok(reply),
        Ok(None) => Err(format!("there is no reply; {help}")),
        Err(problem) => Err(format!("this is no reply: {problem}; {help}")),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_reply_is_read_however_it_was_pasted() {
        for text in [
            "554-5.2.0 one\n554 5.2.0 two",
            r"554-5.2.0 one\n554 5.2.0 two",
            "554 5.2.0 one\r\n554 5.2.0 two\r\n",
            "  554-5.2.0 one\n\n  two",
        ] {
            let reply = read(text).unwrap();
            let enhanced = reply.enhanced().unwrap().to_string();
            assert_eq!((reply.code(), enhanced.as_str(), reply.text().as_str()), (554, "5.2.0", "one two"), "{text}");
        }
        assert_eq!(read("421").unwrap().code(), 421);
    }

    #[test]
    fn what_is_no_reply_is_refused_with_an_example() {
        for text in ["", "no", "no such user", "99 x", "1234 x", "é550 x"] {
            assert!(read(text).unwrap_err().contains("550 5.1.1"), "{text}");
        }
    }

    #[test]
    fn a_phase_that_is_not_known_names_the_nearest_and_all() {
        assert_eq!(phase("data"), Ok(Phase::Data));
        let problem = phase("rctp").unwrap_err();
        assert!(problem.contains("'rcpt'") && problem.contains("oauth"), "{problem}");
    }
}
