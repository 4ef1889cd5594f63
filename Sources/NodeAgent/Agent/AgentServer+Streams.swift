import Crypto
import HTTPServer
import KubeAPI

extension AgentServer {
  /// The newest sandbox of a pod.
  private func sandbox(namespace: String, pod: String) -> SandboxStatus? {
    runtime.pods().last { $0.podNamespace == namespace && $0.podName == pod && $0.isReady }
  }

  /// Exec and attach.
  func command(_ request: HTTPRequest, _ segments: [String]) async -> HTTPResponse {
    let name = segments[3]
    guard let sandbox = sandbox(namespace: segments[1], pod: segments[2]) else {
      return .text(404, "pod does not exist")
    }
    let container = sandbox.containers.last {
      if case .running = $0.state { $0.name == name } else { false }
    }
    guard let container else { return .text(404, "container not found (\"\(name)\")") }
    func isWanted(_ option: String) -> Bool {
      ["1", "true"].contains(request.target.value(of: option))
    }
    var wish = ExecRequest(request.target.values(of: "command"))
    wish.hasTerminal = isWanted("tty")
    wish.hasInput = isWanted("input")
    wish.hasOutput = isWanted("output")
    wish.hasError = isWanted("error") && !wish.hasTerminal
    guard wish.hasInput || wish.hasOutput || wish.hasError else {
      return .text(400, "you must specify at least 1 of stdin, stdout, stderr")
    }
    let isExec = segments[0] == "exec"
    guard !isExec || !wish.command.isEmpty else {
      return .text(400, "you must specify a command")
    }
    let upgrade: StreamUpgrade
    do {
      upgrade = try StreamUpgrade(
        request, webSocket: WebSocketCommandChannel.protocols, spdy: SPDYCommandChannel.protocols)
    } catch {
      return error.response
    }
    let runtime = runtime
    let id = container.id
    let options = wish
    return upgrade.response { stream in
      let channel: any CommandChannel
      if upgrade.isWebSocket {
        let socket = WebSocketCommandChannel(stream)
        await socket.begin(hasOutput: options.hasOutput, hasError: options.hasError)
        channel = socket
      } else {
        guard
          let spdy = await SPDYCommandChannel(
            stream, expected: Self.spdyStreams(options, upgrade.protocolName),
            protocolName: upgrade.protocolName)
        else { return }
        channel = spdy
      }
      do {
        let command: any RunningCommand =
          isExec
          ? try await runtime.execute(id, options)
          : try await runtime.attach(id, input: options.hasInput)
        await CommandBridge.run(command, channel)
      } catch {
        await channel.finish(CommandBridge.status(.failed("\(error)")))
      }
    }
  }

  /// The streams that a SPDY client opens.
  private static func spdyStreams(_ options: ExecRequest, _ protocolName: String) -> Set<String> {
    var names: Set<String> = ["error"]
    if options.hasInput { names.insert("stdin") }
    if options.hasOutput { names.insert("stdout") }
    if options.hasError { names.insert("stderr") }
    if options.hasTerminal, !protocolName.hasPrefix("v2") { names.insert("resize") }
    return names
  }

  func forward(_ request: HTTPRequest, _ segments: [String]) -> HTTPResponse {
    guard let sandbox = sandbox(namespace: segments[1], pod: segments[2]) else {
      return .text(404, "pod does not exist")
    }
    do {
      let upgrade = try StreamUpgrade(
        request, webSocket: ["SPDY/3.1+\(PortForwarder.protocolName)"],
        spdy: [PortForwarder.protocolName])
      let forwarder = PortForwarder(runtime: runtime, sandbox: sandbox)
      // Over a WebSocket the frames' bytes come in messages of any size; they are one stream all the same.
      return upgrade.response { stream in await forwarder.run(stream) }
    } catch {
      return error.response
    }
  }
}

/// The way in which a client asks to leave HTTP, and the protocol that was agreed on.
struct StreamUpgrade: Sendable {
  struct Refusal: Error {
    var response: HTTPResponse
  }

  let isWebSocket: Bool
  let protocolName: String
  /// The answer to a WebSocket's key.
  private let accept: String

  /// - Parameters:
  ///   - webSocket: subprotocols spoken here, best first.
  ///   - spdy: stream protocols spoken here over SPDY, best first.
  init(_ request: HTTPRequest, webSocket: [String], spdy: [String]) throws(Refusal) {
    func offered(_ name: String) -> [String] {
      request.fields.values(of: name).flatMap { $0.split(separator: ",") }.map {
        String($0.drop { $0 == " " }.reversed().drop { $0 == " " }.reversed())
      }
    }
    func refuse(_ status: Int, _ text: String) -> Refusal {
      Refusal(response: .text(status, text))
    }
    switch request.fields["Upgrade"]?.lowercased() {
    case "websocket":
      guard let key = request.fields["Sec-WebSocket-Key"],
        request.fields["Sec-WebSocket-Version"] == "13"
      else { throw refuse(400, "a WebSocket needs a key, and version 13") }
      let offers = offered("Sec-WebSocket-Protocol")
      guard let chosen = webSocket.first(where: offers.contains) else {
        throw refuse(
          400, "unable to upgrade: unable to negotiate protocol: client supports "
            + "\(offers), server accepts \(webSocket)")
      }
      isWebSocket = true
      protocolName = chosen
      // RFC 6455, section 4.2.2.
      let digest = Insecure.SHA1.hash(
        data: Array((key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11").utf8))
      accept = Base64.encode(Array(digest))
    case "spdy/3.1":
      let offers = offered("X-Stream-Protocol-Version")
      // Clients of the very first protocol name none; it isn't spoken any more.
      guard let chosen = offers.first(where: spdy.contains) else {
        throw refuse(
          403, "unable to upgrade: unable to negotiate protocol: client supports "
            + "\(offers), server accepts \(spdy)")
      }
      isWebSocket = false
      protocolName = chosen
      accept = ""
    default: throw refuse(400, "Upgrade request required")
    }
  }

  /// The answer that hands the connection over.
  func response(_ serve: @escaping @Sendable (ByteStream) async -> Void) -> HTTPResponse {
    var fields: HTTPFields = ["Connection": "Upgrade"]
    if isWebSocket {
      fields["Upgrade"] = "websocket"
      fields["Sec-WebSocket-Accept"] = accept
      fields["Sec-WebSocket-Protocol"] = protocolName
    } else {
      fields["Upgrade"] = "SPDY/3.1"
      fields["X-Stream-Protocol-Version"] = protocolName
    }
    return HTTPResponse(
      status: 101, fields: fields, body: .upgrade(isWebSocket ? .webSocket : .bytes, serve))
  }
}
