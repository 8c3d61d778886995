//! Files that become runs together: by folder, by key, as sets; the order among them, and how many
//! runs may start.

use super::scripts::check;

#[test]
fn each_folder_has_its_run() {
    check(
        r"
        drop in fan=dir gather=5s
        task a
    ",
        r"
        counted in 0
        see in d1/x v1
        see in top v1
        +1s
        see in d2/x v1
        see in d1/y v1
        +4s
        +1s
        end 1.a 0
        end 2.a 0
    ",
        r"
        -> count in to 10000
        > counted in 0
        armed in
        -> scan in
        > see in d1/x v1
        > see in top v1
        > +1s
        > see in d2/x v1
        > see in d1/y v1
        > +4s
        run 1 of in: event [top created v1]
        run 2 of in: event [d1/x created v1, d1/y created v1]
        started 1.a#1
        started 2.a#1
        -> start 1.a#1
        -> start 2.a#1
        > +1s
        run 3 of in: event [d2/x created v1]
        > end 1.a 0
        ended 1.a#1 0: succeeded
        run 1 succeeded: a=succeeded
        started 3.a#1
        -> finished 1 succeeded
        -> start 3.a#1
        > end 2.a 0
        ended 2.a#1 0: succeeded
        run 2 succeeded: a=succeeded
        -> finished 2 succeeded
    ",
    );
}

/// While a run of a folder is alive, what comes into it waits; other folders do not.
#[test]
fn a_folder_waits_for_its_run_and_no_other_does() {
    check(
        r"
        drop in fan=dir gather=1s
        task a
    ",
        r"
        counted in 0
        see in d1/x v1
        +1s
        see in d1/y v1
        see in d2/y v1
        +1s
        end 1.a 0
    ",
        r"
        -> count in to 10000
        > counted in 0
        armed in
        -> scan in
        > see in d1/x v1
        > +1s
        run 1 of in: event [d1/x created v1]
        started 1.a#1
        -> start 1.a#1
        > see in d1/y v1
        > see in d2/y v1
        > +1s
        run 2 of in: event [d2/y created v1]
        started 2.a#1
        -> start 2.a#1
        > end 1.a 0
        ended 1.a#1 0: succeeded
        run 1 succeeded: a=succeeded
        run 3 of in: event [d1/y created v1]
        started 3.a#1
        -> finished 1 succeeded
        -> start 3.a#1
    ",
    );
}

#[test]
fn a_full_folder_does_not_wait() {
    check(
        r"
        drop in fan=dir batch=2 gather=60s
        slots 4
        task a
    ",
        r"
        counted in 0
        see in d1/x v1
        see in d2/x v1
        see in d1/y v1
        see in d1/z v1
        +60s
        end 1.a 0
    ",
        r"
        -> count in to 10000
        > counted in 0
        armed in
        -> scan in
        > see in d1/x v1
        > see in d2/x v1
        > see in d1/y v1
        run 1 of in: event [d1/x created v1, d1/y created v1]
        started 1.a#1
        -> start 1.a#1
        > see in d1/z v1
        > +60s
        run 2 of in: event [d2/x created v1]
        started 2.a#1
        -> start 2.a#1
        > end 1.a 0
        ended 1.a#1 0: succeeded
        run 1 succeeded: a=succeeded
        run 3 of in: event [d1/z created v1]
        started 3.a#1
        -> finished 1 succeeded
        -> start 3.a#1
    ",
    );
}

/// Files of other keys do not disturb its quiet time.
#[test]
fn a_key_settles_by_itself() {
    check(
        r"
        drop in fan=key set_key=^[^.]* settle=2s
        task a
    ",
        r"
        counted in 0
        see in a.1 v1
        +1s
        see in b.1 v1
        see in a.2 v1
        +1s
        see in b.2 v1
        +1s
        end 1.a 0
        +1s
    ",
        r"
        -> count in to 10000
        > counted in 0
        armed in
        -> scan in
        > see in a.1 v1
        > +1s
        > see in b.1 v1
        > see in a.2 v1
        > +1s
        > see in b.2 v1
        > +1s
        run 1 of in: event [a.1 created v1, a.2 created v1]
        started 1.a#1
        -> start 1.a#1
        > end 1.a 0
        ended 1.a#1 0: succeeded
        run 1 succeeded: a=succeeded
        -> finished 1 succeeded
        > +1s
        run 2 of in: event [b.1 created v1, b.2 created v1]
        started 2.a#1
        -> start 2.a#1
    ",
    );
}

