//! [`Host`] where there is no KVM for arm64: it cannot be opened.

use std::{convert::Infallible, time::Duration};

use scenario::{Guest, Layout, Observation, Scenario};

use crate::{Bdf, Error};

/// An arm64 Linux host. There is none here, and so no value of this type.
#[derive(Debug)]
pub struct Host(Infallible);

impl Host {
    /// Fails: this is no arm64 Linux host.
    ///
    /// # Errors
    /// Always [`Error::Elsewhere`].
    pub const fn open(_: &[Bdf]) -> Result<Self, Error> {
        Err(Error::Elsewhere { os: std::env::consts::OS, arch: std::env::consts::ARCH })
    }

    /// Whether the CPU has FEAT_S2FWB.
    ///
    /// # Errors
    /// Never called.
    pub const fn fwb(&self) -> Result<bool, Error> {
        match self.0 {}
    }

    /// The running kernel's release.
    #[must_use]
    pub const fn kernel_release(&self) -> String {
        match self.0 {}
    }

    /// Runs a scenario.
    ///
    /// # Errors
    /// Never called.
    pub const fn run(&mut self, _: &Scenario, _: &Layout, _: &Guest, _: Duration) -> Result<Observation, Error> {
        match self.0 {}
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn it_says_what_is_missing_and_what_to_do() {
        let said = super::Host::open(&[]).unwrap_err().to_string();
        assert!(said.starts_with("the `kvm` machine needs an arm64 Linux host with /dev/kvm"), "{said}");
        assert!(said.ends_with("use --on model, or --on lab:6.12"), "{said}");
    }
}
