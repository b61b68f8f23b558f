//! Scripts: `S:` what the next hop sends, `C:` what must have been written, `--` what the caller
//! does. Lines of one kind in a row are one group; what the next hop sends is cut in every way.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::command::NotifyParameter;
use crate::{ForwardPath, Mailbox, ReversePath};
use proptest::prelude::*;

/// Who opens the session, and what it sends.
#[derive(Clone)]
struct Setup {
    config: ClientConfig,
    to: Vec<&'static str>,
    size: u64,
    eight_bit: bool,
    wishes: bool,
    /// Also one byte at a time and in all other pieces.
    cut: bool,
}

fn plain() -> Setup {
    let config = ClientConfig { ehlo_name: "me.example".into(), tls: Tls::Clear, auth: None, login_in_clear: false };
    Setup { config, to: vec!["ana@example.org", "luis@example.org"], size: 100, eight_bit: false, wishes: false, cut: true }
}

fn one() -> Setup {
    Setup { to: vec!["ana@example.org"], ..plain() }
}

fn login(mechanism: Option<Mechanism>, tls: Tls) -> Setup {
    let auth = Some(Auth { mechanism, credentials: Credentials::new("ana", "pw") });
    Setup { config: ClientConfig { auth, tls, ..plain().config }, ..one() }
}

const PIPED: &str = "S: 220 hop\nC: EHLO me.example\nS: 250-hop\nS: 250 PIPELINING\n";
const SINGLY: &str = "S: 220 hop\nC: EHLO me.example\nS: 250 hop\n";
const TO_BODY: &str =
    "-- begin\nC: MAIL FROM:<ana@example.com>\nC: RCPT TO:<ana@example.org>\nC: DATA\nS: 250 ok\nS: 250 ok\nS: 354 go\n";

fn check(setup: &Setup, script: &[&str], expected: &str) {
    let script = script.concat();
    let longest = if setup.cut { 60 } else { 0 };
    for piece in (1..=longest).chain([usize::MAX]) {
        assert_eq!(run(setup, &script, piece), expected, "pieces of {piece} bytes in:\n{script}");
    }
}

fn run(setup: &Setup, script: &str, piece: usize) -> String {
    let mut run = Run {
        session: Session::new(Arc::new(setup.config.clone())),
        setup,
        said: Vec::new(),
        written: String::new(),
        log: Vec::new(),
    };
    let mut expected = String::new();
    for line in script.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let (kind, rest) = line.split_at(2);
        if kind != "S:" {
            run.say(piece);
        }
        if kind != "C:" {
            assert_eq!(
                run.take_written(),
                std::mem::take(&mut expected),
                "before {line:?} in pieces of {piece} bytes of\n{script}"
            );
        }
        match kind {
            "S:" => run.said.extend_from_slice(format!("{}\r\n", rest.strip_prefix(' ').unwrap_or(rest)).as_bytes()),
            "C:" => expected.push_str(&format!("{}\r\n", rest.trim())),
            _ => run.act(rest.trim()),
        }
    }
    run.say(piece);
    assert_eq!(run.take_written(), expected, "at the end, in pieces of {piece} bytes of\n{script}");
    run.end()
}

struct Run<'a> {
    session: Session,
    setup: &'a Setup,
    said: Vec<u8>,
    written: String,
    log: Vec<String>,
}

impl Run<'_> {
    fn say(&mut self, piece: usize) {
        for bytes in std::mem::take(&mut self.said).chunks(piece) {
            self.session.receive(bytes);
            self.collect();
        }
    }

    fn take_written(&mut self) -> String {
        self.collect();
        std::mem::take(&mut self.written)
    }

    fn collect(&mut self) {
        self.written.push_str(std::str::from_utf8(&self.session.output().split()).unwrap());
    }

    fn state(&mut self) -> ClientAction {
        loop {
            match self.session.next_action() {
                ClientAction::Done(result) => self.log.extend(result.verdicts.iter().map(shown)),
                state => return state,
            }
        }
    }

    fn act(&mut self, what: &str) {
        let state = self.state();
        match what {
            "begin" => {
                if let Err(error) = self.begin() {
                    self.log.push(error.to_string());
                }
            }
            "tls" => {
                assert_eq!(state, ClientAction::StartTls);
                self.session.tls_started();
            }
            "finish" => {
                assert_eq!(state, ClientAction::Body);
                self.session.finish();
            }
            "late finish" => self.session.finish(),
            "quit" => self.session.quit(),
            "abandon" => self.session.abandon(),
            "drop" => self.session.closed(),
            other => panic!("what is {other}?"),
        }
    }

    fn begin(&mut self) -> Result<(), BeginError> {
        let paths: Vec<_> = self.setup.to.iter().map(|to| ForwardPath::from(Mailbox::parse(to).unwrap())).collect();
        let notify = self.setup.wishes.then_some(NotifyParameter { success: true, failure: true, delay: false });
        let orcpt = self.setup.wishes.then_some("rfc822;a+b@example.net");
        let recipients: Vec<_> = paths.iter().map(|path| Recipient { path, notify, orcpt }).collect();
        self.session.begin(&Transaction {
            reverse_path: &ReversePath::Mailbox(Mailbox::parse("ana@example.com").unwrap()),
            recipients: &recipients,
            size: self.setup.size,
            eight_bit: self.setup.eight_bit,
            smtputf8: false,
            ret_full: self.setup.wishes.then_some(false),
            envid: self.setup.wishes.then_some("id 1"),
        })
    }

    fn end(mut self) -> String {
        let last = match self.state() {
            ClientAction::NeedInput => format!("waits at {}", self.session.stage()),
            ClientAction::Failed(error) => format!("failed: {error}"),
            other => format!("{other:?}").to_lowercase(),
        };
        self.log.push(last);
        self.log.join(" | ")
    }
}

