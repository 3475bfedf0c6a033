//! Fetches all that a boot needs.

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
    /// The emulator.
    pub qemu: Qemu,
    /// The kernels asked for, in that order.
    pub kernels: Vec<Kernel>,
    /// How programs for the emulated server are built.
    pub toolchain: String,
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
    let qemu = Qemu::find_or_fetch(cache, progress)?;
    let toolchain = Toolchain::find_or_fetch(cache, progress)?;
    Ok(Setup { qemu, kernels, toolchain: toolchain.describe(), notes })
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
    let offer = match Offer::of_the_archive(cache, "kernels", progress) {
        Ok(offer) => offer,
        Err(error) => {
            let all: Vec<Kernel> = series.iter().filter_map(cached).collect();
            if all.len() < series.len() {
                return Err(error);
            }
            notes.push(format!("using the kernels fetched before: {error}"));
            return Ok(all);
        }
    };
    // All are looked up before the first is fetched.
    let mut chosen = Vec::new();
    for one in series {
        chosen.push(match (must_ask(one), offer.find(*one, cache), cached(one)) {
            (false, _, Some(kernel)) | (true, Err(_), Some(kernel)) => Err(kernel),
            (_, found, _) => Ok(found?),
        });
    }
    chosen
        .into_iter()
        .map(|one| match one {
            Err(kernel) => Ok(kernel),
            Ok(found) => match cache.kernels().into_iter().find(|kernel| kernel.version() == found.version) {
                Some(kernel) => Ok(kernel),
                None => offer.fetch(found, cache, progress),
            },
        })
        .collect()
}
