import CCellmate

/// How urgent a line for the operator is; the numbers of `cellmate.h`.
enum LinkNote: Int32, Sendable {
  /// What happens in normal service.
  case info = 0
  /// Something is wrong and was dealt with.
  case warning
  /// Something does not work.
  case error
}

/// What is said about one link, and to whom.
struct LinkVoice: Sendable {
  /// `link PATH` or `vhost-user PATH`.
  let subject: String
  /// Takes a line; called from any thread.
  let take: @Sendable (LinkNote, String, String) -> Void

  /// Speaks to the caller's hooks.
  init(_ subject: String) {
    self.init(subject) { note, subject, text in
      unsafe subject.withCString { subject in
        unsafe text.withCString { unsafe ch_say(note.rawValue, subject, $0) }
      }
    }
  }

  init(_ subject: String, take: @escaping @Sendable (LinkNote, String, String) -> Void) {
    self.subject = subject
    self.take = take
  }

  func say(_ text: String, _ note: LinkNote = .info) { take(note, subject, text) }

  /// What a host resource may speak with. Consoles tell who comes and goes; everything else is
  /// something that went wrong.
  var resource: @Sendable (String) -> Void {
    { text in say(text, text.hasPrefix("console port ") ? .info : .warning) }
  }
}
