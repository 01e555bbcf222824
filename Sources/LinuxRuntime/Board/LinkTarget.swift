import CommandOptions
import IVShmem
import LinuxPCI

/// Which link to look at, as the command line says: `sim:PATH` or a PCI address, with the keys that
/// say how it is used.
struct LinkTarget {
  enum Place: Equatable {
    case simulator(String)
    case function(PCIAddress)
  }

  let place: Place
  /// The keys, as a link specification has them.
  let specification: LinkSpecification
  /// The control socket of who has it, when it was given.
  let control: String?

  static var optionControl: OptionSpecification {
    OptionSpecification("control", "PATH", "the socket of the ivshmem-backend that has the link")
  }

  /// How to write it.
  static var form: String { "sim:PATH or BDF, [,placement=shared|output][,peer=N][,other=N]" }

  init(_ given: CommandOptions, _ verb: String) throws(ClientError) {
    guard let text = given.arguments.first else {
      throw .usage(UsageError("\(verb) needs a link, \(Self.form)"))
    }
    do throws(UsageError) {
      let first = String(text.prefix { $0 != "," })
      if first.hasPrefix("sim:") {
        specification = try LinkSpecification(text)
        place = .simulator(String(first.dropFirst(4)))
      } else {
        var name = first[...]
        for start in ["uio:", "vfio:"] where name.hasPrefix(start) {
          name = name.dropFirst(start.utf8.count)
        }
        guard let address = PCIAddress(name) else {
          throw UsageError("\(verb) \(text): expected a link, \(Self.form)")
        }
        // Placement and peers are the same keys everywhere.
        specification = try LinkSpecification("sim:x" + text.dropFirst(first.utf8.count))
        place = .function(address)
      }
    } catch { throw .usage(error) }
    control = given.value("control")
  }

  /// The link's name in answers.
  var name: String {
    switch place {
    case .simulator(let path): "sim:\(path)"
    case .function(let address): "\(address)"
    }
  }
}

/// A field of a flat JSON object of our own making; `nil` when it is not there.
enum JSONField {
  static func number(_ key: String, _ text: String) -> UInt64? {
    rest(key, text).flatMap { UInt64($0.prefix { $0 >= "0" && $0 <= "9" }) }
  }

  static func string(_ key: String, _ text: String) -> String? {
    guard let rest = rest(key, text), rest.hasPrefix("\"") else { return nil }
    return String(rest.dropFirst().prefix { $0 != "\"" })
  }

  private static func rest(_ key: String, _ text: String) -> Substring? {
    let wanted = Array("\"\(key)\":".utf8)
    let bytes = text.utf8
    var at = bytes.startIndex
    while at != bytes.endIndex {
      if bytes[at...].starts(with: wanted) {
        return text[bytes.index(at, offsetBy: wanted.count)...]
      }
      at = bytes.index(after: at)
    }
    return nil
  }
}

/// Bytes in hexadecimal, two digits each.
func hexBytes(_ bytes: [UInt8]) -> String {
  let digits = Array("0123456789abcdef".utf8)
  var text: [UInt8] = []
  text.reserveCapacity(2 * bytes.count)
  for byte in bytes { text += [digits[Int(byte >> 4)], digits[Int(byte & 15)]] }
  return String(decoding: text, as: UTF8.self)
}

/// The bytes that hexadecimal digits stand for; `nil` when they are none.
func bytesOf(hex text: String) -> [UInt8]? {
  func digit(_ byte: UInt8) -> UInt8? {
    switch byte {
    case 48...57: byte - 48
    case 97...102: byte - 87
    default: nil
    }
  }
  var bytes: [UInt8] = []
  var high: UInt8?
  for byte in text.utf8 {
    guard let value = digit(byte) else { return nil }
    if let first = high {
      bytes.append(first << 4 | value)
      high = nil
    } else {
      high = value
    }
  }
  return high == nil ? bytes : nil
}
