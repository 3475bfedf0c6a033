//! What KVM says in the kernel's log.
//!
//! A record of `/dev/kmsg` is `priority,sequence,time,flags;message`, a line feed, and lines of a dictionary (Linux,
//! Documentation/ABI/testing/dev-kmsg). KVM's own messages begin with `kvm [PID]: ` (`kvm_err`, include/linux/kvm_host.h),
//! where PID is that of the vCPU's thread. The one that matters here is from `kvm_handle_guest_abort`
//! (arch/arm64/kvm/mmu.c): `Unsupported FSC: EC=0x24 xFSC=0x21 ESR_EL2=0x92000061`.

/// What the line of a stage-2 abort without an answer begins with.
pub const UNSUPPORTED: &str = "Unsupported FSC";

/// A message of KVM.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Message<'a> {
    /// The thread it is about.
    pub pid: u32,
    /// The message, without the prefix.
    pub text: &'a str,
}

/// KVM's message in one record of `/dev/kmsg`; `None` where it is not one.
#[must_use]
pub fn message(record: &str) -> Option<Message<'_>> {
    let (_, rest) = record.split_once(';')?;
    let line = rest.split('\n').next()?;
    let (pid, text) = line.strip_prefix("kvm [")?.split_once("]: ")?;
    Some(Message { pid: pid.parse().ok()?, text })
}

/// The syndrome in the line of a stage-2 abort without an answer; `None` where `text` is not exactly that line.
#[must_use]
pub fn syndrome(text: &str) -> Option<u64> {
    let rest = text.strip_prefix(UNSUPPORTED)?.strip_prefix(": EC=")?;
    let (ec, rest) = rest.split_once(" xFSC=")?;
    let (fsc, esr) = rest.split_once(" ESR_EL2=")?;
    let (ec, fsc, esr) = (hex(ec)?, hex(fsc)?, hex(esr)?);
    // EC and the fault status code are also in the syndrome: a line that disagrees with itself is not the kernel's.
    (ec == esr >> 26 & 0x3f && fsc == esr & 0x3f).then_some(esr)
}

/// `0x` and hexadecimal digits, nothing else.
fn hex(text: &str) -> Option<u64> {
    let digits = text.strip_prefix("0x")?;
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    u64::from_str_radix(digits, 16).ok()
}

/// What KVM said about the thread `pid`: the last message that explains an abort, or the last of any kind.
#[must_use]
pub fn about(records: &[String], pid: u32) -> Option<&str> {
    let mine = || records.iter().rev().filter_map(|r| message(r)).filter(|m| m.pid == pid).map(|m| m.text);
    mine().find(|text| text.starts_with(UNSUPPORTED)).or_else(|| mine().next())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const RECORD: &str = "3,512,3012345,-;kvm [117]: Unsupported FSC: EC=0x24 xFSC=0x21 ESR_EL2=0x93c48021\n";

    #[test]
    fn the_line_that_opened_the_thread() {
        let m = message(RECORD).unwrap();
        assert_eq!(m, Message { pid: 117, text: "Unsupported FSC: EC=0x24 xFSC=0x21 ESR_EL2=0x93c48021" });
        assert_eq!(syndrome(m.text), Some(0x93c4_8021));
        assert_eq!(syndrome("Unsupported FSC: EC=0x24 xFSC=0x21 ESR_EL2=0x92000061"), Some(0x9200_0061));
    }

    #[test]
    fn nothing_that_only_resembles_it() {
        for record in ["", "kvm [1]: x", "3,1,1,-;kvm: x", "3,1,1,-;kvm [x]: y", "3,1,1,-;usb 1-1: new", "6,1,1,-;"] {
            assert_eq!(message(record), None, "{record}");
        }
        for text in [
            "",
            "Unsupported FSC: EC=0x24 xFSC=0x21 ESR_EL2=",
            "Unsupported FSC: EC=0x24 xFSC=0x21 ESR_EL2=0x",
            "Unsupported FSC: EC=0x24 xFSC=0x21 ESR_EL2=0x93c48021 and more",
            "Unsupported FSC: EC=0x24 xFSC=0x21 ESR_EL2=0x+3c48021",
            "Unsupported FSC: EC=0x20 xFSC=0x21 ESR_EL2=0x93c48021",
            "Unsupported FSC: EC=0x24 xFSC=0x21 ESR_EL2=0x11111111193c48021",
            " Unsupported FSC: EC=0x24 xFSC=0x21 ESR_EL2=0x93c48021",
        ] {
            assert_eq!(syndrome(text), None, "{text}");
        }
    }

    #[test]
    fn of_many_records_the_one_about_this_thread() {
        let records: Vec<String> = [
            "3,1,1,-;kvm [9]: Unsupported FSC: EC=0x24 xFSC=0x21 ESR_EL2=0x92000021\n",
            RECORD,
            "6,2,2,-;kvm [117]: something later\n SUBSYSTEM=kvm\n",
            "3,3,3,-;kvm [9]: Unsupported FSC: EC=0x24 xFSC=0x21 ESR_EL2=0x92000061\n",
        ]
        .map(Into::into)
        .into();
        assert_eq!(about(&records, 117), Some("Unsupported FSC: EC=0x24 xFSC=0x21 ESR_EL2=0x93c48021"));
        assert_eq!(about(&records[2..], 117), Some("something later"));
        assert_eq!(about(&records, 118), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_no_reason_to_stop(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let text = String::from_utf8_lossy(&bytes);
            let _ = (message(&text), syndrome(&text), about(&[text.to_string()], 1));
        }

        #[test]
        fn a_mutated_line_parses_to_its_own_number_or_not_at_all(
            at in 0..RECORD.len(), with in any::<char>(), drop in 0..3usize,
        ) {
            let mut text: Vec<char> = RECORD.chars().collect();
            text.splice(at..(at + drop).min(RECORD.len()), [with]);
            let text: String = text.into_iter().collect();
            if let Some(esr) = message(&text).and_then(|m| syndrome(m.text)) {
                let shown = format!("ESR_EL2={esr:#x}").to_lowercase();
                let normal = text.to_lowercase().replace("esr_el2=0x0", "esr_el2=0x");
                prop_assert!(normal.contains(&shown.to_lowercase()), "{text} {shown}");
            }
        }
    }
}
