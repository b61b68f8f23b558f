//! How long a page of a list takes: `lists [FOLDER] [OPEN] [HISTORY]`.
//!
//! Fills a queue in FOLDER (kept for the next run) with HISTORY messages that were sent and OPEN newer ones that wait,
//! 300,000 each unless said otherwise. Every 50,000th is rare in every field. Then it asks for 100 messages by each
//! filter: the newest page, one nine tenths down, what is rare, and what is not there at all. Prints milliseconds, the
//! best of three, with `*` where the search stopped early, and says so with the time by which it had come.

use bytes::Bytes;
use mail::{
    BodyType, ChannelId, Diagnostic, Envelope, Lane, MessageId, Move, PersonId, Recipient, RecipientState, Surface, TeamId,
};
use mail::{Timestamp, pace::FromId};
use smtp::{ForwardPath, ReversePath};
use std::error::Error;
use std::time::{Duration, Instant};
use store::embedded::{Embedded, Options};
use store::{AttemptRecord, Counted, Filter, Lease, NewMessage, Page, Queue, Settled, Settlement, Skip, Spending, Waits};

const BEGAN: Timestamp = Timestamp(1_795_593_600_000);
const AT_ONCE: u64 = 500;
const RARE: u64 = 50_000;

fn id(number: u64) -> MessageId {
    let mut random = [0; 10];
    random[2..].copy_from_slice(&number.to_be_bytes());
    MessageId::new(BEGAN.plus(Duration::from_millis(number)), random)
}

fn message(number: u64, body: &Bytes) -> Result<NewMessage, Box<dyn Error>> {
    let is_rare = number % RARE == RARE / 2;
    let at = BEGAN.plus(Duration::from_millis(number));
    let domain = if number.is_multiple_of(5) { "big.example".to_owned() } else { format!("d{}.example", number % 5_000) };
    let to = if is_rare { format!("<u{number}@rare.example>") } else { format!("<u{number}@{domain}>") };
    let few = |common: u64, rare: u32| if is_rare { rare } else { (number % common) as u32 + 1 };
    let author = if is_rare { "rare@example.com".to_owned() } else { format!("a{}@example.com", number % 50) };
    Ok(NewMessage {
        id: id(number),
        at,
        due: if is_rare { Timestamp(at.0 + 86_400_000) } else { at },
        person: PersonId(few(50, 900)),
        team: Some(TeamId(few(5, 900))),
        token: None,
        surface: Surface::Smtp,
        channel: ChannelId(few(3, 900)),
        lane: if is_rare { Lane::Now } else { Lane::Normal },
        lane_reason: String::new(),
        retry_of: None,
        suppressed: Vec::new(),
        envelope: Envelope {
            reverse_path: ReversePath::Null,
            recipients: vec![Recipient::new(ForwardPath::parse(&to)?)],
            body: BodyType::SevenBit,
            smtputf8: false,
            ret: None,
            envid: None,
        },
        from: author.clone(),
        author,
        subject: if is_rare { "Gro\u{df}e \u{dc}bersicht".to_owned() } else { format!("Order {number} has been shipped to you") },
        message_id: format!("{number}.1234567890@example.com"),
        tags: vec![("kind".into(), if is_rare { "rare" } else { "order" }.into())],
        idempotency: None,
        scheduled_at: None,
        expires_at: None,
        body: body.clone().into(),
    })
}

fn settlement(lease: &Lease) -> Settlement {
    let row = Settled {
        index: 0,
        to: if &*lease.author == "rare@example.com" { Move::Fail } else { Move::Send },
        due: lease.accepted_at,
        counts: true,
        said: Diagnostic { code: 250, enhanced: None, text: "2.0.0 Ok: queued as 1234567890".into() },
        cause: None,
        suppress: None,
    };
    let (message, channel, at) = (lease.message, lease.channel, lease.accepted_at);
    let relay = "mx.example.org[192.0.2.1]:25".into();
    Settlement { message, channel, at, relay, spending: Spending::Uncounted, recipients: vec![row] }
}

fn accept(queue: &Embedded, from: u64, to: u64) -> Result<(), Box<dyn Error>> {
    let body = Bytes::from_static(b"Subject: order\r\n\r\nIt is on its way.\r\n");
    for first in (from..to).step_by(AT_ONCE as usize) {
        let batch = (first..to.min(first + AT_ONCE)).map(|number| message(number, &body)).collect::<Result<Vec<_>, _>>()?;
        queue.accept(batch).wait()?;
    }
    Ok(())
}

fn relay(queue: &Embedded) -> Result<(), Box<dyn Error>> {
    let later = Timestamp(i64::MAX / 2);
    for channel in [1, 2, 3, 900].map(ChannelId) {
        for lane in [Lane::Now, Lane::Normal] {
            loop {
                let next = || queue.lease(channel, lane, later, u32::MAX, &Skip::default());
                let leases: Vec<Lease> = std::iter::from_fn(next).take(1000).collect();
                if leases.is_empty() {
                    break;
                }
                let record = |lease: &Lease| AttemptRecord { settle: Some(settlement(lease)), ..AttemptRecord::default() };
                let records: Vec<_> = leases.iter().map(|lease| queue.record(record(lease))).collect();
                for record in records {
                    record.wait()?;
                }
            }
        }
    }
    Ok(())
}

