import CommandOptions
import LinkFormat
import LinkNames
import LinuxPCI
import ToolSupport

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
