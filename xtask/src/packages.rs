//! What the tests need of Debian and npm, installed when it is missing.

use crate::shell::{has, root, run};
use anyhow::{Result, bail};
use std::process::Command;

/// A program the tests start, and the Debian package that has it.
const PROGRAMS: [(&str, &str); 9] = [
    ("postfix", "postfix"),
    ("postconf", "postfix"),
    ("saslpasswd2", "sasl2-bin"),
    ("swaks", "swaks"),
    ("msmtp", "msmtp"),
    ("python3", "python3"),
    ("node", "nodejs"),
    ("npm", "npm"),
    ("openssl", "openssl"),
];

/// Files that a package brings and no program shows.
const FILES: [(&str, &str); 1] = [("/usr/lib/x86_64-linux-gnu/sasl2/libplain.so", "libsasl2-modules")];

/// Perl modules that `swaks` loads when it needs them; it does TLS only with the first.
const PERL: [(&str, &str); 1] = [("Net::SSLeay", "libnet-ssleay-perl")];

/// Installs what is missing.
pub fn install() -> Result<()> {
    let missing = missing();
    if !missing.is_empty() {
        debian(&missing)?;
    }
    npm()
}

fn missing() -> Vec<&'static str> {
    let programs = PROGRAMS.iter().filter(|(program, _)| !has(program)).map(|(_, package)| *package);
    let on_this_machine = |file: &str| std::env::consts::ARCH != "x86_64" || std::path::Path::new(file).exists();
    let files = FILES.iter().filter(|(file, _)| !on_this_machine(file)).map(|(_, package)| *package);
    let perl = PERL.iter().filter(|(module, _)| !has_perl(module)).map(|(_, package)| *package);
    let mut packages: Vec<&str> = programs.chain(files).chain(perl).collect();
    packages.sort_unstable();
    packages.dedup();
    packages
}

/// Debian's own perl is the one that swaks runs under.
fn has_perl(module: &str) -> bool {
    let output = Command::new("/usr/bin/perl").arg(format!("-M{module}")).args(["-e", "1"]).output();
    output.is_ok_and(|output| output.status.success())
}

fn debian(packages: &[&str]) -> Result<()> {
    if !has("apt-get") || !is_root() {
        bail!("the tests need the Debian packages {packages:?}; install them, or run this as root on Debian");
    }
    let apt = || {
        let mut command = Command::new("apt-get");
        command.env("DEBIAN_FRONTEND", "noninteractive");
        command
    };
    run("package lists", apt().args(["update", "-qq"]))?;
    run("packages", apt().args(["install", "-y", "-qq", "--no-install-recommends"]).args(packages))
}

fn npm() -> Result<()> {
    let folder = root().join("tests/node");
    if !folder.join("package-lock.json").exists() || folder.join("node_modules/nodemailer").exists() {
        return Ok(());
    }
    run("npm packages", Command::new("npm").current_dir(folder).args(["ci", "--no-audit", "--no-fund", "--silent"]))
}

fn is_root() -> bool {
    let id = Command::new("id").arg("-u").output();
    id.is_ok_and(|output| output.stdout.trim_ascii() == b"0")
}
