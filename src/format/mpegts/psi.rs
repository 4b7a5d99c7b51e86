//! Program specific information (ISO/IEC 13818-1 2.4.4): the tables that say what is on which PID.

use bytes::BufMut;

/// The longest section of a PAT or PMT (2.4.4.3: a `section_length` of at most 1021).
pub(super) const MAX_SECTION: usize = 1024;

const PAT: u8 = 0;
const PMT: u8 = 2;

/// The CRC of annex A: polynomial 0x04C11DB7, most significant bit first. Over a section with its CRC it is 0.
fn crc32(data: &[u8]) -> u32 {
    const TABLE: [u32; 256] = {
        let mut table = [0; 256];
        let mut i = 0;
        while i < 256 {
            let mut crc = (i as u32) << 24;
            let mut bit = 0;
            while bit < 8 {
                crc = if crc >> 31 == 1 { crc << 1 ^ 0x04C1_1DB7 } else { crc << 1 };
                bit += 1;
            }
            #[allow(clippy::indexing_slicing)] // evaluated by the compiler
            {
                table[i] = crc;
            }
            i += 1;
        }
        table
    };
    data.iter().fold(u32::MAX, |crc, &byte| {
        let index = usize::from((crc >> 24) as u8 ^ byte);
        crc << 8 ^ TABLE.get(index).copied().unwrap_or(0)
    })
}

/// A PAT with one program.
pub(super) fn pat(version: u8, program: u16, pmt_pid: u16) -> Vec<u8> {
    let mut body = Vec::new();
    body.put_u16(program);
    body.put_u16(0xE000 | pmt_pid);
    section(PAT, 1, version, &body)
}

/// One elementary stream in a PMT.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entry<'a> {
    pub(super) stream_type: u8,
    pub(super) pid: u16,
    pub(super) descriptors: &'a [u8],
}

/// A PMT without program descriptors.
pub(super) fn pmt(version: u8, program: u16, pcr_pid: u16, entries: &[Entry<'_>]) -> Vec<u8> {
    let mut body = Vec::new();
    body.put_u16(0xE000 | pcr_pid);
    body.put_u16(0xF000);
    for entry in entries {
        body.put_u8(entry.stream_type);
        body.put_u16(0xE000 | entry.pid);
        body.put_u16(0xF000 | len12(entry.descriptors));
        body.extend_from_slice(entry.descriptors);
    }
    section(PMT, program, version, &body)
}

/// A section in force, the only one of its table.
pub(super) fn section(table: u8, id: u16, version: u8, body: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(12 + body.len());
    out.put_u8(table);
    out.put_u16(0xB000 | len12(body).saturating_add(9));
    out.put_u16(id);
    out.put_u8(0xC1 | version << 1);
    out.put_u16(0); // section 0 of 0
    out.extend_from_slice(body);
    out.put_u32(crc32(&out));
    out
}

fn len12(bytes: &[u8]) -> u16 {
    u16::try_from(bytes.len()).unwrap_or(0xFFF).min(0xFFF)
}

/// Puts the sections of one PID together.
#[derive(Debug, Default)]
pub(super) struct Sections {
    /// At most [`MAX_SECTION`] and a packet.
    buf: Vec<u8>,
    /// Whether the begin of the section in `buf` was seen.
    begun: bool,
}

impl Sections {
    /// Forgets the section that was begun: packets of it are missing.
    pub(super) fn lost(&mut self) {
        self.begun = false;
        self.buf.clear();
    }

    /// Takes a packet's payload; calls `whole` with each section that it completes.
    pub(super) fn push(&mut self, start: bool, payload: &[u8], whole: &mut dyn FnMut(&[u8])) {
        if !start {
            self.append(payload, whole);
            return;
        }
        let Some((&pointer, rest)) = payload.split_first() else { return };
        let Some((end, begin)) = rest.split_at_checked(usize::from(pointer)) else {
            return self.lost();
        };
        self.append(end, whole);
        self.lost();
        self.begun = true;
        self.append(begin, whole);
    }

    fn append(&mut self, bytes: &[u8], whole: &mut dyn FnMut(&[u8])) {
        if !self.begun {
            return;
        }
        self.buf.extend_from_slice(bytes);
        while let Some((&[table, high, low], _)) = self.buf.split_first_chunk::<3>() {
            let len = 3 + usize::from(u16::from_be_bytes([high, low]) & 0xFFF);
            // Stuffing up to the end of the packet, or what can't be a table of ours.
            if table == 0xFF || len > MAX_SECTION {
                return self.lost();
            }
            let Some(section) = self.buf.get(..len) else { return };
            whole(section);
            self.buf.drain(..len);
        }
    }
}

/// A section of a PAT or PMT that is in force and whose CRC is right.
#[derive(Debug)]
pub(super) enum Table<'a> {
    Pat(Pat<'a>),
    Pmt(Pmt<'a>),
}

/// Why a section is of no use.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Unusable {
    /// The CRC is wrong, or a length leads out of the section.
    Damaged,
    /// Another table, or one that is not in force yet.
    Other,
}

/// A section of a PAT.
#[derive(Debug)]
pub(super) struct Pat<'a> {
    programs: &'a [u8],
    /// Whether the table has no other section.
    pub(super) alone: bool,
}

