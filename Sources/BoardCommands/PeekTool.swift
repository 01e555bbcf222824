import CommandOptions
import LinkFormat
import LinuxPCI
import LinuxSupport
import ToolSupport

/// `ivshmem peek LINK`: what lies in a link's registers and memory, decoded.
struct PeekTool {
  static var page: HelpPage {
    HelpPage(
      name: "peek", usage: "peek LINK [PART ...] [--control PATH] [--bytes AT,COUNT] [--json]",
      summary: "Decodes the registers and the memory of a link: sections, devices, rings",
      details: """
        LINK is sim:PATH or a PCI address, with ',placement=', ',peer=' (back-end), ',other=' and
        ',dialect=' where they are not the usual ones. PART is one or more of
        registers, sections, sides, devices, rings; without one, all are shown.
        It looks as 'state' does, opens no node and changes nothing; what it finds may be torn
        while the sides work. Nothing it finds is believed: what makes no sense is said.
        Where rings lie only the back-end knows (--control), or --ring says it; the header of the
        Siemens dialect shows the selected queue.
        """,
      options: [
        LinkTarget.optionControl,
        OptionSpecification("bytes", "AT,COUNT", "bytes from an offset into the shared memory"),
        OptionSpecification("ring", "SIZE,D,A,U", "a ring: size, offsets of its three parts"),
        BoardOptions.json, BoardOptions.root, BoardOptions.help,
      ],
      keys: [
        ("link, source", "the link, and who was asked"),
        ("registers", "id, maxPeers, interruptControl, state; null where only the owner sees them"),
        ("sections[]", "name, offset, size; of outputs also peer"),
        ("dialect, placement", "native or siemens; shared, output or null"),
        ("sides[]", "side, peer, state, meaning; native: block, version, epoch, echo, status,"),
        ("", "reason, poolOffset, poolSize, translationBase"),
        ("devices[]", "slot, type, name, status, queues, generation, request, acknowledgement,"),
        ("", "operation, offset, value, result, toDevice[], toDriver[], configuration"),
        ("header", "the fields of the Siemens header by name, or null"),
        ("rings[]", "slot, queue, size, availableIndex, usedIndex, inFlight, flags, problem,"),
        (
          "",
          "chains[]: position, head, problem, descriptors[]: index, address, count, flags, next,"
        ),
        ("", "inside; or null where their places are unknown"),
        ("bytes", "--bytes: hexadecimal"),
      ])
  }

  private static var parts: [String] { ["registers", "sections", "sides", "devices", "rings"] }
  private let given: CommandOptions
  private let target: LinkTarget
  private let wanted: [String]
  private let bytes: (at: Int, count: Int)?
  private let ring: RingPlace?

  init(_ given: CommandOptions) throws(ClientError) {
    target = try LinkTarget(given, "peek")
    self.given = given
    let words = Array(given.arguments.dropFirst())
    for word in words where !Self.parts.contains(word) {
      throw .usage(
        UsageError("peek \(word): known are \(Self.parts.joined(separator: ", "))"))
    }
    wanted = words.isEmpty ? Self.parts : words
    if let text = given.value("bytes") {
      let numbers = Self.numbers(text)
      guard numbers.count == 2, numbers[0] <= UInt64(Int.max), (1...65536).contains(numbers[1])
      else { throw .usage(UsageError("--bytes \(text): expected OFFSET,COUNT, at most 65536")) }
      bytes = (Int(numbers[0]), Int(numbers[1]))
    } else {
      bytes = nil
    }
    if let text = given.value("ring") {
      let numbers = Self.numbers(text)
      guard numbers.count == 4, numbers[0] <= 32768 else {
        throw .usage(
          UsageError("--ring \(text): expected SIZE,DESCRIPTORS,AVAILABLE,USED, offsets in bytes"))
      }
      ring = RingPlace(
        slot: -1, queue: -1, size: UInt32(numbers[0]), descriptors: numbers[1],
        available: numbers[2], used: numbers[3])
    } else {
      ring = nil
    }
  }

  private static func numbers(_ text: String) -> [UInt64] {
    let parts = text.split(separator: ",", omittingEmptySubsequences: false)
    let numbers = parts.compactMap { parseByteCount($0) }
    return numbers.count == parts.count ? numbers : []
  }

  func run() throws(ClientError) -> Int32 {
    let view = try LinkView.open(target, given)
    if let bytes {
      try show(bytes.at, bytes.count, view)
      return 0
    }
    let picture = try LinkPicture(view, target.specification)
    let rings = wanted.contains("rings") ? try self.rings(view, picture) : nil
    writeOutput(
      given.has("json")
        ? json(view, picture, rings) + "\n" : text(view, picture, rings))
    return 0
  }

  // MARK: Bytes

  private func show(
    _ at: Int, _ count: Int, _ view: borrowing LinkView
  ) throws(ClientError) {
    let found = try view.anyBytes(at, count)
    guard found.count == count else {
      throw .usage(
        UsageError("--bytes: the link's memory has \(view.geometry.totalSize) bytes"))
    }
    if given.has("json") {
      var object = JSONObject()
      object.add("link", target.name)
      object.add("offset", number: at)
      object.add("bytes", hexBytes(found))
      return writeOutput(object.text + "\n")
    }
    var text = ""
    for start in stride(from: 0, to: count, by: 16) {
      let line = Array(found[start..<min(count, start + 16)])
      let shown = line.map { (32..<127).contains($0) ? $0 : 46 }
      let hex = line.map { hexText($0, width: 2) }.joined(separator: " ")
      let padding = String(repeating: " ", count: 48 - hex.utf8.count)
      text += "\(hexText(at + start, width: 8))  \(hex)\(padding) "
      text += String(decoding: shown, as: UTF8.self) + "\n"
    }
    writeOutput(text)
  }

