import Crypto
import Foundation
import MVCC
import Primitives
import _CryptoExtras

/// Signs and checks JSON Web Tokens that name a user and the auth revision at which it logged in.
///
/// Sources: RFC 7515, RFC 7518, RFC 7519; the claims are etcd's: `username`, `revision`, `exp`.
public struct JSONWebTokens: Sendable {
  private enum Method: String {
    case HS256, HS384, HS512
    case RS256, RS384, RS512, PS256, PS384, PS512
    case ES256, ES384, ES512
    case EdDSA
  }
  private enum Key: Sendable {
    case secret(SymmetricKey)
    case rsa(private: _RSA.Signing.PrivateKey?, public: _RSA.Signing.PublicKey)
    case p256(private: P256.Signing.PrivateKey?, public: P256.Signing.PublicKey)
    case p384(private: P384.Signing.PrivateKey?, public: P384.Signing.PublicKey)
    case p521(private: P521.Signing.PrivateKey?, public: P521.Signing.PublicKey)
    case ed25519(private: Curve25519.Signing.PrivateKey?, public: Curve25519.Signing.PublicKey)
  }
  private let method: Method
  private let key: Key
  private let lifetime: TimeInterval

  /// - Throws: ``AuthTokenError`` for options or files that make no key.
  init(options: [String: String]) throws {
    guard let name = options["sign-method"] else {
      throw AuthTokenError("--auth-token jwt needs a sign-method, such as sign-method=RS256")
    }
    guard let method = Method(rawValue: name) else {
      throw AuthTokenError("--auth-token: '\(name)' is no known sign-method")
    }
    self.method = method
    let ttl = options["ttl"] ?? "5m"
    guard let duration = GoDuration.parse(ttl), duration > .zero else {
      throw AuthTokenError("--auth-token: ttl=\(ttl) is no duration such as 10m")
    }
    lifetime = TimeInterval(duration.components.seconds)
    func read(_ option: String) throws -> Data? {
      guard let path = options[option] else { return nil }
      guard let data = FileManager.default.contents(atPath: path) else {
        throw AuthTokenError("--auth-token: \(option) \(path) can't be read")
      }
      return data
    }
    let privateFile = try read("priv-key")
    let publicFile = try read("pub-key")
    guard privateFile != nil || publicFile != nil else {
      throw AuthTokenError("--auth-token jwt needs a priv-key, or a pub-key to check tokens only")
    }
    do { key = try Self.makeKey(method, privateFile, publicFile) } catch let error as AuthTokenError {
      throw error
    } catch {
      throw AuthTokenError("--auth-token: the key files hold no key for \(name): \(error)")
    }
  }

  private static func makeKey(_ method: Method, _ secret: Data?, _ open: Data?) throws -> Key {
    func text(_ data: Data) -> String { String(decoding: data, as: UTF8.self) }
    switch method {
    case .HS256, .HS384, .HS512:
      guard let secret, !secret.isEmpty else {
        throw AuthTokenError("--auth-token: \(method.rawValue) needs a priv-key that isn't empty")
      }
      return .secret(SymmetricKey(data: secret))
    case .RS256, .RS384, .RS512, .PS256, .PS384, .PS512:
      let own = try secret.map { try _RSA.Signing.PrivateKey(pemRepresentation: text($0)) }
      let shown = try open.map { try _RSA.Signing.PublicKey(pemRepresentation: text($0)) }
      return .rsa(private: own, public: shown ?? own!.publicKey)
    case .ES256:
      let own = try secret.map { try P256.Signing.PrivateKey(pemRepresentation: text($0)) }
      let shown = try open.map { try P256.Signing.PublicKey(pemRepresentation: text($0)) }
      return .p256(private: own, public: shown ?? own!.publicKey)
    case .ES384:
      let own = try secret.map { try P384.Signing.PrivateKey(pemRepresentation: text($0)) }
      let shown = try open.map { try P384.Signing.PublicKey(pemRepresentation: text($0)) }
      return .p384(private: own, public: shown ?? own!.publicKey)
    case .ES512:
      let own = try secret.map { try P521.Signing.PrivateKey(pemRepresentation: text($0)) }
      let shown = try open.map { try P521.Signing.PublicKey(pemRepresentation: text($0)) }
      return .p521(private: own, public: shown ?? own!.publicKey)
    case .EdDSA:
      // The key's 32 bytes are the last ones of its PKCS #8 or SubjectPublicKeyInfo form (RFC 8410).
      func raw(_ data: Data) throws -> Data {
        let body = text(data).split(separator: "\n").filter { !$0.hasPrefix("-----") }.joined()
        guard let der = Data(base64Encoded: body), der.count >= 32 else {
          throw AuthTokenError("--auth-token: not a PEM file of an Ed25519 key")
        }
        return der.suffix(32)
      }
      let own = try secret.map { try Curve25519.Signing.PrivateKey(rawRepresentation: raw($0)) }
      let shown = try open.map { try Curve25519.Signing.PublicKey(rawRepresentation: raw($0)) }
      return .ed25519(private: own, public: shown ?? own!.publicKey)
    }
  }

  // MARK: Tokens

