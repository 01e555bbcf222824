/// Words as C takes them: strings that end with zero, and NULL behind the last.
@safe
final class WordList {
  let words: UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>
  private let count: Int

  init(_ texts: [String]) {
    count = texts.count
    unsafe words = .allocate(capacity: count + 1)
    for (index, text) in texts.enumerated() {
      let bytes = Array(text.utf8)
      let word = UnsafeMutablePointer<CChar>.allocate(capacity: bytes.count + 1)
      for (at, byte) in bytes.enumerated() { unsafe word[at] = CChar(bitPattern: byte) }
      unsafe word[bytes.count] = 0
      // SAFETY: index is below the count that was allocated.
      unsafe (words + index).initialize(to: word)
    }
    unsafe (words + count).initialize(to: nil)
  }

  deinit {
    for index in 0..<count { unsafe words[index]?.deallocate() }
    unsafe words.deallocate()
  }
}
