//! Conditions of readiness, event by event: what waits, what ends the wait, what is told of it.

use super::scripts::{
    check as check_whole, check_empty as check, check_empty_reload as check_reload,
};

#[test]
fn a_done_file_is_waited_for_without_a_timer() {
    check(
        r"
        drop in done={name}.done
        task a
    ",
        r"
        see in x v1 undone
        idle
        +1000s
        see in x v2 undone
        idle
        +1000s
        see in x v2
    ",
        r"
        > see in x v1 undone
        > idle
        > +1000s
        > see in x v2 undone
        > idle
        > +1000s
        > see in x v2
        run 1 of in: event [x created v2]
        started 1.a#1
        -> start 1.a#1
    ",
    );
}

#[test]
fn with_its_done_file_a_file_still_needs_its_writer_to_close() {
    check(
        r"
        drop in done={name}.done
        task a
    ",
        r"
        see in x v1 writing
        +250ms
        see in x v1 undone
        +10s
        see in x v1
    ",
        r"
        > see in x v1 writing
        > +250ms
        -> look in x
        > see in x v1 undone
        > +10s
        > see in x v1
        run 1 of in: event [x created v1]
        started 1.a#1
        -> start 1.a#1
    ",
    );
}

#[test]
fn a_file_that_loses_its_done_file_before_its_turn_waits_again() {
    check(
        r"
        drop in done={name}.done max_runs=1
        task a
    ",
        r"
        see in x v1
        see in y v1
        see in y v1 undone
        end 1.a 0
        see in y v1
    ",
        r"
        > see in x v1
        run 1 of in: event [x created v1]
        started 1.a#1
        -> start 1.a#1
        > see in y v1
        > see in y v1 undone
        > end 1.a 0
        ended 1.a#1 0: succeeded
        run 1 succeeded: a=succeeded
        -> finished 1 succeeded
        > see in y v1
        run 2 of in: event [y created v1]
        started 2.a#1
        -> start 2.a#1
    ",
    );
}

#[test]
fn a_baseline_leaves_out_what_waits_for_its_done_file() {
    check_whole(
        r"
        drop in done={name}.done initial=baseline
        task a
    ",
        r"
        scan in x v1
        scan in y v1 undone
        scanned in
        see in y v1
    ",
        r"
        -> scan in
        > scan in x v1
        noted in x v1: baseline
        > scan in y v1 undone
        > scanned in
        armed in
        > see in y v1
        run 1 of in: scan [y created v1]
        started 1.a#1
        -> start 1.a#1
    ",
    );
}

#[test]
fn sizes_are_a_filter_and_a_delivered_row_stays() {
    check(
        r"
        drop in min_size=3 max_size=5
        task a
    ",
        r"
        see in x v1:2 writing
        +1000s
        see in x v2:3
        end 1.a 0
        see in x v3:6
        see in x v2:3
        see in x v4:5
    ",
        r"
        > see in x v1:2 writing
        > +1000s
        > see in x v2:3
        run 1 of in: event [x created v2]
        started 1.a#1
        -> start 1.a#1
        > end 1.a 0
        ended 1.a#1 0: succeeded
        run 1 succeeded: a=succeeded
        -> finished 1 succeeded
        > see in x v3:6
        > see in x v2:3
        > see in x v4:5
        run 2 of in: event [x modified v4]
        started 2.a#1
        -> start 2.a#1
    ",
    );
}

#[test]
fn a_pending_file_that_grows_too_large_is_dropped() {
    check(
        r"
        drop in max_size=5 settle=10s
        task a
    ",
        r"
        see in x v1:5
        see in x v2:6
        +100s
    ",
        r"
        > see in x v1:5
        > see in x v2:6
        > +100s
    ",
    );
}

#[test]
fn the_size_of_what_cannot_be_read_tells_nothing() {
    check(
        r"
        drop in min_size=3
        task a
    ",
        r"
        see in x v1:5 unreadable
        +250ms
        see in x v1:5
    ",
        r"
        > see in x v1:5 unreadable
        > +250ms
        -> look in x
        > see in x v1:5
        run 1 of in: event [x created v1]
        started 1.a#1
        -> start 1.a#1
    ",
    );
}

