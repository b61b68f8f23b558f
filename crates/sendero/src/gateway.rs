//! The wiring: store, directory, doors, scheduler and HTTP side of one running gateway.

use crate::backups::Backups;
use crate::directory_wire;
use crate::metrics;
use crate::scheduler::{Announced, Parts, Scheduler, Suppressed};
use crate::settings::Settings;
use crate::steady::{BEAT_EVERY, Steady};
use anyhow::{Context, Result, bail};
use delivery::{CaptureTransport, Endpoint, SmarthostTransport};
use intake::accept::{ExplicitWishes, Incoming, Trace};
use intake::caps::Caps;
use intake::{Deadlines, Door, Intake, IntakeSettings, ServerTls, wall_clock};
use mail::channel::ChannelMove;
use mail::classify::Rules;
use mail::pace::Ahead;
use mail::steady::Credit;
use mail::{BodyType, ChannelId, ChannelState, Directory, Envelope, Lane, Recipient, Surface, Timestamp};
use smtp::{ForwardPath, ReversePath};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use store::backup::Manifest;
use store::directory::{ApplyOptions, DesiredDirectory, DirectoryError, DirectoryStore, MadeToken};
use store::embedded::{Embedded, OpenError, Options, is_unfinished};
use store::seal::{Sealer, default_key_path};
use store::{KeptBack, Queue};
use tokio::net::{TcpListener, UnixListener};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use web::gateway::{About, Answer, Outlook, Repeat, notices_trouble};
use web::serve::Connections;
use web::view::{Applied, ListenerView, TestReport, TestStep};
use web::{ApplyRequest, Principal, Problem, Receipt, Submission};

/// How long open transactions may take to end when the gateway stops.
const STOP_GRACE: Duration = Duration::from_secs(25);
/// The wait before a refused login is confirmed: with jitter 30 to 60 seconds.
const CONFIRM_LOGIN: Duration = Duration::from_secs(30);
/// Most connections of the command line at once.
const LOCAL_CONNECTIONS: usize = 64;
/// How long an idle connection to a next hop is kept.
const KEEP_IDLE: Duration = Duration::from_secs(20);

/// Old spending is forgotten this often.
const TIDY_EVERY: Duration = Duration::from_secs(3600);

/// The parts of a running gateway.
pub struct Gateway {
    /// The queue.
    pub queue: Arc<dyn Queue>,
    /// Who is who.
    pub directory: Arc<DirectoryStore>,
    /// The way in.
    pub intake: Arc<Intake>,
    /// The way out.
    pub scheduler: Scheduler,
    smarthosts: Arc<SmarthostTransport>,
    clock: Arc<Steady>,
    backups: Arc<Backups>,
    pub(crate) store: Arc<Embedded>,
    about: About,
}

/// Cancelled when the log cannot be written any more.
#[derive(Clone, Default)]
struct Broken {
    token: CancellationToken,
    why: Arc<OnceLock<String>>,
}

/// A gateway that runs until it is stopped.
pub struct Running {
    gateway: Arc<Gateway>,
    tls: Arc<ServerTls>,
    connections: Connections,
    local_connections: Connections,
    stop: CancellationToken,
    broken: Broken,
    doors: TaskTracker,
}

