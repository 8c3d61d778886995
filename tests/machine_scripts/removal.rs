//! What becomes of what waits when its trigger leaves the configuration.

use crate::scripts::check_reload;

#[test]
fn what_waits_is_run_by_the_tasks_that_it_came_for() {
    check_reload(
        r"
        signal s
        task a
    ",
        r"
        task z
    ",
        r"
        signal s
        signal s
        signal s
        reload
        signal s
        end 1.a 0
        end 2.a 0
        end 3.a 0
    ",
        r"
        > signal s
        item #0 of s: signal
        run 1 of s: signal items #0
        started 1.a#1
        -> start 1.a#1
        > signal s
        item #1 of s: signal
        > signal s
        item #2 of s: signal
        > reload
        left s
        > signal s
        > end 1.a 0
        ended 1.a#1 0: succeeded
        run 1 succeeded: a=succeeded
        run 2 of s: signal items #1
        started 2.a#1
        -> finished 1 succeeded
        -> start 2.a#1
        > end 2.a 0
        ended 2.a#1 0: succeeded
        run 2 succeeded: a=succeeded
        run 3 of s: signal items #2
        started 3.a#1
        -> finished 2 succeeded
        -> start 3.a#1
        > end 3.a 0
        ended 3.a#1 0: succeeded
        run 3 succeeded: a=succeeded
        drained s
        -> finished 3 succeeded
    ",
    );
}

#[test]
fn it_is_dropped_where_that_is_the_policy() {
    check_reload(
        r"
        signal s removal=drop
        task a
    ",
        r"
        task a
    ",
        r"
        signal s
        signal s
        reload
        signal s
        end 1.a 0
    ",
        r"
        > signal s
        item #0 of s: signal
        run 1 of s: signal items #0
        started 1.a#1
        -> start 1.a#1
        > signal s
        item #1 of s: signal
        > reload
        left s
        dropped #1: the trigger is no longer configured
        > signal s
        > end 1.a 0
        ended 1.a#1 0: succeeded
        run 1 succeeded: a=succeeded
        drained s
        -> finished 1 succeeded
    ",
    );
}

#[test]
fn it_makes_no_difference_whether_dagd_was_down_or_dies_meanwhile() {
    check_reload(
        r"
        signal s
        task a
    ",
        r"
        task z
    ",
        r"
        signal s
        signal s
        signal s
        restart
        crash
        end 1.a#3 0
        crash
        end 2.a#2 0
        end 3.a 0
    ",
        r"
        > signal s
        item #0 of s: signal
        run 1 of s: signal items #0
        started 1.a#1
        -> start 1.a#1
        > signal s
        item #1 of s: signal
        > signal s
        item #2 of s: signal
        > restart
        ended 1.a#1 dagd ended while it ran: requeued
        left s
        started 1.a#2
        -> start 1.a#2
        > crash
        ended 1.a#2 dagd ended while it ran: requeued
        started 1.a#3
        -> start 1.a#3
        > end 1.a#3 0
        ended 1.a#3 0: succeeded
        run 1 succeeded: a=succeeded
        run 2 of s: signal items #1
        started 2.a#1
        -> finished 1 succeeded
        -> start 2.a#1
        > crash
        ended 2.a#1 dagd ended while it ran: requeued
        started 2.a#2
        -> start 2.a#2
        > end 2.a#2 0
        ended 2.a#2 0: succeeded
        run 2 succeeded: a=succeeded
        run 3 of s: signal items #2
        started 3.a#1
        -> finished 2 succeeded
        -> start 3.a#1
        > end 3.a 0
        ended 3.a#1 0: succeeded
        run 3 succeeded: a=succeeded
        drained s
        -> finished 3 succeeded
    ",
    );
}

