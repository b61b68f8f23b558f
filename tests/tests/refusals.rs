//! Bad input at each door of the running program gets a clear refusal, and costs nothing that was accepted.

#![allow(clippy::unwrap_used)]

use scenarios::gateway::{PERSON, SECRET, program_command};
use scenarios::tools::{program, run, said, write};
use scenarios::{Gateway, Manner, NextHop, Plan, Submitter, message};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::time::Duration;

/// A message still goes through, so whatever was refused before did no harm.
fn still_works(gateway: &Gateway, hop: &NextHop) {
    let to = format!("afterwards-{}@example.org", hop.count());
    let mut client = Submitter::connect(gateway.trusted).unwrap();
    let answer = client.submit(PERSON, &[&to], &message::numbered("afterwards", 500)).unwrap();
    assert!(answer.is(250, "2.0.0 queued as msg_"), "{answer:?}");
    let taken = hop.message_for(&to);
    assert!(taken.bytes.ends_with(&message::numbered("afterwards", 500)));
}

#[test]
fn commands_that_are_wrong_get_the_reply_that_says_so() {
    let hop = NextHop::start();
    let gateway = Gateway::start(Plan { further_settings: "[limits]\nmessage_size = \"1MiB\"", ..Plan::for_next_hop(hop.port()) });
    let (trusted, starttls) = (gateway.trusted, gateway.starttls);
    let mut asked = 0;
    for (port, before, line, code, start) in [
        (trusted, "", "MAIL FROM:<ana@example.com> SIZE=1048577", 552, "5.3.4"),
        (trusted, "", "MAIL FROM:<ana@example.com> SIZE=99999999999999999999", 552, "5.3.4"),
        (trusted, "", "MAIL FROM:<ana@example.com> SIZE=many", 501, "5.5.4"),
        (trusted, "", "MAIL FROM:<ana@example.com> HOLDFOR=5", 555, "5.5.4"),
        (trusted, "", "MAIL FROM:<ana@example.com> BODY=BINARYMIME", 504, "5.6.1"),
        (trusted, "", "MAIL FROM:<ana@example.com> SIZE=1 SIZE=2", 501, "5.5.4"),
        (trusted, "", "MAIL FROM:ana@example.com", 501, "5.5.4"),
        (trusted, "", "MAIL FROM:<ana@>", 501, "5.1.3"),
        (trusted, "", "MAIL FROM:<>x", 501, "5.5.4"),
        (trusted, "MAIL FROM:<ana@example.com>", "RCPT TO:<>", 501, "5."),
        (trusted, "MAIL FROM:<ana@example.com>", "RCPT TO:<luis@@example.org>", 501, "5.1.3"),
        (trusted, "MAIL FROM:<ana@example.com>", "MAIL FROM:<ana@example.com>", 503, "5.5.1"),
        (trusted, "MAIL FROM:<ana@example.com>", "DATA", 554, "5.5.1"),
        (trusted, "", "RCPT TO:<luis@example.org>", 503, "5.5.1"),
        (trusted, "", "DATA", 503, "5.5.1"),
        (trusted, "", "BDAT 0 LAST", 503, "5.5.1"),
        (trusted, "", "BDAT all", 501, "5.5.4"),
        (trusted, "", "EXPN staff", 502, "5.5.1"),
        (trusted, "", "STARTTLS", 502, "5.5.1"),
        (trusted, "", "AUTH PLAIN AGFuYQB4", 502, "5.5.1"),
        (trusted, "", "", 500, "5."),
        (trusted, "", "HOLA", 500, "5.5.1"),
        (starttls, "", "MAIL FROM:<ana@example.com>", 530, "5.7.0"),
        (starttls, "", "AUTH PLAIN AGFuYQB4", 538, "5.7.11"),
        (starttls, "", "AUTH LOGIN", 538, "5.7.11"),
        (starttls, "", "STARTTLS now", 501, "5.5.4"),
    ] {
        let mut client = Submitter::connect(port).unwrap();
        if !before.is_empty() {
            assert!(client.command(before).unwrap().is_positive());
        }
        let answer = client.command(line).unwrap();
        assert!(answer.is(code, start), "'{line}' is answered with {answer:?}");
        asked += 1;
    }
    println!("SENDERO-FIGURE refused_commands={asked}");
    let clear = Submitter::connect(starttls).unwrap();
    assert!(!clear.offers.iter().any(|offer| offer.starts_with("AUTH")), "a login in clear text is offered: {:?}", clear.offers);
    still_works(&gateway, &hop);
    assert_eq!(hop.count(), 1);
}