fn shown(verdict: &Verdict) -> String {
    match verdict {
        Verdict::Accepted(reply) => format!("accepted {reply}"),
        Verdict::Refused(stage, reply) => format!("refused at {stage} {reply}"),
        Verdict::NotSent(error) => format!("not sent at {}", error.stage()),
        Verdict::Uncertain(error) => format!("uncertain at {}", error.stage()),
    }
}

#[test]
fn one_transaction_with_pipelining_takes_two_writes() {
    check(&one(), &[PIPED, TO_BODY, "-- finish\nC: .\nS: 250 2.0.0 queued"], "accepted 250 2.0.0 queued | ready");
}

#[test]
fn without_pipelining_each_command_waits_for_the_reply_before() {
    let script = "-- begin\nC: MAIL FROM:<ana@example.com>\nS: 250 ok\nC: RCPT TO:<ana@example.org>\nS: 250 ok
        C: RCPT TO:<luis@example.org>\nS: 251 ok\nC: DATA\nS: 354 go\n-- finish\nC: .\nS: 250 2.0.0 queued";
    check(&plain(), &[SINGLY, script], "accepted 250 2.0.0 queued | accepted 250 2.0.0 queued | ready");
}

#[test]
fn transactions_follow_each_other_and_quit_ends_the_session() {
    let round = [TO_BODY, "-- finish\nC: .\nS: 250 2.0.0 queued\n"].concat();
    check(
        &one(),
        &[PIPED, &round, &round, "-- quit\nC: QUIT\nS: 221 bye"],
        "accepted 250 2.0.0 queued | accepted 250 2.0.0 queued | closed",
    );
    check(&one(), &[PIPED, "-- quit\nC: QUIT\n-- drop"], "closed");
    check(&one(), &[PIPED, "-- quit\nC: QUIT\nS: nonsense"], "closed");
}

#[test]
fn the_next_transaction_may_leave_with_the_final_dot() {
    let grouped = "-- finish\n-- begin\nC: MAIL FROM:<ana@example.com>\nC: RCPT TO:<ana@example.org>\nC: DATA\n";
    // The dot is checked by the step before, so it is named there.
    let script = grouped.replacen("-- begin\n", "C: .\n-- begin\n", 1);
    check(
        &one(),
        &[PIPED, TO_BODY, &script, "S: 250 2.0.0 first\nS: 250 ok\nS: 250 ok\nS: 354 go\n-- finish\nC: .\nS: 250 2.0.0 second"],
        "accepted 250 2.0.0 first | accepted 250 2.0.0 second | ready",
    );
    check(
        &one(),
        &[PIPED, TO_BODY, &script, "-- drop"],
        "uncertain at final_dot | not sent at final_dot | failed: the connection was lost at final_dot",
    );
    check(
        &one(),
        &[PIPED, TO_BODY, &script, "S: 451 4.3.0 later\nS: 250 ok\nS: 550 5.1.1 who\nS: 554 no\nC: RSET\nS: 250 ok"],
        "refused at final_dot 451 4.3.0 later | refused at rcpt 550 5.1.1 who | ready",
    );
    check(
        &one(),
        &[PIPED, TO_BODY, &script, "S: 421 4.3.2 bye"],
        "refused at final_dot 421 4.3.2 bye | not sent at final_dot | failed: the next hop closes the connection at final_dot: 421 4.3.2 bye",
    );
}

#[test]
fn a_second_transaction_does_not_begin_early_without_pipelining() {
    let to_body =
        "-- begin\nC: MAIL FROM:<ana@example.com>\nS: 250 ok\nC: RCPT TO:<ana@example.org>\nS: 250 ok\nC: DATA\nS: 354 go\n";
    check(
        &one(),
        &[SINGLY, to_body, "-- begin\n-- finish\nC: .\n-- begin\nS: 250 ok"],
        "the session is not ready for a transaction | the session is not ready for a transaction | accepted 250 ok | ready",
    );
}

#[test]
fn a_greeting_that_refuses_ends_the_session_with_its_reply() {
    check(&plain(), &["S: 554 5.7.1 no"], "failed: refused at greeting: 554 5.7.1 no");
    check(&plain(), &["S: 450 later"], "failed: refused at greeting: 450 later");
    check(&plain(), &["S: 421-busy\nS: 421 later"], "failed: the next hop closes the connection at greeting: 421 busy later");
    check(&plain(), &["S: 250 what"], "failed: a reply that does not belong at greeting: 250 what");
    check(&plain(), &["-- drop"], "failed: the connection was lost at greeting");
    check(
        &plain(),
        &["S: HTTP/1.1 400 Bad Request"],
        "failed: the next hop does not speak SMTP at greeting: a line does not begin with a reply code",
    );
    check(
        &plain(),
        &["S: 220-hop\nS: 221 x"],
        "failed: the next hop does not speak SMTP at greeting: the lines of one reply carry the codes 220 and 221",
    );
}

