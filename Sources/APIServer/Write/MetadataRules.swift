import KubeAPI

/// What holds for every object's `metadata`: what the server sets, what a client may not change, and what
/// is wrong with the rest.
enum MetadataRules {
  /// Sets what only the server may set, on a new object.
  static func prepareForCreate(
    _ object: inout Value, namespace: String, uid: String, now: Timestamp
  ) {
    object["metadata"]["namespace"] = namespace.isEmpty ? .null : Value(namespace)
    object["metadata"]["uid"] = Value(uid)
    object["metadata"]["creationTimestamp"] = Value(now.description)
    for name in [
      "resourceVersion", "deletionTimestamp", "deletionGracePeriodSeconds", "selfLink",
      "managedFields", "generation",
    ] {
      object["metadata"][name] = .null
    }
  }

  /// Restores what an update can't change.
  static func prepareForUpdate(_ object: inout Value, from old: Value) {
    for name in [
      "name", "namespace", "uid", "creationTimestamp", "deletionTimestamp",
      "deletionGracePeriodSeconds", "selfLink", "generation", "generateName",
    ] {
      object["metadata"][name] = old["metadata"][name]
    }
    object["metadata"]["resourceVersion"] = .null
  }

  /// What is wrong with an object's metadata.
  static func validate(_ object: Value, of resource: ResourceDefinition) -> [FieldError] {
    let metadata = object["metadata"]
    let path = FieldPath("metadata")
    var errors: [FieldError] = []
    let name = metadata["name"].string ?? ""
    let generateName = metadata["generateName"].string ?? ""
    if !generateName.isEmpty {
      for problem in resource.strategy.nameProblems(generateName, isPrefix: true) {
        errors.append(.invalid(path.child("generateName"), .string(generateName), problem))
      }
    }
    if name.isEmpty {
      errors.append(.required(path.child("name"), "name or generateName is required"))
    } else {
      for problem in resource.strategy.nameProblems(name, isPrefix: false) {
        errors.append(.invalid(path.child("name"), .string(name), problem))
      }
    }
    if resource.isNamespaced {
      let namespace = metadata["namespace"].string ?? ""
      for problem in Names.labelProblems(namespace) {
        errors.append(.invalid(path.child("namespace"), .string(namespace), problem))
      }
    }
    errors += labels(metadata["labels"], path.child("labels"))
    errors += annotations(metadata["annotations"], path.child("annotations"))
    errors += owners(metadata["ownerReferences"], path.child("ownerReferences"))
    for (index, finalizer) in metadata["finalizers"].elements.enumerated() {
      let text = finalizer.string ?? ""
      for problem in Names.qualifiedNameProblems(text) {
        errors.append(
          .invalid(path.child("finalizers").index(index), .string(text), problem))
      }
    }
    return errors
  }

  /// What is wrong with an update of metadata, beyond what is wrong with the new metadata.
  static func validateUpdate(
    _ object: Value, from old: Value, of resource: ResourceDefinition
  ) -> [FieldError] {
    var errors = validate(object, of: resource)
    if !old["metadata"]["deletionTimestamp"].isNull {
      let before = Set(old["metadata"]["finalizers"].strings)
      let added = object["metadata"]["finalizers"].strings.filter { !before.contains($0) }
      if !added.isEmpty {
        errors.append(
          .forbidden(
            FieldPath("metadata.finalizers"),
            "no new finalizers can be added if the object is being deleted, found new finalizers "
              + "[\(added.map(quoted).joined(separator: ", "))]"))
      }
    }
    return errors
  }

  private static func labels(_ labels: Value, _ path: FieldPath) -> [FieldError] {
    var errors: [FieldError] = []
    for label in labels.members {
      for problem in Names.qualifiedNameProblems(label.key) {
        errors.append(.invalid(path, .string(label.key), problem))
      }
      let value = label.value.string ?? ""
      for problem in Names.labelValueProblems(value) {
        errors.append(.invalid(path, .string(value), problem))
      }
    }
    return errors
  }

  private static func annotations(_ annotations: Value, _ path: FieldPath) -> [FieldError] {
    var errors: [FieldError] = []
    var size = 0
    for annotation in annotations.members {
      // Annotation keys may have upper-case letters where labels' may not.
      for problem in Names.qualifiedNameProblems(annotation.key.lowercased()) {
        errors.append(.invalid(path, .string(annotation.key), problem))
      }
      size += annotation.key.utf8.count + (annotation.value.string ?? "").utf8.count
    }
    if size > Names.annotationsSize {
      errors.append(.tooLong(path, limit: Names.annotationsSize))
    }
    return errors
  }

  private static func owners(_ references: Value, _ path: FieldPath) -> [FieldError] {
    var errors: [FieldError] = []
    var controllers: [String] = []
    for (index, reference) in references.elements.enumerated() {
      for name in ["apiVersion", "kind", "name", "uid"]
      where (reference[name].string ?? "").isEmpty {
        errors.append(
          .invalid(
            path.index(index).child(name), reference[name].isNull ? "" : reference[name],
            name == "apiVersion" ? "version must not be empty" : "must not be empty"))
      }
      if reference["controller"].bool == true {
        controllers.append("\(reference["kind"].string ?? "")/\(reference["name"].string ?? "")")
      }
    }
    if controllers.count > 1 {
      errors.append(
        .invalid(
          path, references,
          "Only one reference can have Controller set to true. Found \"true\" in references for "
            + controllers.joined(separator: " and ")))
    }
    return errors
  }
}
