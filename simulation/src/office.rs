//! The directory of a history, and the people who change it.

use crate::plan::{ChannelPlan, Plan};
use anyhow::{Context, Result};
use mail::{ChannelId, PersonId, TeamId, Timestamp};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use store::directory::{ApplyOptions, DesiredChannel, DesiredDirectory, DesiredPerson, DesiredTeam, DirectoryStore};
use store::seal::{Sealer, Secret};

/// Whoever administers the gateway.
pub struct Office {
    /// Its directory.
    pub directory: Arc<DirectoryStore>,
    people: u32,
    rows: Mutex<BTreeMap<ChannelId, Row>>,
}

#[derive(Clone)]
struct Row {
    plan: ChannelPlan,
    connections: u32,
    password: u32,
}

impl Office {
    /// The directory of a plan.
    ///
    /// # Errors
    /// The directory refuses it.
    pub fn open(plan: &Plan, now: Timestamp) -> Result<Self> {
        let directory = Arc::new(DirectoryStore::in_memory(sealer()?)?);
        let row = |channel: &ChannelPlan| Row { plan: channel.clone(), connections: channel.connections, password: 0 };
        let rows = plan.channels.iter().map(|channel| (channel.id, row(channel))).collect();
        let office = Self { directory, people: plan.people, rows: Mutex::new(rows) };
        office.apply(now)?;
        for channel in &plan.channels {
            let name = name(channel.id);
            let known = office.directory.directory().channel_named(&name).map(|row| row.id);
            anyhow::ensure!(known == Some(channel.id), "channel {name} has the row {known:?}");
        }
        Ok(office)
    }

    /// Gives a channel another password.
    ///
    /// # Errors
    /// The directory refuses it.
    pub fn set_password(&self, channel: ChannelId, password: u32, now: Timestamp) -> Result<()> {
        self.change(channel, |row| row.password = password, now)
    }

    /// Gives a channel another cap on connections.
    ///
    /// # Errors
    /// The directory refuses it.
    pub fn set_connections(&self, channel: ChannelId, connections: u32, now: Timestamp) -> Result<()> {
        self.change(channel, |row| row.connections = connections, now)
    }

    fn change(&self, channel: ChannelId, how: impl FnOnce(&mut Row), now: Timestamp) -> Result<()> {
        {
            let mut rows = self.rows.lock().unwrap_or_else(PoisonError::into_inner);
            let row = rows.get_mut(&channel).context("a channel of the plan")?;
            let before = (row.connections, row.password);
            how(row);
            if (row.connections, row.password) == before {
                // Nothing would come of it, at some cost.
                return Ok(());
            }
        }
        self.apply(now)
    }

    fn apply(&self, now: Timestamp) -> Result<()> {
        let options = ApplyOptions { dry_run: false, prune: false, by: "admin@example.com".into(), now };
        self.directory.apply(&self.desired(), &options)?;
        Ok(())
    }

    fn desired(&self) -> DesiredDirectory {
        let rows = self.rows.lock().unwrap_or_else(PoisonError::into_inner).clone();
        DesiredDirectory {
            teams: vec![DesiredTeam { name: "sales".into(), domains: vec!["example.com".into()] }],
            people: (0..self.people)
                .map(|person| DesiredPerson { email: address(person), teams: vec!["sales".into()], ..DesiredPerson::default() })
                .collect(),
            channels: rows.iter().map(|(id, row)| desired_channel(*id, row)).collect(),
            tokens: vec![],
        }
    }

    /// The team for which a person's mail stands in line.
    #[must_use]
    pub fn team(&self, person: u32) -> Option<TeamId> {
        team(person, self.people)
    }

    /// A person's row.
    ///
    /// # Panics
    /// There is no such person.
    #[must_use]
    pub fn person(&self, person: u32) -> PersonId {
        self.directory.directory().person_by_address(&address(person)).expect("everybody of the plan is there").id
    }
}

/// Four people are two teams; fewer stand in line each for themselves.
fn team(person: u32, people: u32) -> Option<TeamId> {
    (people == 4).then_some(TeamId(1 + person % 2))
}

fn desired_channel(id: ChannelId, row: &Row) -> DesiredChannel {
    let plan = &row.plan;
    let mut limits = vec![format!("{} connections", row.connections)];
    limits.extend(plan.messages_per_connection.map(|count| format!("{count} messages / connection")));
    limits.extend(plan.recipients_per_message.map(|count| format!("{count} recipients / message")));
    limits.extend(plan.limits.iter().map(ToString::to_string));
    DesiredChannel {
        name: name(id),
        owner: "team:sales".into(),
        host: Some("smtp.example.net".into()),
        username: Some(format!("account{}", plan.account)),
        password: Some(Secret::new(row.password.to_string())),
        domains: Some(vec!["example.com".into()]),
        limits,
        refusals_free: plan.refusals_free,
        provider: plan.provider.map(str::to_owned),
        on_uncertain: plan.asks.then(|| "ask".into()),
        default: id == ChannelId(1),
        ..DesiredChannel::default()
    }
}

/// A person's address.
#[must_use]
pub fn address(person: u32) -> String {
    format!("person{person}@example.com")
}

/// A channel's name.
#[must_use]
pub fn name(channel: ChannelId) -> String {
    format!("channel{}", channel.0)
}

/// One key for all histories of this process: what it seals is never kept.
fn sealer() -> Result<Arc<Sealer>> {
    static SEALER: OnceLock<Arc<Sealer>> = OnceLock::new();
    if let Some(sealer) = SEALER.get() {
        return Ok(Arc::clone(sealer));
    }
    let folder = tempfile::tempdir()?;
    let sealer = Arc::new(Sealer::open(&folder.path().join("key"), true)?);
    Ok(Arc::clone(SEALER.get_or_init(|| sealer)))
}
