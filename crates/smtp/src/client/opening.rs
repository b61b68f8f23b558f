//! From the greeting to the login.

use super::{Capabilities, Expect, Phase, Session, SessionError, Stage, Tls};
use crate::reply::Reply;
use crate::sasl::{Mechanism, login_response, plain_response};

/// The longest command line that every server takes (RFC 5321 §4.5.3.1.4).
const MAX_COMMAND: usize = 512;

/// What has been said of a login, so what the reply is to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AuthStep {
    /// `AUTH PLAIN` with the initial response.
    PlainAtOnce,
    /// `AUTH PLAIN` alone, as the response is too long for a command line.
    PlainBegun,
    /// The response of PLAIN.
    PlainSaid,
    /// `AUTH LOGIN`.
    LoginBegun,
    /// The user name.
    LoginUser,
    /// The secret.
    LoginSecret,
}

impl Session {
    pub(super) fn say_ehlo(&mut self) {
        self.capabilities = Capabilities::default();
        self.greet("EHLO", Expect::Ehlo);
    }

    fn greet(&mut self, verb: &str, expect: Expect) {
        let name: String = self.config.ehlo_name.chars().filter(char::is_ascii_graphic).collect();
        self.ask(expect, format!("{verb} {name}\r\n").as_bytes());
    }

    pub(super) fn judge_opening(&mut self, expect: Expect, reply: Reply) {
        let stage = expect.stage();
        match (expect, reply.code()) {
            (Expect::Greeting, 220) => self.say_ehlo(),
            (Expect::Ehlo, 200..300) => {
                self.capabilities = Capabilities::from_ehlo(&reply);
                self.secure_or_sign_in();
            }
            (Expect::Ehlo, 500..) if self.helo_would_do() => self.greet("HELO", Expect::Helo),
            (Expect::Helo, 200..300) => self.secure_or_sign_in(),
            (Expect::StartTls, 220) if self.reader.is_empty() => self.phase = Phase::Handshake,
            (Expect::StartTls, 220) => self.fail(SessionError::Injected),
            (_, 400..) => self.fail(SessionError::Refused(stage, reply)),
            _ => self.fail(SessionError::Unexpected(stage, reply)),
        }
    }

    /// HELO offers neither STARTTLS nor AUTH.
    fn helo_would_do(&self) -> bool {
        self.config.auth.is_none() && !self.needs_starttls()
    }

    fn needs_starttls(&self) -> bool {
        self.config.tls == Tls::StartTls && !self.secure
    }

    fn secure_or_sign_in(&mut self) {
        if self.needs_starttls() {
            if self.capabilities.starttls {
                self.ask(Expect::StartTls, b"STARTTLS\r\n");
            } else {
                self.fail(SessionError::StartTlsNotOffered);
            }
            return;
        }
        let Some(auth) = &self.config.auth else { return self.phase = Phase::Open };
        if !self.secure && !self.config.login_in_clear {
            return self.fail(SessionError::AuthInClear);
        }
        let plain = self.capabilities.auth_plain && auth.mechanism != Some(Mechanism::Login);
        let login = self.capabilities.auth_login && auth.mechanism != Some(Mechanism::Plain);
        match (plain, login) {
            (true, _) => self.begin_plain(),
            (false, true) => _ = self.ask(Expect::Auth(AuthStep::LoginBegun), b"AUTH LOGIN\r\n"),
            (false, false) => self.fail(SessionError::AuthNotOffered),
        }
    }

    fn begin_plain(&mut self) {
        let command = format!("AUTH PLAIN {}\r\n", self.plain());
        if command.len() <= MAX_COMMAND {
            self.ask(Expect::Auth(AuthStep::PlainAtOnce), command.as_bytes());
        } else {
            self.ask(Expect::Auth(AuthStep::PlainBegun), b"AUTH PLAIN\r\n");
        }
    }

    fn plain(&self) -> String {
        self.config.auth.as_ref().map(|auth| plain_response(&auth.credentials)).unwrap_or_default()
    }

    pub(super) fn judge_auth(&mut self, step: AuthStep, reply: Reply) {
        match reply.code() {
            334 => self.answer_prompt(step, reply),
            200..300 => match step {
                AuthStep::PlainAtOnce | AuthStep::PlainSaid | AuthStep::LoginSecret => self.signed_in(),
                AuthStep::PlainBegun | AuthStep::LoginBegun | AuthStep::LoginUser => {
                    self.fail(SessionError::Unexpected(Stage::Auth, reply));
                }
            },
            454 => self.fail(SessionError::LoginUnavailable(reply)),
            400..500 => self.fail(SessionError::LoginDeferred(reply)),
            500.. => self.fail(SessionError::LoginRefused(reply)),
            _ => self.fail(SessionError::Unexpected(Stage::Auth, reply)),
        }
    }

    fn signed_in(&mut self) {
        self.phase = Phase::Open;
    }

    /// Prompts are answered by their order; what they say differs from server to server.
    fn answer_prompt(&mut self, step: AuthStep, reply: Reply) {
        let Some(auth) = &self.config.auth else { return };
        let (answer, next) = match step {
            // Some servers pass over the initial response and ask for it again.
            AuthStep::PlainAtOnce | AuthStep::PlainBegun => (self.plain(), AuthStep::PlainSaid),
            AuthStep::LoginBegun => (login_response(auth.credentials.user.as_bytes()), AuthStep::LoginUser),
            AuthStep::LoginUser => (login_response(auth.credentials.secret()), AuthStep::LoginSecret),
            AuthStep::PlainSaid | AuthStep::LoginSecret => {
                return self.fail(SessionError::Unexpected(Stage::Auth, reply));
            }
        };
        self.ask(Expect::Auth(next), format!("{answer}\r\n").as_bytes());
    }
}
