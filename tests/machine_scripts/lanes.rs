//! What waits in a trigger's lane, and what lets it go on.

use super::{check, check_reload};

#[test]
fn a_file_waits_once_for_a_run_by_hand() {
    check(
        "
        slots 8
        drop in delete max_runs=2
        task a
    ",
        "
        see in r v1
        see in s v1
        fire in x v1
        fire in x v1
        end 1.a 0
        moved 1.0 deleted
        see in y v1
        end 2.a 0
        moved 2.0 deleted
        end 3.a 0
        moved 3.0 gone
    ",
        "
        armed in
        -> scan in
        > see in r v1
        run 1 of in: event [r created v1]
        started 1.a#1
        -> start 1.a#1
        > see in s v1
        run 2 of in: event [s created v1]
        started 2.a#1
        -> start 2.a#1
        > fire in x v1
        item #0 of in: manual [x created v1]
        -> reply queued #0
        > fire in x v1
        -> reply refused: /in/x waits for a run already
        > end 1.a 0
        ended 1.a#1 0: succeeded
        move 1.0 away
        -> move 1.0 /in/r away
        > moved 1.0 deleted
        moved 1.0: deleted
        run 1 succeeded: a=succeeded
        run 3 of in: manual items #0 [x created v1]
        started 3.a#1
        -> finished 1 succeeded
        -> start 3.a#1
        > see in y v1
        > end 2.a 0
        ended 2.a#1 0: succeeded
        move 2.0 away
        -> move 2.0 /in/s away
        > moved 2.0 deleted
        moved 2.0: deleted
        run 2 succeeded: a=succeeded
        run 4 of in: event [y created v1]
        started 4.a#1
        -> finished 2 succeeded
        -> start 4.a#1
        > end 3.a 0
        ended 3.a#1 0: succeeded
        move 3.0 away
        -> move 3.0 /in/x away
        > moved 3.0 gone
        moved 3.0: gone (gone: nothing is at the path any more)
        run 3 succeeded: a=succeeded
        -> finished 3 succeeded
        -> look in x
    ",
    );
}

#[test]
fn a_run_that_gives_way_comes_back_after_a_reload_without_restart() {
    check_reload(
        "
        drop in delete overlap=restart key=k
        task a
    ",
        "
        drop in delete key=k
        task a
    ",
        "
        see in a v1
        see in b v1
        reload
        end 1.a sig15
    ",
        "
        armed in
        -> scan in
        > see in a v1
        run 1 of in: event [a created v1]
        started 1.a#1
        -> start 1.a#1
        > see in b v1
        cancel 1: restart
        -> term 1.a#1
        > reload
        -> scan in
        > end 1.a sig15
        ended 1.a#1 sig15 by Cancel: cancelled
        run 1 cancelled: a=cancelled
        item #0 of in: event [a created v1]
        run 2 of in: event items #0 [a created v1] after 1
        started 2.a#1
        -> finished 1 cancelled
        -> start 2.a#1
    ",
    );
}

#[test]
fn a_first_scan_that_asked_is_answered_by_another_configuration() {
    let many = "
        drop in initial_max=2
        task a
    ";
    check_reload(
        many,
        "
        drop in initial_max=2 initial=baseline
        task a
    ",
        "
        counted in 3
        reload
        scan in a v1
        scanned in
        see in b v1
    ",
        "
        -> count in to 2
        > counted in 3
        paused in: the first scan found more than 2 files and nothing moves them away; `dagd resume in` delivers them all
        > reload
        -> scan in
        > scan in a v1
        noted in a v1: baseline
        > scanned in
        resumed in
        armed in
        > see in b v1
        run 1 of in: event [b created v1]
        started 1.a#1
        -> start 1.a#1
    ",
    );
    check_reload(
        many,
        "
        drop in initial_max=2 delete
        task a
    ",
        "
        counted in 3
        reload
        scan in a v1
    ",
        "
        -> count in to 2
        > counted in 3
        paused in: the first scan found more than 2 files and nothing moves them away; `dagd resume in` delivers them all
        > reload
        resumed in
        armed in
        -> scan in
        > scan in a v1
        run 1 of in: scan [a created v1]
        started 1.a#1
        -> start 1.a#1
    ",
    );
}

#[test]
fn what_has_ended_leaves_no_deadline() {
    check(
        "
        drop in delete
        task a timeout=3600s
    ",
        "
        see in a v1
        end 1.a 0
        moved 1.0 deleted
        idle
        see in b v1
        cancel 2
        end 2.a sig15
        idle
    ",
        "
        armed in
        -> scan in
        > see in a v1
        run 1 of in: event [a created v1]
        started 1.a#1
        -> start 1.a#1
        > end 1.a 0
        ended 1.a#1 0: succeeded
        move 1.0 away
        -> move 1.0 /in/a away
        > moved 1.0 deleted
        moved 1.0: deleted
        run 1 succeeded: a=succeeded
        -> finished 1 succeeded
        > idle
        > see in b v1
        run 2 of in: event [b created v1]
        started 2.a#1
        -> start 2.a#1
        > cancel 2
        cancel 2: cancelled by request
        -> term 2.a#1
        -> reply done
        > end 2.a sig15
        ended 2.a#1 sig15 by Cancel: cancelled
        run 2 cancelled: a=cancelled
        -> finished 2 cancelled
        > idle
    ",
    );
}

