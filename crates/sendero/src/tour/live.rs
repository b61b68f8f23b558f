//! Lines on a terminal that are drawn again in place.

use std::io::stdout;

/// Rows and columns of a terminal that says nothing about itself.
const USUAL: (usize, usize) = (24, 80);

/// Rows and columns of a terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Size {
    rows: usize,
    columns: usize,
}

impl Size {
    /// Of the terminal that standard output is.
    pub(super) fn of_terminal() -> Self {
        let told = rustix::termios::tcgetwinsize(stdout()).map_or((0, 0), |size| (size.ws_row.into(), size.ws_col.into()));
        Self::told(told)
    }

    /// As a terminal tells it: zero where it does not know.
    fn told((rows, columns): (usize, usize)) -> Self {
        let known = |told: usize, usual| if told == 0 { usual } else { told };
        Self { rows: known(rows, USUAL.0), columns: known(columns, USUAL.1) }
    }

    /// How many lines can be drawn in place: the cursor stands under the last one, and must reach the first.
    pub(super) fn room(self) -> usize {
        self.rows.saturating_sub(1).max(1)
    }
}

/// What was drawn last.
#[derive(Debug, Default)]
pub(super) struct Live {
    drawn: usize,
}

impl Live {
    /// What to write so that `lines` stand where the last ones did.
    ///
    /// Each takes one row: one that wrapped would take two, and the next picture would stand on the wrong rows.
    pub(super) fn draw(&mut self, lines: &[String], size: Size) -> String {
        let mut picture = String::new();
        if self.drawn > 0 {
            picture.push_str(&format!("\x1b[{}A\x1b[J", self.drawn));
        }
        let lines = &lines[..lines.len().min(size.room())];
        for line in lines {
            picture.extend(line.chars().take(size.columns.saturating_sub(1)));
            picture.push('\n');
        }
        self.drawn = lines.len();
        picture
    }

    /// What was drawn stays; the next picture stands below it.
    pub(super) fn leave(&mut self) {
        self.drawn = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(count: usize, length: usize) -> Vec<String> {
        vec!["x".repeat(length); count]
    }

    #[test]
    fn a_picture_is_drawn_over_the_last_one_whatever_their_lengths() {
        let (mut live, size) = (Live::default(), Size::told((24, 80)));
        let first = live.draw(&lines(2, 200), size);
        assert_eq!(first, format!("{0}\n{0}\n", "x".repeat(79)), "no line wraps");
        assert!(live.draw(&lines(3, 5), size).starts_with("\x1b[2A\x1b[J"), "as many rows up as were drawn");
        live.leave();
        assert!(live.draw(&lines(1, 5), size).starts_with('x'));
    }

    #[test]
    fn a_picture_is_never_taller_than_the_terminal() {
        let (mut live, size) = (Live::default(), Size::told((5, 80)));
        assert_eq!(live.draw(&lines(40, 5), size).lines().count(), 4);
        assert!(live.draw(&[], size).starts_with("\x1b[4A"));
    }

    #[test]
    fn a_terminal_without_a_size_is_taken_as_usual() {
        assert_eq!(Size::told((0, 0)), Size { rows: 24, columns: 80 });
    }
}
