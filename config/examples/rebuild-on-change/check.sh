# check.sh SOURCE OUTPUT: every text has its page, whole; fails with a list of those that have not.
set -eu
bad=0
for text in "$1"/*.txt; do
    [ -e "$text" ] || continue
    name=${text##*/}
    page=$2/${name%.txt}.html
    if [ ! -e "$page" ] || [ "$(tail -n 1 -- "$page")" != '</pre>' ]; then
        printf 'no page for %s\n' "$text" >&2
        bad=1
    fi
done
exit "$bad"
