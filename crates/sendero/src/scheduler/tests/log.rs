//! The delivery log.

use super::*;
use intake::IntakeSettings;
use std::io;
use tracing::subscriber::DefaultGuard;

#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Lines {
    /// What this thread logs from now on.
    fn listen() -> (Self, DefaultGuard) {
        let lines = Self::default();
        let writer = lines.clone();
        let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
        (lines, tracing::subscriber::set_default(subscriber))
    }

    /// The lines about deliveries.
    fn deliveries(&self) -> Vec<String> {
        self.about(" delivery: ")
    }

    fn about(&self, target: &str) -> Vec<String> {
        let text = String::from_utf8(self.0.lock().unwrap().clone()).unwrap();
        text.lines().filter(|line| line.contains(target)).map(str::to_owned).collect()
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_kept_or_held_has_a_line_that_says_so_with_the_reply() {
    let world = World::held_to(&["1 connections"]);
    let (log, _listening) = Lines::listen();
    let expect = |status: &str, attempt: u32, reply: &str| {
        let lines = log.deliveries();
        let line = lines.last().cloned().unwrap_or_default();
        let wanted =
            [format!("status=\"{status}\""), format!("attempt={attempt}"), format!("reply={reply}"), "queue.id=msg_".into()];
        assert!(wanted.iter().all(|part| line.contains(part)), "{status}: {lines:?}");
    };
    world.says(Stage::FinalDot, 550, "5.4.5 Daily user sending quota exceeded");
    let kept = world.submit(1, ANA).await;
    world.after(2).await;
    let events = world.queue.events_of(kept, 0, 100).unwrap();
    assert_eq!(events.last().map(|event| event.kind.name()), Some("message.kept"));
    expect("kept", 0, "550 5.4.5 Daily user sending quota exceeded");
    world.says(Stage::Mail, 550, "5.7.60 SMTP; Client does not have permissions to send as this sender");
    world.after(3600).await;
    expect("held", 0, "550 5.7.6");
    world.says(Stage::Rcpt, 550, "5.1.1 user unknown");
    world.scheduler.steer(world.channel(), ChannelMove::Resume).await;
    world.submit(2, "sales@example.com").await;
    world.after(2).await;
    expect("failed", 1, "550 5.1.1 user unknown");
}

#[tokio::test(start_paused = true)]
async fn an_address_on_the_list_is_told_in_the_log_and_by_a_report() {
    use intake::accept::Suppressed as _;
    let world = World::new();
    let (log, _listening) = Lines::listen();
    let told = Suppressed {
        hostname: "gw.example.com".into(),
        notices: Some(Notices { channel: "reports".into(), from: smtp::Mailbox::parse("reports@example.com").unwrap() }),
        directory: world.directory.clone(),
        hash_addresses: false,
    };
    let ana = ReversePath::parse("<ana@example.com>").unwrap();
    let id = MessageId::new(world.now(), [1; 10]);
    let message = NewMessage { suppressed: vec![0], ..world.message(id, ANA, ana, "gone@example.org") };
    let report = told.report(&message).expect("its submitter is told");
    assert_eq!(report.envelope.recipients[0].path.to_string(), "ana@example.com");
    let text = String::from_utf8(report.body.head().to_vec()).unwrap();
    assert!(text.contains("Final-Recipient: rfc822;gone@example.org") && text.contains("suppression remove"), "{text}");
    told.log(&message);
    let lines = log.deliveries();
    let parts = ["status=\"suppressed\"", "to=gone@example.org", "list of addresses", &id.to_string()];
    assert!(lines.len() == 1 && parts.iter().all(|part| lines[0].contains(part)), "{lines:?}");
}

fn door(world: &World, hash_addresses: bool) -> intake::Intake {
    let settings =
        IntakeSettings { hostname: "gw.example.com".into(), max_message_size: 1 << 20, max_recipients: 9, hash_addresses };
    let clock = Arc::new(crate::steady::Steady::default());
    intake::Intake::new(world.queue.clone(), world.directory.clone(), settings, clock)
}

#[tokio::test(start_paused = true)]
async fn a_retry_and_what_is_refused_while_it_comes_in_have_such_a_line_too() {
    let world = World::new();
    let (log, _listening) = Lines::listen();
    let intake = door(&world, false);
    let intake::Incoming { principal, envelope, .. } = pains::gateway::incoming(1, Lane::Normal);
    let told = |parts: &[&str]| {
        let line = log.about(" submission: ").pop().unwrap_or_default();
        let all = ["person=ana@example.com"].iter().chain(parts).all(|part| line.contains(part));
        assert!(all, "wanted {parts:?} in: {line}");
    };
    let of = MessageId::new(world.now(), [1; 10]);
    let retry = async |channel: &str| {
        let repeat = intake::Repeat {
            principal,
            surface: Surface::Http,
            of,
            channel: channel.to_owned(),
            lane: Lane::Normal,
            lane_reason: "default".into(),
            tags: Vec::new(),
            envelope: envelope.clone(),
            body: format!("From: {ANA}\r\nTo: luis@example.org\r\n\r\nHello.\r\n").into_bytes().into(),
        };
        let _ = intake.repeat(repeat).await;
    };
    let directory = world.directory.directory();
    retry(&directory.channel(world.channel()).unwrap().name).await;
    told(&["submission accepted", "surface=Http", "queue.id=msg_", "recipients=1"]);
    retry("gone").await;
    told(&["submission refused", "surface=Http", "code=", "gone"]);
    let peer = Some("192.0.2.7".parse().unwrap());
    let refusal = intake::AcceptRefusal::Mail(mail::resolve::Refusal::OddBytes);
    intake.refused(intake::Source { principal, surface: Surface::Smtp, peer, envelope: None }, &refusal);
    told(&["submission refused", "surface=Smtp", "peer.address=192.0.2.7", "code=\"validation_failed\"", &refusal.to_string()]);
    let counts = intake.counters().read();
    assert_eq!((counts.accepted, counts.refused), (1, 2));
}

#[tokio::test(start_paused = true)]
async fn a_submission_has_a_line_that_says_whose_it_is_whether_taken_or_refused() {
    let world = World::new();
    let (log, _listening) = Lines::listen();
    let submit = async |hash_addresses: bool, author: &str| {
        let intake = door(&world, hash_addresses);
        let mut incoming = pains::gateway::incoming(1, Lane::Normal);
        incoming.trace.peer = Some("192.0.2.7".parse().unwrap());
        incoming.submitted = format!("From: {author}\r\nTo: luis@example.org\r\n\r\nHello.\r\n").into_bytes().into();
        let _ = intake.accept(incoming).await;
        log.about(" submission: ").pop().unwrap_or_default()
    };
    let has = |line: &str, parts: &[&str]| assert!(parts.iter().all(|part| line.contains(part)), "wanted {parts:?} in: {line}");
    let taken =
        ["submission accepted", "queue.id=msg_", "peer.address=192.0.2.7", "person=ana@example.com", "recipients=1", "size="];
    has(&submit(false, ANA).await, &taken);
    has(&submit(false, "ana@example.net").await, &["submission refused", "person=ana@example.com", "code=", "ana@example.net"]);
    for author in [ANA, "ana@example.net"] {
        let line = submit(true, author).await;
        assert!(line.contains("person=") && !line.contains("example"), "{line}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_expires_has_a_line_although_nothing_was_tried() {
    let world = World::new();
    world.scheduler.steer(world.channel(), ChannelMove::Pause { by: "ana".into() }).await;
    let (log, _listening) = Lines::listen();
    let mut message = world.message(MessageId::new(world.now(), [1; 10]), ANA, ReversePath::Null, "luis@example.org");
    message.expires_at = Some(world.now().plus(Duration::from_secs(60)));
    world.queue.accept(vec![message]).await.unwrap();
    world.after(61).await;
    let lines = log.deliveries();
    let wanted = ["status=\"expired\"", "attempt=0", "to=luis@example.org", "channel.name=\"mailbox\"", "waited_ms=60"];
    assert!(matches!(&lines[..], [line] if wanted.iter().all(|part| line.contains(part))), "{lines:?}");
}