impl Gateway {
    /// Starts a gateway; `desired` is applied to its directory first.
    ///
    /// # Errors
    /// What is in the way, and what to do.
    pub async fn start(settings: Settings, desired: Option<DesiredDirectory>) -> Result<Running> {
        let settings = &settings;
        if Manifest::is_in(&settings.data_dir) {
            let folder = settings.data_dir.display();
            bail!(
                "{folder} is a backup, and a gateway would spoil it: 'sendero restore {folder}' makes a data folder of it, and holds its mail"
            );
        }
        private_folder(&settings.data_dir)?;
        let clock = Arc::new(Steady::default());
        let broken = Broken::default();
        let rules = Arc::new(settings.replies.load()?);
        let (store, directory) = open_data(settings, &rules, &clock, &broken, desired).await?;
        let queue: Arc<dyn Queue> = store.clone();
        let backups =
            Arc::new(Backups::new(store.clone(), &settings.data_dir, settings.queue.min_free, master_key_file(settings)?));
        look_for_notices_channel(settings, &directory);
        let tls = Arc::new(open_tls(settings)?);
        let limits = settings.limits;
        let intake_settings = IntakeSettings {
            hostname: settings.hostname.clone(),
            max_message_size: limits.message_size,
            max_recipients: limits.recipients,
            hash_addresses: settings.log.hash_addresses,
        };
        let suppressed = Suppressed {
            hostname: settings.hostname.clone(),
            notices: settings.notices.clone(),
            directory: directory.clone(),
            hash_addresses: settings.log.hash_addresses,
        };
        let announced = Arc::new(Announced::default());
        let intake = Intake::new(queue.clone(), directory.clone(), intake_settings, clock.clone());
        let intake = Arc::new(intake.telling(Arc::new(suppressed)).knowing(announced.clone()));
        let smarthosts = Arc::new(smarthosts(settings)?);
        let stop = CancellationToken::new();
        let caps = Caps::new(limits.connections, limits.connections_per_address);
        let door = Door::new(Arc::clone(&intake), Arc::clone(&tls), caps, Deadlines::for_size(limits.message_size));
        let doors = TaskTracker::new();
        // Whoever is greeted by one door finds the others open.
        let mut others = Vec::new();
        let http = open_http(settings, &mut others).await?;
        let local = open_socket(&settings.socket(), &mut others)?;
        let mut listeners = open_doors(settings, &door, &doors, &stop).await?;
        listeners.append(&mut others);
        let parts = parts(settings, &queue, &directory, &smarthosts, &rules, &clock);
        let scheduler = Scheduler::start(Parts { announced, ..parts })
            .context("what channels have spent of their limits cannot be read, so nothing may leave: try `sendero store check`")?;
        doors.spawn(keep_time(clock.clone(), queue.clone(), scheduler.clone(), stop.clone()));
        let follower = scheduler.clone();
        directory.on_change(move || follower.directory_changed());
        let about = About {
            hostname: settings.hostname.clone(),
            version: env!("CARGO_PKG_VERSION"),
            started_at: wall_clock(),
            data_dir: settings.data_dir.display().to_string(),
            listeners,
            max_message_size: limits.message_size,
            notices_channel: settings.notices.as_ref().map(|notices| notices.channel.clone()),
            notices: settings.notices.as_ref().map(|notices| format!("by channel '{}', from {}", notices.channel, notices.from)),
        };
        let gateway = Arc::new(Gateway { queue, directory, intake, scheduler, smarthosts, clock, backups, store, about });
        let connections = Connections::new(limits.http_connections, stop.clone());
        // The command line has places of its own: whoever fills those of the network does not lock it out.
        let local_connections = Connections::new(LOCAL_CONNECTIONS, stop.clone());
        let surface = web::Surface::new(gateway.clone());
        for listener in http {
            doors.spawn(web::serve::tcp(listener, surface.public(), connections.clone()));
        }
        doors.spawn(web::serve::unix(local, surface.local(), local_connections.clone()));
        for listener in &gateway.about.listeners {
            tracing::info!(service = listener.service, address = listener.address, tls = listener.tls, "listening");
        }
        Ok(Running { gateway, tls, connections, local_connections, stop, broken, doors })
    }
}

impl Running {
    /// The parts.
    #[must_use]
    pub fn gateway(&self) -> &Arc<Gateway> {
        &self.gateway
    }

    /// Where it listens.
    #[must_use]
    pub fn listeners(&self) -> &[ListenerView] {
        &self.gateway.about.listeners
    }

    /// The certificate shown to clients.
    #[must_use]
    pub fn certificate_file(&self) -> PathBuf {
        self.tls.certificate_file().to_owned()
    }

    /// Reads the certificate's files again.
    pub fn reload(&self) {
        match self.tls.reload() {
            Ok(()) => tracing::info!("certificate read again"),
            Err(problem) => tracing::error!(%problem, "certificate not read; the one before stays"),
        }
    }

    /// Resolves when the log cannot be written any more: the process must end. Says why.
    pub async fn failed(&self) -> String {
        self.broken.token.cancelled().await;
        self.broken.why.get().cloned().unwrap_or_default()
    }

