//! Delivery reports as another reader sees them: Python's email package.

use mail::dsn::{Action, RecipientReport, Report};
use mail::envelope::Ret;
use mail::{Diagnostic, Recipient, Timestamp};
use scenarios::tools::{program, succeed};
use smtp::{ForwardPath, Mailbox};
use std::process::Command;

/// Prints the types of all parts, every defect found, and each group of status fields.
const READER: &str = r#"
import email, email.policy, sys
message = email.message_from_bytes(sys.stdin.buffer.read(), policy=email.policy.default)
assert message.get_content_type() == "multipart/report", message.get_content_type()
assert message.get_param("report-type") == "delivery-status"
print("to", message["To"], "| subject", message["Subject"], "|", message["Auto-Submitted"])
for part in message.walk():
    assert not part.defects, (part.get_content_type(), part.defects)
text, status, original = message.iter_parts()
print(text.get_content_type(), status.get_content_type(), original.get_content_type())
assert "no such" in text.get_content()
groups = status.get_payload()
if isinstance(groups, list) and status.get_content_type() == "message/delivery-status":
    for group in groups:
        print("; ".join(f"{name}={value}" for name, value in group.items()))
"#;

fn read(to: &str, recipient: &str, said: &str, message: &str, ret: Ret) -> String {
    let mailbox = |text: &str| Mailbox::parse(text).expect("an address");
    let recipient = Recipient::new(ForwardPath::from(mailbox(recipient)));
    let message = message.replace('\n', "\r\n");
    let said = Diagnostic { code: 550, enhanced: Some((5, 1, 1).into()), text: said.into() };
    let report = Report {
        hostname: "gw.example.com",
        from: &mailbox("reports@example.com"),
        to: &mailbox(to),
        at: Timestamp(1_795_593_760_000),
        message_id: "r1@gw.example.com",
        arrival: Timestamp(1_795_593_600_000),
        envid: Some("e1"),
        ret: Some(ret),
        queue_id: "msg_0",
        message: message.as_bytes(),
        recipients: &[RecipientReport {
            recipient: &recipient,
            action: Action::Failed,
            status: (5, 1, 1).into(),
            remote_mta: Some("mx.example.org"),
            said: Some(&said),
            last_attempt: None,
            retry_until: None,
        }],
    };
    succeed(Command::new(program("python3")).args(["-X", "utf8", "-c", READER]), &report.write().bytes)
}

const MESSAGE: &str = "From: ana@example.com\nSubject: hi\nMessage-ID: <m1@example.com>\n\nhello\n";

#[test]
fn pythons_email_package_reads_a_report_without_a_defect() {
    let seen = read("ana@example.com", "luis@example.org", "no such user", MESSAGE, Ret::Full);
    assert!(seen.contains("to ana@example.com | subject Not delivered: hi | auto-replied"), "{seen}");
    assert!(seen.contains("text/plain message/delivery-status message/rfc822"), "{seen}");
    assert!(seen.contains("Reporting-MTA=dns; gw.example.com; Original-Envelope-Id=e1; Arrival-Date="), "{seen}");
    let recipient = "Final-Recipient=rfc822;luis@example.org; Action=failed; Status=5.1.1; Remote-MTA=dns; mx.example.org; \
                     Diagnostic-Code=smtp; 550 5.1.1 no such user";
    assert!(seen.contains(recipient), "{seen}");
}

#[test]
fn a_reply_that_tries_to_add_a_field_adds_none() {
    let seen = read("ana@example.com", "luis@example.org", "no such user\r\nAction: delivered\r\n\r\nñ", MESSAGE, Ret::Headers);
    assert_eq!(seen.matches("Action=").count(), 1, "{seen}");
    assert!(seen.contains("text/plain message/delivery-status text/rfc822-headers"), "{seen}");
    assert!(seen.contains("Diagnostic-Code=smtp; 550 5.1.1 no such user"), "{seen}");
}

#[test]
fn reports_about_utf8_mail_are_read_too() {
    let message = MESSAGE.replace("hi", "¡hola!");
    let seen = read("ana@example.com", "josé@example.org", "no such user", &message, Ret::Full);
    assert!(seen.contains("subject Not delivered: ¡hola!"), "{seen}");
    assert!(seen.contains("text/plain message/global-delivery-status message/global"), "{seen}");
}
