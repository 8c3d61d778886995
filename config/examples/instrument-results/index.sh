# index.sh COPY: lists COPY in the SHA256SUMS beside it, for `sha256sum -c SHA256SUMS`.
set -eu
name=${1##*/}
cd "$(dirname "$1")"
mkdir -p .sums
# sha256sum writes odd names in its own way.
sum=$(sha256sum -- "$name")
case $sum in
*"$SHA256"*) ;;
*)
    echo "$1 has changed since it was archived" >&2
    exit 1
    ;;
esac
printf '%s\n' "$sum" > ".sums/$name"
cat .sums/* > .SHA256SUMS.tmp
mv .SHA256SUMS.tmp SHA256SUMS
