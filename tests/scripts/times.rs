//! Schedules and silences. The first second of a script is 22:13:21 on the 14th.

use super::scripts::check_reload;

#[test]
fn a_schedule_runs_at_each_occurrence() {
    check_reload(
        r"
        schedule s cron=*/5_*_*_*_*
        task a
    ",
        "",
        r"
        +300s
        end 1.a 0
        +300s
        end 2.a 0
    ",
        r"
        time of s is settled to 14.22:13:21
        > +300s
        item #0 of s: schedule at 14.22:15:00
        time of s is settled to 14.22:15:00
        run 1 of s: schedule items #0 at 14.22:15:00
        started 1.a#1
        -> start 1.a#1
        > end 1.a 0
        ended 1.a#1 0: succeeded
        run 1 succeeded: a=succeeded
        -> finished 1 succeeded
        > +300s
        item #1 of s: schedule at 14.22:20:00
        time of s is settled to 14.22:20:00
        run 2 of s: schedule items #1 at 14.22:20:00
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
fn occurrences_of_a_live_run_become_one_follow_up() {
    check_reload(
        r"
        schedule s cron=*/5_*_*_*_*
        task a
    ",
        "",
        r"
        +1000s
        end 1.a 0
        end 2.a 0
    ",
        r"
        time of s is settled to 14.22:13:21
        > +1000s
        item #0 of s: schedule at 14.22:15:00
        time of s is settled to 14.22:15:00
        run 1 of s: schedule items #0 at 14.22:15:00
        started 1.a#1
        -> start 1.a#1
        item #1 of s: schedule at 14.22:20:00
        time of s is settled to 14.22:20:00
        item #2 of s: schedule at 14.22:25:00
        time of s is settled to 14.22:25:00
        item #3 of s: schedule at 14.22:30:00
        time of s is settled to 14.22:30:00
        > end 1.a 0
        ended 1.a#1 0: succeeded
        run 1 succeeded: a=succeeded
        run 2 of s: schedule items #1,#2,#3 at 14.22:30:00
        started 2.a#1
        -> finished 1 succeeded
        -> start 2.a#1
        > end 2.a 0
        ended 2.a#1 0: succeeded
        run 2 succeeded: a=succeeded
        -> finished 2 succeeded
    ",
    );
}

#[test]
fn the_last_of_what_was_missed_runs() {
    check_reload(
        r"
        schedule s cron=*/5_*_*_*_*
        task a
    ",
        "",
        r"
        +300s
        end 1.a 0
        down 3000s
        crash
        end 2.a 0
        crash
    ",
        r#"
        time of s is settled to 14.22:13:21
        > +300s
        item #0 of s: schedule at 14.22:15:00
        time of s is settled to 14.22:15:00
        run 1 of s: schedule items #0 at 14.22:15:00
        started 1.a#1
        -> start 1.a#1
        > end 1.a 0
        ended 1.a#1 0: succeeded
        run 1 succeeded: a=succeeded
        -> finished 1 succeeded
        > down 3000s
        > crash
        item #1 of s: schedule at 14.23:00:00
        dropped #1: catch_up = "last": missed, as all before it
        item #2 of s: schedule at 14.23:05:00
        time of s is settled to 14.23:05:00
        run 2 of s: schedule items #2 at 14.23:05:00
        started 2.a#1
        -> start 2.a#1
        > end 2.a 0
        ended 2.a#1 0: succeeded
        run 2 succeeded: a=succeeded
        -> finished 2 succeeded
        > crash
    "#,
    );
}

#[test]
fn all_that_was_missed_runs() {
    check_reload(
        r"
        schedule s cron=*/5_*_*_*_* catch_up=all overlap=queue
        task a
    ",
        "",
        r"
        down 1000s
        crash
        crash
        end 1.a 0
        end 2.a 0
        end 3.a 0
    ",
        r"
        time of s is settled to 14.22:13:21
        > down 1000s
        > crash
        item #0 of s: schedule at 14.22:15:00
        item #1 of s: schedule at 14.22:20:00
        item #2 of s: schedule at 14.22:25:00
        item #3 of s: schedule at 14.22:30:00
        time of s is settled to 14.22:30:00
        run 1 of s: schedule items #0 at 14.22:15:00
        started 1.a#1
        -> start 1.a#1
        > crash
        ended 1.a#1 dagd ended while it ran: requeued
        started 1.a#2
        -> start 1.a#2
        > end 1.a 0
        ended 1.a#2 0: succeeded
        run 1 succeeded: a=succeeded
        run 2 of s: schedule items #1 at 14.22:20:00
        started 2.a#1
        -> finished 1 succeeded
        -> start 2.a#1
        > end 2.a 0
        ended 2.a#1 0: succeeded
        run 2 succeeded: a=succeeded
        run 3 of s: schedule items #2 at 14.22:25:00
        started 3.a#1
        -> finished 2 succeeded
        -> start 3.a#1
        > end 3.a 0
        ended 3.a#1 0: succeeded
        run 3 succeeded: a=succeeded
        run 4 of s: schedule items #3 at 14.22:30:00
        started 4.a#1
        -> finished 3 succeeded
        -> start 4.a#1
    ",
    );
}

#[test]
fn nothing_that_was_missed_runs() {
    check_reload(
        r"
        schedule s cron=*/5_*_*_*_* catch_up=none
        task a
    ",
        "",
        r"
        down 900s
        crash
        +300s
    ",
        r#"
        time of s is settled to 14.22:13:21
        > down 900s
        > crash
        item #0 of s: schedule at 14.22:25:00
        dropped #0: catch_up = "none": missed, as all before it
        time of s is settled to 14.22:25:00
        > +300s
        item #1 of s: schedule at 14.22:30:00
        time of s is settled to 14.22:30:00
        run 1 of s: schedule items #1 at 14.22:30:00
        started 1.a#1
        -> start 1.a#1
    "#,
    );
}

#[test]
fn an_occurrence_of_this_minute_is_not_missed() {
    check_reload(
        r"
        schedule s cron=*/5_*_*_*_* catch_up=none
        task a
    ",
        "",
        r"
        down 130s
        crash
    ",
        r"
        time of s is settled to 14.22:13:21
        > down 130s
        > crash
        item #0 of s: schedule at 14.22:15:00
        time of s is settled to 14.22:15:00
        run 1 of s: schedule items #0 at 14.22:15:00
        started 1.a#1
        -> start 1.a#1
    ",
    );
}

#[test]
fn a_sleep_of_the_machine_is_caught_up_on() {
    check_reload(
        r"
        schedule s cron=*/5_*_*_*_*
        task a
    ",
        "",
        r"
        down 4000s
        +1s
        +300s
    ",
        r#"
        time of s is settled to 14.22:13:21
        > down 4000s
        > +1s
        item #0 of s: schedule at 14.23:15:00
        dropped #0: catch_up = "last": missed, as all before it
        item #1 of s: schedule at 14.23:20:00
        time of s is settled to 14.23:20:00
        run 1 of s: schedule items #1 at 14.23:20:00
        started 1.a#1
        -> start 1.a#1
        > +300s
        item #2 of s: schedule at 14.23:25:00
        time of s is settled to 14.23:25:00
    "#,
    );
}

#[test]
fn a_clock_set_back_repeats_nothing() {
    check_reload(
        r"
        schedule s cron=*/5_*_*_*_*
        task a
    ",
        "",
        r"
        +300s
        end 1.a 0
        clock -3600s
        +3600s
        +300s
    ",
        r"
        time of s is settled to 14.22:13:21
        > +300s
        item #0 of s: schedule at 14.22:15:00
        time of s is settled to 14.22:15:00
        run 1 of s: schedule items #0 at 14.22:15:00
        started 1.a#1
        -> start 1.a#1
        > end 1.a 0
        ended 1.a#1 0: succeeded
        run 1 succeeded: a=succeeded
        -> finished 1 succeeded
        > clock -3600s
        > +3600s
        > +300s
        item #1 of s: schedule at 14.22:20:00
        time of s is settled to 14.22:20:00
        run 2 of s: schedule items #1 at 14.22:20:00
        started 2.a#1
        -> start 2.a#1
    ",
    );
}

#[test]
fn a_clock_that_was_far_ahead_begins_anew() {
    check_reload(
        r"
        schedule s cron=*/5_*_*_*_*
        task a
    ",
        "",
        r"
        clock +99999999s
        end 1.a 0
        clock -99999999s
        +300s
    ",
        r#"
        time of s is settled to 14.22:13:21
        > clock +99999999s
        item #0 of s: schedule at 15.07:55:00
        dropped #0: catch_up = "last": missed, as all before it
        item #1 of s: schedule at 15.08:00:00
        time of s is settled to 15.08:00:00
        run 1 of s: schedule items #1 at 15.08:00:00
        started 1.a#1
        -> start 1.a#1
        > end 1.a 0
        ended 1.a#1 0: succeeded
        run 1 succeeded: a=succeeded
        -> finished 1 succeeded
        > clock -99999999s
        time of s is settled to 14.22:13:21
        > +300s
        item #2 of s: schedule at 14.22:15:00
        time of s is settled to 14.22:15:00
        run 2 of s: schedule items #2 at 14.22:15:00
        started 2.a#1
        -> start 2.a#1
    "#,
    );
}

#[test]
fn another_schedule_catches_up_on_nothing() {
    check_reload(
        r"
        schedule s cron=0_3_*_*_*
        task a
    ",
        r"
        schedule s cron=*/5_*_*_*_*
        task a
    ",
        r"
        down 90000s
        reload
        +300s
    ",
        r"
        time of s is settled to 14.22:13:21
        > down 90000s
        > reload
        time of s is settled to 15.23:13:21
        > +300s
        item #0 of s: schedule at 15.23:15:00
        time of s is settled to 15.23:15:00
        run 1 of s: schedule items #0 at 15.23:15:00
        started 1.a#1
        -> start 1.a#1
    ",
    );
}

#[test]
fn a_paused_schedule_waits() {
    check_reload(
        r"
        schedule s cron=*/5_*_*_*_*
        task a
    ",
        "",
        r"
        pause s
        +700s
        resume s
        end 1.a 0
    ",
        r"
        time of s is settled to 14.22:13:21
        > pause s
        paused s: by request
        -> reply done
        > +700s
        item #0 of s: schedule at 14.22:15:00
        time of s is settled to 14.22:15:00
        item #1 of s: schedule at 14.22:20:00
        time of s is settled to 14.22:20:00
        item #2 of s: schedule at 14.22:25:00
        time of s is settled to 14.22:25:00
        > resume s
        resumed s
        run 1 of s: schedule items #0,#1,#2 at 14.22:25:00
        started 1.a#1
        -> reply done
        -> start 1.a#1
        > end 1.a 0
        ended 1.a#1 0: succeeded
        run 1 succeeded: a=succeeded
        -> finished 1 succeeded
    ",
    );
}

#[test]
fn a_silence_is_told_once() {
    check_reload(
        r"
        signal in
        absent quiet of=in after=60s run=b
        task a
        task b
    ",
        "",
        r"
        +70s
        end 1.b 0
        +600s
        signal in
    ",
        r"
        time of quiet is settled to 14.22:13:21
        > +70s
        item #0 of quiet: absence
        time of quiet is settled to 14.22:13:21 and told
        run 1 of quiet: absence items #0
        started 1.b#1
        -> start 1.b#1
        > end 1.b 0
        ended 1.b#1 0: succeeded
        run 1 succeeded: b=succeeded
        -> finished 1 succeeded
        > +600s
        > signal in
        item #1 of in: signal
        run 2 of in: signal items #1
        time of quiet is settled to 14.22:24:31
        started 2.a#1
        started 2.b#1
        -> start 2.a#1
        -> start 2.b#1
    ",
    );
}

#[test]
fn a_run_begins_a_silence_anew() {
    check_reload(
        r"
        signal in run=a
        absent quiet of=in after=60s run=b
        task a
        task b
    ",
        "",
        r"
        +50s
        signal in
        end 1.a 0
        +50s
        +20s
        end 2.b 0
        signal in
        end 3.a 0
        +100s
    ",
        r"
        time of quiet is settled to 14.22:13:21
        > +50s
        > signal in
        item #0 of in: signal
        run 1 of in: signal items #0
        time of quiet is settled to 14.22:14:11
        started 1.a#1
        -> start 1.a#1
        > end 1.a 0
        ended 1.a#1 0: succeeded
        run 1 succeeded: a=succeeded
        -> finished 1 succeeded
        > +50s
        > +20s
        item #1 of quiet: absence
        time of quiet is settled to 14.22:14:11 and told
        run 2 of quiet: absence items #1
        started 2.b#1
        -> start 2.b#1
        > end 2.b 0
        ended 2.b#1 0: succeeded
        run 2 succeeded: b=succeeded
        -> finished 2 succeeded
        > signal in
        item #2 of in: signal
        run 3 of in: signal items #2
        time of quiet is settled to 14.22:15:21
        started 3.a#1
        -> start 3.a#1
        > end 3.a 0
        ended 3.a#1 0: succeeded
        run 3 succeeded: a=succeeded
        -> finished 3 succeeded
        > +100s
        item #3 of quiet: absence
        time of quiet is settled to 14.22:15:21 and told
        run 4 of quiet: absence items #3
        started 4.b#1
        -> start 4.b#1
    ",
    );
}

#[test]
fn a_silence_goes_on_through_a_crash() {
    check_reload(
        r"
        signal in run=a
        absent quiet of=in after=60s run=b
        task a
        task b
    ",
        "",
        r"
        signal in
        end 1.a 0
        +40s
        crash
        +19s
        +1s
        crash
        end 2.b 0
        crash
        +600s
    ",
        r"
        time of quiet is settled to 14.22:13:21
        > signal in
        item #0 of in: signal
        run 1 of in: signal items #0
        time of quiet is settled to 14.22:13:21
        started 1.a#1
        -> start 1.a#1
        > end 1.a 0
        ended 1.a#1 0: succeeded
        run 1 succeeded: a=succeeded
        -> finished 1 succeeded
        > +40s
        > crash
        > +19s
        > +1s
        item #1 of quiet: absence
        time of quiet is settled to 14.22:13:21 and told
        run 2 of quiet: absence items #1
        started 2.b#1
        -> start 2.b#1
        > crash
        ended 2.b#1 dagd ended while it ran: requeued
        started 2.b#2
        -> start 2.b#2
        > end 2.b 0
        ended 2.b#2 0: succeeded
        run 2 succeeded: b=succeeded
        -> finished 2 succeeded
        > crash
        > +600s
    ",
    );
}

#[test]
fn a_silence_of_a_trigger_that_is_skipped_while_alive() {
    check_reload(
        r"
        signal in run=a
        absent quiet of=in after=60s run=b overlap=skip
        task a
        task b
    ",
        "",
        r"
        +60s
        signal in
        end 2.a 0
        +60s
        end 1.b 0
    ",
        r#"
        time of quiet is settled to 14.22:13:21
        > +60s
        item #0 of quiet: absence
        time of quiet is settled to 14.22:13:21 and told
        run 1 of quiet: absence items #0
        started 1.b#1
        -> start 1.b#1
        > signal in
        item #1 of in: signal
        run 2 of in: signal items #1
        time of quiet is settled to 14.22:14:21
        started 2.a#1
        -> start 2.a#1
        > end 2.a 0
        ended 2.a#1 0: succeeded
        run 2 succeeded: a=succeeded
        -> finished 2 succeeded
        > +60s
        item #2 of quiet: absence
        dropped #2: on_overlap = "skip": a run was alive
        time of quiet is settled to 14.22:14:21 and told
        > end 1.b 0
        ended 1.b#1 0: succeeded
        run 1 succeeded: b=succeeded
        -> finished 1 succeeded
    "#,
    );
}

#[test]
fn listening_to_another_trigger_begins_anew() {
    check_reload(
        r"
        signal in run=a
        signal other run=a
        absent quiet of=in after=60s run=b
        task a
        task b
    ",
        r"
        signal in run=a
        signal other run=a
        absent quiet of=other after=60s run=b
        task a
        task b
    ",
        r"
        +50s
        reload
        signal in
        end 1.a 0
        +50s
        +10s
    ",
        r"
        time of quiet is settled to 14.22:13:21
        > +50s
        > reload
        time of quiet is settled to 14.22:14:11
        > signal in
        item #0 of in: signal
        run 1 of in: signal items #0
        started 1.a#1
        -> start 1.a#1
        > end 1.a 0
        ended 1.a#1 0: succeeded
        run 1 succeeded: a=succeeded
        -> finished 1 succeeded
        > +50s
        > +10s
        item #1 of quiet: absence
        time of quiet is settled to 14.22:14:11 and told
        run 2 of quiet: absence items #1
        started 2.b#1
        -> start 2.b#1
    ",
    );
}

#[test]
#[expect(clippy::too_many_lines, reason = "a script and all that comes of it")]
fn a_silence_is_not_told_before_what_came_meanwhile_is_found() {
    check_reload(
        "
        drop in delete run=a
        absent quiet of=in after=60s run=b
        task a
        task b
    ",
        "",
        "
        see in x v1
        end 1.a 0
        moved 1.0 deleted
        down 50s
        crash
        +20s
        see in y v1
        scanned in
        end 2.a 0
        moved 2.0 deleted
        down 120s
        crash
        +20s
        scanned in
        +1s
    ",
        "
        armed in
        time of quiet is settled to 14.22:13:21
        -> scan in
        > see in x v1
        run 1 of in: event [x created v1]
        time of quiet is settled to 14.22:13:21
        started 1.a#1
        -> start 1.a#1
        > end 1.a 0
        ended 1.a#1 0: succeeded
        move 1.0 away
        -> move 1.0 /in/x away
        > moved 1.0 deleted
        moved 1.0: deleted
        run 1 succeeded: a=succeeded
        -> finished 1 succeeded
        > down 50s
        > crash
        -> scan in
        > +20s
        > see in y v1
        run 2 of in: event [y created v1]
        time of quiet is settled to 14.22:14:31
        started 2.a#1
        -> start 2.a#1
        > scanned in
        > end 2.a 0
        ended 2.a#1 0: succeeded
        move 2.0 away
        -> move 2.0 /in/y away
        > moved 2.0 deleted
        moved 2.0: deleted
        run 2 succeeded: a=succeeded
        -> finished 2 succeeded
        -> look in y
        > down 120s
        > crash
        -> scan in
        > +20s
        > scanned in
        > +1s
        item #0 of quiet: absence
        time of quiet is settled to 14.22:14:31 and told
        run 3 of quiet: absence items #0
        started 3.b#1
        -> start 3.b#1
    ",
    );
}
