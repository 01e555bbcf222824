/// Writes numbers in the Prometheus text format (version 0.0.4): samples of a family stand
/// together, behind its help and type.
struct MetricWriter {
  private var names: [String] = []
  private var samples: [String] = []

  /// Adds a sample.
  mutating func add(_ name: String, _ labels: String, _ value: UInt64) {
    let line = "\(name)\(labels) \(value)\n"
    if let known = names.firstIndex(of: name) {
      samples[known] += line
    } else {
      names.append(name)
      samples.append(line)
    }
  }

  /// Everything that was added.
  var text: String {
    var text = ""
    for (index, name) in names.enumerated() {
      if let help = Self.help.first(where: { $0.0 == name })?.1 {
        text += "# HELP \(name) \(help)\n"
      }
      text += "# TYPE \(name) \(Self.isCounter(name) ? "counter" : "gauge")\n"
      text += samples[index]
    }
    return text
  }

  private static func isCounter(_ name: String) -> Bool {
    Array(name.utf8.suffix(6)) == Array("_total".utf8)
  }

  /// A label with its value, escaped.
  static func label(_ name: String, _ value: String) -> String {
    var bytes: [UInt8] = []
    for byte in value.utf8 {
      switch byte {
      case 34, 92: bytes += [92, byte]
      case 10: bytes += [92, 110]
      default: bytes.append(byte)
      }
    }
    return "\(name)=\"\(String(decoding: bytes, as: UTF8.self))\""
  }

  /// The family of a counter: `wakeUps` of a link is `cellmate_link_wake_ups_total`.
  static func family(_ counter: Counter) -> String {
    let scope =
      switch counter.scope {
      case .link: "link"
      case .vhostUser: "vhost_user"
      case .device: "device"
      case .kind(let name): name
      }
    var bytes = Array("cellmate_\(scope)_".utf8)
    var wasCapital = true
    for byte in counter.name.utf8 {
      let isCapital = byte >= 65 && byte <= 90
      if isCapital, !wasCapital { bytes.append(95) }
      bytes.append(isCapital ? byte + 32 : byte)
      wasCapital = isCapital
    }
    let name = String(decoding: bytes, as: UTF8.self)
    // The one number that goes up and down.
    return counter.name == "up" ? name : name + "_total"
  }

