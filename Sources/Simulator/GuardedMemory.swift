import CLinux
import IVShmem
import LinuxSupport
import SharedMemory

/// The shared memory of a link of two peers, three times: once writable everywhere, and once for
/// each peer with its rights. Around each view lie pages that nobody may touch.
final class GuardedMemory {
  private let sections: [Section]
  private let mappings: [GuardedMapping]

  init(_ geometry: LinkGeometry) throws(SystemError) {
    let sizes = [
      geometry.stateTableSize, geometry.readWriteSize, geometry.outputSize, geometry.outputSize,
    ]
    var sections: [Section] = []
    for size in sizes { sections.append(try Section(name: "guarded", size: max(size, 4096))) }
    self.sections = sections
    let rights = [
      [true, true, true, true], [false, true, true, false], [false, true, false, true],
    ]
    var mappings: [GuardedMapping] = []
    for isWritable in rights {
      let mapping = try GuardedMapping(geometry.totalSize)
      var offset = 0
      for (index, size) in sizes.enumerated() where size > 0 {
        try mapping.map(
          sections[index].number, at: offset, size: size, isWritable: isWritable[index])
        offset += size
      }
      mappings.append(mapping)
    }
    self.mappings = mappings
  }

  /// Writable everywhere.
  var whole: SharedRegion { mappings[0].region }
  /// What each peer sees.
  var views: [SharedRegion] { [mappings[1].region, mappings[2].region] }
}

/// Addresses with guards on both sides.
@safe
private final class GuardedMapping {
  private static let guardSize = 1 << 16
  private let base: UnsafeMutableRawPointer
  private let size: Int

  init(_ size: Int) throws(SystemError) {
    var error: Int32 = 0
    guard let base = unsafe cl_reserve(size + 2 * Self.guardSize, &error) else {
      throw SystemError(error)
    }
    unsafe self.base = base
    self.size = size
  }

  func map(_ descriptor: Int32, at offset: Int, size: Int, isWritable: Bool) throws(SystemError) {
    precondition(offset >= 0 && offset + size <= self.size)
    let place = unsafe base + Self.guardSize + offset
    _ = try SystemError.check(unsafe cl_map_at(place, size, isWritable ? 1 : 0, descriptor))
  }

  /// Valid as long as this object.
  var region: SharedRegion {
    unsafe SharedRegion(unsafeBase: base + Self.guardSize, count: size)
  }

  deinit { unsafe cl_unmap(base, size + 2 * Self.guardSize) }
}
