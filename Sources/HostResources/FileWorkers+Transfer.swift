import CLinux
import LinuxSupport
import SharedMemory
import VirtioBlock
import Virtqueue

// Moving data: straight between the region and the file, or through a private buffer.
extension FileWorkers {
  /// Notes a request without data in its slot.
  func note(_ request: BlockRequest, slot: Int) {
    precondition(slot >= 0 && slot < slots)
    unsafe work[slot] = Work(request: request)
  }

  /// Notes a read or write and its data segments in its slot; `false` when there are more segments
  /// than the slot holds, or fewer bytes than the request says.
  func collect(
    _ request: BlockRequest, slot: Int, _ chain: borrowing ChainSegments, skip: Int,
    _ region: SharedRegion
  ) -> Bool {
    precondition(slot >= 0 && slot < slots)
    var item = Work(request: request, position: Int64(request.position))
    item.isDirect = file.directDescriptor >= 0 && isAligned(request)
    // Device memory faults on the copies the kernel uses; direct I/O needs pages it can pin.
    item.isBounced = !region.isUnalignedSafe || (item.isDirect && memory == .unpinnable)
    item.region = region
    let isRead = request.type == .read
    let base = slot * segmentLimit
    var left = Int(request.count)
    var skip = skip
    for index in 0..<(isRead ? chain.writableCount : chain.readableCount) where left > 0 {
      let length = isRead ? chain.writable(index).count : chain.readable(index).count
      if skip >= length {
        skip -= length
        continue
      }
      guard item.count < segmentLimit else { return false }
      let take = min(length - skip, left)
      let at = base + item.count
      if isRead {
        guard let part = chain.writable(index).slice(from: skip, count: take) else { return false }
        unsafe pieces[at] = (part.offset, take)
        unsafe segments[at] = cl_segment(base: region.unsafeAddress(of: part), count: take)
      } else {
        guard let part = chain.readable(index).slice(from: skip, count: take) else { return false }
        unsafe pieces[at] = (part.offset, take)
        // SAFETY: the kernel only reads from it.
        unsafe segments[at] = cl_segment(
          base: UnsafeMutableRawPointer(mutating: region.unsafeAddress(of: part)), count: take)
      }
      if item.isDirect, unsafe !isAligned(segments[at]) { item.isBounced = true }
      item.count += 1
      left -= take
      skip = 0
    }
    unsafe work[slot] = item
    return left == 0
  }

  private func isAligned(_ request: BlockRequest) -> Bool {
    (Int(request.position) | Int(request.count)) & (file.positionAlignment - 1) == 0
  }

  private func isAligned(_ segment: cl_segment) -> Bool {
    let address = unsafe Int(bitPattern: segment.base)
    let count = unsafe segment.count
    return address & (file.memoryAlignment - 1) == 0 && count & (file.positionAlignment - 1) == 0
  }

  /// Moves what can be moved without waiting for a disk; the rest is for a worker.
  func attemptInline(_ slot: Int) -> Outcome {
    let item = unsafe work[slot]
    if item.isDirect { return .wouldBlock }
    // Memory needs no worker: nothing waits for a disk. Elsewhere the kernel says whether it can
    // do it at once; a stable write never can.
    if file.isInMemory { return unsafe transfer(slot, mayWait: true, inlineBounce) }
    if item.request.type == .read {
      guard canReadWithoutWaiting else { return .wouldBlock }
    } else {
      guard canWriteWithoutWaiting, !item.request.isStable else { return .wouldBlock }
    }
    return unsafe transfer(slot, mayWait: false, inlineBounce)
  }