/// `max_wait` counts from the first file of the key.
#[test]
fn a_key_is_not_put_off_for_ever() {
    check(
        r"
        drop in fan=key set_key=^[^.]* settle=2s max_wait=3s
        task a
    ",
        r"
        counted in 0
        see in a.1 v1
        +1500ms
        see in a.2 v1
        +1500ms
        see in a.3 v1
    ",
        r"
        -> count in to 10000
        > counted in 0
        armed in
        -> scan in
        > see in a.1 v1
        > +1500ms
        > see in a.2 v1
        > +1500ms
        run 1 of in: event [a.1 created v1, a.2 created v1]
        started 1.a#1
        -> start 1.a#1
        > see in a.3 v1
    ",
    );
}

#[test]
fn a_set_waits_for_its_members() {
    check(
        r"
        drop in fan=key set_key=^[^.]* set=*.csv,*.xml
        task a
    ",
        r"
        counted in 0
        see in k.csv v1
        see in l.xml v1
        +3600s
        see in k.xml v1 writing
        look in k.xml v2
        end 1.a 0
    ",
        r"
        -> count in to 10000
        > counted in 0
        armed in
        -> scan in
        > see in k.csv v1
        > see in l.xml v1
        > +3600s
        > see in k.xml v1 writing
        > look in k.xml v2
        run 1 of in: event [k.csv created v1, k.xml created v2]
        started 1.a#1
        -> start 1.a#1
        > end 1.a 0
        ended 1.a#1 0: succeeded
        run 1 succeeded: a=succeeded
        -> finished 1 succeeded
    ",
    );
}

#[test]
fn a_set_settles_when_it_is_complete() {
    check(
        r"
        drop in fan=key set_key=^[^.]* set=*.csv,*.xml settle=2s
        task a
    ",
        r"
        counted in 0
        see in k.csv v1
        +60s
        see in k.xml v1
        +1s
        see in k.txt v1
        +1s
        +1s
    ",
        r"
        -> count in to 10000
        > counted in 0
        armed in
        -> scan in
        > see in k.csv v1
        > +60s
        > see in k.xml v1
        > +1s
        > see in k.txt v1
        > +1s
        > +1s
        run 1 of in: event [k.csv created v1, k.xml created v1, k.txt created v1]
        started 1.a#1
        -> start 1.a#1
    ",
    );
}

#[test]
fn a_member_that_goes_makes_a_set_incomplete_again() {
    check(
        r"
        drop in fan=key set_key=^[^.]* set=*.csv,*.xml settle=2s
        task a
    ",
        r"
        counted in 0
        see in k.csv v1
        see in k.xml v1
        +1s
        see in k.csv gone
        +10s
        see in k.csv v2 writing
        +10s
        see in k.csv v2
        +2s
    ",
        r"
        -> count in to 10000
        > counted in 0
        armed in
        -> scan in
        > see in k.csv v1
        > see in k.xml v1
        > +1s
        > see in k.csv gone
        > +10s
        > see in k.csv v2 writing
        > +10s
        -> look in k.csv
        > see in k.csv v2
        > +2s
        run 1 of in: event [k.xml created v1, k.csv created v2]
        started 1.a#1
        -> start 1.a#1
    ",
    );
}

/// What would be left of it might never be complete again.
#[test]
fn a_set_is_never_parted() {
    check(
        r"
        drop in fan=key set_key=^[^.]* set=*.csv,*.xml batch=2 settle=9s
        task a
    ",
        r"
        counted in 0
        see in k.1.csv v1
        see in k.2.csv v1
        see in k.3.csv v1
        see in k.xml v1
    ",
        r"
        -> count in to 10000
        > counted in 0
        armed in
        -> scan in
        > see in k.1.csv v1
        > see in k.2.csv v1
        > see in k.3.csv v1
        > see in k.xml v1
        run 1 of in: event [k.1.csv created v1, k.2.csv created v1, k.3.csv created v1, k.xml created v1]
        started 1.a#1
        -> start 1.a#1
    ",
    );
}

#[test]
fn a_member_that_changes_under_its_run_waits_for_the_others_anew() {
    check(
        r"
        drop in fan=key set_key=^[^.]* set=*.csv,*.xml
        task a
    ",
        r"
        counted in 0
        see in k.csv v1
        see in k.xml v1
        see in k.csv v2
        end 1.a 0
        look in k.csv v2
        see in k.xml v2
    ",
        r"
        -> count in to 10000
        > counted in 0
        armed in
        -> scan in
        > see in k.csv v1
        > see in k.xml v1
        run 1 of in: event [k.csv created v1, k.xml created v1]
        started 1.a#1
        -> start 1.a#1
        > see in k.csv v2
        > end 1.a 0
        ended 1.a#1 0: succeeded
        run 1 succeeded: a=succeeded
        -> finished 1 succeeded
        -> look in k.csv
        > look in k.csv v2
        > see in k.xml v2
        run 2 of in: event [k.csv modified v2, k.xml modified v2]
        started 2.a#1
        -> start 2.a#1
    ",
    );
}

