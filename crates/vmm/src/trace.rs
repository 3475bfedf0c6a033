//! What the tracepoint `kvm:kvm_guest_fault` says of a stage-2 abort: the registers that the log line leaves out.
//!
//! `events/kvm/kvm_guest_fault/format` in the tracing file system gives the tracepoint's number and where in a record each
//! field lies (Linux, Documentation/trace/events.rst; the fields are those of arch/arm64/kvm/trace_arm.h and the same in
//! 6.1, 6.12 and 7.2). The records come through perf, which keeps them to this thread and to this process.

/// Where the tracepoint's records have what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Format {
    /// The tracepoint's number, as `perf_event_open` wants it.
    pub id: u64,
    /// Offset of `hsr`: ESR_EL2.
    hsr: usize,
    /// Offset of `hxfar`: FAR_EL2.
    hxfar: usize,
    /// Offset of `ipa`: the page of HPFAR_EL2.
    ipa: usize,
}

/// One stage-2 abort.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fault {
    /// `ESR_EL2`.
    pub esr: u64,
    /// `FAR_EL2`.
    pub far: u64,
    /// The page of `HPFAR_EL2`, where the architecture says what it is.
    pub ipa: Option<u64>,
}

impl Format {
    /// Reads a `format` file; `None` where it lacks a field of 8 bytes or the number.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let id = text.lines().find_map(|line| line.strip_prefix("ID:"))?.trim().parse().ok()?;
        let offset = |name: &str| {
            let mut fields = text.lines().filter_map(|line| field(line.trim()));
            fields.find(|f| f.name == name && f.size == 8).map(|f| f.offset)
        };
        Some(Self { id, hsr: offset("hsr")?, hxfar: offset("hxfar")?, ipa: offset("ipa")? })
    }

    /// The abort in one record; `None` where it is too short.
    #[must_use]
    pub fn fault(&self, record: &[u8]) -> Option<Fault> {
        let value = |at: usize| {
            let bytes = record.get(at..at.checked_add(8)?)?;
            bytes.try_into().ok().map(u64::from_le_bytes)
        };
        let esr = value(self.hsr)?;
        let ipa = value(self.ipa)?;
        Some(Fault { esr, far: value(self.hxfar)?, ipa: ipa_is_known(esr).then_some(ipa & !0xfff) })
    }
}

struct Field<'a> {
    name: &'a str,
    offset: usize,
    size: usize,
}

/// `field:unsigned long hsr; offset:16; size:8; signed:0;`, with a tab after each semicolon.
fn field(line: &str) -> Option<Field<'_>> {
    let mut parts = line.strip_prefix("field:")?.split(';').map(str::trim);
    let name = parts.next()?.rsplit(' ').next()?;
    let mut number = |key: &str| parts.next()?.strip_prefix(key)?.parse().ok();
    Some(Field { name, offset: number("offset:")?, size: number("size:")? })
}

/// Whether HPFAR_EL2 is valid after a stage-2 abort with this syndrome on every CPU: translation and access flag faults,
/// and any abort on a stage-1 walk (DDI 0487, D24.2.60 HPFAR_EL2). An alignment fault leaves it UNKNOWN.
const fn ipa_is_known(esr: u64) -> bool {
    matches!(esr & 0x3c, 0x04 | 0x08) || esr & (1 << 7) != 0
}

