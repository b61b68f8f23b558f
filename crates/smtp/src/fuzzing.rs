//! What the fuzz targets call; the same functions run in the tests over a kept corpus.
//!
//! Each takes any bytes, must not panic, and asserts what must hold for all of them.

use crate::address::{ForwardPath, Mailbox, ReversePath};
use crate::command::Command;
use crate::data::{DataDecoder, has_odd_bytes, stuffed};
use crate::reply::Reply;
use crate::server::{Action, Login, Security, ServerConfig, Session};
use std::sync::Arc;

/// An address that is read reads back as it was printed.
pub fn address(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(mailbox) = Mailbox::parse(text) {
        assert_eq!(mailbox.to_string(), text);
        assert!(!text.chars().any(char::is_control));
    }
    if let Ok(path) = ForwardPath::parse(text) {
        assert_eq!(ForwardPath::parse(&format!("<{path}>")), Ok(path));
    }
    if let Ok(path) = ReversePath::parse(text) {
        assert_eq!(ReversePath::parse(&format!("<{path}>")), Ok(path));
    }
}

/// A command is read, or refused with a reply that fits a line.
pub fn command(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Err(error) = Command::parse(text) {
        let reply = Reply::from(&error);
        assert!(reply.is_permanent());
    }
}

/// Data decodes the same however it is cut, ends at the first CRLF.CRLF and nowhere else, and nothing odd passes.
pub fn data(data: &[u8]) {
    let Some((cut, wire)) = data.split_first() else { return };
    let whole = decode(wire, wire.len());
    assert_eq!(whole, decode(wire, usize::from(*cut).min(wire.len())));
    let marked = [b"\r\n", wire].concat();
    let end = memchr::memmem::find(&marked, b"\r\n.\r\n").map(|at| at + 3);
    assert_eq!((end.is_some(), end.unwrap_or(wire.len())), (whole.1, whole.2));
    if let (Ok(body), true, _) = whole {
        assert!(!has_odd_bytes(&body));
        let again: Vec<u8> = stuffed(&body).chain([&b".\r\n"[..]]).flatten().copied().collect();
        let (decoded, ended, used) = decode(&again, again.len());
        assert!(ended && used == again.len());
        let decoded = decoded.unwrap_or_default();
        assert!(decoded == body || (body.is_empty() && decoded == b"\r\n"));
    }
}

fn decode(wire: &[u8], cut: usize) -> (Result<Vec<u8>, crate::data::DataFault>, bool, usize) {
    let mut decoder = DataDecoder::new(4096, 0);
    let (first, ended) = decoder.feed(&wire[..cut]);
    if ended {
        return (decoder.finish(), true, first);
    }
    let (second, ended) = decoder.feed(&wire[cut..]);
    (decoder.finish(), ended, first + second)
}

/// A session answers the same however its input is cut, and stores only what is legal.
pub fn server_session(data: &[u8]) {
    let [cut, mode, input @ ..] = data else { return };
    let cut = usize::from(*cut).min(input.len());
    let whole = converse(&[input], *mode);
    assert_eq!(whole, converse(&[&input[..cut], &input[cut..]], *mode));
    let small: Vec<&[u8]> = input.chunks(cut % 7 + 1).collect();
    assert_eq!(whole, converse(&small, *mode));
}

fn converse(pieces: &[&[u8]], mode: u8) -> Vec<u8> {
    let config = ServerConfig {
        hostname: "fuzz.example".into(),
        max_message_size: 1000,
        whole_up_to: if mode & 16 == 16 { 3 } else { 1000 },
        max_recipients: 5,
        tls_available: mode & 8 == 8,
        announce_dsn: mode & 4 == 4,
    };
    let login = if mode & 1 == 1 { Login::Trusted } else { Login::Required };
    let security = if mode & 2 == 2 { Security::Tls } else { Security::Clear };
    let mut session = Session::new(Arc::new(config), security, login);
    session.greet();
    let mut earlier = Vec::new();
    for piece in pieces {
        session.receive(piece);
        if !answer(&mut session, login, &mut earlier) {
            break;
        }
    }
    session.output().to_vec()
}