#[test]
fn a_paused_trigger_restarts_nothing() {
    check(
        "
        drop in delete overlap=restart key=k
        task a
    ",
        "
        see in a v1
        pause in
        see in b v1
        end 1.a 0
        moved 1.0 deleted
        resume in
    ",
        "
        armed in
        -> scan in
        > see in a v1
        run 1 of in: event [a created v1]
        started 1.a#1
        -> start 1.a#1
        > pause in
        paused in: by request
        -> reply done
        > see in b v1
        > end 1.a 0
        ended 1.a#1 0: succeeded
        move 1.0 away
        -> move 1.0 /in/a away
        > moved 1.0 deleted
        moved 1.0: deleted
        run 1 succeeded: a=succeeded
        -> finished 1 succeeded
        > resume in
        resumed in
        run 2 of in: event [b created v1]
        started 2.a#1
        -> reply done
        -> start 2.a#1
    ",
    );
}

/// Who serves many senders has one folder and one trigger for each of them, and the same names in
/// all: what comes to one is not caused by what came to another.
#[test]
#[expect(clippy::too_many_lines, reason = "a script and all that comes of it")]
fn one_name_in_the_folders_of_many_triggers_is_no_row() {
    check(
        "
        slots 9
        live 9
        drop a delete max_hops=1
        drop b delete max_hops=1
        drop c delete max_hops=1
        drop d delete max_hops=1
        task t
    ",
        "
        see a x v1
        see b x v1
        see c x v1
        see d x v1
        end 1.t 0
        moved 1.0 deleted
        see a x v2
        end 5.t 0
        moved 5.0 deleted
        see a x v3
        resume a
        look a x v3
    ",
        "
        armed a
        armed b
        armed c
        armed d
        -> scan a
        -> scan b
        -> scan c
        -> scan d
        > see a x v1
        run 1 of a: event [x created v1]
        started 1.t#1
        -> start 1.t#1
        > see b x v1
        run 2 of b: event [x created v1]
        started 2.t#1
        -> start 2.t#1
        > see c x v1
        run 3 of c: event [x created v1]
        started 3.t#1
        -> start 3.t#1
        > see d x v1
        run 4 of d: event [x created v1]
        started 4.t#1
        -> start 4.t#1
        > end 1.t 0
        ended 1.t#1 0: succeeded
        move 1.0 away
        -> move 1.0 /a/x away
        > moved 1.0 deleted
        moved 1.0: deleted
        run 1 succeeded: t=succeeded
        -> finished 1 succeeded
        > see a x v2
        run 5 of a: event [x created v2]
        started 5.t#1
        -> start 5.t#1
        > end 5.t 0
        ended 5.t#1 0: succeeded
        move 5.0 away
        -> move 5.0 /a/x away
        > moved 5.0 deleted
        moved 5.0: deleted
        run 5 succeeded: t=succeeded
        -> finished 5 succeeded
        > see a x v3
        > resume a
        -> look a x
        -> reply done
        > look a x v3
        run 6 of a: event [x created v3]
        started 6.t#1
        -> start 6.t#1
    ",
    );
}

/// What is looked at at the end of a run may not count any more.
#[test]
fn a_name_that_was_excluded_meanwhile_is_not_delivered() {
    check_reload(
        "
        drop in move=/done/
        task a
    ",
        "
        drop in move=/done/ exclude=*.x
        task a
    ",
        "
        see in a.x v1
        see in a.x v2
        reload
        end 1.a 0
        moved 1.0 superseded
        look in a.x v2
        see in b.y v1
    ",
        "
        armed in
        -> scan in
        > see in a.x v1
        run 1 of in: event [a.x created v1]
        started 1.a#1
        -> start 1.a#1
        > see in a.x v2
        > reload
        -> scan in
        > end 1.a 0
        ended 1.a#1 0: succeeded
        move 1.0 to /done/
        -> move 1.0 /in/a.x to /done/
        > moved 1.0 superseded
        moved 1.0: superseded (superseded: another version is at the path by now)
        run 1 succeeded: a=succeeded
        -> finished 1 succeeded
        -> look in a.x
        > look in a.x v2
        > see in b.y v1
        run 2 of in: event [b.y created v1]
        started 2.a#1
        -> start 2.a#1
    ",
    );
}

