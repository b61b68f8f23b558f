//! The bytes of a message on the wire: dots added and removed, the one end of data, odd line ends found.

use memchr::{memchr, memchr2, memmem};

/// What was wrong with the bytes of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DataFault {
    /// A CR without LF, an LF without CR, or a NUL: what smuggling is made of, and no legal SMTP.
    OddBytes,
    /// More bytes than allowed.
    TooLarge,
    /// Nobody wants the rest of it: see [`DataDecoder::discard`].
    Discarded,
}

/// Reads the bytes that follow DATA, removes the added dots, and finds the end: CRLF.CRLF and nothing else.
#[derive(Debug)]
pub struct DataDecoder {
    body: Vec<u8>,
    /// Bytes that were taken out before.
    taken: u64,
    state: At,
    limit: u64,
    fault: Option<DataFault>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    LineStart,
    /// A dot at the start of a line.
    Dot,
    /// A dot at the start of a line, then CR.
    DotCr,
    InLine,
    Cr,
}

impl DataDecoder {
    /// A decoder that keeps up to `limit` bytes.
    #[must_use]
    pub fn new(limit: u64, expected: usize) -> Self {
        Self { body: Vec::with_capacity(expected), taken: 0, state: At::LineStart, limit, fault: None }
    }

    /// Bytes of the message that are held here.
    #[must_use]
    pub fn held(&self) -> usize {
        self.body.len()
    }

    /// Bytes of the message that were taken out.
    #[must_use]
    pub fn taken(&self) -> u64 {
        self.taken
    }

    /// Takes out what is held, so that a large message need not be held whole; [`DataDecoder::finish`] gives the rest.
    pub fn take(&mut self) -> Vec<u8> {
        self.taken += self.body.len() as u64;
        let room = self.body.capacity();
        std::mem::replace(&mut self.body, Vec::with_capacity(room))
    }

    /// Keeps nothing of the message from here on, and still finds its end and its odd bytes.
    pub fn discard(&mut self) {
        self.fault = self.fault.or(Some(DataFault::Discarded));
        self.body = Vec::new();
    }

    /// Takes bytes; returns how many belong to the message and whether its end was among them.
    pub fn feed(&mut self, input: &[u8]) -> (usize, bool) {
        let mut at = 0;
        while at < input.len() {
            match self.state {
                At::InLine => at += self.line(&input[at..]),
                At::LineStart => {
                    if input[at] == b'.' {
                        self.state = At::Dot;
                        at += 1;
                    } else {
                        self.state = At::InLine;
                    }
                }
                At::Dot => {
                    if input[at] == b'\r' {
                        self.state = At::DotCr;
                        at += 1;
                    } else {
                        // The dot was added by the sender, or should have been.
                        self.state = At::InLine;
                    }
                }
                At::DotCr => {
                    if input[at] == b'\n' {
                        return (at + 1, true);
                    }
                    // CR within a line that began with a dot: the line was `CR...`.
                    self.keep(b"\r");
                    self.state = At::Cr;
                }
                At::Cr => {
                    if input[at] == b'\n' {
                        self.keep(b"\n");
                        self.state = At::LineStart;
                        at += 1;
                    } else {
                        self.odd();
                        self.state = At::InLine;
                    }
                }
            }
        }
        (at, false)
    }

    /// Copies up to and including the next CR; notices LF and NUL on the way.
    fn line(&mut self, input: &[u8]) -> usize {
        let end = memchr2(b'\r', b'\n', input);
        let text = &input[..end.unwrap_or(input.len())];
        if memchr(0, text).is_some() {
            self.odd();
        }
        self.keep(text);
        let Some(end) = end else {
            return input.len();
        };
        if input[end] == b'\r' {
            self.keep(b"\r");
            self.state = At::Cr;
        } else {
            self.odd();
        }
        end + 1
    }

    /// Outranks a message that is too large: behind odd bytes the connection is not to be trusted.
    fn odd(&mut self) {
        self.fault = Some(DataFault::OddBytes);
        self.body = Vec::new();
    }

