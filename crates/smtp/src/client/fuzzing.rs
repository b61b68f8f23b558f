//! Arbitrary next hops: whatever they say, a session keeps its promises.

use super::{Auth, ClientAction, ClientConfig, Recipient, Session, Tls, Transaction, Verdict};
use crate::sasl::{Credentials, plain_response};
use crate::{ForwardPath, Mailbox, ReversePath};
use std::sync::Arc;

/// A session with a next hop that says `data`: nothing panics, every transaction that was begun
/// has one result with a verdict for each recipient, nothing is uncertain or accepted without its final
/// dot, and no login is sent in the clear.
pub fn client_session(data: &[u8]) {
    let [mode, cut, script @ ..] = data else { return };
    let credentials = Credentials::new("ana", "s3cret-s3cret");
    let secret = plain_response(&credentials);
    let auth = (mode & 1 == 1).then_some(Auth { mechanism: None, credentials });
    let tls = [Tls::Clear, Tls::StartTls, Tls::Implicit, Tls::Clear][usize::from(mode >> 1) & 3];
    let config = ClientConfig { ehlo_name: "fuzz.example".into(), tls, auth, login_in_clear: false };
    let mut caller = Caller { session: Session::new(Arc::new(config)), mode: *mode, secret, begun: 0, ended: 0, dots: 0 };
    for piece in script.chunks(usize::from(*cut).max(1)) {
        caller.session.receive(piece);
        caller.drive();
    }
    caller.session.closed();
    caller.drive();
    let over = caller.session.next_action();
    assert!(matches!(over, ClientAction::Failed(_) | ClientAction::Closed), "{over:?}");
    assert_eq!(caller.begun, caller.ended);
}

struct Caller {
    session: Session,
    mode: u8,
    secret: String,
    begun: usize,
    ended: usize,
    dots: usize,
}

impl Caller {
    fn drive(&mut self) {
        loop {
            let written = self.session.output().split();
            let text = String::from_utf8_lossy(&written);
            assert!(self.session.is_secure() || !text.contains(&self.secret));
            match self.session.next_action() {
                ClientAction::NeedInput | ClientAction::Failed(_) | ClientAction::Closed => return,
                ClientAction::StartTls => self.session.tls_started(),
                ClientAction::Ready if self.begun >= 4 => self.session.quit(),
                ClientAction::Ready => self.begin(),
                ClientAction::Body if self.mode & 16 == 16 && self.begun == 3 => return,
                ClientAction::Body => self.finish(),
                ClientAction::Done(result) => {
                    self.ended += 1;
                    assert_eq!(result.verdicts.len(), 2);
                    let needs_dot = |verdict: &Verdict| matches!(verdict, Verdict::Accepted(_) | Verdict::Uncertain(_));
                    assert!(!result.verdicts.iter().any(needs_dot) || self.dots > 0);
                }
            }
        }
    }

    fn begin(&mut self) {
        let ana = Mailbox::parse("ana@example.org").expect("a valid address");
        let path = ForwardPath::from(ana);
        let transaction = Transaction {
            reverse_path: &ReversePath::Null,
            recipients: &[Recipient::new(&path), Recipient::new(&path)],
            size: 1000,
            eight_bit: self.mode & 32 == 32,
            smtputf8: false,
            ret_full: Some(true),
            envid: Some("a b"),
        };
        match self.session.begin(&transaction) {
            Ok(()) => self.begun += 1,
            Err(_) => self.session.quit(),
        }
    }

    fn finish(&mut self) {
        self.session.finish();
        if self.session.output().ends_with(b".\r\n") {
            self.dots += 1;
        }
        if self.mode & 8 == 8 && self.session.may_begin() {
            self.begin();
        }
    }
}
