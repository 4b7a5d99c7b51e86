use bytes::BytesMut;
use proptest::prelude::*;

use super::*;

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(|b| !b.is_ascii_whitespace()).collect();
    digits.chunks(2).map(|p| u8::from_str_radix(std::str::from_utf8(p).unwrap(), 16).unwrap()).collect()
}

/// The `connect` of FFmpeg 5.1, cut to its first fields.
const CONNECT: &str = "02 0007 636f6e6e656374 00 3ff0000000000000
    03 0003 617070 02 0004 6c697665 0004 74797065 02 000a 6e6f6e70726976617465
       0004 6670 6164 01 00 000c 6361706162696c6974696573 00 402e000000000000 0000 09";

fn everything() -> Value {
    Value::EcmaArray(vec![
        ("n".into(), Value::Number(-1.5)),
        ("b".into(), Value::Boolean(true)),
        ("s".into(), "grüß".into()),
        ("long".into(), "x".repeat(70_000).into()),
        ("o".into(), Value::object([("in", Value::object([("deeper", Value::Null)]))])),
        ("a".into(), Value::StrictArray(vec![Value::Undefined, Value::Unsupported, 7.0.into()])),
        ("d".into(), Value::Date { ms: 1.7e12, zone: -60 }),
        ("x".into(), Value::Xml("<a/>".into())),
        ("t".into(), Value::TypedObject { class: "C".into(), pairs: vec![("f".into(), 1.0.into())] }),
        ("bytes".into(), Value::ByteArray(vec![7; 300])),
        (String::new(), "a name may be empty".into()),
    ])
}

#[test]
fn commands_of_encoders_are_read() {
    let values = decode_all(&hex(CONNECT)).unwrap();
    assert_eq!(values[0].as_str(), Some("connect"));
    assert_eq!(values[1].as_f64(), Some(1.0));
    assert_eq!(values[2].find("app").and_then(Value::as_str), Some("live"));
    assert_eq!(values[2].find("fpad").and_then(Value::as_bool), Some(false));
    assert_eq!(values[2].pairs().len(), 4);
    assert_eq!(&encode_all(&values)[..], &hex(CONNECT)[..]);
}

#[test]
fn all_types_come_back() {
    let values = [everything(), Value::Null, "end".into()];
    assert_eq!(decode_all(&encode_all(&values)).unwrap(), values);
}

