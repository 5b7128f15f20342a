//! Reading bytes that somebody else wrote: nothing is taken that is not there. Pure.

/// What is left to be read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bytes<'a>(pub(super) &'a [u8]);

impl<'a> Bytes<'a> {
    pub(super) fn is_empty(self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    /// A number of so many bytes, the lowest first; at most 8.
    pub(super) fn number(&mut self, length: usize) -> Option<u64> {
        let mut whole = [0; 8];
        whole.get_mut(..length)?.copy_from_slice(self.take(length)?);
        Some(u64::from_le_bytes(whole))
    }

    pub(super) fn byte(&mut self) -> Option<u8> {
        Some(*self.take(1)?.first()?)
    }

    pub(super) fn length(&mut self, bytes: usize) -> Option<usize> {
        usize::try_from(self.number(bytes)?).ok()
    }

    /// A number of the protocol's: one byte, or a mark and 2, 3 or 8 bytes.
    pub(super) fn packed(&mut self) -> Option<usize> {
        match self.byte()? {
            small @ 0..=250 => Some(usize::from(small)),
            252 => self.length(2),
            253 => self.length(3),
            254 => self.length(8),
            _ => None,
        }
    }
}

/// A number as the protocol packs it.
pub(super) fn packed(number: usize) -> Vec<u8> {
    let bytes = (number as u64).to_le_bytes();
    match number {
        0..=250 => vec![bytes[0]],
        251..=0xffff => [&[252], &bytes[..2]].concat(),
        0x1_0000..=0xff_ffff => [&[253], &bytes[..3]].concat(),
        _ => [&[254], &bytes[..]].concat(),
    }
}
