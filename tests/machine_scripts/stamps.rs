//! Times that are set after the close, event by event: what goes on, and what is delivered again.

use super::scripts::check;

#[test]
fn a_time_that_is_set_back_is_no_new_version() {
    check(
        r"
        drop in
        task a
    ",
        r"
        counted in 0
        see in x v5
        stamp in x v4
        end 1.a 0
        look in x v4
        stamp in x v3
        crash
        look in x v3
    ",
        r"
        -> count in to 10000
        > counted in 0
        armed in
        -> scan in
        > see in x v5
        run 1 of in: event [x created v5]
        started 1.a#1
        -> start 1.a#1
        > stamp in x v4
        stamped in x v4 of run 1
        > end 1.a 0
        ended 1.a#1 0: succeeded
        run 1 succeeded: a=succeeded
        -> finished 1 succeeded
        > look in x v4
        > stamp in x v3
        stamped in x v3
        > crash
        -> scan in
        > look in x v3
    ",
    );
}

#[test]
fn a_time_that_is_set_forward_is_one() {
    check(
        r"
        drop in
        task a
    ",
        r"
        counted in 0
        see in x v5
        end 1.a 0
        stamp in x v6
    ",
        r"
        -> count in to 10000
        > counted in 0
        armed in
        -> scan in
        > see in x v5
        run 1 of in: event [x created v5]
        started 1.a#1
        -> start 1.a#1
        > end 1.a 0
        ended 1.a#1 0: succeeded
        run 1 succeeded: a=succeeded
        -> finished 1 succeeded
        > stamp in x v6
        run 2 of in: event [x modified v6]
        started 2.a#1
        -> start 2.a#1
    ",
    );
}

#[test]
fn another_size_is_one_whatever_the_time() {
    check(
        r"
        drop in
        task a
    ",
        r"
        counted in 0
        see in x v5
        end 1.a 0
        stamp in x v4:2
    ",
        r"
        -> count in to 10000
        > counted in 0
        armed in
        -> scan in
        > see in x v5
        run 1 of in: event [x created v5]
        started 1.a#1
        -> start 1.a#1
        > end 1.a 0
        ended 1.a#1 0: succeeded
        run 1 succeeded: a=succeeded
        -> finished 1 succeeded
        > stamp in x v4:2
        run 2 of in: event [x modified v4]
        started 2.a#1
        -> start 2.a#1
    ",
    );
}

#[test]
fn what_was_seen_to_be_written_is_delivered_though_its_time_is_set_back() {
    check(
        r"
        drop in
        task a
    ",
        r"
        counted in 0
        see in x v5
        see in x v6
        stamp in x v4
        end 1.a 0
        stamp in x v3
        look in x v3
    ",
        r"
        -> count in to 10000
        > counted in 0
        armed in
        -> scan in
        > see in x v5
        run 1 of in: event [x created v5]
        started 1.a#1
        -> start 1.a#1
        > see in x v6
        > stamp in x v4
        > end 1.a 0
        ended 1.a#1 0: succeeded
        run 1 succeeded: a=succeeded
        -> finished 1 succeeded
        -> look in x
        > stamp in x v3
        run 2 of in: event [x modified v3]
        started 2.a#1
        -> start 2.a#1
        > look in x v3
    ",
    );
}

#[test]
fn a_look_that_was_thrown_away_may_have_seen_anything() {
    check(
        r"
        drop in
        task a
    ",
        r"
        counted in 0
        see in x v5
        end 1.a 0
        stale in x v6
        stamp in x v4
        look in x v4
    ",
        r"
        -> count in to 10000
        > counted in 0
        armed in
        -> scan in
        > see in x v5
        run 1 of in: event [x created v5]
        started 1.a#1
        -> start 1.a#1
        > end 1.a 0
        ended 1.a#1 0: succeeded
        run 1 succeeded: a=succeeded
        -> finished 1 succeeded
        > stale in x v6
        -> look in x
        > stamp in x v4
        run 2 of in: event [x modified v4]
        started 2.a#1
        -> start 2.a#1
        > look in x v4
    ",
    );
}

#[test]
fn one_that_is_older_than_the_delivery_is_asked_for_again() {
    check(
        r"
        drop in
        task a
    ",
        r"
        counted in 0
        see in x v5
        end 1.a 0
        stale-stamp in x v4
        stamp in x v4
        look in x v4
    ",
        r"
        -> count in to 10000
        > counted in 0
        armed in
        -> scan in
        > see in x v5
        run 1 of in: event [x created v5]
        started 1.a#1
        -> start 1.a#1
        > end 1.a 0
        ended 1.a#1 0: succeeded
        run 1 succeeded: a=succeeded
        -> finished 1 succeeded
        > stale-stamp in x v4
        -> recheck in x
        > stamp in x v4
        stamped in x v4
        > look in x v4
    ",
    );
}

