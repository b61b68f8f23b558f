//! A mail client over a blocking socket that says exactly what it is told to.

use std::io::{BufRead, BufReader, Error, ErrorKind, Result, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

/// How long a reply is awaited.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long the greeting is awaited.
const GREETING: Duration = Duration::from_secs(5);

/// A reply of the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Its three digits.
    pub code: u16,
    /// All its lines without code, joined with newlines.
    pub text: String,
}

impl Answer {
    /// True for 2yz.
    #[must_use]
    pub fn is_positive(&self) -> bool {
        self.code / 100 == 2
    }

    /// True when it has this code and its text begins with that: `is(552, "5.3.4")`.
    #[must_use]
    pub fn is(&self, code: u16, start: &str) -> bool {
        self.code == code && self.text.starts_with(start)
    }
}

/// An open connection that has been greeted and has said EHLO.
pub struct Submitter {
    reader: BufReader<TcpStream>,
    writer: TcpStream,
    /// What the server offers.
    pub offers: Vec<String>,
}

impl Submitter {
    /// Connects to a port of 127.0.0.1.
    ///
    /// # Errors
    /// Nobody is there, or it is not SMTP.
    pub fn connect(port: u16) -> Result<Self> {
        let mut client = Self::open(port)?;
        client.writer.set_read_timeout(Some(GREETING))?;
        let greeting = client.answer()?;
        client.writer.set_read_timeout(Some(PATIENCE))?;
        if greeting.code != 220 {
            return Err(Error::other(format!("greeted with {greeting:?}")));
        }
        let offers = client.command("EHLO client.example.com")?;
        client.offers = offers.text.lines().skip(1).map(str::to_owned).collect();
        Ok(client)
    }

    /// Connects and reads nothing.
    ///
    /// # Errors
    /// Nobody is there.
    pub fn open(port: u16) -> Result<Self> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let writer = TcpStream::connect_timeout(&address, Duration::from_secs(2))?;
        writer.set_nodelay(true)?;
        writer.set_read_timeout(Some(PATIENCE))?;
        writer.set_write_timeout(Some(PATIENCE))?;
        Ok(Self { reader: BufReader::new(writer.try_clone()?), writer, offers: Vec::new() })
    }

    /// Sends bytes as they are.
    ///
    /// # Errors
    /// The connection is gone.
    pub fn raw(&mut self, bytes: &[u8]) -> Result<()> {
        self.writer.write_all(bytes)
    }

    /// Sends a line and returns the reply.
    ///
    /// # Errors
    /// The connection broke.
    pub fn command(&mut self, line: &str) -> Result<Answer> {
        self.raw(format!("{line}\r\n").as_bytes())?;
        self.answer()
    }

    /// The next reply.
    ///
    /// # Errors
    /// The connection broke, or what came is no reply.
    pub fn answer(&mut self) -> Result<Answer> {
        let mut text: Vec<String> = Vec::new();
        loop {
            let mut line = String::new();
            if self.reader.read_line(&mut line)? == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
            let line = line.trim_end();
            let code = line.get(..3).and_then(|code| code.parse().ok());
            let code: u16 = code.ok_or_else(|| Error::other(format!("no reply: {line:?}")))?;
            text.push(line.get(4..).unwrap_or_default().to_owned());
            if line.as_bytes().get(3) != Some(&b'-') {
                return Ok(Answer { code, text: text.join("\n") });
            }
        }
    }

    /// True when the server has closed, and says nothing more.
    #[must_use]
    pub fn is_closed(&mut self) -> bool {
        matches!(self.reader.fill_buf(), Ok([]))
            || self.reader.fill_buf().is_err_and(|error| error.kind() == ErrorKind::ConnectionReset)
    }

    /// Submits by DATA. The answer is that to the first refused command, else that to the message.
    ///
    /// # Errors
    /// The connection broke: nobody knows whether the message was taken.
    pub fn submit(&mut self, from: &str, to: &[&str], message: &[u8]) -> Result<Answer> {
        match self.envelope(from, "", to)? {
            Some(refusal) => Ok(refusal),
            None => self.data(message),
        }
    }

    /// MAIL and RCPT. What is refused is the result.
    ///
    /// # Errors
    /// The connection broke.
    pub fn envelope(&mut self, from: &str, parameters: &str, to: &[&str]) -> Result<Option<Answer>> {
        let mut commands = vec![format!("MAIL FROM:<{from}>{parameters}")];
        commands.extend(to.iter().map(|to| format!("RCPT TO:<{to}>")));
        self.raw((commands.join("\r\n") + "\r\n").as_bytes())?;
        let mut refusal = None;
        for _ in commands {
            let answer = self.answer()?;
            if refusal.is_none() && !answer.is_positive() {
                refusal = Some(answer);
            }
        }
        if refusal.is_some() {
            self.command("RSET")?;
        }
        Ok(refusal)
    }

    /// DATA, the message with its dots doubled, and the final dot.
    ///
    /// # Errors
    /// The connection broke.
    pub fn data(&mut self, message: &[u8]) -> Result<Answer> {
        let go_ahead = self.command("DATA")?;
        if go_ahead.code != 354 {
            return Ok(go_ahead);
        }
        self.raw(&stuffed(message))?;
        self.answer()
    }

    /// The message in pieces of these sizes by BDAT (RFC 3030); what is left goes into the last.
    ///
    /// # Errors
    /// The connection broke.
    pub fn chunks(&mut self, message: &[u8], sizes: &[usize]) -> Result<Answer> {
        let mut rest = message;
        for size in sizes {
            let (chunk, behind) = rest.split_at((*size).min(rest.len()));
            self.raw(format!("BDAT {}\r\n", chunk.len()).as_bytes())?;
            self.raw(chunk)?;
            let answer = self.answer()?;
            if !answer.is_positive() {
                return Ok(answer);
            }
            rest = behind;
        }
        self.raw(format!("BDAT {} LAST\r\n", rest.len()).as_bytes())?;
        self.raw(rest)?;
        self.answer()
    }
}

/// What goes over the wire after DATA (RFC 5321 §4.5.2), with the final dot.
fn stuffed(message: &[u8]) -> Vec<u8> {
    let mut wire = Vec::with_capacity(message.len() + 64);
    let mut at_line_start = true;
    for byte in message {
        if at_line_start && *byte == b'.' {
            wire.push(b'.');
        }
        wire.push(*byte);
        at_line_start = *byte == b'\n' && wire.ends_with(b"\r\n");
    }
    wire.extend_from_slice(if message.is_empty() || wire.ends_with(b"\r\n") { b".\r\n" } else { b"\r\n.\r\n" });
    wire
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dots_at_the_start_of_lines_are_doubled() {
        assert_eq!(stuffed(b".\r\n..a\r\nb.\r\n"), b"..\r\n...a\r\nb.\r\n.\r\n");
        assert_eq!(stuffed(b"no end"), b"no end\r\n.\r\n");
        assert_eq!(stuffed(b""), b".\r\n");
    }
}
