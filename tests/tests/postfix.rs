//! A real Postfix: as the next hop of a channel, and as a client that relays in.

#![allow(clippy::unwrap_used)]

use scenarios::gateway::{PERSON, SECRET};
use scenarios::tools::{program, succeed, write};
use scenarios::{Gateway, NextHop, Plan, Postfix, Submitter, message};
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

/// A program's mail: LF line ends, dots, UTF-8, a Bcc that nobody must see, a long line.
const BEFORE_BCC: &str = "From: Ana <ana@example.com>\nTo: Luis <luis@example.org>\n";
const BCC: &str = "Bcc: hidden@example.org,\n\tsecond@example.org\n";
const AFTER_BCC: &str = "Subject: =?utf-8?q?Presupuesto_n=C3=BAmero_7?=\nDate: Wed, 25 Nov 2026 08:00:00 +0000\n\
    Message-ID: <real-parts@example.com>\nMIME-Version: 1.0\nContent-Type: text/plain; charset=utf-8\n\
    Content-Transfer-Encoding: 8bit\n\nBuenos días, Luis.\n.\n..two dots\n.one dot\n\ntrailing blanks  \t\nthe end\n";

fn crlf(text: &str) -> Vec<u8> {
    text.replace('\n', "\r\n").into_bytes()
}

#[test]
fn a_message_from_msmtp_reaches_a_real_postfix_with_its_bytes_unchanged() {
    let behind = NextHop::start();
    let postfix = Postfix::start(&format!("[127.0.0.1]:{}", behind.port()), "smtp_tls_security_level = none", &[]);
    let gateway = Gateway::start(Plan::for_next_hop(postfix.port));
    let settings = format!(
        "account default\nhost localhost\nport {}\nauth plain\ntls on\ntls_starttls on\ntls_trust_file {}\n\
         from {PERSON}\nuser {PERSON}\npassword {SECRET}\nset_from_header off\nset_date_header off\nremove_bcc_headers off\n",
        gateway.starttls,
        gateway.certificate().display()
    );
    let settings = write(gateway.path("msmtprc"), settings);
    std::fs::set_permissions(&settings, std::fs::Permissions::from_mode(0o600)).unwrap();
    let submitted = [BEFORE_BCC, BCC, AFTER_BCC].concat();
    let recipients = ["luis@example.org", "hidden@example.org", "second@example.org"];
    succeed(Command::new(program("msmtp")).arg("--file").arg(settings).arg("--").args(recipients), submitted.as_bytes());

    let taken = behind.message_for("luis@example.org");
    let wanted = crlf(&[BEFORE_BCC, AFTER_BCC].concat());
    if let Err(problem) = message::only_added_in_front(&taken.bytes, &wanted, &["Received"]) {
        panic!("{problem}");
    }
    let mut recipients = behind.look(|taken| taken.iter().flat_map(|message| message.recipients.clone()).collect::<Vec<_>>());
    recipients.sort_unstable();
    assert_eq!(recipients, ["hidden@example.org", "luis@example.org", "second@example.org"]);
    let text = String::from_utf8_lossy(&taken.bytes);
    assert!(
        text.contains("by postfix.example.net (Postfix)") && text.contains("by gw.example.com (Sendero) with ESMTPSA"),
        "{text}"
    );
    assert!(gateway.path("gateway.log").exists());
    println!("SENDERO-FIGURE postfix_as_next_hop=1 lost=0 altered=0");
}

#[test]
fn a_real_postfix_relays_in_by_starttls_and_sasl() {
    let hop = NextHop::start();
    let gateway = Gateway::start(Plan::for_next_hop(hop.port()));
    let relay = format!("[localhost]:{}", gateway.starttls);
    let certificate = std::fs::read_to_string(gateway.certificate()).unwrap();
    let further = "smtp_sasl_auth_enable = yes
smtp_sasl_password_maps = texthash:{dir}/sasl
smtp_sasl_security_options = noanonymous
smtp_sasl_tls_security_options = noanonymous
smtp_sasl_mechanism_filter = plain
smtp_tls_security_level = secure
smtp_tls_secure_cert_match = hostname
smtp_tls_CAfile = {dir}/gateway.pem";
    let files = [("sasl", format!("{relay} {PERSON}:{SECRET}\n")), ("gateway.pem", certificate)];
    let files = files.each_ref().map(|(name, content)| (*name, content.as_str()));
    let postfix = Postfix::start(&relay, further, &files);

    let submitted = crlf(&[BEFORE_BCC, AFTER_BCC].concat());
    let mut client = Submitter::connect(postfix.port).unwrap();
    for number in 0..20 {
        let to = format!("luis-{number}@example.org");
        assert!(client.envelope(PERSON, " BODY=8BITMIME", &[&to]).unwrap().is_none());
        assert!(client.data(&submitted).unwrap().is_positive());
    }
    for number in 0..20 {
        let taken = hop.message_for(&format!("luis-{number}@example.org"));
        if let Err(problem) = message::only_added_in_front(&taken.bytes, &submitted, &["Received"]) {
            panic!("{problem}");
        }
        let text = String::from_utf8_lossy(&taken.bytes);
        assert!(text.contains("with ESMTPSA") && text.contains("(Postfix)"), "{text}");
    }
    assert_eq!(hop.count(), 20, "each message left once");
    println!("SENDERO-FIGURE postfix_as_client=20 lost=0 altered=0");
}
