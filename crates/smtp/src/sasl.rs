//! Signing in: PLAIN (RFC 4616) and LOGIN, as values.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use std::fmt;

/// Longest user name or secret, in bytes.
pub const MAX_FIELD: usize = 1024;

/// A user name and the secret that was given with it. The secret is shown nowhere.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// Whom the client says it is.
    pub user: String,
    secret: Vec<u8>,
}

impl Credentials {
    /// A user name and a secret.
    #[must_use]
    pub fn new(user: impl Into<String>, secret: impl Into<Vec<u8>>) -> Self {
        Self { user: user.into(), secret: secret.into() }
    }

    /// The secret itself, for the one place that compares it.
    #[must_use]
    pub fn secret(&self) -> &[u8] {
        &self.secret
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Credentials {{ user: {:?}, secret: *** }}", self.user)
    }
}

impl Drop for Credentials {
    fn drop(&mut self) {
        self.secret.fill(0);
    }
}

/// A mechanism this side knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mechanism {
    /// RFC 4616.
    Plain,
    /// Two prompts, as old clients do.
    Login,
}

impl Mechanism {
    /// By name, ASCII case ignored.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        match name.to_ascii_uppercase().as_str() {
            "PLAIN" => Some(Self::Plain),
            "LOGIN" => Some(Self::Login),
            _ => None,
        }
    }
}

/// Why an exchange ended without credentials.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SaslError {
    /// The client sent `*`.
    Cancelled,
    /// Not base64, or not what the mechanism says.
    Malformed,
    /// PLAIN with an authorization identity other than the user.
    OtherIdentity,
}

/// The server's side of an exchange.
#[derive(Debug)]
pub enum Exchange {
    /// Waits for the one message of PLAIN.
    Plain,
    /// Waits for the user name of LOGIN.
    LoginUser,
    /// Waits for the password of LOGIN.
    LoginSecret(String),
}

/// What to do after a message of the client.
#[derive(Debug, PartialEq, Eq)]
pub enum Next {
    /// Send `334` with this text.
    Ask(&'static str),
    /// The exchange is complete.
    Verify(Credentials),
}

/// The prompts `Username:` and `Password:` in base64.
const ASK_USER: &str = "VXNlcm5hbWU6";
const ASK_SECRET: &str = "UGFzc3dvcmQ6";

impl Exchange {
    /// Begins, with the initial response if the client sent one (`=` is an empty one).
    ///
    /// # Errors
    /// As [`Exchange::step`].
    pub fn begin(mechanism: Mechanism, initial: Option<&str>) -> Result<(Option<Self>, Next), SaslError> {
        let (exchange, prompt) = match mechanism {
            Mechanism::Plain => (Self::Plain, ""),
            Mechanism::Login => (Self::LoginUser, ASK_USER),
        };
        match initial {
            None => Ok((Some(exchange), Next::Ask(prompt))),
            Some("=") => exchange.step(""),
            Some(text) => exchange.step(text),
        }
    }

    /// Takes a line of the client.
    ///
    /// # Errors
    /// The exchange is over.
    pub fn step(self, line: &str) -> Result<(Option<Self>, Next), SaslError> {
        if line == "*" {
            return Err(SaslError::Cancelled);
        }
        let mut bytes = STANDARD.decode(line).map_err(|_| SaslError::Malformed)?;
        match self {
            Self::Plain => {
                let credentials = plain(&bytes);
                bytes.fill(0);
                credentials.map(|credentials| (None, Next::Verify(credentials)))
            }
            Self::LoginUser => Ok((Some(Self::LoginSecret(field(bytes)?)), Next::Ask(ASK_SECRET))),
            Self::LoginSecret(user) => {
                if bytes.is_empty() || bytes.len() > MAX_FIELD {
                    return Err(SaslError::Malformed);
                }
                Ok((None, Next::Verify(Credentials::new(user, bytes))))
            }
        }
    }
}

fn field(bytes: Vec<u8>) -> Result<String, SaslError> {
    let text = String::from_utf8(bytes).map_err(|_| SaslError::Malformed)?;
    let valid = !text.is_empty() && text.len() <= MAX_FIELD && !text.chars().any(char::is_control);
    if valid { Ok(text) } else { Err(SaslError::Malformed) }
}

fn plain(message: &[u8]) -> Result<Credentials, SaslError> {
    let mut parts = message.split(|byte| *byte == 0);
    let mut part = || parts.next().ok_or(SaslError::Malformed);
    let (identity, user, secret) = (part()?, part()?, part()?);
    if parts.next().is_some() || secret.is_empty() || secret.len() > MAX_FIELD {
        return Err(SaslError::Malformed);
    }
    if !identity.is_empty() && identity != user {
        return Err(SaslError::OtherIdentity);
    }
    Ok(Credentials::new(field(user.to_vec())?, secret))
}

/// The client's one message of PLAIN, in base64.
#[must_use]
pub fn plain_response(credentials: &Credentials) -> String {
    let mut message = vec![0];
    message.extend_from_slice(credentials.user.as_bytes());
    message.push(0);
    message.extend_from_slice(credentials.secret());
    let text = STANDARD.encode(&message);
    message.fill(0);
    text
}

/// A field of LOGIN, in base64.
#[must_use]
pub fn login_response(field: &[u8]) -> String {
    STANDARD.encode(field)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn plain_and_login_give_the_same_credentials() {
        let expected = Credentials::new("ana@example.com", "s3cret");
        let (_, next) = Exchange::begin(Mechanism::Plain, Some(&plain_response(&expected))).unwrap();
        assert_eq!(next, Next::Verify(expected.clone()));
        let (exchange, ask) = Exchange::begin(Mechanism::Login, None).unwrap();
        assert_eq!(ask, Next::Ask("VXNlcm5hbWU6"));
        let (exchange, _) = exchange.unwrap().step(&login_response(b"ana@example.com")).unwrap();
        let (_, next) = exchange.unwrap().step(&login_response(b"s3cret")).unwrap();
        assert_eq!(next, Next::Verify(expected));
    }

    #[test]
    fn nonsense_is_refused() {
        for text in ["!!!", "AA", "AGFuYQ==", "=", "", "AGFuYQBzAHg="] {
            assert!(Exchange::begin(Mechanism::Plain, Some(text)).is_err(), "{text}");
        }
        assert_eq!(Exchange::Plain.step("*").unwrap_err(), SaslError::Cancelled);
        let other = STANDARD.encode(b"root\0ana\0pw");
        assert_eq!(Exchange::Plain.step(&other).unwrap_err(), SaslError::OtherIdentity);
    }

    #[test]
    fn a_secret_is_never_printed() {
        let shown = format!("{:?}", Exchange::Plain.step(&plain_response(&Credentials::new("ana", "s3cret"))).unwrap());
        assert!(!shown.contains("s3cret"));
    }
}
