# What the transcripts have in common: a gateway in /srv/mail, which must not be there and is removed at the end.
set -u
program=$(realpath "$1")
gateway=
mkdir /srv/mail || exit 1
cd /srv/mail || exit 1
trap 'touch stop 2>/dev/null; [ -n "$gateway" ] && kill -9 $gateway 2>/dev/null; wait; clear_up; cd /; rm -rf /srv/mail' EXIT

clear_up() { :; }
sendero() { "$program" "$@" 2>&1; }
say() { printf '\n%s\n' "$*"; }
run() { printf '\n    $ %s\n' "$*"; eval "$*" 2>&1 | sed 's/^/    /'; }
serve() {
    printf '\n    $ sendero serve 2>>gateway.log &\n'
    "$program" serve --apply directory.toml 2>>gateway.log &
    gateway=$!
    until sendero status >/dev/null; do sleep 0.1; done
}
settings() {
    cat > sendero.toml <<TOML
hostname = "mail.example.com"
submission = []
$1
[queue]
min_free = "64MiB"
[secrets]
master_key_file = "/srv/mail/keys/master.key"
TOML
    cat > directory.toml <<'TOML'
[[team]]
name = "sales"
domains = ["example.com"]
[[person]]
email = "ana@example.com"
teams = ["sales"]
[[channel]]
name = "office"
owner = "team:sales"
transport = "capture"
default = true
limits = ["600 messages / 1 minute"]
TOML
    mkdir -p keys
}
