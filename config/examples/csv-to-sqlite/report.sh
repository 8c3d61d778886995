# report.sh: writes the totals of orders.db to report.txt, in one step for whoever reads it.
set -eu
sqlite3 -batch -bail -readonly -header -column orders.db \
    'SELECT day, item, sum(amount) AS amount FROM orders GROUP BY day, item;' > report.tmp
mv report.tmp report.txt
