#![allow(clippy::unwrap_used)]
//! Pace, counted by the provider's own clock.

use super::*;
use crate::envelope::Lane;
use crate::limits::{Limit, Limits};
use crate::steady::Credit;
use crate::time::Timestamp;
use proptest::prelude::*;
use std::sync::Arc;
use std::time::Duration;

mod provider;

const START: Timestamp = Timestamp(1_800_000_000_000);

fn terms(limits: &[&str]) -> Terms {
    let limits = Limits::parse(limits).unwrap();
    Terms { limits: limits.windows, caps: limits.caps, reserve: Reserve::default() }
}

fn at(seconds: f64) -> Timestamp {
    START.plus(Duration::from_secs_f64(seconds))
}

fn nobody() -> Arc<str> {
    Arc::from("")
}

const ALL: Option<FromId> = None;

fn ledger(terms: &Terms) -> Ledger {
    Ledger::new(terms.limits.iter().map(|limit| limit.window))
}

fn head(recipients: u32) -> Option<Head> {
    Some(Head { cost: Units::transaction(recipients, 1000), from: ALL })
}

#[test]
fn a_unit_is_spent_at_the_start_and_grows_old_from_the_reply() {
    let terms = terms(&["2 messages / 1 minute"]);
    let mut ledger = ledger(&terms);
    let one = Units::transaction(1, 10);
    ledger.spend(ALL, one);
    ledger.spend(ALL, one);
    let limit = terms.limits[0];
    assert_eq!(ledger.free(&limit, ALL, one, 0, at(500.0)), Free::WhenSettled, "open ones do not grow old");
    ledger.settle(ALL, one, at(500.0));
    assert_eq!(ledger.free(&limit, ALL, one, 0, at(500.0)), Free::At(at(560.06)));
    assert_eq!(ledger.free(&limit, ALL, one, 0, at(560.06)), Free::Now);
}

/// Pain 2: to the second.
#[test]
fn the_10_001st_recipient_leaves_when_the_oldest_has_aged_out_to_the_second() {
    let terms = terms(&["10000 recipients / 24 hours"]);
    let mut ledger = ledger(&terms);
    for number in 0..10_000u32 {
        ledger.spend(ALL, Units::transaction(1, 10));
        ledger.settle(ALL, Units::transaction(1, 10), at(f64::from(number) * 5.0));
    }
    let free = |ledger: &mut Ledger, cost| ledger.free(&terms.limits[0], ALL, Units::transaction(cost, 10), 0, at(50_000.0));
    let day = 86_400.0 * 1.001;
    assert_eq!(free(&mut ledger, 1), Free::At(at(day)));
    assert_eq!(free(&mut ledger, 3), Free::At(at(day + 10.0)));
    assert_eq!(free(&mut ledger, 10_000), Free::At(at(day + 9_999.0 * 5.0)));
}

#[test]
fn a_longer_window_counts_once_what_the_ones_before_had_let_go() {
    let (minute, hour) = (terms(&["9 messages / 1 minute"]), terms(&["9 messages / 1 minute", "9 messages / 1 hour"]));
    let (mut ledger, one) = (ledger(&minute), Units::transaction(1, 10));
    let mut spent = Vec::new();
    for second in [0.0, 10.0, 100.0, 110.0] {
        ledger.settle(ALL, one, at(second));
        spent.push(Spent { account: nobody(), from: nobody(), units: one, age_from: at(second) });
    }
    ledger.spend(ALL, one);
    let [of_minute, of_hour] = [hour.limits[0], hour.limits[1]];
    assert_eq!(ledger.used(&of_minute, ALL, at(120.0)), 3);
    assert_eq!(ledger.free(&of_hour, ALL, one, 0, at(120.0)), Free::WhenSettled, "what is not counted is not allowed");
    ledger.reach_back(hour.limits.iter().map(|limit| limit.window), &spent, at(120.0));
    assert_eq!((ledger.used(&of_minute, ALL, at(120.0)), ledger.used(&of_hour, ALL, at(120.0))), (3, 5));
    assert_eq!(ledger.free(&of_hour, ALL, Units { messages: 5, ..one }, 0, at(120.0)), Free::At(at(3603.6)));
}

