//! The machine, event by event: every record and every command that comes of a script is told, so
//! that an effect that nobody expected fails.

#[path = "scripts/groups.rs"]
mod groups;
#[path = "machine_scripts/lanes.rs"]
mod lanes;
#[path = "machine_scripts/readiness.rs"]
mod readiness;
#[path = "machine_scripts/removal.rs"]
mod removal;
mod scripts;
#[path = "machine_scripts/stamps.rs"]
mod stamps;
#[path = "scripts/times.rs"]
mod times;

use scripts::{check, check_reload};

const ONE: &str = "
    signal s
    task a
";
const LINE: &str = "
    signal s
    task a
    task b needs=a
    task c needs=b
";

#[test]
fn a_line_runs_in_order() {
    check(
        LINE,
        r"
        signal s
        end 1.a 0
        end 1.b 0
        end 1.c 0
    ",
        r"
        > signal s
        item #0 of s: signal
        run 1 of s: signal items #0
        started 1.a#1
        -> start 1.a#1
        > end 1.a 0
        ended 1.a#1 0: succeeded
        started 1.b#1
        -> start 1.b#1
        > end 1.b 0
        ended 1.b#1 0: succeeded
        started 1.c#1
        -> start 1.c#1
        > end 1.c 0
        ended 1.c#1 0: succeeded
        run 1 succeeded: a=succeeded b=succeeded c=succeeded
        -> finished 1 succeeded
    ",
    );
}

#[test]
fn a_failure_skips_what_needs_it() {
    check(
        LINE,
        r"
        signal s
        end 1.a 1
    ",
        r"
        > signal s
        item #0 of s: signal
        run 1 of s: signal items #0
        started 1.a#1
        -> start 1.a#1
        > end 1.a 1
        ended 1.a#1 1: failed
        run 1 failed: a=failed b=skipped(upstream_failed) c=skipped(upstream_failed)
        -> finished 1 failed
    ",
    );
}

#[test]
fn a_diamond_joins() {
    check(
        r"
        signal s
        task a
        task b needs=a
        task c needs=a
        task d needs=b,c
    ",
        r"
        signal s
        end 1.a 0
        end 1.c 0
        end 1.b 0
        end 1.d 0
    ",
        r"
        > signal s
        item #0 of s: signal
        run 1 of s: signal items #0
        started 1.a#1
        -> start 1.a#1
        > end 1.a 0
        ended 1.a#1 0: succeeded
        started 1.b#1
        started 1.c#1
        -> start 1.b#1
        -> start 1.c#1
        > end 1.c 0
        ended 1.c#1 0: succeeded
        > end 1.b 0
        ended 1.b#1 0: succeeded
        started 1.d#1
        -> start 1.d#1
        > end 1.d 0
        ended 1.d#1 0: succeeded
        run 1 succeeded: a=succeeded b=succeeded c=succeeded d=succeeded
        -> finished 1 succeeded
    ",
    );
}

#[test]
fn a_task_between_selected_ones_is_passed_through() {
    check(
        r"
        signal s run=a,c
        task a
        task b needs=a
        task c needs=b
    ",
        r"
        signal s
        end 1.a 0
        end 1.c 0
        signal s
        end 2.a 1
    ",
        r"
        > signal s
        item #0 of s: signal
        run 1 of s: signal items #0
        started 1.a#1
        -> start 1.a#1
        > end 1.a 0
        ended 1.a#1 0: succeeded
        started 1.c#1
        -> start 1.c#1
        > end 1.c 0
        ended 1.c#1 0: succeeded
        run 1 succeeded: a=succeeded b=succeeded c=succeeded
        -> finished 1 succeeded
        > signal s
        item #1 of s: signal
        run 2 of s: signal items #1
        started 2.a#1
        -> start 2.a#1
        > end 2.a 1
        ended 2.a#1 1: failed
        run 2 failed: a=failed b=skipped(upstream_failed) c=skipped(upstream_failed)
        -> finished 2 failed
    ",
    );
}

#[test]
fn rules_after_a_success_and_a_failure() {
    check(
        r"
        signal s
        slots 9
        task ok
        task bad
        task all_success needs=ok,bad
        task all_done needs=ok,bad rule=all_done
        task one_success needs=ok,bad rule=one_success
        task one_failed needs=ok,bad rule=one_failed
        task all_failed needs=ok,bad rule=all_failed
        task none_failed needs=ok,bad rule=none_failed
        task none_min needs=ok,bad rule=none_failed_min_one_success
        task always needs=ok,bad rule=always
    ",
        r"
        signal s
        end 1.ok 0
        end 1.bad 1
        end 1.one_success 0
        end 1.one_failed 0
        end 1.all_done 0
        end 1.always 0
    ",
        r"
        > signal s
        item #0 of s: signal
        run 1 of s: signal items #0
        started 1.bad#1
        started 1.ok#1
        -> start 1.bad#1
        -> start 1.ok#1
        > end 1.ok 0
        ended 1.ok#1 0: succeeded
        started 1.one_success#1
        -> start 1.one_success#1
        > end 1.bad 1
        ended 1.bad#1 1: failed
        started 1.all_done#1
        started 1.always#1
        started 1.one_failed#1
        -> start 1.all_done#1
        -> start 1.always#1
        -> start 1.one_failed#1
        > end 1.one_success 0
        ended 1.one_success#1 0: succeeded
        > end 1.one_failed 0
        ended 1.one_failed#1 0: succeeded
        > end 1.all_done 0
        ended 1.all_done#1 0: succeeded
        > end 1.always 0
        ended 1.always#1 0: succeeded
        run 1 failed: all_done=succeeded all_failed=skipped(rule) all_success=skipped(upstream_failed) always=succeeded bad=failed none_failed=skipped(upstream_failed) none_min=skipped(upstream_failed) ok=succeeded one_failed=succeeded one_success=succeeded
        -> finished 1 failed
    ",
    );
}

#[test]
fn rules_after_a_success_and_a_skip() {
    check(
        r"
        signal s
        slots 9
        task ok
        task skip
        task all_success needs=ok,skip
        task all_done needs=ok,skip rule=all_done
        task one_success needs=ok,skip rule=one_success
        task one_failed needs=ok,skip rule=one_failed
        task all_failed needs=ok,skip rule=all_failed
        task none_failed needs=ok,skip rule=none_failed
        task none_min needs=ok,skip rule=none_failed_min_one_success
    ",
        r"
        signal s
        end 1.skip 99
        end 1.ok 0
        end 1.one_success 0
        end 1.all_done 0
        end 1.none_failed 0
        end 1.none_min 0
    ",
        r"
        > signal s
        item #0 of s: signal
        run 1 of s: signal items #0
        started 1.ok#1
        started 1.skip#1
        -> start 1.ok#1
        -> start 1.skip#1
        > end 1.skip 99
        ended 1.skip#1 99: skipped(exit_code)
        > end 1.ok 0
        ended 1.ok#1 0: succeeded
        started 1.all_done#1
        started 1.none_failed#1
        started 1.none_min#1
        started 1.one_success#1
        -> start 1.all_done#1
        -> start 1.none_failed#1
        -> start 1.none_min#1
        -> start 1.one_success#1
        > end 1.one_success 0
        ended 1.one_success#1 0: succeeded
        > end 1.all_done 0
        ended 1.all_done#1 0: succeeded
        > end 1.none_failed 0
        ended 1.none_failed#1 0: succeeded
        > end 1.none_min 0
        ended 1.none_min#1 0: succeeded
        run 1 succeeded: all_done=succeeded all_failed=skipped(rule) all_success=skipped(upstream_skipped) none_failed=succeeded none_min=succeeded ok=succeeded one_failed=skipped(rule) one_success=succeeded skip=skipped(exit_code)
        -> finished 1 succeeded
    ",
    );
}

#[test]
fn rules_after_skips_only() {
    check(
        r"
        signal s
        slots 9
        task skip
        task one_success needs=skip rule=one_success
        task none_failed needs=skip rule=none_failed
        task none_min needs=skip rule=none_failed_min_one_success
    ",
        r"
        signal s
        end 1.skip 99
        end 1.none_failed 0
    ",
        r"
        > signal s
        item #0 of s: signal
        run 1 of s: signal items #0
        started 1.skip#1
        -> start 1.skip#1
        > end 1.skip 99
        ended 1.skip#1 99: skipped(exit_code)
        started 1.none_failed#1
        -> start 1.none_failed#1
        > end 1.none_failed 0
        ended 1.none_failed#1 0: succeeded
        run 1 succeeded: none_failed=succeeded none_min=skipped(upstream_skipped) one_success=skipped(upstream_skipped) skip=skipped(exit_code)
        -> finished 1 succeeded
    ",
    );
}

#[test]
fn rules_after_failures_only() {
    check(
        r"
        signal s
        slots 9
        task bad
        task one_success needs=bad rule=one_success
        task all_failed needs=bad rule=all_failed
    ",
        r"
        signal s
        end 1.bad 1
        end 1.all_failed 0
    ",
        r"
        > signal s
        item #0 of s: signal
        run 1 of s: signal items #0
        started 1.bad#1
        -> start 1.bad#1
        > end 1.bad 1
        ended 1.bad#1 1: failed
        started 1.all_failed#1
        -> start 1.all_failed#1
        > end 1.all_failed 0
        ended 1.all_failed#1 0: succeeded
        run 1 failed: all_failed=succeeded bad=failed one_success=skipped(upstream_failed)
        -> finished 1 failed
    ",
    );
}

#[test]
fn rules_without_needs() {
    check(
        r"
        signal s
        slots 9
        task a rule=one_failed
        task b rule=all_failed
        task c rule=one_success
        task d needs=a rule=none_failed
        task e needs=b
    ",
        r"
        signal s
        end 1.c 0
        end 1.d 0
    ",
        r"
        > signal s
        item #0 of s: signal
        run 1 of s: signal items #0 a=skipped(rule) b=skipped(rule) e=skipped(upstream_skipped)
        started 1.c#1
        started 1.d#1
        -> start 1.c#1
        -> start 1.d#1
        > end 1.c 0
        ended 1.c#1 0: succeeded
        > end 1.d 0
        ended 1.d#1 0: succeeded
        run 1 succeeded: a=skipped(rule) b=skipped(rule) c=succeeded d=succeeded e=skipped(upstream_skipped)
        -> finished 1 succeeded
    ",
    );
}

#[test]
fn a_retry_waits_longer_each_time() {
    check(
        r"
        signal s
        task a retry=2 delay=2s
    ",
        r"
        signal s
        end 1.a 1
        +1.9s
        +0.1s
        end 1.a 1
        +3.9s
        +0.1s
        end 1.a 1
    ",
        r"
        > signal s
        item #0 of s: signal
        run 1 of s: signal items #0
        started 1.a#1
        -> start 1.a#1
        > end 1.a 1
        ended 1.a#1 1: retry in 2s
        > +1.9s
        > +0.1s
        started 1.a#2
        -> start 1.a#2
        > end 1.a 1
        ended 1.a#2 1: retry in 4s
        > +3.9s
        > +0.1s
        started 1.a#3
        -> start 1.a#3
        > end 1.a 1
        ended 1.a#3 1: failed
        run 1 failed: a=failed
        -> finished 1 failed
    ",
    );
}