#[test]
fn it_is_the_triggers_again_when_that_comes_back() {
    check_reload(
        r"
        signal s
        task a
    ",
        r"
        task z
    ",
        r"
        signal s
        signal s
        signal s
        reload
        end 1.a 0
        reload
        end 2.a 0
        end 3.a 0
    ",
        r"
        > signal s
        item #0 of s: signal
        run 1 of s: signal items #0
        started 1.a#1
        -> start 1.a#1
        > signal s
        item #1 of s: signal
        > signal s
        item #2 of s: signal
        > reload
        left s
        > end 1.a 0
        ended 1.a#1 0: succeeded
        run 1 succeeded: a=succeeded
        run 2 of s: signal items #1
        started 2.a#1
        -> finished 1 succeeded
        -> start 2.a#1
        > reload
        back s
        > end 2.a 0
        ended 2.a#1 0: succeeded
        run 2 succeeded: a=succeeded
        run 3 of s: signal items #2
        started 3.a#1
        -> finished 2 succeeded
        -> start 3.a#1
        > end 3.a 0
        ended 3.a#1 0: succeeded
        run 3 succeeded: a=succeeded
        -> finished 3 succeeded
    ",
    );
}

#[test]
fn a_pause_holds_until_it_is_taken_back() {
    check_reload(
        r"
        signal s
        task a
    ",
        r"
        task z
    ",
        r"
        pause s
        signal s
        reload
        resume s
        end 1.a 0
        resume s
        resume other
    ",
        r"
        > pause s
        paused s: by request
        -> reply done
        > signal s
        item #0 of s: signal
        > reload
        left s
        > resume s
        resumed s
        run 1 of s: signal items #0
        started 1.a#1
        -> reply done
        -> start 1.a#1
        > end 1.a 0
        ended 1.a#1 0: succeeded
        run 1 succeeded: a=succeeded
        drained s
        -> finished 1 succeeded
        > resume s
        -> reply not found: no trigger `s`
        > resume other
        -> reply not found: no trigger `other`
    ",
    );
}

#[test]
#[expect(clippy::too_many_lines, reason = "a story of two triggers, line by line")]
fn those_that_merge_become_one_run_and_a_rate_still_delays() {
    check_reload(
        r"
        signal s overlap=coalesce rate=1/60s
        signal q rate=1/60s max_runs=2
        task a
    ",
        r"
        task z
    ",
        r"
        signal s
        signal s
        signal s
        signal q
        signal q
        signal q
        reload
        end 1.a 0
        end 2.a 0
        +60s
        end 3.a 0
        end 4.a 0
        +60s
        end 5.a 0
        idle
    ",
        r"
        > signal s
        item #0 of s: signal
        run 1 of s: signal items #0
        started 1.a#1
        -> start 1.a#1
        > signal s
        item #1 of s: signal
        > signal s
        item #2 of s: signal
        > signal q
        item #3 of q: signal
        run 2 of q: signal items #3
        started 2.a#1
        -> start 2.a#1
        > signal q
        item #4 of q: signal
        > signal q
        item #5 of q: signal
        > reload
        left q
        left s
        > end 1.a 0
        ended 1.a#1 0: succeeded
        run 1 succeeded: a=succeeded
        -> finished 1 succeeded
        > end 2.a 0
        ended 2.a#1 0: succeeded
        run 2 succeeded: a=succeeded
        -> finished 2 succeeded
        > +60s
        run 3 of q: signal items #4
        run 4 of s: signal items #1,#2
        started 3.a#1
        started 4.a#1
        -> start 3.a#1
        -> start 4.a#1
        > end 3.a 0
        ended 3.a#1 0: succeeded
        run 3 succeeded: a=succeeded
        -> finished 3 succeeded
        > end 4.a 0
        ended 4.a#1 0: succeeded
        run 4 succeeded: a=succeeded
        drained s
        -> finished 4 succeeded
        > +60s
        run 5 of q: signal items #5
        started 5.a#1
        -> start 5.a#1
        > end 5.a 0
        ended 5.a#1 0: succeeded
        run 5 succeeded: a=succeeded
        drained q
        -> finished 5 succeeded
        > idle
    ",
    );
}