impl Pat<'_> {
    /// Numbers and PMT PIDs, without the network PID.
    pub(super) fn programs(&self) -> impl Iterator<Item = (u16, u16)> {
        self.programs.chunks_exact(4).filter_map(|entry| {
            let (&[a, b, c, d], _) = entry.split_first_chunk()?;
            let number = u16::from_be_bytes([a, b]);
            (number != 0).then_some((number, u16::from_be_bytes([c, d]) & 0x1FFF))
        })
    }
}

/// A PMT; it always is one section.
#[derive(Debug)]
pub(super) struct Pmt<'a> {
    pub(super) program: u16,
    /// Tells one table from the next, also where an encoder forgets to count versions up.
    pub(super) crc: u32,
    /// Descriptors of the whole program.
    pub(super) descriptors: &'a [u8],
    entries: &'a [u8],
}

impl<'a> Pmt<'a> {
    /// The elementary streams, up to the first that is cut off.
    pub(super) fn entries(&self) -> impl Iterator<Item = Entry<'a>> {
        let mut rest = self.entries;
        std::iter::from_fn(move || {
            let (&[stream_type, a, b, c, d], after) = rest.split_first_chunk()?;
            let pid = u16::from_be_bytes([a, b]) & 0x1FFF;
            let len = usize::from(u16::from_be_bytes([c, d]) & 0xFFF);
            let (descriptors, after) = after.split_at_checked(len)?;
            rest = after;
            Some(Entry { stream_type, pid, descriptors })
        })
    }
}

impl<'a> Table<'a> {
    /// Reads a whole section.
    pub(super) fn parse(data: &'a [u8]) -> Result<Self, Unusable> {
        let damaged = Unusable::Damaged;
        let (&[table, flags, _, id_high, id_low, version, _, last], rest) =
            data.split_first_chunk().ok_or(damaged)?;
        // section_syntax_indicator, current_next_indicator
        if !matches!(table, PAT | PMT) || flags & 0x80 == 0 || version & 1 == 0 {
            return Err(Unusable::Other);
        }
        let (body, crc) = rest.split_last_chunk::<4>().ok_or(Unusable::Damaged)?;
        if crc32(data) != 0 {
            return Err(Unusable::Damaged);
        }
        if table == PAT {
            return Ok(Self::Pat(Pat { programs: body, alone: last == 0 }));
        }
        let (&[_, _, a, b], body) = body.split_first_chunk().ok_or(Unusable::Damaged)?;
        let len = usize::from(u16::from_be_bytes([a, b]) & 0xFFF);
        let (descriptors, entries) = body.split_at_checked(len).ok_or(Unusable::Damaged)?;
        let program = u16::from_be_bytes([id_high, id_low]);
        Ok(Self::Pmt(Pmt { program, crc: u32::from_be_bytes(*crc), descriptors, entries }))
    }
}

