//! AUTH (RFC 4954): when it is taken, and its exchange of lines.

use super::{Action, Login, MAX_AUTH_LINE, Security, Session, State};
use crate::reply::Reply;
use crate::sasl::{Exchange, Mechanism, Next, SaslError};

impl Session {
    pub(super) fn auth(&mut self, mechanism: &str, initial: Option<&str>) -> Option<Action> {
        let refusal = if self.login == Login::Trusted {
            Some(Reply::new(502, (5, 5, 1), "no login is needed here"))
        } else if self.security == Security::Clear {
            Some(Reply::new(538, (5, 7, 11), "sign in under TLS: say STARTTLS first"))
        } else if self.signed_in || self.transaction.is_some() {
            Some(Reply::new(503, (5, 5, 1), "not now"))
        } else if self.helo.is_none() {
            Some(Reply::new(503, (5, 5, 1), "say EHLO first"))
        } else {
            None
        };
        if let Some(refusal) = refusal {
            self.refuse(&refusal);
            return None;
        }
        let Some(mechanism) = Mechanism::parse(mechanism) else {
            self.refuse(&Reply::new(504, (5, 5, 4), "mechanisms here: PLAIN, LOGIN"));
            return None;
        };
        self.sasl(Exchange::begin(mechanism, initial))
    }

    pub(super) fn auth_line(&mut self, exchange: Exchange) -> Option<Action> {
        match self.line(MAX_AUTH_LINE) {
            None => {
                self.state = State::Auth(exchange);
                Some(Action::NeedInput)
            }
            Some(Err(fault)) => {
                self.bad_line(fault);
                None
            }
            Some(Ok(line)) => self.sasl(exchange.step(&line)),
        }
    }

    fn sasl(&mut self, step: Result<(Option<Exchange>, Next), SaslError>) -> Option<Action> {
        match step {
            Ok((Some(exchange), Next::Ask(prompt))) => {
                self.reply(&Reply::plain(334, prompt));
                self.state = State::Auth(exchange);
                None
            }
            Ok((_, Next::Verify(credentials))) => {
                self.state = State::Waiting;
                Some(Action::Verify(credentials))
            }
            Ok((None, Next::Ask(_))) | Err(SaslError::Malformed) => {
                self.refuse(&Reply::new(501, (5, 5, 2), "not what the mechanism asks for"));
                None
            }
            Err(SaslError::Cancelled) => {
                self.refuse(&Reply::new(501, (5, 7, 0), "cancelled"));
                None
            }
            Err(SaslError::OtherIdentity) => {
                self.refuse(&Reply::new(535, (5, 7, 8), "nobody signs in for somebody else"));
                None
            }
        }
    }
}
