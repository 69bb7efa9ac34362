//! Codes of quantised matrices in the orders in which files have them, brought into rows.

use std::borrow::Cow;

/// How the codes of a matrix `[n, k]` lie in their tensor. Words are little-endian, 32 bits, the first code lowest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CodeOrder {
    /// 4 bits: words of eight along k, `[n, ceil(k / 8)]`.
    Words,
    /// 8 bits: `[n, k]`, each minus 128.
    Bytes,
    /// 8 bits: words of four along k, `[n, ceil(k / 4)]`.
    ByteWords,
    /// Words along k, `[k / 8, n]`, or of 8 bits `[k / 4, n]`.
    Gptq,
    /// 4 bits: words of eight along n, `[k, n / 8]`, in the order of [`AWQ_PLACES`].
    Awq,
}

/// In which bits of a word of AWQ, counted in fours, each of eight outputs is.
pub(crate) const AWQ_PLACES: [u32; 8] = [0, 4, 1, 5, 2, 6, 3, 7];

/// Outputs brought into rows at a time: the words of a cache line.
const LINE: usize = 16;

/// The codes of a matrix of `n` rows of `k`, row after row, as [`CodeOrder::Words`] or [`CodeOrder::Bytes`] have them.
pub(crate) fn in_rows(codes: &[u8], order: CodeOrder, bits: u8, [n, k]: [usize; 2]) -> Cow<'_, [u8]> {
    match order {
        CodeOrder::Words | CodeOrder::Bytes => Cow::Borrowed(codes),
        CodeOrder::ByteWords => {
            let rows = codes.chunks_exact((k.div_ceil(4) * 4).max(1));
            Cow::Owned(rows.flat_map(|row| row[..k].iter().map(|code| code ^ 0x80)).collect())
        }
        CodeOrder::Gptq => {
            let mut rows = vec![0; codes.len()];
            let flip = if bits == 8 { 0x8080_8080 } else { 0 };
            turn(words(codes), n, &mut rows, flip);
            Cow::Owned(rows)
        }
        CodeOrder::Awq => {
            let mut rows = vec![0; n * k.div_ceil(8) * 4];
            turn_awq(words(codes), [n, k], &mut rows);
            Cow::Owned(rows)
        }
    }
}

fn words(codes: &[u8]) -> &[[u8; 4]] {
    codes.as_chunks::<4>().0
}

/// `[words, n]` to `[n, words]`, with the bits of `flip` turned.
fn turn(from: &[[u8; 4]], n: usize, to: &mut [u8], flip: u32) {
    let to = to.as_chunks_mut::<4>().0;
    let words = from.len() / n.max(1);
    for first in (0..n).step_by(LINE) {
        let rows = first..(first + LINE).min(n);
        for (word, line) in from.chunks_exact(n).enumerate() {
            for row in rows.clone() {
                to[row * words + word] = (u32::from_le_bytes(line[row]) ^ flip).to_le_bytes();
            }
        }
    }
}

/// `[k, n / 8]` words along n to `[n, k / 8]` words along k; `n` is a multiple of 8.
fn turn_awq(from: &[[u8; 4]], [n, k]: [usize; 2], to: &mut [u8]) {
    let to = to.as_chunks_mut::<4>().0;
    let (columns, words) = (n / 8, k.div_ceil(8));
    for first in (0..columns).step_by(LINE) {
        let line = first..(first + LINE).min(columns);
        for (word, steps) in from.chunks(8 * columns.max(1)).enumerate() {
            for column in line.clone() {
                let mut outputs = [0u32; 8];
                for (step, from) in steps.chunks_exact(columns).enumerate() {
                    let codes = u32::from_le_bytes(from[column]);
                    for (output, place) in outputs.iter_mut().zip(AWQ_PLACES) {
                        *output |= (codes >> (4 * place) & 15) << (4 * step);
                    }
                }
                for (i, output) in outputs.into_iter().enumerate() {
                    to[(column * 8 + i) * words + word] = output.to_le_bytes();
                }
            }
        }
    }
}