  // MARK: Rings

  struct Ring {
    let place: RingPlace
    let picture: RingPicture
  }

  /// The rings whose places are known; `nil` when none is.
  private func rings(
    _ view: borrowing LinkView, _ picture: LinkPicture
  ) throws(ClientError) -> [Ring]? {
    if let ring { return [try Self.ring(ring, 0, 0, view)] }
    guard picture.siemens != nil || view.ringPlaces != nil else { return nil }
    return try Self.rings(view, picture)
  }

  /// The rings that the link itself or its owner tells of.
  static func rings(
    _ view: borrowing LinkView, _ picture: LinkPicture
  ) throws(ClientError) -> [Ring] {
    if let header = picture.siemens {
      let place = RingPlace(
        slot: 0, queue: Int(header.word32(SiemensHeader.Field.queueSelector.rawValue) & 0xffff),
        size: UInt32(header.word16(SiemensHeader.Field.queueSize.rawValue)),
        descriptors: header.word64(SiemensHeader.Field.queueDescriptors.rawValue),
        available: header.word64(SiemensHeader.Field.queueDriver.rawValue),
        used: header.word64(SiemensHeader.Field.queueDevice.rawValue))
      guard header.word16(SiemensHeader.Field.queueEnable.rawValue) == 1 else { return [] }
      return [try ring(place, 0, picture.readWrite, view)]
    }
    let places = view.ringPlaces ?? []
    let base = picture.sides.first { $0.name == "frontEnd" }?.translationBase ?? 0
    var rings: [Ring] = []
    for place in places { rings.append(try ring(place, base, 0, view)) }
    return rings
  }

  private static func ring(
    _ place: RingPlace, _ base: UInt64, _ start: Int, _ view: borrowing LinkView
  ) throws(ClientError) -> Ring {
    // The Siemens dialect counts from the read/write section, the native one from the link's start.
    let limit = start == 0 ? view.geometry.totalSize : view.geometry.readWriteSize
    let picture = try RingPicture(
      size: place.size, descriptors: place.descriptors, available: place.available,
      used: place.used, base: base, limit: limit
    ) { offset, count throws(ClientError) in
      offset <= limit - count ? try view.anyBytes(start + offset, count) : []
    }
    return Ring(place: place, picture: picture)
  }

  // MARK: JSON

  private func json(
    _ view: borrowing LinkView, _ picture: LinkPicture, _ rings: [Ring]?
  ) -> String {
    var object = JSONObject()
    object.add("link", target.name)
    object.add("source", view.origin)
    if wanted.contains("registers") {
      object.add("registers", json: view.registers.map { $0.json } ?? "null")
    }
    if wanted.contains("sections") {
      object.add("sections", list: PeekText.sections(view.geometry).map { $0.json })
    }
    object.add("dialect", picture.dialect == .native ? "native" : "siemens")
    object.add("placement", picture.placement.map { PeekText.name($0) })
    if wanted.contains("sides") {
      object.add("sides", list: picture.sides.map { PeekText.json($0) })
      object.add("header", json: picture.siemens.map { PeekText.json(header: $0) } ?? "null")
    }
    if wanted.contains("devices") {
      object.add("devices", list: picture.devices.map { PeekText.json($0) })
    }
    if wanted.contains("rings") {
      if let rings {
        object.add("rings", list: rings.map { PeekText.json($0.place, $0.picture) })
      } else {
        object.add("rings", json: "null")
      }
    }
    return object.text
  }

  // MARK: Text

  private func text(
    _ view: borrowing LinkView, _ picture: LinkPicture, _ rings: [Ring]?
  ) -> String {
    var text = "\(target.name), from \(view.origin)"
    text +=
      picture.placement.map { ", native, placement \(PeekText.name($0))\n" }
      ?? ", Siemens dialect\n"
    if wanted.contains("registers") {
      if let registers = view.registers {
        text +=
          "registers: id \(registers.id), maximum peers \(registers.maxPeers), interrupt control"
          + " \(registers.interruptControl), state \(stateText(registers.state))\n"
      } else {
        text += "registers: the owner alone may read them\n"
      }
    }
    if wanted.contains("sections") {
      text += "sections:\n" + columns(PeekText.sections(view.geometry).map { ["  "] + $0.row })
    }
    if wanted.contains("sides") {
      for side in picture.sides { text += PeekText.line(side, picture.dialect) }
      if let header = picture.siemens { text += PeekText.text(header: header) }
    }
    if wanted.contains("devices") {
      for device in picture.devices { text += PeekText.text(device) }
      if picture.devices.isEmpty, picture.dialect == .native { text += "no device is shown\n" }
    }
    if wanted.contains("rings") {
      guard let rings else {
        return text
          + "rings: only the back-end knows where they lie: --control PATH, or --ring\n"
      }
      for ring in rings { text += PeekText.text(ring.place, ring.picture) }
      if rings.isEmpty { text += "rings: none is ready\n" }
    }
    return text
  }
}