#[test]
fn ehlo_that_is_refused_falls_back_to_helo_where_that_suffices() {
    let refused = "S: 220-hop\nS: 220\nC: EHLO me.example\nS: 502 5.5.1 what\n";
    check(&plain(), &[refused, "C: HELO me.example\nS: 250 hop"], "ready");
    check(&plain(), &[refused, "C: HELO me.example\nS: 550 no"], "failed: refused at ehlo: 550 no");
    check(&login(None, Tls::Implicit), &[refused], "failed: refused at ehlo: 502 5.5.1 what");
    let starttls = Setup { config: ClientConfig { tls: Tls::StartTls, ..plain().config }, ..plain() };
    check(&starttls, &[refused], "failed: refused at ehlo: 502 5.5.1 what");
    check(&plain(), &["S: 220 hop\nC: EHLO me.example\nS: 451 later"], "failed: refused at ehlo: 451 later");
    check(&plain(), &["S: 220 hop\nC: EHLO me.example\nS: 421 bye"], "failed: the next hop closes the connection at ehlo: 421 bye");
    check(&plain(), &["S: 220 hop\nC: EHLO me.example\n-- drop"], "failed: the connection was lost at ehlo");
}

#[test]
fn capabilities_are_read_in_any_case_and_garbage_is_passed_over() {
    let reply = Reply::plain(
        250,
        "hop PIPELINING\npipelining\n8BitMime\nsize 100000\nDsn\nX-what=1 2\n\n= =\nAUTH=LOGIN\nauth plain CRAM-MD5\nSMTPUTF8 x\nstarttls",
    );
    let all = Capabilities {
        pipelining: true,
        eight_bit_mime: true,
        smtputf8: true,
        dsn: true,
        starttls: true,
        size: true,
        max_size: Some(100_000),
        auth: true,
        auth_plain: true,
        auth_login: true,
    };
    assert_eq!(Capabilities::from_ehlo(&reply), all);
    let none = Capabilities::from_ehlo(&Reply::plain(250, "PIPELINING\nX8BITMIME\nPIPELININGS\nNOSIZE 5"));
    assert_eq!(none, Capabilities::default());
    for (line, limit) in [("SIZE", None), ("SIZE 0", None), ("SIZE x", None), ("SIZE 1", None), ("SIZE  65536", Some(65_536))] {
        let found = Capabilities::from_ehlo(&Reply::plain(250, format!("hop\n{line}")));
        assert_eq!((found.size, found.max_size), (true, limit), "{line}");
    }
}

const START: &str = "S: 220 hop\nC: EHLO me.example\nS: 250-hop\nS: 250-AUTH LOGIN\nS: 250 StartTls\nC: STARTTLS\n";

#[test]
fn starttls_forgets_what_was_offered_before() {
    let setup = login(None, Tls::StartTls);
    check(
        &setup,
        &[
            START,
            "S: 220 go\n-- tls\nC: EHLO me.example\nS: 250-hop\nS: 250 AUTH PLAIN\nC: AUTH PLAIN AGFuYQBwdw==\nS: 235 2.7.0 ok",
        ],
        "ready",
    );
    check(
        &setup,
        &[START, "S: 220 go\n-- tls\nC: EHLO me.example\nS: 250 hop"],
        "failed: the next hop does not offer a login of a kind that can be used",
    );
}

#[test]
fn helo_over_tls_offers_nothing_that_was_offered_in_the_clear() {
    let setup = Setup { config: ClientConfig { tls: Tls::StartTls, ..plain().config }, ..one() };
    let script = "S: 220 hop\nC: EHLO me.example\nS: 250-hop\nS: 250-PIPELINING\nS: 250-SIZE 5\nS: 250 STARTTLS\nC: STARTTLS\nS: 220 go\n-- tls
        C: EHLO me.example\nS: 502 what\nC: HELO me.example\nS: 250 hop\n-- begin\nC: MAIL FROM:<ana@example.com>";
    check(&setup, &[script], "waits at mail");
}

#[test]
fn without_tls_that_is_required_nothing_is_sent() {
    let setup = login(None, Tls::StartTls);
    check(
        &setup,
        &["S: 220 hop\nC: EHLO me.example\nS: 250-hop\nS: 250 AUTH PLAIN"],
        "failed: the next hop does not offer STARTTLS",
    );
    check(&setup, &[START, "S: 454 4.7.0 not now"], "failed: refused at starttls: 454 4.7.0 not now");
    check(&setup, &[START, "S: 501 no"], "failed: refused at starttls: 501 no");
    check(&setup, &[START, "S: 250 ok"], "failed: a reply that does not belong at starttls: 250 ok");
    check(&setup, &[START, "S: 421 bye"], "failed: the next hop closes the connection at starttls: 421 bye");
    check(&setup, &[START, "-- drop"], "failed: the connection was lost at starttls");
    check(&setup, &[START, "S: 220 go\n-- drop"], "failed: the connection was lost at tls");
}

