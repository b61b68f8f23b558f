//! From a channel's endpoint to a session that is ready: looked up, connected, protected, signed in.

use super::line::Line;
use super::session::SmarthostSession;
use super::stream::Stream;
use super::{Deadlines, SmarthostTransport};
use crate::connect::connect;
use crate::error::stage_of;
use crate::host::Host;
use crate::{Endpoint, OpenError};
use mail::Stage;
use mail::channel::{AuthMode, Smarthost, TlsMode};
use smtp::client::{Auth, ClientAction, ClientConfig, Session as Wire, SessionError, Tls as WireTls};
use smtp::sasl::{Credentials, Mechanism};
use std::sync::Arc;
use tokio::net::TcpStream;

/// Told of each step that has been taken, with a remark for people.
pub(crate) type Watch<'a> = &'a mut (dyn FnMut(Stage, String) + Send);

impl SmarthostTransport {
    pub(crate) async fn open_watched(
        &self,
        endpoint: &Endpoint,
        deadlines: Deadlines,
        watch: Watch<'_>,
    ) -> Result<SmarthostSession, OpenError> {
        let smarthost = endpoint.smarthost().ok_or_else(|| OpenError::Misconfigured("the channel has no host".into()))?;
        let config = self.config(endpoint, smarthost)?;
        let target = self.resolver.target(smarthost, deadlines.resolve).await?;
        let found: Vec<String> = target.addresses.iter().map(|address| address.ip().to_string()).collect();
        watch(Stage::Resolve, found.join(", "));
        let connected = connect(&target.addresses, deadlines.stagger, deadlines.connect).await;
        let (stream, peer) = connected.map_err(|problem| OpenError::Broken(Stage::Connect, problem.0))?;
        watch(Stage::Connect, peer.to_string());
        let relay = format!("{}[{}]:{}", target.host, peer.ip().to_canonical(), peer.port());
        let line = self.greeted(stream, config, &target.host, deadlines, watch).await?;
        Ok(SmarthostSession::new(line, relay))
    }

    /// Protects a fresh connection and makes it ready for transactions.
    pub(crate) async fn greeted(
        &self,
        stream: TcpStream,
        config: ClientConfig,
        host: &Host,
        deadlines: Deadlines,
        watch: Watch<'_>,
    ) -> Result<Line, OpenError> {
        let mut stream = Stream::Clear(stream);
        if config.tls == WireTls::Implicit {
            stream = self.protect(stream, host, deadlines, watch).await?;
        }
        let config = Arc::new(config);
        let mut line = Line::new(stream, Wire::new(Arc::clone(&config)), deadlines);
        match self.greet(&mut line, host, watch).await {
            Ok(()) => Ok(line),
            Err(error) => Err(without_login(error, config.auth.as_ref())),
        }
    }

    pub(crate) fn config(&self, endpoint: &Endpoint, smarthost: &Smarthost) -> Result<ClientConfig, OpenError> {
        let tls = match smarthost.tls {
            TlsMode::Implicit => WireTls::Implicit,
            TlsMode::Starttls => WireTls::StartTls,
            TlsMode::None => WireTls::Clear,
        };
        let mechanism = match smarthost.auth {
            AuthMode::Auto | AuthMode::None => None,
            AuthMode::Plain => Some(Mechanism::Plain),
            AuthMode::Login => Some(Mechanism::Login),
        };
        let auth = match smarthost.auth {
            AuthMode::None => None,
            AuthMode::Auto | AuthMode::Plain | AuthMode::Login => {
                Some(Auth { mechanism, credentials: credentials(endpoint, smarthost)? })
            }
        };
        if auth.is_some() && tls == WireTls::Clear {
            return Err(OpenError::Misconfigured("a login must not be sent without TLS".into()));
        }
        Ok(ClientConfig { ehlo_name: self.ehlo_name.clone(), tls, auth, login_in_clear: false })
    }

    async fn protect(&self, stream: Stream, host: &Host, deadlines: Deadlines, watch: Watch<'_>) -> Result<Stream, OpenError> {
        let Stream::Clear(stream) = stream else {
            return Err(OpenError::Broken(Stage::Tls, "the connection has TLS already".into()));
        };
        let protected = self.tls.protect(stream, host, deadlines.handshake).await;
        let protected = Stream::Tls(Box::new(protected.map_err(|why| OpenError::Broken(Stage::Tls, why))?));
        watch(Stage::Tls, protected.protection().unwrap_or_default());
        Ok(protected)
    }

    /// Greeting, EHLO, STARTTLS, AUTH.
    async fn greet(&self, line: &mut Line, host: &Host, watch: Watch<'_>) -> Result<(), OpenError> {
        let mut before = line.stage();
        loop {
            let action = line.next_action();
            let stage = line.stage();
            if stage != before && !matches!(action, ClientAction::Failed(_)) {
                watch(before, remark(before, line));
                before = stage;
            }
            match action {
                ClientAction::NeedInput => line.exchange(0).await,
                ClientAction::StartTls => {
                    let stream = std::mem::replace(&mut line.stream, Stream::Taken);
                    line.stream = self.protect(stream, host, line.deadlines, watch).await?;
                    line.wire.tls_started();
                    before = line.stage();
                }
                ClientAction::Ready => return Ok(()),
                ClientAction::Failed(error) => return Err(open_error(error, line.trouble())),
                ClientAction::Body | ClientAction::Done(_) | ClientAction::Closed => {
                    return Err(OpenError::Broken(stage, "the session ended".into()));
                }
            }
        }
    }
}