    fn keep(&mut self, bytes: &[u8]) {
        if self.fault.is_some() {
            return;
        }
        if self.taken + (self.body.len() + bytes.len()) as u64 > self.limit {
            self.fault = Some(DataFault::TooLarge);
            self.body = Vec::new();
            return;
        }
        self.body.extend_from_slice(bytes);
    }

    /// The message, once its end was seen: what was not taken out of it.
    ///
    /// # Errors
    /// What was wrong with it.
    pub fn finish(self) -> Result<Vec<u8>, DataFault> {
        self.fault.map_or(Ok(self.body), Err)
    }

    /// True once it is certain that the message will be refused.
    #[must_use]
    pub fn is_refused(&self) -> bool {
        self.fault.is_some()
    }
}

/// The line ends of a message that is looked at piece by piece, wherever it is cut.
#[derive(Clone, Copy, Debug, Default)]
pub struct LineEnds {
    odd: bool,
    after_cr: bool,
    closed: bool,
}

impl LineEnds {
    /// Looks at the next piece.
    pub fn look(&mut self, piece: &[u8]) {
        let (Some(first), Some(last)) = (piece.first(), piece.last()) else { return };
        let completes = self.after_cr && *first == b'\n';
        self.odd |= self.after_cr && !completes;
        let rest = &piece[usize::from(completes)..];
        self.after_cr = *last == b'\r';
        self.closed = piece.ends_with(b"\r\n") || completes && rest.is_empty();
        // A CR at the very end is judged with what follows.
        self.odd |= has_odd_bytes(&rest[..rest.len() - usize::from(self.after_cr)]);
    }

    /// True once what was looked at holds a CR without LF, an LF without CR, or a NUL, whatever follows.
    #[must_use]
    pub fn are_odd(&self) -> bool {
        self.odd
    }

    /// As [`has_odd_bytes`] for all that was looked at, when nothing follows.
    #[must_use]
    pub fn are_odd_at_the_end(&self) -> bool {
        self.odd || self.after_cr
    }

    /// True when what was looked at ends with CRLF.
    #[must_use]
    pub fn are_closed(&self) -> bool {
        self.closed
    }
}

/// True when bytes hold a CR without LF, an LF without CR, or a NUL.
#[must_use]
pub fn has_odd_bytes(bytes: &[u8]) -> bool {
    let mut rest = bytes;
    while let Some(at) = memchr2(b'\r', b'\n', rest) {
        if rest[at] != b'\r' || rest.get(at + 1) != Some(&b'\n') {
            return true;
        }
        rest = &rest[at + 2..];
    }
    memchr(0, bytes).is_some()
}

/// A message as it goes over the wire after DATA: each line's leading dot doubled, and the final CRLF supplied.
///
/// The pieces borrow from `body`; the end of data (`.` CRLF) is not among them.
pub fn stuffed(body: &[u8]) -> impl Iterator<Item = &[u8]> {
    let first = body.starts_with(b".").then_some(&b"."[..]);
    let last = (!body.ends_with(b"\r\n")).then_some(&b"\r\n"[..]);
    first.into_iter().chain(doubled(body)).chain(last)
}

/// Each dot that follows a line end twice.
fn doubled(body: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut ends = memmem::find_iter(body, b"\n.");
    let mut from = 0;
    let mut done = false;
    // Each piece ends behind the dot that begins a line, and the next begins with the same dot again.
    std::iter::from_fn(move || {
        if done {
            return None;
        }
        let to = ends.next().map(|at| at + 1);
        let piece = &body[from..to.map_or(body.len(), |dot| dot + 1)];
        from = to.unwrap_or(body.len());
        done = to.is_none();
        Some(piece)
    })
}

/// Doubles leading dots in a message that comes piece by piece and ends with CRLF; the end of data is not added.
#[derive(Clone, Copy, Debug)]
pub struct Stuffing {
    at_line_start: bool,
}

impl Default for Stuffing {
    fn default() -> Self {
        Self { at_line_start: true }
    }
}

