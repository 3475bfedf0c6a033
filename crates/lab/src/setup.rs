//! Fetches all that a boot needs.

use std::collections::BTreeMap;

use crate::arch::Arch;
use crate::cache::Cache;
use crate::error::Error;
use crate::kernel::{Kernel, Offer};
use crate::progress::Progress;
use crate::qemu::Qemu;
use crate::series::Series;
use crate::toolchain::Toolchain;

/// The kernels that are fetched if none is named: the last before guests could choose Normal-NC, one with that, and
/// whatever is the newest.
const USUAL: [Series; 3] = [Series::new(6, 1), Series::new(6, 12), Series::NEWEST];

/// What a setup found or fetched.
#[derive(Debug)]
#[non_exhaustive]
pub struct Setup {
    /// The kernels asked for, in that order.
    pub kernels: Vec<Kernel>,
    /// For each architecture of theirs: the emulator, and how programs for the emulated server are built.
    pub machines: Vec<(Arch, Qemu, String)>,
    /// What the user should know: the archive was out of reach, say.
    pub notes: Vec<String>,
}

/// Makes sure that the cache has QEMU, these kernels (none named: 6.1, 6.12 and the newest) and a way to build programs
/// for them. What is there already is not fetched again, and without anything to fetch the network is not used, except
/// for `newest`, which asks. With `refresh` the newest version of each series is fetched.
///
/// # Errors
/// Says what is missing and what to do; what was fetched before remains usable.
pub fn setup(cache: &Cache, series: &[Series], refresh: bool, progress: Progress) -> Result<Setup, Error> {
    let _lock = cache.lock()?;
    let mut notes = Vec::new();
    // The kernels come first: if one of those asked for does not exist, that is said before anything else is done.
    let kernels = kernels(cache, if series.is_empty() { &USUAL } else { series }, refresh, progress, &mut notes)?;
    let mut machines = Vec::new();
    for arch in Arch::ALL.into_iter().filter(|arch| kernels.iter().any(|kernel| kernel.arch() == *arch)) {
        let qemu = Qemu::find_or_fetch(cache, arch, progress)?;
        let toolchain = Toolchain::find_or_fetch(cache, arch, progress)?;
        machines.push((arch, qemu, toolchain.describe(arch)));
    }
    Ok(Setup { kernels, machines, notes })
}

fn kernels(
    cache: &Cache,
    series: &[Series],
    refresh: bool,
    progress: Progress,
    notes: &mut Vec<String>,
) -> Result<Vec<Kernel>, Error> {
    let cached = |one: &Series| cache.kernel(*one).ok();
    let must_ask = |one: &Series| refresh || one.is_newest() || cached(one).is_none();
    if !series.iter().any(must_ask) {
        return Ok(series.iter().filter_map(cached).collect());
    }
    let mut offers = BTreeMap::new();
    for arch in series.iter().map(|one| one.arch()) {
        if offers.contains_key(&arch) || !series.iter().any(|one| one.arch() == arch && must_ask(one)) {
            continue;
        }
        match Offer::of_the_archive(cache, arch, "kernels", progress) {
            Ok(offer) => drop(offers.insert(arch, offer)),
            Err(error) => {
                let all: Vec<Kernel> = series.iter().filter_map(cached).collect();
                if all.len() < series.len() {
                    return Err(error);
                }
                notes.push(format!("using the kernels fetched before: {error}"));
                return Ok(all);
            }
        }
    }
    // All are looked up before the first is fetched.
    let mut chosen = Vec::new();
    for one in series {
        chosen.push(match (offers.get(&one.arch()), cached(one)) {
            (None, Some(kernel)) => Err(kernel),
            (Some(_), Some(kernel)) if !must_ask(one) => Err(kernel),
            (Some(offer), cached) => match (offer.find(*one, cache), cached) {
                (Ok(found), _) => Ok((offer, found)),
                (Err(_), Some(kernel)) => Err(kernel),
                (Err(error), None) => return Err(error),
            },
            (None, None) => return Err(Error::NotFetched { asked: one.to_string(), fetched: cache.fetched() }),
        });
    }
    chosen
        .into_iter()
        .map(|one| match one {
            Err(kernel) => Ok(kernel),
            Ok((offer, found)) => {
                let same = |kernel: &Kernel| kernel.arch() == found.series.arch() && kernel.version() == found.version;
                match cache.kernels().into_iter().find(same) {
                    Some(kernel) => Ok(kernel),
                    None => offer.fetch(found, cache, progress),
                }
            }
        })
        .collect()
}
