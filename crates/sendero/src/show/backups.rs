//! Backups, and what was restored.

use super::{json, line, print, size, time};
use crate::cli::Output;
use std::path::Path;
use store::backup::Restored;
use web::view;

pub(crate) fn backup(backup: &view::Backup, output: Output) {
    if output == Output::Json {
        return json(backup);
    }
    let Some(summary) = &backup.summary else { return };
    line("backup", &summary.folder.display().to_string());
    line("of", &time(backup.started_at));
    line("files", &format!("{}, {}", summary.files, size(summary.bytes)));
    line("open", &format!("{} messages, {} recipients", summary.open_messages, summary.open_recipients));
    line("log up to", &format!("segment {}, offset {}", summary.log_end.0, summary.log_end.1));
    line("took", &format!("{}.{:01} s", summary.took_ms / 1000, summary.took_ms % 1000 / 100));
    for warning in &summary.warnings {
        line("look into", warning);
    }
    let key = backup.master_key_file.display().to_string();
    let key = if key.is_empty() { "which [secrets] master_key_file names".to_owned() } else { key };
    print("");
    print(&format!("The master key is NOT in it: {key}"));
    print("Keep a copy of that file elsewhere. Without it the sealed credentials of the channels cannot be read, and this");
    print("backup cannot be restored.");
}

pub(crate) fn restored(restored: &Restored, data_dir: &Path, output: Output) {
    let manifest = &restored.manifest;
    if output == Output::Json {
        return json(&serde_json::json!({
            "data_dir": data_dir,
            "of": manifest.at,
            "program": manifest.program,
            "files": manifest.files.len(),
            "bytes": manifest.bytes(),
            "open_messages": manifest.open_messages,
            "open_recipients": manifest.open_recipients,
            "master_key_file": restored.key,
        }));
    }
    line("restored", &data_dir.display().to_string());
    line("backup of", &format!("{}, by version {}", time(manifest.at), manifest.program));
    line("files", &format!("{}, {}", manifest.files.len(), size(manifest.bytes())));
    line("open", &format!("{} messages, {} recipients", manifest.open_messages, manifest.open_recipients));
    line("master key", &format!("{} opens its credentials", restored.key.display()));
    held();
}

pub(crate) fn adopted(data_dir: &Path, output: Output) {
    if output == Output::Json {
        return json(&serde_json::json!({ "data_dir": data_dir, "adopted": true }));
    }
    line("adopted", &data_dir.display().to_string());
    held();
}

fn held() {
    print("");
    print("At the next start every open message is held, because nobody knows what was sent since. Then:");
    print("  sendero message list --status held               shows them");
    print("  sendero message release --restored               lets all of them go (--channel NAME: those of one channel)");
    print("  sendero message release ID, message cancel ID    decides about one");
}

pub(crate) fn released(released: view::Released, output: Output) {
    if output == Output::Json {
        return json(&released);
    }
    if released.messages == 0 {
        return print("nothing is held because it was restored");
    }
    print(&format!("{} messages go on, with {} recipients", released.messages, released.recipients));
}