/// Frame information with a date and a timecode (`onFI`), as FMLE sends it: a date has 10 bytes after its
/// marker, and what follows it must be found.
#[test]
fn a_timecode_with_a_date_is_read() {
    let bytes = hex("02 0004 6f6e4649 08 00000000 0002 7364 0b 4278bcfe56800000 003c
                     0002 7374 02 000b 30313a30323a30333a3034 0000 09");
    let values = decode_all(&bytes).unwrap();
    assert_eq!(values[1].find("sd"), Some(&Value::Date { ms: 1.7e12, zone: 60 }));
    assert_eq!(values[1].find("st").and_then(Value::as_str), Some("01:02:03:04"));
}

#[test]
fn an_array_with_a_wrong_count_or_no_end_is_read() {
    let whole = hex("08 000000ff 0001 61 05 0000 09 02 0001 7a");
    assert_eq!(decode_all(&whole).unwrap()[1].as_str(), Some("z"));
    let cut = hex("08 00000001 0001 61 05");
    assert_eq!(decode_all(&cut).unwrap()[0].find("a"), Some(&Value::Null));
}

#[test]
fn references_are_resolved() {
    // {a: {n: true}, b: -> 1}
    let bytes = hex("03 0001 61 03 0001 6e 01 01 0000 09 0001 62 07 0001 0000 09");
    let value = &decode_all(&bytes).unwrap()[0];
    assert_eq!(value.find("a"), value.find("b"));
    assert!(value.find("b").and_then(|b| b.find("n")).is_some());

    let ring = hex("03 0001 61 07 0000 0000 09");
    assert!(matches!(decode_all(&ring), Err(AmfError::TooDeep { .. })));
    let nowhere = hex("03 0001 61 07 0005 0000 09");
    assert_eq!(
        decode_all(&nowhere),
        Err(AmfError::BadReference { what: "object", index: 5, count: 1, at: 5 })
    );
}

#[test]
fn doubling_references_are_bounded() {
    // Each array holds the one before twice: 2^30 values if nobody counted.
    let mut bytes = vec![0x0A, 0, 0, 0, 31, 0x0A, 0, 0, 0, 1, 0x05];
    for i in 1..=30u8 {
        bytes.extend([0x0A, 0, 0, 0, 2, 0x07, 0, i, 0x07, 0, i]);
    }
    let error = decode_all(&bytes).unwrap_err();
    assert!(matches!(error, AmfError::TooLarge { .. } | AmfError::TooDeep { .. }), "{error}");
}

#[test]
fn depth_is_bounded() {
    let nested = |n: usize| {
        let mut bytes = [0x0A, 0, 0, 0, 1].repeat(n);
        bytes.push(0x05);
        bytes
    };
    assert!(decode_all(&nested(15)).is_ok());
    assert_eq!(decode_all(&nested(16)), Err(AmfError::TooDeep { at: 80 }));
    assert!(matches!(decode_all(&nested(100_000)), Err(AmfError::TooDeep { .. })));
    // Objects that are cut off end where the bytes end, but don't nest without end either.
    assert!(decode_all(&[0x03, 0, 0].repeat(1000)).is_err());
}

#[test]
fn items_and_text_are_bounded() {
    let mut many = vec![0x0A, 0xFF, 0xFF, 0xFF, 0xFF];
    many.resize(5 + 100_000, 0x05);
    assert!(matches!(decode_all(&many), Err(AmfError::TooLarge { .. })));
    let long = encode_all(&[Value::String("x".repeat(MAX_TEXT + 1))]);
    assert!(matches!(decode_all(&long), Err(AmfError::TooLarge { .. })));
    assert_eq!(
        decode_all(&[0x0C, 0xFF, 0xFF, 0xFF, 0xFF]),
        Err(AmfError::TooLarge { at: 5 }),
        "a length alone allocates nothing"
    );
}

#[test]
fn amf3_is_read_behind_the_switch() {
    // [int -2, double 0.5, "ab", ref "ab", true, {class "", dynamic, x: 3}, same object again]
    let mut bytes = hex("11 09 0f 01 04 fffffffe");
    bytes.extend(hex("05 3fe0000000000000 06 05 6162 06 00 03 0a 0b 01 03 78 04 03 01 0a 02"));
    bytes.extend(hex("02 0001 7a"));
    let values = decode_all(&bytes).unwrap();
    let items = values[0].items();
    assert_eq!(items[0], Value::Number(-2.0));
    assert_eq!(items[1], Value::Number(0.5));
    assert_eq!((items[2].as_str(), items[3].as_str()), (Some("ab"), Some("ab")));
    assert_eq!(items[4], Value::Boolean(true));
    assert_eq!(items[5].find("x").and_then(Value::as_f64), Some(3.0));
    assert_eq!(items[6], items[5]);
    assert_eq!(values[1].as_str(), Some("z"), "the switch is for one value");
}

#[test]
fn amf3_traits_wrappers_and_dates() {
    // Two objects of sealed class "P" with field "v", the second by traits reference.
    let bytes = hex("11 09 05 01 0a 13 03 50 03 76 04 01 0a 01 04 02");
    let p = |n: f64| Value::TypedObject { class: "P".into(), pairs: vec![("v".into(), n.into())] };
    assert_eq!(decode_all(&bytes).unwrap(), [Value::StrictArray(vec![p(1.0), p(2.0)])]);

    let mut wrapped = hex("11 0a 07 43");
    wrapped.extend(b"flex.messaging.io.ArrayCollection");
    wrapped.extend(hex("09 03 01 08 01 4278bcfe56800000"));
    assert_eq!(
        decode_all(&wrapped).unwrap(),
        [Value::StrictArray(vec![Value::Date { ms: 1.7e12, zone: 0 }])]
    );

    assert!(matches!(decode_all(&hex("11 0d 01")), Err(AmfError::Unsupported { at: 1, .. })));
    assert!(matches!(decode_all(&hex("11 06 08")), Err(AmfError::BadReference { what: "string", .. })));
    let named = hex("11 09 03 03 6b 02 01 03");
    let value = &decode_all(&named).unwrap()[0];
    assert_eq!((value.find("k"), value.find("0")), (Some(&false.into()), Some(&true.into())));
}

#[test]
fn amf3_integers_have_up_to_29_bits() {
    for len in [0usize, 0x3F, 0x40, 0x1FFF, 0x2000, 0x10_0000 - 1] {
        let value = Value::ByteArray(vec![1; len]);
        assert_eq!(decode_all(&encode_all([&value])).unwrap(), [value]);
    }
}

#[test]
fn meta_takes_what_is_flat_and_short() {
    let meta = everything().to_meta();
    let names: Vec<_> = meta.iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["n", "b", "s", ""]);
    assert_eq!(Value::from(&meta).to_meta(), meta);
}

#[test]
fn errors_name_the_place() {
    let error = decode_all(&hex("05 00 3ff0")).unwrap_err();
    assert_eq!(error, AmfError::Truncated { what: "a number", at: 2 });
    assert_eq!(error.to_string(), "AMF at byte 2: ends inside a number");
    assert_eq!(decode_all(&[0x05, 0x12]), Err(AmfError::UnknownMarker { version: 0, marker: 0x12, at: 1 }));
}

#[test]
fn mutations_and_truncations_do_not_panic() {
    let mut seed = encode_all(&[everything().find("o").unwrap().clone(), "abc".into()]);
    seed.extend(hex("11 09 05 01 0a 13 03 50 03 76 04 01 0a 01 04 02 03 0001 61 07 0000 0000 09"));
    for len in 0..seed.len() {
        let _ = decode_all(&seed[..len]);
    }
    for i in 0..seed.len() {
        for byte in 0..=255 {
            let mut bytes = seed.to_vec();
            bytes[i] = byte;
            let _ = decode_all(&bytes);
        }
    }
}

proptest! {
    #[test]
    fn noise_does_not_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        if let Ok(values) = decode_all(&bytes) {
            // What was read can be written and read again.
            let again = decode_all(&encode_all(&values)).unwrap();
            prop_assert_eq!(format!("{again:?}"), format!("{values:?}"));
        }
    }

    #[test]
    fn noise_of_few_markers_does_not_panic(bytes in prop::collection::vec(0u8..0x13, 0..400)) {
        let _ = decode_all(&bytes);
    }

    #[test]
    fn texts_come_back(text in ".{0,80}", name in ".{0,20}") {
        let value = Value::Object(vec![(name, text.into())]);
        let mut out = BytesMut::new();
        value.encode(&mut out);
        prop_assert_eq!(decode_all(&out).unwrap(), vec![value]);
    }
}