#[test]
fn bytes_behind_the_reply_to_starttls_end_the_session() {
    for injected in ["S: 250 AUTH PLAIN", "S: 2", "S:  "] {
        check(&login(None, Tls::StartTls), &[START, "S: 220 go\n", injected], "failed: bytes were injected before TLS");
    }
}

const AUTH: &str = "S: 220 hop\nC: EHLO me.example\nS: 250-hop\nS: 250 AUTH";

#[test]
fn plain_is_sent_at_once_and_said_again_when_asked() {
    let setup = login(None, Tls::Implicit);
    let plain = " XOAUTH2 PLAIN LOGIN\nC: AUTH PLAIN AGFuYQBwdw==\n";
    check(&setup, &[AUTH, plain, "S: 235-2.7.0 ok\nS: 235 2.7.0 welcome"], "ready");
    check(&setup, &[AUTH, plain, "S: 334\nC: AGFuYQBwdw==\nS: 235 ok"], "ready");
    check(&setup, &[AUTH, plain, "S: 334\nC: AGFuYQBwdw==\nS: 334 more"], "failed: a reply that does not belong at auth: 334 more");
    check(&setup, &[AUTH, "=PLAIN\nC: AUTH PLAIN AGFuYQBwdw==\nS: 235 ok"], "ready");
}

#[test]
fn login_answers_prompts_whatever_they_say() {
    let setup = login(Some(Mechanism::Login), Tls::Implicit);
    let begun = " PLAIN LOGIN\nC: AUTH LOGIN\n";
    check(&setup, &[AUTH, begun, "S: 334 VXNlcm5hbWU6\nC: YW5h\nS: 334 UGFzc3dvcmQ6\nC: cHc=\nS: 235 ok"], "ready");
    check(&setup, &[AUTH, begun, "S: 334\nC: YW5h\nS: 334 not base64 at all?\nC: cHc=\nS: 235 ok"], "ready");
    check(
        &setup,
        &[AUTH, begun, "S: 334 x\nC: YW5h\nS: 535 5.7.8 no such user"],
        "failed: the login was refused: 535 5.7.8 no such user",
    );
    check(&setup, &[AUTH, begun, "S: 235 welcome"], "failed: a reply that does not belong at auth: 235 welcome");
}

#[test]
fn each_refusal_of_a_login_is_told_apart() {
    let setup = login(None, Tls::Implicit);
    let plain = " PLAIN\nC: AUTH PLAIN AGFuYQBwdw==\n";
    check(&setup, &[AUTH, plain, "S: 535 5.7.8 bad"], "failed: the login was refused: 535 5.7.8 bad");
    check(&setup, &[AUTH, plain, "S: 454 4.7.0 sick"], "failed: the next hop cannot check the login now: 454 4.7.0 sick");
    check(&setup, &[AUTH, plain, "S: 432 4.7.12 later"], "failed: the login was put off: 432 4.7.12 later");
    check(
        &setup,
        &[AUTH, plain, "S: 421 4.7.0 slow down"],
        "failed: the next hop closes the connection at auth: 421 4.7.0 slow down",
    );
    check(&setup, &[AUTH, plain, "-- drop"], "failed: the connection was lost at auth");
}

#[test]
fn a_login_that_cannot_be_made_safely_is_not_made() {
    let not_offered = "failed: the next hop does not offer a login of a kind that can be used";
    check(&login(None, Tls::Implicit), &[SINGLY], not_offered);
    check(&login(None, Tls::Implicit), &[AUTH, " CRAM-MD5"], not_offered);
    check(&login(Some(Mechanism::Plain), Tls::Implicit), &[AUTH, " LOGIN"], not_offered);
    let mut clear = login(None, Tls::Clear);
    check(&clear, &[AUTH, " PLAIN"], "failed: a login must not be sent over a connection without TLS");
    clear.config.login_in_clear = true;
    check(&clear, &[AUTH, " PLAIN\nC: AUTH PLAIN AGFuYQBwdw==\nS: 235 ok"], "ready");
}

#[test]
fn a_long_secret_follows_its_command_on_a_line_of_its_own() {
    let mut setup = login(None, Tls::Implicit);
    setup.config.auth = Some(Auth { mechanism: None, credentials: Credentials::new("ana", "x".repeat(600)) });
    let response = plain_response_of(&setup);
    check(&setup, &[AUTH, " PLAIN\nC: AUTH PLAIN\nS: 334\nC: ", &response, "\nS: 235 ok"], "ready");
    check(&setup, &[AUTH, " PLAIN\nC: AUTH PLAIN\nS: 235 ok"], "failed: a reply that does not belong at auth: 235 ok");
}

fn plain_response_of(setup: &Setup) -> String {
    crate::sasl::plain_response(&setup.config.auth.as_ref().unwrap().credentials)
}

