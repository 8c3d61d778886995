# build.sh SOURCE OUTPUT: a page in OUTPUT for each text in SOURCE, unless it is there already. A page
# has the time of the text that it was made from, so that a change during the build is seen next time.
set -eu
mkdir -p "$2"
for text in "$1"/*.txt; do
    [ -e "$text" ] || continue
    name=${text##*/}
    page=$2/${name%.txt}.html
    if [ -e "$page" ] && [ ! "$page" -nt "$text" ] && [ ! "$page" -ot "$text" ]; then
        continue
    fi
    touch -r "$text" -- "$page.time"
    {
        printf '<!doctype html><meta charset="utf-8"><pre>\n'
        sed 's/&/\&amp;/g; s/</\&lt;/g' < "$text"
        printf '</pre>\n'
    } > "$page.tmp"
    touch -r "$page.time" -- "$page.tmp"
    rm -- "$page.time"
    mv -- "$page.tmp" "$page"
    printf 'built %s\n' "$page"
done
for page in "$2"/*.html; do
    name=${page##*/}
    if [ -e "$page" ] && [ ! -e "$1/${name%.html}.txt" ]; then
        rm -- "$page"
        printf 'removed %s\n' "$page"
    fi
done
