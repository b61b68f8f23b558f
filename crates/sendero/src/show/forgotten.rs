//! An address that is forgotten.

use super::{json, line, print};
use crate::cli::Output;
use web::view::Forgotten;

/// What would be forgotten, on standard error, since a person is asked next.
pub(crate) fn to_forget(found: &Forgotten, address: &str, with_suppressions: bool) {
    let Forgotten { messages, sent, suppressions, .. } = found;
    eprintln!("{address}: {messages} ended messages, {sent} of them from it; on {suppressions} lists of addresses not written to");
    eprintln!("Their bodies, subjects and last words go, the address becomes {}.", found.pseudonym);
    eprintln!("Bodies of other ended mail in the same segments of the log go with them, before keep_bodies is over.");
    if found.index_copies > 0 {
        eprintln!("{} copies of the index as an earlier version had it are removed.", found.index_copies);
    }
    if *suppressions > 0 {
        let fate =
            if with_suppressions { "It is taken off the lists, and may be written to again." } else { "It stays on the lists." };
        eprintln!("{fate}");
    }
}

pub(crate) fn forgotten(forgotten: &Forgotten, output: Output) {
    if output == Output::Json {
        return json(forgotten);
    }
    if forgotten.messages == 0 && forgotten.suppressions == 0 {
        print("No ended mail to or from this address was found: it is written otherwise, or was forgotten before.");
    } else {
        line("forgotten", &format!("{} messages, {} of them from it", forgotten.messages, forgotten.sent));
        line("now called", &forgotten.pseudonym);
    }
    line("files", &format!("{} of bodies removed", forgotten.files));
    if forgotten.index_copies > 0 {
        line("copies", &format!("{} of the index as an earlier version had it removed", forgotten.index_copies));
    }
    let lists = match (forgotten.suppressions, forgotten.suppressions_removed) {
        (0, _) => String::new(),
        (count, true) => format!("taken off {count} lists of addresses that are not written to"),
        (count, false) => format!("stays on {count} lists of addresses that are not written to (--with-suppressions takes it off)"),
    };
    line("suppressed", &lists);
    line(
        "log",
        match forgotten.log_is_clean {
            true => "its last bytes are gone",
            false => {
                "its last bytes go when open mail beside them has been written again and nobody reads the index; ask again to \
                 see when they are gone"
            }
        },
    );
    if forgotten.sent > 0 {
        print("What limits count for this sender has it until their windows are over; a channel whose provider refused it as");
        print("a sender, until the channel's row changes or its mail is released.");
    }
    print("Backups that were taken before still have it, and the delivery log on standard error.");
}
