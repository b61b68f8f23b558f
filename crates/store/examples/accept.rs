//! How many messages a second the queue takes and relays: `accept [FOLDER] [SECONDS]`.
//!
//! 16 threads submit 10 KiB each and wait until it is durable; one thread leases, records an intent
//! and settles, as connections do. Prints rates and the CPU time they took.

use bytes::Bytes;
use mail::{BodyType, ChannelId, Diagnostic, Envelope, Lane, MessageId, Move, PersonId, Recipient, Surface, Timestamp};
use smtp::{ForwardPath, ReversePath};
use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};
use store::embedded::{Embedded, Options};
use store::{AttemptRecord, Intent, Lease, NewMessage, Queue, Settled, Settlement};

const CHANNEL: ChannelId = ChannelId(1);
const BODY_BYTES: usize = 10 * 1024;

fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Timestamp(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

fn message(number: u64, body: &Bytes, to: &ForwardPath) -> NewMessage {
    let at = now();
    let mut random = [0; 10];
    random[2..].copy_from_slice(&number.to_be_bytes());
    NewMessage {
        id: MessageId::new(at, random),
        at,
        due: at,
        person: PersonId(1),
        team: None,
        token: None,
        surface: Surface::Smtp,
        channel: CHANNEL,
        lane: Lane::Normal,
        lane_reason: String::new(),
        retry_of: None,
        suppressed: Vec::new(),
        envelope: Envelope {
            reverse_path: ReversePath::Null,
            recipients: vec![Recipient::new(to.clone())],
            body: BodyType::SevenBit,
            smtputf8: false,
            ret: None,
            envid: None,
        },
        author: "ana@example.com".into(),
        from: "ana@example.com".into(),
        subject: "a subject of an ordinary length".into(),
        message_id: format!("{number}.1234567890@example.com"),
        tags: Vec::new(),
        idempotency: None,
        scheduled_at: None,
        expires_at: None,
        body: body.clone().into(),
    }
}

fn settlement(lease: &Lease) -> Settlement {
    let row = Settled {
        index: 0,
        to: Move::Send,
        due: now(),
        counts: true,
        said: Diagnostic { code: 250, enhanced: None, text: "2.0.0 Ok: queued as 1234567890".into() },
        cause: None,
        suppress: None,
    };
    Settlement {
        message: lease.message,
        channel: CHANNEL,
        at: now(),
        relay: "mx.example.org[192.0.2.1]:25".into(),
        spending: store::Spending::Uncounted,
        recipients: vec![row],
    }
}

/// What one connection after the other does, for all that is leased at once.
fn relay(queue: &Embedded, stop: &AtomicBool, relayed: &AtomicU64) {
    let mut last: Vec<Lease> = Vec::new();
    loop {
        let next = || queue.lease(CHANNEL, Lane::Normal, now(), u32::MAX, &store::Skip::default());
        let leases: Vec<Lease> = std::iter::from_fn(next).take(32).collect();
        if leases.is_empty() && last.is_empty() {
            if stop.load(Ordering::Relaxed) {
                return;
            }
            std::thread::sleep(Duration::from_millis(1));
            continue;
        }
        let mut settles = last.iter().map(settlement);
        let mut records = Vec::new();
        for lease in &leases {
            let intend = Intent { message: lease.message, channel: CHANNEL, recipients: vec![0], at: now(), spend: None };
            records.push(queue.record(AttemptRecord { settle: settles.next(), intend: Some(intend), reports: Vec::new() }));
        }
        records.extend(settles.map(|settle| queue.record(AttemptRecord { settle: Some(settle), ..AttemptRecord::default() })));
        relayed.fetch_add(last.len() as u64, Ordering::Relaxed);
        for record in records {
            record.wait().expect("the queue takes what happened");
        }
        last = leases;
    }
}

fn cpu() -> f64 {
    let text = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> = text.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |at: usize| fields.get(at).and_then(|text| text.parse::<f64>().ok()).unwrap_or(0.0);
    (ticks(11) + ticks(12)) / 100.0
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let folder = arguments.next().unwrap_or_else(|| "accept-bench".into());
    let seconds = arguments.next().and_then(|text| text.parse().ok()).unwrap_or(5);
    for with_relay in [false, true] {
        let queue = Arc::new(Embedded::open(Options::new(format!("{folder}/{with_relay}"), now()))?);
        let (stop, accepted, relayed) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
        let (body, to) = (Bytes::from(vec![b'x'; BODY_BYTES]), ForwardPath::parse("<luis@example.org>")?);
        let (began, cpu_before) = (Instant::now(), cpu());
        std::thread::scope(|scope| {
            for _ in 0..16 {
                scope.spawn(|| {
                    while began.elapsed() < Duration::from_secs(seconds) {
                        let number = accepted.fetch_add(1, Ordering::Relaxed);
                        let answer = queue.accept(vec![message(number, &body, &to)]).wait();
                        answer.expect("the queue takes mail");
                    }
                    stop.store(true, Ordering::Relaxed);
                });
            }
            if with_relay {
                scope.spawn(|| relay(&queue, &stop, &relayed));
            }
        });
        let took = began.elapsed().as_secs_f64();
        queue.close();
        let (count, sent) = (accepted.load(Ordering::Relaxed) as f64, relayed.load(Ordering::Relaxed));
        println!(
            "relay={with_relay} accepted={:.0}/s relayed={:.0}/s syncs={:.0}/s cpu={:.3} s per 1000 accepted",
            count / took,
            sent as f64 / took,
            queue.syncs() as f64 / took,
            (cpu() - cpu_before) / count * 1000.0
        );
    }
    Ok(())
}
