//! What an administrator wrote of a channel, as its settings: the defaults, and what does not go together.

use super::has_control_characters;
use crate::directory::desired::DesiredChannel;
use crate::directory::spec::ChannelSpec;
use mail::Owner;
use mail::channel::{AuthMode, OnUncertain, ReturnPath, Scope, TlsMode};
use mail::classify::Rules;
use mail::limits::Limits;
use mail::pace::Reserve;
use smtp::{Domain, Mailbox};
use std::net::{Ipv4Addr, Ipv6Addr};

const SUBMISSION_PORT: u16 = 587;
const IMPLICIT_TLS_PORT: u16 = 465;

/// The settings; or every problem they have, each with what to do.
pub(super) fn read(channel: &DesiredChannel, owner: Owner, rules: &Rules) -> Result<ChannelSpec, Vec<String>> {
    let mut reader = Reader { channel, rules, problems: Vec::new() };
    let spec = reader.spec(owner);
    if reader.problems.is_empty() { Ok(spec) } else { Err(reader.problems) }
}

struct Reader<'a> {
    channel: &'a DesiredChannel,
    rules: &'a Rules,
    problems: Vec<String>,
}

impl Reader<'_> {
    fn problem(&mut self, text: impl Into<String>) {
        self.problems.push(text.into());
    }

    fn spec(&mut self, owner: Owner) -> ChannelSpec {
        let is_capture = self.is_capture();
        let (tls, auth) = if is_capture { (TlsMode::None, AuthMode::None) } else { self.security() };
        self.endpoint(is_capture);
        let address = self.address();
        let domains = self.domains();
        let scope = self.scope(owner, address.is_some(), is_capture);
        let Limits { windows, caps } = self.limits();
        let default_port = if tls == TlsMode::Implicit { IMPLICIT_TLS_PORT } else { SUBMISSION_PORT };
        ChannelSpec {
            transport: if is_capture { "capture" } else { "smtp" }.to_owned(),
            host: self.channel.host.clone().unwrap_or_default(),
            port: self.channel.port.unwrap_or(default_port),
            tls,
            auth,
            username: self.channel.username.clone(),
            scope,
            address,
            domains,
            default: self.channel.default,
            connections: caps.connections,
            messages_per_connection: caps.messages_per_connection,
            recipients_per_message: caps.recipients_per_message,
            message_size: caps.message_size,
            limits: windows,
            reserve: self.reserve().0,
            refusals_free: self.channel.refusals_free,
            on_uncertain: self.on_uncertain(),
            return_path: self.return_path(scope),
            provider: self.provider(),
        }
    }

    fn is_capture(&mut self) -> bool {
        match self.channel.transport.as_deref() {
            None | Some("smtp") => false,
            Some("capture") => true,
            Some(other) => {
                let other = other.escape_debug();
                self.problem(format!("transport '{other}' is not in this version; write smtp or capture"));
                false
            }
        }
    }

    fn endpoint(&mut self, is_capture: bool) {
        let DesiredChannel { host, port, tls, auth, username, password, .. } = self.channel;
        let is_given =
            host.is_some() || port.is_some() || tls.is_some() || auth.is_some() || username.is_some() || password.is_some();
        if is_capture && is_given {
            self.problem("a capture channel keeps mail here; leave out host, port, tls, auth, username and password");
        }
        if is_capture {
            return;
        }
        if let Some(problem) = host_problem(host.as_deref().unwrap_or_default()) {
            self.problem(problem);
        }
        if *port == Some(0) {
            self.problem("port 0 is none; leave it out for the usual one");
        }
        if username.as_ref().is_some_and(|name| name.is_empty() || name.chars().any(char::is_control)) {
            self.problem("its username is empty or holds a control character");
        }
        if password.as_ref().is_some_and(|password| password.expose().is_empty() || has_control_characters(password)) {
            self.problem(
                "its password is empty, or holds a line break or another control character; keep the password alone there",
            );
        }
    }

    fn security(&mut self) -> (TlsMode, AuthMode) {
        let tls = match self.channel.tls.as_deref() {
            Some("implicit") => TlsMode::Implicit,
            Some("starttls") => TlsMode::Starttls,
            Some("none") => TlsMode::None,
            None if self.channel.port == Some(IMPLICIT_TLS_PORT) => TlsMode::Implicit,
            None => TlsMode::Starttls,
            Some(other) => {
                let other = other.escape_debug();
                self.problem(format!("tls '{other}' is unknown; write starttls, implicit or none"));
                TlsMode::Starttls
            }
        };
        let auth = self.auth();
        if tls == TlsMode::None && auth != AuthMode::None {
            self.problem(
                "a login never travels in clear text; use tls = \"starttls\" or \"implicit\", or auth = \"none\" without a login",
            );
        }
        (tls, auth)
    }

    fn auth(&mut self) -> AuthMode {
        let has_login = self.channel.username.is_some() || self.channel.password.is_some();
        let auth = match self.channel.auth.as_deref() {
            Some("auto") => AuthMode::Auto,
            Some("plain") => AuthMode::Plain,
            Some("login") => AuthMode::Login,
            Some("none") if has_login => {
                self.problem("auth = \"none\" and a login exclude each other; leave one out");
                return AuthMode::None;
            }
            Some("none") => return AuthMode::None,
            None if has_login => AuthMode::Auto,
            None => {
                self.problem("give username and password, or auth = \"none\"");
                return AuthMode::None;
            }
            Some(other) => {
                let other = other.escape_debug();
                self.problem(format!("auth '{other}' is not in this version; write auto, plain, login or none"));
                return AuthMode::None;
            }
        };
        if self.channel.username.is_none() || self.channel.password.is_none() {
            self.problem("a login needs username and password; give both");
        }
        auth
    }

    /// The connected address: as given, else the user name, if that is one.
    fn address(&mut self) -> Option<String> {
        let is_address = |text: &String| Mailbox::parse(text).is_ok();
        match &self.channel.address {
            Some(text) if !is_address(text) => {
                self.problem(format!("address '{}' is not an e-mail address", text.escape_debug()));
                None
            }
            Some(text) => Some(text.clone()),
            None => self.channel.username.clone().filter(is_address),
        }
    }

    fn domains(&mut self) -> Vec<String> {
        let mut domains: Vec<String> = Vec::new();
        for text in self.channel.domains.iter().flatten() {
            let domain = match Domain::parse(text) {
                _ if text == "*" => "*".to_owned(),
                Ok(domain) if !domain.is_literal() => domain.to_ascii(),
                _ => {
                    self.problem(format!("'{}' is not a domain; write it as in example.com, or \"*\"", text.escape_debug()));
                    continue;
                }
            };
            if !domains.contains(&domain) {
                domains.push(domain);
            }
        }
        domains
    }

    fn scope(&mut self, owner: Owner, has_address: bool, is_capture: bool) -> Scope {
        let is_personal = matches!(owner, Owner::Person(_));
        let scope = match self.channel.scope.as_deref() {
            Some("address") => Scope::Address,
            Some("domain") => Scope::Domain,
            Some("account") => Scope::Account,
            None if self.channel.domains.is_some() => Scope::Domain,
            None if is_personal => Scope::Address,
            None => Scope::Account,
            Some(other) => {
                self.problem(format!("scope '{}' is not in this version; write address, domain or account", other.escape_debug()));
                return Scope::Address;
            }
        };
        if is_capture {
            return scope;
        }
        if scope == Scope::Address && !is_personal {
            self.problem(
                "a credential that belongs to one address is not shared, as all would send under one person's name and reputation; \
                 make its owner person:ADDRESS, or use a service that sends for the whole domain and say domains = [...]",
            );
        }
        if scope == Scope::Address && !has_address {
            self.problem("say which address it is: address = \"name@example.com\"");
        }
        if scope != Scope::Address && self.channel.domains.as_ref().is_none_or(Vec::is_empty) {
            self.problem("say for which domains it may send: domains = [\"example.com\"]");
        }
        scope
    }

    fn limits(&mut self) -> Limits {
        let mut limits = Limits::default();
        match Limits::parse(&self.channel.limits) {
            Ok(parsed) => limits = parsed,
            Err(error) => self.problem(format!("limits: {error}")),
        }
        match self.channel.messages_per_connection {
            Some(0) => self.problem("messages_per_connection must be at least 1; leave it out for no cap"),
            Some(most) => limits.caps.messages_per_connection = Some(most),
            None => {}
        }
        limits
    }

    /// In whole or half percent, as in `5%` or `2.5%`.
    fn reserve(&mut self) -> Reserve {
        let Some(text) = self.channel.reserve.as_deref() else { return Reserve::default() };
        let percent = text.strip_suffix('%').and_then(|number| number.trim().parse::<f64>().ok());
        match percent.filter(|percent| (0.0..=50.0).contains(percent)) {
            Some(percent) => Reserve((percent * 10.0).round() as u16),
            None => {
                self.problem(format!("reserve '{}' is no share; write 0% to 50%, as in \"5%\"", text.escape_debug()));
                Reserve::default()
            }
        }
    }

    fn on_uncertain(&mut self) -> OnUncertain {
        match self.channel.on_uncertain.as_deref() {
            None | Some("retry") => OnUncertain::Retry,
            Some("ask") => OnUncertain::Ask,
            Some(other) => {
                self.problem(format!("on_uncertain '{}' is not in this version; write retry or ask", other.escape_debug()));
                OnUncertain::Retry
            }
        }
    }

    fn return_path(&mut self, scope: Scope) -> ReturnPath {
        match self.channel.return_path.as_deref() {
            None if scope == Scope::Address => ReturnPath::From,
            None | Some("submitted") => ReturnPath::Submitted,
            Some("from") => ReturnPath::From,
            Some(other) => {
                self.problem(format!("return_path '{}' is not in this version; write submitted or from", other.escape_debug()));
                ReturnPath::Submitted
            }
        }
    }

    fn provider(&mut self) -> Option<String> {
        let provider = self.channel.provider.as_ref()?;
        if !self.rules.knows(provider) {
            self.problem(self.rules.unknown(provider));
        }
        Some(provider.clone())
    }
}