  /// What the families mean; docs/service.md says the same.
  static let help: [(String, String)] = [
    ("cellmate_start_time_seconds", "When the process started, seconds since 1970."),
    ("cellmate_resident_memory_bytes", "Memory the process has resident."),
    ("cellmate_links", "Links and sockets in service."),
    ("cellmate_reloads_total", "Reloads of the configuration, by result."),
    ("cellmate_control_requests_total", "Requests answered on the control socket."),
    ("cellmate_control_refusals_total", "Control clients turned away or ended as too slow."),
    ("cellmate_link_answering", "Whether the link's loop answered this very question."),
    ("cellmate_link_up", "Whether a front-end is there."),
    ("cellmate_link_pairings_total", "Times the link came up."),
    ("cellmate_link_losses_total", "Times the front-end went away while the link was up."),
    ("cellmate_link_doorbells_total", "Doorbells rung."),
    ("cellmate_link_sleeps_total", "Times the loop went to sleep."),
    ("cellmate_link_wake_ups_total", "Sleeps that an event ended."),
    ("cellmate_link_peer_errors_total", "Violations of the protocol by the front-end."),
    ("cellmate_link_second_doorbells_total", "Doorbells repeated in idleness (Siemens)."),
    ("cellmate_link_stray_transactions_total", "Transactions that name no field (Siemens)."),
    ("cellmate_link_orphaned_transactions_total", "Transactions cleared unread (Siemens)."),
    ("cellmate_link_abandonments_total", "Times service was ended to refuse features (Siemens)."),
    ("cellmate_link_header_repairs_total", "Headers filled again while unused (Siemens)."),
    ("cellmate_vhost_user_up", "Whether a front-end is connected."),
    ("cellmate_vhost_user_connections_total", "Front-ends that connected."),
    ("cellmate_vhost_user_messages_total", "Messages carried out."),
    ("cellmate_vhost_user_violations_total", "Connections ended for a violation."),
    ("cellmate_vhost_user_calls_total", "Calls signalled."),
    ("cellmate_device_chains_total", "Descriptor chains taken."),
    ("cellmate_device_resumed_total", "Chains taken over from an earlier back-end."),
    ("cellmate_device_notifications_seen_total", "Notifications seen from the driver."),
    ("cellmate_device_notifications_sent_total", "Notifications sent to the driver."),
    ("cellmate_device_transactions_total", "Register transactions executed."),
    ("cellmate_device_refusals_total", "Register transactions refused."),
    ("cellmate_device_queue_errors_total", "Queues that the driver broke."),
    ("cellmate_device_resets_total", "Resets by the driver."),
    ("cellmate_block_reads_total", "Requests that read."),
    ("cellmate_block_writes_total", "Requests that wrote."),
    ("cellmate_block_flushes_total", "Flushes."),
    ("cellmate_block_discards_total", "Discards and requests to write zeroes."),
    ("cellmate_block_identifications_total", "Requests for the device's name."),
    ("cellmate_block_bytes_read_total", "Bytes the reads asked for."),
    ("cellmate_block_bytes_written_total", "Bytes the writes brought."),
    ("cellmate_block_bytes_discarded_total", "Bytes the discards and zeroes named."),
    ("cellmate_block_io_errors_total", "Requests that ended with an I/O error."),
    ("cellmate_block_out_of_range_total", "I/O errors: beyond the medium or a limit."),
    ("cellmate_block_read_only_violations_total", "I/O errors: writes to a read-only medium."),
    ("cellmate_block_host_errors_total", "I/O errors: what the host could not do."),
    ("cellmate_block_unsupported_total", "Requests of an unknown type or feature."),
    ("cellmate_block_malformed_total", "Chains that are no request."),
    ("cellmate_console_bytes_to_driver_total", "Bytes the driver got."),
    ("cellmate_console_bytes_from_driver_total", "Bytes of the driver that the host took."),
    ("cellmate_console_bytes_dropped_total", "Bytes of the driver that nobody took."),
    ("cellmate_console_bytes_lost_total", "Bytes that a port's far end could not keep."),
    ("cellmate_console_blocked_chains_total", "Times the host could not take a whole chain."),
    ("cellmate_console_messages_from_driver_total", "Control messages the driver sent."),
    ("cellmate_console_messages_to_driver_total", "Control messages the driver got."),
    ("cellmate_console_bad_messages_total", "Control messages that make no sense."),
    ("cellmate_console_short_buffers_total", "Chains too short for a control message."),
    ("cellmate_console_emergency_writes_total", "Characters of the emergency register."),
    ("cellmate_entropy_requests_total", "Requests answered."),
    ("cellmate_entropy_bytes_total", "Random bytes given."),
    ("cellmate_entropy_short_answers_total", "Answers with fewer bytes than asked for."),
    ("cellmate_entropy_malformed_total", "Chains that are no request."),
    ("cellmate_network_frames_to_driver_total", "Frames the driver got."),
    ("cellmate_network_bytes_to_driver_total", "Bytes of those."),
    ("cellmate_network_frames_from_driver_total", "Frames of the driver that were passed on."),
    ("cellmate_network_bytes_from_driver_total", "Bytes of those."),
    ("cellmate_network_undersized_total", "Frames of the driver shorter than their headers."),
    ("cellmate_network_oversized_total", "Frames of the driver that are too long."),
    ("cellmate_network_bad_headers_total", "Frames of the driver with a wrong offload header."),
    ("cellmate_network_filtered_total", "Frames the driver's receive modes do not take."),
    ("cellmate_network_beyond_mtu_total", "Frames for the driver longer than its MTU."),
    ("cellmate_network_no_room_total", "Frames the driver's buffers could not hold."),
    ("cellmate_network_short_buffers_total", "Buffers without room for a header."),
    ("cellmate_network_bad_commands_total", "Commands that were refused."),
    (
      "cellmate_network_spoofed_total",
      "Frames of the driver from an address that is not the device's."
    ),
    ("cellmate_network_over_rate_total", "Frames of the driver beyond its rate."),
    ("cellmate_network_isolated_total", "Frames of the driver for a port it may not talk to."),
    ("cellmate_network_overflows_total", "Frames for the driver for which the port had no room."),
    (
      "cellmate_network_absent_total",
      "Frames for the device while its driver or its link was not there."
    ),
    ("cellmate_tap_frames_in_total", "Frames that came from a tap."),
    ("cellmate_tap_frames_out_total", "Frames that went to a tap."),
    ("cellmate_tap_spoofed_total", "Frames from a tap with the address of a front-end."),
    ("cellmate_tap_malformed_total", "Frames from a tap with a wrong header."),
    ("cellmate_tap_overflows_total", "Frames for which a tap had no room."),
  ]
}
