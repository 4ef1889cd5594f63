/// What holds for the metadata of every object.
enum MetadataValidation {
  static func validate(_ object: Value, resource: ResourceDefinition) -> [FieldError] {
    let metadata = object["metadata"]
    let path = FieldPath("metadata")
    var errors: [FieldError] = []
    let prefix = metadata["generateName"].string ?? ""
    if !prefix.isEmpty {
      errors += resource.strategy.nameProblems(prefix, isPrefix: true).map {
        .invalid(path.child("generateName"), metadata["generateName"], $0)
      }
    }
    let name = metadata["name"].string ?? ""
    if name.isEmpty {
      errors.append(.required(path.child("name"), "name or generateName is required"))
    } else {
      errors += resource.strategy.nameProblems(name, isPrefix: false).map {
        .invalid(path.child("name"), metadata["name"], $0)
      }
    }
    let namespace = metadata["namespace"].string ?? ""
    if resource.isNamespaced {
      if namespace.isEmpty {
        errors.append(.required(path.child("namespace")))
      } else {
        errors += Names.labelProblems(namespace).map {
          .invalid(path.child("namespace"), metadata["namespace"], $0)
        }
      }
    } else if !namespace.isEmpty {
      errors.append(.forbidden(path.child("namespace"), "not allowed on this type"))
    }
    errors += validateLabels(metadata["labels"], path.child("labels"))
    errors += validateAnnotations(metadata["annotations"], path.child("annotations"))
    errors += validateOwners(metadata["ownerReferences"], path.child("ownerReferences"))
    errors += validateFinalizers(metadata["finalizers"], path.child("finalizers"))
    return errors
  }

  static func validateLabels(_ labels: Value, _ path: FieldPath) -> [FieldError] {
    var errors: [FieldError] = []
    for label in labels.members {
      errors += Names.qualifiedNameProblems(label.key).map {
        .invalid(path, .string(label.key), $0)
      }
      errors += Names.labelValueProblems(label.value.string ?? "").map {
        .invalid(path, label.value, $0)
      }
    }
    return errors
  }

  static func validateAnnotations(_ annotations: Value, _ path: FieldPath) -> [FieldError] {
    var errors: [FieldError] = []
    var size = 0
    for annotation in annotations.members {
      errors += Names.qualifiedNameProblems(annotation.key.lowercased()).map {
        .invalid(path, .string(annotation.key), $0)
      }
      size += annotation.key.utf8.count + (annotation.value.string?.utf8.count ?? 0)
    }
    if size > Names.annotationsSize {
      errors.append(.tooLong(path, limit: Names.annotationsSize))
    }
    return errors
  }

  private static func validateOwners(_ owners: Value, _ path: FieldPath) -> [FieldError] {
    var errors: [FieldError] = []
    var controller: Value?
    for (index, owner) in owners.elements.enumerated() {
      let path = path.index(index)
      if GroupVersion(apiVersion: owner["apiVersion"].string ?? "") == nil {
        errors.append(
          .invalid(path.child("apiVersion"), owner["apiVersion"], "version must not be empty"))
      }
      for key in ["kind", "name", "uid"] where owner[key].isEmpty {
        errors.append(.invalid(path.child(key), owner[key], "must not be empty"))
      }
      guard owner["controller"] == true else { continue }
      if let first = controller {
        func show(_ owner: Value) -> String {
          "\(owner["kind"].string ?? "")/\(owner["name"].string ?? "")"
        }
        errors.append(
          .invalid(
            path.parent, owners,
            "Only one reference can have Controller set to true. Found \"true\" in references for "
              + "\(show(first)) and \(show(owner))"))
      } else {
        controller = owner
      }
    }
    return errors
  }

  /// Finalizers that need no domain in front.
  private static let standardFinalizers: Set<String> = [
    "kubernetes", "orphan", "foregroundDeletion",
  ]

  private static func validateFinalizers(_ finalizers: Value, _ path: FieldPath) -> [FieldError] {
    var errors: [FieldError] = []
    for finalizer in finalizers.elements {
      let name = finalizer.string ?? ""
      let problems = Names.qualifiedNameProblems(name)
      errors += problems.map { .invalid(path, finalizer, $0) }
      if problems.isEmpty, !name.contains("/"), !standardFinalizers.contains(name) {
        errors.append(
          .invalid(
            path, finalizer,
            "name is neither a standard finalizer name nor is it fully qualified"))
      }
    }
    if finalizers.strings.contains("orphan"), finalizers.strings.contains("foregroundDeletion") {
      errors.append(
        .invalid(
          path, finalizers,
          "finalizer orphan and foregroundDeletion cannot be both set"))
    }
    return errors
  }

  static func validateUpdate(_ object: Value, from old: Value) -> [FieldError] {
    let new = object["metadata"]
    let before = old["metadata"]
    let path = FieldPath("metadata")
    var errors: [FieldError] = []
    if !before["deletionTimestamp"].isNull {
      let extra = new["finalizers"].strings.filter { !before["finalizers"].strings.contains($0) }
      if !extra.isEmpty {
        let shown = extra.sorted().map(quoted).joined(separator: ", ")
        errors.append(
          .forbidden(
            path.child("finalizers"),
            "no new finalizers can be added if the object is being deleted, found new finalizers "
              + "[]string{\(shown)}"))
      }
    }
    for key in ["name", "namespace", "uid", "creationTimestamp"] where new[key] != before[key] {
      errors.append(.invalid(path.child(key), new[key], "field is immutable"))
    }
    return errors
  }
}

extension FieldPath {
  /// The path without its last step.
  var parent: FieldPath {
    guard let end = description.lastIndex(where: { $0 == "." || $0 == "[" }) else { return .root }
    return FieldPath(String(description[..<end]))
  }
}