#[test]
fn jitter_depends_on_the_seed_alone() {
    check(
        r"
        signal s
        task a retry=3 delay=2s jitter
    ",
        r"
        signal s
        end 1.a 1
        +2s
        end 1.a 1
        +4s
        end 1.a 0
    ",
        r"
        > signal s
        item #0 of s: signal
        run 1 of s: signal items #0
        started 1.a#1
        -> start 1.a#1
        > end 1.a 1
        ended 1.a#1 1: retry in 339.615904ms
        > +2s
        started 1.a#2
        -> start 1.a#2
        > end 1.a 1
        ended 1.a#2 1: retry in 1.404333525s
        > +4s
        started 1.a#3
        -> start 1.a#3
        > end 1.a 0
        ended 1.a#3 0: succeeded
        run 1 succeeded: a=succeeded
        -> finished 1 succeeded
    ",
    );
}

#[test]
fn what_cannot_start_is_not_retried() {
    check(
        r"
        signal s
        task a retry=3
    ",
        r"
        signal s
        end 1.a unstarted
    ",
        r"
        > signal s
        item #0 of s: signal
        run 1 of s: signal items #0
        started 1.a#1
        -> start 1.a#1
        > end 1.a unstarted
        ended 1.a#1 no such program: failed
        run 1 failed: a=failed
        -> finished 1 failed
    ",
    );
}

#[test]
fn what_is_short_is_waited_for_outside_the_retries() {
    check(
        r"
        signal s
        task a retry=1
    ",
        r"
        signal s
        end 1.a short
        +1s
        end 1.a short
        +2s
        end 1.a 7
        +1s
        end 1.a short
        crash
        +1s
        end 1.a 7
    ",
        r"
        > signal s
        item #0 of s: signal
        run 1 of s: signal items #0
        started 1.a#1
        -> start 1.a#1
        > end 1.a short
        ended 1.a#1 too many processes: retry in 1s
        > +1s
        started 1.a#2
        -> start 1.a#2
        > end 1.a short
        ended 1.a#2 too many processes: retry in 2s
        > +2s
        started 1.a#3
        -> start 1.a#3
        > end 1.a 7
        ended 1.a#3 7: retry in 1s
        > +1s
        started 1.a#4
        -> start 1.a#4
        > end 1.a short
        ended 1.a#4 too many processes: retry in 1s
        > crash
        > +1s
        started 1.a#5
        -> start 1.a#5
        > end 1.a 7
        ended 1.a#5 7: failed
        run 1 failed: a=failed
        -> finished 1 failed
    ",
    );
}

#[test]
fn a_pool_that_was_offered_in_vain_goes_to_whom_it_is_kept_for() {
    check(
        r"
        slots 3
        pool p size=1
        task h uses=p:1 priority=9
        task l priority=8
        task k uses=p:1 priority=1
        task m needs=h priority=7
        task n needs=h priority=7
        task x uses=p:1 priority=5
        signal one run=h,l,k,m,n
        signal two run=x
    ",
        r"
        signal one
        +1s
        signal two
        end 1.h 0
        +11s
        end 1.l 0
    ",
        r"
        > signal one
        item #0 of one: signal
        run 1 of one: signal items #0
        started 1.h#1
        started 1.l#1
        -> start 1.h#1
        -> start 1.l#1
        > +1s
        > signal two
        item #1 of two: signal
        run 2 of two: signal items #1
        > end 1.h 0
        ended 1.h#1 0: succeeded
        started 1.m#1
        started 1.n#1
        -> start 1.m#1
        -> start 1.n#1
        > +11s
        > end 1.l 0
        ended 1.l#1 0: succeeded
        started 1.k#1
        -> start 1.k#1
    ",
    );
}

#[test]
fn a_time_limit_is_term_then_kill() {
    check(
        r"
        signal s
        task a timeout=10s kill_after=3s
    ",
        r"
        signal s
        +10s
        +3s
        end 1.a sig9
    ",
        r"
        > signal s
        item #0 of s: signal
        run 1 of s: signal items #0
        started 1.a#1
        -> start 1.a#1
        > +10s
        -> term 1.a#1
        > +3s
        -> kill 1.a#1
        > end 1.a sig9
        ended 1.a#1 sig9 by Timeout: timed_out
        run 1 failed: a=timed_out
        -> finished 1 failed
    ",
    );
}

#[test]
fn a_time_limit_can_be_retried() {
    check(
        r"
        signal s
        task a timeout=10s kill_after=3s retry=1
    ",
        r"
        signal s
        +10s
        end 1.a sig15
        +1s
        +10s
        end 1.a 0
    ",
        r"
        > signal s
        item #0 of s: signal
        run 1 of s: signal items #0
        started 1.a#1
        -> start 1.a#1
        > +10s
        -> term 1.a#1
        > end 1.a sig15
        ended 1.a#1 sig15 by Timeout: retry in 1s
        > +1s
        started 1.a#2
        -> start 1.a#2
        > +10s
        -> term 1.a#2
        > end 1.a 0
        ended 1.a#2 0 by Timeout: timed_out
        run 1 failed: a=timed_out
        -> finished 1 failed
    ",
    );
}

#[test]
fn a_time_limit_can_be_final() {
    check(
        r"
        signal s
        task a timeout=10s retry=1 never=timeout
    ",
        r"
        signal s
        +10s
        end 1.a sig15
    ",
        r"
        > signal s
        item #0 of s: signal
        run 1 of s: signal items #0
        started 1.a#1
        -> start 1.a#1
        > +10s
        -> term 1.a#1
        > end 1.a sig15
        ended 1.a#1 sig15 by Timeout: timed_out
        run 1 failed: a=timed_out
        -> finished 1 failed
    ",
    );
}

#[test]
fn a_cancelled_run_still_does_what_is_always_done() {
    check(
        r"
        signal s
        task a
        task b needs=a
        task y rule=always needs=b
        task z rule=all_done needs=b
    ",
        r"
        signal s
        cancel 1
        +10s
        end 1.a sig9
        end 1.y 0
    ",
        r"
        > signal s
        item #0 of s: signal
        run 1 of s: signal items #0
        started 1.a#1
        -> start 1.a#1
        > cancel 1
        cancel 1: cancelled by request
        started 1.y#1
        -> term 1.a#1
        -> reply done
        -> start 1.y#1
        > +10s
        -> kill 1.a#1
        > end 1.a sig9
        ended 1.a#1 sig9 by Cancel: cancelled
        > end 1.y 0
        ended 1.y#1 0: succeeded
        run 1 cancelled: a=cancelled b=cancelled y=succeeded z=cancelled
        -> finished 1 cancelled
    ",
    );
}

#[test]
fn a_cancelled_task_is_as_failed() {
    check(
        r"
        signal s
        slots 1
        task a priority=1
        task b
        task c needs=b
        task d needs=b rule=one_failed
    ",
        r"
        signal s
        cancel 1 b
        end 1.a 0
        end 1.d 0
        cancel 1 b
    ",
        r"
        > signal s
        item #0 of s: signal
        run 1 of s: signal items #0
        started 1.a#1
        -> start 1.a#1
        > cancel 1 b
        cancel 1.b: cancelled by request
        -> reply done
        > end 1.a 0
        ended 1.a#1 0: succeeded
        started 1.d#1
        -> start 1.d#1
        > end 1.d 0
        ended 1.d#1 0: succeeded
        run 1 cancelled: a=succeeded b=cancelled c=skipped(upstream_failed) d=succeeded
        -> finished 1 cancelled
        > cancel 1 b
        -> reply not found: no live run 1
    ",
    );
}

#[test]
fn a_cancelled_attempt_is_not_tried_again() {
    check(
        r"
        signal s
        task a retry=5 timeout=10s
    ",
        r"
        signal s
        +10s
        cancel 1 a
        end 1.a sig15
    ",
        r"
        > signal s
        item #0 of s: signal
        run 1 of s: signal items #0
        started 1.a#1
        -> start 1.a#1
        > +10s
        -> term 1.a#1
        > cancel 1 a
        cancel 1.a: cancelled by request
        -> reply done
        > end 1.a sig15
        ended 1.a#1 sig15 by Timeout: retry in 1s
        run 1 cancelled: a=cancelled
        -> finished 1 cancelled
    ",
    );
}

#[test]
fn a_cancel_survives_a_crash() {
    check(
        r"
        signal s
        task a
        task b
    ",
        r"
        signal s
        cancel 1 a
        crash
        end 1.b 0
    ",
        r"
        > signal s
        item #0 of s: signal
        run 1 of s: signal items #0
        started 1.a#1
        started 1.b#1
        -> start 1.a#1
        -> start 1.b#1
        > cancel 1 a
        cancel 1.a: cancelled by request
        -> term 1.a#1
        -> reply done
        > crash
        ended 1.a#1 dagd ended while it ran: requeued
        ended 1.b#1 dagd ended while it ran: requeued
        started 1.b#2
        -> start 1.b#2
        > end 1.b 0
        ended 1.b#2 0: succeeded
        run 1 cancelled: a=cancelled b=succeeded
        -> finished 1 cancelled
    ",
    );
}

#[test]
fn a_cancel_that_finds_nothing_is_refused() {
    check(
        r"
        signal s
        task a
        task b
    ",
        r"
        cancel 1
        signal s
        cancel 1 zz
        end 1.a 0
        cancel 1 a
    ",
        r"
        > cancel 1
        -> reply not found: no live run 1
        > signal s
        item #0 of s: signal
        run 1 of s: signal items #0
        started 1.a#1
        started 1.b#1
        -> start 1.a#1
        -> start 1.b#1
        > cancel 1 zz
        -> reply not found: run 1 has no task `zz`
        > end 1.a 0
        ended 1.a#1 0: succeeded
        > cancel 1 a
        -> reply refused: task `a` of run 1 has ended: succeeded
    ",
    );
}

#[test]
fn an_allowed_failure_leaves_the_verdict() {
    check(
        r"
        signal s
        task a allow_failure
        task b needs=a rule=all_done
    ",
        r"
        signal s
        end 1.a 1
        end 1.b 0
    ",
        r"
        > signal s
        item #0 of s: signal
        run 1 of s: signal items #0
        started 1.a#1
        -> start 1.a#1
        > end 1.a 1
        ended 1.a#1 1: failed
        started 1.b#1
        -> start 1.b#1
        > end 1.b 0
        ended 1.b#1 0: succeeded
        run 1 succeeded: a=failed b=succeeded
        -> finished 1 succeeded
    ",
    );
}

#[test]
fn a_crash_runs_attempts_again() {
    check(
        LINE,
        r"
        signal s
        end 1.a 0
        crash
        end 1.b 0
        end 1.c 0
    ",
        r"
        > signal s
        item #0 of s: signal
        run 1 of s: signal items #0
        started 1.a#1
        -> start 1.a#1
        > end 1.a 0
        ended 1.a#1 0: succeeded
        started 1.b#1
        -> start 1.b#1
        > crash
        ended 1.b#1 dagd ended while it ran: requeued
        started 1.b#2
        -> start 1.b#2
        > end 1.b 0
        ended 1.b#2 0: succeeded
        started 1.c#1
        -> start 1.c#1
        > end 1.c 0
        ended 1.c#1 0: succeeded
        run 1 succeeded: a=succeeded b=succeeded c=succeeded
        -> finished 1 succeeded
    ",
    );
}

#[test]
fn a_crash_can_be_the_end_of_a_task() {
    check(
        r"
        signal s
        task a on_crash=fail
    ",
        r"
        signal s
        crash
    ",
        r"
        > signal s
        item #0 of s: signal
        run 1 of s: signal items #0
        started 1.a#1
        -> start 1.a#1
        > crash
        ended 1.a#1 dagd ended while it ran: lost
        run 1 failed: a=lost
        -> finished 1 failed
    ",
    );
}