/// The largest first, of two equal ones the older; what arrives while others wait goes to its place.
#[test]
fn files_are_admitted_in_their_order() {
    check(
        r"
        drop in sort=-size,mtime
        live 1
        task a
    ",
        r"
        counted in 0
        see in first v9:1
        see in small v1:5
        see in late v8:50
        see in early v2:50
        end 1.a 0
        see in huge v3:900
        end 2.a 0
        end 3.a 0
        end 4.a 0
    ",
        r"
        -> count in to 10000
        > counted in 0
        armed in
        -> scan in
        > see in first v9:1
        run 1 of in: event [first created v9]
        started 1.a#1
        -> start 1.a#1
        > see in small v1:5
        > see in late v8:50
        > see in early v2:50
        > end 1.a 0
        ended 1.a#1 0: succeeded
        run 1 succeeded: a=succeeded
        run 2 of in: event [early created v2]
        started 2.a#1
        -> finished 1 succeeded
        -> start 2.a#1
        > see in huge v3:900
        > end 2.a 0
        ended 2.a#1 0: succeeded
        run 2 succeeded: a=succeeded
        run 3 of in: event [huge created v3]
        started 3.a#1
        -> finished 2 succeeded
        -> start 3.a#1
        > end 3.a 0
        ended 3.a#1 0: succeeded
        run 3 succeeded: a=succeeded
        run 4 of in: event [late created v8]
        started 4.a#1
        -> finished 3 succeeded
        -> start 4.a#1
        > end 4.a 0
        ended 4.a#1 0: succeeded
        run 4 succeeded: a=succeeded
        run 5 of in: event [small created v1]
        started 5.a#1
        -> finished 4 succeeded
        -> start 5.a#1
    ",
    );
}

#[test]
fn files_of_a_run_are_in_their_order() {
    check(
        r"
        drop in batch=3 sort=-name gather=9s
        task a
    ",
        r"
        counted in 0
        see in b v1
        see in a v1
        see in c v1
    ",
        r"
        -> count in to 10000
        > counted in 0
        armed in
        -> scan in
        > see in b v1
        > see in a v1
        > see in c v1
        run 1 of in: event [c created v1, b created v1, a created v1]
        started 1.a#1
        -> start 1.a#1
    ",
    );
}

#[test]
fn a_batch_takes_the_first_of_its_order() {
    check(
        r"
        drop in batch=2 sort=size gather=1s max_runs=1
        task a
    ",
        r"
        counted in 0
        see in a v1:1
        see in b v1:2
        see in c v1:30
        see in d v1:20
        see in e v1:10
        end 1.a 0
        +1s
        end 2.a 0
        +1s
    ",
        r"
        -> count in to 10000
        > counted in 0
        armed in
        -> scan in
        > see in a v1:1
        > see in b v1:2
        run 1 of in: event [a created v1, b created v1]
        started 1.a#1
        -> start 1.a#1
        > see in c v1:30
        > see in d v1:20
        > see in e v1:10
        > end 1.a 0
        ended 1.a#1 0: succeeded
        run 1 succeeded: a=succeeded
        run 2 of in: event [e created v1, d created v1]
        started 2.a#1
        -> finished 1 succeeded
        -> start 2.a#1
        > +1s
        > end 2.a 0
        ended 2.a#1 0: succeeded
        run 2 succeeded: a=succeeded
        run 3 of in: event [c created v1]
        started 3.a#1
        -> finished 2 succeeded
        -> start 3.a#1
        > +1s
    ",
    );
}

#[test]
fn the_order_of_a_replaced_version_is_its_own() {
    check(
        r"
        drop in sort=size
        live 1
        task a
    ",
        r"
        counted in 0
        see in first v1:1
        see in a v1:10
        see in b v1:20
        see in b v2:5
        end 1.a 0
    ",
        r"
        -> count in to 10000
        > counted in 0
        armed in
        -> scan in
        > see in first v1:1
        run 1 of in: event [first created v1]
        started 1.a#1
        -> start 1.a#1
        > see in a v1:10
        > see in b v1:20
        > see in b v2:5
        > end 1.a 0
        ended 1.a#1 0: succeeded
        run 1 succeeded: a=succeeded
        run 2 of in: event [b created v2]
        started 2.a#1
        -> finished 1 succeeded
        -> start 2.a#1
    ",
    );
}

