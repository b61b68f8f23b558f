//! What depends on time, on a clock that jumps.

use super::world::*;
use crate::accept::Principal;
use crate::caps::Caps;
use crate::connection::{Connection, serve};
use crate::door::Deadlines;
use smtp::sasl::{Credentials, plain_response};
use smtp::server::ServerConfig;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

struct Client {
    stream: DuplexStream,
    stop: CancellationToken,
    served: JoinHandle<()>,
}

/// A client of a listener that trusts the host, or of one behind TLS.
fn connect(world: &World, trusted: bool) -> Client {
    let config = Arc::new(ServerConfig {
        hostname: "gw.example".into(),
        max_message_size: world.intake.settings().max_message_size,
        whole_up_to: store::WHOLE_UP_TO,
        max_recipients: 3,
        tls_available: false,
        announce_dsn: false,
    });
    let principal = trusted.then_some(Principal { person: HOST, token: None });
    let stop = CancellationToken::new();
    let connection = Connection::new(Arc::clone(&world.door), config, Some([192, 0, 2, 1].into()), principal, stop.clone());
    let (stream, theirs) = duplex(64 * 1024);
    let served = tokio::spawn(async move { drop(serve(connection, theirs, !trusted).await) });
    Client { stream, stop, served }
}

impl Client {
    async fn say(&mut self, text: &str) {
        self.stream.write_all(text.as_bytes()).await.unwrap();
    }

    /// Everything up to the text, or up to the end.
    async fn until(&mut self, text: &str) -> String {
        let mut seen = String::new();
        let mut buffer = [0; 1024];
        while !seen.contains(text) {
            match self.stream.read(&mut buffer).await.unwrap() {
                0 => break,
                bytes => seen.push_str(std::str::from_utf8(&buffer[..bytes]).unwrap()),
            }
        }
        seen
    }

    /// The rest, when the other side has closed.
    async fn rest(mut self) -> String {
        let mut rest = String::new();
        self.stream.read_to_string(&mut rest).await.unwrap();
        self.served.await.unwrap();
        rest
    }
}

const BEGIN: &str = "EHLO c\r\nMAIL FROM:<ana@example.com>\r\nRCPT TO:<l@example.org>\r\nDATA\r\n";

#[tokio::test(start_paused = true)]
async fn a_silent_client_is_sent_away_after_five_minutes() {
    let world = world();
    let client = connect(&world, true);
    let start = Instant::now();
    assert!(client.rest().await.contains("421 4.4.2"));
    assert_eq!(start.elapsed().as_secs(), 300);
}

#[tokio::test(start_paused = true)]
async fn a_command_that_trickles_in_gets_no_further_time() {
    let world = world();
    let mut client = connect(&world, true);
    client.until("220").await;
    let start = Instant::now();
    for _ in 0..5 {
        client.say("N").await;
        tokio::time::advance(Duration::from_secs(59)).await;
    }
    assert!(client.rest().await.contains("421 4.4.2"));
    assert_eq!(start.elapsed().as_secs(), 300);
}

#[tokio::test(start_paused = true)]
async fn a_message_that_stalls_is_cut_off_after_a_minute_and_not_kept() {
    let world = world();
    let mut client = connect(&world, true);
    client.say(BEGIN).await;
    client.until("a dot\r\n").await;
    client.say("From: ana@example.com\r\n\r\nhalf a").await;
    let start = Instant::now();
    assert!(client.rest().await.contains("421 4.4.2"));
    assert!((60..=61).contains(&start.elapsed().as_secs()));
    assert!(world.queue.kept().is_empty());
}

