//! Columns of text as Go's `tabwriter` aligns them with kubectl's settings: cells at least 6 wide, 3 spaces
//! between.

/// Lines of cells. The last cell of a line is never padded.
#[derive(Default)]
pub(crate) struct TextTable {
    widths: Vec<usize>,
}

const MIN_WIDTH: usize = 6;
const PADDING: usize = 3;

impl TextTable {
    /// The lines with their line ends. Widths of earlier calls are remembered, so that lines of a watch stay
    /// in line.
    pub(crate) fn format(&mut self, lines: &[Vec<String>]) -> String {
        for line in lines {
            for (index, cell) in line.iter().enumerate().take(line.len().saturating_sub(1)) {
                let width = (cell.chars().count() + PADDING).max(MIN_WIDTH);
                match self.widths.get_mut(index) {
                    Some(known) => *known = width.max(*known),
                    None => self.widths.push(width),
                }
            }
        }
        let mut out = String::new();
        for line in lines {
            for (index, cell) in line.iter().enumerate() {
                out.push_str(cell);
                if index + 1 < line.len() {
                    let width = self.widths.get(index).copied().unwrap_or(MIN_WIDTH);
                    let pad = width.saturating_sub(cell.chars().count());
                    out.extend(std::iter::repeat_n(' ', pad));
                }
            }
            out.push('\n');
        }
        out
    }
}

/// One table at once.
pub(crate) fn format(lines: &[Vec<String>]) -> String {
    TextTable::default().format(lines)
}