impl Stuffing {
    /// The next piece as it goes over the wire.
    pub fn piece<'a>(&mut self, piece: &'a [u8]) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let first = (self.at_line_start && piece.starts_with(b".")).then_some(&b"."[..]);
        if let Some(last) = piece.last() {
            self.at_line_start = *last == b'\n';
        }
        first.into_iter().chain(doubled(piece))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn decode(wire: &[u8]) -> (Result<Vec<u8>, DataFault>, usize, bool) {
        let mut decoder = DataDecoder::new(1_000_000, 0);
        let (used, ended) = decoder.feed(wire);
        (decoder.finish(), used, ended)
    }

    #[test]
    fn dots_are_removed_and_only_crlf_dot_crlf_ends() {
        for (wire, body) in [
            (&b".\r\n"[..], &b""[..]),
            (b"..\r\n.\r\n", b".\r\n"),
            (b"...\r\n.\r\n", b"..\r\n"),
            (b"a\r\n..b\r\n.\r\n", b"a\r\n.b\r\n"),
            (b".a\r\n.\r\n", b"a\r\n"),
            (b"\r\n.\r\n", b"\r\n"),
        ] {
            assert_eq!(decode(wire), (Ok(body.to_vec()), wire.len(), true), "{wire:?}");
        }
    }

    #[test]
    fn odd_ends_neither_end_the_message_nor_pass() {
        for wire in [
            &b"a\n.\n"[..],
            b"a\r\n.\n",
            b"a\n.\r\n",
            b"a\r.\r",
            b"a\r\n.\r",
            b"a\r\n.\r\r\n",
            b"a\0b\r\n",
            b"a\rb\r\n",
            b"a\nb\r\n",
            b"\n",
            b".\n",
            b"a\r\n.\rb\r\n",
            b"a\r\r\n",
            b"a\r\n.\r.\r\n",
        ] {
            let (_, _, ended) = decode(wire);
            assert!(!ended, "{wire:?}");
            let whole = [wire, b"\r\n.\r\n"].concat();
            let (body, used, ended) = decode(&whole);
            assert_eq!((body, used, ended), (Err(DataFault::OddBytes), whole.len(), true), "{wire:?}");
        }
    }

    #[test]
    fn what_follows_the_end_is_left() {
        assert_eq!(decode(b"a\r\n.\r\nMAIL").1, 6);
    }

    #[test]
    fn a_message_over_the_limit_is_swallowed_to_its_end() {
        let mut decoder = DataDecoder::new(4, 0);
        assert_eq!(decoder.feed(b"12345\r\n.\r\nX"), (10, true));
        assert_eq!(decoder.finish(), Err(DataFault::TooLarge));
    }

    #[test]
    fn a_message_that_is_taken_out_in_pieces_is_the_same_and_has_the_same_limit() {
        let mut decoder = DataDecoder::new(8, 0);
        assert_eq!(decoder.feed(b"..a\r"), (4, false));
        assert_eq!(decoder.take(), b".a\r");
        assert_eq!(decoder.feed(b"\n123\r\n.\r\n"), (9, true));
        assert_eq!((decoder.taken(), decoder.held()), (3, 0));
        assert_eq!(decoder.finish(), Err(DataFault::TooLarge));
        let mut decoder = DataDecoder::new(9, 0);
        decoder.feed(b"..a\r");
        decoder.take();
        decoder.feed(b"\n123\r\n.\r\n");
        assert_eq!(decoder.finish(), Ok(b"\n123\r\n".to_vec()));
    }

    #[test]
    fn odd_bytes_are_noticed_beyond_the_limit_too() {
        let mut decoder = DataDecoder::new(4, 0);
        assert_eq!(decoder.feed(b"12345\r\n\n.\n\r\n.\r\n"), (15, true));
        assert_eq!(decoder.finish(), Err(DataFault::OddBytes));
    }

    #[test]
    fn what_nobody_wants_any_more_is_swallowed_to_its_end_and_still_looked_at() {
        let mut decoder = DataDecoder::new(100, 0);
        decoder.feed(b"one\r\n");
        decoder.discard();
        assert_eq!(decoder.feed(b"two\r\n.\r\nX"), (8, true));
        assert_eq!((decoder.held(), decoder.finish()), (0, Err(DataFault::Discarded)));
        let mut decoder = DataDecoder::new(100, 0);
        decoder.discard();
        decoder.feed(b"a\nb\r\n.\r\n");
        assert_eq!(decoder.finish(), Err(DataFault::OddBytes));
    }

    fn on_the_wire(body: &[u8]) -> Vec<u8> {
        let mut wire: Vec<u8> = stuffed(body).flatten().copied().collect();
        wire.extend_from_slice(b".\r\n");
        wire
    }

    #[test]
    fn leading_dots_are_doubled_and_the_final_line_end_is_supplied() {
        for (body, wire) in [
            (&b""[..], &b"\r\n.\r\n"[..]),
            (b".", b"..\r\n.\r\n"),
            (b".\r\n", b"..\r\n.\r\n"),
            (b"a\r\n.\r\n.b", b"a\r\n..\r\n..b\r\n.\r\n"),
            (b"..\r\n", b"...\r\n.\r\n"),
        ] {
            assert_eq!(on_the_wire(body), wire, "{body:?}");
        }
    }

    proptest! {
        #[test]
        fn a_message_arrives_as_it_left(lines in prop::collection::vec("[.a\u{e9} ]{0,5}", 0..20), cut in 0usize..200) {
            let body: Vec<u8> = lines.iter().flat_map(|line| [line.as_bytes(), b"\r\n"].concat()).collect();
            let wire = on_the_wire(&body);
            let mut decoder = DataDecoder::new(1_000_000, 0);
            let cut = cut.min(wire.len());
            let (used, ended) = decoder.feed(&wire[..cut]);
            prop_assert_eq!(used, cut);
            if !ended {
                let (used, ended) = decoder.feed(&wire[cut..]);
                prop_assert!(ended && used == wire.len() - cut);
            }
            let expected = if body.is_empty() { b"\r\n".to_vec() } else { body };
            prop_assert_eq!(decoder.finish(), Ok(expected));
        }

        #[test]
        fn dots_are_doubled_the_same_however_a_message_is_cut(
            lines in prop::collection::vec("[.a]{0,3}", 1..10),
            cuts in prop::collection::vec(0usize..40, 0..4),
        ) {
            let body: Vec<u8> = lines.iter().flat_map(|line| [line.as_bytes(), b"\r\n"].concat()).collect();
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(body.len())).chain([body.len()]).collect();
            cuts.sort_unstable();
            let (mut stuffing, mut wire, mut from) = (Stuffing::default(), Vec::new(), 0);
            for cut in cuts {
                stuffing.piece(&body[from..cut]).for_each(|piece| wire.extend_from_slice(piece));
                from = cut;
            }
            prop_assert_eq!(wire, stuffed(&body).flatten().copied().collect::<Vec<u8>>());
        }

        #[test]
        fn line_ends_are_the_same_however_a_message_is_cut(
            wire in prop::collection::vec(prop::sample::select(b"\r\r\n\n.\0a".to_vec()), 0..12),
            cuts in prop::collection::vec(0usize..12, 0..4),
        ) {
            let mut ends = LineEnds::default();
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(wire.len())).chain([wire.len()]).collect();
            cuts.sort_unstable();
            let mut from = 0;
            for cut in cuts {
                ends.look(&wire[from..cut]);
                from = cut;
            }
            prop_assert_eq!(ends.are_odd_at_the_end(), has_odd_bytes(&wire));
            prop_assert_eq!(ends.are_closed(), wire.ends_with(b"\r\n"));
        }

        #[test]
        fn nothing_accepted_holds_an_odd_byte(wire in prop::collection::vec(prop::sample::select(b"\r\n.\0a".to_vec()), 0..60)) {
            let wire = [&wire[..], b"\r\n.\r\n"].concat();
            let (body, _, ended) = decode(&wire);
            prop_assert!(ended);
            if let Ok(body) = body {
                prop_assert!(!has_odd_bytes(&body), "{:?}", body);
            }
        }
    }
}
