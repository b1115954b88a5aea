//! Long texts in windows: parts that the encoder reads one by one.
//!
//! On 1,926 complaints (300 tokens on average) frozen MiniLM's ranking was 0.015 AUC better on unseen
//! narratives when all of a text was read in windows of 256 tokens than with its first 256 alone.

/// Most tokens of a window, the special ones included. What versions of format 2 were trained with.
pub const WINDOW: usize = 256;

/// Appends the windows of a tokenised text: as few as have at most `window` tokens each, of nearly
/// equal length, each between the text's own first and last token. `ends` receives where each one
/// ends in `out`. Fewer than three tokens make no window; one window is the text as it is.
pub fn windows<T: Copy>(ids: &[T], window: usize, out: &mut Vec<T>, ends: &mut Vec<usize>) {
    let [first, body @ .., last] = ids else { return };
    if body.is_empty() {
        return;
    }
    let count = body.len().div_ceil(window.saturating_sub(2).max(1));
    for piece in body.chunks(body.len().div_ceil(count)) {
        out.push(*first);
        out.extend_from_slice(piece);
        out.push(*last);
        ends.push(out.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(body: usize, window: usize) -> Vec<Vec<usize>> {
        let ids: Vec<usize> = (0..body + 2).collect();
        let (mut out, mut ends) = (Vec::new(), Vec::new());
        windows(&ids, window, &mut out, &mut ends);
        let mut start = 0;
        ends.iter().map(|end| out[std::mem::replace(&mut start, *end)..*end].to_vec()).collect()
    }

    #[test]
    fn windows_cover_a_text_in_order_within_their_bound() {
        for body in 1..200 {
            for window in [0, 3, 4, 7, 50, 300] {
                let parts = cut(body, window);
                let most = window.max(3);
                assert!(parts.iter().all(|part| (3..=most).contains(&part.len())));
                assert!(parts.iter().all(|part| part[0] == 0 && part[part.len() - 1] == body + 1));
                let read = parts.iter().flat_map(|part| &part[1..part.len() - 1]);
                assert!(read.copied().eq(1..=body), "{body} in {window}");
                assert!(parts.len() <= body.div_ceil(most - 2));
            }
        }
        assert_eq!(cut(4, 5), [[0, 1, 2, 5], [0, 3, 4, 5]], "of nearly equal length");
        assert_eq!(cut(3, 5), [[0, 1, 2, 3, 4]], "a text that fits stays whole");
        assert!(cut(0, 5).is_empty());
    }
}
