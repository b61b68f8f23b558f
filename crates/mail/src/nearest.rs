//! The known word that somebody probably meant.

/// The known word nearest to `word`, if one is near enough to be meant.
#[must_use]
pub fn nearest<'a>(word: &str, known: &[&'a str]) -> Option<&'a str> {
    let far = 1 + word.chars().count() / 3;
    let distances = known.iter().map(|candidate| (distance(word, candidate), *candidate));
    distances.filter(|(distance, _)| *distance <= far).min().map(|(_, candidate)| candidate)
}

/// How many letters must be added, removed, changed or swapped with their neighbour.
fn distance(one: &str, other: &str) -> usize {
    let one: Vec<char> = one.to_lowercase().chars().collect();
    let other: Vec<char> = other.to_lowercase().chars().collect();
    let mut rows: Vec<Vec<usize>> = vec![vec![0; other.len() + 1]; one.len() + 1];
    for (row, cells) in rows.iter_mut().enumerate() {
        cells[0] = row;
    }
    for (column, cell) in rows[0].iter_mut().enumerate() {
        *cell = column;
    }
    for row in 1..=one.len() {
        for column in 1..=other.len() {
            let change = rows[row - 1][column - 1] + usize::from(one[row - 1] != other[column - 1]);
            let mut best = change.min(rows[row - 1][column] + 1).min(rows[row][column - 1] + 1);
            let swapped = row > 1 && column > 1 && one[row - 1] == other[column - 2] && one[row - 2] == other[column - 1];
            if swapped {
                best = best.min(rows[row - 2][column - 2] + 1);
            }
            rows[row][column] = best;
        }
    }
    rows[one.len()][other.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_finger_finds_the_word_that_was_meant() {
        let known = ["hostname", "data_dir", "queue.min_free", "queue.max_age"];
        assert_eq!(nearest("hostnmae", &known), Some("hostname"));
        assert_eq!(nearest("queue.minfree", &known), Some("queue.min_free"));
        assert_eq!(nearest("Data_Dir", &known), Some("data_dir"));
    }

    #[test]
    fn a_word_that_is_like_nothing_known_finds_nothing() {
        assert_eq!(nearest("transport", &["hostname", "data_dir"]), None);
        assert_eq!(nearest("x", &[]), None);
    }
}
