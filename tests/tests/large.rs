//! Messages that are far larger than what the gateway may keep in memory.
#![allow(clippy::unwrap_used)]

use scenarios::gateway::{Gateway, PERSON, Plan, SECRET};
use scenarios::next_hop::{Manner, NextHop};
use scenarios::submitter::Submitter;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

const MIB: usize = 1 << 20;
/// The default of `limits.message_size`.
const LARGEST: usize = 50 * MIB;
const AT_ONCE: usize = 10;
const MOST_MEMORY: u64 = 100_000_000;
const PATIENCE: Duration = Duration::from_secs(120);

fn header(number: usize) -> String {
    format!("From: {PERSON}\r\nTo: {number:02}@example.org\r\nSubject: number {number:04}\r\n\r\n")
}

/// What follows the header, so that the message has this size: lines of an attachment, some with a dot in front.
fn rest(size: usize) -> Vec<u8> {
    let line = b".WFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFh\r\n";
    let mut rest = line.repeat((size - header(0).len()) / line.len());
    rest.resize(size - header(0).len() - 2, b'x');
    rest.extend_from_slice(b"\r\n");
    rest
}

/// The same on the wire, with the final dot.
fn stuffed(rest: &[u8]) -> Vec<u8> {
    let mut wire = Vec::with_capacity(rest.len() + rest.len() / 40);
    for line in rest.split_inclusive(|byte| *byte == b'\n') {
        if line.starts_with(b".") {
            wire.push(b'.');
        }
        wire.extend_from_slice(line);
    }
    wire.extend_from_slice(b".\r\n");
    wire
}

fn by_smtp(port: u16, number: usize, wire: &[u8]) {
    let mut client = Submitter::connect(port).unwrap();
    assert!(client.command("EHLO client.example").unwrap().is_positive());
    let size = format!(" SIZE={LARGEST}");
    let refusal = client.envelope(PERSON, &size, &[&format!("{number:02}@example.org")]).unwrap();
    assert!(refusal.is_none(), "{refusal:?}");
    assert_eq!(client.command("DATA").unwrap().code, 354);
    client.raw(header(number).as_bytes()).unwrap();
    client.raw(wire).unwrap();
    let answer = client.answer().unwrap();
    assert!(answer.is_positive(), "{answer:?}");
}

fn by_http(port: u16, number: usize, rest: &[u8]) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    let (header, path) = (header(number), "/api/v1/messages/raw");
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer {SECRET}\r\n\
         Content-Type: message/rfc822\r\nContent-Length: {}\r\n\r\n",
        header.len() + rest.len()
    );
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(header.as_bytes()).unwrap();
    stream.write_all(rest).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

/// Every message of these came whole, and nothing else.
fn all_came_whole(hop: &NextHop, numbers: std::ops::Range<usize>, rest: &[u8]) {
    assert!(hop.wait(PATIENCE, |taken| taken.len() >= numbers.end), "{} came", hop.count());
    hop.look(|taken| {
        for number in numbers {
            let mine: Vec<_> = taken.iter().filter(|message| message.recipients == [format!("{number:02}@example.org")]).collect();
            assert_eq!(mine.len(), 1, "number {number}");
            let expected = [header(number).as_bytes(), rest].concat();
            assert!(mine[0].bytes.ends_with(&expected), "number {number} is another");
            let added = mine[0].bytes.len() - expected.len();
            assert!(added < 1000 && mine[0].bytes.starts_with(b"Received: "), "{added} bytes in front");
        }
    });
}

fn files(gateway: &Gateway) -> usize {
    std::fs::read_dir(gateway.path("data/queue/bodies")).unwrap().count()
}

