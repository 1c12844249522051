//! Elastic tab stops, the algorithm of Go's `text/tabwriter` with spaces for padding.
//!
//! A cell ends with a tab; what follows the last tab of a line belongs to no column. A column is a block of consecutive lines
//! that all have a cell there, and is as wide as its widest cell.

/// How wide columns are at least, and the space after a cell.
#[derive(Debug, Clone, Copy)]
pub struct Tabs {
    /// The smallest width of a column, padding included.
    pub min_width: usize,
    /// Spaces after the widest cell.
    pub padding: usize,
}

impl Tabs {
    /// What docker's tables use.
    pub const TABLE: Self = Self { min_width: 10, padding: 3 };

    /// Lays `text` out.
    pub fn align(self, text: &str) -> String {
        let lines: Vec<Vec<&str>> = text.split('\n').map(|l| l.split('\t').collect()).collect();
        let mut layout =
            Layout { tabs: self, lines: &lines, widths: Vec::new(), out: String::with_capacity(text.len() * 2) };
        layout.format(0, lines.len());
        layout.out.pop();
        layout.out
    }
}

struct Layout<'a> {
    tabs: Tabs,
    lines: &'a [Vec<&'a str>],
    /// The widths of the columns that enclose the one at work.
    widths: Vec<usize>,
    out: String,
}

impl Layout<'_> {
    fn format(&mut self, from: usize, to: usize) {
        let column = self.widths.len();
        let has_cell = |line: &Vec<&str>| line.len() > column + 1;
        let mut written = from;
        let mut at = from;
        while at < to {
            if !has_cell(&self.lines[at]) {
                at += 1;
                continue;
            }
            self.write(written, at);
            let block = self.lines[at..to].iter().take_while(|l| has_cell(l)).count();
            let cells = self.lines[at..at + block].iter().map(|l| display_width(l[column]) + self.tabs.padding);
            let width = cells.max().unwrap_or(0).max(self.tabs.min_width);
            self.widths.push(width);
            self.format(at, at + block);
            self.widths.pop();
            at += block;
            written = at;
        }
        self.write(written, to);
    }

    fn write(&mut self, from: usize, to: usize) {
        for line in &self.lines[from..to] {
            let last = line.len() - 1;
            for (i, cell) in line.iter().enumerate() {
                self.out.push_str(cell);
                if i < last {
                    let width = self.widths.get(i).copied().unwrap_or(0);
                    let gap = width.saturating_sub(display_width(cell));
                    self.out.extend(std::iter::repeat_n(' ', gap));
                }
            }
            self.out.push('\n');
        }
    }
}

/// Terminal columns: East Asian wide characters take two, combining ones none.
pub fn display_width(text: &str) -> usize {
    if text.is_ascii() { text.len() } else { text.chars().map(char_width).sum() }
}

/// Terminal columns of one character (Unicode's East Asian Width W and F, in ranges).
pub fn char_width(c: char) -> usize {
    match c as u32 {
        0 | 0x300..=0x36f | 0x200b..=0x200f | 0x20d0..=0x20f0 | 0xfe00..=0xfe0f | 0xfe20..=0xfe2f => 0,
        0x1100..=0x115f
        | 0x2e80..=0x303e
        | 0x3041..=0x33ff
        | 0x3400..=0x4dbf
        | 0x4e00..=0x9fff
        | 0xa000..=0xa4cf
        | 0xa960..=0xa97f
        | 0xac00..=0xd7a3
        | 0xf900..=0xfaff
        | 0xfe30..=0xfe6f
        | 0xff00..=0xff60
        | 0xffe0..=0xffe6
        | 0x1f300..=0x1f64f
        | 0x1f900..=0x1f9ff
        | 0x20000..=0x3fffd => 2,
        _ => 1,
    }
}

/// The first characters that fit into `width` columns.
pub fn take_width(text: &str, width: usize) -> &str {
    let mut used = 0;
    for (i, c) in text.char_indices() {
        used += char_width(c);
        if used > width {
            return &text[..i];
        }
    }
    text
}

/// Cut to `width` columns, with `…` as the last when something is cut (docker's `Ellipsis`).
pub fn ellipsis(text: &str, width: usize) -> String {
    if width == 0 {
        return String::new();
    }
    let count = text.chars().count();
    if width == 1 && count > 0 {
        return take_width(text, 1).to_owned();
    }
    if display_width(text) <= width {
        return text.to_owned();
    }
    format!("{}…", take_width(text, width - 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_padded() {
        assert_eq!(Tabs::TABLE.align("NAME\tA\nlonger-name\tb\n"), "NAME          A\nlonger-name   b\n");
        assert_eq!(Tabs::TABLE.align("A\tB\tC\n1\t2\t3\n"), "A         B         C\n1         2         3\n");
        assert_eq!(Tabs::TABLE.align("no tabs\n"), "no tabs\n");
        assert_eq!(Tabs::TABLE.align(""), "");
    }

    #[test]
    fn a_line_without_a_cell_ends_the_column() {
        assert_eq!(Tabs { min_width: 0, padding: 1 }.align("a\tb\nx\nlonger\tc\n"), "a b\nx\nlonger c\n");
        assert_eq!(Tabs { min_width: 0, padding: 1 }.align("a\tbbb\tc\nd\te\n"), "a bbb c\nd e\n");
    }

    #[test]
    fn wide_characters_take_two() {
        assert_eq!(Tabs::TABLE.align("나루나루나루\tb\n1234\tc\n"), "나루나루나루   b\n1234           c\n");
        assert_eq!(ellipsis("나루나루", 5), "나루…");
        assert_eq!(ellipsis("abc", 3), "abc");
        assert_eq!(ellipsis("abcd", 3), "ab…");
    }

    proptest::proptest! {
        #[test]
        fn any_text_keeps_its_lines(text in "[a\t\n가]{0,60}") {
            let out = Tabs::TABLE.align(&text);
            proptest::prop_assert_eq!(out.matches('\n').count(), text.matches('\n').count());
        }
    }
}