#[test]
fn min_age_begins_anew_with_each_version() {
    check(
        r"
        drop in min_age=10s
        task a
    ",
        r"
        see in x v1
        +9s
        see in x v2
        +9s
        see in x v2
        +1s
        look in x v2
    ",
        r"
        > see in x v1
        > +9s
        > see in x v2
        > +9s
        > see in x v2
        > +1s
        -> look in x
        > look in x v2
        run 1 of in: event [x created v2]
        started 1.a#1
        -> start 1.a#1
    ",
    );
}

#[test]
fn a_folder_has_to_stay_the_same_though_nobody_writes_in_it() {
    check(
        r"
        drop in type=dir
        task a
    ",
        r"
        see in x v1
        +1s
        see in x v2
        +2s
        look in x v2
    ",
        r"
        > see in x v1
        > +1s
        > see in x v2
        > +2s
        -> look in x
        > look in x v2
        run 1 of in: event [x created v2]
        started 1.a#1
        -> start 1.a#1
    ",
    );
}

#[test]
fn a_folder_that_is_done_and_free_need_not_stay_the_same() {
    check(
        r"
        drop in type=dir done=_SUCCESS
        task a
    ",
        r"
        see in x v1 undone
        see in x v2
        see in y v1 unproved
        +2s
        look in y v1 unproved
    ",
        r"
        > see in x v1 undone
        > see in x v2
        run 1 of in: event [x created v2]
        started 1.a#1
        -> start 1.a#1
        > see in y v1 unproved
        > +2s
        -> look in y
        > look in y v1 unproved
        run 2 of in: event [y created v1]
        started 2.a#1
        -> start 2.a#1
    ",
    );
}

#[test]
fn what_waits_for_long_is_told_once_and_stays_unready() {
    check(
        r"
        drop in done={name}.done alarm=10s
        task a
    ",
        r"
        see in x v1 undone
        +9s
        see in x v2 undone
        +1s
        look in x v2 undone
        +1000s
        see in x v2 undone
        see in x v2
    ",
        r"
        > see in x v1 undone
        > +9s
        > see in x v2 undone
        > +1s
        -> look in x
        > look in x v2 undone
        -> alarm in x since 1000 ms
        > +1000s
        > see in x v2 undone
        > see in x v2
        run 1 of in: event [x created v2]
        started 1.a#1
        -> start 1.a#1
    ",
    );
}

#[test]
fn an_alarm_looks_first_and_is_not_for_what_has_gone() {
    check(
        r"
        drop in done={name}.done alarm=10s
        task a
    ",
        r"
        see in x v1 undone
        +10s
        look in x gone
        +1000s
    ",
        r"
        > see in x v1 undone
        > +10s
        -> look in x
        > look in x gone
        > +1000s
    ",
    );
}

#[test]
fn what_became_ready_leaves_no_timer() {
    check(
        r"
        drop in done={name}.done alarm=10s
        task a
    ",
        r"
        see in x v1 undone
        see in x v1
        idle
        end 1.a 0
        see in x v2 undone
        see in x gone
        idle
    ",
        r"
        > see in x v1 undone
        > see in x v1
        run 1 of in: event [x created v1]
        started 1.a#1
        -> start 1.a#1
        > idle
        > end 1.a 0
        ended 1.a#1 0: succeeded
        run 1 succeeded: a=succeeded
        -> finished 1 succeeded
        > see in x v2 undone
        > see in x gone
        departed in x
        > idle
    ",
    );
}

