//! What tests of the readers share.

/// The bytes of a text of hexadecimal digits; blanks are passed over.
pub(crate) fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u32> = text.chars().filter_map(|c| c.to_digit(16)).collect();
    assert!(digits.len().is_multiple_of(2), "odd number of digits in {text}");
    digits.chunks(2).map(|d| (d[0] << 4 | d[1]) as u8).collect()
}

/// `data` cut at every length that is shorter.
pub(crate) fn truncations(data: &[u8]) -> impl Iterator<Item = &[u8]> {
    (0..data.len()).map(|len| &data[..len])
}

/// `data` with every byte changed to every value.
pub(crate) fn mutations(data: &[u8]) -> impl Iterator<Item = Vec<u8>> + '_ {
    (0..data.len()).flat_map(move |at| {
        (0..=255).map(move |value| {
            let mut data = data.to_vec();
            data[at] = value;
            data
        })
    })
}
