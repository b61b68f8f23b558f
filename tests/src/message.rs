//! Messages to submit, and the judgement of what became of them.

/// A message of about `size` bytes that is known by `name`: as Message-ID and in every line.
#[must_use]
pub fn numbered(name: &str, size: usize) -> Vec<u8> {
    let mut text = format!(
        "From: Ana <ana@example.com>\r\nTo: Luis <luis@example.org>\r\nSubject: {name}\r\n\
         Date: Wed, 25 Nov 2026 08:00:00 +0000\r\nMessage-ID: <{name}@scenario.example.com>\r\n\r\n"
    );
    let line = format!("{name} says the same in every line, so that a mixed one is seen.\r\n");
    while text.len() < size {
        text.push_str(&line);
    }
    text.into_bytes()
}

/// The value of the first such field, as far as its first line holds it.
#[must_use]
pub fn field(message: &[u8], name: &str) -> Option<String> {
    let prefix = format!("{name}:");
    let lines = message.split(|byte| *byte == b'\n').take_while(|line| !line.trim_ascii().is_empty());
    let found = lines
        .map(String::from_utf8_lossy)
        .find(|line| line.get(..prefix.len()).is_some_and(|head| head.eq_ignore_ascii_case(&prefix)))?;
    Some(found[prefix.len()..].trim().to_owned())
}

/// Whether `arrived` is `wanted` with nothing but whole header fields of these names in front.
///
/// # Errors
/// What else was found.
pub fn only_added_in_front(arrived: &[u8], wanted: &[u8], allowed: &[&str]) -> Result<(), String> {
    let Some(added) = arrived.strip_suffix(wanted) else {
        return Err(difference(arrived, wanted));
    };
    let added = String::from_utf8_lossy(added);
    if !(added.is_empty() || added.ends_with("\r\n")) {
        return Err(format!("what stands in front is no whole line: {added:?}"));
    }
    for line in added.split_terminator("\r\n") {
        let name = line.split(':').next().unwrap_or_default();
        let folded = line.starts_with([' ', '\t']);
        if !folded && !allowed.iter().any(|allowed| allowed.eq_ignore_ascii_case(name)) {
            return Err(format!("a line was added that is not among {allowed:?}: {line:?}"));
        }
    }
    Ok(())
}

fn difference(arrived: &[u8], wanted: &[u8]) -> String {
    let same = arrived.iter().rev().zip(wanted.iter().rev()).take_while(|(left, right)| left == right).count();
    let around = |bytes: &[u8]| {
        let end = bytes.len() - same;
        let window = &bytes[end.saturating_sub(120)..(end + 40).min(bytes.len())];
        window.escape_ascii().to_string()
    };
    format!(
        "{} bytes arrived, {} were wanted at their end; the last {same} are equal, before them stands\n  {}\nwanted\n  {}",
        arrived.len(),
        wanted.len(),
        around(arrived),
        around(wanted)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const WANTED: &[u8] = b"From: a@b.example\r\n\r\nhi\r\n";

    fn judge(added: &str) -> bool {
        only_added_in_front(&[added.as_bytes(), WANTED].concat(), WANTED, &["Received", "Date"]).is_ok()
    }

    #[test]
    fn whole_lines_of_allowed_fields_may_stand_in_front_and_nothing_else() {
        assert!(judge("") && judge("Received: from x\r\n\tby y\r\nDate: today\r\n"));
        assert!(!judge("X-Other: 1\r\n") && !judge("Received: from x"));
    }

    #[test]
    fn a_changed_byte_is_seen() {
        let arrived = b"Received: x\r\nFrom: a@b.example\r\n\r\nhI\r\n";
        let problem = only_added_in_front(arrived, WANTED, &["Received"]).unwrap_err();
        assert!(problem.contains("the last 2 are equal"), "{problem}");
    }

    #[test]
    fn a_field_is_found_in_the_header_alone() {
        let message = b"Subject: one\r\nmessage-id: <x@y>\r\n\r\nDate: no\r\n";
        assert_eq!(field(message, "Message-ID").as_deref(), Some("<x@y>"));
        assert_eq!(field(message, "Date"), None);
    }
}
