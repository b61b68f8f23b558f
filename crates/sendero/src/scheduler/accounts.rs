//! The ledgers, by account: two channels on one login share one.

use mail::pace::{Ledger, Spent};
use mail::steady::Credit;
use mail::{ChannelId, Directory, Timestamp};
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// What an account has spent is kept at least this long, for limits that are set later.
const KEPT_AT_LEAST: Duration = Duration::from_secs(25 * 3600);
/// The window of a pace that replies taught.
const LEARNED_WINDOW: Duration = Duration::from_secs(60);

/// What one provider and login has spent, and who uses it.
pub(super) struct Account {
    pub(super) name: Arc<str>,
    ledger: Mutex<Ledger>,
    channels: Mutex<Vec<ChannelId>>,
}

impl Account {
    pub(super) fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The other channels on the account.
    pub(super) fn others(&self, than: ChannelId) -> Vec<ChannelId> {
        let channels = self.channels.lock().unwrap_or_else(PoisonError::into_inner);
        channels.iter().copied().filter(|channel| *channel != than).collect()
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

impl Accounts {
    /// The accounts of a directory, with what they have spent.
    pub(super) fn new(directory: &Directory, spent: Vec<Spent>) -> Self {
        let mut known = Known::default();
        for one in spent {
            known.spent.entry(Arc::clone(&one.account)).or_default().push(one);
        }
        let accounts = Self(Mutex::new(known));
        accounts.follow(directory);
        accounts
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps the windows that the directory's channels need now.
    pub(super) fn follow(&self, directory: &Directory) {
        let mut wanted: BTreeMap<String, (Vec<ChannelId>, Vec<Duration>)> = BTreeMap::new();
        for row in directory.channels() {
            let (channels, windows) = wanted.entry(row.account()).or_default();
            channels.push(row.id);
            windows.extend(row.limits.iter().map(|limit| limit.window));
        }
        let mut known = self.lock();
        for (name, (mut channels, mut windows)) in wanted {
            channels.sort_unstable();
            windows.push(LEARNED_WINDOW);
            let name: Arc<str> = name.into();
            match known.accounts.get(&name) {
                Some(account) => {
                    account.ledger().set_windows(windows);
                    *account.channels.lock().unwrap_or_else(PoisonError::into_inner) = channels;
                }
                None => {
                    let mut ledger = Ledger::new(windows);
                    known.spent.remove(&name).iter().flatten().for_each(|spent| ledger.restore(spent));
                    let account = Account { name: Arc::clone(&name), ledger: Mutex::new(ledger), channels: Mutex::new(channels) };
                    known.accounts.insert(name, Arc::new(account));
                }
            }
        }
    }

    pub(super) fn get(&self, name: &str) -> Option<Arc<Account>> {
        self.lock().accounts.get(name).cloned()
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
