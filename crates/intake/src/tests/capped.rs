//! Caps of open mail, and sizes that channels do not take: said as early as may be.

use super::sockets::{listen, trusted};
use super::world::*;
use crate::accept::{ExplicitWishes, Intake, IntakeSettings, NextHops, Principal};
use crate::caps::Caps;
use crate::door::{Deadlines, Door};
use crate::listener::Mode;
use crate::refusal::AcceptRefusal;
use mail::{Channel, Lane, Move, Surface};
use smtp::Reply;
use std::sync::{Arc, Mutex};
use store::model::Model;
use store::{Holder, MailCaps, OpenMail, Queue, Steer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Largest messages of next hops: of the office, and of every other.
#[derive(Default)]
struct Announced(Mutex<(Option<u64>, Option<u64>)>);

impl NextHops for Announced {
    fn max_size(&self, channel: &Channel) -> Option<u64> {
        let (office, others) = *self.0.lock().unwrap();
        if channel.id == OFFICE { office } else { others }
    }
}

/// A world whose queue counts what is open.
struct Capped {
    queue: Arc<Model>,
    announced: Arc<Announced>,
    world: World,
}

impl Capped {
    fn new(caps: MailCaps) -> Self {
        let queue = Arc::new(Model::capped(caps));
        let announced = Arc::new(Announced::default());
        let settings =
            IntakeSettings { hostname: "gw.example".into(), max_message_size: 4096, max_recipients: 3, hash_addresses: false };
        let intake = Intake::new(Arc::clone(&queue) as _, people(), settings, Arc::new(Noon)).knowing(Arc::clone(&announced) as _);
        let (intake, connections) = (Arc::new(intake), Caps::new(1000, 50));
        let world = world();
        let door = Door::new(Arc::clone(&intake), Arc::clone(&world.door.tls), connections, Deadlines::for_size(4096));
        Self { queue, announced, world: World { intake, door, ..world } }
    }

    /// Ana sends a message in this lane, under a key if there is one.
    async fn send(&self, lane: Lane, key: Option<&str>) -> Result<bool, AcceptRefusal> {
        let wishes = ExplicitWishes { lane: Some(lane), idempotency_key: key.map(str::to_owned), ..ExplicitWishes::default() };
        let incoming = crate::accept::Incoming { wishes, ..incoming(Surface::Http, MESSAGE) };
        self.world.intake.accept(incoming).await.map(|receipt| receipt.replayed)
    }
}

fn messages(messages: u64) -> OpenMail {
    OpenMail { messages, bytes: u64::MAX }
}

const ANAS: Principal = Principal { person: ANA, token: Some(TOKEN) };

#[tokio::test]
async fn over_a_cap_a_submission_is_put_off_with_the_cap_how_much_is_open_and_what_to_do() {
    let bed = Capped::new(MailCaps { person: messages(2), ..MailCaps::default() });
    bed.send(Lane::Bulk, None).await.unwrap();
    bed.send(Lane::Bulk, None).await.unwrap();
    let refusal = bed.send(Lane::Bulk, None).await.unwrap_err();
    let answer = (refusal.code(), refusal.http_status(), refusal.is_permanent());
    assert_eq!(answer, ("gateway_rate_limited", 429, false));
    assert_eq!(
        Reply::from(&refusal).to_string(),
        "451 4.7.1 ana@example.com has 2 messages of mail that has not left, and may have 2 (queue.open_messages_per_person); \
         send it again when some has left. 'sendero message list --person ana@example.com --status queued --status leased --status held' \
         shows what waits; your administrator can raise the limit"
    );
    assert_eq!(bed.world.intake.counters().read().deferred, 1);
}

#[tokio::test]
async fn a_cap_is_told_before_the_message_comes_and_no_longer_once_some_has_left() {
    let bed = Capped::new(MailCaps { token: OpenMail { messages: 9, bytes: 700 }, ..MailCaps::default() });
    bed.send(Lane::Now, None).await.unwrap();
    let open = bed.queue.open_mail(Holder::Token(TOKEN)).bytes;
    assert!(bed.world.intake.begin(ANAS, Some(700 - open)).await.is_ok());
    let refusal = bed.world.intake.begin(ANAS, Some(701 - open)).await.unwrap_err();
    assert!(refusal.to_string().starts_with("token 'laptop' of ana@example.com has "), "{refusal}");
    let nobody_else = Principal { person: HOST, token: None };
    assert!(bed.world.intake.begin(nobody_else, Some(4000)).await.is_ok());
    let page = store::Page { after: None, before: None, limit: 1 };
    let message = bed.queue.list(&store::Filter::default(), &page).unwrap().messages[0].id;
    let order = Steer { message, recipients: vec![], to: Move::Cancel, channel: None, by: "ana".into(), at: mail::Timestamp(1) };
    bed.queue.steer(order).await.unwrap();
    assert!(bed.world.intake.begin(ANAS, Some(4000)).await.is_ok());
}

#[tokio::test]
async fn what_was_accepted_under_its_key_is_never_put_off() {
    let bed = Capped::new(MailCaps { token: messages(1), ..MailCaps::default() });
    assert_eq!(bed.send(Lane::Now, Some("one")).await, Ok(false));
    assert!(bed.world.intake.begin(ANAS, None).await.is_ok(), "it may be the same message again");
    assert_eq!(bed.send(Lane::Now, Some("one")).await, Ok(true));
    assert_eq!(bed.send(Lane::Now, Some("two")).await.unwrap_err().code(), "gateway_rate_limited");
}

#[tokio::test]
async fn bulk_of_a_member_leaves_the_team_room_for_urgent_mail_and_for_the_others() {
    let bed = Capped::new(MailCaps { team: messages(20), ..MailCaps::default() });
    for _ in 0..19 {
        bed.send(Lane::Bulk, None).await.unwrap();
    }
    let refusal = bed.send(Lane::Bulk, None).await.unwrap_err().to_string();
    assert!(
        refusal.contains("team 'sales' has 19 messages") && refusal.contains("kept for urgent mail and for members"),
        "{refusal}"
    );
    let hosts = crate::accept::Incoming {
        principal: Principal { person: HOST, token: None },
        envelope: envelope("host@example.com", &["luis@example.org"]),
        submitted: MESSAGE.replace("ana@", "host@").into_bytes().into(),
        ..incoming(Surface::Cli, MESSAGE)
    };
    assert!(refusal.contains("'sendero message list --team \"sales\" --status queued --status leased --status held'"), "{refusal}");
    bed.world.intake.accept(hosts).await.unwrap();
    let full = bed.send(Lane::Now, None).await.unwrap_err().to_string();
    assert!(full.contains("has 20 messages") && !full.contains("kept"), "{full}");
}

#[tokio::test]
async fn a_retry_by_a_person_is_refused_with_the_reason_unless_it_was_accepted_before() {
    let bed = Capped::new(MailCaps { person: messages(1), ..MailCaps::default() });
    let repeat = crate::accept::Repeat {
        principal: ANAS,
        surface: Surface::Http,
        of: mail::MessageId([7; 16]),
        channel: "ana-mailbox".into(),
        lane: Lane::Now,
        lane_reason: "asked for".into(),
        tags: vec![],
        envelope: envelope("ana@example.com", &["luis@example.org"]),
        body: MESSAGE.as_bytes().to_vec().into(),
    };
    assert!(!bed.world.intake.repeat(repeat.clone()).await.unwrap().replayed);
    assert!(bed.world.intake.repeat(repeat.clone()).await.unwrap().replayed);
    let other = crate::accept::Repeat { of: mail::MessageId([8; 16]), ..repeat };
    let refusal = bed.world.intake.repeat(other).await.unwrap_err();
    assert!(refusal.to_string().contains("queue.open_messages_per_person"), "{refusal}");
}

#[tokio::test]
async fn a_size_that_no_channel_takes_is_told_before_the_message_comes_and_one_that_some_takes_is_not() {
    let bed = Capped::new(MailCaps::default());
    let told = |office, others| *bed.announced.0.lock().unwrap() = (office, others);
    for (office, others, size, refused) in [
        (None, None, Some(4000), None),
        (Some(1000), None, Some(4000), None),
        (Some(1000), Some(3000), Some(3000), None),
        (Some(1000), Some(3000), Some(3001), Some("552 5.3.4 the server behind channel 'ana-mailbox' takes at most 3000 bytes")),
        (Some(1000), Some(900), Some(3001), Some("552 5.3.4 the server behind channel 'office' takes at most 1000 bytes")),
        (Some(1000), Some(900), None, None),
    ] {
        told(office, others);
        let answer = bed.world.intake.begin(ANAS, size).await.map_err(|refusal| Reply::from(&refusal).to_string());
        match refused {
            None => assert_eq!(answer, Ok(())),
            Some(start) => assert!(answer.as_ref().is_err_and(|reply| reply.starts_with(start)), "{answer:?}"),
        }
    }
    // Ana's mailbox is chosen, whatever the office takes: the same is said at the end of the data.
    told(None, Some(50));
    let refusal = bed.send(Lane::Normal, None).await.unwrap_err();
    assert_eq!((refusal.code(), refusal.http_status()), ("message_too_large", 413));
}

#[tokio::test]
async fn a_client_is_told_at_mail_and_its_session_goes_on() {
    let caps = MailCaps { person: OpenMail { messages: 2, bytes: 3000 }, ..MailCaps::default() };
    let bed = Capped::new(caps);
    *bed.announced.0.lock().unwrap() = (Some(2000), Some(2000));
    let running = listen(&bed.world, Mode::Clear, trusted("127.0.0.0/8")).await;
    let mut stream = TcpStream::connect(running.address).await.unwrap();
    let message = "RCPT TO:<luis@example.org>\r\nDATA\r\nFrom: host@example.com\r\n\r\nhi\r\n.\r\n";
    let from = "MAIL FROM:<host@example.com> SIZE";
    let said =
        format!("EHLO c\r\n{from}=2001\r\n{from}=9\r\n{message}{from}=2900\r\nRSET\r\n{from}=9\r\n{message}{from}=9\r\nQUIT\r\n");
    stream.write_all(said.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let last: Vec<&str> =
        answer.lines().filter(|line| line.get(3..4) == Some(" ")).map(|line| line.get(..9).unwrap_or(line)).collect();
    let brief = last.join(" | ");
    let taken = "250 2.1.0 | 250 2.1.5 | 354 end w | 250 2.0.0";
    let expected = ["220 gw.ex", "250 DSN", "552 5.3.4", taken, "552 5.3.4", "250 2.0.0", taken, "451 4.7.1", "221 2.0.0"];
    assert_eq!(brief, expected.join(" | "), "{answer}");
    running.stop().await;
}
