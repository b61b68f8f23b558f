//! A provider whose clock goes on while the machine is off, and messages of every size.

use super::*;

/// One channel, its machine's clock, and the true time, which the provider's clock shows.
struct Reality {
    terms: Terms,
    ledger: Ledger,
    turn: Turn,
    /// The steady clock, in seconds. It stands still while the machine is off.
    now: f64,
    /// How much more has passed in truth.
    off: f64,
    chance: u64,
    waiting: [Vec<Units>; 3],
    /// Ends, lanes, costs.
    open: Vec<(f64, Lane, Units)>,
    /// When each began and was counted, in truth.
    seen: Vec<(f64, f64, Units)>,
    spent: Vec<Spent>,
}

/// What happens to the channel from outside.
#[derive(Clone, Debug)]
enum Happens {
    Arrives(usize, u32, u64),
    /// The process dies and is started again at once.
    Dies,
    /// The machine is off for so many seconds, which are credited so long after its start.
    Boots(f64, f64),
}

impl Reality {
    fn new(limits: &[&str], chance: u64) -> Self {
        let terms = terms(limits);
        let ledger = ledger(&terms);
        let (waiting, turn) = (Default::default(), Turn::default());
        Self { terms, ledger, turn, now: 0.0, off: 0.0, chance, waiting, open: vec![], seen: vec![], spent: vec![] }
    }

    fn random(&mut self) -> f64 {
        self.chance = self.chance.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.chance >> 40) as f64 / f64::from(1 << 24)
    }

    fn heads(&self) -> [Option<Head>; 3] {
        [0, 1, 2].map(|lane: usize| self.waiting[lane].last().map(|cost| Head { cost: *cost, from: ALL }))
    }

    fn start(&mut self, lane: Lane, slow: f64) {
        let heads = self.heads();
        let cost = self.waiting[lane as usize].pop().unwrap();
        self.turn.started(lane, cost, &heads, &self.terms, at(self.now));
        self.ledger.spend(ALL, cost);
        let takes = self.random() * slow;
        // The provider counts at a moment of its own between both ends.
        let counts = takes * self.random();
        let truth = self.now + self.off;
        self.seen.push((truth, truth + counts, cost));
        self.open.push((self.now + takes, lane, cost));
    }

    fn end(&mut self) {
        let first = self.open.iter().enumerate().min_by(|a, b| a.1.0.total_cmp(&b.1.0)).unwrap().0;
        let (ends, lane, cost) = self.open.swap_remove(first);
        self.now = self.now.max(ends);
        self.turn.ended(lane);
        // A clock of milliseconds may read up to one too early.
        let age_from = at(ends).plus(Duration::from_millis(1));
        self.ledger.settle(ALL, cost, age_from);
        self.spent.push(Spent { account: nobody(), from: nobody(), units: cost, age_from });
    }

    /// Runs until this moment of the steady clock, or until nothing is left to do.
    fn run(&mut self, until: f64, slow: f64) {
        while self.now < until {
            let ends = self.open.iter().map(|one| one.0).fold(f64::INFINITY, f64::min);
            let heads = self.heads();
            let has_line = self.open.len() < self.terms.caps.connections as usize;
            let choice = match has_line {
                true => self.turn.choose(&heads, &self.terms, &mut self.ledger, at(self.now)),
                false => Choice::Idle,
            };
            match choice {
                Choice::Go(lane) => self.start(lane, slow),
                Choice::Wait(Wait { until: Some(free), .. }) if free.since(START).as_secs_f64() < ends => {
                    self.now = free.since(START).as_secs_f64().max(self.now + 0.001);
                }
                _ if ends.is_finite() => self.end(),
                _ => return,
            }
        }
    }

    /// The process dies: what was open counts from a time-out later.
    fn die(&mut self) {
        for (_, _, units) in self.open.drain(..) {
            self.spent.push(Spent { account: nobody(), from: nobody(), units, age_from: at(self.now + 600.0) });
        }
        self.spent.sort_by_key(|spent| spent.age_from);
        self.ledger = ledger(&self.terms);
        self.spent.iter().for_each(|spent| self.ledger.restore(spent));
        self.turn = Turn::default();
    }

    fn boot(&mut self, off: f64, proved_after: f64, slow: f64) {
        let boot = at(self.now);
        self.die();
        self.off += off;
        self.run(self.now + proved_after, slow);
        let credit = Credit { before: boot, by: Duration::from_secs_f64(off) };
        self.ledger.credit(&credit);
        // The log says the same.
        for spent in self.spent.iter_mut().filter(|spent| spent.age_from < boot) {
            spent.age_from = Timestamp(spent.age_from.0 - credit.by.as_millis() as i64);
        }
    }

    /// Whenever the provider counts, and however fast its clock runs, no window holds more than its limit.
    fn check(&self) {
        for limit in &self.terms.limits {
            for speed in [0.9995, 1.0, 1.0005] {
                let of =
                    |when: fn(&(f64, f64, Units)) -> f64| most_in(limit, self.seen.iter().map(|one| (when(one) * speed, one.2)));
                let (begun, counted) = (of(|one| one.0), of(|one| one.1));
                assert!(begun <= limit.count && counted <= limit.count, "{limit}: {begun} begun, {counted} counted");
            }
        }
    }
}

