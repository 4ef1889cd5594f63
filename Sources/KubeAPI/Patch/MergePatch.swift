/// JSON merge patch (RFC 7386): objects merge member by member, null removes, the rest replaces.
public enum MergePatch {
  /// - Throws: 400 if the patch is not an object.
  public static func apply(_ patch: Value, to original: Value) throws(PatchError) -> Value {
    guard case .object = patch else { throw .malformed("Invalid JSON Patch") }
    var result = original
    merge(patch, into: &result)
    return result
  }

  private static func merge(_ patch: Value, into target: inout Value) {
    guard case .object(let members) = patch else {
      target = patch
      return
    }
    var object: Value.Object
    if case .object(let own) = target { object = own } else { object = Value.Object() }
    target = .null
    for member in members.members {
      if member.value.isNull {
        object.remove(member.key)
      } else {
        var value = object.find(member.key) ?? .null
        object.set(member.key, to: .null)
        merge(member.value, into: &value)
        object.set(member.key, to: value)
      }
    }
    target = .object(object)
  }
}