#[test]
fn credentials_are_in_no_debug_form() {
    let setup = login(None, Tls::Implicit);
    let mut session = Session::new(Arc::new(setup.config.clone()));
    session.receive(b"220 hop\r\n250-hop\r\n");
    let mut written = Session::new(Arc::new(setup.config.clone()));
    written.receive(b"220 hop\r\n");
    written.receive(b"250-hop\r\n250 AUTH PLAIN\r\n");
    for shown in [format!("{:?}", setup.config), format!("{session:?}"), format!("{written:?}")] {
        assert!(!shown.contains("pw") && !shown.contains("112, 119") && !shown.contains(&plain_response_of(&setup)), "{shown}");
    }
}

#[test]
fn what_the_next_hop_offers_decides_the_parameters() {
    let setup = Setup { eight_bit: true, wishes: true, ..one() };
    let offer = "S: 220 hop\nC: EHLO me.example\nS: 250-hop\nS: 250-DSN\nS: 250-SIZE\nS: 250 8BITMIME\n-- begin\n";
    check(
        &setup,
        &[
            offer,
            "C: MAIL FROM:<ana@example.com> SIZE=100 BODY=8BITMIME RET=HDRS ENVID=id+201\nS: 250 ok
             C: RCPT TO:<ana@example.org> NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;a+2Bb@example.net",
        ],
        "waits at rcpt",
    );
    let seven = Setup { wishes: true, ..one() };
    check(&seven, &[SINGLY, "-- begin\nC: MAIL FROM:<ana@example.com>\nS: 250 ok\nC: RCPT TO:<ana@example.org>"], "waits at rcpt");
    let unicode = Setup { to: vec!["josé@example.org"], ..plain() };
    check(
        &unicode,
        &[
            SINGLY.trim_end_matches("250 hop\n"),
            "250-hop\nS: 250 SMTPUTF8\n-- begin\nC: MAIL FROM:<ana@example.com> SMTPUTF8\nS: 250 ok\nC: RCPT TO:<josé@example.org>",
        ],
        "waits at rcpt",
    );
}

#[test]
fn what_the_next_hop_cannot_take_is_refused_here_and_the_session_goes_on() {
    let sized = "S: 220 hop\nC: EHLO me.example\nS: 250-hop\nS: 250 SIZE 100000\n-- begin\n";
    check(
        &Setup { size: 100_001, ..one() },
        &[sized],
        "the message is larger than the 100000 bytes that the next hop takes | ready",
    );
    check(&Setup { size: 100_000, ..one() }, &[sized, "C: MAIL FROM:<ana@example.com> SIZE=100000"], "waits at mail");
    let eight = Setup { eight_bit: true, ..one() };
    check(&eight, &[SINGLY, "-- begin"], "the message has 8-bit content, which the next hop does not take | ready");
    let unicode = Setup { to: vec!["ana@example.org", "josé@example.org"], ..plain() };
    check(&unicode, &[SINGLY, "-- begin"], "the message needs SMTPUTF8, which the next hop does not offer | ready");
    check(&Setup { to: vec![], ..plain() }, &[SINGLY, "-- begin"], "the transaction has no recipients | ready");
    let enhanced =
        [BeginError::TooLarge(1), BeginError::EightBit, BeginError::SmtpUtf8].map(|error| error.enhanced().unwrap().to_string());
    assert_eq!(enhanced, ["5.3.4", "5.6.3", "5.6.7"]);
}

const GROUP: &str =
    "-- begin\nC: MAIL FROM:<ana@example.com>\nC: RCPT TO:<ana@example.org>\nC: RCPT TO:<luis@example.org>\nC: DATA\n";

#[test]
fn a_refused_recipient_does_not_stop_the_others() {
    check(
        &plain(),
        &[PIPED, GROUP, "S: 250 ok\nS: 452 4.2.2 full\nS: 250 ok\nS: 354 go\n-- finish\nC: .\nS: 250 2.0.0 queued"],
        "refused at rcpt 452 4.2.2 full | accepted 250 2.0.0 queued | ready",
    );
    check(
        &plain(),
        &[
            PIPED,
            GROUP,
            "S: 250 ok\nS: 250 ok\nS: 550-5.1.1 who\nS: 550 5.1.1 is it\nS: 354 go\n-- finish\nC: .\nS: 554 5.7.1 spam",
        ],
        "refused at final_dot 554 5.7.1 spam | refused at rcpt 550 5.1.1 who is it | ready",
    );
    let singly = "-- begin\nC: MAIL FROM:<ana@example.com>\nS: 250 ok\nC: RCPT TO:<ana@example.org>\nS: 550 no\nC: RCPT TO:<luis@example.org>\nS: 250 ok\nC: DATA\nS: 354 go\n-- finish\nC: .\nS: 250 ok";
    check(&plain(), &[SINGLY, singly], "refused at rcpt 550 no | accepted 250 ok | ready");
}

#[test]
fn when_all_recipients_are_refused_the_transaction_is_reset() {
    let refused = "refused at rcpt 550 5.1.1 who | refused at rcpt 452 later | ";
    let all = "S: 250 ok\nS: 550 5.1.1 who\nS: 452 later\nS: 554 no valid recipients\nC: RSET\n";
    check(&plain(), &[PIPED, GROUP, all], &format!("{refused}waits at quit"));
    check(&plain(), &[PIPED, GROUP, all, "S: 250 ok"], &format!("{refused}ready"));
    let singly = "-- begin\nC: MAIL FROM:<ana@example.com>\nS: 250 ok\nC: RCPT TO:<ana@example.org>\nS: 550 5.1.1 who\nC: RCPT TO:<luis@example.org>\nS: 452 later\nC: RSET\nS: 250 ok";
    check(&plain(), &[SINGLY, singly], &format!("{refused}ready"));
}