/// A burst of two, then one each half second; none is lost.
#[test]
fn a_rate_delays() {
    check(
        r"
        drop in rate=2/1s
        slots 9
        task a
    ",
        r"
        counted in 0
        see in a v1
        see in b v1
        see in c v1
        see in d v1
        +499ms
        +1ms
        +500ms
        +10s
        see in e v1
        see in f v1
        see in g v1
        +500ms
    ",
        r"
        -> count in to 10000
        > counted in 0
        armed in
        -> scan in
        > see in a v1
        run 1 of in: event [a created v1]
        started 1.a#1
        -> start 1.a#1
        > see in b v1
        run 2 of in: event [b created v1]
        started 2.a#1
        -> start 2.a#1
        > see in c v1
        > see in d v1
        > +499ms
        > +1ms
        run 3 of in: event [c created v1]
        started 3.a#1
        -> start 3.a#1
        > +500ms
        run 4 of in: event [d created v1]
        started 4.a#1
        -> start 4.a#1
        > +10s
        > see in e v1
        run 5 of in: event [e created v1]
        started 5.a#1
        -> start 5.a#1
        > see in f v1
        run 6 of in: event [f created v1]
        started 6.a#1
        -> start 6.a#1
        > see in g v1
        > +500ms
        run 7 of in: event [g created v1]
        started 7.a#1
        -> start 7.a#1
    ",
    );
}

#[test]
fn a_rate_delays_signals_that_go_on_merging() {
    check(
        r"
        signal s overlap=coalesce rate=1/10s
        task a
    ",
        r"
        signal s
        end 1.a 0
        signal s
        signal s
        +10s
        end 2.a 0
    ",
        r"
        > signal s
        item #0 of s: signal
        run 1 of s: signal items #0
        started 1.a#1
        -> start 1.a#1
        > end 1.a 0
        ended 1.a#1 0: succeeded
        run 1 succeeded: a=succeeded
        -> finished 1 succeeded
        > signal s
        item #1 of s: signal
        > signal s
        item #2 of s: signal
        > +10s
        run 2 of s: signal items #1,#2
        started 2.a#1
        -> start 2.a#1
        > end 2.a 0
        ended 2.a#1 0: succeeded
        run 2 succeeded: a=succeeded
        -> finished 2 succeeded
    ",
    );
}

#[test]
fn starts_by_hand_count_for_the_rate() {
    check(
        r"
        drop in rate=1/10s
        task a
    ",
        r"
        counted in 0
        fire in
        see in x v1
        fire in
        +10s
        +10s
    ",
        r"
        -> count in to 10000
        > counted in 0
        armed in
        -> scan in
        > fire in
        item #0 of in: manual
        run 1 of in: manual items #0
        started 1.a#1
        -> start 1.a#1
        -> reply run 1
        > see in x v1
        > fire in
        item #1 of in: manual
        -> reply queued #1
        > +10s
        run 2 of in: manual items #1
        started 2.a#1
        -> start 2.a#1
        > +10s
        run 3 of in: event [x created v1]
    ",
    );
}

#[test]
fn a_pause_outlasts_the_rate() {
    check(
        r"
        drop in rate=1/10s
        task a
    ",
        r"
        counted in 0
        see in a v1
        see in b v1
        pause in
        +30s
        resume in
    ",
        r"
        -> count in to 10000
        > counted in 0
        armed in
        -> scan in
        > see in a v1
        run 1 of in: event [a created v1]
        started 1.a#1
        -> start 1.a#1
        > see in b v1
        > pause in
        paused in: by request
        -> reply done
        > +30s
        > resume in
        resumed in
        run 2 of in: event [b created v1]
        started 2.a#1
        -> reply done
        -> start 2.a#1
    ",
    );
}

#[test]
fn what_comes_to_a_busy_folder_becomes_one_follow_up() {
    check(
        r"
        drop in fan=dir gather=1s overlap=coalesce
        task a
    ",
        r"
        counted in 0
        see in d/a v1
        +1s
        see in d/b v1
        see in e/b v1
        +5s
        see in d/c v1
        +5s
        end 1.a 0
    ",
        r"
        -> count in to 10000
        > counted in 0
        armed in
        -> scan in
        > see in d/a v1
        > +1s
        run 1 of in: event [d/a created v1]
        started 1.a#1
        -> start 1.a#1
        > see in d/b v1
        > see in e/b v1
        > +5s
        run 2 of in: event [e/b created v1]
        started 2.a#1
        -> start 2.a#1
        > see in d/c v1
        > +5s
        > end 1.a 0
        ended 1.a#1 0: succeeded
        run 1 succeeded: a=succeeded
        run 3 of in: event [d/b created v1, d/c created v1]
        started 3.a#1
        -> finished 1 succeeded
        -> start 3.a#1
    ",
    );
}

