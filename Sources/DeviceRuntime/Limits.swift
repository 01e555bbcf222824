/// Every bound of the runtime's loops, in one place, with its reason.
public enum RuntimeLimits {
  /// Chains one queue may take before the next queue has its turn: long enough to amortise the
  /// publication of the used index, short enough that a neighbour waits microseconds.
  public static let chainsPerQueue = 64
  /// Transactions one slot may have executed in one step. The front-end has at most one open, so
  /// more than one a step means a peer that does not wait for acknowledgements.
  public static let transactionsPerSlot = 4
  /// Completions taken from one device in one step.
  public static let completionsPerDevice = 256
  /// Link events handled in one step: started, up, and a margin.
  public static let linkEvents = 4
}
