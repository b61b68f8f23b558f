#!/bin/bash
# Makes backup.md: docs/transcripts/backup.sh SENDERO > docs/transcripts/backup.md
. "$(dirname "$0")/lib.sh"
settings ''
mkdir backups
head -c 300000 /dev/urandom > report.bin

echo '# A backup under load, and its way back'
say 'Made by `docs/transcripts/backup.sh`: every command was run, and every answer is the program'"'"'s.'
say 'A gateway with one channel that may hand over 600 messages in a minute, while four programs send faster than that;'
echo 'each tenth message has 300 KB attached, so its body is a file of its own.'
serve
send() {
    for number in $(seq 1 400); do
        [ -e stop ] && return
        attach=(); [ $((number % 10)) = 0 ] && attach=(--attach report.bin)
        sendero send --from ana@example.com --to "luis$number@example.org" --subject "offer $1-$number" --text hello "${attach[@]}" >/dev/null
    done
}
(for sender in 1 2 3 4; do send $sender & done; wait) & load=$!
while [ "$(sendero message list --limit 900 --output json | grep -c '"id"')" -lt 800 ]; do sleep 0.5; done
run 'sendero status | grep -A12 accepted'
say '## The backup'
run 'sendero backup backups/monday'
run 'find backups/monday -type f | grep -v bodies | sort; ls backups/monday/queue/bodies | wc -l'
run 'sendero backup backups/monday'
run 'sendero backup sendero-data/monday'
say 'Mail went on coming in and leaving:'
run 'sendero status | grep -A12 accepted'
run 'sendero store check backups/monday'
say '## The disk is lost'
touch stop
{ kill -9 $gateway; wait $gateway $load; } 2>/dev/null
say 'The gateway is killed, its data folder is gone. First two mistakes: a backup with one changed byte, and no key.'
run 'mv sendero-data lost; cp -r backups/monday changed; printf X | dd of=changed/queue/log/0000000001.seg bs=1 seek=5000 conv=notrunc status=none'
run 'sendero restore changed'
run 'mv keys/master.key keys/away; sendero restore backups/monday; mv keys/away keys/master.key'
run 'ls -d sendero-data'
say 'Then as it should be:'
run 'sendero restore backups/monday'
run 'sendero restore backups/monday'
serve
run 'sendero queue'
run 'sendero message list --status held --limit 3'
first=$(sendero message list --status held --limit 1 --output json | sed -n 's/.*"id": "\(msg_[^"]*\)".*/\1/p' | head -1)
run "sendero message show $first"
say '## Let it go on'
say 'What the mail log of the next hop shows as taken after the backup is cancelled; everything else is released.'
run "sendero message cancel $first"
run 'sendero message release --restored --channel office'
run 'sendero message release --restored'
while sendero queue | grep -q office; do sleep 1; done
say 'When the pace has let them through:'
run 'sendero status | grep -A12 accepted'
run 'sendero store check'
say 'The log of the gateway says what was held back meanwhile:'
run "grep -E 'backup|restored' gateway.log | cut -c1-200"