    /// Ends politely: no new mail, open transactions to their end or recorded as uncertain, everything on the disk.
    pub async fn stop(self) {
        tracing::info!(grace_s = STOP_GRACE.as_secs(), "stopping: no new mail, open transactions may end");
        self.stop.cancel();
        self.doors.close();
        let backups = Arc::clone(&self.gateway.backups);
        let backup_ended = tokio::task::spawn_blocking(move || backups.stop());
        tokio::join!(
            self.gateway.scheduler.stop(STOP_GRACE),
            self.doors.wait(),
            self.connections.ended(),
            self.local_connections.ended()
        );
        if backup_ended.await.is_err() {
            tracing::error!("the backup did not end in order");
        }
        // What was spent until now is known to be older than a machine that is off from here on.
        beat(&self.gateway.clock, &self.gateway.queue).await;
        let queue = Arc::clone(&self.gateway.queue);
        if tokio::task::spawn_blocking(move || queue.close()).await.is_err() {
            tracing::error!("the queue did not close in order; its log is whole");
        }
        tracing::info!("stopped");
    }
}

/// Says early what each report would meet later. It is no reason not to start: the directory can be mended meanwhile.
fn look_for_notices_channel(settings: &Settings, directory: &DirectoryStore) {
    let Some(notices) = &settings.notices else { return };
    if let Some(trouble) = notices_trouble(&directory.directory(), &notices.channel) {
        tracing::warn!(channel.name = notices.channel, "{trouble}");
    }
}

/// Opens queue and directory. The first start has a channel that keeps everything here.
async fn open_data(
    settings: &Settings,
    rules: &Arc<Rules>,
    clock: &Arc<Steady>,
    broken: &Broken,
    desired: Option<DesiredDirectory>,
) -> Result<(Arc<Embedded>, Arc<DirectoryStore>)> {
    let data_dir = settings.data_dir.clone();
    let key = settings.master_key_file.clone();
    let kept = settings.queue.clone();
    let (broken, rules) = (broken.clone(), Arc::clone(rules));
    let clock = Arc::clone(clock);
    let now = wall_clock();
    tokio::task::spawn_blocking(move || {
        // The directory is opened first, and changed only once the queue's lock is ours.
        let folder = data_dir.join("queue");
        if is_unfinished(&folder) {
            // Before a directory and a key are made beside it.
            return Err(OpenError::Unfinished(folder).into());
        }
        private_folder(&folder)?;
        let path = data_dir.join("directory.sqlite");
        let directory = Arc::new(open_directory(&data_dir, &path, key.as_deref())?.with_rules(rules));
        let rows = directory.directory();
        let ask =
            move |channel: ChannelId| rows.channel(channel).is_some_and(|row| row.on_uncertain == mail::channel::OnUncertain::Ask);
        let options = Options {
            min_free: kept.min_free,
            caps: Box::new(move |room| kept.open.of(room)),
            keep_bodies: kept.keep_bodies,
            keep_history: kept.keep_history,
            uncertain_retry: kept.first_retry,
            steady: Box::new(move |last| clock.resume(last)),
            ask: Box::new(ask),
            on_failure: Box::new(move |why| {
                let _ = broken.why.set(why.to_owned());
                broken.token.cancel();
            }),
            ..Options::new(folder, now)
        };
        let queue = Arc::new(Embedded::open(options)?);
        if let Some(desired) = desired {
            let options = ApplyOptions { dry_run: false, prune: false, by: "serve --apply".into(), now };
            let applied = directory.apply(&desired, &options)?;
            show_tokens(&data_dir, &applied.made_tokens)?;
        }
        directory.ensure_capture_default(now)?;
        Ok((queue, directory))
    })
    .await?
}

/// Shows made tokens once: on a terminal, else in a file of their own, since standard output may be a journal.
fn show_tokens(data_dir: &Path, made: &[MadeToken]) -> Result<()> {
    use std::io::{IsTerminal, Write};
    use std::os::unix::fs::OpenOptionsExt;
    if made.is_empty() {
        return Ok(());
    }
    let line =
        |made: &MadeToken| format!("token '{}' of {}: {}\n", made.name, made.person, String::from_utf8_lossy(made.secret.expose()));
    let text: String = made.iter().map(line).collect();
    if std::io::stdout().is_terminal() {
        println!("{text}These secrets are shown only now.");
        return Ok(());
    }
    let path = data_dir.join("made-tokens");
    let mut file = std::fs::OpenOptions::new().create(true).append(true).mode(0o600).open(&path)?;
    file.write_all(text.as_bytes())?;
    tracing::warn!(tokens = made.len(), path = %path.display(), "tokens were made: take their secrets from this file, then delete it");
    Ok(())
}

