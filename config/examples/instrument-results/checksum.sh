# checksum.sh FILE: hands the checksum of FILE on. 99: it is empty, there is nothing to do.
set -eu
[ -s "$1" ] || exit 99
sum=$(sha256sum < "$1")
printf 'sha256=%s\n' "${sum%% *}" >> "$DAGD_OUTPUT"