/// What is wrong with a host as written. Where it leads is looked at when it is connected to.
fn host_problem(host: &str) -> Option<String> {
    let shown = host.escape_debug();
    if host.is_empty() {
        return Some("an smtp channel needs a host: host = \"smtp.example.com\"".to_owned());
    }
    if let Some(literal) = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        return literal.parse::<Ipv6Addr>().is_err().then(|| format!("host '{shown}' is no IPv6 address in brackets"));
    }
    if host.contains(':') {
        return Some(format!("host '{shown}': write the port as port = NUMBER, and an IPv6 address in brackets"));
    }
    if host.parse::<Ipv4Addr>().is_ok() {
        return None;
    }
    let is_number =
        host.trim_end_matches('.').rsplit('.').next().is_some_and(|last| last.bytes().all(|byte| byte.is_ascii_digit()));
    let is_name = Domain::parse(host).is_ok_and(|domain| !domain.is_literal());
    (is_number || !is_name).then(|| format!("host '{shown}' is neither a name nor an address, as in smtp.example.com or 192.0.2.1"))
}

#[cfg(test)]
mod tests {
    use super::host_problem;

    #[test]
    fn a_host_is_a_name_or_an_address_without_port() {
        for host in ["smtp.example.com", "localhost", "127.0.0.1", "[2001:db8::1]", "correo.españa.example"] {
            assert_eq!(host_problem(host), None, "{host}");
        }
        for host in
            ["", "smtp.example.com:587", "2001:db8::1", "[127.0.0.1]", "1.2.3", "2130706433", "a b", "a@b", "smtp://a", "a/b"]
        {
            assert!(host_problem(host).is_some(), "{host}");
        }
    }
}