/// The payload of the last sample in what perf's ring buffer held; `None` where there is none or the buffer makes no sense.
///
/// A record is its type (u32), two bytes of flags, its length (u16), and what belongs to the type: for a sample of raw data
/// the length of the data (u32) and the data (Linux, include/uapi/linux/perf_event.h, `enum perf_event_type`).
#[must_use]
pub fn last_sample(mut ring: &[u8]) -> Option<&[u8]> {
    const HEADER: usize = 8;
    const SAMPLE: u32 = 9;
    let mut last = None;
    while !ring.is_empty() {
        let kind = u32::from_le_bytes(ring.get(..4)?.try_into().ok()?);
        let length = usize::from(u16::from_le_bytes(ring.get(6..HEADER)?.try_into().ok()?));
        let body = ring.get(HEADER..length)?;
        if kind == SAMPLE {
            let size = u32::from_le_bytes(body.get(..4)?.try_into().ok()?);
            last = Some(body.get(4..4usize.checked_add(usize::try_from(size).ok()?)?)?);
        }
        ring = &ring[length..];
    }
    last
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// As 6.1.192, 6.12.117 and 7.2.13 of Debian have it, but for the number (60, 60 and 63).
    const FORMAT: &str = "name: kvm_guest_fault\nID: 60\nformat:\n\
        \tfield:unsigned short common_type;\toffset:0;\tsize:2;\tsigned:0;\n\
        \tfield:unsigned char common_flags;\toffset:2;\tsize:1;\tsigned:0;\n\
        \tfield:unsigned char common_preempt_count;\toffset:3;\tsize:1;\tsigned:0;\n\
        \tfield:int common_pid;\toffset:4;\tsize:4;\tsigned:1;\n\n\
        \tfield:unsigned long vcpu_pc;\toffset:8;\tsize:8;\tsigned:0;\n\
        \tfield:unsigned long hsr;\toffset:16;\tsize:8;\tsigned:0;\n\
        \tfield:unsigned long hxfar;\toffset:24;\tsize:8;\tsigned:0;\n\
        \tfield:unsigned long long ipa;\toffset:32;\tsize:8;\tsigned:0;\n\n\
        print fmt: \"ipa %#llx, hsr %#08lx, hxfar %#08lx, pc %#016lx\", REC->ipa, REC->hsr, REC->hxfar, REC->vcpu_pc\n";

    fn record(esr: u64, far: u64, ipa: u64) -> Vec<u8> {
        [0x0000_0001_0000_003c, 0x4000_2014, esr, far, ipa].iter().flat_map(|v: &u64| v.to_le_bytes()).collect()
    }

    /// A record of perf.
    fn perf(kind: u32, body: &[u8]) -> Vec<u8> {
        let mut bytes = kind.to_le_bytes().to_vec();
        bytes.extend([0, 0]);
        bytes.extend((8 + body.len() as u16).to_le_bytes());
        bytes.extend(body);
        bytes
    }

    fn sample(data: &[u8]) -> Vec<u8> {
        let mut body = (data.len() as u32).to_le_bytes().to_vec();
        body.extend(data);
        perf(9, &body)
    }

    #[test]
    fn the_abort_of_the_thread_and_a_translation_fault() {
        let format = Format::parse(FORMAT).unwrap();
        assert_eq!(format, Format { id: 60, hsr: 16, hxfar: 24, ipa: 32 });
        let alignment = format.fault(&record(0x93c4_8021, 0x201_0000_0003, 0x1_0000_0000));
        assert_eq!(alignment, Some(Fault { esr: 0x93c4_8021, far: 0x201_0000_0003, ipa: None }));
        let translation = format.fault(&record(0x93c0_8007, 0x101_0000_0008, 0x1_0000_0008));
        assert_eq!(translation, Some(Fault { esr: 0x93c0_8007, far: 0x101_0000_0008, ipa: Some(0x1_0000_0000) }));
        assert_eq!(format.fault(&[0; 39]), None);
    }

    #[test]
    fn a_format_without_what_is_needed_is_none() {
        assert_eq!(Format::parse(""), None);
        for gone in ["ID: 60", "hsr;", "hxfar;", "ipa;"] {
            assert_eq!(Format::parse(&FORMAT.replacen(gone, "", 1)), None, "{gone}");
        }
        assert_eq!(Format::parse(&FORMAT.replace("offset:24;\tsize:8", "offset:24;\tsize:4")), None);
        // Where the fields lie is the kernel's to say.
        let moved = FORMAT.replace("offset:32", "offset:18446744073709551615");
        assert_eq!(Format::parse(&moved).and_then(|f| f.fault(&[0; 64])), None);
    }

    #[test]
    fn the_last_sample_of_the_ring() {
        // 4 bytes of padding, as perf gives them so that the next record is aligned.
        let (mut a, mut b) = (record(1, 2, 3), record(4, 5, 6));
        a.extend([0; 4]);
        b.extend([0; 4]);
        let lost = perf(2, &[0; 16]);
        let ring = [sample(&a), sample(&b), lost.clone()].concat();
        assert_eq!(last_sample(&ring), Some(&b[..]));
        assert_eq!(last_sample(&lost), None);
        assert_eq!(last_sample(&[]), None);
        assert_eq!(last_sample(&ring[..ring.len() - 1]), None);
        assert_eq!(last_sample(&perf(9, &[255; 8])), None);
        assert_eq!(last_sample(&[9, 0, 0, 0, 0, 0, 0, 0]), None, "a length that leads nowhere");
    }

    proptest! {
        #[test]
        fn any_bytes_are_no_reason_to_stop(
            bytes in prop::collection::vec(any::<u8>(), 0..200), at in 0..FORMAT.len(), drop in 0..8usize,
        ) {
            let _ = last_sample(&bytes);
            let noise = String::from_utf8_lossy(&bytes);
            let _ = Format::parse(&noise);
            let mut mixed = FORMAT.to_string();
            mixed.replace_range(at..(at + drop).min(FORMAT.len()), &noise);
            if let Some(format) = Format::parse(&mixed) {
                let _ = format.fault(&bytes);
            }
        }
    }
}
