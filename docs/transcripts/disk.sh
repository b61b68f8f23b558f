#!/bin/bash
# Makes disk.md, as root: docs/transcripts/disk.sh SENDERO > docs/transcripts/disk.md
. "$(dirname "$0")/lib.sh"
clear_up() { umount disk 2>/dev/null; }
settings 'data_dir = "disk/data"'
head -c 60000 /dev/urandom > report.bin
mkdir disk
attach() { for _ in $(seq 1 50); do mount -o "loop,$1" image disk 2>/dev/null && return; sleep 0.2; done; }
mount -t tmpfs -o size=160m none disk

echo '# A disk that is full, and one that is read-only'
say 'Made by `docs/transcripts/disk.sh`: every command was run, and every answer is the program'"'"'s.'
echo 'The data folder lies on a disk of 160 MiB, and `[queue] min_free` is 64 MiB.'
serve
say 'Nothing leaves while the channel is paused, so mail piles up:'
run 'sendero channel pause office'
send() { sendero send --from ana@example.com --to luis@example.org --subject "$1" --text hello --attach report.bin; }
for number in $(seq 1 3000); do send "offer $number" > last 2>&1 || break; done
say 'Then, at message '"$number"':'
run 'sendero send --from ana@example.com --to luis@example.org --subject offer --text hello; echo "exit code $?"'
sleep 2
run 'sendero status | grep -E "takes mail|open|recipients"'
run 'df -h disk | tail -1'
say '## To the last byte'
say 'Another program takes what was left. What leaves now is still written down, in the room that was set aside for it:'
run 'cat /dev/zero > disk/filler'
run 'df disk | tail -1'
run 'sendero channel resume office'
sleep 20
run 'df disk | tail -1'
run 'sendero status | grep -E "takes mail|open|recipients"'
run "grep -E 'reserve|full|space' gateway.log | grep -v 'submission refused' | cut -c1-220 | head -12"
say '## Room again'
say 'Without a restart:'
run 'rm disk/filler'
sleep 3
run 'sendero send --from ana@example.com --to luis@example.org --subject after --text hello'
while sendero queue | grep -q office; do sleep 1; done
run 'sendero status | grep -E "takes mail|open|recipients"'
say 'All that was accepted is there, and was handed over once:'
run 'kill $gateway'
wait $gateway 2>/dev/null
run 'sendero store check'
gateway=
umount disk

say '# A disk that becomes read-only'
say 'Linux makes a file system read-only when it finds it damaged; here that is brought about on purpose.'
truncate -s 900M image; mkfs.ext4 -q -F image; attach errors=remount-ro
device=$(basename "$(findmnt -n -o SOURCE disk)")
serve
for number in $(seq 1 20); do send "offer $number" > /dev/null; done
run 'sendero status | grep -E "takes mail|open|recipients"'
run 'sendero channel pause office'
for number in $(seq 21 40); do send "offer $number" > /dev/null; done
run 'sendero status | grep -E "takes mail|open|recipients"'
say 'Now the disk fails. What is sent is refused, and the gateway ends rather than go on without a memory:'
echo 1 > "/sys/fs/ext4/$device/trigger_fs_error"
run 'sendero send --from ana@example.com --to luis@example.org --subject lost --text hello; echo "exit code $?"'
wait $gateway; code=$?
run 'echo "exit code $code"; tail -1 gateway.log'
say 'Mounted read-only, then as it should be:'
umount disk; e2fsck -fy image >/dev/null 2>&1; attach ro
run 'timeout 20 "$program" serve 2>&1; echo "exit code $?"'
umount disk; attach rw
serve
run 'sendero status | grep -E "takes mail|open|recipients"'
run 'sendero channel resume office'
while sendero queue | grep -q office; do sleep 1; done
run 'sendero status | grep -E "takes mail|open|recipients"'
run 'kill $gateway'
wait $gateway 2>/dev/null
run 'sendero store check'
gateway=
