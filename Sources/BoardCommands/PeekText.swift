import LinkFormat
import LinuxPCI
import ToolSupport

/// The parts of a peek as lines and as JSON.
enum PeekText {
  struct Section {
    let name: String
    let peer: UInt16?
    let range: Range<Int>

    var row: [String] {
      [
        name + (peer.map { " \($0)" } ?? ""), "at \(hexadecimal(range.lowerBound))",
        sizeText(UInt64(range.count)),
      ]
    }

    var json: String {
      var object = JSONObject()
      object.add("name", name)
      if let peer { object.add("peer", number: peer) }
      object.add("offset", number: range.lowerBound)
      object.add("size", number: range.count)
      return object.text
    }
  }

  /// The sections of a link; of many outputs the first 64.
  static func sections(_ geometry: LinkGeometry) -> [Section] {
    var all = [Section(name: "stateTable", peer: nil, range: 0..<geometry.stateTableSize)]
    if geometry.readWriteSize > 0 {
      all.append(Section(name: "readWrite", peer: nil, range: geometry.readWrite))
    }
    guard geometry.outputSize > 0 else { return all }
    for peer in 0..<UInt16(min(64, geometry.maxPeers)) {
      all.append(Section(name: "output", peer: peer, range: geometry.output(of: PeerID(peer))))
    }
    return all
  }

  // MARK: Sides

  static func line(_ side: LinkPicture.Side, _ dialect: LinkPicture.Dialect) -> String {
    var text = "\(side.name) peer \(side.peer.rawValue): state \(stateText(side.state))"
    guard dialect == .native else { return text + "\n" }
    guard side.isBlock else { return text + "; no block of the native protocol is here\n" }
    text +=
      ", epoch \(hexadecimal(side.epoch)), echo \(hexadecimal(side.echo)), status"
      + " \(extendedStatusText(side.status))"
    if side.reason != 0 { text += ", reason \(reasonText(side.reason))" }
    return text
      + ", pool \(hexadecimal(side.pool.lowerBound)) to \(hexadecimal(side.pool.upperBound))\n"
  }

  private static func reasonText(_ reason: UInt32) -> String {
    hexadecimal(reason)
  }

  static func json(_ side: LinkPicture.Side) -> String {
    var object = JSONObject()
    object.add("side", side.name)
    object.add("peer", number: side.peer.rawValue)
    object.add("state", hexadecimal(side.state))
    object.add("meaning", stateMeaning(side.state))
    object.add("block", flag: side.isBlock)
    object.add("version", number: side.version)
    object.add("epoch", hexadecimal(side.epoch))
    object.add("echo", hexadecimal(side.echo))
    object.add("status", extendedStatusText(side.status))
    object.add("reason", reasonText(side.reason))
    object.add("poolOffset", number: side.pool.lowerBound)
    object.add("poolSize", number: side.pool.upperBound - side.pool.lowerBound)
    object.add("translationBase", hexadecimal(side.translationBase))
    return object.text
  }

  // MARK: Header of the Siemens dialect

  /// Names are spelled out: Embedded Swift cannot print a case.
  static func name(_ placement: Placement) -> String {
    placement == .shared ? "shared" : "output"
  }

  private static func name(_ field: SiemensHeader.Field) -> String {
    switch field {
    case .deviceFeatures: "deviceFeatures"
    case .deviceFeaturesSelector: "deviceFeaturesSelector"
    case .driverFeatures: "driverFeatures"
    case .driverFeaturesSelector: "driverFeaturesSelector"
    case .queueSelector: "queueSelector"
    case .queueSize: "queueSize"
    case .queueDeviceVector: "queueDeviceVector"
    case .queueDriverVector: "queueDriverVector"
    case .queueEnable: "queueEnable"
    case .queueDescriptors: "queueDescriptors"
    case .queueDriver: "queueDriver"
    case .queueDevice: "queueDevice"
    case .configurationEvent: "configurationEvent"
    case .queueEvent: "queueEvent"
    case .deviceStatus: "deviceStatus"
    case .configurationGeneration: "configurationGeneration"
    case .revision: "revision"
    case .size: "size"
    case .writeTransaction: "writeTransaction"
    }
  }

  private static func fields(_ header: Words) -> [(name: String, value: String)] {
    func four(_ field: SiemensHeader.Field) -> (String, String) {
      (name(field), hexadecimal(header.word32(field.rawValue)))
    }
    func two(_ field: SiemensHeader.Field) -> (String, String) {
      (name(field), "\(header.word16(field.rawValue))")
    }
    func eight(_ field: SiemensHeader.Field) -> (String, String) {
      (name(field), hexadecimal(header.word64(field.rawValue)))
    }
    func one(_ field: SiemensHeader.Field) -> (String, String) {
      (name(field), "\(header.byte(field.rawValue))")
    }
    return [
      four(.revision), four(.size), four(.writeTransaction), four(.deviceFeatures),
      four(.deviceFeaturesSelector), four(.driverFeatures), four(.driverFeaturesSelector),
      four(.queueSelector), two(.queueSize), two(.queueDeviceVector), two(.queueDriverVector),
      two(.queueEnable), eight(.queueDescriptors), eight(.queueDriver), eight(.queueDevice),
      one(.configurationEvent), one(.queueEvent), four(.deviceStatus),
      four(.configurationGeneration),
    ]
  }

