//! The chain of capabilities in an answer to VFIO_DEVICE_GET_REGION_INFO (include/uapi/linux/vfio.h of Linux).

/// What a region's capabilities say.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Capabilities {
    /// `VFIO_REGION_INFO_CAP_SPARSE_MMAP`: the parts that may be mapped, as (offset, size).
    pub sparse: Option<Vec<(u64, u64)>>,
    /// `VFIO_REGION_INFO_CAP_MSIX_MAPPABLE`: the BAR of the MSI-X table may be mapped whole.
    pub msix_mappable: bool,
}

const SPARSE: u16 = 1;
const MSIX_MAPPABLE: u16 = 3;

/// Those of the chain that begins at `at`. What is beyond the end is not there; a chain that does not go forward ends.
///
/// ```
/// use bar::vfio::capabilities;
///
/// // id 1, version 1, no next; one area of 0x1000 bytes at 0x2000.
/// let mut info = vec![0; 8];
/// for word in [1u32 | 1 << 16, 0, 1, 0, 0x2000, 0, 0x1000, 0] {
///     info.extend(word.to_ne_bytes());
/// }
/// assert_eq!(capabilities(&info, 8).sparse, Some(vec![(0x2000, 0x1000)]));
/// ```
#[must_use]
pub fn capabilities(info: &[u8], at: u32) -> Capabilities {
    let mut found = Capabilities::default();
    let mut at = at as usize;
    let half = |at: usize| Some(u16::from_ne_bytes(info.get(at..at.checked_add(2)?)?.try_into().ok()?));
    let word = |at: usize| Some(u32::from_ne_bytes(info.get(at..at.checked_add(4)?)?.try_into().ok()?));
    let long = |at: usize| Some(u64::from_ne_bytes(info.get(at..at.checked_add(8)?)?.try_into().ok()?));
    // id and version of 16 bits each, then the offset of the next.
    while let (Some(id), Some(next)) = (half(at), word(at.saturating_add(4))) {
        match id {
            SPARSE if found.sparse.is_none() => {
                let count = word(at + 8).unwrap_or(0) as usize;
                let areas = (0..count).map_while(|i| Some((long(at + 16 + 16 * i)?, long(at + 24 + 16 * i)?)));
                found.sparse = Some(areas.collect());
            }
            MSIX_MAPPABLE => found.msix_mappable = true,
            _ => {}
        }
        if next as usize <= at {
            break;
        }
        at = next as usize;
    }
    found
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn built(order: &[(u16, &[(u64, u64)])]) -> Vec<u8> {
        let mut out = vec![0; 32];
        for (i, (id, areas)) in order.iter().enumerate() {
            let body = if *id == SPARSE { 8 + 16 * areas.len() } else { 0 };
            let next = if i + 1 == order.len() { 0 } else { out.len() + 8 + body };
            out.extend(id.to_ne_bytes());
            out.extend(1u16.to_ne_bytes());
            out.extend(u32::try_from(next).unwrap().to_ne_bytes());
            if *id == SPARSE {
                out.extend(u32::try_from(areas.len()).unwrap().to_ne_bytes());
                out.extend([0; 4]);
                areas.iter().for_each(|(a, b)| {
                    out.extend(a.to_ne_bytes());
                    out.extend(b.to_ne_bytes());
                });
            }
        }
        out
    }

    #[test]
    fn a_chain_is_followed_and_a_circle_ends() {
        let areas = [(0, 0x1000), (0x3000, 0x1000)];
        let info = built(&[(2, &[]), (SPARSE, &areas), (MSIX_MAPPABLE, &[])]);
        let want = Capabilities { sparse: Some(areas.to_vec()), msix_mappable: true };
        assert_eq!(capabilities(&info, 32), want);
        let mut circle = built(&[(MSIX_MAPPABLE, &[])]);
        circle[36..40].copy_from_slice(&32u32.to_ne_bytes());
        assert!(capabilities(&circle, 32).msix_mappable);
        assert_eq!(capabilities(&info[..60], 32).sparse, Some(vec![]), "cut off in the middle");
    }

    proptest! {
        #[test]
        fn any_bytes_are_taken(mut bytes in prop::collection::vec(any::<u8>(), 0..256), at: u32, near in 0u32..256, count: u32) {
            let areas = |found: &Capabilities| found.sparse.as_ref().map_or(0, Vec::len);
            prop_assert!(areas(&capabilities(&bytes, at)) <= bytes.len() / 16);
            if bytes.len() > 44 {
                bytes[32..34].copy_from_slice(&SPARSE.to_ne_bytes());
                bytes[40..44].copy_from_slice(&count.to_ne_bytes());
            }
            prop_assert!(areas(&capabilities(&bytes, 32)) <= bytes.len() / 16);
            let _ = capabilities(&bytes, near);
        }
    }
}
