#![allow(clippy::unwrap_used)]
use super::*;

/// What a session does with an input that is cut into pieces of these lengths.
fn run(login: Login, security: Security, input: &[u8], cuts: &[usize]) -> String {
    run_with(login, security, input, cuts, 200)
}

fn run_with(login: Login, security: Security, input: &[u8], cuts: &[usize], whole_up_to: usize) -> String {
    let config = ServerConfig {
        hostname: "mx.example".into(),
        max_message_size: 200,
        whole_up_to,
        max_recipients: 3,
        tls_available: login == Login::Required,
        announce_dsn: false,
    };
    let mut session = Session::new(Arc::new(config), security, login);
    session.greet();
    let mut shown = String::new();
    let mut earlier = Vec::new();
    let mut from = 0;
    for cut in cuts.iter().copied().chain([input.len()]) {
        session.receive(&input[from..cut]);
        from = cut;
        drive(&mut session, &mut shown, &mut earlier);
    }
    shown
}

fn drive(session: &mut Session, shown: &mut String, earlier: &mut Vec<u8>) {
    loop {
        match session.next_action() {
            Action::NeedInput => return flush(session, shown),
            Action::Close => {
                flush(session, shown);
                if !shown.ends_with("(closed)\n") {
                    shown.push_str("(closed)\n");
                }
                return;
            }
            Action::StartTls => {
                flush(session, shown);
                shown.push_str("(tls)\n");
                session.tls_started();
            }
            Action::Verify(credentials) => {
                let good = credentials.user == "ana" && credentials.secret() == b"pw";
                session.verified(if good { Ok(()) } else { Err(Reply::new(535, (5, 7, 8), "wrong")) });
            }
            Action::Begin(size) => session.begun(match size {
                Some(150) => Err(Reply::new(451, (4, 7, 1), "too much is open")),
                Some(160) => Err(Reply::new(552, (5, 3, 4), "no channel takes so much")),
                _ => Ok(()),
            }),
            Action::Piece(piece) => earlier.extend(piece),
            Action::Forget => earlier.clear(),
            Action::Store(submission) => {
                flush(session, shown);
                assert_eq!(submission.earlier, earlier.len() as u64);
                earlier.extend_from_slice(&submission.body);
                let to: Vec<String> = submission.recipients.iter().map(|(path, _)| path.to_string()).collect();
                let body = String::from_utf8_lossy(&std::mem::take(earlier)).escape_debug().to_string();
                shown.push_str(&format!(
                    "({} {} -> {}: {body})\n",
                    submission.protocol.name(),
                    submission.reverse_path,
                    to.join(",")
                ));
                session.stored(&Reply::new(250, (2, 0, 0), "queued"));
            }
        }
    }
}

fn flush(session: &mut Session, shown: &mut String) {
    let bytes = session.output().split();
    shown.push_str(&String::from_utf8_lossy(&bytes).replace("\r\n", "\n"));
}

/// Codes of the replies and what was stored, as one line.
fn brief(shown: &str) -> String {
    let lines = shown.lines().filter_map(|line| {
        if line.starts_with('(') {
            Some(line)
        } else if line.get(3..4) == Some("-") {
            None
        } else {
            line.get(..3)
        }
    });
    lines.collect::<Vec<_>>().join(" ")
}

