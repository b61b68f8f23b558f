//! What an attempt meant for a recipient.

use smtp::{EnhancedCode, Reply};

/// What one attempt meant for one recipient. A refusal by the next hop is news, not an error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The next hop took it; its final reply.
    Sent(Diagnostic),
    /// A capture channel kept it.
    Captured,
    /// Not sent, and trying again may help.
    Deferred(Cause),
    /// Not sent, and trying again is of no use.
    Failed(Cause),
    /// The final dot left and no reply came: the next hop may have it, so a retry may double it.
    Uncertain(Cause),
    /// Nothing was tried: the attempt was given up before anything left for this recipient.
    Untried,
}

/// Why an attempt did not send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The next hop said no, in its own words (RFC 3464 §2.3.6).
    Refused(Stage, Diagnostic),
    /// The next hop lacks what the message needs, as its EHLO reply showed; nothing was sent.
    Unsupported(Diagnostic),
    /// The connection broke, timed out or spoke nonsense at this stage.
    Broken(Stage, String),
    /// The connection broke after the final dot, before the reply.
    LostAfterData(String),
    /// The process ended while the transaction was open.
    Interrupted,
    /// Its stored bytes are not what they were: the final dot was not sent.
    Unreadable(String),
}

/// Where in a session something happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// The next hop's name was looked up.
    Resolve,
    /// TCP connection.
    Connect,
    /// The opening 220.
    Greeting,
    /// EHLO or HELO.
    Ehlo,
    /// The STARTTLS command.
    StartTls,
    /// The TLS handshake.
    Tls,
    /// AUTH.
    Auth,
    /// MAIL.
    Mail,
    /// RCPT.
    Rcpt,
    /// The DATA command.
    Data,
    /// The message's bytes.
    Body,
    /// The final dot and its reply.
    FinalDot,
    /// QUIT or RSET between transactions.
    Quit,
}

impl Stage {
    /// True before MAIL: what happens there is about the channel, never about a message.
    #[must_use]
    pub fn is_before_mail(self) -> bool {
        match self {
            Self::Resolve | Self::Connect | Self::Greeting | Self::Ehlo | Self::StartTls | Self::Tls | Self::Auth => true,
            Self::Mail | Self::Rcpt | Self::Data | Self::Body | Self::FinalDot | Self::Quit => false,
        }
    }

    /// The name used in logs and answers.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Resolve => "resolve",
            Self::Connect => "connect",
            Self::Greeting => "greeting",
            Self::Ehlo => "ehlo",
            Self::StartTls => "starttls",
            Self::Tls => "tls",
            Self::Auth => "auth",
            Self::Mail => "mail",
            Self::Rcpt => "rcpt",
            Self::Data => "data",
            Self::Body => "body",
            Self::FinalDot => "final_dot",
            Self::Quit => "quit",
        }
    }
}

/// A reply as the next hop said it: code, enhanced code, text on one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// The three digits, or 0 where the gateway itself speaks.
    pub code: u16,
    /// RFC 3463.
    pub enhanced: Option<EnhancedCode>,
    /// The text; never more than a few hundred bytes.
    pub text: String,
}

impl Diagnostic {
    /// The gateway's own finding, in words.
    #[must_use]
    pub fn own(enhanced: Option<EnhancedCode>, text: impl Into<String>) -> Self {
        Self { code: 0, enhanced, text: text.into() }
    }
}

impl From<&Reply> for Diagnostic {
    fn from(reply: &Reply) -> Self {
        let mut text = reply.text();
        if text.len() > 512 {
            let end = (0..=512).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
            text.truncate(end);
        }
        Self { code: reply.code(), enhanced: reply.enhanced(), text }
    }
}

impl std::fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.code != 0 {
            write!(f, "{} ", self.code)?;
        }
        if let Some(enhanced) = self.enhanced {
            write!(f, "{enhanced} ")?;
        }
        f.write_str(&self.text)
    }
}

impl std::fmt::Display for Cause {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Refused(stage, said) => write!(f, "refused at {}: {said}", stage.name()),
            Self::Unsupported(said) => write!(f, "the next hop cannot take it: {said}"),
            Self::Broken(stage, why) => write!(f, "connection trouble at {}: {why}", stage.name()),
            Self::LostAfterData(why) => write!(f, "no reply after the message was handed over: {why}"),
            Self::Unreadable(why) => write!(f, "its stored bytes cannot be handed over: {why}"),
            Self::Interrupted => f.write_str("the gateway stopped while the message was being handed over"),
        }
    }
}
