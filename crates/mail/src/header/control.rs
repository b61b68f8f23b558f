//! Fields by which a provider takes orders from the header of a message.

use super::has_prefix;

/// Header fields by which a provider takes orders: they can add recipients or spend another's quota.
/// An entry that ends with `-` stands for all names that begin with it. Lower case.
pub const CONTROL_FIELDS: &[&str] = &[
    "x-smtpapi",
    "x-msys-",
    "x-sparkpost-",
    "x-mailgun-",
    "x-mc-",
    "x-mandrill-",
    "x-pm-",
    "x-ses-",
    "x-sib-",
    "x-mailin-",
    "x-mj-",
    "x-mailjet-",
    "x-elastic-",
    "x-elasticemail-",
    "x-ahasend-",
    "ahasend-",
    "x-mailersend-",
    "x-mt-",
    "x-tm-",
    "x-smtp2go-",
    "x-postal-",
    "x-resend-",
    "resend-",
    "x-scw-",
    "x-xsmessageid",
    "x-xsmailingid",
    "x-ms-acsemail-",
    "x-ms-exchange-organization-",
];

/// Fields with such names that only tell where a message has been: mail that is resent carries them.
const TRACES: &[&str] = &[
    "x-mailgun-sid",
    "x-mailgun-sending-ip",
    "x-mailgun-incoming",
    "x-mandrill-user",
    "x-pm-message-id",
    "x-ses-outgoing",
    "x-ses-receipt",
    "x-ses-spam-verdict",
    "x-ses-virus-verdict",
];

/// True for a field by which a provider takes orders.
#[must_use]
pub fn is_control(name: &str) -> bool {
    // Nearly every field of nearly every message is done with here.
    let Some(first) = name.bytes().next().map(|byte| byte.to_ascii_lowercase()) else { return false };
    if !matches!(first, b'x' | b'a' | b'r') {
        return false;
    }
    let known = |known: &str| if known.ends_with('-') { has_prefix(name, known) } else { name.eq_ignore_ascii_case(known) };
    CONTROL_FIELDS.iter().any(|field| known(field)) && !TRACES.iter().any(|trace| name.eq_ignore_ascii_case(trace))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_to_a_provider_are_known_in_any_case() {
        for name in
            ["X-SMTPAPI", "x-mailgun-variables", "X-MSYS-API", "X-PM-Message-Stream", "X-MC-Subaccount", "Resend-Idempotency-Key"]
        {
            assert!(is_control(name), "{name}");
        }
    }

    #[test]
    fn fields_that_only_look_alike_are_none() {
        for name in
            ["X-Mailer", "Subject", "Resent-From", "Received", "X-PM", "X-SES-Outgoing", "X-Mailgun-Sid", "Authentication-Results"]
        {
            assert!(!is_control(name), "{name}");
        }
    }

    #[test]
    fn every_entry_is_looked_at() {
        for entry in CONTROL_FIELDS {
            assert!(is_control(&format!("{entry}x")) || is_control(entry), "{entry}");
        }
    }
}