const SCRIPTS: &[(&str, Login, Security, &str, &str)] = &[
    (
        "a plain submission",
        Login::Trusted,
        Security::Clear,
        "EHLO c\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\nDATA\r\nS: x\r\n\r\nhi\r\n.\r\nQUIT\r\n",
        "220 250 250 250 354 (ESMTP a@b.example -> c@d.example: S: x\\r\\n\\r\\nhi\\r\\n) 250 221 (closed)",
    ),
    (
        "a message that may not come, and one that may",
        Login::Trusted,
        Security::Clear,
        "EHLO c\r\nMAIL FROM:<> SIZE=150\r\nRCPT TO:<c@d.example>\r\nDATA\r\nMAIL FROM:<> SIZE=160\r\nMAIL FROM:<> SIZE=20\r\nQUIT\r\n",
        "220 250 451 451 451 552 250 221 (closed)",
    ),
    (
        "what is sent behind a message that may not come",
        Login::Trusted,
        Security::Clear,
        "EHLO c\r\nMAIL FROM:<> SIZE=150\r\nRCPT TO:<c@d.example>\r\nBDAT 6\r\nQUIT\r\nBDAT 1 LAST\r\nxRSET\r\nRCPT TO:<c@d.example>\r\n\
         MAIL FROM:<> SIZE=150\r\nMAIL FROM:<> SIZE=160\r\nDATA\r\nMAIL FROM:<> SIZE=150\r\nMAIL FROM <>\r\nRCPT TO:<c@d.example>\r\n\
         MAIL FROM:<> SIZE=150\r\nHELO c\r\nDATA\r\nMAIL FROM:<> SIZE=20\r\nQUIT\r\n",
        "220 250 451 451 451 451 250 503 451 552 503 451 501 503 451 250 503 250 221 (closed)",
    ),
    (
        "HELO",
        Login::Trusted,
        Security::Clear,
        "HELO c\r\nMAIL FROM:<>\r\nRCPT TO:<c@d.example>\r\nDATA\r\n.\r\n",
        "220 250 250 250 354 (SMTP  -> c@d.example: ) 250",
    ),
    (
        "a message that is only a dot",
        Login::Trusted,
        Security::Clear,
        "EHLO c\r\nMAIL FROM:<>\r\nRCPT TO:<c@d.example>\r\nDATA\r\n..\r\n.\r\n",
        "220 250 250 250 354 (ESMTP  -> c@d.example: .\\r\\n) 250",
    ),
    (
        "a dot-stuffed first line",
        Login::Trusted,
        Security::Clear,
        "EHLO c\r\nMAIL FROM:<>\r\nRCPT TO:<c@d.example>\r\nDATA\r\n..x\r\n.\r\n",
        "220 250 250 250 354 (ESMTP  -> c@d.example: .x\\r\\n) 250",
    ),
    (
        "chunks, one of them empty",
        Login::Trusted,
        Security::Clear,
        "EHLO c\r\nMAIL FROM:<>\r\nRCPT TO:<c@d.example>\r\nBDAT 3\r\na\r\nBDAT 0\r\nBDAT 1 LAST\r\n.QUIT\r\n",
        "220 250 250 250 250 250 (ESMTP  -> c@d.example: a\\r\\n.\\r\\n) 250 221 (closed)",
    ),
    (
        "an empty last chunk",
        Login::Trusted,
        Security::Clear,
        "EHLO c\r\nMAIL FROM:<>\r\nRCPT TO:<c@d.example>\r\nBDAT 3\r\na\r\nBDAT 0 LAST\r\n",
        "220 250 250 250 250 (ESMTP  -> c@d.example: a\\r\\n) 250",
    ),
    (
        "a chunk holds commands",
        Login::Trusted,
        Security::Clear,
        "EHLO c\r\nMAIL FROM:<>\r\nBDAT 6 LAST\r\nQUIT\r\nNOOP\r\n",
        "220 250 250 554 250",
    ),
    ("a chunk before anything", Login::Trusted, Security::Clear, "BDAT 6\r\nQUIT\r\nNOOP\r\n", "220 503 250"),
    (
        "chunks over the size",
        Login::Trusted,
        Security::Clear,
        "EHLO c\r\nMAIL FROM:<>\r\nRCPT TO:<c@d.example>\r\nBDAT 201\r\nSMALL\r\n",
        "220 250 250 250",
    ),
    (
        "DATA after BDAT",
        Login::Trusted,
        Security::Clear,
        "EHLO c\r\nMAIL FROM:<>\r\nRCPT TO:<c@d.example>\r\nBDAT 1\r\nxDATA\r\nRCPT TO:<e@d.example>\r\nRSET\r\n",
        "220 250 250 250 250 503 503 250",
    ),
    (
        "a chunk with a bare LF",
        Login::Trusted,
        Security::Clear,
        "EHLO c\r\nMAIL FROM:<>\r\nRCPT TO:<c@d.example>\r\nBDAT 4 LAST\r\na\nb\nNOOP\r\n",
        "220 250 250 250 550 (closed)",
    ),
    (
        "RSET after MAIL",
        Login::Trusted,
        Security::Clear,
        "EHLO c\r\nMAIL FROM:<>\r\nRSET\r\nRCPT TO:<c@d.example>\r\nMAIL FROM:<>\r\n",
        "220 250 250 250 503 250",
    ),
    (
        "RSET between chunks",
        Login::Trusted,
        Security::Clear,
        "EHLO c\r\nMAIL FROM:<>\r\nRCPT TO:<c@d.example>\r\nBDAT 1\r\nxRSET\r\nBDAT 1 LAST\r\nx",
        "220 250 250 250 250 250 503",
    ),
    (
        "a pipelined batch with a refused RCPT",
        Login::Trusted,
        Security::Clear,
        "EHLO c\r\nMAIL FROM:<>\r\nRCPT TO:<bad>\r\nRCPT TO:<c@d.example>\r\nDATA\r\nx\r\n.\r\n",
        "220 250 250 501 250 354 (ESMTP  -> c@d.example: x\\r\\n) 250",
    ),
    (
        "all RCPT refused",
        Login::Trusted,
        Security::Clear,
        "EHLO c\r\nMAIL FROM:<>\r\nRCPT TO:<bad>\r\nDATA\r\nQUIT\r\n",
        "220 250 250 501 554 221 (closed)",
    ),
    (
        "too many recipients",
        Login::Trusted,
        Security::Clear,
        "EHLO c\r\nMAIL FROM:<>\r\nRCPT TO:<1@d.example>\r\nRCPT TO:<2@d.example>\r\nRCPT TO:<2@D.example>\r\nRCPT TO:<3@d.example>\r\nRCPT TO:<4@d.example>\r\nDATA\r\n.\r\n",
        "220 250 250 250 250 250 250 452 354 (ESMTP  -> 1@d.example,2@d.example,3@d.example: ) 250",
    ),
    (
        "size said and too large",
        Login::Trusted,
        Security::Clear,
        "EHLO c\r\nMAIL FROM:<> SIZE=201\r\nMAIL FROM:<> SIZE=200\r\n",
        "220 250 552 250",
    ),
    (
        "UTF-8 without asking",
        Login::Trusted,
        Security::Clear,
        "EHLO c\r\nMAIL FROM:<\u{e9}@b.example>\r\nMAIL FROM:<\u{e9}@b.example> SMTPUTF8\r\nRCPT TO:<\u{e9}@d.example>\r\nDATA\r\n.\r\n",
        "220 250 553 250 250 354 (UTF8SMTP \u{e9}@b.example -> \u{e9}@d.example: ) 250",
    ),
    ("no EHLO", Login::Trusted, Security::Clear, "MAIL FROM:<>\r\nRCPT TO:<a@b.example>\r\nDATA\r\n", "220 503 503 503"),
    ("nested MAIL", Login::Trusted, Security::Clear, "EHLO c\r\nMAIL FROM:<>\r\nMAIL FROM:<>\r\n", "220 250 250 503"),
    (
        "smuggling by LF dot LF",
        Login::Trusted,
        Security::Clear,
        "EHLO c\r\nMAIL FROM:<>\r\nRCPT TO:<c@d.example>\r\nDATA\r\nx\n.\nMAIL FROM:<>\r\n.\r\nNOOP\r\n",
        "220 250 250 250 354 550 (closed)",
    ),
    (
        "smuggling by CRLF dot LF",
        Login::Trusted,
        Security::Clear,
        "EHLO c\r\nMAIL FROM:<>\r\nRCPT TO:<c@d.example>\r\nDATA\r\nx\r\n.\nMAIL FROM:<>\r\n.\r\n",
        "220 250 250 250 354 550 (closed)",
    ),
    (
        "smuggling by LF dot CRLF",
        Login::Trusted,
        Security::Clear,
        "EHLO c\r\nMAIL FROM:<>\r\nRCPT TO:<c@d.example>\r\nDATA\r\nx\n.\r\nMAIL FROM:<>\r\n.\r\n",
        "220 250 250 250 354 550 (closed)",
    ),
    (
        "smuggling by CR dot CR",
        Login::Trusted,
        Security::Clear,
        "EHLO c\r\nMAIL FROM:<>\r\nRCPT TO:<c@d.example>\r\nDATA\r\nx\r.\rMAIL FROM:<>\r\n.\r\n",
        "220 250 250 250 354 550 (closed)",
    ),
    (
        "NUL in a message",
        Login::Trusted,
        Security::Clear,
        "EHLO c\r\nMAIL FROM:<>\r\nRCPT TO:<c@d.example>\r\nDATA\r\nx\0\r\n.\r\n",
        "220 250 250 250 354 550 (closed)",
    ),
    ("a bare LF in a command", Login::Trusted, Security::Clear, "EHLO c\nMAIL FROM:<>\r\n", "220 500 (closed)"),
    ("NUL in a command", Login::Trusted, Security::Clear, "EHLO\0 c\r\nMAIL FROM:<>\r\n", "220 500 (closed)"),
    ("UTF-8 where it means nothing", Login::Trusted, Security::Clear, "EHLO c\r\nNOOP \u{e9}\r\nNOOP\r\n", "220 250 250 250"),
    (
        "a chunk without a size",
        Login::Trusted,
        Security::Clear,
        "EHLO c\r\nMAIL FROM:<>\r\nRCPT TO:<c@d.example>\r\nBDAT x LAST\r\nRSET\r\n",
        "220 250 250 250 501 (closed)",
    ),
    (
        "a chunk larger than numbers go",
        Login::Trusted,
        Security::Clear,
        "EHLO c\r\nMAIL FROM:<>\r\nRCPT TO:<c@d.example>\r\nBDAT 99999999999999999999\r\nRSET\r\n",
        "220 250 250 250",
    ),
    (
        "RSET, EHLO and a second message",
        Login::Trusted,
        Security::Clear,
        "EHLO c\r\nMAIL FROM:<>\r\nRCPT TO:<c@d.example>\r\nEHLO c\r\nDATA\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<x@d.example>\r\nRSET\r\nRSET\r\nMAIL FROM:<>\r\nRCPT TO:<y@d.example>\r\nDATA\r\n1\r\n.\r\nMAIL FROM:<>\r\nRCPT TO:<z@d.example>\r\nDATA\r\n2\r\n.\r\n",
        "220 250 250 250 250 503 250 250 250 250 250 250 354 (ESMTP  -> y@d.example: 1\\r\\n) 250 250 250 354 (ESMTP  -> z@d.example: 2\\r\\n) 250",
    ),
    (
        "STARTTLS under TLS, and where there is none",
        Login::Required,
        Security::Tls,
        "EHLO c\r\nSTARTTLS\r\nSTARTTLS now\r\nNOOP\r\n",
        "220 250 503 501 250",
    ),
    (
        "login within a message, and before EHLO",
        Login::Required,
        Security::Tls,
        "AUTH PLAIN AGFuYQBwdw==\r\nEHLO c\r\nAUTH PLAIN AGFuYQBwdw==\r\nMAIL FROM:<>\r\nAUTH PLAIN AGFuYQBwdw==\r\n",
        "220 503 250 235 250 503",
    ),
    (
        "parameters for reports",
        Login::Trusted,
        Security::Clear,
        "EHLO c\r\nMAIL FROM:<> RET=HDRS ENVID=x\r\nRCPT TO:<c@d.example> NOTIFY=NEVER ORCPT=rfc822;c@d.example\r\nRCPT TO:<e@d.example> NOTIFY=NEVER,DELAY\r\nRCPT TO:<e@d.example> FOO\r\nDATA\r\n.\r\n",
        "220 250 250 250 501 555 354 (ESMTP  -> c@d.example: ) 250",
    ),
    ("a browser", Login::Trusted, Security::Clear, "POST / HTTP/1.1\r\nHost: x\r\n\r\nEHLO c\r\n", "220 (closed)"),
    ("login where none is needed", Login::Trusted, Security::Clear, "EHLO c\r\nAUTH PLAIN AGFuYQBwdw==\r\n", "220 250 502"),
    (
        "no login in clear",
        Login::Required,
        Security::Clear,
        "EHLO c\r\nAUTH PLAIN AGFuYQBwdw==\r\nMAIL FROM:<>\r\n",
        "220 250 538 530",
    ),
    ("no mail without login", Login::Required, Security::Tls, "EHLO c\r\nMAIL FROM:<>\r\n", "220 250 530"),
    (
        "PLAIN",
        Login::Required,
        Security::Tls,
        "EHLO c\r\nAUTH PLAIN AGFuYQBwdw==\r\nMAIL FROM:<>\r\nRCPT TO:<a@b.example>\r\nDATA\r\n.\r\nAUTH PLAIN AGFuYQBwdw==\r\n",
        "220 250 235 250 250 354 (ESMTPSA  -> a@b.example: ) 250 503",
    ),
    ("PLAIN, asked", Login::Required, Security::Tls, "EHLO c\r\nAUTH plain\r\nAGFuYQBwdw==\r\n", "220 250 334 235"),
    ("LOGIN", Login::Required, Security::Tls, "EHLO c\r\nAUTH LOGIN\r\nYW5h\r\ncHc=\r\n", "220 250 334 334 235"),
    ("LOGIN with the name at once", Login::Required, Security::Tls, "EHLO c\r\nAUTH LOGIN YW5h\r\ncHc=\r\n", "220 250 334 235"),
    ("login cancelled", Login::Required, Security::Tls, "EHLO c\r\nAUTH LOGIN\r\n*\r\nNOOP\r\n", "220 250 334 501 250"),
    ("unknown mechanism", Login::Required, Security::Tls, "EHLO c\r\nAUTH CRAM-MD5\r\n", "220 250 504"),
    (
        "three wrong logins",
        Login::Required,
        Security::Tls,
        "EHLO c\r\nAUTH PLAIN AGFuYQB4\r\nAUTH PLAIN AGFuYQB4\r\nAUTH PLAIN AGFuYQB4\r\nNOOP\r\n",
        "220 250 535 535 535 421 (closed)",
    ),
    (
        "other verbs",
        Login::Trusted,
        Security::Clear,
        "EHLO c\r\nVRFY a\r\nEXPN a\r\nHELP\r\nNOOP x\r\nFOO\r\n",
        "220 250 252 502 214 250 500",
    ),
];