#[test]
fn the_fourth_crash_is_the_last() {
    check(
        r"
        signal s
        task a
    ",
        r"
        signal s
        crash
        crash
        crash
        crash
    ",
        r"
        > signal s
        item #0 of s: signal
        run 1 of s: signal items #0
        started 1.a#1
        -> start 1.a#1
        > crash
        ended 1.a#1 dagd ended while it ran: requeued
        started 1.a#2
        -> start 1.a#2
        > crash
        ended 1.a#2 dagd ended while it ran: requeued
        started 1.a#3
        -> start 1.a#3
        > crash
        ended 1.a#3 dagd ended while it ran: requeued
        started 1.a#4
        -> start 1.a#4
        > crash
        ended 1.a#4 dagd ended while it ran: lost
        run 1 failed: a=lost
        -> finished 1 failed
    ",
    );
}

#[test]
fn a_crash_keeps_retries_and_their_delays() {
    check(
        r"
        signal s
        task a retry=2 delay=10s
    ",
        r"
        signal s
        end 1.a 1
        +4s
        crash
        +5s
        +1s
        crash
        end 1.a 1
        +20s
        crash
        end 1.a 0
    ",
        r"
        > signal s
        item #0 of s: signal
        run 1 of s: signal items #0
        started 1.a#1
        -> start 1.a#1
        > end 1.a 1
        ended 1.a#1 1: retry in 10s
        > +4s
        > crash
        > +5s
        > +1s
        started 1.a#2
        -> start 1.a#2
        > crash
        ended 1.a#2 dagd ended while it ran: requeued
        started 1.a#3
        -> start 1.a#3
        > end 1.a 1
        ended 1.a#3 1: retry in 20s
        > +20s
        started 1.a#4
        -> start 1.a#4
        > crash
        ended 1.a#4 dagd ended while it ran: requeued
        started 1.a#5
        -> start 1.a#5
        > end 1.a 0
        ended 1.a#5 0: succeeded
        run 1 succeeded: a=succeeded
        -> finished 1 succeeded
    ",
    );
}

#[test]
fn first_fit_over_pools() {
    check(
        r"
        signal s
        slots 4
        pool p size=2
        task a uses=p:2
        task b uses=p:1
        task c uses=p:2 priority=1
    ",
        r"
        signal s
        end 1.c 0
        end 1.a 0
        end 1.b 0
    ",
        r"
        > signal s
        item #0 of s: signal
        run 1 of s: signal items #0
        started 1.c#1
        -> start 1.c#1
        > end 1.c 0
        ended 1.c#1 0: succeeded
        started 1.a#1
        -> start 1.a#1
        > end 1.a 0
        ended 1.a#1 0: succeeded
        started 1.b#1
        -> start 1.b#1
        > end 1.b 0
        ended 1.b#1 0: succeeded
        run 1 succeeded: a=succeeded b=succeeded c=succeeded
        -> finished 1 succeeded
    ",
    );
}

#[test]
fn small_demands_pass_a_large_one_until_it_is_old() {
    check(
        r"
        signal s overlap=parallel
        slots 4
        pool p size=2
        task a uses=p:1
        task b uses=p:2
    ",
        r"
        signal s
        signal s
        end 1.a 0
        signal s
        +11s
        signal s
        end 2.a 0
        end 3.a 0
        end 1.b 0
    ",
        r"
        > signal s
        item #0 of s: signal
        run 1 of s: signal items #0
        started 1.a#1
        -> start 1.a#1
        > signal s
        item #1 of s: signal
        run 2 of s: signal items #1
        started 2.a#1
        -> start 2.a#1
        > end 1.a 0
        ended 1.a#1 0: succeeded
        > signal s
        item #2 of s: signal
        run 3 of s: signal items #2
        started 3.a#1
        -> start 3.a#1
        > +11s
        > signal s
        item #3 of s: signal
        run 4 of s: signal items #3
        > end 2.a 0
        ended 2.a#1 0: succeeded
        > end 3.a 0
        ended 3.a#1 0: succeeded
        started 1.b#1
        -> start 1.b#1
        > end 1.b 0
        ended 1.b#1 0: succeeded
        run 1 succeeded: a=succeeded b=succeeded
        started 2.b#1
        -> finished 1 succeeded
        -> start 2.b#1
    ",
    );
}

#[test]
fn a_pool_that_was_kept_is_free_after_a_cancel() {
    check(
        r"
        signal s overlap=parallel
        slots 1
        pool p size=1
        task a uses=p
        task b
    ",
        r"
        signal s
        cancel 1
        signal s
        end 1.a 0
        end 2.a 0
        end 2.b 0
    ",
        r"
        > signal s
        item #0 of s: signal
        run 1 of s: signal items #0
        started 1.a#1
        -> start 1.a#1
        > cancel 1
        cancel 1: cancelled by request
        -> term 1.a#1
        -> reply done
        > signal s
        item #1 of s: signal
        run 2 of s: signal items #1
        > end 1.a 0
        ended 1.a#1 0 by Cancel: cancelled
        run 1 cancelled: a=cancelled b=cancelled
        started 2.a#1
        -> finished 1 cancelled
        -> start 2.a#1
        > end 2.a 0
        ended 2.a#1 0: succeeded
        started 2.b#1
        -> start 2.b#1
        > end 2.b 0
        ended 2.b#1 0: succeeded
        run 2 succeeded: a=succeeded b=succeeded
        -> finished 2 succeeded
    ",
    );
}

#[test]
fn priority_first_then_the_older_run_then_the_longer_path() {
    check(
        r"
        signal s overlap=parallel
        slots 1
        task a
        task b
        task c needs=b
        task z priority=1
    ",
        r"
        signal s
        signal s
        end 1.z 0
        end 2.z 0
        end 1.b 0
        end 1.a 0
        end 1.c 0
        end 2.b 0
    ",
        r"
        > signal s
        item #0 of s: signal
        run 1 of s: signal items #0
        started 1.z#1
        -> start 1.z#1
        > signal s
        item #1 of s: signal
        run 2 of s: signal items #1
        > end 1.z 0
        ended 1.z#1 0: succeeded
        started 2.z#1
        -> start 2.z#1
        > end 2.z 0
        ended 2.z#1 0: succeeded
        started 1.b#1
        -> start 1.b#1
        > end 1.b 0
        ended 1.b#1 0: succeeded
        started 1.a#1
        -> start 1.a#1
        > end 1.a 0
        ended 1.a#1 0: succeeded
        started 1.c#1
        -> start 1.c#1
        > end 1.c 0
        ended 1.c#1 0: succeeded
        run 1 succeeded: a=succeeded b=succeeded c=succeeded z=succeeded
        started 2.b#1
        -> finished 1 succeeded
        -> start 2.b#1
        > end 2.b 0
        ended 2.b#1 0: succeeded
        started 2.a#1
        -> start 2.a#1
    ",
    );
}

#[test]
fn further_runs_wait_for_room() {
    check(
        r"
        drop in move=/done/{name}
        live 1
        task a
    ",
        r"
        scanned in
        see in x v1
        see in y v1
        end 1.a 0
        moved 1.0 ok
    ",
        r"
        armed in
        -> scan in
        > scanned in
        > see in x v1
        run 1 of in: event [x created v1]
        started 1.a#1
        -> start 1.a#1
        > see in y v1
        > end 1.a 0
        ended 1.a#1 0: succeeded
        move 1.0 to /done/x
        -> move 1.0 /in/x to /done/x
        > moved 1.0 ok
        moved 1.0: moved
        run 1 succeeded: a=succeeded
        run 2 of in: event [y created v1]
        started 2.a#1
        -> finished 1 succeeded
        -> start 2.a#1
    ",
    );
}

#[test]
fn overlap_queue_with_a_limit() {
    check(
        r"
        drop in move=/done/{name} max_runs=1
        task a
    ",
        r"
        see in x v1
        see in y v1
        end 1.a 1
        end 2.a 1
    ",
        r"
        armed in
        -> scan in
        > see in x v1
        run 1 of in: event [x created v1]
        started 1.a#1
        -> start 1.a#1
        > see in y v1
        > end 1.a 1
        ended 1.a#1 1: failed
        run 1 failed: a=failed
        run 2 of in: event [y created v1]
        started 2.a#1
        -> finished 1 failed
        -> start 2.a#1
        > end 2.a 1
        ended 2.a#1 1: failed
        run 2 failed: a=failed
        -> finished 2 failed
    ",
    );
}

#[test]
fn overlap_parallel() {
    check(
        r"
        signal s overlap=parallel
        task a
    ",
        r"
        signal s
        signal s
    ",
        r"
        > signal s
        item #0 of s: signal
        run 1 of s: signal items #0
        started 1.a#1
        -> start 1.a#1
        > signal s
        item #1 of s: signal
        run 2 of s: signal items #1
        started 2.a#1
        -> start 2.a#1
    ",
    );
}