  static func text(header: Words) -> String {
    "header:\n" + columns(fields(header).map { ["  " + $0.name, $0.value] })
      + "  status \(statusText(header.word32(SiemensHeader.Field.deviceStatus.rawValue)))\n"
  }

  static func json(header: Words) -> String {
    var object = JSONObject()
    for field in fields(header) { object.add(field.name, field.value) }
    return object.text
  }

  // MARK: Devices

  static func text(_ device: LinkPicture.Device) -> String {
    func list(_ values: [UInt32]) -> String {
      values.map { "\($0)" }.joined(separator: "/")
    }
    var text =
      "slot \(device.slot): \(name(device)), status \(statusText(device.status)),"
      + " \(device.queueCount) queues, generation \(device.generation)\n"
    text += "  notifications to the device \(list(device.toDevice)), to the driver"
    text += " \(list(device.toDriver))\n"
    let isOpen = device.request != device.acknowledgement
    text +=
      "  transaction \(hexadecimal(device.request)), acknowledged"
      + " \(hexadecimal(device.acknowledgement)): "
    text += device.operation & 0xff == 2 ? "write" : "read"
    text += " of \(device.operation >> 8 & 0xff) bytes at \(hexadecimal(device.offset))"
    text += isOpen ? ", open or of an earlier pairing\n" : ", result \(device.result)\n"
    if !device.configuration.isEmpty {
      text += "  configuration \(hexBytes(device.configuration))\n"
    }
    return text
  }

  private static func name(_ device: LinkPicture.Device) -> String {
    device.type > 0xffff ? "device \(device.type)" : virtioName(UInt16(device.type))
  }

  static func json(_ device: LinkPicture.Device) -> String {
    var object = JSONObject()
    object.add("slot", number: device.slot)
    object.add("type", number: device.type)
    object.add("name", name(device))
    object.add("status", statusText(device.status))
    object.add("queues", number: device.queueCount)
    object.add("generation", number: device.generation)
    object.add("request", hexadecimal(device.request))
    object.add("acknowledgement", hexadecimal(device.acknowledgement))
    object.add("operation", hexadecimal(device.operation))
    object.add("offset", hexadecimal(device.offset))
    object.add("value", hexadecimal(device.value))
    object.add("result", number: device.result)
    object.add("toDevice", list: device.toDevice.map { "\($0)" })
    object.add("toDriver", list: device.toDriver.map { "\($0)" })
    object.add("configuration", hexBytes(device.configuration))
    return object.text
  }

  // MARK: Rings

  static func text(_ place: RingPlace, _ ring: RingPicture) -> String {
    var text = place.slot < 0 ? "ring" : "ring of slot \(place.slot) queue \(place.queue)"
    text +=
      ": size \(ring.size), available index \(ring.availableIndex), used index \(ring.usedIndex),"
      + " \(ring.inFlight) in flight, flags \(ring.availableFlags)/\(ring.usedFlags)\n"
    if let problem = ring.problem { text += "  \(problem)\n" }
    for chain in ring.chains {
      text += "  available[\(chain.position)] head \(chain.head)\n"
      for one in chain.descriptors {
        text +=
          "    [\(one.index)] \(one.count) bytes at \(hexadecimal(one.address)), \(one.flagText)"
          + (one.isInside ? "\n" : ", NOT inside the link's memory\n")
      }
      if let problem = chain.problem { text += "    ... \(problem)\n" }
    }
    return text
  }

  static func json(_ place: RingPlace, _ ring: RingPicture) -> String {
    var object = JSONObject()
    object.add("slot", number: place.slot < 0 ? nil : place.slot)
    object.add("queue", number: place.slot < 0 ? nil : place.queue)
    object.add("size", number: ring.size)
    object.add("availableIndex", number: ring.availableIndex)
    object.add("usedIndex", number: ring.usedIndex)
    object.add("inFlight", number: ring.inFlight)
    object.add("flags", "\(ring.availableFlags)/\(ring.usedFlags)")
    object.add("problem", ring.problem)
    object.add(
      "chains",
      list: ring.chains.map { chain in
        var entry = JSONObject()
        entry.add("position", number: chain.position)
        entry.add("head", number: chain.head)
        entry.add("problem", chain.problem)
        entry.add("descriptors", list: chain.descriptors.map { json($0) })
        return entry.text
      })
    return object.text
  }

  private static func json(_ one: RingPicture.Descriptor) -> String {
    var object = JSONObject()
    object.add("index", number: one.index)
    object.add("address", hexadecimal(one.address))
    object.add("count", number: one.count)
    object.add("flags", one.flagText)
    object.add("next", number: one.next)
    object.add("inside", flag: one.isInside)
    return object.text
  }
}