#[test]
fn the_log_is_no_list_of_late_files() {
    let files: Vec<String> = (0..20).map(|n| format!("{n:02}")).collect();
    let lines = |line: &dyn Fn(&str) -> String| {
        files.iter().map(|n| line(n)).collect::<Vec<_>>().join("\n")
    };
    let script = [
        lines(&|n| format!("see in {n} v1 undone")),
        "+10s".to_owned(),
        lines(&|n| format!("look in {n} v1 undone")),
    ];
    let told = |n: &str| {
        let last = if n == "15" { ", the last" } else { "" };
        let alarm = format!("\n-> alarm in {n} since 1000 ms{last}");
        let alarm = if n < "16" { alarm.as_str() } else { "" };
        format!("> look in {n} v1 undone{alarm}")
    };
    let expected = [
        lines(&|n| format!("> see in {n} v1 undone")),
        "> +10s".to_owned(),
        lines(&|n| format!("-> look in {n}")),
        lines(&told),
    ];
    let model = "drop in done={name}.done alarm=10s\ntask a";
    check(model, &script.join("\n"), &expected.join("\n"));
}

#[test]
fn a_path_that_nobody_can_open_is_told_and_not_dropped() {
    check(
        r"
        drop in alarm=10s
        task a
    ",
        r"
        see in x v1 toolong
        +10s
        look in x v1 toolong
        +1000s
    ",
        r"
        > see in x v1 toolong
        > +10s
        -> look in x
        > look in x v1 toolong
        -> alarm in x since 1000 ms
        > +1000s
    ",
    );
}

#[test]
fn a_reload_that_asks_for_no_done_file_looks_again() {
    check_reload(
        r"
        drop in done={name}.done
        task a
    ",
        r"
        drop in
        task a
    ",
        r"
        see in x v1 undone
        reload
        scan in x v1
    ",
        r"
        > see in x v1 undone
        > reload
        -> scan in
        > scan in x v1
        run 1 of in: scan [x created v1]
        started 1.a#1
        -> start 1.a#1
    ",
    );
}

#[test]
fn a_file_that_misses_others_of_its_set_for_long_is_told() {
    check(
        r"
        drop in fan=key set=*.x,*.y set_key=^(.*)[.] alarm=16s
        task a
    ",
        r"
        see in a.x v1
        see in b.x v1
        +15s
        see in b.y v1
        see in c.x v1
        +1s
        look in a.x v1
        +15s
        look in c.x v1
        idle
    ",
        r"
        > see in a.x v1
        > see in b.x v1
        > +15s
        > see in b.y v1
        run 1 of in: event [b.x created v1, b.y created v1]
        started 1.a#1
        -> start 1.a#1
        > see in c.x v1
        > +1s
        -> look in a.x
        > look in a.x v1
        -> alarm in a.x since 1000 ms
        > +15s
        -> look in c.x
        > look in c.x v1
        -> alarm in c.x since 16000 ms
        > idle
    ",
    );
}

#[test]
fn an_empty_file_waits_for_its_content() {
    check(
        r"
        drop in empty=2s
        task a
    ",
        r"
        see in x v1:0
        +1s
        see in x v1:0
        +1.5s
        see in y v1:0
        +0.5s
        look in x v1:0
        see in y v2:3
        idle
    ",
        r"
        > see in x v1:0
        > +1s
        > see in x v1:0
        > +1.5s
        > see in y v1:0
        > +0.5s
        -> look in x
        > look in x v1:0
        run 1 of in: event [x created v1]
        started 1.a#1
        -> start 1.a#1
        > see in y v2:3
        run 2 of in: event [y created v2]
        started 2.a#1
        -> start 2.a#1
        > idle
    ",
    );
}

#[test]
fn a_file_that_does_not_settle_waits_for_max_wait_at_most() {
    check(
        r"
        drop in settle=2s max_wait=5s
        task a
    ",
        r"
        see in x v1
        +1.5s
        see in x v2
        +1.5s
        see in x v3
        +1.5s
        see in x v4
        +500ms
        look in x v4
        see in y v1
        +2s
        look in y v1
        idle
    ",
        r"
        > see in x v1
        > +1.5s
        > see in x v2
        > +1.5s
        > see in x v3
        > +1.5s
        > see in x v4
        > +500ms
        -> look in x
        > look in x v4
        run 1 of in: event [x created v4]
        started 1.a#1
        -> start 1.a#1
        > see in y v1
        > +2s
        -> look in y
        > look in y v1
        run 2 of in: event [y created v1]
        started 2.a#1
        -> start 2.a#1
        > idle
    ",
    );
}