#[tokio::test(start_paused = true)]
async fn guessing_is_slowed_and_ends_the_connection_while_the_owner_signs_in_at_once() {
    let world = world();
    let auth = |user: &str, secret: &[u8]| format!("AUTH PLAIN {}\r\n", plain_response(&Credentials::new(user, secret)));
    let mut waits = Vec::new();
    for _ in 0..2 {
        let mut guesser = connect(&world, false);
        guesser.say("EHLO c\r\n").await;
        guesser.until("250 ").await;
        let mut said = String::new();
        for _ in 0..3 {
            let start = Instant::now();
            guesser.say(&auth("ana@example.com", b"wrong")).await;
            said = guesser.until("\r\n").await;
            assert!(said.starts_with("535 5.7.8"), "{said}");
            waits.push(start.elapsed().as_secs());
        }
        said.push_str(&guesser.rest().await);
        assert!(said.contains("421 4.7.0"), "{said}");
    }
    // The account answers late, and what is then left of the address's wait comes before the next try.
    assert_eq!(waits, [0, 0, 1 + 1, 1 + 2, 2 + 4, 4 + 8]);
    assert_eq!(world.intake.counters().read().logins_failed, 6);

    let elsewhere = {
        let site = Some([198, 51, 100, 1].into());
        let start = Instant::now();
        let principal = world.door.verify(&Credentials::new("ana@example.com", SECRET), site).await.unwrap();
        assert_eq!(principal, Principal { person: ANA, token: Some(TOKEN) });
        start.elapsed()
    };
    assert_eq!(elsewhere, Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn whoever_guesses_behind_an_address_keeps_nobody_there_out() {
    let world = world();
    let site = Some([198, 51, 100, 1].into());
    let mut refused_at_once = 0;
    let wrong = Credentials::new("ana@example.com", b"wrong".to_vec());
    for _ in 0..40 {
        let reply = world.door.verify(&wrong, site);
        // Guesses that nobody waits for still fill the line of that address.
        refused_at_once += usize::from(tokio::time::timeout(Duration::from_millis(1), reply).await.is_ok());
    }
    assert!(refused_at_once > 0);
    let start = Instant::now();
    assert!(world.door.verify(&Credentials::new("ana@example.com", SECRET), site).await.is_ok());
    assert_eq!(start.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn whoever_does_not_sign_in_is_sent_away_after_a_minute() {
    let world = world();
    let client = connect(&world, false);
    let start = Instant::now();
    assert!(client.rest().await.contains("421 4.4.2"));
    assert_eq!(start.elapsed().as_secs(), 60);
}

#[tokio::test(start_paused = true)]
async fn an_unknown_name_and_a_wrong_secret_get_the_same_answer_in_the_same_time() {
    let mut answers = Vec::new();
    for user in ["ana@example.com", "nobody@example.com"] {
        let world = world();
        let mut told = Vec::new();
        for _ in 0..5 {
            let start = Instant::now();
            let reply =
                world.door.verify(&Credentials::new(user, b"wrong".to_vec()), Some([192, 0, 2, 1].into())).await.unwrap_err();
            told.push((reply.to_string(), start.elapsed().as_millis()));
        }
        answers.push(told);
    }
    assert_eq!(answers[0], answers[1]);
}

#[tokio::test(start_paused = true)]
async fn a_stop_sends_the_idle_away_and_lets_a_message_finish() {
    let world = world();
    let idle = connect(&world, true);
    let mut busy = connect(&world, true);
    busy.say(BEGIN).await;
    busy.until("a dot\r\n").await;
    busy.say("From: ana@example.com\r\n\r\nha").await;
    idle.stop.cancel();
    busy.stop.cancel();
    assert!(idle.rest().await.contains("421 4.3.2"));
    tokio::time::advance(Duration::from_secs(10)).await;
    busy.say("lf\r\n.\r\n").await;
    let rest = busy.rest().await;
    assert!(rest.starts_with("250 2.0.0 queued as msg_") && rest.contains("421 4.3.2"), "{rest}");
    assert!(world.queue.last().body.head().ends_with(b"half\r\n"));
}

#[tokio::test(start_paused = true)]
async fn a_stop_waits_twenty_seconds_for_a_message_and_no_longer() {
    let world = world_with(Caps::new(10, 10), Deadlines::for_size(4096));
    let mut client = connect(&world, true);
    client.say(BEGIN).await;
    client.until("a dot\r\n").await;
    let start = Instant::now();
    client.stop.cancel();
    assert!(client.rest().await.contains("421 4.3.2"));
    assert!((20..=21).contains(&start.elapsed().as_secs()));
}

#[tokio::test(start_paused = true)]
async fn no_250_leaves_before_the_disk_has_answered() {
    let world = world();
    world.queue.will(Will::Hold);
    let mut client = connect(&world, true);
    client.say(BEGIN).await;
    client.until("a dot\r\n").await;
    client.say("From: ana@example.com\r\n\r\nhi\r\n.\r\nNOOP\r\n").await;
    world.queue.came.notified().await;
    // An hour of virtual time: the disk is slow, and nothing is said meanwhile.
    let early = tokio::time::timeout(Duration::from_secs(3600), client.until("\r\n")).await;
    assert!(early.is_err(), "{early:?}");
    world.queue.let_go();
    let after = client.until("250 2.0.0 ok").await;
    assert!(after.starts_with("250 2.0.0 queued as msg_"), "{after}");
}

#[tokio::test(start_paused = true)]
async fn a_disk_without_space_is_told_as_452_and_the_session_goes_on() {
    let world = world();
    world.queue.will(Will::Refuse(store::AcceptError::NoSpace("floor".into())));
    let mut client = connect(&world, true);
    client.say(BEGIN).await;
    client.until("a dot\r\n").await;
    client.say("From: ana@example.com\r\n\r\nhi\r\n.\r\n").await;
    assert!(client.until("\r\n").await.starts_with("452 4.3.1"));
    world.queue.will(Will::Keep);
    client.say(BEGIN).await;
    client.until("a dot\r\n").await;
    client.say("From: ana@example.com\r\n\r\nhi\r\n.\r\nQUIT\r\n").await;
    assert!(client.rest().await.contains("queued as msg_"));
    assert_eq!(world.queue.kept().len(), 1);
}