#[test]
fn a_run_that_gave_way_comes_back_all_the_same() {
    check_reload(
        r"
        drop in overlap=restart key={ext} move=/done/{name}
        task a
    ",
        r"
        task z
    ",
        r"
        see in x.c v1
        see in y.c v2
        reload
        end 1.a sig15
        end 2.a 0
        moved 2.0 ok
    ",
        r"
        armed in
        -> scan in
        > see in x.c v1
        run 1 of in: event [x.c created v1]
        started 1.a#1
        -> start 1.a#1
        > see in y.c v2
        cancel 1: restart
        -> term 1.a#1
        > reload
        left in
        > end 1.a sig15
        ended 1.a#1 sig15 by Cancel: cancelled
        run 1 cancelled: a=cancelled
        item #0 of in: event [x.c created v1]
        run 2 of in: event items #0 [x.c created v1] after 1
        started 2.a#1
        -> finished 1 cancelled
        -> start 2.a#1
        > end 2.a 0
        ended 2.a#1 0: succeeded
        move 2.0 to /done/x.c
        -> move 2.0 /in/x.c to /done/x.c
        > moved 2.0 ok
        moved 2.0: moved
        run 2 succeeded: a=succeeded
        drained in
        -> finished 2 succeeded
    ",
    );
}

#[test]
fn a_run_that_gives_way_when_its_trigger_is_gone_is_dropped_where_that_is_the_policy() {
    check_reload(
        r"
        drop in overlap=restart key={ext} move=/done/{name} removal=drop
        task a
    ",
        r"
        task z
    ",
        r"
        see in x.c v1
        see in y.c v2
        reload
        end 1.a sig15
    ",
        r"
        armed in
        -> scan in
        > see in x.c v1
        run 1 of in: event [x.c created v1]
        started 1.a#1
        -> start 1.a#1
        > see in y.c v2
        cancel 1: restart
        -> term 1.a#1
        > reload
        left in
        > end 1.a sig15
        ended 1.a#1 sig15 by Cancel: cancelled
        run 1 cancelled: a=cancelled
        item #0 of in: event [x.c created v1]
        dropped #0: the trigger is no longer configured
        drained in
        -> finished 1 cancelled
    ",
    );
}

#[test]
fn its_rate_holds_while_it_is_gone_and_when_it_is_back() {
    check_reload(
        r"
        signal s rate=1/60s
        task a
    ",
        r"
        task z
    ",
        r"
        signal s
        end 1.a 0
        reload
        +20s
        reload
        signal s
        +39s
        +1s
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
        > reload
        left s
        drained s
        > +20s
        > reload
        back s
        > signal s
        item #1 of s: signal
        > +39s
        > +1s
        run 2 of s: signal items #1
        started 2.a#1
        -> start 2.a#1
    ",
    );
}

#[test]
fn its_runs_keep_their_keys_when_it_is_gone() {
    check_reload(
        r"
        signal s key={value} max_runs=9
        task a
    ",
        r"
        task z
    ",
        r"
        signal s 1
        signal s 1
        reload
        end 1.a 0
        reload
        signal s 1
        signal s 2
        end 2.a 0
        end 3.a 0
    ",
        r"
        > signal s 1
        item #0 of s: signal
        run 1 of s: signal items #0 value 1
        started 1.a#1
        -> start 1.a#1
        > signal s 1
        item #1 of s: signal
        > reload
        left s
        > end 1.a 0
        ended 1.a#1 0: succeeded
        run 1 succeeded: a=succeeded
        run 2 of s: signal items #1 value 1
        started 2.a#1
        -> finished 1 succeeded
        -> start 2.a#1
        > reload
        back s
        > signal s 1
        item #2 of s: signal
        > signal s 2
        item #3 of s: signal
        run 3 of s: signal items #3 value 2
        started 3.a#1
        -> start 3.a#1
        > end 2.a 0
        ended 2.a#1 0: succeeded
        run 2 succeeded: a=succeeded
        run 4 of s: signal items #2 value 1
        started 4.a#1
        -> finished 2 succeeded
        -> start 4.a#1
        > end 3.a 0
        ended 3.a#1 0: succeeded
        run 3 succeeded: a=succeeded
        -> finished 3 succeeded
    ",
    );
}

