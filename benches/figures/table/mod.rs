//! The task manager among few tasks and among many: nothing that is done with one task, one user or one session may
//! depend on how many others there are.

mod counts;
mod crowd;
mod lock;
mod operations;
mod times;

use crate::effort::Effort;
use crate::report::Report;

pub(crate) use self::counts::probe;

pub(crate) fn measure(report: &mut Report, effort: &Effort) {
    counts::measure(report);
    if !effort.counts_only {
        times::measure(report, effort);
        lock::measure(report, effort);
    }
}
