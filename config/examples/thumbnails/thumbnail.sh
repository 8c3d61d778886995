# thumbnail.sh PICTURE THUMBNAIL: at most 320 pixels wide and high.
set -eu
folder=$(dirname "$2")
mkdir -p "$folder"
temp=$folder/.$DAGD_RUN.tmp
trap 'rm -f "$temp"' EXIT
# Through standard input, because in a name ImageMagick would give [, * and : a meaning.
convert '-[0]' -auto-orient -thumbnail '320x320>' -background white -flatten \
    "jpg:$temp" < "$1"
mv "$temp" "$2"