#[test]
fn clients_that_do_not_speak_smtp_are_shown_out() {
    let hop = NextHop::start();
    let gateway = Gateway::start(Plan::for_next_hop(hop.port()));
    let mut browser = Submitter::open(gateway.trusted).unwrap();
    assert_eq!(browser.answer().unwrap().code, 220);
    browser.raw(b"POST / HTTP/1.1\r\nHost: x\r\n\r\nEHLO a\r\nMAIL FROM:<ana@example.com>\r\n").unwrap();
    assert!(browser.is_closed(), "the answer to a browser goes on");

    let mut guesser = Submitter::connect(gateway.trusted).unwrap();
    let last = (0..100).map(|_| guesser.command("GUESS").unwrap()).find(|answer| answer.code != 500).unwrap();
    // The reply to the last of them is followed by the farewell.
    assert_eq!(last.code, 421, "{last:?}");
    assert!(guesser.is_closed());

    let mut endless = Submitter::connect(gateway.trusted).unwrap();
    // The connection may be gone before everything was written.
    let _ = endless.raw(&b"x".repeat(100_000));
    let refusal = endless.answer();
    assert!(refusal.is_err() || refusal.unwrap().code == 500);

    let mut smuggler = Submitter::connect(gateway.starttls).unwrap();
    smuggler.raw(b"STARTTLS\r\nEHLO a\r\nMAIL FROM:<ana@example.com>\r\n").unwrap();
    assert_eq!(smuggler.answer().unwrap().code, 220);
    // What was behind the command was said in clear, so nobody answers it before the handshake.
    smuggler.raw(b"NOOP\r\n").unwrap();
    assert!(smuggler.answer().is_err(), "text is answered where a handshake must be");
    still_works(&gateway, &hop);
}

#[test]
fn a_wrong_password_is_refused_and_a_right_one_is_not() {
    let hop = NextHop::start();
    let gateway = Gateway::start(Plan::for_next_hop(hop.port()));
    let swaks = |user: &str, secret: &str, mechanism: &str| {
        let mut command = Command::new(program("swaks"));
        command.args(["--server", "127.0.0.1", "--port", &gateway.starttls.to_string(), "--tls", "--auth", mechanism]);
        command.args(["--from", PERSON, "--to", "luis@example.org", "--auth-user", user, "--auth-password", secret]);
        let output = run(&mut command, b"");
        (output.status.success(), said(&output))
    };
    for (user, secret) in [(PERSON, "a-wrong-secret-of-twenty-two-characters"), ("nobody@example.com", SECRET), (PERSON, " ")] {
        let (success, text) = swaks(user, secret, "PLAIN");
        assert!(!success && text.contains("535 5.7.8 user name or password is wrong"), "{text}");
    }
    let (success, text) = swaks(PERSON, SECRET, "LOGIN");
    assert!(success, "{text}");
    assert!(hop.wait(Duration::from_secs(20), |taken| taken.len() == 1));
    let log = std::fs::read_to_string(gateway.path("gateway.log")).unwrap();
    assert!(log.contains("login refused") && !log.contains("secret-of-twenty-two"), "{log}");
}

#[test]
fn settings_that_do_not_exist_end_the_program_with_the_name_of_the_nearest() {
    let hop = NextHop::start();
    let gateway = Gateway::prepare(Plan::for_next_hop(hop.port()));
    let good = std::fs::read_to_string(gateway.path("sendero.toml")).unwrap();
    let refuse = |settings: &str, arguments: &[&str], words: &[&str]| {
        let file = write(gateway.path("bad.toml"), settings);
        let output = run(program_command(&file).args(arguments), b"");
        let text = said(&output);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {text}");
        for word in words {
            assert!(text.contains(word), "'{word}' is not said: {text}");
        }
    };
    for arguments in [&["serve"][..], &["config", "check"]] {
        refuse(&good.replace("retry =", "retri ="), arguments, &["bad.toml", "queue.retri", "retry"]);
        refuse(&good.replace("[queue]", "[qeue]"), arguments, &["bad.toml", "qeue", "queue"]);
        refuse(&good.replace("\"starttls\"", "\"startls\""), arguments, &["bad.toml", "starttls"]);
        refuse(&good.replace("\"1s\"", "\"one second\""), arguments, &["bad.toml", "queue.retry"]);
        refuse(&good.replace("hostname = \"gw.example.com\"", "hostname = \"not a name\""), arguments, &["bad.toml", "hostname"]);
        refuse(&good.replace("[http]", "[http"), arguments, &["bad.toml"]);
        refuse(&good.replace("127.0.0.0/8", "everybody"), arguments, &["bad.toml", "trusted"]);
    }
    let output = run(program_command(&gateway.path("nowhere.toml")).arg("serve"), b"");
    assert!(!output.status.success() && said(&output).contains("nowhere.toml"), "{}", said(&output));
    let mut command = program_command(&gateway.path("sendero.toml"));
    let output = run(command.args(["config", "check"]).env("SENDERO_QUEUE__MIN_FREI", "1GiB"), b"");
    assert!(said(&output).contains("SENDERO_QUEUE__MIN_FREI"), "{}", said(&output));
    assert!(!gateway.path("data").exists(), "a program that did not start made its folder");
}

