/// A console (jailhouse_console, 32 bytes).
public struct Console: Hashable, Sendable {
  /// Kinds of console; unknown values are kept in `rawType`.
  public enum Kind: UInt16, Sendable, CaseIterable {
    case none = 0, efifb, uart8250, pl011, xuartps, mvebu, hscif, scifa, imx, imxLPUART, scif
  }

  /// Physical address of the UART.
  public var address: UInt64 = 0
  /// Length of its registers in bytes.
  public var size: UInt32 = 0
  /// The kind as a number.
  public var rawType: UInt16 = 0
  /// MMIO 1, REGDIST_4 2, FB_1920 4, INVERTED_GATE 0x1000, MDR_QUIRK 0x2000.
  public var flags: UInt16 = 0
  /// Divisor of the baud rate; 0 leaves the UART as it is.
  public var divider: UInt32 = 0
  /// Clock gate to open before use.
  public var gateNumber: UInt32 = 0
  /// Address of the clock gate; 0 for none.
  public var clockRegister: UInt64 = 0

  /// No console.
  public init() {}
  /// The kind, when it is a known one.
  public var kind: Kind? { Kind(rawValue: rawType) }
}
