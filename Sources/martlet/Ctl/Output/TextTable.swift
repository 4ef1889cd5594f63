/// A table in the form that etcdctl prints: titles in capitals in the middle, values on the right.
struct TextTable {
  var titles: [String]
  var rows: [[String]]

  var text: String {
    let titles = titles.map { $0.uppercased() }
    let widths = titles.indices.map { column in
      ([titles[column].count] + rows.map { $0[column].count }).max() ?? 0
    }
    let line = "+" + widths.map { String(repeating: "-", count: $0 + 2) + "+" }.joined()
    func row(_ cells: [String], centred: Bool) -> String {
      "|"
        + zip(cells, widths).map { cell, width in
          let space = width - cell.count
          let before = centred ? space / 2 : space
          return " " + String(repeating: " ", count: before) + cell
            + String(repeating: " ", count: space - before) + " |"
        }.joined()
    }
    let body = rows.map { row($0, centred: false) }
    return ([line, row(titles, centred: true), line] + body + (rows.isEmpty ? [] : [line]))
      .joined(separator: "\n")
  }

  /// One line a row, values parted by commas.
  var lines: [String] { rows.map { $0.joined(separator: ", ") } }
}
