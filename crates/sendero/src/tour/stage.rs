//! The gateway of the tour, in a fresh folder, with one person and one channel.

use super::hop::Hop;
use super::letters::{ANA, Letter, Progress};
use super::paced;
use crate::client::Client;
use crate::commands::CommandError;
use crate::gateway::{Gateway, Running};
use crate::settings::Settings;
use delivery::guard::Allow;
use intake::listener::{Bind, Listener, Login, Mode};
use mail::RecipientState;
use mail::retry::RetrySchedule;
use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use store::directory::{DesiredChannel, DesiredDirectory, DesiredPerson, DesiredTeam, DesiredToken};
use store::seal::Secret;
use web::view;

/// Free space that the tour leaves.
const MIN_FREE: u64 = 16 << 20;

/// The gateway of the tour.
pub(super) struct Stage {
    running: Running,
    pub(super) folder: PathBuf,
    pub(super) client: Client,
    pub(super) starttls: SocketAddr,
    pub(super) implicit: SocketAddr,
    pub(super) http: SocketAddr,
    pub(super) password: String,
}

impl Stage {
    /// Starts a gateway whose only channel leads to `hop`.
    pub(super) async fn set(hop: &Hop) -> Result<Self, CommandError> {
        let folder = std::env::temp_dir().join(format!("sendero-try-{}", uuid::Uuid::now_v7().simple()));
        let made = std::fs::DirBuilder::new().mode(0o700).create(&folder);
        made.map_err(|problem| CommandError::about(folder.display(), problem))?;
        let password = format!("try-{}{}", uuid::Uuid::new_v4().simple(), uuid::Uuid::new_v4().simple());
        let settings = settings(&folder, hop.port)?;
        let client = Client::new(settings.socket());
        let running = Gateway::start(settings, Some(directory(hop.port, &password))).await?;
        let status: view::Status = client.get("/api/v1/status", &[]).await?;
        let address = |service: &str, tls: &str| {
            let found = status.listeners.iter().find(|one| one.service == service && one.tls == tls);
            found.and_then(|one| one.address.parse().ok()).ok_or_else(|| CommandError::Other(format!("no {service} listener")))
        };
        Ok(Self {
            starttls: address("submission", "starttls")?,
            implicit: address("submission", "implicit")?,
            http: address("http", "none")?,
            running,
            folder,
            client,
            password,
        })
    }

    /// The gateway itself.
    pub(super) fn gateway(&self) -> Arc<Gateway> {
        Arc::clone(self.running.gateway())
    }

    /// The certificate the gateway made for itself.
    pub(super) fn certificate(&self) -> PathBuf {
        self.folder.join("data/tls/cert.pem")
    }

    /// Sees how far each letter has come.
    pub(super) async fn look(&self, letters: &mut [Letter]) {
        for letter in letters.iter_mut().filter(|letter| letter.is_under_way()) {
            let Some(id) = &letter.id else { continue };
            let Ok(message) = self.client.get::<view::Message>(&format!("/api/v1/messages/{id}"), &[]).await else { continue };
            letter.progress = match message.status {
                RecipientState::Sent => Progress::Sent,
                RecipientState::Leased => Progress::HandingOver,
                RecipientState::Queued | RecipientState::Held => {
                    Progress::Accepted(message.waiting_on.map(|reason| reason.text).unwrap_or_default())
                }
                other => Progress::Refused(format!("{}: {}", other.name(), said(&message.recipients))),
            };
        }
    }

    /// Messages that wait or are being handed over.
    pub(super) async fn waiting(&self) -> u64 {
        let gateway: Arc<dyn web::Gateway> = self.gateway();
        gateway.queue().totals().open_messages
    }

    /// Stops the gateway; the folder goes if nothing is left in it.
    pub(super) async fn strike(self, is_empty: bool) {
        self.running.stop().await;
        if is_empty && let Err(problem) = std::fs::remove_dir_all(&self.folder) {
            eprintln!("sendero: {} could not be removed: {problem}", self.folder.display());
        }
    }
}

fn said(recipients: &[view::Recipient]) -> String {
    recipients.first().map(|recipient| recipient.said.clone()).unwrap_or_default()
}

fn settings(folder: &Path, port: u16) -> Result<Settings, CommandError> {
    let free = SocketAddr::from(([127, 0, 0, 1], 0));
    let listener = |mode| Listener { bind: Bind::Tcp(free), mode, login: Login::Required };
    let second = Duration::from_secs(1);
    let mut settings = Settings::defaults();
    settings.data_dir = folder.join("data");
    settings.hostname = "localhost".to_owned();
    settings.http.listen = vec![free];
    settings.submission = vec![listener(Mode::Starttls), listener(Mode::Implicit)];
    settings.network.allow =
        Allow::parse(&[format!("127.0.0.1:{port}")]).map_err(|problem| CommandError::Other(problem.to_string()))?;
    settings.queue.schedule = RetrySchedule::new(vec![second], Duration::from_secs(86_400))
        .map_err(|problem| CommandError::Other(problem.to_string()))?;
    settings.queue.first_retry = second;
    settings.queue.min_free = MIN_FREE;
    settings.master_key_file = Some(folder.join("master.key"));
    Ok(settings)
}

fn directory(port: u16, password: &str) -> DesiredDirectory {
    let team = DesiredTeam { name: "tour".into(), domains: vec!["example.com".into()] };
    let person =
        DesiredPerson { email: ANA.into(), name: Some("Ana".into()), teams: vec!["tour".into()], ..DesiredPerson::default() };
    let channel = DesiredChannel {
        name: "capture-server".into(),
        owner: "team:tour".into(),
        transport: Some("smtp".into()),
        host: Some("127.0.0.1".into()),
        port: Some(port),
        tls: Some("none".into()),
        auth: Some("none".into()),
        domains: Some(vec!["*".into()]),
        default: true,
        limits: vec!["2 connections".into()],
        ..DesiredChannel::default()
    };
    let paced = DesiredChannel {
        name: paced::CHANNEL.into(),
        default: false,
        limits: vec![paced::LIMIT.into(), "3 connections".into()],
        ..channel.clone()
    };
    let token = DesiredToken {
        name: "tour".into(),
        person: ANA.into(),
        secret: Some(Secret::new(password.as_bytes().to_vec())),
        surfaces: vec!["smtp".into(), "api".into()],
        ..DesiredToken::default()
    };
    DesiredDirectory { teams: vec![team], people: vec![person], channels: vec![channel, paced], tokens: vec![token] }
}