/// Tags and contents of descriptors (2.6), up to the first that is cut off.
pub(super) fn descriptors(data: &[u8]) -> impl Iterator<Item = (u8, &[u8])> {
    let mut rest = data;
    std::iter::from_fn(move || {
        let (&[tag, len], after) = rest.split_first_chunk()?;
        let (body, after) = after.split_at_checked(usize::from(len))?;
        rest = after;
        Some((tag, body))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_read_back() {
        let section = pat(3, 1, 0x1000);
        // As in every stream whose only program 1 has its PMT on 0x1000, but for version and CRC.
        assert_eq!(section[..12], [0, 0xB0, 13, 0, 1, 0xC7, 0, 0, 0, 1, 0xF0, 0]);
        let Table::Pat(pat) = Table::parse(&section).unwrap() else { panic!() };
        assert_eq!(pat.programs().collect::<Vec<_>>(), [(1, 0x1000)]);

        let entries = [
            Entry { stream_type: 0x1B, pid: 0x100, descriptors: &[] },
            Entry {
                stream_type: 6,
                pid: 0x101,
                descriptors: &[5, 4, b'O', b'p', b'u', b's', 0x7F, 2, 0x80, 2],
            },
        ];
        let section = pmt(0, 7, 0x100, &entries);
        let Table::Pmt(pmt) = Table::parse(&section).unwrap() else { panic!() };
        let back: Vec<_> = pmt.entries().collect();
        assert_eq!((pmt.program, back.len(), back[1].pid), (7, 2, 0x101));
        assert_eq!(
            descriptors(back[1].descriptors).collect::<Vec<_>>(),
            [(5, &b"Opus"[..]), (0x7F, &[0x80, 2])]
        );
        for at in 0..section.len() {
            let mut damaged = section.clone();
            damaged[at] ^= 0x10;
            assert!(Table::parse(&damaged).is_err());
            assert!(Table::parse(&section[..at]).is_err());
        }
    }

    #[test]
    fn a_known_crc() {
        // The PAT that ffmpeg writes.
        let section = [0, 0xB0, 0x0D, 0, 1, 0xC1, 0, 0, 0, 1, 0xF0, 0, 0x2A, 0xB1, 0x04, 0xB2];
        assert_eq!(crc32(&section), 0);
        assert_eq!(pat(0, 1, 0x1000), section);
    }

    #[test]
    fn sections_come_in_any_cut() {
        let long = section(2, 1, 0, &[0xE1, 0, 0xF0, 0].into_iter().chain([7; 400]).collect::<Vec<_>>());
        let short = pat(0, 1, 0x1000);
        let both = [&long[..], &short].concat();
        for size in 1..=both.len() {
            let mut sections = Sections::default();
            let mut got = Vec::new();
            for (n, part) in both.chunks(size).enumerate() {
                let first = [&[0], part].concat();
                sections.push(n == 0, if n == 0 { &first } else { part }, &mut |s| got.push(s.to_vec()));
            }
            assert_eq!(got, [long.clone(), short.clone()]);
        }
    }

    #[test]
    fn the_pointer_ends_one_section_and_begins_the_next() {
        let table = pat(0, 1, 0x1000);
        let mut sections = Sections::default();
        let mut got = 0;
        let mut push = |sections: &mut Sections, start, data: &[u8]| {
            sections.push(start, data, &mut |s| {
                assert_eq!(s, table);
                got += 1;
            });
        };
        push(&mut sections, false, &table); // before any start
        push(&mut sections, true, &[&[0], &table[..5]].concat());
        push(&mut sections, true, &[&[11], &table[5..], &table, &[0xFF, 0xFF]].concat());
        push(&mut sections, false, &table); // stuffing came before
        push(&mut sections, true, &[9, 1, 2]); // a pointer out of the packet
        push(&mut sections, false, &table);
        assert_eq!(got, 2);
    }
}