#[test]
fn a_refused_rset_closes_the_session() {
    let all = "S: 250 ok\nS: 550 no\nS: 554 no\nC: RSET\n";
    let group = "-- begin\nC: MAIL FROM:<ana@example.com>\nC: RCPT TO:<ana@example.org>\nC: DATA\n";
    check(&one(), &[PIPED, group, all, "S: 500 what"], "refused at rcpt 550 no | failed: refused at quit: 500 what");
    check(
        &one(),
        &[PIPED, group, all, "S: 421 bye"],
        "refused at rcpt 550 no | failed: the next hop closes the connection at quit: 421 bye",
    );
    let next = "-- begin\nC: MAIL FROM:<ana@example.com>\nC: RCPT TO:<ana@example.org>\nC: DATA\n";
    check(
        &one(),
        &[PIPED, group, all, next, "S: 421 bye"],
        "refused at rcpt 550 no | not sent at quit | failed: the next hop closes the connection at quit: 421 bye",
    );
    check(&one(), &[PIPED, group, all, next, "S: 250 ok\nS: 250 ok\nS: 250 ok\nS: 354 go"], "refused at rcpt 550 no | body");
}

#[test]
fn a_354_though_nobody_was_accepted_gets_a_lone_dot() {
    let all = "S: 250 ok\nS: 550 a\nS: 550 b\nS: 354 go on\nC: .\n";
    let refused = "refused at rcpt 550 a | refused at rcpt 550 b | ";
    check(&plain(), &[PIPED, GROUP, all, "S: 554 no valid recipients"], &format!("{refused}ready"));
    check(&plain(), &[PIPED, GROUP, all, "S: 250 queued nothing"], &format!("{refused}ready"));
    check(&plain(), &[PIPED, GROUP, all, "-- drop"], &format!("{refused}failed: the connection was lost at data"));
}

#[test]
fn a_354_without_a_transaction_gets_nothing() {
    check(
        &plain(),
        &[PIPED, GROUP, "S: 550 no\nS: 250 ok\nS: 250 ok\nS: 354 go"],
        "refused at mail 550 no | refused at mail 550 no | failed: a reply that does not belong at data: 354 go",
    );
}

#[test]
fn a_refused_mail_is_the_verdict_for_all() {
    let group = "S: 451 4.7.1 greylisted\nS: 503 what\nS: 503 what\nS: 503 what\n";
    let refused = "refused at mail 451 4.7.1 greylisted | refused at mail 451 4.7.1 greylisted | ready";
    check(&plain(), &[PIPED, GROUP, group], refused);
    check(&plain(), &[SINGLY, "-- begin\nC: MAIL FROM:<ana@example.com>\nS: 451 4.7.1 greylisted"], refused);
}

#[test]
fn a_refused_data_is_the_verdict_for_those_accepted() {
    check(
        &plain(),
        &[PIPED, GROUP, "S: 250 ok\nS: 250 ok\nS: 550 who\nS: 451 later\nC: RSET\nS: 250 ok"],
        "refused at data 451 later | refused at rcpt 550 who | ready",
    );
    check(
        &plain(),
        &[PIPED, GROUP, "S: 250 ok\nS: 250 ok\nS: 550 who\nS: 250 fine"],
        "not sent at data | refused at rcpt 550 who | failed: a reply that does not belong at data: 250 fine",
    );
}

#[test]
fn a_421_refuses_what_is_under_way_and_ends_the_session() {
    let closing = |stage| format!("failed: the next hop closes the connection at {stage}: 421 bye");
    let both = |stage| format!("refused at {stage} 421 bye | refused at {stage} 421 bye | {}", closing(stage));
    check(&plain(), &[PIPED, GROUP, "S: 421 bye"], &both("mail"));
    check(&plain(), &[PIPED, GROUP, "S: 250 ok\nS: 250 ok\nS: 421 bye"], &both("rcpt"));
    check(&plain(), &[PIPED, GROUP, "S: 250 ok\nS: 250 ok\nS: 250 ok\nS: 421 bye"], &both("data"));
    check(&plain(), &[PIPED, GROUP, "S: 250 ok\nS: 250 ok\nS: 250 ok\nS: 354 go\nS: 421 bye"], &both("body"));
    check(&plain(), &[PIPED, GROUP, "S: 250 ok\nS: 250 ok\nS: 250 ok\nS: 354 go\n-- finish\nC: .\nS: 421 bye"], &both("final_dot"));
    check(&plain(), &[PIPED, "S: 421 bye"], &closing("quit"));
    check(
        &plain(),
        &[PIPED, GROUP, "S: 250 ok\nS: 550 who\nS: 421 bye"],
        &format!("refused at rcpt 550 who | refused at rcpt 421 bye | {}", closing("rcpt")),
    );
}

