//! Every command a person or CI runs, as `cargo xtask COMMAND`.

mod breaks;
mod figures;
mod fuzz;
mod packages;
mod shell;
mod simulate;
mod test;

use anyhow::{Result, bail};

const HELP: &str = "\
cargo xtask COMMAND

  test              installs what the tests need, then checks format, lints, tests, documentation
  breaks [NAME]     breaks the code on purpose, patch by patch: the named test must fail each time
  fuzz [--seconds N] [TARGET]
                    libFuzzer over each parser and session (needs a nightly toolchain)
  simulate --seeds N [--from S] | --seed S [--trace]
                    histories of the whole gateway on a simulated clock, disk and network, on all cores
  packages          installs the Debian and npm packages that the tests need, and nothing else
";

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let rest = arguments.get(1..).unwrap_or_default();
    std::env::set_current_dir(shell::root())?;
    match arguments.first().map(String::as_str) {
        Some("test") => test::run(rest),
        Some("breaks") => breaks::run(rest),
        Some("fuzz") => fuzz::run(rest),
        Some("simulate") => simulate::run(rest),
        Some("packages") => packages::install(),
        Some("help" | "--help" | "-h") | None => {
            print!("{HELP}");
            Ok(())
        }
        Some(other) => bail!("there is no command '{other}'\n\n{HELP}"),
    }
}
