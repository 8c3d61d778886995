# load.sh FILE: replaces FILE's rows in orders.db, all or none. $SHA256 is its checksum.
set -eu
header=
IFS= read -r header < "$1" || :
case $header in
day,item,amount | day,item,amount"$(printf '\r')") ;;
*)
    echo "the first line is not day,item,amount" >&2
    exit 65
    ;;
esac
# What sqlite3 would only warn of: rows with too few or too many fields.
problems=$(sqlite3 -batch :memory: 'CREATE TABLE staging (day, item, amount);' \
    '.import --csv --skip 1 /dev/stdin staging' 2>&1 < "$1") || :
if [ -n "$problems" ]; then
    printf '%s\n' "$problems" >&2
    exit 65
fi
# A quote in the name ends no string.
source=$(printf '%s' "${1##*/}" | sed "s/'/''/g")
sqlite3 -batch -bail orders.db \
    '.timeout 10000' \
    'CREATE TABLE IF NOT EXISTS orders (
         day TEXT NOT NULL, item TEXT NOT NULL, amount INTEGER NOT NULL,
         source TEXT NOT NULL, sha256 TEXT NOT NULL
     );
     CREATE TEMP TABLE staging (day, item, amount);' \
    '.import --csv --skip 1 /dev/stdin staging' \
    "CREATE TEMP TABLE checked (
         day TEXT NOT NULL CHECK (day IS date(day)),
         item TEXT NOT NULL CHECK (item <> ''),
         amount INTEGER NOT NULL CHECK (typeof(amount) = 'integer')
     );
     INSERT INTO checked SELECT * FROM staging;
     BEGIN IMMEDIATE;
     DELETE FROM orders WHERE source = '$source';
     INSERT INTO orders SELECT day, item, amount, '$source', '$SHA256' FROM checked;
     COMMIT;
     SELECT count(*) || ' rows' FROM checked;" < "$1"
