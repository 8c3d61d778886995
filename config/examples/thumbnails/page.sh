# page.sh FOLDER: writes FOLDER/index.html, which shows every thumbnail in it.
set -eu
cd "$1"
{
    echo '<!doctype html><meta charset="utf-8"><title>Pictures</title>'
    for picture in *.jpg; do
        name=$(printf '%s' "$picture" |
            sed 's/&/\&amp;/g; s/</\&lt;/g; s/"/\&quot;/g; s/%/%25/g; s/?/%3F/g; s/#/%23/g')
        printf '<img src="./%s" alt="">\n' "$name"
    done
} > .index.tmp
mv .index.tmp index.html
