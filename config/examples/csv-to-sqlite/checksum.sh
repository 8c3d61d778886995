# checksum.sh FILE: verifies FILE against sums/NAME.sha256, if that exists, and hands its sum on.
set -eu
sum=$(sha256sum < "$1")
sum=${sum%% *}
expected=sums/${1##*/}.sha256
if [ -e "$expected" ]; then
    wanted=
    read -r wanted _ < "$expected" || :
    if [ "$sum" != "$wanted" ]; then
        echo "checksum is $sum, but $expected says $wanted" >&2
        exit 1
    fi
fi
printf 'sha256=%s\n' "$sum" >> "$DAGD_OUTPUT"