/// Makes a folder that nobody else may look into. One that is there keeps the rights it was given, and must be writable.
fn private_folder(folder: &Path) -> Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder);
    made.with_context(|| format!("{}: cannot be made", folder.display()))?;
    let may_write = rustix::fs::access(folder, rustix::fs::Access::WRITE_OK);
    may_write.with_context(|| format!("{}: cannot be written, and a gateway keeps its mail there", folder.display()))
}

/// Where the master key of the data lies.
fn master_key_file(settings: &Settings) -> Result<PathBuf> {
    let path = match &settings.master_key_file {
        Some(key) => key.clone(),
        None => default_key_path(&settings.data_dir)?,
    };
    Ok(std::path::absolute(path)?)
}

fn open_directory(data_dir: &Path, path: &Path, key: Option<&Path>) -> Result<DirectoryStore> {
    let key = match key {
        Some(key) => key.to_owned(),
        None => default_key_path(data_dir)?,
    };
    let sealer = Sealer::open(&key, !DirectoryStore::exists(path))?;
    Ok(DirectoryStore::open(path, Arc::new(sealer))?)
}

fn open_tls(settings: &Settings) -> Result<ServerTls> {
    Ok(match &settings.tls {
        Some(files) => ServerTls::from_files(&files.certificate, &files.key)?,
        None => ServerTls::self_signed(&settings.data_dir, &settings.hostname)?,
    })
}

fn smarthosts(settings: &Settings) -> Result<SmarthostTransport> {
    let names = Arc::new(delivery::resolve::SystemNames::default());
    let resolver = delivery::resolve::Resolver::new(names, settings.network.allow.clone());
    let tls = delivery::tls::Tls::new(&settings.network.trust)?;
    Ok(SmarthostTransport::new(settings.hostname.clone(), resolver, tls, delivery::Deadlines::default()))
}

fn parts(
    settings: &Settings,
    queue: &Arc<dyn Queue>,
    directory: &Arc<DirectoryStore>,
    smarthosts: &Arc<SmarthostTransport>,
    rules: &Arc<Rules>,
    steady: &Arc<Steady>,
) -> Parts {
    let (steady, calendar) = (Arc::clone(steady), Arc::clone(steady));
    Parts {
        queue: Arc::clone(queue),
        directory: Arc::clone(directory),
        smarthosts: Arc::clone(smarthosts) as Arc<dyn delivery::Transport>,
        capture: Arc::new(CaptureTransport),
        schedule: settings.queue.schedule.clone(),
        rules: Arc::clone(rules),
        steady: Arc::new(move || steady.now()),
        wall: Arc::new(wall_clock),
        calendar: Arc::new(move || calendar.calendar()),
        jitter: Arc::new(jitter),
        confirm_login_after: CONFIRM_LOGIN,
        keep_idle: KEEP_IDLE,
        hash_addresses: settings.log.hash_addresses,
        hostname: settings.hostname.clone(),
        notices: settings.notices.clone(),
        announced: Arc::default(),
    }
}

/// Writes the clocks down and forgets old spending, until the stop.
async fn keep_time(clock: Arc<Steady>, queue: Arc<dyn Queue>, scheduler: Scheduler, stop: CancellationToken) {
    let mut tidied = clock.now();
    loop {
        if let Some(credit) = beat(&clock, &queue).await {
            tracing::info!(seconds = credit.by.as_secs(), "the clock is proved: the time while the machine was off counts");
            scheduler.credited(&credit);
        }
        if clock.now().since(tidied) >= TIDY_EVERY {
            tidied = clock.now();
            scheduler.tidy();
        }
        tokio::select! {
            () = tokio::time::sleep(BEAT_EVERY) => {}
            () = stop.cancelled() => return,
        }
    }
}

/// Writes the clocks down; what was credited by it, durably.
async fn beat(clock: &Arc<Steady>, queue: &Arc<dyn Queue>) -> Option<Credit> {
    let reading = Arc::clone(clock);
    let (heartbeat, credit) = tokio::task::spawn_blocking(move || reading.beat()).await.ok().flatten()?;
    match queue.beat(heartbeat, credit).await {
        Ok(()) => {
            clock.written(&heartbeat);
            credit
        }
        Err(problem) => {
            tracing::warn!(%problem, "the clocks were not written down");
            None
        }
    }
}

