//! From a kernel's release to the policy it has.

use hyp::Policy;

/// The policy of a kernel by its release, `6.12.117+deb13-arm64`: `linux-6.17` from 6.17 on, `linux-6.9` from 6.9 on,
/// `linux-6.1` before. `None` where the release does not begin with two numbers.
///
/// A distribution may have backported the change: a version is no proof, a run is.
#[must_use]
pub fn policy_of(release: &str) -> Option<Policy> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    let version: (u32, u32) = (numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?);
    Some(match version {
        (6, 17..) | (7.., _) => Policy::Linux6_17,
        (6, 9..) => Policy::Linux6_9,
        _ => Policy::Linux6_1,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_two_numbers() {
        for (release, policy) in [
            ("6.1.0-56-arm64", Some(Policy::Linux6_1)),
            ("6.8.12", Some(Policy::Linux6_1)),
            ("5.15.0", Some(Policy::Linux6_1)),
            ("6.9.0-rc1", Some(Policy::Linux6_9)),
            ("6.12.117+deb13-arm64", Some(Policy::Linux6_9)),
            ("6.16.12", Some(Policy::Linux6_9)),
            ("6.17.0", Some(Policy::Linux6_17)),
            ("7.2.13", Some(Policy::Linux6_17)),
            ("7", None),
            ("", None),
            ("linux-6.1", None),
            ("99999999999.1", None),
        ] {
            assert_eq!(policy_of(release), policy, "{release}");
        }
    }
}
