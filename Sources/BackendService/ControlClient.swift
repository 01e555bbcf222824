import CLinux
import CService
import LinuxSupport

/// What a client of the control socket wants.
struct ControlRequest: Equatable {
  enum Verb: Equatable {
    case status
    case metrics
    case reload
    case stop
    case help
    /// The carrier, up or down, of the network device with this address.
    case carrier(StationAddress, isUp: Bool)
    /// What a link's memory is like; the link's name, empty for the only one.
    case link(String)
    /// Where the rings of a link lie; the link's name, empty for the only one.
    case rings(String)
    /// Bytes of a link's memory: offset, count, the link's name.
    case look(Int, Int, String)
    /// Not understood; the reason.
    case wrong(String)
  }

  enum Form: Equatable {
    /// One line of JSON.
    case json
    /// Lines for people, the last one `# EOF`.
    case text
    /// An HTTP response, after which the connection ends.
    case http
  }

  var verb: Verb
  var form: Form
  /// The status line of an HTTP answer.
  var httpStatus = "200 OK"
}

/// One connection to the control socket. Nothing here waits: what a client does not send or take
/// in time ends its connection.
final class ControlClient {
  /// Bytes of one command line.
  static var lineLimit: Int { 1024 }
  /// Bytes of the head of an HTTP request.
  static var headLimit: Int { 8192 }
  /// How long a client may do nothing, in nanoseconds.
  static var patience: UInt64 { 10_000_000_000 }

  /// Owned by this object.
  let socket: Int32
  /// Tells this client from others before and after it.
  let id: Int
  /// When the connection ends if nothing moves.
  private(set) var deadline: UInt64
  private var input: [UInt8] = []
  private var output: [UInt8] = []
  private var written = 0
  private var hasInputEnded = false
  private var endsAfterOutput = false
  private(set) var isBroken = false
  /// A request whose answer is being made.
  var pending: ControlRequest?
  /// Whether epoll knows the socket.
  var isWatched = false

  init(_ socket: consuming Descriptor, id: Int, now: UInt64) {
    self.socket = socket.release()
    self.id = id
    deadline = now + Self.patience
  }

  deinit { cl_close(socket) }

  /// Whether there is nothing left to do for this client.
  var isDone: Bool {
    isBroken
      || (output.isEmpty && pending == nil
        && (endsAfterOutput || (hasInputEnded && !hasBacklog)))
  }

  /// Whether a request that was received waits for its turn.
  var hasBacklog: Bool {
    output.isEmpty && pending == nil && !endsAfterOutput && input.contains(10)
      && !(hasInputEnded && looksLikeHTTP)
  }

  var wantsInput: Bool {
    !hasInputEnded && !endsAfterOutput && output.isEmpty && pending == nil
  }
  var wantsOutput: Bool { !output.isEmpty }

  /// Takes what is there, at most one buffer, and gives the next whole request.
  func receive(now: UInt64) -> ControlRequest? {
    guard wantsInput else { return nextRequest() }
    var buffer = InlineArray<2048, UInt8>(repeating: 0)
    var span = buffer.mutableSpan
    let number = socket
    let count = unsafe span.withUnsafeMutableBytes { bytes in
      guard let base = bytes.baseAddress else { return 0 }
      return unsafe cs_read(number, base, bytes.count)
    }
    if count > 0 {
      deadline = now + Self.patience
      for index in 0..<count { input.append(buffer[index]) }
    } else if count == 0 {
      hasInputEnded = true
    } else if count != -Int(SystemError.tryAgain), count != -Int(SystemError.interrupted) {
      isBroken = true
    }
    return nextRequest()
  }

  /// The next whole request of what was received, if any.
  func nextRequest() -> ControlRequest? {
    guard output.isEmpty, pending == nil, !endsAfterOutput else { return nil }
    guard let end = input.firstIndex(of: 10) else {
      guard input.count <= Self.headLimit, !(input.count > Self.lineLimit && !looksLikeHTTP)
      else { return refuse("a line is longer than \(Self.lineLimit) bytes") }
      return nil
    }
    var line = Array(input[..<end])
    if line.last == 13 { line.removeLast() }
    if Self.isHTTP(line) { return nextHTTPRequest(line) }
    guard line.count <= Self.lineLimit else {
      return refuse("a line is longer than \(Self.lineLimit) bytes")
    }
    input.removeSubrange(...end)
    return Self.parse(line)
  }

  private var looksLikeHTTP: Bool { input.starts(with: Array("GET /".utf8)) }

  private func refuse(_ reason: String) -> ControlRequest {
    input.removeAll()
    endsAfterOutput = true
    return ControlRequest(verb: .wrong(reason), form: .json)
  }

  private static func isHTTP(_ line: [UInt8]) -> Bool {
    line.count > 9 && line[(line.count - 9)...].starts(with: Array(" HTTP/1.".utf8))
  }