#[test]
fn every_script_ends_the_same_cut_at_every_byte() {
    let mut cuts = 0u64;
    for (name, login, security, input, expected) in SCRIPTS {
        let input = input.as_bytes();
        let whole = run(*login, *security, input, &[]);
        assert_eq!(brief(&whole), *expected, "{name}: {whole}");
        for cut in 0..=input.len() {
            assert_eq!(run(*login, *security, input, &[cut]), whole, "{name}, cut at {cut}");
            assert_eq!(run_with(*login, *security, input, &[cut], 2), whole, "{name}, in pieces, cut at {cut}");
            cuts += 1;
        }
        let every: Vec<usize> = (1..input.len()).collect();
        assert_eq!(run(*login, *security, input, &every), whole, "{name}, byte by byte");
        assert_eq!(run_with(*login, *security, input, &every, 2), whole, "{name}, in pieces, byte by byte");
    }
    println!("SENDERO-FIGURE byte_cuts={cuts} lost=0");
}

#[test]
fn what_is_injected_behind_starttls_is_never_a_command() {
    let shown = run(Login::Required, Security::Clear, b"EHLO c\r\nSTARTTLS\r\nEHLO injected\r\nNOOP\r\n", &[]);
    assert_eq!(brief(&shown), "220 250 220 (tls)");
    let after = run(Login::Required, Security::Clear, b"EHLO c\r\nSTARTTLS\r\nMAIL FROM:<>\r\n", &[18]);
    assert_eq!(brief(&after), "220 250 220 (tls) 503");
}

