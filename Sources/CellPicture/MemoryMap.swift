public import CellFormat
import Drawing

/// The physical memory map of several cells as a picture.
public enum MemoryMap {
  /// An SVG document: one column a cell, in the order given, and before the columns of a system
  /// one for what belongs to the hypervisor.
  ///
  /// Self-contained: no fonts, scripts or images from elsewhere. Cells may be configurations of
  /// anything that decodes; nothing in them makes this fail.
  /// - Parameter cells: name, as it shall be shown, and content of each file.
  public static func svg(cells: [(name: String, file: ConfigurationFile)]) -> String {
    var columns: [MapColumn] = []
    for cell in cells {
      columns += MapColumn.columns(
        name: Wording.line(cell.name), file: cell.file, first: columns.count)
    }
    let meetings = MapConflicts(columns: columns).meetings()
    var drawing = MapDrawing(layout: MapLayout(columns), meetings: meetings)
    return drawing.draw()
  }
}
