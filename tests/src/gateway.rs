//! The real program in a folder of its own.

use crate::submitter::Submitter;
use crate::tools::{self, free_port};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// The secret with which `ana@example.com` signs in.
pub const SECRET: &str = "a-secret-of-twenty-two-characters-or-more";
/// Who signs in, and who stands behind the listener without login.
pub const PERSON: &str = "ana@example.com";
/// How long a gateway may take to greet.
const PATIENCE: Duration = Duration::from_secs(30);

/// What is particular about a gateway.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The port of the next hop on 127.0.0.1.
    pub next_hop: u16,
    /// Most connections to it.
    pub connections: u32,
    /// Messages over one of them.
    pub messages_per_connection: u32,
    /// The setting `queue.min_free`.
    pub min_free: &'static str,
    /// Further sections of the settings.
    pub further_settings: &'static str,
}

impl Plan {
    /// The usual one, for a next hop at this port.
    #[must_use]
    pub fn for_next_hop(port: u16) -> Self {
        Self { next_hop: port, connections: 8, messages_per_connection: 100, min_free: "16MiB", further_settings: "" }
    }
}

/// A gateway with a listener for each kind of protection, one channel, and one person.
/// Its process is killed when it is dropped.
pub struct Gateway {
    folder: TempDir,
    plan: Plan,
    process: Option<Child>,
    /// The listener without login, for loopback.
    pub trusted: u16,
    /// The listener with STARTTLS.
    pub starttls: u16,
    /// The listener with TLS from the first byte.
    pub implicit: u16,
    /// The HTTP side.
    pub http: u16,
}

impl Gateway {
    /// Starts one in a fresh folder and waits until it greets.
    ///
    /// # Panics
    /// It does not start.
    #[must_use]
    pub fn start(plan: Plan) -> Self {
        let mut gateway = Self::prepare(plan);
        gateway.launch();
        gateway.wait_until_it_greets();
        gateway
    }

    /// Writes its files and starts nothing.
    ///
    /// # Panics
    /// They cannot be written.
    #[must_use]
    pub fn prepare(plan: Plan) -> Self {
        let folder = tempfile::Builder::new().prefix("sendero-").tempdir().expect("a folder can be made");
        let gateway = Self {
            folder,
            plan,
            process: None,
            trusted: free_port(),
            starttls: free_port(),
            implicit: free_port(),
            http: free_port(),
        };
        tools::write(gateway.path("sendero.toml"), gateway.settings());
        tools::write(gateway.path("directory.toml"), gateway.directory());
        tools::write(gateway.path("ana.token"), SECRET);
        gateway
    }

    fn settings(&self) -> String {
        format!(
            r#"
data_dir = "{folder}/data"
hostname = "gw.example.com"

[http]
listen = ["127.0.0.1:{http}"]

[[submission]]
listen = "127.0.0.1:{trusted}"
tls = "none"
trusted = ["127.0.0.0/8"]
person = "{PERSON}"

[[submission]]
listen = "127.0.0.1:{starttls}"
tls = "starttls"

[[submission]]
listen = "127.0.0.1:{implicit}"
tls = "implicit"

[network]
allow = ["127.0.0.1:{next_hop}"]

[queue]
retry = ["1s"]
min_free = "{min_free}"

[secrets]
master_key_file = "{folder}/master.key"

{further}
"#,
            folder = self.folder.path().display(),
            http = self.http,
            trusted = self.trusted,
            starttls = self.starttls,
            implicit = self.implicit,
            next_hop = self.plan.next_hop,
            min_free = self.plan.min_free,
            further = self.plan.further_settings,
        )
    }

    fn directory(&self) -> String {
        format!(
            r#"
[[team]]
name = "sales"
domains = ["example.com"]

[[person]]
email = "{PERSON}"
name = "Ana"
role = "member"
teams = ["sales"]
send_as = ["*@example.com"]

[[channel]]
name = "hop"
owner = "team:sales"
transport = "smtp"
host = "127.0.0.1"
port = {next_hop}
tls = "none"
auth = "none"
domains = ["*"]
default = true
limits = ["{connections} connections"]
messages_per_connection = {messages}

[[token]]
name = "laptop"
person = "{PERSON}"
secret = "file:ana.token"
surfaces = ["smtp", "api"]
"#,
            next_hop = self.plan.next_hop,
            connections = self.plan.connections,
            messages = self.plan.messages_per_connection,
        )
    }

    /// A file in its folder.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The certificate it made for itself.
    #[must_use]
    pub fn certificate(&self) -> PathBuf {
        self.path("data/tls/cert.pem")
    }

