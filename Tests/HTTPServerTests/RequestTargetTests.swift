import HTTPServer
import Testing

@Suite("A request's target")
struct RequestTargetTests {
  @Test("is split before it is decoded, so an encoded slash stays in its segment")
  func segments() throws {
    let target = try #require(RequestTarget("/api/v1/a%2Fb//c?x=1"))
    #expect(target.segments == ["api", "v1", "a/b", "c"])
  }

  @Test("has its query items in order, with plus signs as blanks")
  func query() throws {
    let target = try #require(
      RequestTarget("/p?labelSelector=app%3Dweb%2Ctier+in+%28a%29&watch&limit=500&limit=2"))
    #expect(target.value(of: "labelSelector") == "app=web,tier in (a)")
    #expect(target.value(of: "watch") == "")
    #expect(target.values(of: "limit") == ["500", "2"])
    #expect(target.value(of: "absent") == nil)
  }

  @Test(
    "is refused where it is no path, misleads or can't be decoded",
    arguments: [
      "", "http://host/", "*", "/a/../b", "/a/%2e%2e/b", "/a/./b", "/%", "/%2", "/%zz", "/%ff",
      "/?a=%",
    ])
  func refused(_ text: String) { #expect(RequestTarget(text) == nil) }
}

@Suite("Header fields")
struct HTTPFieldsTests {
  @Test("are found whatever the case of their names, and only as whole names")
  func lookUp() {
    var fields: HTTPFields = ["Content-Type": "a", "X-A": "1", "x-a": "2"]
    #expect(fields["content-type"] == "a")
    #expect(fields["content-typ"] == nil)
    #expect(fields["content@type"] == nil)
    #expect(fields.values(of: "X-a") == ["1", "2"])
    fields["X-A"] = "3"
    #expect(fields.values(of: "x-a") == ["3"])
    fields["X-A"] = nil
    #expect(!fields.contains("x-a"))
  }
}
