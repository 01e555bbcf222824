public import DeviceRuntime
public import HostResources
import LinuxPCI
import LinuxSupport
public import SiemensDialect
import SharedMemory
public import VirtioBlock
import VirtioDevice
import VirtioTransport
import Virtqueue
import VhostUser

// The core has no texts. These are for the ends of sentences; names of enumerations that scripts
// read are those of docs/ivshmem.md.

extension BlockRequestType: CustomStringConvertible {
  /// What the request does.
  public var description: String {
    switch self {
    case .read: "read"
    case .write: "write"
    case .flush: "flush"
    case .getID: "getID"
    case .discard: "discard"
    case .writeZeroes: "writeZeroes"
    }
  }
}

extension BlockStatus: CustomStringConvertible {
  /// How the request ended (VIRTIO 1.4, 5.2.6).
  public var description: String {
    switch self {
    case .ok: "ok"
    case .ioError: "I/O error"
    case .unsupported: "unsupported"
    }
  }
}

extension FrontendStage: CustomStringConvertible {
  /// What was going on.
  public var description: String {
    switch self {
    case .linkUp: "starting the link"
    case .transaction(let offset): "register 0x\(hexText(offset))"
    case .reset: "reset"
    case .configuration: "the configuration"
    }
  }
}

extension FrontendError: CustomStringConvertible {
  /// What was seen.
  public var description: String {
    switch self {
    case .deadline(let stage): "no answer in time: \(stage)"
    case .linkLost(let stage): "the back-end went away: \(stage)"
    case .refused(let code, let register):
      "register 0x\(hexText(register)) was refused (\(code))"
    case .notVirtio(let magic, let version):
      "magic 0x\(hexText(magic)) and version \(version) are not of virtio-mmio"
    case .wrongDevice(let found, let expected): "device type \(found), expected \(expected)"
    case .missingFeatures(let set): "features 0x\(hexText(set.rawValue)) are not on offer"
    case .featuresRefused(let set): "features 0x\(hexText(set.rawValue)) were refused"
    case .queueResetIncomplete: "a queue was not reset"
    case .interrupted: "interrupted"
    case .platformGone: "the platform is gone"
    }
  }
}

extension BlockFrontendError: CustomStringConvertible {
  /// What was seen.
  public var description: String {
    switch self {
    case .full: "every request is in flight"
    case .poolTooSmall: "the link's sections are too small for this depth"
    case .noPrivateMemory: "no private memory for this depth"
    case .frontend(let error): "\(error)"
    case .queue(let error): "\(error)"
    case .badRequest(let type, let sector, let count):
      "\(type) of \(count) bytes at sector \(sector): the disk does not take it"
    }
  }
}

extension SiemensFrontendError: CustomStringConvertible {
  /// What was seen.
  public var description: String {
    switch self {
    case .noBackend: "there is no back-end"
    case .deadline(let offset): "no answer in time: register 0x\(hexText(offset))"
    case .backendLost: "the back-end went away"
    case .badHeader(let revision, let size): "a header of revision \(revision), \(size) bytes"
    case .missingFeatures(let set): "features 0x\(hexText(set.rawValue)) are not on offer"
    case .featuresRefused(let set): "features 0x\(hexText(set.rawValue)) were refused"
    case .noSuchQueue(let queue, let maximum): "queue \(queue) has \(maximum) entries"
    case .queueRefused(let queue): "queue \(queue) was refused"
    case .configurationUnstable: "the configuration does not come to rest"
    case .interrupted: "interrupted"
    case .platformGone: "the platform is gone"
    }
  }
}

extension BlockDriverError: CustomStringConvertible {
  /// What was seen.
  public var description: String {
    switch self {
    case .full: "every request is in flight"
    case .badLength(let count, let limit): "\(count) bytes, at most \(limit) are possible"
    case .outOfRange(let sector, let sectors, let capacity):
      "\(sectors) sectors from \(sector), the disk has \(capacity)"
    case .tooManySectors(let count, let limit):
      "\(count) sectors, a request may name at most \(limit) here"
    case .readOnly: "the disk is read-only"
    case .notOffered(let type): "the device does not offer \(type)"
    case .queueTooSmall(let found, let needed): "a queue of \(found), \(needed) are needed"
    }
  }
}

extension ConsoleHostError: CustomStringConvertible {
  /// What was seen, and what to do.
  public var description: String {
    switch self {
    case .system(let what, let cause): "\(what): \(cause.text)"
    case .stdioTwice: "stdio is in use by another port of this process; a process has one"
    case .linkInTheWay(let path):
      "pty=\(path): something that is no symbolic link lies there; remove it or choose another name"
    case .linkInUse(let path):
      "pty=\(path): another ivshmem-backend keeps this link; stop it or choose another name"
    case .socketInUse(let path):
      "socket=\(path): another process answers there; stop it or choose another path"
    }
  }
}
