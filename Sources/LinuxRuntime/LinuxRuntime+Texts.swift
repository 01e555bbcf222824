// Whoever composes with this room also names links and writes texts.
@_exported public import LinkNames