fn happens() -> impl Strategy<Value = Happens> {
    prop_oneof![
        20 => (0usize..3, 1u32..5, 100u64..40_000).prop_map(|(lane, recipients, bytes)| Happens::Arrives(lane, recipients, bytes)),
        1 => Just(Happens::Dies),
        1 => (1.0f64..2000.0, 0.0f64..100.0).prop_map(|(off, proved)| Happens::Boots(off, proved)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    /// Pain 2: over random arrivals, sizes, replies, restarts, and reboots after which clocks differ.
    #[test]
    fn no_window_is_over_its_limit_whatever_the_sizes_and_however_long_the_machine_was_off(
        count in 1u64..60,
        seconds in 1u64..200,
        kilobytes in 40u64..400,
        connections in 1u32..6,
        history in proptest::collection::vec((happens(), 0.0f64..6.0), 1..200),
        slow in 0.0f64..6.0,
        seed in any::<u64>(),
    ) {
        let limits = [
            format!("{count} messages / {seconds} seconds"),
            format!("{} bytes / 5 minutes", kilobytes * 1000 + 4000),
            format!("{connections} connections"),
        ];
        let mut world = Reality::new(&limits.each_ref().map(String::as_str), seed);
        let mut when = 0.0;
        for (what, pause) in history {
            when = f64::max(when, world.now) + pause;
            world.run(when, slow);
            world.now = world.now.max(when);
            match what {
                Happens::Arrives(lane, recipients, bytes) => {
                    world.waiting[lane].insert(0, Units::transaction(recipients, bytes.min(world.terms.most_bytes(Lane::Bulk))));
                }
                Happens::Dies => world.die(),
                Happens::Boots(off, proved_after) => world.boot(off, proved_after, slow),
            }
        }
        world.run(1e9, slow);
        prop_assert!(world.waiting.iter().all(Vec::is_empty), "everything leaves: {:?}", world.waiting);
        world.check();
    }

    /// Pain 2: a unit is taken from its start until a window after its reply, and lies idle no longer while mail waits.
    /// Bulk has the limit less the reserve.
    #[test]
    fn waiting_mail_uses_99_percent_of_what_its_lane_may_use(
        count in 20u64..600,
        seconds in 10u64..120,
        lane in 0usize..3,
        recipients in 1u32..4,
        slow in 0.0f64..0.5,
        seed in any::<u64>(),
    ) {
        let mut world = Reality::new(&[&format!("{count} recipients / {seconds} seconds"), "400 connections"], seed);
        let (windows, window) = (20.0, seconds as f64 * 1.001 + slow);
        world.waiting[lane] = vec![Units::transaction(recipients, 1000); count as usize * 22];
        world.run(windows * window, slow);
        world.check();
        let lanes = Lane::ALL;
        let allowed = count - world.terms.kept_free(&world.terms.limits[0], lanes[lane]);
        // What is left of a window when no whole message fits is nobody's.
        let fits = allowed - allowed % u64::from(recipients);
        let in_time = world.seen.iter().filter(|one| one.0 < windows * window);
        let used: u64 = in_time.map(|one| one.2.of(world.terms.limits[0].unit)).sum();
        prop_assert!(used as f64 >= 0.99 * windows * fits as f64, "{used} of {}", windows * fits as f64);
    }
}
