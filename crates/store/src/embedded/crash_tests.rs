//! Recorded runs, cut after every step of the disk, opened again, and held against the model.
#![allow(clippy::unwrap_used)]
use super::cap_tests::assert_counted;
use super::tests::{CHANNEL, NOW, intent, leases, message, settlement};
use super::*;
use crate::disk::fake::{FakeDisk, Fault, Loss};
use crate::model::Model;
use mail::RecipientState;
use std::collections::HashSet;

const RETRY: Duration = Duration::from_secs(60);
/// When a queue is opened again after a crash.
const LATER: Timestamp = Timestamp(NOW.0 + 5_000);

/// What was asked of the queue.
#[derive(Clone)]
enum Call {
    Accept(Vec<NewMessage>),
    Lease(usize),
    Record(AttemptRecord),
    Steer(Steer),
    Channel(ChannelState),
}

impl Call {
    /// Asks the model the same; true when it was done.
    fn repeat(&self, model: &Model) -> bool {
        match self.clone() {
            Self::Accept(batch) => model.accept(batch).wait().is_ok(),
            Self::Lease(limit) => !leases(model, NOW, limit).is_empty(),
            Self::Record(record) => model.record(record).wait().is_ok(),
            Self::Steer(order) => model.steer(order).wait().is_ok(),
            Self::Channel(state) => model.set_channel_state(CHANNEL, state, NOW).wait().is_ok(),
        }
    }

    /// Asks the queue; the answer waits for its turn.
    fn ask(&self, queue: &Embedded<FakeDisk>) -> Box<dyn FnOnce() -> bool> {
        match self.clone() {
            Self::Accept(batch) => {
                let answer = queue.accept(batch);
                Box::new(move || answer.wait().is_ok())
            }
            Self::Lease(limit) => {
                let done = !leases(queue, NOW, limit).is_empty();
                Box::new(move || done)
            }
            Self::Record(record) => {
                let answer = queue.record(record);
                Box::new(move || answer.wait().is_ok())
            }
            Self::Steer(order) => {
                let answer = queue.steer(order);
                Box::new(move || answer.wait().is_ok())
            }
            Self::Channel(state) => {
                let answer = queue.set_channel_state(CHANNEL, state, NOW);
                Box::new(move || answer.wait().is_ok())
            }
        }
    }
}

/// The same call, with every third message's body in a file; `None` when the disk took no file.
fn spooled(call: Call, queue: &Embedded<FakeDisk>) -> Option<Call> {
    let Call::Accept(mut batch) = call else { return Some(call) };
    for message in &mut batch {
        let number = message.id.0[15];
        if number % 3 == 0 {
            message.body = large(queue, number).ok()?;
        }
    }
    Some(Call::Accept(batch))
}

/// A body whose second part is in a file.
fn large(queue: &Embedded<FakeDisk>, number: u8) -> Result<Body, AcceptError> {
    let mut spool = queue.spool()?;
    spool.write(&[number; 900])?;
    spool.write(b"the rest of it")?;
    let head = Bytes::from(format!("Subject: number {number}\r\n\r\n"));
    Ok(Body::Spooled { head, rest: spool.finish()? })
}

/// What is wrong with the files of bodies: an open message without its own, or one that nobody names.
fn files(queue: &Embedded<FakeDisk>, disk: &FakeDisk) -> Result<(), String> {
    let mut named = HashSet::new();
    let of_open: Vec<_> = lock(&queue.shared.open).bodies.of_open().collect();
    for (message, file, _) in of_open {
        let body = queue.raw(message).map_err(|error| error.to_string())?.ok_or(format!("the file of {message} is gone"))?;
        body.read().map_err(|error| format!("{message}: {error}"))?;
        named.insert(file);
    }
    named.extend(lock(&queue.shared.open).bodies.of_resting());
    let found = disk.list().map_err(|error| error.to_string())?;
    match found.iter().filter_map(|name| crate::body::file_of(name)).find(|file| !named.contains(file)) {
        Some(file) => Err(format!("nobody names the file {}", crate::body::file_name(file))),
        None => Ok(()),
    }
}

/// Memory where there is some: a cut needs a folder of its own, not a durable one.
fn folder() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