#[test]
fn auth_and_starttls_are_offered_only_where_they_may_be_used() {
    let clear = run(Login::Required, Security::Clear, b"EHLO c\r\n", &[]);
    assert!(clear.contains("STARTTLS") && !clear.contains("AUTH"), "{clear}");
    let tls = run(Login::Required, Security::Tls, b"EHLO c\r\n", &[]);
    assert!(!tls.contains("STARTTLS") && tls.contains("250 AUTH PLAIN LOGIN"), "{tls}");
    let trusted = run(Login::Trusted, Security::Clear, b"EHLO c\r\n", &[]);
    assert!(!trusted.contains("STARTTLS") && !trusted.contains("AUTH"), "{trusted}");
}

#[test]
fn endless_lines_and_endless_refusals_end_the_session() {
    let long = run(Login::Trusted, Security::Clear, &[b'x'; 3000], &[]);
    assert_eq!(brief(&long), "220 500 (closed)");
    let refusals = run(Login::Trusted, Security::Clear, "FOO\r\n".repeat(40).as_bytes(), &[]);
    assert!(brief(&refusals).ends_with("500 421 (closed)"));
    let noops = run(Login::Trusted, Security::Clear, "NOOP\r\n".repeat(2000).as_bytes(), &[]);
    assert!(brief(&noops).ends_with("250 421 (closed)"));
}

