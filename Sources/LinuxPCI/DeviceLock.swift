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
  /// - Parameter folder: where the lock's file lies; `nil` for the usual place, `/run/lock`.
  public init(_ address: PCIAddress, folder: String? = nil) throws(DeviceError) {
    let path = "\(folder ?? Self.folder)/ivshmem-\(address).lock"
    var holder: Int32 = 0
    let result = unsafe cd_lock_name(path, &holder)
    if result == -Int(SystemError.busy) { throw .busy("\(address)", holder: holder) }
    guard result >= 0 else { throw .lock(path, SystemError(Int32(truncatingIfNeeded: -result))) }
    file = Descriptor(owning: Int32(truncatingIfNeeded: result))
  }

  private static var folder: String {
    // One place for all users, services among them, or they would not meet.
    let usual = "/run/lock"
    if unsafe cd_is_folder(usual) == 0 {
      // A small root file system: whoever may use the device is root there.
      _ = unsafe cd_make_folder("/run", 0o755)
      _ = unsafe cd_make_folder(usual, 0o1777)
    }
    return usual
  }
}
