// The layouts are part of what this room speaks of: whoever imports it sees them.
@_exported public import LinkFormat