#[test]
fn a_message_over_the_limit_is_refused_after_its_end_and_the_session_goes_on() {
    let input = format!("EHLO c\r\nMAIL FROM:<>\r\nRCPT TO:<c@d.example>\r\nDATA\r\n{}\r\n.\r\nNOOP\r\n", "x".repeat(300));
    assert_eq!(brief(&run(Login::Trusted, Security::Clear, input.as_bytes(), &[])), "220 250 250 250 354 552 250");
}

#[test]
fn a_line_that_is_not_utf_8_is_refused_and_the_session_goes_on() {
    let shown = run(Login::Trusted, Security::Clear, b"NOOP \xe9\r\nNOOP\r\n", &[]);
    assert_eq!(brief(&shown), "220 500 250");
}

#[test]
fn the_longest_line_is_the_same_however_it_is_cut() {
    for (login, security, start, most) in
        [(Login::Trusted, Security::Clear, "NOOP ", MAX_COMMAND), (Login::Required, Security::Tls, "auth ", MAX_AUTH_LINE)]
    {
        for (length, goes_on) in [(most, true), (most + 1, false)] {
            let line = format!("{start}{}\r\n", "x".repeat(length - start.len()));
            let whole = run(login, security, line.as_bytes(), &[]);
            assert_eq!(!whole.contains("(closed)"), goes_on, "{length}: {whole}");
            for cut in [1, 3, 5, most - 1, most, most + 1, line.len() - 1] {
                assert_eq!(run(login, security, line.as_bytes(), &[cut]), whole, "{length}, cut at {cut}");
            }
        }
    }
}