    /// Starts the process and waits for nothing.
    ///
    /// # Panics
    /// It runs already, or cannot be started.
    pub fn launch(&mut self) {
        assert!(self.process.is_none(), "it runs already");
        let log = File::options().create(true).append(true).open(self.path("gateway.log")).expect("the log can be written");
        let process = program_command(&self.path("sendero.toml"))
            .args(["serve", "--apply"])
            .arg(self.path("directory.toml"))
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a file has two names"))
            .stderr(log)
            .spawn()
            .expect("the program can be started");
        self.process = Some(process);
    }

    /// Waits for the greeting of the listener without login.
    ///
    /// # Panics
    /// There is none in time, or the process ends.
    pub fn wait_until_it_greets(&mut self) {
        let until = Instant::now() + PATIENCE;
        while Submitter::connect(self.trusted).is_err() {
            let process = self.process.as_mut().expect("it was started");
            if let Ok(Some(status)) = process.try_wait() {
                panic!("the gateway ended with {status} instead of greeting:\n{}", self.log());
            }
            assert!(Instant::now() < until, "the gateway does not greet:\n{}", self.log());
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Ends it as a power failure of its process would: `kill -9`.
    ///
    /// # Panics
    /// It does not run.
    pub fn kill(&mut self) {
        let mut process = self.process.take().expect("it runs");
        process.kill().expect("one's own child can be killed");
        process.wait().expect("a killed child can be awaited");
    }

    /// Asks it to stop, and returns how it ended and how long that took.
    ///
    /// # Panics
    /// It does not run, or not end within a minute.
    pub fn stop(&mut self) -> (ExitStatus, Duration) {
        let mut process = self.process.take().expect("it runs");
        let begin = Instant::now();
        tools::succeed(Command::new("kill").args(["-TERM", &process.id().to_string()]), b"");
        loop {
            if let Some(status) = process.try_wait().expect("a child can be asked") {
                return (status, begin.elapsed());
            }
            if begin.elapsed() > Duration::from_secs(60) {
                // Nobody else would end it.
                let _ = process.kill();
                let _ = process.wait();
                panic!("the gateway does not stop:\n{}", self.log());
            }
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// The most memory that its process ever had at once, in bytes.
    ///
    /// # Panics
    /// It does not run.
    #[must_use]
    pub fn peak_memory(&self) -> u64 {
        let process = self.process.as_ref().expect("it runs");
        let status = std::fs::read_to_string(format!("/proc/{}/status", process.id())).expect("a process has a status");
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("the status tells it");
        let kib: u64 = line.trim().trim_end_matches(" kB").parse().expect("it is a number");
        kib * 1024
    }

    /// The end of its log.
    #[must_use]
    pub fn log(&self) -> String {
        tools::tail(&self.path("gateway.log"), 40)
    }

    /// Runs a command of the program with this gateway's settings.
    ///
    /// # Panics
    /// It cannot be started.
    pub fn ask(&self, arguments: &[&str]) -> Output {
        tools::run(program_command(&self.path("sendero.toml")).args(arguments), b"")
    }

    /// Runs a command that must succeed; returns its answer, read as JSON.
    ///
    /// # Panics
    /// It fails, or answers otherwise.
    #[must_use]
    pub fn ask_json(&self, arguments: &[&str]) -> serde_json::Value {
        let mut command = program_command(&self.path("sendero.toml"));
        let output = tools::run(command.args(["--output", "json"]).args(arguments), b"");
        let text = tools::said(&output);
        assert!(output.status.success(), "{arguments:?} ended with {}:\n{text}", output.status);
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{arguments:?} is no JSON ({error}):\n{text}"))
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        if let Some(mut process) = self.process.take() {
            // A scenario that ends early leaves nothing behind.
            let _ = process.kill();
            let _ = process.wait();
        }
        if thread::panicking() {
            eprintln!("the end of the gateway's log:\n{}", self.log());
        }
    }
}

/// The program with these settings and none from the environment.
#[must_use]
pub fn program_command(settings: &Path) -> Command {
    let mut command = Command::new(program());
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("SENDERO_")) {
        command.env_remove(name);
    }
    command.arg("--config").arg(settings);
    command
}

/// The built program beside the test's own.
fn program() -> PathBuf {
    let own = std::env::current_exe().expect("a test knows its file");
    let folder = own.ancestors().nth(2).expect("tests are built into target/PROFILE/deps");
    let program = folder.join("sendero");
    assert!(program.is_file(), "{} is not built; run `cargo build --package sendero`", program.display());
    program
}