fn try_open(disk: &FakeDisk, index: &Path, now: Timestamp) -> Result<Embedded<FakeDisk>, OpenError> {
    let options = Options {
        min_free: 0,
        reserve: 0,
        segment_size: 3000,
        uncertain_retry: RETRY,
        // What has ended may go at once.
        keep_bodies: Duration::ZERO,
        ..Options::new(index, now)
    };
    Embedded::on_disk(Arc::new(disk.clone()), index.join("index.sqlite"), options)
}

/// Makes calls up, from what the queue hands out.
struct Caller {
    random: u64,
    number: u8,
    leases: Vec<(Lease, bool)>,
}

impl Caller {
    fn next(&mut self, below: usize) -> usize {
        self.random = self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.random >> 33) as usize % below
    }

    /// Some calls of which no two are about one message, so that they are written in this order.
    fn group(&mut self) -> Vec<Call> {
        let mut about = HashSet::new();
        let mut calls = Vec::new();
        for _ in 0..=self.next(4) {
            let Some((call, messages)) = self.call() else { continue };
            if messages.is_disjoint(&about) {
                about.extend(messages);
                self.made(&call);
                calls.push(call);
            }
        }
        calls
    }

    fn call(&mut self) -> Option<(Call, HashSet<MessageId>)> {
        match self.next(8) {
            0..=2 => {
                let count = 1 + self.next(2);
                let first = self.number + 1;
                let batch = (0..count as u8).map(|more| {
                    let all = ["luis@example.org", "eva@example.org"];
                    message(first + more, &all[..1 + usize::from((first + more) % 2)])
                });
                Some((Call::Accept(batch.collect()), HashSet::new()))
            }
            3 | 4 => {
                let at = self.leases.iter().position(|(_, intended)| !intended)?;
                let lease = &self.leases[at].0;
                let record = AttemptRecord { intend: Some(intent(lease)), ..AttemptRecord::default() };
                Some((Call::Record(record), HashSet::from([lease.message])))
            }
            5 => {
                let to = [Move::Send, Move::Defer, Move::Fail, Move::Hold, Move::Doubt][self.next(5)];
                let settled = self.leases.iter().find(|(_, intended)| *intended)?.0.clone();
                let next = self.leases.iter().find(|(_, intended)| !intended).map(|(lease, _)| lease.clone());
                let about = std::iter::once(settled.message).chain(next.iter().map(|lease| lease.message)).collect();
                let record = AttemptRecord {
                    settle: Some(settlement(&settled, to)),
                    intend: next.as_ref().map(intent),
                    reports: Vec::new(),
                };
                Some((Call::Record(record), about))
            }
            6 => {
                let to = [Move::Cancel, Move::Hold, Move::Release][self.next(3)];
                let which = (1 + self.next(usize::from(self.number) + 1)) as u8;
                let message = super::tests::id(which);
                let order = Steer { message, recipients: vec![], to, channel: None, by: "ana".into(), at: NOW };
                Some((Call::Steer(order), HashSet::from([message])))
            }
            _ => {
                let state = [ChannelState::Active, ChannelState::Paused { by: "ana".into() }, ChannelState::Unverified];
                Some((Call::Channel(state[self.next(3)].clone()), HashSet::new()))
            }
        }
    }

    fn made(&mut self, call: &Call) {
        match call {
            Call::Accept(batch) => self.number += batch.len() as u8,
            Call::Record(record) => {
                if let Some(settle) = &record.settle {
                    self.leases.retain(|(lease, _)| lease.message != settle.message);
                }
                for (lease, intended) in &mut self.leases {
                    *intended |= record.intend.as_ref().is_some_and(|intend| intend.message == lease.message);
                }
            }
            Call::Lease(_) | Call::Steer(_) | Call::Channel(_) => {}
        }
    }
}

struct Recorded {
    disk: FakeDisk,
    calls: Vec<Call>,
    /// Steps of the disk by which so many calls were answered, and the index as it was then.
    answered: Vec<(usize, usize, tempfile::TempDir)>,
    /// Steps at which segments may have been removed: no index from before belongs to a later log.
    tidied: Vec<usize>,
}

