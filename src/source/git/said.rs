//! What a git server says as it gives up. `gix` hands it to whoever watches the progress, and goes on.

use std::sync::{Arc, Mutex, PoisonError};

use gix::progress::{Count, Id, MessageLevel, NestedProgress, Progress, Step, StepShared, UNKNOWN, Unit};

/// Keeps the first such text, and nothing else of the progress.
#[derive(Debug, Clone, Default)]
pub(super) struct Said(Arc<Mutex<Option<String>>>);

impl Said {
    /// The text, if there was one.
    pub fn text(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Count for Said {
    fn set(&self, _step: Step) {}

    fn step(&self) -> Step {
        0
    }

    fn inc_by(&self, _step: Step) {}

    fn counter(&self) -> StepShared {
        StepShared::default()
    }
}

impl Progress for Said {
    fn init(&mut self, _max: Option<Step>, _unit: Option<Unit>) {}

    fn set_name(&mut self, _name: String) {}

    fn name(&self) -> Option<String> {
        None
    }

    fn id(&self) -> Id {
        UNKNOWN
    }

    fn message(&self, level: MessageLevel, message: String) {
        if level == MessageLevel::Failure {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(message);
        }
    }
}

impl NestedProgress for Said {
    type SubProgress = Self;

    fn add_child(&mut self, _name: impl Into<String>) -> Self {
        self.clone()
    }

    fn add_child_with_id(&mut self, _name: impl Into<String>, _id: Id) -> Self {
        self.clone()
    }
}
