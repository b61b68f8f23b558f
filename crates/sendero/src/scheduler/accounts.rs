//! The ledgers, by account: two channels on one login share one.

use mail::limits::LimitScope;
use mail::pace::{Ledger, Spent};
use mail::steady::Credit;
use mail::{Channel, ChannelId, Directory, Timestamp};
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use store::StoreError;

/// What an account has spent is kept at least this long, for limits that are set later.
const KEPT_AT_LEAST: Duration = Duration::from_secs(25 * 3600);
/// The window of a pace that replies taught.
const LEARNED_WINDOW: Duration = Duration::from_secs(60);

/// What one provider and login has spent, and who uses it.
pub(super) struct Account {
    pub(super) name: Arc<str>,
    ledger: Mutex<Ledger>,
    used_by: Mutex<Use>,
}

/// Which channels use an account, and what their rows want counted.
#[derive(Clone, Default)]
struct Use {
    channels: Vec<ChannelId>,
    windows: Vec<Duration>,
    limited: bool,
    froms: bool,
}

impl Use {
    fn add(&mut self, row: &Channel) {
        if self.channels.contains(&row.id) {
            return;
        }
        self.channels.push(row.id);
        self.windows.push(LEARNED_WINDOW);
        self.windows.extend(row.limits.iter().map(|limit| limit.window));
        self.limited |= !row.limits.is_empty();
        self.froms |= row.limits.iter().any(|limit| limit.scope == LimitScope::From);
    }

    fn longest(&self) -> Duration {
        self.windows.iter().max().copied().unwrap_or_default()
    }
}

impl Account {
    pub(super) fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn used_by(&self) -> MutexGuard<'_, Use> {
        self.used_by.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The other channels on the account.
    pub(super) fn others(&self, than: ChannelId) -> Vec<ChannelId> {
        self.used_by().channels.iter().copied().filter(|channel| *channel != than).collect()
    }

    /// A row on it has limits: whatever leaves by it is counted.
    pub(super) fn is_limited(&self) -> bool {
        self.used_by().limited
    }

    /// A row on it has limits per From.
    pub(super) fn counts_froms(&self) -> bool {
        self.used_by().froms
    }

    /// Keeps the windows that are wanted now. Where they reach further back, `spent` is what was written down.
    fn keep(&self, wanted: Use, spent: Option<&Vec<Spent>>, steady: &dyn Fn() -> Timestamp) {
        let mut ledger = self.ledger();
        if wanted.longest() > ledger.longest() {
            ledger.reach_back(wanted.windows.iter().copied(), spent.map_or(&[], Vec::as_slice), steady());
        } else {
            ledger.set_windows(wanted.windows.iter().copied());
        }
        *self.used_by() = wanted;
    }
}

/// All accounts.
#[derive(Default)]
pub(super) struct Accounts(Mutex<Known>);

#[derive(Default)]
struct Known {
    accounts: HashMap<Arc<str>, Arc<Account>>,
    /// What accounts have spent that no channel has now.
    spent: HashMap<Arc<str>, Vec<Spent>>,
}

impl Known {
    fn make(&mut self, name: Arc<str>, wanted: Use) -> Arc<Account> {
        let mut ledger = Ledger::new(wanted.windows.iter().copied());
        self.spent.remove(&name).iter().flatten().for_each(|spent| ledger.restore(spent));
        let account = Account { name: Arc::clone(&name), ledger: Mutex::new(ledger), used_by: Mutex::new(wanted) };
        let account = Arc::new(account);
        self.accounts.insert(name, Arc::clone(&account));
        account
    }
}

impl Accounts {
    /// The accounts of a directory, with what they have spent.
    pub(super) fn new(directory: &Directory, spent: Vec<Spent>) -> Self {
        let mut known = Known { spent: by_account(spent), ..Known::default() };
        for (name, wanted) in wanted(directory) {
            known.make(name, wanted);
        }
        Self(Mutex::new(known))
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps the windows that the directory's channels need now. `spent` reads what was written down: it is asked where
    /// a window is longer than all that were kept, which returns true.
    ///
    /// # Errors
    /// It cannot be read: the windows stay as they were, and under a limit whose window is not kept nothing leaves.
    pub(super) fn follow(
        &self,
        directory: &Directory,
        steady: &dyn Fn() -> Timestamp,
        spent: impl FnOnce() -> Result<Vec<Spent>, StoreError>,
    ) -> Result<bool, StoreError> {
        let wanted = wanted(directory);
        let reaches_back = {
            let known = self.lock();
            let is_longer = |account: &Arc<Account>, wanted: &Use| wanted.longest() > account.ledger().longest();
            wanted.iter().any(|(name, wanted)| known.accounts.get(name).is_some_and(|account| is_longer(account, wanted)))
        };
        let spent = if reaches_back { by_account(spent()?) } else { HashMap::new() };
        let mut known = self.lock();
        for (name, wanted) in wanted {
            match known.accounts.get(&name) {
                Some(account) => account.keep(wanted, spent.get(&name), steady),
                None => drop(known.make(name, wanted)),
            }
        }
        Ok(reaches_back)
    }

    /// The account of a row, which the directory may have shown a moment before it is followed.
    pub(super) fn of(&self, row: &Channel, directory: &Directory) -> Arc<Account> {
        let name = row.account();
        let mut known = self.lock();
        if let Some(account) = known.accounts.get(name.as_str()) {
            return Arc::clone(account);
        }
        let mut wanted = Use::default();
        wanted.add(row);
        directory.channels().filter(|other| other.account() == name).for_each(|other| wanted.add(other));
        known.make(name.into(), wanted)
    }

    /// What was spent before a moment is older than it was thought. What no channel has now keeps its age.
    pub(super) fn credit(&self, credit: &Credit) {
        self.lock().accounts.values().for_each(|account| account.ledger().credit(credit));
    }

    /// Drops what no window holds any more; for each account, before when the store may forget.
    pub(super) fn tidy(&self, now: Timestamp) -> Vec<(Arc<str>, Timestamp)> {
        let mut known = self.lock();
        let before = |longest: Duration| {
            let kept = longest.max(KEPT_AT_LEAST).mul_f64(1.002);
            Timestamp(now.0.saturating_sub(i64::try_from(kept.as_millis()).unwrap_or(i64::MAX)))
        };
        let of_account = |account: &Arc<Account>| {
            let mut ledger = account.ledger();
            ledger.tidy(now);
            (Arc::clone(&account.name), before(ledger.longest()))
        };
        let mut tidied: Vec<_> = known.accounts.values().map(of_account).collect();
        tidied.extend(known.spent.keys().map(|name| (Arc::clone(name), before(Duration::ZERO))));
        known.spent.retain(|_, spent| {
            spent.retain(|one| one.age_from >= before(Duration::ZERO));
            !spent.is_empty()
        });
        tidied.sort_unstable();
        tidied
    }
}

/// What the channels of each account want counted.
fn wanted(directory: &Directory) -> BTreeMap<Arc<str>, Use> {
    let mut all: BTreeMap<Arc<str>, Use> = BTreeMap::new();
    for row in directory.channels() {
        all.entry(row.account().into()).or_default().add(row);
    }
    all
}

fn by_account(spent: Vec<Spent>) -> HashMap<Arc<str>, Vec<Spent>> {
    let mut all: HashMap<Arc<str>, Vec<Spent>> = HashMap::new();
    for one in spent {
        all.entry(Arc::clone(&one.account)).or_default().push(one);
    }
    all
}
