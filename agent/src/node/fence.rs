//! Fences: a leader that was overtaken changes nothing more. Pure.

use std::sync::Arc;

use super::error::Error;
use super::state::State;
use crate::model::{Fence, ServiceName};

impl State {
    /// Refuses a change of these services by a leader that was overtaken. Without a fence it is
    /// somebody's own, and let through.
    pub(super) fn admit(&self, names: &[&ServiceName], fence: Option<&Fence>) -> Result<(), Error> {
        let Some(fence) = fence else { return Ok(()) };
        for name in names {
            if let Some(known) = self.fence_of(name)
                && fence.number() < known.number()
            {
                let (service, given, known) = ((*name).clone(), fence.clone(), known.clone());
                return Err(Error::StaleFence { service, given, known });
            }
        }
        Ok(())
    }

    /// Remembers the fence of a change of these services, and says whether it is a new one.
    pub(super) fn raise(&mut self, names: &[&ServiceName], fence: Option<&Fence>) -> bool {
        let Some(fence) = fence else { return false };
        let mut raised = false;
        for name in names {
            if let Some(entry) = self.services.get_mut(*name)
                && entry.fence.as_ref().is_none_or(|known| known.number() < fence.number())
            {
                Arc::make_mut(entry).fence = Some(fence.clone());
                raised = true;
            }
        }
        raised
    }

    /// What an event says of a change without a fence, where there is one.
    pub(super) fn past_fence(&self, name: &ServiceName, fence: Option<&Fence>) -> String {
        match self.fence_of(name) {
            Some(known) if fence.is_none() => {
                format!("; without a fence, past the rollout with fence {known}")
            }
            _ => String::new(),
        }
    }

    fn fence_of(&self, name: &ServiceName) -> Option<&Fence> {
        self.services.get(name)?.fence.as_ref()
    }
}
