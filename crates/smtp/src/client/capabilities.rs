//! What a next hop offers in its EHLO reply.

use crate::reply::Reply;

/// Every server takes messages of 64 KiB (RFC 5321 §4.5.3.1.7): a limit below that is a slip, and what it refuses is left to it.
const LEAST_SIZE: u64 = 64 * 1024;

/// The extensions a next hop offered last; those we make no use of are left out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Capabilities {
    /// RFC 2920: commands may be sent in groups.
    pub pipelining: bool,
    /// RFC 6152: bytes over 127 in the message.
    pub eight_bit_mime: bool,
    /// RFC 6531: UTF-8 in addresses and header fields.
    pub smtputf8: bool,
    /// RFC 3461: wishes about delivery reports.
    pub dsn: bool,
    /// RFC 3207.
    pub starttls: bool,
    /// RFC 1870 is offered, so MAIL may carry `SIZE=`.
    pub size: bool,
    /// The largest message taken, in bytes, where the next hop named one that can be meant.
    pub max_size: Option<u64>,
    /// AUTH is offered, with whatever mechanisms.
    pub auth: bool,
    /// AUTH PLAIN (RFC 4616).
    pub auth_plain: bool,
    /// AUTH LOGIN.
    pub auth_login: bool,
}

impl Capabilities {
    /// Reads an EHLO reply. The first line is the greeting; keywords come in any case, and
    /// lines that make no sense are passed over.
    #[must_use]
    pub fn from_ehlo(reply: &Reply) -> Self {
        let mut found = Self::default();
        for line in reply.lines().skip(1) {
            found.add(line);
        }
        found
    }

    fn add(&mut self, line: &str) {
        let mut words = line.split([' ', '=']).filter(|word| !word.is_empty());
        let keyword = words.next().unwrap_or_default().to_ascii_uppercase();
        match keyword.as_str() {
            "PIPELINING" => self.pipelining = true,
            "8BITMIME" => self.eight_bit_mime = true,
            "SMTPUTF8" => self.smtputf8 = true,
            "DSN" => self.dsn = true,
            "STARTTLS" => self.starttls = true,
            "SIZE" => {
                self.size = true;
                self.max_size = words.next().and_then(|word| word.parse().ok()).filter(|limit| *limit >= LEAST_SIZE);
            }
            // `AUTH=PLAIN LOGIN` is how servers wrote it before RFC 2554.
            "AUTH" => {
                self.auth = true;
                for word in words {
                    self.auth_plain |= word.eq_ignore_ascii_case("PLAIN");
                    self.auth_login |= word.eq_ignore_ascii_case("LOGIN");
                }
            }
            _ => {}
        }
    }
}