  /// A token for a user; nil if only a public key was given.
  func sign(user: [UInt8], revision: UInt64, now: Date) -> [UInt8]? {
    let claims: [String: Any] = [
      "username": String(decoding: user, as: UTF8.self), "revision": revision,
      "exp": Int(now.timeIntervalSince1970 + lifetime),
    ]
    guard let payload = try? JSONSerialization.data(withJSONObject: claims, options: [.sortedKeys])
    else { return nil }
    let head = "{\"alg\":\"\(method.rawValue)\",\"typ\":\"JWT\"}"
    let signed = Self.encode(Data(head.utf8)) + "." + Self.encode(payload)
    guard let signature = try? signature(of: Data(signed.utf8)) else { return nil }
    return Array((signed + "." + Self.encode(signature)).utf8)
  }

  /// Whom a token names, and until when it is good; nil for one that wasn't signed here or has expired.
  func verify(_ token: [UInt8], now: Date) -> (caller: AuthCaller, expires: Date)? {
    let parts = token.split(separator: UInt8(ascii: "."), omittingEmptySubsequences: false)
    guard parts.count == 3, let head = Self.object(parts[0]),
      // The algorithm is ours to choose, never the token's.
      head["alg"] as? String == method.rawValue,
      let signature = Self.decode(parts[2])
    else { return nil }
    let signed = Data(token[..<parts[1].endIndex])
    guard isValid(signature, for: signed), let claims = Self.object(parts[1]),
      let user = claims["username"] as? String, let revision = claims["revision"] as? NSNumber,
      let expires = claims["exp"] as? NSNumber,
      user.utf8.count <= Limits.maximumUserNameBytes
    else { return nil }
    let end = Date(timeIntervalSince1970: expires.doubleValue)
    guard end > now else { return nil }
    return (AuthCaller(user: Array(user.utf8), revision: revision.uint64Value), end)
  }

  // MARK: Signatures

  private func signature(of data: Data) throws -> Data {
    switch key {
    case .secret(let secret): return Data(code(of: data, secret))
    case .rsa(let key, _):
      guard let key else { throw AuthTokenError("no private key") }
      return try rsaDigest(data) { try key.signature(for: $0, padding: padding) }.rawRepresentation
    case .p256(let key, _): return try need(key).signature(for: data).rawRepresentation
    case .p384(let key, _): return try need(key).signature(for: data).rawRepresentation
    case .p521(let key, _): return try need(key).signature(for: data).rawRepresentation
    case .ed25519(let key, _): return try need(key).signature(for: data)
    }
  }

  private func isValid(_ signature: Data, for data: Data) -> Bool {
    switch key {
    case .secret(let secret):
      let expected = code(of: data, secret)
      guard expected.count == signature.count else { return false }
      return zip(expected, signature).reduce(0) { $0 | ($1.0 ^ $1.1) } == 0
    case .rsa(_, let key):
      let signature = _RSA.Signing.RSASignature(rawRepresentation: signature)
      return rsaDigest(data) { key.isValidSignature(signature, for: $0, padding: padding) }
    case .p256(_, let key):
      guard let signature = try? P256.Signing.ECDSASignature(rawRepresentation: signature) else {
        return false
      }
      return key.isValidSignature(signature, for: data)
    case .p384(_, let key):
      guard let signature = try? P384.Signing.ECDSASignature(rawRepresentation: signature) else {
        return false
      }
      return key.isValidSignature(signature, for: data)
    case .p521(_, let key):
      guard let signature = try? P521.Signing.ECDSASignature(rawRepresentation: signature) else {
        return false
      }
      return key.isValidSignature(signature, for: data)
    case .ed25519(_, let key): return key.isValidSignature(signature, for: data)
    }
  }

  private func need<PrivateKey>(_ key: PrivateKey?) throws -> PrivateKey {
    guard let key else { throw AuthTokenError("no private key") }
    return key
  }

  private var padding: _RSA.Signing.Padding {
    switch method {
    case .PS256, .PS384, .PS512: .PSS
    default: .insecurePKCS1v1_5
    }
  }

  private func rsaDigest<Result>(
    _ data: Data, _ body: (any Digest) throws -> Result
  ) rethrows -> Result {
    switch method {
    case .RS384, .PS384: try body(SHA384.hash(data: data))
    case .RS512, .PS512: try body(SHA512.hash(data: data))
    default: try body(SHA256.hash(data: data))
    }
  }

  private func code(of data: Data, _ secret: SymmetricKey) -> [UInt8] {
    switch method {
    case .HS384: Array(HMAC<SHA384>.authenticationCode(for: data, using: secret))
    case .HS512: Array(HMAC<SHA512>.authenticationCode(for: data, using: secret))
    default: Array(HMAC<SHA256>.authenticationCode(for: data, using: secret))
    }
  }

  // MARK: Base 64 for URLs

  private static func encode(_ data: Data) -> String {
    data.base64EncodedString().replacing("+", with: "-").replacing("/", with: "_")
      .replacing("=", with: "")
  }

  private static func decode(_ text: some Sequence<UInt8>) -> Data? {
    var standard = String(decoding: Array(text), as: UTF8.self)
      .replacing("-", with: "+").replacing("_", with: "/")
    while standard.utf8.count % 4 != 0 { standard += "=" }
    return Data(base64Encoded: standard)
  }

  private static func object(_ part: some Sequence<UInt8>) -> [String: Any]? {
    guard let data = decode(part) else { return nil }
    return (try? JSONSerialization.jsonObject(with: data)) as? [String: Any]
  }
}
