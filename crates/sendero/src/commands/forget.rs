//! `sendero forget`.

use super::CommandError;
use crate::cli::Output;
use crate::client::{Client, Content};
use crate::show;
use std::io::{BufRead, IsTerminal, Write};
use web::view::{ForgetRequest, Forgotten};

/// Forgets an address, once somebody has said yes to what that means.
pub(super) async fn forget(
    client: &Client,
    address: String,
    with_suppressions: bool,
    yes: bool,
    output: Output,
) -> Result<(), CommandError> {
    if !yes {
        let looked = ask(client, &address, with_suppressions, true).await?;
        show::to_forget(&looked, &address, with_suppressions);
        if !std::io::stdin().is_terminal() {
            return Err(CommandError::Other("nothing was forgotten; say --yes where nobody can be asked".to_owned()));
        }
        if !is_confirmed()? {
            return Err(CommandError::Other("nothing was forgotten".to_owned()));
        }
    }
    show::forgotten(&ask(client, &address, with_suppressions, false).await?, output);
    Ok(())
}

async fn ask(client: &Client, address: &str, with_suppressions: bool, dry_run: bool) -> Result<Forgotten, CommandError> {
    let request = ForgetRequest { address: address.to_owned(), with_suppressions, dry_run };
    let json = serde_json::to_vec(&request).map_err(|problem| CommandError::about("the request", problem))?;
    Ok(client.post("/api/v1/forget", &[], Content::Json(json.into())).await?)
}

fn is_confirmed() -> Result<bool, CommandError> {
    eprint!("It cannot be undone. Forget it? [y/N] ");
    let _ = std::io::stderr().flush();
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer).map_err(|problem| CommandError::about("standard input", problem))?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}
