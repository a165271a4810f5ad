use std::time::Duration;

use super::redactor::Redactor;

/// What the builder sets; the defaults are documented there.
#[derive(Clone, Debug)]
pub(super) struct Limits {
    pub(super) max_running: u32,
    pub(super) max_running_per_user: u32,
    pub(super) max_run_time: Option<Duration>,
    pub(super) cancel_grace: Duration,
    pub(super) max_delivery_time: Option<Duration>,
    pub(super) max_retained_per_user: u32,
    pub(super) max_retained: u32,
    pub(super) retain_for: Option<Duration>,
    pub(super) max_result_bytes: usize,
    pub(super) max_result_bytes_per_user: usize,
    pub(super) max_result_bytes_per_task: usize,
    pub(super) max_meta_bytes: usize,
    pub(super) lease: Duration,
    pub(super) redactor: Redactor,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_running: 65_536,
            max_running_per_user: 16_384,
            max_run_time: None,
            cancel_grace: Duration::ZERO,
            max_delivery_time: Some(Duration::from_secs(24 * 60 * 60)),
            max_retained_per_user: 50,
            max_retained: 100_000,
            retain_for: Some(Duration::from_secs(24 * 60 * 60)),
            max_result_bytes: 64 << 20,
            max_result_bytes_per_user: 8 << 20,
            max_result_bytes_per_task: 1 << 20,
            max_meta_bytes: 8 << 10,
            lease: Duration::from_secs(15),
            redactor: Redactor::default(),
        }
    }
}