/// The run that wrote the file may end before another one that had a file of that name.
#[test]
fn a_row_goes_on_from_its_last_run_whichever_ended_first() {
    check(
        "
        drop a delete max_hops=1
        drop b delete max_hops=0
        task t
    ",
        "
        see a x v1
        see b x v1
        see a x v2
        end 2.t 0
        moved 2.0 deleted
        end 1.t 0
        moved 1.0 superseded
        look a x v2
        see b x v2
    ",
        "
        armed a
        armed b
        -> scan a
        -> scan b
        > see a x v1
        run 1 of a: event [x created v1]
        started 1.t#1
        -> start 1.t#1
        > see b x v1
        run 2 of b: event [x created v1]
        started 2.t#1
        -> start 2.t#1
        > see a x v2
        > end 2.t 0
        ended 2.t#1 0: succeeded
        move 2.0 away
        -> move 2.0 /b/x away
        > moved 2.0 deleted
        moved 2.0: deleted
        run 2 succeeded: t=succeeded
        -> finished 2 succeeded
        > end 1.t 0
        ended 1.t#1 0: succeeded
        move 1.0 away
        -> move 1.0 /a/x away
        > moved 1.0 superseded
        moved 1.0: superseded (superseded: another version is at the path by now)
        run 1 succeeded: t=succeeded
        -> finished 1 succeeded
        -> look a x
        > look a x v2
        run 3 of a: event [x modified v2]
        started 3.t#1
        -> start 3.t#1
        > see b x v2
    ",
    );
}

#[test]
fn what_comes_last_runs_first_after_a_restart() {
    check(
        "
        drop in delete overlap=restart key=k
        task a
    ",
        "
        see in a v1
        see in b v1
        see in c v1
        end 1.a sig15
        end 2.a 0
        moved 2.0 deleted
    ",
        "
        armed in
        -> scan in
        > see in a v1
        run 1 of in: event [a created v1]
        started 1.a#1
        -> start 1.a#1
        > see in b v1
        cancel 1: restart
        -> term 1.a#1
        > see in c v1
        > end 1.a sig15
        ended 1.a#1 sig15 by Cancel: cancelled
        run 1 cancelled: a=cancelled
        item #0 of in: event [a created v1]
        run 2 of in: event [c created v1]
        started 2.a#1
        -> finished 1 cancelled
        -> start 2.a#1
        > end 2.a 0
        ended 2.a#1 0: succeeded
        move 2.0 away
        -> move 2.0 /in/c away
        > moved 2.0 deleted
        moved 2.0: deleted
        run 2 succeeded: a=succeeded
        run 3 of in: event [b created v1]
        started 3.a#1
        -> finished 2 succeeded
        -> start 3.a#1
    ",
    );
}

#[test]
fn what_somebody_had_open_is_moved_when_it_is_closed() {
    check(
        "
        drop in move=/done/{name}
        task a
    ",
        "
        counted in 0
        see in x v1
        end 1.a 0
        moved 1.0 stuck
        see in x v1 writing
        see in x v1
        moved 1.0 stuck
        see in x v2
        moved 1.0 superseded
        look in x v2
    ",
        "
        armed in
        -> scan in
        > counted in 0
        > see in x v1
        run 1 of in: event [x created v1]
        started 1.a#1
        -> start 1.a#1
        > end 1.a 0
        ended 1.a#1 0: succeeded
        move 1.0 to /done/x
        -> move 1.0 /in/x to /done/x
        > moved 1.0 stuck
        > see in x v1 writing
        > see in x v1
        -> move 1.0 /in/x to /done/x again
        > moved 1.0 stuck
        > see in x v2
        -> move 1.0 /in/x to /done/x again
        > moved 1.0 superseded
        moved 1.0: superseded (superseded: another version is at the path by now)
        run 1 succeeded: a=succeeded
        -> finished 1 succeeded
        -> look in x
        > look in x v2
        run 2 of in: event [x modified v2]
        started 2.a#1
        -> start 2.a#1
    ",
    );
}

#[test]
fn what_is_written_anew_is_no_change_of_it() {
    check(
        "
        drop in kind=modified
        task a
    ",
        "
        counted in 0
        see in x v1 writing
        see in x v2 writing
        see in x v3
        see in x v4 writing
        see in x v5
    ",
        "
        -> count in to 10000
        > counted in 0
        armed in
        -> scan in
        > see in x v1 writing
        > see in x v2 writing
        > see in x v3
        noted in x v3: kinds
        > see in x v4 writing
        > see in x v5
        run 1 of in: event [x modified v5]
        started 1.a#1
        -> start 1.a#1
    ",
    );
}

#[test]
fn a_clock_that_was_set_does_not_change_how_long_an_attempt_has_run() {
    check(
        r"
        signal s
        task a timeout=60s
    ",
        r"
        signal s
        down 10s
        clock +2h
        takeover 1.a 10s
        +49s
        clock -4h
        takeover 1.a 59s
        +1s
    ",
        r"
        > signal s
        item #0 of s: signal
        run 1 of s: signal items #0
        started 1.a#1
        -> start 1.a#1
        > down 10s
        > clock +2h
        > takeover 1.a 10s
        > +49s
        > clock -4h
        > takeover 1.a 59s
        > +1s
        -> term 1.a#1
    ",
    );
}
