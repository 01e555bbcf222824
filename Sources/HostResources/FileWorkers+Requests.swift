import CLinux
import LinuxSupport
import VirtioBlock

// What a worker does with a request, and what the operator hears of a failure.
extension FileWorkers {
  /// Carries a request out, however long it takes.
  func perform(_ slot: Int, _ bounce: UnsafeMutableRawPointer) -> BlockStatus {
    let request = unsafe work[slot].request
    let result: Int
    switch request.type {
    case .read, .write:
      switch unsafe transfer(slot, mayWait: true, bounce) {
      case .done: return .ok
      case .wouldBlock: return fail(request, .system(SystemError.tryAgain))
      case .failed(let failure): return fail(request, failure)
      }
    case .flush: result = repeating { cl_datasync(file.descriptor) }
    case .discard: result = discard(request)
    case .writeZeroes:
      let done = writeZeroes(request)
      result = done >= 0 && request.isStable ? repeating { cl_datasync(file.descriptor) } : done
    case .getID: return .ok
    }
    return result < 0 ? fail(request, .system(Int32(truncatingIfNeeded: -result))) : .ok
  }

  /// A call again and again while signals interrupt it.
  @inline(never)
  private func repeating(_ call: () -> Int) -> Int {
    while true {
      let result = call()
      if result != -Int(SystemError.interrupted) { return result }
    }
  }

  /// Whether the file or device cannot do this at all, as opposed to having failed.
  private func isUnknown(_ result: Int) -> Bool {
    let error = Int32(truncatingIfNeeded: -result)
    return error == SystemError.notSupported || error == SystemError.noSuchControl
      || error == SystemError.invalid || error == SystemError.noSuchCall
  }

  /// A discard is a hint (VIRTIO 1.4, 5.2.6.2): what cannot free storage has done its duty.
  private func discard(_ request: BlockRequest) -> Int {
    let result = repeating {
      file.isDevice
        ? cl_device_range(file.descriptor, 0, request.position, request.count)
        : cl_punch(file.descriptor, Int64(request.position), Int64(request.count))
    }
    return isUnknown(result) ? 0 : result
  }

  private func writeZeroes(_ request: BlockRequest) -> Int {
    let position = Int64(request.position)
    let count = Int64(request.count)
    var result = -Int(SystemError.notSupported)
    if file.isDevice {
      result = repeating {
        cl_device_range(file.descriptor, 1, request.position, request.count)
      }
    } else {
      if request.mayUnmap { result = repeating { cl_punch(file.descriptor, position, count) } }
      if isUnknown(result) {
        result = repeating { cl_zero_range(file.descriptor, position, count) }
      }
    }
    return isUnknown(result) ? writeZeroes(position, count) : result
  }

  /// For what has no call for it: bounded pieces of zeroes.
  private func writeZeroes(_ position: Int64, _ count: Int64) -> Int {
    var done: Int64 = 0
    while done < count {
      let length = min(Self.zeroSize, Int(count - done))
      let result = repeating {
        unsafe cl_write_at(file.descriptor, zeroes, length, position + done)
      }
      guard result > 0 else { return result == 0 ? -Int(SystemError.inputOutput) : result }
      done += Int64(result)
    }
    return 0
  }

  // MARK: Failures

  /// Tells the operator, not more than ten lines a second, and the guest.
  func fail(_ request: BlockRequest, _ failure: Failure) -> BlockStatus {
    unsafe cl_monitor_enter(monitor)
    let now = cl_monotonic_ns()
    let isDue = now - lastLog >= 100_000_000
    let skipped = suppressedLogs
    if isDue {
      lastLog = now
      suppressedLogs = 0
    } else {
      suppressedLogs += 1
    }
    unsafe cl_monitor_leave(monitor)
    if isDue {
      let more = skipped > 0 ? " (and \(skipped) more like it)" : ""
      log("\(file.path): \(Self.text(request)) failed: \(Self.text(failure))\(more)")
    }
    return .ioError
  }

  private static func text(_ request: BlockRequest) -> String {
    let name =
      switch request.type {
      case .read: "read"
      case .write: "write"
      case .flush: "flush"
      case .getID: "identification"
      case .discard: "discard"
      case .writeZeroes: "write of zeroes"
      }
    return request.count > 0
      ? "\(name) of \(request.count) bytes at \(request.position)" : name
  }

  private static func text(_ failure: Failure) -> String {
    switch failure {
    case .system(let error): SystemError(error).text
    case .ended(let position): "no byte at \(position), the file was cut off"
    }
  }
}
