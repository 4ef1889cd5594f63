/// Turns objects of one kind into rows of a table, as `kubectl get` shows them.
public struct TablePrinter: Sendable {
  public struct Column: Sendable {
    public let name: String
    /// `string`, `integer` or `date`.
    public let type: String
    /// `name` marks the column that identifies the object.
    public let format: String
    /// 0 shows always, 1 with `-o wide` only.
    public let priority: Int
    public let description: String

    public init(
      _ name: String, type: String = "string", format: String = "", isWide: Bool = false,
      description: String = ""
    ) {
      self.name = name
      self.type = type
      self.format = format
      self.priority = isWide ? 1 : 0
      self.description = description
    }

    public static let name = Column(
      "Name", format: "name", description: "Name of the object, unique within its namespace.")
    public static let age = Column(
      "Age", description: "Time since the object was created.")

    var value: Value {
      [
        "name": Value(name), "type": Value(type), "format": Value(format),
        "description": Value(description), "priority": Value(priority),
      ]
    }
  }

  public let columns: [Column]
  /// The cells of one object's row, one for each column.
  public let cells: @Sendable (_ object: Value, _ now: Timestamp) -> [Value]

  public init(
    columns: [Column], cells: @escaping @Sendable (_ object: Value, _ now: Timestamp) -> [Value]
  ) {
    self.columns = columns
    self.cells = cells
  }

  /// For kinds without columns of their own.
  public static let standard = TablePrinter(columns: [
    .name, Column("Created At", type: "date", description: "When the object was created."),
  ]) { object, _ in
    [object["metadata"]["name"], object["metadata"]["creationTimestamp"]]
  }
}