fn wide_session() -> Session {
    let config = ServerConfig {
        hostname: "mx.example".into(),
        max_message_size: 100_000,
        whole_up_to: 10_000,
        max_recipients: 1000,
        tls_available: false,
        announce_dsn: false,
    };
    Session::new(Arc::new(config), Security::Clear, Login::Trusted)
}

#[test]
fn a_thousand_recipients_and_many_chunks_are_one_message() {
    let mut session = wide_session();
    session.receive(b"EHLO c\r\nMAIL FROM:<>\r\n");
    assert_eq!(asked(&mut session, b""), "");
    for number in 0..1000 {
        session.receive(format!("RCPT TO:<{number}@d.example>\r\n").as_bytes());
    }
    for _ in 0..2000 {
        session.receive(b"BDAT 3\r\na\r\n");
    }
    session.receive(b"BDAT 0 LAST\r\n");
    let Action::Store(submission) = session.next_action() else { panic!("not stored") };
    assert_eq!((submission.recipients.len(), submission.body.len()), (1000, 6000));
}

#[test]
fn a_client_that_gets_mail_through_may_have_a_wrong_address_now_and_then() {
    let mut session = wide_session();
    session.receive(b"EHLO c\r\n");
    let mut shown = String::new();
    for _ in 0..100 {
        session.receive(b"MAIL FROM:<>\r\nRCPT TO:<bad>\r\nRCPT TO:<c@d.example>\r\nDATA\r\n.\r\n");
        drive(&mut session, &mut shown, &mut Vec::new());
    }
    assert_eq!(shown.matches("(ESMTP").count(), 100);
}