#[test]
fn overlap_coalesce() {
    check(
        r"
        signal s overlap=coalesce
        task a
    ",
        r"
        signal s 1
        signal s 2
        signal s 3
        end 1.a 0
        end 2.a 0
    ",
        r"
        > signal s 1
        item #0 of s: signal
        run 1 of s: signal items #0 value 1
        started 1.a#1
        -> start 1.a#1
        > signal s 2
        item #1 of s: signal
        > signal s 3
        item #2 of s: signal
        > end 1.a 0
        ended 1.a#1 0: succeeded
        run 1 succeeded: a=succeeded
        run 2 of s: signal items #1,#2 value 3
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
fn overlap_queue_keeps_each_signal() {
    check(
        r"
        signal s
        task a
    ",
        r"
        signal s 1
        signal s 2
        signal s 3
        end 1.a 0
        end 2.a 1
        end 3.a 0
    ",
        r"
        > signal s 1
        item #0 of s: signal
        run 1 of s: signal items #0 value 1
        started 1.a#1
        -> start 1.a#1
        > signal s 2
        item #1 of s: signal
        > signal s 3
        item #2 of s: signal
        > end 1.a 0
        ended 1.a#1 0: succeeded
        run 1 succeeded: a=succeeded
        run 2 of s: signal items #1 value 2
        started 2.a#1
        -> finished 1 succeeded
        -> start 2.a#1
        > end 2.a 1
        ended 2.a#1 1: failed
        run 2 failed: a=failed
        run 3 of s: signal items #2 value 3
        started 3.a#1
        -> finished 2 failed
        -> start 3.a#1
        > end 3.a 0
        ended 3.a#1 0: succeeded
        run 3 succeeded: a=succeeded
        -> finished 3 succeeded
    ",
    );
}

#[test]
fn overlap_skip() {
    check(
        r"
        signal s overlap=skip
        task a
    ",
        r"
        signal s
        signal s
        end 1.a 0
        signal s
    ",
        r#"
        > signal s
        item #0 of s: signal
        run 1 of s: signal items #0
        started 1.a#1
        -> start 1.a#1
        > signal s
        item #1 of s: signal
        dropped #1: on_overlap = "skip": a run was alive
        > end 1.a 0
        ended 1.a#1 0: succeeded
        run 1 succeeded: a=succeeded
        -> finished 1 succeeded
        > signal s
        item #2 of s: signal
        run 2 of s: signal items #2
        started 2.a#1
        -> start 2.a#1
    "#,
    );
}

#[test]
fn overlap_signal() {
    check(
        r"
        signal s overlap=signal
        task a
    ",
        r"
        signal s
        signal s
    ",
        r#"
        > signal s
        item #0 of s: signal
        run 1 of s: signal items #0
        started 1.a#1
        -> start 1.a#1
        > signal s
        item #1 of s: signal
        dropped #1: on_overlap = "signal": the running tasks were told
        -> signal(12) 1.a#1
    "#,
    );
}

#[test]
fn overlap_restart() {
    check(
        r"
        signal s overlap=restart
        task a
    ",
        r"
        signal s
        signal s
        end 1.a sig15
        end 2.a 0
    ",
        r"
        > signal s
        item #0 of s: signal
        run 1 of s: signal items #0
        started 1.a#1
        -> start 1.a#1
        > signal s
        item #1 of s: signal
        cancel 1: restart
        -> term 1.a#1
        > end 1.a sig15
        ended 1.a#1 sig15 by Cancel: cancelled
        run 1 cancelled: a=cancelled
        run 2 of s: signal items #1
        started 2.a#1
        -> finished 1 cancelled
        -> start 2.a#1
        > end 2.a 0
        ended 2.a#1 0: succeeded
        run 2 succeeded: a=succeeded
        -> finished 2 succeeded
    ",
    );
}

#[test]
fn overlap_restart_brings_back_files_behind() {
    check(
        r"
        drop in overlap=restart key={ext} move=/done/{name}
        task a
    ",
        r"
        see in x.t v1
        see in y.t v1
        end 1.a sig15
        end 2.a 0
        moved 2.0 ok
        end 3.a 0
        moved 3.0 ok
    ",
        r"
        armed in
        -> scan in
        > see in x.t v1
        run 1 of in: event [x.t created v1]
        started 1.a#1
        -> start 1.a#1
        > see in y.t v1
        cancel 1: restart
        -> term 1.a#1
        > end 1.a sig15
        ended 1.a#1 sig15 by Cancel: cancelled
        run 1 cancelled: a=cancelled
        item #0 of in: event [x.t created v1]
        run 2 of in: event [y.t created v1]
        started 2.a#1
        -> finished 1 cancelled
        -> start 2.a#1
        > end 2.a 0
        ended 2.a#1 0: succeeded
        move 2.0 to /done/y.t
        -> move 2.0 /in/y.t to /done/y.t
        > moved 2.0 ok
        moved 2.0: moved
        run 2 succeeded: a=succeeded
        run 3 of in: event items #0 [x.t created v1] after 1
        started 3.a#1
        -> finished 2 succeeded
        -> start 3.a#1
        > end 3.a 0
        ended 3.a#1 0: succeeded
        move 3.0 to /done/x.t
        -> move 3.0 /in/x.t to /done/x.t
        > moved 3.0 ok
        moved 3.0: moved
        run 3 succeeded: a=succeeded
        -> finished 3 succeeded
        -> look in x.t
    ",
    );
}

#[test]
fn overlap_restart_leaves_out_what_was_replaced() {
    check(
        r"
        drop in overlap=restart key={ext} move=/done/{name}
        task a
    ",
        r"
        see in x.t v1
        see in y.t v1
        see in x.t v2
        end 1.a sig15
        look in x.t v2
        end 2.a 0
        moved 2.0 ok
        end 3.a 0
        moved 3.0 ok
    ",
        r"
        armed in
        -> scan in
        > see in x.t v1
        run 1 of in: event [x.t created v1]
        started 1.a#1
        -> start 1.a#1
        > see in y.t v1
        cancel 1: restart
        -> term 1.a#1
        > see in x.t v2
        > end 1.a sig15
        ended 1.a#1 sig15 by Cancel: cancelled
        run 1 cancelled: a=cancelled
        item #0 of in: event [x.t created v1]
        run 2 of in: event [y.t created v1]
        started 2.a#1
        -> finished 1 cancelled
        -> look in x.t
        -> start 2.a#1
        > look in x.t v2
        cancel 2: restart
        -> term 2.a#1
        > end 2.a 0
        ended 2.a#1 0 by Cancel: cancelled
        run 2 cancelled: a=cancelled
        item #1 of in: event [y.t created v1]
        run 3 of in: event items #0 [x.t modified v2]
        started 3.a#1
        -> finished 2 cancelled
        -> start 3.a#1
        > moved 2.0 ok
        > end 3.a 0
        ended 3.a#1 0: succeeded
        move 3.0 to /done/x.t
        -> move 3.0 /in/x.t to /done/x.t
        > moved 3.0 ok
        moved 3.0: moved
        run 3 succeeded: a=succeeded
        run 4 of in: event items #1 [y.t created v1] after 2
        started 4.a#1
        -> finished 3 succeeded
        -> look in x.t
        -> start 4.a#1
    ",
    );
}

#[test]
fn overlap_restart_leaves_what_has_ended() {
    check(
        r"
        drop in overlap=restart key={ext} move=/done/{name}
        task a
    ",
        r"
        see in x.t v1
        end 1.a 0
        see in y.t v1
        moved 1.0 ok
    ",
        r"
        armed in
        -> scan in
        > see in x.t v1
        run 1 of in: event [x.t created v1]
        started 1.a#1
        -> start 1.a#1
        > end 1.a 0
        ended 1.a#1 0: succeeded
        move 1.0 to /done/x.t
        -> move 1.0 /in/x.t to /done/x.t
        > see in y.t v1
        > moved 1.0 ok
        moved 1.0: moved
        run 1 succeeded: a=succeeded
        run 2 of in: event [y.t created v1]
        started 2.a#1
        -> finished 1 succeeded
        -> start 2.a#1
    ",
    );
}

#[test]
fn overlap_skip_of_a_file() {
    check(
        r"
        drop in overlap=skip key={ext} move=/done/{name}
        task a
    ",
        r"
        see in x.t v1
        see in y.t v1
        see in z.u v1
    ",
        r"
        armed in
        -> scan in
        > see in x.t v1
        run 1 of in: event [x.t created v1]
        started 1.a#1
        -> start 1.a#1
        > see in y.t v1
        noted in y.t v1: skipped
        > see in z.u v1
        run 2 of in: event [z.u created v1]
        started 2.a#1
        -> start 2.a#1
    ",
    );
}

#[test]
fn overlap_signal_of_a_file() {
    check(
        r"
        drop in overlap=signal key={ext} move=/done/{name}
        task a
    ",
        r"
        see in x.t v1
        see in y.t v1
    ",
        r"
        armed in
        -> scan in
        > see in x.t v1
        run 1 of in: event [x.t created v1]
        started 1.a#1
        -> start 1.a#1
        > see in y.t v1
        noted in y.t v1: signalled
        -> signal(12) 1.a#1
    ",
    );
}

#[test]
fn an_order_key_is_serial_inside_and_parallel_across() {
    check(
        r"
        drop in key={ext} move=/done/{name}
        task a
    ",
        r"
        see in x.t v1
        see in y.t v1
        see in z.u v1
        end 1.a 1
    ",
        r"
        armed in
        -> scan in
        > see in x.t v1
        run 1 of in: event [x.t created v1]
        started 1.a#1
        -> start 1.a#1
        > see in y.t v1
        > see in z.u v1
        run 2 of in: event [z.u created v1]
        started 2.a#1
        -> start 2.a#1
        > end 1.a 1
        ended 1.a#1 1: failed
        run 1 failed: a=failed
        run 3 of in: event [y.t created v1]
        started 3.a#1
        -> finished 1 failed
        -> start 3.a#1
    ",
    );
}

#[test]
fn a_batch_waits_for_its_window() {
    check(
        r"
        drop in batch=3 max_wait=5s move=/done/{name}
        task a
    ",
        r"
        see in x v1
        +4s
        see in y v1
        +1s
        end 1.a 1
        see in u v1
        see in v v1
        see in w v1
    ",
        r"
        armed in
        -> scan in
        > see in x v1
        > +4s
        > see in y v1
        > +1s
        run 1 of in: event [x created v1, y created v1]
        started 1.a#1
        -> start 1.a#1
        > end 1.a 1
        ended 1.a#1 1: failed
        run 1 failed: a=failed
        -> finished 1 failed
        > see in u v1
        > see in v v1
        > see in w v1
        run 2 of in: event [u created v1, v created v1, w created v1]
        started 2.a#1
        -> start 2.a#1
    ",
    );
}

#[test]
fn a_batch_settles() {
    check(
        r"
        watch w settle=100ms max_wait=1s
        task a
    ",
        r"
        scanned w
        see w x v1
        +60ms
        see w x v2
        +60ms
        +40ms
        end 1.a 0
    ",
        r"
        -> scan w
        > scanned w
        armed w
        > see w x v1
        > +60ms
        > see w x v2
        > +60ms
        > +40ms
        run 1 of w: event [x created v2]
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
fn a_batch_is_not_put_off_for_ever() {
    check(
        r"
        watch w settle=100ms max_wait=250ms
        task a
    ",
        r"
        scanned w
        see w x v1
        +90ms
        see w x v2
        +90ms
        see w x v3
        +90ms
        see w x v4
        +1s
    ",
        r"
        -> scan w
        > scanned w
        armed w
        > see w x v1
        > +90ms
        > see w x v2
        > +90ms
        > see w x v3
        > +90ms
        run 1 of w: event [x created v3]
        started 1.a#1
        -> start 1.a#1
        > see w x v4
        > +1s
    ",
    );
}

#[test]
fn a_batch_that_lost_its_files_starts_anew() {
    check(
        r"
        drop in batch=3 max_wait=5s move=/done/{name}
        task a
    ",
        r"
        see in x v1
        see in x gone
        +10s
        see in y v1
        +4s
        +1s
    ",
        r"
        armed in
        -> scan in
        > see in x v1
        > see in x gone
        > +10s
        > see in y v1
        > +4s
        > +1s
        run 1 of in: event [y created v1]
        started 1.a#1
        -> start 1.a#1
    ",
    );
}

#[test]
fn a_large_first_scan_asks() {
    check(
        r"
        drop in initial_max=2
        task a
    ",
        r"
        see in x v1
        counted in 3
        +1s
        resume in
        scan in y v1
    ",
        r"
        -> count in to 2
        > see in x v1
        > counted in 3
        paused in: the first scan found more than 2 files and nothing moves them away; `dagd resume in` delivers them all
        > +1s
        > resume in
        resumed in
        armed in
        run 1 of in: event [x created v1]
        started 1.a#1
        -> scan in
        -> reply done
        -> start 1.a#1
        > scan in y v1
        run 2 of in: scan [y created v1]
        started 2.a#1
        -> start 2.a#1
    ",
    );
}

#[test]
fn a_small_first_scan_does_not_ask() {
    check(
        r"
        drop in initial_max=2
        task a
    ",
        r"
        counted in 2
        scan in y v1
        scanned in
    ",
        r"
        -> count in to 2
        > counted in 2
        armed in
        -> scan in
        > scan in y v1
        run 1 of in: scan [y created v1]
        started 1.a#1
        -> start 1.a#1
        > scanned in
    ",
    );
}

#[test]
fn to_take_back_another_pause_does_not_answer_for_the_count() {
    check(
        r"
        drop in initial_max=2
        task a
    ",
        r"
        pause in
        resume in
        see in x v1
        counted in 3
        resume in
    ",
        r"
        -> count in to 2
        > pause in
        paused in: by request
        -> reply done
        > resume in
        resumed in
        -> reply done
        > see in x v1
        > counted in 3
        paused in: the first scan found more than 2 files and nothing moves them away; `dagd resume in` delivers them all
        > resume in
        resumed in
        armed in
        run 1 of in: event [x created v1]
        started 1.a#1
        -> scan in
        -> reply done
        -> start 1.a#1
    ",
    );
}

#[test]
fn an_answer_to_the_count_holds_through_a_crash() {
    check(
        r"
        drop in initial_max=2
        task a
    ",
        r"
        counted in 3
        crash
        resume in
        counted in 3
    ",
        r"
        -> count in to 2
        > counted in 3
        paused in: the first scan found more than 2 files and nothing moves them away; `dagd resume in` delivers them all
        > crash
        -> count in to 2
        > resume in
        resumed in
        armed in
        -> scan in
        -> reply done
        > counted in 3
    ",
    );
}

#[test]
fn what_is_too_much_may_become_less() {
    check_reload(
        r"
        drop in initial_max=2
        task a
    ",
        r"
        drop in initial_max=3
        task a
    ",
        r"
        counted in 3
        reload
        counted in 3
    ",
        r"
        -> count in to 2
        > counted in 3
        paused in: the first scan found more than 2 files and nothing moves them away; `dagd resume in` delivers them all
        > reload
        -> count in to 3
        > counted in 3
        resumed in
        armed in
        -> scan in
    ",
    );
}

#[test]
fn a_first_scan_that_asked_asks_again_after_a_crash() {
    check(
        r"
        drop in initial_max=2
        task a
    ",
        r"
        counted in 3
        crash
        counted in 3
        resume in
        crash
    ",
        r"
        -> count in to 2
        > counted in 3
        paused in: the first scan found more than 2 files and nothing moves them away; `dagd resume in` delivers them all
        > crash
        -> count in to 2
        > counted in 3
        paused in: the first scan found more than 2 files and nothing moves them away; `dagd resume in` delivers them all
        > resume in
        resumed in
        armed in
        -> scan in
        -> reply done
        > crash
        -> scan in
    ",
    );
}

#[test]
fn a_baseline_is_no_work() {
    check(
        r"
        watch w
        task a
    ",
        r"
        scan w x v1
        see w y v1
        scanned w
        see w x v1
        see w x v2
        +5s
        end 1.a 0
    ",
        r"
        -> scan w
        > scan w x v1
        noted w x v1: baseline
        > see w y v1
        noted w y v1: baseline
        > scanned w
        armed w
        > see w x v1
        > see w x v2
        > +5s
        run 1 of w: event [x modified v2]
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
fn a_baseline_closes_what_is_gone() {
    check(
        r"
        watch w
        task a
    ",
        r"
        scan w x v1
        crash
        scan w x gone
        scanned w
    ",
        r"
        -> scan w
        > scan w x v1
        noted w x v1: baseline
        > crash
        -> scan w
        > scan w x gone
        departed w x
        > scanned w
        armed w
    ",
    );
}

#[test]
fn a_paused_trigger_waits() {
    check(
        r"
        drop in move=/done/{name}
        task a
    ",
        r"
        pause in
        pause in
        see in x v1
        fire in
        resume in
        pause zz
    ",
        r"
        armed in
        -> scan in
        > pause in
        paused in: by request
        -> reply done
        > pause in
        -> reply done
        > see in x v1
        > fire in
        item #0 of in: manual
        -> reply queued #0
        > resume in
        resumed in
        run 1 of in: manual items #0
        run 2 of in: event [x created v1]
        started 1.a#1
        started 2.a#1
        -> reply done
        -> start 1.a#1
        -> start 2.a#1
        > pause zz
        -> reply not found: no trigger `zz`
    ",
    );
}

#[test]
fn a_stale_observation_is_looked_at_again() {
    check(
        r"
        drop in move=/done/{name}
        task a
    ",
        r"
        see in x v1
        end 1.a 1
        stale in x v1
        look in x v1
    ",
        r"
        armed in
        -> scan in
        > see in x v1
        run 1 of in: event [x created v1]
        started 1.a#1
        -> start 1.a#1
        > end 1.a 1
        ended 1.a#1 1: failed
        run 1 failed: a=failed
        -> finished 1 failed
        > stale in x v1
        -> look in x
        > look in x v1
    ",
    );
}

#[test]
fn a_version_that_changes_while_it_waits_replaces() {
    check(
        r"
        drop in max_runs=1 move=/done/{name}
        task a
    ",
        r"
        see in w v1
        see in x v1
        see in x v2
        end 1.a 1
    ",
        r"
        armed in
        -> scan in
        > see in w v1
        run 1 of in: event [w created v1]
        started 1.a#1
        -> start 1.a#1
        > see in x v1
        > see in x v2
        > end 1.a 1
        ended 1.a#1 1: failed
        run 1 failed: a=failed
        run 2 of in: event [x created v2]
        started 2.a#1
        -> finished 1 failed
        -> start 2.a#1
    ",
    );
}

#[test]
fn a_version_that_changes_while_it_runs_follows() {
    check(
        r"
        drop in
        task a
    ",
        r"
        counted in 0
        see in x v1
        see in x v2 writing
        see in x v2
        end 1.a 0
        look in x v2
        end 2.a 0
    ",
        r"
        -> count in to 10000
        > counted in 0
        armed in
        -> scan in
        > see in x v1
        run 1 of in: event [x created v1]
        started 1.a#1
        -> start 1.a#1
        > see in x v2 writing
        > see in x v2
        > end 1.a 0
        ended 1.a#1 0: succeeded
        run 1 succeeded: a=succeeded
        -> finished 1 succeeded
        -> look in x
        > look in x v2
        run 2 of in: event [x modified v2]
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
fn a_file_that_comes_back_after_its_deletion_is_looked_at() {
    check(
        r"
        watch w
        task a
    ",
        r"
        scan w x v1
        scanned w
        see w x gone
        +5s
        see w x v1
        end 1.a 0
        look w x v1
        +5s
    ",
        r"
        -> scan w
        > scan w x v1
        noted w x v1: baseline
        > scanned w
        armed w
        > see w x gone
        > +5s
        run 1 of w: event [x deleted v1]
        started 1.a#1
        -> start 1.a#1
        > see w x v1
        > end 1.a 0
        ended 1.a#1 0: succeeded
        run 1 succeeded: a=succeeded
        -> finished 1 succeeded
        -> look w x
        > look w x v1
        > +5s
        run 2 of w: event [x created v1]
        started 2.a#1
        -> start 2.a#1
    ",
    );
}

#[test]
fn a_writer_is_waited_for() {
    check(
        r"
        drop in move=/done/{name}
        task a
    ",
        r"
        see in x v1 writing
        +250ms
        look in x v1 writing
        +500ms
        look in x v1 writing
        see in x v1
    ",
        r"
        armed in
        -> scan in
        > see in x v1 writing
        > +250ms
        -> look in x
        > look in x v1 writing
        > +500ms
        -> look in x
        > look in x v1 writing
        > see in x v1
        run 1 of in: event [x created v1]
        started 1.a#1
        -> start 1.a#1
    ",
    );
}

#[test]
fn a_file_that_leaves_before_its_run_is_forgotten() {
    check(
        r"
        drop in move=/done/{name}
        task a
    ",
        r"
        pause in
        see in x v1
        see in x gone
        resume in
    ",
        r"
        armed in
        -> scan in
        > pause in
        paused in: by request
        -> reply done
        > see in x v1
        > see in x gone
        > resume in
        resumed in
        -> reply done
    ",
    );
}

#[test]
fn a_delivered_file_that_leaves_is_new_when_it_returns() {
    check(
        r"
        drop in
        task a
    ",
        r"
        counted in 0
        see in x v1
        end 1.a 0
        see in x v1
        see in x gone
        see in x v1
    ",
        r"
        -> count in to 10000
        > counted in 0
        armed in
        -> scan in
        > see in x v1
        run 1 of in: event [x created v1]
        started 1.a#1
        -> start 1.a#1
        > end 1.a 0
        ended 1.a#1 0: succeeded
        run 1 succeeded: a=succeeded
        -> finished 1 succeeded
        > see in x v1
        > see in x gone
        departed in x
        > see in x v1
        run 2 of in: event [x created v1]
        started 2.a#1
        -> start 2.a#1
    ",
    );
}

#[test]
fn a_scan_refutes_what_is_gone() {
    check(
        r"
        drop in move=/done/{name}
        task a
    ",
        r"
        pause in
        see in x v1
        see in y v1
        scan in y v1
        scanned in
        look in x gone
        resume in
    ",
        r"
        armed in
        -> scan in
        > pause in
        paused in: by request
        -> reply done
        > see in x v1
        > see in y v1
        > scan in y v1
        > scanned in
        -> look in x
        > look in x gone
        > resume in
        resumed in
        run 1 of in: event [y created v1]
        started 1.a#1
        -> reply done
        -> start 1.a#1
    ",
    );
}

#[test]
fn moves_are_planned_and_done() {
    check(
        r"
        drop in move=/done/{run}/{name} move_failed=/failed/{name}
        task a
    ",
        r"
        see in x v1
        end 1.a 0
        cancel 1
        moved 1.0 ok
        moved 1.0 ok
        see in y v1
        end 2.a 1
        moved 2.0 failed
    ",
        r"
        armed in
        -> scan in
        > see in x v1
        run 1 of in: event [x created v1]
        started 1.a#1
        -> start 1.a#1
        > end 1.a 0
        ended 1.a#1 0: succeeded
        move 1.0 to /done/1/x
        -> move 1.0 /in/x to /done/1/x
        > cancel 1
        -> reply refused: run 1 has ended and its files are being moved
        > moved 1.0 ok
        moved 1.0: moved
        run 1 succeeded: a=succeeded
        -> finished 1 succeeded
        > moved 1.0 ok
        > see in y v1
        run 2 of in: event [y created v1]
        started 2.a#1
        -> start 2.a#1
        > end 2.a 1
        ended 2.a#1 1: failed
        move 2.0 to /failed/y
        -> move 2.0 /in/y to /failed/y
        > moved 2.0 failed
        moved 2.0: failed (too long)
        run 2 failed: a=failed
        -> finished 2 failed
    ",
    );
}

#[test]
fn a_move_is_issued_again_after_a_crash() {
    check(
        r"
        drop in move=/done/{name}
        task a
    ",
        r"
        see in x v1
        end 1.a 0
        crash
        moved 1.0 gone
    ",
        r"
        armed in
        -> scan in
        > see in x v1
        run 1 of in: event [x created v1]
        started 1.a#1
        -> start 1.a#1
        > end 1.a 0
        ended 1.a#1 0: succeeded
        move 1.0 to /done/x
        -> move 1.0 /in/x to /done/x
        > crash
        -> move 1.0 /in/x to /done/x again
        -> scan in
        > moved 1.0 gone
        moved 1.0: gone (gone: nothing is at the path any more)
        run 1 succeeded: a=succeeded
        -> finished 1 succeeded
        -> look in x
    ",
    );
}

#[test]
fn a_move_that_is_issued_again_after_midnight_has_the_target_that_was_recorded() {
    check(
        r"
        drop in move=/done/{date:%d}/{name}
        task a
    ",
        r"
        see in x v1
        down 24h
        end 1.a 0
        down 24h
        crash
        moved 1.0 stuck
        down 24h
        crash
        moved 1.0 ok
        see in y v1
        end 2.a 0
    ",
        r"
        armed in
        -> scan in
        > see in x v1
        run 1 of in: event [x created v1]
        started 1.a#1
        -> start 1.a#1
        > down 24h
        > end 1.a 0
        ended 1.a#1 0: succeeded
        move 1.0 to /done/14/x
        -> move 1.0 /in/x to /done/14/x
        > down 24h
        > crash
        -> move 1.0 /in/x to /done/14/x again
        -> scan in
        > moved 1.0 stuck
        > down 24h
        > crash
        -> move 1.0 /in/x to /done/14/x again
        -> scan in
        > moved 1.0 ok
        moved 1.0: moved
        run 1 succeeded: a=succeeded
        -> finished 1 succeeded
        > see in y v1
        run 2 of in: event [y created v1]
        started 2.a#1
        -> start 2.a#1
        > end 2.a 0
        ended 2.a#1 0: succeeded
        move 2.0 to /done/17/y
        -> move 2.0 /in/y to /done/17/y
    ",
    );
}

#[test]
fn a_move_that_finds_another_version_leaves_it() {
    check(
        r"
        drop in move=/done/{name}
        task a
    ",
        r"
        see in x v1
        end 1.a 0
        see in x v2
        moved 1.0 superseded
        look in x v2
    ",
        r"
        armed in
        -> scan in
        > see in x v1
        run 1 of in: event [x created v1]
        started 1.a#1
        -> start 1.a#1
        > end 1.a 0
        ended 1.a#1 0: succeeded
        move 1.0 to /done/x
        -> move 1.0 /in/x to /done/x
        > see in x v2
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
fn a_cancelled_run_moves_nothing() {
    check(
        r"
        drop in move=/done/{name} move_failed=/failed/{name}
        task a
    ",
        r"
        see in x v1
        cancel 1
        end 1.a 0
    ",
        r"
        armed in
        -> scan in
        > see in x v1
        run 1 of in: event [x created v1]
        started 1.a#1
        -> start 1.a#1
        > cancel 1
        cancel 1: cancelled by request
        -> term 1.a#1
        -> reply done
        > end 1.a 0
        ended 1.a#1 0 by Cancel: cancelled
        run 1 cancelled: a=cancelled
        -> finished 1 cancelled
    ",
    );
}

#[test]
fn a_retry_keeps_what_was_done() {
    check(
        LINE,
        r"
        signal s
        end 1.a 0
        end 1.b 0
        end 1.c 1
        retry 1 keep a b
        end 2.c 0
        retry 1
    ",
        r"
        > signal s
        item #0 of s: signal
        run 1 of s: signal items #0
        started 1.a#1
        -> start 1.a#1
        > end 1.a 0
        ended 1.a#1 0: succeeded
        started 1.b#1
        -> start 1.b#1
        > end 1.b 0
        ended 1.b#1 0: succeeded
        started 1.c#1
        -> start 1.c#1
        > end 1.c 1
        ended 1.c#1 1: failed
        run 1 failed: a=succeeded b=succeeded c=failed
        -> finished 1 failed
        > retry 1 keep a b
        item #1 of s: retry
        run 2 of s: retry items #1 after 1 a=succeeded b=succeeded
        started 2.c#1
        -> start 2.c#1
        -> reply run 2
        > end 2.c 0
        ended 2.c#1 0: succeeded
        run 2 succeeded: a=succeeded b=succeeded c=succeeded
        -> finished 2 succeeded
        > retry 1
        item #2 of s: retry
        run 3 of s: retry items #2 after 1
        started 3.a#1
        -> start 3.a#1
        -> reply run 3
    ",
    );
}

#[test]
fn a_start_by_hand() {
    check(
        r"
        drop in move=/done/{name}
        task a
        task b
    ",
        r"
        fire in x v1
        fire in x v1
        fire zz
        fire-select b
        fire-select zz
    ",
        r"
        armed in
        -> scan in
        > fire in x v1
        item #0 of in: manual [x created v1]
        run 1 of in: manual items #0 [x created v1]
        started 1.a#1
        started 1.b#1
        -> start 1.a#1
        -> start 1.b#1
        -> reply run 1
        > fire in x v1
        -> reply refused: run 1 is working on /in/x
        > fire zz
        -> reply not found: no trigger `zz`
        > fire-select b
        item #1 of nothing: manual
        run 2: manual items #1
        -> reply run 2
        > fire-select zz
        -> reply not found: `zz` selects no task; `dagd graph` shows them
    ",
    );
}

#[test]
fn a_start_by_hand_looks_again_at_its_end() {
    check(
        r"
        drop in
        task a
    ",
        r"
        counted in 0
        pause in
        fire in x v1
        see in x v2
        resume in
        end 1.a 0
        look in x v2
    ",
        r"
        -> count in to 10000
        > counted in 0
        armed in
        -> scan in
        > pause in
        paused in: by request
        -> reply done
        > fire in x v1
        item #0 of in: manual [x created v1]
        -> reply queued #0
        > see in x v2
        > resume in
        resumed in
        run 1 of in: manual items #0 [x created v2]
        started 1.a#1
        -> reply done
        -> start 1.a#1
        > end 1.a 0
        ended 1.a#1 0: succeeded
        run 1 succeeded: a=succeeded
        -> finished 1 succeeded
        -> look in x
        > look in x v2
    ",
    );
}

#[test]
fn a_stop_drains_then_asks_then_kills() {
    check(
        r"
        signal s overlap=parallel
        slots 1
        task a kill_after=5s
    ",
        r"
        signal s
        signal s
        stop
        fire s
        +30s
        +5s
        end 1.a sig9
        signal s
        crash
    ",
        r"
        > signal s
        item #0 of s: signal
        run 1 of s: signal items #0
        started 1.a#1
        -> start 1.a#1
        > signal s
        item #1 of s: signal
        run 2 of s: signal items #1
        > stop
        > fire s
        -> reply refused: dagd is stopping
        > +30s
        -> term 1.a#1
        > +5s
        -> kill 1.a#1
        > end 1.a sig9
        ended 1.a#1 sig9 by Shutdown: requeued
        -> exit
        > signal s
        item #2 of s: signal
        > crash
        run 3 of s: signal items #2
        started 1.a#2
        -> start 1.a#2
    ",
    );
}

#[test]
fn a_second_stop_hastens() {
    check(
        r"
        signal s
        task a
        task b
    ",
        r"
        signal s
        stop
        stop
        end 1.b 0
        stop
        end 1.a sig9
    ",
        r"
        > signal s
        item #0 of s: signal
        run 1 of s: signal items #0
        started 1.a#1
        started 1.b#1
        -> start 1.a#1
        -> start 1.b#1
        > stop
        > stop
        -> term 1.a#1
        -> term 1.b#1
        > end 1.b 0
        ended 1.b#1 0 by Shutdown: succeeded
        > stop
        -> kill 1.a#1
        > end 1.a sig9
        ended 1.a#1 sig9 by Shutdown: requeued
        -> exit
    ",
    );
}

#[test]
fn an_idle_daemon_stops_at_once() {
    check(
        ONE,
        r"
        stop
    ",
        r"
        > stop
        -> exit
    ",
    );
}

#[test]
fn late_and_double_results_change_nothing() {
    check(
        r"
        signal s
        task a retry=1
    ",
        r"
        signal s
        end 1.a#1 1
        end 1.a#1 0
        +1s
        end 1.a#1 0
        end 1.a#2 0
        end 1.a#2 1
    ",
        r"
        > signal s
        item #0 of s: signal
        run 1 of s: signal items #0
        started 1.a#1
        -> start 1.a#1
        > end 1.a#1 1
        ended 1.a#1 1: retry in 1s
        > end 1.a#1 0
        > +1s
        started 1.a#2
        -> start 1.a#2
        > end 1.a#1 0
        > end 1.a#2 0
        ended 1.a#2 0: succeeded
        run 1 succeeded: a=succeeded
        -> finished 1 succeeded
        > end 1.a#2 1
    ",
    );
}

#[test]
fn a_reload_keeps_the_graph_of_what_runs() {
    check_reload(
        LINE,
        r"
        signal s
        task z
    ",
        r"
        signal s
        signal s
        reload
        end 1.a 0
        end 1.b 0
        end 1.c 0
        end 2.z 0
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
        > end 1.a 0
        ended 1.a#1 0: succeeded
        started 1.b#1
        -> start 1.b#1
        > end 1.b 0
        ended 1.b#1 0: succeeded
        started 1.c#1
        -> start 1.c#1
        > end 1.c 0
        ended 1.c#1 0: succeeded
        run 1 succeeded: a=succeeded b=succeeded c=succeeded
        run 2 of s: signal items #1
        started 2.z#1
        -> finished 1 succeeded
        -> start 2.z#1
        > end 2.z 0
        ended 2.z#1 0: succeeded
        run 2 succeeded: z=succeeded
        -> finished 2 succeeded
    ",
    );
}

#[test]
fn a_reload_looks_again_with_a_changed_trigger() {
    check_reload(
        r"
        drop in move=/done/{name}
        task a
    ",
        r"
        drop in move=/other/{name}
        task a
    ",
        r"
        pause in
        see in x v1
        reload
        resume in
        scan in x v1
        scanned in
    ",
        r"
        armed in
        -> scan in
        > pause in
        paused in: by request
        -> reply done
        > see in x v1
        > reload
        -> scan in
        > resume in
        resumed in
        -> reply done
        > scan in x v1
        run 1 of in: scan [x created v1]
        started 1.a#1
        -> start 1.a#1
        > scanned in
    ",
    );
}

#[test]
fn a_trigger_that_comes_back_is_still_paused() {
    check_reload(
        r"
        drop in
        task a
    ",
        r"
        task a
    ",
        r"
        counted in 0
        pause in
        reload
        crash
        reload
        reload
    ",
        r"
        -> count in to 10000
        > counted in 0
        armed in
        -> scan in
        > pause in
        paused in: by request
        -> reply done
        > reload
        left in
        > crash
        > reload
        back in
        -> scan in
        > reload
        left in
    ",
    );
}

#[test]
fn a_smaller_pool_does_not_stall_what_runs() {
    check_reload(
        r"
        signal s
        pool p size=2
        task a
        task b needs=a uses=p:2
    ",
        r"
        signal s
        pool p size=1
        task a
        task b needs=a uses=p:1
    ",
        r"
        signal s
        reload
        end 1.a 0
        end 1.b 0
    ",
        r"
        > signal s
        item #0 of s: signal
        run 1 of s: signal items #0
        started 1.a#1
        -> start 1.a#1
        > reload
        > end 1.a 0
        ended 1.a#1 0: succeeded
        started 1.b#1
        -> start 1.b#1
        > end 1.b 0
        ended 1.b#1 0: succeeded
        run 1 succeeded: a=succeeded b=succeeded
        -> finished 1 succeeded
    ",
    );
}

#[test]
fn a_checked_file_is_delivered_when_it_passed() {
    check(
        r"
        drop in initial=baseline checksum={name}.md5
        task a
    ",
        r"
        scanned in
        see in x v1 writing
        see in x v1
        scan in x v1
        check 1 good
        see in x v1
    ",
        r"
        -> scan in
        > scanned in
        armed in
        > see in x v1 writing
        > see in x v1
        -> check 1 in x v1 checksum
        > scan in x v1
        > check 1 good
        run 1 of in: event [x created v1]
        started 1.a#1
        -> start 1.a#1
        > see in x v1
    ",
    );
}

#[test]
fn nothing_that_differs_is_delivered_until_something_happens() {
    check(
        r"
        drop in initial=baseline checksum={name}.md5
        task a
    ",
        r"
        scanned in
        see in x v1
        check 1 untold
        +1000s
        see in x v1
        check 2 differs
        +1000s
        scan in x v1
        see in x v1
        check 3 differs
        see in x v2
        check 4 good
        check 5 good
    ",
        r"
        -> scan in
        > scanned in
        armed in
        > see in x v1
        -> check 1 in x v1 checksum
        > check 1 untold
        > +1000s
        > see in x v1
        -> check 2 in x v1 checksum
        > check 2 differs
        > +1000s
        > scan in x v1
        -> check 3 in x v1 checksum
        > see in x v1
        > check 3 differs
        -> check 4 in x v1 checksum
        > see in x v2
        -> check 5 in x v2 checksum
        > check 4 good
        > check 5 good
        run 1 of in: event [x created v2]
        started 1.a#1
        -> start 1.a#1
    ",
    );
}

#[test]
fn a_check_that_cannot_be_made_is_made_later() {
    check(
        r"
        drop in initial=baseline checksum={name}.md5
        task a
    ",
        r"
        scanned in
        see in x v1
        check 1 changed
        +250ms
        look in x v1
        check 2 unreadable
        +500ms
        look in x gone
    ",
        r"
        -> scan in
        > scanned in
        armed in
        > see in x v1
        -> check 1 in x v1 checksum
        > check 1 changed
        > +250ms
        -> look in x
        > look in x v1
        -> check 2 in x v1 checksum
        > check 2 unreadable
        > +500ms
        -> look in x
        > look in x gone
    ",
    );
}

#[test]
fn a_hint_makes_a_passed_check_void() {
    check(
        r"
        drop in initial=baseline checksum={name}.md5
        task a
    ",
        r"
        scanned in
        pause in
        see in x v1
        check 1 good
        look in x v1
        see in x v1
        resume in
        check 2 differs
    ",
        r"
        -> scan in
        > scanned in
        armed in
        > pause in
        paused in: by request
        -> reply done
        > see in x v1
        -> check 1 in x v1 checksum
        > check 1 good
        > look in x v1
        > see in x v1
        -> check 2 in x v1 checksum
        > resume in
        resumed in
        -> reply done
        > check 2 differs
    ",
    );
}

#[test]
fn of_one_key_one_is_delivered() {
    check(
        r"
        drop in initial=baseline same=content
        task a
    ",
        r"
        scanned in
        see in x v1
        see in y v2
        check 1 good k
        stale-check 2 good k
        see in z v3
        check 3 good k 1
        end 1.a 0
        see in z v3
    ",
        r"
        -> scan in
        > scanned in
        armed in
        > see in x v1
        -> check 1 in x v1 content
        > see in y v2
        -> check 2 in y v2 content
        > check 1 good k
        run 1 of in: event [x created v1]
        started 1.a#1
        -> start 1.a#1
        > stale-check 2 good k
        noted in y v2: duplicate of run 1
        > see in z v3
        -> check 3 in z v3 content
        > check 3 good k 1
        noted in z v3: duplicate of run 1
        > end 1.a 0
        ended 1.a#1 0: succeeded
        run 1 succeeded: a=succeeded
        -> finished 1 succeeded
        > see in z v3
    ",
    );
}

#[test]
fn who_passes_while_another_with_its_key_waits_waits_for_it() {
    check(
        r"
        drop in initial=baseline same=content
        task a
    ",
        r"
        scanned in
        pause in
        see in x v1
        see in y v2
        see in z v3
        check 2 good k
        check 1 good k
        check 3 good k
        see in y gone
        resume in
    ",
        r"
        -> scan in
        > scanned in
        armed in
        > pause in
        paused in: by request
        -> reply done
        > see in x v1
        -> check 1 in x v1 content
        > see in y v2
        -> check 2 in y v2 content
        > see in z v3
        -> check 3 in z v3 content
        > check 2 good k
        > check 1 good k
        > check 3 good k
        > see in y gone
        > resume in
        resumed in
        run 1 of in: event [x created v1]
        noted in z v3: duplicate of run 1
        started 1.a#1
        -> reply done
        -> start 1.a#1
    ",
    );
}

#[test]
fn a_key_that_was_claimed_after_the_ledger_was_read_counts() {
    check(
        r"
        drop in initial=baseline same=path
        task a
    ",
        r"
        scanned in
        see in x v1
        see in y v2
        check 1 good k
        end 1.a 0
        stale-check 2 good k
        see in z v3
        stale-check 3 good j
    ",
        r"
        -> scan in
        > scanned in
        armed in
        > see in x v1
        -> check 1 in x v1 path:x
        > see in y v2
        -> check 2 in y v2 path:y
        > check 1 good k
        run 1 of in: event [x created v1]
        started 1.a#1
        -> start 1.a#1
        > end 1.a 0
        ended 1.a#1 0: succeeded
        run 1 succeeded: a=succeeded
        -> finished 1 succeeded
        > stale-check 2 good k
        noted in y v2: duplicate of run 1
        > see in z v3
        -> check 3 in z v3 path:z
        > stale-check 3 good j
        run 2 of in: event [z created v3]
        started 2.a#1
        -> start 2.a#1
    ",
    );
}

#[test]
fn a_person_may_start_what_is_not_delivered() {
    check(
        r"
        drop in initial=baseline checksum={name}.md5 same={stem}
        task a
    ",
        r"
        scanned in
        see in x v1
        check 1 differs
        fire in x v1
        end 1.a 0
        see in x v1
        see in y.x v2
        check 2 good key:y
        end 2.a 0
        see in y.z v3
        check 3 good key:y 2
        fire in y.z v3
    ",
        r"
        -> scan in
        > scanned in
        armed in
        > see in x v1
        -> check 1 in x v1 checksum key:x
        > check 1 differs
        > fire in x v1
        item #0 of in: manual [x created v1]
        run 1 of in: manual items #0 [x created v1]
        started 1.a#1
        -> start 1.a#1
        -> reply run 1
        > end 1.a 0
        ended 1.a#1 0: succeeded
        run 1 succeeded: a=succeeded
        -> finished 1 succeeded
        -> look in x
        > see in x v1
        > see in y.x v2
        -> check 2 in y.x v2 checksum key:y
        > check 2 good key:y
        run 2 of in: event [y.x created v2]
        started 2.a#1
        -> start 2.a#1
        > end 2.a 0
        ended 2.a#1 0: succeeded
        run 2 succeeded: a=succeeded
        -> finished 2 succeeded
        > see in y.z v3
        -> check 3 in y.z v3 checksum key:y
        > check 3 good key:y 2
        noted in y.z v3: duplicate of run 2
        > fire in y.z v3
        item #1 of in: manual [y.z created v3]
        run 3 of in: manual items #1 [y.z created v3]
        started 3.a#1
        -> start 3.a#1
        -> reply run 3
    ",
    );
}

#[test]
fn nobody_waits_for_checks_after_a_reload_or_a_stop() {
    check_reload(
        r"
        drop in initial=baseline checksum={name}.md5
        task a
    ",
        r"
        drop in initial=baseline checksum={name}.sha256
        task a
    ",
        r"
        scanned in
        see in x v1
        reload
        scan in x v1
        check 1 good
        see in y v1
        stop
        check 2 good
        see in z v1
    ",
        r"
        -> scan in
        > scanned in
        armed in
        > see in x v1
        -> check 1 in x v1 checksum
        > reload
        -> uncheck in
        -> scan in
        > scan in x v1
        -> check 2 in x v1 checksum
        > check 1 good
        > see in y v1
        -> check 3 in y v1 checksum
        > stop
        -> uncheck in
        -> exit
        > check 2 good
        > see in z v1
    ",
    );
}

#[test]
fn a_renamed_trigger_takes_over_what_its_former_name_knew() {
    check_reload(
        r"
        drop in initial=baseline max_runs=1
        task a
    ",
        r"
        drop out initial=baseline max_runs=1 was=in
        task a
    ",
        r"
        scanned in
        see in w v1
        end 1.a 0
        see in x v1
        fire in y v1
        reload
        stale out w v1
        scan out x v1
        end 2.a 0
        see out z v1
        crash
        reload
    ",
        r"
        -> scan in
        > scanned in
        armed in
        > see in w v1
        run 1 of in: event [w created v1]
        started 1.a#1
        -> start 1.a#1
        > end 1.a 0
        ended 1.a#1 0: succeeded
        run 1 succeeded: a=succeeded
        -> finished 1 succeeded
        > see in x v1
        run 2 of in: event [x created v1]
        started 2.a#1
        -> start 2.a#1
        > fire in y v1
        item #0 of in: manual [y created v1]
        -> reply queued #0
        > reload
        renamed in to out
        -> scan out
        > stale out w v1
        -> look out w
        > scan out x v1
        > end 2.a 0
        ended 2.a#1 0: succeeded
        run 2 succeeded: a=succeeded
        run 3 of out: manual items #0 [y created v1]
        started 3.a#1
        -> finished 2 succeeded
        -> start 3.a#1
        > see out z v1
        > crash
        ended 3.a#1 dagd ended while it ran: requeued
        started 3.a#2
        -> scan out
        -> start 3.a#2
        > reload
        left out
        -> scan in
    ",
    );
}

#[test]
fn a_trigger_is_renamed_at_a_start_as_well() {
    check_reload(
        r"
        drop in initial_max=1
        task a
    ",
        r"
        drop out initial_max=1 was=in
        task a
    ",
        r"
        counted in 2
        fire in x v1
        reload
        counted out 2
        crash
        counted out 2
        resume out
        look out x v1
    ",
        r"
        -> count in to 1
        > counted in 2
        paused in: the first scan found more than 1 files and nothing moves them away; `dagd resume in` delivers them all
        > fire in x v1
        item #0 of in: manual [x created v1]
        -> reply queued #0
        > reload
        renamed in to out
        -> count out to 1
        > counted out 2
        paused out: the first scan found more than 1 files and nothing moves them away; `dagd resume out` delivers them all
        > crash
        -> count out to 1
        > counted out 2
        paused out: the first scan found more than 1 files and nothing moves them away; `dagd resume out` delivers them all
        > resume out
        resumed out
        armed out
        run 1 of out: manual items #0 [x created v1]
        started 1.a#1
        -> scan out
        -> reply done
        -> start 1.a#1
        > look out x v1
    ",
    );
}

#[test]
fn what_left_the_configuration_is_forgotten_in_time() {
    check_reload(
        r"
        drop in initial=baseline
        task a
    ",
        r"
        task a
    ",
        r"
        scanned in
        see in x v1
        reload
        expired
        +1s
        expired
        end 1.a 0
        expired
        reload
        scan in x v1
    ",
        r"
        -> scan in
        > scanned in
        armed in
        > see in x v1
        run 1 of in: event [x created v1]
        started 1.a#1
        -> start 1.a#1
        > reload
        left in
        > expired
        > +1s
        > expired
        > end 1.a 0
        ended 1.a#1 0: succeeded
        run 1 succeeded: a=succeeded
        drained in
        -> finished 1 succeeded
        > expired
        forgotten in
        > reload
        -> scan in
        > scan in x v1
        noted in x v1: baseline
    ",
    );
}

#[test]
fn a_file_is_taken_away_before_its_run() {
    check(
        r"
        drop in pre_move=/work/{name} move=/done/{name}
        task a
    ",
        r"
        see in x v1
        see in x v2
        taken 1.0 ok
        taken 1.0 ok
        look in x v2
        end 1.a 0
        moved 1.0 ok
    ",
        r"
        armed in
        -> scan in
        > see in x v1
        run 1 of in: event [x created v1]
        pre-move 1.0 to /work/x
        -> pre-move 1.0 /in/x to /work/x
        > see in x v2
        > taken 1.0 ok
        pre-moved 1.0: moved
        started 1.a#1
        -> look in x
        -> start 1.a#1
        > taken 1.0 ok
        > look in x v2
        run 2 of in: event [x created v2]
        pre-move 2.0 to /work/x
        -> pre-move 2.0 /in/x to /work/x
        > end 1.a 0
        ended 1.a#1 0: succeeded
        move 1.0 to /done/x
        -> move 1.0 /there to /done/x
        > moved 1.0 ok
        moved 1.0: moved
        run 1 succeeded: a=succeeded
        -> finished 1 succeeded
    ",
    );
}

#[test]
fn what_is_taken_away_is_another_version_or_gone() {
    check(
        r"
        drop in pre_move=/work/{name} move=/done/{name} move_failed=/failed/{name}
        task a
        task b rule=always
    ",
        r"
        see in x v1
        taken 1.0 superseded
        look in x v2
        taken 2.0 gone
        look in x gone
    ",
        r"
        armed in
        -> scan in
        > see in x v1
        run 1 of in: event [x created v1]
        pre-move 1.0 to /work/x
        -> pre-move 1.0 /in/x to /work/x
        > taken 1.0 superseded
        pre-moved 1.0: superseded (superseded: another version is at the path by now)
        run 1 cancelled: a=cancelled b=cancelled
        -> look in x
        -> finished 1 cancelled
        > look in x v2
        run 2 of in: event [x created v2]
        pre-move 2.0 to /work/x
        -> pre-move 2.0 /in/x to /work/x
        > taken 2.0 gone
        pre-moved 2.0: gone (gone: nothing is at the path any more)
        run 2 cancelled: a=cancelled b=cancelled
        -> look in x
        -> finished 2 cancelled
        > look in x gone
    ",
    );
}

#[test]
fn a_batch_goes_on_with_what_is_left_of_it() {
    check(
        r"
        drop in batch=3 pre_move=/work/{name} delete
        task a
    ",
        r"
        see in x v1
        see in y v1
        see in z v1
        taken 1.1 gone
        taken 1.0 ok
        crash
        taken 1.2 superseded
        end 1.a 0
        moved 1.0 deleted
    ",
        r"
        armed in
        -> scan in
        > see in x v1
        > see in y v1
        > see in z v1
        run 1 of in: event [x created v1, y created v1, z created v1]
        pre-move 1.0 to /work/x
        pre-move 1.1 to /work/y
        pre-move 1.2 to /work/z
        -> pre-move 1.0 /in/x to /work/x
        -> pre-move 1.1 /in/y to /work/y
        -> pre-move 1.2 /in/z to /work/z
        > taken 1.1 gone
        pre-moved 1.1: gone (gone: nothing is at the path any more)
        -> look in y
        > taken 1.0 ok
        pre-moved 1.0: moved
        > crash
        -> pre-move 1.2 /in/z to /work/z again
        -> scan in
        > taken 1.2 superseded
        pre-moved 1.2: superseded (superseded: another version is at the path by now)
        started 1.a#1
        -> look in z
        -> start 1.a#1
        > end 1.a 0
        ended 1.a#1 0: succeeded
        move 1.0 away
        -> move 1.0 /there away
        > moved 1.0 deleted
        moved 1.0: deleted
        run 1 succeeded: a=succeeded
        -> finished 1 succeeded
    ",
    );
}

#[test]
fn what_cannot_be_taken_away_fails_its_run() {
    check(
        r"
        drop in batch=2 pre_move=/work/{name} move=/done/{name}
        task a
    ",
        r"
        see in x v1
        see in y v1
        taken 1.0 ok
        taken 1.1 failed
        see in y v2
    ",
        r"
        armed in
        -> scan in
        > see in x v1
        > see in y v1
        run 1 of in: event [x created v1, y created v1]
        pre-move 1.0 to /work/x
        pre-move 1.1 to /work/y
        -> pre-move 1.0 /in/x to /work/x
        -> pre-move 1.1 /in/y to /work/y
        > taken 1.0 ok
        pre-moved 1.0: moved
        > taken 1.1 failed
        pre-moved 1.1: failed (too long)
        run 1 failed: a=cancelled
        -> finished 1 failed
        > see in y v2
    ",
    );
}

#[test]
fn a_move_that_may_yet_be_done_is_tried_again() {
    check(
        r"
        drop in move=/done/{name}
        task a
    ",
        r"
        see in x v1
        end 1.a 0
        moved 1.0 stuck
        moved 1.0 stuck
        +1s
        moved 1.0 stuck
        +1s
        +1s
        moved 1.0 stuck
        crash
        moved 1.0 stuck
        +500ms
        cancel 1
    ",
        r"
        armed in
        -> scan in
        > see in x v1
        run 1 of in: event [x created v1]
        started 1.a#1
        -> start 1.a#1
        > end 1.a 0
        ended 1.a#1 0: succeeded
        move 1.0 to /done/x
        -> move 1.0 /in/x to /done/x
        > moved 1.0 stuck
        > moved 1.0 stuck
        > +1s
        -> move 1.0 /in/x to /done/x again
        > moved 1.0 stuck
        > +1s
        > +1s
        -> move 1.0 /in/x to /done/x again
        > moved 1.0 stuck
        > crash
        -> move 1.0 /in/x to /done/x again
        -> scan in
        > moved 1.0 stuck
        > +500ms
        > cancel 1
        moved 1.0: failed (no space)
        run 1 succeeded: a=succeeded
        -> reply done
        -> finished 1 succeeded
    ",
    );
}

#[test]
#[expect(clippy::too_many_lines, reason = "a line for each try")]
fn the_pause_between_tries_is_bounded() {
    check(
        r"
        drop in delete
        task a
    ",
        r"
        see in x v1
        end 1.a 0
        moved 1.0 stuck
        +1s
        moved 1.0 stuck
        +2s
        moved 1.0 stuck
        +4s
        moved 1.0 stuck
        +8s
        moved 1.0 stuck
        +16s
        moved 1.0 stuck
        +32s
        moved 1.0 stuck
        +59s
        +1s
        cancel 1
        moved 1.0 stuck
        +59s
        moved 1.0 deleted
        +1s
        moved 1.0 deleted
    ",
        r"
        armed in
        -> scan in
        > see in x v1
        run 1 of in: event [x created v1]
        started 1.a#1
        -> start 1.a#1
        > end 1.a 0
        ended 1.a#1 0: succeeded
        move 1.0 away
        -> move 1.0 /in/x away
        > moved 1.0 stuck
        > +1s
        -> move 1.0 /in/x away again
        > moved 1.0 stuck
        > +2s
        -> move 1.0 /in/x away again
        > moved 1.0 stuck
        > +4s
        -> move 1.0 /in/x away again
        > moved 1.0 stuck
        > +8s
        -> move 1.0 /in/x away again
        > moved 1.0 stuck
        > +16s
        -> move 1.0 /in/x away again
        > moved 1.0 stuck
        > +32s
        -> move 1.0 /in/x away again
        > moved 1.0 stuck
        > +59s
        > +1s
        -> move 1.0 /in/x away again
        > cancel 1
        -> reply refused: run 1 has ended and its files are being moved
        > moved 1.0 stuck
        > +59s
        > moved 1.0 deleted
        moved 1.0: deleted
        run 1 succeeded: a=succeeded
        -> finished 1 succeeded
        > +1s
        > moved 1.0 deleted
    ",
    );
}

#[test]
fn a_cancel_gives_up_what_could_not_be_taken_away() {
    check(
        r"
        drop in pre_move=/work/{name}
        task a
        task b rule=always
    ",
        r"
        see in x v1
        taken 1.0 stuck
        cancel 1
        see in y v1
        cancel 2
        taken 2.0 stuck
        see in z v1
        cancel 3 a
        taken 3.0 ok
    ",
        r"
        armed in
        -> scan in
        > see in x v1
        run 1 of in: event [x created v1]
        pre-move 1.0 to /work/x
        -> pre-move 1.0 /in/x to /work/x
        > taken 1.0 stuck
        > cancel 1
        cancel 1: cancelled by request
        pre-moved 1.0: failed (no space)
        run 1 cancelled: a=cancelled b=cancelled
        -> reply done
        -> finished 1 cancelled
        > see in y v1
        run 2 of in: event [y created v1]
        pre-move 2.0 to /work/y
        -> pre-move 2.0 /in/y to /work/y
        > cancel 2
        cancel 2: cancelled by request
        -> reply done
        > taken 2.0 stuck
        pre-moved 2.0: failed (no space)
        run 2 cancelled: a=cancelled b=cancelled
        -> finished 2 cancelled
        > see in z v1
        run 3 of in: event [z created v1]
        pre-move 3.0 to /work/z
        -> pre-move 3.0 /in/z to /work/z
        > cancel 3 a
        cancel 3.a: cancelled by request
        -> reply done
        > taken 3.0 ok
        pre-moved 3.0: moved
        started 3.b#1
        -> start 3.b#1
    ",
    );
}

#[test]
fn a_stop_leaves_what_is_planned_to_the_next_start() {
    check(
        r"
        drop in pre_move=/work/{name}
        task a
    ",
        r"
        see in x v1
        stop
        taken 1.0 ok
        crash
        end 1.a 0
    ",
        r"
        armed in
        -> scan in
        > see in x v1
        run 1 of in: event [x created v1]
        pre-move 1.0 to /work/x
        -> pre-move 1.0 /in/x to /work/x
        > stop
        -> exit
        > taken 1.0 ok
        pre-moved 1.0: moved
        > crash
        started 1.a#1
        -> scan in
        -> start 1.a#1
        > end 1.a 0
        ended 1.a#1 0: succeeded
        run 1 succeeded: a=succeeded
        -> finished 1 succeeded
    ",
    );
}

#[test]
fn a_run_that_gave_way_comes_back_with_what_it_had_taken() {
    check(
        r"
        drop in pre_move=/work/{name} overlap=restart key={ext}
        task a
    ",
        r"
        see in x.t v1
        taken 1.0 ok
        see in x.t v2
        end 1.a sig15
        taken 2.0 superseded
        end 3.a 0
    ",
        r"
        armed in
        -> scan in
        > see in x.t v1
        run 1 of in: event [x.t created v1]
        pre-move 1.0 to /work/x.t
        -> pre-move 1.0 /in/x.t to /work/x.t
        > taken 1.0 ok
        pre-moved 1.0: moved
        started 1.a#1
        -> start 1.a#1
        > see in x.t v2
        cancel 1: restart
        -> term 1.a#1
        > end 1.a sig15
        ended 1.a#1 sig15 by Cancel: cancelled
        run 1 cancelled: a=cancelled
        item #0 of in: event [x.t created v9]
        run 2 of in: event [x.t created v2]
        pre-move 2.0 to /work/x.t
        -> finished 1 cancelled
        -> pre-move 2.0 /in/x.t to /work/x.t
        > taken 2.0 superseded
        pre-moved 2.0: superseded (superseded: another version is at the path by now)
        run 2 cancelled: a=cancelled
        run 3 of in: event items #0 [x.t created v9] after 1
        started 3.a#1
        -> look in x.t
        -> finished 2 cancelled
        -> start 3.a#1
        > end 3.a 0
        ended 3.a#1 0: succeeded
        run 3 succeeded: a=succeeded
        -> finished 3 succeeded
    ",
    );
}

#[test]
fn conflicts_are_told() {
    check(
        r"
        drop in move=/done/{name} conflict=keep
        task a
    ",
        r"
        see in x v1
        end 1.a 0
        moved 1.0 kept
        see in x v1
    ",
        r"
        armed in
        -> scan in
        > see in x v1
        run 1 of in: event [x created v1]
        started 1.a#1
        -> start 1.a#1
        > end 1.a 0
        ended 1.a#1 0: succeeded
        move 1.0 to /done/x
        -> move 1.0 /in/x to /done/x
        > moved 1.0 kept
        moved 1.0: kept (kept: its place is taken)
        run 1 succeeded: a=succeeded
        -> finished 1 succeeded
        > see in x v1
    ",
    );
}