#[test]
fn very_large_counts_are_put_together_and_round_towards_safety() {
    let terms = terms(&["100 messages / 1 minute", "2000000 messages / 24 hours"]);
    let mut ledger = ledger(&terms);
    for number in 0..200_000u32 {
        ledger.settle(ALL, Units::transaction(1, 10), at(f64::from(number) * 0.4));
    }
    assert!(ledger.entries() < 45_000, "{}", ledger.entries());
    let now = at(80_000.0);
    assert_eq!(ledger.used(&terms.limits[1], ALL, now), 200_000);
    let minute = ledger.used(&terms.limits[0], ALL, now);
    assert!((148..=151).contains(&minute), "the short window stays exact: {minute}");
    let Free::At(free) = ledger.free(&terms.limits[1], ALL, Units::transaction(1, 1), 1_800_000, now) else { panic!() };
    let exact = at(86_400.0 * 1.001);
    assert!(free >= exact && free.since(exact) <= Duration::from_millis(86_400 + 400), "{}", free.since(exact).as_millis());
}

#[test]
fn bulk_leaves_the_reserve_and_the_last_connection_to_people() {
    let terms = terms(&["30 messages / 1 minute", "3 connections"]);
    assert_eq!(terms.kept_free(&terms.limits[0], Lane::Bulk), 2);
    assert_eq!(terms.kept_free(&terms.limits[0], Lane::Normal), 0);
    assert_eq!(terms.bulk_connections(), 2);
    let tiny = super::tests::terms(&["1 messages / 1 minute", "1 connections"]);
    assert_eq!((tiny.kept_free(&tiny.limits[0], Lane::Bulk), tiny.bulk_connections()), (0, 1), "bulk still goes");
}

#[test]
fn a_message_with_more_recipients_than_a_window_is_split() {
    let terms = terms(&["100 recipients / 1 minute", "500 recipients / message"]);
    assert_eq!((terms.most_recipients(Lane::Normal), terms.most_recipients(Lane::Bulk)), (100, 95));
    let capped = super::tests::terms(&["20 recipients / message"]);
    assert_eq!(capped.most_recipients(Lane::Bulk), 20);
}

#[test]
fn a_large_message_books_its_units_and_only_now_overtakes_it() {
    let terms = terms(&["100 recipients / 1 minute"]);
    let mut ledger = ledger(&terms);
    let turn = Turn::default();
    ledger.settle(ALL, Units::transaction(60, 10), at(0.0));
    let choice = turn.choose(&[None, head(50), None], &terms, &mut ledger, at(1.0));
    assert_eq!(choice, Choice::Wait(Wait { until: Some(at(60.06)), why: Why::Limit(terms.limits[0]), lane: Lane::Normal }));
    let choice = turn.choose(&[head(1), head(50), None], &terms, &mut ledger, at(1.0));
    assert_eq!(choice, Choice::Go(Lane::Now));
}

