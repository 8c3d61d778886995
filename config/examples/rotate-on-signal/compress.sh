# compress.sh FOLDER: every rotated log becomes a .gz, which is there whole or not at all.
set -eu
for log in "$1"/*.log.*; do
    case $log in
    *.gz | *.tmp) continue ;;
    esac
    [ -e "$log" ] || continue
    gzip -c -- "$log" > "$log.gz.tmp"
    mv -- "$log.gz.tmp" "$log.gz"
    rm -- "$log"
done