#[test]
fn only_a_loss_after_the_final_dot_is_uncertain() {
    let lost = |what: &str, stage| format!("{what} at {stage} | failed: the connection was lost at {stage}");
    let group = "-- begin\nC: MAIL FROM:<ana@example.com>\nC: RCPT TO:<ana@example.org>\nC: DATA\n";
    check(&one(), &[PIPED, group, "-- drop"], &lost("not sent", "mail"));
    check(&one(), &[PIPED, group, "S: 250 ok\n-- drop"], &lost("not sent", "rcpt"));
    check(&one(), &[PIPED, group, "S: 250 ok\nS: 250 ok\n-- drop"], &lost("not sent", "data"));
    check(&one(), &[PIPED, TO_BODY, "-- drop"], &lost("not sent", "body"));
    check(&one(), &[PIPED, TO_BODY, "-- drop\n-- late finish"], &lost("not sent", "body"));
    check(&one(), &[PIPED, TO_BODY, "-- finish\nC: .\n-- drop"], &lost("uncertain", "final_dot"));
    check(&one(), &[PIPED, TO_BODY, "-- finish\nC: .\nS: 250-half a\n-- drop"], &lost("uncertain", "final_dot"));
    check(&one(), &[PIPED, "-- drop"], "failed: the connection was lost at quit");
}

#[test]
fn nonsense_after_the_final_dot_is_uncertain_and_before_it_not_sent() {
    let finish = "-- finish\nC: .\n";
    let nonsense = "the next hop does not speak SMTP at";
    let no_code = "a line does not begin with a reply code";
    check(
        &one(),
        &[PIPED, TO_BODY, finish, "S: \u{1}\u{2}garbage"],
        &format!("uncertain at final_dot | failed: {nonsense} final_dot: {no_code}"),
    );
    check(
        &one(),
        &[PIPED, TO_BODY, finish, "S: 354 again"],
        "uncertain at final_dot | failed: a reply that does not belong at final_dot: 354 again",
    );
    check(&one(), &[PIPED, TO_BODY, "S: what"], &format!("not sent at body | failed: {nonsense} body: {no_code}"));
    let group = "-- begin\nC: MAIL FROM:<ana@example.com>\nC: RCPT TO:<ana@example.org>\nC: DATA\n";
    check(&one(), &[PIPED, group, "S: 354 go"], "not sent at mail | failed: a reply that does not belong at mail: 354 go");
}

#[test]
fn a_refusal_in_the_middle_of_the_message_is_its_verdict() {
    check(
        &one(),
        &[PIPED, TO_BODY, "S: 552 5.3.4 too big"],
        "refused at body 552 5.3.4 too big | failed: a reply that does not belong at body: 552 5.3.4 too big",
    );
    check(
        &one(),
        &[PIPED, TO_BODY, "S: 250 queued"],
        "not sent at body | failed: a reply that does not belong at body: 250 queued",
    );
}

#[test]
fn replies_that_nobody_asked_for_end_the_session() {
    check(&one(), &[PIPED, "S: 250 hello"], "failed: a reply that does not belong at quit: 250 hello");
    check(
        &one(),
        &[PIPED, TO_BODY, "-- finish\nC: .\nS: 250 2.0.0 queued\nS: 250 2.0.0 queued"],
        "accepted 250 2.0.0 queued | failed: a reply that does not belong at quit: 250 2.0.0 queued",
    );
    // Cut between the two replies, the second passes for the reply to what follows.
    let whole = Setup { cut: false, ..one() };
    check(&whole, &["S: 220 hop\nS: 250 hop"], "failed: the next hop sent more than was asked for at ehlo");
    check(&whole, &["S: 220 hop\nS: 421 bye"], "failed: the next hop closes the connection at ehlo: 421 bye");
    check(
        &whole,
        &[SINGLY, "-- begin\nC: MAIL FROM:<ana@example.com>\nS: 250 ok\nS: 250 ok"],
        "not sent at rcpt | failed: the next hop sent more than was asked for at rcpt",
    );
}

#[test]
fn part_of_a_reply_that_nobody_asked_for_ends_the_session_before_the_final_dot() {
    let mut session = Session::new(Arc::new(one().config));
    for bytes in [&b"220 hop\r\n"[..], b"250-hop\r\n250 PIPELINING\r\n"] {
        session.receive(bytes);
    }
    let ana = ForwardPath::from(Mailbox::parse("ana@example.org").unwrap());
    let recipients = [Recipient::new(&ana)];
    let transaction = Transaction {
        reverse_path: &ReversePath::Null,
        recipients: &recipients,
        size: 1,
        eight_bit: false,
        smtputf8: false,
        ret_full: None,
        envid: None,
    };
    session.begin(&transaction).unwrap();
    session.receive(b"250 ok\r\n250 ok\r\n354 go\r\n552 too");
    assert_eq!(session.next_action(), ClientAction::Body);
    session.output().extend_from_slice(b"message\r\n");
    session.finish();
    assert!(session.output().is_empty());
    let verdicts = vec![Verdict::NotSent(SessionError::Unasked(Stage::FinalDot))];
    assert_eq!(session.next_action(), ClientAction::Done(TransactionResult { verdicts }));
}

