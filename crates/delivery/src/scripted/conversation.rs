//! One connection of a scripted next hop.

use super::io::Io;
use super::{Fault, Point, State, Taken};
use mail::channel::TlsMode;
use smtp::data::DataDecoder;
use std::sync::Arc;
use tokio::net::TcpStream;

struct Conversation {
    io: Io,
    state: Arc<State>,
    faulty: bool,
    messages: usize,
    mail: Option<String>,
    recipients: Vec<String>,
}

/// Speaks until the connection or the script ends.
pub(super) async fn hold(stream: TcpStream, state: Arc<State>, faulty: bool) {
    let io = Io::new(stream);
    let mut conversation = Conversation { io, state, faulty, messages: 0, mail: None, recipients: Vec::new() };
    conversation.begin().await;
}

impl Conversation {
    async fn begin(&mut self) {
        if self.state.script.tls == TlsMode::Implicit && !self.protect().await {
            return;
        }
        if !self.say(Point::Greeting, "220 hop.example ESMTP").await {
            return;
        }
        while let Some(line) = self.io.line().await {
            let reads = std::mem::take(&mut self.io.reads);
            self.state.note(|seen| seen.reads += reads);
            if !self.obey(&line).await {
                return;
            }
        }
    }

    /// True if the script's fault is due here.
    fn fault(&self, point: Point) -> Option<Fault> {
        let due = self.faulty && self.messages >= self.state.script.after_messages;
        self.state.script.fault.filter(|(at, _)| due && *at == point).map(|(_, fault)| fault)
    }

    /// The reply, or the fault in its place; false when the conversation is over.
    async fn say(&mut self, point: Point, reply: &str) -> bool {
        match self.fault(point) {
            Some(fault) => fault.happen(&mut self.io, point).await,
            None => self.reply(reply).await,
        }
    }

    async fn reply(&mut self, reply: &str) -> bool {
        self.io.write(format!("{reply}\r\n").as_bytes()).await
    }

    async fn obey(&mut self, line: &str) -> bool {
        let verb = line.split([' ', ':']).next().unwrap_or_default().to_ascii_uppercase();
        let noted = if verb == "AUTH" { verb.clone() } else { line.to_owned() };
        self.state.note(|seen| seen.commands.push(noted));
        match verb.as_str() {
            "EHLO" => self.ehlo().await,
            "HELO" => self.reply("250 hop.example").await,
            "STARTTLS" => self.start_tls().await,
            "AUTH" => self.auth(line).await,
            "MAIL" => self.mail(line).await,
            "RCPT" => self.rcpt(line).await,
            "DATA" => self.data().await,
            "RSET" => {
                self.mail = None;
                self.reply("250 2.0.0 ok").await
            }
            "QUIT" => {
                self.say(Point::Quit, "221 2.0.0 bye").await;
                false
            }
            _ => self.reply("500 5.5.1 what?").await,
        }
    }

    async fn ehlo(&mut self) -> bool {
        let script = &self.state.script;
        let mut lines = vec!["hop.example".to_owned()];
        lines.extend(script.extensions.iter().cloned());
        let starttls = script.tls == TlsMode::Starttls && script.server.is_some();
        if starttls && !self.io.is_protected() {
            lines.push("STARTTLS".into());
        }
        if script.auth && (self.io.is_protected() || script.tls == TlsMode::None) {
            lines.push("AUTH PLAIN LOGIN".into());
        }
        let last = lines.len() - 1;
        let mark = |at: usize| if at == last { ' ' } else { '-' };
        let lines: Vec<String> = lines.iter().enumerate().map(|(at, line)| format!("250{}{line}", mark(at))).collect();
        self.say(Point::Ehlo, &lines.join("\r\n")).await
    }

    async fn start_tls(&mut self) -> bool {
        if let Some(fault) = self.fault(Point::StartTls) {
            return fault.happen(&mut self.io, Point::StartTls).await;
        }
        let mut reply = b"220 2.0.0 go ahead\r\n".to_vec();
        reply.extend_from_slice(&self.state.script.injected);
        self.io.write(&reply).await && self.protect().await
    }