fn credentials(endpoint: &Endpoint, smarthost: &Smarthost) -> Result<Credentials, OpenError> {
    let missing = |what: &str| OpenError::Misconfigured(format!("the channel signs in and has no {what}"));
    let user = smarthost.username.as_deref().ok_or_else(|| missing("user name"))?;
    let secret = endpoint.secret.as_ref().ok_or_else(|| missing("password"))?;
    Ok(Credentials::new(user, secret.to_vec()))
}

/// What is worth telling of a step that was taken.
fn remark(stage: Stage, line: &Line) -> String {
    if stage != Stage::Ehlo {
        return String::new();
    }
    let offered = line.wire.capabilities();
    let extensions = [
        (offered.pipelining, "PIPELINING"),
        (offered.size, "SIZE"),
        (offered.eight_bit_mime, "8BITMIME"),
        (offered.smtputf8, "SMTPUTF8"),
        (offered.dsn, "DSN"),
        (offered.starttls, "STARTTLS"),
        (offered.auth_plain, "AUTH PLAIN"),
        (offered.auth_login, "AUTH LOGIN"),
    ];
    let names: Vec<&str> = extensions.iter().filter(|(has, _)| *has).map(|(_, name)| *name).collect();
    names.join(", ")
}

/// What the end of a session that was not ready yet means for the channel.
fn open_error(error: SessionError, trouble: Option<&str>) -> OpenError {
    let stage = stage_of(error.stage());
    match error {
        SessionError::Closing(_, reply) | SessionError::Refused(_, reply) => OpenError::Refused(stage, reply),
        SessionError::StartTlsNotOffered => OpenError::StartTlsNotOffered,
        SessionError::AuthNotOffered => OpenError::AuthNotOffered,
        SessionError::AuthInClear => OpenError::Misconfigured("a login must not be sent without TLS".into()),
        SessionError::LoginRefused(reply) => OpenError::Login(reply),
        SessionError::LoginUnavailable(reply) | SessionError::LoginDeferred(reply) => OpenError::LoginLater(reply),
        SessionError::Injected => OpenError::Broken(stage, "somebody put bytes into the connection before TLS began".into()),
        SessionError::Unexpected(..) | SessionError::Unasked(_) => {
            OpenError::Broken(stage, format!("the server's answer at {} makes no sense", stage.name()))
        }
        SessionError::BadReply(..) => OpenError::Broken(stage, "the server does not speak SMTP here".into()),
        SessionError::Lost(_) => {
            OpenError::Broken(stage, format!("{} at {}", trouble.unwrap_or("the connection was lost"), stage.name()))
        }
    }
}

/// A server may repeat what it was given: a reply that holds the login in any form is not passed on.
fn without_login(error: OpenError, auth: Option<&Auth>) -> OpenError {
    let Some(credentials) = auth.map(|auth| &auth.credentials) else { return error };
    let secret = credentials.secret();
    let forms =
        [String::from_utf8_lossy(secret).into_owned(), smtp::sasl::login_response(secret), smtp::sasl::plain_response(credentials)];
    let tells = |reply: &smtp::Reply| {
        let text = reply.text();
        forms.iter().any(|form| text.contains(form.trim_end_matches('=')))
    };
    let kept = |reply: smtp::Reply| {
        if tells(&reply) { smtp::Reply::plain(reply.code(), "(the reply repeats the login and is not shown)") } else { reply }
    };
    match error {
        OpenError::Login(reply) => OpenError::Login(kept(reply)),
        OpenError::LoginLater(reply) => OpenError::LoginLater(kept(reply)),
        OpenError::Refused(stage, reply) => OpenError::Refused(stage, kept(reply)),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use smtp::Reply;
    use smtp::sasl::Credentials;

    #[test]
    fn a_reply_that_repeats_the_login_is_not_passed_on() {
        let credentials = Credentials::new("luis", "pass phrase 7");
        let auth = Auth { mechanism: None, credentials: credentials.clone() };
        for text in [
            "you said pass phrase 7".to_owned(),
            format!("echo {}", smtp::sasl::plain_response(&credentials)),
            format!("echo {}", smtp::sasl::login_response(b"pass phrase 7").trim_end_matches('=')),
        ] {
            let shown = without_login(OpenError::Login(Reply::new(535, (5, 7, 8), text)), Some(&auth)).to_string();
            assert!(shown.contains("535") && shown.contains("not shown"), "{shown}");
        }
        let plain = OpenError::Login(Reply::new(535, (5, 7, 8), "wrong"));
        assert_eq!(without_login(plain.clone(), Some(&auth)), plain);
    }
}
