//! The mail clients that people and programs use, over STARTTLS and over TLS from the first byte.

#![allow(clippy::unwrap_used)]

use lettre::address::Envelope;
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Certificate, Tls, TlsParameters};
use lettre::{SmtpTransport, Transport};
use scenarios::gateway::{PERSON, SECRET};
use scenarios::tools::{program, succeed, write};
use scenarios::{Gateway, NextHop, Plan, message};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What a client is to do.
struct Wish<'a> {
    gateway: &'a Gateway,
    implicit: bool,
    to: &'a str,
    message: &'a [u8],
}

impl Wish<'_> {
    fn port(&self) -> u16 {
        if self.implicit { self.gateway.implicit } else { self.gateway.starttls }
    }

    fn file(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        write(self.gateway.path(name), content)
    }

    /// For clients that put a CRLF of their own in front of the final dot.
    fn without_last_line_end(&self) -> &[u8] {
        self.message.strip_suffix(b"\r\n").expect("it ends with a line end")
    }

    fn certificate(&self) -> String {
        self.gateway.certificate().display().to_string()
    }
}

/// Lets a client submit both ways, and compares what arrives.
fn check(name: &str, submit: impl Fn(&Wish<'_>)) {
    let hop = NextHop::start();
    let gateway = Gateway::start(Plan::for_next_hop(hop.port()));
    for (implicit, way) in [(false, "starttls"), (true, "implicit")] {
        let to = format!("{name}-{way}@example.org");
        let message = typical(&to);
        submit(&Wish { gateway: &gateway, implicit, to: &to, message: &message });
        let taken = hop.message_for(&to);
        assert_eq!((taken.reverse_path.as_str(), &taken.recipients[..]), (PERSON, &[to.clone()][..]));
        if let Err(problem) = message::only_added_in_front(&taken.bytes, &message, &["Received"]) {
            panic!("{name} by {way}: {problem}");
        }
        let received = String::from_utf8_lossy(&taken.bytes).split(";\r\n").next().unwrap_or_default().to_owned();
        assert!(received.contains("by gw.example.com") && received.contains("with ESMTPSA"), "{received}");
    }
    assert_eq!(hop.count(), 2, "each message left once");
    println!("SENDERO-FIGURE client_submissions=2 lost=0 altered=0");
}

/// A message with what clients get wrong: dots, blanks at line ends, UTF-8, no line too long.
fn typical(to: &str) -> Vec<u8> {
    format!(
        "From: Ana <{PERSON}>\r\nTo: {to}\r\nSubject: =?utf-8?q?Presupuesto_n=C3=BAmero_7?=\r\n\
         Date: Wed, 25 Nov 2026 08:00:00 +0000\r\nMessage-ID: <{to}>\r\nMIME-Version: 1.0\r\n\
         Content-Type: text/plain; charset=utf-8;\r\n\tformat=flowed\r\nContent-Transfer-Encoding: 8bit\r\n\r\n\
         Buenos días, Luis.\r\n.\r\n..two dots\r\n.one dot\r\n\r\ntrailing blanks  \t\r\nFrom here on: {}\r\nthe end\r\n",
        "x".repeat(900)
    )
    .into_bytes()
}

#[test]
fn swaks_submits() {
    check("swaks", |wish| {
        let data = wish.file("swaks.eml", wish.without_last_line_end());
        let mut command = Command::new(program("swaks"));
        command.args(["--server", "127.0.0.1", "--port", &wish.port().to_string(), "--ehlo", "swaks.example.com"]);
        command.args(["--from", PERSON, "--to", wish.to, "--auth", "PLAIN", "--auth-user", PERSON, "--auth-password", SECRET]);
        command.arg(if wish.implicit { "--tls-on-connect" } else { "--tls" });
        command.args(["--tls-verify", "--tls-ca-path", &wish.certificate()]);
        command.arg("--data").arg(format!("@{}", data.display()));
        succeed(&mut command, b"");
    });
}

#[test]
fn msmtp_submits() {
    check("msmtp", |wish| {
        let settings = format!(
            "defaults\nauth plain\ntls on\ntls_starttls {}\ntls_trust_file {}\nset_from_header off\nset_date_header off\n\n\
             account default\nhost localhost\nport {}\nfrom {PERSON}\nuser {PERSON}\npassword {SECRET}\n",
            if wish.implicit { "off" } else { "on" },
            wish.certificate(),
            wish.port()
        );
        let settings = wish.file("msmtprc", settings);
        private(&settings);
        // A program of Unix: its lines end with LF.
        let text = String::from_utf8_lossy(wish.message).replace("\r\n", "\n");
        succeed(Command::new(program("msmtp")).arg("--file").arg(settings).args(["--", wish.to]), text.as_bytes());
    });
}

fn private(path: &Path) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
}

const SMTPLIB: &str = r#"
import smtplib, ssl, sys
port, implicit, ca, user, secret, to, file = sys.argv[1:]
context = ssl.create_default_context(cafile=ca)
if implicit == "true":
    client = smtplib.SMTP_SSL("localhost", int(port), context=context)
else:
    client = smtplib.SMTP("localhost", int(port))
    client.starttls(context=context)
client.login(user, secret)
refused = client.sendmail(user, [to], open(file, "rb").read(), mail_options=["BODY=8BITMIME"])
client.quit()
sys.exit(1 if refused else 0)
"#;

#[test]
fn pythons_smtplib_submits() {
    check("smtplib", |wish| {
        let data = wish.file("smtplib.eml", wish.message);
        let mut command = Command::new(program("python3"));
        command.args(["-c", SMTPLIB, &wish.port().to_string(), &wish.implicit.to_string(), &wish.certificate()]);
        succeed(command.args([PERSON, SECRET, wish.to]).arg(data), b"");
    });
}

#[test]
fn nodemailer_submits() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("node");
    assert!(folder.join("node_modules/nodemailer").is_dir(), "nodemailer is not installed; run `cargo xtask packages`");
    check("nodemailer", |wish| {
        let data = wish.file("nodemailer.eml", wish.message);
        let wishes = serde_json::json!({
            "port": wish.port(), "secure": wish.implicit, "ca": wish.certificate(),
            "user": PERSON, "pass": SECRET, "from": PERSON, "to": wish.to, "file": data,
        });
        succeed(Command::new(program("node")).arg(folder.join("send.js")).arg(wishes.to_string()), b"");
    });
}

#[test]
fn lettre_submits() {
    check("lettre", |wish| {
        let pem = std::fs::read(wish.gateway.certificate()).unwrap();
        let certificate = Certificate::from_pem(&pem).unwrap();
        let tls = TlsParameters::builder("localhost".to_owned()).add_root_certificate(certificate).build().unwrap();
        let tls = if wish.implicit { Tls::Wrapper(tls) } else { Tls::Required(tls) };
        let client = SmtpTransport::builder_dangerous("127.0.0.1")
            .port(wish.port())
            .tls(tls)
            .credentials(Credentials::new(PERSON.to_owned(), SECRET.to_owned()))
            .build();
        let envelope = Envelope::new(Some(PERSON.parse().unwrap()), vec![wish.to.parse().unwrap()]).unwrap();
        let answer = client.send_raw(&envelope, wish.without_last_line_end()).unwrap();
        assert!(answer.is_positive());
    });
}
