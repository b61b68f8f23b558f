//! A real Postfix with a configuration and a queue of its own.

use crate::tools::{self, free_port, program};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;
use tempfile::TempDir;

const SERVICES: &str = "
pickup     unix  n - n 60 1 pickup
cleanup    unix  n - n - 0 cleanup
qmgr       unix  n - n 300 1 qmgr
tlsmgr     unix  - - n 1000? 1 tlsmgr
rewrite    unix  - - n - - trivial-rewrite
bounce     unix  - - n - 0 bounce
defer      unix  - - n - 0 bounce
trace      unix  - - n - 0 bounce
verify     unix  - - n - 1 verify
proxymap   unix  - - n - - proxymap
proxywrite unix  - - n - 1 proxymap
smtp       unix  - - n - - smtp
relay      unix  - - n - - smtp
error      unix  - - n - - error
retry      unix  - - n - - error
discard    unix  - - n - - discard
anvil      unix  - - n - 1 anvil
scache     unix  - - n - 1 scache
postlog    unix-dgram n - n - 1 postlogd
";

/// A running Postfix that takes mail from loopback and hands it to one relay. It is stopped when dropped.
pub struct Postfix {
    folder: TempDir,
    /// Where it takes mail.
    pub port: u16,
}

impl Postfix {
    /// Starts one that hands everything to `relay`, as `[127.0.0.1]:25000`. `further` are lines of `main.cf`;
    /// in it `{dir}` stands for the folder, into which `files` are written first.
    ///
    /// # Panics
    /// Postfix is not installed, we are not root, or it does not start.
    #[must_use]
    pub fn start(relay: &str, further: &str, files: &[(&str, &str)]) -> Self {
        let folder = tempfile::Builder::new().prefix("postfix-").tempdir().expect("a folder can be made");
        let postfix = Self { folder, port: free_port() };
        postfix.write_files(relay, further, files);
        // It complains about what only a system's own Postfix has; a queue folder is made all the same.
        tools::run(postfix.command().args(["set-permissions", "create-missing"]), b"");
        let output = tools::run(postfix.command().arg("start"), b"");
        assert!(output.status.success(), "Postfix does not start (it needs root):\n{}\n{}", tools::said(&output), postfix.log());
        postfix
    }

    fn write_files(&self, relay: &str, further: &str, files: &[(&str, &str)]) {
        let folder = self.folder.path();
        // Its own users must reach their files.
        fs::set_permissions(folder, fs::Permissions::from_mode(0o755)).expect("it is ours");
        for name in ["etc", "spool", "data"] {
            fs::create_dir(folder.join(name)).expect("it is a fresh folder");
        }
        let log = tools::write(self.path("mail.log"), "");
        for path in [self.path("data"), log] {
            tools::succeed(Command::new(program("chown")).arg("postfix:postfix").arg(path), b"");
        }
        for (name, content) in files {
            tools::write(self.path(name), content);
        }
        let dir = folder.display().to_string();
        let main = format!(
            "compatibility_level = 3.6
queue_directory = {dir}/spool
data_directory = {dir}/data
maillog_file = {dir}/mail.log
maillog_file_prefixes = {dir}
myhostname = postfix.example.net
mydestination =
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
mynetworks = 127.0.0.0/8
relayhost = {relay}
smtp_host_lookup = native
smtpd_tls_security_level = none
smtpd_recipient_restrictions = permit_mynetworks, reject
alias_maps =
alias_database =
local_recipient_maps =
minimal_backoff_time = 1s
maximal_backoff_time = 5s
queue_run_delay = 1s
{}\n",
            further.replace("{dir}", &dir)
        );
        tools::write(self.path("etc/main.cf"), main);
        tools::write(self.path("etc/master.cf"), format!("127.0.0.1:{} inet n - n - - smtpd{SERVICES}", self.port));
    }

    fn command(&self) -> Command {
        let mut command = Command::new(program("postfix"));
        command.arg("-c").arg(self.path("etc"));
        command
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The end of its log.
    #[must_use]
    pub fn log(&self) -> String {
        tools::tail(&self.path("mail.log"), 30)
    }
}

impl Drop for Postfix {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the end of Postfix's log:\n{}", self.log());
        }
        // Ends the processes that its own pid file names.
        tools::run(self.command().arg("stop"), b"");
    }
}
