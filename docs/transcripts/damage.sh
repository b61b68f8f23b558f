#!/bin/bash
# Makes damage.md: docs/transcripts/damage.sh SENDERO > docs/transcripts/damage.md
. "$(dirname "$0")/lib.sh"
settings ''
send() { sendero send --from ana@example.com --to "luis$1@example.org" --subject "offer $1" --text hello; }
echo '# Bytes that were changed on the disk'
say 'Made by `docs/transcripts/damage.sh`: every command was run, and every answer is the program'"'"'s.'
serve
run 'sendero channel pause office'
for number in $(seq 1 12); do send "$number" > /dev/null; done
run 'sendero status | grep -E "open|recipients"'
say 'The gateway ends without a word, and a byte of the log changes:'
{ kill -9 $gateway; wait $gateway; } 2>/dev/null
at=$(grep -abo 'offer 5' sendero-data/queue/log/0000000001.seg | tail -1 | cut -d: -f1)
run "printf X | dd of=sendero-data/queue/log/0000000001.seg bs=1 seek=$at conv=notrunc status=none"
run 'sendero store check; echo "exit code $?"'
say 'The gateway starts, says what is damaged, and holds the mail that it may concern. The rest goes on:'
serve
run 'sendero channel resume office'
sleep 4
run "grep -E 'level=(warn|error)' gateway.log | cut -c1-260"
run 'sendero status | grep -E "open|recipients"'
run 'sendero message list --status held'
damaged=$(sendero message list --status held --limit 1 --output json | sed -n 's/.*"id": "\(msg_[^"]*\)".*/\1/p' | head -1)
run "sendero message show $damaged"
say 'Its text cannot be read any more, so a person decides:'
run "sendero message cancel $damaged"
run 'sendero status | grep -E "open|recipients"'
say '## The index'
say 'The index is another matter: it says nothing that the log does not, and is made again from it.'
run 'kill $gateway'
wait $gateway 2>/dev/null
run 'head -c 20000 /dev/urandom | dd of=sendero-data/queue/index.sqlite conv=notrunc status=none; rm -f sendero-data/queue/index.sqlite-*'
run 'sendero store check; echo "exit code $?"'
run 'timeout 20 "$program" serve 2>&1; echo "exit code $?"'
say 'It is moved away, and the gateway makes a new one:'
run 'mkdir away; mv sendero-data/queue/index.sqlite* away/'
serve
run 'sendero status | grep -E "open|recipients"'
run 'sendero message list --limit 3'
say '## A torn end'
say 'A batch of which only a part reached the disk was never answered with yes. It is cut off with one line:'
{ kill -9 $gateway; wait $gateway; } 2>/dev/null
last=$(ls sendero-data/queue/log/*.seg | tail -1)
run "ls $last | xargs -n1 basename; printf 'half a frame' >> $last"
: > gateway.log
serve
run "grep -E 'level=(warn|error)' gateway.log | cut -c1-260"
run 'sendero status | grep -E "open|recipients"'
