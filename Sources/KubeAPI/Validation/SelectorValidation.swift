/// What holds for label selectors in specifications.
enum SelectorValidation {
  static func validate(_ selector: Value, _ path: FieldPath) -> [FieldError] {
    var errors = MetadataValidation.validateLabels(
      selector["matchLabels"], path.child("matchLabels"))
    for (index, expression) in selector["matchExpressions"].elements.enumerated() {
      let path = path.child("matchExpressions").index(index)
      let values = expression["values"].elements
      switch expression["operator"].string {
      case "In", "NotIn":
        if values.isEmpty {
          errors.append(
            .required(
              path.child("values"), "must be specified when `operator` is 'In' or 'NotIn'"))
        }
      case "Exists", "DoesNotExist":
        if !values.isEmpty {
          errors.append(
            .forbidden(
              path.child("values"),
              "may not be specified when `operator` is 'Exists' or 'DoesNotExist'"))
        }
      default:
        errors.append(
          .invalid(
            path.child("operator"), .string(expression["operator"].string ?? ""),
            "not a valid selector operator"))
      }
      errors += Names.qualifiedNameProblems(expression["key"].string ?? "").map {
        .invalid(path.child("key"), .string(expression["key"].string ?? ""), $0)
      }
      for (index, value) in values.enumerated() {
        errors += Names.labelValueProblems(value.string ?? "").map {
          .invalid(path.child("values").index(index), value, $0)
        }
      }
    }
    return errors
  }

  /// A workload's selector and template, which must fit together.
  static func validate(
    _ spec: Value, _ path: FieldPath, kind: String
  ) -> [FieldError] {
    let selectorPath = path.child("selector")
    let templatePath = path.child("template")
    var errors: [FieldError] = []
    let selector = spec["selector"]
    if selector.isNull {
      errors.append(.required(selectorPath))
    } else {
      errors += validate(selector, selectorPath)
      if selector["matchLabels"].isEmpty, selector["matchExpressions"].isEmpty {
        errors.append(
          .invalid(
            selectorPath, goText: goText(selector), "empty selector is invalid for \(kind)"))
      }
    }
    if let parsed = try? LabelSelector(object: selector), !parsed.isEverything,
      !parsed.matches(spec["template"]["metadata"]["labels"]), !selector.isNull
    {
      errors.append(
        .invalid(
          templatePath.child("metadata", "labels"),
          goText: goMap(spec["template"]["metadata"]["labels"]),
          "`selector` does not match template `labels`"))
    }
    return errors
  }

  static func validateImmutable(_ new: Value, _ old: Value, _ path: FieldPath) -> [FieldError] {
    new == old
      ? [] : [.invalid(path, goText: goText(new), "field is immutable")]
  }

  // MARK: As Go shows them

  static func goMap(_ map: Value) -> String {
    guard case .object(let object) = map else { return "map[string]string(nil)" }
    let pairs = object.members.sorted { $0.key < $1.key }
      .map { "\(quoted($0.key)):\(quoted($0.value.string ?? ""))" }
    return "map[string]string{\(pairs.joined(separator: ", "))}"
  }

  static func goText(_ selector: Value) -> String {
    let expressions: String
    if case .array(let list) = selector["matchExpressions"] {
      let items = list.map { expression in
        let values: String
        if case .array(let elements) = expression["values"] {
          values =
            "[]string{" + elements.map { quoted($0.string ?? "") }.joined(separator: ", ")
            + "}"
        } else {
          values = "[]string(nil)"
        }
        return "v1.LabelSelectorRequirement{Key:\(quoted(expression["key"].string ?? "")), "
          + "Operator:\(quoted(expression["operator"].string ?? "")), Values:\(values)}"
      }
      expressions = "[]v1.LabelSelectorRequirement{\(items.joined(separator: ", "))}"
    } else {
      expressions = "[]v1.LabelSelectorRequirement(nil)"
    }
    return "v1.LabelSelector{MatchLabels:\(goMap(selector["matchLabels"])), "
      + "MatchExpressions:\(expressions)}"
  }
}

extension FieldError {
  /// With a value shown as Go's `%#v` shows it.
  static func invalid(_ path: FieldPath, goText: String, _ detail: String) -> FieldError {
    FieldError(type: .invalid, field: path.description, shown: goText, detail: detail)
  }
}