  /// An HTTP request is whole after an empty line; nothing of its fields matters here.
  private func nextHTTPRequest(_ line: [UInt8]) -> ControlRequest? {
    var previous: UInt8 = 0
    var isWhole = false
    for byte in input where byte != 13 {
      if byte == 10, previous == 10 {
        isWhole = true
        break
      }
      previous = byte
    }
    guard isWhole else {
      guard input.count > Self.headLimit else { return nil }
      _ = refuse("")
      return ControlRequest(
        verb: .wrong("the head is longer than \(Self.headLimit) bytes"), form: .http,
        httpStatus: "431 Request Header Fields Too Large")
    }
    input.removeAll()
    endsAfterOutput = true
    let words = line.split(separator: 32).map { Array($0) }
    guard words.count == 3 else {
      return ControlRequest(
        verb: .wrong("not a request line"), form: .http, httpStatus: "400 Bad Request")
    }
    guard words[0] == Array("GET".utf8) else {
      return ControlRequest(
        verb: .wrong("only GET is served"), form: .http, httpStatus: "405 Method Not Allowed")
    }
    if words[1] == Array("/metrics".utf8) { return ControlRequest(verb: .metrics, form: .http) }
    if words[1] == Array("/status".utf8) { return ControlRequest(verb: .status, form: .http) }
    return ControlRequest(
      verb: .wrong("known are: /metrics, /status"), form: .http, httpStatus: "404 Not Found")
  }

  /// A command line: a verb, and `text` for an answer that people read.
  static func parse(_ line: [UInt8]) -> ControlRequest {
    if let request = parseLook(line) { return request }
    let words = line.split(separator: 32).map { Array($0) }
    let form: ControlRequest.Form =
      words.count == 2 && words[1] == Array("text".utf8) ? .text : .json
    let known: [(String, ControlRequest.Verb)] = [
      ("status", .status), ("metrics", .metrics), ("reload", .reload), ("stop", .stop),
      ("help", .help),
    ]
    if let request = carrierRequest(words) { return request }
    guard words.count == (form == .text ? 2 : 1),
      let found = known.first(where: { Array($0.0.utf8) == words[0] })
    else {
      return ControlRequest(
        verb: .wrong(
          "unknown command; known are: status, metrics, reload, stop, carrier, link, rings,"
            + " look, help"),
        form: .json)
    }
    return ControlRequest(verb: found.1, form: form)
  }

  /// `carrier up|down ADDRESS`, which is about one network device.
  private static func carrierRequest(_ words: [[UInt8]]) -> ControlRequest? {
    guard words.first == Array("carrier".utf8) else { return nil }
    let form: ControlRequest.Form =
      words.count == 4 && words[3] == Array("text".utf8) ? .text : .json
    let isUp = words.count > 1 && words[1] == Array("up".utf8)
    guard words.count == (form == .text ? 4 : 3), isUp || words[1] == Array("down".utf8),
      let address = StationAddress(String(decoding: words[2], as: UTF8.self))
    else {
      return ControlRequest(verb: .wrong("expected: carrier up|down ADDRESS"), form: form)
    }
    return ControlRequest(verb: .carrier(address, isUp: isUp), form: form)
  }

  /// `link [NAME]` and `look OFFSET COUNT [NAME]`; a name is the rest of the line.
  private static func parseLook(_ line: [UInt8]) -> ControlRequest? {
    let text = String(decoding: line, as: UTF8.self)
    if text == "link" || text.hasPrefix("link ") {
      return ControlRequest(verb: .link(String(text.dropFirst(5))), form: .json)
    }
    if text == "rings" || text.hasPrefix("rings ") {
      return ControlRequest(verb: .rings(String(text.dropFirst(6))), form: .json)
    }
    guard text.hasPrefix("look ") else { return nil }
    let words = text.dropFirst(5).split(
      separator: " ", maxSplits: 2, omittingEmptySubsequences: false)
    guard words.count >= 2, let offset = Int(words[0]), let count = Int(words[1]) else {
      return ControlRequest(
        verb: .wrong("expected: look OFFSET COUNT [LINK], in decimal"), form: .json)
    }
    return ControlRequest(
      verb: .look(offset, count, words.count == 3 ? String(words[2]) : ""), form: .json)
  }

  /// Queues an answer.
  func answer(_ text: String, now: UInt64) {
    pending = nil
    deadline = now + Self.patience
    output = Array(text.utf8)
    written = 0
  }

  /// Sends what the socket takes now.
  func send(now: UInt64) {
    guard !output.isEmpty else { return }
    let number = socket
    let start = written
    let count = unsafe output.withUnsafeBytes { bytes in
      guard let base = bytes.baseAddress else { return 0 }
      return unsafe cs_write(number, base + start, bytes.count - start)
    }
    if count > 0 {
      deadline = now + Self.patience
      written += count
      if written == output.count {
        output = []
        written = 0
      }
    } else if count != -Int(SystemError.tryAgain), count != -Int(SystemError.interrupted) {
      isBroken = true
    }
  }
}
