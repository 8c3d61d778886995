# archive.sh FILE COPY: copies FILE and makes sure that what arrived is what was sent.
set -eu
folder=$(dirname "$2")
mkdir -p "$folder"
temp=$folder/.$DAGD_RUN.tmp
cp -p -- "$1" "$temp"
sum=$(sha256sum < "$temp")
if [ "${sum%% *}" != "$SHA256" ]; then
    rm -f "$temp"
    echo "the copy differs from $1" >&2
    exit 1
fi
sync -- "$temp"
mv -- "$temp" "$2"