fn filters(total: u64) -> Vec<(&'static str, Filter, Filter)> {
    let all = Filter::default;
    let text = |text: &str| Some(text.to_owned());
    let at = |tenths: u64| Some(BEGAN.plus(Duration::from_millis(total * tenths / 10)));
    let states = |states: &[RecipientState]| Filter { states: states.to_vec(), ..all() };
    let waits = |is_meant: fn(&store::Waiting) -> bool| Filter { waits: Some(Waits::new(is_meant)), ..all() };
    let rare = FromId::of("rare@example.com");
    vec![
        ("everything", all(), all()),
        ("status queued / failed", states(&[RecipientState::Queued]), states(&[RecipientState::Failed])),
        ("status sent / held", states(&[RecipientState::Sent]), states(&[RecipientState::Held])),
        ("channel", Filter { channel: Some(ChannelId(2)), ..all() }, Filter { channel: Some(ChannelId(900)), ..all() }),
        ("person", Filter { person: Some(PersonId(7)), ..all() }, Filter { person: Some(PersonId(900)), ..all() }),
        ("team", Filter { team: Some(TeamId(2)), ..all() }, Filter { team: Some(TeamId(900)), ..all() }),
        ("lane", Filter { lane: Some(Lane::Normal), ..all() }, Filter { lane: Some(Lane::Now), ..all() }),
        ("from", Filter { author: text("a7@example.com"), ..all() }, Filter { author: text("rare@example.com"), ..all() }),
        (
            "recipient, domain",
            Filter { recipient: text("@big.example"), ..all() },
            Filter { recipient: text("@rare.example"), ..all() },
        ),
        (
            "recipient, address",
            Filter { recipient: Some(format!("u{}@big.example", total / 10 * 5)), ..all() },
            Filter { recipient: text("nobody@big.example"), ..all() },
        ),
        ("created_after, _before", Filter { before: at(5), ..all() }, Filter { after: at(1), before: at(2), ..all() }),
        (
            "waiting_on",
            waits(|one| one.due <= Timestamp(i64::MAX / 4)),
            Filter { waits: Some(Waits::new(move |one| one.from == rare)), ..all() },
        ),
        ("subject", Filter { subject: text("ORDER"), ..all() }, Filter { subject: text("\u{fc}BERSICHT"), ..all() }),
        (
            "tag",
            Filter { tags: vec![("kind".into(), "order".into())], ..all() },
            Filter { tags: vec![("kind".into(), "rare".into())], ..all() },
        ),
        (
            "channel and subject",
            Filter { channel: Some(ChannelId(2)), subject: text("order"), ..all() },
            Filter { channel: Some(ChannelId(900)), subject: text("\u{fc}ber"), ..all() },
        ),
    ]
}

fn timed(queue: &Embedded, filter: &Filter, after: Option<MessageId>) -> Result<String, Box<dyn Error>> {
    let mut best = f64::MAX;
    let mut found = String::new();
    for _ in 0..3 {
        let began = Instant::now();
        let listing = queue.list(filter, &Page { after, before: None, limit: 100 })?;
        best = best.min(began.elapsed().as_secs_f64() * 1000.0);
        found = format!("{}{}", listing.messages.len(), if listing.stopped.is_some() { "*" } else { "" });
    }
    Ok(format!("{best:8.1} ms {found:>5}"))
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let folder = arguments.next().unwrap_or_else(|| "lists-bench".into());
    let mut count = || arguments.next().map_or(Ok(300_000), |text| text.parse::<u64>());
    let (open, history) = (count()?, count()?);
    let queue = Embedded::open(Options { min_free: 0, ..Options::new(folder, BEGAN) })?;
    let (began, total) = (Instant::now(), open + history);
    if queue.totals().accepted == 0 {
        accept(&queue, 0, history)?;
        relay(&queue)?;
        accept(&queue, history, total)?;
        println!("filled with {total} messages in {:.0} s", began.elapsed().as_secs_f64());
    }
    let deep = Some(id(total / 10));
    println!("{:<24} {:>17} {:>17} {:>17}", "filter", "newest", "deep", "rare");
    for (name, common, rare) in filters(total) {
        let newest = timed(&queue, &common, None)?;
        let further = timed(&queue, &common, deep)?;
        println!("{name:<24} {newest:>17} {further:>17} {:>17}", timed(&queue, &rare, None)?);
    }
    let began = Instant::now();
    let counts = queue.counts(&Counted { channel: Some(ChannelId(2)), ..Counted::default() })?;
    println!("counts of a channel      {:8.1} ms {}", began.elapsed().as_secs_f64() * 1000.0, counts.iter().sum::<u64>());
    queue.close();
    Ok(())
}