#[test]
fn abandoning_a_message_writes_nothing_more() {
    check(&one(), &[PIPED, TO_BODY, "-- abandon\n-- late finish"], "closed");
    check(&one(), &[PIPED, TO_BODY, "-- quit"], "closed");
    check(&one(), &["S: 220 hop\nC: EHLO me.example\n-- quit\n-- begin"], "the session is not ready for a transaction | closed");
}

#[test]
fn the_message_and_its_final_dot_can_leave_in_one_write() {
    let mut session = Session::new(Arc::new(one().config));
    for bytes in [&b"220 hop\r\n"[..], b"250-hop\r\n250 PIPELINING\r\n"] {
        session.receive(bytes);
    }
    let ana = ForwardPath::from(Mailbox::parse("ana@example.org").unwrap());
    let recipients = [Recipient::new(&ana)];
    let transaction = Transaction {
        reverse_path: &ReversePath::Null,
        recipients: &recipients,
        size: 4,
        eight_bit: false,
        smtputf8: false,
        ret_full: None,
        envid: None,
    };
    session.begin(&transaction).unwrap();
    assert!(session.output().ends_with(b"MAIL FROM:<>\r\nRCPT TO:<ana@example.org>\r\nDATA\r\n"));
    session.output().clear();
    session.receive(b"250 ok\r\n250 ok\r\n354 go\r\n");
    for piece in crate::data::stuffed(b".a\r\n") {
        session.output().extend_from_slice(piece);
    }
    session.finish();
    session.begin(&transaction).unwrap();
    assert_eq!(&session.output()[..], b"..a\r\n.\r\nMAIL FROM:<>\r\nRCPT TO:<ana@example.org>\r\nDATA\r\n");
}

#[test]
fn a_thousand_recipients_are_sent_in_groups_that_no_buffer_must_hold() {
    let mut session = Session::new(Arc::new(one().config));
    for bytes in [&b"220 hop\r\n"[..], b"250-hop\r\n250 PIPELINING\r\n"] {
        session.receive(bytes);
    }
    session.output().clear();
    let ana = ForwardPath::from(Mailbox::parse("ana@example.org").unwrap());
    let recipients = vec![Recipient::new(&ana); 1000];
    let transaction = Transaction {
        reverse_path: &ReversePath::Null,
        recipients: &recipients,
        size: 1,
        eight_bit: false,
        smtputf8: false,
        ret_full: None,
        envid: None,
    };
    session.begin(&transaction).unwrap();
    let mut commands = 0;
    while session.next_action() == ClientAction::NeedInput {
        let group = session.output().split();
        let lines = group.iter().filter(|byte| **byte == b'\n').count();
        assert!((1..=WINDOW).contains(&lines), "{lines}");
        commands += lines;
        let replies = if commands == 1002 {
            [b"250 ok\r\n".repeat(lines - 1), b"354 go\r\n".to_vec()].concat()
        } else {
            b"250 ok\r\n".repeat(lines)
        };
        session.receive(&replies);
    }
    assert_eq!(commands, 1002);
    assert_eq!(session.next_action(), ClientAction::Body);
    session.finish();
    session.receive(b"250 ok\r\n");
    let ClientAction::Done(result) = session.next_action() else { panic!("the transaction has ended") };
    assert_eq!(result.verdicts, vec![Verdict::Accepted(Reply::plain(250, "ok")); 1000]);
}

/// Mostly legal lines, so that sessions get far.
fn next_hop() -> impl Strategy<Value = Vec<u8>> {
    let line = prop_oneof![
        6 => Just(&b"250 ok\r\n"[..]),
        1 => Just(&b"250-hop\r\n250-AUTH PLAIN\r\n250-STARTTLS\r\n250 PIPELINING\r\n"[..]),
        3 => Just(&b"354 go\r\n"[..]),
        1 => Just(&b"220 hop\r\n"[..]),
        1 => Just(&b"235 in\r\n"[..]),
        1 => Just(&b"334 \r\n"[..]),
        1 => Just(&b"421 bye\r\n"[..]),
        1 => Just(&b"451 later\r\n"[..]),
        1 => Just(&b"550 no\r\n"[..]),
        1 => Just(&b"2"[..]),
    ];
    let opening = prop_oneof![
        Just(&b"220 hop\r\n"[..]),
        Just(&b"220 hop\r\n250-hop\r\n250 8BITMIME\r\n"[..]),
        Just(&b"220 hop\r\n250-hop\r\n250-8BITMIME\r\n250 PIPELINING\r\n"[..]),
    ];
    (any::<u8>(), 1u8..20, opening, proptest::collection::vec(line, 0..40))
        .prop_map(|(mode, cut, opening, lines)| [&[mode, cut][..], opening, &lines.concat()].concat())
}

proptest! {
    #[test]
    fn no_next_hop_breaks_the_promises_of_a_session(data in next_hop()) {
        fuzzing::client_session(&data);
    }

    #[test]
    fn no_bytes_break_the_promises_of_a_session(data in proptest::collection::vec(any::<u8>(), 0..200)) {
        fuzzing::client_session(&data);
    }
}