/// A random number from -1 to 1.
fn jitter() -> f64 {
    let mut bytes = [0; 4];
    aws_lc_rs::rand::fill(&mut bytes).expect("the generator has no state in which it refuses");
    f64::from(u32::from_le_bytes(bytes)) / f64::from(u32::MAX) * 2.0 - 1.0
}

async fn open_doors(
    settings: &Settings,
    door: &Arc<Door>,
    doors: &TaskTracker,
    stop: &CancellationToken,
) -> Result<Vec<ListenerView>> {
    let (mut views, mut ready) = (Vec::new(), Vec::new());
    for listener in &settings.submission {
        let wanted = match &listener.bind {
            intake::Bind::Tcp(address) => address.to_string(),
            intake::Bind::Unix(path) => format!("unix:{}", path.display()),
        };
        let tls = match listener.mode {
            intake::Mode::Starttls => "starttls",
            intake::Mode::Implicit => "implicit",
            intake::Mode::Clear => "none",
        };
        let bound = listener.clone().bind().await.with_context(|| format!("cannot listen on {wanted} for mail"))?;
        let address = bound.local_addr().map_or(wanted, |address| address.to_string());
        views.push(ListenerView { service: "submission".into(), address, tls: tls.into() });
        ready.push(bound);
    }
    // Whoever is greeted by one finds the others open.
    for bound in ready {
        doors.spawn(bound.serve(Arc::clone(door), stop.clone()));
    }
    Ok(views)
}

async fn open_http(settings: &Settings, views: &mut Vec<ListenerView>) -> Result<Vec<TcpListener>> {
    let mut listeners = Vec::new();
    for address in &settings.http.listen {
        let listener = TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address} for HTTP"))?;
        let bound: SocketAddr = listener.local_addr()?;
        if !bound.ip().is_loopback() {
            tracing::warn!(address = %bound, "HTTP here is clear text and carries tokens: let only a proxy with TLS reach it");
        }
        views.push(ListenerView { service: "http".into(), address: bound.to_string(), tls: "none".into() });
        listeners.push(listener);
    }
    Ok(listeners)
}

/// The socket of the command line. The queue's lock is ours, so a socket that is there is a dead one.
fn open_socket(path: &Path, views: &mut Vec<ListenerView>) -> Result<UnixListener> {
    use std::os::unix::fs::{FileTypeExt, PermissionsExt};
    if let Ok(there) = std::fs::symlink_metadata(path) {
        anyhow::ensure!(there.file_type().is_socket(), "{}: something else than a socket is there; move it away", path.display());
        std::fs::remove_file(path).with_context(|| format!("{}: cannot be replaced", path.display()))?;
    }
    let listener = UnixListener::bind(path)
        .with_context(|| format!("{}: cannot be made (a socket's path has at most 107 bytes)", path.display()))?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    views.push(ListenerView { service: "socket".into(), address: format!("unix:{}", path.display()), tls: "none".into() });
    Ok(listener)
}

impl web::Gateway for Gateway {
    fn now(&self) -> Timestamp {
        wall_clock()
    }

    fn steady(&self) -> Timestamp {
        self.clock.now()
    }

    fn outlook(&self, channel: ChannelId) -> Outlook {
        self.scheduler.outlook(channel)
    }

    fn kept_back(&self) -> KeptBack {
        self.scheduler.kept_back()
    }

    fn forecast(&self, channel: ChannelId, lane: Lane, ahead: Ahead) -> Option<Timestamp> {
        self.scheduler.forecast(channel, lane, ahead)
    }