/// False when the session is over, or goes on under TLS, where these bytes would not arrive.
fn answer(session: &mut Session, login: Login, earlier: &mut Vec<u8>) -> bool {
    loop {
        match session.next_action() {
            Action::NeedInput => return true,
            Action::Close => return false,
            Action::StartTls => {
                let before = session.output().len();
                session.tls_started();
                assert!(matches!(session.next_action(), Action::NeedInput));
                assert_eq!(session.output().len(), before, "bytes sent in clear were read as commands");
                return false;
            }
            Action::Verify(credentials) => {
                let good = credentials.user.len().is_multiple_of(2);
                session.verified(if good { Ok(()) } else { Err(Reply::new(535, (5, 7, 8), "no")) });
            }
            // Every other size that is told is too much now, and every third for ever.
            Action::Begin(size) => session.begun(match size.unwrap_or(1) % 6 {
                0 | 2 | 4 => Err(Reply::new(451, (4, 7, 1), "later")),
                3 => Err(Reply::new(552, (5, 3, 4), "too large")),
                _ => Ok(()),
            }),
            Action::Piece(piece) => {
                assert!(!piece.is_empty());
                earlier.extend(piece);
            }
            Action::Forget => {
                assert!(!earlier.is_empty(), "there is something to forget");
                earlier.clear();
            }
            Action::Store(submission) => {
                assert_eq!(submission.earlier, earlier.len() as u64);
                earlier.extend_from_slice(&submission.body);
                let body = std::mem::take(earlier);
                assert!(body.len() <= 1002 && !has_odd_bytes(&body));
                assert!(!submission.recipients.is_empty() && submission.recipients.len() <= 5);
                assert!(login == Login::Trusted || (submission.protocol.authenticated && submission.protocol.tls));
                session.stored(&Reply::new(250, (2, 0, 0), "queued"));
            }
        }
    }
}

pub use crate::client::fuzzing::client_session;
pub use crate::reply::fuzz as reply;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What sessions and data are made of, so that random joins go deep.
    const WORDS: &[&[u8]] = &[
        b"EHLO c\r\n",
        b"HELO c\r\n",
        b"STARTTLS\r\n",
        b"AUTH PLAIN AGFuYWEAcHc=\r\n",
        b"AUTH LOGIN\r\n",
        b"YW5h\r\n",
        b"*\r\n",
        b"MAIL FROM:<>\r\n",
        b"MAIL FROM:<a@b.example> SIZE=9 SMTPUTF8\r\n",
        b"RCPT TO:<a@b.example>\r\n",
        b"RCPT TO:<\"c d\"@b.example> NOTIFY=NEVER\r\n",
        b"RCPT TO:<bad>\r\n",
        b"DATA\r\n",
        b"BDAT 4\r\n",
        b"BDAT 0\r\n",
        b"BDAT 3 LAST\r\n",
        b"BDAT x\r\n",
        b"RSET\r\n",
        b"NOOP\r\n",
        b"QUIT\r\n",
        b"text\r\n",
        b"\r\n.\r\n",
        b".\r\n",
        b"..\r\n",
        b"\r",
        b"\n",
        b".",
        b"\0",
        b"\xff",
        b"a",
    ];

    fn joined(words: std::ops::Range<usize>) -> impl Strategy<Value = Vec<u8>> {
        prop::collection::vec(prop::sample::select(WORDS), words).prop_map(|words| words.concat())
    }

    /// A message that is on its way already, so that half of the cases get as far as its bytes.
    fn wire() -> impl Strategy<Value = Vec<u8>> {
        let opening = prop::sample::select(vec![
            &b""[..],
            b"EHLO c\r\nMAIL FROM:<>\r\nRCPT TO:<a@b.example>\r\n",
            b"EHLO c\r\nAUTH PLAIN AGFuYWEAcHc=\r\nMAIL FROM:<>\r\nRCPT TO:<a@b.example>\r\nDATA\r\n",
        ]);
        (opening, joined(0..20)).prop_map(|(opening, rest)| [opening, &rest].concat())
    }

    proptest! {
        #[test]
        fn whatever_a_client_says_the_session_holds(cut: u8, mode in 0u8..32, wire in wire()) {
            server_session(&[&[cut, mode][..], &wire].concat());
        }

        #[test]
        fn whatever_follows_data_the_decoder_holds(cut: u8, wire in joined(0..12)) {
            data(&[&[cut][..], &wire].concat());
        }

        #[test]
        fn whatever_stands_for_an_address_or_a_command_it_holds(text in "(MAIL FROM:|RCPT TO:|)<?[@a-c.\"\\\\:,<> é\\[\\]＠]{0,20}>?( SIZE=[0-9]{0,21}| ORCPT=.{0,6})?") {
            address(text.as_bytes());
            command(text.as_bytes());
        }
    }
}