fn record(seed: u64) -> Recorded {
    let (home, disk) = (folder(), FakeDisk::default());
    let queue = try_open(&disk, home.path(), NOW).unwrap();
    let policy = head::Policy { keep_bodies: Duration::ZERO, slack: 0, share: u64::MAX };
    let mut keeper = queue.shared.keeper(policy).unwrap();
    let mut caller = Caller { random: seed, number: 0, leases: Vec::new() };
    let mut recorded = Recorded { disk: disk.clone(), calls: Vec::new(), answered: Vec::new(), tidied: Vec::new() };
    recorded.note(&queue, home.path());
    let mut coming = Vec::new();
    for round in 0..24 {
        let group: Vec<_> = caller.group().into_iter().filter_map(|call| spooled(call, &queue)).collect();
        if round % 4 == 1 {
            // A client that is still sending, and some rounds later goes away.
            let mut spool = queue.spool().unwrap();
            spool.write(&[b'x'; 600]).unwrap();
            coming.push(spool);
        } else if round % 4 == 3 {
            coming.pop();
        }
        let answers: Vec<_> = group.iter().map(|call| call.ask(&queue)).collect();
        for (call, answer) in group.into_iter().zip(answers) {
            // What was refused is not in the log, and the model would refuse it too.
            if answer() {
                recorded.calls.push(call);
            }
        }
        if round % 3 > 0 {
            let leases = leases(&queue, NOW, 1);
            recorded.calls.push(Call::Lease(1));
            caller.leases.extend(leases.into_iter().map(|lease| (lease, false)));
        }
        recorded.note(&queue, home.path());
        if round % 6 == 5 {
            recorded.tidied.push(disk.steps());
            queue.shared.tidy(&mut keeper);
        }
    }
    recorded.tidied.push(disk.steps());
    drop(queue);
    recorded
}

impl Recorded {
    fn note(&mut self, queue: &Embedded<FakeDisk>, home: &Path) {
        queue.shared.wait_until_indexed();
        let copy = folder();
        let connection = index::reader(&home.join("index.sqlite")).unwrap();
        connection.pragma_update(None, "query_only", false).unwrap();
        connection.execute("VACUUM INTO ?1", [copy.path().join("index.sqlite").to_str().unwrap()]).unwrap();
        self.answered.push((self.disk.steps(), self.calls.len(), copy));
    }

    /// Cuts the run after `step`, opens what is left with the index of `which`, and says what is not as it must be.
    ///
    /// Returns the segment with which the log begins.
    fn cut(&self, step: usize, loss: Loss, index: Option<usize>) -> Result<u32, String> {
        let left = self.disk.after_crash(step, loss);
        let before = check::check_log(&left).map_err(|error| error.to_string())?;
        if !before.illegal.is_empty() || !before.findings.damaged.is_empty() {
            return Err(format!("{:?} {:?}", before.illegal, before.findings));
        }
        let home = folder();
        if let Some(which) = index {
            let copy = self.answered[which].2.path().join("index.sqlite");
            std::fs::copy(copy, home.path().join("index.sqlite")).map_err(|error| error.to_string())?;
        }
        let queue = try_open(&left, home.path(), LATER).map_err(|error| error.to_string())?;
        if queue.findings().missing_segments > 0 {
            return Err("segments are missing".into());
        }
        files(&queue, &left)?;
        let certain = self.answered.iter().rev().find(|(steps, ..)| *steps <= step).map_or(0, |(_, calls, _)| *calls);
        let possible = self.answered.iter().find(|(steps, ..)| *steps > step).map_or(self.calls.len(), |(_, calls, _)| *calls);
        // Without an index what has ended is known as far as the log reaches back.
        let seen = if index.is_none() && queue.findings().first_segment > 1 { open_of } else { shown };
        let found = seen(&queue);
        let expected: Vec<String> = (certain..=possible).map(|done| after_restart(&self.calls[..done], seen)).collect();
        let first = log::segments(&left).map_err(|error| error.to_string())?.first().copied().unwrap_or(1);
        if expected.contains(&found) { Ok(first) } else { Err(format!("found {found}\nexpected {}", expected.join("\nor "))) }
    }

    /// The indexes that may lie beside the log that a crash after `step` leaves.
    fn indexes(&self, step: usize) -> std::ops::Range<usize> {
        let until = self.answered.iter().filter(|(steps, ..)| *steps <= step).count();
        let tidied = self.tidied.iter().rev().find(|at| **at < step).copied().unwrap_or(0);
        let from = self.answered.iter().filter(|(steps, ..)| *steps < tidied).count();
        from.min(until)..until
    }
}