fn no_files_are_left(gateway: &Gateway) {
    let until = Instant::now() + Duration::from_secs(20);
    while files(gateway) > 0 {
        assert!(Instant::now() < until, "{} files of bodies are left", files(gateway));
        thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn ten_of_the_largest_messages_at_once_go_in_and_out_in_little_memory() {
    let hop = NextHop::start();
    // With the line that the gateway adds they are larger than this next hop would take.
    hop.behave(Manner { without: vec!["SIZE 52428800"], ..Manner::default() });
    let gateway = Gateway::start(Plan::for_next_hop(hop.port()));
    let rest = Arc::new(rest(LARGEST));
    let wire = stuffed(&rest);
    let began = Instant::now();
    thread::scope(|scope| {
        for number in 0..AT_ONCE {
            let (port, wire) = (gateway.trusted, &wire);
            scope.spawn(move || by_smtp(port, number, wire));
        }
    });
    let accepted = began.elapsed();
    all_came_whole(&hop, 0..AT_ONCE, &rest);
    let smtp = began.elapsed();
    let began = Instant::now();
    thread::scope(|scope| {
        for number in AT_ONCE..2 * AT_ONCE {
            let (port, rest) = (gateway.http, &rest);
            scope.spawn(move || {
                let answer = by_http(port, number, rest);
                assert!(answer.starts_with("HTTP/1.1 202"), "{answer}");
            });
        }
    });
    all_came_whole(&hop, AT_ONCE..2 * AT_ONCE, &rest);
    let peak = gateway.peak_memory();
    println!(
        "SENDERO-FIGURE large_messages={} peak_memory_mb={} accepted_s={:.1} smtp_s={:.1} http_s={:.1}",
        2 * AT_ONCE,
        peak / 1_000_000,
        accepted.as_secs_f64(),
        smtp.as_secs_f64(),
        began.elapsed().as_secs_f64()
    );
    assert!(peak < MOST_MEMORY, "{peak} bytes of memory");
    no_files_are_left(&gateway);
}

#[test]
fn a_client_that_goes_away_in_the_middle_leaves_nothing_and_one_byte_too_many_is_refused() {
    let hop = NextHop::start();
    let settings = "[limits]\nmessage_size = \"2MiB\"\n";
    let gateway = Gateway::start(Plan { further_settings: settings, ..Plan::for_next_hop(hop.port()) });
    let mut client = Submitter::connect(gateway.trusted).unwrap();
    client.command("EHLO client.example").unwrap();
    client.envelope(PERSON, "", &["luis@example.org"]).unwrap();
    client.command("DATA").unwrap();
    client.raw(&[header(0).as_bytes(), &rest(MIB)].concat()).unwrap();
    let until = Instant::now() + Duration::from_secs(20);
    while files(&gateway) == 0 {
        assert!(Instant::now() < until, "nothing is spooled");
        thread::sleep(Duration::from_millis(5));
    }
    drop(client);
    no_files_are_left(&gateway);

    let mut client = Submitter::connect(gateway.trusted).unwrap();
    let (largest, more) = (rest(2 * MIB), rest(2 * MIB + 1));
    let answer = client.submit(PERSON, &["00@example.org"], &[header(0).as_bytes(), &more].concat()).unwrap();
    assert_eq!((answer.code, answer.text.contains("5.3.4")), (552, true), "{answer:?}");
    let answer = by_http(gateway.http, 1, &more);
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
    let answer = client.submit(PERSON, &["00@example.org"], &[header(0).as_bytes(), &largest].concat()).unwrap();
    assert!(answer.is_positive(), "{answer:?}");
    all_came_whole(&hop, 0..1, &largest);
    no_files_are_left(&gateway);
}

#[test]
fn a_large_message_survives_a_kill_and_the_command_line_sends_and_shows_it() {
    let hop = NextHop::start();
    let mut gateway = Gateway::start(Plan::for_next_hop(hop.port()));
    hop.behave(Manner { down: true, ..Manner::default() });
    let rest = rest(3 * MIB);
    let message = [header(0).as_bytes(), &rest].concat();
    std::fs::write(gateway.path("letter.eml"), &message).unwrap();
    let letter = gateway.path("letter.eml");
    let sent = gateway.ask_json(&["send", "--file", letter.to_str().unwrap()]);
    let id = sent["message"]["id"].as_str().unwrap().to_owned();
    let mut client = Submitter::connect(gateway.trusted).unwrap();
    client.command("EHLO client.example").unwrap();
    client.envelope(PERSON, "", &["x@example.org"]).unwrap();
    client.command("DATA").unwrap();
    client.raw(&message).unwrap();
    gateway.kill();
    gateway.launch();
    gateway.wait_until_it_greets();
    assert_eq!(files(&gateway), 1, "what was not accepted was swept");
    let shown = gateway.ask(&["message", "show", &id, "--raw"]).stdout;
    assert!(shown.ends_with(&message));
    hop.behave(Manner::default());
    all_came_whole(&hop, 0..1, &rest);
    no_files_are_left(&gateway);
}
