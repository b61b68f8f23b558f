//! Forgets an address, and waits a while for its last bytes to go.

use crate::gateway::Gateway;
use std::sync::Arc;
use std::time::Duration;
use store::embedded::{ForgetAddress, ForgetError, Forgot};
use web::Problem;
use web::gateway::Forget;
use web::view::Forgotten;

/// How long the answer waits for the last bytes to go.
const WAIT: Duration = Duration::from_secs(20);
/// How often it looks.
const LOOK_EVERY: Duration = Duration::from_millis(100);

pub(crate) async fn forget(gateway: &Gateway, wish: Forget) -> Result<Forgotten, Problem> {
    let pseudonym = gateway.directory.pseudonym(&wish.address);
    let order = ForgetAddress {
        address: wish.address,
        pseudonym: pseudonym.clone(),
        with_suppressions: wish.with_suppressions,
        dry_run: wish.dry_run,
        by: wish.by,
        at: intake::wall_clock(),
    };
    let store = Arc::clone(&gateway.store);
    let forgot = tokio::task::spawn_blocking(move || store.forget(&order)).await;
    let forgot = forgot.map_err(|_| Problem::new(500, "internal_error", "the store's answer was lost; the log says why"))?;
    let forgot = forgot.map_err(|error| match error {
        ForgetError::Open(_) => Problem::new(409, "mail_is_open", error.to_string()),
        ForgetError::BackupRuns => Problem::new(409, "backup_running", error.to_string()),
        ForgetError::Store(error) => error.into(),
    })?;
    let log_is_clean = wish.dry_run || is_gone(gateway).await;
    if !wish.dry_run {
        tracing::info!(pseudonym, messages = forgot.messages, log.clean = log_is_clean, "an address was forgotten");
    }
    let Forgot { messages, sent, files, suppressions, copies } = forgot;
    let suppressions_removed = wish.with_suppressions && !wish.dry_run && suppressions > 0;
    let dry_run = wish.dry_run;
    Ok(Forgotten {
        dry_run,
        pseudonym,
        messages,
        sent,
        files,
        suppressions,
        suppressions_removed,
        index_copies: copies,
        log_is_clean,
    })
}

async fn is_gone(gateway: &Gateway) -> bool {
    let begun = tokio::time::Instant::now();
    while gateway.store.has_forgotten_bytes() {
        if begun.elapsed() > WAIT {
            return false;
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    true
}
