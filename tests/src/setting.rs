//! What a trial is held with: a version of Valkey, and a way of the bytes. A trial that depends on either
//! is one function and a trial for each setting, whose name ends with the setting's.

use anyhow::{Context, Result};
use libtest_mimic::{Failed, Trial};

use crate::bed::{Acceleration, Bed, Builder};
use crate::tools::{self, FURTHER_VALKEYS};

/// One of them.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    acceleration: Acceleration,
    /// One of [`FURTHER_VALKEYS`]; the installed valkey-server otherwise.
    valkey: Option<&'static str>,
    /// The store's server is a cluster of one node that has all slots; what it is compared with is none.
    slots: bool,
}

impl Setting {
    /// The installed Valkey, with sk_msg and without.
    pub const OF_EVERY_KERNEL: [Self; 2] = [
        Self::accelerated(Acceleration::On),
        Self::accelerated(Acceleration::Off),
    ];

    /// The further versions, without sk_msg, which knows nothing of versions.
    pub fn of_further_valkeys() -> impl Iterator<Item = Self> {
        FURTHER_VALKEYS.into_iter().map(|series| Self {
            acceleration: Acceleration::Off,
            valkey: Some(series),
            slots: false,
        })
    }

    /// A cluster of one node, of the first version whose SORT takes `GET #` in a cluster.
    #[must_use]
    pub fn of_slots() -> Self {
        Self {
            acceleration: Acceleration::Off,
            valkey: Some(FURTHER_VALKEYS[0]),
            slots: true,
        }
    }

    const fn accelerated(acceleration: Acceleration) -> Self {
        Self {
            acceleration,
            valkey: None,
            slots: false,
        }
    }

    /// Whether it is with this version.
    #[must_use]
    pub fn is_of(self, series: &str) -> bool {
        self.valkey == Some(series)
    }

    /// A bed's builder of this setting.
    ///
    /// # Errors
    /// When its server is not installed.
    pub fn builder(self) -> Result<Builder> {
        let server = self.valkey.map(tools::further_valkey).transpose()?;
        let builder = Bed::builder().acceleration(self.acceleration);
        let builder = if self.slots { builder.slots() } else { builder };
        Ok(builder.valkey(server))
    }

    /// A trial of this setting.
    pub fn trial(
        self,
        name: &str,
        body: impl FnOnce(Builder) -> Result<()> + Send + 'static,
    ) -> Trial {
        let setting = match self.valkey {
            Some(series) if self.slots => format!("slots_{}", series.replace('.', "_")),
            Some(series) => format!("valkey_{}", series.replace('.', "_")),
            None => format!("accel_{}", self.acceleration.word()),
        };
        Trial::test(format!("{name}::{setting}"), move || {
            let run = || body(self.builder()?);
            run().map_err(|error| Failed::from(format!("{error:#}")))
        })
    }

    /// The same with a bed that has two stores; a failure comes with the agent's log.
    pub fn trial_with_bed(self, name: &str, body: fn(&Bed) -> Result<()>) -> Trial {
        self.trial(name, move |builder| {
            let bed = builder.stores(2).start()?;
            body(&bed).with_context(|| format!("the agent's log:\n{}", bed.agent_log()))
        })
    }
}