fn after_restart(calls: &[Call], seen: fn(&dyn Queue) -> String) -> String {
    let model = Model::default();
    for call in calls {
        call.repeat(&model);
    }
    model.restart(LATER, RETRY);
    seen(&model)
}

/// Everything that can be seen of open mail, and what is known of all of it.
fn open_of(queue: &dyn Queue) -> String {
    let page = Page { after: None, before: None, limit: 1000 };
    let mut messages = queue.list(&Filter::default(), &page).unwrap().messages;
    messages.retain(|view| view.recipients.iter().any(|recipient| !recipient.state.is_final()));
    assert_counted(queue, &messages);
    let bodies: Vec<_> = messages.iter().map(|view| queue.raw(view.id)).collect();
    let order = leases(queue, Timestamp(i64::MAX), 1000).into_iter().map(|lease| (lease.message, lease.recipients));
    let totals = queue.totals();
    assert_eq!(totals.accepted, totals.by_state.iter().sum::<u64>(), "one fate for each recipient");
    let order: Vec<_> = order.collect();
    format!(
        "{totals:?}\n{messages:?}\n{bodies:?}\n{:?}\n{:?}\n{order:?}",
        queue.queue(NOW, &KeptBack::default()).unwrap(),
        queue.channel_states()
    )
}

/// Everything that can be seen of a queue.
fn shown(queue: &dyn Queue) -> String {
    let page = Page { after: None, before: None, limit: 1000 };
    let messages = queue.list(&Filter::default(), &page).unwrap().messages;
    let open = |view: &&MessageView| view.recipients.iter().any(|recipient| !recipient.state.is_final());
    assert_counted(queue, &messages.iter().filter(open).cloned().collect::<Vec<_>>());
    let bodies: Vec<_> = messages.iter().filter(open).map(|view| queue.raw(view.id)).collect();
    let mut events = queue.events(0, 10_000).unwrap();
    events.iter_mut().for_each(|event| event.sequence = 0);
    let totals = queue.totals();
    assert_eq!(totals.accepted, totals.by_state.iter().sum::<u64>(), "one fate for each recipient");
    format!(
        "{totals:?}\n{messages:?}\n{bodies:?}\n{:?}\n{:?}\n{events:?}",
        queue.queue(NOW, &KeptBack::new()).unwrap(),
        queue.channel_states()
    )
}

#[test]
fn whatever_the_crash_what_was_answered_is_there_and_nothing_else_has_happened() {
    let runs = std::env::var("SENDERO_CRASH_RUNS").ok().and_then(|runs| runs.parse().ok()).unwrap_or(4);
    let (mut cuts, mut beheaded, mut lost) = (0u64, 0u64, Vec::new());
    for seed in 1..=runs {
        let recorded = record(seed);
        for step in recorded.answered[0].0..=recorded.disk.steps() {
            let random = [0, 1].map(|more| Loss::Random(seed * 1_000_003 + step as u64 * 2 + more));
            for (number, loss) in Loss::ALL.into_iter().chain(random).enumerate() {
                let indexes = recorded.indexes(step);
                // Without an index, or with one of those that fit.
                let fresh = number % 2 == 0;
                let index = (!fresh && !indexes.is_empty()).then(|| indexes.start + (step + number) % indexes.len());
                cuts += 1;
                match recorded.cut(step, loss, index) {
                    Ok(first) => beheaded += u64::from(first > 1 && index.is_none()),
                    Err(why) => lost.push(format!("run {seed}, step {step}, {loss:?}, index {index:?}: {why}")),
                }
            }
        }
    }
    println!("SENDERO-FIGURE crash_points={cuts} without_head_and_index={beheaded} lost={}", lost.len());
    assert!(beheaded > 0, "some logs have lost their head and their index");
    assert!(lost.is_empty(), "{} of {cuts}, the first: {}", lost.len(), lost[0]);
}

#[test]
fn the_crash_test_notices_a_yes_that_came_before_the_sync() {
    let mut recorded = record(1);
    // As if every answer had been given a step earlier, before its sync.
    recorded.answered.iter_mut().skip(1).for_each(|(steps, ..)| *steps -= 1);
    let found = (0..=recorded.disk.steps()).any(|step| recorded.cut(step, Loss::Everything, None).is_err());
    assert!(found);
}

