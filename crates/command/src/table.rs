//! A table as people read it, or as a script does. Pure.

/// What a cell without a value shows.
pub(crate) const NOTHING: &str = "-";

/// Columns with a head.
#[derive(Clone, Debug)]
pub(crate) struct Table {
    heads: Vec<&'static str>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// An empty one.
    pub(crate) fn new(heads: &[&'static str]) -> Self {
        Self { heads: heads.to_vec(), rows: Vec::new() }
    }

    /// A further row.
    pub(crate) fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells.into_iter().map(|cell| if cell.is_empty() { NOTHING.to_owned() } else { cell }).collect());
    }

    /// For people: as wide as what is in it.
    pub(crate) fn pretty(&self) -> String {
        let width = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
            cells.chain(self.heads.get(column).map(|head| head.len())).max().unwrap_or_default()
        };
        let widths: Vec<usize> = (0..self.heads.len()).map(width).collect();
        let heads: Vec<String> = self.heads.iter().map(|head| (*head).to_owned()).collect();
        let mut out = String::new();
        for row in std::iter::once(&heads).chain(&self.rows) {
            let cells: Vec<String> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
            out.push_str(cells.join("  ").trim_end());
            out.push('\n');
        }
        out
    }

    /// For scripts: tabs between cells, which have none themselves.
    pub(crate) fn tsv(&self) -> String {
        let heads = self.heads.iter().map(|head| head.to_lowercase().replace(' ', "_")).collect::<Vec<_>>().join("\t");
        let rows = self.rows.iter().map(|row| row.iter().map(|cell| cell.replace(['\t', '\n'], " ")).collect::<Vec<_>>().join("\t"));
        std::iter::once(heads).chain(rows).map(|line| line + "\n").collect()
    }
}

/// The beginning of a text that may be long, for a cell that people read.
pub(crate) fn shortened(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    text.chars().take(most.saturating_sub(1)).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_what_is_in_them_and_empty_cells_are_seen() {
        let mut table = Table::new(&["NODE", "FAIL COUNT"]);
        table.row(vec!["a-long-name".into(), String::new()]);
        table.row(vec!["b".into(), "2\t3".into()]);
        assert_eq!(table.pretty(), "NODE         FAIL COUNT\na-long-name  -\nb            2\t3\n");
        assert_eq!(table.tsv(), "node\tfail_count\na-long-name\t-\nb\t2 3\n");
    }

    #[test]
    fn a_long_text_is_cut_and_says_so() {
        assert_eq!((shortened("abc", 3).as_str(), shortened("äbcd", 3).as_str()), ("abc", "äb…"));
    }
}