    async fn protect(&mut self) -> bool {
        if let Some(fault) = self.fault(Point::Tls) {
            // The client begins.
            if self.io.some().await.is_none() {
                return false;
            }
            fault.happen(&mut self.io, Point::Tls).await;
            // Words in the clear in the place of a handshake; what comes after them makes no difference.
            return self.io.drain().await;
        }
        let Some(server) = self.state.script.server.clone() else { return false };
        self.io.protect(server).await
    }

    async fn auth(&mut self, line: &str) -> bool {
        let initial = line.split(' ').count() > 2;
        let prompts: &[&str] = match (line.to_ascii_uppercase().contains("LOGIN"), initial) {
            (true, _) => &["334 VXNlcm5hbWU6", "334 UGFzc3dvcmQ6"],
            (false, false) => &["334 "],
            (false, true) => &[],
        };
        for prompt in prompts {
            if !self.reply(prompt).await || self.io.line().await.is_none() {
                return false;
            }
        }
        self.say(Point::Auth, "235 2.7.0 welcome").await
    }

    async fn mail(&mut self, line: &str) -> bool {
        self.recipients.clear();
        self.mail = self.fault(Point::Mail).is_none().then(|| line.to_owned());
        self.say(Point::Mail, "250 2.1.0 ok").await
    }

    async fn rcpt(&mut self, line: &str) -> bool {
        if self.mail.is_none() {
            return self.reply("503 5.5.1 MAIL first").await;
        }
        let refusal = self.state.script.refused.iter().find(|(address, _)| line.contains(*address)).map(|(_, reply)| reply.clone());
        if let Some(reply) = refusal {
            return self.reply(&reply).await;
        }
        if let Some(fault) = self.fault(Point::Rcpt) {
            return fault.happen(&mut self.io, Point::Rcpt).await;
        }
        self.recipients.push(line.to_owned());
        self.reply("250 2.1.5 ok").await
    }

    async fn data(&mut self) -> bool {
        if let Some(fault) = self.fault(Point::Data) {
            return fault.happen(&mut self.io, Point::Data).await;
        }
        if self.mail.is_none() || self.recipients.is_empty() {
            return self.reply("554 5.5.1 no valid recipients").await;
        }
        if !self.reply("354 go on").await {
            return false;
        }
        let mut wire = Vec::new();
        // Of it only the end is of interest.
        let mut decoder = DataDecoder::new(0, 0);
        loop {
            let Some(piece) = self.io.some().await else { return false };
            let reads = std::mem::take(&mut self.io.reads);
            self.state.note(|seen| {
                seen.data_bytes += piece.len();
                seen.reads += reads;
            });
            if let Some(fault) = self.fault(Point::Body) {
                // Whatever it said, it does not take this message.
                return fault.happen(&mut self.io, Point::Body).await && self.io.drain().await;
            }
            let (used, ended) = decoder.feed(&piece);
            wire.extend_from_slice(&piece[..used]);
            if ended {
                self.io.give_back(&piece[used..]);
                wire.truncate(wire.len() - b".\r\n".len());
                return self.taken(wire).await;
            }
        }
    }

    async fn taken(&mut self, wire: Vec<u8>) -> bool {
        let fault = self.fault(Point::FinalDot);
        let taken = Taken { mail: self.mail.take().unwrap_or_default(), recipients: std::mem::take(&mut self.recipients), wire };
        self.state.note(|seen| {
            seen.dots += 1;
            if !fault.is_some_and(Fault::is_refusal) {
                seen.taken.push(taken);
            }
        });
        if !self.say(Point::FinalDot, "250 2.0.0 queued as 1").await {
            return false;
        }
        let after = self.fault(Point::AfterDot);
        self.messages += 1;
        match after {
            Some(fault) => fault.happen(&mut self.io, Point::AfterDot).await,
            None => true,
        }
    }
}