#[test]
fn what_cannot_be_moved_holds_up_nobody() {
    check_reload(
        r"
        drop in overlap=restart key={ext} move=/done/{name}
        task a
    ",
        r"
        task z
    ",
        r"
        see in x.a v1
        see in x.b v2
        see in y.b v3
        end 1.a 0
        moved 1.0 stuck
        reload
        end 2.a sig15
        end 3.a 0
        moved 3.0 ok
        moved 1.0 ok
    ",
        r"
        armed in
        -> scan in
        > see in x.a v1
        run 1 of in: event [x.a created v1]
        started 1.a#1
        -> start 1.a#1
        > see in x.b v2
        run 2 of in: event [x.b created v2]
        started 2.a#1
        -> start 2.a#1
        > see in y.b v3
        cancel 2: restart
        -> term 2.a#1
        > end 1.a 0
        ended 1.a#1 0: succeeded
        move 1.0 to /done/x.a
        -> move 1.0 /in/x.a to /done/x.a
        > moved 1.0 stuck
        > reload
        left in
        > end 2.a sig15
        ended 2.a#1 sig15 by Cancel: cancelled
        run 2 cancelled: a=cancelled
        item #0 of in: event [x.b created v2]
        run 3 of in: event items #0 [x.b created v2] after 2
        started 3.a#1
        -> finished 2 cancelled
        -> start 3.a#1
        > end 3.a 0
        ended 3.a#1 0: succeeded
        move 3.0 to /done/x.b
        -> move 3.0 /in/x.b to /done/x.b
        > moved 3.0 ok
        moved 3.0: moved
        run 3 succeeded: a=succeeded
        -> finished 3 succeeded
        > moved 1.0 ok
        moved 1.0: moved
        run 1 succeeded: a=succeeded
        drained in
        -> finished 1 succeeded
    ",
    );
}

#[test]
fn what_cannot_be_moved_holds_up_no_event_of_another_key() {
    check_reload(
        r"
        drop in key={ext} move=/done/{name}
        task a
    ",
        r"
        task z
    ",
        r"
        see in x.a v1
        see in x.b v2
        end 1.a 0
        moved 1.0 stuck
        fire in y.a v3
        fire in y.b v4
        reload
        end 2.a 0
        moved 2.0 ok
    ",
        r"
        armed in
        -> scan in
        > see in x.a v1
        run 1 of in: event [x.a created v1]
        started 1.a#1
        -> start 1.a#1
        > see in x.b v2
        run 2 of in: event [x.b created v2]
        started 2.a#1
        -> start 2.a#1
        > end 1.a 0
        ended 1.a#1 0: succeeded
        move 1.0 to /done/x.a
        -> move 1.0 /in/x.a to /done/x.a
        > moved 1.0 stuck
        > fire in y.a v3
        item #0 of in: manual [y.a created v3]
        -> reply queued #0
        > fire in y.b v4
        item #1 of in: manual [y.b created v4]
        -> reply queued #1
        > reload
        left in
        > end 2.a 0
        ended 2.a#1 0: succeeded
        move 2.0 to /done/x.b
        -> move 2.0 /in/x.b to /done/x.b
        > moved 2.0 ok
        moved 2.0: moved
        run 2 succeeded: a=succeeded
        run 3 of in: manual items #1 [y.b created v4]
        started 3.a#1
        -> finished 2 succeeded
        -> start 3.a#1
    ",
    );
}