#[test]
fn what_arrives_in_clear_before_the_handshake_is_done_is_never_a_command() {
    let config = ServerConfig {
        hostname: "mx.example".into(),
        max_message_size: 200,
        whole_up_to: 200,
        max_recipients: 3,
        tls_available: true,
        announce_dsn: false,
    };
    let mut session = Session::new(Arc::new(config), Security::Clear, Login::Required);
    session.receive(b"EHLO c\r\nSTARTTLS\r\n");
    assert!(matches!(session.next_action(), Action::StartTls));
    session.receive(b"EHLO injected\r\n");
    assert!(matches!(session.next_action(), Action::StartTls));
    session.output().clear();
    session.tls_started();
    assert!(matches!(session.next_action(), Action::NeedInput));
    assert!(session.output().is_empty());
    session.receive(b"AUTH PLAIN AGFuYQBwdw==\r\n");
    assert!(matches!(session.next_action(), Action::NeedInput));
    assert!(session.output().starts_with(b"503"), "the EHLO of the clear session is forgotten");
}

/// What the caller is asked to do with a large message, pieces by their length.
fn asked(session: &mut Session, bytes: &[u8]) -> String {
    session.receive(bytes);
    let mut asked = Vec::new();
    loop {
        asked.push(match session.next_action() {
            Action::Piece(piece) => piece.len().to_string(),
            Action::Forget => "forget".to_owned(),
            Action::Begin(_) => {
                session.begun(Ok(()));
                continue;
            }
            Action::Store(submission) => {
                session.stored(&Reply::new(250, (2, 0, 0), "queued"));
                format!("store {}+{}", submission.earlier, submission.body.len())
            }
            Action::NeedInput => return asked.join(" "),
            Action::Close => return "close".to_owned(),
            other => format!("{other:?}"),
        });
    }
}

const OPENING: &[u8] = b"EHLO c\r\nMAIL FROM:<>\r\nRCPT TO:<c@d.example>\r\n";

#[test]
fn a_large_message_is_handed_over_while_it_comes_and_little_of_it_waits() {
    for (start, end) in [(&b"DATA\r\n"[..], &b".\r\n"[..]), (b"BDAT 60000 LAST\r\n", b"")] {
        let mut session = wide_session();
        asked(&mut session, OPENING);
        asked(&mut session, start);
        let line = [&[b'x'; 998][..], b"\r\n"].concat();
        let mut said: Vec<String> = (0..60).map(|_| asked(&mut session, &line)).collect();
        said.push(asked(&mut session, end));
        said.retain(|said| !said.is_empty());
        assert_eq!(said.join(" "), "11000 11000 11000 11000 11000 store 55000+5000");
        assert!(session.output().ends_with(b"250 2.0.0 queued\r\n"));
    }
}