/// Rows of `k` codes with their columns in `order`.
pub(crate) fn reorder(rows: &[u8], bits: u8, k: usize, order: &[u32]) -> Vec<u8> {
    let bytes = if bits == 8 { k } else { k.div_ceil(8) * 4 };
    let mut to = vec![0; rows.len()];
    for (from, to) in rows.chunks_exact(bytes.max(1)).zip(to.chunks_exact_mut(bytes.max(1))) {
        if bits == 8 {
            to.iter_mut().zip(order).for_each(|(to, &input)| *to = from[input as usize]);
            continue;
        }
        let code = |input: &u32| from[*input as usize / 2] >> (input % 2 * 4) & 15;
        for (to, pair) in to.iter_mut().zip(order.chunks(2)) {
            *to = code(&pair[0]) | pair.get(1).map_or(0, code) << 4;
        }
    }
    to
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A code of every row and column.
    fn code(row: usize, column: usize, bits: u8) -> u8 {
        ((row * 7 + column * 3 + row * column) % (1 << bits)) as u8
    }

    /// Words of codes of `bits`, the first lowest.
    fn pack(codes: impl Iterator<Item = u8>, bits: u8) -> [u8; 4] {
        let word =
            codes.zip(0..).fold(0u32, |word, (code, i)| word | u32::from(code) << (i * u32::from(bits)));
        word.to_le_bytes()
    }

    fn expected(n: usize, k: usize, bits: u8) -> Vec<u8> {
        match bits {
            8 => (0..n).flat_map(|row| (0..k).map(move |column| code(row, column, 8) ^ 0x80)).collect(),
            _ => (0..n)
                .flat_map(|row| {
                    (0..k / 8).flat_map(move |w| pack((0..8).map(|i| code(row, 8 * w + i, 4)), 4))
                })
                .collect(),
        }
    }

    #[test]
    fn every_order_becomes_rows() {
        for (n, k) in [(8, 8), (40, 24), (136, 64)] {
            for bits in [4, 8] {
                let per = 32 / usize::from(bits);
                let word = |w: usize, row: usize| pack((0..per).map(|i| code(row, per * w + i, bits)), bits);
                let gptq: Vec<u8> =
                    (0..k / per).flat_map(|w| (0..n).flat_map(move |row| word(w, row))).collect();
                let rows = in_rows(&gptq, CodeOrder::Gptq, bits, [n, k]);
                assert_eq!(*rows, expected(n, k, bits), "GPTQ, {bits} bits");
            }
            // As the tool that writes AWQ says it: output 8 c + ORDER[i] is in bits 4 i.
            const ORDER: [usize; 8] = [0, 2, 4, 6, 1, 3, 5, 7];
            let word = |step: usize, c: usize| pack(ORDER.map(|i| code(8 * c + i, step, 4)).into_iter(), 4);
            let awq: Vec<u8> = (0..k).flat_map(|step| (0..n / 8).flat_map(move |c| word(step, c))).collect();
            assert_eq!(*in_rows(&awq, CodeOrder::Awq, 4, [n, k]), expected(n, k, 4), "AWQ");
        }
        let words = [[1, 2, 3, 4], [5, 0, 0, 0], [6, 7, 8, 9], [10, 0, 0, 0]].concat();
        let bytes = in_rows(&words, CodeOrder::ByteWords, 8, [2, 5]);
        assert_eq!(*bytes, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10].map(|code: u8| code ^ 0x80));
    }

    #[test]
    fn columns_are_reordered() {
        let order = [2, 0, 4, 1, 3];
        assert_eq!(reorder(&[1, 2, 3, 4, 5, 6, 7, 8, 9, 10], 8, 5, &order), [3, 1, 5, 2, 4, 8, 6, 10, 7, 9]);
        assert_eq!(reorder(&[0x21, 0x43, 0x05, 0], 4, 5, &order), [0x13, 0x25, 0x04, 0]);
    }
}