#[test]
fn a_directory_file_that_is_wrong_changes_nothing() {
    let hop = NextHop::start();
    let mut gateway = Gateway::prepare(Plan::for_next_hop(hop.port()));
    let good = std::fs::read_to_string(gateway.path("directory.toml")).unwrap();
    let serve = |directory: &str| {
        let file = write(gateway.path("bad-directory.toml"), directory);
        let output = run(program_command(&gateway.path("sendero.toml")).args(["serve", "--apply"]).arg(file), b"");
        (output.status.code(), said(&output))
    };
    let (code, text) = serve(&good.replace("teams = [\"sales\"]", "teams = [\"slaes\"]"));
    assert!(code == Some(1) && text.contains("slaes"), "{text}");

    gateway.launch();
    gateway.wait_until_it_greets();
    let before = said(&gateway.ask(&["--output", "json", "channel", "show", "hop"]));
    for (directory, words) in [
        (good.replace("teams = [\"sales\"]", "teams = [\"slaes\"]"), "slaes"),
        (good.replace("owner = \"team:sales\"", "owner = \"team:nobody\""), "nobody"),
        (good.replace("person = \"ana@example.com\"", "person = \"luis@example.com\""), "luis@example.com"),
        (good.replace("transport = \"smtp\"", "transport = \"pigeon\""), "pigeon"),
        (good.replace("port = ", "prot = "), "'port'"),
        (good.replace("file:ana.token", "a-literal-secret-of-twenty-two-characters"), "file:PATH"),
        (good.replace("file:ana.token", "file:nowhere.token"), "nowhere.token"),
        (good.replace("\"8 connections\"", "\"10 messages / 1 jiffy\""), "is not a limit"),
        (good.replace("domains = [\"*\"]", "domains = [\"*\"]\npreset = \"gmail\""), "not in this version"),
        (good.replace("[[person]]", "[[preson]]"), "'person'"),
    ] {
        let file = write(gateway.path("bad-directory.toml"), directory);
        let output = gateway.ask(&["apply", &file.display().to_string()]);
        let text = said(&output);
        assert!(output.status.code() == Some(1) && text.contains(words), "'{words}' is not said: {text}");
        assert!(!text.contains("a-literal-secret"), "{text}");
    }
    assert_eq!(said(&gateway.ask(&["--output", "json", "channel", "show", "hop"])), before);
    still_works(&gateway, &hop);
}

#[test]
fn a_disk_without_space_refuses_for_a_while_and_loses_nothing() {
    let hop = NextHop::start();
    hop.behave(Manner { down: true, ..Manner::default() });
    let mut gateway = Gateway::start(Plan::for_next_hop(hop.port()));
    let text = message::numbered("before", 2000);
    let mut client = Submitter::connect(gateway.trusted).unwrap();
    assert!(client.submit(PERSON, &["before@example.org"], &text).unwrap().is_positive());
    drop(client);
    assert!(gateway.stop().0.success());

    let settings = std::fs::read_to_string(gateway.path("sendero.toml")).unwrap();
    write(gateway.path("sendero.toml"), settings.replace("min_free = \"16MiB\"", "min_free = \"900000GiB\""));
    gateway.launch();
    gateway.wait_until_it_greets();
    let mut client = Submitter::connect(gateway.trusted).unwrap();
    let answer = client.submit(PERSON, &["full@example.org"], &text).unwrap();
    assert!(answer.is(452, "4.3.1"), "{answer:?}");
    let (status, _) = post(gateway.http, "/api/v1/messages/raw?to=full@example.org", Some(SECRET), &text);
    assert_eq!(status, 507);
    // What was accepted before leaves all the same: its outcome has room.
    hop.behave(Manner::default());
    assert_eq!(hop.message_for("before@example.org").recipients, ["before@example.org"]);
    assert!(gateway.stop().0.success());

    write(gateway.path("sendero.toml"), settings);
    gateway.launch();
    gateway.wait_until_it_greets();
    still_works(&gateway, &hop);
    assert_eq!(hop.count(), 2);
}