#[test]
fn what_is_not_delivered_yet_is_delivered_as_it_is() {
    check(
        r"
        drop in settle=1s
        task a
    ",
        r"
        counted in 0
        see in x v5
        stamp in x v4
        +1s
        look in x v4
    ",
        r"
        -> count in to 10000
        > counted in 0
        armed in
        -> scan in
        > see in x v5
        > stamp in x v4
        > +1s
        -> look in x
        > look in x v4
        run 1 of in: event [x created v4]
        started 1.a#1
        -> start 1.a#1
    ",
    );
}

#[test]
fn a_move_finds_the_time_that_was_set() {
    check(
        r"
        drop in move=/done/{name}
        task a
    ",
        r"
        see in x v5
        stamp in x v4
        end 1.a 0
        moved 1.0 ok
    ",
        r"
        armed in
        -> scan in
        > see in x v5
        run 1 of in: event [x created v5]
        started 1.a#1
        -> start 1.a#1
        > stamp in x v4
        stamped in x v4 of run 1
        > end 1.a 0
        ended 1.a#1 0: succeeded
        move 1.0 to /done/x
        -> move 1.0 /in/x to /done/x
        > moved 1.0 ok
        moved 1.0: moved
        run 1 succeeded: a=succeeded
        -> finished 1 succeeded
    ",
    );
}

#[test]
fn a_move_waits_to_be_told_of_it() {
    check(
        r"
        drop in move=/done/{name}
        task a
    ",
        r"
        see in x v5
        end 1.a 0
        moved 1.0 stamped v4
        stamp in x v4
        moved 1.0 ok
    ",
        r"
        armed in
        -> scan in
        > see in x v5
        run 1 of in: event [x created v5]
        started 1.a#1
        -> start 1.a#1
        > end 1.a 0
        ended 1.a#1 0: succeeded
        move 1.0 to /done/x
        -> move 1.0 /in/x to /done/x
        > moved 1.0 stamped v4
        -> recheck in x
        > stamp in x v4
        stamped in x v4 of run 1
        -> move 1.0 /in/x to /done/x again
        > moved 1.0 ok
        moved 1.0: moved
        run 1 succeeded: a=succeeded
        -> finished 1 succeeded
    ",
    );
}

#[test]
fn a_move_that_was_told_of_it_meanwhile_is_tried_again() {
    check(
        r"
        drop in move=/done/{name}
        task a
    ",
        r"
        see in x v5
        end 1.a 0
        moved 1.0 stamped v4
        stamp in x v4
        moved 1.0 stamped v4
        moved 1.0 ok
    ",
        r"
        armed in
        -> scan in
        > see in x v5
        run 1 of in: event [x created v5]
        started 1.a#1
        -> start 1.a#1
        > end 1.a 0
        ended 1.a#1 0: succeeded
        move 1.0 to /done/x
        -> move 1.0 /in/x to /done/x
        > moved 1.0 stamped v4
        -> recheck in x
        > stamp in x v4
        stamped in x v4 of run 1
        -> move 1.0 /in/x to /done/x again
        > moved 1.0 stamped v4
        -> move 1.0 /in/x to /done/x again
        > moved 1.0 ok
        moved 1.0: moved
        run 1 succeeded: a=succeeded
        -> finished 1 succeeded
    ",
    );
}

#[test]
fn a_move_does_not_wait_for_long() {
    check(
        r"
        drop in move=/done/{name}
        task a
    ",
        r"
        see in x v5
        end 1.a 0
        moved 1.0 stamped v4
        +1s
        moved 1.0 stamped v4
        look in x v4
    ",
        r"
        armed in
        -> scan in
        > see in x v5
        run 1 of in: event [x created v5]
        started 1.a#1
        -> start 1.a#1
        > end 1.a 0
        ended 1.a#1 0: succeeded
        move 1.0 to /done/x
        -> move 1.0 /in/x to /done/x
        > moved 1.0 stamped v4
        -> recheck in x
        > +1s
        -> move 1.0 /in/x to /done/x again
        > moved 1.0 stamped v4
        moved 1.0: superseded (superseded: another version is at the path by now)
        run 1 succeeded: a=succeeded
        -> finished 1 succeeded
        -> look in x
        > look in x v4
        run 2 of in: event [x modified v4]
        started 2.a#1
        -> start 2.a#1
    ",
    );
}