    fn released(&self, channel: ChannelId, in_charge: bool) -> Answer<'_, ()> {
        Box::pin(self.scheduler.released(channel, in_charge))
    }

    fn queue(&self) -> Arc<dyn Queue> {
        Arc::clone(&self.queue)
    }

    fn directory(&self) -> Arc<Directory> {
        self.directory.directory()
    }

    fn channel_state(&self, channel: ChannelId) -> ChannelState {
        self.scheduler.channel_state(channel)
    }

    fn about(&self) -> About {
        self.about.clone()
    }

    fn sign_in<'a>(&'a self, bearer: &'a str) -> Answer<'a, Option<Principal>> {
        let found = self.directory.verify_bearer(bearer.as_bytes()).ok();
        let principal = found.map(|sign_in| Principal { person: sign_in.person, token: Some(sign_in.token) });
        Box::pin(std::future::ready(principal))
    }

    fn begin(&self, who: Principal, surface: Surface, size: Option<u64>) -> Answer<'_, Result<(), Problem>> {
        let principal = principal(who);
        Box::pin(async move {
            self.intake.begin(principal, size).await.map_err(|refusal| {
                self.intake.refused(intake::Source { principal, surface, peer: None, envelope: None }, &refusal);
                refused(&refusal)
            })
        })
    }

    fn arrive(&self, submission: &Submission) -> intake::Arrival {
        let envelope = envelope(submission.reverse_path.clone(), &submission.recipients);
        let times = mail::when::Times { scheduled_at: submission.scheduled_at, expires_at: submission.expires_at };
        self.intake.arrive(submission.surface, Some((&envelope, times)))
    }

    fn refused(&self, submission: &Submission, refusal: &intake::AcceptRefusal) -> Problem {
        let envelope = envelope(submission.reverse_path.clone(), &submission.recipients);
        let (principal, surface) = (principal(submission.principal), submission.surface);
        self.intake.refused(intake::Source { principal, surface, peer: None, envelope: Some(&envelope) }, refusal);
        refused(refusal)
    }

    fn accept(&self, submission: Submission) -> Answer<'_, Result<Receipt, Problem>> {
        Box::pin(async move { self.intake.accept(incoming(submission)).await.map(receipt).map_err(|refusal| refused(&refusal)) })
    }

    fn repeat(&self, repeat: Repeat) -> Answer<'_, Result<Receipt, Problem>> {
        Box::pin(async move { self.intake.repeat(again(repeat)).await.map(receipt).map_err(|refusal| refused(&refusal)) })
    }

    fn steer_channel(&self, channel: ChannelId, wish: ChannelMove) -> Answer<'_, ()> {
        Box::pin(self.scheduler.steer(channel, wish))
    }

    fn test_channel(&self, channel: ChannelId, from: Option<ReversePath>) -> Answer<'_, TestReport> {
        Box::pin(async move { self.probe(channel, from).await })
    }

    fn apply(&self, request: ApplyRequest) -> Answer<'_, Result<Applied, Problem>> {
        Box::pin(async move {
            let desired =
                directory_wire::from_json(request.directory).map_err(|problem| Problem::new(422, "validation_failed", problem))?;
            let options = ApplyOptions { dry_run: request.dry_run, prune: request.prune, by: request.by, now: wall_clock() };
            let directory = Arc::clone(&self.directory);
            let applied = tokio::task::spawn_blocking(move || directory.apply(&desired, &options)).await;
            match applied {
                Ok(Ok(applied)) => Ok(directory_wire::applied(applied, request.dry_run)),
                Ok(Err(DirectoryError::Invalid(problems))) => Err(Problem::new(422, "validation_failed", problems.join("\n"))),
                Ok(Err(problem)) => Err(Problem::new(500, "internal_error", problem.to_string())),
                Err(_) => Err(Problem::new(500, "internal_error", "the directory's answer was lost; the log says why")),
            }
        })
    }

    fn begin_backup(&self, folder: PathBuf) -> Result<web::view::Backup, Problem> {
        self.backups.begin(folder)
    }

    fn backup(&self) -> Option<web::view::Backup> {
        self.backups.last()
    }

    fn forget(&self, wish: web::gateway::Forget) -> Answer<'_, Result<web::view::Forgotten, Problem>> {
        Box::pin(crate::forget::forget(self, wish))
    }

    fn metrics(&self) -> String {
        let totals = self.queue.totals();
        let arriving = self.queue.arriving_bytes();
        metrics::text(&totals, arriving, &self.intake.counters().read(), self.scheduler.counters(), &self.channel_figures())
    }
}

impl Gateway {
    fn channel_figures(&self) -> Vec<metrics::ChannelFigures> {
        let queues = self.queue.queue(web::Gateway::steady(self), &self.scheduler.kept_back()).unwrap_or_default();
        let queues: HashMap<_, _> = queues.into_iter().map(|queue| (queue.channel, queue)).collect();
        let now = web::Gateway::now(self);
        let figures = |row: &mail::Channel| {
            let queue = queues.get(&row.id);
            let state = if row.disabled { ChannelState::Disabled } else { self.scheduler.channel_state(row.id) };
            metrics::ChannelFigures {
                name: row.name.clone(),
                state: state.name(),
                lanes: queue.map(|queue| queue.lanes).unwrap_or_default(),
                oldest_seconds: queue.and_then(|queue| queue.oldest).map_or(0, |oldest| now.since(oldest).as_secs()),
            }
        };
        self.directory.directory().channels().map(figures).collect()
    }