#[test]
fn bulk_gets_one_unit_in_twenty_while_others_wait() {
    let terms = terms(&["10 connections"]);
    let (mut turn, mut ledger) = (Turn::default(), Ledger::default());
    let mut went = [0u32; 3];
    for _ in 0..4000 {
        match turn.choose(&[None, head(1), head(1)], &terms, &mut ledger, START) {
            Choice::Go(lane) => {
                turn.started(lane, Units::transaction(1, 10), &[None, head(1), head(1)], &terms, START);
                turn.ended(lane);
                went[lane as usize] += 1;
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(went, [0, 3800, 200]);
}

#[test]
fn normal_gets_one_unit_in_five_while_urgent_mail_waits() {
    let mut world = World::new(&["60 messages / 1 minute", "1 connections"]);
    let mut waiting = [vec![1; 2000], vec![1; 2000], vec![]];
    world.run(&mut waiting, 600.0, &mut || 0.1);
    let [urgent, normal, _] = world.left;
    assert!(normal * 5 / (urgent + normal) == 1 && urgent > 400, "{:?}", world.left);
    // A message of many recipients gets its units together, though urgent ones of one recipient want each of them.
    let mut world = World::new(&["100 recipients / 1 minute", "1 connections"]);
    let mut waiting = [vec![1; 2000], vec![50], vec![]];
    world.run(&mut waiting, 360.0, &mut || 0.1);
    assert!(waiting[1].is_empty());
}

#[test]
fn bulk_is_spread_from_its_first_message_on_and_a_late_start_moves_none_after_it() {
    let terms = terms(&["31 messages / 1 minute"]);
    let (mut turn, mut ledger) = (Turn::default(), ledger(&terms));
    let cost = Units::transaction(1, 10);
    let next = |turn: &Turn, ledger: &mut Ledger, now| match turn.choose(&[None, None, head(1)], &terms, ledger, now) {
        Choice::Wait(Wait { until: Some(until), why: Why::Spread, .. }) => until.since(START).as_millis(),
        other => panic!("{other:?}"),
    };
    turn.started(Lane::Bulk, cost, &[None, None, None], &terms, at(100.0));
    turn.ended(Lane::Bulk);
    assert_eq!(next(&turn, &mut ledger, at(100.0)), 102_071);
    turn.started(Lane::Bulk, cost, &[None, None, None], &terms, at(103.0));
    turn.ended(Lane::Bulk);
    assert_eq!(next(&turn, &mut ledger, at(103.0)), 104_142);
}

#[test]
fn a_from_at_its_own_limit_stops_nobody_else() {
    let terms = terms(&["2 messages / 1 minute / from", "100 messages / 1 minute"]);
    let mut ledger = ledger(&terms);
    let ana = Some(FromId::of("ana@example.com"));
    for _ in 0..2 {
        ledger.settle(ana, Units::transaction(1, 10), at(0.0));
    }
    let of = |from: &str| Some(Head { cost: Units::transaction(1, 10), from: Some(FromId::of(from)) });
    let turn = Turn::default();
    let choice = turn.choose(&[None, of("ana@example.com"), None], &terms, &mut ledger, at(1.0));
    let (from, limit) = (FromId::of("ana@example.com"), terms.limits[0]);
    assert_eq!(choice, Choice::PassFrom { lane: Lane::Normal, from, until: Some(at(60.06)), limit });
    assert_eq!(turn.choose(&[None, of("luis@example.com"), None], &terms, &mut ledger, at(1.0)), Choice::Go(Lane::Normal));
    ledger.tidy(at(200.0));
    assert_eq!(ledger.used(&terms.limits[0], ana, at(200.0)), 0);
}

#[test]
fn lessons_halve_the_pace_and_are_unlearned_step_by_step() {
    let mut lessons = Lessons::default();
    lessons.slower(30, "450 too fast", at(0.0));
    assert_eq!(lessons.limit().unwrap().count, 15);
    lessons.slower(15, "450 too fast", at(10.0));
    assert_eq!(lessons.limit().unwrap().count, 7);
    assert!(!lessons.relax(at(300.0)));
    let mut counts = Vec::new();
    for step in 1..20 {
        assert_eq!(lessons.relaxes_at().is_some(), lessons.pace.is_some());
        lessons.relax(at(10.0 + 600.0 * f64::from(step)));
        counts.extend(lessons.limit().map(|limit| limit.count));
    }
    assert_eq!(counts, [9, 12, 15, 19, 24, 30]);
    assert_eq!(lessons, Lessons::default());
    lessons.fewer(4, "421 too many connections", at(0.0));
    assert_eq!((lessons.connections(4), lessons.connections(2)), (3, 2));
}

#[test]
fn a_lesson_is_unlearned_in_the_same_time_whether_anybody_looked_meanwhile_or_not() {
    let mut taught = Lessons::default();
    taught.slower(30, "450 too fast", at(0.0));
    taught.fewer(6, "421 too many connections", at(0.0));
    for hours in [0.3, 0.5, 24.0] {
        let (mut looked, mut quiet) = (taught.clone(), taught.clone());
        for step in 1..=(hours * 6.0) as u32 {
            looked.relax(at(f64::from(step) * 600.0));
        }
        looked.relax(at(hours * 3600.0));
        assert!(quiet.relax(at(hours * 3600.0)));
        assert_eq!(quiet, looked, "after {hours} hours");
    }
    assert!(taught.relax(at(86_400.0)));
    assert_eq!(taught, Lessons::default());
}

#[test]
fn time_while_the_machine_was_off_makes_only_what_was_spent_before_older() {
    let terms = terms(&["2 messages / 1 minute"]);
    let mut ledger = ledger(&terms);
    let one = Units::transaction(1, 10);
    ledger.settle(ALL, one, at(0.0));
    ledger.settle(ALL, one, at(20.0));
    ledger.credit(&Credit { before: at(10.0), by: Duration::from_secs(3600) });
    assert_eq!(ledger.used(&terms.limits[0], ALL, at(25.0)), 1);
    ledger.settle(ALL, one, at(25.0));
    assert_eq!(
        ledger.free(&terms.limits[0], ALL, one, 0, at(30.0)),
        Free::At(at(80.06)),
        "the one of this boot is as young as it was"
    );
}

/// One channel with a provider that counts at both ends of each transaction.
struct World {
    terms: Terms,
    ledger: Ledger,
    turn: Turn,
    now: f64,
    /// Ends, lanes, costs.
    open: Vec<(f64, Lane, Units)>,
    /// When the provider saw it first, when it answered, what it cost.
    seen: Vec<(f64, f64, Units)>,
    spent: Vec<Spent>,
    left: [u64; 3],
}

impl World {
    fn new(limits: &[&str]) -> Self {
        let terms = terms(limits);
        let ledger = ledger(&terms);
        Self { terms, ledger, turn: Turn::default(), now: 0.0, open: vec![], seen: vec![], spent: vec![], left: [0; 3] }
    }

    /// Runs until `end` with these costs waiting in each lane.
    fn run(&mut self, waiting: &mut [Vec<u32>; 3], end: f64, latency: &mut dyn FnMut() -> f64) {
        while self.now < end {
            let now = at(self.now);
            let heads = [0, 1, 2].map(|lane| waiting[lane].last().and_then(|recipients| head(*recipients)));
            let free_line = self.open.len() < self.terms.caps.connections as usize;
            let choice = if free_line { self.turn.choose(&heads, &self.terms, &mut self.ledger, now) } else { Choice::Idle };
            let next_end = self.open.iter().map(|(ends, ..)| *ends).fold(f64::INFINITY, f64::min);
            match choice {
                Choice::Go(lane) => {
                    let recipients = waiting[lane as usize].pop().unwrap();
                    let cost = Units::transaction(recipients, 1000);
                    self.turn.started(lane, cost, &heads, &self.terms, now);
                    self.ledger.spend(ALL, cost);
                    let took = latency();
                    self.seen.push((self.now, self.now + took * 0.8, cost));
                    self.open.push((self.now + took, lane, cost));
                    self.left[lane as usize] += 1;
                }
                Choice::Wait(Wait { until: Some(until), .. }) if until.since(START).as_secs_f64() < next_end => {
                    self.now = until.since(START).as_secs_f64().max(self.now + 0.001);
                }
                _ if next_end.is_finite() => {
                    self.now = self.now.max(next_end);
                    let ended = self.open.iter().position(|(ends, ..)| *ends <= self.now).unwrap();
                    let (ends, lane, cost) = self.open.swap_remove(ended);
                    self.turn.ended(lane);
                    self.ledger.settle(ALL, cost, at(ends));
                    self.spent.push(Spent { account: nobody(), from: nobody(), units: cost, age_from: at(ends) });
                }
                _ => return,
            }
        }
    }

    /// The process dies: what was open counts from a time-out later.
    fn restart(&mut self) {
        self.ledger = ledger(&self.terms);
        for (_, _, units) in self.open.drain(..) {
            let age_from = at(self.now + 600.0);
            self.spent.push(Spent { account: nobody(), from: nobody(), units, age_from });
        }
        self.spent.sort_by_key(|spent| spent.age_from);
        self.spent.iter().for_each(|spent| self.ledger.restore(spent));
        self.turn = Turn::default();
    }

    /// The most of a limit in any window, counted by `when` with a clock of this speed.
    fn most(&self, limit: &Limit, speed: f64, when: impl Fn(&(f64, f64, Units)) -> f64) -> u64 {
        most_in(limit, self.seen.iter().map(|one| (when(one) * speed, one.2)))
    }

    fn check(&self) {
        for limit in &self.terms.limits {
            for speed in [0.9995, 1.0, 1.0005] {
                let (begun, answered) = (self.most(limit, speed, |one| one.0), self.most(limit, speed, |one| one.1));
                assert!(begun <= limit.count && answered <= limit.count, "{limit}: {begun} begun, {answered} answered");
            }
        }
    }
}

/// The most of a limit in any window of these transactions.
fn most_in(limit: &Limit, counted: impl Iterator<Item = (f64, Units)>) -> u64 {
    let mut times: Vec<(f64, u64)> = counted.map(|(at, units)| (at, units.of(limit.unit))).collect();
    times.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (mut first, mut held, mut most) = (0, 0, 0);
    for (time, units) in &times {
        held += units;
        while times[first].0 <= time - limit.window.as_secs_f64() {
            held -= times[first].1;
            first += 1;
        }
        most = most.max(held);
    }
    most
}

#[test]
fn a_full_lane_uses_99_percent_of_the_limit_and_bulk_of_the_limit_less_the_reserve() {
    for (lane, limit, connections) in [(1, 30, 3), (1, 600, 3), (2, 30, 3), (2, 600, 8), (0, 60, 1)] {
        for took in [0.0005, 0.05, 0.2] {
            let mut world = World::new(&[&format!("{limit} messages / 1 minute"), &format!("{connections} connections")]);
            let mut waiting: [Vec<u32>; 3] = Default::default();
            waiting[lane] = vec![1; 20_000];
            world.run(&mut waiting, 1205.0, &mut || took);
            world.check();
            let mut started: Vec<f64> = world.seen.iter().map(|one| one.0).collect();
            started.retain(|start| *start < 1200.0);
            let allowed = if lane == 2 { limit - world.terms.kept_free(&world.terms.limits[0], Lane::Bulk) } else { limit };
            let used = started.len() as f64 / (20.0 * allowed as f64);
            assert!(used >= 0.99, "lane {lane}, {limit} a minute, {took} s: {used}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Pain 2: over random arrivals, replies and restarts.
    #[test]
    fn no_window_is_ever_over_its_limit(
        count in 1u64..60,
        seconds in 1u64..200,
        recipients in 5u64..300,
        connections in 1u32..6,
        arrivals in proptest::collection::vec((0usize..3, 1u32..5, 0.0f64..400.0), 1..250),
        restarts in proptest::collection::vec(0.0f64..600.0, 0..4),
        slow in 0.0f64..6.0,
        seed in any::<u64>(),
    ) {
        let mut world = World::new(&[
            &format!("{count} messages / {seconds} seconds"),
            &format!("{recipients} recipients / 10 minutes"),
            &format!("{connections} connections"),
        ]);
        let mut state = seed;
        let mut latency = move || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 40) as f64 / f64::from(1 << 24) * slow
        };
        let mut marks: Vec<(f64, Option<(usize, u32)>)> = arrivals.iter().map(|(lane, r, at)| (*at, Some((*lane, *r)))).collect();
        marks.extend(restarts.iter().map(|at| (*at, None)));
        marks.sort_by(|a, b| a.0.total_cmp(&b.0));
        let mut waiting: [Vec<u32>; 3] = Default::default();
        for (when, what) in marks {
            world.run(&mut waiting, when, &mut latency);
            world.now = world.now.max(when);
            match what {
                Some((lane, recipients)) => waiting[lane].insert(0, recipients),
                None => world.restart(),
            }
        }
        world.run(&mut waiting, 1e9, &mut latency);
        prop_assert!(waiting.iter().all(Vec::is_empty), "everything leaves");
        world.check();
    }

    #[test]
    fn an_estimate_is_within_two_percent_of_what_happens(
        count in 10u64..100,
        total in 20usize..2000,
        recipients in 1u32..4,
        lane in 0usize..3,
        took in 0.01f64..0.3,
    ) {
        let mut world = World::new(&[&format!("{count} messages / 1 minute"), "5000 recipients / 24 hours", "3 connections"]);
        let lanes = Lane::ALL;
        let mut ahead = Ahead::default();
        (0..total).for_each(|_| ahead.add(u64::from(recipients), 1000));
        let estimate = forecast(&world.terms, world.ledger.clone(), lanes[lane], ahead, Duration::from_secs_f64(took), START);
        let mut waiting: [Vec<u32>; 3] = Default::default();
        waiting[lane] = vec![recipients; total];
        world.run(&mut waiting, 1e9, &mut || took);
        let last = world.seen.iter().map(|one| one.0).fold(0.0, f64::max);
        let estimated = estimate.since(START).as_secs_f64();
        prop_assert!((estimated - last).abs() <= 0.02 * last + 2.0, "estimated {estimated}, was {last}");
    }
}

#[test]
fn an_estimate_of_more_than_can_be_counted_is_the_end_of_time() {
    let world = World::new(&["1 messages / 24 hours"]);
    let all = Ahead { transactions: u64::MAX, recipients: u64::MAX, bytes: u64::MAX };
    let at = forecast(&world.terms, world.ledger.clone(), Lane::Normal, all.plus(all), Duration::from_secs(1), START);
    assert_eq!(at, Timestamp(i64::MAX));
}
