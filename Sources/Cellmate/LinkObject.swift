import CCellmate
import CommandOptions
import IVShmem
import LinuxRuntime
import SiemensDialect
import VirtioTransport

/// What the caller wants of a link that has been joined.
enum LinkWish {
  /// What a specification says.
  case specification(LinkSpecification)
  /// The peer and the placement of a platform of the caller's.
  case callbacks(peer: PeerID, Placement?)
  /// A socket for a VMM instead of an ivshmem link.
  case vhostUser(path: String)
}

/// A link that was joined, before it becomes something: how it is spoken is decided then.
struct LinkObject: HandleObject, ~Copyable {
  static var kind: HandleKind { .link }
  let memory: ObjectMemory
  let side: LinkSide
  let wish: LinkWish
  /// `nil` for a socket, which has no shared memory of its own.
  private var platform: LibraryPlatform?
  let facts: LinkFacts?
  /// Whether an earlier process has joined the link.
  let isAdopted: Bool

  /// Of a link that was joined.
  @inline(never)
  static func make(
    _ platform: consuming LibraryPlatform, _ side: LinkSide, _ wish: LinkWish,
    isAdopted: Bool = false
  ) throws(FaceError) -> OpaquePointer {
    let memory = try ObjectMemory(MemoryLayout<LinkObject>.stride)
    let facts = LinkFacts(platform)
    return unsafe try open(
      LinkObject(
        memory: memory, side: side, wish: wish, platform: platform, facts: facts,
        isAdopted: isAdopted))
  }

  /// Of a socket: for a VMM, or of a back-end.
  @inline(never)
  static func make(socket path: String, _ side: LinkSide) throws(FaceError) -> OpaquePointer {
    let memory = try ObjectMemory(MemoryLayout<LinkObject>.stride)
    return unsafe try open(
      LinkObject(
        memory: memory, side: side, wish: .vhostUser(path: path), platform: nil, facts: nil,
        isAdopted: false))
  }

  /// The platform, for what the link becomes; there is one.
  consuming func takePlatform() -> LibraryPlatform {
    guard let platform else { preconditionFailure("a socket becomes no native link") }
    return platform
  }

  /// Signalled to end a wait; -1 for a socket.
  var wakeDescriptor: Int32 {
    switch platform {
    case .some(let platform): platform.wakeDescriptor
    case .none: -1
    }
  }

  /// Calls `body` with the platform of a link, as its owner; a socket has none.
  @inline(never)
  static func raw(
    _ link: OpaquePointer?, _ body: (inout LibraryPlatform) throws(FaceError) -> cellmate_result
  ) -> cellmate_result {
    unsafe with(link) { object throws(FaceError) in
      guard object.platform != nil else { return Code.order }
      return try body(&object.platform!)
    }
  }

  /// How the link is named in messages.
  @inline(never)
  var name: String {
    switch wish {
    case .specification(let specification): specification.name
    case .callbacks: "given by callbacks"
    case .vhostUser(let path): path
    }
  }

  /// Who speaks about the link.
  @inline(never)
  var voice: LinkVoice {
    if case .vhostUser(let path) = wish { return LinkVoice("vhost-user \(path)") }
    return LinkVoice("link \(name)")
  }

  /// How the link is spoken: as asked for, or as it shows itself.
  func chooseDialect() throws(UsageError) -> Dialect {
    guard case .specification(let specification) = wish, let facts else { return .native }
    if let asked = specification.dialect { return asked }
    return try recogniseDialect(
      facts.region, facts.geometry, own: facts.peerID, deviceClass: facts.deviceClass,
      specification, side)
  }

  /// The link in the native dialect; nothing is used up when this throws.
  ///
  /// - Throws: one line that says what of the link does not fit.
  func nativePlan() throws(UsageError) -> LinkPlan {
    guard let facts else {
      throw UsageError("vhost-user \(name): expected an ivshmem link, not a socket")
    }
    switch wish {
    case .specification(let specification):
      return try Self.plan(
        side, facts.peerID, specification.partner(side, own: facts.peerID), facts.geometry,
        specification.placement, name)
    case .callbacks(let peer, let placement):
      return try Self.plan(side, facts.peerID, peer, facts.geometry, placement, name)
    case .vhostUser: preconditionFailure("a socket has no platform")
    }
  }

  /// The link in the Siemens dialect, for a front-end.
  ///
  /// - Throws: one line that says what of the link does not fit.
  func siemensPlan() throws(UsageError) -> SiemensPlan {
    guard let facts else {
      throw UsageError("vhost-user \(name): expected an ivshmem link, not a socket")
    }
    return try planSiemens(
      name, own: facts.peerID, facts.geometry, configurationSize: 4096 - SiemensHeader.configuration
    )
  }

  static func plan(
    _ side: LinkSide, _ own: PeerID, _ peer: PeerID, _ geometry: LinkGeometry,
    _ placement: Placement?, _ name: String
  ) throws(UsageError) -> LinkPlan {
    do throws(LinkPlanError) {
      return try LinkPlan(
        side: side, own: own, peer: peer, geometry: geometry, placement: placement)
    } catch { throw explain(error, link: name) }
  }

  /// Uses a link up as a native one of `side`; the handle stays when this is not possible.
  static func useUp(
    _ link: OpaquePointer?, _ side: LinkSide, _ error: UnsafeMutablePointer<cellmate_error>?,
    _ make: (consuming NativeLink<LibraryPlatform>) throws(FaceError) -> Void
  ) -> cellmate_result {
    var plan: LinkPlan?
    let seen = unsafe LinkObject.with(link) { object throws(FaceError) in
      try require(object.side == side, Code.order)
      do throws(UsageError) {
        plan = try object.nativePlan()
      } catch let usage { throw FaceError(unsafe report(usage, error)) }
      return Code.ok
    }
    guard seen == Code.ok, let plan else { return seen }
    return unsafe LinkObject.close(link) { object throws(FaceError) in
      try make(NativeLink(platform: object.takePlatform(), plan: plan))
    }
  }
}
