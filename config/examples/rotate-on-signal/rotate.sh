# rotate.sh FOLDER STAMP: every log that is not empty becomes NAME.log.STAMP.
set -eu
for log in "$1"/*.log; do
    [ -s "$log" ] || continue
    [ ! -e "$log.$2" ] || continue
    mv -- "$log" "$log.$2"
    : >> "$log"
done