#[test]
fn a_watched_folder_restarts_its_own_run() {
    check(
        r"
        watch w fan=dir settle=1s overlap=restart max_runs=9
        task a
    ",
        r"
        scanned w
        see w d/a v1
        see w e/a v1
        +1s
        see w d/b v1
        +1s
        end 1.a sig15
    ",
        r"
        -> scan w
        > scanned w
        armed w
        > see w d/a v1
        > see w e/a v1
        > +1s
        run 1 of w: event [d/a created v1]
        run 2 of w: event [e/a created v1]
        started 1.a#1
        started 2.a#1
        -> start 1.a#1
        -> start 2.a#1
        > see w d/b v1
        cancel 1: restart
        -> term 1.a#1
        > +1s
        > end 1.a sig15
        ended 1.a#1 sig15 by Cancel: cancelled
        run 1 cancelled: a=cancelled
        run 3 of w: event [d/b created v1]
        started 3.a#1
        -> finished 1 cancelled
        -> start 3.a#1
    ",
    );
}

#[test]
fn what_comes_to_a_busy_key_is_skipped() {
    check(
        r"
        drop in fan=key set_key=^[^.]* gather=1s overlap=skip
        task a
    ",
        r"
        counted in 0
        see in k.1 v1
        +1s
        see in k.2 v1
        see in l.2 v1
        +1s
    ",
        r"
        -> count in to 10000
        > counted in 0
        armed in
        -> scan in
        > see in k.1 v1
        > +1s
        run 1 of in: event [k.1 created v1]
        started 1.a#1
        -> start 1.a#1
        > see in k.2 v1
        noted in k.2 v1: skipped
        > see in l.2 v1
        > +1s
        run 2 of in: event [l.2 created v1]
        started 2.a#1
        -> start 2.a#1
    ",
    );
}

/// A file that is replaced while its folder gathers is delivered once, in its last version.
#[test]
fn the_window_outlasts_a_version() {
    check(
        r"
        drop in fan=dir gather=2s
        task a
    ",
        r"
        counted in 0
        see in d/a v1
        +1s
        see in d/a v2
        +1s
    ",
        r"
        -> count in to 10000
        > counted in 0
        armed in
        -> scan in
        > see in d/a v1
        > +1s
        > see in d/a v2
        > +1s
        run 1 of in: event [d/a created v2]
        started 1.a#1
        -> start 1.a#1
    ",
    );
}

#[test]
fn what_a_batch_leaves_goes_behind_others() {
    check(
        r"
        drop in fan=dir batch=2 gather=60s max_runs=1
        task a
    ",
        r"
        counted in 0
        see in d/1 v1
        see in d/2 v1
        see in d/3 v1
        see in d/4 v1
        see in d/5 v1
        see in d/6 v1
        see in e/1 v1
        see in e/2 v1
        end 1.a 0
        end 2.a 0
        end 3.a 0
    ",
        r"
        -> count in to 10000
        > counted in 0
        armed in
        -> scan in
        > see in d/1 v1
        > see in d/2 v1
        run 1 of in: event [d/1 created v1, d/2 created v1]
        started 1.a#1
        -> start 1.a#1
        > see in d/3 v1
        > see in d/4 v1
        > see in d/5 v1
        > see in d/6 v1
        > see in e/1 v1
        > see in e/2 v1
        > end 1.a 0
        ended 1.a#1 0: succeeded
        run 1 succeeded: a=succeeded
        run 2 of in: event [d/3 created v1, d/4 created v1]
        started 2.a#1
        -> finished 1 succeeded
        -> start 2.a#1
        > end 2.a 0
        ended 2.a#1 0: succeeded
        run 2 succeeded: a=succeeded
        run 3 of in: event [e/1 created v1, e/2 created v1]
        started 3.a#1
        -> finished 2 succeeded
        -> start 3.a#1
        > end 3.a 0
        ended 3.a#1 0: succeeded
        run 3 succeeded: a=succeeded
        run 4 of in: event [d/5 created v1, d/6 created v1]
        started 4.a#1
        -> finished 3 succeeded
        -> start 4.a#1
    ",
    );
}
