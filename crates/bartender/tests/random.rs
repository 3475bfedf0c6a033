//! Every parser and decoder, fed with anything: a message or a result, never a panic.
#![forbid(unsafe_code)]

use bartender::decode::{esr, lines, mair, notes, par};
use bartender::input;
use proptest::prelude::*;

/// Says something, and what would be right or what is wrong with it.
fn message<T>(result: Result<T, String>) {
    if let Err(message) = result {
        assert!(message.len() > 10, "{message:?}");
    }
}

fn pieces() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        Just("ESR_EL2".to_string()),
        Just("esr".to_string()),
        Just("hsr".to_string()),
        Just("=".to_string()),
        Just("0x".to_string()),
        Just("0b".to_string()),
        Just("/".to_string()),
        Just(" ".to_string()),
        Just("mair=".to_string()),
        Just("memattr=".to_string()),
        Just("normal-".to_string()),
        Just("_".to_string()),
        Just("é".to_string()),
        Just("İ".to_string()),
        "[0-9a-f]{0,20}",
        any::<char>().prop_map(String::from),
    ];
    proptest::collection::vec(piece, 0..8).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn any_text(text in prop_oneof![any::<String>(), pieces()], sh in proptest::option::of(0u8..4), fwb: bool) {
        message(input::number(&text));
        message(input::number_of(&text, 4));
        message(input::shareability(&text));
        message(input::stage1(&text, sh));
        message(input::stage2(&text, fwb, sh.unwrap_or(3)));
        message(esr::find(&text));
        let _ = input::unknown("thing", &text, &["a", "b"]);
    }

    #[test]
    fn any_number_is_read_back(value: u64) {
        for text in [format!("{value}"), format!("{value:#x}"), format!("{value:#b}"), format!("{value:#X}")] {
            prop_assert_eq!(input::number(&text.to_ascii_lowercase()), Ok(value));
        }
        let found = esr::find(&format!("kvm [1]: ESR_EL2={value:#x}, again")).unwrap();
        prop_assert_eq!((found.value, found.el), (value, Some(2)));
    }

    #[test]
    fn any_esr(value in prop_oneof![any::<u64>(), any::<u32>().prop_map(u64::from)], el in proptest::option::of(1u8..=2)) {
        let esr = esr::decode(esr::Given { value, el: None, suspicious: false }, el);
        prop_assert!(!esr.what.is_empty());
        prop_assert!(esr.fields.iter().all(|f| !f.means.is_empty()));
        prop_assert!(lines(&esr.fields).contains("EC"));
        let _ = notes(&esr.notes);
        serde_json::to_string(&esr).unwrap();
    }

    #[test]
    fn any_mair_and_par(value: u64) {
        let all = mair::attributes(value);
        prop_assert_eq!(all.len(), 8);
        let back = all.iter().rev().fold(0u64, |v, a| v << 8 | u64::from(a.byte));
        prop_assert_eq!(back, value);
        let par = par::decode(value);
        prop_assert_eq!(par.translated, value & 1 == 0);
        let _ = lines(&par.fields);
        serde_json::to_string(&(par, all)).unwrap();
    }
}