  /// Moves the data of a slot from where it stands; short transfers are continued.
  func transfer(
    _ slot: Int, mayWait: Bool, _ bounce: UnsafeMutableRawPointer
  ) -> Outcome {
    var item = unsafe work[slot]
    defer { unsafe work[slot] = item }
    while item.first < item.count {
      let result =
        unsafe item.isBounced
        ? moveBounced(slot, item, mayWait, bounce) : moveStraight(slot, item, mayWait)
      if result > 0 {
        advance(slot, &item, result)
        continue
      }
      switch Int32(truncatingIfNeeded: -result) {
      case SystemError.interrupted: continue
      case SystemError.tryAgain where !mayWait: return .wouldBlock
      case SystemError.notSupported where !mayWait:
        // The file system does not know the question: do not ask it again.
        if item.request.type == .read {
          canReadWithoutWaiting = false
        } else {
          canWriteWithoutWaiting = false
        }
        return .wouldBlock
      case SystemError.invalid where item.isDirect:
        // Not in this way; the page cache takes everything.
        item.isDirect = false
      case 0 where item.request.type == .read: return .failed(.ended(item.position))
      case 0: return .failed(.system(SystemError.inputOutput))
      case let error: return .failed(.system(error))
      }
    }
    return .done
  }

  private func descriptor(_ item: Work) -> Int32 {
    item.isDirect ? file.directDescriptor : file.descriptor
  }

  private func call(
    _ item: Work, _ list: UnsafePointer<cl_segment>, _ count: Int, _ mayWait: Bool
  ) -> Int {
    let noWait: Int32 = mayWait ? 0 : 1
    return item.request.type == .read
      ? unsafe cl_readv(descriptor(item), list, Int32(count), item.position, noWait)
      : unsafe cl_writev(
        descriptor(item), list, Int32(count), item.position, noWait,
        item.request.isStable ? 1 : 0)
  }

  private func moveStraight(_ slot: Int, _ item: Work, _ mayWait: Bool) -> Int {
    let list = unsafe segments + (slot * segmentLimit + item.first)
    return unsafe call(item, list, item.count - item.first, mayWait)
  }

  private func moveBounced(
    _ slot: Int, _ item: Work, _ mayWait: Bool, _ bounce: UnsafeMutableRawPointer
  ) -> Int {
    let done = Int(item.position) - Int(item.request.position)
    let length = min(Self.bounceSize, Int(item.request.count) - done)
    // SAFETY: the buffer belongs to this thread and has `bounceSize` bytes.
    let buffer = unsafe UnsafeMutableBufferPointer(
      start: bounce.assumingMemoryBound(to: UInt8.self), count: length)
    var bytes = unsafe buffer.mutableSpan
    if item.request.type == .write { copy(slot, item, &bytes) }
    var one = unsafe cl_segment(base: bounce, count: length)
    let result = unsafe call(item, &one, 1, mayWait)
    if item.request.type == .read, result > 0 {
      var part = bytes._mutatingExtracting(0..<result)
      copy(slot, item, &part)
    }
    return result
  }

  /// Copies between a private buffer and the next bytes of the region.
  private func copy(_ slot: Int, _ item: Work, _ bytes: inout MutableSpan<UInt8>) {
    guard let region = item.region else { return }
    var done = 0
    var index = slot * segmentLimit + item.first
    while done < bytes.count {
      let piece = unsafe pieces[index]
      let take = min(piece.count, bytes.count - done)
      if item.request.type == .read {
        // The range was checked for writing when the chain was taken.
        region.copy(
          bytes.span.extracting(done..<done + take),
          into: region.ownRange(piece.offset..<piece.offset + take))
      } else {
        var part = bytes._mutatingExtracting(done..<done + take)
        region.copy(region.readRange(piece.offset..<piece.offset + take), into: &part)
      }
      done += take
      index += 1
    }
  }

  /// Moves the slot's books `count` bytes on.
  private func advance(_ slot: Int, _ item: inout Work, _ count: Int) {
    item.position += Int64(count)
    if item.isDirect, Int(item.position) & (file.positionAlignment - 1) != 0 {
      item.isDirect = false
    }
    var left = count
    while item.first < item.count {
      let at = slot * segmentLimit + item.first
      let piece = unsafe pieces[at]
      guard left >= piece.count else {
        guard left > 0 else { return }
        unsafe pieces[at] = (piece.offset + left, piece.count - left)
        // SAFETY: still inside the same segment.
        unsafe segments[at] = cl_segment(
          base: segments[at].base.map { unsafe $0 + left }, count: piece.count - left)
        return
      }
      left -= piece.count
      item.first += 1
    }
  }
}