#[test]
fn requests_without_a_token_or_sense_are_refused() {
    let hop = NextHop::start();
    let gateway = Gateway::start(Plan::for_next_hop(hop.port()));
    let text = message::numbered("by-http", 1000);
    let raw = "/api/v1/messages/raw?to=luis@example.org";
    let stranger = String::from_utf8(text.clone()).unwrap().replace("ana@example.com", "luis@example.org");
    for (path, token, body, status, words) in [
        (raw, None, &text[..], 401, "unauthenticated"),
        (raw, Some("a-wrong-token-of-twenty-two-characters"), &text[..], 401, "unauthenticated"),
        (raw, Some(SECRET), stranger.as_bytes(), 403, "sender_not_allowed"),
        (raw, Some(SECRET), b"no header\r\n", 422, "validation_failed"),
        (raw, Some(SECRET), b"From: ana@example.com\r\n\r\na\0b\r\n", 422, "validation_failed"),
        ("/api/v1/messages/raw?to=luis", Some(SECRET), &text[..], 422, "validation_failed"),
        ("/api/v1/apply", Some(SECRET), b"{}", 404, "not_found"),
        ("/api/v1/channels/hop/pause", Some(SECRET), b"", 404, "not_found"),
    ] {
        let (found, answer) = post(gateway.http, path, token, body);
        assert!(found == status && answer.contains(words), "{path}: {found} {answer}");
    }
    let (status, answer) = post(gateway.http, raw, Some(SECRET), &text);
    assert!(status == 202 && answer.contains("msg_"), "{status} {answer}");
    let taken = hop.message_for("luis@example.org");
    assert!(taken.bytes.ends_with(&text));
    still_works(&gateway, &hop);
    assert_eq!(hop.count(), 2);
}

/// A POST of a message; the status and everything behind it.
fn post(port: u16, path: &str, token: Option<&str>, body: &[u8]) -> (u16, String) {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let authorization = token.map(|token| format!("Authorization: Bearer {token}\r\n")).unwrap_or_default();
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n{authorization}Content-Type: message/rfc822\r\n\
         Content-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(body).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    (status, answer)
}

#[test]
fn commands_say_what_is_wrong_and_how_to_go_on() {
    let hop = NextHop::start();
    let mut gateway = Gateway::prepare(Plan::for_next_hop(hop.port()));
    for arguments in [&["status"][..], &["queue"], &["message", "list"], &["channel", "list"]] {
        let output = gateway.ask(arguments);
        assert_eq!(output.status.code(), Some(69), "{arguments:?}: {}", said(&output));
        assert!(said(&output).contains("sendero serve"), "{}", said(&output));
    }
    gateway.launch();
    gateway.wait_until_it_greets();
    for (arguments, code, words) in [
        (&["frobnicate"][..], 2, "frobnicate"),
        (&["message", "list", "--limit", "many"], 2, "--limit"),
        (&["message", "show", "msg_00000000000000000000000000"], 1, "msg_00000000000000000000000000"),
        (&["message", "show", "nonsense"], 1, "nonsense"),
        (&["channel", "show", "nowhere"], 1, "nowhere"),
        (&["message", "list", "--status", "lost"], 1, "status"),
        (&["send", "--from", "luis@example.org", "--to", "x@example.org", "--subject", "x", "--text", "x"], 1, "luis@example.org"),
        (&["send", "--from", PERSON, "--to", "no address", "--subject", "x", "--text", "x"], 1, "no address"),
        (&["send", "--from", PERSON, "--subject", "x", "--text", "x"], 1, "recipient"),
        (&["serve"], 1, "data"),
    ] {
        let output = gateway.ask(arguments);
        let text = said(&output);
        assert!(output.status.code() == Some(code) && text.contains(words), "{arguments:?} ended with {}: {text}", output.status);
    }
    assert!(gateway.ask(&["status"]).status.success());
    still_works(&gateway, &hop);
    assert_eq!(hop.count(), 1);
}