    async fn probe(&self, channel: ChannelId, from: Option<ReversePath>) -> TestReport {
        let directory = self.directory.directory();
        let Some(row) = directory.channel(channel) else { return TestReport::default() };
        let secret = match self.directory.channel_secret(channel, row.revision) {
            Ok(secret) => secret,
            Err(problem) => return failed("credential", &problem.to_string()),
        };
        let endpoint = Endpoint::new(row, secret);
        if row.transport == mail::Transport::Capture {
            let step = TestStep {
                step: "capture".into(),
                ok: true,
                elapsed_ms: 0,
                detail: "keeps every message here; nothing leaves".into(),
                fix: String::new(),
            };
            return TestReport { ok: true, steps: vec![step] };
        }
        let report = delivery::probe::probe(&self.smarthosts, &endpoint, from.as_ref(), delivery::probe::PATIENCE).await;
        let mut steps: Vec<TestStep> = report
            .steps
            .into_iter()
            .map(|step| TestStep {
                step: step.stage.name().into(),
                ok: true,
                elapsed_ms: step.elapsed.as_millis() as u64,
                detail: step.detail,
                fix: String::new(),
            })
            .collect();
        steps.extend(report.failure.map(|failure| TestStep {
            step: failure.stage.name().into(),
            ok: false,
            elapsed_ms: failure.elapsed.as_millis() as u64,
            detail: failure.cause,
            fix: failure.fix,
        }));
        let ok = steps.iter().all(|step| step.ok);
        if ok {
            self.scheduler.ask_size_again(channel);
        }
        TestReport { ok, steps }
    }
}

fn failed(step: &str, detail: &str) -> TestReport {
    let step = TestStep { step: step.into(), ok: false, elapsed_ms: 0, detail: detail.into(), fix: "correct the channel".into() };
    TestReport { ok: false, steps: vec![step] }
}

fn receipt(receipt: intake::Receipt) -> Receipt {
    Receipt {
        id: receipt.id,
        channel: receipt.channel,
        lane: receipt.lane,
        replayed: receipt.replayed,
        size_bytes: receipt.size_bytes,
    }
}

fn refused(refusal: &intake::AcceptRefusal) -> Problem {
    let problem = Problem::new(refusal.http_status(), refusal.code(), refusal.to_string());
    match refusal.http_status() {
        429 | 503 | 507 => problem.retry_after(30),
        _ => problem,
    }
}

fn again(repeat: Repeat) -> intake::Repeat {
    intake::Repeat {
        principal: principal(repeat.principal),
        surface: repeat.surface,
        of: repeat.of,
        channel: repeat.channel,
        lane: repeat.lane,
        lane_reason: repeat.lane_reason,
        tags: repeat.tags,
        envelope: Envelope {
            reverse_path: repeat.reverse_path,
            recipients: repeat.recipients,
            body: BodyType::SevenBit,
            smtputf8: false,
            ret: repeat.ret,
            envid: repeat.envid,
        },
        body: repeat.body,
    }
}

fn envelope(reverse_path: ReversePath, recipients: &[ForwardPath]) -> Envelope {
    Envelope {
        reverse_path,
        recipients: recipients.iter().cloned().map(Recipient::new).collect(),
        body: BodyType::SevenBit,
        smtputf8: false,
        ret: None,
        envid: None,
    }
}

fn principal(principal: Principal) -> intake::Principal {
    intake::Principal { person: principal.person, token: principal.token }
}

fn incoming(submission: Submission) -> Incoming {
    let protocol = if submission.surface == Surface::Http { "HTTP" } else { "local" };
    Incoming {
        principal: principal(submission.principal),
        surface: submission.surface,
        trace: Trace { helo: String::new(), protocol, peer: None },
        envelope: envelope(submission.reverse_path, &submission.recipients),
        submitted: submission.body,
        wishes: ExplicitWishes {
            channel: submission.channel,
            lane: submission.lane,
            tags: submission.tags,
            idempotency_key: submission.idempotency_key,
            scheduled_at: submission.scheduled_at,
            expires_at: submission.expires_at,
        },
    }
}
