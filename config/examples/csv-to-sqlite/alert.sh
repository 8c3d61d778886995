# alert.sh FILE TASKS: notes that FILE could not be loaded. Send a mail here, or call a pager.
set -eu
printf '%s run %s: %s failed at %s\n' "$(date -u +%FT%TZ)" "$DAGD_RUN" "$1" "$2" >> alerts.log