#[test]
fn what_was_handed_over_of_a_message_that_is_refused_is_to_be_forgotten_at_once() {
    let large = [b'x'; 20_000];
    let endless = [b'x'; 90_000];
    let mut session = wide_session();
    asked(&mut session, OPENING);
    asked(&mut session, b"DATA\r\n");
    assert_eq!(asked(&mut session, &large), "20000");
    assert_eq!(asked(&mut session, &endless), "forget");
    assert_eq!(asked(&mut session, b"\r\n.\r\n"), "");
    assert!(session.output().ends_with(b"552 5.3.4 a message may have 100000 bytes here\r\n"));

    for way_out in [&b"RSET\r\n"[..], b"EHLO d\r\n", b"BDAT 90000\r\n"] {
        let mut session = wide_session();
        asked(&mut session, OPENING);
        assert_eq!(asked(&mut session, &[&b"BDAT 20000\r\n"[..], &large].concat()), "20000");
        assert_eq!(asked(&mut session, way_out), "forget");
    }
    let mut session = wide_session();
    asked(&mut session, OPENING);
    asked(&mut session, b"DATA\r\n");
    asked(&mut session, &large);
    assert_eq!(asked(&mut session, b"\n"), "forget");
    assert_eq!(asked(&mut session, b"\r\n.\r\n"), "close");
}

#[test]
fn a_message_that_cannot_be_kept_is_swallowed_and_refused_at_its_end_and_the_session_goes_on() {
    let large = [b'x'; 20_000];
    let full = || Reply::new(452, (4, 3, 1), "no space");
    for (start, rest) in [(&b"DATA\r\n"[..], &b"yy\r\n.\r\n"[..]), (b"BDAT 20004 LAST\r\n", b"yyyy")] {
        let mut session = wide_session();
        asked(&mut session, OPENING);
        session.receive(&[start, &large].concat());
        assert!(matches!(session.next_action(), Action::Piece(_)));
        session.give_up(full());
        assert_eq!(asked(&mut session, rest), "");
        assert!(session.output().ends_with(b"452 4.3.1 no space\r\n"));
        assert_eq!(asked(&mut session, b"MAIL FROM:<>\r\nRCPT TO:<c@d.example>\r\nDATA\r\nhi\r\n.\r\n"), "store 0+4");
    }
}

#[test]
fn a_message_that_is_put_off_does_not_cost_a_pipelining_client_its_session() {
    let put_off = |recipients: usize| {
        let many = "RCPT TO:<c@d.example>\r\n".repeat(recipients);
        format!("MAIL FROM:<> SIZE=150\r\n{many}DATA\r\n")
    };
    let input = format!("EHLO c\r\n{}{}MAIL FROM:<> SIZE=20\r\nQUIT\r\n", put_off(30), put_off(30));
    let shown = brief(&run(Login::Trusted, Security::Clear, input.as_bytes(), &[]));
    assert_eq!(shown, format!("220 250 {}250 221 (closed)", "451 ".repeat(64)));

    let input = format!("EHLO c\r\n{}", put_off(2000));
    let shown = brief(&run(Login::Trusted, Security::Clear, input.as_bytes(), &[]));
    assert!(shown.ends_with("451 421 (closed)"), "{shown}");

    // As many as a message may have do not count as commands without one.
    let input = format!("EHLO c\r\n{}MAIL FROM:<> SIZE=20\r\n", put_off(3).repeat(400));
    let shown = brief(&run(Login::Trusted, Security::Clear, input.as_bytes(), &[]));
    assert!(shown.ends_with("451 250"), "{shown}");
}
