//! Delivery reports: from a real refusal to the report, and as another reader sees it, Python's email package.

use mail::dsn::{Action, RecipientReport, Report};
use mail::envelope::Ret;
use mail::{Diagnostic, Recipient, Timestamp};
use scenarios::gateway::PERSON;
use scenarios::tools::{program, succeed, write};
use scenarios::{Gateway, Manner, NextHop, Plan, Submitter};
use smtp::{ForwardPath, Mailbox};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

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
            suppressed: false,
            retry_until: None,
        }],
        most_bytes: u64::MAX,
    };
    by_python(&report.write().bytes)
}

fn by_python(report: &[u8]) -> String {
    succeed(Command::new(program("python3")).args(["-X", "utf8", "-c", READER]), report)
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

/// Where reports go: kept here, so that they can be looked at.
const REPORTS: &str = r#"
[[channel]]
name = "reports"
owner = "instance"
transport = "capture"
domains = ["example.com"]
"#;

/// The ids of messages in this state, once there are some.
fn wait_for(gateway: &Gateway, state: &str) -> Vec<String> {
    let until = Instant::now() + Duration::from_secs(30);
    loop {
        let page = gateway.ask_json(&["message", "list", "--status", state]);
        let found = page["data"].as_array().expect("a page has data");
        if !found.is_empty() || Instant::now() > until {
            return found.iter().map(|message| message["id"].as_str().expect("an id").to_owned()).collect();
        }
        thread::sleep(Duration::from_millis(20));
    }
}

fn ask(gateway: &Gateway, arguments: &[&str]) {
    let output = gateway.ask(arguments);
    assert!(output.status.success(), "{arguments:?}: {output:?}");
}

#[test]
fn a_refused_message_is_reported_once_even_if_the_power_fails_before_the_report_leaves() {
    let hop = NextHop::start();
    hop.behave(Manner { refuse: Some("550 5.1.1 no such user here".into()), ..Manner::default() });
    let further_settings = "[notices]\nchannel = \"reports\"\nfrom = \"reports@example.com\"";
    let mut gateway = Gateway::start(Plan { further_settings, ..Plan::for_next_hop(hop.port()) });
    let file = gateway.path("reports.toml");
    write(file.clone(), REPORTS);
    ask(&gateway, &["apply", file.to_str().expect("a plain path")]);
    ask(&gateway, &["channel", "pause", "reports"]);

    let mut client = Submitter::connect(gateway.trusted).expect("the gateway greets");
    assert!(client.offers.iter().any(|offer| offer == "DSN"), "{:?}", client.offers);
    let refused = client.envelope(PERSON, " RET=FULL ENVID=e1", &["luis@example.org"]).expect("an answer");
    assert!(refused.is_none(), "{refused:?}");
    let taken = client.data(MESSAGE.replace('\n', "\r\n").as_bytes()).expect("an answer");
    assert!(taken.is_positive(), "{taken:?}");
    assert_eq!(wait_for(&gateway, "failed").len(), 1);
    gateway.kill();
    gateway.launch();
    gateway.wait_until_it_greets();
    ask(&gateway, &["channel", "resume", "reports"]);

    let reports = wait_for(&gateway, "captured");
    assert_eq!(reports.len(), 1);
    let report = gateway.ask(&["message", "show", &reports[0], "--raw"]).stdout;
    let seen = by_python(&report);
    assert!(seen.contains("to ana@example.com | subject Not delivered: hi"), "{seen}");
    assert!(seen.contains("text/plain message/delivery-status message/rfc822"), "{seen}");
    assert!(seen.contains("Original-Envelope-Id=e1"), "{seen}");
    assert!(seen.contains("Final-Recipient=rfc822;luis@example.org; Action=failed; Status=5.1.1"), "{seen}");
    let status = gateway.ask_json(&["status"]);
    assert_eq!(status["notices"], "by channel 'reports', from reports@example.com");
    assert_eq!((&status["recipients"]["failed"], &status["accepted"]), (&1.into(), &2.into()));
}
