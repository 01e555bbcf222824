import CDevice
import LinuxSupport

/// The right to open a device's node, from before it is opened until its user ends.
///
/// Opening a node of `uio_ivshmem` once too often takes the link of its first user down: closing
/// resets the State, whoever closes. So everybody takes this lock first. It is advice among
/// programs that know it; who ignores it is found by ``NodeHolders``.
public struct DeviceLock: ~Copyable {
  private let file: Descriptor

  /// Takes the lock of `address`, without waiting.
  ///
  /// - Parameter folder: where the lock's file lies; `nil` for the usual place, `/run/cellmate`
  ///   when that is a folder, else `/run/lock`.
  public init(_ address: PCIAddress, folder: String? = nil) throws(DeviceError) {
    let path = "\(folder ?? Self.folder)/ivshmem-\(address).lock"
    var holder: Int32 = 0
    let result = unsafe cd_lock_name(path, &holder)
    if result == -Int(SystemError.busy) { throw .busy("\(address)", holder: holder) }
    guard result >= 0 else { throw .lock(path, SystemError(Int32(truncatingIfNeeded: -result))) }
    file = Descriptor(owning: Int32(truncatingIfNeeded: result))
  }

  private static var folder: String {
    let own = "/run/cellmate"
    if unsafe cd_is_folder(own) != 0 { return own }
    if unsafe cd_is_folder("/run/lock") != 0 { return "/run/lock" }
    // A small root file system: whoever may use the device is root there.
    _ = unsafe cd_make_folder("/run", 0o755)
    _ = unsafe cd_make_folder(own, 0o755)
    return own
  }
}
