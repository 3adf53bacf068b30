//! What a run says while it waits for its turn: pure.

use k8s_openapi::jiff::{SignedDuration, Timestamp};

use super::decide::{Plan, until};
use super::queue::Queued;
use super::status;
use crate::api::ActionRun;

/// Says its place, but a new one only once the old one has stood for its time.
pub(super) fn wait(run: &ActionRun, queued: &Queued, deadline: Timestamp, now: Timestamp) -> Plan {
    let said = run.status.as_ref().and_then(|status| status.queue_position);
    let is_due = said.is_none() || (queued.stands_for.is_zero() && said != i32::try_from(queued.place.position).ok());
    let pause = if queued.stands_for.is_zero() { queued.place.pause() } else { queued.stands_for };
    let look = now.saturating_add(SignedDuration::try_from(pause).unwrap_or(SignedDuration::MAX)).unwrap_or(deadline);
    Plan {
        status: is_due.then(|| status::queued(run, &queued.place, now)),
        again: Some(until(look.min(deadline), now)),
        ..Plan::default()
    }
}

/// What status says that a run waits for, where nothing newer is known.
pub(super) fn waited_for(run: &ActionRun) -> Option<String> {
    let status = run.status.as_ref()?;
    let message = status.message.as_deref()?;
    match status.queue_position {
        Some(_) => Some(message.to_owned()),
        None => message.strip_prefix("waiting: ").map(str::to_owned),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::fixture;
    use super::super::queue::{Limit, Place};
    use super::*;

    fn now() -> Timestamp {
        Timestamp::from_second(1_700_000_000).unwrap()
    }

    fn planned(said: Option<i32>, position: u32, stands_for: u64) -> Plan {
        let mut run: ActionRun = serde_json::from_value(fixture::run()).unwrap();
        run.status.get_or_insert_default().queue_position = said;
        let place = Place { position, limit: Limit::Operator { most: 1 } };
        let queued = Queued { place, stands_for: Duration::from_secs(stands_for) };
        wait(&run, &queued, now().saturating_add(SignedDuration::from_secs(60)).unwrap(), now())
    }

    fn position(plan: &Plan) -> Option<i32> {
        plan.status.as_ref().and_then(|status| status.queue_position)
    }

    #[test]
    fn the_first_place_is_said_at_once_and_another_when_the_last_has_stood() {
        assert_eq!(position(&planned(None, 3, 9)), Some(3));
        assert_eq!(planned(Some(3), 2, 9).status, None);
        assert_eq!(position(&planned(Some(3), 2, 0)), Some(2));
        assert_eq!(planned(Some(2), 2, 0).status, None);
    }

    #[test]
    fn it_looks_again_when_its_place_may_be_said_and_at_the_deadline() {
        let again = |plan: Plan| plan.again.unwrap().as_secs();
        assert_eq!(again(planned(Some(3), 2, 7)), 7);
        assert_eq!(again(planned(Some(3), 2, 0)), 10);
        assert_eq!(again(planned(Some(3), 1000, 0)), 60);
    }

    #[test]
    fn a_queued_run_says_so_in_every_way() {
        let plan = planned(None, 3, 0);
        let status = plan.status.unwrap();
        let expected = "queued at position 3: the operator runs 1 action at a time (--max-concurrent-runs)";
        assert_eq!((status.reason.as_deref(), status.message.as_deref()), (Some("Queued"), Some(expected)));
        assert!(status.attempts.is_empty());
        let reconciling = crate::api::conditions::find(&status.conditions, "Reconciling").unwrap();
        assert_eq!((reconciling.status.as_str(), reconciling.reason.as_str()), ("True", "Queued"));
    }
}