/// Calls until one is not answered with yes, and then some more.
fn run_into(fault: Fault, step: usize) -> Option<(FakeDisk, Vec<Call>, Vec<Call>)> {
    let (home, disk) = (folder(), FakeDisk::default());
    disk.fail_at(step, fault);
    let queue = try_open(&disk, home.path(), NOW).ok()?;
    let (mut done, mut undone) = (Vec::new(), Vec::new());
    let mut leases = Vec::new();
    for number in 1..=6 {
        let mut calls = vec![Call::Accept(vec![message(number, &["luis@example.org"])]), Call::Lease(1)];
        if number % 2 == 0 {
            calls.push(Call::Steer(Steer {
                message: super::tests::id(number / 2),
                recipients: vec![],
                to: Move::Cancel,
                channel: None,
                by: "ana".into(),
                at: NOW,
            }));
        }
        if let Some(lease) = leases.pop() {
            calls.push(Call::Record(AttemptRecord { settle: Some(settlement(&lease, Move::Send)), ..AttemptRecord::default() }));
        }
        for call in calls {
            if let Call::Lease(_) = call {
                leases.extend(super::tests::leases(&queue, NOW, 1));
                done.push(call);
                continue;
            }
            match spooled(call.clone(), &queue) {
                Some(call) if call.ask(&queue)() => done.push(call),
                _ => undone.push(call),
            }
        }
    }
    if fault == Fault::NoSpace {
        disk.fail(Fault::None);
        let again = Call::Accept(vec![message(99, &["luis@example.org"])]);
        assert!(again.ask(&queue)(), "it takes mail again by itself");
        done.push(again);
    } else {
        disk.fail(Fault::None);
        let more = Call::Accept(vec![message(98, &["luis@example.org"])]);
        let taken = more.ask(&queue)();
        assert!(undone.is_empty() || !taken, "{fault:?} at {step}: nothing is taken after a failure of the disk");
        done.extend(taken.then_some(more));
    }
    // As the power finds it, before it is closed.
    Some((disk.after_crash(disk.steps(), Loss::Everything), done, undone))
}

#[test]
fn wherever_the_disk_fails_what_was_answered_with_yes_is_there() {
    for fault in [Fault::NoSpace, Fault::Write, Fault::Sync] {
        for step in 0..40 {
            let Some((left, done, undone)) = run_into(fault, step) else { continue };
            let home = folder();
            let queue = try_open(&left, home.path(), LATER).unwrap();
            if fault == Fault::NoSpace || undone.is_empty() {
                assert_eq!(shown(&queue), after_restart(&done, shown), "{fault:?} at {step}");
                assert_eq!(files(&queue, &left), Ok(()), "{fault:?} at {step}");
                continue;
            }
            let accepted = done.iter().filter_map(|call| if let Call::Accept(batch) = call { Some(batch) } else { None }).flatten();
            for message in accepted {
                assert!(queue.message(message.id).unwrap().is_some(), "{fault:?} at {step}: {}", message.id);
            }
            let sent = queue.totals().by_state[usize::from(RecipientState::Sent.code())];
            let settled = done.iter().filter(|call| matches!(call, Call::Record(_))).count() as u64;
            assert!(sent >= settled, "{fault:?} at {step}");
        }
    }
}

#[test]
fn a_flipped_byte_costs_its_own_record_and_is_reported() {
    let home = folder();
    let disk = FakeDisk::default();
    let queue = try_open(&disk, home.path(), NOW).unwrap();
    for number in 1..=5 {
        queue.accept(vec![message(number, &["luis@example.org"])]).wait().unwrap();
    }
    drop(queue);
    let (first, length) = (log::name_of(1), disk.length(&log::name_of(1)).unwrap());
    assert!(disk.list().unwrap().len() > 1, "the last batch is in another segment");
    for at in (0..length as usize).step_by(5) {
        disk.flip(&first, at);
        let report = check::check_log(&disk).unwrap();
        assert_eq!((report.messages, report.findings.damaged.len()), (4, 1), "byte {at}");
        disk.flip(&first, at);
    }
    assert!(check::check_log(&disk).unwrap().is_clean());
}
