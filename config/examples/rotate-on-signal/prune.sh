# prune.sh FOLDER COUNT: of each log the COUNT newest archives stay. Their names sort by time.
set -eu
folder=$1
keep=$2
for log in "$folder"/*.log; do
    [ -e "$log" ] || continue
    set -- "$log".*.gz
    while [ "$#" -gt "$keep" ]; do
        rm -- "$1"
        shift
    done
done
